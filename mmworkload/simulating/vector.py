"""What the array does not do: elementwise work and data movement, in closed form. Nothing is free.

A layer without MAC work takes the longest of its bytes read and written over the DRAM's bandwidths and its operations
over the lanes of the vector unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.simulating.energy import PICO, leakage_j, transfer_j
from mmworkload.simulating.estimate import dram_cycles


@dataclass(frozen=True)
class VectorCost:
    """Cycles, joules by component (empty when not known), bytes through DRAM, and ``vector`` or ``memory``: what takes
    longest."""

    cycles: int
    energy_j: dict[str, float]
    dram_bytes: int
    bound: str


def vector_cost(arch: Architecture, operations: int, read_bits: int = 0, write_bits: int = 0) -> VectorCost:
    """The cost of so many elementwise operations on data that come from DRAM and go back to it."""
    compute = -(-operations // arch.vector.lanes)
    memory = dram_cycles(arch, read_bits, write_bits)
    cycles = max(compute, memory)
    energy = {
        next(iter(arch.levels)): transfer_j(arch, next(iter(arch.levels)), read_bits=read_bits, write_bits=write_bits),
        "vector": operations * arch.vector.energy_pj * PICO,
        "leakage": leakage_j(arch, cycles),
    }
    dram_bytes = -(-read_bits // 8) + -(-write_bits // 8)
    return VectorCost(cycles, energy if arch.charged else {}, dram_bytes, "vector" if compute > memory else "memory")
