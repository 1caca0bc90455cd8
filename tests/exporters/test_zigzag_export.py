"""What the ZigZag exporter writes: read by ZigZag's own parsers, and run as a person without mmworkload runs it."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmworkload import arch as architectures
from mmworkload.exporters.zigzag import EXPORTER, SIMULATOR
from mmworkload.exporters.zigzag.command import run_all, run_problem
from mmworkload.exporters.zigzag.evaluation import NoAnswerError
from mmworkload.exporters.zigzag.inexpressible import FAMILIES
from mmworkload.exporting import Export, ManifestRow, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Mask, Problem, gemm
from mmworkload.processes import descendants
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.engine import simulate

EYERISS = architectures.load("eyeriss_like")
VERSIONS = {"mmworkload": "0.1.0", "torch": "2.15.0"}
SHAPES = Path(__file__).parents[2] / "shapes"
needs_zigzag = pytest.mark.skipif(SIMULATOR.unavailable() is not None, reason="zigzag-dse is not installed")

# Problem, MACs, and the elements that ZigZag has to see of O, W and I.
PROBLEMS: dict[str, tuple[str, int, tuple[int, int, int]]] = {
    "conv1d, stride 2": (
        "mac M=8 C=4 Q=50 S=5 | Inputs input 32 [C:4, 2Q+S:100~2,1] | Weights weight 32 [M:8, C:4, S:5] | "
        "Outputs output 32 [M:8, Q:50]",
        8000,
        (400, 160, 400),
    ),
    # 229 columns are passed over, with 6 of padding and the last one unread: 224 are in the tensor.
    "conv2d, 7 x 7, stride 2": (
        "mac M=64 C=3 P=112 Q=112 R=7 S=7 | Inputs input 32 [C:3, 2P+R:224~3,3, 2Q+S:224~3,3] | "
        "Weights weight 32 [M:64, C:3, R:7, S:7] | Outputs output 32 [M:64, P:112, Q:112]",
        118013952,
        (802816, 9408, 150528),
    ),
    "conv2d, kernel 1 x 7, stride (1, 2)": (
        "mac M=8 C=5 P=20 Q=10 S=7 | Inputs input 32 [C:5, P:20, 2Q+S:20~3,3] | Weights weight 32 [M:8, C:5, S:7] | "
        "Outputs output 32 [M:8, P:20, Q:10]",
        56000,
        (1600, 280, 2000),
    ),
    "conv2d, dilation 2": (
        "mac M=64 C=32 P=28 Q=28 R=3 S=3 | Inputs input 32 [C:32, P+2R:28~2,2, Q+2S:28~2,2] | "
        "Weights weight 32 [M:64, C:32, R:3, S:3] | Outputs output 32 [M:64, P:28, Q:28]",
        14450688,
        (50176, 18432, 25088),
    ),
    "conv2d, 1 x 1, stride 2": (
        "mac M=64 C=32 P=28 Q=28 | Inputs input 32 [C:32, 2P:56, 2Q:56] | Weights weight 32 [M:64, C:32] | "
        "Outputs output 32 [M:64, P:28, Q:28]",
        1605632,
        (50176, 2048, 25088),
    ),
    "conv3d": (
        "mac M=8 C=4 O=6 P=14 Q=14 T=3 R=3 S=3 | Inputs input 32 [C:4, 2O+T:12~1,1, P+R:14~1,1, Q+S:14~1,1] | "
        "Weights weight 32 [M:8, C:4, T:3, R:3, S:3] | Outputs output 32 [M:8, O:6, P:14, Q:14]",
        1016064,
        (9408, 864, 9408),
    ),
    "depthwise": (
        "mac G=96 P=56 Q=56 R=3 S=3 | Inputs input 8 [G:96, P+R:56~1,1, Q+S:56~1,1] | "
        "Weights weight 8 [G:96, R:3, S:3] | Outputs output 8 [G:96, P:56, Q:56]",
        2709504,
        (301056, 864, 301056),
    ),
    "grouped": (
        "mac G=32 M=4 C=4 P=56 Q=56 R=3 S=3 | Inputs input 8 [G:32, C:4, P+R:56~1,1, Q+S:56~1,1] | "
        "Weights weight 8 [G:32, M:4, C:4, R:3, S:3] | Outputs output 8 [G:32, M:4, P:56, Q:56]",
        14450688,
        (401408, 4608, 401408),
    ),
    # The matrix product: 32 x 16 products for each of 14 x 14 positions, before overlapping ones are added.
    "transposed conv2d": (
        "mac M=32 C=64 P=14 Q=14 R=4 S=4 | Inputs input 32 [C:64, P:14, Q:14] | "
        "Weights weight 32 [C:64, M:32, R:4, S:4] | Outputs output 32 [M:32, 2P+R:28~1,1, 2Q+S:28~1,1]",
        6422528,
        (100352, 32768, 12544),
    ),
    "linear": (str(gemm(197, 3072, 768)), 464781312, (605184, 2359296, 151296)),
    "attention": (str(gemm(197, 197, 64, groups=12, second_role="input")), 29805312, (465708, 151296, 151296)),
    "recurrent step, one row": (str(gemm(1, 1024, 256)), 262144, (1024, 262144, 256)),
    "outer product": (str(gemm(24, 36, 1, operation="mul")), 864, (864, 36, 24)),
    "one MAC": (str(gemm(1, 1, 1)), 1, (1, 1, 1)),
    "einsum with letters of its own": (
        "mac B=4 H=6 M=12 N=20 C=16 | Inputs input 32 [B:4, H:6, N:20, C:16] | Weights weight 32 [H:6, C:16, M:12] | "
        "Outputs output 32 [B:4, H:6, N:20, M:12]",
        92160,
        (5760, 1152, 7680),
    ),
}


def graph(*layers: Layer, model: str = "hand/made") -> LayerGraph:
    names = {name for layer in layers for name, _ in layer.reads}
    tensors = {name: Tensor(name, (4,), "float32", 32, "input", name) for name in names}
    return LayerGraph(model, "made", 1, "float32", layers, tensors)


def layer(name: str, *problems: Problem, **values: Any) -> Layer:
    values = {"op": "linear", "stage": "head", "reads": (("x", 100),)} | values
    return Layer(name, work=tuple(Work(problem) for problem in problems), **values)


def all_kinds() -> LayerGraph:
    return graph(*(layer(name, Problem.parse(text)) for name, (text, _, _) in PROBLEMS.items()))


def export(source: LayerGraph | Workload, folder: Path) -> Export:
    return EXPORTER.export(Workload.of(source), EYERISS, folder, VERSIONS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def entry(folder: Path, row: ManifestRow) -> dict[str, Any]:
    """The only layer of a row's problem file."""
    (found,) = yaml.safe_load((folder / row.problem_file).read_text())
    assert isinstance(found, dict)
    return found


