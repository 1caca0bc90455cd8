"""Worker processes: time limits, crashes, noise, and that nothing is left behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmworkload.errors import SimulationError
from mmworkload.simulating.cache import CRASH, ERROR, TIMEOUT, Failure
from mmworkload.simulating.estimate import Estimate, Job
from mmworkload.simulating.workers import WorkerPool, _Worker, available_cores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("fake_simulator"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own for everything temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def job(do: str, limit_s: float = 30.0, **options: str) -> Job:
    return Job("fake", "1", {}, {"do": do, **options}, limit_s)


def run(jobs: list[Job], workers: int = 2) -> list[Estimate | Failure]:
    with WorkerPool(workers) as pool:
        found = dict(pool.run(jobs))
    return [found[position] for position in range(len(jobs))]


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s"
        time.sleep(0.02)


def using(folder: Path) -> list[int]:
    """Processes whose command line or working directory is in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                place = str((entry / "cwd").readlink())
            except OSError:
                continue
            if str(folder) in command or place.startswith(str(folder)):
                found.append(int(entry.name))
    return found


def test_answers_come_from_persistent_workers_each_job_in_a_folder_of_its_own(tmp_path: Path, temporary: Path) -> None:
    places = tmp_path / "places"
    jobs = [job("answer", cycles=str(number), places=str(places)) for number in range(6)]

    found = run(jobs)

    assert [item.cycles for item in found if isinstance(item, Estimate)] == [0, 1, 2, 3, 4, 5]
    assert all(item.seconds > 0 for item in found if isinstance(item, Estimate))
    lines = [line.split() for line in places.read_text().splitlines()]
    assert len({pid for pid, *_ in lines}) <= 2
    assert len({folder for _, folder, *_ in lines}) == 6
    assert all(in_it == "True" and threads == "1" for *_, in_it, threads in lines)
    assert not any(Path(folder).exists() for _, folder, *_ in lines)
    assert list(temporary.iterdir()) == []


def test_a_job_past_its_limit_is_killed_and_the_rest_goes_on() -> None:
    start = time.monotonic()

    late, *others = run([job("sleep", limit_s=0.5), *(job("answer") for _ in range(4))], workers=1)

    assert late == Failure(TIMEOUT, "no answer within 0.5 s", 0.5)
    assert all(isinstance(item, Estimate) for item in others)
    assert time.monotonic() - start < 10


def test_the_limit_kills_what_the_tool_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    (late,) = run([job("fork", limit_s=1.5, pids=str(pids))])

    assert isinstance(late, Failure)
    worker, grandchild = map(int, pids.read_text().split())
    wait_until(lambda: not alive(worker) and not alive(grandchild))


@pytest.mark.parametrize("options", [{}, {"then": "answers"}], ids=["late", "answered"])
def test_nothing_that_left_the_group_survives_the_worker(
    tmp_path: Path, temporary: Path, options: dict[str, str]
) -> None:
    pids = tmp_path / "pids"

    (found,) = run([job("leave", limit_s=30.0 if options else 5.0, pids=str(pids), **options)])

    assert isinstance(found, Estimate if options else Failure)
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    assert not any(alive(pid) for pid in left)
    assert list(temporary.iterdir()) == []


def test_children_that_a_tool_forgets_may_end_before_its_job() -> None:
    found = run([job("orphan", cycles="5"), job("orphan", cycles="6")], workers=1)

    assert [item.cycles for item in found if isinstance(item, Estimate)] == [5, 6]


@pytest.mark.parametrize(
    "text",
    [
        "garbage\n",
        "\xff\x00\n",
        "5\n",
        "[" * 9000 + "\n",
        '{"error": "of another job"}\n',
        '{"number": 1}\n',
        "no end ",
    ],
    ids=["text", "bytes", "number", "deep", "stale", "no answer", "before the answer"],
)
def test_garbage_in_a_workers_pipe_costs_its_job_only(text: str) -> None:
    broken, *others = run([job("garbage", text=text), job("answer", cycles="5"), job("answer", cycles="6")], workers=1)

    assert isinstance(broken, Failure)
    assert broken.kind == CRASH
    assert [item.cycles for item in others if isinstance(item, Estimate)] == [5, 6]


def test_a_pipe_full_of_garbage_without_an_end_costs_its_job_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmworkload.simulating.workers._LONGEST_REPLY", 1 << 12)

    broken, other = run([job("garbage", text="x" * 9000), job("answer")], workers=1)

    assert isinstance(broken, Failure)
    assert isinstance(other, Estimate)


