"""ZigZag's answers: exact MACs, never below a floor, charged with the architecture's table. Needs zigzag-dse."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture, from_dict
from mmworkload.errors import SimulationError
from mmworkload.exporters.zigzag import SIMULATOR
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Axis, Operand, Problem, axis, gemm
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Estimate, Options, check, compulsory_elements, floors
from mmworkload.simulating.roofline import closed_form

EYERISS = architectures.load("eyeriss_like")
BITS = (16, 16, 16)
needs_zigzag = pytest.mark.skipif(SIMULATOR.unavailable() is not None, reason="zigzag-dse is not installed")


def convolution(
    outputs: dict[str, int],
    kernel: dict[str, int],
    *,
    batch: int = 1,
    groups: int = 1,
    columns: int = 1,
    channels: int = 1,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 0,
) -> Problem:
    plain = {"N": batch, "G": groups, "M": columns, "C": channels}
    windows = []
    for (out, extent), (tap, taps) in zip(outputs.items(), kernel.items(), strict=True):
        size = (extent - 1) * stride + (taps - 1) * dilation + 1 - 2 * padding
        windows.append(Axis(((out, stride), (tap, dilation)), size, padding, padding))

    def axes(letters: str) -> tuple[Axis, ...]:
        return tuple(axis(letter, plain[letter]) for letter in letters)

    return Problem(
        (*plain.items(), *outputs.items(), *kernel.items()),
        (
            Operand("Inputs", "input", 16, (*axes("NGC"), *windows)),
            Operand("Weights", "weight", 16, (*axes("GMC"), *(axis(*item) for item in kernel.items()))),
            Operand("Outputs", "output", 16, (*axes("NGM"), *(axis(*item) for item in outputs.items()))),
        ),
    ).canonical()


def transposed() -> Problem:
    """From 32 channels of 14 x 14 to 16 of 28 x 28; kernel 4, stride 2, padding 1."""
    return Problem(
        (("M", 16), ("C", 32), ("P", 14), ("Q", 14), ("R", 4), ("S", 4)),
        (
            Operand("Inputs", "input", 16, (axis("C", 32), axis("P", 14), axis("Q", 14))),
            Operand("Weights", "weight", 16, (axis("C", 32), axis("M", 16), axis("R", 4), axis("S", 4))),
            Operand(
                "Outputs",
                "output",
                16,
                (axis("M", 16), Axis((("P", 2), ("R", 1)), 28, 1, 1), Axis((("Q", 2), ("S", 1)), 28, 1, 1)),
            ),
        ),
    ).canonical()


def run(problem: Problem, tmp_path: Path, effort: str = "quick", arch: Architecture = EYERISS) -> Estimate:
    job = SIMULATOR.prepare(problem, arch, Options(effort=effort))
    return check(SIMULATOR.run(job, tmp_path), problem, arch)


SQUARE, KERNEL = {"P": 28, "Q": 28}, {"R": 3, "S": 3}
LIGHT = {
    "linear, one row": (gemm(1, 1000, 2048, bits=BITS), 2048000, 0.02),
    "matrix product": (gemm(64, 96, 128, bits=BITS), 786432, 0.5),
    "primes": (gemm(34, 41, 61, bits=BITS), 85034, 0.3),
    "attention": (gemm(128, 128, 64, groups=12, bits=BITS, second_role="input"), 12582912, 0.7),
    "outer product": (gemm(65, 17, 1, bits=BITS), 1105, 0.01),
    "1 x 1, stride 2": (convolution(SQUARE, {"R": 1, "S": 1}, columns=128, channels=64, stride=2), 6422528, 0.8),
    "convolution": (convolution(SQUARE, KERNEL, columns=32, channels=32, padding=1), 7225344, 0.6),
    "transposed": (transposed(), 1605632, 0.7),
}
HEAVY = {
    "7 x 7, stride 2": (
        convolution({"P": 112, "Q": 112}, {"R": 7, "S": 7}, columns=64, channels=3, stride=2, padding=3),
        118013952,
        0.9,
    ),
    "dilated": (convolution(SQUARE, KERNEL, columns=64, channels=64, dilation=2, padding=2), 28901376, 0.9),
    "batch of 8": (
        convolution({"P": 56, "Q": 56}, KERNEL, batch=8, columns=64, channels=64, padding=1),
        924844032,
        0.9,
    ),
    "512 channels": (convolution({"P": 7, "Q": 7}, KERNEL, columns=512, channels=512, padding=1), 115605504, 0.9),
    "depthwise": (convolution({"P": 56, "Q": 56}, KERNEL, groups=96, padding=1), 2709504, 0.15),
    "grouped": (convolution(SQUARE, KERNEL, groups=4, columns=32, channels=32, padding=1), 28901376, 0.8),
    "1-D": (convolution({"Q": 1000}, {"S": 5}, columns=64, channels=64, padding=2), 20480000, 0.8),
    "1-D audio": (convolution({"Q": 3199}, {"S": 10}, columns=512, stride=5), 16378880, 0.2),
    "3-D": (
        convolution({"O": 8, "P": 28, "Q": 28}, {"T": 3, "R": 3, "S": 3}, columns=64, channels=32, padding=1),
        346816512,
        0.8,
    ),
    "3-D, batch of 2": (
        convolution({"O": 8, "P": 28, "Q": 28}, {"T": 3, "R": 3, "S": 3}, batch=2, columns=64, channels=32, padding=1),
        693633024,
        0.6,
    ),
    "large primes": (gemm(197, 1009, 1013, bits=BITS), 201357049, 0.8),
}


def check_answer(problem: Problem, macs: int, utilization: float, effort: str, tmp_path: Path) -> None:
    problem = problem.canonical()

    answer = run(problem, tmp_path, effort)

    roofline = closed_form(problem, EYERISS)
    assert answer.macs == problem.macs == macs
    assert answer.cycles >= floors(problem, EYERISS).cycles
    assert utilization <= answer.utilization <= 1
    assert answer.utilization == pytest.approx(macs / (answer.cycles * 168))
    # Four words of two bytes come from DRAM in a cycle, and as many go.
    assert answer.cycles * 8 >= sum(size for role, size in answer.traffic_bytes["dram"].items() if role != "output")
    # Nothing is read from DRAM less than once, and energy is that of the same table.
    for operand in problem.operands:
        through = answer.traffic_bytes["dram"][operand.role]
        assert through >= compulsory_elements(problem, operand) * 2
    assert answer.energy_j["mac"] == pytest.approx(macs * EYERISS.compute.energy_pj * 1e-12)
    assert roofline.total_energy_j is not None
    assert answer.total_energy_j is not None
    assert roofline.total_energy_j * 0.99 < answer.total_energy_j < 6 * roofline.total_energy_j
    assert set(answer.energy_j) == {*EYERISS.levels, "mac", "leakage"}


@needs_zigzag
@pytest.mark.parametrize("name", LIGHT)
def test_macs_are_exact_and_cycles_are_possible(name: str, tmp_path: Path) -> None:
    problem, macs, utilization = LIGHT[name]

    check_answer(problem, macs, utilization, "quick", tmp_path)


@needs_zigzag
@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_macs_are_exact_and_cycles_are_possible_for_heavy_layers(name: str, tmp_path: Path) -> None:
    problem, macs, utilization = HEAVY[name]

    check_answer(problem, macs, utilization, "normal", tmp_path)


@needs_zigzag
def test_one_mac_costs_each_operand_once_through_every_level(tmp_path: Path) -> None:
    problem = gemm(1, 1, 1, bits=BITS).canonical()

    answer, roofline = run(problem, tmp_path), closed_form(problem, EYERISS)

    assert answer.macs == 1
    assert answer.traffic_bytes == roofline.traffic_bytes
    leakage = {"leakage": roofline.energy_j["leakage"] * answer.cycles}
    assert answer.energy_j == pytest.approx({**roofline.energy_j, **leakage})


@needs_zigzag
def test_cycles_below_what_the_dram_needs_are_raised_and_kept(tmp_path: Path) -> None:
    # 2 048 000 weights and 2048 inputs, four words a cycle; ZigZag does not charge all of a shared port.
    answer = run(gemm(1, 1000, 2048, bits=BITS).canonical(), tmp_path)

    assert answer.cycles == (2048 * 1000 + 2048) // 4
    assert answer.floored_from is not None
    assert answer.floored_from < answer.cycles
    assert answer.bound == "memory"


@needs_zigzag
def test_transfers_beyond_the_compulsory_ones_count_against_the_dram_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmworkload.exporters.zigzag import search

    problem = gemm(64, 96, 128, bits=BITS).canonical()
    found: list[search.Found] = []
    real = search.search

    def busy_dram(*files: Any, **settings: Any) -> search.Found:
        found.append(replace(real(*files, **settings), dram_cycles=10**6))
        return found[-1]

    monkeypatch.setattr(search, "search", busy_dram)
    answer = run(problem, tmp_path)

    assert answer.cycles == 10**6
    assert answer.floored_from in {item.cycles for item in found}
    assert answer.floored_from < 10**6


@needs_zigzag
def test_levels_that_hold_one_role_see_only_that(tmp_path: Path) -> None:
    traffic = run(gemm(64, 96, 128, bits=BITS).canonical(), tmp_path).traffic_bytes

    assert {name: sorted(roles) for name, roles in traffic.items()} == {
        "dram": ["input", "output", "weight"],
        "glb": ["input", "output"],
        "ispad": ["input"],
        "wspad": ["weight"],
        "ospad": ["output"],
    }
    # Every MAC that is not the first to an output reads what it adds to.
    assert traffic["ospad"]["output"] >= 2 * 64 * 96


@needs_zigzag
def test_keys_and_queries_both_count_as_inputs_but_keys_go_past_the_buffer(tmp_path: Path) -> None:
    answer = run(LIGHT["attention"][0].canonical(), tmp_path)

    assert "weight" not in answer.traffic_bytes["dram"]
    assert answer.traffic_bytes["wspad"]["input"] > 0
    assert answer.footprints == {"input": 2 * 12 * 128 * 64, "output": 12 * 128 * 128}


@needs_zigzag
def test_a_loop_is_not_counted_once_more_by_a_rounding_error(tmp_path: Path) -> None:
    # In floats 34 / (34 / 7) is a little more than 7, and ZigZag alone makes 8 passes of it.
    data = EYERISS.model_dump(mode="json")
    data["array"] |= {"x": 5, "y": 1, "x_dims": ["N"], "y_dims": []}
    narrow = from_dict(data)
    problem = gemm(34, 40, 40, bits=BITS).canonical()

    answer = run(problem, tmp_path, arch=narrow)

    assert answer.mapping.splitlines()[0] == "array {D1: {B: 5}, D2: {}}"
    assert 7 * 40 * 40 <= answer.cycles < 8 * 40 * 40


@needs_zigzag
def test_a_mapping_that_zigzag_did_not_follow_is_an_error(tmp_path: Path) -> None:
    job = SIMULATOR.prepare(gemm(64, 96, 128, bits=BITS).canonical(), EYERISS, Options(effort="quick"))
    # Loops that the layer does not have: ZigZag drops them without a word.
    mappings = {
        name: text.replace("K, ", "FX, ").replace("B, ", "FX, ")
        for name, text in job.files.items()
        if name.startswith("mapping")
    }

    with pytest.raises(SimulationError, match=r"ZigZag took \d+ passes over the array where its mapping needs \d+"):
        SIMULATOR.run(replace(job, files={**job.files, **mappings}), tmp_path)


@needs_zigzag
def test_an_input_that_zigzag_refuses_is_reported_with_its_reason(tmp_path: Path) -> None:
    job = SIMULATOR.prepare(gemm(4, 4, 4, bits=BITS).canonical(), EYERISS, Options(effort="quick"))
    files = {**job.files, "workload.yaml": job.files["workload.yaml"].replace("Gemm", "MatMul")}

    with pytest.raises(SimulationError, match=r"ZigZag refused its input: .*operator_type"):
        SIMULATOR.run(replace(job, files=files), tmp_path)


@needs_zigzag
def test_many_loops_are_searched_in_blocks(tmp_path: Path) -> None:
    from mmworkload.exporters.zigzag.search import search

    problem, *_ = HEAVY["3-D, batch of 2"]
    job = SIMULATOR.prepare(problem, EYERISS, Options(effort="quick"))
    for name, text in job.files.items():
        (tmp_path / name).write_text(text)

    found = search(
        tmp_path, "workload.yaml", "accelerator.yaml", "mapping-0.yaml", most_loops=4, dram_bits=(64.0, 64.0)
    )

    # Eight loops remain, 40320 orders; four blocks have 24.
    assert 0 < found.orders <= 24
    assert found.macs == problem.macs


OWN_ENTRY_POINT = """
import logging, sys, yaml
from zigzag.api import get_hardware_performance_zigzag as own

