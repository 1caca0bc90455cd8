"""A problem as an Einsum of AccelForge: rank variables with extents, and tensors indexed by sums of them.

Padding is read like data, since an index of AccelForge starts at zero; what a stride skips is not. A tensor's axis that
is a multiple of one loop (a strided 1 x 1 kernel) is therefore that loop, and a diagonal is read along one of its axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmworkload.arch import Architecture, Array
from mmworkload.counting import distinct_sums
from mmworkload.exporters.accelforge.inexpressible import (
    DIAGONAL,
    IDLE,
    OPERANDS,
    OPERATION,
    TOO_WIDE,
)
from mmworkload.exporters.telling import InexpressibleError
from mmworkload.problem import Axis, Operand, Problem, Role

ROLES: tuple[Role, ...] = ("input", "weight", "output")
TENSORS: dict[Role, str] = {"input": "I", "weight": "W", "output": "O"}
_UNIT = "u"


@dataclass(frozen=True)
class Variable:
    """A rank variable: its name, its extent, and the dimensions of the problem that were merged into it."""

    name: str
    extent: int
    dims: tuple[str, ...]


@dataclass(frozen=True)
class Access:
    """A tensor as the Einsum reads or writes it: rank to the terms (variable, coefficient) that index it.

    ``path`` is the way through the architecture: that of the weights for the second of two activations.
    """

    path: Role
    tensor: str
    bits: int
    ranks: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]

    def expressions(self) -> dict[str, str]:
        """Rank to index expression."""
        return {
            rank: " + ".join(f"{coefficient}*{name}" if coefficient > 1 else name for name, coefficient in terms)
            for rank, terms in self.ranks
        }


@dataclass(frozen=True)
class Einsum:
    """One Einsum, ready to be written."""

    name: str
    variables: tuple[Variable, ...]
    accesses: tuple[Access, ...]
    instances: int = 1

    @cached_property
    def extents(self) -> dict[str, int]:
        return {variable.name: variable.extent for variable in self.variables}

    @property
    def computes(self) -> int:
        """Multiply-accumulates of one instance."""
        return math.prod(self.extents.values())

    @property
    def windowed(self) -> bool:
        """Whether a tensor has an axis of several variables, which multiplies the tiles to be tried."""
        return any(len(terms) > 1 for access in self.accesses for _, terms in access.ranks)

    def size(self, access: Access) -> int:
        """Elements that the tensor has for AccelForge: the distinct indices."""
        extents = self.extents
        return math.prod(
            distinct_sums((coefficient, extents[name]) for name, coefficient in terms) for _, terms in access.ranks
        )

    def to_dict(self, array: Array) -> dict[str, Any]:
        """The entry of AccelForge's workload. ``fixed_x`` and ``fixed_y`` are the variables that ``array`` does not
        unroll on that axis; the architecture refers to them by these names, so that one fits all Einsums."""
        accesses: list[dict[str, Any]] = []
        for item in self.accesses:
            entry: dict[str, Any] = {"name": item.tensor, "projection": item.expressions()}
            if item.path == "output":
                entry["output"] = True
            accesses.append({**entry, "bits_per_value": item.bits})
        renames: dict[str, str] = {item.path: item.tensor for item in self.accesses}
        for name, allowed in (("fixed_x", array.x_dims), ("fixed_y", array.y_dims)):
            fixed = [item.name for item in self.variables if not unrolls(item, allowed)]
            # An empty set of variables, since a bare Nothing is one of tensors.
            renames[name] = " | ".join(fixed) or "Nothing.rank_variables"
        return {
            "name": self.name,
            "tensor_accesses": accesses,
            "iteration_space_shape": [f"0 <= {name} < {extent}" for name, extent in self.extents.items()],
            "n_instances": self.instances,
            "renames": renames,
        }


def unrolls(variable: Variable, allowed: tuple[str, ...]) -> bool:
    """Whether an array axis with these dimensions may run the variable; dimensions beyond the legend nowhere."""
    return bool(variable.dims) and all(dim in allowed for dim in variable.dims)


def translate(problem: Problem, arch: Architecture, name: str) -> Einsum:
    """The Einsum of a canonical problem on its own, with as few variables as say the same: fewer to search.

    Raises InexpressibleError.
    """
    operands = paths(problem)
    too_wide(operands, arch)
    axes = {path: plain_axes(operand) for path, operand in operands.items()}
    windowed = {dim for found in axes.values() for item in found if len(item.terms) > 1 for dim, _ in item.terms}
    variables = _merge(problem, arch.array, axes, windowed)
    merged = {dim: variable.name for variable in variables for dim in variable.dims}
    if any(not found for found in axes.values()):
        variables = (*variables, Variable(_UNIT, 1, ()))
    accesses = []
    for path, operand in operands.items():
        ranks: dict[str, tuple[tuple[str, int], ...]] = {}
        for item in axes[path]:
            if len(item.terms) == 1:
                variable = merged[item.terms[0][0]]
                ranks[variable.upper()] = ((variable, 1),)
            else:
                terms = tuple((merged[dim], coefficient) for dim, coefficient in item.terms)
                ranks["_".join(variable.upper() for variable, _ in terms)] = terms
        found = tuple(ranks.items()) or ((_UNIT.upper(), ((_UNIT, 1),)),)
        accesses.append(Access(path, TENSORS[path], operand.bits, found))
    return Einsum(name, variables, tuple(accesses))


def paths(problem: Problem) -> dict[Role, Operand]:
    """The operands by their way through the architecture: the weight takes the weights' way, else the operand that is
    called so, else the last one.

    Raises InexpressibleError when it is not a product of two tensors, a loop indexes none, or a window has a diagonal.
    """
    if problem.operation not in ("mac", "mul"):
        raise InexpressibleError(OPERATION, f"it is '{problem.operation}'")
    inputs = [operand for operand in problem.operands if operand.role != "output"]
    if len(inputs) != 2:
        raise InexpressibleError(OPERANDS, f"this problem has {len(inputs)}: {problem}")
    weight = max(inputs, key=lambda item: (item.role == "weight", item.name == "Weights", inputs.index(item)))
    other = next(item for item in inputs if item is not weight)
    indexed = frozenset().union(*(operand.dims for operand in problem.operands))
    idle = [dim for dim, extent in problem.dims if extent > 1 and dim not in indexed]
    if idle:
        raise InexpressibleError(IDLE, f"this problem has {', '.join(idle)}: {problem}")
    for operand in problem.operands:
        dims = [dim for item in plain_axes(operand) for dim, _ in item.terms]
        if len(dims) != len(set(dims)):
            raise InexpressibleError(DIAGONAL, str(operand))
    return {"input": other, "weight": weight, "output": problem.output}


def too_wide(operands: Mapping[Role, Operand], arch: Architecture) -> None:
    """InexpressibleError when one element of an operand does not fit a level that holds it."""
    for path, operand in operands.items():
        for name, level in arch.levels.items():
            if path in level.holds and level.words is not None and level.words * arch.dram.word_bits < operand.bits:
                raise InexpressibleError(
                    TOO_WIDE, f"one of {operand.name} has {operand.bits} bits, more than {arch.name}'s {name} has"
                )


def plain_axes(operand: Operand) -> list[Axis]:
    """The axes that loops run over; of a diagonal only the first."""
    found: dict[object, Axis] = {}
    for item in operand.axes:
        # The dimensions alone, because a stride along a diagonal is still the diagonal.
        key = item.terms[0][0] if len(item.terms) == 1 else item.terms
        if item.terms:
            found.setdefault(key, item)
    return list(found.values())


def _merge(
    problem: Problem, array: Array, axes: Mapping[Role, list[Axis]], windowed: Iterable[str]
) -> tuple[Variable, ...]:
    """Dimensions that index the same tensors, and no window, are one variable.

    Only those that may be unrolled on the same array axes, since a merged variable is unrolled as one.
    """
    groups: dict[object, list[str]] = {}
    kept = set(windowed)
    for dim, extent in problem.dims:
        if extent == 1 and not any(
            dim == other for found in axes.values() for item in found for other, _ in item.terms
        ):
            continue
        users = frozenset(
            path for path, found in axes.items() if any(dim == d for item in found for d, _ in item.terms)
        )
        alike = (users, dim in array.x_dims, dim in array.y_dims)
        groups.setdefault(dim if dim in kept else alike, []).append(dim)
    return tuple(
        Variable("_".join(dims).lower(), math.prod(problem.extents[dim] for dim in dims), tuple(dims))
        for dims in groups.values()
    )
