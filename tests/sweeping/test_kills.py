"""kill -9 at random moments: the driver, the workers, the Dask scheduler. Resuming gives the table of a quiet run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas
import pytest

from mmworkload.errors import MmworkloadError
from mmworkload.sweeping.results import Results, flat
from mmworkload.sweeping.rows import TIMING
from mmworkload.sweeping.running import resume, run

SweepFile = Callable[..., Path]
Command = Callable[..., subprocess.Popen[bytes]]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("slow_simulator"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def final(folder: Path) -> pandas.DataFrame:
    return flat(Results(folder)).drop_columns(list(TIMING)).to_pandas()


def children(pid: int) -> list[int]:
    """All processes under ``pid``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid:
                own = int(path.parent.name)
                found += [own, *children(own)]
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_until(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s"
        time.sleep(0.02)


def errors(tmp_path: Path, driver: subprocess.Popen[bytes]) -> str:
    return (tmp_path / f"driver-{driver.pid}.err").read_text()


def quiet(tmp_path: Path, file: Path) -> pandas.DataFrame:
    """The table of an undisturbed run with a cache of its own."""
    run(file, tmp_path / "quiet", workers=2, cache=tmp_path / "quiet-cache")
    return final(tmp_path / "quiet")


@pytest.mark.parametrize("method", ["grid", pytest.param("random", marks=pytest.mark.full)])
def test_a_driver_that_is_killed_again_and_again_loses_nothing(
    tmp_path: Path, sweep_file: SweepFile, command: Command, method: str
) -> None:
    runs = tmp_path / "runs"
    search = {"method": method} | ({"budget": 7, "seed": 5} if method == "random" else {})
    file = sweep_file(options={"takes": "0.08", "runs": str(runs)}, search=search)
    out = tmp_path / "out"
    source = random.Random(method)
    kills = 0
    driver = command("run", file, "-o", out, "-j", 2)
    while True:
        # Some drivers die while they start, the others after some jobs.
        wanted = len(lines(runs)) + source.randint(0, 9)
        if source.random() < 0.3:
            time.sleep(source.uniform(0.0, 1.0))
        else:
            wait_until(lambda: driver.poll() is not None or len(lines(runs)) > wanted, 120)  # noqa: B023
            time.sleep(source.uniform(0.0, 0.3))
        if driver.poll() is not None:
            break
        driver.kill()
        driver.wait()
        kills += 1
        driver = command(*(("resume", out) if (out / "state.json").exists() else ("run", file, "-o", out)), "-j", 2)
    assert driver.returncode == 0, errors(tmp_path, driver)
    assert kills >= 3
    ran = runs.read_text().splitlines()

    pandas.testing.assert_frame_equal(final(out), quiet(tmp_path, file), check_exact=True)
    # A job runs twice only when it was running at a kill: at most one a worker each time.
    assert len(ran) - len(set(ran)) <= 2 * kills


def test_workers_that_are_killed_cost_nothing_but_time(tmp_path: Path, sweep_file: SweepFile, command: Command) -> None:
    file = sweep_file(options={"takes": "0.3"})
    driver = command("run", file, "-o", tmp_path / "out", "-j", 2)
    source = random.Random(1)
    kills = 0
    while driver.poll() is None and kills < 8:
        time.sleep(source.uniform(0.3, 1.2))
        own = children(driver.pid)
        if own:
            with suppress(ProcessLookupError):
                os.kill(source.choice(own), signal.SIGKILL)
                kills += 1

    assert driver.wait(120) == 0, errors(tmp_path, driver)
    assert kills == 8
    pandas.testing.assert_frame_equal(final(tmp_path / "out"), quiet(tmp_path, file), check_exact=True)


def test_two_drivers_at_once_one_runs_and_one_says_so(tmp_path: Path, sweep_file: SweepFile, command: Command) -> None:
    file = sweep_file(options={"takes": "0.1"})
    drivers = [command("run", file, "-o", tmp_path / "out", "-j", 1) for _ in range(2)]
    endings = [(driver.wait(120), errors(tmp_path, driver)) for driver in drivers]

    assert sorted(code for code, _ in endings) == [0, 2]
    (refused,) = [text for code, text in endings if code == 2]
    (running,) = [driver.pid for driver, (code, _) in zip(drivers, endings, strict=True) if code == 0]
    assert f"is being run by process {running} on" in refused
    pandas.testing.assert_frame_equal(final(tmp_path / "out"), quiet(tmp_path, file), check_exact=True)


@pytest.mark.full
@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_a_search_that_is_killed_loses_no_trial_and_runs_none_again(
    tmp_path: Path, sweep_file: SweepFile, command: Command, method: str
) -> None:
    optuna = pytest.importorskip("optuna")
    runs = tmp_path / "runs"
    file = sweep_file(
        options={"takes": "0.05", "runs": str(runs)},
        arch={
            "base": str(tmp_path / "small.yaml"),
            "set": {"array.x": {"range": [1, 60]}, "levels.buffer.size_kib": {"range": [4, 60]}},
            "estimator": "law",
        },
        search={"method": method, "budget": 18, "population": 3},
    )
    out = tmp_path / "out"
    source = random.Random(method)
    before: dict[str, float] = {}
    kills = 0
    driver = command("run", file, "-o", out, "-j", 2)
    while True:
        wanted = len(lines(runs)) + source.randint(3, 40)
        wait_until(lambda: driver.poll() is not None or len(lines(runs)) > wanted, 120)  # noqa: B023
        time.sleep(source.uniform(0.0, 0.3))
        ended = driver.poll() is not None
        if not ended:
            driver.kill()
            driver.wait()
            kills += 1
        found = Results(out).trials
        now = dict(zip(found["design"], found["energy_j"], strict=True))
        assert before.items() <= now.items()
        before = now
        if ended:
            break
        driver = command("resume", out, "-j", 2)
    assert driver.returncode == 0, errors(tmp_path, driver)
    assert kills >= 1

    trials = Results(out).trials
    assert len(trials) == trials["design"].nunique() == 18
    segments = [segment.column("design").to_pylist() for segment in Results(out).store.segments()]
    assert sum(len(set(segment)) for segment in segments) == 18
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{out / 'optuna.db'}")
    told = [tuple(trial.values) for trial in study.trials if trial.state.name == "COMPLETE"]
    assert set(told) == set(zip(trials["energy_j"], trials["latency_s"], strict=True))


# --- Dask -------------------------------------------------------------------------------------------------------------


@contextmanager
def cluster(tmp_path: Path, site: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each a process; (address, scheduler, workers)."""
    pytest.importorskip("distributed")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    contact = tmp_path / f"scheduler-{time.monotonic_ns()}.json"
    log = (tmp_path / "dask.log").open("ab")

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)

    scheduler = start(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)
    )
    workers = [
        start("worker", "--scheduler-file", str(contact), "--nthreads", "1", "--no-dashboard", "--name", str(number))
        for number in range(2)
    ]
    try:
        deadline = time.monotonic() + 60
        while not contact.exists() or not contact.read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        import json

        from distributed import Client

        address: str = json.loads(contact.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, scheduler, workers
    finally:
        for process in (*workers, scheduler):
            for pid in (process.pid, *children(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        log.close()


def test_pool_and_dask_give_the_same_table_also_when_a_worker_is_killed(
    tmp_path: Path, sweep_file: SweepFile, slow_simulator: Path
) -> None:
    file = sweep_file(options={"takes": "0.1"})
    expected = quiet(tmp_path, file)
    with cluster(tmp_path, slow_simulator) as (address, _, workers):
        done = run(file, tmp_path / "calm", scheduler=address, cache=tmp_path / "calm-cache")
        assert (done.evaluated, done.jobs, done.workers) == (9, 54, 2)

        killed = []

        def kill(progress: object) -> None:
            if not killed:
                own = children(workers[0].pid)
                killed.extend(own)
                for pid in own:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        run(file, tmp_path / "out", scheduler=address, cache=tmp_path / "other-cache", progress=kill)
        assert killed
    pandas.testing.assert_frame_equal(final(tmp_path / "calm"), expected, check_exact=True)
    pandas.testing.assert_frame_equal(final(tmp_path / "out"), expected, check_exact=True)


@pytest.mark.full
def test_a_scheduler_that_is_killed_ends_the_run_with_a_message_and_it_goes_on(
    tmp_path: Path, sweep_file: SweepFile, slow_simulator: Path
) -> None:
    file = sweep_file(options={"takes": "0.25"})
    with (
        cluster(tmp_path, slow_simulator) as (address, scheduler, _),
        pytest.raises(MmworkloadError, match=r"the Dask scheduler at .* is gone.*sweep resume"),
    ):
        run(file, tmp_path / "out", scheduler=address, progress=lambda progress: scheduler.kill())
    with pytest.raises(MmworkloadError, match="no Dask scheduler answers at"):
        resume(tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    with cluster(tmp_path, slow_simulator) as (address, _, _):
        resume(tmp_path / "out", scheduler=address)
    pandas.testing.assert_frame_equal(final(tmp_path / "out"), quiet(tmp_path, file), check_exact=True)


def test_a_job_that_hangs_is_ended_on_a_dask_worker_too(
    tmp_path: Path, sweep_file: SweepFile, slow_simulator: Path
) -> None:
    file = sweep_file(
        limit_s=1.5,
        options={"hangs_on": "4"},
        workloads={str(tmp_path / "first.yaml"): 1},
        arch={"base": str(tmp_path / "small.yaml"), "set": {"array.x": [2, 4]}, "estimator": "law"},
    )
    with cluster(tmp_path, slow_simulator) as (address, _, _):
        run(file, tmp_path / "out", scheduler=address)
    found = Results(tmp_path / "out").trials
    assert list(found["status"]) == ["ok", "failed"]
    assert "no answer within 1.5 s" in found["reason"][1]
