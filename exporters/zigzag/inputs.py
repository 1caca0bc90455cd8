"""ZigZag's input files and what goes with them, for one problem: shared by the simulator and the exporter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mmworkload.arch import Architecture
from mmworkload.exporters.telling import InexpressibleError
from mmworkload.exporters.zigzag.inexpressible import TOO_WIDE
from mmworkload.exporters.zigzag.layer import ZigZagLayer, translate
from mmworkload.exporters.zigzag.memories import LINKS, accelerator, chain, too_small
from mmworkload.exporters.zigzag.unrolling import Unrolling, unrollings
from mmworkload.problem import Problem
from mmworkload.simulating.energy import PICO, access_bits, leakage_j
from mmworkload.simulating.estimate import compulsory_elements, floors

# Effort to (choices of loops on the array, loops whose every order is tried).
EFFORTS = {"quick": (4, 4), "normal": (4, 5), "thorough": (8, 6)}


@dataclass(frozen=True)
class Inputs:
    """A problem in ZigZag's terms: the layer, the choices of loops on the array, the fullest first, and ``task``: what
    else :func:`.evaluation.answer` needs to charge and check it (plain data)."""

    layer: ZigZagLayer
    choices: tuple[Unrolling, ...]
    task: dict[str, Any]


def inputs(problem: Problem, arch: Architecture, effort: str) -> Inputs:
    """For a canonical problem whose operands have the bits of the run.

    Raises InexpressibleError.
    """
    layer = translate(problem, arch.array)
    for name, operand in layer.operands.items():
        level = too_small(arch, name, operand.bits)
        if level is not None:
            raise InexpressibleError(
                TOO_WIDE,
                f"one element of {operand.name} has {operand.bits} bits and does not fit {arch.name}'s {level}",
            )
    choices = tuple(unrollings(layer, arch, EFFORTS[effort][0]))
    task = {
        "macs": problem.macs,
        "passes": [choice.passes for choice in choices],
        "scattered": layer.scattered,
        "roles": {name: operand.role for name, operand in layer.operands.items()},
        "compulsory_bits": {
            name: compulsory_elements(problem, operand) * operand.bits for name, operand in layer.operands.items()
        },
        "floor_cycles": floors(problem, arch).cycles,
    }
    return Inputs(layer, choices, task)


def machine(arch: Architecture, effort: str) -> dict[str, Any]:
    """What :func:`.evaluation.answer` needs of the architecture and the effort, as plain data.

    Energies are for one access of ``access_bits``; ``chains`` are the levels of each operand, innermost first.
    """
    dram = arch.dram
    assert dram.read_bandwidth is not None  # every architecture's outermost level has both
    assert dram.write_bandwidth is not None
    return {
        "most_loops": EFFORTS[effort][1],
        "clock_mhz": arch.clock_mhz,
        "elements": arch.elements,
        "mac_pj": arch.compute.energy_pj,
        "leak_pj_per_cycle": leakage_j(arch, 1) / PICO,
        "dram_bits_per_cycle": [dram.word_bits * dram.read_bandwidth, dram.word_bits * dram.write_bandwidth],
        "levels": {
            name: {
                "read_pj": level.energy.read_pj,
                "write_pj": level.energy.write_pj,
                # Whole, because a width is a whole number of words.
                "access_bits": int(access_bits(arch, name)),
            }
            for name, level in arch.levels.items()
        },
        "chains": {operand: chain(arch, operand) for operand in LINKS},
    }


def workload_text(layer: ZigZagLayer, name: str, number: int = 0) -> str:
    """A workload file of one layer."""
    return _yaml([layer.to_dict(name, number)])


def accelerator_text(arch: Architecture) -> str:
    return _yaml(accelerator(arch))


def mapping_text(entries: Iterable[tuple[str, Unrolling | None]]) -> str:
    """A mapping file: for each layer name, ``default`` among them, the loops on the array (None: ZigZag's choice)."""
    return _yaml(
        [
            {
                "name": name,
                **({} if choice is None else {"spatial_mapping": choice.to_dict()}),
                "memory_operand_links": LINKS,
            }
            for name, choice in entries
        ]
    )


def _yaml(content: Any) -> str:
    import yaml

    class Plain(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            # Two lists that are one object would be written as an anchor and a reference to it.
            return True

    return yaml.dump(content, Dumper=Plain, sort_keys=False, default_flow_style=None, width=120)
