"""Recorded runs of the real tool: each operator family on each architecture (see tests/fixtures/timeloop/record.py).

The figures beside the outputs come from the front end's own reader, so our reader is held against another one; the
bounds are closed forms that need neither.
"""

from __future__ import annotations

import importlib.util
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.exporters.timeloop.padding import pad
from mmworkload.exporters.timeloop.spatial import unroll
from mmworkload.exporters.timeloop.stats import (
    Stats,
    parse_area_table,
    parse_energy_table,
    parse_footprints,
    parse_stats,
)
from mmworkload.problem import Problem
from mmworkload.simulating.energy import PICO, leakage_j
from mmworkload.simulating.estimate import compulsory_elements

FIXTURES = Path(__file__).parents[1] / "fixtures" / "timeloop"
ARCHITECTURES = [
    "ethos_u55_like",
    "eyeriss_like",
    "gemmini_like",
    "nvdla_like",
    "simba_like",
    "simple_weight_stationary",
    "tpu_like",
]


def _families() -> dict[str, Problem]:
    """The problems of the script that recorded them."""
    spec = importlib.util.spec_from_file_location("timeloop_record", FIXTURES / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Problem] = module.FAMILIES
    return found


FAMILIES = _families()
FIGURES: dict[str, Any] = json.loads((FIXTURES / "runs" / "figures.json").read_text())
RUNS = [(name, family) for name in ARCHITECTURES for family in FAMILIES]
load = cache(architectures.load)


@cache
def recorded(name: str, family: str) -> Stats:
    return parse_stats((FIXTURES / "runs" / name / f"{family}.stats.txt").read_text())


def mapped(name: str, family: str) -> tuple[Problem, Problem, Architecture]:
    """The problem, the problem as it was run (perhaps padded), and the architecture."""
    arch = load(name)
    problem = FAMILIES[family].canonical().with_bits(arch.bits)
    return problem, pad(problem, arch), arch


def test_every_family_was_run_on_every_architecture_and_none_refused() -> None:
    assert {name: sorted(runs) for name, runs in FIGURES["runs"].items()} == {
        name: sorted(FAMILIES) for name in ARCHITECTURES
    }
    assert all("cycles" in run for runs in FIGURES["runs"].values() for run in runs.values())
    assert FIGURES["tool"] == "mapper 6e37ccb782b2, front end 12082ee87ae0"


@pytest.mark.parametrize(("name", "family"), RUNS)
def test_our_reader_finds_what_the_front_ends_reader_found(name: str, family: str) -> None:
    stats, figures = recorded(name, family), FIGURES["runs"][name][family]

    assert (stats.cycles, stats.computes) == (figures["cycles"], figures["computes"])
    assert stats.utilization * 100 == pytest.approx(figures["utilization_percent"], abs=1e-9)
    # The tool prints fJ a compute and pJ in all, both with two digits after the point, and no levels without energy.
    per_compute = 0.0051e-15 * stats.computes + 0.03 * PICO
    energies = {level: item.energy_pj * PICO for level, item in stats.levels.items()}
    assert {level: energies.pop(level) for level in figures["energy_j"]} == pytest.approx(
        figures["energy_j"], rel=1e-4, abs=per_compute
    )
    assert list(energies.values()) == pytest.approx([0] * len(energies), abs=per_compute)


@pytest.mark.parametrize(("name", "family"), RUNS)
def test_computes_and_footprints_are_ours(name: str, family: str) -> None:
    _, run, _ = mapped(name, family)
    footprints = parse_footprints((FIXTURES / "runs" / name / f"{family}.map.txt").read_text())

    assert recorded(name, family).computes == run.macs
    assert footprints == {operand.name: run.footprint(operand) for operand in run.operands}


