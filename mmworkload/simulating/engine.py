"""Simulating a workload: each unique loop nest once, everything else in closed form, all of it added up.

What runs where: multiply-accumulates, and rank-1 outer products (a matrix product with a reduction of one), run on the
array and are answered by the chosen simulator; every other operation runs on the vector unit in closed form. Attention
masks are not used: hardware without support for them computes the full rectangle. A layer's vector operations follow
its MAC work, on data that are on the chip; what the layer reads or writes beyond the operands of its loop nests (a
bias) comes on top.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError, SimulationError, UnavailableError, UnknownNameError, one_line
from mmworkload.graph import LayerGraph, Workload
from mmworkload.layer import Layer
from mmworkload.problem import ROLES, Problem, Role
from mmworkload.reporting.units import si
from mmworkload.simulating.answering import Answers, Progress, Questions, UnansweredError
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.choice import Choice, choices
from mmworkload.simulating.concurrency import concurrency, runs_of
from mmworkload.simulating.estimate import ARRAY_OPERATIONS, Options, Simulator, as_asked
from mmworkload.simulating.footprint import Fit, fits, memory_need
from mmworkload.simulating.result import LayerResult, Simulation
from mmworkload.simulating.rollup import OnChip, critical_path_s, on_chip, unit_of
from mmworkload.simulating.rows import Answer, layer_row
from mmworkload.simulating.transfers import Transfer, transfers
from mmworkload.system import System, require_stages

DTYPE_BITS = {"float64": 64, "float32": 32, "tf32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4}


def simulate(
    source: LayerGraph | Workload,
    arch: Architecture | System,
    simulator: str | Simulator = "auto",
    *,
    dtype: str | None = None,
    workers: int | None = None,
    options: Options | None = None,
    cache: bool | Cache = True,
    retry: bool = False,
    fallback: bool = True,
    progress: Progress | None = None,
) -> Simulation:
    """What ``source`` costs on ``arch``, or with each stage on its architecture of a system.

    Parameters
    ----------
    simulator: one, or a name of :func:`mmworkload.simulating.choice.simulators`, or ``auto``: the first of
        :data:`mmworkload.simulating.choice.AUTO` that answers every loop nest that the array runs, on every
        architecture; one that has no answer to one of them is passed over as a whole.
    dtype: one of :data:`DTYPE_BITS`; default is the architecture's native precision.
    workers: processes at once; default is the cores that this process may use.
    options: effort, time limit of one job, and what the simulator itself understands.
    cache: False keeps and uses nothing; a :class:`Cache` keeps it elsewhere.
    retry: run problems again that failed before.
    fallback: whether the roofline also answers for a simulator that hung or crashed; otherwise that is an error, after
        all other problems were answered and kept.
    progress: called as problems are answered.

    A problem that a simulator asked for by name cannot answer is answered by the roofline; its layers say so. Raises
    UnknownNameError for an unknown simulator or dtype, UnavailableError when the simulator asked for cannot run or has
    nothing of this on record, and SimulationError without ``fallback``.
    """
    start = time.monotonic()
    if dtype is not None and dtype not in DTYPE_BITS:
        raise UnknownNameError("dtype", dtype, DTYPE_BITS)
    system = System.of(arch)
    traced = Workload.of(source)
    workload = _on_device(traced)
    if len(system.assignments) > 1:
        require_stages(system, list(dict.fromkeys(layer.stage for part in workload.parts for layer in part.graph)))

    store = (cache if isinstance(cache, Cache) else Cache()) if cache else None
    machines = {}
    for label, (spec, layers) in _by_machine(workload, system).items():
        role_bits: dict[Role, int] = spec.bits if dtype is None else dict.fromkeys(ROLES, DTYPE_BITS[dtype])
        machines[label] = _machine(spec, role_bits, layers)
    asked = choices(simulator, [machine.arch for machine in machines.values()], options)

    def questions(choice: Choice, arch: Architecture, steps: Progress) -> Questions:
        return Questions(arch, choice, options or Options(), workers, store, retry, steps)

    chosen, found = _first_answers(asked, machines, questions, progress)
    answers = {label: item.by_key for label, item in found.items()}
    every = [answer for item in answers.values() for answer in item.values()]
    if every and not any(answer.asked for answer in every):
        raise UnavailableError(
            f"{chosen.simulator.name}: none of these loop nests is on record (mmworkload results list says which);"
            " take --simulator auto, where another one answers"
        )
    if not fallback:
        for label, machine in machines.items():
            _require_answers(machine, answers[label], chosen)

    rows: list[LayerResult] = []
    path_s = 0.0
    for index, part in enumerate(workload.parts):
        latency_s = {}
        for layer in part.graph.layers:
            label = system.runs(layer.stage).label
            machine = machines[label]
            own = {
                work.problem.key: answers[label][machine.as_run[work.problem.key].key]
                for work in layer.work
                if work.problem.key in machine.as_run
            }
            row = layer_row(layer, part, part.name or str(index), machine.arch, machine.bits["input"], own)
            rows.append(row)
            latency_s[layer.name] = row.latency_s
        # Runs of a part that do not follow each other take the time of one; a probability still scales it.
        times = part.count if part.sequential else min(part.count, 1.0)
        unit = unit_of if len(machines) == 1 else lambda layer: system.runs(layer.stage).label
        path_s += times * critical_path_s(part.graph, latency_s, unit)

    used = list(machines.values())
    bits = {machine.bits["input"] for machine in used}
    forced_bits = None if dtype is None else DTYPE_BITS[dtype]
    precision = [f"{machine.bits['input']} bits, native to {machine.arch.name}" for machine in used]
    return Simulation(
        model=workload.name,
        chosen=chosen.simulator.name,
        version=_version(chosen, every),
        fidelity=_joined(str(chosen.simulator.fidelity(machine.arch)) for machine in used),
        why=chosen.why,
        arch=system.label,
        arch_key=system.key,
        bits=bits.pop() if len(bits) == 1 else None,
        precision="; ".join(precision) if dtype is None else f"{dtype}, forced",
        traced_dtype=_joined(part.graph.dtype for part in traced.parts),
        layers=tuple(rows),
        critical_path_s=path_s,
        concurrency=concurrency(runs_of(workload, rows, next(iter(used[0].arch.levels)))) if len(used) == 1 else None,
        on_chip=_on_chip(workload, used[0].arch, used[0].bits["input"]) if len(used) == 1 else None,
        runs=sum(work.count for part in workload.parts for layer in part.graph.layers for work in layer.work),
        unique_problems=sum(len(machine.unique) for machine in used),
        cache_hits=sum(item.known for item in found.values()),
        failures=sum(bool(answer.note) for answer in every),
        seconds=time.monotonic() - start,
        device_notes=tuple(note for machine in used for note in _device_notes(machine.arch)),
        assumptions=_assumptions(part.graph for part in traced.parts),
        fit=_fit(workload, used[0].arch, used[0].bits["input"]) if len(used) == 1 else None,
        transfers=_transfers(workload, system, forced_bits),
        estimates={
            (label, key): answers[label][problem.key].estimate
            for label, machine in machines.items()
            for key, problem in machine.as_run.items()
        },
    )


@dataclass(frozen=True)
class _Machine:
    """One architecture of a system and the loop nests that its array runs: ``as_run`` is by the key of the layer's own
    problem, ``first`` has the name of the first layer with each problem by the key of that as it is run."""

    arch: Architecture
    bits: dict[Role, int]
    as_run: dict[str, Problem]
    first: dict[str, str]

    @property
    def unique(self) -> dict[str, Problem]:
        return {problem.key: problem for problem in self.as_run.values()}


def _machine(arch: Architecture, bits: dict[Role, int], layers: Iterable[Layer]) -> _Machine:
    run = as_run(layers, bits)
    first: dict[str, str] = {}
    for layer in layers:
        for work in layer.work:
            if work.problem.key in run:
                first.setdefault(run[work.problem.key].key, layer.name)
    return _Machine(arch, bits, run, first)


def _first_answers(
    asked: Sequence[Choice],
    machines: Mapping[str, _Machine],
    questions: Callable[[Choice, Architecture, Progress], Questions],
    progress: Progress | None,
) -> tuple[Choice, dict[str, Answers]]:
    """The first of ``asked`` that answers every loop nest of every machine, and its answers by label; the last one with
    what it has."""
    total = sum(len(machine.unique) for machine in machines.values())
    # Without a loop nest nobody but the closed form of the vector unit is asked.
    *before, last = asked if total else asked[-1:]
    passed: list[str] = []
    for choice in before:
        steps = _Steps(progress, total)
        found: dict[str, Answers] = {}
        try:
            for label, machine in machines.items():
                found[label] = questions(choice, machine.arch, steps).answer_all(machine.unique)
        except UnansweredError as error:
            where = f" (the first in layer '{machine.first[error.keys[0]]}')"
            passed.append(f"{choice.simulator.name}: {one_line(error)[:160]}{where}")
            continue
        return _after(choice, passed), found
    steps = _Steps(progress, total)
    found = {label: questions(last, item.arch, steps).answer(item.unique) for label, item in machines.items()}
    return _after(last, passed), found


def _after(choice: Choice, passed: Sequence[str]) -> Choice:
    """``choice`` with the reasons of those that were passed over."""
    return replace(choice, why="; ".join(filter(None, [choice.why, *passed])))


def _version(chosen: Choice, answers: Iterable[Answer]) -> str:
    """Of the chosen simulator, as its answers say: recorded ones may be of several."""
    said = (item.estimate.version for item in answers if item.estimate.simulator == chosen.simulator.name)
    return "; ".join(dict.fromkeys(said)) or chosen.version


class _Steps:
    """Progress over the machines, which are answered one after another."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress or (lambda done, total: None)
        self._total = total
        self._before = 0

    def __call__(self, done: int, total: int) -> None:
        self._progress(self._before + done, self._total)
        if done == total:
            self._before += total