def test_what_an_installation_prints_when_python_starts_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "printing"
    site.mkdir()
    (site / "sitecustomize.py").write_text("print('welcome', flush=True)\n")
    monkeypatch.syspath_prepend(str(site))

    (found,) = run([job("answer", cycles="7")])

    assert isinstance(found, Estimate)
    assert found.cycles == 7


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("exit", r"the worker ended \(exit code 3\): about to leave"),
        ("segfault", r"\(signal SIGSEGV\): Fatal Python error: Segmentation fault"),
    ],
)
def test_a_worker_that_crashes_costs_its_job_only(do: str, message: str) -> None:
    crashed, *others = run([job(do), job("answer"), job("answer")], workers=1)

    assert isinstance(crashed, Failure)
    assert crashed.kind == CRASH
    with pytest.raises(SimulationError, match=message):
        raise SimulationError(crashed.message)
    assert all(isinstance(item, Estimate) for item in others)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("refuse", "no mapping fits"),
        ("bug", "ZeroDivisionError: of the tool"),
        ("system_exit", "SystemExit: goodbye"),
    ],
)
def test_an_error_of_the_tool_is_the_jobs_and_the_worker_stays(tmp_path: Path, do: str, message: str) -> None:
    places = str(tmp_path / "places")

    failed, answered = run([job(do, places=places), job("answer", places=places)], workers=1)

    assert failed == Failure(ERROR, message, 30.0)
    assert isinstance(answered, Estimate)
    assert len({line.split()[0] for line in Path(places).read_text().splitlines()}) == 1


def test_what_tools_print_does_not_disturb_the_answers() -> None:
    found = run([job("noise", cycles="5"), job("noise", cycles="6")], workers=1)

    assert [item.cycles for item in found if isinstance(item, Estimate)] == [5, 6]


def test_an_unknown_simulator_is_an_error_of_the_job() -> None:
    (failed,) = run([Job("nobody", "1", {}, {}, 5.0)])

    assert failed == Failure(ERROR, "KeyError: 'nobody'", 5.0)


def test_a_worker_that_cannot_start_ends_the_run_with_its_message(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho cannot load libpython >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))

    with pytest.raises(SimulationError, match="a worker process does not start: cannot load libpython"):
        run([job("answer")])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(SimulationError, match=r"a worker process cannot be started: .*nothing"):
        run([job("answer")])
    assert list(temporary.iterdir()) == []


def test_a_worker_that_was_killed_between_jobs_does_not_fail_the_next_one(tmp_path: Path) -> None:
    stopped, stop = os.pipe()
    try:
        worker = _Worker(tmp_path, 0, stopped)
        assert isinstance(worker.run(job("answer")), Estimate)
        assert worker._pid is not None
        os.kill(worker._pid, signal.SIGKILL)
        wait_until(lambda: worker._process.poll() is not None)

        assert worker.run(job("answer")) is None
        assert not worker.alive
    finally:
        os.close(stop)
        os.close(stopped)


def test_leaving_the_pool_early_ends_the_workers(tmp_path: Path, temporary: Path) -> None:
    pids = tmp_path / "pids"

    with WorkerPool(2) as pool:
        answers = pool.run([job("fork", pids=str(pids)), job("answer")])
        assert next(answers)[0] == 1
        wait_until(pids.exists)
        wait_until(lambda: len(pids.read_text().split()) == 2)

    worker, grandchild = map(int, pids.read_text().split())
    wait_until(lambda: not alive(worker) and not alive(grandchild))
    assert list(temporary.iterdir()) == []
    assert using(temporary) == []


def test_no_workers_is_refused() -> None:
    assert available_cores() >= 1
    with pytest.raises(SimulationError, match="at least one"):
        WorkerPool(0)


PARENT = """
import sys
from mmworkload.simulating.estimate import Job
from mmworkload.simulating.workers import WorkerPool

jobs = [Job("fake", "1", {}, {"do": do, "pids": sys.argv[1]}, 600.0) for do in ("fork", "sleep")]
with WorkerPool(2) as pool:
    list(pool.run(jobs))
"""


@contextmanager
def parent_with_workers(tmp_path: Path, site: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A process that waits for two workers, one of which has started a tool; and all their processes."""
    pids = tmp_path / "pids"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    with subprocess.Popen([sys.executable, "-c", PARENT, str(pids)], env=environment, stderr=subprocess.PIPE) as parent:
        try:
            wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
            # Two guardians, two workers, one tool.
            temporary = Path(os.environ["TMPDIR"])
            wait_until(lambda: len(using(temporary)) == 5)
            yield parent, using(temporary)
        finally:
            parent.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_parent_dies_nothing_stays(
    tmp_path: Path, temporary: Path, fake_simulator: Path, number: signal.Signals
) -> None:
    with parent_with_workers(tmp_path, fake_simulator) as (parent, processes):
        parent.send_signal(number)
        parent.wait()

        wait_until(lambda: not any(alive(pid) for pid in processes))
        wait_until(lambda: list(temporary.iterdir()) == [])


def test_ctrl_c_ends_everything(tmp_path: Path, temporary: Path, fake_simulator: Path) -> None:
    with parent_with_workers(tmp_path, fake_simulator) as (parent, processes):
        parent.send_signal(signal.SIGINT)
        _, errors = parent.communicate(timeout=10)

        assert b"KeyboardInterrupt" in errors
        assert not any(alive(pid) for pid in processes)
        assert list(temporary.iterdir()) == []
