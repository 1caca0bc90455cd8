"""ZigZag as a simulator: jobs, and estimates from what it answers."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.zigzag.evaluation import NoAnswerError, answer
from mmworkload.exporters.zigzag.inputs import accelerator_text, inputs, machine, mapping_text, workload_text
from mmworkload.exporters.zigzag.layer import NAME
from mmworkload.exporters.zigzag.memories import fidelity
from mmworkload.problem import Problem
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options

WORKLOAD, ACCELERATOR = "workload.yaml", "accelerator.yaml"


class ZigZag:
    """See :mod:`mmworkload.exporters.zigzag`.

    The latency is ZigZag's ``latency_total2``: computing, stalls of every port, and the first load and last store. It
    is raised to what the transfers that ZigZag itself reports need at the DRAM, which it can undercut. Energy is the
    architecture's table times those transfers.
    """

    name = "zigzag"
    in_process = False

    def unavailable(self) -> str | None:
        # zigzag-dse imports six without declaring it; importing zigzag to find out would take seconds.
        for module in ("zigzag", "six"):
            if importlib.util.find_spec(module) is None:
                return f"the package {module} is not installed: pip install 'mmworkload[zigzag]'"
        return None

    def version(self) -> str:
        return version("zigzag-dse")

    def fidelity(self, arch: Architecture) -> Fidelity:
        return fidelity(arch)

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        found = inputs(problem, arch, options.effort)
        files = {WORKLOAD: workload_text(found.layer, NAME), ACCELERATOR: accelerator_text(arch)}
        for number, choice in enumerate(found.choices):
            files[_mapping_name(number)] = mapping_text((name, choice) for name in ("default", NAME))
        settings = {**machine(arch, options.effort), **found.task}
        return Job(self.name, self.version(), files, {"settings": json.dumps(settings)}, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        for name, text in job.files.items():
            (directory / name).write_text(text)
        settings = json.loads(job.options["settings"])
        mappings = [_mapping_name(number) for number in range(len(settings["passes"]))]
        try:
            found = answer(directory, WORKLOAD, ACCELERATOR, mappings, settings, settings)
        except NoAnswerError as error:
            raise SimulationError(str(error)) from error
        return Estimate.from_dict({"simulator": self.name, "version": self.version(), **found})


def _mapping_name(number: int) -> str:
    return f"mapping-{number}.yaml"


SIMULATOR = ZigZag()
