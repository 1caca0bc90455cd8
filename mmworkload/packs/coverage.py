"""How much of which workload the packs answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.graph import LayerGraph
from mmworkload.packs.pack import Pack
from mmworkload.problem import Problem
from mmworkload.simulating.engine import as_run


def problems_of(graph: LayerGraph, arch: Architecture) -> dict[str, Problem]:
    """The unique problems that ``arch`` would run, in its native precision, by key."""
    layers = (layer for layer in graph.layers if layer.placement == "device")
    return {problem.key: problem for problem in as_run(layers, arch.bits).values()}


@dataclass(frozen=True)
class Covered:
    """Of the unique problems of ``model`` (a workload's snapshot) on ``arch``, how many are recorded."""

    model: str
    arch: str
    problems: int
    recorded: int


def coverage(graphs: Iterable[LayerGraph], archs: Iterable[Architecture], packs: Iterable[Pack]) -> Iterator[Covered]:
    """One entry for each graph and architecture, at any effort."""
    known: dict[str, set[str]] = {}
    for pack in packs:
        for row in pack.rows:
            known.setdefault(row.arch_key, set()).add(row.problem)
    designs = list(archs)
    for graph in graphs:
        for arch in designs:
            wanted = [str(problem) for problem in problems_of(graph, arch).values()]
            found = sum(problem in known.get(arch.key, ()) for problem in wanted)
            yield Covered(graph.model, arch.name, len(wanted), found)
