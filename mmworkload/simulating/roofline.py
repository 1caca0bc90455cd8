"""The closed form that needs no tool: the physical floors as an answer.

Cycles are the larger of MACs over array elements and compulsory words over the DRAM's bandwidths (Williams, Waterman,
Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009). Energy charges every MAC and moves
every tensor once through each level that holds its role: inputs and weights are read from DRAM, written into and read
from each level below, outputs the other way round. Reuse inside the array and repeated loads are not in it, so both
figures are lower bounds.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from mmworkload.arch import KINDS, Architecture, from_dict
from mmworkload.problem import Problem
from mmworkload.simulating.energy import PICO, leakage_j, transfer_j
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options, compulsory_elements, floors
from mmworkload.versions import versions


@cache
def _version() -> str:
    return versions().get("mmworkload", "unknown")


class Roofline:
    """See the module. Always available, answers at once."""

    name = "roofline"
    in_process = True
    kinds = KINDS

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return _version()

    def fidelity(self, arch: Architecture) -> Fidelity:
        return Fidelity("approximate", ("lower bounds: no mapping, and on-chip bandwidth is never the limit",))

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        files = {"problem.txt": str(problem), "arch.json": arch.model_dump_json()}
        return Job(self.name, self.version(), files, {}, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        problem = Problem.parse(job.files["problem.txt"])
        return closed_form(problem, from_dict(json.loads(job.files["arch.json"])))


def closed_form(problem: Problem, arch: Architecture) -> Estimate:
    """The roofline's answer for one problem of ``mac`` operations."""
    floor = floors(problem, arch)
    cycles = max(1, floor.cycles)
    energy = dict.fromkeys(arch.levels, 0.0)
    traffic: dict[str, dict[str, int]] = {name: {} for name in arch.levels}
    dram = next(iter(arch.levels))
    for operand in problem.operands:
        bits = compulsory_elements(problem, operand) * operand.bits
        for name, level in arch.levels.items():
            if operand.role not in level.holds:
                continue
            read = bits if name != dram or operand.role != "output" else 0
            written = bits if name != dram or operand.role == "output" else 0
            energy[name] += transfer_j(arch, name, read_bits=read, write_bits=written)
            traffic[name][operand.role] = traffic[name].get(operand.role, 0) + -(-(read + written) // 8)
    energy["mac"] = problem.macs * arch.compute.energy_pj * PICO
    energy["leakage"] = leakage_j(arch, cycles)
    return Estimate(
        simulator="roofline",
        version=_version(),
        cycles=cycles,
        latency_s=cycles / (arch.clock_mhz * 1e6),
        energy_j=energy if arch.charged else {},
        utilization=min(1.0, problem.macs / (cycles * arch.elements)),
        traffic_bytes=traffic,
        macs=problem.macs,
        includes=("compute", "every tensor once through DRAM"),
        bound=floor.bound,
    )


SIMULATOR = Roofline()
