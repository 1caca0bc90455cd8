"""The tables of ``validate``: measured and simulated side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmworkload.reporting.summary import caveats, sentences
from mmworkload.reporting.tables.common import NO_MODALITY, top
from mmworkload.reporting.terminal import Cell, Name, bullets, paired_bar, section, table
from mmworkload.reporting.units import plural, share, si, times
from mmworkload.validating.result import MEANING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.validating.result import GroupRow, LayerRow, Sides, Validation

_SIDES = (">measured", ">share", ">simulated", ">share", ">ratio")


def validate_tables(validation: Validation, *, all_layers: bool = False) -> list[RenderableType]:
    """Summary, stages, modalities, layers, and what is not covered."""
    v = validation
    head = f"batch {v.batch}; {v.device_name}; {v.arch}, simulated by {v.simulator} {v.simulator_version}"
    parts = [section(v.model, head, "", *sentences(v)), _groups("Stages", "<stage", v.stages)]
    if len(v.modalities) > 1:
        parts.append(_groups("Modalities", "<modality", v.modalities))
    return [*parts, _layers(v, all_layers), section("What to mind", bullets([MEANING, *caveats(v)]))]


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
    chosen, notes = top(v.layers, lambda row: row.sides.larger_share, every)
    rows: list[list[Cell]] = [[Name(row.layer), *_cells(row.sides), _marks(row)] for row in chosen]
    used = {mark for row in chosen for mark in _marks(row)}
    notes += [text for mark, text in _LEGEND.items() if mark in used]
    return section("Layers", table(["<layer", *_SIDES, "<"], rows), *notes)


_LEGEND = {
    "b": "b: raised to a physical bound",
    "d": "d: no output needs it",
    "r": "r: the roofline answered, the simulator could not",
}


def _marks(row: LayerRow) -> str:
    return "".join(mark for mark, holds in (("b", row.floored), ("d", row.dead), ("r", row.fallback)) if holds)
