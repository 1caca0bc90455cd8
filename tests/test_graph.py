"""The layer graph: lossless conversions, edges that follow tensors, totals, parts, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload.errors import FormatError, UnknownNameError
from mmworkload.graph import Coverage, InputInfo, LayerGraph, Part, StageTotals, Workload
from mmworkload.layer import CATEGORIES, Layer, Tensor, Work
from mmworkload.problem import Mask, gemm

FLOAT = {"dtype": "float32", "bits": 32}


def tensor(name: str, *shape: int, kind: str = "activation", storage: str = "") -> Tensor:
    return Tensor(name, shape, "float32", 32, kind, storage or name)  # type: ignore[arg-type]


def table(*tensors: Tensor) -> dict[str, Tensor]:
    return {item.name: item for item in tensors}


def two_encoders() -> LayerGraph:
    """x -> encoder/a (tied weight w), y -> encoder/b (tied weight w2), joined twice by fusion; head with its own."""
    tensors = table(
        tensor("x", 2, 4, kind="input"),
        tensor("y", 2, 4, kind="input"),
        tensor("w", 4, 4, kind="weight", storage="w"),
        tensor("w2", 4, 4, kind="weight", storage="w"),
        tensor("v", 3, 4, kind="weight"),
        tensor("running", 4, kind="constant"),
        tensor("a", 2, 4),
        tensor("b", 2, 4),
        tensor("f", 2, 4),
        tensor("out", 2, 3),
    )
    square = Work(gemm(2, 4, 4))
    layers = (
        Layer("a", "linear", "Gemm", "enc.a", "encoder/a", "a", (("x", 32), ("w", 64)), (("a", 32),), (square,)),
        Layer("b", "linear", "Gemm", "enc.b", "encoder/b", "b", (("y", 32), ("w2", 64)), (("b", 32),), (square,)),
        Layer("join", "add", "Elewise", "", "fusion", "", (("a", 32), ("b", 32)), (("f", 32),), vector_ops=8),
        Layer(
            "head",
            "linear",
            "Gemm",
            "head",
            "head",
            reads=(("f", 32), ("v", 48), ("running", 16)),
            writes=(("out", 24),),
            work=(Work(gemm(2, 3, 4), count=2), Work(gemm(2, 3, 1, operation="mul"))),
            vector_ops=6,
        ),
    )
    inputs = (InputInfo("x", (2, 4), "float32", "a"), InputInfo("y", (2, 4), "float32", "b"))
    return LayerGraph("m", "v", 2, "float32", layers, tensors, inputs, ("out",), built_params=40)


# --- lossless conversions -------------------------------------------------------------------------------------------

NAMES = st.text(min_size=1, max_size=6)


@st.composite
def graphs(draw: st.DrawFn) -> LayerGraph:
    """A small graph with arbitrary names, shapes, work, coverage and tied or shared storages."""
    names = draw(st.lists(NAMES, min_size=3, max_size=9, unique=True))
    tensors: dict[str, Tensor] = {}
    for name in names:
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
        kind = draw(st.sampled_from(["input", "weight", "constant", "state", "activation"]))
        storage = draw(st.sampled_from([name, names[0]]))
        tensors[name] = Tensor(name, shape, draw(st.sampled_from(["float32", "int64"])), 32, kind, storage)
    first_written = draw(st.integers(1, len(names)))
    known, unwritten = names[:first_written], names[first_written:]
    layers = []
    for index, layer_name in enumerate(draw(st.lists(NAMES, max_size=4, unique=True))):
        count = draw(st.integers(0, min(2, len(unwritten))))
        written, unwritten = unwritten[:count], unwritten[count:]
        read = draw(st.lists(st.sampled_from(known), max_size=3, unique=True))
        problem = gemm(draw(st.integers(1, 3)), 2, 3, mask=draw(st.sampled_from([None, Mask("causal", 1, 2)])))
        layers.append(
            Layer(
                layer_name,
                draw(NAMES),
                draw(st.sampled_from(CATEGORIES)),
                draw(st.text(max_size=4)),
                draw(st.sampled_from(["", "fusion", "encoder/a"])),
                draw(st.text(max_size=3)),
                tuple((item, draw(st.integers(0, 9))) for item in read),
                tuple((item, draw(st.integers(0, 9))) for item in written),
                (Work(problem, draw(st.integers(1, 3)), draw(st.booleans())),) * draw(st.integers(0, 2)),
                draw(st.integers(0, 9)),
                draw(st.sampled_from(["device", "host"])),
                tuple(draw(st.lists(st.text(max_size=4), max_size=2))),
                draw(st.booleans()),
                f"rule {index}",
            )
        )
        known = known + written
    coverage = draw(
        st.lists(
            st.builds(
                Coverage,
                st.sampled_from(["unknown", "ignored", "lowered"]),
                NAMES,
                st.text(max_size=3),
                st.integers(1, 3),
                st.integers(0, 9),
                st.integers(0, 9),
                st.text(max_size=3),
            ),
            max_size=4,
        )
    )
    return LayerGraph(
        model=draw(NAMES),
        variant=draw(st.text(max_size=3)),
        batch=draw(st.integers(1, 4)),
        dtype="bfloat16",
        layers=tuple(layers),
        tensors=tensors,
        inputs=tuple(InputInfo(name, (1, 2), "float32", "m", "mask") for name in names[:1]),
        outputs=tuple(names[-1:]),
        built_params=draw(st.integers(0, 9)),
        route=draw(st.sampled_from(["export", "recorder"])),
        versions={draw(NAMES): "1"},
        coverage=tuple(coverage),
        notes=tuple(draw(st.lists(st.text(max_size=4), max_size=2))),
    )


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_every_conversion_and_back_is_the_identity(graph: LayerGraph) -> None:
    assert LayerGraph.from_text(graph.to_text(".json")) == graph
    assert LayerGraph.from_text(graph.to_text(".yaml")) == graph
    assert LayerGraph.from_dict(graph.to_dict()) == graph
    assert LayerGraph.from_networkx(graph.to_networkx()) == graph
    assert LayerGraph.from_pandas(graph.to_pandas()) == graph
    workload = Workload("w", (Part(graph, "decode", 0.5, sequential=False), Part(graph)))
    assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_a_saved_graph_is_loaded_as_it_was(tmp_path: Path, suffix: str) -> None:
    graph = two_encoders()
    graph.save(tmp_path / "deep" / f"graph.{suffix}")
    assert LayerGraph.load(tmp_path / "deep" / f"graph.{suffix}") == graph
    assert sorted(item.name for item in (tmp_path / "deep").iterdir()) == [f"graph.{suffix}"]


def test_the_json_text_is_the_contract() -> None:
    graph = replace(two_encoders(), notes=("stand-in: a for b",))
    data = json.loads(graph.to_text(".json"))
    assert data == graph.to_dict()
    wanted = {"schema_version": 2, "model": "m", "variant": "v", "batch": 2, "total_params": 28, "built_params": 40}
    assert {key: data[key] for key in wanted} == wanted
    assert (data["total_macs"], data["outer_macs"]) == (2 * 32 + 48, 6)
    assert data["notes"] == ["stand-in: a for b"]
    assert data["stages"]["encoder/a"] == {
        "layers": 1,
        "macs": 32,
        "useful_macs": 32,
        "outer_macs": 0,
        "params": 16,
        "weight_bytes": 64,
        "activation_bytes": 64,
        "vector_ops": 0,
    }
    assert set(data["coverage"]) == {"lowered", "ignored", "unknown"}
    assert len(data["problems"]) == 3
    assert [layer["layer"] for layer in data["layers"]] == [layer.name for layer in graph]
    # One line a layer: a change is one line of a diff.
    assert sum(line.startswith('  {"layer"') for line in graph.to_text(".json").splitlines()) == len(graph)


def test_json_from_before_there_were_notes_is_read() -> None:
    data = two_encoders().to_dict()
    del data["notes"]
    assert LayerGraph.from_dict(data) == two_encoders()


def test_tables_are_in_one_order_whatever_order_they_came_in() -> None:
    graph = two_encoders()
    assert list(graph.tensors) == ["x", "w", "a", "y", "w2", "b", "f", "v", "running", "out"]
    spare = {"spare": tensor("spare", 1, kind="constant")}
    other = replace(graph, tensors=dict(reversed((graph.tensors | spare).items())))
    assert list(other.tensors) == ["spare", *graph.tensors]
    covered = [Coverage("ignored", "aten.view", "head", 1, 0, 0)]
    covered += [Coverage("lowered", "aten.op", module, 1, 0, 0) for module in ("head", "gone", "", "enc.b", "enc.a")]
    ordered = replace(graph, coverage=tuple(covered)).coverage
    assert [item.module for item in ordered] == ["enc.a", "enc.b", "", "head", "gone", "head"]
    assert ordered[-1].treatment == "ignored"


def test_a_csv_is_a_table_to_read_and_not_to_load(tmp_path: Path) -> None:
    import pandas

    graph = two_encoders()
    graph.save(tmp_path / "graph.csv")
    frame = pandas.read_csv(tmp_path / "graph.csv")
    assert list(frame["layer"]) == ["a", "b", "join", "head"]
    assert list(frame["macs"]) == [32, 32, 0, 48]
    assert list(frame["params"]) == [16, 16, 0, 12]
    assert list(frame["activation_bytes"]) == [64, 64, 96, 72]
    with pytest.raises(FormatError, match=r"graph\.csv: a CSV is a table"):
        LayerGraph.load(tmp_path / "graph.csv")
    with pytest.raises(FormatError, match=r"not '\.txt'"):
        graph.save(tmp_path / "graph.txt")


def test_rows_that_are_dropped_from_a_frame_leave_the_graph() -> None:
    import pandas

    frame = two_encoders().to_pandas()
    kept = LayerGraph.from_pandas(frame[frame["stage"] != "head"])
    assert [layer.name for layer in kept] == ["a", "b", "join"]
    with pytest.raises(FormatError, match="not made by"):
        LayerGraph.from_pandas(pandas.DataFrame({"layer": ["a"]}))


# --- edges ----------------------------------------------------------------------------------------------------------


def test_edges_follow_tensors_and_parallel_edges_are_real() -> None:
    layers = (
        Layer("split", "split", reads=(("x", 8),), writes=(("h", 4), ("c", 4))),
        Layer("use", "add", reads=(("h", 4), ("c", 2), ("x", 8)), writes=(("y", 4),)),
        Layer("last", "relu", reads=(("y", 4),), writes=(("z", 4),)),
    )
    tensors = table(tensor("x", 2, kind="input"), *(tensor(name, 1) for name in "hcyz"))
    graph = LayerGraph("m", "", 1, "float32", layers, tensors).to_networkx()
    edges = {(a, b, key): data["bytes"] for a, b, key, data in graph.edges(keys=True, data=True)}
    assert edges == {("split", "use", "h"): 4, ("split", "use", "c"): 2, ("use", "last", "y"): 4}
    assert graph.number_of_edges("split", "use") == 2
    assert graph.nodes["use"]["layer"] == layers[1]


def test_a_graph_without_edges_is_still_a_graph() -> None:
    empty = LayerGraph("m", "", 1, "float32", (), table(tensor("x", 2, kind="input")), outputs=("x",))
    assert (len(empty), empty.total_macs, empty.total_params, empty.stages) == (0, 0, 0, {})
    assert LayerGraph.from_networkx(empty.to_networkx()) == empty


def test_a_networkx_graph_of_another_kind_is_refused() -> None:
    import networkx

    with pytest.raises(FormatError, match="not a graph made by"):
        LayerGraph.from_networkx(networkx.MultiDiGraph())


# --- totals ---------------------------------------------------------------------------------------------------------


def test_tied_weights_are_counted_once_in_a_stage_and_once_in_the_whole() -> None:
    graph = two_encoders()
    stages = graph.stages
    assert list(stages) == ["encoder/a", "encoder/b", "fusion", "head"]
    assert [stages[name].params for name in stages] == [16, 16, 0, 12]
    assert graph.total_params == graph.params() == 28
    assert graph.params([graph["a"], graph["b"]]) == 16
    assert [item.name for item in graph.weights()] == ["w", "v"]
    assert graph.totals() == StageTotals(4, 112, 112, 6, 28, 112, 64 + 64 + 96 + 72, 14)
    assert stages["head"] == StageTotals(1, 48, 48, 6, 12, 48, 32 + 16 + 24, 6)


def test_layers_sum_their_work_with_outer_products_and_useful_macs_apart() -> None:
    causal = gemm(4, 4, 8, mask=Mask("causal", 4, 4))
    layer = Layer("l", "attention", work=(Work(causal, 3), Work(gemm(2, 2, 1, operation="mul"), 5)))
    assert (layer.macs, layer.useful_macs, layer.outer_macs) == (3 * 128, 3 * 80, 20)
    assert Work(gemm(1, 5, 7)).problem == gemm(1, 5, 7).canonical()


def test_the_unique_problems_come_in_order_of_first_use() -> None:
    graph = two_encoders()
    assert list(graph.problems) == [gemm(2, 4, 4).key, gemm(2, 3, 4).key, gemm(2, 3, 1, operation="mul").key]


def test_a_layer_is_found_by_name_and_a_typo_suggests_it() -> None:
    graph = two_encoders()
    assert graph["join"].op == "add"
    assert graph.producers == {"a": "a", "b": "b", "f": "join", "out": "head"}
    with pytest.raises(UnknownNameError, match="Did you mean head"):
        graph["haed"]


# --- parts ----------------------------------------------------------------------------------------------------------


def test_only_a_stage_has_what_enters_as_inputs_and_what_leaves_as_outputs() -> None:
    graph = two_encoders()
    part = graph.only(["fusion"])
    assert [layer.name for layer in part] == ["join"]
    assert {name: item.kind for name, item in part.tensors.items()} == {"a": "input", "b": "input", "f": "activation"}
    assert part.outputs == ("f",)
    assert part.inputs == ()
    encoders = graph.only(["encoder/*"])
    assert [layer.name for layer in encoders] == ["a", "b"]
    assert encoders.outputs == ("a", "b")
    assert [item.tensor for item in encoders.inputs] == ["x", "y"]
    assert encoders.total_params == 16
    head = graph.only(["head", "fusion"])
    assert (head.outputs, head.total_macs) == (("out",), 48)
    assert graph.only([]) is graph


def test_the_parts_of_a_graph_add_up_to_it() -> None:
    graph = two_encoders()
    parts = [graph.only([stage]) for stage in graph.stages]
    assert sum(part.total_macs for part in parts) == graph.total_macs
    assert sum(len(part) for part in parts) == len(graph)


def test_a_stage_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown stage 'encoder/c'\. Did you mean encoder/[ab] or encoder/[ab]"
    ):
        two_encoders().only(["encoder/c"])


def test_a_workload_weighs_its_graphs() -> None:
    graph = two_encoders()
    workload = Workload("llm", (Part(graph, "prefill"), Part(graph.only(["head"]), "decode", 10)))
    assert workload.total_macs == 112 + 480
    assert list(workload.problems) == list(graph.problems)
    assert Workload.of(workload) is workload
    single = Workload.of(graph)
    assert (single.name, single.total_macs, single.parts[0].count) == ("m", 112, 1.0)
    with pytest.raises(FormatError, match="not a complete workload"):
        Workload.from_dict({"name": "llm"})


# --- refusals -------------------------------------------------------------------------------------------------------


def layer(name: str, reads: str = "", writes: str = "", **other: Any) -> Layer:
    return Layer(name, "op", reads=tuple((r, 1) for r in reads), writes=tuple((w, 1) for w in writes), **other)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((layer("l", "q", "y"),), "layer 'l' names the unknown tensor 'q'"),
        ((layer("l", "x", "q"),), "layer 'l' names the unknown tensor 'q'"),
        ((layer("l", "y", "z"), layer("m", "x", "y")), "layer 'l' reads 'y' before it is written"),
        ((layer("l", "y", "y"),), "layer 'l' reads 'y' before it is written"),
        ((layer("l", "z", "y"), layer("m", "y", "z")), "layer 'l' reads 'z' before it is written"),
        ((layer("l", "x", "y"), layer("m", "x", "y")), "layer 'm' writes 'y', which another layer writes"),
        ((layer("l", "x", "yy"),), "layer 'l' writes 'y', which another layer writes"),
        ((layer("l", "xx", "y"),), "layer 'l' lists one tensor twice"),
        ((layer("l", "x", "y"), layer("l", "x", "z")), "two layers are called 'l'"),
        ((layer("l", "x", "y", category="Relo"),), "category 'Relo' is not one of"),
        ((replace(layer("l", "", "y"), reads=(("x", -1),)),), "layer 'l' moves -1 bytes of 'x'"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(layers: tuple[Layer, ...], message: str) -> None:
    tensors = table(tensor("x", 1, kind="input"), tensor("y", 1), tensor("z", 1))
    with pytest.raises(FormatError, match=message):
        LayerGraph("m", "", 1, "float32", layers, tensors)


def test_wrong_tensors_outputs_and_coverage_are_refused() -> None:
    with pytest.raises(FormatError, match="tensor 'x' has the name 'y'"):
        LayerGraph("m", "", 1, "float32", (), {"x": tensor("y", 1)})
    with pytest.raises(FormatError, match="the kind 'parameter'"):
        LayerGraph("m", "", 1, "float32", (), table(tensor("x", 1, kind="parameter")))
    with pytest.raises(FormatError, match="the output 'y' is not a tensor"):
        LayerGraph("m", "", 1, "float32", (), table(tensor("x", 1)), outputs=("y",))
    with pytest.raises(FormatError, match=r"aten\.add: treatment 'skipped'"):
        LayerGraph("m", "", 1, "float32", (), {}, coverage=(Coverage("skipped", "aten.add", "", 1, 0, 0),))


def corrupt(change: str) -> bytes:
    graph = two_encoders()
    text = graph.to_text(".json")
    data = graph.to_dict()
    if change == "half":
        return text[: len(text) // 2].encode()
    if change == "binary":
        return b"\x93\xff\x00 not text"
    if change == "nothing":
        return b""
    if change == "another":
        return b'{"nodes": []}'
    if change == "list":
        return b"[1, 2]"
    if change == "deep":
        return b'{"a":' * 100_000
    if change == "later":
        data["schema_version"] = 99
    if change == "missing":
        del data["layers"][1]["reads"]
    if change == "problem":
        data["problems"]["p0"] = "mac N=x"
    if change == "no problem":
        data["layers"][0]["work"][0]["problem"] = "p77"
    if change == "cycle":
        data["layers"].reverse()
    if change == "table":
        data["tensors"] = ["x"]
    return json.dumps(data).encode()


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("half", "not JSON"),
        ("binary", "cannot read"),
        ("nothing", "not a layer graph"),
        ("another", "no schema_version"),
        ("list", "not a layer graph"),
        ("deep", "not JSON: maximum recursion depth"),
        ("later", "schema_version 99 cannot be read"),
        ("missing", "not a complete layer graph: KeyError 'reads'"),
        ("problem", "'N=x' is not a dimension"),
        ("no problem", "KeyError 'p77'"),
        ("cycle", "before it is written"),
        ("table", "not a complete layer graph"),
    ],
)
def test_a_corrupt_file_is_one_error_that_names_it(tmp_path: Path, suffix: str, change: str, message: str) -> None:
    # What is JSON is read as JSON whatever its name; tests/test_graph_lines.py damages the other text.
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(corrupt(change))
    with pytest.raises(FormatError, match=message) as caught:
        LayerGraph.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_error_that_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(FormatError, match="cannot read") as caught:
            LayerGraph.load(path)
        assert str(path) in str(caught.value)
