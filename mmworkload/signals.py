"""Signals that end a command: no traceback, nothing temporary left, exit code 128 and the signal's number."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Imported first of all, and before anything large: until then Ctrl-C is Python's.
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(KeyboardInterrupt):
    """A signal ends the command. What waits or cleans up on Ctrl-C does so for each of them."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def leave_at_once() -> None:
    """From here on an ending signal ends the process where it stands: while Python imports, reads the command line or
    winds up, nothing is open. A signal that is ignored (``nohup``) stays so."""
    _handle(lambda number, frame: _leave(number))
    # What is registered first runs last. After it Python gives up its handlers, and the process would die of a signal.
    atexit.register(_handle, signal.SIG_IGN)


@contextmanager
def unwinding() -> Iterator[None]:
    """Within it an ending signal raises :class:`Ended`, so that all that is open is closed and removed.

    Raises Ended at the end of the block too, whatever became of the first: libraries catch, replace or lose what is
    raised inside them.
    """
    received: list[int] = []
    again: list[threading.Timer] = []

    def end(number: int, frame: object) -> None:
        received.append(number)
        raise Ended(number)

    def lost(found: sys.UnraisableHookArgs) -> None:
        """Python has nobody to give the exception to that is raised in a finalizer or a callback: once more, later."""
        if not isinstance(found.exc_value, Ended):
            report(found)
            return
        again.append(threading.Timer(0.02, signal.pthread_kill, (main, found.exc_value.number)))
        again[-1].start()

    main = threading.main_thread().ident or 0
    report = sys.unraisablehook
    before = _handle(end)
    sys.unraisablehook = lost
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            raise Ended(received[0]) from None


def _handle(handler: signal._HANDLER) -> dict[int, signal._HANDLER]:
    """Sets the handler of each ending signal; those of before. None when the signal is ignored, or somebody else's."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    kept: dict[int, signal._HANDLER] = {
        number: found for number, found in before.items() if found not in (signal.SIG_IGN, None)
    }
    for number in kept:
        signal.signal(number, handler)
    return kept


def _leave(number: int) -> None:
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + number)
