"""Cells and streams: what gives way when there is no room, and what a stream that is not Unicode gets."""

from __future__ import annotations

import io

import pytest

from mmworkload.reporting.terminal import Name, bar, bullets, middle, paired_bar, print_out, section, table


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
