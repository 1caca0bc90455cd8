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
    known: dict[str, dict[str, bool]] = {arch.key: {} for arch in designs}
    for pack in shelf:
        for row in pack.rows:
            known.setdefault(row.arch_key, {})[row.problem] = True
    for graph in graphs:
        # Architectures of one precision run the same problems.
        wanted: dict[frozenset[tuple[str, int]], dict[str, Problem]] = {}
        for arch in designs:
            precision = frozenset(arch.bits.items())
            if precision not in wanted:
                wanted[precision] = {str(problem): problem for problem in problems_of(graph, arch).values()}
            problems, answers = wanted[precision], known[arch.key]
            for text, problem in problems.items():
                if text not in answers:
                    # Another problem may be the same to the simulator.
                    answers[text] = _answered(shelf, problem, arch)
            yield Covered(graph.model, arch.name, len(problems), sum(answers[text] for text in problems))


def _answered(shelf: list[Pack], problem: Problem, arch: Architecture) -> bool:
    try:
        return find(shelf, problem, arch, Options()) is not None
    except SimulationError:
        return False
