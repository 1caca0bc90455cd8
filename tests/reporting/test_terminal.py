"""Cells and streams: what gives way when there is no room, and what a stream that is not Unicode gets."""

from __future__ import annotations

import io

import pytest

from mmworkload.reporting.shortening import middle
from mmworkload.reporting.terminal import Items, Name, Prose, bar, bullets, facts, paired_bar, print_out, section, table


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("encoders.image.convs.0", 22, "encoders.image.convs.0"),
        ("encoders.image.convs.0", 12, "encod…onvs.0"),
        ("abcdef", 3, "a…f"),
        ("abcdef", 2, "ab"),
    ],
)
def test_names_are_shortened_in_the_middle(text: str, width: int, short: str) -> None:
    assert middle(text, width) == short
    assert len(middle(text, width)) <= width


def test_bars_are_as_long_as_the_share() -> None:
    assert bar(0.5, 4) == "██"
    assert bar(0.375, 4) == "█▌"
    assert bar(None) == ""
    assert paired_bar(0.5, 0.25, 8) == "██▀▀"
    assert paired_bar(0.25, 0.5, 8) == "██▄▄"


def printed(monkeypatch: pytest.MonkeyPatch, columns: int, *parts: object, encoding: str = "utf-8") -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    print_out(*parts, stream=stream)  # type: ignore[arg-type]
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_a_name_gives_way_and_numbers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[Name("encoders.image.blocks.11.attention.projection"), "12.3 MB"]]

    assert "encoders.image.blocks.11.attention.projection   12.3 MB\n" in printed(
        monkeypatch, 80, table(["<layer", ">bytes"], rows)
    )
    narrow = printed(monkeypatch, 30, table(["<layer", ">bytes"], rows)).splitlines()
    assert max(map(len, narrow)) == 30
    assert narrow[-1] == "encoders….projection   12.3 MB"


def test_a_table_that_does_not_fit_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, 12, table(["<layer", ">bytes", ">time"], [[Name("convolution"), "12.3 MB", "1.5 s"]]))

    assert text.splitlines()[-1].split() == ["conv…ution", "12.3", "MB", "1.5", "s"]


def test_ascii_streams_get_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    content = section("Ωmega", table(["<a", ">b"], [["2 µs", "3\N{MULTIPLICATION SIGN}"]]), paired_bar(1, 0.5, 4))

    lines = printed(monkeypatch, 80, content, encoding="ascii").splitlines()
    assert lines[0] == "?mega"
    assert lines[-2].replace("|", " ").split() == ["2", "us", "3x"]
    assert lines[-1] == "##''"


def test_text_is_taken_literally(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, 80, section("[bold]x[/bold]", "[red]y[/]", bullets(["[0] :smile:"])))

    assert text == "[bold]x[/bold]\n[red]y[/]\n- [0] :smile:\n"


HOSTILE = "m\x1b]0;OWNED\x07\x1b[2J\r\nsecond\u202eline"
WRITTEN = r"m\x1b]0;OWNED\x07\x1b[2J\r\nsecond\u202eline"


def test_no_part_of_a_page_lets_a_name_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(
        monkeypatch,
        200,
        section(HOSTILE, HOSTILE, table(["<layer", "<what"], [[Name(HOSTILE), HOSTILE], [HOSTILE, Prose(HOSTILE)]])),
        facts([(HOSTILE, HOSTILE), ("inputs", Items([HOSTILE, HOSTILE]))]),
        bullets([HOSTILE]),
    )

    assert text.count(WRITTEN) == 11
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_name_with_a_line_feed_is_one_row_of_the_right_width(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 80, table(["<layer", ">bytes"], [[Name("a\nb"), "1 B"], [Name("c"), "12 B"]]))

    assert lines.splitlines()[2:] == ["a\\nb      1 B", "c        12 B"]


def test_names_that_a_table_shortens_stay_different(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"encoder.layers.{index}.attention.{part}.weight_of_projection" for index in range(12) for part in "qkv"]
    text = printed(monkeypatch, 30, table(["<layer", ">bytes"], [[Name(name), "12.3 MB"] for name in names]))

    rows = [line.split()[0] for line in text.splitlines()[2:]]
    assert len(rows) == len(set(rows)) == 36
    assert max(map(len, text.splitlines())) == 30
