"""Exact sums over steps, and the weights of sampled steps."""

from __future__ import annotations

import pytest

from mmworkload.generation.series import hats, series


@pytest.mark.parametrize(("steps", "stride"), [(1, 1), (2, 3), (7, 1), (1024, 1), (33, 4)])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_series_is_the_sum_of_its_terms(steps: int, stride: int, degree: int) -> None:
    def value(length: int) -> int:
        return sum((3 * order + 7) * length**order for order in range(degree + 1))

    expected = sum(value(17 + place * stride) for place in range(steps))
    assert series(value, 17, steps, stride, degree) == expected
    # A higher degree than needed changes nothing.
    assert series(value, 17, steps, stride, degree + 1) == expected


def test_a_series_asks_at_few_places() -> None:
    asked: list[int] = []

    def value(length: int) -> int:
        asked.append(length)
        return length * length

    assert series(value, 1, 1000, 1, 2) == 1000 * 1001 * 2001 // 6
    assert asked == [1, 2, 3]


def test_a_degree_that_is_too_low_gives_another_sum() -> None:
    assert series(lambda length: length * length, 1, 10, 1, 1) != sum(length * length for length in range(1, 11))


@pytest.mark.parametrize(("steps", "points"), [(1, 3), (3, 3), (4, 3), (5, 2), (128, 3), (1024, 5)])
def test_weights_add_up_to_the_steps_and_keep_straight_lines(steps: int, points: int) -> None:
    weights = hats(steps, points)
    assert sum(weights.values()) == steps
    assert sum((5 + 3 * place) * weight for place, weight in weights.items()) == sum(5 + 3 * i for i in range(steps))
    assert {0, steps - 1} <= set(weights)
    assert len(weights) == min(steps, points)


def test_weights_follow_a_line_with_a_kink_at_a_sampled_place() -> None:
    weights = hats(101, 3)
    assert sorted(weights) == [0, 50, 100]
    assert sum(max(0, place - 50) * weight for place, weight in weights.items()) == sum(range(51))
