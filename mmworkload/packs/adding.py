"""Filling packs from the cache: what this machine's simulator has answered, for everybody."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, MmworkloadError, SimulationError, UnknownNameError
from mmworkload.graph import LayerGraph
from mmworkload.packs.coverage import problems_of
from mmworkload.packs.pack import Pack, Row
from mmworkload.packs.shelf import SUFFIX
from mmworkload.problem import Problem
from mmworkload.simulating.cache import Cache, Failure
from mmworkload.simulating.choice import simulators
from mmworkload.simulating.estimate import Estimate, Options, Simulator, check


@dataclass(frozen=True)
class Added:
    """What :func:`add` did with the unique problems of the workloads on one architecture.

    ``recorded`` rows are in the pack now, ``new`` of them since before; ``missing`` problems have no answer in the
    cache; ``refused`` gives the reason of each that has one which cannot be right, or that the simulator refused.
    """

    path: Path
    arch: str
    recorded: int
    new: int
    missing: int
    refused: dict[str, str]


def add(
    graphs: Iterable[LayerGraph],
    arch: Architecture,
    folder: Path,
    *,
    tool: str,
    simulator: str = "timeloop",
    options: Options | None = None,
    cache: Cache | None = None,
    date: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Merges the cache's answers to the problems of ``graphs`` on ``arch`` into the pack of that architecture.

    ``tool`` is what people call the simulator's version; ``date`` (ISO) is today's by default. Rows that fail the
    physical checks (MACs, floors) are refused. Raises UnknownNameError, UnavailableError when the simulator is not
    here (its version is part of every key), and FormatError for a pack of another version in the place.
    """
    known = simulators()
    if simulator not in known:
        raise UnknownNameError("simulator", simulator, known)
    tool_here: Simulator = known[simulator]
    reason = tool_here.unavailable()
    if reason:
        raise MmworkloadError(f"the cache is keyed by the version of {simulator}, which is not here: {reason}")
    path = folder / f"{simulator}-{arch.name}{SUFFIX}"
    before = Pack.load(path) if path.exists() else None
    version = tool_here.version()
    if before is not None and before.version != version:
        raise FormatError(f"{path} is of {before.label}, another version than {tool}; write into another folder")
    rows = dict(before.by_key) if before else {}
    new, missing = 0, 0
    refused: dict[str, str] = {}
    store, asked = cache or Cache(), options or Options()
    problems = {key: problem for graph in graphs for key, problem in problems_of(graph, arch).items()}
    for done, problem in enumerate(problems.values()):
        if progress:
            progress(done, len(problems))
        try:
            job = tool_here.prepare(problem, arch, asked)
        except SimulationError as error:
            refused[str(problem)] = str(error)
            continue
        found = store.get(job.key, job.limit_s)
        if found is None:
            missing += job.key not in rows
        elif isinstance(found, Failure):
            refused[str(problem)] = str(found)
        else:
            try:
                check(found, problem, arch, mac_tolerance=getattr(tool_here, "mac_tolerance", 0.0))
            except SimulationError as error:
                refused[str(problem)] = str(error)
                continue
            new += job.key not in rows
            rows[job.key] = Row.of(
                job.key, str(problem), arch.name, arch.key, asked.effort, json.dumps(job.options, sort_keys=True), found
            )
    if progress:
        progress(len(problems), len(problems))
    today = date or datetime.datetime.now(datetime.UTC).date().isoformat()
    if new or before is None:
        Pack(simulator, version, tool, today, tuple(rows.values())).save(path)
    return Added(path, arch.name, len(rows), new, missing, refused)


@dataclass(frozen=True)
class Verified:
    """One row against a new run: ``difference`` is the relative difference of cycles or of a component's energy,
    whichever is largest, of which ``allowed`` is none when the versions are the same; None with a ``reason`` without a
    new answer."""

    key: str
    arch: str
    problem: str
    cycles: int
    allowed: float
    difference: float | None = None
    reason: str = ""

    @property
    def agrees(self) -> bool:
        return self.difference is not None and self.difference <= self.allowed


def verify(
    pack: Pack, chosen: Iterable[Row], run: Callable[[Problem, str, str], Estimate], allowed: float
) -> Iterator[Verified]:
    """Runs rows again, ``run(problem, architecture's name, effort)``, and compares them as they were computed."""
    for row in chosen:
        plain = Verified(row.key, row.arch, row.problem, row.cycles, allowed)
        try:
            again = run(Problem.parse(row.problem), row.arch, row.effort)
        except MmworkloadError as error:
            yield replace(plain, reason=str(error))
            continue
        recorded = row.estimate(pack.simulator, pack.version)
        raw = again.cycles if again.floored_from is None else again.floored_from
        # By component: a sum would depend on their order in the last digit.
        pairs: list[tuple[float, float]] = [(recorded.cycles, raw)]
        for name in {*recorded.energy_j, *again.energy_j}:
            pairs.append((recorded.energy_j.get(name, 0.0), again.energy_j.get(name, 0.0)))
        yield replace(plain, difference=max(_relative(a, b) for a, b in pairs))


def _relative(recorded: float, again: float) -> float:
    if recorded == again:
        return 0.0
    return abs(again - recorded) / recorded if recorded else float("inf")
