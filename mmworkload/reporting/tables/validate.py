"""The tables of ``validate``: measured and simulated side by side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from mmworkload.reporting.answered import simulated_by
from mmworkload.reporting.summary import accuracies, caveats, mixtures, sentences, verdicts, warnings
from mmworkload.reporting.tables.common import FOLDED, NO_MODALITY, TOP, common_name, folded, top
from mmworkload.reporting.terminal import Cell, Name, bullets, height, paired_bar, section, table
from mmworkload.reporting.units import coefficient, plural, share, si, times
from mmworkload.validating.result import Sides

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.validating.report import Study
    from mmworkload.validating.result import GroupRow, LayerRow, Validation

_SIDES = (">measured", ">share", ">simulated", ">share", ">ratio")


LINES = 60
"""What a terminal answer may have at most; the rest is behind ``--all`` and in the report."""
_FEWEST = 3
_SHORTER = ((3, None), (2, None), (1, None), (1, 3), (0, 3), (0, 1), (0, 0))
"""How many causes and warnings, in the order in which an answer is made to fit."""


def validate_tables(validation: Validation, *, all_layers: bool = False) -> list[RenderableType]:
    """Summary, stages, the largest layers, where the model is wrong and what puts it in doubt, in :data:`LINES` lines;
    with ``all_layers`` modalities, errors by class, every layer, and all that is not covered."""
    v = validation
    head = [f"batch {v.batch}, measured on {v.device_name}; {v.arch}", *simulated_by(v.answered, v.why)]
    summary = section(v.model, *head, "", *sentences(v), *accuracies(v))
    if not all_layers:
        return _fitting(v, summary)
    parts = [summary, _groups("Stages", "<stage", v.stages)]
    if len(v.modalities) > 1:
        parts.append(_groups("Modalities", "<modality", v.modalities))
    parts += [_errors(v), _layers(v, None)]
    if v.causes:
        parts.append(_wrong(_causes(v)))
    return [*parts, section("What to mind", bullets([v.meaning, *caveats(v)]))]


def _fitting(v: Validation, summary: RenderableType) -> list[RenderableType]:
    """The answer in :data:`LINES` lines: layers fill what the rest leaves, and causes and warnings give way to them."""
    more = "--all prints modalities, errors by class, every layer and all caveats; -o FILE.html writes them as a report"
    stages = _groups("Stages", "<stage", v.stages, most=8)
    warned = list(warnings(v))
    for causes, doubts in _SHORTER:
        wrong = [_wrong(_causes(v, most=1)[:causes])] if v.causes and causes else []
        mind = section("What to mind", bullets([v.meaning, *warned[:doubts], more]))
        fixed = [summary, stages, *wrong, mind]
        # An empty line stands between sections.
        left = LINES - sum(height(part) + 1 for part in fixed)
        for most in range(TOP, _FEWEST - 1, -1):
            layers = _layers(v, most)
            if height(layers) <= left:
                return [summary, stages, layers, *wrong, mind]
    return [summary, section("", more)]


def _wrong(texts: Sequence[str]) -> RenderableType:
    return section("Where the model is wrong and why", bullets(texts))


def study_tables(study: Study, *, all_layers: bool = False) -> list[RenderableType]:
    """One comparison as :func:`validate_tables`; of several how far the models are and what bounds each workload, in
    :data:`LINES` lines, and with ``all_layers`` each in full."""
    if len(study.reports) == 1:
        return validate_tables(study.reports[0].validation, all_layers=all_layers)
    notes = [*mixtures(study.reports), *(f"not compared: {text}" for text in study.unanswered)]
    bounds = [
        section(f"{reports[0].validation.model}, batch {reports[0].validation.batch}", bullets(verdicts(reports)))
        for reports in study.by_workload.values()
    ]
    if all_layers:
        full = [part for item in study.reports for part in validate_tables(item.validation, all_layers=True)]
        return [_comparisons(study), *bounds, *full, *([section("What to mind", bullets(notes))] if notes else [])]
    more = "--all prints every comparison in full, -o FILE.html writes them as a report"
    compared = _comparisons(study, most=TOP)
    for told in (len(notes), 2, 0):
        rest = f"{plural(len(notes) - told, 'note')} more; " if told < len(notes) else ""
        mind = section("What to mind", bullets([*notes[:told], rest + more]))
        left = LINES - height(compared) - height(mind) - 1
        if left >= 0:
            break
    shown = []
    for part in bounds:
        left -= height(part) + 1
        if left < 0:
            break
        shown.append(part)
    return [compared, *shown, mind]


def _comparisons(study: Study, most: int | None = None) -> RenderableType:
    """A row for each comparison, or for the first ``most``."""
    # Eighty columns have room for one of them: tau where all batches are the same.
    by_batch = len({item.validation.batch for item in study.reports}) > 1
    rows: list[list[Cell]] = []
    for item in study.reports[:most]:
        v = item.validation
        rows.append(
            [
                Name(v.model),
                Name(v.arch),
                Name(v.simulator),
                str(v.batch) if by_batch else coefficient(v.large_layers.kendall),
                coefficient(v.large_layers.spearman),
                share(v.stage_distance),
                share(v.errors[0].median),
                share(v.stage_errors.median),
                times(v.end_to_end_ratio) if v.same_device else "",
            ]
        )
    columns = ["<workload", "<on", "<by", ">batch" if by_batch else ">tau", ">rho"]
    left = len(study.reports) - len(rows)
    return section(
        "How far the models are",
        table([*columns, ">shares", ">layer", ">stage", ">sum"], rows, tight=True),
        *([f"{plural(left, 'comparison')} more; --all lists every one."] if left else []),
        "Over layers with at least 1 % of the measured time. shares: half the sum of the differences between the"
        " stages' shares. layer, stage: median errors, of seconds on the measured device and of shares on another"
        " architecture. sum: of all layers, simulated over measured seconds.",
    )


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


def _groups(title: str, column: str, groups: Sequence[GroupRow], most: int | None = None) -> RenderableType:
    every = most is None
    shown, more = top(groups, lambda group: group.sides.larger_share, every, column[1:], most=most or TOP)
    rows: list[list[Cell]] = []
    for group in shown:
        sides = group.sides
        pair = paired_bar(sides.measured_share, sides.simulated_share)
        rows.append([Name(group.name or NO_MODALITY), *_cells(sides), pair])
    notes = ["▀ measured, ▄ simulated share"]
    notes += [
        f"{group.name or NO_MODALITY}: of {plural(group.layers, 'layer')}, {group.unmeasured} not measured and"
        f" {group.unsimulated} not simulated"
        for group in shown
        if group.unmeasured or group.unsimulated
    ]
    notes += more
    return section(title, table([column, *_SIDES, "<"], rows), *notes)


def _layers(v: Validation, most: int | None) -> RenderableType:
    """The ``most`` largest layers, each over all its runs, repeated ones folded; or every layer by itself."""
    every = most is None
    layers: dict[tuple[str, str], list[LayerRow]] = {}
    for row in v.layers:
        layers.setdefault((row.phase, row.layer), []).append(row)
    groups = folded(list(layers.values()), lambda rows: rows[0].layer, lambda rows: tuple(map(_same, rows)), every)
    sides = [Sides.sum(row.sides for rows in group for row in rows) for group in groups]
    chosen, notes = top(
        list(zip(groups, sides, strict=True)), lambda item: item[1].larger_share, every, "row", most or TOP
    )
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
