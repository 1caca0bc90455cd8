"""Extents that Timeloop cannot tile, enlarged for a simulation.

Timeloop divides loops into exact factors. An extent with a large prime factor (197 tokens, 577, a vocabulary of 30522)
can then neither fill an array nor be cut into tiles that fit a buffer: one attention product of 197 tokens took 465708
cycles on a 128 x 128 array instead of 4752 with 198. Real machines leave the last tile partly empty, which costs the
time of the enlarged problem. Its extra work is charged as if it were real: at most a sixteenth for each extent.
Exported problems are never padded.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mmworkload.arch import Architecture
from mmworkload.exporters.timeloop.spatial import unroll
from mmworkload.problem import Axis, Problem

# An extent is enlarged until it has small prime factors only. With one above _UNTILEABLE that is always done, with a
# smaller one only where it saves a fifth of the passes over the array.
_SMALL_PRIMES = (2, 3, 5, 7, 11, 13)
_UNTILEABLE = 64
_MOST_PADDING = 1 / 16
_LEAST_GAIN = 1.25


def pad(problem: Problem, arch: Architecture) -> Problem:
    """The problem to simulate instead of ``problem``: itself, or with some extents enlarged (then without a mask)."""
    needed = _padded(problem, _UNTILEABLE)
    helpful = _padded(problem, _SMALL_PRIMES[-1])
    if _passes(needed, arch) > _LEAST_GAIN * _passes(helpful, arch):
        return helpful
    return needed


def pad_primes(problem: Problem) -> Problem:
    """:func:`pad` for an array of which nothing is known: only what cannot be cut into tiles is enlarged."""
    return _padded(problem, _UNTILEABLE)


def difference(problem: Problem, padded: Problem) -> str:
    """``M 197 to 198, N 197 to 198``; empty when nothing was enlarged."""
    changed = [(dim, extent, padded.extents[dim]) for dim, extent in problem.dims if padded.extents[dim] != extent]
    return ", ".join(f"{dim} {before} to {after}" for dim, before, after in changed)


def _padded(problem: Problem, limit: int) -> Problem:
    extents = {dim: _smoother(extent) if _largest_prime(extent) > limit else extent for dim, extent in problem.dims}
    if extents == problem.extents:
        return problem

    def grown(item: Axis) -> Axis:
        return replace(item, size=max(item.size, item.extent(extents) - item.pad_low - item.pad_high))

    operands = tuple(replace(operand, axes=tuple(grown(item) for item in operand.axes)) for operand in problem.operands)
    # A mask counts the true rows and columns; Timeloop is not told of it.
    return replace(problem, dims=tuple(extents.items()), operands=operands, mask=None)


def _passes(problem: Problem, arch: Architecture) -> int:
    """Cycles of the array when all that is placed on it is busy."""
    placed = [factor for factors in unroll(problem, arch).values() for factor in factors.values()]
    return problem.macs // math.prod(placed)


def _smoother(extent: int) -> int:
    """The next extent without large prime factors, or ``extent`` itself when that is too far."""
    for larger in range(extent, int(extent * (1 + _MOST_PADDING)) + 1):
        rest = larger
        for prime in _SMALL_PRIMES:
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return larger
    return extent


def _largest_prime(number: int) -> int:
    """The largest prime factor, 1 for 1."""
    largest, divisor = 1, 2
    while divisor * divisor <= number:
        if number % divisor:
            divisor += 1
        else:
            largest = divisor
            number //= divisor
    return max(largest, number)
