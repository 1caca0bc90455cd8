"""What the Timeloop exporter writes, read back by a checker that shares no code with it."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError
from mmworkload.exporters.timeloop import EXPORTER
from mmworkload.exporters.timeloop.problem_file import dimensions, kind, problem_name, problem_text, refusal
from mmworkload.exporting import MANIFEST, Export, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem, gemm

VERSIONS = {"mmworkload": "0.1.0", "torch": "2.15.0"}

PROBLEMS = {
    # ResNet's first layer and a 3 x 3 layer of 28 x 28 with dilation 1: footprints as in the recorded outputs.
    "conv2d, stride 2": (
        "mac M=64 C=3 P=112 Q=112 R=7 S=7 | Inputs input 32 [C:3, 2P+R:224~3,3, 2Q+S:224~3,3] | "
        "Weights weight 32 [M:64, C:3, R:7, S:7] | Outputs output 32 [M:64, P:112, Q:112]",
        118013952,
        {"Weights": 9408, "Inputs": 157323, "Outputs": 802816},
    ),
    "conv2d, dilation 2": (
        "mac M=64 C=32 P=28 Q=28 R=3 S=3 | Inputs input 32 [C:32, P+2R:28~2,2, Q+2S:28~2,2] | "
        "Weights weight 32 [M:64, C:32, R:3, S:3] | Outputs output 32 [M:64, P:28, Q:28]",
        14450688,
        {"Weights": 18432, "Inputs": 32768, "Outputs": 50176},
    ),
    "depthwise, stride 2": (
        "mac G=96 P=56 Q=56 R=3 S=3 | Inputs input 8 [G:96, 2P+R:112~1,1, 2Q+S:112~1,1] | "
        "Weights weight 8 [G:96, R:3, S:3] | Outputs output 8 [G:96, P:56, Q:56]",
        2709504,
        {"Weights": 864, "Inputs": 1225824, "Outputs": 301056},
    ),
    "grouped": (
        "mac G=32 M=4 C=4 P=56 Q=56 R=3 S=3 | Inputs input 8 [G:32, C:4, P+R:56~1,1, Q+S:56~1,1] | "
        "Weights weight 8 [G:32, M:4, C:4, R:3, S:3] | Outputs output 8 [G:32, M:4, P:56, Q:56]",
        14450688,
        {"Weights": 4608, "Inputs": 430592, "Outputs": 401408},
    ),
    "kernel 1 x 7, stride (1, 2)": (
        "mac M=8 C=5 P=20 Q=10 S=7 | Inputs input 32 [C:5, P:20, 2Q+S:20~3,3] | Weights weight 32 [M:8, C:5, S:7] | "
        "Outputs output 32 [M:8, P:20, Q:10]",
        8 * 5 * 20 * 10 * 7,
        {"Weights": 280, "Inputs": 5 * 20 * 25, "Outputs": 1600},
    ),
    "pointwise, stride 2: the range is 55, not 56": (
        "mac M=64 C=32 P=28 Q=28 | Inputs input 32 [C:32, 2P:56, 2Q:56] | Weights weight 32 [M:64, C:32] | "
        "Outputs output 32 [M:64, P:28, Q:28]",
        64 * 32 * 784,
        {"Weights": 2048, "Inputs": 32 * 55 * 55, "Outputs": 50176},
    ),
    "transposed: the uncropped output": (
        "mac M=32 C=64 P=14 Q=14 R=4 S=4 | Inputs input 32 [C:64, P:14, Q:14] | "
        "Weights weight 32 [C:64, M:32, R:4, S:4] | Outputs output 32 [M:32, 2P+R:28~1,1, 2Q+S:28~1,1]",
        6422528,
        {"Weights": 32768, "Inputs": 12544, "Outputs": 32 * 30 * 30},
    ),
    "conv3d": (
        "mac M=8 C=4 O=6 P=14 Q=14 T=3 R=3 S=3 | Inputs input 32 [C:4, 2O+T:12~1,1, P+R:14~1,1, Q+S:14~1,1] | "
        "Weights weight 32 [M:8, C:4, T:3, R:3, S:3] | Outputs output 32 [M:8, O:6, P:14, Q:14]",
        8 * 4 * 6 * 14 * 14 * 27,
        {"Weights": 864, "Inputs": 4 * 13 * 16 * 16, "Outputs": 8 * 6 * 196},
    ),
    "one dimension, another stride in each tensor": (
        "mac M=3 P=10 R=3 | Inputs input 32 [2P+R:21] | Weights weight 32 [M:3, R:3] | "
        "Outputs output 32 [M:3, 3P+R:30]",
        90,
        {"Weights": 9, "Inputs": 21, "Outputs": 90},
    ),
    "einsum with letters of its own": (
        "mac B=4 H=6 M=12 N=20 C=16 | Inputs input 32 [B:4, H:6, N:20, C:16] | Weights weight 32 [H:6, C:16, M:12] | "
        "Outputs output 32 [B:4, H:6, N:20, M:12]",
        4 * 6 * 12 * 20 * 16,
        {"Weights": 1152, "Inputs": 7680, "Outputs": 5760},
    ),
    "linear": (
        str(gemm(197, 3072, 768)),
        197 * 3072 * 768,
        {"Weights": 3072 * 768, "Inputs": 197 * 768, "Outputs": 197 * 3072},
    ),
    "attention": (
        str(gemm(197, 197, 64, groups=12, second_role="input")),
        12 * 197 * 197 * 64,
        {"Weights": 151296, "Inputs": 151296, "Outputs": 465708},
    ),
    "outer product": (
        str(gemm(24, 36, 1, operation="mul")),
        864,
        {"Weights": 36, "Inputs": 24, "Outputs": 864},
    ),
    "a single product": (str(gemm(1, 1, 1)), 1, {"Weights": 1, "Inputs": 1, "Outputs": 1}),
}


# --- the checker: what Timeloop would understand, from the text alone ----------------------------------------------


class TagLoader(yaml.SafeLoader):
    """YAML with the front end's tags; a tagged mapping keeps its tag under ``!``."""


