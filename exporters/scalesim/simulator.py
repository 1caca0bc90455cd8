"""SCALE-Sim's closed form as a simulator. Nothing has to be installed: the tool itself needs minutes and gigabytes for
a large layer and reports the same cycles."""

from __future__ import annotations

import json
from pathlib import Path

from mmworkload.arch import Architecture, from_dict
from mmworkload.errors import SimulationError
from mmworkload.exporters.scalesim.buffers import charge, without_buffer
from mmworkload.exporters.scalesim.dataflow import Dataflow, choose
from mmworkload.exporters.scalesim.product import operands, product
from mmworkload.problem import Problem
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options, floors

TOOL_VERSION = "3.0.0"
NO_DATAFLOW = (
    "its array axes allow neither weight, input nor output stationary (they need two of: the reduction C R S T,"
    " output channels M, output pixels N P Q O)"
)


class ScaleSimSimulator:
    """See :mod:`mmworkload.exporters.scalesim`. Always available, answers at once."""

    name = "scalesim"
    in_process = True

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return f"closed form of {TOOL_VERSION}"

    def fidelity(self, arch: Architecture) -> Fidelity:
        return fidelity(arch)

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        product(problem)
        files = {"problem.txt": str(problem), "arch.json": arch.model_dump_json()}
        return Job(self.name, self.version(), files, {}, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        arch = from_dict(json.loads(job.files["arch.json"]))
        dataflow = choose(arch)
        if dataflow is None:
            raise SimulationError(f"{arch.name}: {NO_DATAFLOW}")
        return estimate(Problem.parse(job.files["problem.txt"]), arch, dataflow)


def fidelity(arch: Architecture) -> Fidelity:
    """What SCALE-Sim cannot be told of ``arch``; never exact."""
    dataflow = choose(arch)
    if dataflow is None:
        return Fidelity("refused", (NO_DATAFLOW,))
    lost = [
        f"a systolic array and no other mapping: {dataflow}",
        "groups and heads run one after another",
        "buffers and their bandwidth are never the limit: every tensor passes the DRAM once",
    ]
    lost += [
        f"{role}s have no buffer outside the array: the scratchpads of all elements stand for it"
        for role in without_buffer(arch)
    ]
    return Fidelity("approximate", tuple(lost))


def estimate(problem: Problem, arch: Architecture, dataflow: Dataflow) -> Estimate:
    """The answer for one problem. Cycles are those of the array alone; whoever checks raises them to the DRAM's.

    Raises SimulationError when the problem is no matrix product.
    """
    item = product(problem)
    cycles = max(1, dataflow.cycles(item) * item.runs)
    floor = floors(problem, arch)
    energy, traffic = charge(problem, dataflow, arch, max(cycles, floor.cycles))
    row_folds, column_folds = dataflow.folds(item)
    includes = ["compute", "filling and draining the array for each fold", "every tensor once through DRAM"]
    if any(len(axis.terms) > 1 for axis in operands(problem).ofmap.axes):
        includes.append("the matrix product of a transposed convolution, not the sum of its overlapping outputs")
    return Estimate(
        simulator="scalesim",
        version=ScaleSimSimulator().version(),
        cycles=cycles,
        latency_s=cycles / (arch.clock_mhz * 1e6),
        energy_j=energy,
        utilization=min(1.0, problem.macs / (cycles * arch.elements)),
        traffic_bytes=traffic,
        macs=item.macs,
        includes=tuple(includes),
        bound=floor.bound,
        mapping=(
            f"{dataflow}; M={item.m} N={item.n} K={item.k}, {item.runs} in turn,"
            f" {row_folds} x {column_folds} folds of {dataflow.rows} x {dataflow.columns}"
        ),
    )
