"""Several simulators on one workload and one architecture, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mmworkload.errors import MmworkloadError, SimulationError, UnknownNameError
from mmworkload.simulating.result import Simulation, Totals
from mmworkload.validating.rank import spearman
from mmworkload.versions import SCHEMA_VERSION


@dataclass(frozen=True)
class Comparison:
    """The answers by simulator, in the order asked for, and why others gave none.

    Every answer was checked to count our MACs, so that all are of the same work; what else differs between them is in
    each one's ``fidelity``.
    """

    simulations: Mapping[str, Simulation]
    unanswered: Mapping[str, str]

    @property
    def first(self) -> Simulation:
        return next(iter(self.simulations.values()))

    def stages(self) -> dict[str, dict[str, Totals]]:
        """Stage to simulator to totals."""
        found: dict[str, dict[str, Totals]] = {}
        for name, simulation in self.simulations.items():
            for stage, totals in simulation.stages().items():
                found.setdefault(stage, {})[name] = totals
        return found

    def rank_correlation(self) -> dict[tuple[str, str], float | None]:
        """Spearman's rho of each pair over the latencies of the layers with MACs; None where it is not defined."""
        seconds = {
            name: [row.latency_s for row in item.layers if row.macs + row.outer_macs]
            for name, item in self.simulations.items()
        }
        return {(a, b): spearman(seconds[a], seconds[b]) for a, b in combinations(seconds, 2)}

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        first = self.first
        return {
            "schema_version": SCHEMA_VERSION,
            "model": first.model,
            "arch": first.arch,
            "macs": first.totals.macs,
            "unanswered": dict(self.unanswered),
            "rank_correlation": [
                {"simulators": list(pair), "spearman": rho} for pair, rho in self.rank_correlation().items()
            ],
            "simulations": {name: item.to_dict() for name, item in self.simulations.items()},
        }


def compare_simulators(names: Iterable[str], simulate: Callable[[str], Simulation]) -> Comparison:
    """Asks each simulator; ``simulate`` takes a name.

    One that is not there or fails is in ``unanswered`` with its reason. Raises UnknownNameError for a name that does
    not exist, MmworkloadError for fewer than two names, SimulationError when none answers.
    """
    wanted = list(dict.fromkeys(names))
    if len(wanted) < 2:
        raise MmworkloadError(f"give two simulators or more to compare, as in --simulator {wanted[0]},roofline")
    answers: dict[str, Simulation] = {}
    unanswered: dict[str, str] = {}
    for name in wanted:
        try:
            answers[name] = simulate(name)
        except UnknownNameError:
            raise
        except MmworkloadError as error:
            unanswered[name] = str(error)
    if not answers:
        raise SimulationError("; ".join(unanswered.values()))
    if len({item.totals.macs for item in answers.values()}) > 1:
        raise SimulationError(f"the simulators {', '.join(answers)} did not simulate the same work")
    return Comparison(answers, unanswered)
