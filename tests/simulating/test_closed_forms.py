"""The roofline and the vector unit: numbers that can be worked out by hand on the small architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmworkload.arch import Architecture, from_dict
from mmworkload.problem import gemm
from mmworkload.simulating.energy import accesses, leakage_j, transfer_j
from mmworkload.simulating.estimate import Options
from mmworkload.simulating.roofline import SIMULATOR, closed_form
from mmworkload.simulating.vector import vector_cost

PICO = 1e-12
LEAK = 3 + 8 * 0.5  # buffer, and a register in each of 8 elements


def test_the_roofline_of_a_matrix_product(small: Architecture) -> None:
    # 6 x 4 inputs, 10 x 4 weights, 6 x 10 outputs, a byte each.
    answer = closed_form(gemm(6, 10, 4, bits=(8, 8, 8)), small)

    assert (answer.cycles, answer.macs, answer.bound) == (60, 240, "memory")
    assert answer.latency_s == pytest.approx(60e-6)
    assert answer.utilization == 240 / (60 * 8)
    assert answer.energy_j == pytest.approx(
        {
            # 4 words an access: 6 + 10 reads at 100 pJ, 15 writes at 200 pJ.
            "dram": (16 * 100 + 15 * 200) * PICO,
            # 2 words an access: inputs 12 and outputs 30 times, in and out.
            "buffer": (12 + 30) * (10 + 20) * PICO,
            "register": 40 * (1 + 2) * PICO,
            "mac": 240 * 0.5 * PICO,
            "leakage": 60 * LEAK * PICO,
        }
    )
    assert answer.traffic_bytes == {
        "dram": {"input": 24, "weight": 40, "output": 60},
        "buffer": {"input": 48, "output": 120},
        "register": {"weight": 80},
    }


def test_compute_is_the_bound_when_the_reduction_is_long(small: Architecture) -> None:
    answer = closed_form(gemm(8, 8, 100, bits=(8, 8, 8)), small)

    # 1600 words in at 2 a cycle, 6400 MACs on 8 elements; 800 each.
    assert (answer.cycles, answer.bound, answer.utilization) == (800, "compute", 1.0)


def test_the_simulator_answers_from_its_job_alone(small: Architecture, tmp_path: Path) -> None:
    problem = gemm(6, 10, 4, bits=(8, 8, 8)).canonical()
    job = SIMULATOR.prepare(problem, small, Options())

    assert SIMULATOR.run(job, tmp_path) == closed_form(problem, small)
    assert SIMULATOR.unavailable() is None
    assert SIMULATOR.in_process
    assert SIMULATOR.fidelity(small).level == "approximate"


def test_a_level_of_another_word_size_moves_elements_not_bits(spec: dict[str, Any]) -> None:
    # Accumulators of 32 bits hold one 8-bit element a word: 4 words an access are 4 elements, not 16.
    spec["levels"]["buffer"] |= {"word_bits": 32, "width_bits": 128, "size_kib": 1}
    wide = from_dict(spec)

    assert accesses(wide, "buffer", 8 * 8) == 2
    assert accesses(wide, "dram", 8 * 8) == 2


def test_an_incomplete_access_costs_a_whole_one(small: Architecture) -> None:
    assert transfer_j(small, "dram", read_bits=8, write_bits=33) == pytest.approx((100 + 2 * 200) * PICO)
    assert transfer_j(small, "dram") == 0


def test_every_instance_leaks(small: Architecture) -> None:
    assert leakage_j(small, 10) == pytest.approx(10 * LEAK * PICO)


@pytest.mark.parametrize(
    ("operations", "read_bytes", "written_bytes", "cycles", "bound"),
    [
        (401, 100, 50, 101, "vector"),  # 401 over 4 lanes
        (10, 101, 50, 51, "memory"),  # reads, 2 bytes a cycle
        (10, 100, 60, 60, "memory"),  # writes, 1 byte a cycle
        (0, 0, 0, 0, "memory"),
    ],
)
def test_vector_work_takes_as_long_as_the_slowest_of_lanes_reads_and_writes(
    small: Architecture, operations: int, read_bytes: int, written_bytes: int, cycles: int, bound: str
) -> None:
    cost = vector_cost(small, operations, 8 * read_bytes, 8 * written_bytes)

    assert (cost.cycles, cost.bound, cost.dram_bytes) == (cycles, bound, read_bytes + written_bytes)
    assert cost.energy_j == pytest.approx(
        {
            "dram": (-(-read_bytes // 4) * 100 + -(-written_bytes // 4) * 200) * PICO,
            "vector": operations * 0.25 * PICO,
            "leakage": cycles * LEAK * PICO,
        }
    )
