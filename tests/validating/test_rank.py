"""Rank correlations against values worked out by hand, and against scipy where that is installed."""

from __future__ import annotations

import random

import pytest

from mmworkload.validating.rank import kendall, ranks, spearman

# x, y, rho, tau-b. Worked out by hand: ranks and their products, pairs counted one by one.
KNOWN = [
    ([1, 2, 3, 4], [10, 20, 30, 40], 1.0, 1.0),
    ([1, 2, 3, 4], [4, 3, 2, 1], -1.0, -1.0),
    # d = (-1, 1, 0, 0): rho = 1 - 6 * 2 / (4 * 15); one pair of six is turned round.
    ([1, 2, 3, 4], [2, 1, 3, 4], 0.8, 4 / 6),
    # Ranks (1, 2.5, 2.5, 4) and (1, 4, 2.5, 2.5): products of deviations 2.25 + 0 + 0 + 0 over 4.5;
    # pairs: 3 concordant, 1 discordant, one tied on each side: 2 / sqrt(5 * 5).
    ([1, 2, 2, 3], [1, 3, 2, 2], 0.5, 0.4),
    # Ranks (4, 3, 1.5, 1.5) and (1.5, 4, 1.5, 3): -0.25 / 4.5; 2 concordant, 2 discordant.
    ([6, 2, 1, 1], [2, 12, 2, 4], -0.25 / 4.5, 0.0),
]


@pytest.mark.parametrize(("x", "y", "rho", "tau"), KNOWN)
def test_known_values(x: list[float], y: list[float], rho: float, tau: float) -> None:
    assert spearman(x, y) == pytest.approx(rho, abs=1e-12)
    assert kendall(x, y) == pytest.approx(tau, abs=1e-12)
    assert spearman(y, x) == pytest.approx(rho, abs=1e-12)
    assert kendall(y, x) == pytest.approx(tau, abs=1e-12)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks([30, 10, 20, 20, 20]) == [5, 1, 3, 3, 3]


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [7, 7, 7])])
def test_a_constant_side_has_no_correlation(x: list[float], y: list[float]) -> None:
    assert spearman(x, y) is None
    assert kendall(x, y) is None


def test_series_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        kendall([1, 2], [1])
    with pytest.raises(ValueError, match="2 and 1"):
        spearman([1, 2], [1])


def test_tau_equals_counting_all_pairs_one_by_one() -> None:
    chance = random.Random(7)
    for _ in range(50):
        size = chance.randint(2, 30)
        x = [chance.randint(0, 8) for _ in range(size)]
        y = [chance.randint(0, 8) for _ in range(size)]
        signs = [((x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])) for i in range(size) for j in range(i)]
        untied = sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs)
        if untied:
            assert kendall(x, y) == pytest.approx(sum(a * b for a, b in signs) / untied**0.5, abs=1e-12)


def test_agreement_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    chance = random.Random(11)
    for _ in range(20):
        x = [chance.randint(0, 20) for _ in range(40)]
        y = [chance.randint(0, 20) for _ in range(40)]
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
