"""Equations 3, 4, 6 and 7 by hand, and orders against brute force."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from mmworkload.exits import ExitError
from mmworkload.exits.branch import Branch
from mmworkload.exits.probability import leaving, reached
from mmworkload.exits.utility import (
    cheapest_order,
    exit_probabilities,
    expected,
    incurred,
    index,
    most_useful_order,
    phi,
    serialised,
    utilities,
    utility,
)

FIRST = Branch("a", (0.5, 0.25), (2.0, 3.0), rest=4.0, accuracy=(0.6, 0.8))
SECOND = Branch("b", (0.2,), (10.0,), rest=1.0, accuracy=(0.9,))


def _random(names: str, rng: random.Random, *, p: float | None = None, exits: int | None = None) -> list[Branch]:
    branches = []
    for name in names:
        count = exits or rng.randint(1, 4)
        branches.append(
            Branch(
                name,
                tuple(p if p is not None else rng.random() for _ in range(count)),
                tuple(rng.random() for _ in range(count)),
                accuracy=tuple(sorted(rng.random() for _ in range(count))),
            )
        )
    return branches


def _best(branches: list[Branch], weight: float) -> float:
    return max(utility(list(order), weight) for order in permutations(branches))


def _value(branches: list[Branch], names: tuple[str, ...], weight: float) -> float:
    known = {item.name: item for item in branches}
    return utility([known[name] for name in names], weight)


def test_utility_of_exit_counts_all_cost_before_it() -> None:
    # 100 * 0.6 - 2, 100 * 0.8 - (2 + 3), 100 * 0.9 - (2 + 3 + 4 + 10): eq. 3, with the rest of the first encoder.
    assert utilities([FIRST, SECOND], 100.0) == [(58.0, 75.0), (pytest.approx(71.0),)]


def test_exit_probability_is_the_product_over_all_earlier_exits() -> None:
    found = exit_probabilities([FIRST, SECOND])
    assert found == [(0.5, 0.125), (pytest.approx(0.375 * 0.2),)]
    assert utility([FIRST, SECOND], 100.0) == pytest.approx(0.5 * 58 + 0.125 * 75 + 0.075 * 71)


def test_phi_by_hand() -> None:
    # q = 0.6, e = 2: (1 - 0.36) (0.4 (0.5 - 0.1) + 0.24 (0.7 - 0.3)) - 0.36 (0.4 + 0.24) 0.3
    branch = Branch("a", (0.4, 0.4), (0.1, 0.2), accuracy=(0.5, 0.7))
    assert phi(branch, 0.4, 1.0) == pytest.approx(0.64 * (0.16 + 0.096) - 0.36 * 0.64 * 0.3)


def test_expected_cost_by_hand() -> None:
    # 2, then 3 with 0.5, 4 and 10 with 0.375, 1 and the fusion's 7 with 0.375 * 0.8.
    assert expected([FIRST, SECOND], 7.0) == pytest.approx(2 + 1.5 + 0.375 * 14 + 0.3 * 8)
    # The rest of the first encoder waits until the fusion needs it.
    assert expected([FIRST, SECOND], 7.0, "last") == pytest.approx(2 + 1.5 + 0.375 * 10 + 0.3 * 12)
    assert incurred(FIRST) == pytest.approx(2 + 1.5 + 0.375 * 4)


def test_a_batch_stays_until_its_last_sample_leaves() -> None:
    # One of two samples stays behind p = 0.5 with 1 - 0.5 ** 2 = 0.75, behind the next exit with 1 - 0.625 ** 2.
    assert reached([("x", 0.5), ("y", 0.25), ("z", 0.0)], 2) == {"x": 1, "y": 0.75, "z": 1 - 0.625**2}
    assert expected([FIRST], 7.0, batch=2) == pytest.approx(2 + 0.75 * 3 + (1 - 0.625**2) * 11)


def test_probabilities_to_leave_sum_to_one_for_any_batch() -> None:
    rng = random.Random(1)
    for batch in (1, 2, 7, 64):
        leave = [(str(number), rng.random()) for number in range(6)] + [("fusion", 0.0)]
        reach = reached(leave, batch)
        ends = leaving(reach, set(reach))
        assert sum(ends.values()) == pytest.approx(1.0)
        assert all(value >= 0 for value in ends.values())
        assert list(reach.values()) == sorted(reach.values(), reverse=True)


def test_serialisation_is_brute_force_under_its_assumptions() -> None:
    rng = random.Random(2)
    for _ in range(200):
        branches = _random("abcd", rng, p=rng.random(), exits=rng.randint(1, 3))
        weight = rng.choice([0.0, 0.5, 2.0])
        found = _value(branches, serialised(branches, weight), weight)
        assert found == pytest.approx(_best(branches, weight), rel=1e-12, abs=1e-12)


def test_serialisation_is_wrong_where_probabilities_differ() -> None:
    # Nearly nobody leaves in the cheap modality, nearly everybody in the other: the mean hides it.
    cheap = Branch("cheap", (0.02,), (0.2,), accuracy=(0.5,))
    sure = Branch("sure", (0.95,), (0.25,), accuracy=(0.5,))
    branches = [cheap, sure]
    assert serialised(branches, 1.0) == ("cheap", "sure")
    assert most_useful_order(branches, 1.0) == ("sure", "cheap")
    assert utility([cheap, sure], 1.0) == pytest.approx(0.02 * 0.3 + 0.98 * 0.95 * (0.5 - 0.45))
    assert utility([sure, cheap], 1.0) == pytest.approx(0.95 * 0.25 + 0.05 * 0.02 * (0.5 - 0.45))
    assert cheapest_order(branches, 1.0) == ("sure", "cheap")


def test_serialisation_is_wrong_where_numbers_of_exits_differ() -> None:
    rng = random.Random(3)
    wrong = 0
    for _ in range(200):
        branches = _random("abc", rng, p=0.4)
        wrong += _value(branches, serialised(branches, 1.0), 1.0) < _best(branches, 1.0) - 1e-9
    assert 0 < wrong < 200


def test_the_index_is_brute_force_under_any_probabilities_and_numbers_of_exits() -> None:
    rng = random.Random(4)
    for _ in range(200):
        branches = _random("abcd", rng)
        weight = rng.choice([0.0, 0.5, 2.0])
        by_index = tuple(item.name for item in sorted(branches, key=lambda item: -index(item, weight)))
        assert _value(branches, by_index, weight) == pytest.approx(_best(branches, weight), rel=1e-12, abs=1e-12)


def test_the_index_without_accuracies_has_the_least_expected_cost() -> None:
    rng = random.Random(5)
    for _ in range(100):
        branches = _random("abcd", rng)
        known = {item.name: item for item in branches}
        by_index = sorted(branches, key=lambda item: -index(item, 0.0))
        best = [known[name] for name in cheapest_order(branches, 3.0)]
        assert expected(by_index, 3.0) == pytest.approx(expected(best, 3.0), rel=1e-12)


def test_an_encoder_that_nobody_leaves_comes_last() -> None:
    never = Branch("never", (0.0, 0.0), (0.001, 0.001))
    assert index(never, 1.0) == float("-inf")
    assert cheapest_order([never, SECOND], 1.0) == ("b", "never")


def test_beyond_eight_modalities_the_index_orders() -> None:
    branches = _random("abcdefghi", random.Random(6))
    known = {item.name: item for item in branches}
    order = cheapest_order(branches, 0.0)
    values = [index(known[name], 0.0) for name in order]
    assert values == sorted(values, reverse=True)
    with pytest.raises(ExitError, match="too many orders"):
        cheapest_order(branches, 0.0, batch=2)
