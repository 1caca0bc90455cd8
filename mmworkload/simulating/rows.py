"""One layer's row: the answers to its loop nests, and everything else in closed form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmworkload.arch import Architecture
from mmworkload.graph import Part
from mmworkload.layer import Layer
from mmworkload.problem import Problem
from mmworkload.simulating.estimate import WIDER, Estimate, bits_as_run, compulsory_elements
from mmworkload.simulating.result import LayerResult
from mmworkload.simulating.rollup import moved_bits
from mmworkload.simulating.vector import vector_cost


@dataclass(frozen=True)
class Answer:
    """The checked estimate of one problem, and why it is not the chosen simulator's (empty when it is).

    ``asked`` is the simulator that answered or failed to; empty when none that was chosen has the problem on record.
    ``broken`` when the simulator hung or crashed, rather than refused.
    """

    estimate: Estimate
    note: str = ""
    asked: str = ""
    broken: bool = False


@dataclass
class _Sum:
    """What one layer costs, as it is added up: ``shares`` are cycles by what they wait for, ``points`` products."""

    arch: Architecture
    cycles: int = 0
    raw_cycles: int = 0
    points: int = 0
    no_energy: bool = False
    energy_j: dict[str, float] = field(default_factory=dict)
    traffic_bytes: dict[str, dict[str, int]] = field(default_factory=dict)
    shares: Counter[str] = field(default_factory=Counter)

    def add_estimate(self, estimate: Estimate, problem: Problem, times: int, compulsory_bits: int) -> None:
        self.cycles += estimate.cycles * times
        self.raw_cycles += (estimate.cycles if estimate.floored_from is None else estimate.floored_from) * times
        self.points += problem.points * times
        self.shares[estimate.bound] += estimate.cycles * times
        self.no_energy |= not estimate.energy_j
        self._add_energy(estimate.energy_j, times)
        for level, roles in estimate.traffic_bytes.items():
            for role, size in roles.items():
                self._add_traffic(level, role, size * times)
        if self._dram not in estimate.traffic_bytes:
            self._add_traffic(self._dram, "compulsory", -(-compulsory_bits // 8) * times)

    def add_vector(self, operations: int, read_bits: int, write_bits: int, times: int = 1) -> None:
        if not (operations or read_bits or write_bits):
            return
        cost = vector_cost(self.arch, operations, read_bits, write_bits)
        self.cycles += cost.cycles * times
        self.raw_cycles += cost.cycles * times
        self.shares[cost.bound] += cost.cycles * times
        self.no_energy |= not cost.energy_j
        self._add_energy(cost.energy_j, times)
        if cost.dram_bytes:
            self._add_traffic(self._dram, "vector", cost.dram_bytes * times)

    @property
    def _dram(self) -> str:
        return next(iter(self.arch.levels))

    @property
    def dram_bytes(self) -> int:
        return sum(self.traffic_bytes.get(self._dram, {}).values())

    def _add_traffic(self, level: str, role: str, size: int) -> None:
        roles = self.traffic_bytes.setdefault(level, {})
        roles[role] = roles.get(role, 0) + size

    def add_launches(self, count: int) -> None:
        if self.arch.launch_us is not None:
            cycles = round(self.arch.launch_us * self.arch.clock_mhz) * count
            self.cycles += cycles
            self.raw_cycles += cycles
            self.shares["launch"] += cycles

    def _add_energy(self, energy_j: Mapping[str, float], times: int) -> None:
        for component, joules in energy_j.items():
            self.energy_j[component] = self.energy_j.get(component, 0.0) + joules * times


def layer_row(
    layer: Layer, part: Part, part_name: str, arch: Architecture, bits: int, answers: Mapping[str, Answer]
) -> LayerResult:
    """The row of one layer.

    ``answers`` are by the key of the layer's own problems; a problem without one runs on the vector unit. ``bits`` are
    those of a number in this run.
    """
    total = _Sum(arch)
    names: list[str] = []
    notes: list[str] = []
    includes: list[str] = []
    nests_read, nests_written = 0, 0
    for work in layer.work:
        read, written = operand_bits(work.problem, bits)
        nests_read += read * work.count
        nests_written += written * work.count
        answer = answers.get(work.problem.key)
        if answer is None:
            total.add_vector(work.problem.points, read, written, work.count)
        else:
            total.add_estimate(answer.estimate, work.problem, work.count, read + written)
            names.append(answer.estimate.simulator)
            notes.append(answer.note)
            includes += answer.estimate.includes
            # What a reader of the table has to know of what is in it.
            notes += [text for text in answer.estimate.includes if text.startswith(("padding", WIDER))]
    # What the layer moves beyond the operands of its loop nests: all of it without any, else a bias or a mask.
    own_read, own_written = moved_bits(part.graph, layer, bits)
    total.add_vector(layer.vector_ops, max(0, own_read - nests_read), max(0, own_written - nests_written))
    total.add_launches(layer.launches)
    if layer.dead:
        notes.append("no output depends on it")
    energy_j = {} if total.no_energy else total.energy_j
    return LayerResult(
        layer=layer.name,
        part=part_name,
        phase=part.phase or part_name,
        weight=part.count,
        op=layer.op,
        stage=layer.stage,
        modality=layer.modality,
        macs=layer.macs,
        outer_macs=layer.outer_macs,
        count=sum(work.count for work in layer.work),
        cycles=total.cycles,
        latency_s=total.cycles / (arch.clock_mhz * 1e6),
        # Exact, so that the order in which a simulator names its components changes no digit.
        energy_j=math.fsum(energy_j.values()) if energy_j else None,
        utilization=total.points / (total.cycles * arch.elements) if total.cycles else 0.0,
        bound=total.shares.most_common(1)[0][0],
        dram_bytes=total.dram_bytes,
        simulator="+".join(dict.fromkeys(names)) or "roofline",
        floored_from=total.raw_cycles if total.raw_cycles < total.cycles else None,
        note="; ".join(dict.fromkeys(note for note in notes if note)),
        arch=arch.label,
        energy_basis=_energy_basis(arch) if energy_j else "",
        energy_by_component_j=energy_j,
        traffic_bytes=total.traffic_bytes,
        includes=tuple(dict.fromkeys(includes)),
        problems=tuple((work.problem.key, work.count) for work in layer.work if work.problem.key in answers),
    )


def _energy_basis(arch: Architecture) -> str:
    """Whose energies the row is charged."""
    return "; ".join([f"those of the table of {arch.name}", *arch.rescaled])


def operand_bits(problem: Problem, bits: int) -> tuple[int, int]:
    """(read, written) bits of the operands in a run of ``bits`` a number, each element once."""
    moved = {True: 0, False: 0}
    for item in problem.operands:
        moved[item.role == "output"] += compulsory_elements(problem, item) * bits_as_run(problem, item, bits)
    return moved[False], moved[True]
