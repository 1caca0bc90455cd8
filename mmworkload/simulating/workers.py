"""Jobs in parallel: persistent worker processes, each watched by one thread of this process.

A job has a wall-clock limit; past it the worker's whole process group is killed and a new worker takes over. A worker
that crashes costs its job only. When this process ends, by whatever means, no process and no temporary folder stays
(see :mod:`mmworkload.simulating.worker`). For POSIX systems.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from mmworkload.errors import FormatError, SimulationError
from mmworkload.simulating.cache import CRASH, ERROR, TIMEOUT, Failure
from mmworkload.simulating.estimate import Estimate, Job
from mmworkload.simulating.worker import DISMISS
from mmworkload.temporary import temporary_folder

_START_LIMIT_S = 120.0
_CLOSE_LIMIT_S = 10.0
# An answer is some kilobytes.
_LONGEST_REPLY = 1 << 26
# One worker is one core's share: the libraries that a tool loads start no threads of their own.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerPool:
    """Up to ``workers`` worker processes. A context manager: leaving it ends all of them at once."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = available_cores() if workers is None else workers
        if self.workers < 1:
            raise SimulationError(f"{self.workers} workers; at least one is needed")
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> WorkerPool:
        self._temporary = temporary_folder()
        self._root = self._temporary.__enter__()
        self._stopped, self._stop = os.pipe()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stop)
        for thread in self._threads:
            thread.join()
        os.close(self._stopped)
        self._temporary.__exit__(None, None, None)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Estimate | Failure]]:
        """(position in ``jobs``, answer) in order of completion.

        Raises SimulationError when no worker can be started.
        """
        tasks: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        answers: queue.SimpleQueue[tuple[int, Estimate | Failure] | BaseException] = queue.SimpleQueue()
        for item in enumerate(jobs):
            tasks.put(item)
        for _ in range(min(self.workers, len(jobs))):
            number = len(self._threads)
            thread = threading.Thread(target=self._work, args=(number, tasks, answers), daemon=True)
            self._threads.append(thread)
            thread.start()
        for _ in jobs:
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    def _work(
        self,
        number: int,
        tasks: queue.SimpleQueue[tuple[int, Job]],
        answers: queue.SimpleQueue[tuple[int, Estimate | Failure] | BaseException],
    ) -> None:
        # The worker is started and ended by this one thread: Linux ties "parent's death" to the starting thread.
        worker: _Worker | None = None
        try:
            while True:
                try:
                    position, job = tasks.get_nowait()
                except queue.Empty:
                    return
                result: Estimate | Failure | None = None
                while result is None:
                    if worker is None:
                        worker = _Worker(self._root, number, self._stopped)
                    result = worker.run(job)
                    if not worker.alive:
                        worker = None
                answers.put((position, result))
        except _StoppedError:
            return
        except BaseException as error:
            answers.put(error)
        finally:
            if worker is not None:
                worker.close()


class _StoppedError(Exception):
    """The pool is being left."""


