"""What a simulator is asked and what it answers: the interface that every simulator shares."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from mmworkload.arch import Architecture
from mmworkload.counting import distinct_sums
from mmworkload.errors import FormatError, SimulationError, UnknownNameError
from mmworkload.problem import Operand, Problem, Role

EFFORTS = ("quick", "normal", "thorough")


ARRAY_OPERATIONS = ("mac", "mul")
"""What runs on the array of multipliers."""
WIDER = "storage of"
"""Begins what an estimate includes when a tool has one word for all operands, wider than some are stored."""


def as_asked(problem: Problem, role_bits: dict[Role, int]) -> Problem:
    """The problem as simulators are asked it: in the bits of the run (:func:`bits_as_run`), without a mask, a rank-1
    product as a matrix product, in canonical form. Other operations stay what they are."""
    operation = "mac" if problem.operation in ARRAY_OPERATIONS else problem.operation
    operands = tuple(
        replace(item, bits=bits_as_run(problem, item, role_bits.get(item.role, item.bits))) for item in problem.operands
    )
    return replace(problem, operation=operation, mask=None, operands=operands).canonical()


def bits_as_run(problem: Problem, operand: Operand, bits: int) -> int:
    """Bits of one stored element of ``operand`` in a run of ``bits`` a number.

    What is stored in fewer bits than the widest operand that the problem reads, a quantized weight or cache, keeps
    them: it is brought back to the width of the run before use, so that only storage and traffic are narrower.
    """
    widest = max((item.bits for item in problem.operands if item.role != "output"), default=bits)
    return operand.bits if operand.bits < min(widest, bits) else bits


class NotRecordedError(SimulationError):
    """What answers from a store does not have this answer; another simulator may."""


@dataclass(frozen=True)
class Fidelity:
    """How faithfully a simulator can be told an architecture: ``exact``, ``approximate`` (what is lost) or
    ``refused`` (why)."""

    level: str
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.level if not self.lost else f"{self.level} ({'; '.join(self.lost)})"


@dataclass(frozen=True)
class Options:
    """What the user can choose. ``limit_s`` is the wall-clock limit of one job; ``effort`` quick, normal, thorough;
    ``extra`` goes to the simulator as it is.

    Raises UnknownNameError for another effort and SimulationError for a limit that is not positive.
    """

    effort: str = "normal"
    limit_s: float = 300.0
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise UnknownNameError("effort", self.effort, EFFORTS)
        if not self.limit_s > 0:
            raise SimulationError(f"the time limit of a job is {self.limit_s} s; it has to be above zero")


@dataclass(frozen=True)
class Job:
    """One run of a simulator: its input files by name exactly as the tool reads them, and all else that decides the
    answer. ``limit_s`` decides only whether there is one and is not part of the key."""

    simulator: str
    version: str
    files: dict[str, str]
    options: dict[str, str]
    limit_s: float

    @property
    def key(self) -> str:
        """64 hexadecimal digits over simulator, version, options and files without comments and blank lines."""
        stripped = {
            name: [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            for name, text in self.files.items()
        }
        content = json.dumps([self.simulator, self.version, self.options, stripped], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Estimate:
    """What one run of one problem costs on one architecture.

    Parameters
    ----------
    simulator, version: who answered.
    cycles: integer; ``latency_s`` is cycles over the clock.
    energy_j: joules by component (``dram``, level names, ``mac``); empty when the simulator gives none.
    utilization: of the MAC array over the whole run, 0 to 1.
    traffic_bytes: level to role to bytes moved through that level.
    macs: as the simulator counted them.
    footprints: role to elements (of all operands in it), where the simulator reports them.
    includes: what the latency covers ("compute", "dram traffic", "array fill").
    floored_from: the raw cycles when the answer undercut a physical bound and was raised to it.
    bound: ``compute`` or ``memory``: which floor is the higher.
    mapping: the mapping as text.
    seconds: wall-clock time that the run took.
    """

    simulator: str
    version: str
    cycles: int
    latency_s: float
    energy_j: dict[str, float]
    utilization: float
    traffic_bytes: dict[str, dict[str, int]]
    macs: int
    footprints: dict[str, int] = field(default_factory=dict)
    includes: tuple[str, ...] = ()
    floored_from: int | None = None
    bound: str = ""
    mapping: str = ""
    seconds: float = 0.0

    @property
    def total_energy_j(self) -> float | None:
        return math.fsum(self.energy_j.values()) if self.energy_j else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Estimate:
        try:
            return cls(**{**data, "includes": tuple(data["includes"])})
        except (KeyError, TypeError) as error:
            raise FormatError(f"not an estimate: {error}") from error


class Simulator(Protocol):
    """What a module names ``SIMULATOR`` implements. ``prepare`` is pure; ``run`` happens in a worker process.

    Problems arrive canonical, with ``operation`` mac, without a mask, and with the bits that the run wants. A simulator
    that rounds loops up may define ``mac_tolerance``, the share by which its count of MACs may differ (default 0), and
    one that takes other architectures than accelerators their ``kinds``, and one whose place or version depends on
    options ``configured(options)``, which gives the simulator to ask.
    """

    name: str
    in_process: bool
    """True for closed forms, which are answered at once and are neither cached nor sent to workers."""

    def unavailable(self) -> str | None:
        """Why it cannot run on this machine and how to get it, or None when it can. Must be cheap."""

    def version(self) -> str:
        """Version of the tool, part of every key."""

    def fidelity(self, arch: Architecture) -> Fidelity:
        """How faithfully ``arch`` can be told."""

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        """The job for one canonical problem, operand bits already as the run wants them.

        Raises SimulationError when the tool cannot express the problem.
        """

    def run(self, job: Job, directory: Path) -> Estimate:
        """Runs the job in a private empty directory. Raises SimulationError."""


@dataclass(frozen=True)
class Floors:
    """Cycles that no mapping can undercut: all elements busy (``compute``), every tensor moved once (``memory``)."""

    compute: int
    memory: int

    @property
    def cycles(self) -> int:
        return max(self.compute, self.memory)

    @property
    def bound(self) -> str:
        return "compute" if self.compute >= self.memory else "memory"


def compulsory_elements(problem: Problem, operand: Operand) -> int:
    """Elements of ``operand`` that must cross the DRAM port at least once.

    Inputs: the elements that the loops really read, without padding and without what a stride skips. Outputs: the
    whole tensor, since a crop or a hole of a scattered output has to be written too.
    """
    if operand.role == "output":
        return problem.tensor_size(operand)
    counts = [
        distinct_sums(
            [(coefficient, problem.extents[dim]) for dim, coefficient in item.terms],
            item.pad_low,
            item.pad_low + item.size,
        )
        for item in operand.axes
    ]
    dims = [dim for item in operand.axes for dim, _ in item.terms]
    # A diagonal (one dimension on two axes) reads at least as many elements as its longest axis.
    return math.prod(counts) if len(dims) == len(set(dims)) else max(counts)


def transfer_cycles(bits: int, word_bits: int, words_per_cycle: float | None) -> int:
    """Cycles to move ``bits`` through a port; 0 when the port is never the limit."""
    if words_per_cycle is None:
        return 0
    return math.ceil(bits / (word_bits * Fraction(words_per_cycle).limit_denominator(10**6)))


def dram_cycles(arch: Architecture, read_bits: int, write_bits: int) -> int:
    """Cycles to read and write so much DRAM. An accelerator's ports for the two work at once, each at its bandwidth; a
    GPU or CPU has one bus for both, and its bandwidth is the sum."""
    dram = arch.dram
    if arch.kind in ("gpu", "cpu"):
        return transfer_cycles(read_bits + write_bits, dram.word_bits, dram.read_bandwidth)
    return max(
        transfer_cycles(read_bits, dram.word_bits, dram.read_bandwidth),
        transfer_cycles(write_bits, dram.word_bits, dram.write_bandwidth),
    )


def floors(problem: Problem, arch: Architecture) -> Floors:
    """The physical floors of one problem: MACs over array elements, compulsory bits over the DRAM's bandwidths."""
    moved = {True: 0, False: 0}
    for operand in problem.operands:
        moved[operand.role == "output"] += compulsory_elements(problem, operand) * operand.bits
    return Floors(
        compute=-(-problem.macs // arch.elements),
        memory=dram_cycles(arch, moved[False], moved[True]),
    )


def check(estimate: Estimate, problem: Problem, arch: Architecture, *, mac_tolerance: float = 0.0) -> Estimate:
    """The answer, raised to the physical :func:`floors`, or SimulationError when it cannot be right.

    MACs must equal the problem's (within ``mac_tolerance``, a share). An answer below a floor is raised to it and
    keeps its raw value in ``floored_from``.
    """
    if abs(estimate.macs - problem.macs) > mac_tolerance * problem.macs:
        raise SimulationError(
            f"{estimate.simulator} counted {estimate.macs} MACs where the problem has {problem.macs}: {problem}"
        )
    floor = floors(problem, arch)
    if estimate.cycles >= floor.cycles:
        return replace(estimate, bound=floor.bound)
    return replace(
        estimate,
        cycles=floor.cycles,
        latency_s=floor.cycles / (arch.clock_mhz * 1e6),
        utilization=min(1.0, problem.macs / (floor.cycles * arch.elements)),
        # A simulator may have raised its own answer already; the raw value is the one it computed.
        floored_from=estimate.cycles if estimate.floored_from is None else estimate.floored_from,
        bound=floor.bound,
    )
