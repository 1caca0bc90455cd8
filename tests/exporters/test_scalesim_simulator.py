"""SCALE-Sim's closed form as a simulator: known figures, the architecture's own energies, floors, what is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture, from_dict
from mmworkload.errors import SimulationError, UnavailableError
from mmworkload.exporters.scalesim import SIMULATOR
from mmworkload.graph import LayerGraph
from mmworkload.problem import Problem, gemm
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Estimate, Options, check, floors

ROOT = Path(__file__).parents[2]
EYERISS = architectures.load("eyeriss_like")
BITS = (8, 8, 8)


def level(kind: str, read: float, write: float, leak: float = 0, **values: Any) -> dict[str, Any]:
    energy = {"read_pj": read, "write_pj": write, "leak_pj_per_cycle": leak}
    return {"kind": kind, "word_bits": 8, "width_bits": 8, "area_um2": 0, "energy": energy, **values}


def small(x_dims: list[str], y_dims: list[str], **levels: dict[str, Any]) -> Architecture:
    """2 x 2 elements at 1 MHz: DRAM of one word a cycle, a buffer for inputs and outputs, a register for weights."""
    dram = level("dram", 100, 200, size_kib=None, read_bandwidth=1, write_bandwidth=1)
    buffer = level("sram", 10, 20, size_kib=8, holds=["input", "output"])
    register = level("regfile", 1, 2, leak=0.25, size_kib=0.0625, holds=["weight"])
    return from_dict(
        {
            "name": "small",
            "description": "for tests",
            "source": "made up",
            "technology_nm": 45,
            "clock_mhz": 1,
            "levels": {"dram": dram, "buffer": buffer, **(levels or {"register": register})},
            "array": {"inside": "buffer", "x": 2, "y": 2, "x_dims": x_dims, "y_dims": y_dims},
            "compute": {"kind": "intmac", "bits": 8, "energy_pj": 0.5, "area_um2": 0},
            "vector": {"lanes": 4, "energy_pj": 0.25},
        }
    )


def answer(problem: Problem, arch: Architecture) -> Estimate:
    return SIMULATOR.run(SIMULATOR.prepare(problem.canonical(), arch, Options()), Path())


def test_a_product_is_charged_with_the_table_of_the_architecture() -> None:
    arch = small(["M"], ["C"])
    found = answer(gemm(2, 3, 4, bits=BITS), arch)

    # 2 x 2 folds of 2 + 2 * 2 + 2 - 2 cycles.
    assert (found.cycles, found.macs, found.utilization) == (23, 24, 24 / (23 * 4))
    assert found.latency_s == pytest.approx(23e-6)
    assert found.traffic_bytes == {
        "dram": {"input": 8, "weight": 12, "output": 6},
        # Inputs: in once, out for both column folds. Outputs: in for both row folds; out for the sum and to the DRAM.
        "buffer": {"input": 8 + 16, "output": 12 + 6 + 6},
        # Weights stay: one write each; one read a MAC.
        "register": {"weight": 12 + 24},
    }
    assert {name: round(joules * 1e12, 6) for name, joules in found.energy_j.items()} == {
        "dram": 8 * 100 + 12 * 100 + 6 * 200,
        "buffer": 8 * 20 + 16 * 10 + 12 * 20 + 12 * 10,
        "register": 12 * 2 + 24 * 1,
        "mac": 24 * 0.5,
        # The DRAM needs 20 cycles, less than the array's 23; a quarter picojoule in each of four elements.
        "leakage": 23,
    }


def test_what_passes_through_an_element_is_written_once_a_mac() -> None:
    registers = level("regfile", 1, 2, size_kib=0.0625, holds=["weight", "input", "output"])
    problem = gemm(2, 3, 4, bits=BITS)

    traffic = {
        dataflow: answer(problem, small(x_dims, y_dims, register=registers)).traffic_bytes["register"]
        for dataflow, x_dims, y_dims in (("ws", ["M"], ["C"]), ("is", ["N"], ["C"]), ("os", ["M"], ["N"]))
    }

    assert traffic == {
        "ws": {"input": 48, "weight": 24 + 12, "output": 48},
        "is": {"input": 24 + 8, "weight": 48, "output": 48},
        "os": {"input": 48, "weight": 48, "output": 48},
    }


def test_groups_run_one_after_another() -> None:
    arch = small(["M"], ["C"])
    one, many = answer(gemm(2, 3, 4, bits=BITS), arch), answer(gemm(2, 3, 4, groups=5, bits=BITS), arch)

    assert (many.cycles, many.macs) == (5 * one.cycles, 5 * one.macs)
    assert many.traffic_bytes == {
        name: {role: 5 * size for role, size in roles.items()} for name, roles in one.traffic_bytes.items()
    }
    assert many.energy_j["dram"] == pytest.approx(5 * one.energy_j["dram"])
    assert many.mapping == (
        "weight stationary, the reduction along y, output channels along x; M=2 N=3 K=4, 5 in turn,"
        " 2 x 2 folds of 2 x 2"
    )


def test_a_latency_that_the_dram_cannot_serve_is_raised_and_leaks_for_all_of_it() -> None:
    arch = small(["M"], ["C"])
    problem = gemm(1, 32, 32, bits=BITS).canonical()
    found = answer(problem, arch)
    checked = check(found, problem, arch)

    # 32 inputs and 1024 weights, a word a cycle; 16 x 16 folds of 5 cycles would be 1279.
    assert (found.cycles, checked.cycles, checked.floored_from) == (1279, 1279, None)
    wide = gemm(1, 64, 2, bits=BITS).canonical()
    found = answer(wide, arch)
    assert (found.cycles, check(found, wide, arch).cycles) == (32 * 5 - 1, 159)
    narrow = arch.model_copy(
        update={"levels": {**arch.levels, "dram": arch.dram.model_copy(update={"read_bandwidth": 0.25})}}
    )
    found = check(answer(wide, narrow), wide, narrow)
    assert (found.cycles, found.floored_from, found.bound) == (4 * 130, 159, "memory")
    assert found.energy_j["leakage"] == pytest.approx(520e-12)


def test_a_transposed_convolution_says_that_its_sums_are_left_out() -> None:
    problem = Problem.parse(
        "mac M=3 C=5 P=4 Q=4 R=2 S=2 | Inputs input 16 [C:5, P:4, Q:4] | Weights weight 16 [C:5, M:3, R:2, S:2] | "
        "Outputs output 16 [M:3, 2P+R:8, 2Q+S:8]"
    )

    assert "the matrix product of a transposed convolution, not the sum" in " ".join(answer(problem, EYERISS).includes)
    assert not any("transposed" in item for item in answer(gemm(3, 4, 5), EYERISS).includes)


def test_what_is_no_matrix_product_is_an_error() -> None:
    problem = Problem.parse("max M=8 C=4 | Inputs input 8 [M:8, C:4] | Outputs output 8 [M:8]")

    with pytest.raises(SimulationError, match="the operation is not a multiply-accumulate"):
        SIMULATOR.prepare(problem, EYERISS, Options())


def test_it_is_never_called_exact_and_says_what_is_lost() -> None:
    fidelity = SIMULATOR.fidelity(EYERISS)

    assert (SIMULATOR.unavailable(), SIMULATOR.version(), fidelity.level) == (
        None,
        "closed form of 3.0.0",
        "approximate",
    )
    assert fidelity.lost == (
        "a systolic array and no other mapping: input stationary, the reduction along y, output pixels along x",
        "groups and heads run one after another",
        "buffers and their bandwidth are never the limit: every tensor passes the DRAM once",
        "weights have no buffer outside the array: the scratchpads of all elements stand for it",
    )


def test_an_array_without_a_dataflow_is_refused() -> None:
    arch = small(["G"], ["C"])

    assert SIMULATOR.fidelity(arch).level == "refused"
    with pytest.raises(UnavailableError, match="cannot be told small: its array axes allow neither weight, input nor"):
        simulate(LayerGraph.load(ROOT / "shapes" / "av-mnist" / "concat.yaml"), arch, "scalesim")


@pytest.mark.parametrize(("name", "macs"), [("av-mnist/concat", 11_993_032), ("mujoco-push/late", 439_403_520)])
def test_a_workload_is_answered_whole(name: str, macs: int) -> None:
    graph = LayerGraph.load(ROOT / "shapes" / f"{name}.yaml")
    result = simulate(graph, EYERISS, "scalesim")

    assert result.failures == 0
    assert sum(row.macs for row in result.layers) == macs
    assert {row.simulator for row in result.layers if row.macs} <= {"scalesim", "scalesim+roofline"}
    assert set(result.energy_by_component_j) == {*EYERISS.levels, "mac", "vector", "leakage"}
    native = {key: problem.with_bits(EYERISS.bits) for key, problem in graph.problems.items()}
    for layer, row in zip(graph, result.layers, strict=True):
        least = sum(floors(native[work.problem.key], EYERISS).cycles * work.count for work in layer.work)
        assert row.cycles >= least


def test_the_first_layer_of_av_mnist_takes_what_the_tool_reported() -> None:
    graph = LayerGraph.load(ROOT / "shapes" / "av-mnist" / "concat.yaml")
    result = simulate(graph, EYERISS, "scalesim")

    # 7055 cycles: tests/fixtures/scalesim/av-mnist-concat.csv.
    first = result.layers[0]
    assert (first.layer, first.cycles, first.floored_from) == ("encoders.image.convs.0", 7055, None)
