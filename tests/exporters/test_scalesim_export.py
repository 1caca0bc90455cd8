"""What the SCALE-Sim exporter writes, read back as SCALE-Sim's topology_utils.py and scale_config.py read it."""

from __future__ import annotations

import ast
import configparser
import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError
from mmworkload.exporters.scalesim import EXPORTER
from mmworkload.exporting import MANIFEST, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem, gemm

ROOT = Path(__file__).parents[2]
VERSIONS = {"mmworkload": "0.1.0", "torch": "2.15.0"}
CONV = Problem.parse(
    "mac M=64 C=3 P=112 Q=112 R=7 S=7 | Inputs input 32 [C:3, 2P+R:224~3,3, 2Q+S:224~3,3] | "
    "Weights weight 32 [M:64, C:3, R:7, S:7] | Outputs output 32 [M:64, P:112, Q:112]"
)
DEPTHWISE = Problem.parse(
    "mac G=96 P=56 Q=56 R=3 S=3 | Inputs input 8 [G:96, P+R:56~1,1, Q+S:56~1,1] | "
    "Weights weight 8 [G:96, R:3, S:3] | Outputs output 8 [G:96, P:56, Q:56]"
)


def graph(name: str = "toy") -> LayerGraph:
    """Two equal convolutions, a depthwise one, pooling, a recurrence, attention, a maximum, a host layer, a copy."""
    layers: list[Layer] = []
    tensors: dict[str, Tensor] = {"x": Tensor("x", (4,), "float32", 32, "input", "x")}

    def add(layer_name: str, op: str, *work: Work, **more: Any) -> None:
        tensor = Tensor(f"t{len(layers)}", (4,), "float32", 32, "activation", f"t{len(layers)}")
        before = list(tensors)[-1]
        tensors[tensor.name] = tensor
        layers.append(
            Layer(layer_name, op, work=work, reads=((before, 100),), writes=((tensor.name, 10),), stage="head", **more)
        )

    add("stem", "conv2d", Work(CONV), modality="image")
    add("stem2", "conv2d", Work(CONV))
    add("depthDPwise, 3 x 3", "conv2d", Work(DEPTHWISE))
    add("pool", "max_pool2d", vector_ops=50)
    add("rnn", "lstm", Work(gemm(16, 256, 64)), Work(gemm(1, 256, 64), count=16, sequential=True), vector_ops=9)
    add("attention", "attention", Work(gemm(197, 197, 64, groups=12, second_role="input")))
    add("odd", "maximum", Work(Problem.parse("max M=8 C=4 | Inputs input 32 [M:8, C:4] | Outputs output 32 [M:8]")))
    add("spectrum", "stft", Work(gemm(10, 20, 30)), placement="host")
    add("view", "cat")
    return LayerGraph(name, "small", 1, "float32", tuple(layers), tensors, versions=VERSIONS)


@pytest.fixture
def arch() -> Architecture:
    return architectures.load("eyeriss_like")


@pytest.fixture
def folder(tmp_path: Path, arch: Architecture) -> Path:
    write_export("scalesim", graph(), arch, tmp_path / "out", VERSIONS)
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def understood(path: Path) -> dict[str, int]:
    """Layer to MACs, as SCALE-Sim 3.0.0 understands a topology. AssertionError for what it takes in silence."""
    found: dict[str, int] = {}
    header, *lines = path.read_text().splitlines()
    assert header.startswith("Layer name,"), "the first line is skipped unread"
    for line in lines:
        assert line.endswith(","), "what follows the last comma is dropped"
        name, *numbers = line.split(",")[:-1]
        assert "DP" not in name, "one layer a channel"
        assert name not in found
        sizes = [int(number) for number in numbers]
        assert all(size > 0 for size in sizes)
        if path.name == "gemm.csv":
            m, n, k = sizes
            found[name] = m * n * k
            continue
        height, width, filter_h, filter_w, channels, filters, stride = sizes
        assert filter_h <= height
        assert filter_w <= width
        outputs = math.ceil((height - filter_h + stride) / stride) * math.ceil((width - filter_w + stride) / stride)
        found[name] = outputs * filter_h * filter_w * channels * filters
    return found


def topologies(folder: Path) -> dict[str, int]:
    """``file#name`` to MACs, over both files."""
    return {
        f"{file}#{name}": macs
        for file in ("conv.csv", "gemm.csv")
        if (folder / file).exists()
        for name, macs in understood(folder / file).items()
    }


