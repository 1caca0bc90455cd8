"""What the snapshots in ``shapes/`` say about the size of a workload, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmworkload.graph import InputInfo, LayerGraph, StageTotals
from mmworkload.tracing.snapshot import path_of


@dataclass(frozen=True)
class Totals:
    """Multiply-accumulates, and parameters that the forward pass reads (tied ones once)."""

    macs: int
    params: int


@dataclass(frozen=True)
class Sizes:
    """Sums of one graph at its ``batch``."""

    batch: int
    totals: Totals
    inputs: tuple[InputInfo, ...]
    stages: dict[str, StageTotals]


def totals_of(model: str) -> Totals | None:
    """The totals of ``workload/variant`` at its defaults; None when there is no snapshot of it.

    The head of the snapshot is enough, which takes far less time. Raises FormatError when it cannot be read.
    """
    path = path_of(model)
    return None if path is None else _totals(path)


def sizes_of(model: str) -> Sizes | None:
    """The sizes of ``workload/variant`` at its defaults, from all of its snapshot; None when there is none.

    Raises FormatError when the snapshot cannot be read.
    """
    path = path_of(model)
    if path is None:
        return None
    graph = LayerGraph.load(path)
    return Sizes(graph.batch, Totals(graph.total_macs, graph.total_params), graph.inputs, graph.stages)


def _totals(path: Path) -> Totals:
    found: dict[str, int] = {}
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            key, _, value = line.rstrip().partition(": ")
            if key in ("total_macs", "total_params") and value.isdecimal():
                found[key] = int(value)
            if len(found) == 2:
                return Totals(found["total_macs"], found["total_params"])
    graph = LayerGraph.load(path)
    return Totals(graph.total_macs, graph.total_params)
