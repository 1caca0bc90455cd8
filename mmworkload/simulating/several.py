"""One workload on several architectures by several simulators, each pair simulated by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.errors import SimulationError
from mmworkload.simulating.comparison import Comparison, compare_simulators
from mmworkload.simulating.result import Simulation
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Asked:
    """An architecture, the simulator that was asked for, and the simulation, or why there is none."""

    arch: str
    simulator: str
    simulation: Simulation | None
    reason: str = ""


@dataclass(frozen=True)
class Simulations:
    """What was asked for, architecture after architecture; at least one has a simulation."""

    asked: tuple[Asked, ...]

    def __repr__(self) -> str:
        return f"<Simulations: {len(self.asked)} asked, {len(self.answered)} answered>"

    @property
    def answered(self) -> tuple[tuple[Asked, Simulation], ...]:
        """Those that have a simulation, with it."""
        return tuple((item, item.simulation) for item in self.asked if item.simulation is not None)

    @property
    def first(self) -> Simulation:
        return self.answered[0][1]

    @property
    def alone(self) -> Simulation | None:
        """The simulation, where one was asked for."""
        return self.first if len(self.asked) == 1 else None

    @property
    def comparison(self) -> Comparison | None:
        """The simulators side by side, where several were asked for one architecture."""
        if len(self.asked) == 1 or len({item.arch for item in self.asked}) > 1:
            return None
        by = {item.simulator: item for item in self.asked}

        def answer(name: str) -> Simulation:
            found = by[name].simulation
            if found is None:
                raise SimulationError(by[name].reason)
            return found

        return compare_simulators(by, answer)

    def to_pandas(self) -> pandas.DataFrame:
        """The tables of all simulations below each other, behind ``asked``, the simulator that was asked for."""
        import pandas

        frames = []
        for item, simulation in self.answered:
            frame = simulation.to_pandas()
            frame.insert(0, "asked", item.simulator)
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: one simulation, a comparison of simulators, or all of several architectures."""
        if self.alone is not None:
            return self.alone.to_dict()
        if self.comparison is not None:
            return self.comparison.to_dict()
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.first.model,
            "macs": self.first.totals.macs,
            "simulations": [{"asked": item.simulator, **found.to_dict()} for item, found in self.answered],
            "unanswered": [
                {"arch": item.arch, "simulator": item.simulator, "reason": item.reason}
                for item in self.asked
                if item.simulation is None
            ],
        }
