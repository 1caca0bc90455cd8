"""How much of which workload the packs answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.graph import LayerGraph
from mmworkload.packs.pack import Pack
from mmworkload.problem import Problem
from mmworkload.simulating.engine import as_run
from mmworkload.simulating.estimate import Options
from mmworkload.simulating.recorded import find


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
    """One entry for each graph and architecture, at normal effort."""
    shelf, designs = list(packs), list(archs)
    known: dict[str, set[str]] = {}
    for pack in shelf:
        for row in pack.rows:
            known.setdefault(row.arch_key, set()).add(row.problem)
    for graph in graphs:
        for arch in designs:
            texts = known.setdefault(arch.key, set())
            wanted = problems_of(graph, arch).values()
            for problem in wanted:
                # Another problem may be the same to the simulator.
                if str(problem) not in texts and _answered(shelf, problem, arch):
                    texts.add(str(problem))
            yield Covered(graph.model, arch.name, len(wanted), sum(str(problem) in texts for problem in wanted))


def _answered(shelf: list[Pack], problem: Problem, arch: Architecture) -> bool:
    try:
        return find(shelf, problem, arch, Options()) is not None
    except SimulationError:
        return False
