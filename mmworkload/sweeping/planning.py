"""What a sweep would do, before it does: designs, layers, jobs that are left, and how long they may take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mmworkload.errors import MmworkloadError
from mmworkload.simulating.cache import Failure
from mmworkload.simulating.estimate import Estimate, Job
from mmworkload.simulating.workers import available_cores
from mmworkload.sweeping import closed_form
from mmworkload.sweeping.evaluate import SweepCache, jobs_of
from mmworkload.sweeping.executors import LocalExecutor
from mmworkload.sweeping.setup import Setup, prepare
from mmworkload.sweeping.space import Design, architecture_of
from mmworkload.sweeping.spec import read
from mmworkload.sweeping.store import Store
from mmworkload.temporary import temporary_folder

_LOOKED_AT = 400
_TIMED = 3


@dataclass(frozen=True)
class Plan:
    """What is to do.

    Parameters
    ----------
    method, simulator, version, why: how designs are chosen, who answers, and why not a better one.
    designs, finished: in all, and of those the ones that are kept already.
    refused, reason: of the designs looked at, those whose architecture is not consistent, and the first reason.
    workloads, layers: of the mix, and layers of all of them.
    problems: loop nests over all designs, one a layer, before anything is shared.
    jobs, cached: different simulator runs, and those whose answer is known. Where ``looked_at`` is less than
        ``designs``, both are extrapolated from that many designs (an upper bound, as more designs share more).
    seconds_a_job: of the few jobs that were timed; None when nothing has to run, or is not timed.
    loading_s: what reading and tracing the workloads took now, and will take again in a sweep that was not begun.
    seconds: of the whole sweep, with ``workers`` processes and ``loading_s``; None when not known.
    """

    method: str
    simulator: str
    version: str
    why: str
    designs: int
    finished: int
    looked_at: int
    refused: int
    reason: str
    workloads: int
    layers: int
    problems: int
    jobs: int
    cached: int
    seconds_a_job: float | None
    loading_s: float
    seconds: float | None
    workers: int


def plan(
    file: Path,
    directory: Path | None = None,
    *,
    workers: int | None = None,
    timed: bool = True,
    cache: Path | None = None,
    loading: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Reads the sweep in ``file`` and looks at its designs; ``timed`` also runs a few jobs, whose answers are kept.

    ``directory`` is where the sweep is, if it was begun. Raises MmworkloadError for a file with a mistake, and
    when another sweep is there.
    """
    spec = read(file)
    if directory is not None:
        Store(directory).require_same(file.read_text())
    count = workers or available_cores()
    with temporary_folder() as folder:
        store = Store(directory or folder)
        if store.exists:
            store.spec()
        else:
            store = Store(folder)
        started = time.monotonic()
        setup = prepare(spec, store, where=str(file), progress=loading)
        loading_s = time.monotonic() - started
        finished = len(store.finished()) if store.exists else 0
    designs = setup.space.count()
    looked = list(islice(_sample(setup), _LOOKED_AT))
    known = SweepCache(cache)
    jobs: dict[str, Job] = {}
    refused = 0
    reason = ""
    for design in looked:
        try:
            arch = architecture_of(design, setup.bases, setup.estimator)
            jobs.update(jobs_of(arch, setup, design.batch))
        except MmworkloadError as error:
            refused += 1
            reason = reason or f"{design.label}: {error}"
    left = {key: job for key, job in jobs.items() if known.get(key, job.limit_s) is None}
    parts = (part for found in setup.workloads.values() for workload in found.values() for part in workload.parts)
    graphs = [part.graph for part in parts]
    nests = [sum(len(layer.work) for layer in graph) for graph in graphs]
    scale = designs / len(looked) if looked else 0.0
    seconds_a_job: float | None = None
    seconds: float | None = None
    todo = designs - finished
    if closed_form.takes(setup):
        # The first evaluation also prepares what all designs share.
        first, rest = _closed_form_s(setup, looked[:1]), _closed_form_s(setup, looked)
        seconds = first + rest * todo / max(1, len(looked))
    elif timed and left:
        seconds_a_job = _timed(list(left.values()), known, count)
        seconds = seconds_a_job * len(left) * scale / count
    elif not left:
        seconds = 0.0
    if seconds is not None:
        seconds += loading_s
    return Plan(
        method=spec.search.method,
        simulator=setup.simulator,
        version=setup.version,
        why=setup.why,
        designs=designs,
        finished=finished,
        looked_at=len(looked),
        refused=refused,
        reason=" ".join(reason.split()),
        workloads=len(setup.entries),
        layers=sum(len(graph) for graph in graphs),
        problems=round(sum(nests) / len(spec.batches) * designs),
        jobs=round(len(jobs) * scale),
        cached=round((len(jobs) - len(left)) * scale),
        seconds_a_job=seconds_a_job,
        loading_s=loading_s,
        seconds=seconds,
        workers=count,
    )


def _sample(setup: Setup) -> list[Design]:
    """Designs to look at: the first of a grid or random search that is small enough, else spread over the space."""
    space = setup.space
    if setup.spec.search.method in ("grid", "random") and space.count() <= _LOOKED_AT:
        return list(space.designs())
    chosen = setup.spec.search.model_copy(update={"method": "random", "budget": min(_LOOKED_AT, space.count())})
    spread = type(space)(setup.spec.model_copy(update={"search": chosen}), setup.bases)
    return list(spread.random())


def _timed(jobs: list[Job], cache: SweepCache, workers: int) -> float:
    """Mean seconds of a few jobs, spread over all; one that fails counts with the time until then."""
    picked = jobs[:: max(1, len(jobs) // _TIMED)][:_TIMED]
    seconds = []
    with LocalExecutor(min(workers, len(picked))) as executor:
        started = time.monotonic()
        for number, job in enumerate(picked):
            executor.submit(number, job)
        for _ in picked:
            number, answer = executor.next()
            cache.put(picked[number].key, answer)
            if isinstance(answer, Estimate):
                seconds.append(answer.seconds)
            elif isinstance(answer, Failure):
                seconds.append(time.monotonic() - started)
    return statistics.mean(seconds)


def _closed_form_s(setup: Setup, designs: list[Design]) -> float:
    start = time.monotonic()
    for _ in closed_form.evaluate_all(setup, designs):
        pass
    return time.monotonic() - start
