"""The neutral architecture as ZigZag's accelerator.

Every element of the native precision takes one word of every level, as in the neutral spec; ZigZag counts in bits, so
a level holds ``words`` and moves ``bandwidth`` times the native bits. Levels of the outer part serve both array axes,
inner ones exist per element. Reads and writes have ports of their own, which the operands of the level share; a level
whose bandwidth is never the limit gets a wide port for each operand and direction.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from mmworkload.arch import Architecture, Level
from mmworkload.problem import Role
from mmworkload.simulating.estimate import Fidelity

X_AXIS, Y_AXIS = "D1", "D2"
MEMORY_OPERANDS: dict[Role, str] = {"input": "I1", "weight": "I2", "output": "O"}
LINKS = {"I": "I1", "W": "I2", "O": "O"}
_ROLES = {"I": "input", "W": "weight", "O": "output"}
# Never the limit: more than a level could hold.
_UNBOUNDED_BITS = 2**62


def fidelity(arch: Architecture) -> Fidelity:
    """What ZigZag cannot be told of ``arch``."""
    lost = []
    for name, level in arch.levels.items():
        for direction, words in (("read", level.read_bandwidth), ("write", level.write_bandwidth)):
            if words is not None and _exact_bits(arch, words).denominator != 1:
                lost.append(f"{name}: {direction} bandwidth is rounded to whole bits a cycle")
    for name, level in list(arch.levels.items())[1:]:
        if len(level.holds) > 1 and (level.read_bandwidth is not None or level.write_bandwidth is not None):
            lost.append(f"{name}: no two operands pass a port in the same cycle, however narrow")
    for operand in LINKS:
        name = innermost(arch, operand)
        if name in arch.outer_levels and arch.elements > 1:
            role = _ROLES[operand]
            lost.append(f"{role}s come straight from {name}: its bandwidth limits how far their loops are unrolled")
    return Fidelity("approximate", tuple(lost)) if lost else Fidelity("exact")


def chain(arch: Architecture, operand: str) -> list[str]:
    """The levels that hold ``I``, ``W`` or ``O``, innermost first, as ZigZag numbers them."""
    return [name for name, level in reversed(arch.levels.items()) if _ROLES[operand] in level.holds]


def innermost(arch: Architecture, operand: str) -> str:
    """The level that feeds the array with ``operand`` or takes it."""
    return chain(arch, operand)[0]


def too_small(arch: Architecture, operand: str, bits: int) -> str | None:
    """A level on the way of ``operand`` that cannot hold one element of so many bits; None when all can."""
    for name in chain(arch, operand):
        words = arch.levels[name].words
        if words is not None and words * arch.dram.word_bits < bits:
            return name
    return None


def unroll_limit(arch: Architecture, operand: str, bits: int) -> int | None:
    """The largest factor by which ZigZag unrolls one loop of ``operand`` on one array axis; None: the axis' length.

    A level shared by the whole array has to feed every element at once.
    """
    name = innermost(arch, operand)
    if name not in arch.outer_levels:
        return None
    level = arch.levels[name]
    words = level.write_bandwidth if operand == "O" else level.read_bandwidth
    return None if words is None else max(1, _port_bits(arch, words) // bits)


def accelerator(arch: Architecture) -> dict[str, Any]:
    """The content of ZigZag's accelerator file."""
    memories = {name: _memory(arch, name, level) for name, level in reversed(arch.levels.items())}
    return {
        "name": arch.name,
        "memories": memories,
        "operational_array": {
            "unit_energy": float(arch.compute.energy_pj),
            "unit_area": float(arch.compute.area_um2),
            "dimensions": [X_AXIS, Y_AXIS],
            "sizes": [arch.array.x, arch.array.y],
        },
    }


def _memory(arch: Architecture, name: str, level: Level) -> dict[str, Any]:
    native = arch.dram.word_bits
    shared = name in arch.outer_levels
    operands = [MEMORY_OPERANDS[role] for role in MEMORY_OPERANDS if role in level.holds]
    size = _UNBOUNDED_BITS if level.words is None else level.words * native
    width = level.width_bits // level.word_bits * native
    # Enough to fill, or to feed, everything in one cycle.
    wide = max(0 if level.words is None else size, (arch.elements if shared else 1) * native, width)
    memory: dict[str, Any] = {"size": size}
    ports = []
    for kind, words, energy_pj, ways in (
        ("read", level.read_bandwidth, level.energy.read_pj, ("tl", "th")),
        ("write", level.write_bandwidth, level.energy.write_pj, ("fh", "fl")),
    ):
        bandwidth = wide if words is None else _port_bits(arch, words)
        access = min(width, bandwidth)
        # An input only goes down: it is read to the level below and written from the level above.
        uses = [f"{operand}, {way}" for operand in operands for way in (ways if operand == "O" else ways[:1])]
        for number, allocation in enumerate([uses] if words is not None else [[use] for use in uses], 1):
            ports.append(
                {
                    "name": f"{kind[0]}_port_{number}",
                    "type": kind,
                    "bandwidth_min": access,
                    "bandwidth_max": bandwidth,
                    "allocation": allocation,
                }
            )
        # ZigZag's cost is that of the port's full width, ours that of an access of width_bits.
        memory[f"{kind[0]}_cost"] = energy_pj * bandwidth / width
    return {
        **memory,
        "area": float(level.area_um2),
        "latency": 1,
        "operands": operands,
        "ports": ports,
        "served_dimensions": [X_AXIS, Y_AXIS] if shared else [],
    }


def _exact_bits(arch: Architecture, words: float) -> Fraction:
    return Fraction(words).limit_denominator(10**6) * arch.dram.word_bits


def _port_bits(arch: Architecture, words: float) -> int:
    return max(1, math.floor(_exact_bits(arch, words)))
