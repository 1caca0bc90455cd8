"""The scaling law: exact at its runs, exact where its form is Accelergy's, and never absurd between and beyond."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload import energy_runs
from mmworkload.arch import load
from mmworkload.energy_scaling import DRAM_PJ_PER_BIT, Law, Mac, Memory, law, logic_node

NODES = st.sampled_from([10, 16, 22, 28, 32, 45, 65, 90, 130])
SIZES = st.floats(0.01, 65536)
WIDTHS = st.sampled_from([8, 16, 24, 32, 64, 96, 128, 512, 1024, 2048, 4096])


def test_the_runs_are_a_full_grid_of_positive_figures() -> None:
    keys = {row[:3] for row in energy_runs.SRAM}
    axes = [sorted({key[axis] for key in keys}) for axis in range(3)]
    assert keys == set(itertools.product(*axes))
    assert axes[2] == [1, 2, 4, 8]
    assert all(figure > 0 for row in energy_runs.SRAM for figure in row)
    assert "Accelergy 0.4" in (energy_runs.__doc__ or "")
    assert "CactiSRAM" in (energy_runs.__doc__ or "")


def test_at_the_runs_the_law_is_what_accelergy_said() -> None:
    for size, width, ports, *figures in energy_runs.SRAM:
        found = law(Memory("sram", size, int(width), int(ports), 45))
        assert tuple(found) == pytest.approx(figures, rel=1e-9)


def test_register_files_are_the_aladdin_table() -> None:
    """The scratchpads of eyeriss_like, which Accelergy estimated one by one."""
    arch = load("eyeriss_like")
    for name in ("ispad", "wspad", "ospad"):
        level = arch.levels[name]
        assert level.size_kib is not None
        found = law(Memory("regfile", level.size_kib, 16, 1, 45))
        assert found.read_pj == pytest.approx(level.energy.read_pj, rel=1e-3)
        assert found.write_pj == pytest.approx(level.energy.write_pj, rel=1e-3)
        assert found.area_um2 == pytest.approx(level.area_um2, rel=1e-3)
        # 5 ns; the file has two digits of it.
        assert found.leak_uw * 0.005 == pytest.approx(level.energy.leak_pj_per_cycle, rel=2e-2)


def test_a_multiplier_is_the_aladdin_table_at_bits_that_were_not_run() -> None:
    found = law(Mac("intmac", 16, 45))
    assert found.read_pj == pytest.approx(2.20035, rel=1e-5)
    assert found.area_um2 == pytest.approx(1239.5, rel=1e-4)
    # Multiplier 4 times, adder twice.
    assert 3.5 < law(Mac("intmac", 32, 45)).read_pj / found.read_pj < 4


def test_floating_point_has_a_table_below_and_one_above_32_bits() -> None:
    runs = {row[1]: row[2] for row in energy_runs.MAC if row[0] == "fpmac"}
    for bits, energy in runs.items():
        assert law(Mac("fpmac", int(bits), 45)).read_pj == pytest.approx(energy, rel=1e-9)
    assert runs[16] < law(Mac("fpmac", 19, 45)).read_pj < runs[32]


def test_the_node_of_logic_is_one_at_45_and_follows_the_published_scaling() -> None:
    assert logic_node(45) == (1.0, 1.0)
    # Stillmaker and Baas 2017: 65 to 45 nm shrinks area to 0.66, 45 to 16 nm to 0.19.
    assert 1 / logic_node(65)[1] == pytest.approx(0.66, abs=0.02)
    assert logic_node(16)[1] == pytest.approx(0.19, abs=0.005)
    energies = [logic_node(node)[0] for node in (5, 7, 10, 16, 22, 28, 45, 65, 90, 130, 180)]
    assert energies == sorted(energies)


def test_beyond_the_table_the_rules_of_accelergy_hold() -> None:
    at22, at16 = (law(Memory("sram", 64, 64, 1, node)) for node in (22, 16))
    root = math.sqrt(16 / 22)
    assert at16.read_pj == pytest.approx(at22.read_pj * root)
    assert at16.leak_uw == pytest.approx(at22.leak_uw * root * 0.79)
    assert at16.area_um2 == pytest.approx(at22.area_um2 * 16 / 22)
    assert law(Memory("sram", 64, 64, 1, 180)).read_pj == pytest.approx(4 * law(Memory("sram", 64, 64, 1, 90)).read_pj)
    assert logic_node(5)[0] == pytest.approx(logic_node(7)[0] * math.sqrt(5 / 7))


def test_capacities_scale_as_horowitz_found() -> None:
    """ISSCC 2014, 45 nm, 64 bits: 8 KiB 10 pJ, 32 KiB 20 pJ, 1 MiB 100 pJ; the ratios within a factor of 1.5."""
    eight, thirty_two, mega = (law(Memory("sram", size, 64, 1, 45)).read_pj for size in (8, 32, 1024))
    assert thirty_two / eight == pytest.approx(2, rel=0.5)
    assert mega / eight == pytest.approx(10, rel=0.5)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["sram", "regfile"]), SIZES, st.floats(1, 100), WIDTHS, st.integers(1, 8), NODES)
def test_a_larger_memory_never_costs_less(
    kind: str, size: float, factor: float, width: int, ports: int, node: int
) -> None:
    small = law(Memory(kind, size, width, ports, node))  # type: ignore[arg-type]
    large = law(Memory(kind, size * factor, width, ports, node))  # type: ignore[arg-type]
    for one, other in zip(small, large, strict=True):
        assert 0 < one <= other * (1 + 1e-9)


@settings(max_examples=200, deadline=None)
@given(SIZES, st.floats(1, 16), WIDTHS, st.integers(1, 7), NODES)
def test_another_port_never_costs_less_nor_a_wider_access(
    size: float, factor: float, width: int, ports: int, node: int
) -> None:
    found = law(Memory("sram", size, width, ports, node))
    ported = law(Memory("sram", size, width, ports + 1, node))
    for one, other in zip(found, ported, strict=True):
        assert one <= other * (1 + 1e-9)
    # Below 32 bits Accelergy charges a row of 32, so that narrower means deeper.
    if width >= 32:
        wider = law(Memory("sram", size, round(width * factor), ports, node))
        assert found.read_pj <= wider.read_pj * (1 + 1e-9)
        assert found.write_pj <= wider.write_pj * (1 + 1e-9)


def test_the_law_is_an_estimator_that_is_always_there() -> None:
    memory, mac = Memory("sram", 64, 64, 1, 45), Mac("intmac", 8, 45)
    assert Law().unavailable() is None
    assert Law().estimate([memory, mac]) == [law(memory), law(mac)]


def test_dram_types_are_charged_by_the_bit() -> None:
    assert DRAM_PJ_PER_BIT["LPDDR4"] * 64 == load("eyeriss_like").dram.energy.read_pj
    assert DRAM_PJ_PER_BIT["DDR3"] * 512 == load("tpu_like").dram.energy.read_pj
