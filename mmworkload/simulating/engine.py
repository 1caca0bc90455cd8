"""Simulating a workload: each unique loop nest once, everything else in closed form, all of it added up.

What runs where: multiply-accumulates, and rank-1 outer products (a matrix product with a reduction of one), run on the
array and are answered by the chosen simulator; every other operation runs on the vector unit in closed form. Attention
masks are not used: hardware without support for them computes the full rectangle. A layer's vector operations follow
its MAC work, on data that are on the chip; what the layer reads or writes beyond the operands of its loop nests (a
bias) comes on top.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError, SimulationError, UnavailableError, UnknownNameError
from mmworkload.graph import LayerGraph, Workload
from mmworkload.plugins import plugins
from mmworkload.problem import ROLES, Problem, Role
from mmworkload.simulating.cache import CRASH, ERROR, TIMEOUT, Cache, Failure
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options, Simulator, check
from mmworkload.simulating.result import LayerResult, Simulation
from mmworkload.simulating.rollup import OnChip, critical_path_s, on_chip
from mmworkload.simulating.roofline import closed_form
from mmworkload.simulating.rows import Answer, layer_row
from mmworkload.simulating.workers import WorkerPool

AUTO = ("timeloop", "zigzag", "roofline")
"""What ``auto`` tries, in this order."""
DTYPE_BITS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4}
ARRAY_OPERATIONS = ("mac", "mul")
Progress = Callable[[int, int], None]
"""Called with the problems done and all problems."""


def simulators() -> dict[str, Simulator]:
    """The simulators that are installed, by name, whether they can run here or not."""
    return plugins("mmworkload.simulators", "SIMULATOR")


@dataclass(frozen=True)
class Choice:
    """A simulator that can run and can be told the architecture; ``why`` says why better ones were not taken."""

    simulator: Simulator
    version: str
    fidelity: Fidelity
    why: str

    def __str__(self) -> str:
        text = f"{self.simulator.name} {self.version}"
        return f"{text} ({self.why})" if self.why else text


def choose(name: str, arch: Architecture) -> Choice:
    """The simulator called ``name``; for ``auto`` the first of :data:`AUTO` that can do it.

    Raises UnknownNameError, or UnavailableError when the one asked for cannot run here or refuses ``arch``.
    """
    known = simulators()
    if name != "auto" and name not in known:
        raise UnknownNameError("simulator", name, [*known, "auto"])
    reasons, short = [], []
    for candidate in AUTO if name == "auto" else (name,):
        simulator = known.get(candidate)
        if simulator is None:
            reasons.append(f"{candidate}: not installed")
            short.append(reasons[-1])
            continue
        reason = simulator.unavailable()
        if reason is None:
            fidelity = simulator.fidelity(arch)
            if fidelity.level != "refused":
                return Choice(simulator, simulator.version(), fidelity, "; ".join(short))
            reason = f"cannot be told {arch.name}: {', '.join(fidelity.lost)}"
            short.append(f"{candidate}: {reason}")
        else:
            # What is wrong, without what to do about it: who asked for auto has an answer.
            short.append(f"{candidate}: {re.split('[:;(]', reason)[0].strip()}")
        reasons.append(f"{candidate}: {reason}")
    raise UnavailableError(f"no simulator can run. {'; '.join(reasons)}")


def simulate(
    source: LayerGraph | Workload,
    arch: Architecture,
    simulator: str = "auto",
    *,
    dtype: str | None = None,
    workers: int | None = None,
    options: Options | None = None,
    cache: bool | Cache = True,
    retry: bool = False,
    fallback: bool = True,
    progress: Progress | None = None,
) -> Simulation:
    """What ``source`` costs on ``arch``.

    Parameters
    ----------
    simulator: a name of :func:`simulators`, or ``auto``.
    dtype: one of :data:`DTYPE_BITS`; default is the architecture's native precision.
    workers: processes at once; default is the cores that this process may use.
    options: effort, time limit of one job, and what the simulator itself understands.
    cache: False keeps and uses nothing; a :class:`Cache` keeps it elsewhere.
    retry: run problems again that failed before.
    fallback: whether the roofline also answers for a simulator that hung or crashed; otherwise that is an error, after
        all other problems were answered and kept.
    progress: called as problems are answered.

    A problem that the simulator cannot answer is answered by the roofline; its layers say so. Raises UnknownNameError
    for an unknown simulator or dtype, UnavailableError when the simulator asked for cannot run, and SimulationError
    without ``fallback``.
    """
    start = time.monotonic()
    workload = Workload.of(source)
    if dtype is not None and dtype not in DTYPE_BITS:
        raise UnknownNameError("dtype", dtype, DTYPE_BITS)
    chosen = choose(simulator, arch)
    role_bits: dict[Role, int] = arch.bits if dtype is None else dict.fromkeys(ROLES, DTYPE_BITS[dtype])
    bits = role_bits["input"]

    traced = [part.graph for part in workload.parts]
    workload = _on_device(workload)
    as_run: dict[str, Problem] = {}
    runs = 0
    for part in workload.parts:
        for layer in part.graph.layers:
            for work in layer.work:
                runs += work.count
                if work.problem.operation in ARRAY_OPERATIONS and work.problem.key not in as_run:
                    plain = replace(work.problem, operation="mac", mask=None)
                    as_run[work.problem.key] = plain.with_bits(role_bits).canonical()
    unique = {problem.key: problem for problem in as_run.values()}

    store = (cache if isinstance(cache, Cache) else Cache()) if cache else None
    task = _Task(arch, chosen, options or Options(), workers, store, retry, progress or (lambda done, total: None))
    answers, hits = task.answer(unique)
    if not fallback:
        _require_answers(workload, as_run, answers, chosen)

    rows: list[LayerResult] = []
    components: dict[str, float] = {}
    path_s = 0.0
    for index, part in enumerate(workload.parts):
        latency_s = {}
        for layer in part.graph.layers:
            own = {key: answers[as_run[key].key] for key in (work.problem.key for work in layer.work) if key in as_run}
            row, energy_j = layer_row(layer, part, part.name or str(index), arch, bits, own)
            rows.append(row)
            latency_s[layer.name] = row.latency_s
            for component, joules in energy_j.items():
                components[component] = components.get(component, 0.0) + joules * part.count
        # Runs of a part that do not follow each other take the time of one; a probability still scales it.
        times = part.count if part.sequential else min(part.count, 1.0)
        path_s += times * critical_path_s(part.graph, latency_s)
    no_energy = any(row.energy_j is None for row in rows)
    return Simulation(
        model=workload.name,
        simulator=chosen.simulator.name,
        version=chosen.version,
        fidelity=str(chosen.fidelity),
        choice=str(chosen),
        arch=arch.name,
        arch_key=arch.key,
        bits=bits,
        precision=f"{bits} bits, native to {arch.name}" if dtype is None else f"{dtype}, forced",
        traced_dtype=", ".join(dict.fromkeys(graph.dtype for graph in traced)),
        layers=tuple(rows),
        critical_path_s=path_s,
        energy_by_component_j={} if no_energy else components,
        on_chip=_on_chip(workload, arch, bits),
        runs=runs,
        unique_problems=len(unique),
        cache_hits=hits,
        failures=sum(bool(answer.note) for answer in answers.values()),
        seconds=time.monotonic() - start,
        assumptions=_assumptions(traced),
    )


def _on_device(workload: Workload) -> Workload:
    """Without the layers of the host. MmworkloadError when nothing is left."""
    parts = tuple(
        replace(part, graph=part.graph.where(lambda layer: layer.placement == "device")) for part in workload.parts
    )
    if any(part.graph.layers for part in workload.parts) and not any(part.graph.layers for part in parts):
        raise MmworkloadError(f"{workload.name}: every layer runs on the host, which is measured and not simulated")
    return replace(workload, parts=parts)


def _assumptions(graphs: Iterable[LayerGraph]) -> tuple[str, ...]:
    """What is known of the model, what its layers assume, and what was left to the host; each once."""
    found: dict[str, None] = {}
    for graph in graphs:
        found.update(dict.fromkeys(graph.notes))
        found.update(dict.fromkeys(text for layer in graph for text in layer.assumptions))
        on_host = sum(layer.placement == "host" for layer in graph)
        if on_host:
            found[f"{on_host} layers run on the host, which is measured and not simulated"] = None
    return tuple(found)


@dataclass(frozen=True)
class _Task:
    """Everything but the problems."""

    arch: Architecture
    chosen: Choice
    options: Options
    workers: int | None
    store: Cache | None
    retry: bool
    progress: Progress

    def answer(self, problems: dict[str, Problem]) -> tuple[dict[str, Answer], int]:
        """Problem key to answer, and how many were known. Two problems that give one job are one run."""
        simulator = self.chosen.simulator
        answers: dict[str, Answer] = {}
        waiting: dict[str, tuple[Job, list[str]]] = {}
        hits = 0
        self.progress(0, len(problems))

        def settle(keys: list[str], result: Estimate | Failure) -> None:
            for key in keys:
                answers[key] = self._checked(problems[key], result)
            self.progress(len(answers), len(problems))

        for key, problem in problems.items():
            try:
                job = simulator.prepare(problem, self.arch, self.options)
                if simulator.in_process:
                    settle([key], simulator.run(job, Path()))
                    continue
            except SimulationError as error:
                settle([key], Failure(ERROR, str(error), self.options.limit_s))
                continue
            if job.key in waiting:
                waiting[job.key][1].append(key)
            else:
                known = self.store.get(job.key, job.limit_s) if self.store else None
                if known is None or (self.retry and isinstance(known, Failure)):
                    waiting[job.key] = (job, [key])
                else:
                    hits += 1
                    settle([key], known)
        if waiting:
            jobs = list(waiting.values())
            with WorkerPool(self.workers) as pool:
                for position, result in pool.run([job for job, _ in jobs]):
                    job, keys = jobs[position]
                    if self.store:
                        self.store.put(job.key, result)
                    settle(keys, result)
        return answers, hits

    def _checked(self, problem: Problem, result: Estimate | Failure) -> Answer:
        """The estimate, raised to the physical floors; the roofline's where the simulator has none or a wrong one."""
        simulator = self.chosen.simulator
        if isinstance(result, Estimate):
            try:
                tolerance = getattr(simulator, "mac_tolerance", 0.0)
                return Answer(check(result, problem, self.arch, mac_tolerance=tolerance))
            except SimulationError as error:
                result = Failure(ERROR, str(error), self.options.limit_s)
        reason = " ".join(result.message.split())[:200]
        note = f"{simulator.name} gave no answer ({result.kind}): {reason}"
        return Answer(closed_form(problem, self.arch), note, broken=result.kind in (TIMEOUT, CRASH))


