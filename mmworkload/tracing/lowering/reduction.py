"""Reductions, scans, sorting and transforms."""

from __future__ import annotations

import math

from mmworkload.tracing.call import Call, Lowered, lowers

REDUCTIONS = (
    "sum", "nansum", "mean", "nanmean", "prod", "amax", "amin", "max", "min", "aminmax", "argmax", "argmin", "any",
    "all", "logsumexp", "norm", "linalg_vector_norm", "count_nonzero", "median", "trace", "numel",
)  # fmt: skip


@lowers(*(f"aten.{name}" for name in REDUCTIONS))
def reduce(call: Call) -> Lowered:
    """One operation for each input element (max and min of two tensors: each output element)."""
    name = call.operator.removeprefix("aten.")
    if "other" in call.args:
        return Lowered(name + "imum", "Elewise", vector_ops=call.output.elements)
    return Lowered(name, "Reduce", vector_ops=call["self"].elements)


@lowers("aten.var", "aten.std", "aten.var_mean", "aten.std_mean")
def variance(call: Call) -> Lowered:
    """Mean, difference, square and sum."""
    return Lowered(call.operator.removeprefix("aten."), "Reduce", vector_ops=4 * call["self"].elements)


@lowers("aten.cumsum", "aten.cumprod", "aten.cummax", "aten.cummin", "aten.logcumsumexp", "aten.diff")
def scan(call: Call) -> Lowered:
    return Lowered(call.operator.removeprefix("aten."), "Reduce", vector_ops=call["self"].elements)


@lowers("aten.topk", "aten.sort", "aten.argsort", "aten.kthvalue", "aten.msort")
def sort(call: Call) -> Lowered:
    """n log2 n comparisons along the sorted axis."""
    x = call["self"]
    dim = call.get("dim", -1)
    length = x.shape[-1 if dim is None else dim] if x.shape else 1
    return Lowered(
        call.operator.removeprefix("aten."),
        "Other",
        vector_ops=x.elements * max(1, math.ceil(math.log2(max(2, length)))),
    )


@lowers(
    "aten._fft_r2c",
    "aten._fft_c2r",
    "aten._fft_c2c",
    "aten.fft_rfft",
    "aten.fft_irfft",
    "aten.fft_fft",
    "aten.fft_ifft",
    "aten.fft_rfft2",
    "aten.fft_irfft2",
    "aten.fft_fft2",
    "aten.fft_ifft2",
)
def fourier(call: Call) -> Lowered:
    """5 n log2 n real operations, the usual count for a complex transform of length n (Cooley and Tukey)."""
    x = call["self"]
    if "dim" in call.args and isinstance(call["dim"], (list, tuple)):
        length = math.prod(x.shape[dim] for dim in call["dim"])
    else:
        length = x.shape[call.get("dim", -1)]
    return Lowered("fft", "Other", vector_ops=math.ceil(5 * x.elements * math.log2(max(2, length))))
