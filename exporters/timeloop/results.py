"""Answers that ``run.py`` left in an exported folder, as a simulator: ``mmworkload simulate --from FOLDER``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.exporters.timeloop import architecture
from mmworkload.exporters.timeloop.simulator import estimate
from mmworkload.exporters.work_items import work_items
from mmworkload.exporting import MANIFEST
from mmworkload.files import read_json
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.problem import Problem
from mmworkload.simulating.energy import leakage_j
from mmworkload.simulating.estimate import (
    Estimate,
    Fidelity,
    Job,
    NotRecordedError,
    Options,
    as_asked,
)

SOURCE = "workload.json"
"""The layer graphs and the architecture of an export."""
_OUTPUTS, _STATS = "outputs", "timeloop-mapper.stats.txt"


def source_text(workload: Workload, arch: Architecture) -> str:
    """The content of :data:`SOURCE`. Where a native folder lay is left out: its files are in the export."""
    parts = [
        {"name": part.name, "count": part.count, "sequential": part.sequential, "graph": part.graph.to_dict()}
        for part in workload.parts
    ]
    told = {**arch.model_dump(mode="json"), "native": ""}
    return json.dumps({"name": workload.name, "arch": told, "parts": parts}) + "\n"


@dataclass(frozen=True)
class FolderResults:
    """Timeloop, as far as its answers lie in ``folder``. ``stems`` are the names of problems by the key of the problem
    as simulators are asked it."""

    folder: Path
    arch: Architecture
    stems: dict[str, str]
    name: ClassVar[str] = "timeloop"
    in_process: ClassVar[bool] = True

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return f"as run in {self.folder}"

    def fidelity(self, arch: Architecture) -> Fidelity:
        return architecture.fidelity(arch)

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        """The job that was run. NotRecordedError where it left nothing."""
        stem = self.stems.get(problem.key)
        if stem is None or not (self.folder / _OUTPUTS / stem).is_dir():
            raise NotRecordedError(f"{self.folder} has no results of {problem}")
        footprints = {operand.name: problem.footprint(operand) for operand in problem.operands}
        # The folder's architecture has words of the native precision, whatever is stored in fewer bits.
        narrower = [f"{item.name} of {item.bits}" for item in problem.operands if item.bits < arch.dram.word_bits]
        expected: dict[str, Any] = {
            "macs": problem.macs,
            "computes": problem.macs,
            "footprints": footprints,
            "padded": "",
            "elements": arch.elements,
            "clock_mhz": arch.clock_mhz,
            "leakage_j_per_cycle": leakage_j(arch, 1),
            **({"wider": f"{' and '.join(narrower)} bits charged as {arch.dram.word_bits}"} if narrower else {}),
        }
        settings = {"stem": stem, "expected": json.dumps(expected)}
        return Job(self.name, self.version(), {}, settings, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        """The answer that lies there. SimulationError as :func:`estimate`."""
        return estimate(job, self.folder / _OUTPUTS / job.options["stem"])


def open_results(folder: Path) -> tuple[Workload, Architecture, FolderResults]:
    """What an exported folder is of, and who answers for it.

    Raises FormatError when it is no export or another version's, and MmworkloadError when nothing in it was run, or its
    architecture is a native folder, whose energies are not among the results.
    """
    data = read_json(folder / SOURCE)
    manifest = read_json(folder / MANIFEST)
    try:
        parts = tuple(
            Part(LayerGraph.from_dict(item["graph"]), item["name"], item["count"], item["sequential"])
            for item in data["parts"]
        )
        workload = Workload(data["name"], parts)
        if data["arch"]["kind"] == "native":
            raise MmworkloadError(f"{folder}: results of a native folder cannot be read back; simulate it instead")
        arch = architectures.from_dict(data["arch"], str(folder / SOURCE))
        files = [row["problem_file"] for row in manifest["layers"]]
        stems: dict[str, str] = {}
        for item, file in zip(work_items(workload), files, strict=True):
            if item.work is not None and file:
                stems.setdefault(as_asked(item.work.problem, arch.bits).key, Path(file).stem)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{folder}: {MANIFEST} and {SOURCE} are not of one export ({error}); export again") from error
    if not any((folder / _OUTPUTS / stem / _STATS).is_file() for stem in stems.values()):
        raise MmworkloadError(f"{folder} has no results yet: run `python run.py` in it first (README.md says how)")
    return workload, arch, FolderResults(folder, arch, stems)
