"""From the lines of a compact text to the layer graph. Whatever is wrong is a FormatError that says where."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, TypeVar, cast

from mmworkload.errors import FormatError
from mmworkload.files import yaml_place
from mmworkload.folding import unfold
from mmworkload.graph import Coverage, InputInfo, LayerGraph
from mmworkload.graph_lines.words import (
    SCHEMA_VERSION,
    TABLES,
    Calls,
    bits_of,
    calls_by_module,
    check_version,
    coverage_of,
    covered,
    elements_of,
    module_of,
    sole_families,
    to_count,
    to_sizes,
    to_tensor,
    to_text,
    written_by,
)
from mmworkload.layer import Layer, Placement, Tensor, TensorKind, Work
from mmworkload.problem import Problem

_WORDS = re.compile(r'(?:[^ "]|"(?:[^"\\]|\\.)*")+')
_WORK = re.compile(r"(?P<problem>p[0-9]+)(?:\*(?P<count>[0-9]+)(?P<sequential>/sequential)?)?")
_DEEPEST = 20
_SETTING = re.compile("[a-z]+=")
Entry = TypeVar("Entry")


def read(text: str) -> LayerGraph:
    """The graph of a text. Raises FormatError that names the line or the entry."""
    data = _document(text)
    check_version(data, SCHEMA_VERSION)
    tables = _unfolded(data, text)
    known = _Known(_one(data, "dtype"))

    def entries(table: str, parse: Callable[[list[str]], Entry]) -> list[Entry]:
        found = []
        for line in tables[table]:
            try:
                found.append(parse(_split(line)))
            except (FormatError, ValueError) as error:
                raise FormatError(f"{table}: '{line[:100]}': {str(error)[:300]}") from error
        return found

    entries("problems", known.add_problem)
    entries("operators", known.add_operator)
    entries("rules", known.add_rule)
    entries("tensors", lambda words: known.tensor(words[1:], to_text(words[0]), "weight"))
    layers = entries("layers", lambda words: _layer(words, known))
    calls = calls_by_module(layers)
    coverage = entries("coverage", lambda words: _coverage(words, calls))
    graph = LayerGraph(
        model=_one(data, "model"),
        variant=_one(data, "variant"),
        batch=_count(data, "batch"),
        dtype=known.dtype,
        layers=tuple(layers),
        tensors=known.tensors,
        inputs=tuple(_inputs(data)),
        outputs=tuple(entries("outputs", lambda words: to_text(*_exactly(1, words)))),
        built_params=_count(data, "built_params"),
        route=_one(data, "route"),
        versions=_named_texts(data, "versions"),
        coverage=(*coverage, *_following(coverage, calls, known)),
        notes=tuple(_texts(data, "notes")),
    )
    _check_sums(graph, data)
    return graph


# --- the document ---------------------------------------------------------------------------------------------------


def _document(text: str) -> Any:
    """The YAML with texts for all scalars: only the entries know what they mean."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    depth = 0
    try:
        # The constructor recurses, and in C without a limit; the parser does not.
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise FormatError("not the YAML of a layer graph: it is nested too deeply")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError) as error:
        raise FormatError(f"not YAML: {yaml_place(text, error)}") from error


def _unfolded(data: dict[str, Any], text: str) -> dict[str, list[str]]:
    """The lines of each table, as many as the header counts."""
    starts = {match[1]: text.count("\n", 0, match.end()) + 2 for match in re.finditer(r"^(\w+): \|$", text, re.M)}
    counts = _named_texts(data, "counts")
    tables = {}
    for name in TABLES:
        block = _one(data, name)
        try:
            tables[name] = unfold(block.removesuffix("\n").split("\n") if block else [], starts.get(name, 1))
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from error
        if str(len(tables[name])) != counts.get(name):
            raise FormatError(f"{name}: {len(tables[name])} entries, where counts has {counts.get(name)}")
    return tables


def _one(data: dict[str, Any], key: str) -> str:
    if not isinstance(data.get(key), str):
        raise FormatError(f"not a complete layer graph: '{key}' is missing or not one value")
    return str(data[key])


def _count(data: dict[str, Any], key: str) -> int:
    try:
        return to_count(_one(data, key))
    except FormatError as error:
        raise FormatError(f"{key}: {error}") from error


def _texts(data: dict[str, Any], key: str) -> list[str]:
    found = data.get(key)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise FormatError(f"not a complete layer graph: '{key}' is missing or not a list of texts")
    return found


