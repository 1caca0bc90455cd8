"""Designs to trials: one design by itself, and many through one executor, each different job once."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, MmworkloadError, SimulationError, UnknownNameError
from mmworkload.layer import Layer
from mmworkload.problem import ROLES, Problem, Role
from mmworkload.simulating.cache import CRASH, TIMEOUT, Cache, Failure
from mmworkload.simulating.choice import choose
from mmworkload.simulating.engine import DTYPE_BITS, as_run, simulate
from mmworkload.simulating.estimate import Estimate, Job
from mmworkload.simulating.result import Simulation
from mmworkload.sweeping.executors import Executor, was_killed
from mmworkload.sweeping.rows import KILLED, Trial, failed, succeeded
from mmworkload.sweeping.setup import Setup, area_mm2
from mmworkload.sweeping.space import Design, architecture_of
from mmworkload.sweeping.store import FullDiskError
from mmworkload.system import System

if TYPE_CHECKING:
    from mmworkload.graph import LayerGraph

ATTEMPTS = 4
"""How often a job runs whose worker is killed by somebody."""
_REMEMBERED = 20_000
_WAITING_DESIGNS = 256


class SweepCache(Cache):
    """The cache of simulator results, which a sweep cannot do without: what cannot be kept is an error. The latest
    answers are also in memory, and there alone those that are no fault of the job."""

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self._recent: OrderedDict[str, Estimate | Failure] = OrderedDict()

    def get(self, key: str, limit_s: float) -> Estimate | Failure | None:
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        found = super().get(key, limit_s)
        if found is not None:
            self._remember(key, found)
        return found

    def put(self, key: str, result: Estimate | Failure) -> None:
        if not (isinstance(result, Failure) and was_killed(result)):
            super().put(key, result)
        self._remember(key, result)

    def _remember(self, key: str, result: Estimate | Failure) -> None:
        self._recent[key] = result
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _warn(self, message: str) -> None:
        raise FullDiskError(
            f"{message}. A sweep keeps every answer at once and stops here; all finished results are kept. Make room,"
            " then: mmworkload sweep resume"
        )


def evaluate(design: Design, setup: Setup, cache: Cache | None = None) -> Trial:
    """One design: every workload simulated, a failure as a trial with its reason.

    Equal arguments give equal trials, timing apart. What ``cache`` does not have is run here. Raises MmworkloadError
    only for what is no fault of the design.
    """
    store = cache or SweepCache()
    try:
        arch = architecture_of(design, setup.bases, setup.estimator)
    except (ArchitectureError, SimulationError, UnknownNameError) as error:
        return failed(design, str(error))
    found: dict[str, Simulation] = {}
    for entry in setup.entries:
        try:
            found[entry.name] = simulate(
                setup.workloads[design.batch][entry.name],
                arch,
                setup.simulator,
                dtype=setup.spec.dtype,
                workers=1,
                options=setup.options,
                cache=store,
                fallback=False,
            )
        except FullDiskError:
            raise
        except MmworkloadError as error:
            reason = f"{entry.name}: {error}"
            problems, killed = _failures(arch, setup, design, store)
            return failed(design, reason, problems, KILLED if killed else "failed")
    batches = {name: found.batch for name, found in setup.workloads[design.batch].items()}
    return succeeded(design, setup.entries, found, batches, area_mm2(arch))


def _failures(arch: Architecture | System, setup: Setup, design: Design, store: Cache) -> tuple[str, bool]:
    """What the jobs of a design that hung or crashed left behind, and whether one was killed by somebody."""
    lines = []
    killed = False
    for key, job in jobs_of(arch, setup, design.batch).items():
        found = store.get(key, job.limit_s)
        if isinstance(found, Failure) and found.kind in (TIMEOUT, CRASH):
            lines.append(f"{job.simulator} job {key[:16]}: {found}")
            killed |= was_killed(found)
    return "\n".join(lines), killed


@dataclass(frozen=True)
class _Task:
    """One architecture and the loop nests that it runs."""

    arch: Architecture
    problems: Mapping[str, Problem]


_as_run: dict[tuple[int, tuple[tuple[Role, int], ...]], tuple[LayerGraph, dict[str, Problem]]] = {}


def jobs_of(arch: Architecture | System, setup: Setup, batch: int | None) -> dict[str, Job]:
    """Key to job of all that ``setup.simulator`` is asked for one design; what it refuses is left out.

    Raises MmworkloadError when the simulator cannot be told the architecture.
    """
    found: dict[str, Job] = {}
    for task in _tasks(arch, setup, batch):
        simulator = choose(setup.simulator, task.arch, setup.options).simulator
        if simulator.in_process:
            continue
        for problem in task.problems.values():
            try:
                job = simulator.prepare(problem, task.arch, setup.options)
            except SimulationError:
                continue
            found.setdefault(job.key, job)
    return found


def _tasks(arch: Architecture | System, setup: Setup, batch: int | None) -> Iterator[_Task]:
    system = System.of(arch)
    for machine in system.architectures:
        bits = machine.bits if setup.spec.dtype is None else dict.fromkeys(ROLES, DTYPE_BITS[setup.spec.dtype])
        problems: dict[str, Problem] = {}
        for graph in (part.graph for entry in setup.entries for part in setup.workloads[batch][entry.name].parts):
            if len(system.assignments) > 1:
                own = as_run(_own_layers(graph, system, machine), bits)
            else:
                own = _known_as_run(graph, bits)
            problems.update((problem.key, problem) for problem in own.values())
        yield _Task(machine, problems)


def _own_layers(graph: LayerGraph, system: System, machine: Architecture) -> list[Layer]:
    return [layer for layer in graph if layer.placement == "device" and system.runs(layer.stage).label == machine.label]


def _known_as_run(graph: LayerGraph, bits: dict[Role, int]) -> dict[str, Problem]:
    """Of all layers on the device; the same for every design of one precision."""
    key = (id(graph), tuple(sorted(bits.items())))
    if key not in _as_run:
        # The graph is held, so that its id stays its own.
        _as_run[key] = (graph, as_run((layer for layer in graph if layer.placement == "device"), bits))
    return _as_run[key][1]


@dataclass
class _Pending:
    """A design whose jobs are not all answered."""

    design: Design
    missing: set[str] = field(default_factory=set)


class Pipeline:
    """Evaluates designs through one executor: a job that several designs need runs once, and those of the next designs
    start while the last ones of the design before still run."""

    def __init__(self, setup: Setup, cache: SweepCache, executor: Executor, *, retry: bool = False) -> None:
        self._setup = setup
        self._cache = cache
        self._executor = executor
        self._retry = retry
        self._numbers: dict[int, tuple[str, Job]] = {}
        self._running: dict[str, list[_Pending]] = {}
        self._attempts: dict[str, int] = {}
        self._settled: set[str] = set()
        self._waiting = 0
        self._next = 0
        self.simulator_s = 0.0
        """Seconds inside the simulator, of all workers."""
        self.jobs = 0
        """Jobs that were run."""

    def run(self, designs: Iterable[Design]) -> Iterator[Trial]:
        """Trials in the order in which they are complete."""
        ready: deque[Design] = deque()
        for design in designs:
            pending = self._start(design)
            if pending is None:
                yield evaluate(design, self._setup, self._cache)
            else:
                self._waiting += 1
            # Enough jobs are under way for every worker to find the next one while we evaluate.
            while len(self._running) > 2 * self._executor.workers or self._waiting > _WAITING_DESIGNS:
                ready += self._settle()
                while ready:
                    yield evaluate(ready.popleft(), self._setup, self._cache)
        while self._running:
            for found in self._settle():
                yield evaluate(found, self._setup, self._cache)

    def _start(self, design: Design) -> _Pending | None:
        """Submits what is not known; None when all is, or the design has no jobs."""
        try:
            arch = architecture_of(design, self._setup.bases, self._setup.estimator)
            jobs = jobs_of(arch, self._setup, design.batch)
        except MmworkloadError:
            return None  # evaluate says why
        pending = _Pending(design)
        for key, job in jobs.items():
            if key not in self._running:
                known = self._cache.get(key, job.limit_s)
                again = self._retry and isinstance(known, Failure) and key not in self._settled
                if known is not None and not again:
                    continue
                self._running[key] = []
                self._submit(key, job)
            self._running[key].append(pending)
            pending.missing.add(key)
        return pending if pending.missing else None

    def _submit(self, key: str, job: Job) -> None:
        self._numbers[self._next] = (key, job)
        self._executor.submit(self._next, job)
        self._next += 1

    def _settle(self) -> list[Design]:
        """Waits for one answer; the designs that it completes."""
        number, answer = self._executor.next()
        key, job = self._numbers.pop(number)
        if isinstance(answer, Failure) and was_killed(answer):
            self._attempts[key] = self._attempts.get(key, 1) + 1
            if self._attempts[key] <= ATTEMPTS:
                self._submit(key, job)
                return []
        self._cache.put(key, answer)
        if self._retry:
            self._settled.add(key)
        self.jobs += 1
        if isinstance(answer, Estimate):
            self.simulator_s += answer.seconds
        found = []
        for pending in self._running.pop(key):
            pending.missing.discard(key)
            if not pending.missing:
                self._waiting -= 1
                found.append(pending.design)
        return found
