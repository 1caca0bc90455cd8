"""What writing and reading share: the form of a word, and what goes without saying."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmworkload.errors import FormatError
from mmworkload.graph import Coverage
from mmworkload.layer import Layer, Tensor

SCHEMA_VERSION = 2
TABLES = ("problems", "operators", "rules", "tensors", "layers", "coverage", "outputs")

# A word as it is: it is none of the forms that mean something else, and holds no separator.
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./:@#+~-]*")
_INSIDE = re.compile(r"[.:@][A-Za-z0-9_/][A-Za-z0-9_./:@#+~-]*")
# Longer ones are no sizes, and would only cost time.
_SHAPE = re.compile(r"\[(?:[0-9]+(?:,[0-9]+){0,31})?\]")
_COUNT = re.compile("[0-9]{1,30}")

# Module, operator family, and then the numbers of coverage by name.
Calls = dict[str, dict[str, dict[str, int]]]


def check_version(data: Any, version: int) -> None:
    """FormatError unless ``data`` is a layer graph of this version."""
    if not isinstance(data, dict) or "schema_version" not in data:
        raise FormatError("not a layer graph: there is no schema_version")
    found = str(data["schema_version"])
    if found != str(version):
        raise FormatError(
            f"schema_version {found[:20]} cannot be read by this version, which reads {version}; trace the model again"
        )


# --- words ----------------------------------------------------------------------------------------------------------


def to_word(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def to_text(word: str) -> str:
    """The inverse of :func:`to_word`. Raises FormatError."""
    if _PLAIN.fullmatch(word):
        return word
    try:
        text = json.loads(word) if word.startswith('"') else None
    except ValueError:
        text = None
    if not isinstance(text, str):
        raise FormatError(f"'{word[:60]}' is neither a plain word nor a JSON string")
    return text


def to_name(tensor: str, module: str) -> str:
    """A tensor's name as a word, relative to the layer's module or the modules around it where that is shorter."""
    for up, base in _around(module):
        inside = tensor.removeprefix(base)
        if inside != tensor and _INSIDE.fullmatch(inside):
            return up + inside
    return to_word(tensor)


def to_tensor(word: str, module: str) -> str:
    """The inverse of :func:`to_name`. Raises FormatError."""
    for up, base in _around(module):
        if word.startswith(up) and _INSIDE.fullmatch(word[len(up) :]):
            return base + word[len(up) :]
    return to_text(word)


def _around(module: str) -> Iterator[tuple[str, str]]:
    """The module with nothing before a relative name, then the two around it with one more dot each."""
    for up in ("", ".", ".."):
        if module:
            yield up, module
        module = module.rpartition(".")[0]


def to_shape(sizes: Iterable[int]) -> str:
    return f"[{','.join(map(str, sizes))}]"


def to_sizes(word: str) -> tuple[int, ...]:
    """The inverse of :func:`to_shape`. Raises FormatError."""
    if not _SHAPE.fullmatch(word):
        raise FormatError(f"'{word[:60]}' is not a shape like [1,64]")
    return tuple(map(to_count, re.findall("[0-9]+", word)))


def to_count(word: str) -> int:
    """A natural number. Raises FormatError."""
    if not _COUNT.fullmatch(word):
        raise FormatError(f"'{word[:60]}' is not a count")
    return int(word)


# --- what goes without saying ---------------------------------------------------------------------------------------


def module_of(layer: str, op: str) -> str:
    """The module of a layer by its name: ``path``, ``path@1`` (its second call), ``path:op``; ``op`` is the root's."""
    path, colon, _ = layer.partition(":")
    if not colon and (path == op or path.startswith(f"{op}.")):
        return ""
    return path.partition("@")[0]


def written_by(layer: str, count: int) -> list[str]:
    """Names of the ``count`` tensors that a layer writes."""
    return [f"{layer}:out"] if count == 1 else [f"{layer}:out.{index}" for index in range(count)]


def bits_of(dtype: str) -> int:
    """The first number in the name of a type; 8 for one without (bool)."""
    number = re.search("[0-9]{1,4}", dtype)
    return int(number[0]) if number else 8


def elements_of(written: Sequence[Tensor]) -> int:
    """What the vector operations of a layer go by: the elements of the first tensor that it writes."""
    return written[0].elements if written else 0


def calls_by_module(layers: Iterable[Layer]) -> Calls:
    """What the layers of each module, in order of first use, come to: of each operator family, and "" for all."""
    found: Calls = {}
    for layer in layers:
        for op in dict.fromkeys(("", layer.op)):
            entry = found.setdefault(layer.module, {}).setdefault(op, {"calls": 0, "macs": 0, "bytes": 0})
            entry["calls"] += 1
            entry["macs"] += layer.macs
            entry["bytes"] += layer.bytes
    return found


def covered(treatment: str, operator: str, module: str, calls: Calls) -> dict[str, int]:
    """The numbers that coverage of an operator in a module has by default."""
    families = calls.get(module, {}) if treatment != "ignored" else {}
    family = operator.rpartition(".")[2].rstrip("_")
    return families.get(family) or families.get("") or {"calls": 1, "macs": 0, "bytes": 0}


def sole_families(calls: Calls) -> Iterator[tuple[str, str, dict[str, int]]]:
    """(module, operator family, numbers) of each module whose layers all are of one family."""
    for module, families in calls.items():
        if len(families) == 2:
            family = next(op for op in families if op)
            yield module, family, families[family]


def coverage_of(treatment: str, operator: str, module: str, numbers: Mapping[str, int], reason: str = "") -> Coverage:
    return Coverage(treatment, operator, module, numbers["calls"], numbers["macs"], numbers["bytes"], reason)
