"""``mmworkload reproduce``: the list, an item, JSON, files, errors, and the width of a terminal."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mmworkload.cli.app import app
from mmworkload.reporting.units import TIMES
from mmworkload.reproducing import items, reproduce

ROOT = Path(__file__).resolve().parents[2]


def invoke(*arguments: str, code: int = 0) -> str:
    answer = CliRunner().invoke(app, ["reproduce", *arguments])
    assert answer.exit_code == code, answer.output
    return answer.stderr if code else answer.stdout


def test_the_list_has_every_item_within_80_columns() -> None:
    text = invoke()

    assert re.findall(r"^([A-Z]\d+b?) ", text, re.MULTILINE) == [item.id for item in items()]
    assert max(map(len, text.splitlines())) <= 80
    assert [entry["id"] for entry in json.loads(invoke("--json"))] == [item.id for item in items()]


def test_an_item_shows_the_paper_and_ours() -> None:
    text = invoke("d3")

    assert re.search(rf"8\.68{TIMES} +8\.86{TIMES}  modelled: kernels, transformer\n", text)
    assert "Why it differs" in text
    assert "Not shown\n- measured: a result folder of mujoco-push/transformer or mujoco-push/late" in text


def test_an_unknown_item_is_exit_code_2() -> None:
    assert "unknown item 'D44'. Did you mean" in invoke("D44", code=2)
    assert "name what to reproduce" in invoke("--arch", "h200", code=2)
    assert "no measurement in it or below it" in invoke("D4", "--measured", str(ROOT / "workloads"), code=2)


def test_files_are_markdown_and_csv_with_all_digits(tmp_path: Path) -> None:
    assert invoke("D1", "-o", str(tmp_path / "figures")) == f"3 files in {tmp_path / 'figures'}\n"

    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["D1-1.csv", "D1-2.csv", "D1.md"]
    with (tmp_path / "figures" / "D1-1.csv").open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert float(written[-1]["params"]) == 13_998_082 / 584_024
    assert (tmp_path / "figures" / "D1.md").read_text().startswith("## D1: time of encoders, fusion and head")


def test_every_field_of_the_json_is_described() -> None:
    section = (ROOT / "docs" / "reproduce.md").read_text().split("\n## JSON\n")[1]
    named = set(re.findall(r"`(\w+)`", section))
    found = json.loads(invoke("D3", "--json"))

    def names(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        if not isinstance(value, dict):
            return set()
        # The keys of a row are the table's own columns.
        return set(value) | set().union(*(names(item) for key, item in value.items() if key != "rows"))

    assert names(found) <= named
    assert found == json.loads(json.dumps(reproduce("D3").to_dict()))
    assert found["headlines"][0]["ours"][0]["what"] == "kernels, transformer over late"
    assert found["tables"][0]["rows"][0]["kernels"] == 1028
