"""What the tables of all verbs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mmworkload.reporting.units import plural, share

TOP = 20
NO_MODALITY = "(mixed)"
Row = TypeVar("Row")


def top(
    rows: Sequence[Row], size: Callable[[Row], Any], every: bool, noun: str = "layer"
) -> tuple[list[Row], list[str]]:
    """The rows to print and what to say about the others: all in program order, or the largest first.

    ``noun`` is what a row is called.
    """
    if every or len(rows) <= TOP:
        return list(rows), []
    chosen = sorted(rows, key=size, reverse=True)[:TOP]
    return chosen, [f"The {TOP} largest of {plural(len(rows), noun)}; --all lists every one."]


def kernel_noun(device: str) -> str:
    """What the time of a layer is summed over: the kernels of a GPU, the operators of a CPU."""
    return "operator" if device == "cpu" else "kernel"


def fraction(part: float, whole: float) -> str:
    """``part`` of ``whole`` as a percentage; a dash when there is no whole."""
    return share(part / whole if whole else None)
