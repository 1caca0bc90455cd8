"""A problem as ZigZag's layer: an equation over loops, where an input axis may be the weighted sum of two of them.

What ZigZag's form cannot say is avoided, not dropped. An axis that is a multiple of one loop (a strided 1 x 1 kernel)
is that loop: only what is read counts. An output axis that is a sum (a transposed convolution) keeps both loops, so
that the array computes the matrix product and the overlapping sums are left to whoever adds them up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mmworkload.arch import Array
from mmworkload.exporters.telling import InexpressibleError
from mmworkload.exporters.zigzag.inexpressible import (
    DIAGONAL,
    OPERANDS,
    OPERATION,
    SECOND_WINDOW,
    THREE_LOOPS,
)
from mmworkload.problem import Axis, Operand, Problem
from mmworkload.simulating.estimate import compulsory_elements

NAMES = {"N": "B", "G": "G", "M": "K", "C": "C"} | dict(
    zip("PQORST", ("OY", "OX", "OZ", "FY", "FX", "FZ"), strict=True)
)
NAME = "layer"
_UNIT = "XU"


@dataclass(frozen=True)
class Loop:
    """One loop of the layer: its name, its extent, and the dimensions of the problem that were merged into it."""

    name: str
    extent: int
    dims: tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """An axis of the input: ``first_by * first + second_by * second``. ``read`` are the elements really read."""

    first: str
    first_by: int
    second: str
    second_by: int
    read: int
    pad_low: int
    pad_high: int


@dataclass(frozen=True)
class ZigZagLayer:
    """A layer before it is written.

    ``indices`` are the loops or windows that index each of ``O``, ``W`` and ``I``; ``windows`` the input's axes of two
    loops, by name; ``operands`` ties ZigZag's names to the problem's operands. ``scattered`` says that the sums over
    an output's overlapping elements are left out.
    """

    loops: tuple[Loop, ...]
    indices: dict[str, tuple[str, ...]]
    windows: dict[str, Window]
    operands: dict[str, Operand]
    scattered: bool

    def relevant(self, operand: str) -> frozenset[str]:
        """The loops that move ``operand``."""
        found: set[str] = set()
        for index in self.indices[operand]:
            window = self.windows.get(index)
            found |= {index} if window is None else {window.first, window.second}
        return frozenset(found)

    def to_dict(self, name: str = NAME, number: int = 0) -> dict[str, Any]:
        """The entry of ZigZag's workload file, under this name and number."""

        def indexed(operand: str) -> str:
            return operand + "".join(f"[{index.lower()}]" for index in self.indices[operand])

        entry: dict[str, Any] = {
            "id": number,
            "name": name,
            "operator_type": "Conv" if self.windows else "Gemm",
            "equation": f"{indexed('O')}+={indexed('W')}*{indexed('I')}",
            "dimension_relations": [
                f"{axis.lower()}={window.first_by}*{window.first.lower()}+{window.second_by}*{window.second.lower()}"
                for axis, window in self.windows.items()
            ],
            "loop_dims": [loop.name for loop in self.loops],
            "loop_sizes": [loop.extent for loop in self.loops],
            "operand_precision": {
                **{key: operand.bits for key, operand in self.operands.items()},
                "O_final": self.operands["O"].bits,
            },
            # Its own number: every operand comes from and goes to the outermost memory.
            "operand_source": {"W": number, "I": number},
        }
        if self.windows:
            entry["pr_loop_dims"] = list(self.windows)
            entry["pr_loop_sizes"] = [window.read for window in self.windows.values()]
            entry["padding"] = [[window.pad_low, window.pad_high] for window in self.windows.values()]
        return entry


