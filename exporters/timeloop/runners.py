"""Where Timeloop runs: its front end in a Python of this machine, the program alone, or a container.

Options (``Options.extra``): ``timeloop_runner`` is ``auto``, ``local``, ``binary``, ``docker`` or ``apptainer``;
``timeloop_image`` the image, for docker a name that ``docker image inspect`` knows, for apptainer a SIF file. Nothing
is ever downloaded here.

A container outlives the client that started it, so three things end one: the worker itself, a watchdog that notices the
worker's death by whatever signal, and ``timeout`` inside the container. Each job has one directory, the only one that
the container sees.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop import run
from mmworkload.processes import ENDS_BY_ITSELF, end

PYTHON_VARIABLE = "MMWORKLOAD_TIMELOOP_PYTHON"
MAP, ESTIMATE = "--child", "--estimate"
RUNNER, IMAGE = "timeloop_runner", "timeloop_image"
RUNNERS = ("local", "binary", "docker", "apptainer")
"""In the order in which ``auto`` tries them."""
MAPPER = "timeloop-mapper"
REPOSITORY = "timeloopaccelergy/timeloop-accelergy-pytorch"
_WHERE = f"use the official container image {REPOSITORY} or build it as https://timeloop.csail.mit.edu says"
_MAPPER_LOG = "timeloop-mapper.log"
# Where the job's directory is in a container.
_MOUNT = "/job"
# Later than the pool's own limit, which keeps the answer "no answer within".
_GUARD_S = 10
# Waits for a line; when the worker dies instead, its end of the pipe closes. The container may just be starting.
_WATCHDOG = """read -r _ && exit
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do "$1" kill "$2" && exit; sleep 0.5; done"""


class Runner(Protocol):
    """One way to run Timeloop. ``reads`` is the form of its inputs: ``0.4`` with the front end, ``0.3`` without."""

    name: str
    reads: str

    def missing(self) -> str | None:
        """What is not there and how to get it, in one sentence; None when it can run. Starts at most one client."""

    def version(self) -> str:
        """What decides its answers. Raises SimulationError when it is there but broken."""

    def settings(self) -> dict[str, str]:
        """What a job has to say for :func:`of_job` to find this runner again."""

    def call(self, mode: str, directory: Path, files: Sequence[str], limit_s: float) -> None:
        """Runs ``run.py`` with ``mode`` on ``files`` of ``directory``; results and logs come to ``directory/output``.

        MAP runs the mapper in this process's group, whose killing is the limit; ESTIMATE runs Accelergy and raises
        SimulationError at the limit. Neither says anything of success.
        """


def choose(extra: Mapping[str, str]) -> Runner:
    """The runner that the options ask for; for ``auto`` the first that can run, else the one of this Python.

    Raises SimulationError for an unknown name.
    """
    name = extra.get(RUNNER, "auto")
    image = extra.get(IMAGE, "")
    if name != "auto":
        return _named(name, image)
    local = Local()
    # Who installed the front end, or named a Python, means that one and wants to hear what is wrong with it.
    if local.meant() or local.missing() is None:
        return local
    others = [_named(other, image) for other in RUNNERS[1:]]
    return next((runner for runner in others if runner.missing() is None), local)


def of_job(options: Mapping[str, str]) -> Runner:
    """The runner for which a job was prepared."""
    return _named(options.get("runner", "local"), options.get("image", ""))


def missing(extra: Mapping[str, str]) -> str | None:
    """Why nothing can run, with a reason for each runner that ``auto`` tried; None when something can."""
    chosen = choose(extra)
    reason = chosen.missing()
    if reason is None or extra.get(RUNNER, "auto") != "auto" or (isinstance(chosen, Local) and chosen.meant()):
        return reason
    others = [_named(name, extra.get(IMAGE, "")) for name in RUNNERS[1:]]
    # What is wrong with the others, without how to get them.
    return "; ".join([reason, *(f"{runner.name}: {(runner.missing() or '').split(': ')[0]}" for runner in others)])


def _named(name: str, image: str) -> Runner:
    if name == "local":
        return Local()
    if name == "binary":
        return Binary()
    if name == "docker":
        return Docker(image)
    if name == "apptainer":
        return Apptainer(image)
    raise SimulationError(f"{RUNNER} is '{name}'; it can be auto, {', '.join(RUNNERS)}")


@dataclass(frozen=True)
class Local:
    """The front end in this Python or in that of ``MMWORKLOAD_TIMELOOP_PYTHON``, and the mapper on PATH."""

    name = "local"
    reads = "0.4"

    def meant(self) -> bool:
        return bool(os.environ.get(PYTHON_VARIABLE)) or importlib.util.find_spec("pytimeloop") is not None

    def missing(self) -> str | None:
        python = os.environ.get(PYTHON_VARIABLE)
        if python and not shutil.which(python):
            return f"{PYTHON_VARIABLE} names '{python}', which is no program; it should be a Python with pytimeloop"
        if not self.meant():
            return (
                f"pytimeloop is not installed (it is not on PyPI): {_WHERE}, or set {PYTHON_VARIABLE} to the Python"
                " that has it"
            )
        if not shutil.which(MAPPER):
            return f"the program {MAPPER} is not on PATH: {_WHERE}"
        return None

    def version(self) -> str:
        """The mapper's build and the front end's source, as hashes: neither has a version number of its own."""
        return _local_version(_python(), shutil.which(MAPPER) or MAPPER)

    def settings(self) -> dict[str, str]:
        return {}

    def call(self, mode: str, directory: Path, files: Sequence[str], limit_s: float) -> None:
        output = directory / "output"
        inputs = [str(directory / name) for name in files]
        command = [_python(), run.__file__, mode, str(output), *inputs]
        _run(command, directory, environment(), limit_s=_own_limit(mode, limit_s))


@dataclass(frozen=True)
class Binary:
    """The mapper on PATH by itself, without the front end and without Accelergy."""

    name = "binary"
    reads = "0.3"

    def missing(self) -> str | None:
        return None if shutil.which(MAPPER) else f"the program {MAPPER} is not on PATH: {_WHERE}"

    def version(self) -> str:
        return f"mapper {_digest_of_program(shutil.which(MAPPER) or MAPPER)} without front end"

    def settings(self) -> dict[str, str]:
        return {"runner": self.name}

    def call(self, mode: str, directory: Path, files: Sequence[str], limit_s: float) -> None:
        if mode != MAP:
            raise SimulationError("timeloop's program alone cannot run Accelergy; take another timeloop_runner")
        output = directory / "output"
        program = shutil.which(MAPPER) or MAPPER
        _run([program, *(str(directory / name) for name in files)], output, dict(os.environ), log_name=_MAPPER_LOG)


@dataclass(frozen=True)
class Docker:
    """A container for each job, from an image that docker has. ``image`` is a name, a digest or an id."""

    image: str = ""
    name = "docker"
    reads = "0.4"

    def missing(self) -> str | None:
        if not shutil.which("docker"):
            return "the program docker is not on PATH"
        reason = _docker_image(shutil.which("docker") or "", self._wanted())[1]
        return reason or None

    def version(self) -> str:
        return f"image {self._id()[:19]}"

    def settings(self) -> dict[str, str]:
        # The id: a tag may point elsewhere by the time that the job runs.
        return {"runner": self.name, "image": self._id()}

    def call(self, mode: str, directory: Path, files: Sequence[str], limit_s: float) -> None:
        docker = shutil.which("docker") or "docker"
        container = f"mmworkload-{uuid.uuid4().hex}"
        command = [docker, "run", "--rm", "--init", "--pull", "never", "--network", "none", "--name", container]
        if mode == MAP:
            # Accelergy, in the other mode, has to write into its own plug-ins' folders.
            command += ["--user", f"{os.getuid()}:{os.getgid()}", "--env", f"HOME={_MOUNT}"]
        command += ["--volume", f"{directory}:{_MOUNT}", "--workdir", _MOUNT, "--entrypoint", "timeout", self._wanted()]
        with _watched(docker, container):
            command += _inside(mode, directory, files, limit_s)
            _run(command, directory, dict(os.environ), limit_s=_own_limit(mode, limit_s))

    def _wanted(self) -> str:
        architecture = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "amd64"
        return self.image or f"{REPOSITORY}:latest-{architecture}"

    def _id(self) -> str:
        found, reason = _docker_image(shutil.which("docker") or "docker", self._wanted())
        if reason:
            raise SimulationError(reason)
        return found


@dataclass(frozen=True)
class Apptainer:
    """A container for each job, from a SIF file. Its processes are ours, so that killing the worker's group ends it."""

    image: str = ""
    name = "apptainer"
    reads = "0.4"

    def missing(self) -> str | None:
        if not self._program():
            return "neither apptainer nor singularity is on PATH"
        if not self.image:
            return f"no {IMAGE} is given: apptainer pull timeloop.sif docker://{REPOSITORY}:latest-amd64, then name it"
        if not Path(self.image).is_file():
            return f"{IMAGE} is '{self.image}', which is no file"
        return None

    def version(self) -> str:
        """The image's own identity: the head of a SIF file has an id that every build makes anew."""
        path = Path(self.image)
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
        return f"image sif:{hashlib.sha256(head + str(path.stat().st_size).encode()).hexdigest()[:12]}"

    def settings(self) -> dict[str, str]:
        return {"runner": self.name, "image": str(Path(self.image).resolve())}

    def call(self, mode: str, directory: Path, files: Sequence[str], limit_s: float) -> None:
        command = [self._program() or "apptainer", "exec", "--containall", "--writable-tmpfs", "--pwd", _MOUNT]
        command += ["--bind", f"{directory}:{_MOUNT}", self.image, "timeout"]
        command += _inside(mode, directory, files, limit_s)
        _run(command, directory, dict(os.environ), limit_s=_own_limit(mode, limit_s))

    def _program(self) -> str | None:
        return shutil.which("apptainer") or shutil.which("singularity")