@pytest.mark.parametrize(("name", "family"), RUNS)
def test_no_run_is_faster_than_the_elements_that_it_uses(name: str, family: str) -> None:
    _, run, arch = mapped(name, family)
    used = math.prod(factor for factors in unroll(run, arch).values() for factor in factors.values())
    stats = recorded(name, family)

    assert stats.cycles >= -(-run.macs // used)
    assert stats.utilization == pytest.approx(run.macs / stats.cycles / arch.elements, abs=0.0002)


@pytest.mark.parametrize(("name", "family"), RUNS)
def test_every_tensor_crosses_the_dram_port_at_least_once(name: str, family: str) -> None:
    _, run, arch = mapped(name, family)
    dram = recorded(name, family).levels[next(iter(arch.levels))].accesses

    for operand in run.operands:
        found = dram[operand.name]
        moved = found.updates if operand.role == "output" else found.reads
        # A scattered output is counted without its crop, which is at most the footprint.
        least = min(compulsory_elements(run, operand), run.footprint(operand))
        assert moved >= least, operand.name
        # Nothing is written that is not stored: weights and inputs only leave.
        assert (found.updates if operand.role != "output" else 0) == 0


@pytest.mark.parametrize(("name", "family"), RUNS)
def test_energies_are_those_of_the_architecture(name: str, family: str) -> None:
    _, run, arch = mapped(name, family)
    stats = recorded(name, family)

    assert stats.levels["mac"].dynamic_pj == pytest.approx(run.macs * arch.compute.energy_pj, rel=1e-4)
    assert {item.energy_source for item in stats.levels.values() if item.accesses} == {"ERT"}
    leakage = sum(item.leakage_pj for item in stats.levels.values()) * PICO
    rounding = 0.01 * PICO * len(arch.levels)
    # Timeloop switches off the elements that a mapping never uses; the shared figure charges all of them.
    assert leakage <= leakage_j(arch, stats.cycles) * 1.002 + rounding
    if stats.utilization == 1.0:
        assert leakage == pytest.approx(leakage_j(arch, stats.cycles), rel=2e-3, abs=rounding)


# Where the divisors fill the array and the ports keep up: MACs over elements, from the extents alone.
FULL = {
    ("ethos_u55_like", "linear"): 64 * 256 * 128 // 256,
    ("ethos_u55_like", "conv1d"): 64 * 32 * 100 * 5 // 256,
    ("ethos_u55_like", "conv2d"): 64 * 64 * 28 * 28 * 9 // 256,
    ("eyeriss_like", "conv3d"): 16 * 8 * 4 * 14 * 14 * 27 // 168,
    ("gemmini_like", "linear"): 64 * 256 * 128 // 256,
    ("gemmini_like", "attention"): 4 * 48 * 64 * 32 // 256,
    ("gemmini_like", "conv1d"): 64 * 32 * 100 * 5 // 256,
    ("gemmini_like", "conv2d"): 64 * 64 * 28 * 28 * 9 // 256,
    ("gemmini_like", "grouped"): 8 * 16 * 16 * 14 * 14 * 9 // 256,
    ("nvdla_like", "conv2d"): 64 * 64 * 28 * 28 * 9 // 2048,
}
# Arrays that unroll no group: a depthwise layer has one channel in and out, so at most the kernel lies on it.
DEPTHWISE = {
    ("nvdla_like", "depthwise"): 96 * 28 * 28 * 9,
    ("gemmini_like", "depthwise"): 96 * 28 * 28,
}


@pytest.mark.parametrize(("name", "family"), FULL)
def test_a_full_array_takes_macs_over_elements(name: str, family: str) -> None:
    stats = recorded(name, family)

    assert stats.cycles == FULL[name, family]
    assert stats.utilization == 1.0


@pytest.mark.parametrize(("name", "family"), DEPTHWISE)
def test_a_depthwise_layer_leaves_a_channel_array_empty(name: str, family: str) -> None:
    assert recorded(name, family).cycles == DEPTHWISE[name, family]


@pytest.mark.parametrize("name", ["eyeriss_like", "simple_weight_stationary"])
def test_accelergys_summaries_are_the_energies_of_the_specs(name: str) -> None:
    arch = load(name)
    energies = parse_energy_table(yaml.safe_load((FIXTURES / "accelergy" / f"{name}.ERT_summary.yaml").read_text()))
    areas = parse_area_table(yaml.safe_load((FIXTURES / "accelergy" / f"{name}.ART_summary.yaml").read_text()))

    assert energies.dummies == []
    assert energies.energy_pj["mac"]["compute"] == pytest.approx(arch.compute.energy_pj, abs=1e-4)
    for level, told in arch.levels.items():
        found = energies.energy_pj[level]
        assert (found["read"], found["write"]) == pytest.approx((told.energy.read_pj, told.energy.write_pj), rel=1e-3)
        assert areas.area_um2[level] == pytest.approx(told.area_um2, rel=1e-3)
        assert areas.instances[level] == (arch.elements if level in arch.inner_levels else 1)


@pytest.mark.parametrize("name", ["ethos_u55_like", "gemmini_like", "nvdla_like", "simba_like", "tpu_like"])
def test_accelergy_knows_no_register_file_at_other_nodes(name: str) -> None:
    assert load(name).technology_nm not in (40, 45)
    assert "no energy estimator for regfile" in FIGURES["accelergy"][name]
