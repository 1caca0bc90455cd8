"""The simulator: one problem through Timeloop's mapper, charged with the architecture's own energies."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop import architecture, run, stats
from mmworkload.exporters.timeloop.energy_tables import area_text, energy_text
from mmworkload.exporters.timeloop.padding import difference, pad
from mmworkload.exporters.timeloop.precision import at_precision
from mmworkload.exporters.timeloop.problem_file import problem_text, refusal
from mmworkload.exporters.timeloop.settings import components_text, mapper_text, variables_text
from mmworkload.exporters.timeloop.spatial import constraints_text
from mmworkload.exporters.timeloop.terms import MAC, ROLES
from mmworkload.problem import Problem
from mmworkload.simulating.energy import PICO, leakage_j
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options

PYTHON_VARIABLE = "MMWORKLOAD_TIMELOOP_PYTHON"
_MAPPER = "timeloop-mapper"
_WHERE = (
    "use the official container image timeloopaccelergy/timeloop-accelergy-pytorch or build it as"
    " https://timeloop.csail.mit.edu says"
)
# What the user may set in Options.extra.
_ARRAY = "timeloop_array"
_ARRAY_CHOICES = ("fill", "free")


class TimeloopSimulator:
    """Timeloop through its front end, which may live in another Python (``MMWORKLOAD_TIMELOOP_PYTHON``).

    Job options besides the effort: ``timeloop_array`` is ``fill`` (spatial factors fixed before the search, large prime
    extents padded) or ``free`` (the search decides, nothing is padded).
    """

    name = "timeloop"
    in_process = False

    def unavailable(self) -> str | None:
        """One sentence when the front end or the mapper is missing or broken. Starts nothing where one is missing."""
        missing = _missing()
        if missing:
            return missing
        try:
            self.version()
        except SimulationError as error:
            return str(error)
        return None

    def version(self) -> str:
        """The mapper's build and the front end's source, as hashes: neither has a version number of its own.

        Raises SimulationError when the front end is there but cannot be loaded.
        """
        return "not installed" if _missing() else _version(_python(), shutil.which(_MAPPER) or _MAPPER)

    def fidelity(self, arch: Architecture) -> Fidelity:
        """Exact, unless a level has a name that Timeloop cannot take."""
        return architecture.fidelity(arch)

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        """The input files, and in the options what a right answer must report.

        Raises SimulationError when Timeloop cannot express the problem or its precision.
        """
        reason = refusal(problem)
        if reason:
            raise SimulationError(f"timeloop: {reason}")
        bits = {operand.bits for operand in problem.operands}
        if len(bits) > 1:
            raise SimulationError(
                f"timeloop has one word size for all operands of a level; these have {sorted(bits)} bits"
            )
        fill = options.extra.get(_ARRAY, "fill")
        if fill not in _ARRAY_CHOICES:
            raise SimulationError(f"{_ARRAY} is '{fill}'; it can be {' or '.join(_ARRAY_CHOICES)}")
        told = at_precision(arch, bits.pop())
        mapped = pad(problem, told) if fill == "fill" else problem
        files = {
            "arch.yaml": architecture.arch_text(told),
            "components.yaml": components_text(),
            "variables.yaml": variables_text(told),
            "mapper.yaml": mapper_text(options.effort),
            "ert.yaml": energy_text(told),
            "art.yaml": area_text(told),
            "problem.yaml": problem_text(mapped),
            "constraints.yaml": constraints_text(mapped, told, fill=fill == "fill"),
        }
        expected = {
            "macs": problem.macs,
            "computes": mapped.macs,
            "footprints": {operand.name: mapped.footprint(operand) for operand in mapped.operands},
            "padded": difference(problem, mapped),
            "elements": arch.elements,
            "clock_mhz": arch.clock_mhz,
            "leakage_j_per_cycle": leakage_j(arch, 1),
        }
        settings = {"effort": options.effort, "expected": json.dumps(expected, sort_keys=True)}
        return Job(self.name, self.version(), files, settings, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        """Runs the mapper and checks its answer: all work done, footprints right, energies taken from the table.

        The front end is a child in this process's group, so that killing the group ends it and the mapper. Raises
        SimulationError that says what went wrong.
        """
        directory = directory.resolve()
        for name, text in job.files.items():
            (directory / name).write_text(text)
        output = directory / "output"
        output.mkdir()
        with (output / "front-end.log").open("w") as log:
            subprocess.run(
                [_python(), run.__file__, "--child", str(output), *(str(directory / name) for name in job.files)],
                cwd=directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        return _estimate(job, output)


def _estimate(job: Job, output: Path) -> Estimate:
    expected = json.loads(job.options["expected"])
    text = _read(output / "timeloop-mapper.stats.txt")
    if not text.strip():
        reason = stats.failure(
            _read(output / "timeloop-mapper.log") or _read(output / "front-end.log"),
            _read(output / "timeloop-mapper.accelergy.log"),
        )
        raise SimulationError(f"timeloop gave no result: {reason}")
    found = stats.parse_stats(text)
    if found.computes != expected["computes"]:
        raise SimulationError(
            f"timeloop counted {found.computes} multiply-accumulates where the problem has {expected['computes']}"
        )
    mapping = _read(output / "timeloop-mapper.map.txt")
    footprints = stats.parse_footprints(mapping)
    if footprints != expected["footprints"]:
        raise SimulationError(
            f"timeloop's footprints are {footprints} where the problem's are {expected['footprints']}"
        )
    invented = [level.name for level in found.levels.values() if level.accesses and level.energy_source != "ERT"]
    if invented:
        raise SimulationError(f"timeloop did not take the energies of {', '.join(invented)} from the table")
    energy_j = {name: level.dynamic_pj * PICO for name, level in found.levels.items()}
    # The shared figure, which Timeloop's own agrees with, so that leakage is one component for every simulator.
    energy_j["leakage"] = expected["leakage_j_per_cycle"] * found.cycles
    padded = expected["padded"]
    return Estimate(
        simulator=job.simulator,
        version=job.version,
        cycles=found.cycles,
        latency_s=found.cycles / (expected["clock_mhz"] * 1e6),
        energy_j=energy_j,
        utilization=expected["macs"] / (found.cycles * expected["elements"]),
        traffic_bytes={
            name: {ROLES[space]: item.words * level.word_bits // 8 for space, item in level.accesses.items()}
            for name, level in found.levels.items()
            if name != MAC
        },
        # What was padded was counted too, and exactly, as checked above.
        macs=found.computes - (expected["computes"] - expected["macs"]),
        footprints={} if padded else {ROLES[space]: size for space, size in footprints.items()},
        includes=("compute", "buffer bandwidths", "dram bandwidth", *([f"padding of {padded}"] if padded else [])),
        mapping=mapping,
    )


def _missing() -> str | None:
    """What is not on this machine and how to get it, in one sentence."""
    python = os.environ.get(PYTHON_VARIABLE)
    if python and not shutil.which(python):
        return f"{PYTHON_VARIABLE} names '{python}', which is no program; it should be a Python with pytimeloop"
    if not python and importlib.util.find_spec("pytimeloop") is None:
        return (
            f"pytimeloop is not installed (it is not on PyPI): {_WHERE}, or set {PYTHON_VARIABLE} to the Python that"
            " has it"
        )
    if not shutil.which(_MAPPER):
        return f"the program {_MAPPER} is not on PATH: {_WHERE}"
    return None


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _python() -> str:
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


def _environment() -> dict[str, str]:
    """This process's environment; another Python must not find our packages."""
    environment = dict(os.environ)
    if os.environ.get(PYTHON_VARIABLE):
        environment.pop("PYTHONPATH", None)
    return environment


@functools.cache
def _version(python: str, mapper: str) -> str:
    answer = subprocess.run(
        [python, run.__file__, "--versions"], env=_environment(), capture_output=True, text=True, check=False
    )
    try:
        front_end = json.loads(answer.stdout.splitlines()[-1])["front_end"]
    except (IndexError, ValueError, KeyError) as error:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise SimulationError(f"timeloop's front end cannot be loaded by {python}: {last}") from error
    digest = hashlib.sha256()
    for file in [Path(mapper), *_libraries(mapper)]:
        digest.update(file.read_bytes())
    return f"mapper {digest.hexdigest()[:12]}, front end {front_end}"


def _libraries(program: str) -> list[Path]:
    """Timeloop's own shared libraries: the program itself is a shell around them in newer builds."""
    if not shutil.which("ldd"):
        return []
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(path) for path in re.findall(r"libtimeloop\S* => (\S+)", listing)]
