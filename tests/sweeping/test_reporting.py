"""What is printed, drawn and exported of a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas
import pytest
from typer.testing import CliRunner

from mmworkload.cli.app import app
from mmworkload.sweeping import Results
from mmworkload.sweeping.running import Progress, run

SweepFile = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, sweep_file: SweepFile) -> Path:
    """A finished sweep of nine designs by the roofline; one constraint refuses the three largest buffers."""
    file = sweep_file(simulator="roofline", constraints=["area_mm2 < 0.12"])
    run(file, tmp_path / "out")
    return tmp_path / "out"


def invoke(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["sweep", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_report_answers_first_within_80_columns(folder: Path) -> None:
    text = invoke("report", folder)

    assert "9 of 9 designs by grid, 6 meet the constraints" in text
    line = " ".join(text.split())
    assert re.search(r"best latency_s: [\d.]+ µs with array\.x=4, buffer\.size_kib=8", line)
    assert re.search(r"encoder/image takes [\d.]+ % of the latency of the mix", line)
    assert "Pareto front" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_page_is_one_file_with_pictures_and_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    invoke("report", folder, "-o", tmp_path / "one.html")
    invoke("report", folder, "-o", tmp_path / "two.html")

    page = (tmp_path / "one.html").read_text()
    assert page == (tmp_path / "two.html").read_text()
    assert page.count("<svg") == 5
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "What decides" in page


def test_status_report_and_export_as_json(folder: Path, tmp_path: Path) -> None:
    status = json.loads(invoke("status", folder, "--json"))
    report = json.loads(invoke("report", folder, "--json"))

    assert (status["designs"], status["finished"], status["failed"], status["feasible"]) == (9, 9, 0, 6)
    assert status["running"] == ""
    assert report["objectives"] == ["energy_j", "latency_s"]
    assert {item["design"] for item in report["front"]} <= {item["design"] for item in report["points"]}
    rows = json.loads(invoke("export", folder, "-o", tmp_path / "t.parquet", "--json"))["rows"]
    assert rows == 9 * (1 + 2 + 2 * 4)
    invoke("export", folder, "-o", tmp_path / "t.csv")
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    text = pandas.read_csv(tmp_path / "t.csv", keep_default_na=False)
    assert list(frame.columns) == list(text.columns)
    assert len(frame) == len(text) == rows
    assert list(frame["latency_s"]) == [float(value) for value in text["latency_s"]]


def test_in_python_the_same_as_frames(folder: Path) -> None:
    results = Results(folder)

    assert results.axes == ["array.x", "levels.buffer.size_kib"]
    front = results.pareto()
    assert (front["energy_j"].diff().dropna() >= 0).all()
    assert (front["latency_s"].diff().dropna() <= 0).all()
    best = results.best("latency_s")
    assert best is not None
    assert best["latency_s"] == results.feasible["latency_s"].min()
    effects = results.sensitivity("latency_s").set_index("axis")
    assert effects.loc["array.x", "explained"].iloc[0] == pytest.approx(1)
    assert effects.loc["levels.buffer.size_kib", "explained"].iloc[0] == pytest.approx(0)
    shares = results.bottlenecks().groupby("design")["share"].sum()
    assert shares.to_list() == pytest.approx([1] * 9)


def test_each_stage_on_its_best_design_is_never_worse_than_the_best_single_one(folder: Path) -> None:
    for metric in ("latency_s", "energy_j"):
        found = Results(folder).heterogeneous(metric)
        assert found is not None
        assert found.joined <= found.single * (1 + 1e-12)
        assert found.single == pytest.approx(Results(folder).feasible[metric].min())


def test_without_a_feasible_design_the_nearest_is_named(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file(simulator="roofline", constraints=["area_mm2 < 0.001"])
    run(file, tmp_path / "out")

    text = " ".join(invoke("report", tmp_path / "out").split())

    assert "no design meets the constraints; nearest is array.x=2, buffer.size_kib=8" in text


def test_a_file_of_the_users_called_sweep_yaml_is_not_overwritten(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file("mine.yaml", simulator="roofline")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sweep.yaml").write_text("a thesis")

    for verb in ("run", "plan"):
        refused = CliRunner().invoke(app, ["sweep", verb, str(file), "-o", str(tmp_path / "out")])
        assert refused.exit_code == 2
        assert "is not overwritten" in refused.output
        assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"sweep.yaml": "a thesis"}
    # What an interrupted sweep left before its first design is the file itself.
    (tmp_path / "out" / "sweep.yaml").write_text(file.read_text())
    assert "9 of 9 designs evaluated" in invoke("run", file, "-o", tmp_path / "out")


def test_a_file_with_a_mistake_leaves_nothing_and_the_corrected_one_runs_there(
    tmp_path: Path, sweep_file: SweepFile
) -> None:
    wrong = sweep_file(simulator="roofline", objectives=["latency_s[third]"])
    assert CliRunner().invoke(app, ["sweep", "run", str(wrong), "-o", str(tmp_path / "out")]).exit_code == 2

    assert list((tmp_path / "out").iterdir()) == []
    assert "9 of 9 designs" in invoke("run", sweep_file(simulator="roofline"), "-o", tmp_path / "out")


def test_of_equal_designs_the_best_is_on_the_front(tmp_path: Path, sweep_file: SweepFile) -> None:
    lanes = [1, 16, 4]  # they cost no area
    arch = {"base": str(tmp_path / "small.yaml"), "set": {"array.x": [2, 4], "vector.lanes": lanes}, "estimator": "law"}
    run(sweep_file(simulator="roofline", arch=arch, objectives=["area_mm2", "latency_s"]), tmp_path / "out")
    results = Results(tmp_path / "out")

    best = results.best("area_mm2")
    assert best is not None
    assert (best["array.x"], best["vector.lanes"]) == (2, 16)
    assert best["design"] in set(results.pareto()["design"])
    status = json.loads(invoke("status", tmp_path / "out", "--json"))
    assert status["best"]["area_mm2"]["vector.lanes"] == 16
    text = " ".join(invoke("report", tmp_path / "out").split())
    assert re.search(r"best area_mm2: [\d.]+ mm² with array\.x=2, vector\.lanes=16;", text)
    assert "The same in all: vector.lanes=16." in text
    assert "estimated from" not in text


def test_each_stage_is_compared_with_the_best_of_equal_designs(tmp_path: Path, sweep_file: SweepFile) -> None:
    sets = {"array.x": [2, 4], "levels.buffer.size_kib": [32, 8, 16]}  # no buffer is too small: latency is the same
    arch = {"base": str(tmp_path / "small.yaml"), "set": sets, "estimator": "law"}
    run(sweep_file(simulator="roofline", arch=arch, objectives=["latency_s", "area_mm2"]), tmp_path / "out")
    results = Results(tmp_path / "out")

    found, best = results.heterogeneous(), results.best("latency_s")
    assert found is not None
    assert best is not None
    assert best["levels.buffer.size_kib"] == 8
    assert (found.single_design, found.designs) == (best["design"], 1)


def test_the_best_so_far_of_equal_designs_is_on_the_front(tmp_path: Path, sweep_file: SweepFile) -> None:
    arch = {"base": str(tmp_path / "small.yaml"), "set": {"vector.lanes": [1, 16, 4]}, "estimator": "law"}
    file = sweep_file(simulator="roofline", arch=arch, objectives=["area_mm2", "latency_s"])
    seen: list[Progress] = []
    run(file, tmp_path / "out", progress=seen.append)

    trials = Results(tmp_path / "out").trials.set_index("vector.lanes")
    assert seen[-1].best["area_mm2"] == (trials["area_mm2"][16], trials["design"][16])


def test_what_was_swept_is_in_every_report(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    base, ours = str(tmp_path / "small.yaml"), version("mmworkload")
    status = json.loads(invoke("report", folder, "--json"))["status"]
    text = " ".join(invoke("report", folder, "-o", tmp_path / "page.html").split())
    page = (tmp_path / "page.html").read_text()

    assert (status["base"], status["mmworkload"]) == ([base], ours)
    assert "on-chip bandwidth is never the limit" in status["fidelity"]
    assert f"simulated by roofline {ours} (mmworkload {ours})" in text
    assert "the simulator is told the architecture: approximate (lower bounds" in text
    assert "What to mind - closed form: lower bounds, on-chip bandwidth is never the limit" in text
    for told in (base, "closed form: lower bounds", "as estimated by scaling laws", f"<dd>{ours}</dd>"):
        assert told in page
    assert "stale energies" not in page


def test_shares_of_a_random_search_are_told_to_be_estimates(tmp_path: Path, sweep_file: SweepFile) -> None:
    pytest.importorskip("matplotlib")
    run(sweep_file(simulator="roofline", search={"method": "random", "budget": 5}), tmp_path / "out")
    text = " ".join(invoke("report", tmp_path / "out", "-o", tmp_path / "page.html").split())

    assert "of its variance (estimated from 5 random designs; shares overlap)" in text
    assert "Here estimated from 5 random designs; shares overlap." in (tmp_path / "page.html").read_text()


def test_a_sweep_without_any_figures_ends_with_the_reason(tmp_path: Path, sweep_file: SweepFile) -> None:
    sets = {"levels.buffer.width_bits": [12, 20]}
    arch = {"base": str(tmp_path / "small.yaml"), "set": sets, "estimator": "law"}
    file = sweep_file(simulator="roofline", arch=arch)
    for arguments in (("run", str(file), "-o"), ("resume",)):
        done = CliRunner().invoke(app, ["sweep", *arguments, str(tmp_path / "out")])
        assert done.exit_code == 2
        assert "none of the 2 designs has figures: " in done.output
        assert "width_bits 12 is not a multiple of word_bits 8" in done.output

    assert len(Results(tmp_path / "out").trials) == 2
    assert "Answers - no design has figures: " in " ".join(invoke("report", tmp_path / "out").split())


def test_the_plan_counts_jobs_after_sharing_and_cache(
    tmp_path: Path, sweep_file: SweepFile, slow_simulator: Path
) -> None:
    file = sweep_file()
    before = json.loads(invoke("plan", file, "--not-timed", "--json"))
    run(file, tmp_path / "out", workers=2)
    after = json.loads(invoke("plan", file, "-o", tmp_path / "out", "--json"))

    assert (before["designs"], before["jobs"], before["cached"], before["seconds"]) == (9, 54, 0, None)
    # Three nests in the image encoder of the second and two in the first's, one in each audio encoder and head.
    assert before["problems"] == 9 * (2 + 1 + 1 + 3 + 1 + 1)
    assert (after["jobs"], after["cached"], after["finished"]) == (54, 54, 9)
    assert after["seconds"] == after["loading_s"] > 0, "nothing is left but to read the workloads"
    assert "54 different ones" in invoke("plan", file)


def test_run_and_resume_say_what_they_did(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file(simulator="roofline")

    assert "9 of 9 designs evaluated" in invoke("run", file, "-o", tmp_path / "out")
    assert "0 of 9 designs evaluated" in invoke("resume", tmp_path / "out")
    broken = CliRunner().invoke(app, ["sweep", "resume", str(tmp_path / "none")])
    assert broken.exit_code == 2


@pytest.mark.slow
def test_batches_are_compared_each_by_itself(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file(
        workloads={"av-mnist/concat": 1},
        arch={"base": "eyeriss_like", "set": {"array.x": [8, 16, 32]}, "estimator": "law"},
        simulator="roofline",
        batch=[1, 4],
    )
    pytest.importorskip("torch")
    run(file, tmp_path / "out")
    results = Results(tmp_path / "out")

    assert results.axes == ["array.x", "batch"]
    assert sorted(results.pareto()["batch"].unique()) == [1, 4]
    energy = results.workloads.set_index(["array.x", "batch"])["energy_j"]
    assert energy[8, 4] > 2 * energy[8, 1]


def test_several_architectures_and_systems_are_one_axis(tmp_path: Path, sweep_file: SweepFile) -> None:
    system = "encoder/image=nvdla_like,*=eyeriss_like"
    file = sweep_file(
        workloads={"av-mnist/concat": 1},
        arch={"base": ["eyeriss_like", "nvdla_like", system], "estimator": "law"},
        simulator="roofline",
    )
    run(file, tmp_path / "out")
    trials = Results(tmp_path / "out").trials.set_index("base")

    assert list(trials.index) == ["eyeriss_like", "nvdla_like", system]
    area = trials["area_mm2"]
    assert area[system] == pytest.approx(area["eyeriss_like"] + area["nvdla_like"])
