"""The tables of ``show --coverage``: how each operator of a trace was treated, and what share that makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmworkload.graph import TREATMENTS
from mmworkload.reporting.tables.common import fraction
from mmworkload.reporting.terminal import Cell, Name, Prose, section, table
from mmworkload.reporting.units import si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.graph import Coverage, LayerGraph

_MEANING = {
    "lowered": "Lowered: became a layer",
    "ignored": "Ignored: moves no bytes",
    "unknown": "Unknown: no lowering, bytes only",
}


def coverage_tables(graph: LayerGraph) -> list[RenderableType]:
    """Sums by treatment, then each operator under its treatment, largest first.

    Shares are of the whole trace, also when ``graph`` is a part of it.
    """
    groups = {name: [item for item in graph.coverage if item.treatment == name] for name in TREATMENTS}
    whole = _Sum(graph.coverage)

    def total(name: str, items: Sequence[Coverage]) -> list[Cell]:
        return [name, f"{len({item.operator for item in items}):,}", *_Sum(items).cells(whole)]

    rows = [*(total(name, items) for name, items in groups.items()), total("all", graph.coverage)]
    columns = ["<treatment", ">operators", ">calls", ">MACs", ">share", ">bytes", ">share"]
    parts = [section(graph.model, "Operator calls of the trace, by treatment", "", table(columns, rows))]
    parts += [_operators(name, items, whole) for name, items in groups.items() if items]
    return parts


def _operators(treatment: str, items: Sequence[Coverage], whole: _Sum) -> RenderableType:
    """One row an operator and reason; where calls are unknown, and so must be looked for, one a module."""
    where = treatment == "unknown"
    groups: dict[tuple[str, str, str], list[Coverage]] = {}
    for item in items:
        groups.setdefault((item.operator, item.module if where else "", item.reason), []).append(item)
    sums = {key: _Sum(group) for key, group in groups.items()}
    ordered = sorted(sums, key=lambda key: (-sums[key].macs, -sums[key].bytes, -sums[key].calls, key))
    rows: list[list[Cell]] = []
    for key in ordered:
        operator, module, reason = key
        if treatment == "lowered":
            rows.append([Name(operator), *sums[key].cells(whole)])
        elif where:
            calls, _, _, moved, part = sums[key].cells(whole)
            rows.append([Name(operator), Name(module or "(root)"), calls, moved, part, Prose(reason)])
        else:
            rows.append([Name(operator), f"{sums[key].calls:,}", Prose(reason)])
    columns = {
        "lowered": ["<operator", ">calls", ">MACs", ">share", ">bytes", ">share"],
        "ignored": ["<operator", ">calls", "<reason"],
        "unknown": ["<operator", "<module", ">calls", ">bytes", ">share", "<what is missing"],
    }
    return section(_MEANING[treatment], table(columns[treatment], rows, tight=where))


class _Sum:
    """Calls, MACs and bytes of some entries."""

    def __init__(self, items: Sequence[Coverage]) -> None:
        self.calls = sum(item.calls for item in items)
        self.macs = sum(item.macs for item in items)
        self.bytes = sum(item.bytes for item in items)

    def cells(self, whole: _Sum) -> tuple[str, str, str, str, str]:
        """Calls, MACs and their share, bytes and their share."""
        return (
            f"{self.calls:,}",
            si(self.macs),
            fraction(self.macs, whole.macs),
            si(self.bytes, "B"),
            fraction(self.bytes, whole.bytes),
        )
