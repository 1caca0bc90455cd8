"""How often segments run and paths are taken, for one sample and for a batch. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

Reach = dict[str, float]
"""Segment to the probability that it runs, in the order in which they run."""


def reached(leave: Sequence[tuple[str, float]], batch: int = 1) -> Reach:
    """The probability that each segment runs (eq. 4 without its last factor).

    ``leave`` are the segments in order with the probability that a sample which gets there leaves at the end. A batch
    runs on until its last sample may leave: its samples leave independently, so it is still there with
    ``1 - (1 - s) ** batch`` where one sample is with ``s``.
    """
    found: Reach = {}
    stay = 1.0
    for name, p in leave:
        found[name] = 1 - (1 - stay) ** batch if batch > 1 else stay
        stay *= 1 - p
    return found


def leaving(reach: Mapping[str, float], ends: Collection[str]) -> dict[str, float]:
    """The probability that the last segment to run is each of ``ends``; they sum to one.

    ``ends`` are segments behind which one may leave, and the last one.
    """
    names = list(reach)
    after = dict(zip(names, [*(reach[name] for name in names[1:]), 0.0], strict=True))
    return {name: reach[name] - after[name] for name in names if name in ends}