def _tagged(loader: TagLoader, suffix: str, node: yaml.MappingNode) -> dict[Any, Any]:
    return {"!": suffix, **loader.construct_mapping(node, deep=True)}


TagLoader.add_multi_constructor("!", _tagged)


def load(text: str) -> Any:
    return yaml.load(text, Loader=TagLoader)  # a subclass of SafeLoader


def understood(text: str) -> tuple[int, dict[str, int]]:
    """(MACs, footprint of each data space) of a problem file. AssertionError for what Timeloop takes in silence."""
    problem = load(text)["problem"]
    assert set(problem) == {"version", "shape", "instance"}
    assert problem["version"] == 0.4
    shape, instance = problem["shape"], problem["instance"]
    dims = shape["dimensions"]
    coefficients = shape.get("coefficients", [])
    assert all(len(dim) == 1 and dim.isupper() for dim in dims)
    assert len(set(dims)) == len(dims)
    assert all(set(item) == {"name", "default"} and item["default"] == 1 for item in coefficients)
    names = [item["name"] for item in coefficients]
    # An undeclared key of the instance (a misspelt stride) is ignored by the tool, a missing one takes the default.
    assert list(instance) == [*dims, *names]
    assert all(type(value) is int and 1 <= value < 2**31 for value in instance.values())
    footprints = {}
    used: set[str] = set()
    for space in shape["data_spaces"]:
        size = 1
        for rank in space["projection"]:
            extent = 1
            for term in rank:
                dim, *coefficient = term
                assert dim in dims
                assert len(coefficient) <= 1
                assert all(name in names for name in coefficient), "a literal coefficient aborts the tool"
                used.update(term)
                extent += (instance[coefficient[0]] if coefficient else 1) * (instance[dim] - 1)
            size *= extent
        footprints[space["name"]] = size
    assert used == {*dims, *names}, "a declared name that no data space uses"
    assert [space["name"] for space in shape["data_spaces"] if space.get("read_write")] == ["Outputs"]
    return math.prod(instance[dim] for dim in dims), footprints


def plain_strings(text: str) -> Iterator[str]:
    """Unquoted strings that are values under ``attributes`` or ``variables``, where they would be run as Python."""

    def scalars(node: yaml.Node, inside: bool) -> Iterator[str]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from scalars(value, inside or key.value in ("attributes", "variables"))
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from scalars(item, inside)
        elif isinstance(node, yaml.ScalarNode) and inside and node.tag.endswith(":str") and node.style != '"':
            yield node.value

    root = yaml.compose(text, Loader=TagLoader)
    assert root is not None
    return scalars(root, False)


