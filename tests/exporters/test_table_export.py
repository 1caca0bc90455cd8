"""The tables for everybody else, read back with the standard library, pandas and pyarrow."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import FormatError
from mmworkload.exporting import MANIFEST, exporters, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Mask, Problem, gemm

ROOT = Path(__file__).parents[2]
VERSIONS = {"mmworkload": "0.1.0"}
FILES = {"csv": "work_items.csv", "parquet": "work_items.parquet"}
SHAPES = {
    "strided": (
        "mac N=2 M=64 C=3 P=112 Q=56 R=7 S=5 | Inputs input 32 [N:2, C:3, 2P+R:224~3,2, 4Q+3S:224~3,6] | "
        "Weights weight 16 [M:64, C:3, R:7, S:5] | Outputs output 32 [N:2, M:64, P:112, Q:56]"
    ),
    "transposed": (
        "mac M=32 C=64 P=14 Q=14 R=4 S=4 | Inputs input 32 [C:64, P:14, Q:14] | "
        "Weights weight 32 [C:64, M:32, R:4, S:4] | Outputs output 32 [M:32, 2P+R:28~1,1, 2Q+S:28~1,1]"
    ),
    "depth": (
        "mac M=8 C=4 O=6 P=14 T=3 | Inputs input 32 [C:4, 2O+T:12~1,1, P:14] | Weights weight 32 [M:8, C:4, T:3] | "
        "Outputs output 32 [M:8, O:6, P:14]"
    ),
    "einsum": (
        "mac B=4 H=6 M=12 N=20 C=16 | Inputs input 32 [B:4, H:6, N:20, C:16] | Weights weight 32 [H:6, C:16, M:12] | "
        "Outputs output 32 [B:4, H:6, N:20, M:12]"
    ),
}


def graph() -> LayerGraph:
    tensors = {
        "x": Tensor("x", (25,), "float32", 32, "input", "x"),
        "w": Tensor("w", (10,), "float32", 32, "weight", "w"),
    }
    layers: list[Layer] = []

    def add(name: str, op: str, *work: Work, **more: Any) -> None:
        before = layers[-1].writes[0][0] if layers else "x"
        tensors[f"{name}:out"] = Tensor(f"{name}:out", (25,), "float32", 32, "activation", f"{name}:out")
        layers.append(
            Layer(name, op, work=work, reads=((before, 100), ("w", 40)), writes=((f"{name}:out", 10),), **more)
        )

    for name, text in SHAPES.items():
        add(name, "conv", Work(Problem.parse(text)), stage="encoder/image", modality="image", category="Conv")
    add('pool, of "2"', "max_pool2d", vector_ops=50, dead=True, assumptions=("a", "b, c"))
    add("rnn", "lstm", Work(gemm(16, 256, 64)), Work(gemm(1, 256, 64), 16, sequential=True), vector_ops=9, stage="head")
    masked = gemm(16, 16, 8, groups=2, second_role="input", mask=Mask("causal", 16, 16))
    add("attention", "attention", Work(masked), placement="host")
    return LayerGraph("toy", "small", 2, "float32", tuple(layers), tensors)


@pytest.fixture
def arch() -> Architecture:
    return architectures.load("eyeriss_like")


def read(folder: Path, target: str) -> list[dict[str, Any]]:
    """Rows with None for empty fields and Python's own types, read by the standard library or by pyarrow."""
    if target == "parquet":
        rows: list[dict[str, Any]] = (
            importlib.import_module("pyarrow.parquet").read_table(folder / FILES[target]).to_pylist()
        )
        return rows
    kinds = {row["column"]: row["type"] for row in csv.DictReader(io.StringIO((folder / "columns.csv").read_text()))}
    convert: dict[str, Any] = {
        "integer": int,
        "number": float,
        "string": str,
        "boolean": {"true": True, "false": False}.get,
    }
    with (folder / FILES[target]).open(newline="") as stream:
        return [
            {
                name: None if text == "" and kinds[name] != "string" else convert[kinds[name]](text)
                for name, text in row.items()
            }
            for row in csv.DictReader(stream)
        ]


@pytest.fixture(params=FILES)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rows(target: str, tmp_path: Path, arch: Architecture) -> list[dict[str, Any]]:
    write_export(target, graph(), arch, tmp_path / "out", VERSIONS)
    return read(tmp_path / "out", target)


