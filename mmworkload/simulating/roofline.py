"""The closed form that needs no tool: the physical floors as an answer.

Cycles are the larger of MACs over array elements and compulsory words over the DRAM's bandwidths (Williams, Waterman,
Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009). Energy charges every MAC and moves
every tensor once through each level that holds its role: read at the level above, written at the level below. Reuse
inside the array and repeated loads are not in it, so both figures are lower bounds.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmworkload.arch import Architecture, from_dict
from mmworkload.problem import Problem
from mmworkload.simulating.energy import PICO, leakage_j, transfer_j
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options, compulsory_elements, floors
from mmworkload.versions import VERSION


class Roofline:
    """See the module. Always available, answers at once."""

    name = "roofline"
    in_process = True

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return VERSION

    def fidelity(self, arch: Architecture) -> Fidelity:
        return Fidelity("approximate", ("lower bounds: no mapping, on-chip bandwidth is never the limit",))

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        files = {"problem.txt": str(problem), "arch.json": arch.model_dump_json()}
        return Job(self.name, self.version(), files, {}, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        problem = Problem.parse(job.files["problem.txt"])
        return closed_form(problem, from_dict(json.loads(job.files["arch.json"])))


def closed_form(problem: Problem, arch: Architecture) -> Estimate:
    """The roofline's answer for one problem."""
    floor = floors(problem, arch)
    cycles = max(1, floor.cycles)
    energy = dict.fromkeys(arch.levels, 0.0)
    traffic: dict[str, dict[str, int]] = {name: {} for name in arch.levels}
    for operand in problem.operands:
        bits = compulsory_elements(problem, operand) * operand.bits
        chain = [name for name, level in arch.levels.items() if operand.role in level.holds]
        for position, name in enumerate(chain):
            outermost, innermost = position == 0, position == len(chain) - 1
            # A tensor enters a level once and leaves it once; at the outermost level it is already, or stays, there.
            # Between the innermost level and the array it passes too; only a lone level has no fill of its own.
            passes = 1 if outermost else 2
            is_output = operand.role == "output"
            energy[name] += transfer_j(
                arch,
                name,
                read_bits=0 if is_output and outermost else bits,
                write_bits=0 if not is_output and outermost else bits,
            )
            del innermost
            role_bytes = -(-bits * passes // 8)
            traffic[name][operand.role] = traffic[name].get(operand.role, 0) + role_bytes
    energy["mac"] = problem.macs * arch.compute.energy_pj * PICO
    energy["leakage"] = leakage_j(arch, cycles)
    return Estimate(
        simulator="roofline",
        version=VERSION,
        cycles=cycles,
        latency_s=cycles / (arch.clock_mhz * 1e6),
        energy_j=energy,
        utilization=min(1.0, problem.macs / (cycles * arch.elements)),
        traffic_bytes=traffic,
        macs=problem.macs,
        footprints={},
        includes=("compute", "every tensor once through DRAM"),
        bound=floor.bound,
    )


SIMULATOR = Roofline()