# --- the files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    folder = tmp_path_factory.mktemp("kinds")
    return folder, export(all_kinds(), folder)


def test_every_kind_of_product_is_expressed_with_its_macs(kinds: tuple[Path, Export]) -> None:
    folder, result = kinds

    assert [(row.layer, row.excluded) for row in result.rows] == [(name, "") for name in PROBLEMS]
    assert result.problem_files == len(PROBLEMS)
    assert {row.layer: math.prod(entry(folder, row)["loop_sizes"]) for row in result.rows} == {
        name: macs for name, (_, macs, _) in PROBLEMS.items()
    }
    expected = json.loads((folder / "expected.json").read_text())["problems"]
    assert {row.layer: expected[Path(row.problem_file).stem]["macs"] for row in result.rows} == {
        name: macs for name, (_, macs, _) in PROBLEMS.items()
    }


def test_a_strided_oblong_convolution_keeps_height_and_width_apart(kinds: tuple[Path, Export]) -> None:
    folder, result = kinds
    row = next(row for row in result.rows if row.layer == "conv2d, kernel 1 x 7, stride (1, 2)")

    found = entry(folder, row)

    assert found["name"] == Path(row.problem_file).stem
    assert found["equation"] == "O[k][oy][ox]+=W[k][c][fx]*I[c][oy][iox]"
    assert found["dimension_relations"] == ["iox=2*ox+1*fx"]
    assert dict(zip(found["loop_dims"], found["loop_sizes"], strict=True)) == {
        "K": 8,
        "C": 5,
        "OY": 20,
        "OX": 10,
        "FX": 7,
    }
    assert (found["pr_loop_dims"], found["pr_loop_sizes"], found["padding"]) == (["IOX"], [20], [[3, 3]])
    # The architecture's native precision, not the 32 bits that were traced.
    assert found["operand_precision"] == {"O": 16, "W": 16, "I": 16, "O_final": 16}