def test_a_second_export_has_the_same_bytes(folder: Path, arch: Architecture) -> None:
    first = contents(folder)
    write_export("scalesim", graph(), arch, folder, VERSIONS)

    assert contents(folder) == first
    assert sorted(first) == [
        *("README.md", "conv.csv", "expected.csv", "gemm.csv", "layers.csv", "layout.csv"),
        *("manifest.csv", "manifest.json", "run.py", "scale.cfg"),
    ]


def test_convolutions_keep_their_form_and_the_rest_are_products_once_each(folder: Path) -> None:
    assert topologies(folder) == {
        "conv.csv#conv_229x229_7x7_3to64_stride2": 118013952,
        # One channel of 96.
        "conv.csv#conv_58x58_3x3_1to1_stride1": 56 * 56 * 9,
        "gemm.csv#gemm_M16_N256_K64": 16 * 256 * 64,
        "gemm.csv#gemm_M1_N256_K64": 256 * 64,
        # One head of 12.
        "gemm.csv#gemm_M197_N197_K64": 197 * 197 * 64,
    }


def test_every_layer_has_a_row_that_leads_to_its_topology_or_says_why_not(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())

    assert [
        (row["layer"], row["problem_file"].partition("_")[0], row["count"], row["sequential"], row["macs"])
        for row in manifest["layers"]
    ] == [
        ("stem", "conv.csv#conv", 1, False, 118013952),
        ("stem2", "conv.csv#conv", 1, False, 118013952),
        ("depthDPwise, 3 x 3", "conv.csv#conv", 1, False, 96 * 56 * 56 * 9),
        ("pool", "", 1, False, 0),
        ("rnn", "gemm.csv#gemm", 1, False, 16 * 256 * 64),
        ("rnn", "gemm.csv#gemm", 16, True, 256 * 64),
        ("attention", "gemm.csv#gemm", 1, False, 12 * 197 * 197 * 64),
        ("odd", "", 1, False, 32),
        ("spectrum", "", 1, False, 6000),
        ("view", "", 1, False, 0),
    ]
    assert {row["layer"]: row["excluded"] for row in manifest["layers"] if row["excluded"]} == {
        "pool": "no multiply-accumulates: work of a vector unit",
        "odd": "the operation is not a multiply-accumulate",
        "spectrum": "runs on the host",
        "view": "no multiply-accumulates: only moves data",
    }
    assert (manifest["problem_files"], manifest["excluded_macs"], manifest["excluded_bytes"]) == (5, 6032, 440)
    assert sum(row["bytes"] for row in manifest["layers"]) == 9 * 110