def environment() -> dict[str, str]:
    """This process's environment; another Python must not find our packages."""
    found = dict(os.environ)
    if os.environ.get(PYTHON_VARIABLE):
        found.pop("PYTHONPATH", None)
    return found


def _own_limit(mode: str, limit_s: float) -> float | None:
    return None if mode == MAP else limit_s


def _python() -> str:
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


def _run(
    command: list[str],
    folder: Path,
    variables: Mapping[str, str],
    *,
    limit_s: float | None = None,
    log_name: str = "front-end.log",
) -> int:
    """A child in this process's group, so that killing the group ends it. A return code of 0 is not success.

    With ``limit_s`` it has a group of its own, which is killed then. Raises SimulationError.
    """
    output = folder if folder.name == "output" else folder / "output"
    with (output / log_name).open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=limit_s is not None,
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise SimulationError(f"no answer within {limit_s:g} s") from None
        finally:
            if limit_s is not None:
                end(process)
            elif process.poll() is None:
                process.kill()
                process.wait()


def _inside(mode: str, directory: Path, files: Sequence[str], limit_s: float) -> list[str]:
    """The arguments of ``timeout`` in the container; the script goes there with the job."""
    shutil.copyfile(run.__file__, directory / "run.py")
    script = [f"{_MOUNT}/run.py", mode, f"{_MOUNT}/output", *(f"{_MOUNT}/{name}" for name in files)]
    return ["-s", "KILL", str(math.ceil(limit_s) + _GUARD_S), "python3", *script]


