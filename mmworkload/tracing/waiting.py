"""Word of a long trace: after ten seconds, and then at intervals, where it is and how far it has come, on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from torch.fx import Tracer

from mmworkload.tracing.recorder import Recorder
from mmworkload.visible import one_line

if TYPE_CHECKING:
    from mmworkload.tracing.program import Faked

# Seconds until the first word, and between words.
FIRST_S = 10.0
EVERY_S = 30.0


class Watch:
    """Says of the trace in the thread that made this what it is at; ``faked`` is the module that runs, once made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faked: Faked | None = None
        self.began = time.monotonic()
        self.tracing = threading.get_ident()
        # The tracer redirects the standard one.
        self.stderr = sys.stderr

    def say(self) -> None:
        """One line: the module that runs, operators so far, seconds since the start."""
        operators = self.operators()
        what = "before or after its forward pass"
        if self.faked is not None and operators is not None:
            what = f"in {self.module(self.faked) or 'the network itself'}, {operators:,} operators so far"
        elapsed = time.monotonic() - self.began
        print(one_line(f"still tracing {self.name}: {what}, {elapsed:.0f} s"), file=self.stderr, flush=True)

    def module(self, faked: Faked) -> str:
        """The path of the innermost module whose code runs, empty for the root or where none does."""
        paths = {id(module): path for path, module in list(faked.module.named_modules())}
        for frame in self._frames():
            # The first argument of what runs is the module, where it is a method of one.
            first = frame.f_code.co_varnames[: frame.f_code.co_argcount][:1]
            path = paths.get(id(frame.f_locals.get(first[0]))) if first else None
            if path is not None:
                return path
        return ""

    def operators(self) -> int | None:
        """How many operators the tracer that runs has recorded; None where none runs."""
        for frame in self._frames():
            recorder, tracer = (frame.f_locals.get(name) for name in ("recorder", "tracer"))
            if isinstance(recorder, Recorder):
                return len(recorder.alive)
            if isinstance(tracer, Tracer):
                return len(tracer.graph.nodes)
        return None

    def _frames(self) -> Iterator[FrameType]:
        """What the tracing thread is at, innermost first."""
        frame = sys._current_frames().get(self.tracing)
        while frame is not None:
            yield frame
            frame = frame.f_back


@contextmanager
def waiting(name: str) -> Iterator[Watch]:
    """Within it, a trace that takes long says so on stderr."""
    watch, done = Watch(name), threading.Event()

    def speak() -> None:
        pause = FIRST_S
        while not done.wait(pause):
            watch.say()
            pause = EVERY_S

    speaker = threading.Thread(target=speak, name="waiting", daemon=True)
    speaker.start()
    try:
        yield watch
    finally:
        done.set()
        speaker.join()
