"""How one problem fills the array: ``constraints/<name>.yaml``.

Left free, a random search seldom fills a large array: on a 128 x 128 one it found 9 % where 100 % was possible. So the
spatial factors are fixed before the search: each axis takes, of the dimensions it allows, the factors that leave the
fewest passes over the array; among equals the dimension that the architecture prefers gets more.

Factors are divisors, because Timeloop miscounts others (by up to 5 % where this was tried). A prime extent would then
leave an axis all but empty (197 tokens on 128 columns: 197 passes instead of 2). A simulation may therefore pad: 197
becomes 2 x 99 = 198, the time is that of the real machine, whose last pass is partly idle, and the padding is charged
as if it were work. Exports are never padded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mmworkload.arch import Architecture
from mmworkload.exporters.timeloop.architecture import array_axes
from mmworkload.exporters.timeloop.problem_file import dimensions
from mmworkload.exporters.timeloop.terms import DIMS
from mmworkload.exporters.timeloop.yaml_text import Word, mapping
from mmworkload.problem import Axis, Problem

# Padding an extent by at most a fifth is considered, and done where divisors alone cost a quarter more passes.
_MOST_PADDING = 0.2
_LEAST_GAIN = 1.25


@dataclass(frozen=True)
class Unrolling:
    """Container to dimension to spatial factor, and the dimensions that were padded with their new extent."""

    factors: dict[str, dict[str, int]]
    padded: dict[str, int]


def unroll(problem: Problem, arch: Architecture, *, pad: bool) -> Unrolling:
    """The factors of each array axis, for the dimensions that the axis allows; X chooses first."""
    left = {dim: problem.extents.get(dim, 1) for dim in dimensions(problem)}
    extents = dict(left)
    factors: dict[str, dict[str, int]] = {}
    for container, _, instances, allowed in array_axes(arch):
        dims = tuple(dict.fromkeys(dim for dim in allowed if dim in left))
        passes, _, _, chosen = _fewest_passes(dims, left, instances, 0.0)
        if pad:
            fewer, _, _, others = _fewest_passes(dims, left, instances, _MOST_PADDING)
            if passes > _LEAST_GAIN * fewer:
                chosen = others
        factors[container] = dict(zip(dims, chosen, strict=True))
        for dim, factor in factors[container].items():
            extents[dim] = extents[dim] // left[dim] * factor * -(-left[dim] // factor)
            left[dim] = -(-left[dim] // factor)
    return Unrolling(factors, {dim: extents[dim] for dim, before in problem.dims if extents[dim] != before})


def enlarge(problem: Problem, padded: dict[str, int]) -> Problem:
    """The problem with the extents in ``padded`` instead of its own, its tensors as large as that needs."""
    extents = {**problem.extents, **padded}

    def grown(item: Axis) -> Axis:
        return replace(item, size=max(item.size, item.extent(extents) - item.pad_low - item.pad_high))

    operands = tuple(
        replace(operand, axes=tuple(grown(item) for item in operand.axes)) for operand in problem.operands
    )
    # A mask belongs to the true rows and columns; Timeloop is not told of it.
    return replace(problem, dims=tuple(extents.items()), operands=operands, mask=None)


def constraints_text(problem: Problem, factors: dict[str, dict[str, int]]) -> str:
    """The content of a constraints file without its header; no ``factors`` leave the search free on the array.

    Dimensions beyond the common set are held off the array here, since the shared architecture cannot name them.
    """
    targets = []
    for container, chosen in factors.items():
        held = {dim: 1 for dim in dimensions(problem) if dim not in DIMS and dim not in chosen}
        words = [Word(f"{dim}={factor}") for dim, factor in {**chosen, **held}.items()]
        if words:
            targets.append(mapping({"type": Word("spatial"), "target": Word(container), "factors": words}))
    if not targets:
        return "constraints: {version: 0.4, targets: []}\n"
    return "constraints:\n  version: 0.4\n  targets:\n" + "".join(f"  - {target}\n" for target in targets)


_Choice = tuple[int, int, tuple[int, ...], tuple[int, ...]]


def _fewest_passes(dims: tuple[str, ...], extents: dict[str, int], capacity: int, slack: float) -> _Choice:
    """(passes over the axis, dimensions padded, negated factors for the order, factors): the least of all choices.

    The product of the factors is at most ``capacity``.
    """

    @functools.cache
    def best(index: int, room: int) -> _Choice:
        if index == len(dims):
            return 1, 0, (), ()
        extent = extents[dims[index]]
        found = []
        for factor in _factors(extent, room, slack):
            passes, padded, order, rest = best(index + 1, room // factor)
            uneven = extent % factor > 0
            found.append((math.ceil(extent / factor) * passes, uneven + padded, (-factor, *order), (factor, *rest)))
        return min(found)

    return best(0, capacity)


def _factors(extent: int, room: int, slack: float) -> Iterator[int]:
    """The divisors up to ``room``, and the smallest factor of each number of passes that pads by at most ``slack``."""
    before = 0
    for factor in range(1, min(extent, room) + 1):
        passes = -(-extent // factor)
        if extent % factor == 0 or (passes != before and passes * factor <= extent * (1 + slack)):
            yield factor
        before = passes
