"""From a layer graph to the lines of its compact text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from mmworkload.folding import fold
from mmworkload.graph import Coverage, LayerGraph
from mmworkload.graph_lines.words import (
    SCHEMA_VERSION,
    TABLES,
    Calls,
    bits_of,
    calls_by_module,
    coverage_of,
    covered,
    elements_of,
    module_of,
    sole_families,
    to_name,
    to_shape,
    to_word,
    written_by,
)
from mmworkload.layer import Layer, Tensor

# Layers that a rule must have decided to stand in the table; another one stands at its layers.
_COMMON = 4


def write(graph: LayerGraph) -> str:
    """The text of ``graph``, which :func:`mmworkload.graph_lines.read` turns into an equal one."""
    header: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": graph.model,
        "variant": graph.variant,
        "batch": graph.batch,
        "dtype": graph.dtype,
        "route": graph.route,
        "notes": list(graph.notes),
        "versions": graph.versions,
        "built_params": graph.built_params,
        "total_params": graph.total_params,
        "total_macs": graph.total_macs,
        "inputs": [asdict(item) for item in graph.inputs],
        "stages": {stage: asdict(totals) for stage, totals in graph.stages.items()},
    }
    tables = _tables(graph)
    lines = [line for key, value in header.items() for line in _entry(key, value)]
    for name in TABLES:
        lines += [f"{name}: |", *(f"  {line}" for line in fold(tables[name]))]
    lines += _entry("counts", {name: len(tables[name]) for name in TABLES})
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any) -> list[str]:
    """The lines of one key, with a line for each item of a dictionary or a list."""
    if isinstance(value, dict) and value:
        return [f"{key}:", *(f"  {_json(name)}: {_json(item)}" for name, item in value.items())]
    if isinstance(value, list) and value:
        return [f"{key}:", *(f"- {_json(item)}" for item in value)]
    return [f"{key}: {_json(value)}"]


def _json(value: Any) -> str:
    """JSON that is YAML too."""
    # JSON escapes what is beyond 16 bits as a pair of surrogates, which YAML does not join.
    return re.sub(r"[^ -~]", lambda match: f"\\U{ord(match[0]):08x}", json.dumps(value, ensure_ascii=False))


def _tables(graph: LayerGraph) -> dict[str, list[str]]:
    calls = calls_by_module(graph.layers)
    operators, coverage = _operators(graph, calls)
    categories: dict[str, str] = {}
    for layer in graph.layers:
        categories.setdefault(layer.op, layer.category)
    problems = {key: f"p{index}" for index, key in enumerate(graph.problems)}
    lines = _LayerLines(graph, categories, _vectors(graph), _rules(graph), problems)
    layers = [" ".join(lines.words(layer)) for layer in graph.layers]
    # All others were declared where layers use them.
    tensors = [
        [to_word(name), *_declaration(tensor, name, "weight", graph.dtype)]
        for name, tensor in graph.tensors.items()
        if name not in lines.declared
    ]
    return {
        "outputs": [to_word(name) for name in graph.outputs],
        "operators": [
            f"{to_word(op)} {to_word(category)} {lines.vectors[op]} {to_word(operators[op])}"
            for op, category in categories.items()
        ],
        "rules": [f"{tag} {' '.join(map(to_word, place))}" for place, tag in lines.rules.items()],
        "problems": [f"{problems[key]} {problem}" for key, problem in graph.problems.items()],
        "tensors": [" ".join(words) for words in tensors],
        "layers": layers,
        "coverage": [" ".join(_coverage(item, calls)) for item in coverage],
    }


# --- what many layers have in common --------------------------------------------------------------------------------


def _rules(graph: LayerGraph) -> dict[tuple[str, str, str], str]:
    """Tags of the common (stage, modality, rule), and of the first one of each stage and modality."""
    counts = Counter((layer.stage, layer.modality, layer.rule) for layer in graph.layers)
    common = {place[:2] for place, count in counts.items() if count >= _COMMON}
    chosen = []
    for place, count in counts.items():
        if count >= _COMMON or place[:2] not in common:
            chosen.append(place)
            common.add(place[:2])
    return {place: f"r{index}" for index, place in enumerate(chosen)}


def _vectors(graph: LayerGraph) -> dict[str, int]:
    """Vector operations for each element that is written, where most layers of the operator family agree, or 0."""
    found: dict[str, Counter[int]] = {}
    for layer in graph.layers:
        counts = found.setdefault(layer.op, Counter())
        elements = elements_of([graph.tensors[name] for name, _ in layer.writes])
        counts[layer.vector_ops // elements if elements and layer.vector_ops % elements == 0 else 0] += 1
    common = {op: counts.most_common(1)[0] for op, counts in found.items()}
    return {op: factor if 2 * count > found[op].total() else 0 for op, (factor, count) in common.items()}


def _operators(graph: LayerGraph, calls: Calls) -> tuple[dict[str, str], list[Coverage]]:
    """The operator behind each family ("" where there is no one), and the coverage that does not follow from it."""
    told: dict[str, list[Coverage]] = {}
    for item in graph.coverage:
        if item.treatment != "ignored":
            told.setdefault(item.module, []).append(item)
    found: dict[str, Counter[str]] = {layer.op: Counter() for layer in graph.layers}
    silent = set()
    for module, op, numbers in sole_families(calls):
        items = told.get(module, [])
        if not items:
            silent.add(op)
        elif items == [coverage_of("lowered", items[0].operator, module, numbers)]:
            found[op][items[0].operator] += 1
    operators = {op: counts.most_common(1)[0][0] if counts and op not in silent else "" for op, counts in found.items()}
    follows = {
        coverage_of("lowered", operators[op], module, numbers)
        for module, op, numbers in sole_families(calls)
        if operators[op] and len(told[module]) == 1
    }
    return operators, [item for item in graph.coverage if item not in follows]


# --- lines ----------------------------------------------------------------------------------------------------------


@dataclass
class _LayerLines:
    """Lines of layers, with what they may refer to; ``declared`` are the tensors that were in a line so far."""

    graph: LayerGraph
    categories: dict[str, str]
    vectors: dict[str, int]
    rules: dict[tuple[str, str, str], str]
    problems: dict[str, str]
    declared: set[str] = field(default_factory=set)

    def words(self, layer: Layer) -> Iterator[str]:
        """The words of a layer's line."""
        place = (layer.stage, layer.modality, layer.rule)
        if place not in self.rules:
            place = next(item for item in self.rules if item[:2] == place[:2])
        yield from (to_word(layer.name), to_word(layer.op), self.rules[place])
        for work in layer.work:
            count = f"*{work.count}" if work.count != 1 or work.sequential else ""
            yield self.problems[work.problem.key] + count + ("/sequential" if work.sequential else "")
        written = [self.graph.tensors[name] for name, _ in layer.writes]
        yield from _settings(
            vector=(str(layer.vector_ops), str(self.vectors[layer.op] * elements_of(written))),
            module=(layer.module, module_of(layer.name, layer.op)),
            category=(layer.category, self.categories[layer.op]),
            placement=(layer.placement, "device"),
            rule=(layer.rule, place[2]),
        )
        for assumption in layer.assumptions:
            yield f"assume={to_word(assumption)}"
        if layer.dead:
            yield "dead"
        if layer.reads:
            yield "<-"
        for name, size in layer.reads:
            tensor = self.graph.tensors[name]
            yield to_name(name, layer.module)
            if name not in self.declared:
                yield from _declaration(tensor, name, "weight", self.graph.dtype, layer.module)
            yield from _settings(bytes=(str(size), str(tensor.bytes)))
            self.declared.add(name)
        if layer.writes:
            yield "->"
        names = written_by(layer.name, len(written))
        for tensor, default_name, (_, size) in zip(written, names, layer.writes, strict=True):
            yield from _declaration(tensor, default_name, "activation", self.graph.dtype, layer.module)
            yield from _settings(bytes=(str(size), str(tensor.bytes)))
            self.declared.add(tensor.name)


def _declaration(tensor: Tensor, name: str, kind: str, dtype: str, module: str = "") -> Iterator[str]:
    """The words that declare a tensor: its shape, and what differs from the defaults."""
    yield to_shape(tensor.shape)
    yield from _settings(
        name=(tensor.name, name),
        kind=(tensor.kind, kind),
        dtype=(tensor.dtype, dtype),
        bits=(str(tensor.bits), str(bits_of(tensor.dtype))),
    )
    if tensor.storage != tensor.name:
        yield f"storage={to_name(tensor.storage, module)}"


def _coverage(item: Coverage, calls: Calls) -> Iterator[str]:
    yield from (to_word(item.treatment), to_word(item.operator), to_word(item.module))
    if item.reason:
        yield to_word(item.reason)
    default = covered(item.treatment, item.operator, item.module, calls)
    yield from _settings(**{key: (str(getattr(item, key)), str(number)) for key, number in default.items()})


def _settings(**values: tuple[str, str]) -> Iterator[str]:
    """``key=value`` for each value that is not its default."""
    for key, (value, default) in values.items():
        if value != default:
            yield f"{key}={to_word(value)}"