def _by_machine(workload: Workload, system: System) -> dict[str, tuple[Architecture, list[Layer]]]:
    """Label to the architecture and its layers, in order of first use."""
    found: dict[str, tuple[Architecture, list[Layer]]] = {}
    for part in workload.parts:
        for layer in part.graph.layers:
            arch = system.runs(layer.stage)
            found.setdefault(arch.label, (arch, []))[1].append(layer)
    if not found:
        arch = system.architectures[0]
        found[arch.label] = (arch, [])
    return found


def as_run(layers: Iterable[Layer], role_bits: dict[Role, int]) -> dict[str, Problem]:
    """The loop nests that the array runs as simulators are asked them, by the key of the layer's own problem."""
    found: dict[str, Problem] = {}
    for layer in layers:
        for work in layer.work:
            if work.problem.operation in ARRAY_OPERATIONS and work.problem.key not in found:
                found[work.problem.key] = as_asked(work.problem, role_bits)
    return found


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _device_notes(arch: Architecture) -> list[str]:
    """What to know of a GPU or CPU that is told in the terms of an accelerator."""
    if arch.kind not in ("gpu", "cpu"):
        return []
    launch = (
        "not known and not charged" if arch.launch_us is None else f"{si(arch.launch_us * 1e-6, 's')} for each kernel"
    )
    return [f"{arch.name}: {arch.source}; starting a kernel is {launch}"]