logging.disable(logging.CRITICAL)
_, latency, _ = own(
    yaml.safe_load(open("workload.yaml")), "accelerator.yaml", "mapping-0.yaml", opt="latency", lpf_limit=5,
    dump_folder="out", loma_show_progress_bar=False,
)
print("latency", latency)
"""


@needs_zigzag
@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolution", "attention"])
def test_our_shortcut_gives_what_zigzags_own_entry_point_gives(name: str, tmp_path: Path) -> None:
    from mmworkload.exporters.zigzag.search import search

    job = SIMULATOR.prepare(LIGHT[name][0].canonical(), EYERISS, Options())
    for file, text in job.files.items():
        (tmp_path / file).write_text(text)

    ours = search(tmp_path, "workload.yaml", "accelerator.yaml", "mapping-0.yaml", most_loops=5, dram_bits=(64, 64))
    own = subprocess.run(
        [sys.executable, "-c", OWN_ENTRY_POINT], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    assert ours.dram_cycles < ours.cycles
    assert float(own.stdout.split()[-1]) == ours.cycles


@needs_zigzag
def test_zigzag_prints_nothing_and_writes_only_its_inputs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(gemm(4, 4, 4, bits=BITS).canonical(), tmp_path)

    assert {path.suffix for path in tmp_path.iterdir()} == {".yaml"}
    assert capfd.readouterr() == ("", "")


@needs_zigzag
def test_the_sum_of_overlapping_outputs_is_said_to_be_left_out(tmp_path: Path) -> None:
    scattered, dense = run(transposed(), tmp_path), run(gemm(4, 4, 4, bits=BITS).canonical(), tmp_path)

    assert any("transposed" in item for item in scattered.includes)
    assert not any("transposed" in item for item in dense.includes)


@needs_zigzag
def test_a_graph_is_simulated_in_worker_processes(tmp_path: Path) -> None:
    problem = gemm(16, 24, 32, bits=(32, 32, 32))
    tensors = {"x": Tensor("x", (16, 32), "float32", 32, "input", "x")}
    layers = tuple(
        Layer(name, "linear", stage="head", reads=(("x", 2048),), work=(Work(problem),)) for name in ("a", "b")
    )
    graph = LayerGraph("hand/made", "made", 1, "float32", layers, tensors)

    result = simulate(graph, EYERISS, "zigzag", options=Options(effort="quick"), cache=Cache(tmp_path))

    assert result.version == "3.9.1"
    assert [(row.simulator, row.macs, row.note) for row in result.layers] == [("zigzag", 12288, "")] * 2
    assert result.layers[0].cycles == result.layers[1].cycles >= 12288 // 168
    assert (result.runs, result.unique_problems, result.failures) == (2, 1, 0)


def test_a_number_too_wide_for_a_level_is_refused_before_zigzag_runs() -> None:
    data = EYERISS.model_dump(mode="json")
    data["levels"]["wspad"]["size_kib"] = 2 / 1024
    problem = gemm(4, 4, 4, bits=(32, 32, 32)).canonical()

    with pytest.raises(
        SimulationError, match="one element of Weights has 32 bits and does not fit eyeriss_like's wspad"
    ):
        SIMULATOR.prepare(problem, from_dict(data), Options())


@pytest.mark.parametrize("missing", ["zigzag", "six"])
def test_a_missing_package_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def find(name: str, *rest: Any) -> Any:
        return None if name == missing else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)

    reason = SIMULATOR.unavailable()

    assert reason == f"the package {missing} is not installed: pip install 'mmworkload[zigzag]'"


@needs_zigzag
def test_what_decides_the_answer_is_in_the_key_and_prose_is_not() -> None:
    problem = gemm(4, 4, 4, bits=BITS).canonical()

    def key(arch: Architecture, effort: str = "quick") -> str:
        return SIMULATOR.prepare(problem, arch, Options(effort=effort)).key

    data = EYERISS.model_dump(mode="json")
    prose = from_dict({**data, "description": "another text"})
    levels = {**data["levels"], "glb": {**data["levels"]["glb"], "energy": {"read_pj": 1, "write_pj": 1}}}
    cheaper = from_dict({**data, "levels": levels})

    assert key(prose) == key(EYERISS)
    assert len({key(EYERISS), key(cheaper), key(EYERISS, "thorough")}) == 3
    assert json.loads(SIMULATOR.prepare(problem, EYERISS, Options()).options["settings"])["most_loops"] == 5
