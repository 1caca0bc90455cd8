"""Running a sweep in this process: jobs are shared, failures are rows, and what is kept is whole."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from typer.testing import CliRunner

from mmworkload import temporary
from mmworkload.cli.app import app
from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Work
from mmworkload.problem import Problem
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.engine import simulate
from mmworkload.sweeping import closed_form
from mmworkload.sweeping.planning import plan
from mmworkload.sweeping.results import Results, flat
from mmworkload.sweeping.rows import TIMING
from mmworkload.sweeping.running import Progress, resume, run
from mmworkload.sweeping.setup import prepare
from mmworkload.sweeping.space import architecture_of
from mmworkload.sweeping.spec import read
from mmworkload.sweeping.store import FullDiskError, Store

SweepFile = Callable[..., Path]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slow_simulator")]


def final(folder: Path) -> pandas.DataFrame:
    """The final table, timing aside."""
    return flat(Results(folder)).drop_columns(list(TIMING)).to_pandas()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_each_different_job_of_all_designs_runs_once(tmp_path: Path, sweep_file: SweepFile) -> None:
    runs = tmp_path / "runs"
    file = sweep_file(
        arch={
            "base": str(tmp_path / "small.yaml"),
            # The tool is told the array and the buffer, and neither of the other two.
            "set": {"array.x": [2, 4], "vector.lanes": [1, 2, 4], "levels.buffer.area_um2": [80000, 90000]},
            "estimator": "law",
        },
        options={"runs": str(runs)},
    )

    done = run(file, tmp_path / "out", workers=2)

    # 8x8, 8x12, 8x1 of the first; 8x16, 8x24, 8x40 besides of the second (its head is the first's): on two arrays.
    assert done.designs == done.evaluated == 12
    assert done.jobs == len(lines(runs)) == len(set(lines(runs))) == 12
    assert len(Results(tmp_path / "out").trials) == 12


def test_a_design_costs_what_simulate_says(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file()
    run(file, tmp_path / "out", workers=2)
    results = Results(tmp_path / "out")
    setup = prepare(read(file), Store(tmp_path / "out"))
    design = list(setup.space.designs())[5]

    arch = architecture_of(design, setup.bases, "law")
    alone = {name: simulate(graph, arch, "slow", workers=1) for name, graph in setup.workloads[None].items()}

    row = results.trials.iloc[5]
    assert (row["design"], row["array.x"], row["levels.buffer.size_kib"]) == (design.id, 4, 32)
    first, second = alone.values()
    assert row["latency_s"] == pytest.approx(first.serial_latency_s + 2 * second.serial_latency_s, rel=1e-12)
    assert row["energy_j"] == pytest.approx((first.energy_j or 0) + 2 * (second.energy_j or 0), rel=1e-12)
    assert row["critical_path_s"] == pytest.approx(first.critical_path_s + 2 * second.critical_path_s, rel=1e-12)
    assert row["dram_bytes"] == first.dram_bytes + 2 * second.dram_bytes
    assert row["area_mm2"] == arch.area_mm2
    stages = results.stages([design.id])
    own = stages[stages["workload"] == str(tmp_path / "second.yaml")].set_index("stage")
    for stage, totals in second.stages().items():
        assert own.loc[stage, "latency_s"] == pytest.approx(totals.latency_s, rel=1e-12)
        assert own.loc[stage, "share"] == pytest.approx(totals.share, rel=1e-12)


@pytest.mark.parametrize(
    ("option", "reason", "log"),
    [
        ("hangs_on", "no answer within 1.5 s", "timeout: no answer within 1.5 s"),
        ("crashes_on", "the worker ended (exit code 3)", "out of registers"),
    ],
)
def test_a_design_that_hangs_or_crashes_is_a_row_with_its_reason_and_log(
    tmp_path: Path, sweep_file: SweepFile, option: str, reason: str, log: str
) -> None:
    file = sweep_file(
        limit_s=1.5,
        options={option: "4"},
        workloads={str(tmp_path / "first.yaml"): 1},
        arch={"base": str(tmp_path / "small.yaml"), "set": {"array.x": [2, 4, 8]}, "estimator": "law"},
    )

    done = run(file, tmp_path / "out", workers=2)

    found = Results(tmp_path / "out").trials
    assert (done.evaluated, done.failed) == (3, 1)
    assert list(found["status"]) == ["ok", "failed", "ok"]
    assert reason in found["reason"][1]
    assert log in found["log"][1]
    assert list(found["feasible"]) == [True, False, True]


def test_a_design_that_is_not_consistent_is_a_row_with_its_reason(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file(
        arch={"base": str(tmp_path / "small.yaml"), "set": {"levels.buffer.width_bits": [16, 20]}, "estimator": "law"}
    )

    run(file, tmp_path / "out", workers=1)

    found = Results(tmp_path / "out").trials
    assert list(found["status"]) == ["ok", "failed"]
    assert "width_bits 20 is not a multiple of word_bits 8" in found["reason"][1]


def test_what_failed_runs_again_only_when_asked(tmp_path: Path, sweep_file: SweepFile) -> None:
    runs = tmp_path / "runs"
    file = sweep_file(
        options={"crashes_on": "4", "runs": str(runs)},
        workloads={str(tmp_path / "first.yaml"): 1},
        arch={"base": str(tmp_path / "small.yaml"), "set": {"array.x": [2, 4]}, "estimator": "law"},
    )
    run(file, tmp_path / "out", workers=2)
    before = len(lines(runs))

    assert resume(tmp_path / "out").evaluated == 0
    assert len(lines(runs)) == before == 6
    again = resume(tmp_path / "out", retry=True, workers=2)

    assert (again.evaluated, again.failed, again.jobs) == (1, 1, 3)
    assert len(final(tmp_path / "out").query("workload == ''")) == 2


def test_a_refusal_of_the_tool_is_answered_by_the_roofline_and_counted(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file(
        options={"refuses_on": "4"},
        workloads={str(tmp_path / "first.yaml"): 1},
        arch={"base": str(tmp_path / "small.yaml"), "set": {"array.x": [2, 4]}, "estimator": "law"},
    )

    run(file, tmp_path / "out", workers=2)

    found = Results(tmp_path / "out").trials
    assert list(found["status"]) == ["ok", "ok"]
    # Four layers have a loop nest; the fifth has none and is in closed form anyway.
    assert list(found["fallbacks"]) == [0, 4]
    told = CliRunner().invoke(app, ["sweep", "report", str(tmp_path / "out"), "--json"])
    assert json.loads(told.output)["status"]["mixed"] == 1
    shown = CliRunner().invoke(app, ["sweep", "report", str(tmp_path / "out")]).output
    assert "1 design of 2 with layers that slow could not answer" in " ".join(shown.split())


def test_a_damaged_segment_is_put_aside_and_its_designs_run_again(
    tmp_path: Path, sweep_file: SweepFile, capsys: pytest.CaptureFixture[str]
) -> None:
    run(sweep_file(), tmp_path / "out", workers=2)
    before = final(tmp_path / "out")
    (segment,) = (tmp_path / "out" / "trials").glob("*.parquet")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)

    again = resume(tmp_path / "out", workers=2)

    assert "is damaged and was put aside; its designs run again" in capsys.readouterr().err
    assert (again.evaluated, again.jobs) == (9, 0)
    pandas.testing.assert_frame_equal(final(tmp_path / "out"), before, check_exact=True)


def test_a_damaged_answer_in_the_cache_is_run_again(tmp_path: Path, sweep_file: SweepFile, own_cache: Path) -> None:
    file = sweep_file()
    run(file, tmp_path / "out", workers=2)
    before = final(tmp_path / "out")
    entry = sorted((own_cache / "estimates").rglob("*.json"))[3]
    entry.write_text(entry.read_text().replace('"cycles": ', '"cycles": 1'))

    again = run(file, tmp_path / "other", workers=2)

    assert again.jobs == 1
    pandas.testing.assert_frame_equal(final(tmp_path / "other"), before, check_exact=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_resumed_sweep_has_the_figures_of_a_quiet_one_to_the_last_digit(
    tmp_path: Path, sweep_file: SweepFile, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    file = sweep_file()
    run(file, tmp_path / "quiet", workers=2, cache=tmp_path / "quiet-cache")
    expected = final(tmp_path / "quiet")
    monkeypatch.setattr("mmworkload.sweeping.running._TRIALS_A_SEGMENT", 1)

    for stop in (1, 5):
        out, cache = tmp_path / f"out-{stop}", tmp_path / f"cache-{stop}"

        def interrupt(progress: Progress) -> None:
            if progress.done >= stop:  # noqa: B023
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(file, out, workers=workers, cache=cache, progress=interrupt)
        resume(out, workers=4 - workers, cache=cache)
        pandas.testing.assert_frame_equal(final(out), expected, check_exact=True)


def test_answers_that_are_all_kept_give_the_figures_of_fresh_ones_to_the_last_digit(
    tmp_path: Path, sweep_file: SweepFile
) -> None:
    file = sweep_file()
    for name in ("fresh", "kept"):
        run(file, tmp_path / name, workers=2)
    pandas.testing.assert_frame_equal(final(tmp_path / "kept"), final(tmp_path / "fresh"), check_exact=True)


def full_disk(monkeypatch: pytest.MonkeyPatch, part: str, after: int) -> None:
    """From the ``after``-th on, flushing a file of the folder ``part`` says that the disk is full."""
    real, count = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal count
        if part in str(Path(f"/proc/self/fd/{handle}").readlink()):
            count += 1
            if count > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize(("part", "after", "kept"), [("/trials/", 0, 0), ("/cache/", 7, 7)])
def test_a_full_disk_stops_with_a_clear_message_and_loses_nothing(
    tmp_path: Path, sweep_file: SweepFile, own_cache: Path, part: str, after: int, kept: int
) -> None:
    file = sweep_file()
    with pytest.MonkeyPatch.context() as patch:
        full_disk(patch, part, after)
        with pytest.raises(FullDiskError, match=r"No space left on device.*finished results are kept"):
            run(file, tmp_path / "out", workers=2)

    answers = len(list((own_cache / "estimates").rglob("*.json")))
    assert answers == (kept or 54)
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".") and path.is_file()] == []
    again = resume(tmp_path / "out", workers=2)
    assert again.jobs == 54 - answers
    run(file, tmp_path / "undisturbed", workers=2, cache=tmp_path / "fresh")
    pandas.testing.assert_frame_equal(final(tmp_path / "out"), final(tmp_path / "undisturbed"), check_exact=True)


def test_a_second_driver_is_refused_by_name_and_the_first_goes_on(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file()
    store = Store(tmp_path / "out")
    with store.lock():
        assert store.driver == f"process {os.getpid()} on {os.uname().nodename}"
        with pytest.raises(MmworkloadError, match=rf"is being run by process {os.getpid()} on "):
            run(file, tmp_path / "out")
    assert store.driver == ""
    assert run(file, tmp_path / "out", workers=2).evaluated == 9


def test_a_link_in_the_place_of_the_lock_is_refused_and_its_target_stays(tmp_path: Path, sweep_file: SweepFile) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    out = tmp_path / "out"
    out.mkdir()
    (out / "lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(MmworkloadError, match=r"cannot lock .*/out/lock: .*symbolic link"):
        run(sweep_file(), out)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert Store(out).driver == ""

    (out / "lock").unlink()
    os.mkfifo(out / "lock")
    assert Store(out).driver == ""
    with pytest.raises(MmworkloadError, match="cannot lock"):
        run(sweep_file(), out)


def test_a_driver_that_waited_for_the_file_of_one_that_failed_does_not_hold_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fails at its start and removes its lock, which the second has open already; then comes a third."""
    store = Store(tmp_path / "out")
    opened: list[int] = []

    def open_late(path: Path) -> int:
        handle = temporary.open_lock(path)
        if not opened:
            path.unlink()
        opened.append(handle)
        return handle

    monkeypatch.setattr("mmworkload.sweeping.store.open_lock", open_late)
    with store.lock():
        assert len(opened) == 2
        with pytest.raises(MmworkloadError, match="is being run by"), Store(tmp_path / "out").lock():
            pass
    assert store.driver == ""


