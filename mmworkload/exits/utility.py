"""The utility of exits and the order of modalities, after MMExit (Hou et al., Euro-Par 2023). Pure functions.

Branches stand in the order in which they run. Costs are in the unit of accuracy times ``weight`` (the paper's lambda):
shares of the whole network's cost, where nothing else is said. The paper's eq. 3 counts what leads to exits and not the
rest of an encoder behind its last exit: give branches without ``rest`` for the paper's figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import permutations

from mmworkload.exits.branch import Branch
from mmworkload.exits.encoders import ExitError
from mmworkload.exits.probability import reached

MOST = 8
"""Modalities up to which all orders are tried."""


def utilities(order: Sequence[Branch], weight: float) -> list[tuple[float, ...]]:
    """Eq. 3: for each exit, ``weight * accuracy`` less all cost up to it, that of earlier modalities included."""
    found = []
    spent = 0.0
    for branch in order:
        own = []
        until = spent
        for cost, accuracy in zip(branch.costs, _accuracy(branch), strict=True):
            until += cost
            own.append(weight * accuracy - until)
        found.append(tuple(own))
        spent += branch.total
    return found


def exit_probabilities(order: Sequence[Branch]) -> list[tuple[float, ...]]:
    """Eq. 4: for each exit, the probability that a sample leaves there.

    The paper's first product runs to ``e_mx``, the exits of the exit's own modality; it is those of each earlier one.
    """
    found = []
    stay = 1.0
    for branch in order:
        found.append(tuple(stay * item for item in branch.leaves))
        stay *= branch.staying
    return found


def utility(order: Sequence[Branch], weight: float) -> float:
    """Eq. 6: the sum over all exits of probability times utility, without the fusion's, equal in every order."""
    return sum(
        probability * value
        for chances, values in zip(exit_probabilities(order), utilities(order, weight), strict=True)
        for probability, value in zip(chances, values, strict=True)
    )


def phi(branch: Branch, p: float, weight: float) -> float:
    """Eq. 7, for an encoder of which every exit is taken with ``p``, as in all other encoders.

    ``(1 - q**e) sum_j q**(j-1) p (weight a_j - c_1 - ... - c_j) - q**e sum_j q**(j-1) p (c_1 + ... + c_e)``,
    ``q = 1 - p``.
    """
    exits, q = len(branch.costs), 1 - p
    chances = [q**j * p for j in range(exits)]
    until = [sum(branch.costs[: j + 1]) for j in range(exits)]
    gains = [weight * accuracy - cost for accuracy, cost in zip(_accuracy(branch), until, strict=True)]
    here = sum(chance * gain for chance, gain in zip(chances, gains, strict=True))
    return (1 - q**exits) * here - q**exits * sum(chances) * sum(branch.costs)


def serialised(branches: Sequence[Branch], weight: float) -> tuple[str, ...]:
    """Theorem 1: names by descending phi, with the mean over all exits as the one probability. Equal ones stay."""
    every = [item for branch in branches for item in branch.p]
    p = sum(every) / len(every) if every else 0.0
    return tuple(branch.name for branch in sorted(branches, key=lambda branch: -phi(branch, p, weight)))


def index(branch: Branch, weight: float) -> float:
    """What orders modalities without the assumption of equal probabilities and numbers of exits (not in the paper).

    ``(weight * sum_j P_j a_j - X) / (1 - Q)``: what the encoder yields less what it is expected to cost, by the
    probability to leave in it. Swapping two neighbours i, j changes eq. 6 by ``(1 - Q_i)(1 - Q_j)`` times the
    difference of their indices and a positive factor, so descending indices are best; with equal p and e this is phi up
    to a positive factor. Minus infinity for an encoder that nobody leaves.
    """
    leaving = 1 - branch.staying
    if leaving <= 0:
        return -math.inf
    gain = sum(chance * accuracy for chance, accuracy in zip(branch.leaves, _accuracy(branch), strict=True))
    return (weight * gain - incurred(branch)) / leaving


def incurred(branch: Branch) -> float:
    """Expected cost of the encoder for a sample that comes in, its rest included."""
    stay, cost = 1.0, 0.0
    for item, p in zip(branch.costs, branch.p, strict=True):
        cost += stay * item
        stay *= 1 - p
    return cost + stay * branch.rest


def expected(order: Sequence[Branch], behind: float, rest: str = "next", batch: int = 1) -> float:
    """Expected cost of a sample, or of a batch that leaves together; ``behind`` is the fusion's.

    ``rest`` says when encoders run to their end: before the ``next`` modality, or ``last``, just before the fusion.
    """
    steps: list[tuple[float, float]] = []
    late: list[tuple[float, float]] = []
    for branch in order:
        steps += zip(branch.costs, branch.p, strict=True)
        (steps if rest == "next" else late).append((branch.rest, 0.0))
    steps += [*late, (behind, 0.0)]
    found = reached([(str(number), p) for number, (_, p) in enumerate(steps)], batch)
    return sum(cost * chance for (cost, _), chance in zip(steps, found.values(), strict=True))


def cheapest_order(branches: Sequence[Branch], behind: float, rest: str = "next", batch: int = 1) -> tuple[str, ...]:
    """The names of the order with the least expected cost, the earliest of equal ones.

    All orders are tried up to :data:`MOST` modalities; beyond, :func:`index` says, which is exact for single samples.
    Raises ExitError where neither will do.
    """
    if len(branches) <= MOST:
        return _names(min(permutations(branches), key=lambda order: expected(list(order), behind, rest, batch)))
    if batch > 1:
        raise ExitError(
            f"{len(branches)} modalities have too many orders to try them all for a batch that leaves together"
        )
    alone = [branch if rest == "next" else replace(branch, rest=0.0) for branch in branches]
    return _names(sorted(alone, key=lambda branch: -index(branch, 0.0)))


def most_useful_order(branches: Sequence[Branch], weight: float) -> tuple[str, ...]:
    """The names of the order with the largest eq. 6, the earliest of equal ones: brute force, or :func:`index`."""
    if len(branches) <= MOST:
        return _names(max(permutations(branches), key=lambda order: utility(list(order), weight)))
    return _names(sorted(branches, key=lambda branch: -index(branch, weight)))


def _names(order: Iterable[Branch]) -> tuple[str, ...]:
    return tuple(branch.name for branch in order)


def _accuracy(branch: Branch) -> tuple[float, ...]:
    return branch.accuracy or (0.0,) * len(branch.costs)
