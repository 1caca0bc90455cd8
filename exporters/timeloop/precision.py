"""The architecture with operands of another width than its own.

An element of the native precision (the DRAM's word) takes one word of every level; one of another precision takes its
share of a word, as for every simulator here. Timeloop counts words, so the words themselves are resized: a buffer then
holds, and a port then moves, more or fewer of them.
"""

from __future__ import annotations

from mmworkload.arch import Architecture, Level
from mmworkload.errors import SimulationError


def at_precision(arch: Architecture, bits: int) -> Architecture:
    """``arch`` with words for operands of ``bits``; itself at its native precision.

    Raises SimulationError when a level's row holds no whole number of such words and a word no whole number of rows,
    or when a level is too small for one word.
    """
    native = arch.dram.word_bits
    if bits == native:
        return arch
    levels = {name: _resized(name, level, bits, native) for name, level in arch.levels.items()}
    return arch.model_copy(update={"levels": levels})


def _resized(name: str, level: Level, bits: int, native: int) -> Level:
    word, rest = divmod(level.word_bits * bits, native)
    rows = max(1, word // level.width_bits)
    width = level.width_bits * rows
    if rest or width % word:
        raise SimulationError(
            f"level {name}: operands of {bits} bits do not fit its rows of {level.width_bits} bits evenly"
        )
    if level.depth is not None and level.depth < rows:
        raise SimulationError(f"level {name}: {level.size_kib} KiB do not hold one operand of {bits} bits")

    def bandwidth(words: float | None) -> float | None:
        return None if words is None else words * level.word_bits / word

    # A word wider than a row takes several accesses, which become one access of their energy.
    energy = level.energy.model_copy(
        update={"read_pj": level.energy.read_pj * rows, "write_pj": level.energy.write_pj * rows}
    )
    return level.model_copy(
        update={
            "word_bits": word,
            "width_bits": width,
            # Rows that are left over hold nothing.
            "size_kib": None if level.depth is None else level.depth // rows * width / 8192,
            "read_bandwidth": bandwidth(level.read_bandwidth),
            "write_bandwidth": bandwidth(level.write_bandwidth),
            "energy": energy,
        }
    )
