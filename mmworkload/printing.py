"""Where words leave the program: results alone on stdout, messages on stderr, one line each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

from mmworkload.errors import MmworkloadError
from mmworkload.visible import one_line

_results: TextIO | None = None
"""Where results go while a command runs; None outside of one, where that is ``sys.stdout``."""


class OutputError(MmworkloadError):
    """Standard output that takes nothing more (a full disk), or that is closed."""


def tell(text: str) -> None:
    """One line on stderr: a warning, or what was written where."""
    print(one_line(text), file=sys.stderr, flush=True)


def results() -> TextIO:
    """The stream of the results."""
    return _results or sys.stdout


def put(text: str) -> None:
    """Writes to :func:`results`. OutputError when it takes nothing more; a reader who left is a BrokenPipeError."""
    with _told():
        results().write(text)


def put_line(text: str) -> None:
    """:func:`put` of one line, in which nothing steers a terminal."""
    put(f"{one_line(text)}\n")


@contextmanager
def results_apart() -> Iterator[None]:
    """Within it, stdout belongs to :func:`put`: what anybody else prints (code of a user, a plug-in) goes to stderr.

    At its end the results are flushed: OutputError as in :func:`put`.
    """
    global _results
    if _results is not None:
        yield
        return
    _results = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
        flush(_results)
    finally:
        _results = None


def flush(stream: TextIO) -> None:
    """Writes out what ``stream`` holds back. OutputError as in :func:`put`."""
    with _told():
        stream.flush()


def discard(stream: TextIO | None) -> None:
    """What ``stream`` still holds is given up, so that Python does not try it again at the end."""
    if stream is None:
        return
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def claim_stdout() -> None:
    """For a process that ends with its command: keeps the real standard output for results, also from code in C.

    From here on descriptor 1 is stderr. OutputError when standard output is closed.
    """
    if sys.stderr is None:
        # Nobody reads messages; descriptor 2 must not become the next file that is opened.
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 2)
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    if sys.stdout is None:
        raise OutputError("standard output is closed, and results go there; send it to a file, or to /dev/null")
    kept = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    sys.stdout = kept


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error
