"""Mixture-of-experts products: the rows of one matrix, sorted by expert, each times its expert's weight."""

from __future__ import annotations

from mmworkload.layer import Work
from mmworkload.problem import gemm
from mmworkload.tracing.call import Call, Lowered, Value, lowers


@lowers(
    "transformers.grouped_mm_fallback",
    "aten._grouped_mm",
    "aten._scaled_grouped_mm",
    "aten._scaled_grouped_mm_v2",
)
def grouped_product(call: Call) -> Lowered:
    """One product for each expert. Either the rows are split among the experts, [S, C] x [E, C, M], or the columns,
    [E, M, C] x [C, S], or the sum, [M, S] x [S, N]; or nothing is, [E, S, C] x [E, C, M].

    However an axis is split, the MACs are the same; the split only decides the shapes, and is taken to be even. Experts
    that get no rows are not read.
    """
    x, weight, *others = call.tensors
    ranks = (len(x.shape), len(weight.shape))
    passes = isinstance(call.get("bias"), Value) + ("_scaled" in call.operator)
    vector_ops = passes * call.output.elements
    small = tuple((item, item.bytes) for item in others)
    rows, reduction, columns = x.shape[-2], x.shape[-1], weight.shape[-1]
    if ranks == (3, 3):
        work = _product(call, rows, columns, reduction, groups=x.shape[0])
        return Lowered("grouped_matmul", "Gemm", work, vector_ops)
    if ranks == (2, 3):
        size, experts, axis = rows, weight.shape[0], "rows"
    elif ranks == (3, 2):
        size, experts, axis = columns, x.shape[0], "columns"
    else:
        size, experts, axis = reduction, call.output.shape[0], "summands"
    each, more = divmod(size, experts)
    work = ()
    for share, count in ((each + 1, more), (each, experts - more)):
        extents = {"rows": rows, "columns": columns, "summands": reduction, axis: share}
        work += _product(call, extents["rows"], extents["columns"], extents["summands"], count=count)
    used = min(size, experts)
    reads = tuple(
        (item, item.bytes * used // experts if len(item.shape) == 3 and experts else item.bytes) for item in (x, weight)
    )
    return Lowered(
        "grouped_matmul", "Gemm", work, vector_ops, (*reads, *small),
        assumptions=(f"{size} {axis} spread evenly over {experts} experts",),
    )  # fmt: skip


def _product(
    call: Call, rows: int, columns: int, reduction: int, *, count: int = 1, groups: int = 1
) -> tuple[Work, ...]:
    if 0 in (rows, columns, reduction, count, groups):
        return ()
    x, weight, *_ = call.tensors
    problem = gemm(
        rows, columns, reduction, groups=groups, bits=(x.bits, weight.bits, call.output.bits),
        second_role="weight" if weight.is_weight else "input",
    )  # fmt: skip
    return (Work(problem, count),)
