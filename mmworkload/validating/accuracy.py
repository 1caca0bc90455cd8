"""How far simulated figures are from measured ones. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_SHARE = 0.01
"""Layers with less of the measured time than this are left out of errors."""


@dataclass(frozen=True)
class Accuracy:
    """Relative errors ``abs(simulated / measured - 1)`` of some rows.

    Parameters
    ----------
    name: of the rows, such as the operator class.
    rows, excluded: counted; left out, since they are small or one side has no time.
    median, p90, worst: of the errors, None without rows; ``worst_row`` is whose it is.
    bias: geometric mean of simulated over measured: above one, the model is too slow.
    """

    name: str
    rows: int
    excluded: int
    median: float | None
    p90: float | None
    worst: float | None
    worst_row: str
    bias: float | None


def accuracy(name: str, ratios: Sequence[tuple[str, float]], excluded: int = 0) -> Accuracy:
    """``ratios`` are (row, simulated over measured), all positive."""
    if not ratios:
        return Accuracy(name, 0, excluded, None, None, None, "", None)
    errors = {row: abs(ratio - 1) for row, ratio in ratios}
    worst = max(errors, key=lambda row: errors[row])
    values = [abs(ratio - 1) for _, ratio in ratios]
    return Accuracy(
        name=name,
        rows=len(values),
        excluded=excluded,
        median=statistics.median(values),
        p90=quantile(values, 0.9),
        worst=errors[worst],
        worst_row=worst,
        bias=math.exp(statistics.fmean(math.log(ratio) for _, ratio in ratios)),
    )


def quantile(values: Sequence[float], part: float) -> float:
    """By linear interpolation between the sorted values (numpy's default); at least one value."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Half the sum of absolute differences of two distributions (total variation): 0 equal, 1 nothing in common."""
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) / 2