# --- one problem -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_file_means_the_problem(name: str) -> None:
    text, macs, footprints = PROBLEMS[name]
    problem = Problem.parse(text).canonical()

    assert refusal(problem) == ""
    assert understood(problem_text(problem)) == (macs, footprints)
    assert problem.macs == macs
    assert {item.name: problem.footprint(item) for item in problem.operands} == footprints


def test_all_problems_share_one_set_of_dimensions_and_depth_comes_on_top() -> None:
    common = ["N", "G", "M", "C", "P", "Q", "R", "S"]

    declared = {name: dimensions(Problem.parse(text).canonical()) for name, (text, _, _) in PROBLEMS.items()}

    assert declared.pop("conv3d") == [*common, "O", "T"]
    assert declared.pop("einsum with letters of its own") == [*common, "B", "H"]
    assert all(dims == common for dims in declared.values())


def test_coefficients_have_the_names_that_the_field_uses() -> None:
    problem = Problem.parse(
        "mac M=2 P=4 Q=5 R=3 S=3 | Inputs input 32 [2P+3R:13, 4Q+5S:27] | Weights weight 32 [M:2, R:3, S:3] | "
        "Outputs output 32 [M:2, P:4, Q:5]"
    )

    instance = load(problem_text(problem))["problem"]["instance"]

    assert {key: instance[key] for key in instance if len(key) > 1} == {
        "Hstride": 2,
        "Hdilation": 3,
        "Wstride": 4,
        "Wdilation": 5,
    }


def test_a_batch_edited_into_a_file_of_one_image_reaches_inputs_and_outputs_only() -> None:
    text, macs, footprints = PROBLEMS["conv2d, stride 2"]
    edited = problem_text(Problem.parse(text).canonical()).replace("N: 1,", "N: 8,")

    assert understood(edited) == (
        8 * macs,
        {"Weights": footprints["Weights"], "Inputs": 8 * footprints["Inputs"], "Outputs": 8 * footprints["Outputs"]},
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("add M=8 | Inputs input 32 [M:8] | Weights input 32 [M:8] | Outputs output 32 [M:8]", "the operation 'add'"),
        ("mac M=8 | A input 32 [M:8] | Weights input 32 [M:8] | Outputs output 32 [M:8]", "A, Outputs, Weights"),
        ("mac M=8 | Inputs input 32 [M:8] | Outputs output 32 [M:8]", "the operands are Inputs, Outputs"),
        ("mac M=8 | Outputs input 32 [M:8] | Weights weight 32 [M:8] | Inputs output 32 [M:8]", "is called Inputs"),
        (
            "mac M=3000000000 | Inputs input 32 [M:3000000000] | Weights weight 32 [M:3000000000] | "
            "Outputs output 32 [M:3000000000]",
            "M=3000000000: Timeloop's loop bounds are 32-bit",
        ),
        ("mac M=8 X=4 | Inputs input 32 [M:8] | Weights input 32 [M:8] | Outputs output 32 [M:8]", "the dimension X"),
    ],
)
def test_what_timeloop_cannot_be_told_is_refused_with_the_reason(text: str, reason: str) -> None:
    assert reason in refusal(Problem.parse(text))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("conv2d, stride 2", "conv2d"),
        ("transposed: the uncropped output", "transposed_conv2d"),
        ("conv3d", "conv3d"),
        ("linear", "gemm"),
        ("attention", "batched_gemm"),
        ("outer product", "outer"),
    ],
)
def test_file_names_are_readable_and_depend_on_the_problem_alone(name: str, word: str) -> None:
    problem = Problem.parse(PROBLEMS[name][0]).canonical()

    assert kind(problem) == word
    assert problem_name(problem) == f"{word}_{problem.key}"


