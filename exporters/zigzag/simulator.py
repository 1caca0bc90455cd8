"""ZigZag as a simulator: jobs, and estimates from what it answers."""

from __future__ import annotations

import importlib.util
import json
import math
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.zigzag.layer import NAME, translate
from mmworkload.exporters.zigzag.memories import LINKS, accelerator, chain, fidelity, too_small
from mmworkload.exporters.zigzag.unrolling import unrollings
from mmworkload.problem import Problem
from mmworkload.simulating.energy import PICO, access_bits, leakage_j
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, Options, compulsory_elements

if TYPE_CHECKING:
    from mmworkload.exporters.zigzag.search import Found

# Effort to (choices of loops on the array, loops whose every order is tried).
EFFORTS = {"quick": (4, 4), "normal": (4, 5), "thorough": (8, 6)}
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
        layer = translate(problem, arch.array)
        for name, operand in layer.operands.items():
            level = too_small(arch, name, operand.bits)
            if level is not None:
                raise SimulationError(
                    f"one element of {operand.name} has {operand.bits} bits and does not fit {arch.name}'s {level}"
                )
        choices, most_loops = EFFORTS[options.effort]
        files = {WORKLOAD: _yaml([layer.to_dict()]), ACCELERATOR: _yaml(accelerator(arch))}
        passes = []
        for number, unrolling in enumerate(unrollings(layer, arch, choices)):
            entry = {"spatial_mapping": unrolling.to_dict(), "memory_operand_links": LINKS}
            files[f"mapping-{number}.yaml"] = _yaml([{"name": name, **entry} for name in ("default", NAME)])
            passes.append(unrolling.passes)
        settings = {
            "most_loops": most_loops,
            "passes": passes,
            "scattered": layer.scattered,
            "roles": {name: operand.role for name, operand in layer.operands.items()},
            "compulsory_bits": {
                name: compulsory_elements(problem, operand) * operand.bits for name, operand in layer.operands.items()
            },
            "arch": arch.model_dump(mode="json", exclude={"description", "source"}),
        }
        return Job(self.name, self.version(), files, {"settings": json.dumps(settings)}, options.limit_s)

    def run(self, job: Job, directory: Path) -> Estimate:
        from mmworkload.exporters.zigzag.search import search

        for name, text in job.files.items():
            (directory / name).write_text(text)
        settings = json.loads(job.options["settings"])
        arch = Architecture.model_validate({**settings["arch"], "description": "", "source": ""})
        dram = arch.dram
        assert dram.read_bandwidth is not None  # every architecture's outermost level has both
        assert dram.write_bandwidth is not None
        dram_bits = (dram.word_bits * dram.read_bandwidth, dram.word_bits * dram.write_bandwidth)
        answers, refusals = [], []
        for number, passes in enumerate(settings["passes"]):
            try:
                found = search(
                    directory,
                    WORKLOAD,
                    ACCELERATOR,
                    f"mapping-{number}.yaml",
                    most_loops=settings["most_loops"],
                    dram_bits=dram_bits,
                )
            except SimulationError as error:
                refusals.append(str(error))
                continue
            if found.passes != passes:
                refusals.append(f"ZigZag took {found.passes} passes over the array where its mapping needs {passes}")
                continue
            answers.append(_estimate(found, arch, settings, self.version()))
        if not answers:
            raise SimulationError("; ".join(dict.fromkeys(refusals)))
        return min(answers, key=lambda item: (item.cycles, item.total_energy_j or 0.0))


def _estimate(found: Found, arch: Architecture, settings: dict[str, Any], tool_version: str) -> Estimate:
    """Charges what ZigZag found; cycles are raised to what its own transfers need at the DRAM.

    ZigZag rounds a loop's share on the array (17 columns are 2 x 8.5), so that its traffic may be some percent less
    than what has to move at least; at the DRAM it is raised to that.
    """
    dram = next(iter(arch.levels))
    chains = {operand: chain(arch, operand) for operand in LINKS}
    energy = dict.fromkeys(arch.levels, 0.0)
    moved: dict[str, dict[str, float]] = {name: {} for name in arch.levels}
    short = dict(settings["compulsory_bits"])

    def charge(operand: str, level: str, write: bool, bits: float, times: float) -> None:
        cost = arch.levels[level].energy
        accesses = math.ceil(Fraction(bits) / access_bits(arch, level)) * times
        energy[level] += accesses * (cost.write_pj if write else cost.read_pj) * PICO
        role = settings["roles"][operand]
        moved[level][role] = moved[level].get(role, 0.0) + bits * times / 8

    for item in found.movements:
        level = chains[item.operand][item.level]
        charge(item.operand, level, item.write, item.bits, item.times)
        if level == dram and item.write == (item.operand == "O"):
            short[item.operand] -= item.bits * item.times
    for operand, bits in short.items():
        if bits > 0:
            charge(operand, dram, operand == "O", bits, 1)
    cycles = max(found.cycles, found.dram_cycles)
    energy["mac"] = found.macs * arch.compute.energy_pj * PICO
    energy["leakage"] = leakage_j(arch, cycles)
    footprints: dict[str, int] = {}
    for operand, size in found.elements.items():
        role = settings["roles"][operand]
        footprints[role] = footprints.get(role, 0) + size
    includes = ["compute", "stalls of every memory port", "first load and last store", "dram traffic"]
    if settings["scattered"]:
        includes.append("the matrix product of a transposed convolution, not the sum of its overlapping outputs")
    return Estimate(
        simulator="zigzag",
        version=tool_version,
        cycles=cycles,
        latency_s=cycles / (arch.clock_mhz * 1e6),
        energy_j=energy,
        utilization=found.macs / (cycles * arch.elements),
        traffic_bytes={
            name: {role: math.ceil(value) for role, value in roles.items()} for name, roles in moved.items()
        },
        macs=found.macs,
        footprints=footprints,
        includes=tuple(includes),
        floored_from=found.cycles if found.cycles < cycles else None,
        mapping=found.mapping,
    )


def _yaml(content: Any) -> str:
    import yaml

    class Plain(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            # Two lists that are one object would be written as an anchor and a reference to it.
            return True

    return yaml.dump(content, Dumper=Plain, sort_keys=False, default_flow_style=None, width=120)


SIMULATOR = ZigZag()
