"""Telling a tool the unique problems of a workload: what exporters with one file a problem share.

A tool has a committed table of the families of operators that it cannot be told, each with its reason and its source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.naming import FileNames
from mmworkload.exporters.timeloop.problem_file import problem_name
from mmworkload.exporters.work_items import WorkItem, work_items
from mmworkload.exporting import ManifestRow
from mmworkload.graph import Workload
from mmworkload.problem import Problem
from mmworkload.simulating.estimate import as_asked

T = TypeVar("T")


@dataclass(frozen=True)
class Family:
    """A family of operators that is left out. ``reason`` begins what a manifest says; ``source`` is where it shows."""

    operators: str
    reason: str
    source: str


HOST = Family("pre-processing", "runs on the host", "mmworkload/layer.py, placement: the host is measured instead")


class InexpressibleError(SimulationError):
    """A problem of one of the families."""

    def __init__(self, family: Family, detail: str) -> None:
        super().__init__(f"{family.reason}; {detail}")
        self.family = family


@dataclass(frozen=True)
class Told(Generic[T]):
    """A problem as it is simulated, the same in the tool's terms, and the layers that run it, each once."""

    problem: Problem
    terms: T
    layers: dict[str, None] = field(default_factory=dict)


def tell(
    workload: Workload, arch: Architecture, translate: Callable[[Problem, str], T], *, vector: Family, movement: Family
) -> tuple[tuple[ManifestRow, ...], dict[str, Told[T]]]:
    """The manifest's rows, and the problems that the tool can be told, by file name in order of first use.

    ``translate`` takes a problem and its name, and raises InexpressibleError; ``vector`` and ``movement`` are why the
    tool is not told of layers without a loop nest.
    """
    told: dict[str, Told[T]] = {}

    names = FileNames(workload)
    asked: dict[Problem, tuple[str, str]] = {}

    def place(problem: Problem, layer: str) -> tuple[str, str]:
        """(file name, "") of a problem, or ("", reason)."""
        if problem not in asked:
            plain = as_asked(problem, arch.bits)
            try:
                terms = translate(plain, problem_name(plain))
            except InexpressibleError as error:
                asked[problem] = "", str(error)
            else:
                asked[problem] = names.name(plain, layer), ""
                told.setdefault(asked[problem][0], Told(plain, terms))
        return asked[problem]

    def without_problem(item: WorkItem) -> str:
        """Why an item is left out whatever its loop nest, or an empty string."""
        if item.work is None:
            return vector.reason if item.layer.vector_ops else movement.reason
        return HOST.reason if item.layer.placement == "host" else ""

    rows = []
    for item in work_items(workload):
        name, excluded = "", without_problem(item)
        if item.work and not excluded:
            name, excluded = place(item.work.problem, item.name)
        if name:
            told[name].layers[item.name] = None
        rows.append(item.manifest_row(f"problems/{name}.yaml", excluded))
    return tuple(rows), told