def pick(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def test_both_are_found_by_name_and_neither_hides_the_standard_library() -> None:
    assert {"csv", "parquet"} <= set(exporters())
    assert csv.__name__ == "csv"
    assert importlib.import_module("mmworkload.exporters.csv").EXPORTER.name == "csv"
    assert hasattr(csv, "DictReader")


def test_a_row_is_a_work_item_and_no_layer_is_missing(rows: list[dict[str, Any]]) -> None:
    assert [pick(row, "layer", "work", "count", "sequential", "macs", "total_macs") for row in rows] == [
        ("strided", 0, 1, False, 2 * 64 * 3 * 112 * 56 * 35, 2 * 64 * 3 * 112 * 56 * 35),
        ("transposed", 0, 1, False, 32 * 64 * 196 * 16, 32 * 64 * 196 * 16),
        ("depth", 0, 1, False, 8 * 4 * 6 * 14 * 3, 8 * 4 * 6 * 14 * 3),
        ("einsum", 0, 1, False, 4 * 6 * 12 * 20 * 16, 4 * 6 * 12 * 20 * 16),
        ('pool, of "2"', None, None, None, None, None),
        ("rnn", 0, 1, False, 16 * 256 * 64, 16 * 256 * 64),
        ("rnn", 1, 16, True, 256 * 64, 16 * 256 * 64),
        ("attention", 0, 1, False, 2 * 16 * 16 * 8, 2 * 16 * 16 * 8),
    ]


def test_dimensions_of_the_legend_have_columns_and_others_are_listed(rows: list[dict[str, Any]]) -> None:
    assert [pick(row, *"NGMCOPQTRS", "other_dims") for row in rows[:5]] == [
        (2, 1, 64, 3, 1, 112, 56, 1, 7, 5, ""),
        (1, 1, 32, 64, 1, 14, 14, 1, 4, 4, ""),
        (1, 1, 8, 4, 6, 14, 1, 3, 1, 1, ""),
        (20, 1, 12, 16, 1, 1, 1, 1, 1, 1, "B=4 H=6"),
        (*[None] * 10, rows[4]["other_dims"]),
    ]


def test_strides_dilations_and_paddings_stand_at_their_axis(rows: list[dict[str, Any]]) -> None:
    def window(row: dict[str, Any], place: str) -> tuple[Any, ...]:
        return pick(row, *(f"{name}_{place}" for name in ("stride", "dilation", "pad_low", "pad_high")))

    strided, transposed, depth, einsum, pool, *_ = rows
    assert (window(strided, "height"), window(strided, "width")) == ((2, 1, 3, 2), (4, 3, 3, 6))
    assert (window(transposed, "height"), window(transposed, "depth")) == ((2, 1, 1, 1), (1, 1, 0, 0))
    assert (window(depth, "depth"), window(depth, "height")) == ((2, 1, 1, 1), (1, 1, 0, 0))
    assert window(einsum, "height") == (1, 1, 0, 0)
    assert window(pool, "height") == (None, None, None, None)
    assert [row["scattered"] for row in rows[:4]] == [False, True, False, False]


def test_sizes_are_exact(rows: list[dict[str, Any]]) -> None:
    names = [f"inputs_{name}" for name in ("role", "bits", "elements", "bytes", "footprint")]

    elements = 2 * 3 * 224 * 224
    # 2 * 111 + 7 rows and 4 * 55 + 3 * 4 + 1 columns.
    assert pick(rows[0], *names) == ("input", 32, elements, 4 * elements, 2 * 3 * 229 * 233)
    assert pick(rows[0], "weights_bits", "weights_bytes") == (16, 64 * 3 * 35 * 2)
    assert pick(rows[1], "outputs_elements", "outputs_footprint") == (32 * 28 * 28, 32 * 30 * 30)
    assert pick(rows[7], "weights_role", "macs", "useful_macs") == ("input", 4096, 2 * 8 * 136)
    assert rows[7]["mask"] == "causal(16, 16, 0, 0)"


def test_bytes_and_operations_of_a_layer_are_counted_once(rows: list[dict[str, Any]]) -> None:
    last = ("read_bytes", "write_bytes", "weight_bytes", "vector_ops")

    assert pick(rows[4], *last) == (140, 10, 40, 50)
    assert pick(rows[5], *last) == (140, 10, 40, 9)
    assert pick(rows[6], *last) == (0, 0, 0, 0)


def test_what_a_layer_is_stands_on_each_of_its_rows(rows: list[dict[str, Any]]) -> None:
    names = ("model", "batch", "dtype", "part_count", "op", "stage", "modality", "category", "placement", "dead")

    assert pick(rows[0], *names) == (
        "toy", 2, "float32", 1.0, "conv", "encoder/image", "image", "Conv", "device", False,
    )  # fmt: skip
    assert pick(rows[4], "dead", "assumptions") == (True, "a; b, c")
    assert not rows[4]["operation"]
    assert pick(rows[7], "placement", "operation") == ("host", "mac")


def test_the_loop_nest_is_in_the_table_whole(rows: list[dict[str, Any]]) -> None:
    problems = [work.problem for layer in graph() for work in layer.work]

    texts = [(row["problem"], row["problem_key"]) for row in rows if row["macs"] is not None]
    assert [Problem.parse(text) for text, _ in texts] == problems
    assert [key for _, key in texts] == [problem.key for problem in problems]


def test_a_second_export_has_the_same_bytes(target: str, tmp_path: Path, arch: Architecture) -> None:
    for name in ("first", "second"):
        write_export(target, graph(), arch, tmp_path / name, VERSIONS)

    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("first", "second")
    )
    assert first == second
    assert sorted(first) == sorted(["README.md", "columns.csv", "manifest.csv", MANIFEST, FILES[target]])


