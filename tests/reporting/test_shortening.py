"""Names in little room: within the width, and never two alike."""

from __future__ import annotations

import random

import pytest

from mmworkload.reporting.shortening import middle, shortened


@pytest.mark.parametrize("width", [5, 8, 12, 20, 30, 45])
def test_names_of_a_transformer_stay_different_at_any_width(width: int) -> None:
    names = [f"encoder.layers.{index}.attention.{part}.weight_of_projection" for index in range(14) for part in "qkv"]
    shown = shortened(names, width)

    assert len(set(shown.values())) == len(names)
    assert max(map(len, shown.values())) <= width


def test_what_tells_names_apart_is_what_is_shown() -> None:
    names = [f"encoder.layers.{index}.attention.{part}.weight_of_projection" for index in (0, 11) for part in "qk"]

    assert list(shortened(names, 20).values()) == [
        "encoder…0…q…ojection",
        "encoder…0…k…ojection",
        "encoder…11…q…jection",
        "encoder…11…k…jection",
    ]


def test_names_that_the_usual_way_tells_apart_are_shortened_so() -> None:
    names = ["encoders.image.convs.0", "encoders.image.convs.1", "head"]

    assert shortened(names, 12) == {name: middle(name, 12) for name in names}


def test_any_names_stay_different_within_the_width() -> None:
    choice = random.Random(1)
    for _ in range(100):
        names = list({"".join(choice.choice("ab.") for _ in range(choice.randint(1, 60))) for _ in range(50)})
        for width in (10, 20):
            shown = shortened(names, width)
            assert len(set(shown.values())) == len(names)
            assert max(map(len, shown.values())) <= width


def test_a_difference_deep_inside_is_shown_where_no_end_reaches_it() -> None:
    names = ["a" * 40 + letter + "b" * 40 for letter in "xyz"]

    assert [set("xyz") & set(text) for text in shortened(names, 20).values()] == [{"x"}, {"y"}, {"z"}]
