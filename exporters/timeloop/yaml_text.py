"""YAML as Timeloop's front end wants it: text is double-quoted, because it evaluates a bare word as Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from mmworkload.visible import one_line


class Word(str):
    """A string that is written without quotes: a name that the front end defines itself (``random``, ``edp``)."""


def scalar(value: object) -> str:
    """One value. A float keeps its dot: the front end wants one for energies, and YAML 1.1 reads ``5e-09`` as text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}" if e else mantissa
    return str(value)


def mapping(items: Mapping[str, object]) -> str:
    """``{a: 1, b: "x"}`` on one line; lists and mappings inside are written the same way."""
    return "{" + ", ".join(f"{key}: {_item(value)}" for key, value in items.items()) + "}"


def sequence(items: Iterable[object]) -> str:
    """``[a, b]`` on one line."""
    return "[" + ", ".join(_item(value) for value in items) + "]"


def words(items: Iterable[str]) -> list[Word]:
    """Names that are written without quotes."""
    return [Word(item) for item in items]


def comment(lines: Iterable[str]) -> str:
    """The lines as a comment block; no line break inside a line ends it, and no control character, which YAML refuses
    in comments too, is in it."""
    return "".join(f"# {one_line(line)}".rstrip() + "\n" for line in lines)


def _item(value: object) -> str:
    if isinstance(value, Mapping):
        return mapping(value)
    if isinstance(value, (list, tuple)):
        return sequence(value)
    return scalar(value)
