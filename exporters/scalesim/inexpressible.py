"""What SCALE-Sim cannot be told: the reasons that stand in a manifest, each with its source."""

from __future__ import annotations

from mmworkload.exporters.work_items import WorkItem
from mmworkload.problem import Problem

_ROWS = "SCALE-Sim 3.0.0, topology_utils.py: a row is a convolution or a matrix product of two operands"

# Operator families or properties: (reason, source).
INEXPRESSIBLE: dict[str, tuple[str, str]] = {
    "pooling, normalization, activation, softmax and other elementwise work": (
        "no multiply-accumulates: work of a vector unit",
        _ROWS,
    ),
    "embedding, gather, copy, concatenation": ("no multiply-accumulates: only moves data", _ROWS),
    "operators of the host": ("runs on the host", "SCALE-Sim models the array and its buffers only"),
    "reductions by another operation": ("the operation is not a multiply-accumulate", _ROWS),
    "products of another number of operands": ("not a product of two operands", _ROWS),
    "sums over one operand alone": (
        "a dimension is in fewer than two operands: not a matrix product",
        "Samajdar et al., ISPASS 2020: M, N and K are each in exactly two of the three matrices",
    ),
}


def _reason(family: str) -> str:
    return INEXPRESSIBLE[family][0]


def problem_refusal(problem: Problem) -> str:
    """Why ``problem`` is no matrix product, or an empty string when it is one."""
    if problem.operation not in ("mac", "mul"):
        return _reason("reductions by another operation")
    if len(problem.operands) != 3:
        return _reason("products of another number of operands")
    for dim, extent in problem.dims:
        if extent > 1 and sum(dim in operand.dims for operand in problem.operands) < 2:
            return _reason("sums over one operand alone")
    return ""


def refusal(item: WorkItem) -> str:
    """Why a work item is left out, or an empty string."""
    if item.work is None:
        moves = not item.layer.vector_ops
        return _reason(
            "embedding, gather, copy, concatenation"
            if moves
            else "pooling, normalization, activation, softmax and other elementwise work"
        )
    if item.layer.placement == "host":
        return _reason("operators of the host")
    return problem_refusal(item.work.problem)
