"""A problem as a matrix product, and as a row of a convolution topology where SCALE-Sim has a form for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmworkload.errors import SimulationError
from mmworkload.exporters.scalesim.inexpressible import problem_refusal
from mmworkload.problem import Axis, Operand, Problem


@dataclass(frozen=True)
class Product:
    """``runs`` products ``[m, k] x [k, n]``, one after another."""

    m: int
    n: int
    k: int
    runs: int

    @property
    def macs(self) -> int:
        return self.m * self.n * self.k * self.runs

    @property
    def row_name(self) -> str:
        """A name for the topology. SCALE-Sim takes a name with ``DP`` in it for a depthwise convolution."""
        return f"gemm_M{self.m}_N{self.n}_K{self.k}"


@dataclass(frozen=True)
class Convolution:
    """One image and one group. The input has its padding, and ends where the last window ends: SCALE-Sim rounds the
    output up where others round down."""

    input_height: int
    input_width: int
    filter_height: int
    filter_width: int
    channels: int
    filters: int
    stride: int

    @property
    def row_name(self) -> str:
        return (
            f"conv_{self.input_height}x{self.input_width}_{self.filter_height}x{self.filter_width}"
            f"_{self.channels}to{self.filters}_stride{self.stride}"
        )


@dataclass(frozen=True)
class Operands:
    """The three tensors: the weight is the operand of that role, else the one called so, else the last input."""

    ifmap: Operand
    filter: Operand
    ofmap: Operand


def operands(problem: Problem) -> Operands:
    """The operands of a problem that :func:`problem_refusal` does not refuse."""
    inputs = [operand for operand in problem.operands if operand.role != "output"]
    weight = max(inputs, key=lambda item: (item.role == "weight", item.name == "Weights", inputs.index(item)))
    return Operands(next(item for item in inputs if item is not weight), weight, problem.output)


def product(problem: Problem) -> Product:
    """The matrix products that compute ``problem``, with the same number of MACs.

    Raises SimulationError when it is none. A convolution is unrolled (im2col); a transposed one is the product whose
    overlapping outputs somebody else adds up.
    """
    reason = problem_refusal(problem)
    if reason:
        raise SimulationError(f"SCALE-Sim cannot express {problem}: {reason}")
    found = operands(problem)

    def extent(ifmap: bool, weight: bool, ofmap: bool) -> int:
        wanted = (ifmap, weight, ofmap)
        return math.prod(
            size
            for dim, size in problem.dims
            if (dim in found.ifmap.dims, dim in found.filter.dims, dim in found.ofmap.dims) == wanted
        )

    return Product(
        m=extent(True, False, True),
        n=extent(False, True, True),
        k=extent(True, True, False),
        runs=extent(True, True, True),
    )


def convolution(problem: Problem) -> Convolution | None:
    """One group of ``problem`` as SCALE-Sim's convolution; None when its form has no place for it.

    It has none for batches, depth, dilation, two strides and transposed convolutions; a plain matrix product has no
    pixels.
    """
    found = operands(problem)
    extents = problem.extents
    shared = found.ifmap.dims & found.filter.dims
    pixels = {dim for dim in found.ifmap.dims & found.ofmap.dims if dim not in shared and extents[dim] > 1}
    if not pixels or not pixels <= {"P", "Q"}:
        return None
    if any(len(item.terms) > 1 or any(by > 1 for _, by in item.terms) for item in found.ofmap.axes):
        return None
    outputs, taps = {"P": 1, "Q": 1}, {"P": 1, "Q": 1}
    strides = set()
    channels = 1
    for item in found.ifmap.axes:
        place = _place(item, extents)
        if place is None:
            for dim, by in item.terms:
                if dim not in shared or by > 1 or len(item.terms) > 1:
                    return None
                channels *= extents[dim] if dim not in found.ofmap.dims else 1
            continue
        for dim, by in item.terms:
            if extents[dim] == 1:
                continue
            if dim == place:
                outputs[place] = extents[dim]
                strides.add(by)
            elif dim in found.ofmap.dims or dim not in shared or by > 1 or taps[place] > 1:
                return None
            else:
                taps[place] = extents[dim]
    if len(strides) != 1:
        return None
    (stride,) = strides
    filters = math.prod(
        size for dim, size in problem.dims if dim in found.filter.dims and dim in found.ofmap.dims and dim not in shared
    )
    return Convolution(
        input_height=(outputs["P"] - 1) * stride + taps["P"],
        input_width=(outputs["Q"] - 1) * stride + taps["Q"],
        filter_height=taps["P"],
        filter_width=taps["Q"],
        channels=channels,
        filters=filters,
        stride=stride,
    )


def _place(item: Axis, extents: dict[str, int]) -> str | None:
    """``P`` for an axis that runs along the height, ``Q`` along the width, None for another."""
    dims = {dim for dim, _ in item.terms if extents[dim] > 1}
    for place, tap in (("P", "R"), ("Q", "S")):
        if dims & {place, tap}:
            return place
    return None
