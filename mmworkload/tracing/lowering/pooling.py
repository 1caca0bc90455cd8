"""Pooling and resampling."""

from __future__ import annotations

import math
from typing import Any

from mmworkload.tracing.call import Call, Lowered, lowers


def _window(kernel: Any, rank: int) -> int:
    numbers = list(kernel) if isinstance(kernel, (list, tuple)) else [kernel]
    return math.prod(numbers * rank if len(numbers) == 1 else numbers)


@lowers(
    "aten.max_pool1d",
    "aten.max_pool2d",
    "aten.max_pool3d",
    "aten.max_pool2d_with_indices",
    "aten.max_pool3d_with_indices",
    "aten.max_pool1d_with_indices",
    "aten.avg_pool1d",
    "aten.avg_pool2d",
    "aten.avg_pool3d",
    "aten.fractional_max_pool2d",
    "aten.fractional_max_pool3d",
)
def pool(call: Call) -> Lowered:
    """One operation for each element of each window."""
    name = call.operator.removeprefix("aten.").removesuffix("_with_indices")
    rank = int(name[-2])
    return Lowered(name, "Pooling", vector_ops=call.output.elements * _window(call["kernel_size"], rank))


@lowers(
    "aten.adaptive_avg_pool1d",
    "aten.adaptive_avg_pool2d",
    "aten._adaptive_avg_pool2d",
    "aten.adaptive_avg_pool3d",
    "aten._adaptive_avg_pool3d",
    "aten.adaptive_max_pool1d",
    "aten.adaptive_max_pool2d",
    "aten.adaptive_max_pool3d",
)
def adaptive_pool(call: Call) -> Lowered:
    """Windows of about in/out elements that overlap by at most one: exact per axis, floor and ceiling as torch."""
    x, out = call["self"], call.output
    rank = int(call.operator[-2])
    visits = 1
    for size_in, size_out in zip(x.shape[-rank:], out.shape[-rank:], strict=True):
        visits *= sum(-(-(i + 1) * size_in // size_out) - i * size_in // size_out for i in range(size_out))
    name = call.operator.removeprefix("aten.").removeprefix("_")
    return Lowered(name, "Pooling", vector_ops=visits * math.prod(x.shape[:-rank]))


# Samples read for each output element.
_TAPS = {"nearest": 1, "linear": 2, "bilinear": 4, "trilinear": 8, "bicubic": 16, "lanczos": 36}


@lowers(
    *(
        f"aten.{name}"
        for name in (
            "upsample_nearest1d",
            "upsample_nearest2d",
            "upsample_nearest3d",
            "_upsample_nearest_exact1d",
            "_upsample_nearest_exact2d",
            "_upsample_nearest_exact3d",
            "upsample_linear1d",
            "upsample_bilinear2d",
            "_upsample_bilinear2d_aa",
            "upsample_bicubic2d",
            "_upsample_bicubic2d_aa",
            "_upsample_lanczos2d_aa",
            "upsample_trilinear3d",
        )
    )
)
def upsample(call: Call) -> Lowered:
    name = call.operator.removeprefix("aten.").removeprefix("_")
    kind = next(kind for kind in sorted(_TAPS, key=len, reverse=True) if kind in name)
    return Lowered("upsample_" + kind, "Other", vector_ops=call.output.elements * (2 * _TAPS[kind] - 1))


@lowers("aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d")
def grid_sample(call: Call) -> Lowered:
    taps = 8 if len(call["input"].shape) == 5 else 4
    return Lowered("grid_sample", "Other", vector_ops=call.output.elements * 2 * taps)