small = st.integers(1, 9)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Problem, int, dict[str, int]]:
    """A convolution, its MACs and footprints by the schoolbook formulas; half of them transposed."""
    batch, groups, out, inside = draw(small), draw(small), draw(small), draw(small)
    height, width, kernel_h, kernel_w = draw(small), draw(small), draw(small), draw(small)
    stride_h, stride_w, dilation_h, dilation_w = (draw(st.integers(1, 4)) for _ in range(4))
    rows = stride_h * (height - 1) + dilation_h * (kernel_h - 1) + 1
    columns = stride_w * (width - 1) + dilation_w * (kernel_w - 1) + 1
    window = f"{stride_h}P+{dilation_h}R:{rows}, {stride_w}Q+{dilation_w}S:{columns}"
    transposed = draw(st.booleans())
    inner, outer = (f"P:{height}, Q:{width}", window) if transposed else (window, f"P:{height}, Q:{width}")
    problem = Problem.parse(
        f"mac N={batch} G={groups} M={out} C={inside} P={height} Q={width} R={kernel_h} S={kernel_w}"
        f" | Inputs input 8 [N:{batch}, G:{groups}, C:{inside}, {inner}]"
        f" | Weights weight 8 [G:{groups}, M:{out}, C:{inside}, R:{kernel_h}, S:{kernel_w}]"
        f" | Outputs output 8 [N:{batch}, G:{groups}, M:{out}, {outer}]"
    )
    wide, narrow = rows * columns, height * width
    footprints = {
        "Weights": groups * out * inside * kernel_h * kernel_w,
        "Inputs": batch * groups * inside * (narrow if transposed else wide),
        "Outputs": batch * groups * out * (wide if transposed else narrow),
    }
    return problem, batch * groups * out * inside * height * width * kernel_h * kernel_w, footprints


@given(convolutions())
@settings(max_examples=150, deadline=None)
def test_any_convolution_comes_out_right(case: tuple[Problem, int, dict[str, int]]) -> None:
    problem, macs, footprints = case

    assert understood(problem_text(problem)) == (macs, footprints)
    assert understood(problem_text(problem.canonical())) == (macs, footprints)


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 64))
@settings(max_examples=50, deadline=None)
def test_any_matrix_product_comes_out_right(rows: int, columns: int, reduction: int, groups: int) -> None:
    problem = gemm(rows, columns, reduction, groups=groups).canonical()

    assert understood(problem_text(problem)) == (
        groups * rows * columns * reduction,
        {
            "Weights": groups * columns * reduction,
            "Inputs": groups * rows * reduction,
            "Outputs": groups * rows * columns,
        },
    )


# --- a whole export --------------------------------------------------------------------------------------------------


def graph(name: str = "toy") -> LayerGraph:
    """Two equal convolutions, pooling, a recurrence of two problems, attention, an unknown operation, a host layer."""
    conv = Problem.parse(PROBLEMS["conv2d, stride 2"][0])
    layers: list[Layer] = []
    tensors: dict[str, Tensor] = {"x": Tensor("x", (4,), "float32", 32, "input", "x")}

    def add(layer_name: str, op: str, *work: Work, **more: Any) -> None:
        tensor = Tensor(f"t{len(layers)}", (4,), "float32", 32, "activation", f"t{len(layers)}")
        before = list(tensors)[-1]
        tensors[tensor.name] = tensor
        layers.append(
            Layer(layer_name, op, work=work, reads=((before, 100),), writes=((tensor.name, 10),), stage="head", **more)
        )

    add("stem", "conv2d", Work(conv), modality="image")
    add("stem2", "conv2d", Work(conv))
    add("pool", "max_pool2d", vector_ops=50)
    add("rnn", "lstm", Work(gemm(16, 256, 64)), Work(gemm(1, 256, 64), count=16, sequential=True), vector_ops=9)
    add("attention", "attention", Work(Problem.parse(PROBLEMS["attention"][0])))
    add("odd", "maximum", Work(Problem.parse("max M=8 C=4 | Inputs input 32 [M:8, C:4] | Outputs output 32 [M:8]")))
    add("spectrum", "stft", Work(gemm(10, 20, 30)), placement="host")
    add("view", "cat")
    return LayerGraph(name, "small", 1, "float32", tuple(layers), tensors, versions=VERSIONS)


@pytest.fixture
def arch() -> Architecture:
    return architectures.load("eyeriss_like")


@pytest.fixture
def folder(tmp_path: Path, arch: Architecture) -> Path:
    write_export("timeloop", graph(), arch, tmp_path / "out", VERSIONS)
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_export_has_the_same_bytes(folder: Path, arch: Architecture) -> None:
    first = contents(folder)
    write_export("timeloop", graph(), arch, folder, VERSIONS)

    assert contents(folder) == first
    assert len(first) == 9 + 3 * 4 + 2 + 2  # README and workload


