"""Mixture-of-experts products: the rows of one matrix, sorted by expert, each times its expert's weight."""

from __future__ import annotations

from mmworkload.layer import Work
from mmworkload.problem import gemm
from mmworkload.tracing.call import Call, Lowered, Value, lowers


def grouped(x: Value, weight: Value, out_bits: int) -> tuple[tuple[Work, ...], int, str]:
    """Work of ``x`` [S, C] against ``weight`` [E, C, M] with rows split among the experts, the experts that get rows,
    and the assumption made.

    However the rows are split, the MACs are S * C * M; the split only decides the shapes, and is taken to be even.
    """
    rows, reduction = x.shape
    experts, _, columns = weight.shape
    each, more = divmod(rows, experts)
    role = "weight" if weight.is_weight else "input"
    work = tuple(
        Work(gemm(size, columns, reduction, bits=(x.bits, weight.bits, out_bits), second_role=role), count)  # type: ignore[arg-type]
        for size, count in ((each + 1, more), (each, experts - more))
        if size and count and columns and reduction
    )
    return work, min(rows, experts), f"{rows} rows spread evenly over {experts} experts"


@lowers("transformers.grouped_mm_fallback", "aten._grouped_mm", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2")
def grouped_product(call: Call) -> Lowered:
    """Rows by experts [S, C] x [E, C, M]; a batch of products [E, S, C] x [E, C, M]; and, with the summed or the output
    axis split, [M, S] x [S, N] and [E, M, C] x [C, S]."""
    x, weight, *others = call.tensors
    ranks = (len(x.shape), len(weight.shape))
    bits = call.output.bits
    small = tuple((item, item.bytes) for item in others)
    if ranks == (2, 3):
        work, used, split = grouped(x, weight, bits)
        read = weight.bytes * used // weight.shape[0]
        return Lowered(
            "grouped_matmul", "Gemm", work, reads=((x, x.bytes), (weight, read), *small), assumptions=(split,)
        )
    assumption: tuple[str, ...] = ()
    if ranks == (3, 3):
        groups, rows, reduction = x.shape
        columns = weight.shape[2]
    elif ranks == (2, 2):
        groups, rows, reduction, columns = call.output.shape[0], x.shape[0], x.shape[1], weight.shape[1]
        reduction, assumption = _even(reduction, groups, "columns")
    else:
        groups, rows, reduction = x.shape
        columns, assumption = _even(weight.shape[1], groups, "columns")
    problem = gemm(rows, columns, reduction, groups=groups, bits=(x.bits, weight.bits, bits), second_role="input")
    return Lowered("grouped_matmul", "Gemm", (Work(problem),), assumptions=assumption)


def _even(size: int, groups: int, what: str) -> tuple[int, tuple[str, ...]]:
    """A group's share of an axis that is split, rounded up where the split is not even."""
    return -(-size // groups), (f"{size} {what} spread evenly over {groups} experts",)
