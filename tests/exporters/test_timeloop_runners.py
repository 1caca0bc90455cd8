"""Where Timeloop runs: by itself, in docker, in apptainer.

The tools are stand-ins (tests/fixtures/timeloop/stand_in.py): no real container was started by these tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop import runners
from mmworkload.exporters.timeloop.simulator import PYTHON_VARIABLE, TimeloopSimulator
from mmworkload.problem import Problem, gemm
from mmworkload.simulating.cache import TIMEOUT, Failure
from mmworkload.simulating.estimate import Job, Options
from mmworkload.simulating.workers import WorkerPool

pytestmark = pytest.mark.slow

RECORDED = Path(__file__).parents[1] / "fixtures" / "timeloop"
CONV = Problem.parse(
    "mac M=48 C=24 P=14 Q=14 R=3 S=3 | Inputs input 16 [C:24, P+R:14~1,1, Q+S:14~1,1] | "
    "Weights weight 16 [M:48, C:24, R:3, S:3] | Outputs output 16 [M:48, P:14, Q:14]"
).canonical()
DOCKER = Options(extra={"timeloop_runner": "docker", "timeloop_image": "an/image:1"}, limit_s=30)
IMAGE_ID = "sha256:" + "ab" * 32


def _stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location("timeloop_stand_in", RECORDED / "stand_in.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAND_IN = _stand_in()


@pytest.fixture
def arch() -> Architecture:
    return architectures.load("eyeriss_like")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs stand-ins; the log of their calls is in the folder that comes back."""

    def install(*programs: str, front_end: bool = True) -> Path:
        folder = tmp_path / "tools"
        folder.mkdir()
        STAND_IN.install(folder, *programs, front_end=front_end)
        monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
        monkeypatch.setenv("PATH", STAND_IN.path_with(folder))
        # For the child; this process must not find the front end, as where only a container is there.
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "calls"))
        replayed = tmp_path / "replayed"
        replayed.mkdir()
        for file in ("stats.txt", "map.txt"):
            name = f"timeloop-mapper.{file}"
            (replayed / name).write_text((RECORDED / "eyeriss_conv" / name).read_text())
        monkeypatch.setenv("STAND_IN", str(replayed))
        return folder

    return install


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


def calls(tmp_path: Path, program: str) -> list[list[str]]:
    """The arguments of each call of docker or apptainer."""
    lines = (tmp_path / "calls").read_text().splitlines()
    return [json.loads(line.partition(" ")[2]) for line in lines if line.startswith(f"{program} ")]


