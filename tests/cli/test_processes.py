"""The command as a process: Ctrl-C, a simulator that hangs, a reader that goes away; nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mmworkload.processes import descendants

pytestmark = pytest.mark.slow

HANGS = """
import os
import time
from pathlib import Path

from mmworkload.simulating.estimate import Fidelity, Job


class Hangs:
    name = "hangs"
    in_process = False

    def unavailable(self):
        return None

    def version(self):
        return "1"

    def fidelity(self, arch):
        return Fidelity("exact")

    def prepare(self, problem, arch, options):
        return Job("hangs", "1", {"problem": str(problem)}, {}, options.limit_s)

    def run(self, job, directory):
        Path(os.environ["STARTED"]).write_text(str(os.getpid()))
        time.sleep(1000)


SIMULATOR = Hangs()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A distribution on the path whose simulator never answers, a cache of its own, a private temporary folder."""
    package = tmp_path / "plugin" / "hanging_simulators"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "hangs.py").write_text(HANGS)
    info = tmp_path / "plugin" / "hanging-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmworkload.simulators]\nhanging = hanging_simulators\n")
    (tmp_path / "tmp").mkdir()
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "plugin"), os.environ.get("PYTHONPATH", "")]),
        "MMWORKLOAD_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
        "STARTED": str(tmp_path / "started"),
    }


def graph_file(tmp_path: Path) -> Path:
    """A recorded graph, so that no process needs torch."""
    import mmworkload.shapes

    return Path(mmworkload.shapes.__path__[0]) / "av-mnist" / "image.yaml"


def command(tmp_path: Path, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "mmworkload.cli", "simulate", str(graph_file(tmp_path)), "--arch", "eyeriss_like"),
        *("--simulator", "hangs", "--workers", "2", *arguments),
    ]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def started(tmp_path: Path) -> int:
    """Waits until a job runs; the process that runs it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        path = tmp_path / "started"
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("no job was started")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_code_and_leaves_no_process_and_no_file(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    process = subprocess.Popen(
        command(tmp_path), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    worker = started(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", "interrupted\n")
    assert gone(worker)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_kill_minus_9_leaves_no_process(tmp_path: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        command(tmp_path), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    worker = started(tmp_path)
    process.kill()
    process.wait()
    assert gone(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="locks of folders")
def test_what_kill_minus_9_left_goes_at_the_next_start(tmp_path: Path, environment: dict[str, str]) -> None:
    """Driver and guardians at once: nobody is left to remove their folders."""
    process = subprocess.Popen(
        command(tmp_path), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    worker = started(tmp_path)
    process.send_signal(signal.SIGSTOP)
    # Parents first: a guardian that lives removes the folder of its worker.
    for pid in list(descendants(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
    assert gone(worker)
    left = list((tmp_path / "tmp").iterdir())

    subprocess.run(
        command(tmp_path, "--limit-s", "0.3"), env=environment, capture_output=True, cwd=tmp_path, timeout=120
    )
    assert len(left) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_simulator_that_hangs_is_killed_at_its_limit_and_is_one_error(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    result = subprocess.run(
        command(tmp_path, "--limit-s", "0.3"),
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: hangs gave no answer for 6 of 6 problems")
    assert "no answer within 0.3 s" in result.stderr
    assert "--limit-s" in result.stderr
    assert result.stderr.count("\n") == 1
    assert gone(started(tmp_path))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    result = subprocess.run(
        f"{sys.executable} -m mmworkload.cli trace {graph_file(tmp_path)} | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("schema_ver", "")


def test_json_on_stdout_is_nothing_but_json(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mmworkload.cli", "show", str(graph_file(tmp_path)), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["total_macs"] == 149032
    assert result.stderr == ""