def test_every_problem_has_a_mapping_of_its_own_loops_in_every_file(kinds: tuple[Path, Export]) -> None:
    folder, result = kinds
    files = [name for name in result.files if name.startswith("mapping")]
    loops = {
        found["name"]: dict(zip(found["loop_dims"], found["loop_sizes"], strict=True))
        for found in (entry(folder, row) for row in result.rows)
    }

    assert files == ["mapping-2.yaml", "mapping-3.yaml", "mapping-4.yaml", "mapping.yaml"]
    for file in files:
        default, *entries = yaml.safe_load((folder / file).read_text())
        assert default == {"name": "default", "memory_operand_links": {"I": "I1", "W": "I2", "O": "O"}}
        assert [item["name"] for item in entries] == list(loops)
        for item in entries:
            for axis, size in (("D1", 14), ("D2", 12)):
                chosen = dict(text.split(", ") for text in item["spatial_mapping"][axis])
                assert set(chosen) <= set(loops[item["name"]])
                assert all(int(factor) <= loops[item["name"]][loop] for loop, factor in chosen.items())
                assert math.prod(int(factor) for factor in chosen.values()) <= size


def test_the_depthwise_convolution_fills_the_array_by_groups_and_not_by_channels(kinds: tuple[Path, Export]) -> None:
    folder, result = kinds
    name = Path(next(row.problem_file for row in result.rows if row.layer == "depthwise")).stem

    found = next(item for item in yaml.safe_load((folder / "mapping.yaml").read_text()) if item["name"] == name)
    passes = json.loads((folder / "expected.json").read_text())["problems"][name]["passes"]

    loops = {"G": 96, "OY": 56, "OX": 56, "FY": 3, "FX": 3}
    for axis in ("D1", "D2"):
        for loop, factor in (text.split(", ") for text in found["spatial_mapping"][axis]):
            loops[loop] = -(-loops[loop] // int(factor))
    # 2 709 504 MACs on 168 elements: at best 16128 steps.
    assert 16128 <= math.prod(loops.values()) == passes[0] < 2 * 16128


@needs_zigzag
def test_zigzags_own_parsers_read_everything_with_our_macs_and_sizes(kinds: tuple[Path, Export]) -> None:
    from zigzag.stages.parser.accelerator_parser import AcceleratorParserStage
    from zigzag.stages.parser.workload_parser import WorkloadParserStage

    folder, result = kinds
    found = {}
    for row in result.rows:
        stage = WorkloadParserStage(
            [object], workload=str(folder / row.problem_file), mapping=str(folder / "mapping.yaml"), accelerator=None
        )
        (node,) = stage.parse_workload().node_list
        sizes = {operand.name: int(size) for operand, size in node.operand_size_elem.items()}
        found[row.layer] = (int(node.total_mac_count), (sizes["O"], sizes["W"], sizes["I"]))
        assert node.name == Path(row.problem_file).stem
    accelerator = AcceleratorParserStage.parse_accelerator(str(folder / "accelerator.yaml"))

    assert found == {name: (macs, sizes) for name, (_, macs, sizes) in PROBLEMS.items()}
    assert accelerator.name == "eyeriss_like"
    assert [memory.name for memory in accelerator.memory_hierarchy.mem_level_list] == [
        *("ospad", "wspad", "ispad", "glb", "dram")
    ]
    assert accelerator.operational_array.total_unit_count == 168


def test_problem_files_one_after_the_other_are_one_workload(kinds: tuple[Path, Export]) -> None:
    folder, _ = kinds

    layers = yaml.safe_load("".join(file.read_text() for file in sorted((folder / "problems").iterdir())))

    numbers = [item["id"] for item in layers]
    assert sorted(numbers) == list(range(len(PROBLEMS)))
    # Its own number: the operand comes from the outermost memory. Another one would be an edge to that layer.
    assert all(set(item["operand_source"].values()) == {item["id"]} for item in layers)


def test_a_second_export_writes_the_same_bytes(kinds: tuple[Path, Export], tmp_path: Path) -> None:
    folder, first = kinds

    second = export(all_kinds(), tmp_path)

    assert contents(tmp_path) == contents(folder)
    assert second == first
    assert sorted(contents(folder)) == list(first.files)


def test_files_say_where_they_come_from_and_what_zigzag_is_not_told(tmp_path: Path) -> None:
    export(graph(layer("first", gemm(4, 5, 6)), layer("second", gemm(4, 5, 6))), tmp_path)
    (problem,) = (tmp_path / "problems").iterdir()
    head = [
        "# Written by mmworkload 0.1.0, torch 2.15.0 for ZigZag 3.9.1",
        "# model: hand/made, variant made, batch 1, float32, on eyeriss_like",
    ]

    accelerator = (tmp_path / "accelerator.yaml").read_text().splitlines()

    assert accelerator[:2] == (tmp_path / "mapping.yaml").read_text().splitlines()[:2] == head
    assert "# told to ZigZag: approximate (glb: no two operands pass a port in the same cycle, however narrow)" in (
        accelerator
    )
    assert problem.read_text().splitlines()[:3] == [*head, "# layers (2): first, second"]
    assert "# multiply-accumulates: 120" in problem.read_text().splitlines()
    assert (tmp_path / "run.py").read_text().splitlines()[:3] == ["#!/usr/bin/env python3", *head]


def test_layers_that_the_array_cannot_tell_apart_share_a_file(tmp_path: Path) -> None:
    masked = gemm(16, 16, 8, groups=2, second_role="input", mask=Mask("causal", 16, 16))
    whole = gemm(16, 16, 8, groups=2, second_role="input", bits=(16, 16, 16))
    weights = gemm(16, 16, 8, groups=2)

    result = export(graph(layer("masked", masked), layer("whole", whole), layer("weights", weights)), tmp_path)

    first, second, third = (row.problem_file for row in result.rows)
    assert first == second != third
    # Hardware without masks computes the full rectangle.
    assert [row.macs for row in result.rows] == [4096, 4096, 4096]


# --- what is left out -------------------------------------------------------------------------------------------------


def test_what_zigzag_cannot_be_told_is_listed_with_reason_macs_and_bytes(tmp_path: Path) -> None:
    diagonal = Problem.parse(
        "mac C=5 M=4 | Inputs input 8 [C:5, C:5] | Weights weight 8 [C:5] | Outputs output 8 [M:4]"
    )
    three = Problem.parse(
        "mac C=5 M=4 N=2 | Inputs input 8 [N+M+C:9] | Weights weight 8 [C:5] | Outputs output 8 [N:2, M:4]"
    )
    second = Problem.parse("mac C=5 M=4 | Inputs input 8 [C:5] | Weights weight 8 [M+C:8] | Outputs output 8 [M:4]")
    source = graph(
        layer("kept", gemm(4, 5, 6)),
        layer("relu", op="relu", vector_ops=20, reads=(("x", 80),)),
        layer("copy", op="cat", reads=(("x", 60),)),
        layer("resize", gemm(2, 3, 4), placement="host", reads=(("x", 24),)),
        layer(
            "maximum", Problem.parse("max M=8 | Inputs input 8 [M:8] | Weights input 8 [M:8] | Outputs output 8 [M:8]")
        ),
        layer("one input", Problem.parse("mac M=8 | Inputs input 8 [M:8] | Outputs output 8 [M:8]")),
        layer("two works", diagonal, gemm(4, 5, 6)),
        layer("windows", three),
        layer("second", second),
    )

    result = export(source, tmp_path)

    left_out = {row.layer: (row.macs, row.bytes, row.excluded.split(";")[0]) for row in result.rows if row.excluded}
    assert left_out == {
        "relu": (0, 80, "no multiply-accumulates: work of a vector unit"),
        "copy": (0, 60, "no multiply-accumulates: only moves data"),
        "resize": (24, 24, "runs on the host"),
        "maximum": (8, 100, "the operation is not a multiply-accumulate"),
        "one input": (8, 100, "ZigZag multiplies two operands"),
        "two works": (20, 100, "ZigZag cannot express an operand that uses a loop twice"),
        "windows": (40, 100, "ZigZag cannot express an axis that is a sum of more than two loops"),
        "second": (20, 100, "ZigZag cannot express a sliding window over the second operand"),
    }
    # Its second work is kept, and carries no bytes of its own.
    assert [(row.layer, row.macs, row.bytes) for row in result.rows if row.problem_file] == [
        ("kept", 120, 100),
        ("two works", 120, 0),
    ]
    assert all(not row.problem_file for row in result.rows if row.excluded)
    assert result.problem_files == 1
    assert (result.excluded_macs, result.excluded_bytes) == (120, 664)
    # Every reason is one of the committed table, and each of them has a source.
    assert {reason for _, _, reason in left_out.values()} == {item.reason for item in FAMILIES[:-1]}
    assert all(item.source.startswith(("zigzag/", "mmworkload/")) and item.operators for item in FAMILIES)


def test_layers_of_two_parts_are_told_apart_in_the_manifest(tmp_path: Path) -> None:
    one = graph(layer("fc", gemm(4, 5, 6)))
    two = graph(layer("fc", gemm(7, 5, 6)), layer("same", gemm(4, 5, 6)))

    result = export(Workload("phases", (Part(one, "prefill"), Part(two, "decode", 8))), tmp_path)

    assert [row.layer for row in result.rows] == ["prefill: fc", "decode: fc", "decode: same"]
    assert result.rows[0].problem_file == result.rows[2].problem_file != result.rows[1].problem_file
    assert "# layers (2): prefill: fc, decode: same" in (tmp_path / result.rows[0].problem_file).read_text()


@pytest.mark.parametrize("name", ["av-mnist/concat", "mujoco-push/late"])
def test_a_workload_is_expressed_whole(name: str, tmp_path: Path) -> None:
    source = LayerGraph.load(SHAPES / f"{name}.yaml")

    result = export(source, tmp_path)

    assert result.excluded_macs == 0
    assert sum(row.macs * row.count for row in result.rows if row.problem_file) == source.total_macs + source.outer_macs
    assert {row.layer for row in result.rows} == {item.name for item in source}


@needs_zigzag
@pytest.mark.slow
def test_every_recorded_workload_is_expressed_whole_and_parsed_with_its_macs(tmp_path: Path) -> None:
    from zigzag.parser.workload_factory import WorkloadFactory
    from zigzag.parser.workload_validator import WorkloadValidator
    from zigzag.stages.parser.workload_parser import WorkloadParserStage

    graphs = [LayerGraph.load(path) for path in sorted(SHAPES.rglob("*.yaml"))]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    result = export(Workload("all", tuple(Part(item, item.model) for item in graphs)), tmp_path)

    assert len(graphs) > 10
    assert [(row.layer, row.excluded) for row in result.rows if row.macs and row.excluded != "runs on the host"] == [
        (row.layer, "") for row in result.rows if row.problem_file
    ]
    expected = json.loads((tmp_path / "expected.json").read_text())["problems"]
    text = "".join(file.read_text() for file in sorted((tmp_path / "problems").iterdir()))
    validator = WorkloadValidator(yaml.load(text, Loader=loader))
    assert validator.validate()
    mapping = WorkloadParserStage.parse_mapping_data(str(tmp_path / "mapping.yaml"))
    nodes = WorkloadFactory(validator.normalized_data, mapping).create().node_list
    assert {node.name: int(node.total_mac_count) for node in nodes} == {
        name: task["macs"] for name, task in expected.items()
    }


# --- run.py -----------------------------------------------------------------------------------------------------------

TINY = (
    gemm(34, 41, 61),
    gemm(6, 6, 8, groups=3, second_role="input"),
    Problem.parse(
        "mac M=6 C=4 Q=20 S=3 | Inputs input 32 [C:4, 2Q+S:40~1,0] | Weights weight 32 [M:6, C:4, S:3] | "
        "Outputs output 32 [M:6, Q:20]"
    ),
)


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(folder / "run.py"), *arguments], cwd=folder.parent, capture_output=True, text=True
    )


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "outputs" / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@needs_zigzag
@pytest.mark.slow
def test_run_py_gives_what_our_simulator_gives_without_mmworkload(tmp_path: Path) -> None:
    source = graph(*(layer(f"layer {number}", problem) for number, problem in enumerate(TINY)))
    folder = tmp_path / "export"
    result = write_export("zigzag", source, EYERISS, folder, VERSIONS)
    # Whoever has only ZigZag has no mmworkload.
    (folder / "mmworkload.py").write_text("raise ImportError('mmworkload was imported')\n")

    process = start(folder, "--jobs", "2")
    ours = simulate(source, EYERISS, "zigzag", cache=Cache(tmp_path / "cache"), workers=1)

    assert process.returncode == 0, process.stderr + process.stdout
    rows = {row["problem"]: row for row in results(folder)}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len(rows) == len(ours.layers) == len(TINY)
    for item, row in zip(ours.layers, result.rows, strict=True):
        name = Path(row.problem_file).stem
        detail = json.loads((folder / "outputs" / f"{name}.json").read_text())
        assert item.note == ""
        assert (int(rows[name]["macs"]), int(rows[name]["cycles"])) == (item.macs, item.cycles)
        assert detail["cycles"] == item.cycles
        assert sum(detail["energy_j"].values()) == pytest.approx(item.energy_j, rel=1e-12)
        assert float(rows[name]["energy_uj"]) == pytest.approx(item.energy_j * 1e6, rel=1e-5)
        assert set(detail["energy_j"]) == {*EYERISS.levels, "mac", "leakage"}


