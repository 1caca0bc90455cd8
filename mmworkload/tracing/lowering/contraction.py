"""Matrix products in all their spellings: linear, mm, bmm, matmul, einsum, tensordot, bilinear.

All of them become the same loop nest (G, N, M, C), so that one computation written in two ways is one problem.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import replace

from mmworkload.layer import Work
from mmworkload.problem import gemm
from mmworkload.tracing.call import Call, Lowered, Value, lowers


def contract(
    a: Value, b: Value, a_axes: str, b_axes: str, out_axes: str, out_bits: int
) -> tuple[tuple[Work, ...], int]:
    """The work of ``out[out_axes] = sum(a[a_axes] * b[b_axes])``, one loop nest, and the vector operations before it.

    An operand without elements makes no work.

    Letters in both operands and the output are groups; those in one operand and the output rows or columns; those in
    both but not in the output the reduction. A letter that only one operand has and the output lacks is summed
    before the product. The second operand of the nest is the weight when there is one.
    """
    if a.is_weight and not b.is_weight:
        a, b, a_axes, b_axes = b, a, b_axes, a_axes
    sizes = dict(zip(a_axes, a.shape, strict=True))
    for letter, size in zip(b_axes, b.shape, strict=True):
        # An axis of extent 1 broadcasts against the other operand's.
        sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    in_a = {letter for letter, size in zip(a_axes, a.shape, strict=True) if size == sizes[letter]}
    in_b = {letter for letter, size in zip(b_axes, b.shape, strict=True) if size == sizes[letter]}

    def extent(letters: set[str]) -> int:
        return math.prod(sizes[letter] for letter in letters)

    out = set(out_axes)
    summed_first = sum(
        value.elements
        for value, own, other in ((a, in_a, in_b), (b, in_b, in_a))
        if any(sizes[letter] > 1 for letter in own - other - out)
    )
    groups, reduction = extent(in_a & in_b & out), extent((in_a & in_b) - out)
    # A layer with one input feature is a product with a weight; without a common letter nothing is contracted at all.
    contracted = (set(a_axes) & set(b_axes)) - out
    rank_one = reduction == 1 and not (b.is_weight and contracted)
    rows, columns = extent((in_a - in_b) & out), extent((in_b - in_a) & out)
    if 0 in (rows, columns, groups, reduction):
        return (), summed_first
    problem = gemm(
        rows,
        columns,
        reduction,
        groups=groups,
        bits=(a.bits, b.bits, out_bits),
        second_role="weight" if b.is_weight else "input",
        # Nothing is accumulated: products only, counted apart.
        operation="mul" if rank_one else "mac",
    )
    return (Work(problem),), summed_first


def matmul_axes(a_rank: int, b_rank: int) -> tuple[str, str, str]:
    """Einsum letters of ``torch.matmul`` for operands of these ranks (vectors included)."""
    letters = string.ascii_lowercase
    batch = letters[: max(a_rank, b_rank, 2) - 2]
    row, column, inner = "x", "y", "z"
    a = (batch[len(batch) - (a_rank - 2) :] + row + inner) if a_rank > 1 else inner
    b = (batch[len(batch) - (b_rank - 2) :] + inner + column) if b_rank > 1 else inner
    out = batch + (row if a_rank > 1 else "") + (column if b_rank > 1 else "")
    return a, b, out


def _matmul(call: Call, first: str, second: str) -> Lowered:
    a, b = call[first], call[second]
    a_axes, b_axes, out_axes = matmul_axes(len(a.shape), len(b.shape))
    work, before = contract(a, b, a_axes, b_axes, out_axes, call.output.bits)
    return Lowered("matmul", "Gemm", work, vector_ops=before)


@lowers("aten.linear")
def linear(call: Call) -> Lowered:
    """``input`` [..., C], ``weight`` [M, C]."""
    x, weight = call["input"], call["weight"]
    lead = string.ascii_lowercase[: len(x.shape) - 1]
    columns = "y" if len(weight.shape) > 1 else ""
    work, _ = contract(x, weight, lead + "z", columns + "z", lead + columns, call.output.bits)
    bias = call.output.elements if isinstance(call.get("bias"), Value) else 0
    return Lowered("linear", "Gemm", work, vector_ops=bias)


@lowers("aten.mm", "aten.bmm", "aten._int_mm", "aten._scaled_mm", "aten._scaled_mm_v2")
def plain_product(call: Call) -> Lowered:
    """Products of 8-bit numbers too; their scales are read, and multiply the output once."""
    lowered = _matmul(call, "self", "mat2")
    passes = ("_scaled" in call.operator) + isinstance(call.get("bias"), Value)
    return replace(lowered, vector_ops=lowered.vector_ops + passes * call.output.elements)


@lowers("aten.matmul", "aten.linalg_matmul")
def matmul(call: Call) -> Lowered:
    return _matmul(call, "self", "other")


@lowers("aten.mv")
def matrix_vector(call: Call) -> Lowered:
    return _matmul(call, "self", "vec")


@lowers("aten.dot", "aten.vdot", "aten.inner")
def dot(call: Call) -> Lowered:
    other = "tensor" if "tensor" in call.args else "other"
    a, b = call["self"], call[other]
    if not a.shape or not b.shape:
        # torch.inner with a number is a product.
        return Lowered("mul", "Elewise", vector_ops=call.output.elements)
    a_axes, b_axes = "abcdef"[: len(a.shape) - 1] + "z", "ghijkl"[: len(b.shape) - 1] + "z"
    work, before = contract(a, b, a_axes, b_axes, a_axes[:-1] + b_axes[:-1], call.output.bits)
    return Lowered("matmul", "Gemm", work, vector_ops=before)


@lowers("aten.outer", "aten.ger")
def outer(call: Call) -> Lowered:
    work, _ = contract(call["self"], call["vec2"], "a", "b", "ab", call.output.bits)
    return Lowered("outer", "Gemm", work)


@lowers("aten.addr")
def outer_and_add(call: Call) -> Lowered:
    work, _ = contract(call["vec1"], call["vec2"], "a", "b", "ab", call.output.bits)
    return Lowered("outer", "Gemm", work, vector_ops=call.output.elements)


@lowers("aten.linalg_vecdot")
def vector_dot(call: Call) -> Lowered:
    """Dot products along one axis, the other axes broadcast."""
    a, b = call["x"], call["y"]
    rank = max(len(a.shape), len(b.shape))
    letters = string.ascii_lowercase[:rank]
    axis = call["dim"] % rank
    work, before = contract(
        a, b, letters[rank - len(a.shape) :], letters[rank - len(b.shape) :], letters.replace(letters[axis], ""),
        call.output.bits,
    )  # fmt: skip
    return Lowered("matmul", "Gemm", work, vector_ops=before)


@lowers("aten.cdist", "aten._cdist_forward")
def pairwise_distances(call: Call) -> Lowered:
    """Every row against every row: a difference, a power and a sum for each coordinate."""
    width = call["x1"].shape[-1]
    return Lowered("cdist", "Reduce", vector_ops=3 * width * call.output.elements)


@lowers("aten.addmm", "aten.baddbmm", "aten.addbmm", "aten.addmv", "aten._scaled_addmm")
def product_and_add(call: Call) -> Lowered:
    """``beta * self + alpha * product``; addbmm also sums over the batch."""
    names = [name for name in ("mat1", "mat", "batch1") if name in call.args]
    second = {"mat1": "mat2", "mat": "vec", "batch1": "batch2"}[names[0]]
    a, b = call[names[0]], call[second]
    a_axes, b_axes, out_axes = matmul_axes(len(a.shape), len(b.shape))
    if call.operator == "aten.addbmm":
        out_axes = out_axes[1:]
    work, before = contract(a, b, a_axes, b_axes, out_axes, call.output.bits)
    op = "linear" if b.is_weight or a.is_weight else "matmul"
    return Lowered(op, "Gemm", work, vector_ops=before + call.output.elements)


def _einsum_terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Plain letters per operand and for the output; ``...`` becomes spare capital letters, as in NumPy."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [letter for letter in string.ascii_uppercase if letter not in equation]
    widest = max(
        (rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True) if "..." in term),
        default=0,
    )
    ellipsis = "".join(spare[:widest])
    full = []
    for term, rank in zip(terms, ranks, strict=True):
        count = rank - len(term.replace("...", ""))
        full.append(term.replace("...", ellipsis[len(ellipsis) - count :] if count else ""))
    if arrow:
        out = right.replace("...", ellipsis)
    else:
        letters = "".join(full)
        out = ellipsis + "".join(
            sorted(letter for letter in set(letters) - set(ellipsis) if letters.count(letter) == 1)
        )
    return full, out


def einsum_work(equation: str, operands: Sequence[Value], out_bits: int) -> tuple[tuple[Work, ...], int]:
    """The pairwise problems of an einsum, left to right, and its other vector operations.

    Left to right is what torch does without opt_einsum; it is taken whatever is installed, so that a graph does not
    depend on an optional package.
    """
    terms, out = _einsum_terms(equation, [len(value.shape) for value in operands])
    work: list[Work] = []
    vector_ops = 0
    values = list(operands)
    for index, (term, value) in enumerate(zip(terms, values, strict=True)):
        if len(set(term)) < len(term):
            # A repeated letter takes the diagonal, which is a view.
            first = "".join(dict.fromkeys(term))
            shape = tuple(value.shape[term.index(letter)] for letter in first)
            terms[index] = first
            values[index] = Value(value.tensor, shape, value.dtype, value.bits, math.prod(shape), value.is_weight)
    current, current_axes = values[0], terms[0]
    if len(values) == 1:
        summed = set(current_axes) - set(out)
        return (), current.elements if summed else 0
    for index in range(1, len(values)):
        value, axes = values[index], terms[index]
        later = set(out).union(*terms[index + 1 :])
        kept = "".join(letter for letter in dict.fromkeys(current_axes + axes) if letter in later)
        pair, before = contract(current, value, current_axes, axes, kept, out_bits)
        work += pair
        vector_ops += before
        sizes = dict(zip(current_axes, current.shape, strict=True))
        for letter, size in zip(axes, value.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
        shape = tuple(sizes[letter] for letter in kept)
        current = Value("", shape, value.dtype, out_bits, math.prod(shape))
        current_axes = kept
    return tuple(work), vector_ops


@lowers("aten.einsum")
def einsum(call: Call) -> Lowered:
    work, vector_ops = einsum_work(call["equation"], call["tensors"], call.output.bits)
    if not work:
        return Lowered("einsum", "Reduce" if vector_ops else "Movement", vector_ops=vector_ops)
    op = "outer" if all(item.problem.operation == "mul" for item in work) else "einsum"
    return Lowered(op, "Gemm", work, vector_ops=vector_ops)


@lowers("aten.tensordot")
def tensordot(call: Call) -> Lowered:
    a, b = call["self"], call["other"]
    a_axes = list(string.ascii_lowercase[: len(a.shape)])
    b_axes = list(string.ascii_uppercase[: len(b.shape)])
    for i, j in zip(call["dims_self"], call["dims_other"], strict=True):
        b_axes[j] = a_axes[i]
    shared = set(a_axes) & set(b_axes)
    out = "".join(letter for letter in a_axes + b_axes if letter not in shared)
    work, before = contract(a, b, "".join(a_axes), "".join(b_axes), out, call.output.bits)
    return Lowered("matmul", "Gemm", work, vector_ops=before)


@lowers("aten.affine_grid_generator")
def affine_grid(call: Call) -> Lowered:
    """``theta`` [N, 2, 3] (or [N, 3, 4]) times the homogeneous coordinates of each point, which are made on the way."""
    theta, out = call["theta"], call.output
    points = math.prod(out.shape[1:-1])
    grid = Value("", (points, theta.shape[2]), out.dtype, out.bits, points * theta.shape[2])
    work, _ = contract(grid, theta, "pz", "nyz", "npy", out.bits)
    return Lowered("matmul", "Gemm", work, vector_ops=points * theta.shape[1])


@lowers("aten.bilinear")
def bilinear(call: Call) -> Lowered:
    """``out[n, o] = sum_ij x1[n, i] W[o, i, j] x2[n, j]``: first with x1, then with x2, as torch's trilinear sums."""
    x1, x2, weight = call["input1"], call["input2"], call["weight"]
    rows = math.prod(x1.shape[:-1])
    flat1 = Value("", (rows, x1.shape[-1]), x1.dtype, x1.bits, x1.elements)
    flat2 = Value("", (rows, x2.shape[-1]), x2.dtype, x2.bits, x2.elements)
    work, vector_ops = einsum_work("ni,oij,nj->no", (flat1, weight, flat2), call.output.bits)
    bias = call.output.elements if isinstance(call.get("bias"), Value) else 0
    return Lowered("bilinear", "Gemm", work, vector_ops=vector_ops + bias)
