"""Convolutions of every rank, grouped, dilated, string-padded and transposed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mmworkload.layer import Work
from mmworkload.problem import Axis, Operand, Problem, axis
from mmworkload.tracing.call import Call, Lowered, Value, lowers

# Output (or, transposed, input) dimension and kernel dimension per spatial axis, outermost first.
_SPATIAL = {1: ("Q",), 2: ("P", "Q"), 3: ("O", "P", "Q")}
_KERNEL = {1: ("S",), 2: ("R", "S"), 3: ("T", "R", "S")}


def _spread(value: Any, rank: int) -> list[int]:
    """PyTorch lets one number stand for every axis."""
    numbers = [int(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    return numbers * rank if len(numbers) == 1 else numbers


def _paddings(padding: Any, kernel: list[int], dilation: list[int]) -> list[tuple[int, int]]:
    """(low, high) per axis; ``same`` puts the odd element high, as PyTorch does."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in _spread(padding, len(kernel))]


def convolve(
    x: Value,
    weight: Value,
    output: Value,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    transposed: bool = False,
) -> Problem:
    """The loop nest of a convolution. ``x`` [N?, C, spatial], ``weight`` [M, C/G, kernel], transposed [C, M/G, kernel].

    A transposed convolution is the scatter that it really is: P and Q are input extents and the output axis carries
    the affine expression, cropped by the padding (no multiplications with inserted zeros are counted).
    """
    kernel = list(weight.shape[2:])
    rank = len(kernel)
    batched = len(x.shape) == rank + 2
    spatial_in, spatial_out = list(x.shape[-rank:]), list(output.shape[-rank:])
    strides, dilations = _spread(stride, rank), _spread(dilation, rank)
    pads = _paddings(padding, kernel, dilations)
    if transposed:
        c, m = weight.shape[0] // groups, weight.shape[1]
    else:
        c, m = weight.shape[1], weight.shape[0] // groups
    outer, inner = _SPATIAL[rank], _KERNEL[rank]
    loops = spatial_in if transposed else spatial_out
    n = x.shape[0] if batched else 1
    dims = (
        ("N", n),
        ("G", groups),
        ("M", m),
        ("C", c),
        *zip(outer, loops, strict=True),
        *zip(inner, kernel, strict=True),
    )
    affine = tuple(
        Axis(((o, s), (k, d)), size, low, high)
        for o, k, s, d, size, (low, high) in zip(
            outer, inner, strides, dilations, spatial_out if transposed else spatial_in, pads, strict=True
        )
    )
    plain = tuple(axis(o, size) for o, size in zip(outer, loops, strict=True))
    taps = tuple(axis(k, size) for k, size in zip(inner, kernel, strict=True))
    return Problem(
        dims,
        (
            Operand(
                "Inputs",
                "input",
                x.bits,
                (axis("N", n), axis("G", groups), axis("C", c), *(plain if transposed else affine)),
            ),
            Operand(
                "Weights",
                "weight" if weight.is_weight else "input",
                weight.bits,
                (axis("G", groups), axis("M", m), axis("C", c), *taps),
            ),
            Operand(
                "Outputs",
                "output",
                output.bits,
                (axis("N", n), axis("G", groups), axis("M", m), *(affine if transposed else plain)),
            ),
        ),
    )


def _lower(call: Call, name: str, transposed: bool) -> Lowered:
    if 0 in (call["input"].elements, call["weight"].elements):
        return Lowered(name, "Conv")
    problem = convolve(
        call["input"],
        call["weight"],
        call.output,
        stride=call["stride"],
        padding=call["padding"],
        dilation=call["dilation"],
        groups=call["groups"],
        transposed=transposed,
    )
    bias = call.output.elements if isinstance(call.get("bias"), Value) else 0
    return Lowered(name, "Conv", (Work(problem),), vector_ops=bias)


@lowers("aten.conv1d", "aten.conv2d", "aten.conv3d")
def convolution(call: Call) -> Lowered:
    return _lower(call, call.operator.removeprefix("aten."), transposed=False)


@lowers("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def transposed_convolution(call: Call) -> Lowered:
    return _lower(call, call.operator.removeprefix("aten."), transposed=True)


@lowers("aten.conv_tbc")
def time_first_convolution(call: Call) -> Lowered:
    """``self`` [T, B, C], ``weight`` [S, C, M]: the one-dimensional convolution with its axes in another order."""
    x, weight, out = call["self"], call["weight"], call.output
    if 0 in (x.elements, weight.elements, out.elements):
        return Lowered("conv1d", "Conv")
    problem = convolve(
        replace(x, shape=(*x.shape[1:], x.shape[0])), replace(weight, shape=weight.shape[::-1]),
        replace(out, shape=(*out.shape[1:], out.shape[0])),
        stride=1, padding=call["pad"], dilation=1, groups=1,
    )  # fmt: skip
    return Lowered("conv1d", "Conv", (Work(problem),), vector_ops=out.elements)


@lowers("aten.convolution", "aten._convolution", "aten._convolution_mode")
def general_convolution(call: Call) -> Lowered:
    rank = len(call["weight"].shape) - 2
    transposed = bool(call.get("transposed", False))
    return _lower(call, f"conv_transpose{rank}d" if transposed else f"conv{rank}d", transposed)


@lowers("aten.col2im", "aten.im2col")
def unfold(call: Call) -> Lowered:
    """Sliding windows laid out, or summed back: one operation for each element of the larger side."""
    larger = max(call["self"].elements, call.output.elements)
    return Lowered("unfold" if call.operator.endswith("im2col") else "fold", "Movement", vector_ops=larger)


@lowers("aten.pixel_shuffle", "aten.pixel_unshuffle", "aten.channel_shuffle", "aten.native_channel_shuffle")
def pixel_shuffle(call: Call) -> Lowered:
    return Lowered(call.operator.removeprefix("aten.").removeprefix("native_"), "Movement")
