"""What a simulator is asked and what it answers: the interface that every simulator shares."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, SimulationError
from mmworkload.problem import Problem


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
    """What the user can choose. ``limit_s`` is the wall-clock limit of one job; ``effort`` quick, normal, thorough."""

    effort: str = "normal"
    limit_s: float = 300.0
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One run of a simulator: its input files by name exactly as the tool reads them, and all else that decides the
    answer. ``expected`` goes to the checks and is not part of the key."""

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
    footprints: role to elements, where the simulator reports them.
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
        return sum(self.energy_j.values()) if self.energy_j else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Estimate:
        try:
            return cls(**{**data, "includes": tuple(data["includes"])})
        except (KeyError, TypeError) as error:
            raise FormatError(f"not an estimate: {error}") from error


class Simulator(Protocol):
    """What a module names ``SIMULATOR`` implements. ``prepare`` is pure; ``run`` happens in a worker process."""

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


def check(estimate: Estimate, problem: Problem, arch: Architecture, *, mac_tolerance: float = 0.0) -> Estimate:
    """The answer, raised to the physical floors, or SimulationError when it cannot be right.

    MACs must equal the problem's. Cycles cannot undercut MACs over array elements, nor the tensors' compulsory bytes
    over the DRAM bandwidth; an answer below is raised to the floor and keeps its raw value in ``floored_from``.
    """
    if abs(estimate.macs - problem.macs) > mac_tolerance * problem.macs:
        raise SimulationError(
            f"{estimate.simulator} counted {estimate.macs} MACs where the problem has {problem.macs}: {problem}"
        )
    dram = arch.dram
    assert dram.read_bandwidth is not None
    assert dram.write_bandwidth is not None
    read_words = sum(problem.operand_bytes(item) for item in problem.operands if item.role != "output") * 8
    write_words = problem.operand_bytes(problem.output) * 8
    compute = -(-problem.macs // arch.elements)
    memory = max(
        -(-read_words // int(dram.word_bits * dram.read_bandwidth)),
        -(-write_words // int(dram.word_bits * dram.write_bandwidth)),
    )
    floor = max(compute, memory)
    bound = "compute" if compute >= memory else "memory"
    if estimate.cycles >= floor:
        return replace(estimate, bound=bound)
    return replace(
        estimate,
        cycles=floor,
        latency_s=floor / (arch.clock_mhz * 1e6),
        utilization=min(1.0, problem.macs / (floor * arch.elements)),
        floored_from=estimate.cycles,
        bound=bound,
    )
