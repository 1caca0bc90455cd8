"""Whether the numbers of an architecture can be true: what is off by a factor of 1000 is a mistake of units.

Each figure is divided by what theory says it grows with. What is left differs between real designs by much less than a
factor of 1000, so a band of that width takes in all of them and none of them times or over 1000:

- a memory's energy a bit by the root of its capacity (the length of a word line) and by the node,
- a memory's area a bit by the square of the node (a 6T cell is about 150 of them),
- a multiplier's energy by the square of its bits and by the node, its area by the squares of both.

Zero means "not charged" and always passes. Leakage has no bound: cells of one node leak from 0.1 pW to 100 nW.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mmworkload.arch import Architecture, Level

# Of the band, the ends in the unit named; a value on the upper end is outside.
_CLOCK_MHZ = (10.0, 10_000.0)
_DRAM_PJ_PER_BIT = (0.3, 300.0)
# Memories from serial flash to stacks of HBM.
_DRAM_BYTES_PER_SECOND = (0.1e9, 10e12)
_MACS_PER_DRAM_WORD = (0.5, 20_000.0)
# Times 1 fJ a bit, root of the bits and node over 45 nm; the designs of the shelf lie between 0.03 and 3.
_MEMORY_ENERGY = (0.01, 10.0)
_MEMORY_AREA = (50.0, 50_000.0)
# Times 2.2 pJ for 16 bits at 45 nm (Accelergy's Aladdin table).
_MAC_ENERGY = (0.03, 30.0)
_MAC_AREA = (200.0, 200_000.0)
_UNIT = "is it in the right unit?"
_MEMORY_UNIT = "of the energy that size, width and node suggest"
_MAC_UNIT = "of the energy that bits and node suggest"
_REFERENCE_NM, _REFERENCE_MAC_PJ, _REFERENCE_MAC_BITS = 45, 2.2, 16
# A level on the chip is used at least once in so many cycles, and gives every MAC at most its two inputs and a sum.
_IDLE_CYCLES, _WORDS_PER_MAC = 16, 3


def implausible(arch: Architecture) -> list[str]:
    """``path: what is odd`` for each number that cannot be true; empty when all can."""
    return list(_found(arch))


def _found(arch: Architecture) -> Iterator[str]:
    yield from outside("clock_mhz", arch.clock_mhz, arch.clock_mhz, _CLOCK_MHZ, "MHz")
    for name, level in arch.levels.items():
        path = f"levels.{name}"
        if level.kind == "dram":
            yield from _dram(arch, path, level)
        else:
            yield from _memory(arch, path, level, 1 if name in arch.inner_levels else arch.elements)
    node, bits = arch.technology_nm, arch.compute.bits
    expected = _mac_pj(node, bits)
    energy, area = arch.compute.energy_pj, arch.compute.area_um2
    yield from outside("compute.energy_pj", energy, energy / expected, _MAC_ENERGY, _MAC_UNIT)
    yield from outside("compute.area_um2", area, area * 1e6 / (node * bits) ** 2, _MAC_AREA, "node^2 for each bit^2")
    vector = arch.vector
    expected = _mac_pj(node, arch.dram.word_bits)
    yield from outside("vector.energy_pj", vector.energy_pj, vector.energy_pj / expected, _MAC_ENERGY, _MAC_UNIT)
    if vector.lanes > max(64, arch.elements):
        yield f"vector.lanes: {vector.lanes} lanes are more than the array has elements ({arch.elements})"


def _mac_pj(node: int, bits: int) -> float:
    return _REFERENCE_MAC_PJ * (bits / _REFERENCE_MAC_BITS) ** 2 * node / _REFERENCE_NM


def _dram(arch: Architecture, path: str, level: Level) -> Iterator[str]:
    for name, energy in (("read_pj", level.energy.read_pj), ("write_pj", level.energy.write_pj)):
        yield from outside(
            f"{path}.energy.{name}", energy, energy / level.width_bits, _DRAM_PJ_PER_BIT, "pJ a bit of width_bits"
        )
    for name, words in (("read_bandwidth", level.read_bandwidth), ("write_bandwidth", level.write_bandwidth)):
        if words is not None:
            rate = words * level.word_bits / 8 * arch.clock_mhz * 1e6
            where = f"{path}.{name}"
            problems = [
                *outside(where, words, rate, _DRAM_BYTES_PER_SECOND, "bytes a second"),
                *outside(where, words, arch.elements / words, _MACS_PER_DRAM_WORD, "MACs for each word"),
            ]
            yield from problems[:1]


def _memory(arch: Architecture, path: str, level: Level, fed: int) -> Iterator[str]:
    """A level on the chip whose one instance feeds ``fed`` MACs."""
    assert level.depth is not None
    bits = level.depth * level.width_bits
    cell = level.area_um2 * 1e6 / bits / arch.technology_nm**2
    if level.area_um2 and not _MEMORY_AREA[0] <= cell < _MEMORY_AREA[1]:
        # Two numbers may be wrong, and with the size the energies look wrong too.
        yield (
            f"{path}.area_um2: {level.area_um2:g} for size_kib {level.size_kib:g} is {cell:.3g} node^2 a bit,"
            f" possible is {_MEMORY_AREA[0]:g} to {_MEMORY_AREA[1]:g}; {_UNIT}"
        )
        return
    expected = 1e-3 * math.sqrt(bits) * arch.technology_nm / _REFERENCE_NM * level.width_bits
    for name, energy in (("read_pj", level.energy.read_pj), ("write_pj", level.energy.write_pj)):
        yield from outside(f"{path}.energy.{name}", energy, energy / expected, _MEMORY_ENERGY, _MEMORY_UNIT)
    words = level.width_bits / level.word_bits
    slowest = max(words / _IDLE_CYCLES, fed / _MACS_PER_DRAM_WORD[1])
    # A narrow level of one element may still have several ports.
    fastest = max(_WORDS_PER_MAC * fed, 8 * words)
    for name, rate in (("read_bandwidth", level.read_bandwidth), ("write_bandwidth", level.write_bandwidth)):
        if rate is not None:
            yield from outside(f"{path}.{name}", rate, rate, (slowest, 1.001 * fastest), "words a cycle")


def outside(
    path: str, value: float | None, measure: float | None, band: tuple[float, float], unit: str
) -> Iterator[str]:
    """What is wrong with ``value`` at ``path`` when ``measure``, which it comes to, is outside ``band``; nothing for a
    value that is zero or not given."""
    low, high = band
    if value and measure is not None and not low <= measure < high:
        yield f"{path}: {value:g} is {measure:.3g} {unit}, possible is {low:.3g} to {high:.3g}; {_UNIT}"
