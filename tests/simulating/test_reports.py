"""Reports without measuring: ``simulate -o``, and several architectures in one run."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmworkload import verbs
from mmworkload.cli.app import app
from mmworkload.errors import MmworkloadError, SimulationError

GRAPH = Path(__file__).resolve().parents[2] / "shapes" / "av-mnist" / "concat.yaml"


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["simulate", str(GRAPH), "-s", "roofline", *map(str, args)], env={"COLUMNS": "80"})


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_csv_has_a_row_a_layer_with_energy_by_component_and_dram_traffic(tmp_path: Path) -> None:
    result = run("-a", "eyeriss_like", "-o", tmp_path / "out.csv", "--json")
    assert result.exit_code == 0, result.stderr
    data, found = json.loads(result.stdout), rows((tmp_path / "out.csv").read_text())

    assert [row["layer"] for row in found] == [row["layer"] for row in data["layers"]]
    assert sum(int(row["macs"]) for row in found) == 11_993_032
    assert sum(int(row["dram_bytes"]) for row in found) == data["dram_bytes"]
    assert sum(int(row["traffic_dram_bytes"]) for row in found) == data["dram_bytes"]
    by_component = {
        name: sum(float(row[f"energy_{name}_j"]) for row in found) for name in data["energy_by_component_j"]
    }
    assert by_component == pytest.approx(data["energy_by_component_j"])
    assert sum(by_component.values()) == pytest.approx(data["energy_j"])


def test_json_and_parquet_hold_the_same(tmp_path: Path) -> None:
    import pandas

    for suffix in ("json", "parquet", "csv"):
        assert run("-a", "eyeriss_like", "-o", tmp_path / f"out.{suffix}").exit_code == 0
    data = json.loads((tmp_path / "out.json").read_text())
    frame = pandas.read_parquet(tmp_path / "out.parquet")

    assert data["schema_version"] == 2
    assert frame["energy_j"].sum() == pytest.approx(data["energy_j"])
    assert list(frame.columns) == list(rows((tmp_path / "out.csv").read_text())[0])


def test_several_architectures_stand_side_by_side(tmp_path: Path) -> None:
    result = run("-a", "eyeriss_like,h100", "-a", "tpu_like", "--json", "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    alone = json.loads(run("-a", "tpu_like", "--json").stdout)

    assert [item["arch"] for item in data["simulations"]] == ["eyeriss_like", "h100", "tpu_like"]
    assert data["macs"] == 11_993_032
    assert data["simulations"][2]["serial_latency_s"] == alone["serial_latency_s"]
    assert data["simulations"][1]["energy_j"] is None
    found = rows((tmp_path / "out.csv").read_text())
    assert [row["arch"] for row in found] == [name for name in ("eyeriss_like", "h100", "tpu_like") for _ in range(54)]
    assert {row["energy_j"] for row in found if row["arch"] == "h100"} == {""}


def test_the_terminal_has_a_column_an_architecture() -> None:
    lines = run("-a", "eyeriss_like,tpu_like").stdout.splitlines()
    data = json.loads(run("-a", "eyeriss_like,tpu_like", "--json").stdout)

    assert max(map(len, lines)) <= 80
    start = lines.index("Energy by component")
    assert lines[start + 1].split() == ["component", "1", "2"]
    (mac,) = [line.split() for line in lines[start:] if line.startswith("mac ")]
    assert [float(mac[1]), float(mac[3])] == pytest.approx(
        [1e6 * item["energy_by_component_j"]["mac"] for item in data["simulations"]], rel=0.005
    )
    assert {"Latency by stage", "Energy by stage", "DRAM traffic by stage"} <= set(lines)


def test_one_system_of_several_architectures_is_one(tmp_path: Path) -> None:
    data = json.loads(run("-a", "encoder/image=nvdla_like,*=eyeriss_like", "--json").stdout)
    both = json.loads(run("-a", "encoder/image=nvdla_like,*=eyeriss_like,tpu_like", "--json").stdout)

    assert {row["arch"] for row in data["layers"]} == {"nvdla_like", "eyeriss_like"}
    assert [len({row["arch"] for row in item["layers"]}) for item in both["simulations"]] == [2, 1]


def test_a_page_needs_nothing_else_and_has_every_simulation(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    assert run("-a", "eyeriss_like,tpu_like", "-o", page).exit_code == 0
    text = page.read_text()

    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|@import|url\((?!#)""", text)
    assert text.count('<section class="comparison"') == 2
    assert text.count('<svg role="img"') + text.count("<svg ") >= 4
    table = text.split('data-name="layers on tpu_like, roofline"')[1].split("</table>")[0]
    assert table.count("<tr>") == 1 + 54
    assert "energy, mac" in table
    total = text.split('data-name="stages on eyeriss_like, roofline"')[1].split("</table>")[0].split(">total<")[1]
    data = json.loads(run("-a", "eyeriss_like", "--json").stdout)
    # Layers, MACs, seconds, share, joules, bytes, busy, and then the components.
    numbers = [float(value) for value in re.findall(r'data-v="([^"]+)"', total)]
    assert numbers[:6] == pytest.approx(
        [54, 11_993_032, data["serial_latency_s"], 1, data["energy_j"], data["dram_bytes"]]
    )
    assert numbers[7:] == pytest.approx(list(data["energy_by_component_j"].values()))


@pytest.mark.parametrize("name", ["out.pdf", "out", "taken"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(verbs, "simulate_all", worked)
    (tmp_path / "taken").write_text("a file, not a folder")
    output = tmp_path / "taken" / "out.csv" if name == "taken" else tmp_path / name
    result = run("-a", "eyeriss_like", "-o", output)

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert sorted(item.name for item in tmp_path.iterdir()) == ["taken"]


def test_who_cannot_answer_is_named_and_none_is_an_error() -> None:
    found = verbs.simulate_all(str(GRAPH), ["h100", "eyeriss_like"], ["roofline", "scalesim"])
    assert [(item.arch, item.simulator, item.simulation is None) for item in found.asked] == [
        *(("h100", "roofline", False), ("h100", "scalesim", True)),
        *(("eyeriss_like", "roofline", False), ("eyeriss_like", "scalesim", False)),
    ]
    data = found.to_dict()
    assert [(item["arch"], item["simulator"]) for item in data["unanswered"]] == [("h100", "scalesim")]
    assert data["unanswered"][0]["reason"]
    with pytest.raises(SimulationError, match="scalesim on h100"):
        verbs.simulate_all(str(GRAPH), ["h100", "a100"], ["scalesim"])
    with pytest.raises(MmworkloadError, match="scalesim: takes no architecture"):
        verbs.simulate_all(str(GRAPH), ["h100"], ["scalesim"])
