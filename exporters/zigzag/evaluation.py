"""One problem answered: ZigZag's best mapping over the choices of loops on the array, charged with the energy table.

This file is copied into every export, as a module of the package ``runner``, and is also what ``mmworkload simulate``
runs: it needs zigzag-dse and nothing of mmworkload but what is copied with it. ``task`` and ``machine`` are plain data,
made by the module ``inputs``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmworkload.exporters.zigzag.search import Found

PICO = 1e-12


class NoAnswerError(Exception):
    """No choice of loops gave an answer that can be right; says why for each."""


def answer(
    folder: Path,
    workload: str,
    accelerator: str,
    mappings: Sequence[str],
    task: dict[str, Any],
    machine: dict[str, Any],
) -> dict[str, Any]:
    """What one problem costs, from the files of these names in ``folder``.

    One mapping file for each choice of loops on the array; the answer with the fewest cycles, then the least energy,
    counts. Gives ``cycles``, ``floored_from`` (ZigZag's own cycles where they were raised, or None), ``latency_s``,
    ``energy_j`` by component, ``utilization`` (0 to 1), ``traffic_bytes`` by level and role, ``macs``, ``footprints``
    (elements by role), ``includes`` (what the latency covers) and ``mapping``. Raises NoAnswerError.
    """
    # Here, because it imports ZigZag, which takes seconds.
    from mmworkload.exporters.zigzag import search

    answers, refusals = [], []
    for mapping, passes in zip(mappings, task["passes"], strict=True):
        try:
            found = search.search(
                folder,
                workload,
                accelerator,
                mapping,
                most_loops=machine["most_loops"],
                dram_bits=tuple(machine["dram_bits_per_cycle"]),
            )
        except search.RefusedError as error:
            refusals.append(str(error))
            continue
        # ZigZag drops a loop that it does not know, or that is unrolled too far, without a word.
        if found.passes != passes:
            refusals.append(f"ZigZag took {found.passes} passes over the array where its mapping needs {passes}")
        elif found.macs != task["macs"]:
            refusals.append(f"ZigZag counted {found.macs} MACs where the problem has {task['macs']}")
        else:
            answers.append(_charge(found, task, machine))
    if not answers:
        raise NoAnswerError("; ".join(dict.fromkeys(refusals)))
    return min(answers, key=lambda item: (item["cycles"], sum(item["energy_j"].values())))


def _charge(found: Found, task: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """Charges what ZigZag found; cycles are raised to what its own transfers need at the DRAM, and to the floor.

    ZigZag rounds a loop's share on the array (17 columns are 2 x 8.5), so that its traffic may be some percent less
    than what has to move at least; at the DRAM it is raised to that.
    """
    levels = machine["levels"]
    dram = next(iter(levels))
    energy = dict.fromkeys(levels, 0.0)
    moved: dict[str, dict[str, float]] = {name: {} for name in levels}
    short = dict(task["compulsory_bits"])

    def charge(operand: str, level: str, write: bool, bits: float, times: float) -> None:
        cost = levels[level]
        accesses = math.ceil(Fraction(bits) / cost["access_bits"]) * times
        energy[level] += accesses * (cost["write_pj"] if write else cost["read_pj"]) * PICO
        role = task["roles"][operand]
        moved[level][role] = moved[level].get(role, 0.0) + bits * times / 8

    for item in found.movements:
        level = machine["chains"][item.operand][item.level]
        charge(item.operand, level, item.write, item.bits, item.times)
        if level == dram and item.write == (item.operand == "O"):
            short[item.operand] -= item.bits * item.times
    for operand, bits in short.items():
        if bits > 0:
            charge(operand, dram, operand == "O", bits, 1)
    cycles = max(found.cycles, found.dram_cycles, task["floor_cycles"])
    energy["mac"] = found.macs * machine["mac_pj"] * PICO
    energy["leakage"] = machine["leak_pj_per_cycle"] * cycles * PICO
    footprints: dict[str, int] = {}
    for operand, size in found.elements.items():
        role = task["roles"][operand]
        footprints[role] = footprints.get(role, 0) + size
    includes = ["compute", "stalls of every memory port", "first load and last store", "dram traffic"]
    if task["scattered"]:
        includes.append("the matrix product of a transposed convolution, not the sum of its overlapping outputs")
    return {
        "cycles": cycles,
        "floored_from": found.cycles if found.cycles < cycles else None,
        "latency_s": cycles / (machine["clock_mhz"] * 1e6),
        "energy_j": energy,
        "utilization": found.macs / (cycles * machine["elements"]),
        "traffic_bytes": {
            name: {role: math.ceil(value) for role, value in roles.items()} for name, roles in moved.items()
        },
        "macs": found.macs,
        "footprints": footprints,
        "includes": includes,
        "mapping": found.mapping,
    }
