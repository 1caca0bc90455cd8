"""Throughput against batch, as far as the memory allows: table 1 of the across-stack poster, from a simulator.

Under the roofline more samples share the weights and nothing else, so throughput rises to the last batch that fits;
``launch_us`` of the architecture (``settings={"launch_us": 5}``) adds what small batches wait for on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from mmworkload.errors import MmworkloadError

if TYPE_CHECKING:
    from mmworkload.models.names import Options
    from mmworkload.sources import Arch

DOUBLINGS = tuple(2**power for power in range(10))
ENOUGH = 0.95
"""Of the highest throughput, what the optimal batch has at least."""


@dataclass(frozen=True)
class AtBatch:
    """One forward pass on ``batch`` samples, layer after layer. ``need_bytes`` is the memory that it takes at least;
    ``capacity_bytes`` is None where it is not known."""

    batch: int
    latency_s: float
    need_bytes: int
    capacity_bytes: int | None

    @property
    def throughput_per_s(self) -> float:
        return self.batch / self.latency_s


def by_batch(
    model: str, arch: Arch, batches: Iterable[int] = DOUBLINGS, *, simulator: str = "roofline", **how: Unpack[Options]
) -> tuple[AtBatch, ...]:
    """``model`` on one architecture at each of ``batches``, up to the first that does not fit into its memory.

    ``how`` as for :func:`mmworkload.simulate`, without the batch. Raises MmworkloadError as that does, and for a system
    of several architectures.
    """
    from mmworkload.verbs import simulate

    found: list[AtBatch] = []
    for batch in batches:
        own: Options = {**how, "batch": batch}
        result = simulate(model, arch, simulator=simulator, **own)
        if result.fit is None:
            raise MmworkloadError(f"{result.arch}: throughput against batch is of one architecture with one memory")
        if result.fit.fits is False:
            break
        found.append(AtBatch(batch, result.serial_latency_s, result.fit.need_bytes, result.fit.capacity_bytes))
    return tuple(found)


def optimal(found: Sequence[AtBatch], enough: float = ENOUGH) -> AtBatch:
    """The smallest batch with ``enough`` of the highest throughput (1: the batch of the highest itself).

    MmworkloadError when no batch fits.
    """
    if not found:
        raise MmworkloadError("no batch fits into the memory")
    best = max(item.throughput_per_s for item in found)
    return min((item for item in found if item.throughput_per_s >= enough * best), key=lambda item: item.batch)
