"""Shapes in plain columns: what a layer writes and the bounds of its largest loop nest."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest

from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.loop_bounds import BOUNDS, NUMBERS, loop_bounds, output_shape
from mmworkload.problem import Problem, gemm

SHAPES = Path(__file__).resolve().parents[1] / "shapes"
CONVOLUTION = (
    "mac N=2 M=4 P=4 Q=4 R=3 S=3 | Inputs input 32 [N:2, 2P+R:8~1,1, 2Q+S:8~1,1] | Weights weight 32 [M:4, R:3, S:3]"
    " | Outputs output 32 [N:2, M:4, P:4, Q:4]"
)
# Transposed, one dimension: each input writes a window of the output.
TRANSPOSED = (
    "mac M=3 C=2 Q=5 S=4 | Inputs input 32 [C:2, Q:5] | Weights weight 32 [M:3, C:2, S:4]"
    " | Outputs output 32 [M:3, 2Q+S:10~1,1]"
)


def of(*work: Work) -> dict[str, object]:
    return loop_bounds(Layer("x", "op", work=work))


def test_a_convolution_has_its_loops_and_its_stride() -> None:
    assert of(Work(Problem.parse(CONVOLUTION))) == {
        **{"n": 2, "m": 4, "c": 1, "o": 1, "p": 4, "q": 4, "t": 1, "r": 3, "s": 3},
        **{"stride": 2, "groups": 1, "other_dims": "", "runs": 1, "nests": 1},
    }


def test_the_stride_of_a_transposed_convolution_is_the_output_s() -> None:
    found = of(Work(Problem.parse(TRANSPOSED)))
    assert (found["m"], found["c"], found["q"], found["s"], found["stride"]) == (3, 2, 5, 4, 2)


def test_a_layer_of_several_nests_shows_the_largest_and_how_many_there_are() -> None:
    scores, context = gemm(16, 20, 8, groups=12), gemm(16, 8, 20, groups=12)
    recurrence = (Work(gemm(50, 128, 40)), Work(gemm(1, 128, 32), count=50, sequential=True))

    attention = of(Work(scores), Work(context))
    assert [attention[key] for key in ("groups", "n", "m", "c", "runs", "nests")] == [12, 16, 20, 8, 1, 2]
    assert [of(*recurrence)[key] for key in ("n", "m", "c", "runs", "nests")] == [50, 128, 40, 1, 2]
    # 50 runs of a smaller nest are more work than one of a larger.
    longer = (Work(gemm(10, 128, 40)), Work(gemm(1, 128, 32), count=50, sequential=True))
    assert [of(*longer)[key] for key in ("n", "m", "c", "runs", "nests")] == [1, 128, 32, 50, 2]


def test_a_layer_without_loops_has_gaps_and_no_nest() -> None:
    found = of()
    assert found.pop("nests") == 0
    assert set(found.values()) == {None}


def test_loops_beyond_the_legend_are_named() -> None:
    einsum = "mac N=2 A=3 | Inputs input 32 [N:2, A:3] | Weights weight 32 [A:3] | Outputs output 32 [N:2]"
    assert of(Work(Problem.parse(einsum)))["other_dims"] == "A=3"


def test_the_shape_is_that_of_the_first_tensor_written() -> None:
    tensors = {
        name: Tensor(name, shape, "float32", 32, "activation", name)
        for name, shape in {"out": (2, 64, 28, 28), "state": (2, 64), "loss": ()}.items()
    }
    shapes = [
        output_shape(Layer("x", "lstm", writes=writes), tensors)
        for writes in ((("out", 1), ("state", 1)), (("loss", 4),), ())
    ]
    assert shapes == ["2x64x28x28", "scalar", ""]


@pytest.mark.parametrize("name", ["across-stack/resnet50-v1.5", "av-mnist/concat", "cmu-mosei/concat", "mm-imdb/text"])
def test_bounds_multiply_to_the_macs_of_every_layer_with_one_nest(name: str) -> None:
    graph = LayerGraph.load(SHAPES / f"{name}.yaml")
    checked = 0
    for layer in graph:
        found = loop_bounds(layer)
        if found["nests"] == 1 and not found["other_dims"]:
            product = math.prod(found[key] for key in (*BOUNDS, "groups", "runs"))
            assert product == layer.macs + layer.outer_macs, layer.name
            checked += 1
    assert checked > 3


def test_a_frame_and_a_csv_have_the_columns_as_whole_numbers_with_gaps() -> None:
    import pandas

    graph = LayerGraph.load(SHAPES / "across-stack" / "resnet50-v1.5.yaml")
    frame = graph.to_pandas().set_index("layer")
    first, relu = frame.loc["backbone.conv1"], frame.loc["backbone.relu"]

    assert {str(frame[name].dtype) for name in NUMBERS} == {"Int64"}
    assert [first[name] for name in ("output_shape", "n", "m", "c", "p", "q", "r", "s", "stride", "groups")] == [
        *("1x64x112x112", 1, 64, 3, 112, 112, 7, 7, 2, 1)
    ]
    assert (relu["output_shape"], relu["nests"], relu["m"]) == ("1x64x112x112", 0, pandas.NA)
    read = pandas.read_csv(io.StringIO(graph.to_text(".csv"))).set_index("layer")
    assert (read.loc["backbone.conv1", "m"], read.loc["backbone.conv1", "stride"]) == (64, 2)
    assert read["m"].isna().sum() == sum(not layer.work for layer in graph)
    assert read["macs"].sum() == graph.total_macs
