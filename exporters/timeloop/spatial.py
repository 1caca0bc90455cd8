"""How one problem fills the array: ``constraints/<name>.yaml``.

Left free, a random search seldom fills a large array: on a 128 x 128 one it found 9 % where 100 % was possible. So the
spatial factors are fixed before the search: each axis takes, of the dimensions it allows, the divisors with the largest
product that fits; among equals the dimension that the architecture prefers gets more. Divisors only: Timeloop miscounts
the work of other factors (by up to 5 % where this was tried). Without the file the search is free on the array.
"""

from __future__ import annotations

import functools

from mmworkload.arch import Architecture
from mmworkload.exporters.timeloop.architecture import array_axes
from mmworkload.exporters.timeloop.problem_file import dimensions
from mmworkload.exporters.timeloop.terms import DIMS
from mmworkload.exporters.timeloop.yaml_text import Word, mapping
from mmworkload.problem import Problem

Factors = dict[str, dict[str, int]]


def unroll(problem: Problem, arch: Architecture) -> Factors:
    """Container to dimension to spatial factor, for the dimensions that the axis allows; X chooses first."""
    left = {dim: problem.extents.get(dim, 1) for dim in dimensions(problem)}
    for dim in _disjoint_windows(problem)[1:]:
        left[dim] = 1
    factors: Factors = {}
    for container, _, instances, allowed in array_axes(arch):
        dims = tuple(dict.fromkeys(dim for dim in allowed if dim in left))
        factors[container] = dict(zip(dims, _largest(dims, left, instances), strict=True))
        for dim, factor in factors[container].items():
            left[dim] //= factor
    return factors


def spatial_factors(problem: Problem, arch: Architecture, *, fill: bool = True) -> Factors:
    """:func:`unroll`'s factors (without ``fill`` none of them) and those that hold other dimensions off the array."""
    factors: Factors = {}
    for container, chosen in unroll(problem, arch).items():
        held = {dim: 1 for dim in dimensions(problem) if dim not in DIMS and dim not in chosen}
        factors[container] = {**(chosen if fill else {}), **held}
    return factors


def constraints_text(problem: Problem, arch: Architecture, *, fill: bool = True) -> str:
    """The content of a constraints file without its header; without ``fill`` the search is free on the array.

    Dimensions beyond the common set are held off the array here, since the shared architecture cannot name them.
    """
    targets = []
    for container, factors in spatial_factors(problem, arch, fill=fill).items():
        words = [Word(f"{dim}={factor}") for dim, factor in factors.items()]
        if words:
            targets.append(mapping({"type": Word("spatial"), "target": Word(container), "factors": words}))
    if not targets:
        return "constraints: {version: 0.4, targets: []}\n"
    return "constraints:\n  version: 0.4\n  targets:\n" + "".join(f"  - {target}\n" for target in targets)


def _disjoint_windows(problem: Problem) -> list[str]:
    """The kernel's dimensions of a transposed convolution whose stride is the kernel: no two outputs overlap.

    With two of them on the array Timeloop's count of accesses fails (an assertion in tiling.cpp), so one stays off.
    """
    kernel = []
    for item in problem.output.axes:
        coefficients = dict(item.terms)
        for dim in coefficients:
            others = [value for other, value in item.terms if other != dim]
            if others and coefficients[dim] == 1 and min(others) >= problem.extents[dim] > 1:
                kernel.append(dim)
    return kernel


def _largest(dims: tuple[str, ...], extents: dict[str, int], capacity: int) -> tuple[int, ...]:
    """One divisor of each extent, their product at most ``capacity`` and as large as possible."""

    @functools.cache
    def best(index: int, room: int) -> tuple[int, tuple[int, ...]]:
        if index == len(dims):
            return 1, ()
        extent = extents[dims[index]]
        found = []
        for factor in range(1, min(extent, room) + 1):
            if extent % factor == 0:
                product, rest = best(index + 1, room // factor)
                found.append((factor * product, (factor, *rest)))
        return max(found)

    return best(0, capacity)[1]