def gone(pid: int) -> bool:
    """Whether a process has ended (perhaps not yet collected)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# --- the choice ------------------------------------------------------------------------------------------------------


def test_the_front_end_comes_first_and_its_jobs_say_nothing_of_runners(
    tools: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, arch: Architecture
) -> None:
    folder = tools("timeloop-mapper", "docker")
    monkeypatch.syspath_prepend(str(folder))

    job = TimeloopSimulator().prepare(CONV, arch, Options())

    assert runners.choose({}).name == "local"
    assert sorted(job.options) == ["effort", "expected"]
    assert job.version.startswith("mapper ")


def test_without_the_front_end_the_program_alone_answers(
    tools: Callable[..., Path], tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    tools("timeloop-mapper", front_end=False)
    simulator = TimeloopSimulator()

    job = simulator.prepare(CONV, arch, Options())
    estimate = simulator.run(job, directory)

    assert simulator.unavailable() is None
    assert simulator.version().endswith(" without front end")
    assert job.options["runner"] == "binary"
    assert sorted(job.files) == ["arch.yaml", "art.yaml", "constraints.yaml", "ert.yaml", "mapper.yaml", "problem.yaml"]
    assert "version: 0.3" in job.files["arch.yaml"]
    assert (tmp_path / "calls").read_text().split() == ["binary", *job.files]
    assert (estimate.cycles, estimate.macs) == (12096, 2032128)


def test_with_docker_alone_auto_takes_an_image_that_is_there(tools: Callable[..., Path]) -> None:
    tools("docker", front_end=False)

    assert runners.choose({"timeloop_image": "an/image:1"}).name == "docker"
    assert runners.missing({"timeloop_image": "an/image:1"}) is None
    # Not the default image: nothing is downloaded.
    reason = str(runners.missing({}))
    assert reason.startswith("pytimeloop is not installed")
    assert (
        "; binary: the program timeloop-mapper is not on PATH; docker: docker has no image timeloopaccelergy/" in reason
    )
    assert reason.endswith("; apptainer: neither apptainer nor singularity is on PATH")


def test_what_is_missing_is_said_for_each_runner(
    tools: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools("docker", "apptainer", front_end=False)

    def reason(runner: str, image: str = "") -> str:
        options = Options(extra={"timeloop_runner": runner, **({"timeloop_image": image} if image else {})})
        return str(TimeloopSimulator().configured(options).unavailable())

    assert "pytimeloop is not installed" in reason("local")
    assert "timeloop-mapper is not on PATH" in reason("binary")
    assert reason("docker", "an/image:2") == "docker has no image an/image:2: docker pull an/image:2"
    assert reason("apptainer").startswith(
        "no timeloop_image is given: apptainer pull timeloop.sif docker://timeloopacc"
    )
    assert reason("apptainer", str(tmp_path / "no.sif")).endswith("no.sif', which is no file")
    monkeypatch.setenv("STAND_IN_DAEMON", "none")
    assert "Cannot connect to the Docker daemon" in reason("docker", "an/image:3")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert reason("docker") == "the program docker is not on PATH"


def test_an_unknown_runner_is_an_error(arch: Architecture) -> None:
    options = Options(extra={"timeloop_runner": "podman"})

    with pytest.raises(SimulationError, match="is 'podman'; it can be auto, local, binary, docker, apptainer"):
        TimeloopSimulator().configured(options)
    with pytest.raises(SimulationError, match="'podman'"):
        TimeloopSimulator().prepare(CONV, arch, options)


# --- docker ----------------------------------------------------------------------------------------------------------


def test_a_job_runs_in_a_container_that_sees_its_directory_alone(
    tools: Callable[..., Path], tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    tools("docker")
    simulator = TimeloopSimulator()

    job = simulator.prepare(CONV, arch, DOCKER)
    estimate = simulator.run(job, directory)

    assert (estimate.cycles, estimate.version) == (12096, "image sha256:abababababab")
    assert (job.options["runner"], job.options["image"]) == ("docker", IMAGE_ID)
    inspect, run, remove = calls(tmp_path, "docker")
    assert inspect[:2] == ["image", "inspect"]
    assert run[:8] == ["run", "--rm", "--init", "--pull", "never", "--network", "none", "--name"]
    assert run[8].startswith("mmworkload-")
    assert remove == ["rm", "--force", run[8]]
    after = run[run.index("--volume") :]
    assert after[:2] == ["--volume", f"{directory}:/job"]
    assert run.count("--volume") == 1
    assert after[2:6] == ["--workdir", "/job", "--entrypoint", "timeout"]
    assert run[run.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    # By its id, and with a second guard on the time: ten seconds after the job's own limit.
    assert after[6:10] == [IMAGE_ID, "-s", "KILL", "40"]
    assert after[10:] == ["python3", "/job/run.py", "--child", "/job/output", *(f"/job/{name}" for name in job.files)]


def test_the_key_of_a_container_follows_the_image_and_not_its_name(
    tools: Callable[..., Path], arch: Architecture
) -> None:
    tools("docker", "timeloop-mapper")
    simulator = TimeloopSimulator()
    by_id = Options(extra={"timeloop_runner": "docker", "timeloop_image": IMAGE_ID}, limit_s=60)

    jobs = [simulator.prepare(CONV, arch, options) for options in (DOCKER, by_id, Options())]

    assert jobs[0].key == jobs[1].key != jobs[2].key


def running_container(tmp_path: Path) -> int:
    """The process of the one container, once it sleeps."""
    log = tmp_path / "calls"
    assert wait_until(lambda: log.is_file() and "mapper " in log.read_text())
    (state,) = (tmp_path / "containers").iterdir()
    return int(state.read_text())


def test_at_the_limit_the_container_is_killed_too(
    tools: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: Architecture
) -> None:
    tools("docker")
    monkeypatch.setenv("STAND_IN", "sleep")
    job = TimeloopSimulator().prepare(CONV, arch, DOCKER)

    with WorkerPool(1) as pool:
        ((_, result),) = pool.run([Job(job.simulator, job.version, job.files, job.options, 5.0)])

    assert isinstance(result, Failure)
    assert result.kind == TIMEOUT
    pid = running_container(tmp_path)
    assert wait_until(lambda: gone(pid))
    # The daemon's processes are none of ours: it is asked to kill them.
    name = next((tmp_path / "containers").iterdir()).name
    assert wait_until(lambda: ["kill", name] in calls(tmp_path, "docker"))


def test_a_worker_that_is_killed_takes_its_container_with_it(
    tools: Callable[..., Path], tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, arch: Architecture
) -> None:
    tools("docker")
    monkeypatch.setenv("STAND_IN", "sleep")
    script = (
        "import sys; from pathlib import Path; from mmworkload.exporters.timeloop import runners;"
        f"Path({str(directory)!r}, 'output').mkdir();"
        f"runners.Docker({IMAGE_ID!r}).call(runners.MAP, Path({str(directory)!r}), [], 30)"
    )
    worker = subprocess.Popen([sys.executable, "-c", script])
    pid = running_container(tmp_path)
    assert not gone(pid)

    worker.send_signal(signal.SIGKILL)
    worker.wait()

    assert wait_until(lambda: gone(pid))


def test_the_second_guard_ends_a_container_that_nobody_watches(
    tools: Callable[..., Path], tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools("docker")
    monkeypatch.setenv("STAND_IN", "sleep")
    monkeypatch.setattr(runners, "_GUARD_S", 0)
    (directory / "output").mkdir()
    start = time.monotonic()

    runners.Docker(IMAGE_ID).call(runners.MAP, directory, [], 1.5)

    assert time.monotonic() - start < 20
    assert wait_until(lambda: gone(running_container(tmp_path)))
    assert [call[0] for call in calls(tmp_path, "docker")] == ["run", "rm"]


def test_a_container_ends_when_its_client_ends_well_before_it(
    tools: Callable[..., Path], tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools("docker")
    monkeypatch.setenv("STAND_IN", "sleep")
    monkeypatch.setenv("STAND_IN_CLIENT", "leaves")
    (directory / "output").mkdir()

    runners.Docker(IMAGE_ID).call(runners.MAP, directory, [], 60)

    (state,) = (tmp_path / "containers").iterdir()
    assert wait_until(lambda: gone(int(state.read_text())))
    assert ["rm", "--force", state.name] in calls(tmp_path, "docker")


# --- apptainer -------------------------------------------------------------------------------------------------------


def test_a_job_runs_in_apptainer_from_an_image_file(
    tools: Callable[..., Path], tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    tools("apptainer")
    image = tmp_path / "timeloop.sif"
    image.write_bytes(b"SIF one")
    options = Options(extra={"timeloop_runner": "apptainer", "timeloop_image": str(image)}, limit_s=30)
    simulator = TimeloopSimulator()

    job = simulator.prepare(CONV, arch, options)
    estimate = simulator.run(job, directory)

    assert (estimate.cycles, estimate.simulator) == (12096, "timeloop")
    assert estimate.version.startswith("image sif:")
    (run,) = calls(tmp_path, "apptainer")
    assert run == [
        *("exec", "--containall", "--writable-tmpfs", "--pwd", "/job", "--bind", f"{directory}:/job", str(image)),
        *("timeout", "-s", "KILL", "40", "python3", "/job/run.py", "--child", "/job/output"),
        *(f"/job/{name}" for name in job.files),
    ]
    image.write_bytes(b"SIF two")
    assert simulator.prepare(CONV, arch, options).key != job.key


def test_one_multiplication_goes_through_every_form(tools: Callable[..., Path], arch: Architecture) -> None:
    tools("timeloop-mapper", front_end=False)
    job = TimeloopSimulator().prepare(gemm(1, 1, 1, bits=(16, 16, 16)).canonical(), arch, Options())

    # Every loop is of one iteration, so the program is told the order of all of them.
    assert 'permutation: "SRQPCMGN"' in job.files["constraints.yaml"]
