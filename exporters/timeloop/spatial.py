"""``constraints/<name>.yaml``: how one problem fills the array.

Left free, a random search seldom fills a large array (a 128 x 128 one to 9 % where 90 % was possible). So the factors
are fixed before the search: each axis takes, of the dimensions it allows, the divisors with the largest product that
fits; among equals the dimension that the architecture prefers gets more. Divisors only: a factor that does not divide
makes Timeloop count wrong. Without this file the search is free on the array.
"""

from __future__ import annotations

import math

from mmworkload.arch import Architecture
from mmworkload.exporters.timeloop.architecture import array_axes
from mmworkload.exporters.timeloop.problem_file import dimensions
from mmworkload.exporters.timeloop.terms import DIMS
from mmworkload.exporters.timeloop.yaml_text import Word, mapping
from mmworkload.problem import Problem


def array_factors(problem: Problem, arch: Architecture) -> dict[str, dict[str, int]]:
    """Container to dimension to spatial factor, for the dimensions that the axis allows; X chooses first."""
    left = {dim: problem.extents.get(dim, 1) for dim in dimensions(problem)}
    factors: dict[str, dict[str, int]] = {}
    for container, _, instances, allowed in array_axes(arch):
        dims = tuple(dict.fromkeys(dim for dim in allowed if dim in left))
        chosen = dict(zip(dims, _largest(dims, left, instances), strict=True))
        for dim, factor in chosen.items():
            left[dim] //= factor
        factors[container] = chosen
    return factors


def constraints_text(problem: Problem, arch: Architecture, *, fill: bool = True) -> str:
    """The content of a constraints file without its header; with ``fill`` off only what keeps the search legal.

    Dimensions beyond the common set are held off the array here, since the shared architecture cannot name them.
    """
    targets = []
    for container, chosen in array_factors(problem, arch).items():
        held = {dim: 1 for dim in dimensions(problem) if dim not in DIMS and dim not in chosen}
        factors = {**(chosen if fill else {}), **held}
        if factors:
            words = [Word(f"{dim}={factor}") for dim, factor in factors.items()]
            targets.append(mapping({"type": Word("spatial"), "target": Word(container), "factors": words}))
    if not targets:
        return "constraints: {version: 0.4, targets: []}\n"
    return "constraints:\n  version: 0.4\n  targets:\n" + "".join(f"  - {target}\n" for target in targets)


def _largest(dims: tuple[str, ...], extents: dict[str, int], capacity: int) -> tuple[int, ...]:
    """One divisor of each extent, their product at most ``capacity`` and as large as possible."""
    if not dims:
        return ()
    choices = [
        (divisor, *_largest(dims[1:], extents, capacity // divisor))
        for divisor in _divisors(extents[dims[0]], capacity)
    ]
    return max(choices, key=lambda choice: (math.prod(choice), choice))


def _divisors(extent: int, limit: int) -> list[int]:
    return [divisor for divisor in range(1, min(extent, limit) + 1) if extent % divisor == 0]
