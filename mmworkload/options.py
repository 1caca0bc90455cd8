"""The options of the verbs in Python that several of them share, with their types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict

from mmworkload.models.names import Options

if TYPE_CHECKING:
    from mmworkload.tracing import Traced

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