def _fit(workload: Workload, arch: Architecture, bits: int) -> Fit | None:
    """Of the largest part: the parts follow each other."""
    needs = [memory_need(part.graph, bits) for part in workload.parts]
    return fits(max(needs, key=lambda need: need.total_bytes), arch) if needs else None


def _transfers(workload: Workload, system: System, bits: int | None) -> tuple[Transfer, ...]:
    """The weighted sum over the parts."""
    found: dict[tuple[str, str], Transfer] = {}
    for part in workload.parts:
        for item in transfers(part.graph, system, bits):
            before = found.get((item.source, item.target), Transfer(item.source, item.target, 0, 0, 0))
            found[item.source, item.target] = Transfer(
                item.source,
                item.target,
                before.tensors + item.tensors,
                before.bytes + item.bytes * part.count,
                before.seconds + item.seconds * part.count,
            )
    return tuple(found.values())


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


def _require_answers(machine: _Machine, answers: Mapping[str, Answer], chosen: Choice) -> None:
    """SimulationError when the simulator hung or crashed, which says less of the problem than of the run."""
    broken = {key: answer.note for key, answer in answers.items() if answer.broken}
    if not broken:
        return
    key = next(key for key in machine.first if key in broken)
    raise SimulationError(
        f"{chosen.simulator.name} gave no answer for {len(broken)} of {len(answers)} problems, the first in layer"
        f" '{machine.first[key]}': {broken[key].removeprefix(f'{chosen.simulator.name} gave no answer ')}. All other"
        " answers are kept. Raise --limit-s, repeat with --retry, or take --simulator auto, where the next simulator"
        " answers all of them"
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
        saved_j=sum((item.saved_j or 0.0) * count for item, count in found) if arch.charged else None,
        floor_s=sum(item.floor_s * count for item, count in found),
        kept_floor_s=sum(item.kept_floor_s * count for item, count in found),
    )
