"""Exact sums of a polynomial over evenly spaced whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import comb


def series(value: Callable[[int], int], start: int, steps: int, stride: int = 1, degree: int = 1) -> int:
    """``value(start) + value(start + stride) + ...``, ``steps`` terms, of a polynomial of at most ``degree``.

    By Newton's forward differences: the sum of ``steps`` terms is the sum over k of the k-th difference at ``start``
    times ``comb(steps, k + 1)``. ``value`` is asked at no more than ``degree + 1`` places, whatever ``steps`` is.
    """
    found = [value(start + place * stride) for place in range(min(steps, degree + 1))]
    total = 0
    for order in range(len(found)):
        total += found[0] * comb(steps, order + 1)
        found = [after - before for before, after in pairwise(found)]
    return total


def hats(steps: int, points: int) -> dict[int, float]:
    """Places among ``0 .. steps - 1`` and their weights, which add up to ``steps``: the sum of what runs in straight
    lines between the places is the weighted sum at the places."""
    if steps <= points:
        return dict.fromkeys(range(steps), 1.0)
    points = max(2, points)
    places = sorted({round(index * (steps - 1) / (points - 1)) for index in range(points)})
    weights = dict.fromkeys(places, 0.0)
    for low, high in pairwise(places):
        # A step at the fraction f of the way gives 1 - f to the low end and f to the high one.
        span = high - low
        weights[low] += (span + 1) / 2
        weights[high] += (span - 1) / 2
    weights[places[-1]] += 1.0
    return weights
