"""``mmworkload measure``: a result as a folder or a file, and refusals before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from mmworkload.cli.app import app
from mmworkload.measuring.folder import load

pytestmark = pytest.mark.slow

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


def test_streams_need_cuda() -> None:
    assert "--streams needs --device cuda" in run(*QUICK, "--streams", code=2)


def test_training_is_printed_in_80_columns() -> None:
    printed = run(*QUICK, "--mode", "train")

    for text in ("Training, stages", "Training, layers", "Peak memory of training", "Loss: mean of the squares"):
        assert text in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_several_batches_are_results_side_by_side_and_a_second_run_keeps_them(tmp_path: Path) -> None:
    options = ("av-mnist/image", "--limit-s", "1", "--batches", "1, 2", "-o", str(tmp_path))
    printed = run(*options)

    assert [load(tmp_path / f"b{batch}-float32").measurement.batch for batch in (1, 2)] == [1, 2]
    assert printed.count("optimal") == 1
    assert max(map(len, printed.splitlines())) <= 80
    found = json.loads(run(*options, "--json"))
    assert found["model"] == "av-mnist/image"
    assert [(row["batch"], row["status"]) for row in found["combinations"]] == [(1, "kept"), (2, "kept")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batches", "1,2"), "say where with -o FOLDER"),
        (("--batches", "1,two", "-o", "x"), "--batches 1,two: write whole numbers"),
        (("--batches", "0", "-o", "x"), "--batches 0: write whole numbers"),
        (("--batches", "1", "--batch", "2", "-o", "x"), "give --batch or --batches, not both"),
        (("--dtypes", "float32", "--dtype", "float16", "-o", "x"), "give --dtype or --dtypes, not both"),
        (("--dtypes", "float3", "-o", "x"), "float32"),
    ],
)
def test_combinations_that_cannot_be_are_refused(
    options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in run("av-mnist/image", *options, code=2)
    assert list(tmp_path.iterdir()) == []
