"""A generation: prompt, steps, beams and guidance over the graphs of its phases.

Totals are closed sums over all steps, exact. For a simulator, which answers a graph at a time,
:meth:`Generation.sampled` gives a workload of few lengths whose weights add up to all steps, with one length held
out to tell the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError
from mmworkload.generation.growing import Growing
from mmworkload.generation.series import hats
from mmworkload.generation.totals import Totals, of_layer
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    from mmworkload.simulating.result import Simulation

POINTS = 3


@dataclass(frozen=True)
class Once:
    """A phase of one graph, run ``count`` times."""

    name: str
    graph: LayerGraph
    count: int = 1

    @property
    def runs(self) -> int:
        return self.count

    @property
    def lengths(self) -> range | None:
        return None

    def layer_totals(self) -> Iterator[tuple[Layer, Totals]]:
        for layer in self.graph.layers:
            yield layer, of_layer(self.graph, layer).times(self.count)

    def mapped(self, change: Callable[[LayerGraph], LayerGraph]) -> Once:
        return replace(self, graph=change(self.graph))

    def at_first(self) -> LayerGraph:
        return self.graph


@dataclass(frozen=True)
class Steps:
    """A growing phase: ``steps`` runs at the lengths ``start``, ``start + stride``, and so on."""

    name: str
    growing: Growing
    start: int
    steps: int
    stride: int = 1

    @property
    def runs(self) -> int:
        return self.steps

    @property
    def lengths(self) -> range:
        return range(self.start, self.start + self.steps * self.stride, self.stride)

    def layer_totals(self) -> Iterator[tuple[Layer, Totals]]:
        return self.growing.layer_totals(self.start, self.steps, self.stride)

    def mapped(self, change: Callable[[LayerGraph], LayerGraph]) -> Steps:
        return replace(self, growing=self.growing.mapped(change))

    def at_first(self) -> LayerGraph:
        return self.growing.at(self.start)


Phase = Once | Steps


@dataclass(frozen=True)
class HeldOut:
    """One length of a growing phase that the weights do not use.

    ``part`` is its part of the workload, with a count of zero; ``between`` are the two neighbours with their shares.
    """

    part: str
    phase: str
    length: int
    between: tuple[tuple[str, float], tuple[str, float]]


@dataclass(frozen=True)
class Sampled:
    """A workload of sampled lengths, and what was held out."""

    workload: Workload
    held_out: tuple[HeldOut, ...]

    def errors(self, simulation: Simulation) -> dict[str, float]:
        """Growing phase to the relative error of its interpolated latency at the length that was held out."""
        seconds: dict[str, float] = {}
        for row in simulation.layers:
            seconds[row.part] = seconds.get(row.part, 0.0) + row.latency_s
        found = {}
        for item in self.held_out:
            guessed = sum(seconds.get(part, 0.0) * share for part, share in item.between)
            if seconds.get(item.part):
                found[item.phase] = guessed / seconds[item.part] - 1
        return found

    def told(self, simulation: Simulation) -> Simulation:
        """``simulation`` with the errors among what a reader has to know."""
        texts = [
            f"{item.phase}: simulated at {self._lengths(item.phase)} lengths and interpolated; at length {item.length},"
            f" which was held out, the latency is {100 * error:+.3f} % off"
            for item in self.held_out
            for error in [self.errors(simulation).get(item.phase)]
            if error is not None
        ]
        return replace(simulation, assumptions=(*simulation.assumptions, *texts))

    def _lengths(self, phase: str) -> int:
        return sum(part.name.startswith(f"{phase} at ") and part.count > 0 for part in self.workload.parts)


@dataclass(frozen=True)
class Generation:
    """Phases, one after another. ``notes`` are printed wherever totals are."""

    name: str
    phases: tuple[Phase, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Generation {self.name!r}: {len(self.phases)} phases>"

    def __post_init__(self) -> None:
        if not self.phases or any(phase.runs < 1 for phase in self.phases):
            raise MmworkloadError(f"{self.name}: a generation has phases, each with one run or more")

    @property
    def totals(self) -> Totals:
        """Over all phases and steps, exact."""
        return sum((totals for _, totals in self.layer_totals()), Totals())

    def layer_totals(self) -> Iterator[tuple[Layer, Totals]]:
        """Each layer of each phase, with its totals over all runs."""
        for phase in self.phases:
            yield from phase.layer_totals()

    def by_phase(self) -> dict[str, Totals]:
        """Exact totals of each phase."""
        return {phase.name: sum((totals for _, totals in phase.layer_totals()), Totals()) for phase in self.phases}

    def by(self, key: Callable[[Layer], str]) -> dict[str, dict[str, Totals]]:
        """Exact totals by phase and by what ``key`` says of a layer."""
        found: dict[str, dict[str, Totals]] = {}
        for phase in self.phases:
            groups: dict[str, Totals] = {}
            for layer, totals in phase.layer_totals():
                group = key(layer)
                groups[group] = groups.get(group, Totals()) + totals
            found[phase.name] = groups
        return found

    def mapped(self, change: Callable[[LayerGraph], LayerGraph], note: str = "") -> Generation:
        """With a transformation of graphs applied to every phase."""
        notes = (*self.notes, note) if note else self.notes
        return replace(self, phases=tuple(phase.mapped(change) for phase in self.phases), notes=notes)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only. Totals are exact sums over all runs."""
        from mmworkload.generation.categories import category

        totals, groups = self.by_phase(), self.by(category)
        phases = []
        for phase in self.phases:
            lengths = phase.lengths
            phases.append(
                {
                    "name": phase.name,
                    "graph": phase.at_first().model,
                    "runs": phase.runs,
                    "lengths": None if lengths is None else [lengths[0], lengths[-1], lengths.step],
                    "totals": asdict(totals[phase.name]),
                    "categories": {key: asdict(found) for key, found in groups[phase.name].items()},
                }
            )
        return {
            "schema_version": SCHEMA_VERSION,
            "generation": self.name,
            "notes": list(self.notes),
            "totals": asdict(self.totals),
            "phases": phases,
        }

    def sampled(self, points: int = POINTS, *, held_out: bool = True) -> Sampled:
        """A workload whose weighted sum stands for all steps: each growing phase at ``points`` of its lengths.

        Between the lengths a cost is taken to run in a straight line; what does (MACs and bytes of an attention with
        one query) is exact. ``held_out`` adds, with a count of zero, one more length of each phase.
        """
        parts: list[Part] = []
        held: list[HeldOut] = []
        for phase in self.phases:
            if isinstance(phase, Once):
                parts.append(Part(self._noted(phase.graph), phase.name, float(phase.count)))
                continue
            weights = hats(phase.steps, points)
            lengths = phase.lengths
            for place, weight in weights.items():
                graph = self._noted(phase.growing.at(lengths[place]))
                parts.append(Part(graph, f"{phase.name} at {lengths[place]}", weight, phase=phase.name))
            gap = _widest(list(weights))
            if held_out and gap is not None:
                low, high = gap
                middle = (low + high) // 2
                share = (middle - low) / (high - low)
                name = f"{phase.name} at {lengths[middle]}"
                parts.append(Part(self._noted(phase.growing.at(lengths[middle])), name, 0.0, phase=phase.name))
                between = (
                    (f"{phase.name} at {lengths[low]}", 1 - share),
                    (f"{phase.name} at {lengths[high]}", share),
                )
                held.append(HeldOut(name, phase.name, lengths[middle], between))
        return Sampled(Workload(self.name, tuple(parts)), tuple(held))

    def _noted(self, graph: LayerGraph) -> LayerGraph:
        new = tuple(note for note in self.notes if note not in graph.notes)
        return replace(graph, notes=(*graph.notes, *new)) if new else graph


def _widest(places: list[int]) -> tuple[int, int] | None:
    """Neighbours that have places between them, the furthest apart."""
    pairs = [(low, high) for low, high in pairwise(places) if high - low > 1]
    return max(pairs, key=lambda pair: pair[1] - pair[0], default=None)
