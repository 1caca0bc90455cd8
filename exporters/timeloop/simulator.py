"""The simulator: one problem through Timeloop's mapper, charged with the architecture's own energies.

A native folder has no energies of its own; they come from Accelergy, once (:mod:`.native_energies`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop import architecture, bare, runners, stats
from mmworkload.exporters.timeloop.energy_tables import area_text, energy_text
from mmworkload.exporters.timeloop.native import NativeArchitecture, read_native
from mmworkload.exporters.timeloop.native_energies import job_files, tables_of
from mmworkload.exporters.timeloop.padding import difference, pad, pad_primes
from mmworkload.exporters.timeloop.precision import at_precision
from mmworkload.exporters.timeloop.problem_file import problem_text, refusal
from mmworkload.exporters.timeloop.runners import PYTHON_VARIABLE, Runner
from mmworkload.exporters.timeloop.settings import components_text, mapper_text, variables_text
from mmworkload.exporters.timeloop.spatial import constraints_text
from mmworkload.exporters.timeloop.terms import MAC, ROLES
from mmworkload.problem import Problem
from mmworkload.simulating.energy import PICO, leakage_j
from mmworkload.simulating.estimate import WIDER, Estimate, Fidelity, Job, Options

__all__ = ["PYTHON_VARIABLE", "TimeloopSimulator"]

# What the user may set in Options.extra, besides where Timeloop runs.
_ARRAY = "timeloop_array"
_ARRAY_CHOICES = ("fill", "free")


@dataclass(frozen=True)
class TimeloopSimulator:
    """Timeloop through its front end, by itself or in a container (see :mod:`.runners`).

    Job options besides the effort: ``timeloop_runner`` and ``timeloop_image`` say where it runs; ``timeloop_array`` is
    ``fill`` (spatial factors fixed before the search, large prime extents padded) or ``free`` (the search decides,
    nothing is padded). ``extra`` are options that hold unless a job has its own.
    """

    extra: tuple[tuple[str, str], ...] = ()
    name: ClassVar[str] = "timeloop"
    in_process: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = ("accelerator", "native")

    def configured(self, options: Options) -> TimeloopSimulator:
        """The same with the runner of ``options``, for :meth:`unavailable` and :meth:`version`, which are asked first.

        Raises SimulationError for an unknown runner.
        """
        chosen = TimeloopSimulator(tuple(sorted({**dict(self.extra), **options.extra}.items())))
        runners.choose(dict(chosen.extra))
        return chosen

    def unavailable(self) -> str | None:
        """One sentence when no runner can run, or the one asked for. Starts nothing where a program is missing."""
        missing = runners.missing(dict(self.extra))
        if missing:
            return missing
        try:
            self.version()
        except SimulationError as error:
            return str(error)
        return None

    def version(self) -> str:
        """What decides the answers: hashes of mapper and front end, or the identity of the image.

        Raises SimulationError when the tool is there but broken.
        """
        return _version(runners.choose(dict(self.extra)))

    def fidelity(self, arch: Architecture) -> Fidelity:
        """Exact, unless a level has a name that Timeloop cannot take. A native folder is told as it is."""
        return Fidelity("exact") if _native_folder(arch) else architecture.fidelity(arch)

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        """The input files, and in the options what a right answer must report.

        The first job of a native folder runs Accelergy. Raises SimulationError when Timeloop cannot express the problem
        or its precision, ArchitectureError for a native folder that cannot be read.
        """
        extra = {**dict(self.extra), **options.extra}
        reason = refusal(problem)
        if reason:
            raise SimulationError(f"timeloop: {reason}")
        # One word a level holds elements of all operands: it is as wide as the widest.
        bits = max(operand.bits for operand in problem.operands)
        narrower = [f"{operand.name} of {operand.bits}" for operand in problem.operands if operand.bits < bits]
        fill = extra.get(_ARRAY, "fill")
        if fill not in _ARRAY_CHOICES:
            raise SimulationError(f"{_ARRAY} is '{fill}'; it can be {' or '.join(_ARRAY_CHOICES)}")
        runner = runners.choose(extra)
        folder = _native_folder(arch)
        if folder:
            native = read_native(Path(folder))
            mapped, files, about = _native_job(problem, native, runner, options, bits, fill == "fill")
        else:
            mapped, files, about = _job(problem, arch, runner, options, bits, fill == "fill")
        expected = {
            "macs": problem.macs,
            "computes": mapped.macs,
            "footprints": {operand.name: mapped.footprint(operand) for operand in mapped.operands},
            "padded": difference(problem, mapped),
            **about,
            # Only where it differs, so that all other jobs keep their keys.
            **({"wider": f"{' and '.join(narrower)} bits charged as {bits}"} if narrower else {}),
        }
        settings = {"effort": options.effort, "expected": json.dumps(expected, sort_keys=True), **runner.settings()}
        return Job(self.name, _version(runner), files, settings, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        """Runs the mapper and checks its answer: all work done, footprints right, energies taken from the table.

        The tool is a child in this process's group, so that killing the group ends it; a container ends with this
        process. Raises SimulationError that says what went wrong.
        """
        directory = directory.resolve()
        for name, text in job.files.items():
            (directory / name).write_text(text)
        output = directory / "output"
        output.mkdir()
        runners.of_job(job.options).call(runners.MAP, directory, list(job.files), job.limit_s)
        return estimate(job, output)


def _job(
    problem: Problem, arch: Architecture, runner: Runner, options: Options, bits: int, fill: bool
) -> tuple[Problem, dict[str, str], dict[str, object]]:
    """The problem as it is mapped, the files, and what the answer is converted by."""
    told = at_precision(arch, bits)
    mapped = pad(problem, told) if fill else problem
    if runner.reads == "0.3":
        files = {
            "arch.yaml": bare.arch_text(told),
            "mapper.yaml": mapper_text(options.effort),
            "ert.yaml": energy_text(told),
            "art.yaml": area_text(told),
            "problem.yaml": problem_text(mapped),
            "constraints.yaml": bare.constraints_text(mapped, told, fill=fill),
        }
    else:
        files = {
            "arch.yaml": architecture.arch_text(told),
            "components.yaml": components_text(),
            "variables.yaml": variables_text(told),
            "mapper.yaml": mapper_text(options.effort),
            "ert.yaml": energy_text(told),
            "art.yaml": area_text(told),
            "problem.yaml": problem_text(mapped),
            "constraints.yaml": constraints_text(mapped, told, fill=fill),
        }
    about: dict[str, object] = {"elements": arch.elements, "clock_mhz": arch.clock_mhz}
    return mapped, files, {**about, "leakage_j_per_cycle": leakage_j(arch, 1)}


def _native_job(
    problem: Problem, native: NativeArchitecture, runner: Runner, options: Options, bits: int, fill: bool
) -> tuple[Problem, dict[str, str], dict[str, object]]:
    """As :func:`_job`. The folder's own constraints stand alone: the search is free in what they leave open."""
    if runner.reads == "0.3":
        raise SimulationError("a native folder needs Timeloop's front end; take another timeloop_runner than binary")
    if bits != native.word_bits:
        raise SimulationError(
            f"{native.name} has words of {native.word_bits} bits and the operands {bits}; a native folder is used as it"
            " is: leave the precision out"
        )
    mapped = pad_primes(problem) if fill else problem
    files = {**job_files(native, options.effort), "problem.yaml": problem_text(mapped)}
    tables = tables_of(native, runner)
    if tables.ert:
        files |= {"ert.yaml": tables.ert, "art.yaml": tables.art}
    return mapped, files, {"elements": native.elements, "clock_mhz": native.clock_mhz, "compute": native.compute}


