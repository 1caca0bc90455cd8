"""``show`` and ``list`` as they are typed: their options, what they write, and the JSON of ``list``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mmworkload.cli.app import app
from mmworkload.cli.listing import listing
from mmworkload.graph import LayerGraph
from mmworkload.reporting.stage_plot import render
from mmworkload.tracing.snapshot import path_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


@pytest.fixture(scope="module")
def saved() -> Path:
    path = path_of("av-mnist/concat")
    assert path is not None
    return path


def test_a_saved_graph_is_shown_without_parameters(saved: Path) -> None:
    result = run("show", saved)

    assert result.exit_code == 0
    assert "11,993,032 MACs" in result.stdout
    assert "data set  AV-MNIST" in result.stdout
    assert "Parameters (--set" not in result.stdout


def test_coverage_takes_the_place_of_the_other_tables(saved: Path) -> None:
    result = run("show", saved, "--coverage")

    assert result.exit_code == 0
    assert "Lowered: became a layer" in result.stdout
    assert "Stages" not in result.stdout
    shares = re.search(r"^aten\.conv2d +10 +12\.0 M +99\.8 %", result.stdout, re.MULTILINE)
    assert shares is not None


def test_a_plot_is_written_beside_what_is_printed(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "stages.svg"
    result = run("show", saved, "--plot", target, "--json")

    assert result.exit_code == 0
    assert result.stderr == f"wrote {target}\n"
    assert json.loads(result.stdout)["total_macs"] == 11_993_032
    assert target.read_text() == render(LayerGraph.load(saved))


def test_a_plot_is_of_the_stages_that_were_asked_for(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "stages.svg"
    run("show", saved, "--only", "encoder/*", "--plot", target)

    assert "encoder/audio" in target.read_text()
    assert "head" not in target.read_text()


def test_a_plot_of_another_kind_is_refused(saved: Path, tmp_path: Path) -> None:
    result = run("show", saved, "--plot", tmp_path / "stages.pdf")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "ends in .svg" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_model_is_shown_with_its_parameters() -> None:
    result = run("show", "mujoco-push", "--set", "steps=8")

    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert re.search(r"^steps +8 \(default 16\) +1 to 1024 +time steps$", result.stdout, re.MULTILINE)


def test_list_fits_into_80_columns_and_names_every_variant() -> None:
    result = run("list", "workloads")
    first_words = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]

    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for family in listing("workloads"):
        assert f"{family['name']}/" in first_words
        assert {variant["name"].partition("/")[2] for variant in family["variants"]} <= set(first_words)


def test_the_json_of_list_has_sizes_data_sets_and_parameters() -> None:
    listed = {item["name"]: item for item in json.loads(run("list", "workloads", "--json").stdout)}
    variants = {item["name"]: item for family in listed.values() for item in family["variants"]}

    assert (variants["av-mnist/concat"]["macs"], variants["av-mnist/concat"]["params"]) == (11_993_032, 260_922)
    assert all(item["dataset_url"].startswith("http") for item in listed.values())
    assert all(item["batch"] >= 1 for item in listed.values())
    steps = variants["mujoco-push/late"]["parameters"]["steps"]
    assert steps == {
        "default": 16,
        "help": "time steps",
        "bounds": "1 to 1024",
        "low": 1,
        "high": 1024,
        "step": 1,
        "choices": [],
        "several": False,
    }
    assert listed["mujoco-push"]["generations"] == []
    whole = {item["name"]: item for item in listed["chameleon"]["generations"]}["chameleon/7b-text-to-image"]
    assert whole["aliases"] == ["chameleon/7b-t-i"]
    assert whole["phases"] == ["chameleon/7b-prefill", "chameleon/7b-decode", "chameleon/image-decoder"]
    assert list(whole["parameters"]) == ["text", "image_size", "guidance", "layers", "attention", "weights", "cache"]
    assert whole["parameters"]["weights"]["choices"] == ["as-is", "int8", "int4"]
    drop = variants["mujoco-push/late"]["parameters"]["drop"]
    assert (drop["default"], drop["low"], drop["several"]) == ([], None, True)
    assert drop["choices"] == ["position", "sensors", "image", "control"]


def test_every_field_of_a_parameter_is_described() -> None:
    text = (ROOT / "docs" / "json.md").read_text()
    table = text[text.index("\nA parameter:\n") : text.index("### Architectures")]
    described = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    parameters: list[dict[str, Any]] = [
        parameter
        for family in listing("workloads")
        for variant in family["variants"]
        for parameter in variant["parameters"].values()
    ]

    assert parameters
    assert all(sorted(item) == sorted(described) for item in parameters)
