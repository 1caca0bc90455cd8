"""Ending a process with all that it started, also what has a session of its own. Linux; elsewhere its group alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ENDS_BY_ITSELF = "mmworkload-watchdog"
"""An argument of processes that outlast the one that started them, to clean up after it: they and theirs are spared."""


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills ``process``, the leader of a process group, with its group and its descendants, and waits for it."""
    if process.poll() is None:
        # So that it starts nothing while we look.
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGSTOP)
    below = list(descendants(process.pid))
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in below:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(root: int) -> Iterator[int]:
    """The processes under ``root`` that run, those of :data:`ENDS_BY_ITSELF` apart."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name of the program, in parentheses, may hold anything.
            state, parent, *_ = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if state != "Z":
                children.setdefault(int(parent), []).append(int(place.name))
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if not _ends_by_itself(pid):
                waiting.append(pid)
                yield pid


def _ends_by_itself(pid: int) -> bool:
    with suppress(OSError):
        return ENDS_BY_ITSELF.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False