def estimate(job: Job, output: Path) -> Estimate:
    """The answer to ``job`` in the folder ``output``. SimulationError when it is missing or cannot be right."""
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
    if (output / "timeloop-mapper.accelergy.log").exists():
        raise SimulationError("timeloop ran Accelergy although it was given both tables")
    compute = expected.get("compute", MAC)
    energy_j = {MAC if name == compute else name: level.dynamic_pj * PICO for name, level in found.levels.items()}
    if "leakage_j_per_cycle" in expected:
        # The shared figure, so that leakage is one component for every simulator. Timeloop's own is lower where a
        # mapping never uses some elements: it switches them off.
        energy_j["leakage"] = expected["leakage_j_per_cycle"] * found.cycles
    else:
        energy_j["leakage"] = sum(level.leakage_pj for level in found.levels.values()) * PICO
    padded, wider = expected["padded"], expected.get("wider")
    notes = [*([f"padding of {padded}"] if padded else []), *([f"{WIDER} {wider}"] if wider else [])]
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
            if name != compute
        },
        # What was padded was counted too, and exactly, as checked above.
        macs=found.computes - (expected["computes"] - expected["macs"]),
        footprints={} if padded else {ROLES[space]: size for space, size in footprints.items()},
        includes=("compute", "buffer bandwidths", "dram bandwidth", *notes),
        mapping=mapping,
    )


def _native_folder(arch: Architecture) -> str:
    return arch.native if arch.kind == "native" else ""


def _version(runner: Runner) -> str:
    return "not installed" if runner.missing() else runner.version()


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