class _Worker:
    """One worker process and its guardian. Raises SimulationError when it does not come up."""

    def __init__(self, root: Path, number: int, stopped: int) -> None:
        self.alive = True
        self._stopped = stopped
        self._pending = b""
        self._pid: int | None = None
        self._answered = False
        self._number = 0
        folder = Path(tempfile.mkdtemp(prefix=f"worker-{number}-", dir=root))
        self._log = root / f"{folder.name}.log"
        lifeline, self._lifeline = os.pipe()
        environment = {
            **os.environ,
            **dict.fromkeys(_ONE_THREAD, "1"),
            "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path),
            "PYTHONFAULTHANDLER": "1",
            "TMPDIR": str(folder),
        }
        command = [
            sys.executable,
            "-P",
            "-m",
            "mmworkload.simulating.worker",
            str(lifeline),
            str(folder),
            str(self._log),
        ]
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=folder,
                    env=environment,
                    start_new_session=True,
                    pass_fds=(lifeline,),
                )
        except OSError as error:
            os.close(self._lifeline)
            raise SimulationError(f"a worker process cannot be started: {error}") from error
        finally:
            os.close(lifeline)
        try:
            self._pid = self._ready()
        except BaseException:
            self.close()
            raise

    def run(self, job: Job) -> Estimate | Failure | None:
        """The answer to one job; afterwards :attr:`alive` says whether the worker can take another.

        None when the worker had ended before, between two jobs: another worker has to take this one.
        """
        self._number += 1
        request = json.dumps({"number": self._number, "job": asdict(job)}) + "\n"
        try:
            os.truncate(self._log, 0)
            assert self._process.stdin is not None
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
            line = self._read(job.limit_s)
        except TimeoutError:
            self.close()
            return Failure(TIMEOUT, f"no answer within {job.limit_s:g} s", job.limit_s)
        except (BrokenPipeError, FileNotFoundError):
            fresh = not self._answered
            code = self.close()
            return Failure(CRASH, f"the worker ended at once ({_ending(code)})", job.limit_s) if fresh else None
        if line is None:
            code = self.close()
            return Failure(CRASH, f"the worker ended ({_ending(code)}): {self._log_tail()}", job.limit_s)
        self._answered = True
        reply = _parsed(line)
        if reply.get("number") != self._number or not {"error", "estimate"} & set(reply):
            # Something else wrote into the pipe, and what comes next may be the answer to this job.
            self.close()
            return Failure(CRASH, f"the worker wrote what is no answer: {line[:80]!r}", job.limit_s)
        if "error" in reply:
            return Failure(ERROR, str(reply["error"]), job.limit_s)
        try:
            return Estimate.from_dict(reply["estimate"])
        except FormatError as error:
            return Failure(ERROR, str(error), job.limit_s)

    def close(self) -> int | None:
        """Ends the worker and all that it started; returns its exit code (None when it had to be abandoned)."""
        self.alive = False
        with suppress(OSError):
            os.write(self._lifeline, DISMISS)
        os.close(self._lifeline)
        for stream in (self._process.stdin, self._process.stdout):
            # Closing flushes what a dead worker has not read.
            with suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            return self._process.wait(_CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            if self._pid is not None:
                with suppress(OSError):
                    os.killpg(self._pid, signal.SIGKILL)
            self._process.kill()
            return None

    def _ready(self) -> int:
        """The worker's own process, once it serves. What an installation prints when Python starts is passed over."""
        deadline = time.monotonic() + _START_LIMIT_S
        try:
            while (line := self._read(deadline - time.monotonic())) is not None:
                pid = _parsed(line).get("ready")
                if isinstance(pid, int):
                    return pid
        except TimeoutError:
            pass
        raise SimulationError(f"a worker process does not start: {self._log_tail()}")

    def _read(self, limit_s: float) -> bytes | None:
        """The next line, None when the worker has ended. Raises TimeoutError, or _StoppedError when the pool ends."""
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        events = select.poll()
        events.register(handle, select.POLLIN)
        events.register(self._stopped, select.POLLIN)
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._pending and len(self._pending) < _LONGEST_REPLY:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            # In steps: a stray process that left the group may hold the pipe open after the worker's end.
            ready = {item for item, _ in events.poll(min(remaining, 1.0) * 1000)}
            if self._stopped in ready:
                raise _StoppedError
            if handle in ready:
                received = os.read(handle, 1 << 16)
                if not received:
                    return None
                self._pending += received
            elif self._process.poll() is not None:
                return None
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _log_tail(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - 16384))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            text = ""
        # A fatal error tells most first, everything else last.
        fatal = text.rfind("Fatal Python error")
        lines = [line.strip() for line in text[max(fatal, 0) :].splitlines() if line.strip()]
        return " | ".join(lines[-6:] if fatal < 0 else lines[:6])[:1000] or "it left no message"


def _parsed(line: bytes) -> dict[str, Any]:
    """A reply; empty when it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _ending(code: int | None) -> str:
    if code is not None and code > 128:
        with suppress(ValueError):
            return f"signal {signal.Signals(code - 128).name}"
    return f"exit code {code}"