def test_an_error_while_the_lock_is_held_is_not_blamed_on_the_lock(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    with pytest.raises(MmworkloadError) as caught, store.lock():
        (tmp_path / "elsewhere" / "file").read_text()
    assert str(caught.value) == f"cannot read or write {tmp_path}/elsewhere/file: No such file or directory"


def test_an_edited_sweep_beside_its_results_is_refused_with_what_changed(
    tmp_path: Path, sweep_file: SweepFile, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(sweep_file(), out, workers=2)
    kept = (out / "sweep.yaml").read_text()
    edited = sweep_file(workloads={str(tmp_path / "first.yaml"): 1, str(tmp_path / "second.yaml"): 2000})
    (out / "sweep.yaml").write_text(edited.read_text())

    changed = re.escape(f"workloads.{tmp_path}/second.yaml is 2000.0 and was 2.0")
    for act in (
        lambda: resume(out),
        lambda: run(edited, out),
        lambda: plan(edited, out),
        lambda: Results(out),
    ):
        with pytest.raises(MmworkloadError, match=rf"edited .*\({changed}\).*sweep run {out}/sweep.yaml -o FOLDER"):
            act()
    for verb in (("resume",), ("report",), ("status",), ("export", "-o", str(tmp_path / "all.csv"))):
        ended = CliRunner().invoke(app, ["sweep", verb[0], str(out), *verb[1:]])
        assert ended.exit_code == 2
    assert not (tmp_path / "all.csv").exists()
    done = run(out / "sweep.yaml", tmp_path / "new", workers=2)
    assert (done.evaluated, done.jobs) == (9, 0)

    (out / "sweep.yaml").write_text(f"# looked at\n{kept}")
    assert resume(out).evaluated == 0
    assert len(Results(out).trials) == 9


def test_another_sweep_in_the_folder_is_refused(tmp_path: Path, sweep_file: SweepFile) -> None:
    run(sweep_file(), tmp_path / "out", workers=2)

    with pytest.raises(MmworkloadError, match=r"holds another sweep.* is in the cache .*resume .* the file kept there"):
        run(sweep_file(batch=1), tmp_path / "out")
    with pytest.raises(MmworkloadError, match="holds another sweep"):
        plan(sweep_file(batch=1), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(MmworkloadError, match="is not empty and holds no sweep"):
        run(sweep_file(), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    with pytest.raises(MmworkloadError, match="holds no sweep; begin one"):
        resume(tmp_path / "nothing")


def test_a_sweep_does_not_go_on_with_another_version_of_the_simulator(
    tmp_path: Path, sweep_file: SweepFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sweep_file(), tmp_path / "out", workers=2)
    monkeypatch.setenv("SLOW_VERSION", "2")

    with pytest.raises(MmworkloadError, match="was begun with version 1; here it is 2"):
        resume(tmp_path / "out")


def test_a_random_search_is_the_same_for_the_same_seed(tmp_path: Path, sweep_file: SweepFile) -> None:
    arch = {
        "base": str(tmp_path / "small.yaml"),
        "set": {"array.x": {"range": [1, 64], "log": True}, "levels.buffer.size_kib": {"range": [4, 64]}},
        "estimator": "law",
    }
    search = {"method": "random", "budget": 12, "seed": 3}
    file = sweep_file(arch=arch, search=search)
    run(file, tmp_path / "one", workers=2)
    run(file, tmp_path / "two", workers=1, cache=tmp_path / "fresh")
    other = sweep_file(arch=arch, search={**search, "seed": 4})
    run(other, tmp_path / "three", workers=2)

    one = final(tmp_path / "one")
    pandas.testing.assert_frame_equal(one, final(tmp_path / "two"), check_exact=True)
    assert one["design"].nunique() == 12
    assert set(one["design"]).isdisjoint(set(final(tmp_path / "three")["design"]))
    assert all(float(value).is_integer() for value in one["array.x"])


def test_a_metric_that_the_simulator_does_not_give_cannot_be_asked_for(tmp_path: Path, sweep_file: SweepFile) -> None:
    file = sweep_file(options={"no_energy": "1"})

    with pytest.raises(MmworkloadError, match="energy_j cannot be asked for: slow gives no energies"):
        run(file, tmp_path / "out", workers=2)
    assert list((tmp_path / "out").iterdir()) == []
    done = run(sweep_file(options={"no_energy": "1"}, objectives=["latency_s"]), tmp_path / "out", workers=2)
    assert (done.evaluated, done.failed) == (9, 0)


# --- the closed form ------------------------------------------------------------------------------------------------


def closed_forms(file: Path, folder: Path) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """The same designs in numpy and one by one through the engine."""
    from mmworkload.sweeping.evaluate import evaluate
    from mmworkload.sweeping.rows import table

    setup = prepare(read(file), Store(folder))
    designs = list(setup.space.designs())
    many = pandas.concat([rows.to_pandas() for _, rows in closed_form.evaluate_all(setup, designs, chunk=7)])
    single = table(evaluate(design, setup, Cache(folder / "cache")) for design in designs).to_pandas()
    return many.reset_index(drop=True), single.reset_index(drop=True)


@pytest.mark.parametrize(
    ("base", "sets"),
    [
        ("eyeriss_like", {"array.x": {"range": [1, 40]}, "levels.glb.size_kib": {"range": [32, 900], "log": True}}),
        ("gemmini_like", {"clock_mhz": {"range": [137, 911]}, "vector.lanes": [1, 7, 64]}),
        ("tpu_like", {"levels.dram.read_bandwidth": {"range": [0.7, 90]}, "array.y": [16, 48, 200]}),
        ("h100", {"clock_mhz": {"range": [901, 1999]}}),
    ],
)
@pytest.mark.parametrize("dtype", [None, "int8"])
def test_the_closed_form_for_many_designs_is_the_engines_to_the_last_cycle(
    tmp_path: Path, sweep_file: SweepFile, base: str, sets: dict[str, Any], dtype: str | None
) -> None:
    if base == "h100" and dtype:
        pytest.skip("the dtype chooses among the peaks of a GPU")
    file = sweep_file(
        workloads={str(tmp_path / "second.yaml"): 2, "av-mnist/low-rank": 1},
        arch={"base": base, "set": sets, "estimator": "law"},
        simulator="roofline",
        dtype=dtype,
        objectives=["latency_s"],
        search={"method": "random", "budget": 8, "seed": 1},
    )

    many, single = closed_forms(file, tmp_path / "out")

    assert len(many) == len(single) > 50
    for name in ("index", "design", "workload", "stage", "status", "batch", "cycles", "dram_bytes", "bound"):
        left, right = many[name].astype(object), single[name].astype(object)
        assert ((left == right) | (left.isna() & right.isna())).all(), name
    for name in ("latency_s", "critical_path_s", "energy_j", "utilization", "area_mm2"):
        pandas.testing.assert_series_equal(many[name], single[name], rtol=1e-12)


def test_the_closed_form_moves_what_is_stored_in_fewer_bits_as_the_engine_does(
    tmp_path: Path, sweep_file: SweepFile
) -> None:
    sets = {"array.x": {"range": [1, 40]}}
    file = sweep_file(
        workloads={str(tmp_path / "first.yaml"): 1, str(tmp_path / "narrow.yaml"): 1},
        arch={"base": str(tmp_path / "small.yaml"), "set": sets, "estimator": "law"},
        simulator="roofline",
        search={"method": "random", "budget": 4, "seed": 1},
    )
    graph = LayerGraph.load(tmp_path / "first.yaml")
    first = graph.layers[0]
    (work,) = first.work
    operands = tuple(replace(item, bits=4 if item.role == "weight" else 32) for item in work.problem.operands)
    reads = tuple((name, 32 if name == "image.0.w" else size) for name, size in first.reads)
    narrow = replace(first, work=(replace(work, problem=replace(work.problem, operands=operands)),), reads=reads)
    weight = replace(graph.tensors["image.0.w"], dtype="int4", bits=4)
    tensors = {**graph.tensors, "image.0.w": weight}
    replace(graph, layers=(narrow, *graph.layers[1:]), tensors=tensors).save(tmp_path / "narrow.yaml")

    many, single = closed_forms(file, tmp_path / "out")

    for name in ("cycles", "dram_bytes"):
        left, right = many[name].astype(object), single[name].astype(object)
        assert ((left == right) | (left.isna() & right.isna())).all(), name
    moved = many[many["stage"].isna() | (many["stage"] == "")].groupby("workload")["dram_bytes"].first()
    # 64 weights in four bits, where all else is in eight.
    assert moved[str(tmp_path / "first.yaml")] - moved[str(tmp_path / "narrow.yaml")] == 32


def test_a_layer_beyond_64_bit_integers_is_refused_with_the_bound(tmp_path: Path, sweep_file: SweepFile) -> None:
    graph = LayerGraph.load(tmp_path / "first.yaml")
    first = graph.layers[0]
    huge = Problem.parse(
        "mac M=1000000000000 C=1000000000000 | Inputs input 32 [C:1000000000000] | "
        "Weights weight 32 [M:1000000000000, C:1000000000000] | Outputs output 32 [M:1000000000000]"
    )
    replace(graph, layers=(replace(first, work=(Work(huge),)), *graph.layers[1:])).save(tmp_path / "huge.yaml")
    file = sweep_file(workloads={str(tmp_path / "huge.yaml"): 1}, simulator="roofline")

    with pytest.raises(MmworkloadError, match=rf"layer '{re.escape(first.name)}' has more .* 2\^62 and 2\^53"):
        run(file, tmp_path / "out")


def test_the_closed_form_asks_no_simulator_and_writes_no_cache(
    tmp_path: Path, sweep_file: SweepFile, own_cache: Path
) -> None:
    done = run(sweep_file(simulator="roofline"), tmp_path / "out")

    assert (done.evaluated, done.jobs) == (9, 0)
    assert not own_cache.exists()


def test_a_sweep_that_was_ended_before_its_first_design_goes_on(tmp_path: Path) -> None:
    from mmworkload.errors import MmworkloadError
    from mmworkload.sweeping.store import SPEC, Store

    with pytest.raises(MmworkloadError, match="holds no sweep"):
        Store(tmp_path / "none").require()
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / SPEC).write_text("workloads: {shapes/av-mnist/image.yaml: 1}\n")
    with pytest.raises(MmworkloadError, match="ended before its first design; go on: mmworkload sweep resume"):
        Store(tmp_path / "early").require()
