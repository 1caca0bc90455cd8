"""The tables of ``show``: what a traced graph consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.reporting.tables.common import fraction, top
from mmworkload.reporting.terminal import Cell, Name, Prose, section, table
from mmworkload.reporting.units import plural, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.graph import LayerGraph, StageTotals
    from mmworkload.layer import Layer


def show_tables(graph: LayerGraph, *, all_layers: bool = False, why: bool = False) -> list[RenderableType]:
    """Totals, stages, layers (or with ``why`` the rule behind each layer's stage), and the coverage."""
    layers = _rules(graph, all_layers) if why else _layers(graph, all_layers)
    return [section(graph.model, *_totals(graph)), _stages(graph), layers, section("Coverage", *_coverage(graph))]


def _totals(graph: LayerGraph) -> list[str]:
    totals = graph.totals()
    lines = [
        f"batch {graph.batch}, {graph.dtype}, {plural(len(graph), 'layer')},"
        f" {plural(len(graph.problems), 'unique problem')}",
        f"{totals.macs:,} MACs, {plural(totals.params, 'parameter')} used of {graph.built_params:,}",
    ]
    if totals.useful_macs != totals.macs:
        masked = fraction(totals.useful_macs, totals.macs)
        lines.append(f"{totals.useful_macs:,} MACs ({masked}) are under attention masks; the rest is masked out")
    if totals.outer_macs:
        lines.append(f"apart from these: {totals.outer_macs:,} products of outer products, which accumulate nothing")
    return lines


def _stages(graph: LayerGraph) -> RenderableType:
    moved: dict[str, int] = {}
    for layer in graph:
        moved[layer.stage] = moved.get(layer.stage, 0) + layer.bytes
    total = graph.total_macs

    def row(name: str, item: StageTotals, size: int) -> list[Cell]:
        cells = [str(item.layers), si(item.macs), fraction(item.macs, total), si(item.params), si(size, "B")]
        return [Name(name or "(none)"), *cells, _intensity(item.macs, size)]

    rows = [row(stage, item, moved[stage]) for stage, item in graph.stages.items()]
    if len(rows) > 1:
        rows.append(row("total", graph.totals(), sum(moved.values())))
    return section("Stages", table(["<stage", ">layers", ">MACs", ">share", ">params", ">bytes", ">MAC/B"], rows))


def _layers(graph: LayerGraph, every: bool) -> RenderableType:
    chosen, notes = top(graph.layers, _size, every)
    total = graph.total_macs

    def row(layer: Layer) -> list[Cell]:
        cells = [si(layer.macs), fraction(layer.macs, total), si(graph.params([layer])), si(layer.bytes, "B")]
        return [Name(layer.name), Name(layer.op), *cells, _intensity(layer.macs, layer.bytes)]

    columns = ["<layer", "<operator", ">MACs", ">share", ">params", ">bytes", ">MAC/B"]
    return section("Layers", table(columns, [row(layer) for layer in chosen]), *notes)


def _rules(graph: LayerGraph, every: bool) -> RenderableType:
    chosen, notes = top(graph.layers, _size, every)
    rows: list[list[Cell]] = [[Name(layer.name), layer.stage or "(none)", Prose(layer.rule)] for layer in chosen]
    return section("Stage of each layer", table(["<layer", "<stage", "<decided by"], rows), *notes)


def _coverage(graph: LayerGraph) -> list[RenderableType]:
    calls = dict.fromkeys(("lowered", "ignored", "unknown"), 0)
    for item in graph.coverage:
        calls[item.treatment] += item.calls
    ignored = sorted({item.operator for item in graph.coverage if item.treatment == "ignored"})
    free = f" (they move no bytes: {', '.join(ignored)})" if ignored else ""
    counts = f"{calls['lowered']:,} lowered, {calls['ignored']:,} ignored{free}, {calls['unknown']:,} unknown"
    parts: list[RenderableType] = [f"Operator calls: {counts}."]
    unknown = [item for item in graph.coverage if item.treatment == "unknown"]
    if unknown:
        rows: list[list[Cell]] = [
            [Name(item.operator), Name(item.module or "(root)"), str(item.calls), si(item.bytes, "B")]
            for item in unknown
        ]
        parts.append(table(["<unknown operator", "<module", ">calls", ">bytes"], rows))
    dead = [layer for layer in graph if layer.dead]
    if dead:
        macs, moved = sum(layer.macs for layer in dead), sum(layer.bytes for layer in dead)
        parts.append(
            f"{plural(len(dead), 'layer')} whose result nobody needs ({si(macs, 'MAC')}, {si(moved, 'B')}):"
            " eager execution runs them all the same, so they count."
        )
    assumptions = sorted({text for layer in graph for text in layer.assumptions})
    return [*parts, *(f"Assumed: {text}" for text in assumptions)]


def _size(layer: Layer) -> tuple[int, int]:
    return layer.macs, layer.bytes


def _intensity(macs: int, moved: int) -> str:
    return f"{macs / moved:.2f}" if moved else si(None)
