"""Matrix products: one computation is one problem however it is spelled, with exact MACs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmworkload.problem import Problem, gemm

X = torch.randn(2, 5, 12)
A, B = torch.randn(5, 12), torch.randn(12, 7)
BATCHED = torch.randn(3, 4, 6), torch.randn(3, 6, 5)


class Weight(nn.Module):
    """A parameter [7, 12] and a way to multiply with it."""

    def __init__(self, use: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 12))
        self.use = use

    def forward(self, x: Any) -> Any:
        return self.use(x, self.weight)


# Ten rows of twelve numbers times a 7 x 12 weight: 10 * 12 * 7 = 840.
LINEAR = {
    "nn.Linear": nn.Linear(12, 7, bias=False),
    "F.linear": Weight(F.linear),
    "matmul with the transposed weight": Weight(lambda x, w: x @ w.t()),
    "matmul from the left": Weight(lambda x, w: (w @ x.flatten(0, 1).t()).t()),
    "mm": Weight(lambda x, w: torch.mm(x.reshape(10, 12), w.T)),
    "einsum": Weight(lambda x, w: torch.einsum("bnc,mc->bnm", x, w)),
    "einsum with an ellipsis": Weight(lambda x, w: torch.einsum("...c,mc->...m", x, w)),
    "einsum, weight first, output transposed": Weight(lambda x, w: torch.einsum("mc,bnc->bmn", w, x)),
    "tensordot": Weight(lambda x, w: torch.tensordot(x, w, dims=([-1], [1]))),
    "inner": Weight(torch.inner),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_layer_is_one_problem_in_every_spelling(name: str, trace: Any, count: Any) -> None:
    traced = trace(LINEAR[name], X)
    (work,) = [work for layer in traced.graph for work in layer.work]
    assert work.problem == gemm(10, 7, 12).canonical()
    assert traced.graph.total_macs == 840 == count(LINEAR[name], X).macs
    assert traced.graph.total_params == 84


def test_addmm_with_a_weight_is_a_linear_layer_with_bias(trace: Any) -> None:
    class Addmm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(7, 12)), nn.Parameter(torch.randn(7))

        def forward(self, x: Any) -> Any:
            return torch.addmm(self.bias, x, self.weight.t())

    for module in (nn.Linear(12, 7), Addmm()):
        (layer,) = trace(module, A).graph.layers
        assert layer.op == "linear"
        assert [work.problem for work in layer.work] == [gemm(5, 7, 12).canonical()]
        assert (layer.macs, layer.vector_ops) == (5 * 12 * 7, 35)
        assert (layer.read_bytes, layer.write_bytes) == (4 * (60 + 84 + 7), 4 * 35)


# Three products of 4 x 6 and 6 x 5, both activations: 3 * 4 * 6 * 5 = 360.
PRODUCTS = {
    "bmm": torch.bmm,
    "matmul": torch.matmul,
    "the operator": lambda a, b: a @ b,
    "einsum": lambda a, b: torch.einsum("gnc,gcm->gnm", a, b),
    "baddbmm": lambda a, b: torch.baddbmm(torch.zeros(3, 4, 5), a, b),
    "in place": lambda a, b: torch.zeros(3, 4, 5).baddbmm_(a, b),
    "into a tensor": lambda a, b: torch.bmm(a, b, out=torch.empty(3, 4, 5)),
    "four axes": lambda a, b: a[:, None] @ b[:, None],
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_batched_product_is_one_problem_in_every_spelling(name: str, trace: Any, count: Any) -> None:
    traced = trace(PRODUCTS[name], *BATCHED)
    (work,) = [work for layer in traced.graph for work in layer.work]
    assert work.problem == gemm(4, 5, 6, groups=3, second_role="input").canonical()
    assert traced.graph.total_macs == 360 == count(PRODUCTS[name], *BATCHED).macs


# (function, inputs, rows, columns, reduction, groups)
SHAPES = {
    "mv": (torch.mv, (A, torch.randn(12)), 5, 1, 12, 1),
    "addmv": (lambda a, b: torch.addmv(torch.zeros(5), a, b), (A, torch.randn(12)), 5, 1, 12, 1),
    "matmul with a vector": (torch.matmul, (X, torch.randn(12)), 10, 1, 12, 1),
    "a vector with matmul": (torch.matmul, (torch.randn(12), B), 1, 7, 12, 1),
    "a vector with a batch": (torch.matmul, (torch.randn(6), BATCHED[1]), 1, 15, 6, 1),
    "dot": (torch.dot, (torch.randn(9), torch.randn(9)), 1, 1, 9, 1),
    "vdot": (torch.vdot, (torch.randn(9), torch.randn(9)), 1, 1, 9, 1),
    "broadcast batch": (torch.matmul, (torch.randn(1, 4, 6), BATCHED[1]), 4, 15, 6, 1),
    "two batch axes, one broadcast": (torch.matmul, (torch.randn(2, 1, 4, 6), torch.randn(3, 6, 5)), 8, 15, 6, 1),
    "addbmm sums over the batch": (lambda a, b: torch.addbmm(torch.zeros(4, 5), a, b), BATCHED, 4, 5, 18, 1),
    "addbmm_ in place": (lambda a, b: torch.zeros(4, 5).addbmm_(a, b), BATCHED, 4, 5, 18, 1),
    "addmm_ in place": (lambda a, b: torch.zeros(5, 7).addmm_(a, b), (A, B), 5, 7, 12, 1),
    "tensordot over two axes": (
        lambda a, b: torch.tensordot(a, b, dims=([1, 2], [0, 1])),
        (torch.randn(2, 3, 4), torch.randn(3, 4, 5)), 2, 5, 12, 1,
    ),
    "einsum with a diagonal": (lambda a, b: torch.einsum("iic,cm->im", a, b), (torch.randn(4, 4, 12), B), 4, 7, 12, 1),
    "einsum without an arrow": (lambda a, b: torch.einsum("nc,cm", a, b), (A, B), 5, 7, 12, 1),
    "vecdot": (torch.linalg.vecdot, (X, X + 1), 1, 1, 12, 10),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_rows_columns_reduction_and_groups_of_a_product(name: str, trace: Any, count: Any) -> None:
    function, inputs, rows, columns, reduction, groups = SHAPES[name]
    traced = trace(function, *inputs)
    (work,) = [work for layer in traced.graph for work in layer.work]
    found = dict(work.problem.dims)
    expected = {"N": rows, "M": columns, "C": reduction, "G": groups}
    # Rows and columns of two activations may change places.
    swapped = {**expected, "N": columns, "M": rows}
    assert found in [{k: v for k, v in dims.items() if v > 1} for dims in (expected, swapped)]
    assert traced.graph.total_macs == rows * columns * reduction * groups
    if name != "vecdot":
        # torch multiplies and sums here, without a product of matrices.
        assert count(function, *inputs).macs == traced.graph.total_macs


def test_an_einsum_of_three_operands_is_pairwise_left_to_right(trace: Any, count: Any) -> None:
    def function(a: Any, b: Any, c: Any) -> Any:
        return torch.einsum("bij,bjk,bkl->bil", a, b, c)

    inputs = torch.randn(5, 4, 8), torch.randn(5, 8, 10), torch.randn(5, 10, 8)
    traced = trace(function, *inputs)
    (layer,) = traced.graph.layers
    assert [work.macs for work in layer.work] == [5 * 4 * 8 * 10, 5 * 4 * 10 * 8]
    assert layer.macs == 3200 == count(function, *inputs).macs


def test_the_order_of_an_einsum_does_not_depend_on_an_optional_package(
    trace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Right to left would be cheaper here; left to right is what torch does without opt_einsum.
    inputs = torch.randn(9, 8), torch.randn(8, 7), torch.randn(7, 2)
    for enabled in (False, True):
        if enabled and not torch.backends.opt_einsum.is_available():
            continue
        monkeypatch.setattr(torch.backends.opt_einsum, "enabled", enabled)
        traced = trace(lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), *inputs)
        assert traced.graph.total_macs == 9 * 8 * 7 + 9 * 7 * 2


def test_an_axis_of_one_operand_is_summed_before_the_product(trace: Any, count: Any) -> None:
    def function(a: Any, b: Any) -> Any:
        return torch.einsum("nkc,cm->nm", a, b)

    traced = trace(function, torch.randn(5, 3, 12), B)
    (layer,) = traced.graph.layers
    assert layer.macs == 5 * 12 * 7 == count(function, torch.randn(5, 3, 12), B).macs
    assert layer.vector_ops == 5 * 3 * 12


# Products that accumulate nothing.
OUTER = {
    "outer": (torch.outer, (torch.randn(5), torch.randn(10)), 50),
    "addr": (lambda a, b: torch.addr(torch.zeros(5, 10), a, b), (torch.randn(5), torch.randn(10)), 50),
    "einsum": (lambda a, b: torch.einsum("bi,bj->bij", a, b), (torch.randn(2, 5), torch.randn(2, 10)), 100),
    "three vectors": (
        lambda a, b, c: torch.einsum("bi,bj,bk->bijk", a, b, c),
        (torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 5)),
        2 * 12 + 2 * 60,
    ),
    "bmm of depth one": (torch.bmm, (torch.randn(2, 5, 1), torch.randn(2, 1, 10)), 100),
}


@pytest.mark.parametrize("name", OUTER)
def test_outer_products_are_counted_apart(name: str, trace: Any) -> None:
    function, inputs, products = OUTER[name]
    graph = trace(function, *inputs).graph
    assert (graph.total_macs, graph.outer_macs) == (0, products)


def test_a_linear_layer_of_one_feature_is_still_a_linear_layer(trace: Any) -> None:
    graph = trace(nn.Linear(1, 7), torch.randn(5, 1)).graph
    assert (graph.total_macs, graph.outer_macs) == (35, 0)


def test_an_einsum_that_only_scales_by_a_weight_contracts_nothing(trace: Any, count: Any) -> None:
    scale = Weight(lambda x, w: torch.einsum("bnc,c->bnc", x, w[0]))
    graph = trace(scale, X).graph
    assert (graph.total_macs, graph.outer_macs) == (0, 120)
    assert count(scale, X).macs == 0


def test_an_einsum_of_one_operand_is_a_view_or_a_sum(trace: Any) -> None:
    view = trace(lambda a: torch.einsum("ij->ji", a) + 1, A)
    assert [layer.op for layer in view.graph] == ["add"]
    summed = trace(lambda a: torch.einsum("ij->j", a), A)
    (layer,) = summed.graph.layers
    assert (layer.op, layer.category, layer.macs, layer.vector_ops) == ("einsum", "Reduce", 0, 60)


def test_bilinear_is_two_products(trace: Any) -> None:
    traced = trace(nn.Bilinear(4, 5, 3), torch.randn(2, 4), torch.randn(2, 5))
    (layer,) = traced.graph.layers
    # First with the first input (2*4*3*5), then with the second (2*3*5).
    assert [work.macs for work in layer.work] == [120, 30]
    assert layer.vector_ops == 6
    assert traced.graph.total_params == 3 * 4 * 5 + 3


def test_products_without_elements_make_no_work(trace: Any, output_shapes: Any) -> None:
    for function, inputs, shape in (
        (nn.Linear(12, 7), (A[:0],), (0, 7)),
        (torch.matmul, (A[:, :0], B[:0]), (5, 7)),
        (torch.bmm, (BATCHED[0][:0], BATCHED[1][:0]), (0, 4, 5)),
        (lambda a, b: torch.einsum("ij,jk,kl->il", a, b, b.t()), (A[:0], B), (0, 12)),
    ):
        traced = trace(function, *inputs)
        assert traced.graph.total_macs == 0
        assert len(traced.graph) == 1
        assert output_shapes(traced) == [shape]


def test_complex_products_keep_their_width(trace: Any) -> None:
    traced = trace(lambda a, b: torch.complex(a, a) @ torch.complex(b, b), A, B)
    layer = traced.graph.layers[-1]
    assert layer.macs == 5 * 12 * 7
    assert {item.bits for item in layer.work[0].problem.operands} == {64}
    assert layer.write_bytes == 8 * 35


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 32), ("bfloat16", 16), ("float64", 64)])
def test_bits_are_those_of_the_tensors(trace: Any, dtype: str, bits: int) -> None:
    traced = trace(nn.Linear(12, 7, bias=False), A, dtype=dtype)
    (layer,) = traced.graph.layers
    assert layer.work[0].problem == gemm(5, 7, 12, bits=(bits, bits, bits)).canonical()
    assert layer.bytes == (60 + 84 + 35) * bits // 8


def test_the_second_operand_of_two_activations_is_an_input(trace: Any) -> None:
    (layer,) = trace(torch.mm, A, B).graph.layers
    assert layer.work[0].problem == Problem.parse(
        "mac N=5 M=7 C=12 | Inputs input 32 [N:5, C:12] | Weights input 32 [M:7, C:12] | Outputs output 32 [N:5, M:7]"
    )
