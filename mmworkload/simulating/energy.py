"""Charging the architecture's energy table: the one place where accesses become joules.

An access of a level moves ``width_bits / word_bits`` words, and one element of the native precision takes one word of
every level, whatever that level's word size. An element in another precision takes its share of a word.
"""

from __future__ import annotations

from fractions import Fraction

from mmworkload.arch import Architecture

PICO = 1e-12


def access_bits(arch: Architecture, level: str) -> Fraction:
    """Bits of native-precision data that one access of ``level`` moves."""
    found = arch.levels[level]
    return Fraction(found.width_bits * arch.dram.word_bits, found.word_bits)


def accesses(arch: Architecture, level: str, bits: int) -> int:
    """Accesses of ``level`` that move ``bits`` in one go."""
    return -(-bits // access_bits(arch, level))


def transfer_j(arch: Architecture, level: str, *, read_bits: int = 0, write_bits: int = 0) -> float:
    """Joules of reading and writing so many bits at ``level``, each in one go."""
    energy = arch.levels[level].energy
    picojoules = accesses(arch, level, read_bits) * energy.read_pj + accesses(arch, level, write_bits) * energy.write_pj
    return picojoules * PICO


def leakage_j(arch: Architecture, cycles: int) -> float:
    """Joules that all instances of all levels leak in so many cycles. Compute units leak nothing, as in Timeloop."""
    per_cycle = 0.0
    for name, level in arch.levels.items():
        instances = arch.elements if name in arch.inner_levels else 1
        per_cycle += level.energy.leak_pj_per_cycle * instances
    return per_cycle * cycles * PICO
