"""docs/json.md names every field of simulate, measure, validate and export, and no other."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import mmworkload
from mmworkload import verbs
from mmworkload.measuring.combinations import Combination
from mmworkload.measuring.energy import Energy
from mmworkload.measuring.result import Execution, Training, TrainingLayer, TrainingStage

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "json.md").read_text()


def tables(heading: str) -> list[set[str]]:
    """The fields of each table under a heading, in order."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.split(r"\| (?:field|column) \|", section)[1:]
    return [set(re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)) for block in blocks]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    taken = mmworkload.measure("av-mnist/concat", warmup=1, repeats=3)
    found = mmworkload.validate("av-mnist/concat", "eyeriss_like", simulator="roofline", measurement=taken)
    # Through JSON, as a reader gets it.
    return json.loads(json.dumps(found.to_dict()))


def test_a_simulation(report: dict[str, Any]) -> None:
    whole, layer = tables("Simulations")
    assert set(report["simulation"]) == whole
    assert set(report["simulation"]["layers"][0]) == layer


def test_several_architectures_and_the_table_of_a_simulation() -> None:
    graph = mmworkload.load(str(Path(__file__).resolve().parents[1] / "shapes" / "av-mnist" / "image.yaml"))
    found = verbs.simulate_all(graph, ["eyeriss_like", "h100"], ["roofline"])
    data = found.to_dict()
    (whole,) = tables("Several architectures")
    simulation, _ = tables("Simulations")

    assert set(data) == whole
    assert all(set(item) == simulation | {"asked"} for item in data["simulations"])
    section = DOCUMENT.split("\n## The table of a simulation\n")[1].split("\n## ")[0]
    listed = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    described = {name for cell in listed for name in re.findall(r"`(\w+)`", cell)}
    columns = set(found.to_pandas().columns) - {"asked"}
    by_place = re.compile(r"energy_\w+_j|traffic_\w+_bytes")
    assert {name for name in columns if not by_place.fullmatch(name)} == {
        name for name in described if not by_place.fullmatch(name)
    }
    assert {"energy_dram_j", "energy_mac_j", "traffic_dram_bytes"} <= columns & described


def test_a_measurement(report: dict[str, Any]) -> None:
    whole, layer, stage, execution, energy, *training, combination, _ = tables("Measurements")
    assert set(report["measurement"]) == whole
    assert set(report["measurement"]["layers"][0]) == layer
    assert set(report["measurement"]["stage_times"][0]) == stage
    assert {field.name for field in dataclasses.fields(Execution)} == execution
    assert {field.name for field in dataclasses.fields(Energy)} == energy
    described = (Training, TrainingStage, TrainingLayer)
    assert [{field.name for field in dataclasses.fields(kind)} for kind in described] == training
    assert {field.name for field in dataclasses.fields(Combination)} == combination
    assert set(report["measurement"]["eager"]) == {"median_s", "q1_s", "q3_s", "min_s", "max_s", "repeats"}


def test_a_validation(report: dict[str, Any]) -> None:
    whole, error, cause = tables("Validations")
    assert set(report) == {"schema_version", "validation", "measurement", "simulation"}
    assert set(report["validation"]) == whole
    sides = {"measured_s", "simulated_s", "measured_share", "simulated_share", "ratio"}
    group = {"name", "layers", "macs", "unmeasured", "unsimulated"} | sides
    assert all(
        set(row) == group for name in ("stages", "modalities", "operators") for row in report["validation"][name]
    )
    layer = {"layer", "op", "stage", "modality", "macs", "kernels", "simulator", "bound", "floored", "fallback", "dead"}
    assert (
        set(report["validation"]["layers"][0])
        == layer | {"note", "category", "part", "phase", "weight", "bytes"} | sides
    )
    assert set(report["validation"]["errors"][0]) == set(report["validation"]["stage_errors"]) == error
    assert all(set(item) == cause for item in report["validation"]["causes"])


def test_a_list_of_workloads() -> None:
    from mmworkload.cli.listing import listing

    family, variant, generation, parameter, *_ = tables("Lists")
    found = listing("workloads")
    whole = next(item for item in found if item["name"] == "codellama")
    assert set(whole) == family
    assert set(whole["variants"][0]) == variant
    assert set(whole["generations"][0]) == generation
    assert set(whole["generations"][0]["parameters"]["weights"]) == parameter


def test_an_export(tmp_path: Path) -> None:
    mmworkload.export("timeloop", "av-mnist/image", "eyeriss_like", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    whole, row = tables("Exports")
    assert set(manifest) == whole
    assert set(manifest["layers"][0]) == row
    assert manifest["macs"] == 149032
