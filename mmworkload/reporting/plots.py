"""The figures of the report, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.svg import INK, MEASURED, MUTED, SIMULATED, STAGES, SURFACE, inline, style
from mmworkload.reporting.terminal import middle
from mmworkload.reporting.units import coefficient, share, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mmworkload.validating.result import GroupRow, LayerRow, Validation

_WIDTH = 5.2
_MARKERS = "osD^vPX*"
_LONGEST_NAME = 28


def bars(name: str, what: str, groups: Sequence[GroupRow], most: int = 10) -> str:
    """Paired bars of each side's share, in the order given; of more than ``most`` groups the last ones as one."""
    rows = _at_most(groups, most)
    with style(name):
        figure, axes = _figure(0.8 + 0.46 * len(rows))
        for index, (_, measured, simulated) in enumerate(rows):
            for value, offset, color in ((measured, -0.19, MEASURED), (simulated, 0.19, SIMULATED)):
                axes.barh(index + offset, 100 * (value or 0.0), height=0.34, color=color)
                axes.annotate(
                    share(value),
                    (100 * (value or 0.0), index + offset),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
        axes.set_yticks(range(len(rows)), [middle(label, _LONGEST_NAME) for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(0, 118)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("share of the side's time in layers (%)")
        _plain_rows(axes)
        _legend(figure, [("measured", MEASURED, "s"), ("simulated", SIMULATED, "s")])
        spoken = "; ".join(f"{label}: {share(left)} and {share(right)}" for label, left, right in rows)
        return inline(figure, name, f"Share of time by {what}, measured and simulated. {spoken}.")


def _at_most(groups: Sequence[GroupRow], most: int) -> list[tuple[str, float | None, float | None]]:
    rows = [(group.name or "(none)", group.sides.measured_share, group.sides.simulated_share) for group in groups]
    if len(rows) <= most:
        return rows
    rest = rows[most - 1 :]
    others = (f"{len(rest)} others", sum(row[1] or 0.0 for row in rest), sum(row[2] or 0.0 for row in rest))
    return [*rows[: most - 1], others]


def scatter(name: str, validation: Validation) -> str | None:
    """Layer times on both sides, log-log, by stage; None when no layer has a positive time on both."""
    points = [(row, row.sides.measured_s, row.sides.simulated_s) for row in validation.layers]
    present = [(row, x, y) for row, x, y in points if x and y]
    if not present:
        return None
    stages = list(dict.fromkeys(row.stage for row, _, _ in present))
    tooltips = {}
    with style(name):
        figure, axes = _figure(4.1)
        for index, (row, x, y) in enumerate(present):
            look = stages.index(row.stage) % len(STAGES)
            axes.plot(
                x,
                y,
                _MARKERS[look],
                color=STAGES[look],
                markersize=6,
                markeredgecolor=SURFACE,
                markeredgewidth=0.6,
                alpha=0.85,
                gid=f"layer-{index}",
            )
            tooltips[f"layer-{index}"] = f"{row.layer} ({row.op}): {si(x, 's')} measured, {si(y, 's')} simulated"
        _equal_shares(axes, present)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: _tick(value))
            axis.set_minor_formatter(lambda value, _: "")
        axes.set_xlabel("measured")
        axes.set_ylabel("simulated")
        ranks = validation.all_layers
        axes.set_title(
            f"{ranks.layers} layers: Spearman {coefficient(ranks.spearman)}, Kendall {coefficient(ranks.kendall)}",
            fontsize=9,
            color=MUTED,
            loc="left",
        )
        looks = [(stages.index(stage) % len(STAGES), stage or "(none)") for stage in stages]
        marks = [(stage, STAGES[look], _MARKERS[look]) for look, stage in looks]
        _legend(figure, [*marks, ("equal shares", MUTED, "--")])
        spoken = f"Simulated over measured time of {len(present)} layers on logarithmic axes, by stage. Spearman"
        spoken += f" {coefficient(ranks.spearman)}, Kendall {coefficient(ranks.kendall)}. All values are in the table."
        return inline(figure, name, spoken, tooltips)


def _tick(seconds: float) -> str:
    """A power of ten without decimals."""
    number, unit = si(seconds, "s").split()
    return f"{float(number):g} {unit}"


def _equal_shares(axes: Axes, points: Sequence[tuple[LayerRow, float, float]]) -> None:
    """The line on which a layer has the same share on both sides: above it the simulated share is the larger."""
    ratio = sum(y for _, _, y in points) / sum(x for _, x, _ in points)
    low, high = min(x for _, x, _ in points), max(x for _, x, _ in points)
    axes.plot([low, high], [low * ratio, high * ratio], color=MUTED, linewidth=1, linestyle="--", zorder=1)


def dumbbells(name: str, validation: Validation, most: int = 15) -> str:
    """The layers with the largest shares on either side: both shares, joined by a line."""
    rows = sorted(validation.layers, key=lambda row: row.sides.larger_share, reverse=True)[:most]
    with style(name):
        figure, axes = _figure(0.8 + 0.27 * len(rows))
        for index, row in enumerate(rows):
            values = [(row.sides.measured_share, MEASURED), (row.sides.simulated_share, SIMULATED)]
            present = [(100 * value, color) for value, color in values if value is not None]
            axes.plot([value for value, _ in present], [index] * len(present), color=MUTED, linewidth=1.5, zorder=2)
            for value, color in present:
                axes.plot(value, index, "o", color=color, markersize=7, zorder=3, clip_on=False)
        axes.set_yticks(range(len(rows)), [middle(row.layer, _LONGEST_NAME) for row in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the side's time in layers (%)")
        _plain_rows(axes)
        _legend(figure, [("measured", MEASURED, "o"), ("simulated", SIMULATED, "o")])
        spoken = "; ".join(
            f"{row.layer}: {share(row.sides.measured_share)} and {share(row.sides.simulated_share)}" for row in rows[:5]
        )
        title = f"The {len(rows)} layers with the largest shares, measured and simulated. {spoken}."
        return inline(figure, name, title)


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _plain_rows(axes: Axes) -> None:
    """Rows are read along their labels: no grid and no ticks across."""
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _legend(figure: Figure, entries: Sequence[tuple[str, str, str]]) -> None:
    """(label, colour, marker or ``--`` for a line) above the axes."""
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    for label, color, mark in entries:
        if mark == "--":
            handles.append(Line2D([], [], color=color, linestyle="--", linewidth=1, label=label))
        else:
            handles.append(Line2D([], [], color=color, linestyle="none", marker=mark, markersize=7, label=label))
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8.5, labelcolor=INK, handletextpad=0.4)
