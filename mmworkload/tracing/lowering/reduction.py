"""Reductions, scans, sorting and transforms."""

from __future__ import annotations

import math

from mmworkload.tracing.call import Call, Lowered, lowers

REDUCTIONS = (
    "sum", "nansum", "mean", "nanmean", "prod", "amax", "amin", "max", "min", "aminmax", "argmax", "argmin", "any",
    "all", "logsumexp", "norm", "linalg_vector_norm", "linalg_norm", "linalg_matrix_norm", "count_nonzero", "median",
    "nanmedian", "mode", "quantile", "nanquantile", "trace", "_is_all_true", "_is_any_true", "sum_to_size",
    "special_logsumexp", "frobenius_norm", "norm_except_dim",
)  # fmt: skip


@lowers(*(f"aten.{name}" for name in REDUCTIONS))
def reduce(call: Call) -> Lowered:
    """One operation for each input element (max and min of two tensors: each output element)."""
    name = call.operator.removeprefix("aten.").removeprefix("_")
    if "other" in call.args:
        return Lowered(name + "imum", "Elewise", vector_ops=call.output.elements)
    return Lowered(name, "Reduce", vector_ops=call["self"].elements)


@lowers("aten.cosine_similarity", "aten.pairwise_distance", "aten.dist")
def distance(call: Call) -> Lowered:
    """Over each pair of elements: a product and two squares, all summed; or a difference and its square, summed."""
    first, second = call.tensors
    passes = 6 if call.operator == "aten.cosine_similarity" else 3
    elements = max(first.elements, second.elements)
    return Lowered(call.operator.removeprefix("aten."), "Reduce", vector_ops=passes * elements)


@lowers("aten.var", "aten.std", "aten.var_mean", "aten.std_mean")
def variance(call: Call) -> Lowered:
    """Mean, difference, square and sum."""
    return Lowered(call.operator.removeprefix("aten."), "Reduce", vector_ops=4 * call["self"].elements)


@lowers(
    "aten.cumsum", "aten.cumprod", "aten.cummax", "aten.cummin", "aten.logcumsumexp", "aten.diff", "aten.multinomial",
    "aten.bincount", "aten.histc", "aten.histogram", "aten.histogramdd", "aten.hash_tensor",
    "aten.unique_consecutive", "aten.unique_dim_consecutive", "aten._softmax_backward_data",
)  # fmt: skip
def scan(call: Call) -> Lowered:
    """One operation for each element (multinomial sums the probabilities up before it draws)."""
    return Lowered(call.operator.removeprefix("aten.").strip("_"), "Reduce", vector_ops=call.tensors[0].elements)


@lowers("aten.trapezoid", "aten.trapz", "aten.cumulative_trapezoid", "aten.gradient", "aten.segment_reduce")
def neighbours(call: Call) -> Lowered:
    """Each element with its neighbour: a sum or difference, a product, a running sum."""
    return Lowered(call.operator.removeprefix("aten."), "Reduce", vector_ops=3 * call.tensors[0].elements)


@lowers("aten.pdist", "aten._pdist_forward")
def distances_within(call: Call) -> Lowered:
    """Each pair of rows: a difference, a power and a sum for each coordinate."""
    return Lowered("pdist", "Reduce", vector_ops=3 * call["self"].shape[-1] * call.output.elements)


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


@lowers("aten._unique", "aten._unique2", "aten.unique_dim")
def unique(call: Call) -> Lowered:
    """Sorts all elements, or the slices along ``dim``, and drops what repeats."""
    x = call["self"]
    length = x.shape[call["dim"]] if "dim" in call.args else x.elements
    return Lowered("unique", "Other", vector_ops=x.elements * max(1, math.ceil(math.log2(max(2, length)))))


_TRANSFORMS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")


@lowers(
    "aten._fft_r2c",
    "aten._fft_c2r",
    "aten._fft_c2c",
    *(f"aten.fft_{kind}{rank}" for kind in _TRANSFORMS for rank in ("", "2", "n")),
)
def fourier(call: Call) -> Lowered:
    """5 n log2 n real operations, the usual count for a complex transform of length n (Cooley and Tukey).

    n is the longer side of each transformed axis: a real transform has half a spectrum on the other.
    """
    x, out = call["self"], call.output
    dim = call.get("dim", -1)
    axes = range(len(x.shape)) if dim is None else dim if isinstance(dim, (list, tuple)) else (dim,)
    points = x.elements
    length = 1
    for axis in axes:
        longer = max(x.shape[axis], out.shape[axis])
        points = points // max(1, x.shape[axis]) * longer
        length *= longer
    return Lowered("fft", "Other", vector_ops=math.ceil(5 * points * math.log2(max(2, length))))


@lowers("aten.stft", "aten.istft")
def short_time_fourier(call: Call) -> Lowered:
    """Each frame: a product with the window, then a transform. Frames are the last axis of the spectrum."""
    inverse = call.operator == "aten.istft"
    spectrum, signal = (call["self"], call.output) if inverse else (call.output, call["self"])
    real_pairs = "complex" not in spectrum.dtype
    frames = spectrum.shape[-2 if real_pairs else -1]
    size = call["n_fft"]
    per_frame = size + math.ceil(5 * size * math.log2(max(2, size)))
    channels = math.prod(signal.shape[:-1])
    return Lowered("istft" if inverse else "stft", "Other", vector_ops=channels * frames * per_frame)
