"""The tables of ``compare``: two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmworkload.reporting.tables.common import top
from mmworkload.reporting.terminal import Cell, Name, bullets, paired_bar, section, table
from mmworkload.reporting.units import plural, share, si, times
from mmworkload.validating.runs import MEASURED, ratio

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.validating.runs import Pair, RunComparison

_COLUMNS = (">first", ">share", ">second", ">share", ">second/first", "<")


def runs_tables(found: RunComparison, *, all_layers: bool = False) -> list[RenderableType]:
    """Both runs in a line each, stages, layers, and what differs besides the time."""
    measured = found.first.kind == MEASURED
    whole = "eager, end to end" if measured else "critical path"
    rows: list[list[Cell]] = [
        [
            name,
            Name(item.model),
            Name(item.where),
            si(item.whole_s, "s"),
            si(item.total_s, "s"),
            si(item.energy_j, "J"),
            *([] if measured else [si(item.dram_bytes, "B")]),
        ]
        for name, item in (("first", found.first), ("second", found.second))
    ]
    said = f"second over first: {times(ratio(found.first.whole_s, found.second.whole_s))} {whole},"
    said += f" {times(ratio(found.first.total_s, found.second.total_s))} sum over layers"
    heads = ["<run", "<model", "<on" if measured else "<simulated", f">{whole}", ">sum", ">energy"]
    heads += [] if measured else [">DRAM"]
    for what, first, second in (
        ("energy", found.first.energy_j, found.second.energy_j),
        ("DRAM traffic", found.first.dram_bytes, found.second.dram_bytes),
    ):
        if (factor := ratio(first, second)) is not None:
            said += f", {times(factor)} {what}"
    parts = [section(f"Two {found.first.kind}s", table(heads, rows), said)]
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
    heads = ["<component", ">first", ">second", ">second/first"]
    return [section("Energy by component", table(heads, rows))] if rows else []


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