def test_every_layer_has_a_row_that_leads_to_its_problem_or_says_why_not(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())

    rows = [
        (
            row["layer"],
            row["problem_file"].rpartition("_")[0],
            row["count"],
            row["sequential"],
            row["macs"],
            row["bytes"],
        )
        for row in manifest["layers"]
    ]

    assert rows == [
        ("stem", "problems/001_stem", 1, False, 118013952, 110),
        ("stem2", "problems/001_stem", 1, False, 118013952, 110),
        ("pool", "", 1, False, 0, 110),
        ("rnn", "problems/002_rnn", 1, False, 16 * 256 * 64, 110),
        ("rnn", "problems/003_rnn", 16, True, 256 * 64, 0),
        ("attention", "problems/004_attention", 1, False, 29805312, 110),
        ("odd", "", 1, False, 32, 110),
        ("spectrum", "", 1, False, 6000, 110),
        ("view", "", 1, False, 0, 110),
    ]
    assert {row["layer"]: row["excluded"] for row in manifest["layers"] if row["excluded"]} == {
        "pool": "no multiply-accumulates: work of a vector unit",
        "odd": "the operation 'max' is not a multiply-accumulate",
        "spectrum": "runs on the host",
        "view": "no multiply-accumulates: only moves data",
    }
    assert manifest["problem_files"] == 4
    assert manifest["excluded_macs"] == 6032
    assert manifest["excluded_bytes"] == 440


def test_the_files_mean_what_the_manifest_and_the_expectations_say(folder: Path) -> None:
    rows = {row["problem_file"]: row for row in json.loads((folder / MANIFEST).read_text())["layers"]}
    rows.pop("")
    expected = json.loads((folder / "expected.json").read_text())

    for file, row in rows.items():
        assert understood((folder / file).read_text()) == (row["macs"], row["footprints"])
        assert expected[Path(file).stem] == {"macs": row["macs"], "footprints": row["footprints"]}
    assert sorted(rows) == sorted(str(path.relative_to(folder)) for path in (folder / "problems").iterdir())


def test_the_manifest_lists_true_sizes_beside_index_ranges(folder: Path) -> None:
    table = list(csv.DictReader(io.StringIO((folder / "manifest.csv").read_text())))

    assert (table[0]["Inputs_footprint"], table[0]["Inputs_tensor_size"]) == ("157323", "150528")


def test_every_file_says_where_it_comes_from(folder: Path) -> None:
    for name, content in contents(folder).items():
        if name.endswith((".yaml", "run.py")):
            head = content.decode().removeprefix("#!/usr/bin/env python3\n").splitlines()[:2]
            assert head == [
                "# Written by mmworkload 0.1.0, torch 2.15.0 for Timeloop v0.4",
                "# model: toy, variant small, batch 1, float32, on eyeriss_like",
            ], name
    conv = next((folder / "problems").glob("001_*")).read_text()
    assert "# layers (2): stem, stem2\n" in conv
    assert "# Inputs: 150528 elements; Timeloop's index range, padding included: 157323\n" in conv


def test_an_export_is_never_padded_and_says_where_that_costs(folder: Path) -> None:
    (problem,) = (folder / "problems").glob("004_attention_*")
    constraints = (folder / "constraints" / problem.name).read_text()

    assert load(problem.read_text())["problem"]["instance"]["M"] == 197
    assert "`mmworkload simulate` pads N 197 to 198, M 197 to 198;" in constraints


def test_a_layer_name_with_a_line_break_stays_inside_the_comment(tmp_path: Path, arch: Architecture) -> None:
    source = graph("evil\nproblem: {}")
    export = write_export("timeloop", source, arch, tmp_path / "out", VERSIONS)

    assert all(load((tmp_path / "out" / name).read_text()) for name in export.files if name.endswith(".yaml"))
    assert understood(next((tmp_path / "out" / "problems").glob("001_*")).read_text())[0] == 118013952


