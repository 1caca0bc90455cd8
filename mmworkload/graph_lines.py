"""The compact text of a layer graph, valid YAML: a header, then tables with one line an entry, folded.

The header has what is one value. ``counts`` and the totals are there for readers, and to notice a text that is cut
off or was changed in one place only. Each table is a block of lines, folded as :mod:`mmworkload.folding` says. A line
is words between spaces; a word that is not plain is a JSON string.

==========  ==========================================================================================================
inputs      ``tensor modality role [shape] dtype``
outputs     ``tensor``
operators   ``op category``: what the layers of this operator family have for a category, unless they say otherwise
stages      ``s0 stage modality rule``: the rule holds for the layers of ``s0`` that name none
problems    ``p0 "problem"`` without the quotes, as docs/json.md explains it
tensors     ``name [shape]`` and what is not the default: what no layer writes, by default a weight
layers      ``name op s0 p0 p1*3 vector=64 <- reads -> writes``
coverage    ``treatment operator module calls macs bytes reason``
==========  ==========================================================================================================

In a layer, ``p1*3`` is a problem that runs three times (``p1*3/sequential``: each after the one before); ``vector=``,
``module=``, ``category=``, ``placement=``, ``rule=``, ``assume=`` and ``dead`` are what is not the default. A read is
``tensor``, or ``tensor=bytes`` when that is not all of it; ``.weight`` and ``:out`` stand for tensors that begin with
the layer's module. A write is ``[shape]`` and what is not the default: ``name=`` (``layer:out``, with several
``layer:out.0``), ``dtype=`` (the graph's), ``bits=`` (what the dtype says), ``kind=`` (activation), ``storage=`` (its
own), ``bytes=`` (all of it).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

from mmworkload.errors import FormatError
from mmworkload.folding import fold, unfold
from mmworkload.graph import Coverage, InputInfo, LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem

SCHEMA_VERSION = 2
TABLES = ("inputs", "outputs", "operators", "stages", "problems", "tensors", "layers", "coverage")

# A word as it is: it begins none of the forms that mean something else, and holds no separator.
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./:@#+~-]*")
_RELATIVE = re.compile(r"[.:@][A-Za-z0-9_./:@#+~-]*")
_WORDS = re.compile(r'(?:[^ "]|"(?:[^"\\]|\\.)*")+')
_SHAPE = re.compile(r"\[(?:[0-9]+(?:,[0-9]+)*)?\]", re.ASCII)
_WORK = re.compile(r"(?P<problem>p[0-9]+)(?:\*(?P<count>[0-9]+)(?P<sequential>/sequential)?)?", re.ASCII)
Entry = TypeVar("Entry")


# --- writing --------------------------------------------------------------------------------------------------------


def write(graph: LayerGraph) -> str:
    """The text of ``graph``: the same for equal graphs, and :func:`read` gives an equal one back."""
    totals = graph.totals()
    categories: dict[str, str] = {}
    for layer in graph.layers:
        categories.setdefault(layer.op, layer.category)
    rules: dict[tuple[str, str], Counter[str]] = {}
    for layer in graph.layers:
        rules.setdefault((layer.stage, layer.modality), Counter())[layer.rule] += 1
    stages = {
        place: (f"s{index}", found.most_common(1)[0][0]) for index, (place, found) in enumerate(rules.items())
    }
    problems = {key: f"p{index}" for index, key in enumerate(graph.problems)}
    written = graph.producers
    tables: dict[str, list[str]] = {
        "inputs": [
            " ".join([_word(i.tensor), _word(i.modality), _word(i.role), _shape(i.shape), _word(i.dtype)])
            for i in graph.inputs
        ],
        "outputs": [_word(name) for name in graph.outputs],
        "operators": [f"{_word(op)} {_word(category)}" for op, category in categories.items()],
        "stages": [
            f"{tag} {_word(stage)} {_word(modality)} {_word(rule)}" for (stage, modality), (tag, rule) in stages.items()
        ],
        "problems": [f"{problems[key]} {problem}" for key, problem in graph.problems.items()],
        "tensors": [
            " ".join([_word(name), *_tensor_words(tensor, name, "weight", graph.dtype)])
            for name, tensor in graph.tensors.items()
            if name not in written
        ],
        "layers": [_layer_line(graph, layer, categories, stages, problems) for layer in graph.layers],
        "coverage": [
            " ".join(
                [
                    *(_word(word) for word in (item.treatment, item.operator, item.module)),
                    *(str(number) for number in (item.calls, item.macs, item.bytes)),
                    _word(item.reason),
                ]
            )
            for item in graph.coverage
        ],
    }
    header = {
        "schema_version": SCHEMA_VERSION,
        "model": graph.model,
        "variant": graph.variant,
        "batch": graph.batch,
        "dtype": graph.dtype,
        "route": graph.route,
        "notes": list(graph.notes),
        "versions": graph.versions,
        "built_params": graph.built_params,
        "total_params": totals.params,
        "total_macs": totals.macs,
        "counts": {name: len(lines) for name, lines in tables.items()},
    }
    lines = []
    for key, value in header.items():
        if isinstance(value, dict) and value:
            lines += [f"{key}:", *(f"  {_scalar(name)}: {_scalar(item)}" for name, item in value.items())]
        elif isinstance(value, list) and value:
            lines += [f"{key}:", *(f"- {_scalar(item)}" for item in value)]
        else:
            lines.append(f"{key}: {_scalar(value)}")
    for name, table in tables.items():
        lines += [f"{name}: |", *(f"  {line}" for line in fold(table))]
    return "\n".join(lines) + "\n"


def _layer_line(
    graph: LayerGraph,
    layer: Layer,
    categories: dict[str, str],
    stages: dict[tuple[str, str], tuple[str, str]],
    problems: dict[str, str],
) -> str:
    tag, rule = stages[layer.stage, layer.modality]
    words = [_word(layer.name), _word(layer.op), tag]
    for work in layer.work:
        times = f"*{work.count}" if work.count != 1 or work.sequential else ""
        words.append(problems[work.problem.key] + times + ("/sequential" if work.sequential else ""))
    words += [
        f"{key}={_word(value)}"
        for key, value, default in (
            ("vector", str(layer.vector_ops), "0"),
            ("module", layer.module, _module(layer.name, layer.op)),
            ("category", layer.category, categories[layer.op]),
            ("placement", layer.placement, "device"),
            ("rule", layer.rule, rule),
        )
        if value != default
    ]
    words += [f"assume={_word(text)}" for text in layer.assumptions]
    words += ["dead"] * layer.dead
    if layer.reads:
        words.append("<-")
    for name, size in layer.reads:
        whole = graph.tensors[name].bytes
        short = name.removeprefix(layer.module) if layer.module else ""
        word = short if _RELATIVE.fullmatch(short) and short != name else _word(name)
        words.append(word if size == whole else f"{word}={size}")
    if layer.writes:
        words.append("->")
    for (name, size), default in zip(layer.writes, _written(layer.name, len(layer.writes)), strict=True):
        tensor = graph.tensors[name]
        words += _tensor_words(tensor, default, "activation", graph.dtype)
        words += [f"bytes={size}"] * (size != tensor.bytes)
    return " ".join(words)


def _tensor_words(tensor: Tensor, name: str, kind: str, dtype: str) -> list[str]:
    """The shape, and what differs from the defaults."""
    return [
        _shape(tensor.shape),
        *(
            f"{key}={_word(value)}"
            for key, value, default in (
                ("name", tensor.name, name),
                ("kind", tensor.kind, kind),
                ("dtype", tensor.dtype, dtype),
                ("bits", str(tensor.bits), str(_bits(tensor.dtype))),
                ("storage", tensor.storage, tensor.name),
            )
            if value != default
        ),
    ]


def _word(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _shape(shape: Iterable[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _scalar(value: Any) -> str:
    """A value of the header, the same in JSON and YAML."""
    # JSON escapes what is beyond 16 bits as a pair of surrogates, which YAML does not join.
    return re.sub(r"[^ -~]", lambda match: f"\\U{ord(match[0]):08x}", json.dumps(value, ensure_ascii=False))


# --- defaults -------------------------------------------------------------------------------------------------------


def _module(layer: str, op: str) -> str:
    """The module of a layer by its name: ``path``, ``path@1`` (its second call), ``path:op``; ``op`` is the root's."""
    path, colon, _ = layer.partition(":")
    if not colon and (path == op or path.startswith(f"{op}.")):
        return ""
    return path.partition("@")[0]