@needs_zigzag
def test_run_py_kills_a_problem_at_its_limit_and_says_so(tmp_path: Path) -> None:
    export(graph(layer("fc", gemm(4, 5, 6))), tmp_path)

    process = start(tmp_path, "--limit", "0.01")

    assert process.returncode == 1
    assert [row["status"] for row in results(tmp_path)] == ["killed after 0.01 s"]
    assert process.stderr == ""


@needs_zigzag
@pytest.mark.slow
def test_run_py_ends_with_130_and_its_processes_on_ctrl_c(tmp_path: Path) -> None:
    """As a terminal sends it: to all processes."""
    export(graph(layer("fc", gemm(4, 5, 6))), tmp_path)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # Python's tracker of resources, and the worker.
    deadline = time.monotonic() + 60
    while len(list(descendants(process.pid))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)

    # All of them write to this pipe: it ends when the last has ended.
    _, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (130, "interrupted\n")


@needs_zigzag
def test_run_py_names_a_problem_that_it_does_not_have(tmp_path: Path) -> None:
    export(graph(layer("fc", gemm(4, 5, 6))), tmp_path)

    process = start(tmp_path, "gemm_x")

    assert process.returncode == 2
    assert process.stderr == "no such problem: gemm_x\n"


@needs_zigzag
def test_run_py_goes_on_after_a_crash_and_after_a_missing_file(tmp_path: Path) -> None:
    export(graph(layer("fc", gemm(4, 5, 6)), layer("other", gemm(4, 5, 7))), tmp_path)
    first, second = sorted(file.stem for file in (tmp_path / "problems").iterdir())
    (tmp_path / "runner" / "search.py").write_text(
        "import os\nfrom pathlib import Path\nclass RefusedError(Exception):\n    pass\n"
        "def search(folder, workload, *rest, **settings):\n"
        f"    os._exit(3) if '{first}' in workload else Path('missing.yaml').read_text()\n"
    )

    process = start(tmp_path)

    assert process.returncode == 1
    assert [(row["problem"], row["status"], row["cycles"]) for row in results(tmp_path)] == [
        (first, "ZigZag crashed", ""),
        (second, "FileNotFoundError: [Errno 2] No such file or directory: 'missing.yaml'", ""),
    ]