def _named_texts(data: dict[str, Any], key: str) -> dict[str, str]:
    found = data.get(key)
    if not isinstance(found, dict) or not all(isinstance(item, str) for item in found.values()):
        raise FormatError(f"not a complete layer graph: '{key}' is missing or not texts with names")
    return found


def _inputs(data: dict[str, Any]) -> Iterator[InputInfo]:
    found = data.get("inputs")
    keys = {item.name for item in fields(InputInfo)}
    for item in found if isinstance(found, list) else [None]:
        if not isinstance(item, dict) or set(item) != keys or not isinstance(item["shape"], list):
            raise FormatError(f"not a complete layer graph: inputs are a list with {', '.join(sorted(keys))} each")
        shape = tuple(to_count(str(size)) for size in item["shape"])
        yield InputInfo(**{key: str(value) for key, value in item.items() if key != "shape"}, shape=shape)


def _check_sums(graph: LayerGraph, data: dict[str, Any]) -> None:
    """FormatError when sums of the header are not those of the layers."""
    sums: dict[str, Any] = {"total_params": graph.total_params, "total_macs": graph.total_macs}
    for stage in dict.fromkeys(layer.stage for layer in graph.layers):
        layers = [layer for layer in graph.layers if layer.stage == stage]
        sums[f"layers of {stage}"] = len(layers)
        sums[f"macs of {stage}"] = sum(layer.macs for layer in layers)
        sums[f"params of {stage}"] = graph.params(layers)
    told: dict[str, Any] = {key: data[key] for key in ("total_params", "total_macs") if key in data}
    stages = data.get("stages")
    for stage, totals in stages.items() if isinstance(stages, dict) else ():
        of_stage = totals if isinstance(totals, dict) else {}
        told |= {f"{key} of {stage}": of_stage.get(key) for key in ("layers", "macs", "params")}
    for key, value in told.items():
        if value != str(sums.get(key)):
            raise FormatError(f"{key}: {value} in the header, but the layers have {sums.get(key)}")


# --- the tables -----------------------------------------------------------------------------------------------------


@dataclass
class _Family:
    """What goes without saying for the layers of an operator family."""

    category: str
    vector: int
    operator: str


@dataclass
class _Known:
    """What lines of layers refer to. Layers add the tensors that they declare."""

    dtype: str
    families: dict[str, _Family] = field(default_factory=dict)
    rules: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add_operator(self, words: list[str]) -> None:
        op, category, vector, operator = _exactly(4, words)
        _add(self.families, to_text(op), _Family(to_text(category), to_count(vector), to_text(operator)))

    def add_rule(self, words: list[str]) -> None:
        tag, stage, modality, rule = map(to_text, _exactly(4, words))
        _add(self.rules, tag, (stage, modality, rule))

    def add_problem(self, words: list[str]) -> None:
        _add(self.problems, words[0], Problem.parse(" ".join(words[1:])))

    def tensor(self, words: list[str], name: str, kind: str, module: str = "") -> tuple[Tensor, int]:
        """The tensor that the words declare, or the one of that name when they have no shape; and bytes that move."""
        if not words or not words[0].startswith("["):
            tensor = _get(self.tensors, name, "tensor")
            found = _settings(words, ("bytes",))
        else:
            found = _settings(words[1:], ("name", "kind", "dtype", "bits", "storage", "bytes"), module)
            name = found.get("name", name)
            dtype = found.get("dtype", self.dtype)
            bits = to_count(found["bits"]) if "bits" in found else bits_of(dtype)
            kind = found.get("kind", kind)
            storage = found.get("storage", name)
            tensor = Tensor(name, to_sizes(words[0]), dtype, bits, cast(TensorKind, kind), storage)
            _add(self.tensors, name, tensor)
        return tensor, to_count(found["bytes"]) if "bytes" in found else tensor.bytes