def _written(layer: str, count: int) -> list[str]:
    """Names of the tensors that a layer writes."""
    return [f"{layer}:out"] if count == 1 else [f"{layer}:out.{index}" for index in range(count)]


def _bits(dtype: str) -> int:
    """The first number in the name; 8 for a type without one (bool)."""
    number = re.search("[0-9]+", dtype)
    return int(number[0]) if number and len(number[0]) < 4 else 8


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass
class _Tables:
    """What the lines of layers refer to. Layers add the tensors that they write."""

    dtype: str
    categories: dict[str, str] = field(default_factory=dict)
    stages: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def read(text: str) -> LayerGraph:
    """The graph of a text. Raises FormatError that names the line or the entry."""
    data = _document(text)
    check_version(data, SCHEMA_VERSION)
    lines = _lines(data, text)
    tables = _Tables(_one(data, "dtype"))

    def entries(table: str, parse: Callable[[list[str]], Entry]) -> list[Entry]:
        found = []
        for line in lines[table]:
            try:
                found.append(parse(_split(line)))
            except (FormatError, ValueError) as error:
                raise FormatError(f"{table}: '{line[:100]}': {error}") from error
        return found

    inputs = entries("inputs", _input)
    outputs = entries("outputs", lambda words: _text(*_exactly(words, 1)))
    entries("operators", lambda words: _declare(tables.categories, *map(_text, _exactly(words, 2))))
    entries("stages", lambda words: _stage(words, tables))
    entries("problems", lambda words: _declare(tables.problems, words[0], Problem.parse(" ".join(words[1:]))))
    entries("tensors", lambda words: _tensor(words[1:], _text(words[0]), "weight", tables))
    layers = entries("layers", lambda words: _layer(words, tables))
    coverage = entries("coverage", _coverage)
    graph = LayerGraph(
        model=_one(data, "model"),
        variant=_one(data, "variant"),
        batch=_number(_one(data, "batch")),
        dtype=tables.dtype,
        layers=tuple(layers),
        tensors=tables.tensors,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        built_params=_number(_one(data, "built_params")),
        route=_one(data, "route"),
        versions=_many(data, "versions", dict),
        coverage=tuple(coverage),
        notes=tuple(_many(data, "notes", list)),
    )
    for key, value in (("total_params", graph.total_params), ("total_macs", graph.total_macs)):
        if _number(_one(data, key)) != value:
            raise FormatError(f"{key} is {_one(data, key)} in the header, but the layers have {value}")
    return graph