def test_run_py_says_how_to_get_zigzag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(graph(layer("fc", gemm(4, 5, 6))), tmp_path)

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)

    assert run_all(tmp_path, [], 10, 1) == 2
    assert capsys.readouterr().err == "zigzag-dse is not installed: pip install zigzag-dse==3.9.1 six\n"
    assert not (tmp_path / "outputs").exists()


def edited(folder: Path, **values: Any) -> str:
    """The name of the only problem of a new export whose expectations are changed."""
    export(graph(layer("fc", gemm(4, 5, 6))), folder)
    expected = json.loads((folder / "expected.json").read_text())
    (name,) = expected["problems"]
    expected["problems"][name] |= values
    (folder / "expected.json").write_text(json.dumps(expected))
    return str(name)


@needs_zigzag
def test_other_macs_than_expected_are_no_answer(tmp_path: Path) -> None:
    name = edited(tmp_path, macs=121)

    with pytest.raises(NoAnswerError, match="ZigZag counted 120 MACs where the problem has 121"):
        run_problem(tmp_path, name)


@needs_zigzag
def test_a_mapping_entry_that_zigzag_drops_is_no_answer(tmp_path: Path) -> None:
    name = edited(tmp_path)
    for file in tmp_path.glob("mapping*.yaml"):
        file.write_text(file.read_text().replace("'K, ", "'FX, ").replace("'B, ", "'FX, ").replace("'C, ", "'FX, "))

    with pytest.raises(NoAnswerError, match=r"ZigZag took 120 passes over the array where its mapping needs \d+"):
        run_problem(tmp_path, name)


