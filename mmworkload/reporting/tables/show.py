"""The tables of ``show``: what a traced graph consists of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mmworkload.graph import TREATMENTS
from mmworkload.reporting.about import about, input_in_words, route_in_words, setting_in_words, split_notes
from mmworkload.reporting.tables.common import fraction, top
from mmworkload.reporting.terminal import Cell, Items, Name, Prose, bar, facts, section, table
from mmworkload.reporting.units import plural, si
from mmworkload.straggler import encoded
from mmworkload.tracing.stages import cut_modules

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.graph import LayerGraph
    from mmworkload.layer import Layer
    from mmworkload.models import Model

_BAR = 8
# Modules named as cut between stages.
_CUT = 6


def show_tables(
    graph: LayerGraph, *, model: Model | None = None, all_layers: bool = False, why: bool = False
) -> list[RenderableType]:
    """What the model is, its parameters, stages, the categories of a paper that has its own, layers (or with ``why``
    the rule behind each layer's stage), and the coverage in a sentence.

    ``model`` is what was traced, None for a saved graph, whose parameters cannot be set any more.
    """
    return [
        section(graph.model, facts(list(_facts(graph, model)))),
        *_parameters(model),
        _stages(graph),
        *_categories(graph),
        _rules(graph, all_layers) if why else _layers(graph, all_layers),
        section("Coverage", *_coverage(graph)),
    ]


def _facts(graph: LayerGraph, model: Model | None) -> Iterator[tuple[str, str | Items]]:
    known, totals = about(graph), graph.totals()
    notes, stand_ins = split_notes([*(model.notes if model else ()), *graph.notes])
    if known.source:
        yield "source", known.source
    if known.dataset:
        yield "data set", known.dataset
    if known.dataset_url:
        yield "data set", known.dataset_url
    if graph.inputs:
        yield "inputs", Items([input_in_words(item, graph.dtype) for item in graph.inputs])
    yield "traced", f"batch {graph.batch}, {graph.dtype}, by {route_in_words(graph.route)}"
    unused = graph.built_params - totals.params
    yield "size", f"{totals.macs:,} MACs"
    if totals.useful_macs != totals.macs:
        masked = fraction(totals.useful_macs, totals.macs)
        yield "size", f"{totals.useful_macs:,} MACs ({masked}) are under attention masks; the rest is masked out"
    if totals.outer_macs:
        yield "size", f"apart from these, {totals.outer_macs:,} products of outer products, which accumulate nothing"
    yield "size", plural(totals.params, "parameter") + (f" used of {graph.built_params:,}" if unused else "")
    yield "size", f"{plural(len(graph), 'layer')}, {plural(len(graph.problems), 'unique problem')}"
    for note in notes:
        yield "notes", note
    for stand_in in stand_ins:
        yield "stand-in", stand_in
    for figure in known.figures:
        yield "paper", figure.beside(graph.stages)


def _parameters(model: Model | None) -> list[RenderableType]:
    if model is None or not model.parameters:
        return []
    rows: list[list[Cell]] = []
    for name, item in model.parameters.items():
        value = model.settings.get(name, item.default)
        default = "" if value == item.default else f" (default {setting_in_words(item.default)})"
        rows.append([name, Prose(setting_in_words(value) + default), Prose(item.bounds), Prose(item.help)])
    return [section("Parameters (--set NAME=VALUE)", table(["<name", "<value", "<bounds", "<what it is"], rows))]


def _stages(graph: LayerGraph) -> RenderableType:
    """MACs, parameters and bytes of every stage; below a stage that names no modality, of each modality in it."""
    total = graph.total_macs

    def row(name: str, layers: list[Layer]) -> list[Cell]:
        item = graph.totals(layers)
        moved = sum(layer.bytes for layer in layers)
        return [
            Name(name),
            si(item.macs),
            fraction(item.macs, total),
            bar(item.macs / total if total else None, _BAR),
            si(item.params),
            si(item.weight_bytes, "B"),
            si(item.activation_bytes, "B"),
            _intensity(item.macs, moved),
        ]

    rows = []
    grouped = _grouped(graph, "stage")
    stages = {stage: grouped[stage] for stage in graph.stages}
    for stage, layers in stages.items():
        rows.append(row(stage or "(none)", layers))
        modalities = _grouped(layers, "modality")
        if len(modalities) > 1 and not encoded(stage):
            rows += [row(f"  {modality or 'other'}", part) for modality, part in modalities.items()]
    if len(stages) > 1:
        rows.append(row("total", list(graph)))
    whole = graph.totals()
    shared = whole.weight_bytes + whole.activation_bytes != sum(layer.bytes for layer in graph)
    notes = ["MAC/B: a weight counts each time that it is read, and only what is read of it."] if shared else []
    cut = cut_modules(graph)
    if cut:
        # A module is named with its parts where they differ from those of the module round it.
        inner = {path: stages for path, stages in cut.items() if cut.get(path.rpartition(".")[0]) != stages}
        parts = [f"{path} ({', '.join(stages)})" for path, stages in list(inner.items())[:_CUT]]
        more = f", and {len(inner) - _CUT} more" if len(inner) > _CUT else ""
        notes.append(f"Modules whose layers are of several stages: {'; '.join(parts)}{more}.")
    columns = ["<stage", ">MACs", ">share", "<", ">params", ">weights", ">activ.", ">MAC/B"]
    return section("Stages", table(columns, rows, tight=True), *notes)


def _categories(graph: LayerGraph) -> list[RenderableType]:
    from mmworkload.generation.categories import in_the_paper
    from mmworkload.generation.tables import category_table

    return [category_table(graph)] if in_the_paper(graph.model) else []


def _grouped(layers: Iterable[Layer], attribute: str) -> dict[str, list[Layer]]:
    """Layers by ``stage`` or ``modality``, in order of first use."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(getattr(layer, attribute), []).append(layer)
    return groups


def _layers(graph: LayerGraph, every: bool) -> RenderableType:
    """Every layer; or the largest, those that do the same and differ in numbers of their name only as one."""
    total = graph.total_macs
    groups = [[layer] for layer in graph] if every else sorted(_alike(graph).values(), key=_sum, reverse=True)
    chosen, notes = top(groups, _sum, every, "row")

    def row(layers: list[Layer]) -> list[Cell]:
        macs, moved = _sum(layers)
        name = Name(_common_name([layer.name for layer in layers]))
        sizes = [si(macs), fraction(macs, total), si(graph.params(layers))]
        if every:
            return [name, Name(layers[0].op), *sizes, si(moved, "B"), _intensity(macs, moved)]
        return [name, str(len(layers)), Name(layers[0].op), *sizes, _intensity(macs, moved)]

    columns = ["<layer", ">no.", "<operator", ">MACs", ">share", ">params", ">MAC/B"]
    if every:
        columns = ["<layer", "<operator", ">MACs", ">share", ">params", ">bytes", ">MAC/B"]
    elif len(groups) < len(graph):
        notes.insert(0, "Rows add up like layers (no.), whose names differ in numbers only (*).")
    return section("Layers", table(columns, [row(layers) for layers in chosen], tight=True), *notes)


def _alike(graph: LayerGraph) -> dict[tuple[object, ...], list[Layer]]:
    """Layers of one stage that do the same work, and whose names differ in numbers only."""
    groups: dict[tuple[object, ...], list[Layer]] = {}
    for layer in graph:
        same = (re.sub(r"\d+", "*", _first_call(layer.name)), layer.stage, layer.op, layer.work, layer.bytes)
        groups.setdefault(same, []).append(layer)
    return groups


def _common_name(names: list[str]) -> str:
    """The name with ``*`` for the numbers that are not the same in all of ``names``."""
    if len(names) == 1:
        return names[0]
    parts = zip(*(re.split(r"(\d+)", _first_call(name)) for name in names), strict=True)
    return "".join(part[0] if len(set(part)) == 1 else "*" for part in parts)


def _first_call(name: str) -> str:
    """The name without what tells a module's calls apart (path@1) and an operator's (path:op.1)."""
    return re.sub(r"@\d+|(:\w+)\.\d+$", r"\1", name)


def _rules(graph: LayerGraph, every: bool) -> RenderableType:
    chosen, notes = top(graph.layers, _size, every)
    rows: list[list[Cell]] = [[Name(layer.name), layer.stage or "(none)", Prose(layer.rule)] for layer in chosen]
    return section("Stage of each layer", table(["<layer", "<stage", "<decided by"], rows), *notes)


def _coverage(graph: LayerGraph) -> list[RenderableType]:
    calls = dict.fromkeys(TREATMENTS, 0)
    for item in graph.coverage:
        calls[item.treatment] += item.calls
    parts: list[RenderableType] = [
        f"Operator calls: {calls['lowered']:,} lowered, {calls['ignored']:,} ignored (they move no bytes),"
        f" {calls['unknown']:,} unknown. --coverage lists them."
    ]
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


def _sum(layers: list[Layer]) -> tuple[int, int]:
    return sum(layer.macs for layer in layers), sum(layer.bytes for layer in layers)


def _size(layer: Layer) -> tuple[int, int]:
    return layer.macs, layer.bytes


def _intensity(macs: int, moved: int) -> str:
    return f"{macs / moved:.2f}" if moved else si(None)
