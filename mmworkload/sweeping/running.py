"""The driver: designs in, rows kept, nothing lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.simulating.cache import Failure
from mmworkload.simulating.estimate import Estimate
from mmworkload.simulating.workers import available_cores
from mmworkload.sweeping import closed_form
from mmworkload.sweeping.conditions import NEED_ENERGY
from mmworkload.sweeping.evaluate import Pipeline, SweepCache, jobs_of
from mmworkload.sweeping.executors import DaskExecutor, Executor, LocalExecutor, was_killed
from mmworkload.sweeping.results import figures_of
from mmworkload.sweeping.rows import OK, Trial, table
from mmworkload.sweeping.search import Search, Values
from mmworkload.sweeping.setup import Setup, prepare
from mmworkload.sweeping.space import Design, architecture_of
from mmworkload.sweeping.spec import read
from mmworkload.sweeping.store import Store

if TYPE_CHECKING:
    import pyarrow

_SECONDS_A_SEGMENT = 3.0
_TRIALS_A_SEGMENT = 256


@dataclass
class Progress:
    """How far a sweep is. ``left_s`` is None while nothing is known; ``best`` is objective to (value, design)."""

    done: int
    total: int
    left_s: float | None = None
    best: dict[str, tuple[float, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What one run did.

    Parameters
    ----------
    designs, evaluated, failed: in all, in this run, and of those in this run without figures.
    jobs, simulator_s: simulator runs, and seconds inside them.
    seconds: wall-clock time of the driver from the first design on; ``workers`` processes were there for it.
    """

    designs: int
    evaluated: int
    failed: int
    jobs: int
    simulator_s: float
    seconds: float
    workers: int


Report = Callable[[Progress], None]


def run(
    file: Path,
    directory: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    retry: bool = False,
    progress: Report = lambda progress: None,
    loading: Callable[[int, int], None] = lambda done, total: None,
    cache: Path | None = None,
) -> Summary:
    """Runs the sweep in ``file``, or goes on with it when ``directory`` has a part of it.

    ``scheduler`` is the address of a Dask scheduler; without, ``workers`` processes of this machine run the jobs.
    ``retry`` runs again what failed before. Raises MmworkloadError: a file with a mistake, another driver at work in
    the folder, another sweep there, a full disk, a scheduler that is gone.
    """
    spec = read(file)
    text = file.read_text()
    store = Store(directory)
    store.require_room()
    with store.lock(), store.claim(text):
        store.spec()
        setup = prepare(spec, store, where=str(file), progress=loading)
        return _begun(setup, store, scheduler, workers, retry, progress, cache)


def resume(
    directory: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    retry: bool = False,
    progress: Report = lambda progress: None,
    loading: Callable[[int, int], None] = lambda done, total: None,
    cache: Path | None = None,
) -> Summary:
    """Goes on with the sweep in ``directory``; see :func:`run`."""
    store = Store(directory)
    if not store.spec_path.is_file():
        store.require()
    with store.lock():
        spec = store.spec()
        setup = prepare(spec, store, where=str(store.spec_path), progress=loading)
        return _begun(setup, store, scheduler, workers, retry, progress, cache)


def _begun(
    setup: Setup,
    store: Store,
    scheduler: str | None,
    workers: int | None,
    retry: bool,
    progress: Report,
    cache: Path | None,
) -> Summary:
    driver = _Driver(setup, store, SweepCache(cache), retry, progress)
    if closed_form.takes(setup):
        store.begin(setup.spec, setup.state, setup.notes)
        return driver.run(None)
    made: Executor
    if scheduler is None:
        made = LocalExecutor(workers or available_cores())
    else:
        made = DaskExecutor(scheduler, dict(setup.spec.options))
    with made as executor:
        driver.require_energies(executor)
        store.begin(setup.spec, setup.state, setup.notes)
        return driver.run(executor)


