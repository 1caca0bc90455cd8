"""Errors, quantiles and distances against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from mmworkload.validating.accuracy import accuracy, distance, quantile


def test_errors_of_known_ratios() -> None:
    found = accuracy("Conv", [("a", 1.1), ("b", 0.8), ("c", 2.0)], excluded=4)

    assert (found.rows, found.excluded) == (3, 4)
    assert (found.median, found.worst) == pytest.approx((0.2, 1.0))
    assert found.worst_row == "c"
    # Between the second and the third error: 0.2 + 0.8 (1 - 0.2).
    assert found.p90 == pytest.approx(0.84)
    assert found.bias == pytest.approx(math.exp((math.log(1.1) + math.log(0.8) + math.log(2)) / 3))


def test_nothing_to_compare_has_no_figures() -> None:
    found = accuracy("Conv", [], excluded=2)

    assert (found.rows, found.excluded, found.median, found.p90, found.worst, found.bias) == (
        0,
        2,
        None,
        None,
        None,
        None,
    )


def test_quantiles_are_those_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    values = [5.0, 1.0, 4.0, 2.0]

    for part in (0, 0.1, 0.5, 0.9, 1):
        assert quantile(values, part) == pytest.approx(numpy.quantile(values, part))


def test_the_distance_of_shares() -> None:
    assert distance([0.5, 0.5], [0.5, 0.5]) == 0
    assert distance([1, 0], [0, 1]) == 1
    assert distance([0.6, 0.4], [0.5, 0.5]) == pytest.approx(0.1)