def _layer(words: list[str], known: _Known) -> Layer:
    words, written = _cut(words, "->")
    words, read = _cut(words, "<-")
    name, op = map(to_text, _at_least(3, words)[:2])
    family = _get(known.families, op, "operator")
    stage, modality, rule = _get(known.rules, words[2], "rule")
    work, assumptions, others, dead = [], [], [], False
    for word in words[3:]:
        match = _WORK.fullmatch(word)
        if match:
            problem = _get(known.problems, match["problem"], "problem")
            work.append(Work(problem, to_count(match["count"] or "1"), bool(match["sequential"])))
        elif word.startswith("assume="):
            assumptions.append(to_text(word.removeprefix("assume=")))
        elif word == "dead":
            dead = True
        else:
            others.append(word)
    found = _settings(others, ("vector", "module", "category", "placement", "rule"))
    module = found.get("module", module_of(name, op))
    placement = found.get("placement", "device")
    if placement not in ("device", "host"):
        raise FormatError(f"the placement '{placement}' is neither device nor host")
    reads = [
        known.tensor(group[1:], to_tensor(group[0], module), "weight", module)
        for group in _groups(read, lambda word: not word.startswith("[") and not _SETTING.match(word))
    ]
    groups = _groups(written, lambda word: word.startswith("["))
    writes = [
        known.tensor(group, default, "activation", module)
        for group, default in zip(groups, written_by(name, len(groups)), strict=True)
    ]
    vector = family.vector * elements_of([tensor for tensor, _ in writes])
    return Layer(
        name=name,
        op=op,
        category=found.get("category", family.category),
        module=module,
        stage=stage,
        modality=modality,
        reads=tuple((tensor.name, size) for tensor, size in reads),
        writes=tuple((tensor.name, size) for tensor, size in writes),
        work=tuple(work),
        vector_ops=to_count(found["vector"]) if "vector" in found else vector,
        placement=cast(Placement, placement),
        assumptions=tuple(assumptions),
        dead=dead,
        rule=found.get("rule", rule),
    )


def _coverage(words: list[str], calls: Calls) -> Coverage:
    treatment, operator, module = map(to_text, _at_least(3, words)[:3])
    reasons = [word for word in words[3:4] if not _SETTING.match(word)]
    found = _settings(words[3 + len(reasons) :], ("calls", "macs", "bytes"))
    numbers = covered(treatment, operator, module, calls) | {key: to_count(value) for key, value in found.items()}
    return coverage_of(treatment, operator, module, numbers, to_text(reasons[0]) if reasons else "")


def _following(told: list[Coverage], calls: Calls, known: _Known) -> Iterator[Coverage]:
    """The coverage that follows from the layers: of modules of one operator family of which nothing is told."""
    modules = {item.module for item in told if item.treatment != "ignored"}
    for module, op, numbers in sole_families(calls):
        if known.families[op].operator and module not in modules:
            yield coverage_of("lowered", known.families[op].operator, module, numbers)


# --- words of a line ------------------------------------------------------------------------------------------------


def _split(line: str) -> list[str]:
    if '"' not in line:
        return line.split(" ")
    words = _WORDS.findall(line)
    if " ".join(words) != line:
        raise FormatError("a quotation mark is missing")
    return words


def _cut(words: list[str], mark: str) -> tuple[list[str], list[str]]:
    """The words before and after a mark."""
    at = words.index(mark) if mark in words else len(words)
    return words[:at], words[at + 1 :]


def _exactly(count: int, words: list[str]) -> list[str]:
    if len(words) != count:
        raise FormatError(f"{len(words)} words, where {count} belong")
    return words


def _at_least(count: int, words: list[str]) -> list[str]:
    if len(words) < count:
        raise FormatError(f"{len(words)} words, where at least {count} belong")
    return words


def _groups(words: list[str], begins: Callable[[str], bool]) -> list[list[str]]:
    """The words in groups, each from one that begins a group to the next."""
    starts = [index for index, word in enumerate(words) if begins(word)]
    if words and starts[:1] != [0]:
        raise FormatError(f"'{words[0][:60]}' is not understood here")
    return [words[start:end] for start, end in pairwise([*starts, len(words)])]


def _settings(words: list[str], keys: Collection[str], module: str = "") -> dict[str, str]:
    """The texts of ``key=value`` by key; a storage is relative to ``module``."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in keys:
            raise FormatError(f"'{word[:60]}' is not understood here")
        _add(found, key, to_tensor(value, module) if key == "storage" else to_text(value))
    return found


def _add(table: dict[str, Entry], name: str, value: Entry) -> None:
    if name in table:
        raise FormatError(f"'{name}' is there twice")
    table[name] = value


def _get(table: dict[str, Entry], name: str, kind: str) -> Entry:
    if name not in table:
        raise FormatError(f"there is no {kind} '{name[:100]}'")
    return table[name]
