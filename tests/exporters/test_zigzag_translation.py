"""What ZigZag is told: layers, memories and the loops on the array."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload import arch as architectures
from mmworkload.arch import Architecture, Array, from_dict
from mmworkload.errors import SimulationError
from mmworkload.exporters.zigzag.layer import translate
from mmworkload.exporters.zigzag.memories import accelerator, fidelity, too_small
from mmworkload.exporters.zigzag.unrolling import unrollings
from mmworkload.problem import Axis, Operand, Problem, axis, gemm

EYERISS = architectures.load("eyeriss_like")
ANY = Array(inside="glb", x=4, y=4, x_dims=tuple("NGMCPQO"), y_dims=tuple("NGMCPQO"))


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
    bits: int = 16,
) -> Problem:
    """``outputs`` and ``kernel`` by dimension (``{"P": 4, "Q": 4}``, ``{"R": 3, "S": 3}``), all axes alike."""
    plain = {"N": batch, "G": groups, "M": columns, "C": channels}
    windows = []
    for (out, extent), (tap, taps) in zip(outputs.items(), kernel.items(), strict=True):
        size = (extent - 1) * stride + (taps - 1) * dilation + 1 - 2 * padding
        windows.append(Axis(((out, stride), (tap, dilation)), size, padding, padding))

    def axes(letters: str) -> tuple[Axis, ...]:
        return tuple(axis(letter, plain[letter]) for letter in letters)

    weights = tuple(axis(*item) for item in kernel.items())
    outs = tuple(axis(*item) for item in outputs.items())
    return Problem(
        (*plain.items(), *outputs.items(), *kernel.items()),
        (
            Operand("Inputs", "input", bits, (*axes("NGC"), *windows)),
            Operand("Weights", "weight", bits, (*axes("GMC"), *weights)),
            Operand("Outputs", "output", bits, (*axes("NGM"), *outs)),
        ),
    ).canonical()


def transposed(columns: int, channels: int, size: int, kernel: int, stride: int, crop: int) -> Problem:
    out = (size - 1) * stride + kernel - 2 * crop
    return Problem(
        (("M", columns), ("C", channels), ("P", size), ("Q", size), ("R", kernel), ("S", kernel)),
        (
            Operand("Inputs", "input", 16, (axis("C", channels), axis("P", size), axis("Q", size))),
            Operand(
                "Weights", "weight", 16, (axis("C", channels), axis("M", columns), axis("R", kernel), axis("S", kernel))
            ),
            Operand(
                "Outputs",
                "output",
                16,
                (
                    axis("M", columns),
                    Axis((("P", stride), ("R", 1)), out, crop, crop),
                    Axis((("Q", stride), ("S", 1)), out, crop, crop),
                ),
            ),
        ),
    ).canonical()


# --- layers -----------------------------------------------------------------------------------------------------------


def test_a_convolution_is_written_with_its_window_true_size_and_padding() -> None:
    problem = convolution({"P": 28, "Q": 28}, {"R": 3, "S": 3}, batch=2, columns=64, channels=32, stride=2, padding=1)

    assert translate(problem, ANY).to_dict() == {
        "id": 0,
        "name": "layer",
        "operator_type": "Conv",
        "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][ioy][iox]",
        "dimension_relations": ["ioy=2*oy+1*fy", "iox=2*ox+1*fx"],
        "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
        "loop_sizes": [2, 64, 32, 28, 28, 3, 3],
        "operand_precision": {"O": 16, "W": 16, "I": 16, "O_final": 16},
        "operand_source": {"W": 0, "I": 0},
        "pr_loop_dims": ["IOY", "IOX"],
        # 57 with padding, of which 55 are in the tensor.
        "pr_loop_sizes": [55, 55],
        "padding": [[1, 1], [1, 1]],
    }


@pytest.mark.parametrize(
    ("problem", "equation", "relations", "sizes"),
    [
        (
            convolution({"Q": 100}, {"S": 5}, columns=8, channels=4, dilation=2),
            "O[k][ox]+=W[k][c][fx]*I[c][iox]",
            ["iox=1*ox+2*fx"],
            {"K": 8, "C": 4, "OX": 100, "FX": 5},
        ),
        (
            convolution({"O": 4, "P": 6, "Q": 6}, {"T": 3, "R": 3, "S": 3}, columns=8, channels=4),
            "O[k][oz][oy][ox]+=W[k][c][fz][fy][fx]*I[c][ioz][ioy][iox]",
            ["ioz=1*oz+1*fz", "ioy=1*oy+1*fy", "iox=1*ox+1*fx"],
            {"K": 8, "C": 4, "OY": 6, "OX": 6, "OZ": 4, "FY": 3, "FX": 3, "FZ": 3},
        ),
        (
            convolution({"P": 6, "Q": 6}, {"R": 3, "S": 3}, groups=96),
            "O[g][oy][ox]+=W[g][fy][fx]*I[g][ioy][iox]",
            ["ioy=1*oy+1*fy", "iox=1*ox+1*fx"],
            {"G": 96, "OY": 6, "OX": 6, "FY": 3, "FX": 3},
        ),
        (
            convolution({"P": 6, "Q": 6}, {"R": 3, "S": 3}, groups=4, columns=8, channels=2),
            "O[g][k][oy][ox]+=W[g][k][c][fy][fx]*I[g][c][ioy][iox]",
            ["ioy=1*oy+1*fy", "iox=1*ox+1*fx"],
            {"G": 4, "K": 8, "C": 2, "OY": 6, "OX": 6, "FY": 3, "FX": 3},
        ),
        # One row of the kernel: the other axis is no window.
        (
            convolution({"P": 6, "Q": 6}, {"R": 1, "S": 3}, columns=8),
            "O[k][oy][ox]+=W[k][fx]*I[oy][iox]",
            ["iox=1*ox+1*fx"],
            {"K": 8, "OY": 6, "OX": 6, "FX": 3},
        ),
    ],
    ids=["conv1d", "conv3d", "depthwise", "grouped", "1x3"],
)
def test_convolutions_of_every_kind(
    problem: Problem, equation: str, relations: list[str], sizes: dict[str, int]
) -> None:
    entry = translate(problem, ANY).to_dict()

    assert entry["equation"] == equation
    assert entry["dimension_relations"] == relations
    assert dict(zip(entry["loop_dims"], entry["loop_sizes"], strict=True)) == sizes
    assert math.prod(entry["loop_sizes"]) == problem.macs


def test_a_strided_1x1_convolution_reads_only_what_it_needs_and_is_a_matrix_product() -> None:
    problem = convolution({"P": 28, "Q": 28}, {"R": 1, "S": 1}, columns=64, channels=32, stride=2)

    entry = translate(problem, ANY).to_dict()

    assert entry["operator_type"] == "Gemm"
    assert entry["equation"] == "O[k][oyox]+=W[k][c]*I[c][oyox]"
    assert entry["loop_sizes"] == [64, 32, 784]
    assert "pr_loop_dims" not in entry


def test_loops_are_merged_only_when_the_array_treats_them_alike() -> None:
    problem = convolution({"P": 7, "Q": 7}, {"R": 1, "S": 1}, batch=3, columns=64, channels=32)
    only_columns = Array(inside="glb", x=4, y=4, x_dims=("Q",), y_dims=("C",))

    merged, apart = translate(problem, ANY), translate(problem, only_columns)

    assert [(loop.name, loop.extent) for loop in merged.loops] == [("BOYOX", 147), ("K", 64), ("C", 32)]
    assert [(loop.name, loop.extent) for loop in apart.loops] == [("BOY", 21), ("K", 64), ("C", 32), ("OX", 7)]


@pytest.mark.parametrize(
    ("problem", "equation"),
    [
        (gemm(5, 7, 11), "O[b][k]+=W[k][c]*I[b][c]"),
        (gemm(1, 7, 11), "O[k]+=W[k][c]*I[c]"),
        (gemm(5, 7, 11, groups=3, second_role="input"), "O[b][g][k]+=W[g][k][c]*I[b][g][c]"),
        (gemm(5, 7, 1), "O[b][k]+=W[k]*I[b]"),
        (gemm(1, 1, 11), "O[xu]+=W[c]*I[c]"),
        (gemm(1, 1, 1), "O[xu]+=W[xu]*I[xu]"),
    ],
    ids=["gemm", "one row", "attention", "outer product", "dot product", "one MAC"],
)
def test_matrix_products_of_every_kind(problem: Problem, equation: str) -> None:
    layer = translate(problem.canonical(), ANY)

    assert layer.to_dict()["equation"] == equation
    assert math.prod(layer.to_dict()["loop_sizes"]) == problem.macs


def test_the_second_of_two_activations_takes_the_weights_way() -> None:
    layer = translate(gemm(5, 7, 11, groups=3, second_role="input").canonical(), ANY)

    assert layer.operands["W"].name == "Weights"
    assert layer.operands["W"].role == "input"


def test_a_transposed_convolution_keeps_both_loops_of_its_output() -> None:
    problem = transposed(columns=8, channels=4, size=5, kernel=4, stride=2, crop=1)

    layer = translate(problem, ANY)

    assert layer.scattered
    # R and S may not be unrolled on this array, M may.
    assert [(loop.name, loop.extent) for loop in layer.loops] == [("K", 8), ("C", 4), ("OYOX", 25), ("FYFX", 16)]
    assert layer.to_dict()["equation"] == "O[k][oyox][fyfx]+=W[k][c][fyfx]*I[c][oyox]"
    assert math.prod(loop.extent for loop in layer.loops) == problem.macs


def test_further_letters_are_loops_that_stay_off_the_array() -> None:
    problem = Problem(
        (("A", 3), ("M", 4), ("C", 5)),
        (
            Operand("Inputs", "input", 8, (axis("A", 3), axis("C", 5))),
            Operand("Weights", "input", 8, (axis("A", 3), axis("M", 4), axis("C", 5))),
            Operand("Outputs", "output", 8, (axis("A", 3), axis("M", 4))),
        ),
    ).canonical()

    layer = translate(problem, ANY)

    assert {loop.name for loop in layer.loops} == {"K", "C", "XA"}
    assert all("XA" not in {**item.x, **item.y} for item in unrollings(layer, EYERISS, 8))


@pytest.mark.parametrize(
    ("operands", "reason"),
    [
        ((("Inputs", "input", (axis("C", 5),)),), "multiplies two operands; this problem has 1"),
        (
            (("Inputs", "input", (axis("C", 5), axis("C", 5))), ("Weights", "weight", (axis("C", 5),))),
            "uses a loop twice",
        ),
        (
            (("Inputs", "input", (axis("C", 5),)), ("Weights", "weight", (Axis((("C", 1), ("M", 1)), 8),))),
            "sliding window over the second operand",
        ),
        (
            (("Inputs", "input", (Axis((("C", 1), ("M", 1), ("N", 1)), 9),)), ("Weights", "weight", (axis("C", 5),))),
            "sum of more than two loops",
        ),
    ],
    ids=["one input", "diagonal", "window over weights", "three loops"],
)
def test_what_zigzag_cannot_express_is_refused(
    operands: tuple[tuple[str, Any, tuple[Axis, ...]], ...], reason: str
) -> None:
    problem = Problem(
        (("C", 5), ("M", 4), ("N", 2)),
        (
            *(Operand(name, role, 8, axes) for name, role, axes in operands),
            Operand("Outputs", "output", 8, (axis("M", 4), axis("N", 2))),
        ),
    )

    with pytest.raises(SimulationError, match=reason):
        translate(problem.canonical(), ANY)


# --- memories ---------------------------------------------------------------------------------------------------------


def test_levels_hold_their_roles_innermost_first() -> None:
    memories = accelerator(EYERISS)["memories"]

    assert {name: (memory["operands"], memory["served_dimensions"]) for name, memory in memories.items()} == {
        "ospad": (["O"], []),
        "wspad": (["I2"], []),
        "ispad": (["I1"], []),
        "glb": (["I1", "O"], ["D1", "D2"]),
        "dram": (["I1", "I2", "O"], ["D1", "D2"]),
    }
    assert list(memories) == ["ospad", "wspad", "ispad", "glb", "dram"]
    assert {name: memory["size"] for name, memory in memories.items()} == {
        "ospad": 24 * 16,
        "wspad": 224 * 16,
        "ispad": 12 * 16,
        "glb": 108 * 1024 * 8,
        "dram": 2**62,
    }


def test_ports_have_the_levels_bandwidth_and_the_cost_of_their_width() -> None:
    glb = accelerator(EYERISS)["memories"]["glb"]

    # 16 words of 16 bits a cycle, in accesses of 64 bits.
    assert glb["ports"] == [
        {
            "name": "r_port_1",
            "type": "read",
            "bandwidth_min": 64,
            "bandwidth_max": 256,
            "allocation": ["I1, tl", "O, tl", "O, th"],
        },
        {
            "name": "w_port_1",
            "type": "write",
            "bandwidth_min": 64,
            "bandwidth_max": 256,
            "allocation": ["I1, fh", "O, fh", "O, fl"],
        },
    ]
    assert glb["r_cost"] == pytest.approx(4 * EYERISS.levels["glb"].energy.read_pj)
    assert glb["w_cost"] == pytest.approx(4 * EYERISS.levels["glb"].energy.write_pj)


def test_a_level_without_a_bandwidth_limit_moves_all_it_holds_in_a_cycle() -> None:
    ports = accelerator(EYERISS)["memories"]["ospad"]["ports"]

    assert [(port["allocation"], port["bandwidth_max"]) for port in ports] == [
        (["O, tl"], 384),
        (["O, th"], 384),
        (["O, fh"], 384),
        (["O, fl"], 384),
    ]


def changed(**levels: dict[str, Any]) -> Architecture:
    data = EYERISS.model_dump(mode="json")
    for name, values in levels.items():
        data["levels"][name] |= values
    return from_dict(data)


def test_one_element_takes_one_word_whatever_the_levels_word() -> None:
    # Accumulators of 32 bits, 24 of them: 24 elements of the native 16 bits.
    wide = changed(ospad={"word_bits": 32, "width_bits": 32, "size_kib": 24 * 4 / 1024})

    assert accelerator(wide)["memories"]["ospad"]["size"] == 24 * 16


def test_fidelity_names_what_is_lost() -> None:
    shared = "glb: no two operands pass a port in the same cycle, however narrow"

    assert fidelity(EYERISS).lost == (shared,)
    assert fidelity(changed(glb={"read_bandwidth": None, "write_bandwidth": None})).level == "exact"
    assert fidelity(changed(dram={"read_bandwidth": 0.3})).lost == (
        "dram: read bandwidth is rounded to whole bits a cycle",
        shared,
    )
    # Nothing holds inputs at the elements any more.
    assert fidelity(changed(ispad={"holds": ["weight"]})).lost == (
        shared,
        "inputs come straight from glb: its bandwidth limits how far their loops are unrolled",
    )


def test_a_number_that_is_wider_than_a_whole_level_does_not_fit_it() -> None:
    one_word = changed(wspad={"size_kib": 2 / 1024})

    assert too_small(one_word, "W", 16) is None
    assert too_small(one_word, "W", 32) == "wspad"
    assert too_small(one_word, "I", 32) is None


# --- loops on the array -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "x", "y", "passes"),
    [
        # Filters on both axes: 1000 in 6 rounds of 14 x 12, less than 2048 channels by 12 leave.
        (gemm(1, 1000, 2048), {"K": 14}, {"K": 12}, 6 * 2048),
        # Kernel rows and channels share an axis: 3 x 4 = 12.
        (
            convolution({"P": 56, "Q": 56}, {"R": 3, "S": 3}, columns=64, channels=64),
            {"OX": 14},
            {"FX": 3, "C": 4},
            56 * 56 * 64 * 64 * 9 // 168,
        ),
        (gemm(1, 1, 1), {}, {}, 1),
        (gemm(1, 168, 1), {"K": 14}, {"K": 12}, 1),
    ],
    ids=["one row", "convolution", "one MAC", "one loop"],
)
def test_the_fullest_choice_comes_first(problem: Problem, x: dict[str, int], y: dict[str, int], passes: int) -> None:
    first = unrollings(translate(problem.canonical(), EYERISS.array), EYERISS, 4)[0]

    assert (first.x, first.y, first.passes) == (x, y, passes)


def test_choices_are_different_and_none_is_less_than_half_as_full() -> None:
    found = unrollings(translate(gemm(197, 1009, 1013).canonical(), EYERISS.array), EYERISS, 8)

    assert len({(frozenset(item.x), frozenset(item.y)) for item in found}) == len(found) == 8
    assert all(item.passes <= 2 * found[0].passes for item in found)
    assert min(item.passes for item in found) == found[0].passes
    assert found[0].to_dict() == {
        "D1": [f"{name}, {factor}" for name, factor in found[0].x.items()],
        "D2": [f"{name}, {factor}" for name, factor in found[0].y.items()],
    }


def test_a_shared_level_that_feeds_the_array_limits_the_unrolling() -> None:
    # Inputs come from the buffer, 4 words a cycle: rows and reductions of an input go on an axis four at most.
    streaming = changed(ispad={"holds": ["weight"]}, glb={"read_bandwidth": 4})

    found = unrollings(translate(gemm(64, 64, 64).canonical(), streaming.array), streaming, 8)

    assert [(item.x, item.y) for item in found] == [({"B": 2, "K": 7}, {"K": 5, "C": 2})]
    assert unrollings(translate(gemm(64, 64, 64).canonical(), EYERISS.array), EYERISS, 1)[0].passes < found[0].passes


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_choices_fit_the_array_the_loops_and_what_is_allowed(
    rows: int, columns: int, reduction: int, groups: int, x: int, y: int
) -> None:
    data = EYERISS.model_dump(mode="json")
    data["array"] |= {"x": x, "y": y, "x_dims": ["M", "N"], "y_dims": ["C", "M"]}
    arch = from_dict(data)
    layer = translate(gemm(rows, columns, reduction, groups=groups).canonical(), arch.array)
    extents = {loop.name: loop.extent for loop in layer.loops}

    for item in unrollings(layer, arch, 8):
        assert math.prod(item.x.values()) <= x
        assert math.prod(item.y.values()) <= y
        assert set(item.x) <= {"K", "B"}
        assert set(item.y) <= {"C", "K"}
        together = {name: item.x.get(name, 1) * item.y.get(name, 1) for name in extents}
        assert all(together[name] <= extent for name, extent in extents.items())
        assert item.passes == math.prod(-(-extent // together[name]) for name, extent in extents.items())
