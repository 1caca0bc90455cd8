"""The neutral architecture in Timeloop's words: levels, fan-out, energies, and how a problem fills the array."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop.architecture import arch_text, fidelity
from mmworkload.exporters.timeloop.energy_tables import area_text, energy_text
from mmworkload.exporters.timeloop.padding import difference, pad
from mmworkload.exporters.timeloop.precision import at_precision
from mmworkload.exporters.timeloop.settings import mapper_text, variables_text
from mmworkload.exporters.timeloop.spatial import constraints_text, unroll
from mmworkload.exporters.timeloop.yaml_text import comment, mapping
from mmworkload.problem import Problem, gemm

LEGEND = "NGMCPQRS"


class TagLoader(yaml.SafeLoader):
    pass


TagLoader.add_multi_constructor(
    "!",
    lambda loader, suffix, node: {"!": suffix, **loader.construct_mapping(node, deep=True)},
)


def load(text: str) -> Any:
    return yaml.load(text, Loader=TagLoader)


@pytest.fixture
def eyeriss() -> Architecture:
    return architectures.load("eyeriss_like")


def systolic(x: int = 128, y: int = 128, **changes: Any) -> Architecture:
    """A weight-stationary array with a buffer for activations and one register for a weight."""
    level = {"word_bits": 8, "energy": {"read_pj": 1.0, "write_pj": 1.5}, "area_um2": 10.0}
    data = {
        "name": "systolic",
        "description": "",
        "source": "",
        "technology_nm": 7,
        "clock_mhz": 940,
        "levels": {
            "hbm": {
                **level,
                "kind": "dram",
                "technology": "HBM2",
                "size_kib": None,
                "width_bits": 512,
                "read_bandwidth": 300,
                "write_bandwidth": 12.5,
            },
            "buffer": {**level, "kind": "sram", "holds": ["input", "output"], "size_kib": 4096, "width_bits": 1024},
            "weight": {**level, "kind": "regfile", "holds": ["weight"], "size_kib": 2 / 1024, "width_bits": 8},
        },
        "array": {"inside": "buffer", "x": x, "y": y, "x_dims": ["M"], "y_dims": ["C", "R", "S"]},
        "compute": {"kind": "intmac", "bits": 8, "energy_pj": 0.5, "area_um2": 100.0},
        "vector": {"lanes": 128, "energy_pj": 0.1},
        **changes,
    }
    return architectures.from_dict(data)


def nodes(arch: Architecture) -> dict[str, dict[str, Any]]:
    return {node["name"]: node for node in load(arch_text(arch))["architecture"]["nodes"]}


def test_levels_keep_exactly_what_they_hold_and_bypass_the_rest(eyeriss: Architecture) -> None:
    found = {
        name: (
            node["class"],
            node["constraints"]["dataspace"].get("keep"),
            node["constraints"]["dataspace"].get("bypass"),
        )
        for name, node in nodes(eyeriss).items()
        if node["!"] == "Component" and name != "mac"
    }

    assert found == {
        "dram": ("DRAM", ["Weights", "Inputs", "Outputs"], None),
        "glb": ("SRAM", ["Inputs", "Outputs"], ["Weights"]),
        "ispad": ("regfile", ["Inputs"], ["Weights", "Outputs"]),
        "wspad": ("regfile", ["Weights"], ["Inputs", "Outputs"]),
        "ospad": ("regfile", ["Outputs"], ["Weights", "Inputs"]),
    }


def test_sizes_are_rows_and_bandwidths_are_words(eyeriss: Architecture) -> None:
    found = {name: node["attributes"] for name, node in nodes(eyeriss).items() if "attributes" in node}

    assert found["dram"] == {
        "type": "LPDDR4",
        "depth": None,
        "width": 64,
        "datawidth": 16,
        "read_bandwidth": 4,
        "write_bandwidth": 4,
    }
    # 108 KiB in rows of 8 bytes; a pad of 12 words of one word a row.
    assert (found["glb"]["depth"], found["glb"]["n_rw_ports"], found["glb"]["read_bandwidth"]) == (13824, 2, 16)
    assert found["ispad"] == {"depth": 12, "width": 16, "datawidth": 16}
    assert found["mac"] == {"width": 16, "datawidth": 16}
    assert all(item["width"] % item["datawidth"] == 0 for item in found.values())


def test_a_floating_point_unit_has_its_exponent_and_mantissa() -> None:
    arch = systolic(compute={"kind": "fpmac", "bits": 32, "energy_pj": 4.6, "area_um2": 9.0})

    assert nodes(arch)["mac"]["class"] == "fpmac"
    assert nodes(arch)["mac"]["attributes"] == {"width": 32, "datawidth": 32, "exponent": 8, "mantissa": 24}


def test_the_compute_unit_comes_last_and_the_fan_out_between_buffer_and_pads(eyeriss: Architecture) -> None:
    assert list(nodes(eyeriss)) == ["system", "dram", "glb", "array_x", "array_y", "ispad", "wspad", "ospad", "mac"]


def test_each_axis_refuses_what_the_architecture_does_not_allow_there(eyeriss: Architecture) -> None:
    found = nodes(eyeriss)

    assert found["array_x"]["spatial"] == {"meshX": 14}
    assert found["array_x"]["constraints"]["spatial"] == {"factors": ["C=1", "R=1", "S=1"], "split": 99}
    assert found["array_y"]["spatial"] == {"meshY": 12}
    assert found["array_y"]["constraints"]["spatial"] == {"factors": ["N=1", "P=1", "Q=1"], "split": 0}


def test_an_axis_of_one_element_is_no_fan_out() -> None:
    assert list(nodes(systolic(x=1))) == ["system", "hbm", "buffer", "array_y", "weight", "mac"]
    assert list(nodes(systolic(x=1, y=1))) == ["system", "hbm", "buffer", "weight", "mac"]
    assert load(constraints_text(gemm(4, 4, 4), systolic(x=1, y=1))) == {"constraints": {"version": 0.4, "targets": []}}


def test_constraints_of_the_shared_file_name_only_dimensions_that_every_problem_has() -> None:
    arch = systolic(array={"inside": "buffer", "x": 8, "y": 8, "x_dims": ["M", "O"], "y_dims": ["T", "C"]})

    factors = [
        factor
        for node in nodes(arch).values()
        for factor in node.get("constraints", {}).get("spatial", {}).get("factors", [])
    ]

    assert {factor[0] for factor in factors} <= set(LEGEND)


@pytest.mark.parametrize("name", ["mac", "system", "array_x", "wire", "a b", "inter_glb_spatial", "lével", "MAC"])
def test_level_names_that_timeloop_would_misread_are_refused(name: str) -> None:
    arch = systolic()
    levels = {(name if level == "weight" else level): value for level, value in arch.levels.items()}

    told = fidelity(arch.model_copy(update={"levels": levels}))

    assert told.level == "refused"
    assert f"level '{name}'" in told.lost[0]
    assert fidelity(arch).level == "exact"


def test_technology_and_cycle_time_are_there(eyeriss: Architecture) -> None:
    assert load(variables_text(eyeriss)) == {
        "variables": {"version": 0.4, "technology": "45nm", "global_cycle_seconds": 5e-9}
    }
    assert 'technology: "45nm"' in variables_text(eyeriss)


@pytest.mark.parametrize(("effort", "victory"), [("quick", 20), ("normal", 100), ("thorough", 500)])
def test_effort_is_how_long_the_search_goes_on_without_improvement(effort: str, victory: int) -> None:
    assert load(mapper_text(effort))["mapper"]["victory_condition"] == victory


def test_an_unknown_effort_is_an_error() -> None:
    with pytest.raises(SimulationError, match="quick, normal, thorough"):
        mapper_text("heroic")


# --- energies --------------------------------------------------------------------------------------------------------


def test_the_energy_table_is_the_architectures_under_the_names_that_timeloop_looks_for(eyeriss: Architecture) -> None:
    tables = load(energy_text(eyeriss))["ERT"]["tables"]

    found = {table["name"]: {action["name"]: action["energy"] for action in table["actions"]} for table in tables}

    assert found["system_top_level.glb[1..1]"] == {"read": 49.799, "write": 36.848, "update": 36.848, "leak": 0.01559}
    assert found["system_top_level.wspad[1..168]"] == {
        "read": 1.63384,
        "write": 1.63384,
        "update": 1.63384,
        "leak": 0.00715,
    }
    assert found["system_top_level.mac[1..168]"] == {"compute": 2.20035}
    assert len(found) == 6


def test_all_energies_and_areas_are_floats_since_the_front_end_takes_no_integers(eyeriss: Architecture) -> None:
    energies = [
        action["energy"] for table in load(energy_text(eyeriss))["ERT"]["tables"] for action in table["actions"]
    ]
    areas = {table["name"]: table["area"] for table in load(area_text(eyeriss))["ART"]["tables"]}

    assert {type(value) for value in (*energies, *areas.values())} == {float}
    assert areas["system_top_level.glb[1..1]"] == 682149
    assert areas["system_top_level.inter_array_y_spatial[1..14]"] == 0


def test_the_area_table_adds_up_to_the_chip(eyeriss: Architecture) -> None:
    total = sum(
        table["area"] * int(table["name"].rpartition("..")[2].rstrip("]"))
        for table in load(area_text(eyeriss))["ART"]["tables"]
    )

    assert total / 1e6 == pytest.approx(eyeriss.area_mm2)


# --- filling the array -----------------------------------------------------------------------------------------------


def conv(m: int, c: int, p: int, q: int, r: int, s: int) -> Problem:
    return Problem.parse(
        f"mac M={m} C={c} P={p} Q={q} R={r} S={s} | Inputs input 16 [C:{c}, P+R:{p + r - 1}, Q+S:{q + s - 1}]"
        f" | Weights weight 16 [M:{m}, C:{c}, R:{r}, S:{s}] | Outputs output 16 [M:{m}, P:{p}, Q:{q}]"
    ).canonical()


def busy(factors: dict[str, int]) -> dict[str, int]:
    return {dim: factor for dim, factor in factors.items() if factor > 1}


def test_a_row_stationary_array_is_filled_as_its_authors_fill_it(eyeriss: Architecture) -> None:
    factors = unroll(conv(384, 256, 13, 13, 3, 3), eyeriss)

    assert busy(factors["array_x"]) == {"Q": 13}
    assert busy(factors["array_y"]) == {"S": 3, "C": 4}


def test_a_dimension_that_both_axes_allow_is_split_over_both(eyeriss: Architecture) -> None:
    factors = unroll(gemm(1, 84, 1).canonical(), eyeriss)

    assert (factors["array_x"]["M"], factors["array_y"]["M"]) == (14, 6)


def test_among_equally_full_choices_the_preferred_dimension_gets_more(eyeriss: Architecture) -> None:
    # 14 columns take Q or P or both in halves; Q stands first.
    assert busy(unroll(conv(1, 1, 28, 28, 1, 1), eyeriss)["array_x"]) == {"Q": 14}


extents = st.integers(1, 400)


@given(extents, extents, extents, st.integers(1, 16), st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=100, deadline=None)
def test_factors_always_divide_and_fit(rows: int, columns: int, reduction: int, groups: int, x: int, y: int) -> None:
    arch = systolic(array={"inside": "buffer", "x": x, "y": y, "x_dims": ["M", "N", "G"], "y_dims": ["C", "M", "N"]})
    problem = gemm(rows, columns, reduction, groups=groups).canonical()

    factors = unroll(problem, arch)

    for axis_name, limit in (("array_x", x), ("array_y", y)):
        assert math.prod(factors.get(axis_name, {}).values()) <= limit
    for dim, extent in problem.dims:
        assert extent % math.prod(chosen.get(dim, 1) for chosen in factors.values()) == 0


def test_no_other_choice_of_divisors_is_fuller() -> None:
    arch = systolic(array={"inside": "buffer", "x": 24, "y": 1, "x_dims": ["M", "C", "N"], "y_dims": []})
    for rows, columns, reduction in ((7, 10, 9), (5, 14, 15), (22, 26, 13), (16, 27, 25)):
        factors = unroll(gemm(rows, columns, reduction).canonical(), arch)["array_x"]
        best = max(
            m * c * n
            for m in range(1, 25)
            for c in range(1, 25)
            for n in range(1, 25)
            if columns % m == 0 and reduction % c == 0 and rows % n == 0 and m * c * n <= 24
        )
        assert math.prod(factors.values()) == best


def test_a_dimension_beyond_the_common_set_is_held_off_the_array_in_the_problems_own_file() -> None:
    problem = Problem.parse(
        "mac B=4 M=12 C=16 O=6 | Inputs input 8 [B:4, O:6, C:16] | Weights weight 8 [C:16, M:12] | "
        "Outputs output 8 [B:4, O:6, M:12]"
    ).canonical()
    arch = systolic(array={"inside": "buffer", "x": 8, "y": 8, "x_dims": ["M", "O"], "y_dims": ["C"]})

    filled = {
        target["target"]: target["factors"]
        for target in load(constraints_text(problem, arch))["constraints"]["targets"]
    }
    free = {
        target["target"]: target["factors"]
        for target in load(constraints_text(problem, arch, fill=False))["constraints"]["targets"]
    }

    assert filled == {"array_x": ["M=4", "O=2", "T=1", "B=1"], "array_y": ["C=8", "O=1", "T=1", "B=1"]}
    assert free == {"array_x": ["T=1", "B=1"], "array_y": ["O=1", "T=1", "B=1"]}


def test_the_constraints_leave_no_dimension_of_an_axis_to_chance(eyeriss: Architecture) -> None:
    problem = conv(384, 256, 13, 13, 3, 3)
    shared = nodes(eyeriss)

    for target in load(constraints_text(problem, eyeriss))["constraints"]["targets"]:
        both = [*shared[target["target"]]["constraints"]["spatial"]["factors"], *target["factors"]]
        assert sorted(factor.partition("=")[0] for factor in both) == sorted(LEGEND)
        assert target["type"] == "spatial"


# --- padding ---------------------------------------------------------------------------------------------------------


def test_extents_that_can_be_tiled_are_left_alone(eyeriss: Architecture) -> None:
    for problem in (conv(384, 256, 13, 13, 11, 11), gemm(64, 3072, 768).canonical(), gemm(1, 1, 1).canonical()):
        assert pad(problem, eyeriss) is problem


@pytest.mark.parametrize(
    ("extent", "larger"), [(67, 70), (73, 75), (197, 198), (257, 260), (577, 585), (1009, 1014), (30522, 30576)]
)
def test_an_extent_with_a_large_prime_factor_is_enlarged_to_small_ones(extent: int, larger: int) -> None:
    padded = pad(gemm(8, extent, 64).canonical(), systolic())

    assert padded.extents == {"N": 8, "M": larger, "C": 64}
    assert larger <= extent * (1 + 1 / 16)


def test_a_middling_prime_is_enlarged_only_where_it_fills_the_array(eyeriss: Architecture) -> None:
    problem = conv(32, 16, 37, 37, 3, 3)

    # 37 columns of the image on 14 of the array: nothing divides, 39 gives 13. A systolic array has M and C there.
    assert difference(problem, pad(problem, eyeriss)) == "P 37 to 39, Q 37 to 39"
    assert pad(problem, systolic()) is problem


def test_a_padded_convolution_reads_a_larger_input() -> None:
    problem = Problem.parse(
        "mac M=8 P=197 R=3 | Inputs input 8 [2P+R:394~1,0] | Weights weight 8 [M:8, R:3] | "
        "Outputs output 8 [M:8, P:197]"
    ).canonical()

    padded = pad(problem, systolic())

    assert padded.macs == 8 * 198 * 3
    assert {item.name: padded.footprint(item) for item in padded.operands} == {
        "Inputs": 2 * 197 + 3,
        "Weights": 24,
        "Outputs": 8 * 198,
    }


# --- precision -------------------------------------------------------------------------------------------------------


def test_the_native_precision_changes_nothing(eyeriss: Architecture) -> None:
    assert at_precision(eyeriss, 16) is eyeriss


def test_half_the_bits_are_twice_the_words_in_the_same_rows(eyeriss: Architecture) -> None:
    told = at_precision(eyeriss, 8)

    assert [level.word_bits for level in told.levels.values()] == [8] * 5
    assert (told.levels["glb"].words, eyeriss.levels["glb"].words) == (110592, 55296)
    assert (told.levels["glb"].read_bandwidth, told.dram.read_bandwidth) == (32, 8)
    assert told.levels["glb"].energy == eyeriss.levels["glb"].energy
    assert told.dram_bytes_per_second == eyeriss.dram_bytes_per_second


def test_a_word_wider_than_a_row_takes_several_accesses(eyeriss: Architecture) -> None:
    told = at_precision(eyeriss, 32)

    assert (told.levels["ispad"].width_bits, told.levels["ispad"].depth, told.levels["ispad"].words) == (32, 6, 6)
    assert told.levels["ispad"].energy.read_pj == 2 * eyeriss.levels["ispad"].energy.read_pj
    # The buffer's row of 64 bits holds two such words.
    assert (told.levels["glb"].width_bits, told.levels["glb"].energy.read_pj) == (64, 49.799)


def test_an_operand_that_fits_no_row_is_an_error(eyeriss: Architecture) -> None:
    with pytest.raises(SimulationError, match="level dram: operands of 12 bits"):
        at_precision(eyeriss, 12)


# --- text ------------------------------------------------------------------------------------------------------------


def test_text_is_quoted_and_floats_keep_their_dot() -> None:
    text = mapping({"type": 'a "b"', "cycle": 5e-9, "whole": 4.0, "depth": None, "on": True, "n": 3})

    assert text == '{type: "a \\"b\\"", cycle: 5.0e-09, whole: 4.0, depth: null, on: True, n: 3}'
    assert load(text) == {"type": 'a "b"', "cycle": 5e-9, "whole": 4.0, "depth": None, True: True, "n": 3}


def test_a_comment_cannot_be_left_by_a_line_break() -> None:
    assert comment(["model: a\nb: c", ""]) == "# model: a b: c\n#\n"


@pytest.mark.parametrize(
    ("kernel", "stride", "rows"),
    [
        # Stride and kernel alike: the second dimension is held off, and written so that the search leaves it off, too.
        (2, 2, {"C": 32, "R": 2, "S": 1}),
        (2, 3, {"C": 32, "R": 2, "S": 1}),
        # Outputs overlap: both may be there.
        (2, 1, {"C": 32, "R": 2, "S": 2}),
        (3, 2, {"C": 16, "R": 3, "S": 3}),
        (1, 2, {"C": 32, "R": 1, "S": 1}),
    ],
)
def test_only_one_dimension_of_a_kernel_whose_outputs_do_not_overlap_is_unrolled(
    kernel: int, stride: int, rows: dict[str, int]
) -> None:
    factor, size = "" if stride == 1 else stride, stride * 7 + kernel
    problem = Problem.parse(
        f"mac M=16 C=32 P=8 Q=8 R={kernel} S={kernel} | Inputs input 8 [C:32, P:8, Q:8] | Weights weight 8 [C:32, M:16,"
        f" R:{kernel}, S:{kernel}] | Outputs output 8 [M:16, {factor}P+R:{size}, {factor}Q+S:{size}]"
    )
    arch = architectures.load("tpu_like")
    assert unroll(problem, arch)["array_y"] == rows
    assert f"factors: [{', '.join(f'{dim}={value}' for dim, value in rows.items())}]" in constraints_text(problem, arch)
