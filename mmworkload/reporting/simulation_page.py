"""Simulations as one HTML file that needs nothing else: no network, no other file, and nothing measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.tables.simulate import caveats, totals
from mmworkload.reporting.templates import environment, text_of
from mmworkload.reporting.units import share, si

if TYPE_CHECKING:
    from mmworkload.simulating.result import LayerResult, Simulation, Totals
    from mmworkload.simulating.several import Simulations


@dataclass(frozen=True)
class _Figure:
    title: str
    svg: Any
    caption: str


@dataclass(frozen=True)
class _Row:
    """Layers together: a stage, a phase, one layer or all. ``energies`` are by component, None where not known."""

    name: str
    first: LayerResult
    totals: Totals
    busy: float | None
    energies: list[float | None]


@dataclass(frozen=True)
class _Answer:
    """One simulation with what the template shows of it. ``anchor`` begins its ids."""

    anchor: str
    asked: str
    simulation: Simulation
    title: str
    totals: list[str]
    caveats: list[str]
    components: list[str]
    whole: _Row
    stages: list[_Row]
    phases: list[_Row]
    layers: list[_Row]


def render(found: Simulations) -> str:
    """The page as text; equal arguments give equal bytes. It takes jinja2 and matplotlib."""
    from markupsafe import Markup

    pages = environment()
    pages.filters.update(seconds=lambda value: si(value, "s"), si=si, share=share)
    archs = list(dict.fromkeys(item.arch for _, item in found.answered))
    return pages.get_template("simulation.html").render(
        css=Markup(text_of("report.css")),
        title=f"{found.first.model} on {', '.join(archs) if len(archs) < 4 else f'{len(archs)} architectures'}",
        answers=[_answer(f"s{number}", asked.simulator, item) for number, (asked, item) in enumerate(found.answered)],
        unanswered=[item for item in found.asked if item.simulation is None],
        figures=[_Figure(title, Markup(svg), caption) for title, svg, caption in _figures(found)],
    )


def _answer(anchor: str, asked: str, simulation: Simulation) -> _Answer:
    components = list(dict.fromkeys(name for row in simulation.layers for name in row.energy_by_component_j))
    several = len(simulation.phases()) > 1

    def row(name: str, rows: list[LayerResult]) -> _Row:
        whole = simulation.totals_of(rows)
        energies = [
            None
            if whole.energy_j is None
            else sum(item.energy_by_component_j.get(component, 0.0) * item.weight for item in rows)
            for component in components
        ]
        return _Row(name, rows[0], whole, simulation.busy(rows), energies)

    def grouped(key: Callable[[LayerResult], str]) -> list[_Row]:
        groups: dict[str, list[LayerResult]] = {}
        for item in simulation.layers:
            groups.setdefault(key(item), []).append(item)
        return [row(name, rows) for name, rows in groups.items()]

    return _Answer(
        anchor=anchor,
        asked=asked,
        simulation=simulation,
        title=f"{simulation.arch}, {simulation.simulator}",
        totals=totals(simulation),
        caveats=caveats(simulation),
        components=components,
        whole=row("total", list(simulation.layers)),
        stages=grouped(lambda item: item.stage or "(none)"),
        phases=grouped(lambda item: item.phase) if several else [],
        layers=[
            row(f"{phase}: {name}" if several else name, rows) for (phase, name), rows in simulation.by_layer().items()
        ],
    )


def _figures(found: Simulations) -> Iterator[tuple[str, str, str]]:
    from mmworkload.reporting import plots

    simulations = [item for _, item in found.answered]
    archs = len({item.arch for item in simulations})
    sides = [item.arch if archs == len(simulations) else f"{item.arch}, {item.simulator}" for item in simulations]

    def shares(values: Callable[[Simulation], dict[str, float]]) -> dict[str, list[float | None]]:
        each = [(own, sum(own.values())) for own in map(values, simulations)]
        return {
            name: [own[name] / whole if name in own and whole else None for own, whole in each]
            for name in dict.fromkeys(name for own, _ in each for name in own)
        }

    def operators(item: Simulation) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for row in item.layers:
            seconds[row.op] = seconds.get(row.op, 0.0) + row.latency_s * row.weight
        return dict(sorted(seconds.items(), key=lambda pair: pair[1], reverse=True))

    stages = shares(lambda item: {name: one.latency_s for name, one in item.stages().items()})
    svg = plots.bars("stages", "stage", stages, sides, of="latency")
    yield "Stages", svg, "Layer after layer."
    svg = plots.bars("operators", "operator", shares(operators), sides, of="latency")
    yield "Operators", svg, "Which operators the time goes to."
    energies = shares(lambda item: item.energy_by_component_j)
    if energies:
        svg = plots.bars("energy", "component", energies, sides, most=16, of="energy")
        yield "Energy by component", svg, "Levels of memory, the array (mac), the vector unit, and leakage."
    traffic = shares(lambda item: {name: one.dram_bytes for name, one in item.stages().items()})
    svg = plots.bars("dram", "stage", traffic, sides, of="DRAM traffic")
    yield "DRAM traffic", svg, "Every tensor of every layer goes through DRAM."
