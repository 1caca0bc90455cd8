"""What the tables of all verbs share."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from mmworkload.reporting.units import plural, share

TOP = 20
NO_MODALITY = "(mixed)"
Row = TypeVar("Row")
FOLDED = "Rows add up like layers (no.), whose names differ in numbers only (*)."


def top(
    rows: Sequence[Row], size: Callable[[Row], Any], every: bool, noun: str = "layer", most: int = TOP
) -> tuple[list[Row], list[str]]:
    """The rows to print and what to say about the others: all in program order, or the largest first.

    ``noun`` is what a row is called, ``most`` how many there may be without ``every``.
    """
    if every or len(rows) <= most:
        return list(rows), []
    chosen = sorted(rows, key=size, reverse=True)[:most]
    return chosen, [f"The {most} largest of {plural(len(rows), noun)}; --all lists every one."]


def folded(
    rows: Iterable[Row], name: Callable[[Row], str], same: Callable[[Row], Hashable], every: bool = False
) -> list[list[Row]]:
    """Rows that are alike together, in order of first use; with ``every`` each alone.

    Two rows are alike when their names differ in numbers only (a network's repeated blocks) and ``same`` is equal.

    >>> folded(["a.0", "a.1", "b.0"], name=str, same=len)
    [['a.0', 'a.1'], ['b.0']]
    """
    groups: dict[Hashable, list[Row]] = {}
    for index, row in enumerate(rows):
        key = index if every else (re.sub(r"\d+", "*", _first_call(name(row))), same(row))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def common_name(names: Sequence[str]) -> str:
    """The name of rows that are alike, with ``*`` for the numbers that are not the same in all of them.

    >>> common_name(["layer1.0.conv2", "layer1.1.conv2"])
    'layer1.*.conv2'
    """
    if len(names) == 1:
        return names[0]
    parts = zip(*(re.split(r"(\d+)", _first_call(name)) for name in names), strict=True)
    return "".join(part[0] if len(set(part)) == 1 else "*" for part in parts)


def _first_call(name: str) -> str:
    """The name without what tells a module's calls apart (path@1) and an operator's (path:op.1)."""
    return re.sub(r"@\d+|(:\w+)\.\d+$", r"\1", name)


def fraction(part: float, whole: float) -> str:
    """``part`` of ``whole`` as a percentage; a dash when there is no whole."""
    return share(part / whole if whole else None)
