"""Progress on stderr: a bar in a terminal, elsewhere (a log, a batch job) a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmworkload.visible import visible

EVERY_S = 30.0
"""Seconds between two lines of a log."""


def log(line: Callable[..., str]) -> Callable[..., None]:
    """A function that prints ``line`` of its arguments, first after :data:`EVERY_S` and then as often."""
    start = last = time.monotonic()

    def show(*arguments: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY_S:
            last = now
            print(f"{line(*arguments)} [{now - start:.0f} s]", file=sys.stderr, flush=True)

    return show


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yields ``progress(done, total)``; the bar of a terminal disappears at the end."""
    title = visible(title)
    if not sys.stderr.isatty():
        yield log(lambda done, total: f"{title}: {done:,} of {total:,}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as display:
        task = display.add_task(title, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)