def test_parts_of_a_workload_share_problem_files_and_keep_their_layers_apart(
    tmp_path: Path, arch: Architecture
) -> None:
    workload = Workload("both", (Part(graph(), "prefill"), Part(graph(), "decode", 16)))

    export: Export = EXPORTER.export(workload, arch, tmp_path, VERSIONS)

    assert export.problem_files == 4
    assert len({row.layer for row in export.rows}) == 16
    conv = next((tmp_path / "problems").glob("001_*")).read_text()
    assert "# layers (4): prefill: stem, prefill: stem2, decode: stem, decode: stem2\n" in conv
    assert "# model: toy (decode, 16 times), variant small, batch 1, float32, on eyeriss_like\n" in conv


def test_long_lists_of_layers_are_cut(tmp_path: Path, arch: Architecture) -> None:
    workload = Workload("many", tuple(Part(graph(), f"part{index}") for index in range(9)))

    EXPORTER.export(workload, arch, tmp_path, VERSIONS)

    conv = next((tmp_path / "problems").glob("001_*")).read_text()
    assert "# layers (18): part0: stem, part0: stem2, part1: stem, part1: stem2 and 14 more\n" in conv


def test_no_string_is_left_for_the_front_end_to_run_as_python(folder: Path) -> None:
    for name, content in contents(folder).items():
        if name.endswith(".yaml"):
            assert list(plain_strings(content.decode())) == [], name
    assert list(plain_strings("variables: {technology: 45nm}")) == ["45nm"]


def test_every_section_states_version_0_4(folder: Path) -> None:
    for name, content in contents(folder).items():
        if name.endswith(".yaml"):
            ((section, body),) = load(content.decode()).items()
            if name.startswith("v0.3/"):
                # Constraints have no version in that form.
                assert body.get("version", 0.3) == 0.3, (name, section)
            else:
                assert body["version"] == 0.4, (name, section)


def test_the_search_is_written_so_that_it_arrives(folder: Path) -> None:
    mapper = load((folder / "mapper.yaml").read_text())["mapper"]

    # The singular optimization_metric is dropped on the way; the default algorithm is hybrid; live_status waits.
    assert mapper["optimization_metrics"] == ["edp"]
    assert "optimization_metric" not in mapper
    assert (mapper["algorithm"], mapper["num_threads"], mapper["live_status"]) == ("random", 1, False)
    assert (mapper["victory_condition"], mapper["timeout"]) == (100, 20000)


def test_the_run_command_is_a_script_that_old_pythons_can_read(
    folder: Path, arch: Architecture, tmp_path: Path
) -> None:
    source = (folder / "run.py").read_text()

    ast.parse(source, feature_version=(3, 8))
    assert source.startswith("#!/usr/bin/env python3\n")
    assert write_export("timeloop", graph(), arch, tmp_path / "again", VERSIONS).run_command == "python run.py"


def test_an_architecture_that_timeloop_cannot_be_told_is_an_error(tmp_path: Path, arch: Architecture) -> None:
    levels = {("mac" if name == "glb" else name): level for name, level in arch.levels.items()}
    array = arch.array.model_copy(update={"inside": "mac"})

    with pytest.raises(ArchitectureError, match="level 'mac'"):
        EXPORTER.export(Workload.of(graph()), arch.model_copy(update={"levels": levels, "array": array}), tmp_path, {})


def test_the_checker_sees_the_mistakes_that_the_tool_takes_in_silence() -> None:
    good = problem_text(Problem.parse(PROBLEMS["conv2d, stride 2"][0]).canonical())
    mistakes = {
        "misspelt stride": ("Hstride: 2", "HStride: 2"),
        "stride left out": (", Hstride: 2", ""),
        "no read_write": ("      read_write: True\n", ""),
        "unused coefficient": ("[P, Hstride]", "[P]"),
        "literal coefficient": ("[P, Hstride]", "[P, 2]"),
        "no default": (", default: 1}", "}"),
        "float": ("P: 112", "P: 112.0"),
        "long name": ("[N, G,", "[Nn, G,"),
    }

    for name, (before, after) in mistakes.items():
        assert before in good, name
        with pytest.raises((AssertionError, KeyError)):
            understood(good.replace(before, after))


def test_shuffled_operands_give_the_same_file() -> None:
    for text, _, _ in PROBLEMS.values():
        problem = Problem.parse(text)
        operands = list(problem.operands)
        random.Random(0).shuffle(operands)
        other = Problem(problem.dims[::-1], tuple(operands), problem.operation, problem.mask)
        assert problem_text(other.canonical()) == problem_text(problem.canonical())
