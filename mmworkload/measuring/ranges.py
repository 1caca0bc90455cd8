"""The range round each node that a measured forward pass runs: torch's profiler range, or another tool's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from mmworkload.measuring.attribution import NODE

Opener = Callable[[str], AbstractContextManager[object]]

_OPENER: ContextVar[Opener | None] = ContextVar("opener", default=None)


def node_range(key: str) -> AbstractContextManager[object]:
    """The range of the node with this key: a range of torch's profiler, unless :func:`opened_by` said otherwise."""
    opener = _OPENER.get()
    if opener is not None:
        return opener(key)
    from torch.profiler import record_function

    return record_function(f"{NODE}{key}")


@contextmanager
def opened_by(opener: Opener) -> Iterator[None]:
    """Within it, ``opener`` makes the range of each node from its key."""
    token = _OPENER.set(opener)
    try:
        yield
    finally:
        _OPENER.reset(token)
