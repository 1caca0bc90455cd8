"""The tables of ``simulate --simulator X,Y``: several simulators side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.reporting.tables.several import by_stage, component_tables
from mmworkload.reporting.terminal import Cell, bullets, section, table
from mmworkload.reporting.units import plural, share, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.simulating.comparison import Comparison
    from mmworkload.simulating.result import Simulation


def comparison_tables(comparison: Comparison) -> list[RenderableType]:
    """Totals by simulator; latency and energy by stage; how far they agree and what each was told."""
    first = comparison.first
    total = f"{si(first.totals.macs)} MACs in {plural(first.totals.layers, 'layer')}, the same for all"
    return [
        section(f"{first.model} on {first.arch}", total, _totals(comparison)),
        section("Latency by stage", by_stage(comparison.simulations, lambda item: si(item.latency_s, "s"))),
        section("Energy by stage", by_stage(comparison.simulations, lambda item: si(item.energy_j, "J"))),
        *component_tables(comparison.simulations),
        section("What to mind", bullets(_caveats(comparison))),
    ]


def _totals(comparison: Comparison) -> RenderableType:
    def row(name: str, item: Simulation) -> list[Cell]:
        return [
            name if name == item.chosen else f"{name} ({item.chosen})",
            si(item.serial_latency_s, "s"),
            si(item.critical_path_s, "s"),
            si(item.energy_j, "J"),
            share(item.busy(item.layers)),
            si(item.dram_bytes, "B"),
            str(item.fallbacks),
        ]

    columns = ["<simulator", ">latency", ">in parallel", ">energy", ">array", ">DRAM", ">not its own"]
    return table(columns, [row(name, item) for name, item in comparison.simulations.items()])


def _caveats(comparison: Comparison) -> list[str]:
    lines = [
        f"{item.chosen} {item.version} is told the architecture: {item.fidelity}"
        for item in comparison.simulations.values()
    ]
    lines += [
        f"{a} and {b} order the layers with MACs alike by rho = {rho:.2f}"
        for (a, b), rho in comparison.rank_correlation().items()
        if rho is not None
    ]
    lines += [f"{name} gave no answer: {reason}" for name, reason in comparison.unanswered.items()]
    lines.append("not its own: layers with MACs that the roofline answered for")
    return lines
