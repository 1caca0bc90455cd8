"""Different values of sums of multiples, counted in closed form and one by one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload.counting import distinct_sums
from mmworkload.errors import FormatError

FAR = 10**12


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 7)), max_size=4),
    st.integers(-5, 60),
    st.none() | st.integers(-5, 90),
)
def test_the_values_in_a_window_are_those_that_enumeration_finds(
    terms: list[tuple[int, int]], low: int, high: int | None
) -> None:
    points = itertools.product(*(range(extent) for _, extent in terms))
    values = {sum(c * i for (c, _), i in zip(terms, point, strict=True)) for point in points}

    assert distinct_sums(terms, low, high) == sum(low <= value and (high is None or value < high) for value in values)


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.integers(2, 40), st.integers(2, 40)), st.tuples(st.integers(2, 60), st.integers(2, 60)))
def test_two_strides_that_overlap_are_counted_with_all_their_gaps(
    strides: tuple[int, int], extents: tuple[int, int]
) -> None:
    values = {strides[0] * i + strides[1] * j for i in range(extents[0]) for j in range(extents[1])}

    assert distinct_sums(zip(strides, extents, strict=True)) == len(values)


@pytest.mark.parametrize(
    ("terms", "low", "high", "count"),
    [
        ([(1, FAR)], 0, None, FAR),
        ([(7, FAR)], 0, 7 * FAR - 6, FAR),
        ([(1, 16)], -FAR, 16 - FAR, 0),
        ([(2, FAR), (1, 3)], 1, 2 * FAR + 1, 2 * FAR),
        ([(3, FAR), (1, 2)], 0, None, 2 * FAR),  # holes
        # All but the (2 - 1)(3 - 1) / 2 = 1 value that 2i + 3j never takes, at either end.
        ([(2, FAR), (3, FAR)], 0, None, 5 * (FAR - 1) + 1 - 2),
        ([(FAR, FAR), (2, 5), (3, 7)], 0, None, FAR * 25),
        ([], 0, None, 1),
    ],
)
def test_far_extents_are_counted_in_closed_form(
    terms: list[tuple[int, int]], low: int, high: int | None, count: int
) -> None:
    assert distinct_sums(terms, low, high) == count


def test_what_has_no_closed_form_is_counted_up_to_a_bound_that_the_error_names() -> None:
    # 6, 10 and 15 leave out 1 to 5, 7 to 9, 11, 13, 14, 17, 19, 23 and 29, at either end.
    assert distinct_sums([(6, 5000), (10, 5000), (15, 5000)]) == 31 * 4999 + 1 - 2 * 15

    with pytest.raises(FormatError, match=r"2\^27"):
        distinct_sums([(6, FAR), (10, FAR), (15, FAR)])