@needs_zigzag
def test_cycles_are_raised_to_the_floor_and_leak_for_as_long(tmp_path: Path) -> None:
    free = run_problem(tmp_path, edited(tmp_path, floor_cycles=0))
    floored = run_problem(tmp_path, edited(tmp_path, floor_cycles=10**6))

    assert floored["cycles"] == 10**6
    assert floored["floored_from"] <= free["cycles"] < 10**6
    assert floored["latency_s"] == pytest.approx(10**6 / 200e6)
    assert floored["utilization"] == pytest.approx(120 / (10**6 * 168))
    assert floored["energy_j"]["leakage"] == pytest.approx(free["energy_j"]["leakage"] * 10**6 / free["cycles"])
    assert floored["energy_j"]["glb"] == free["energy_j"]["glb"]


OWN_ENTRY_POINT = """
import logging
from zigzag.api import get_hardware_performance_zigzag as own

logging.disable(logging.CRITICAL)
*_, found = own(
    "workload.yaml", "accelerator.yaml", "mapping.yaml", dump_folder="out", lpf_limit=5, loma_show_progress_bar=False
)
for evaluation, _ in found[0][1]:
    print(evaluation.layer.name, int(evaluation.layer.total_mac_count), evaluation.latency_total2, sep=",")
"""


@needs_zigzag
@pytest.mark.slow
def test_zigzags_own_entry_point_runs_the_whole_export(tmp_path: Path) -> None:
    from mmworkload.exporters.zigzag.search import search

    result = export(graph(*(layer(f"layer {number}", problem) for number, problem in enumerate(TINY))), tmp_path)
    text = "".join(file.read_text() for file in sorted((tmp_path / "problems").iterdir()))
    (tmp_path / "workload.yaml").write_text(text)

    own = subprocess.run(
        [sys.executable, "-c", OWN_ENTRY_POINT], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    found = {name: (int(macs), float(cycles)) for name, macs, cycles in csv.reader(own.stdout.splitlines()) if name}
    assert {name: macs for name, (macs, _) in found.items()} == {
        Path(row.problem_file).stem: row.macs for row in result.rows
    }
    for row in result.rows:
        ours = search(
            tmp_path, row.problem_file, "accelerator.yaml", "mapping.yaml", most_loops=5, dram_bits=(64.0, 64.0)
        )
        # Ours also looks at the DRAM when it chooses, which ZigZag can undercut.
        assert ours.passes <= found[Path(row.problem_file).stem][1] <= ours.cycles
