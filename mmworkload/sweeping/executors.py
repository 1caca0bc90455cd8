"""Where jobs run: processes of this machine, or the workers of a Dask cluster. Neither keeps anything.

One executor serves all designs of a sweep: jobs are submitted as designs are enumerated, and answers come back in the
order of completion.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from mmworkload.errors import SimulationError, UnavailableError
from mmworkload.simulating.cache import CRASH, ERROR, Failure
from mmworkload.simulating.estimate import Estimate, Job
from mmworkload.simulating.workers import WorkerPool, _StoppedError, _Worker

if TYPE_CHECKING:
    import distributed

Answer = tuple[int, Estimate | Failure]
_STARTS = 25
# How workers.py reports a worker, or its guardian, that was killed; the tool's own crashes have other signals.
_KILLED = re.compile(r"the worker ended[^(]*\((signal SIGKILL|exit code -9)\)")


def was_killed(failure: Failure) -> bool:
    """Whether somebody killed the worker (a person, a scheduler, the system out of memory), rather than the job."""
    return failure.kind == CRASH and _KILLED.match(failure.message) is not None


class Executor(Protocol):
    """A context manager that runs jobs. ``workers`` is how many run at once."""

    workers: int

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def submit(self, number: int, job: Job) -> None:
        """Starts a job when a worker is free."""

    def next(self) -> Answer:
        """Waits for an answer; (number of the job, answer). Raises SimulationError when no worker can be had."""


class LocalExecutor(WorkerPool):
    """Worker processes that stay between jobs; each has its time limit, and they end with this process."""

    def __enter__(self) -> LocalExecutor:
        super().__enter__()
        self._feed: queue.SimpleQueue[tuple[int, Job] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
        self._submitted = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(queue.Empty):  # what nobody has begun is not begun any more
            while True:
                self._feed.get_nowait()
        for _ in self._threads:
            self._feed.put(None)
        super().__exit__(kind, error, trace)

    def submit(self, number: int, job: Job) -> None:
        self._submitted += 1
        if len(self._threads) < min(self.workers, self._submitted):
            thread = threading.Thread(target=self._serve, args=(len(self._threads),), daemon=True)
            self._threads.append(thread)
            thread.start()
        self._feed.put((number, job))

    def next(self) -> Answer:
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _serve(self, number: int) -> None:
        """One worker after another, started and ended by this one thread, as :meth:`WorkerPool._work` does it; but it
        waits for jobs, and somebody may kill a worker that is only starting."""
        worker: _Worker | None = None
        try:
            while (item := self._feed.get()) is not None:
                position, job = item
                result: Estimate | Failure | None = None
                while result is None:
                    worker = worker or self._started(number)
                    result = worker.run(job)
                    if not worker.alive:
                        worker = None
                self._answers.put((position, result))
        except _StoppedError:
            return
        except BaseException as error:
            self._answers.put(error)
        finally:
            if worker is not None:
                worker.close()

    def _started(self, number: int) -> _Worker:
        """A worker. SimulationError when it cannot start; one that ends without a word was killed: try again."""
        for _ in range(_STARTS):
            try:
                return _Worker(self._root, number, self._stopped)
            except SimulationError as error:
                if not str(error).endswith("it left no message"):
                    raise
        return _Worker(self._root, number, self._stopped)


class DaskExecutor:
    """The workers of a Dask cluster. Each Dask worker process has worker processes of its own for its jobs, so that a
    job that hangs or crashes is ended as on one machine; a Dask worker that dies has its jobs run by another."""

    def __init__(self, scheduler: str, options: dict[str, str]) -> None:
        try:
            import distributed
        except ImportError as error:
            raise UnavailableError("--scheduler needs Dask: pip install 'mmworkload[sweep]'") from error
        try:
            self._client: distributed.Client = distributed.Client(scheduler, set_as_default=False, timeout="20s")
        except (OSError, ValueError, TimeoutError) as error:
            raise UnavailableError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        threads: dict[str, int] = self._client.nthreads()
        self.workers = max(1, sum(threads.values()))
        self._scheduler = scheduler
        self._options = options
        self._answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
        # Dask forgets a task when nobody holds its future.
        self._futures: dict[int, distributed.Future] = {}

    def __enter__(self) -> DaskExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._futures.clear()
        self._client.close(timeout=5)

    def submit(self, number: int, job: Job) -> None:
        future = self._client.submit(run_job, asdict(job), self._options, pure=False, retries=0)
        self._futures[number] = future
        future.add_done_callback(lambda done: self._done(number, job, done))

    def next(self) -> Answer:
        while True:
            try:
                answer = self._answers.get(timeout=2.0)
            except queue.Empty:
                if self._client.status != "running":
                    raise self._gone() from None
                continue
            if isinstance(answer, BaseException):
                raise answer
            return answer

    def _done(self, number: int, job: Job, future: distributed.Future) -> None:
        """Called in a thread of Dask's."""
        try:
            if future.status == "cancelled":
                self._answers.put(self._gone())
                return
            error = future.exception(timeout=10)
            if error is None:
                reply = future.result(timeout=10)
                answer = Failure(**reply["failure"]) if "failure" in reply else Estimate.from_dict(reply["estimate"])
            elif type(error).__name__ == "KilledWorker":
                answer = Failure(CRASH, "the worker ended (signal SIGKILL): Dask lost its workers", job.limit_s)
            else:
                answer = Failure(ERROR, f"{type(error).__name__}: {error}", job.limit_s)
            self._futures.pop(number, None)
            self._answers.put((number, answer))
        except BaseException as error:
            self._answers.put(error if isinstance(error, SimulationError) else self._gone(error))

    def _gone(self, error: BaseException | None = None) -> SimulationError:
        why = f" ({type(error).__name__}: {error})" if error else ""
        return SimulationError(
            f"the Dask scheduler at {self._scheduler} is gone{why}. All finished results are kept; start it, then:"
            " mmworkload sweep resume"
        )


_own = threading.local()


def run_job(job: dict[str, Any], options: dict[str, str]) -> dict[str, Any]:
    """One job in a worker process of this Dask worker: ``{"estimate": ...}`` or ``{"failure": ...}``."""
    asked = Job(**job)
    version = _version(asked.simulator, options)
    if version != asked.version:
        reason = f"this worker has {asked.simulator} {version}, the driver {asked.version}; install the same on both"
        raise SimulationError(reason)
    if not hasattr(_own, "executor"):
        _own.executor = LocalExecutor(1).__enter__()
    _own.executor.submit(0, asked)
    _, answer = _own.executor.next()
    return {"failure": asdict(answer)} if isinstance(answer, Failure) else {"estimate": answer.to_dict()}


def _version(simulator: str, options: dict[str, str]) -> str:
    from mmworkload.simulating.choice import simulators
    from mmworkload.simulating.estimate import Options

    known = simulators()
    if simulator not in known:
        raise SimulationError(f"this worker has no simulator '{simulator}'; install the same as on the driver")
    found = known[simulator]
    configured: Callable[[Options], Any] | None = getattr(found, "configured", None)
    version: str = (configured(Options(extra=options)) if configured else found).version()
    return version
