"""Exact costs of what few networks use: special functions, sets, packing, transforms of images, rare spellings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

X = torch.rand(2, 3, 4, 5) + 0.5  # 120 elements, 480 bytes
ROW = torch.rand(5)
ROWS = torch.rand(6, 4)
IDS = torch.tensor([3, 1, 3, 0, 7, 7, 7, 2])  # 64 bytes

# name: (function, inputs, op, category, vector operations, bytes read, bytes written)
COSTS = {
    # elementwise
    "special function": (torch.special.i1, (X,), "special_i1", "Elewise", 120, 480, 480),
    "special function of two": (torch.special.zeta, (X + 1, ROW), "special_zeta", "Elewise", 120, 500, 480),
    "gamma of two": (torch.igamma, (X, X + 1), "igamma", "Elewise", 120, 960, 480),
    "greatest common divisor": (torch.gcd, (IDS, IDS + 1), "gcd", "Elewise", 8, 128, 64),
    "mantissa and exponent": (torch.frexp, (X,), "frexp", "Elewise", 120, 480, 480 + 480),
    "renormalise": (lambda x: torch.renorm(x, 2, 0, 1.0), (X,), "renorm", "Elewise", 120, 480, 480),
    "is real": (lambda x: torch.isreal(torch.view_as_complex(x)), (torch.rand(3, 2),), "isreal", "Elewise", 3, 24, 3),
    # reductions and scans
    "histogram": (lambda x: torch.histc(x, 10), (X,), "histc", "Reduce", 120, 480, 40),
    "trapezoid": (torch.trapezoid, (ROWS,), "trapezoid", "Reduce", 3 * 24, 96, 24),
    "running trapezoid": (
        torch.cumulative_trapezoid, (ROWS,), "cumulative_trapezoid", "Reduce", 3 * 24, 96, 6 * 3 * 4,
    ),
    "gradient": (lambda x: torch.gradient(x, dim=1)[0], (ROWS,), "gradient", "Reduce", 3 * 24, 96, 96),
    # 15 pairs of 6 rows, 24 pairs of 6 and 4.
    "distances within": (F.pdist, (ROWS,), "pdist", "Reduce", 3 * 4 * 15, 96, 60),
    "distances between": (torch.cdist, (ROWS, ROWS[:4] + 1), "cdist", "Reduce", 3 * 4 * 24, 96 + 64, 96),
    "count values": (lambda i: torch.bincount(i, minlength=8), (IDS,), "bincount", "Reduce", 8, 64, 64),
    # sets
    "distinct values": (lambda i: torch.unique(i), (IDS,), "unique", "Other", 8 * 3, 64, 5 * 8),
    "distinct values with their places": (
        lambda i: torch.unique(i, return_inverse=True), (IDS,), "unique", "Other", 8 * 3, 64, 5 * 8 + 64,
    ),
    "distinct rows": (
        lambda i: torch.unique(i.reshape(4, 2) * 0, dim=0), (IDS,), "unique", "Other", 8 * 2, 64, 16 + 4 * 8 + 8,
    ),
    "runs": (lambda i: torch.unique_consecutive(i), (IDS,), "unique_consecutive", "Reduce", 8, 64, 6 * 8),
    # second spellings
    "arc sine": (torch.arcsin, (X,), "arcsin", "Elewise", 120, 480, 480),
    "less or equal": (torch.less_equal, (X, ROW), "less_equal", "Elewise", 120, 500, 120),
    "logarithm of a sum": (
        lambda x: torch.special.logsumexp(x, -1), (X,), "special_logsumexp", "Reduce", 120, 480, 96,
    ),
    # random numbers
    "poisson": (torch.poisson, (X,), "poisson", "Elewise", 120, 480, 480),
    "window": (lambda x: torch.kaiser_window(8), (X,), "fill", "Movement", 0, 0, 32),
    # movement
    "diagonal": (lambda x: (x + 0).fill_diagonal_(1.0), (ROWS,), "fill", "Movement", 0, 0, 16),
    "wrapped diagonal": (lambda x: (x + 0).fill_diagonal_(1.0, wrap=True), (ROWS,), "fill", "Movement", 0, 0, 20),
    "pad sequences": (
        lambda x, y: nn.utils.rnn.pad_sequence([x, y]), (ROWS, ROWS[:2].clone()), "pad_sequence", "Movement", 0,
        96 + 32, 192,
    ),
    "un-pooling": (
        lambda x, i: F.max_unpool2d(x, i, 2), (X[:, :, :2, :2].clone(), torch.arange(24).reshape(2, 3, 2, 2) % 16),
        "max_unpool2d", "Movement", 0, 96 + 192, 384,
    ),
    "places of a fixed number": (
        lambda i: torch.nonzero_static(i, size=4), (IDS,), "nonzero_static", "Movement", 0, 64, 32,
    ),
    "places": (lambda i: torch.nonzero(i), (IDS,), "nonzero", "Movement", 0, 64, 7 * 8),
    "places by axis": (lambda i: torch.nonzero(i, as_tuple=True), (IDS,), "nonzero_numpy", "Movement", 0, 64, 7 * 8),
    "powers of a vector": (lambda x: torch.linalg.vander(x, N=3), (ROW,), "linalg_vander", "Elewise", 15, 20, 60),
    "put": (
        lambda x, i, y: torch.zeros(24).put_(i, y), (X, IDS, ROWS.flatten()[:8].clone()),
        "put", "Movement", 0, 64 + 32, 32,
    ),
    "empty in an order": (lambda x: torch.empty_permuted((2, 3), (1, 0)), (X,), "fill", "Movement", 0, 0, 0),
    "shuffled channels": (
        lambda x: F.native_channel_shuffle(x, 2), (X.reshape(2, 4, 3, 5),), "channel_shuffle", "Movement", 0, 480, 480,
    ),
    # pooling: windows times outputs, and the random numbers that place them
    "fractional pooling": (
        lambda x: F.fractional_max_pool2d(x, 2, output_size=(2, 3), _random_samples=torch.rand(2, 3, 2)),
        (X,), "fractional_max_pool2d", "Pooling", 4 * 2 * 3 * 6, 480 + 48, 144 + 288,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTS)
def test_bytes_and_vector_operations(name: str, trace: Any) -> None:
    source, inputs, op, category, vector_ops, read, written = COSTS[name]
    graph = trace(source, *inputs).graph
    layer = next(layer for layer in reversed(graph.layers) if layer.op == op)
    assert (layer.category, layer.macs, layer.outer_macs) == (category, 0, 0)
    assert (layer.vector_ops, layer.read_bytes, layer.write_bytes) == (vector_ops, read, written)
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []


# Second spellings of operators that have another name too.
ALIASES = {
    f"special_{name}"
    for name in (
        "digamma", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammainc", "gammaincc", "gammaln", "i0", "log1p",
        "logit", "logsumexp", "multigammaln", "psi", "round", "sinc", "xlogy",
    )
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_an_alias_is_one_operation_an_element_too(name: str, trace: Any) -> None:
    function = getattr(torch.special, name.removeprefix("special_"))
    more: tuple[Any, ...] = {"gammainc": (X,), "gammaincc": (X,), "xlogy": (X,), "multigammaln": (1,)}.get(
        name.removeprefix("special_"), (0,) if name == "special_logsumexp" else ()
    )
    graph = trace(lambda x: function(x, *more), X).graph
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []
    (layer,) = graph.layers
    assert layer.vector_ops == 120


# --- products in rare spellings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "rank"), [((2, 3, 4, 5), 2), ((2, 3, 4, 5, 6), 3)])
def test_an_affine_grid_is_a_product_with_each_point(trace: Any, count: Any, size: Any, rank: int) -> None:
    theta = torch.randn(2, rank, rank + 1)
    graph = trace(lambda t: F.affine_grid(t, list(size), align_corners=False), theta).graph
    points = math.prod(size[2:])
    (layer,) = graph.layers
    assert (layer.op, layer.macs) == ("matmul", 2 * points * (rank + 1) * rank)
    # The coordinates are made on the way.
    assert (layer.read_bytes, layer.write_bytes) == (4 * theta.numel(), 4 * 2 * points * rank)


def test_a_convolution_with_time_first_is_the_same_problem(trace: Any, works: Any, count: Any) -> None:
    class Convolution(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            self.first = first
            self.weight = nn.Parameter(torch.randn(3, 4, 6))
            self.bias = nn.Parameter(torch.randn(6))

        def forward(self, x: Any) -> Any:
            if self.first:
                return torch.conv_tbc(x, self.weight, self.bias, 1)
            weight = self.weight.permute(2, 1, 0)
            return F.conv1d(x.permute(1, 2, 0), weight, self.bias, padding=1).permute(2, 0, 1)

    x = torch.randn(7, 2, 4)
    first, plain = trace(Convolution(True), x), trace(Convolution(False), x)
    assert works(first) == works(plain)
    assert first.graph.total_macs == count(Convolution(False), x).macs == 2 * 7 * 3 * 4 * 6
    assert [(layer.op, layer.vector_ops) for layer in first.graph] == [("conv1d", 2 * 7 * 6)]
    assert [first.graph.tensors[name].shape for name in first.graph.outputs] == [(7, 2, 6)]


@pytest.mark.parametrize("name", ["cov", "corrcoef"])
def test_a_covariance_is_recorded_in_its_parts(trace: Any, count: Any, name: str) -> None:
    """It compares tensors inside, which export refuses."""
    function = getattr(torch, name)
    graph = trace(function, ROWS).graph
    assert graph.route == "recorder"
    assert graph.total_macs == count(function, ROWS).macs == 6 * 6 * 4
    assert [layer.op for layer in graph if layer.macs] == ["matmul"]
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []


def test_a_product_in_the_linear_algebra_module_is_a_product(trace: Any, works: Any, count: Any) -> None:
    a, b = torch.randn(2, 4, 6), torch.randn(6, 5)
    assert works(trace(torch.linalg.matmul, a, b)) == works(trace(torch.matmul, a, b))
    assert trace(torch.linalg.matmul, a, b).graph.total_macs == count(torch.matmul, a, b).macs


def test_packing_moves_the_rows_that_are_there(trace: Any) -> None:
    def function(x: Any, lengths: Any) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0]

    graph = trace(function, torch.randn(2, 5, 4), torch.tensor([4, 2])).graph
    pack, unpack = (next(layer for layer in graph if layer.op == op) for op in
                    ("pack_padded_sequence", "pad_packed_sequence"))  # fmt: skip
    # 6 rows of 4 numbers, and how many rows each of 4 steps has.
    assert pack.write_bytes == 6 * 4 * 4 + 4 * 8
    assert (unpack.read_bytes, unpack.write_bytes) == (6 * 4 * 4 + 4 * 8, 2 * 4 * 4 * 4 + 2 * 8)
    assert pack.macs == unpack.macs == 0
