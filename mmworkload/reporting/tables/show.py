"""The tables of ``show``: what a traced graph consists of."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

from mmworkload.graph import TREATMENTS
from mmworkload.loop_bounds import NUMBERS, loop_bounds, output_shape
from mmworkload.reporting.about import about, input_in_words, route_in_words, setting_in_words, split_notes
from mmworkload.reporting.tables.common import FOLDED, common_name, folded, fraction, top
from mmworkload.reporting.terminal import Cell, Items, Name, Prose, bar, facts, section, table
from mmworkload.reporting.units import GAP, plural, si
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
        *([_rules(graph, all_layers)] if why else _layers(graph, all_layers)),
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


def _layers(graph: LayerGraph, every: bool) -> list[RenderableType]:
    """Every layer; or the largest, those that do the same and differ in numbers of their name only as one. Then the
    shapes of the same rows."""
    total = graph.total_macs

    def same(layer: Layer) -> Hashable:
        return layer.stage, layer.op, layer.work, layer.bytes, output_shape(layer, graph.tensors)

    groups = folded(graph, lambda layer: layer.name, same, every)
    if not every:
        groups.sort(key=_sum, reverse=True)
    chosen, notes = top(groups, _sum, every, "row")
    if len(groups) < len(graph):
        notes.insert(0, FOLDED)

    def row(layers: list[Layer]) -> list[Cell]:
        macs, moved = _sum(layers)
        count: list[Cell] = [] if every else [str(len(layers))]
        sizes = [si(macs), fraction(macs, total), si(graph.params(layers)), si(moved, "B"), _intensity(macs, moved)]
        return [_name(layers), *count, Name(layers[0].op), *sizes]

    columns = ["<layer", *([] if every else [">no."]), "<operator", ">MACs", ">share", ">params", ">bytes", ">MAC/B"]
    rows = [row(layers) for layers in chosen]
    return [section("Layers", table(columns, rows, tight=True), *notes), _shapes(graph, chosen)]


# What a loop runs over. Depth is left out where no layer has it.
_LOOPS = {
    ("n",): "batch or rows",
    ("m",): "output channels or columns",
    ("c",): "input channels or reduction",
    ("o", "p", "q"): "output depth, height and width",
    ("t", "r", "s"): "kernel depth, height and width",
    ("groups",): "groups or heads",
    ("runs",): "how often the layer runs the loops",
    ("nests",): "different loop nests, of which the largest is shown",
}


def _shapes(graph: LayerGraph, groups: list[list[Layer]]) -> RenderableType:
    """Output shape and loop bounds of one layer of each row; columns that are 1 in every row are said below."""
    found = [loop_bounds(layers[0]) for layers in groups]
    used = [name for name in NUMBERS if any((bounds[name] or 1) != 1 for bounds in found)]
    ones = [name for name in NUMBERS if name not in (*used, "runs", "nests")]
    rows: list[list[Cell]] = [
        [
            _name(layers),
            Name(output_shape(layers[0], graph.tensors)),
            *(GAP if bounds[name] is None else str(bounds[name]) for name in used),
        ]
        for layers, bounds in zip(groups, found, strict=True)
    ]
    legend = [f"{', '.join(names)}: {meaning}" for names, meaning in _LOOPS.items() if {*names} & {*used}]
    notes = [*(["; ".join(legend)] if legend else []), *([f"1 in every row: {', '.join(ones)}"] if ones else [])]
    return section("Shapes", table(["<layer", "<output", *(f">{name}" for name in used)], rows, tight=True), *notes)


def _name(layers: list[Layer]) -> Name:
    return Name(common_name([layer.name for layer in layers]))


def _rules(graph: LayerGraph, every: bool) -> RenderableType:
    groups = folded(graph, lambda layer: layer.name, lambda layer: (layer.stage, layer.rule), every)
    chosen, notes = top(groups, _sum, every, "row")
    if len(groups) < len(graph):
        notes.insert(0, FOLDED)
    rows: list[list[Cell]] = [
        [_name(layers), *([] if every else [str(len(layers))]), layers[0].stage or "(none)", Prose(layers[0].rule)]
        for layers in chosen
    ]
    columns = ["<layer", *([] if every else [">no."]), "<stage", "<decided by"]
    return section("Stage of each layer", table(columns, rows), *notes)


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


def _intensity(macs: int, moved: int) -> str:
    return f"{macs / moved:.2f}" if moved else si(None)
