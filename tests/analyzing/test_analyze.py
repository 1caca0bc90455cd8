"""The verb and the command: errors that say what to do, tables, JSON, CSV, and the page."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmworkload.analyzing import COLUMNS, ELSEWHERE, VIEWS, analyze
from mmworkload.analyzing.page import page
from mmworkload.analyzing.taken import STALLS, WEIGHTED, WORK
from mmworkload.cli.app import app
from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.measuring.folder import Result, save
from mmworkload.reporting.tables.analysis import analysis_tables
from mmworkload.reporting.terminal import print_out

ROOT = Path(__file__).resolve().parents[2]
RUN = "mmworkload measure toy/late --batch 8 --dtype float32 --device cuda -o result/"


@pytest.fixture
def folder(counted: Result, tmp_path: Path) -> str:
    save(counted, tmp_path / "result")
    return str(tmp_path / "result")


def invoke(*arguments: str, code: int = 0) -> str:
    answer = CliRunner().invoke(app, ["analyze", *arguments])
    assert answer.exit_code == code, answer.output
    return answer.stderr if code else answer.stdout


def test_an_unknown_view_names_the_nearest(result: Result) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown analysis 'A19'. Did you mean .*A1"):
        analyze("a19", result)


@pytest.mark.parametrize("item", ELSEWHERE, ids=lambda item: item.id)
def test_what_needs_data_says_so(item: object, result: Result) -> None:
    with pytest.raises(MmworkloadError, match="needs trained weights and the data set"):
        analyze(item.id, result)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("view", "missing", "option"),
    [("A4", "layer graph", ""), ("D1", "kernels", ""), ("A13", "kernels", ""), ("D3", "stage level", "")],
)
def test_a_missing_level_says_what_to_run(view: str, missing: str, option: str, result: Result) -> None:
    with pytest.raises(MmworkloadError) as error:
        analyze(view, Result(result.measurement))
    assert str(error.value) == (
        f"the measurement of toy/late at batch 8 has no {missing}. Measure it into a folder: {RUN}{option}"
    )


def test_missing_host_activities_and_counters_say_what_to_run(result: Result) -> None:
    with pytest.raises(MmworkloadError, match="has no host activities"):
        analyze("A11", replace(result, host=None))
    with pytest.raises(MmworkloadError, match=r"has no stall counters\. Read them .* --counters$"):
        analyze("D12", result)


def test_no_result_is_an_error() -> None:
    with pytest.raises(MmworkloadError, match="A1 is of a result"):
        analyze("A1", [])


def test_every_column_is_in_the_glossary_and_used() -> None:
    """The number type stands in front of the tables of several results alone."""
    used = {name for view in VIEWS.values() for name in view.columns} | {"dtype"}

    assert used <= set(COLUMNS)
    assert all(set(view.largest) <= set(view.columns) for view in VIEWS.values())
    assert set(COLUMNS) == used


def test_the_command_prints_json_that_is_the_frame(folder: str) -> None:
    found = json.loads(invoke("A11", folder, "--arch", "h200", "--json"))
    rows = {row["layer"]: row for row in found["rows"]}

    assert [column["name"] for column in found["columns"]] == list(VIEWS["A11"].columns)
    assert {column["unit"] for column in found["columns"] if column["name"].endswith("_s")} == {"s"}
    assert rows["image"]["flops"] == 10000
    assert rows["image"]["memory_bound"] is True
    assert rows[""]["memory_bound"] is None
    assert rows["audio"]["occupancy"] is None


def test_the_command_prints_csv(folder: str) -> None:
    rows = list(csv.DictReader(io.StringIO(invoke("D9a", folder, "--csv"))))

    assert [row["kernels"] for row in rows] == ["2", "3", "1", "1"]
    assert list(rows[0]) == list(VIEWS["D9a"].columns)


def test_json_and_csv_together_are_refused(folder: str) -> None:
    assert "give one of them" in invoke("D1", folder, "--csv", "--json", code=2)


@pytest.mark.parametrize("view", [name for name in VIEWS if name != "D3"])
def test_tables_are_at_most_eighty_wide(view: str, counted: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    print_out(*analysis_tables(VIEWS[view], analyze(view, counted, arch="h200")), stream=stream)
    text = stream.getvalue()

    assert VIEWS[view].title in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_long_table_shows_the_largest_rows_in_their_order(result: Result) -> None:
    frame = analyze("A3", result)
    many = frame.loc[frame.index.repeat(6)].reset_index(drop=True).assign(index=range(30))
    many.attrs = frame.attrs

    def lines(every: bool) -> list[str]:
        stream = io.StringIO()
        print_out(*analysis_tables(VIEWS["A3"], many, every=every), stream=stream)
        return stream.getvalue().splitlines()

    cut = lines(False)
    assert any("The 20 largest of 30 rows" in line for line in cut)
    assert not any(line.split()[1:2] == ["relu"] for line in cut)
    assert sum(line.split()[1:2] == ["relu"] for line in lines(True)) == 6


def test_the_list_says_what_a_result_allows(folder: str, result: Result, tmp_path: Path) -> None:
    save(Result(result.measurement), tmp_path / "bare.json")
    plain = {view["id"]: view for view in json.loads(invoke("--list", "--json"))}
    bare = {view["id"]: view for view in json.loads(invoke("--list", str(tmp_path / "bare.json"), "--json"))}

    assert list(plain) == list(VIEWS)
    assert {view["possible"] for view in plain.values()} == {None}
    assert [name for name, view in bare.items() if view["possible"]] == ["A1", "D9b", "D10", "D11"]
    assert bare["A11"]["missing"] == ["layer graph", "kernels", "host activities"]
    assert bare["A11"]["advice"] == ["Measure it into a folder: mmworkload measure NAME -o FOLDER"]
    text = invoke("--list", folder)
    assert "lacks stage level" in text
    for item in ELSEWHERE:
        assert item.id in text


def test_the_list_says_where_columns_of_hardware_counters_stay_empty(
    folder: str, result: Result, tmp_path: Path
) -> None:
    assert result.kernels is not None
    counters = [name for name in (*WORK, *WEIGHTED, *STALLS) if name in result.kernels]
    save(replace(result, kernels=result.kernels.assign(**dict.fromkeys(counters, float("nan")))), tmp_path / "bare")
    read = {view["id"]: view for view in json.loads(invoke("--list", folder, "--json"))}
    bare = {view["id"]: view for view in json.loads(invoke("--list", str(tmp_path / "bare"), "--json"))}

    assert {view["without_counters"] for view in read.values()} == {False}
    assert [name for name in bare if bare[name]["without_counters"]] == [name for name in VIEWS if VIEWS[name].counters]
    assert bare["A8"]["possible"]
    assert "yes, without hardware" in " ".join(invoke("--list", str(tmp_path / "bare")).split())


def test_the_committed_page_is_what_the_registry_says() -> None:
    assert (ROOT / "docs" / "analyses.md").read_text() == page(), (
        "write it again: python -m mmworkload.analyzing.page docs/analyses.md"
    )


def test_the_page_has_a_row_for_every_analysis() -> None:
    text = page()
    for name in (*VIEWS, *(item.id for item in ELSEWHERE)):
        assert f"\n| {name} | " in text