def test_layers_say_how_often_their_row_runs_and_what_that_costs(folder: Path) -> None:
    known = {f"{row['file']}#{row['name']}": row for row in rows(folder / "expected.csv")}
    macs = topologies(folder)
    layers = rows(folder / "layers.csv")

    for row in layers:
        if row["excluded"]:
            assert (row["name"], row["cycles"]) == ("", "")
            continue
        runs = int(row["groups"]) * int(row["count"])
        name = f"{row['file']}#{row['name']}"
        assert int(row["macs"]) == runs * macs[name] == runs * int(known[name]["macs"])
        assert int(row["cycles"]) == runs * int(known[name]["cycles"])
    figures = {(row["layer"], row["count"]): row for row in layers}
    assert figures["attention", "1"]["groups"] == "12"
    assert figures["depthDPwise, 3 x 3", "1"]["groups"] == "96"
    # 6 folds of the 64 reductions over 12 rows, one of the single output: 256 + 24 + 14 - 2 cycles each.
    assert figures["rnn", "16"]["cycles"] == str(16 * (6 * 292 - 1))
    # 64 + 64 * 256 words of 16 bits from the DRAM, four a cycle.
    assert figures["rnn", "16"]["dram_floor_cycles"] == str(16 * (64 + 64 * 256) // 4)


@pytest.mark.parametrize(("name", "macs"), [("av-mnist/concat", 11_993_032), ("mujoco-push/late", 439_403_520)])
def test_a_workload_comes_out_whole(name: str, macs: int, tmp_path: Path, arch: Architecture) -> None:
    source = LayerGraph.load(ROOT / "shapes" / f"{name}.yaml")
    export = write_export("scalesim", source, arch, tmp_path / "out", VERSIONS)
    written = topologies(tmp_path / "out")

    layers = [row for row in rows(tmp_path / "out" / "layers.csv") if not row["excluded"]]
    total = sum(written[f"{row['file']}#{row['name']}"] * int(row["groups"]) * int(row["count"]) for row in layers)
    assert total == macs == source.total_macs + source.outer_macs
    assert export.excluded_macs == 0
    assert export.fidelity.startswith("approximate (a systolic array and no other mapping: input stationary,")
    assert {row.problem_file for row in export.rows if row.problem_file} == set(written)
    assert sum(row.bytes for row in export.rows) == sum(layer.bytes for layer in source)


@pytest.mark.slow
def test_every_multiplication_of_the_zoo_is_expressed(tmp_path: Path, arch: Architecture) -> None:
    snapshots = sorted((ROOT / "shapes").glob("*/*.yaml"))

    for number, path in enumerate(snapshots):
        source = LayerGraph.load(path)
        export = EXPORTER.export(Workload.of(source), arch, tmp_path / str(number), VERSIONS)
        on_host = {layer.name for layer in source if layer.placement == "host"}
        missing = {row.layer: row.excluded for row in export.rows if row.macs and row.excluded}
        assert set(missing) <= on_host, path
        assert sum(row.macs * row.count for row in export.rows) == source.total_macs + source.outer_macs, path
    assert len(snapshots) > 50


def test_the_configuration_has_all_sections_and_the_sizes_of_the_architecture(folder: Path) -> None:
    config = configparser.ConfigParser()
    config.read(folder / "scale.cfg")

    assert config.sections() == ["general", "architecture_presets", "layout", "sparsity", "run_presets"]
    preset = config["architecture_presets"]
    assert (preset.getint("ArrayHeight"), preset.getint("ArrayWidth"), preset["Dataflow"]) == (12, 14, "is")
    # 108 KiB of 16-bit words for inputs and outputs; 168 scratchpads of 224 weights.
    assert [preset.getint(f"{name}SramSzkB") for name in ("Ifmap", "Filter", "Ofmap")] == [27, 168 * 224 // 1024, 27]
    assert config["run_presets"]["InterfaceBandwidth"] == "CALC"
    assert (preset.getint("Bandwidth"), config["layout"].getint("IfmapSRAMBankBandwidth")) == (4, 4)
    assert not config["layout"].getboolean("IfmapCustomLayout")
    assert len((folder / "layout.csv").read_text().rstrip(",\n").split(",")) == 21


def test_the_configuration_says_where_it_comes_from_and_a_line_break_stays_in_the_comment(
    tmp_path: Path, arch: Architecture
) -> None:
    write_export("scalesim", graph("evil\n[general]"), arch, tmp_path / "out", VERSIONS)
    text = (tmp_path / "out" / "scale.cfg").read_text()
    config = configparser.ConfigParser()
    config.read_string(text)

    assert text.startswith(
        "# Written by mmworkload 0.1.0, torch 2.15.0 for SCALE-Sim 3.0.0\n"
        "# model: evil [general], variant small, batch 1, float32, on eyeriss_like\n"
    )
    assert config["general"]["run_name"] == "mmworkload"


def test_parts_of_a_workload_share_rows_and_keep_their_layers_apart(tmp_path: Path, arch: Architecture) -> None:
    workload = Workload("both", (Part(graph(), "prefill"), Part(graph(), "decode", 16)))
    export = EXPORTER.export(workload, arch, tmp_path, VERSIONS)

    assert export.problem_files == 5
    assert len({row.layer for row in export.rows}) == 18
    counts = {row["layer"]: row["part_count"] for row in rows(tmp_path / "layers.csv")}
    assert (counts["prefill: stem"], counts["decode: stem"]) == ("1", "16")


def test_a_workload_without_convolutions_has_no_topology_of_them(tmp_path: Path, arch: Architecture) -> None:
    source = graph().where(lambda layer: layer.name == "attention")
    export = EXPORTER.export(Workload.of(source), arch, tmp_path, VERSIONS)

    assert export.files == ("expected.csv", "gemm.csv", "layers.csv", "layout.csv", "run.py", "scale.cfg")


def test_an_array_without_a_dataflow_is_an_error(tmp_path: Path, arch: Architecture) -> None:
    array = arch.array.model_copy(update={"x_dims": ("G",)})

    with pytest.raises(ArchitectureError, match="eyeriss_like: its array axes allow neither weight, input nor output"):
        EXPORTER.export(Workload.of(graph()), arch.model_copy(update={"array": array}), tmp_path, {})


# The interface of the tool, with the closed form of an input stationary array behind it.
FAKE_TOOL = """
import csv, os
from math import ceil

class Config:
    def get_array_dims(self):
        return 12, 14

class scalesim:
    def __init__(self, save_disk_space, verbose, config, topology, layout, input_type_gemm):
        assert os.path.exists(layout) and os.path.exists(config) and save_disk_space
        self.config = Config()
        self.gemm = input_type_gemm
        self.row = open(topology).read().splitlines()[1].split(",")[:-1]

    def run_scale(self, top_path):
        print("noise")
        assert self.gemm
        m, n, k = (int(number) for number in self.row[1:4])
        cycles = ceil(k / 12) * ceil(m / 14) * (n + 2 * 12 + 14 - 2) - 1 + WRONG
        os.mkdir(top_path + "/mmworkload")
        with open(top_path + "/mmworkload/COMPUTE_REPORT.csv", "w") as stream:
            stream.write("LayerID, Total Cycles (incl. prefetch), Total Cycles, Overall Util %,\\n")
            stream.write(f"0, 0, {cycles}, {m * n * k * 100 / (cycles * 12 * 14)},\\n")
        with open(top_path + "/mmworkload/DETAILED_ACCESS_REPORT.csv", "w") as stream:
            stream.write("LayerID, SRAM IFMAP Reads, SRAM Filter Reads,\\n")
            stream.write(f"0, {m * k}.0, {n * k * ceil(m / 14)}.0,\\n")
"""


def run(folder: Path, site: Path | None, *arguments: str, wrong: int = 0) -> subprocess.CompletedProcess[str]:
    """``python run.py`` with the tool of ``site``, and nothing of ours."""
    path = ""
    if site is not None:
        (site / "scalesim").mkdir(parents=True)
        (site / "scalesim" / "__init__.py").touch()
        (site / "scalesim" / "scale_sim.py").write_text(f"WRONG = {wrong}\n{FAKE_TOOL}")
        path = str(site)
    command = [sys.executable, "-S", str(folder / "run.py"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env={"PYTHONPATH": path})


def test_the_script_runs_what_is_small_and_compares(folder: Path, tmp_path: Path) -> None:
    found = run(folder, tmp_path / "site", "gemm_M16_N256_K64", "gemm_M197_N197_K64")

    assert found.stdout.splitlines() == [
        f"gemm_M16_N256_K64: {6 * 2 * 292 - 1} cycles, same",
        f"gemm_M197_N197_K64: {6 * 15 * 233 - 1} cycles, same",
        "2 same, 0 differs, 3 left out",
    ]
    assert (found.returncode, found.stderr) == (0, "")
    results = {row["name"]: row for row in rows(folder / "results.csv")}
    assert results["gemm_M16_N256_K64"] == {
        "name": "gemm_M16_N256_K64",
        "verdict": "same",
        **{"cycles": "3503", "macs": "262144", "ifmap_reads": "1024", "filter_reads": "32768"},
        **{f"expected_{name}": value for name, value in rows_expected(folder, "gemm_M16_N256_K64").items()},
    }
    assert [row["verdict"] for row in results.values()].count("left out") == 3


def rows_expected(folder: Path, name: str) -> dict[str, str]:
    row = next(row for row in rows(folder / "expected.csv") if row["name"] == name)
    return {key: row[key] for key in ("cycles", "macs", "ifmap_reads", "filter_reads")}


def test_the_script_fails_when_an_answer_differs(folder: Path, tmp_path: Path) -> None:
    found = run(folder, tmp_path / "site", "gemm_M16_N256_K64", wrong=1)

    assert (found.returncode, found.stdout.splitlines()[-1]) == (1, "0 same, 1 differs, 4 left out")


def test_the_script_leaves_out_what_takes_the_tool_too_long(folder: Path, tmp_path: Path) -> None:
    # 26 is the array's height and width; the recurrent product takes 6 x 292 - 1 cycles.
    found = run(folder, tmp_path / "site", "--work", str(26 * 1751))

    assert found.stdout.splitlines() == ["gemm_M1_N256_K64: 1751 cycles, same", "1 same, 0 differs, 4 left out"]


def test_the_script_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    absent = run(folder, None)
    misspelt = run(folder, tmp_path / "site", "gemm_M1")

    assert (absent.returncode, absent.stderr) == (
        2,
        "SCALE-Sim is not installed: pip install scalesim==3.0.0 'numpy<2.4'\n",
    )
    assert (misspelt.returncode, misspelt.stderr) == (2, "no such row in expected.csv: gemm_M1\n")


def test_the_script_can_be_read_by_old_pythons(folder: Path) -> None:
    ast.parse((folder / "run.py").read_text(), feature_version=(3, 8))


def test_the_checker_sees_the_mistakes_that_the_tool_takes_in_silence(folder: Path) -> None:
    good = (folder / "gemm.csv").read_text()

    for before, after in (("64,\n", "64\n"), ("Layer name,M,N,K,\n", ""), ("gemm_M16", "DP_M16"), (",16,", ",0,")):
        assert before in good
        (folder / "gemm.csv").write_text(good.replace(before, after, 1))
        with pytest.raises((AssertionError, ValueError)):
            understood(folder / "gemm.csv")
