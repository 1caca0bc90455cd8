"""Which loops run on the array at once.

Each axis takes one loop or two of those that the architecture allows there. First comes the choice that leaves the
fewest passes over the array; then those that leave about as few, simple ones and those that the architecture prefers
first: a full array may wait for its memories longer than another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.exporters.zigzag.layer import Loop, ZigZagLayer, rank
from mmworkload.exporters.zigzag.memories import X_AXIS, Y_AXIS, unroll_limit

# Where the memory is the limit a less full array may be as fast; one less than half as full as the best is not tried.
_WORST_PASSES = 2.0
# Choices are as good as each other up to this share more passes.
_SAME = 0.1
# ZigZag's traffic is off by as much as it overcounts; choices that are further off are not tried.
_MOST_OVERCOUNT = 1.1


@dataclass(frozen=True)
class Unrolling:
    """Loop to factor on each axis; ``passes`` are the steps that remain: the cycles of an array that never waits."""

    x: dict[str, int]
    y: dict[str, int]
    passes: int

    def to_dict(self) -> dict[str, list[str]]:
        """ZigZag's spatial mapping."""
        return {
            axis: [f"{name}, {factor}" for name, factor in chosen.items()]
            for axis, chosen in ((X_AXIS, self.x), (Y_AXIS, self.y))
        }


def unrollings(layer: ZigZagLayer, arch: Architecture, most: int) -> list[Unrolling]:
    """Up to ``most`` different choices of loops, the fullest array first; at least one, which may be empty."""
    limits = _limits(layer, arch)
    found: dict[tuple[frozenset[str], frozenset[str]], tuple[tuple[int, int, int], Unrolling]] = {}
    extents = {loop.name: loop.extent for loop in layer.loops}
    for x, x_cost in _axis_choices(layer.loops, extents, arch.array.x, arch.array.x_dims, limits):
        left = {name: -(-extent // x.get(name, 1)) for name, extent in extents.items()}
        for y_choice, y_cost in _axis_choices(layer.loops, left, arch.array.y, arch.array.y_dims, limits):
            passes = math.prod(-(-extent // y_choice.get(name, 1)) for name, extent in left.items())
            y = _least(y_choice, left, x)
            # ZigZag drops a loop that is unrolled further than it is long.
            if any(
                x.get(name, 1) * factor > extents[name]
                or _overcount(extents[name], x.get(name, 1), factor) > _MOST_OVERCOUNT
                for name, factor in y.items()
            ):
                continue
            cost = (passes, len(x) + len(y), x_cost + y_cost)
            key = (frozenset(x), frozenset(y))
            if key not in found or cost < found[key][0]:
                found[key] = (cost, Unrolling(x, y, passes))
    fullest = min(found.values(), key=lambda item: item[0])
    fewest = fullest[1].passes
    close = [item for item in found.values() if item[1].passes <= fewest * _WORST_PASSES]

    def order(item: tuple[tuple[int, int, int], Unrolling]) -> tuple[int, ...]:
        (passes, loops, places), _ = item
        return (item is not fullest, int((passes / fewest - 1) / _SAME), loops, places, passes)

    return [unrolling for _, unrolling in sorted(close, key=order)[:most]]


def _least(chosen: dict[str, int], extents: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Loops that are on both axes get the smallest factor that leaves the same number of passes."""
    return {
        name: -(-extents[name] // -(-extents[name] // factor)) if name in other else factor
        for name, factor in chosen.items()
    }


def _overcount(extent: int, x: int, y: int) -> float:
    """How many times more iterations ZigZag counts for a loop that is on both axes than it has.

    It evens out the last, incomplete pass by fractional factors, but on one axis only (the longer, X among equals).
    """
    if x == 1 or y > x:
        return 1.0
    over_x = -(-extent // x)
    return -(-over_x // y) * y / over_x


def _limits(layer: ZigZagLayer, arch: Architecture) -> dict[str, int]:
    """Loop to the largest factor on one axis, where a level that the whole array shares sets one."""
    limits: dict[str, int] = {}
    for name, operand in layer.operands.items():
        limit = unroll_limit(arch, name, operand.bits)
        if limit is not None:
            for loop in layer.relevant(name):
                limits[loop] = min(limit, limits.get(loop, limit))
    return limits


def _axis_choices(
    loops: tuple[Loop, ...], extents: dict[str, int], length: int, allowed: tuple[str, ...], limits: dict[str, int]
) -> Iterator[tuple[dict[str, int], int]]:
    """(loop to factor, places in the preference added up): nothing, and the best factors of each loop and pair."""
    ranks = {loop.name: rank(loop, allowed) for loop in loops}
    usable = {name: place for name, place in ranks.items() if place is not None and extents[name] > 1}
    yield {}, 0

    def most(name: str, room: int) -> int:
        return min(extents[name], room, limits.get(name, room))

    for name, place in usable.items():
        if most(name, length) > 1:
            yield {name: most(name, length)}, place
    for (first, first_place), (second, second_place) in itertools.permutations(usable.items(), 2):
        best: tuple[int, dict[str, int]] | None = None
        for factor in _worthwhile(extents[first], most(first, length // 2)):
            other = most(second, length // factor)
            if other < 2:
                continue
            passes = -(-extents[first] // factor) * -(-extents[second] // other)
            if best is None or passes < best[0]:
                best = (passes, {first: factor, second: other})
        if best is not None:
            yield best[1], first_place + second_place


def _worthwhile(extent: int, most: int) -> Iterator[int]:
    """The smallest factor of 2 or more for each number of passes."""
    before = 0
    for factor in range(2, most + 1):
        passes = -(-extent // factor)
        if passes != before:
            yield factor
        before = passes