def check_version(data: Any, version: int) -> None:
    """FormatError unless ``data`` is a layer graph of this version."""
    if not isinstance(data, dict) or "schema_version" not in data:
        raise FormatError("not a layer graph: there is no schema_version")
    if str(data["schema_version"]) != str(version):
        raise FormatError(
            f"schema_version {str(data['schema_version'])[:20]} cannot be read by this version, which reads {version};"
            " trace the model again"
        )


def _document(text: str) -> Any:
    """The YAML with texts for all scalars, which only the entries know how to understand."""
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except yaml.YAMLError as error:
        raise FormatError(f"not YAML: {str(error).splitlines()[0]}") from error
    except (RecursionError, ValueError) as error:
        raise FormatError(f"not YAML of a layer graph: {type(error).__name__}") from error


def _lines(data: dict[str, Any], text: str) -> dict[str, list[str]]:
    """The lines of each table, unfolded and counted."""
    starts = {match[1]: text.count("\n", 0, match.end()) + 2 for match in re.finditer(r"^(\w+): \|$", text, re.M)}
    counts = _many(data, "counts", dict)
    tables = {}
    for name in TABLES:
        block = _one(data, name)
        try:
            tables[name] = unfold(block.removesuffix("\n").split("\n") if block else [], starts.get(name, 1))
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from error
        if str(len(tables[name])) != counts.get(name):
            raise FormatError(f"{name}: {len(tables[name])} entries, but counts says {counts.get(name, 'nothing')}")
    return tables


