"""Operands that are stored in fewer bits than a tool's words."""

from __future__ import annotations

from mmworkload.arch import Architecture
from mmworkload.exporters.work_items import work_items
from mmworkload.graph import Workload
from mmworkload.simulating.estimate import Fidelity, as_asked


def in_words(fidelity: Fidelity, workload: Workload, arch: Architecture) -> Fidelity:
    """For a tool that has one word for all operands of a level: also names the operands of ``workload`` that are
    stored in fewer bits, which take whole words there."""
    bits = arch.dram.word_bits
    stored = {
        f"{operand.name} of {operand.bits} bits": None
        for item in work_items(workload)
        if item.work
        for operand in as_asked(item.work.problem, arch.bits).operands
        if operand.bits < bits
    }
    if not stored:
        return fidelity
    return Fidelity("approximate", (*fidelity.lost, f"{' and '.join(stored)} are charged as words of {bits}"))
