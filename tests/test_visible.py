"""What is written out of a text before it is shown, and what is left."""

from __future__ import annotations

import pytest

from mmworkload.errors import ModelError, UnknownNameError, one_line
from mmworkload.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain_name.0", "plain_name.0"),
        ("Größe 5\xd77 µs \u2013 表", "Größe 5\xd77 µs \u2013 表"),
        ("\x1b]0;OWNED\x07\x1b[2J", r"\x1b]0;OWNED\x07\x1b[2J"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("\x9b2J", r"\x9b2J"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("\u2066a\u2069 \u200b", r"\u2066a\u2069 \u200b"),
        ("two\u2028lines", r"two\u2028lines"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_what_steers_is_written_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\u2028b", "a\x0bb", "a\x85b"])
def test_an_error_is_one_line_whatever_name_is_in_it(name: str) -> None:
    for error in (ModelError(f"{name}: no"), UnknownNameError("workload", name, ["av-mnist"]), ValueError(name)):
        assert len(one_line(error).splitlines()) == 1
        assert one_line(error).isprintable()


def test_an_unknown_name_is_written_out_in_full() -> None:
    assert str(UnknownNameError("workload", "a\nb\x1b[2J", ["z"])).startswith(r"unknown workload 'a\nb\x1b[2J'. ")


def test_where_nothing_is_known_no_empty_list_is_given() -> None:
    assert str(UnknownNameError("parameter", "tokens", [])) == "unknown parameter 'tokens'. There is none."
