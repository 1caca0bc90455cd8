"""The figures of the report, as inline SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.shortening import middle
from mmworkload.reporting.svg import GRID, INK, MEASURED, MUTED, SIMULATED, STAGES, SURFACE, escaped, inline, style
from mmworkload.reporting.units import coefficient, share, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mmworkload.arch import Architecture
    from mmworkload.validating.lanes import Lanes
    from mmworkload.validating.result import LayerRow, Validation

_WIDTH = 5.2
_MARKERS = "osD^vPX*"
_LONGEST_NAME = 28
SIDES = (MEASURED, SIMULATED, *STAGES[2:])
"""Colours of the measured side and of the simulated ones."""


def bars(
    name: str,
    what: str,
    rows: Mapping[str, Sequence[float | None]],
    sides: Sequence[str],
    most: int = 10,
    of: str = "time",
) -> str:
    """Bars side by side: label to the share ``of`` something on each of ``sides``, the measured one first, where there
    is one. Of more than ``most`` rows the last ones are one."""
    shown = _at_most(rows, most, len(sides))
    height = 0.76 / len(sides)
    with style(name):
        figure, axes = _figure(0.8 + (0.16 + 0.15 * len(sides)) * len(shown) + 0.18 * (len(sides) // 2))
        for index, (_, values) in enumerate(shown):
            for side, value in enumerate(values):
                place = index + (side - (len(sides) - 1) / 2) * height
                axes.barh(place, 100 * (value or 0.0), height=0.9 * height, color=SIDES[side % len(SIDES)])
                axes.annotate(
                    share(value),
                    (100 * (value or 0.0), place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8 if len(sides) < 4 else 7,
                )
        axes.set_yticks(range(len(shown)), [middle(label, _LONGEST_NAME) for label, _ in shown])
        axes.set_ylim(len(shown) - 0.45, -0.55)
        axes.set_xlim(0, 118)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("share of the side's time in layers (%)" if of == "time" else f"share of all {of} (%)")
        _plain_rows(axes)
        _legend(figure, [(side, SIDES[index % len(SIDES)], "s") for index, side in enumerate(sides)])
        spoken = "; ".join(f"{label}: {', '.join(share(value) for value in values)}" for label, values in shown)
        return inline(
            figure,
            name,
            f"Share of {of} by {what}: {', '.join(sides)}. {spoken}.",
        )


def _at_most(
    rows: Mapping[str, Sequence[float | None]], most: int, sides: int
) -> list[tuple[str, Sequence[float | None]]]:
    found = [(label or "(none)", values) for label, values in rows.items()]
    if len(found) <= most:
        return found
    rest = found[most - 1 :]
    others = [sum(values[side] or 0.0 for _, values in rest) for side in range(sides)]
    return [*found[: most - 1], (f"{len(rest)} others", others)]


def lanes(name: str, found: Sequence[tuple[str, Lanes]]) -> str:
    """Busy times of each modality on a device of its own, for each side: over the side's own end, idle time left
    empty."""
    units = list(dict.fromkeys(unit for _, item in found for unit in item.busy))
    rows = [(side, unit) for side, (_, item) in enumerate(found) for unit in units if unit in item.busy]
    with style(name):
        figure, axes = _figure(0.9 + 0.27 * len(rows))
        for index, (side, unit) in enumerate(rows):
            item = found[side][1]
            axes.broken_barh([(0, 100)], (index - 0.3, 0.6), color=GRID, linewidth=0)
            spans = [(100 * start / item.end_s, 100 * (stop - start) / item.end_s) for start, stop in item.busy[unit]]
            axes.broken_barh(spans, (index - 0.3, 0.6), color=SIDES[side % len(SIDES)], linewidth=0)
            used = sum(width for _, width in spans) / 100
            axes.annotate(
                f"{share(1 - used)} idle", (101, index), annotation_clip=False, va="center", fontsize=7.5, color=MUTED
            )
        axes.set_yticks(range(len(rows)), [middle(unit or "shared", _LONGEST_NAME) for _, unit in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(0, 119)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("time from start to end of the side (%)")
        _plain_rows(axes)
        ends = [f"{side}: {si(item.end_s, 's')}" for side, item in found]
        _legend(figure, [(text, SIDES[index % len(SIDES)], "s") for index, text in enumerate(ends)])
        spoken = "; ".join(f"{side}: {share(item.idle_share)} of all lanes idle" for side, item in found)
        return inline(figure, name, f"Modalities on devices of their own. {spoken}.")


@dataclass(frozen=True)
class Point:
    """One layer of a roofline: operations, bytes and seconds of one run."""

    layer: str
    op: str
    stage: str
    operations: int
    bytes: int
    seconds: float


def roofline(name: str, points: Sequence[Point], roof: Architecture | None, what: str) -> str | None:
    """Operations a second over operations a byte, logarithmic; None without a layer that has both. ``roof`` are the
    peaks, where they are known."""
    present = [item for item in points if item.operations and item.bytes and item.seconds > 0]
    if not present:
        return None
    # Of all layers, so that a stage has one colour in every figure.
    stages = list(dict.fromkeys(item.stage for item in points))
    with style(name):
        figure, axes = _figure(3.9)
        intensities = [item.operations / item.bytes for item in present]
        if roof is not None:
            _roof(axes, roof, min(intensities), max(intensities))
        pairs = list(zip(present, intensities, strict=True))
        _marks(axes, stages, [(item.stage, x, item.operations / item.seconds) for item, x in pairs])
        tips = [
            (
                item.stage,
                f"{item.layer} ({item.op}): {si(item.operations / item.seconds, 'op/s')} at"
                f" {x:.3g} op/B, {si(item.seconds, 's')}",
            )
            for item, x in pairs
        ]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        _log_ticks(axes.yaxis, "op/s")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("operations per byte (each tensor once)")
        axes.set_ylabel("reached")
        used = {item.stage for item in present}
        looks = [(index % len(STAGES), stage or "(none)") for index, stage in enumerate(stages) if stage in used]
        _legend(figure, [(stage, STAGES[look], _MARKERS[look]) for look, stage in looks])
        spoken = f"Roofline of {len(present)} layers, {what}. Point at a mark for its layer."
        return _tips(inline(figure, name, spoken), name, stages, tips)


def _roof(axes: Axes, roof: Architecture, low: float, high: float) -> None:
    peak, bandwidth = roof.macs_per_second, roof.dram_bytes_per_second
    ridge = peak / bandwidth
    low, high = min(low, ridge / 4), max(high, ridge * 4)
    axes.plot([low, ridge, high], [low * bandwidth, peak, peak], color=INK, linewidth=1.2, zorder=1)
    axes.annotate(
        f"{si(peak, 'MAC/s')}, {si(bandwidth, 'B/s')}",
        (high, peak),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=MUTED,
    )


def _marks(axes: Axes, stages: Sequence[str], points: Sequence[tuple[str, float, float]]) -> None:
    """Marks by stage, each stage one group of the drawing; ``points`` are (stage, x, y)."""
    drawn = {stage for stage, _, _ in points}
    for index, stage in enumerate(stages):
        if stage not in drawn:
            continue
        look = index % len(STAGES)
        axes.plot(
            [x for own, x, _ in points if own == stage],
            [y for own, _, y in points if own == stage],
            _MARKERS[look],
            color=STAGES[look],
            markersize=6,
            markeredgecolor=SURFACE,
            markeredgewidth=0.6,
            alpha=0.85,
            gid=f"stage-{index}",
        )


def _tips(svg: str, name: str, stages: Sequence[str], tips: Sequence[tuple[str, str]]) -> str:
    """A title for every mark that :func:`_marks` drew, in the same order; ``tips`` are (stage, text)."""
    present = {stage for stage, _ in tips}
    for index, stage in enumerate(stages):
        if stage not in present:
            continue
        start = svg.index(f'<g id="{name}-stage-{index}">')
        stop = svg.index("</g>", start)
        texts = iter([text for own, text in tips if own == stage])
        group = svg[start:stop]
        drawn = re.search(r'<use [^>]*href="#([^"]+)"[^>]*? (style="[^"]*")', group)
        if drawn is None:
            continue
        # What all marks share is said once, so that a thousand layers stay small.
        shape, look = drawn[1], drawn[2]
        group = group.replace(f" {look}", "").replace(f'{name}-stage-{index}">', f'{name}-stage-{index}" {look}>', 1)
        group = group.replace(shape, f"{name}-m{index}")
        group = re.sub(
            r"\s*<use ([^>]*?)\s*/>",
            lambda found, texts=texts: f"<use {_short(found[1])}><title>{escaped(next(texts))}</title></use>",  # type: ignore[misc]
            group,
        )
        svg = svg[:start] + group + svg[stop:]
    return svg


def _short(attributes: str) -> str:
    """With coordinates of one decimal."""
    return re.sub(r'="(-?\d+\.\d+)"', lambda found: f'="{float(found[1]):.1f}"', attributes)


def _log_ticks(axis: Any, unit: str) -> None:
    axis.set_major_formatter(lambda value, _: _tick(value, unit))


def scatter(name: str, validation: Validation) -> str | None:
    """Layer times on both sides, log-log, by stage; None when no layer has a positive time on both."""
    points = [(row, row.sides.measured_s, row.sides.simulated_s) for row in validation.layers]
    present = [(row, x, y) for row, x, y in points if x and y]
    if not present:
        return None
    stages = list(dict.fromkeys(row.stage for row, _, _ in present))
    with style(name):
        figure, axes = _figure(4.1)
        _marks(axes, stages, [(row.stage, x, y) for row, x, y in present])
        tips = [
            (row.stage, f"{row.label} ({row.op}): {si(x, 's')} measured, {si(y, 's')} simulated")
            for row, x, y in present
        ]
        _equal(axes, present, seconds=validation.same_device)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        for axis in (axes.xaxis, axes.yaxis):
            _log_ticks(axis, "s")
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
        _legend(figure, [*marks, ("equal times" if validation.same_device else "equal shares", MUTED, "--")])
        spoken = f"Simulated over measured time of {len(present)} layers on logarithmic axes, by stage. Spearman"
        spoken += f" {coefficient(ranks.spearman)}, Kendall {coefficient(ranks.kendall)}. All values are in the table."
        return _tips(inline(figure, name, spoken), name, stages, tips)


def _tick(value: float, unit: str) -> str:
    """A power of ten without decimals."""
    number, prefixed = si(value, unit).split()
    return f"{float(number):g} {prefixed}"


def _equal(axes: Axes, points: Sequence[tuple[LayerRow, float, float]], *, seconds: bool) -> None:
    """The line on which a layer has the same time, or the same share, on both sides: above it the simulated one is the
    larger."""
    ratio = 1.0 if seconds else sum(y for _, _, y in points) / sum(x for _, x, _ in points)
    low, high = min(x for _, x, _ in points), max(x for _, x, _ in points)
    axes.plot([low, high], [low * ratio, high * ratio], color=MUTED, linewidth=1, linestyle="--", zorder=1)


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
    widest = max((len(label) for label, _, _ in entries), default=0)
    columns = 3 if widest < 22 else 2 if widest < 34 else 1
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, fontsize=8.5, labelcolor=INK, handletextpad=0.4
    )
