"""The process in which simulators run: ``python -m mmworkload.simulating.worker LIFELINE FOLDER LOG``.

It splits in two. The *guardian* does nothing but wait; the *worker* leads a process group of its own, reads jobs from
stdin and writes answers to stdout, one JSON object a line, each with the number of its job. When the lifeline (a pipe
from the parent) ends, whatever the parent died of, or when the worker ends, the guardian kills the worker's whole group
and, on Linux, all that ever came from it: processes whose parent died are handed to the guardian, also those that left
the group. So no tool that the worker started survives it. The worker could not do this for itself: a tool's C code may
hold it for minutes.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmworkload.processes import descendants

DISMISS = b"q"
"""Written on the lifeline when the parent itself wants the worker gone (and removes the files)."""

# Of Linux's prctl.
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_END_LIMIT_S = 5.0
_PARENTS_WORD_MS = 2000


def main(lifeline: int, folder: Path, log: Path) -> None:
    """Guards in one process, serves in the other."""
    _guard(lifeline, folder, log)
    _serve(folder)


def _guard(lifeline: int, folder: Path, log: Path) -> None:
    """Forks. Returns in the worker; in the guardian, waits for an end of either side and never returns."""
    parent, guardian = os.getppid(), os.getpid()
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    # The wake-up pipe is what counts; a signal without a handler would not be written to it.
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    _control(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _control(_PR_SET_CHILD_SUBREAPER, 1)
    worker = os.fork()
    if worker == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for handle in (wake, waker, lifeline):
            os.close(handle)
        os.setpgid(0, 0)
        _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(1)
        return
    # Both set it, since either may be first.
    with suppress(OSError):
        os.setpgid(worker, worker)
    # The pipes of the protocol belong to the worker alone, so that their ends can be seen.
    os.close(0)
    os.close(1)
    events = select.poll()
    events.register(lifeline, select.POLLIN)
    events.register(wake, select.POLLIN)
    while True:
        ready = {handle for handle, _ in events.poll()}
        # Children end that the worker left behind, too.
        if lifeline in ready or signal.SIGTERM in os.read(wake, 1 << 12) or _has_ended(worker):
            break
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    _end_descendants()
    _remove(folder)
    # A parent that lives says so on the lifeline, here at once or when it sees that the worker is gone. One that dies
    # ends the lifeline, but perhaps only after its death was signalled to us: its threads do not all die together.
    events.unregister(wake)
    ended = bool(events.poll(_PARENTS_WORD_MS)) and os.read(lifeline, 1) != DISMISS
    if ended or os.getppid() != parent:
        # Nobody needs what the other workers have there either: they end as this one does.
        _remove(log.parent)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _remove(folder: Path) -> None:
    """Removes ``folder``, in which processes that are just being killed may still write for a moment."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def _has_ended(worker: int) -> bool:
    """Whether the worker has, which stays to be waited for: until then nobody else gets the number of its group. Other
    children are waited for here."""
    if not hasattr(os, "waitid"):  # macOS, where there are no others
        return True
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if ended.si_pid == worker:
            return True
        os.waitpid(ended.si_pid, 0)
    return False


def _end_descendants() -> None:
    """Kills what the worker left; again and again, since what is being killed may have started more."""
    deadline = time.monotonic() + _END_LIMIT_S
    while (left := list(descendants(os.getpid()))) and time.monotonic() < deadline:
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _control(option: int, value: int) -> None:
    """Linux: a signal when the parent dies, or the orphans among our descendants as children. Elsewhere the lifeline
    and the group alone have to do."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _serve(folder: Path) -> None:
    """Answers jobs until stdin ends. Tools get an empty stdin, and what they print goes to the log (stderr)."""
    requests = os.fdopen(os.dup(0), "r")
    replies = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)

    from mmworkload.simulating.choice import simulators

    known = simulators()
    _reply(replies.write, replies.flush, {"ready": os.getpid()})
    for line in requests:
        request = json.loads(line)
        answer = _answer(known, request["job"], folder)
        _reply(replies.write, replies.flush, {"number": request["number"], **answer})


def _reply(write: Callable[[str], object], flush: Callable[[], object], content: dict[str, Any]) -> None:
    write(json.dumps(content) + "\n")
    flush()


def _answer(known: Mapping[str, Any], job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs one job in a private folder that is gone afterwards: ``{"estimate": ...}`` or ``{"error": ...}``."""
    from mmworkload.errors import MmworkloadError
    from mmworkload.simulating.estimate import Job

    directory = Path(tempfile.mkdtemp(prefix="job-", dir=folder))
    os.chdir(directory)
    start = time.monotonic()
    try:
        estimate = known[job["simulator"]].run(Job(**job), directory)
        return {"estimate": replace(estimate, seconds=time.monotonic() - start).to_dict()}
    except MmworkloadError as error:
        return {"error": str(error)}
    # A tool may leave by exit().
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        os.chdir(folder)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
