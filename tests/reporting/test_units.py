"""Numbers for readers, digit by digit."""

from __future__ import annotations

import pytest

from mmworkload.reporting.units import binary, coefficient, plural, share, si, times


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.2e9, "MAC", "1.20 GMAC"),
        (11_503_104, "MAC", "11.5 MMAC"),
        (0, "B", "0 B"),
        (0.0, "s", "0 s"),
        (1, "B", "1 B"),
        (999, "B", "999 B"),
        (1000, "B", "1.00 kB"),
        (999.4, "B", "999 B"),
        # What rounds to a thousand takes the next prefix.
        (999.7, "B", "1.00 kB"),
        (999_700, "B", "1.00 MB"),
        (2.5e-5, "s", "25.0 µs"),
        (1.0, "s", "1.00 s"),
        (0.001, "s", "1.00 ms"),
        (3.14159e-12, "J", "3.14 pJ"),
        (-1500, "B", "-1.50 kB"),
        (1e-16, "s", "1.00e-16 s"),
        (1e22, "s", "1.00e+22 s"),
        (123_456, "", "123 k"),
        (24, "", "24"),
        (None, "s", "\N{EN DASH}"),
    ],
)
def test_si(value: float | None, unit: str, text: str) -> None:
    assert si(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123, "12.3 %"),
        (0.0, "0.0 %"),
        (0.0004, "<0.1 %"),
        (0.0005, "0.1 %"),
        (1.0, "100.0 %"),
        (None, "\N{EN DASH}"),
    ],
)
def test_share(value: float | None, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.094, "4.09"),
        (12.34, "12.3"),
        (0.01234, "0.0123"),
        (0.9999, "1.00"),
        (99.96, "100"),
        (1234.5, "1,230"),
        (0.0, "0"),
    ],
)
def test_times(value: float, text: str) -> None:
    assert times(value) == f"{text}\N{MULTIPLICATION SIGN}"


def test_a_missing_ratio_is_a_dash() -> None:
    assert times(None) == "\N{EN DASH}"


def test_coefficient_and_plural() -> None:
    assert coefficient(0.876) == "0.88"
    assert coefficient(None) == "\N{EN DASH}"
    assert plural(1, "layer") == "1 layer"
    assert plural(1200, "layer") == "1,200 layers"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (80 * 2**30, "80 GiB"), (2**52, "4096 TiB")]
)
def test_memory_is_in_binary_units(size: int, text: str) -> None:
    assert binary(size) == text