class _Driver:
    def __init__(self, setup: Setup, store: Store, cache: SweepCache, retry: bool, progress: Report) -> None:
        self._setup = setup
        self._store = store
        self._cache = cache
        self._retry = retry
        self._report = progress
        self._weights = {entry.name: entry.weight for entry in setup.entries}
        finished = store.finished()
        if retry:
            finished = {design: status for design, status in finished.items() if status == OK}
        self._finished = finished
        self._progress = Progress(len(finished), setup.space.count())
        self._costs: dict[str, tuple[float, ...]] = {}
        self._probes = 0
        self._probe_s = 0.0
        self._evaluated = 0
        self._failed = 0

    def require_energies(self, executor: Executor) -> None:
        """FormatError when energies are asked for and the simulator gives none: one job shows it, whose answer is
        kept. A job that fails shows nothing."""
        term = next((term for term in self._setup.spec.terms if term.metric in NEED_ENERGY), None)
        if term is None or self._finished:
            return
        design = self._setup.space.first
        try:
            arch = architecture_of(design, self._setup.bases, self._setup.estimator)
            jobs = jobs_of(arch, self._setup, design.batch)
        except MmworkloadError:
            return
        for key, job in jobs.items():
            answer = self._cache.get(key, job.limit_s)
            if answer is None:
                executor.submit(-1, job)
                _, answer = executor.next()
                if isinstance(answer, Failure) and was_killed(answer):
                    return  # the job runs again in its turn
                self._cache.put(key, answer)
                self._probes = 1
                self._probe_s = answer.seconds if isinstance(answer, Estimate) else 0.0
            if isinstance(answer, Estimate) and not answer.energy_j:
                raise FormatError(
                    f"{term} cannot be asked for: {self._setup.simulator} gives no energies; ask for latency_s"
                )
            return

    def run(self, executor: Executor | None) -> Summary:
        self._pipeline = None if executor is None else Pipeline(self._setup, self._cache, executor, retry=self._retry)
        self._start = time.monotonic()
        self._report(self._progress)
        if self._setup.spec.search.method in ("grid", "random"):
            left = (design for design in self._setup.space.designs() if design.id not in self._finished)
            for _ in self._evaluate(left):
                pass
        else:
            self._search()
        return Summary(
            designs=self._progress.total,
            evaluated=self._evaluated,
            failed=self._failed,
            jobs=self._probes + (self._pipeline.jobs if self._pipeline else 0),
            simulator_s=self._probe_s + (self._pipeline.simulator_s if self._pipeline else 0.0),
            seconds=time.monotonic() - self._start,
            workers=executor.workers if executor else 1,
        )

    def _search(self) -> None:
        spec = self._setup.spec
        known: dict[str, tuple[list[float], list[float]] | None] = {}
        points: list[dict[str, Any]] = []
        if self._finished:
            rows = self._store.table()
            kept = figures_of(rows, spec, self._weights)
            known = {design: values for design, values in kept.items() if design in self._finished}
            points = [json.loads(text) for text in rows.column("settings").drop_null().to_pylist()]
        search = Search(spec, self._setup.space, self._store, known, points)
        for designs in search.batches():
            for found in self._evaluate(designs):
                search.tell(found)

    def _evaluate(self, designs: Iterable[Design]) -> Iterator[Values]:
        """Evaluates and keeps; the values of what was just kept."""
        for rows in self._tables(designs):
            self._store.append(rows)
            values = figures_of(rows, self._setup.spec, self._weights)
            self._count(rows, values)
            yield values

    def _tables(self, designs: Iterable[Design]) -> Iterator[pyarrow.Table]:
        """Rows of whole designs: of one chunk, or of all that were complete within some seconds."""
        if self._pipeline is None:
            for _, rows in closed_form.evaluate_all(self._setup, designs):
                yield rows
            return
        trials: list[Trial] = []
        last = time.monotonic()
        try:
            for trial in self._pipeline.run(designs):
                trials.append(trial)
                if len(trials) >= _TRIALS_A_SEGMENT or time.monotonic() - last > _SECONDS_A_SEGMENT:
                    # Taken out first: what is kept once is not kept again below.
                    done, trials = trials, []
                    yield table(done)
                    last = time.monotonic()
        except GeneratorExit:
            raise
        except BaseException:
            # Interrupted, or the cluster is gone: what is complete is kept.
            if trials:
                self._store.append(table(trials))
            raise
        if trials:
            yield table(trials)

    def _count(self, rows: pyarrow.Table, values: Values) -> None:
        self._evaluated += len(values)
        self._failed += sum(found is None for found in values.values())
        progress = self._progress
        progress.done += len(values)
        elapsed = time.monotonic() - self._start
        left = max(0, progress.total - progress.done)
        progress.left_s = elapsed / self._evaluated * left if self._evaluated else None
        goals = self._setup.spec.goals
        for position, goal in enumerate(goals):
            for design, found in values.items():
                if found is None or any(violation > 0 for violation in found[1]):
                    continue
                # Of equal ones, the best by the other objectives in their order.
                cost = tuple(-item if own.maximise else item for own, item in zip(goals, found[0], strict=True))
                before = self._costs.get(str(goal))
                if before is None or (cost[position], *cost) < before:
                    self._costs[str(goal)] = (cost[position], *cost)
                    progress.best[str(goal)] = (found[0][position], design)
        self._report(progress)