def translate(problem: Problem, array: Array) -> ZigZagLayer:
    """The layer of a canonical problem; ``array`` says which loops may be merged.

    Raises InexpressibleError when it is not a product of two inputs, the second one has an axis of two loops, an axis
    sums more than two, or a loop is used twice in one operand.
    """
    if problem.operation not in ("mac", "mul"):
        raise InexpressibleError(OPERATION, f"it is '{problem.operation}'")
    operands = _operands(problem)
    plain: dict[str, list[str]] = {}
    sliding: list[Axis] = []
    for name, operand in operands.items():
        axes = [item for item in operand.axes if item.terms]
        used = [dim for item in axes for dim, _ in item.terms]
        if len(used) != len(set(used)):
            raise InexpressibleError(DIAGONAL, str(operand))
        if any(len(item.terms) > 2 for item in axes):
            raise InexpressibleError(THREE_LOOPS, str(operand))
        if name == "W" and any(len(item.terms) == 2 for item in axes):
            raise InexpressibleError(SECOND_WINDOW, str(operand))
        if name == "I":
            sliding = [item for item in axes if len(item.terms) == 2]
        plain[name] = [dim for item in axes if item not in sliding for dim, _ in item.terms]
    loops = _merge(problem, array, plain, {dim for item in sliding for dim, _ in item.terms})
    merged = {dim: loop.name for loop in loops for dim in loop.dims}
    indices = {name: list(dict.fromkeys(merged[dim] for dim in dims)) for name, dims in plain.items()}
    windows: dict[str, Window] = {}
    for item in sliding:
        (first, first_by), (second, second_by) = item.terms
        read = compulsory_elements(problem, Operand("Inputs", "input", 1, (item,)))
        name = f"I{merged[first]}"
        windows[name] = Window(merged[first], first_by, merged[second], second_by, read, item.pad_low, item.pad_high)
        indices["I"].append(name)
    # Every operand needs an index; a scalar gets a loop of one.
    if any(not found for found in indices.values()):
        loops = (*loops, Loop(_UNIT, 1, ()))
        indices = {name: found or [_UNIT] for name, found in indices.items()}
    scattered = any(len(item.terms) == 2 for item in operands["O"].axes)
    return ZigZagLayer(loops, {name: tuple(found) for name, found in indices.items()}, windows, operands, scattered)


def _operands(problem: Problem) -> dict[str, Operand]:
    """``O``, ``W`` and ``I``: the weight is W, else the operand that is called so, else the last one."""
    inputs = [operand for operand in problem.operands if operand.role != "output"]
    if len(inputs) != 2:
        raise InexpressibleError(OPERANDS, f"this problem has {len(inputs)}: {problem}")
    weight = max(inputs, key=lambda item: (item.role == "weight", item.name == "Weights", inputs.index(item)))
    other = next(item for item in inputs if item is not weight)
    return {"O": problem.output, "W": weight, "I": other}


def _merge(problem: Problem, array: Array, plain: dict[str, list[str]], windowed: set[str]) -> tuple[Loop, ...]:
    """Dimensions that index the same operands, and no window, are one loop: fewer orders to search.

    Only those that may be unrolled on the same array axes, since a merged loop is unrolled as one.
    """
    groups: dict[object, list[str]] = {}
    for dim, _ in problem.dims:
        users = frozenset(name for name, dims in plain.items() if dim in dims)
        alike = (users, dim in array.x_dims, dim in array.y_dims)
        groups.setdefault(dim if dim in windowed else alike, []).append(dim)
    return tuple(
        Loop(
            "".join(NAMES.get(dim, f"X{dim}") for dim in dims),
            math.prod(problem.extents[dim] for dim in dims),
            tuple(dims),
        )
        for dims in groups.values()
    )


def rank(loop: Loop, allowed: tuple[str, ...]) -> int | None:
    """The place of the loop among the dimensions that an array axis prefers; None when it may not be unrolled there.

    A merged loop may be where each of its dimensions may be, and letters beyond the legend nowhere.
    """
    if not loop.dims or any(dim not in allowed for dim in loop.dims):
        return None
    return min(allowed.index(dim) for dim in loop.dims)