def test_every_column_is_explained(target: str, tmp_path: Path, arch: Architecture) -> None:
    write_export(target, graph(), arch, tmp_path / "out", VERSIONS)
    with (tmp_path / "out" / "columns.csv").open() as stream:
        about = list(csv.DictReader(stream))

    assert [row["column"] for row in about] == list(read(tmp_path / "out", target)[0])
    assert all(row["meaning"] for row in about)
    assert {row["type"] for row in about} == {"string", "integer", "number", "boolean"}


def test_nothing_is_left_out(target: str, tmp_path: Path, arch: Architecture) -> None:
    write_export(target, graph(), arch, tmp_path / "out", VERSIONS)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())

    assert (manifest["excluded_macs"], manifest["excluded_bytes"]) == (0, 0)
    assert {row["excluded"] for row in manifest["layers"]} == {""}
    keys = [row["problem_key"] or "" for row in read(tmp_path / "out", target)]
    assert [row["problem_file"] for row in manifest["layers"]] == [
        f"{FILES[target]}#{key}" if key else FILES[target] for key in keys
    ]


@pytest.mark.parametrize(("name", "macs"), [("av-mnist/concat", 11_993_032), ("mujoco-push/late", 439_403_520)])
def test_the_table_of_a_workload_adds_up(name: str, macs: int, target: str, tmp_path: Path, arch: Architecture) -> None:
    source = LayerGraph.load(ROOT / "shapes" / f"{name}.yaml")
    write_export(target, source, arch, tmp_path / "out", VERSIONS)
    found = read(tmp_path / "out", target)

    items = [row for row in found if row["macs"] is not None]
    assert sum(row["total_macs"] for row in items) == macs == source.total_macs + source.outer_macs
    for row in items:
        others = (int(extent) for extent in re.findall(r"=(\d+)", row["other_dims"]))
        assert row["macs"] == math.prod(row[dim] for dim in "NGMCOPQTRS") * math.prod(others)
    assert sum(row["read_bytes"] + row["write_bytes"] for row in found) == sum(layer.bytes for layer in source)
    stages = {stage: totals.macs for stage, totals in source.stages.items()}
    assert {stage: sum(row["total_macs"] or 0 for row in found if row["stage"] == stage) for stage in stages} == stages


def test_phases_of_a_workload_are_kept_apart(target: str, tmp_path: Path, arch: Architecture) -> None:
    workload = Workload("both", (Part(graph(), "prefill"), Part(graph(), "decode", 0.5)))
    write_export(target, workload, arch, tmp_path / "out", VERSIONS)
    found = read(tmp_path / "out", target)

    assert [pick(row, "part", "part_count", "layer") for row in found if row["work"] == 1] == [
        ("prefill", 1.0, "rnn"),
        ("decode", 0.5, "rnn"),
    ]


def test_pandas_reads_what_the_command_says(target: str, tmp_path: Path, arch: Architecture) -> None:
    export = write_export(target, graph(), arch, tmp_path / "out", VERSIONS)

    code = (
        export.run_command.removeprefix('python -c "')
        .removesuffix('"')
        .replace("print(", "print((")
        .replace("'))", "')).total_macs.sum())")
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path / "out"
    )

    total = sum(work.macs for layer in graph() for work in layer.work)
    assert (found.returncode, int(float(found.stdout or 0))) == (0, total), found.stderr


def test_more_than_a_parquet_integer_is_refused_and_csv_takes_it(tmp_path: Path, arch: Architecture) -> None:
    huge = gemm(10**9, 10**9, 10**9)
    tensors = {"x": Tensor("x", (1,), "float32", 32, "input", "x"), "y": Tensor("y", (1,), "float32", 32, "input", "y")}
    one = LayerGraph("huge", "", 1, "float32", (Layer("a", "linear", work=(Work(huge),), reads=(("x", 4),)),), tensors)

    with pytest.raises(FormatError, match=r"'macs' reaches 10\^27, .* 2\^63 - 1; export to csv"):
        write_export("parquet", one, arch, tmp_path / "parquet", VERSIONS)
    write_export("csv", one, arch, tmp_path / "csv", VERSIONS)

    (row,) = read(tmp_path / "csv", "csv")
    assert row["macs"] == 10**27
    assert not (tmp_path / "parquet").exists()