def _one(data: dict[str, Any], key: str) -> str:
    if not isinstance(data.get(key), str):
        raise FormatError(f"not a complete layer graph: '{key}' is missing, or not one value")
    return str(data[key])


def _many(data: dict[str, Any], key: str, kind: type[Container]) -> Container:
    found = data.get(key)
    values = found.values() if isinstance(found, dict) else found
    if not isinstance(found, kind) or not all(isinstance(item, str) for item in (*found, *values)):
        raise FormatError(f"not a complete layer graph: '{key}' is missing, or not a {kind.__name__} of texts")
    return found


def _split(line: str) -> list[str]:
    words = _WORDS.findall(line) if '"' in line else line.split(" ")
    if '"' in line and " ".join(words) != line:
        raise FormatError("a quotation mark is missing")
    return words


def _exactly(words: list[str], count: int) -> list[str]:
    if len(words) != count:
        raise FormatError(f"{len(words)} words in place of {count}")
    return words


def _text(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    text = json.loads(word) if word.startswith('"') else None
    if not isinstance(text, str):
        raise FormatError(f"'{word[:60]}' is not a plain word and not in quotation marks")
    return text


def _number(word: str) -> int:
    if not re.fullmatch("[0-9]{1,100}", word):
        raise FormatError(f"'{word[:60]}' is not a count")
    return int(word)


def _sizes(word: str) -> tuple[int, ...]:
    if not _SHAPE.fullmatch(word):
        raise FormatError(f"'{word[:60]}' is not a shape like [1,64]")
    return tuple(map(_number, re.findall("[0-9]+", word)))


def _declare(table: dict[str, Entry], name: str, value: Entry) -> Entry:
    if name in table:
        raise FormatError(f"'{name}' is there twice")
    table[name] = value
    return value


def _known(table: dict[str, Entry], name: str, kind: str) -> Entry:
    if name not in table:
        raise FormatError(f"there is no {kind} '{name}'")
    return table[name]


def _input(words: list[str]) -> InputInfo:
    tensor, modality, role, shape, dtype = _exactly(words, 5)
    return InputInfo(_text(tensor), _sizes(shape), _text(dtype), _text(modality), _text(role))


def _stage(words: list[str], tables: _Tables) -> None:
    tag, stage, modality, rule = map(_text, _exactly(words, 4))
    _declare(tables.stages, tag, (stage, modality, rule))


def _coverage(words: list[str]) -> Coverage:
    treatment, operator, module, calls, macs, size, reason = _exactly(words, 7)
    texts = map(_text, (treatment, operator, module))
    return Coverage(*texts, _number(calls), _number(macs), _number(size), _text(reason))


def _settings(words: list[str], *keys: str) -> dict[str, list[str]]:
    """The values of ``key=value`` by key."""
    found: dict[str, list[str]] = {key: [] for key in keys}
    for word in words:
        key, _, value = word.partition("=")
        _known(found, key, "setting").append(_text(value))
    return found


def _tensor(words: list[str], name: str, kind: str, tables: _Tables, *more: str) -> tuple[Tensor, int]:
    """A declared tensor, and the bytes that are moved."""
    found = _settings(words[1:], "name", "kind", "dtype", "bits", "storage", "bytes")
    name = found.
