"""The tables of ``compare``: two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmworkload.reporting.tables.common import top
from mmworkload.reporting.terminal import Cell, Name, bullets, facts, paired_bar, section, table
from mmworkload.reporting.units import plural, share, si, times
from mmworkload.validating.runs import MEASURED, ratio

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.validating.runs import Pair, RunComparison

_HEADS = (">first", ">second", ">second/first")
_COLUMNS = (">first", ">share", ">second", ">share", ">second/first", "<")


def runs_tables(found: RunComparison, *, all_layers: bool = False) -> list[RenderableType]:
    """Both runs, their figures beside each other, energy by component, stages, layers, what else differs."""
    measured = found.first.kind == MEASURED
    whole = "eager, end to end" if measured else "critical path"
    runs = [
        (name, f"{item.model}, {'on' if measured else 'simulated on'} {item.where}")
        for name, item in (("first", found.first), ("second", found.second))
    ]
    figures = [
        (whole, found.first.whole_s, found.second.whole_s, "s"),
        ("sum over layers", found.first.total_s, found.second.total_s, "s"),
        ("energy", found.first.energy_j, found.second.energy_j, "J"),
        ("DRAM traffic", found.first.dram_bytes, found.second.dram_bytes, "B"),
    ]
    rows: list[list[Cell]] = [
        [what, si(first, unit), si(second, unit), times(ratio(first, second))]
        for what, first, second, unit in figures
        if first is not None or second is not None
    ]
    parts = [section(f"Two {found.first.kind}s", facts(runs), table(["<", *_HEADS], rows))]
    parts += [*_energy(found), _pairs("Stages", "<stage", found.stages)]
    parts.append(_layers(found, all_layers))
    lacking = [
        f"{plural(count, 'layer')} only in the {which} run"
        for which, count in (
            ("first", sum(item.second_s is None for item in found.layers)),
            ("second", sum(item.first_s is None for item in found.layers)),
        )
        if count
    ]
    notes = [*found.differences, *lacking]
    return [*parts, *([section("What else differs", bullets(notes))] if notes else [])]


def _energy(found: RunComparison) -> list[RenderableType]:
    rows: list[list[Cell]] = [
        [Name(name), si(first, "J"), si(second, "J"), times(ratio(first, second))]
        for name, (first, second) in found.energy.items()
    ]
    return [section("Energy by component", table(["<component", *_HEADS], rows))] if rows else []


def _layers(found: RunComparison, every: bool) -> RenderableType:
    chosen, notes = top(found.layers, lambda item: item.larger_s, every)
    return section("Layers", _table("<layer", chosen), *notes)


def _pairs(title: str, column: str, rows: Sequence[Pair]) -> RenderableType:
    return section(title, _table(column, rows), "▀ first, ▄ second share")


def _table(column: str, rows: Sequence[Pair]) -> RenderableType:
    cells: list[list[Cell]] = [
        [
            Name(item.name or "(none)"),
            si(item.first_s, "s"),
            share(item.first_share),
            si(item.second_s, "s"),
            share(item.second_share),
            times(item.ratio),
            paired_bar(item.first_share, item.second_share),
        ]
        for item in rows
    ]
    return table([column, *_COLUMNS], cells)
