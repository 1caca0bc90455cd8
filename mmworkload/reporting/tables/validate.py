"""The tables of ``validate``: measured and simulated side by side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from mmworkload.reporting.answered import simulated_by
from mmworkload.reporting.summary import accuracies, caveats, sentences, verdicts
from mmworkload.reporting.tables.common import FOLDED, NO_MODALITY, common_name, folded, top
from mmworkload.reporting.terminal import Cell, Name, bullets, paired_bar, section, table
from mmworkload.reporting.units import coefficient, plural, share, si, times
from mmworkload.validating.result import Sides

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.validating.goals import Goal
    from mmworkload.validating.report import Study
    from mmworkload.validating.result import GroupRow, LayerRow, Validation

_SIDES = (">measured", ">share", ">simulated", ">share", ">ratio")


def validate_tables(validation: Validation, *, all_layers: bool = False) -> list[RenderableType]:
    """Summary, stages, modalities, layers, where the model is wrong, and what is not covered."""
    v = validation
    head = [f"batch {v.batch}, measured on {v.device_name}; {v.arch}", *simulated_by(v.answered, v.why)]
    parts = [section(v.model, *head, "", *sentences(v), *accuracies(v)), _groups("Stages", "<stage", v.stages)]
    if len(v.modalities) > 1:
        parts.append(_groups("Modalities", "<modality", v.modalities))
    parts += [_errors(v), _layers(v, all_layers)]
    if v.causes:
        parts.append(section("Where the model is wrong and why", bullets(_causes(v))))
    return [*parts, section("What to mind", bullets([v.meaning, *caveats(v)]))]


def study_tables(study: Study, *, all_layers: bool = False) -> list[RenderableType]:
    """One comparison in full; of several what bounds each workload, how far the models are, the goals, and each in
    full with ``all_layers``."""
    if len(study.reports) == 1:
        return validate_tables(study.reports[0].validation, all_layers=all_layers)
    parts = []
    for reports in study.by_workload.values():
        v = reports[0].validation
        parts.append(section(f"{v.model}, batch {v.batch}", bullets(verdicts(reports))))
    parts.append(_comparisons(study))
    if study.goals:
        parts += [_goals(study.goals), section("Misses", bullets(_misses(study.goals)))]
    if study.splits:
        parts.append(_constants(study))
    for report in study.reports:
        if all_layers:
            parts += validate_tables(report.validation, all_layers=True)
        elif report.validation.causes:
            v = report.validation
            title = f"{v.model}, batch {v.batch}, on {v.arch} ({v.simulator})"
            parts.append(section(title, bullets(_causes(report.validation, most=3))))
    notes = [f"not compared: {text}" for text in study.unanswered]
    if not all_layers:
        notes.append("--all prints every comparison in full, -o writes them as a report")
    return [*parts, section("What to mind", bullets(notes))]


def _comparisons(study: Study) -> RenderableType:
    # Eighty columns have room for one of them: tau where all batches are the same.
    by_batch = len({item.validation.batch for item in study.reports}) > 1
    rows: list[list[Cell]] = []
    for item in study.reports:
        v = item.validation
        rows.append(
            [
                Name(v.model),
                Name(v.arch),
                v.simulator,
                str(v.batch) if by_batch else coefficient(v.large_layers.kendall),
                coefficient(v.large_layers.spearman),
                share(v.stage_distance),
                share(v.errors[0].median),
                share(v.stage_errors.median),
                times(v.end_to_end_ratio) if v.same_device else "",
            ]
        )
    columns = ["<workload", "<on", "<by", ">batch" if by_batch else ">tau", ">rho"]
    return section(
        "How far the models are",
        table([*columns, ">shares", ">layer", ">stage", ">sum"], rows, tight=True),
        "Over layers with at least 1 % of the measured time. shares: half the sum of the differences between the"
        " stages' shares. layer, stage: median errors, of seconds on the measured device and of shares on another"
        " architecture. sum: of all layers, simulated over measured seconds.",
    )


def _goals(goals: Sequence[Goal]) -> RenderableType:
    def value(goal: Goal, found: float | None) -> str:
        return coefficient(found) if goal.what.startswith("Spearman") else share(found)

    rows: list[list[Cell]] = [
        [
            Name(goal.what),
            goal.simulator,
            value(goal, goal.limit),
            str(goal.rows),
            value(goal, goal.median),
            value(goal, goal.p90),
            value(goal, goal.worst),
            str(goal.excluded),
            "-" if goal.met is None else "yes" if goal.met else "no",
        ]
        for goal in goals
    ]
    columns = ["<goal", "<by", ">limit", ">n", ">median", ">p90", ">worst", ">left out", "<met"]
    return section("Goals on the measured device", table(columns, rows, tight=True))


def _misses(goals: Sequence[Goal]) -> list[str]:
    found = []
    for goal in goals:
        if goal.misses:
            worst = goal.misses[0]
            found.append(
                f"{goal.what}, {goal.simulator}: {len(goal.misses)} of {goal.rows}; {worst.row}: {worst.cause}"
            )
    return found or ["none"]


def _constants(study: Study) -> RenderableType:
    def cell(name: str, value: float) -> str:
        return si(value, "s") if name == "kernel_s" else share(value)

    names = {
        "compute_efficiency": "of the peak",
        "bandwidth_efficiency": "of the bandwidth",
        "kernel_s": "a kernel",
    }
    rows: list[list[Cell]] = [
        [
            item.kind,
            names[item.constant],
            *(cell(item.constant, value) for value in (item.low, item.median, item.high)),
        ]
        for item in study.spreads
    ]
    notes = [f"{split.tested}: fitted on {split.calibration.source}" for split in study.splits]
    return section("Calibrated constants", table(["<class", "<constant", ">low", ">median", ">high"], rows), *notes)


def _causes(v: Validation, most: int = 4) -> list[str]:
    found = []
    for cause in v.causes:
        shown = [
            f"{item.layer} ({times(item.ratio)}): {item.text}" if item.layer else item.text
            for item in cause.layers[:most]
        ]
        more = f"; and {len(cause.layers) - most} more" if len(cause.layers) > most else ""
        found.append(f"{cause.what} {share(cause.points)} of the time. {'; '.join(shown)}{more}. {cause.advice}")
    return found


def _errors(v: Validation) -> RenderableType:
    rows: list[list[Cell]] = [
        [
            item.name,
            str(item.rows),
            str(item.excluded),
            share(item.median),
            share(item.p90),
            share(item.worst),
            times(item.bias),
            Name(item.worst_row),
        ]
        for item in v.errors
    ]
    columns = ["<class", ">layers", ">left out", ">median", ">p90", ">worst", ">ratio", "<worst layer"]
    basis = "seconds" if v.same_device else "shares of time"
    return section("Errors by operator class", table(columns, rows, tight=True), f"Of {basis}; ratio: geometric mean.")


def _cells(sides: Sides) -> list[Cell]:
    return [
        si(sides.measured_s, "s"),
        share(sides.measured_share),
        si(sides.simulated_s, "s"),
        share(sides.simulated_share),
        times(sides.ratio),
    ]


def _groups(title: str, column: str, groups: Sequence[GroupRow]) -> RenderableType:
    rows: list[list[Cell]] = []
    for group in groups:
        sides = group.sides
        pair = paired_bar(sides.measured_share, sides.simulated_share)
        rows.append([Name(group.name or NO_MODALITY), *_cells(sides), pair])
    notes = ["▀ measured, ▄ simulated share"]
    notes += [
        f"{group.name or NO_MODALITY}: of {plural(group.layers, 'layer')}, {group.unmeasured} not measured and"
        f" {group.unsimulated} not simulated"
        for group in groups
        if group.unmeasured or group.unsimulated
    ]
    return section(title, table([column, *_SIDES, "<"], rows), *notes)


def _layers(v: Validation, every: bool) -> RenderableType:
    """Each layer over all its runs, repeated ones folded; or every layer."""
    layers: dict[tuple[str, str], list[LayerRow]] = {}
    for row in v.layers:
        layers.setdefault((row.phase, row.layer), []).append(row)
    groups = folded(list(layers.values()), lambda rows: rows[0].layer, lambda rows: tuple(map(_same, rows)), every)
    sides = [Sides.sum(row.sides for rows in group for row in rows) for group in groups]
    chosen, notes = top(list(zip(groups, sides, strict=True)), lambda item: item[1].larger_share, every, "row")
    if len(groups) < len(layers):
        notes.insert(0, FOLDED)

    def cells(group: list[list[LayerRow]], total: Sides) -> list[Cell]:
        first, name = group[0][0], common_name([rows[0].layer for rows in group])
        count = [] if every else [str(len(group))]
        return [Name(f"{first.phase}: {name}" if first.phase else name), *count, *_cells(total), _marks(first)]

    used = {mark for group, _ in chosen for mark in _marks(group[0][0])}
    notes += [text for mark, text in _LEGEND.items() if mark in used]
    columns = ["<layer", *([] if every else [">no."]), *_SIDES, "<"]
    return section("Layers", table(columns, [cells(*item) for item in chosen]), *notes)


def _same(row: LayerRow) -> Hashable:
    """What is equal for layers that do the same work."""
    gaps = (row.sides.measured_s is None, row.sides.simulated_s is None)
    costs = (row.macs, row.bytes, row.bound, _marks(row))
    return row.part, row.stage, row.op, row.category, row.simulator, gaps, costs


_LEGEND = {
    "b": "b: raised to a physical bound",
    "d": "d: no output needs it",
    "r": "r: the roofline answered for it, the simulator that was asked could not",
}


def _marks(row: LayerRow) -> str:
    return "".join(mark for mark, holds in (("b", row.floored), ("d", row.dead), ("r", row.fallback)) if holds)
