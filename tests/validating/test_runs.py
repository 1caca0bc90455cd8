"""Two runs side by side: measurements and simulations as they are saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.simulating.engine import simulate
from mmworkload.validating.runs import compare_runs, load_run

ROWS = [("a", "Gemm", "encoder/x", 100, 0), ("b", "Relu", "head", 0, 5000)]


@pytest.fixture
def files(tmp_path: Path, chain: Any, measured: Any, device: Any) -> dict[str, Path]:
    graph = chain("one", ROWS)
    measured(graph, {"a": 3.0, "b": 1.0}).save(tmp_path / "first.json")
    measured(chain("one", ROWS[:1], 4), {"a": 1.0}).save(tmp_path / "second.json")
    simulation = simulate(graph, device, "roofline", cache=False)
    (tmp_path / "simulated.json").write_text(json.dumps(simulation.to_dict()))
    return {name: tmp_path / f"{name}.json" for name in ("first", "second", "simulated")}


def test_two_measurements(files: dict[str, Path]) -> None:
    found = compare_runs(load_run(files["first"]), load_run(files["second"]))

    a, b = found.layers
    assert (a.first_s, a.second_s, a.ratio, a.first_share, a.second_share) == (
        3.0,
        1.0,
        pytest.approx(1 / 3),
        0.75,
        1.0,
    )
    assert (b.second_s, b.ratio) == (None, None)
    assert [item.name for item in found.stages] == ["encoder/x", "head"]
    assert found.first.total_s == 4.0
    assert found.first.whole_s == pytest.approx(4.4)
    assert found.differences == ("batch: 1 and 4",)


def test_two_simulations(files: dict[str, Path], chain: Any, device: Any) -> None:
    run = load_run(files["simulated"])
    found = compare_runs(run, run)

    wanted = simulate(chain("one", ROWS), device, "roofline", cache=False)
    assert found.first.total_s == pytest.approx(wanted.serial_latency_s)
    assert (found.first.energy_j, found.first.dram_bytes) == (wanted.energy_j, wanted.dram_bytes)
    assert all(item.ratio == 1 for item in found.layers)
    assert found.differences == ()


def test_two_simulations_have_energy_by_component_and_dram_traffic_side_by_side(tmp_path: Path, chain: Any) -> None:
    from mmworkload import arch
    from mmworkload.cli.app import app

    graph = chain("one", ROWS)
    made = {}
    for name in ("eyeriss_like", "tpu_like"):
        made[name] = simulate(graph, arch.load(name), "roofline", cache=False)
        (tmp_path / f"{name}.json").write_text(json.dumps(made[name].to_dict()))
    files = [str(tmp_path / f"{name}.json") for name in made]
    data = json.loads(CliRunner().invoke(app, ["compare", "--json", *files]).stdout)
    first, second = made.values()
    energy = {row["component"]: row for row in data["energy"]}

    assert [data[run]["energy_j"] for run in ("first", "second")] == [first.energy_j, second.energy_j]
    assert [data[run]["dram_bytes"] for run in ("first", "second")] == [first.dram_bytes, second.dram_bytes]
    assert set(energy) == {*first.energy_by_component_j, *second.energy_by_component_j}
    pair = (first.energy_by_component_j["dram"], second.energy_by_component_j["dram"])
    assert (energy["dram"]["first_j"], energy["dram"]["second_j"]) == pair
    assert energy["dram"]["ratio"] == pytest.approx(pair[1] / pair[0])
    assert (energy["wspad"]["second_j"], energy["wspad"]["ratio"]) == (None, None)
    lines = CliRunner().invoke(app, ["compare", *files], env={"COLUMNS": "80"}).stdout.splitlines()
    assert lines[lines.index("Energy by component") + 1].split() == ["component", "first", "second", "second/first"]


def test_a_file_of_several_simulations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "several.json").write_text('{"schema_version": 2, "simulations": []}')
    with pytest.raises(FormatError, match="several simulations"):
        load_run(tmp_path / "several.json")


def test_runs_of_two_kinds_and_damaged_files_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MmworkloadError, match="validate --measured"):
        compare_runs(load_run(files["first"]), load_run(files["simulated"]))
    (tmp_path / "broken.json").write_text('{"schema_version": 2, "serial_latency_s": 1, "layers": [{}]}')
    with pytest.raises(FormatError, match=r"broken.json: not a complete simulation"):
        load_run(tmp_path / "broken.json")
    with pytest.raises(FormatError, match=r"nowhere.json"):
        load_run(tmp_path / "nowhere.json")
    earlier = json.loads(files["simulated"].read_text()) | {"schema_version": 1}
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    with pytest.raises(FormatError, match=r"earlier.json: not a simulation of schema_version 2; simulate again"):
        load_run(tmp_path / "earlier.json")


def test_the_command_prints_both(files: dict[str, Path]) -> None:
    from mmworkload.cli.app import app

    result = CliRunner().invoke(app, ["compare", str(files["first"]), str(files["second"])], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    for expected in ("Two measurements", "0.333", "batch: 1 and 4", "1 layer only in the first run"):
        assert expected in result.stdout
    data = json.loads(
        CliRunner().invoke(app, ["compare", "--json", *map(str, (files["first"], files["second"]))]).stdout
    )
    assert (data["schema_version"], data["layers"][1]["layer"], data["layers"][1]["second_s"]) == (2, "b", None)
    assert [row["stage"] for row in data["stages"]] == ["encoder/x", "head"]
    assert CliRunner().invoke(app, ["compare", *map(str, (files["first"], files["simulated"]))]).exit_code == 2
