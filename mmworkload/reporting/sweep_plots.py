"""The figures of a sweep's report, as inline SVG."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.shortening import middle
from mmworkload.reporting.svg import GRID, INK, MEASURED, MUTED, SIMULATED, STAGES, SURFACE, inline, style
from mmworkload.reporting.units import share, si, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mmworkload.reporting.sweep_report import Report

_WIDTH = 5.2
_MARKERS = "osD^vPX*"
_LONGEST_NAME = 30
_MOST_BARS = 14
_TOOLTIPS = 400
"""Beyond so many designs, only the front has its own marks and tooltips: a page has to stay small."""


def designs(name: str, report: Report) -> str:
    """All designs in the plane of the first two objectives, by largest stage; the front is joined."""
    first, second = report.objectives[:2]
    points = [item for item in report.points if first in item and second in item]
    front = [item for item in report.front if first in item.values and second in item.values]
    stages = _stages(report)
    tooltips = {}
    with style(name):
        figure, axes = _figure(4.1)
        for place, stage in enumerate(stages):
            own = [item for item in points if item["stage"] == stage]
            for feasible in (False, True):
                shown = [item for item in own if item["feasible"] == feasible]
                axes.plot(
                    [item[first] for item in shown],
                    [item[second] for item in shown],
                    _MARKERS[place % len(_MARKERS)],
                    color=STAGES[place % len(STAGES)] if feasible else GRID,
                    markersize=5,
                    markeredgewidth=0,
                    alpha=0.8,
                    zorder=2 if feasible else 1,
                )
        axes.plot(
            [item.values[first] for item in front],
            [item.values[second] for item in front],
            color=MUTED,
            linewidth=1,
            zorder=2.5,
        )
        for index, item in enumerate(front[:_TOOLTIPS]):
            place = stages.index(item.stage) if item.stage in stages else 0
            axes.plot(
                item.values[first],
                item.values[second],
                _MARKERS[place % len(_MARKERS)],
                color=STAGES[place % len(STAGES)],
                markersize=8,
                markeredgecolor=SURFACE,
                markeredgewidth=0.8,
                zorder=3,
                gid=f"design-{index}",
            )
            tooltips[f"design-{index}"] = _spoken(item.settings, item.values)
        for axis, term, setter in ((axes.xaxis, first, axes.set_xscale), (axes.yaxis, second, axes.set_yscale)):
            values = [item[term] for item in points]
            if min(values) > 0 and max(values) / min(values) > 5:
                setter("log")
            axis.set_major_formatter(_ticks(term))
            axis.set_minor_formatter(lambda value, _: "")
        axes.tick_params(axis="x", labelrotation=25)
        axes.set_xlabel(first)
        axes.set_ylabel(second)
        entries = [
            (stage or "(not looked at)", STAGES[place % len(STAGES)], _MARKERS[place % len(_MARKERS)])
            for place, stage in enumerate(stages)
            if any(item["stage"] == stage for item in points)
        ]
        if not all(item["feasible"] for item in points):
            entries.append(("does not meet a constraint", GRID, "o"))
        _legend(figure, entries)
        spoken = f"{second} over {first} of {len(points)} designs; {len(front)} are on the Pareto front. The front is"
        return inline(figure, name, f"{spoken} in the table.", tooltips)


def stages(name: str, report: Report) -> str:
    """Stacked bars: the share of each stage in the latency of the mix, for designs of the front."""
    from mmworkload.reporting.sweep_report import telling

    front = [item for item in report.front if item.design in report.shares]
    step = max(1, -(-len(front) // _MOST_BARS))
    front = front[::step]
    known = _stages(report)
    names = telling(front)
    with style(name):
        figure, axes = _figure(0.9 + 0.3 * len(front))
        for row, item in enumerate(front):
            left = 0.0
            for place, stage in enumerate(known):
                width = 100 * report.shares[item.design].get(stage, 0.0)
                axes.barh(row, width, left=left, height=0.7, color=STAGES[place % len(STAGES)])
                left += width
        axes.set_yticks(range(len(front)), [middle(text, _LONGEST_NAME + 10) for text in names], fontsize=7)
        axes.set_ylim(len(front) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of the latency of the mix (%)")
        _plain_rows(axes)
        _legend(figure, [(stage, STAGES[place % len(STAGES)], "s") for place, stage in enumerate(known)])
        spoken = "; ".join(f"{text}: {item.stage} {share(item.share)}" for text, item in zip(names, front, strict=True))
        return inline(figure, name, f"Stages of the designs on the front. Largest: {spoken}.")


def decides(name: str, report: Report) -> str:
    """Bars: the share of the variance that each parameter explains, for the first two objectives."""
    terms = report.objectives[:2]
    axes_named = list(dict.fromkeys(item.axis for item in report.effects))
    values = {(item.term, item.axis): item.explained for item in report.effects}
    colors = dict(zip(terms, (MEASURED, SIMULATED), strict=False))
    with style(name):
        figure, axes = _figure(0.9 + 0.46 * len(axes_named))
        for row, axis in enumerate(axes_named):
            for number, term in enumerate(terms):
                value = 100 * values.get((term, axis), 0.0)
                offset = 0.0 if len(terms) == 1 else (number - 0.5) * 0.38
                axes.barh(row + offset, value, height=0.34, color=colors[term])
                axes.annotate(
                    share(value / 100),
                    (value, row + offset),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
        axes.set_yticks(range(len(axes_named)), [middle(axis, _LONGEST_NAME) for axis in axes_named])
        axes.set_ylim(len(axes_named) - 0.45, -0.55)
        axes.set_xlim(0, 118)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("share of the variance (%)")
        _plain_rows(axes)
        _legend(figure, [(term, colors[term], "s") for term in terms])
        spoken = "; ".join(f"{item.axis} explains {share(item.explained)} of {item.term}" for item in report.effects)
        return inline(figure, name, f"What each parameter explains. {spoken}.")


def effects(name: str, report: Report) -> str:
    """Small multiples: a parameter's values against the mean of the first two objectives, relative to the least."""
    terms = report.objectives[:2]
    axes_named = list(dict.fromkeys(item.axis for item in report.effects))
    found = {(item.term, item.axis): item.means for item in report.effects}
    with style(name):
        from matplotlib.figure import Figure

        columns = min(2, len(axes_named))
        lines = -(-len(axes_named) // columns)
        figure = Figure(figsize=(_WIDTH, 0.5 + 1.7 * lines), layout="constrained")
        grid: Any = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for place, axes in enumerate(grid.flat):
            if place >= len(axes_named):
                axes.set_visible(False)
                continue
            axis = axes_named[place]
            for term, color in zip(terms, (MEASURED, SIMULATED), strict=False):
                means = found.get((term, axis), {})
                least = min(means.values(), default=1.0)
                axes.plot(range(len(means)), [mean / least for mean in means.values()], "o-", color=color, markersize=4)
                axes.set_xticks(range(len(means)), [middle(value, 12) for value in means], rotation=30, fontsize=7)
            axes.set_title(middle(axis, _LONGEST_NAME), fontsize=9, color=INK, loc="left")
            axes.yaxis.set_major_formatter(lambda value, _: times(value))
        _legend(figure, [(term, color, "o") for term, color in zip(terms, (MEASURED, SIMULATED), strict=False)])
        spoken = "; ".join(f"{item.axis} changes {item.term} by {times(item.factor)}" for item in report.effects)
        return inline(figure, name, f"Mean objective by parameter. {spoken}.")


def side_by_side(name: str, report: Report) -> str:
    """Bars: speed-up of each workload with an accelerator per modality."""
    rows = report.side_by_side[:_MOST_BARS]
    with style(name):
        figure, axes = _figure(0.7 + 0.3 * len(rows))
        for row, item in enumerate(rows):
            axes.barh(row, item.speedup, height=0.6, color=SIMULATED)
            axes.annotate(
                f"{times(item.speedup)}, {item.straggler} slowest",
                (item.speedup, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(rows)), [middle(item.workload, _LONGEST_NAME) for item in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 1.6 * max(item.speedup for item in rows))
        axes.set_xlabel("speed-up over one accelerator")
        _plain_rows(axes)
        spoken = "; ".join(f"{item.workload}: {times(item.speedup)}" for item in rows)
        return inline(figure, name, f"Speed-up with an accelerator for each modality. {spoken}.")


def _stages(report: Report) -> list[str]:
    """All stages in one order, so that a stage has one colour on the page."""
    on_front = [stage for shares in report.shares.values() for stage in shares]
    return list(dict.fromkeys([*on_front, *(item["stage"] for item in report.points)]))


def _spoken(settings: dict[str, Any], values: dict[str, float]) -> str:
    from mmworkload.reporting.sweep_report import named, value_text

    return f"{named(settings)}: {', '.join(f'{term} {value_text(term, value)}' for term, value in values.items())}"


def _ticks(term: str) -> Callable[[float, Any], str]:
    return lambda value, _: _tick(term, value)


def _tick(term: str, value: float) -> str:
    from mmworkload.reporting.sweep_report import value_text

    if value == 0:
        return "0"
    text = value_text(term, value)
    number, _, unit = text.partition(" ")
    try:
        return f"{float(number):g} {unit}".strip()
    except ValueError:
        return si(value)


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _plain_rows(axes: Axes) -> None:
    """Rows are read along their labels: no grid and no ticks across."""
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _legend(figure: Figure, entries: list[tuple[str, str, str]]) -> None:
    """(label, colour, marker) above the axes."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, linestyle="none", marker=marker, markersize=6, label=label)
        for label, color, marker in entries
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8, labelcolor=INK, handletextpad=0.3)