def _require_answers(
    workload: Workload, as_run: dict[str, Problem], answers: dict[str, Answer], chosen: Choice
) -> None:
    """SimulationError when the simulator hung or crashed, which says less of the problem than of the run."""
    broken = {key: answer.note for key, answer in answers.items() if answer.broken}
    if not broken:
        return
    layer, key = next(
        (layer.name, as_run[work.problem.key].key)
        for part in workload.parts
        for layer in part.graph.layers
        for work in layer.work
        if work.problem.key in as_run and as_run[work.problem.key].key in broken
    )
    raise SimulationError(
        f"{chosen.simulator.name} gave no answer for {len(broken)} of {len(answers)} problems, the first in layer"
        f" '{layer}': {broken[key].removeprefix(f'{chosen.simulator.name} gave no answer ')}. All other answers are"
        " kept. Raise --limit-s, repeat with --retry, or take --simulator auto, where the roofline answers instead"
    )


def _on_chip(workload: Workload, arch: Architecture, bits: int) -> OnChip | None:
    """The weighted sum over the parts."""
    parts = [(on_chip(part.graph, arch, bits), part.count) for part in workload.parts]
    found = [(item, count) for item, count in parts if item is not None]
    if not found:
        return None
    first = found[0][0]
    return OnChip(
        level=first.level,
        capacity_bytes=first.capacity_bytes,
        tensors=sum(item.tensors for item, _ in found),
        saved_bytes=sum(item.saved_bytes * count for item, count in found),
        saved_j=sum(item.saved_j * count for item, count in found),
        floor_s=sum(item.floor_s * count for item, count in found),
        kept_floor_s=sum(item.kept_floor_s * count for item, count in found),
    )
