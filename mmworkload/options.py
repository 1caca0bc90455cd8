"""The options of the verbs in Python that several of them share, with their types."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, ParamSpec, TypedDict, TypeVar

from mmworkload.models.names import Options

if TYPE_CHECKING:
    from mmworkload.tracing import Traced

P = ParamSpec("P")
R = TypeVar("R")

Progress = Callable[[int, int], None]
"""Called with what is done and the total."""


class SimulateOptions(TypedDict, total=False):
    """How simulators are run: see :func:`mmworkload.verbs.simulate`."""

    effort: str
    limit_s: float
    workers: int | None
    cache: bool
    retry: bool
    extra: Mapping[str, str] | None


class MeasureOptions(Options, total=False):
    """How a model is measured, and what is said about it: see :func:`mmworkload.verbs.measure`."""

    device: str
    mode: str
    only: Iterable[str]
    warmup: int
    repeats: int
    limit_s: float
    compiled: bool
    cuda_graph: bool
    streams: bool
    energy: bool
    counters: bool
    traced: Traced | None
    progress: Progress | None


def takes(options: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a verb whose further keywords are those of the typed dictionary ``options``: any other is a TypeError
    before anything runs, with the nearest names, as a function without such keywords gives it.

    A typed dictionary alone is checked by type checkers only, and a misspelt name would be dropped in silence.
    """

    def checked(verb: Callable[P, R]) -> Callable[P, R]:
        known = {*signature(verb).parameters, *options.__annotations__}

        @wraps(verb)
        def call(*args: P.args, **named: P.kwargs) -> R:
            for name in named.keys() - known:
                near = difflib.get_close_matches(name, sorted(known), n=3)
                advice = f". Did you mean {' or '.join(near)}?" if near else ""
                raise TypeError(f"{verb.__name__}() got an unexpected keyword argument '{name}'{advice}")
            return verb(*args, **named)

        return call

    return checked
