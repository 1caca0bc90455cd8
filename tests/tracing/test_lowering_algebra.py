"""Dense linear algebra: chains and powers are their products; decompositions have their textbook counts and no MACs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from mmworkload.tracing.call import registry
from mmworkload.tracing.lowering.algebra import COUNTS


def spd(batch: int, n: int) -> Any:
    a = torch.randn(batch, n, n)
    return a @ a.mT + torch.eye(n)


# --- chains ---------------------------------------------------------------------------------------------------------


def cheapest(sizes: tuple[int, ...]) -> int:
    """Fewest MACs of a chain of matrices, by trying every last product."""

    @cache
    def best(first: int, last: int) -> int:
        if last - first == 1:
            return 0
        return min(
            best(first, middle) + best(middle, last) + sizes[first] * sizes[middle] * sizes[last]
            for middle in range(first + 1, last)
        )

    return best(0, len(sizes) - 1)


@pytest.mark.parametrize(
    "sizes",
    [(5, 7, 3), (10, 100, 5, 50), (30, 35, 15, 5, 10, 20, 25), (2, 9, 2, 9, 2), *itertools.permutations((3, 8, 2, 5))],
)
def test_a_chain_is_multiplied_in_the_order_that_costs_least(trace: Any, count: Any, sizes: tuple[int, ...]) -> None:
    matrices = [torch.randn(a, b) for a, b in itertools.pairwise(sizes)]

    def chain(*parts: Any) -> Any:
        return torch.linalg.multi_dot(list(parts))

    graph = trace(chain, *matrices).graph
    assert graph.total_macs == cheapest(sizes) == count(chain, *matrices).macs
    assert [layer.op for layer in graph] == ["matmul"]
    assert graph.layers[0].read_bytes == 4 * sum(item.numel() for item in matrices)


def test_a_chain_may_begin_and_end_with_a_vector(trace: Any, count: Any) -> None:
    parts = (torch.randn(6), torch.randn(6, 8), torch.randn(8, 3), torch.randn(3))

    def chain(*parts: Any) -> Any:
        return torch.linalg.multi_dot(list(parts))

    graph = trace(chain, *parts).graph
    assert graph.total_macs == cheapest((1, 6, 8, 3, 1)) == count(chain, *parts).macs
    assert graph.layers[0].write_bytes == 4


def test_a_chain_of_two_is_a_product(trace: Any, works: Any) -> None:
    class Chain(nn.Module):
        def __init__(self, chained: bool) -> None:
            super().__init__()
            self.chained, self.weight = chained, nn.Parameter(torch.randn(6, 5))

        def forward(self, x: Any) -> Any:
            return torch.linalg.multi_dot([x, self.weight]) if self.chained else x @ self.weight

    x = torch.randn(4, 6)
    assert works(trace(Chain(True), x)) == works(trace(Chain(False), x))


# --- powers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "products"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4), (8, 3), (15, 6)]
)
def test_a_power_is_repeated_squaring(trace: Any, count: Any, power: int, products: int) -> None:
    x = torch.randn(3, 6, 6)

    def function(x: Any) -> Any:
        return torch.linalg.matrix_power(x, power)

    graph = trace(function, x).graph
    assert graph.total_macs == products * 3 * 6**3 == count(function, x).macs


@pytest.mark.parametrize(("power", "products"), [(-1, 0), (-2, 1), (-5, 3)])
def test_a_negative_power_inverts_first(trace: Any, power: int, products: int) -> None:
    graph = trace(lambda x: torch.linalg.matrix_power(x, power), torch.randn(3, 6, 6)).graph
    assert (graph.total_macs, graph.layers[-1].vector_ops) == (products * 3 * 6**3, 3 * 6**3)


# --- decompositions -------------------------------------------------------------------------------------------------

A, TALL, B = spd(2, 6), torch.randn(2, 9, 6), torch.randn(2, 6, 4)
# Multiply-adds for one matrix, M rows and N columns, K right-hand sides.
N, M, K = 6, 9, 4
INVERSE, LU, SOLVE = N**3, N**2 * (N - N / 3) / 2, N**3 / 3 + N**2 * K
DECOMPOSITIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], float, int]] = {
    # name: (function, inputs, operations for one matrix, bytes written)
    "cholesky": (torch.linalg.cholesky, (A,), N**3 / 6, 2 * 36 * 4),
    "cholesky_solve": (torch.cholesky_solve, (B, A), N**2 * K, 2 * 24 * 4),
    "lu_factor": (torch.linalg.lu_factor, (A,), LU, 2 * 36 * 4 + 2 * 6 * 4),
    "det": (torch.linalg.det, (A,), LU, 2 * 4),
    "inv": (torch.linalg.inv, (A,), INVERSE, 2 * 36 * 4),
    "solve": (torch.linalg.solve, (A, B), SOLVE, 2 * 24 * 4),
    "solve_triangular": (
        lambda a, b: torch.linalg.solve_triangular(a, b, upper=False), (A, B), N**2 * K / 2, 2 * 24 * 4,
    ),
    "qr of a tall matrix": (torch.linalg.qr, (TALL,), N**2 * (M - N / 3), 2 * (54 + 36) * 4),
    "eigh": (torch.linalg.eigh, (A,), 4.5 * N**3, 2 * (6 + 36) * 4),
    "eigvalsh": (torch.linalg.eigvalsh, (A,), 2 * N**3 / 3, 2 * 6 * 4),
    "svd": (
        lambda x: torch.linalg.svd(x, full_matrices=False), (TALL,), 7 * M * N**2 + 4 * N**3, 2 * (54 + 6 + 36) * 4,
    ),
    "singular values": (torch.linalg.svdvals, (TALL,), 2 * M * N**2 - 2 * N**3 / 3, 2 * 6 * 4),
    "pseudo-inverse": (torch.linalg.pinv, (TALL,), 7 * M * N**2 + 4 * N**3, 2 * 54 * 4),
    "matrix exponential": (torch.linalg.matrix_exp, (A,), (6 + 4 / 3 + 4) * N**3, 2 * 36 * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_a_decomposition_is_vector_operations_in_the_textbook_count(trace: Any, name: str) -> None:
    function, inputs, each, written = DECOMPOSITIONS[name]
    graph = trace(function, *inputs).graph
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []
    assert graph.total_macs == 0
    layer = max(graph, key=lambda item: item.vector_ops)
    assert (layer.category, layer.vector_ops) == ("Other", math.ceil(2 * each))
    assert layer.read_bytes == 4 * sum(item.numel() for item in inputs)
    assert layer.write_bytes >= written


def test_the_size_of_the_batch_scales_the_count(trace: Any) -> None:
    counts = [trace(torch.linalg.inv, spd(batch, 5)).graph.layers[0].vector_ops for batch in (1, 4)]
    assert counts == [125, 500]
    assert trace(torch.linalg.inv, spd(1, 5)[0]).graph.layers[0].vector_ops == 125


def test_every_counted_name_has_a_lowering_and_a_positive_count() -> None:
    assert {f"aten.{name}" for name in COUNTS} <= set(registry())
    assert all(function(9, 6, 4) > 0 for function in COUNTS.values())
    # A larger matrix never costs less.
    assert all(function(12, 8, 4) > function(9, 6, 4) for function in COUNTS.values())
