"""The tables of ``simulate``: what a workload costs on an architecture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

from mmworkload.reporting.answered import simulated_by
from mmworkload.reporting.tables.common import FOLDED, common_name, folded, top
from mmworkload.reporting.tables.concurrency import concurrency_tables
from mmworkload.reporting.tables.several import component_tables
from mmworkload.reporting.terminal import Cell, Name, bullets, section, table
from mmworkload.reporting.units import plural, share, si, times

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.simulating.result import LayerResult, Simulation, Totals


def simulate_tables(simulation: Simulation, *, all_layers: bool = False) -> list[RenderableType]:
    """Totals, stages, layers, and what to know about the answers."""
    return [
        section(f"{simulation.model} on {simulation.arch}", *totals(simulation)),
        _stages(simulation),
        *_phases(simulation),
        *component_tables({"": simulation}),
        *concurrency_tables(simulation.concurrency),
        _layers(simulation, all_layers),
        section("What to mind", bullets(caveats(simulation))),
    ]


def totals(simulation: Simulation) -> list[str]:
    """Who answered, and the whole in sentences."""
    slowest = simulation.straggler
    several = len({row.arch for row in simulation.layers}) > 1
    side_by_side = "with the architectures at work at once" if several else "with an accelerator per modality"
    lines = [
        *simulated_by(simulation.answered, simulation.why),
        f"precision: {simulation.precision}",
        f"latency {si(simulation.serial_latency_s, 's')} layer after layer,"
        f" {si(simulation.critical_path_s, 's')} {side_by_side}",
        f"energy {si(simulation.energy_j, 'J')}, {si(simulation.dram_bytes, 'B')} through DRAM",
    ]
    if slowest.ratio is not None:
        lines.append(
            f"straggler: {slowest.modality}, {times(slowest.ratio)} the mean of the other encoders; with an accelerator"
            f" each, {share(slowest.idle_share)} of their time is waiting"
        )
    if simulation.on_chip is not None and simulation.on_chip.tensors:
        kept = simulation.on_chip
        saved = " and ".join([si(kept.saved_bytes, "B"), *([] if kept.saved_j is None else [si(kept.saved_j, "J")])])
        lines.append(
            f"if the {plural(kept.tensors, 'tensor')} that fit stayed in {kept.level}: {saved} of DRAM traffic less"
        )
    if simulation.fit is not None and simulation.fit.capacity_bytes is not None:
        lines.append(f"memory: {simulation.fit}")
    lines += [
        f"from {item.source} to {item.target}: {plural(item.tensors, 'tensor')}, {si(item.bytes, 'B')},"
        f" {si(item.seconds, 's')} at the slower DRAM, on top of the latency"
        for item in simulation.transfers
    ]
    return lines


def _stages(simulation: Simulation) -> RenderableType:
    home = {row.stage: row.arch for row in simulation.layers}
    several = len(set(home.values())) > 1

    def row(name: str, item: Totals) -> list[Cell]:
        cells = [si(item.macs), si(item.latency_s, "s"), share(item.share), si(item.energy_j, "J")]
        where: list[Cell] = [Name(home.get(name, ""))] if several else []
        size: list[Cell] = where or [str(item.layers)]
        return [Name(name or "(none)"), *size, *cells, si(item.dram_bytes, "B")]

    rows = [row(stage, item) for stage, item in simulation.stages().items()]
    if len(rows) > 1:
        rows.append(row("total", simulation.totals))
    columns = ["<stage", "<on" if several else ">layers", ">MACs", ">latency", ">share", ">energy", ">DRAM"]
    return section("Stages", table(columns, rows))


def _phases(simulation: Simulation) -> list[RenderableType]:
    """What each part of a workload of several takes, all its runs together."""
    phases = simulation.phases()
    if len(phases) == 1:
        return []
    runs: dict[str, dict[str, float]] = {}
    for row in simulation.layers:
        runs.setdefault(row.phase, {})[row.part] = row.weight
    rows: list[list[Cell]] = [
        [
            Name(phase),
            f"{sum(runs[phase].values()):.4g}",
            str(item.layers),
            si(item.macs),
            si(item.latency_s, "s"),
            share(item.share),
            si(item.energy_j, "J"),
            si(item.dram_bytes, "B"),
        ]
        for phase, item in phases.items()
    ]
    columns = ["<phase", ">runs", ">layers", ">MACs", ">latency", ">share", ">energy", ">DRAM"]
    return [section("Phases", table(columns, rows))]


def _layers(simulation: Simulation, every: bool) -> RenderableType:
    """Each layer over all its runs, repeated ones folded; or every layer."""
    layers = list(simulation.by_layer().values())
    groups = folded(layers, lambda rows: rows[0].layer, lambda rows: tuple(map(_same, rows)), every)
    sums = [simulation.totals_of(row for rows in group for row in rows) for group in groups]
    several = len(simulation.phases()) > 1
    chosen, notes = top(list(zip(groups, sums, strict=True)), lambda item: item[1].latency_s, every, "row")
    if len(groups) < len(layers):
        notes.insert(0, FOLDED)

    # On a GPU there is no energy, and names have the room.
    energy = any(row.energy_j is not None for row in simulation.layers)

    def row(group: list[list[LayerResult]], total: Totals) -> list[Cell]:
        name, first = common_name([rows[0].layer for rows in group]), group[0][0]
        return [
            Name(f"{first.phase}: {name}" if several else name),
            *([] if every else [str(len(group))]),
            si(total.macs),
            si(total.latency_s, "s"),
            share(total.share),
            *([si(total.energy_j, "J")] if energy else []),
            si(total.dram_bytes, "B"),
            share(simulation.busy(row for rows in group for row in rows)),
            first.bound,
        ]

    columns = ["<layer", *([] if every else [">no."]), ">MACs", ">latency", ">share"]
    columns += [*([">energy"] if energy else []), ">DRAM", ">array", "<bound"]
    return section("Layers", table(columns, [row(*item) for item in chosen], tight=True), *notes)


def _same(row: LayerResult) -> Hashable:
    """What is equal for layers that do the same work on the same machine."""
    costs = (row.macs, row.outer_macs, row.cycles, row.dram_bytes, row.energy_j, row.bound)
    return row.part, row.weight, row.stage, row.op, row.problems, row.arch, row.simulator, costs


def caveats(simulation: Simulation) -> list[str]:
    """What to know about the answers."""
    lines = [
        f"{simulation.chosen} is told the architecture: {simulation.fidelity}",
        f"{plural(simulation.unique_problems, 'unique problem')} of {plural(simulation.runs, 'loop nest')},"
        f" {simulation.cache_hits} known from before, in {si(simulation.seconds, 's')}",
    ]
    lines += simulation.device_notes
    lines += [f"energies are {text}" for text in dict.fromkeys(row.energy_basis for row in simulation.layers) if text]
    if simulation.floored:
        lines.append(f"{plural(simulation.floored, 'layer')} raised to a physical bound, which the simulator undercut")
    notes = Counter(note for rows in simulation.by_layer().values() for note in {row.note for row in rows} if note)
    lines += [f"{plural(count, 'layer')}: {note}" for note, count in notes.items()]
    return [*lines, *(f"assumed: {text}" for text in simulation.assumptions)]
