"""The tables of ``show`` for a generation: its phases, and where their work and bytes are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from mmworkload.generation.categories import CATEGORIES, category
from mmworkload.generation.generation import Phase
from mmworkload.generation.totals import Totals, of_layer
from mmworkload.reporting.tables.common import FOLDED, common_name, folded, fraction, top
from mmworkload.reporting.terminal import Cell, Name, facts, section, table
from mmworkload.reporting.units import plural, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.generation.generation import Generation
    from mmworkload.graph import LayerGraph
    from mmworkload.layer import Layer


def generation_tables(generation: Generation, *, all_layers: bool = False) -> list[RenderableType]:
    """What the generation is, its phases with exact totals over all runs, the paper's categories of each, layers."""
    totals = generation.totals
    known = [
        ("size", f"{totals.macs:,} MACs"),
        ("size", f"{totals.read_bytes:,} bytes read, {totals.write_bytes:,} written, each once a run"),
        ("size", f"{totals.state_bytes:,} of them are state: caches of keys and values"),
        *(("notes", note) for note in generation.notes),
    ]
    first = generation.phases[0].at_first()
    known.insert(0, ("traced", f"batch {first.batch}, {first.dtype}, by export; totals are exact sums over all runs"))
    return [
        section(generation.name, facts(known)),
        _phases(generation),
        _categories(generation),
        _layers(generation, all_layers),
    ]


def _phases(generation: Generation) -> RenderableType:
    whole = generation.totals
    rows: list[list[Cell]] = []
    for phase, totals in zip(generation.phases, generation.by_phase().values(), strict=True):
        rows.append([*_head(phase), *_sizes(totals), fraction(totals.bytes, whole.bytes)])
    rows.append(["total", "", "", *_sizes(whole), fraction(1, 1)])
    columns = ["<phase", ">runs", "<lengths", ">MACs", ">read", ">written", ">weights", ">state", ">share"]
    return section("Phases", table(columns, rows))


def _head(phase: Phase) -> list[Cell]:
    lengths = phase.lengths
    if lengths is None:
        return [phase.name, f"{phase.runs:,}", ""]
    step = f" by {lengths.step}" if lengths.step != 1 else ""
    return [phase.name, f"{phase.runs:,}", f"{lengths[0]:,}\N{EN DASH}{lengths[-1]:,}{step}"]


def _sizes(totals: Totals) -> list[Cell]:
    read, written = si(totals.read_bytes, "B"), si(totals.write_bytes, "B")
    return [si(totals.macs), read, written, si(totals.weight_bytes, "B"), si(totals.state_bytes, "B")]


def _categories(generation: Generation) -> RenderableType:
    rows = [[phase, *row] for phase, groups in generation.by(category).items() for row in _rows(groups)]
    count = plural(len(generation.phases), "phase")
    title = f"Categories of the generation paper, over {count}"
    return section(title, table(["<phase", *_COLUMNS], rows))


def _layers(generation: Generation, every: bool) -> RenderableType:
    """Each layer of each phase over all runs, repeated ones folded; or every layer."""
    layers = [(phase.name, *found) for phase in generation.phases for found in phase.layer_totals()]

    def same(row: tuple[str, Layer, Totals]) -> Hashable:
        phase, layer, totals = row
        return phase, layer.stage, layer.op, layer.work, totals

    groups = folded(layers, lambda row: row[1].name, same, every)
    sums = [sum((totals for _, _, totals in group), Totals()) for group in groups]
    chosen, notes = top(list(zip(groups, sums, strict=True)), lambda row: (row[1].macs, row[1].bytes), every, "row")
    if len(groups) < len(layers):
        notes.insert(0, FOLDED)
    whole = generation.totals
    rows: list[list[Cell]] = [
        [
            Name(f"{group[0][0]}: {common_name([layer.name for _, layer, _ in group])}"),
            *([] if every else [str(len(group))]),
            Name(group[0][1].op),
            si(total.macs),
            fraction(total.macs, whole.macs),
            si(total.bytes, "B"),
            fraction(total.bytes, whole.bytes),
        ]
        for group, total in chosen
    ]
    columns = ["<layer", *([] if every else [">no."]), "<operator", ">MACs", ">share", ">bytes", ">share"]
    graphs = ", ".join(dict.fromkeys(phase.at_first().model for phase in generation.phases))
    notes.append(f"Over all runs of a phase. Shapes are those of one run: show {graphs}.")
    return section("Layers", table(columns, rows, tight=True), *notes)


_COLUMNS = ("<category", ">layers", ">MACs", ">share", ">bytes", ">share")


def category_table(graph: LayerGraph) -> RenderableType:
    """The paper's categories of one pass of a graph."""
    groups: dict[str, Totals] = {}
    for layer in graph.layers:
        groups[category(layer)] = groups.get(category(layer), Totals()) + of_layer(graph, layer)
    return section("Categories of the generation paper", table(_COLUMNS, _rows(groups), tight=True))


def _rows(groups: Mapping[str, Totals]) -> list[list[Cell]]:
    """A row for each category that there is, in the paper's order."""
    whole = sum(groups.values(), Totals())
    return [
        [
            name,
            f"{found.layers:,}",
            si(found.macs),
            fraction(found.macs, whole.macs),
            si(found.bytes, "B"),
            fraction(found.bytes, whole.bytes),
        ]
        for name in CATEGORIES
        if (found := groups.get(name))
    ]
