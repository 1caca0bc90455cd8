"""The tables of ``simulate --arch X,Y``: several architectures side by side, and what several simulations share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mmworkload.reporting.tables.common import fraction
from mmworkload.reporting.terminal import Cell, Name, bar, bullets, section, table
from mmworkload.reporting.units import GAP, plural, share, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.simulating.result import Simulation, Totals
    from mmworkload.simulating.several import Simulations


def several_tables(found: Simulations) -> list[RenderableType]:
    """Totals of each simulation; latency, energy and DRAM traffic by stage, and energy by component; what to mind."""
    by_number = {str(number): item for number, (_, item) in enumerate(found.answered, 1)}
    first = found.first
    total = f"{si(first.totals.macs)} MACs in {plural(first.totals.layers, 'layer')}, the same for all"
    told: dict[str, list[str]] = {}
    for (number, item), (asked, _) in zip(by_number.items(), found.answered, strict=True):
        who = asked.simulator if asked.simulator == item.simulator else f"{asked.simulator}, which is {item.simulator}"
        told.setdefault(f"{who}, told the architecture: {item.fidelity}", []).append(number)
    notes = [f"{', '.join(numbers)}: {text}" for text, numbers in told.items()]
    notes += [
        f"{item.simulator} on {item.arch} gave no answer: {item.reason}"
        for item in found.asked
        if item.simulation is None
    ]
    if len({item.simulator for item in by_number.values()}) > 1:
        notes.append("answers of different simulators cannot be compared")
    return [
        section(first.model, total, _totals(by_number)),
        section("Latency by stage", by_stage(by_number, lambda item: si(item.latency_s, "s"))),
        section("Energy by stage", by_stage(by_number, lambda item: si(item.energy_j, "J"))),
        section("DRAM traffic by stage", by_stage(by_number, lambda item: si(item.dram_bytes, "B"))),
        *component_tables(by_number),
        section("What to mind", bullets(notes)),
    ]


def _totals(by_number: Mapping[str, Simulation]) -> RenderableType:
    rows: list[list[Cell]] = [
        [
            number,
            Name(item.arch),
            Name(item.simulator),
            si(item.serial_latency_s, "s"),
            si(item.critical_path_s, "s"),
            si(item.energy_j, "J"),
            si(item.dram_bytes, "B"),
            share(item.busy(item.layers)),
        ]
        for number, item in by_number.items()
    ]
    columns = ["<no.", "<architecture", "<simulator", ">latency", ">in parallel", ">energy", ">DRAM", ">array"]
    return table(columns, rows, tight=True)


def by_stage(by_name: Mapping[str, Simulation], cell: Callable[[Totals], str]) -> RenderableType:
    """A row a stage and a column a simulation; then the totals."""
    totals = {name: item.stages() for name, item in by_name.items()}
    stages = dict.fromkeys(stage for found in totals.values() for stage in found)
    rows: list[list[Cell]] = [
        [Name(stage or "(none)"), *(cell(found[stage]) if stage in found else GAP for found in totals.values())]
        for stage in stages
    ]
    rows.append(["total", *(cell(item.totals) for item in by_name.values())])
    return table(["<stage", *(f">{name}" for name in by_name)], rows)


def component_tables(by_name: Mapping[str, Simulation]) -> list[RenderableType]:
    """Energy by component: a column a simulation, of one with its share; nothing where none has energies."""
    energies = {name: item.energy_by_component_j for name, item in by_name.items()}
    components = dict.fromkeys(component for found in energies.values() for component in found)
    if not components:
        return []
    if len(by_name) == 1:
        (found,) = energies.values()
        whole = sum(found.values())
        rows: list[list[Cell]] = [
            [Name(name), si(joules, "J"), fraction(joules, whole), bar(joules / whole if whole else None)]
            for name, joules in found.items()
        ]
        return [section("Energy by component", table(["<component", ">energy", ">share", "<"], rows))]
    rows = [
        [Name(name), *(si(found.get(name, None if not found else 0.0), "J") for found in energies.values())]
        for name in components
    ]
    return [section("Energy by component", table(["<component", *(f">{name}" for name in by_name)], rows))]
