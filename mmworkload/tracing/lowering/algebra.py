"""Dense linear algebra: decompositions and solvers. Their operations are vector operations and not MACs.

Counts are the leading terms for one matrix, in multiply-adds as one operation each: Golub and Van Loan, Matrix
Computations (4th edition), chapters 3 to 8. Iterative methods (eigenvalues, singular values) are stated there as
typical, not exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mmworkload.layer import Work
from mmworkload.tracing.call import Call, Lowered, Value, lowers
from mmworkload.tracing.lowering.contraction import contract, matmul_axes

# Operations for a matrix of m rows and n columns, m at least n, and k right-hand sides.
COUNTS: dict[str, Callable[[int, int, int], float]] = {
    **dict.fromkeys(("linalg_cholesky", "linalg_cholesky_ex", "cholesky"), lambda m, n, k: n**3 / 6),
    **dict.fromkeys(
        (
            "linalg_lu", "linalg_lu_factor", "linalg_lu_factor_ex", "_lu_with_info", "linalg_ldl_factor",
            "linalg_ldl_factor_ex", "linalg_det", "_linalg_det", "linalg_slogdet", "_linalg_slogdet", "logdet", "det",
            "slogdet",
        ),
        lambda m, n, k: n**2 * (m - n / 3) / 2,
    ),
    **dict.fromkeys(
        ("linalg_inv", "linalg_inv_ex", "inverse", "cholesky_inverse", "linalg_tensorinv"), lambda m, n, k: n**3
    ),
    **dict.fromkeys(
        ("linalg_solve", "linalg_solve_ex", "_linalg_solve_ex", "linalg_tensorsolve"),
        lambda m, n, k: n**3 / 3 + n**2 * k,
    ),
    **dict.fromkeys(("linalg_solve_triangular", "triangular_solve"), lambda m, n, k: n**2 * k / 2),
    **dict.fromkeys(("cholesky_solve", "lu_solve", "linalg_lu_solve", "linalg_ldl_solve"), lambda m, n, k: n**2 * k),
    **dict.fromkeys(
        ("linalg_qr", "geqrf", "linalg_householder_product", "orgqr", "ormqr"), lambda m, n, k: n**2 * (m - n / 3)
    ),
    **dict.fromkeys(("linalg_lstsq",), lambda m, n, k: n**2 * (m - n / 3) + m * n * k),
    **dict.fromkeys(("linalg_eigh", "_linalg_eigh", "linalg_matrix_sqrth"), lambda m, n, k: 4.5 * n**3),
    **dict.fromkeys(("linalg_eigvalsh",), lambda m, n, k: 2 * n**3 / 3),
    **dict.fromkeys(("linalg_eig",), lambda m, n, k: 12.5 * n**3),
    **dict.fromkeys(("linalg_eigvals",), lambda m, n, k: 5 * n**3),
    **dict.fromkeys(
        ("linalg_svd", "_linalg_svd", "svd", "linalg_pinv", "pinverse", "linalg_polar"),
        lambda m, n, k: 7 * m * n**2 + 4 * n**3,
    ),
    **dict.fromkeys(
        ("linalg_svdvals", "linalg_matrix_rank", "linalg_cond", "nuclear_norm"),
        lambda m, n, k: 2 * m * n**2 - 2 * n**3 / 3,
    ),
    # Scaling and squaring with a Pade approximant of degree 13: six products, a solve, and the squarings.
    **dict.fromkeys(("linalg_matrix_exp", "matrix_exp"), lambda m, n, k: (6 + 4 / 3 + 4) * n**3),
}  # fmt: skip


@lowers(*(f"aten.{name}" for name in COUNTS))
def decomposition(call: Call) -> Lowered:
    name = call.operator.removeprefix("aten.")
    matrices = [value for value in call.tensors if len(value.shape) > 1]
    # cholesky_solve and triangular_solve take the right-hand side first.
    x = matrices[1] if name in ("cholesky_solve", "triangular_solve", "lu_solve") and len(matrices) > 1 else matrices[0]
    m, n = max(x.shape[-2:]), min(x.shape[-2:])
    right = [value for value in call.tensors if value is not x]
    columns = right[0].shape[-1] if right and len(right[0].shape) > 1 else 1
    count = COUNTS[name](m, n, columns)
    return Lowered(
        name.removeprefix("_").removeprefix("linalg_"), "Other",
        vector_ops=math.ceil(math.prod(x.shape[:-2]) * count), write_bytes=sum(item.bytes for item in call.outputs),
    )  # fmt: skip


@lowers("aten.linalg_multi_dot", "aten.chain_matmul")
def chain(call: Call) -> Lowered:
    """A chain of products, in the order that needs the fewest MACs (what torch does)."""
    values: list[Value] = call.tensors
    shapes = [value.shape for value in values]
    # A vector at the front is a row, at the end a column.
    matrices = [shape if len(shape) == 2 else (1, *shape) if not i else (*shape, 1) for i, shape in enumerate(shapes)]
    sizes = [matrices[0][0], *(shape[1] for shape in matrices)]
    count = len(values)
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(count)}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )
    work: list[Work] = []

    def product(i: int, j: int) -> Value:
        if i == j:
            value = values[i]
            shape = (sizes[i], sizes[i + 1])
            return Value(value.tensor, shape, value.dtype, value.bits, math.prod(shape), value.is_weight)
        k = best[i, j][1]
        a, b = product(i, k), product(k + 1, j)
        pair, _ = contract(a, b, *matmul_axes(2, 2), call.output.bits)
        work.extend(pair)
        return Value("", (sizes[i], sizes[j + 1]), call.output.dtype, call.output.bits, sizes[i] * sizes[j + 1])

    product(0, count - 1)
    return Lowered("matmul", "Gemm", tuple(work))


@lowers("aten.linalg_matrix_power", "aten.matrix_power")
def power(call: Call) -> Lowered:
    """Repeated squaring: a product for each bit of the exponent but the highest, and one more for each other that is
    set. A negative power is that of the inverse."""
    x, exponent = call["self"], int(call["n"])
    products = max(0, exponent.bit_length() - 1) + max(0, exponent.bit_count() - 1)
    inverse = (
        math.ceil(math.prod(x.shape[:-2]) * COUNTS["linalg_inv"](x.shape[-1], x.shape[-1], 0)) if exponent < 0 else 0
    )
    if not products:
        return Lowered("matrix_power", "Other" if inverse else "Movement", vector_ops=inverse)
    axes = matmul_axes(len(x.shape), len(x.shape))
    work, _ = contract(x, x, *axes, call.output.bits)
    return Lowered("matrix_power", "Gemm", work * products, vector_ops=inverse)
