"""The tables of ``simulate`` on modalities side by side: several accelerators, slack, and the energy in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.reporting.tables.common import NO_MODALITY
from mmworkload.reporting.terminal import Cell, Name, Prose, section, table
from mmworkload.reporting.units import plural, share, si, times

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.simulating.concurrency import Accelerators, Concurrency, Slack


def concurrency_tables(found: Concurrency | None) -> list[RenderableType]:
    """One row per number of accelerators, one per modality; nothing for fewer than two modalities."""
    if found is None:
        return []
    return [_accelerators(found.accelerators), _slacks(found)]


def _accelerators(rows: tuple[Accelerators, ...]) -> RenderableType:
    def row(item: Accelerators) -> list[Cell]:
        groups = (" + ".join(unit or NO_MODALITY for unit in group) for group in item.assignment)
        cells = [str(item.count), si(item.latency_s, "s"), times(item.speedup), share(item.idle_share)]
        return [*cells, share(item.waiting_share), Name(item.critical or NO_MODALITY), Prose(", ".join(groups))]

    columns = [">no.", ">latency", ">speed-up", ">idle", ">waiting", "<critical", "<on each"]
    notes = [
        "idle: of all accelerators' time. waiting: until the last encoder ends, where an encoder is. Transfers are not"
        " charged."
    ]
    return section(
        "Modalities on several accelerators", table(columns, [row(item) for item in rows], tight=True), *notes
    )


def _slacks(found: Concurrency) -> RenderableType:
    charged = found.saving_j is not None

    def row(name: str, item: Slack) -> list[Cell]:
        cells: list[Cell] = [Name(name), si(item.seconds, "s"), si(item.slack_s, "s"), times(item.slowdown)]
        if charged:
            cells += [share(item.clock), si(item.energy_j, "J"), si(item.saving_j, "J"), share(item.saving_share)]
        return cells

    columns = ["<modality", ">latency", ">slack", ">may take"]
    notes = []
    if charged:
        columns += [">clock", ">energy", ">saving", ">share"]
        notes = [_saving(found)]
    rows = [row(name, item) for name, item in found.modalities.items()]
    title = f"Slack with {plural(found.accelerators[-1].count, 'accelerator')}"
    return section(title, table(columns, rows, tight=True), *notes)


def _saving(found: Concurrency) -> str:
    if not found.saving_j:
        return "No modality has slack in which a slower clock saves energy."
    law = found.scaling
    return (
        f"Slower clocks within the slack save {si(found.saving_j, 'J')}, {share(found.saving_share)} of all energy; at"
        f" the cheapest voltage, had they the time, {si(found.floor_saving_j, 'J')}. Voltages from {law.nominal_v:g} to"
        f" {law.lowest_v:g} V, threshold {law.threshold_v:g} V, alpha {law.alpha:g}; DRAM keeps its own."
    )
