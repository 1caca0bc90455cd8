"""The contract: keys of jobs, what has to move at least, physical floors and the checks of an answer."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload.arch import Architecture, from_dict
from mmworkload.errors import FormatError, SimulationError, UnknownNameError
from mmworkload.problem import Axis, Operand, Problem, axis, gemm
from mmworkload.simulating.estimate import (
    Estimate,
    Fidelity,
    Job,
    Options,
    check,
    compulsory_elements,
    floors,
    transfer_cycles,
)

JOB = Job("tool", "1", {"in.yaml": "a: 1\n"}, {"effort": "quick"}, 10.0)


def windowed(terms: tuple[tuple[str, int], ...], size: int, low: int, high: int, **extents: int) -> Problem:
    """A problem whose input has one axis of these terms."""
    output = tuple(axis(dim, extent) for dim, extent in extents.items())
    return Problem(
        tuple(extents.items()),
        (
            Operand("Inputs", "input", 8, (Axis(terms, size, low, high),)),
            Operand("Weights", "weight", 8, ()),
            Operand("Outputs", "output", 8, output),
        ),
    )


def estimate(**values: Any) -> Estimate:
    return Estimate(
        **{
            "simulator": "tool",
            "version": "1",
            "cycles": 1,
            "latency_s": 0.0,
            "energy_j": {},
            "utilization": 1.0,
            "traffic_bytes": {},
            "macs": 1,
            **values,
        }
    )


@pytest.mark.parametrize("text", ["a: 1\n\n", "# a comment\na: 1\n", "  # indented\n\na: 1"])
def test_comments_and_blank_lines_do_not_change_a_key(text: str) -> None:
    assert replace(JOB, files={"in.yaml": text}).key == JOB.key


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, files={"in.yaml": "a: 2\n"}),
        replace(JOB, files={"out.yaml": "a: 1\n"}),
        replace(JOB, options={"effort": "normal"}),
        replace(JOB, version="2"),
        replace(JOB, simulator="other"),
    ],
)
def test_whatever_decides_an_answer_changes_the_key(other: Job) -> None:
    assert other.key != JOB.key


def test_the_time_limit_does_not_change_the_key() -> None:
    assert replace(JOB, limit_s=1000.0).key == JOB.key


@pytest.mark.parametrize(
    ("terms", "size", "padding", "extents", "read"),
    [
        ((("P", 1), ("R", 1)), 8, (1, 1), {"P": 8, "R": 3}, 8),  # padding is not read
        ((("P", 2),), 56, (0, 0), {"P": 28}, 28),  # every second element
        ((("P", 2), ("R", 1)), 8, (1, 1), {"P": 4, "R": 3}, 8),
        ((("P", 3), ("R", 1)), 11, (0, 0), {"P": 4, "R": 2}, 8),  # a stride beyond the kernel leaves holes
        ((("P", 1), ("R", 2)), 9, (0, 0), {"P": 5, "R": 3}, 9),  # dilation
        ((("P", 4), ("R", 3)), 13, (0, 0), {"P": 3, "R": 2}, 6),
        ((("P", 1),), 5, (-2, 0), {"P": 3}, 3),  # starts two elements in
        ((), 7, (0, 0), {"P": 3}, 1),  # touched at one index
        ((("P", 5), ("R", 1)), 2_400_005, (0, 0), {"P": 480_000, "R": 10}, 2_400_005),
        ((("P", 1),), 10**12, (0, 0), {"P": 10**12}, 10**12),
        ((("P", 1),), 16, (-(10**12), 10**12), {"P": 16}, 0),  # all of it is cropped
    ],
)
def test_of_an_input_only_what_the_loops_read_is_compulsory(
    terms: tuple[tuple[str, int], ...], size: int, padding: tuple[int, int], extents: dict[str, int], read: int
) -> None:
    problem = windowed(terms, size, *padding, **extents)

    assert compulsory_elements(problem, problem.operand("Inputs")) == read


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_compulsory_elements_are_those_that_enumeration_finds(
    loops: list[tuple[int, int]], low: int, high: int
) -> None:
    terms = tuple(zip("PQR", (coefficient for coefficient, _ in loops), strict=False))
    extents = dict(zip("PQR", (extent for _, extent in loops), strict=False))
    span = sum(coefficient * (extent - 1) for coefficient, extent in loops) + 1
    size = max(1, span - low - high)
    problem = windowed(terms, size, low, high, **extents)
    points = itertools.product(*(range(extent) for _, extent in loops))
    indices = {sum(c * i for (c, _), i in zip(loops, point, strict=True)) - low for point in points}

    assert compulsory_elements(problem, problem.operand("Inputs")) == len(indices & set(range(size)))


def test_of_an_output_everything_is_written() -> None:
    # A transposed convolution of stride 3 and kernel 2 leaves holes, which are written as zeros.
    scattered = Operand("Outputs", "output", 8, (Axis((("P", 3), ("R", 1)), 11),))
    problem = Problem(
        (("P", 4), ("R", 2)),
        (Operand("Inputs", "input", 8, (axis("P", 4),)), Operand("Weights", "weight", 8, (axis("R", 2),)), scattered),
    )

    assert compulsory_elements(problem, problem.output) == 11


def test_a_diagonal_is_not_counted_as_the_whole_matrix() -> None:
    problem = Problem(
        (("N", 5),),
        (Operand("Inputs", "input", 8, (axis("N", 5), axis("N", 5))), Operand("Outputs", "output", 8, (axis("N", 5),))),
    )

    assert compulsory_elements(problem, problem.operand("Inputs")) == 5


@pytest.mark.parametrize(
    ("bits", "words_per_cycle", "cycles"),
    [(80, 2.0, 5), (81, 2.0, 6), (8, 0.5, 2), (8, 0.3, 4), (24, 0.3, 10), (4, 0.05, 10), (1000, None, 0), (0, 1.0, 0)],
)
def test_transfers_take_whole_cycles_at_fractional_bandwidths(
    bits: int, words_per_cycle: float | None, cycles: int
) -> None:
    assert transfer_cycles(bits, 8, words_per_cycle) == cycles


def test_the_floors_are_macs_over_elements_and_bytes_over_bandwidth(small: Architecture) -> None:
    problem = gemm(6, 10, 4, bits=(8, 8, 8))

    found = floors(problem, small)

    assert found.compute == 6 * 10 * 4 // 8
    # Read 6*4 + 10*4 words at 2 a cycle, written 6*10 words at 1 a cycle.
    assert found.memory == max((24 + 40) // 2, 60)
    assert (found.cycles, found.bound) == (60, "memory")


def test_an_answer_below_a_floor_is_raised_and_keeps_its_own(small: Architecture) -> None:
    problem = gemm(6, 10, 4, bits=(8, 8, 8))

    raised = check(estimate(cycles=59, macs=240), problem, small)

    assert (raised.cycles, raised.floored_from, raised.bound) == (60, 59, "memory")
    assert raised.latency_s == pytest.approx(60e-6)
    assert raised.utilization == 240 / (60 * 8)


def test_an_answer_that_was_raised_before_keeps_the_first_value(small: Architecture) -> None:
    problem = gemm(6, 10, 4, bits=(8, 8, 8))

    assert check(estimate(cycles=59, macs=240, floored_from=12), problem, small).floored_from == 12


def test_an_answer_at_the_floor_is_taken_as_it_is(small: Architecture) -> None:
    problem = gemm(6, 10, 4, bits=(8, 8, 8))
    answer = estimate(cycles=60, macs=240, utilization=0.5)

    assert check(answer, problem, small) == replace(answer, bound="memory")


@pytest.mark.parametrize(("macs", "tolerance", "right"), [(241, 0.0, False), (239, 0.0, False), (241, 0.01, True)])
def test_a_wrong_count_of_macs_is_an_error(small: Architecture, macs: int, tolerance: float, right: bool) -> None:
    problem = gemm(6, 10, 4, bits=(8, 8, 8))

    def checked() -> int:
        return check(estimate(cycles=60, macs=macs), problem, small, mac_tolerance=tolerance).macs

    if right:
        assert checked() == macs
    else:
        with pytest.raises(SimulationError, match=f"tool counted {macs} MACs where the problem has 240"):
            checked()


def test_a_slow_memory_does_not_divide_by_zero(spec: dict[str, Any]) -> None:
    spec["levels"]["dram"]["read_bandwidth"] = 0.01

    assert floors(gemm(1, 1, 1, bits=(8, 8, 8)), from_dict(spec)).memory == math.ceil(2 / 0.01)


def test_an_estimate_survives_its_dictionary() -> None:
    answer = estimate(includes=("compute",), traffic_bytes={"dram": {"input": 3}}, energy_j={"mac": 0.5, "dram": 1.5})

    assert Estimate.from_dict(answer.to_dict()) == answer
    assert answer.total_energy_j == 2.0
    assert estimate().total_energy_j is None


def test_an_incomplete_estimate_is_a_format_error() -> None:
    with pytest.raises(FormatError, match="not an estimate"):
        Estimate.from_dict({"cycles": 3})


def test_options_refuse_an_unknown_effort_and_a_limit_of_nothing() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean quick"):
        Options(effort="quik")
    with pytest.raises(SimulationError, match="above zero"):
        Options(limit_s=0)


def test_fidelity_says_what_is_lost() -> None:
    assert str(Fidelity("exact")) == "exact"
    assert str(Fidelity("approximate", ("a", "b"))) == "approximate (a; b)"
