"""``mmworkload measure``: a result as a folder or a file, and refusals before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from mmworkload.cli import app
from mmworkload.measuring.folder import load

QUICK = ("av-mnist/concat", "--limit-s", "3")


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["measure", *arguments])
    assert done.exit_code == code, done.output
    return done.output if code == 0 else done.stderr


def test_a_folder_holds_all_and_prints_the_levels(tmp_path: Path) -> None:
    place = tmp_path / "result"
    printed = run(*QUICK, "--only", "head", "-o", str(place))

    result = load(place)
    assert result.kernels is not None
    assert result.graph is not None
    assert {row.stage for row in result.measurement.layers} == {"head"}
    # The graph and the frames are of the whole run.
    assert set(result.kernels["stage"]) - {""} == set(result.graph.stages)
    for text in ("head alone", "Stages, as they run", "Instrumented over uninstrumented time by level"):
        assert text in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_json_file_is_the_measurement_that_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    printed = json.loads(run(*QUICK, "--json", "-o", str(path)))

    assert printed == json.loads(path.read_text())
    assert printed["schema_version"] == 2
    assert printed["straggler"]["modality"] in ("image", "audio")


def test_a_folder_of_somebody_else_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")

    assert "not written by mmworkload" in run("no-such-workload", "-o", str(tmp_path), code=2)


def test_a_cuda_graph_needs_cuda() -> None:
    assert "--cuda-graph needs --device cuda" in run(*QUICK, "--cuda-graph", code=2)
