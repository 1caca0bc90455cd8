"""Rank correlation of two series with ties: Spearman's rho and Kendall's tau-b. Pure Python."""

from __future__ import annotations

import statistics
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 in ascending order; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for index in order[start:stop]:
            result[index] = (start + 1 + stop) / 2
        start = stop
    return result


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's correlation of the ranks, -1 to 1; None when a side has fewer than two distinct values.

    Raises ValueError when the lengths differ.
    """
    if not _comparable(x, y):
        return None
    return _clamp(statistics.correlation(ranks(x), ranks(y)))


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's tau-b, -1 to 1; None when a side has fewer than two distinct values.

    (concordant - discordant) / sqrt((n0 - n1)(n0 - n2)), n0 all pairs, n1 and n2 those tied in x and in y (Kendall,
    Biometrika 33, 1945). Discordant pairs are the inversions of y once sorted by x (Knight, JASA 61, 1966).

    Raises ValueError when the lengths differ.
    """
    if not _comparable(x, y):
        return None
    pairs = sorted(zip(x, y, strict=True))
    every = len(pairs) * (len(pairs) - 1) // 2
    tied_x, tied_y, tied_both = _tied(x), _tied(y), _tied(pairs)
    discordant = 0
    seen: list[float] = []
    for _, value in pairs:
        discordant += len(seen) - bisect_right(seen, value)
        insort(seen, value)
    difference = every - tied_x - tied_y + tied_both - 2 * discordant
    return _clamp(difference / ((every - tied_x) * (every - tied_y)) ** 0.5)


def _comparable(x: Sequence[float], y: Sequence[float]) -> bool:
    if len(x) != len(y):
        raise ValueError(f"series of {len(x)} and {len(y)} values cannot be correlated")
    return len(set(x)) > 1 and len(set(y)) > 1


def _tied(values: Iterable[Hashable]) -> int:
    """Pairs of equal values."""
    return sum(count * (count - 1) // 2 for count in Counter(values).values())


def _clamp(value: float) -> float:
    """Rounding may leave [-1, 1] by one unit in the last place."""
    return max(-1.0, min(1.0, value))