def _end(docker: str, container: str) -> None:
    """Ends and removes a container, when there still is one."""
    subprocess.run([docker, "rm", "--force", container], stdin=subprocess.DEVNULL, capture_output=True, check=False)


@contextmanager
def _watched(docker: str, container: str) -> Iterator[None]:
    """Ends ``container`` when the block is left, for its client may end before it, well or badly; and when this process
    dies in the block."""
    watchdog = subprocess.Popen(
        ["sh", "-c", _WATCHDOG, ENDS_BY_ITSELF, docker, container],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Not in this group, which is killed as a whole.
        start_new_session=True,
    )
    try:
        yield
    finally:
        _end(docker, container)
        assert watchdog.stdin is not None
        with suppress(OSError):
            watchdog.stdin.write(b"done\n")
            watchdog.stdin.close()
        watchdog.wait()


@functools.cache
def _docker_image(docker: str, image: str) -> tuple[str, str]:
    """(id, empty) of an image that docker has, else (empty, why not)."""
    try:
        answer = subprocess.run(
            [docker, "image", "inspect", "--format", "{{.Id}}", image],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"docker does not answer: {error}"
    found = answer.stdout.strip()
    if answer.returncode == 0 and found:
        return found, ""
    said = " ".join(answer.stderr.split())
    if "no such image" in said.lower() or not said:
        return "", f"docker has no image {image}: docker pull {image}"
    return "", f"docker cannot be asked for the image {image}: {said[:200]}"


@functools.cache
def _local_version(python: str, mapper: str) -> str:
    answer = subprocess.run(
        [python, run.__file__, "--versions"], env=environment(), capture_output=True, text=True, check=False
    )
    try:
        front_end = json.loads(answer.stdout.splitlines()[-1])["front_end"]
    except (IndexError, ValueError, KeyError) as error:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise SimulationError(f"timeloop's front end cannot be loaded by {python}: {last}") from error
    return f"mapper {_digest_of_program(mapper)}, front end {front_end}"


@functools.cache
def _digest_of_program(mapper: str) -> str:
    digest = hashlib.sha256()
    for file in [Path(mapper), *_libraries(mapper)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _libraries(program: str) -> list[Path]:
    """Timeloop's own shared libraries: the program itself is a shell around them in newer builds."""
    if not shutil.which("ldd"):
        return []
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(path) for path in re.findall(r"libtimeloop\S* => (\S+)", listing)]
