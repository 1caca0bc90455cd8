"""Problems as matrix products and as SCALE-Sim's convolutions, and its closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.scalesim.dataflow import Dataflow, choose
from mmworkload.exporters.scalesim.inexpressible import INEXPRESSIBLE, problem_refusal
from mmworkload.exporters.scalesim.product import Convolution, Product, convolution, product
from mmworkload.problem import Problem, gemm


def conv(text: str, inputs: str, weights: str, outputs: str) -> Problem:
    return Problem.parse(
        f"mac {text} | Inputs input 8 [{inputs}] | Weights weight 8 [{weights}] | Outputs output 8 [{outputs}]"
    ).canonical()


RESNET_STEM = conv(
    "M=64 C=3 P=112 Q=112 R=7 S=7",
    "C:3, 2P+R:224~3,3, 2Q+S:224~3,3",
    "M:64, C:3, R:7, S:7",
    "M:64, P:112, Q:112",
)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (RESNET_STEM, Product(112 * 112, 64, 147, 1)),
        (gemm(197, 3072, 768), Product(197, 3072, 768, 1)),
        (gemm(197, 197, 64, groups=12, second_role="input"), Product(197, 197, 64, 12)),
        (gemm(24, 36, 1, operation="mul"), Product(24, 36, 1, 1)),
        (gemm(1, 1, 5), Product(1, 1, 5, 1)),
        (
            conv("G=96 P=56 Q=56 R=3 S=3", "G:96, 2P+R:113, 2Q+S:113", "G:96, R:3, S:3", "G:96, P:56, Q:56"),
            Product(56 * 56, 1, 9, 96),
        ),
        (
            conv("M=32 C=64 P=14 Q=14 R=4 S=4", "C:64, P:14, Q:14", "C:64, M:32, R:4, S:4", "M:32, 2P+R:30, 2Q+S:30"),
            Product(196, 32 * 16, 64, 1),
        ),
        (
            conv(
                "N=2 M=8 C=4 O=6 P=14 Q=14 T=3 R=3 S=3",
                "N:2, C:4, O+T:8, P+R:16, Q+S:16",
                "M:8, C:4, T:3, R:3, S:3",
                "N:2, M:8, O:6, P:14, Q:14",
            ),
            Product(2 * 6 * 196, 8, 4 * 27, 1),
        ),
        (
            Problem.parse(
                "mac B=4 H=6 M=12 N=20 C=16 | Inputs input 8 [B:4, H:6, N:20, C:16] |"
                " Weights weight 8 [H:6, C:16, M:12] | Outputs output 8 [B:4, H:6, N:20, M:12]"
            ),
            Product(80, 12, 16, 6),
        ),
    ],
    ids=["conv2d", "linear", "attention", "outer", "dot", "depthwise", "transposed", "conv3d, batch 2", "einsum"],
)
def test_a_problem_is_a_matrix_product_of_the_same_macs(problem: Problem, expected: Product) -> None:
    assert product(problem) == product(problem.canonical()) == expected
    assert expected.macs == problem.macs


def test_the_weight_is_the_filter_whatever_its_place() -> None:
    problem = Problem.parse(
        "mac M=3 N=5 C=7 | Weights input 8 [N:5, C:7] | Inputs weight 8 [M:3, C:7] | Outputs output 8 [N:5, M:3]"
    )

    assert product(problem) == Product(5, 3, 7, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max M=8 C=4 | Inputs input 8 [M:8, C:4] | Outputs output 8 [M:8]", "the operation is not"),
        ("mac M=8 C=4 | Inputs input 8 [M:8, C:4] | Outputs output 8 [M:8]", "not a product of two operands"),
        ("mac M=8 X=4 | Inputs input 8 [M:8] | Weights input 8 [M:8] | Outputs output 8 [M:8]", "fewer than two"),
        (
            "mac M=8 C=4 | Inputs input 8 [M:8, C:4] | Weights input 8 [M:8] | Outputs output 8 [M:8]",
            "in fewer than two operands",
        ),
    ],
)
def test_what_is_no_matrix_product_is_refused_with_a_reason_of_the_table(text: str, reason: str) -> None:
    problem = Problem.parse(text)

    assert reason in problem_refusal(problem)
    assert problem_refusal(problem) in {reason for reason, _ in INEXPRESSIBLE.values()}
    with pytest.raises(SimulationError, match=reason):
        product(problem)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        # 224 + 3 of padding, and no more: SCALE-Sim would make 113 x 113 of 230 x 230.
        (RESNET_STEM, Convolution(229, 229, 7, 7, 3, 64, 2)),
        # Of each 2 x 2 one element is read; the last row and column are not.
        (
            conv("M=64 C=32 P=28 Q=28", "C:32, 2P:56, 2Q:56", "M:64, C:32", "M:64, P:28, Q:28"),
            Convolution(55, 55, 1, 1, 32, 64, 2),
        ),
        (
            conv("G=4 M=8 C=2 P=6 Q=5 R=3", "G:4, C:2, P+R:8, Q:5", "G:4, M:8, C:2, R:3", "G:4, M:8, P:6, Q:5"),
            Convolution(8, 5, 3, 1, 2, 8, 1),
        ),
        (conv("M=6 C=4 Q=20 S=5", "C:4, 2Q+S:43", "M:6, C:4, S:5", "M:6, Q:20"), Convolution(1, 43, 1, 5, 4, 6, 2)),
        # One row of output: the stride is that of the width.
        (
            conv("M=3 C=2 Q=4 R=5 S=3", "C:2, R:5, 3Q+S:12", "M:3, C:2, R:5, S:3", "M:3, Q:4"),
            Convolution(5, 12, 5, 3, 2, 3, 3),
        ),
    ],
    ids=["stem", "pointwise, stride 2", "grouped", "conv1d", "one row"],
)
def test_a_convolution_keeps_its_form(problem: Problem, expected: Convolution) -> None:
    assert convolution(problem) == expected


@pytest.mark.parametrize(
    "problem",
    [
        gemm(16, 8, 4).canonical(),
        gemm(1, 8, 4).canonical(),
        conv("N=2 M=4 C=3 P=5 R=3", "N:2, C:3, P+R:7", "M:4, C:3, R:3", "N:2, M:4, P:5"),
        conv("M=4 C=3 P=5 R=3", "C:3, P+2R:9", "M:4, C:3, R:3", "M:4, P:5"),
        conv("M=4 P=5 Q=5 R=3 S=3", "P+R:7, 2Q+S:11", "M:4, R:3, S:3", "M:4, P:5, Q:5"),
        conv("M=4 P=5 Q=5 S=3", "P:5, 2Q+S:11", "M:4, S:3", "M:4, P:5, Q:5"),
        conv("M=4 O=5 P=5 T=3", "O+T:7, P:5", "M:4, T:3", "M:4, O:5, P:5"),
        conv("M=4 C=3 P=5 R=3", "C:3, P:5", "C:3, M:4, R:3", "M:4, 2P+R:11"),
        conv("M=4 P=5 Q=5 S=3", "P:5, Q:5", "M:4, S:3", "M:4, P:5, Q+S:7"),
    ],
    ids=["linear", "vector", "batch", "dilation", "two strides", "1 x 3, stride (1, 2)", "depth", "transposed", "both"],
)
def test_what_the_form_has_no_place_for_is_left_to_the_matrix_product(problem: Problem) -> None:
    assert convolution(problem) is None
    assert product(problem).macs == problem.macs


small = st.integers(1, 9)


@given(st.tuples(small, small, small, small, small, small, small), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_scalesim_computes_the_same_macs_from_the_convolution(sizes: tuple[int, ...], stride: int) -> None:
    groups, out, inside, height, width, kernel_h, kernel_w = sizes
    problem = conv(
        f"G={groups} M={out} C={inside} P={height} Q={width} R={kernel_h} S={kernel_w}",
        f"G:{groups}, C:{inside}, {stride}P+R:{stride * (height - 1) + kernel_h},"
        f" {stride}Q+S:{stride * (width - 1) + kernel_w}",
        f"G:{groups}, M:{out}, C:{inside}, R:{kernel_h}, S:{kernel_w}",
        f"G:{groups}, M:{out}, P:{height}, Q:{width}",
    )
    found = convolution(problem)

    if height == width == 1:
        assert found is None
        return
    assert found is not None
    # As topology_utils.py computes them.
    rows = math.ceil((found.input_height - found.filter_height + found.stride) / found.stride)
    columns = math.ceil((found.input_width - found.filter_width + found.stride) / found.stride)
    window = found.filter_height * found.filter_width * found.channels
    assert product(problem) == Product(rows * columns, found.filters, window, groups)
    assert rows * columns * window * found.filters * groups == problem.macs


@pytest.mark.parametrize(
    ("name", "edge", "item", "cycles"),
    [
        ("ws", 32, Product(256, 256, 256, 1), 22399),
        ("ws", 128, Product(256, 256, 256, 1), 2551),
        ("ws", 32, Product(512, 512, 512, 1), 155135),
        ("ws", 128, Product(1024, 1024, 1024, 1), 89983),
        ("ws", 32, Product(1024, 1024, 1024, 1), 1144831),
        ("ws", 32, Product(3136, 64, 576, 1), 116279),
        ("os", 32, Product(3136, 64, 576, 1), 125047),
        ("os", 128, Product(3136, 64, 576, 1), 20749),
        ("ws", 32, Product(128, 128, 64, 1), 1775),
    ],
)
def test_cycles_are_those_that_the_tool_reported_on_square_arrays(
    name: Any, edge: int, item: Product, cycles: int
) -> None:
    assert Dataflow(name, edge, edge, "y").cycles(item) == cycles


def with_axes(x_dims: list[str], y_dims: list[str], x: int = 14, y: int = 12) -> Architecture:
    content = architectures.load("eyeriss_like").model_dump(mode="json")
    array = {"inside": "glb", "x": x, "y": y, "x_dims": x_dims, "y_dims": y_dims}
    return architectures.from_dict({**content, "array": array})


@pytest.mark.parametrize(
    ("x_dims", "y_dims", "expected"),
    [
        (["M"], ["C"], Dataflow("ws", 12, 14, "y")),
        (["C"], ["M"], Dataflow("ws", 14, 12, "x")),
        (["Q", "M"], ["R", "C"], Dataflow("is", 12, 14, "y")),
        (["M", "Q"], ["P", "C"], Dataflow("os", 12, 14, "y")),
        # The second choice of one axis, when both want the same first.
        (["C", "M"], ["C", "G"], Dataflow("ws", 12, 14, "y")),
        (["C"], ["C", "G", "N"], Dataflow("is", 14, 12, "x")),
        (["G"], ["C"], None),
        (["C"], ["C"], None),
        ([], [], None),
    ],
)
def test_the_array_axes_decide_the_dataflow(x_dims: list[str], y_dims: list[str], expected: Dataflow | None) -> None:
    assert choose(with_axes(x_dims, y_dims)) == expected


def test_a_dataflow_says_what_lies_where() -> None:
    assert str(choose(with_axes(["C"], ["M"]))) == ("weight stationary, the reduction along x, output channels along y")
