"""The width of a text in print, from the font's own figures."""

from __future__ import annotations

import pytest

from mmworkload.reporting.text_width import shorten, text_width


def test_a_width_is_the_sum_of_the_advances_of_helvetica() -> None:
    # Adobe's font metrics: H 722, e 556, l 222, v 500, t 278, i 222, c 500, a 556; four per cent of slack.
    advances = 722 + 556 + 222 + 500 + 556 + 278 + 222 + 500 + 556

    assert text_width("Helvetica", 10) == pytest.approx(advances / 1000 * 10 * 1.04)
    assert text_width("1\N{MULTIPLICATION SIGN}2", 10) == pytest.approx((556 + 584 + 556) / 100 * 1.04)


def test_bold_and_wide_letters_are_wider() -> None:
    assert text_width("abc", 7, bold=True) > text_width("abc", 7)
    assert text_width("画像", 7) == pytest.approx(2 * 7 * 1.04)


@pytest.mark.parametrize("width", [20.0, 33.3, 61.0])
def test_a_text_is_shortened_just_as_far_as_needed(width: float) -> None:
    text = "encoders.image.blocks.11.attention"
    short = shorten(text, width, 7)

    assert text_width(short, 7) <= width
    longer = len(short) + 1
    assert any(text_width(f"{text[:k]}…{text[len(text) - (longer - 1 - k) :]}", 7) > width for k in range(longer - 1))
    assert short[0] == "e"
    assert short[-1] == "n"
    assert "…" in short


def test_a_text_that_fits_stays_and_one_that_cannot_keeps_three_characters() -> None:
    assert shorten("image", 100, 7) == "image"
    assert shorten("image", 0.1, 7) == "i…e"
