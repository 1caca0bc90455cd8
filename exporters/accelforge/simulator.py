"""The simulator: one problem through AccelForge's mapper, charged with the architecture's own energies."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.accelforge import run
from mmworkload.exporters.accelforge.einsum import TENSORS, paths, translate
from mmworkload.exporters.accelforge.inputs import VERSION, machine, task, workload_text
from mmworkload.exporters.accelforge.machine import MAC, arch_text, fidelity
from mmworkload.problem import Problem
from mmworkload.simulating.energy import access_bits, leakage_j
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options

PYTHON_VARIABLE = "MMWORKLOAD_ACCELFORGE_PYTHON"
NAME = "layer"
_OLDEST = (3, 12)
_HOW = f"install accelforge=={VERSION} in a Python of 3.12 or later and name that in {PYTHON_VARIABLE}"


class AccelForgeSimulator:
    """AccelForge in a Python of its own (``MMWORKLOAD_ACCELFORGE_PYTHON``, or this one where it has it).

    Never tried by ``auto`` and in no extra: see :mod:`mmworkload.exporters.accelforge` for the licences of what it
    needs. The latency is AccelForge's, raised to the steps that its own mapping takes on the array, which it averages
    where a loop does not divide evenly. Energy is the architecture's table times AccelForge's counts.
    """

    name = "accelforge"
    in_process = False

    def unavailable(self) -> str | None:
        """One sentence when there is no Python with it. Imports nothing."""
        try:
            self.version()
        except SimulationError as error:
            return str(error)
        return None

    def version(self) -> str:
        """The installed versions that decide an answer, and the Python.

        Raises SimulationError when AccelForge is not there.
        """
        found = _versions(_python())
        return ", ".join(f"{name} {version}" for name, version in found.items())

    def fidelity(self, arch: Architecture) -> Fidelity:
        return fidelity(arch)

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        """The input files, and in the options what a right answer must report. Raises SimulationError."""
        einsum = translate(problem, arch, NAME)
        files = {
            run.ARCHITECTURE: arch_text(arch),
            "problem.yaml": workload_text([einsum], arch, options.effort),
        }
        operands = paths(problem)
        expected = {
            **task([einsum], alone=True),
            **machine(arch),
            "roles": {TENSORS[path]: operand.role for path, operand in operands.items()},
            "bits_per_value": {access.tensor: access.bits for access in einsum.accesses},
            "bits_per_action": {name: str(access_bits(arch, name)) for name in arch.levels},
            "leakage_j_per_cycle": leakage_j(arch, 1),
            "padded": any(item.pad_low or item.pad_high for operand in operands.values() for item in operand.axes),
        }
        settings = {"effort": options.effort, "expected": json.dumps(expected, sort_keys=True)}
        return Job(self.name, self.version(), files, settings, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        """Runs the mapper as a child in this process's group, so that killing the group ends it.

        Raises SimulationError that says what went wrong.
        """
        directory = directory.resolve()
        files = []
        for name, text in job.files.items():
            (directory / name).write_text(text)
            files.append(str(directory / name))
        work = directory / "work"
        work.mkdir()
        output, log = work / "answer.json", work / "log.txt"
        with log.open("w") as stream:
            code = subprocess.run(
                [_python(), "-P", run.__file__, "--child", str(output), *files],
                cwd=work,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if not output.is_file():
            raise SimulationError(f"accelforge gave no result: {run.failure(log.read_text(errors='replace'), code)}")
        return estimate(job, json.loads(output.read_text()))


def estimate(job: Job, found: dict[str, Any]) -> Estimate:
    """The estimate from what ``run.py`` wrote for a job. Raises SimulationError when it cannot be right."""
    expected = json.loads(job.options["expected"])
    wrong = run.check(found, expected)
    if wrong:
        raise SimulationError(wrong)
    item = found["einsums"][NAME]
    if not item["latency_s"] or not item["actions"]:
        raise SimulationError("AccelForge reported neither latency nor actions")
    raw = run.cycles(max(item["latency_s"].values()), expected["clock_mhz"])
    cycles = max(raw, run.array_steps(found["mapping"], expected["extents"]))
    levels = expected["bits_per_action"]
    energy_j = {
        component: sum(joules for action, joules in item["energy_j"].get(component, {}).items() if action != "leak")
        for component in (*levels, MAC)
    }
    # The shared figure, which AccelForge's own agrees with, so that leakage is one component for every simulator.
    energy_j["leakage"] = expected["leakage_j_per_cycle"] * cycles
    traffic: dict[str, dict[str, int]] = {}
    for name, bits in levels.items():
        moved: dict[str, float] = {}
        for tensor, actions in item["actions"].get(name, {}).items():
            role = expected["roles"][tensor]
            moved[role] = moved.get(role, 0.0) + sum(actions.values()) * float(Fraction(bits)) / 8
        traffic[name] = {role: _up(value) for role, value in moved.items()}
    footprints: dict[str, int] = {}
    for tensor, role in expected["roles"].items():
        footprints[role] = footprints.get(role, 0) + found["bits"][tensor] // expected["bits_per_value"][tensor]
    includes = ["compute", "the bandwidth of every level", "dram traffic"]
    if expected["padded"]:
        includes.append("zeros of the padding, read like data")
    return Estimate(
        simulator=job.simulator,
        version=job.version,
        cycles=cycles,
        latency_s=cycles / (expected["clock_mhz"] * 1e6),
        energy_j=energy_j,
        utilization=item["computes"] / (cycles * expected["elements"]),
        traffic_bytes=traffic,
        macs=item["computes"],
        footprints=footprints,
        includes=tuple(includes),
        floored_from=raw if raw < cycles else None,
        mapping=found["mapping"],
    )


def _up(value: float) -> int:
    """Rounded up, but for the error of a sum of floats."""
    nearest = round(value)
    return nearest if math.isclose(value, nearest, rel_tol=1e-9) else math.ceil(value)


def _python() -> str:
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


def _environment() -> dict[str, str]:
    """This process's environment, with one thread; another Python must not find our packages."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    if os.environ.get(PYTHON_VARIABLE):
        environment.pop("PYTHONPATH", None)
    return environment


def _versions(python: str) -> dict[str, str]:
    """What is installed in ``python``. Raises SimulationError when AccelForge is not."""
    if os.environ.get(PYTHON_VARIABLE):
        program = shutil.which(python)
        if program is None:
            raise SimulationError(f"{PYTHON_VARIABLE} names '{python}', which is no program: {_HOW}")
        found = _asked(program)
    elif sys.version_info[:2] < _OLDEST or importlib.util.find_spec("accelforge") is None:
        raise SimulationError(f"accelforge is not installed: {_HOW}")
    else:
        found = run.versions()
    if "accelforge" not in found:
        raise SimulationError(f"{python} has no accelforge: {_HOW}")
    return found


@functools.cache
def _asked(program: str) -> dict[str, str]:
    answer = subprocess.run(
        [program, "-P", run.__file__, "--versions"], env=_environment(), capture_output=True, text=True, check=False
    )
    try:
        found: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise SimulationError(f"{program} cannot be asked for its packages: {last}. {_HOW}") from error
    return found


SIMULATOR = AccelForgeSimulator()
