"""The tables of ``measure``: three times that are never mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.reporting.tables.common import fraction, top
from mmworkload.reporting.terminal import Cell, Name, bar, section, table
from mmworkload.reporting.units import share, si, times

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.measuring.result import LayerTime, Measurement, Spread


def measure_tables(measurement: Measurement, *, all_layers: bool = False) -> list[RenderableType]:
    """End to end, stages, layers and memory."""
    name = measurement.provenance.get("device_name")
    head = f"batch {measurement.batch}, {measurement.dtype}, on {measurement.device}{f' ({name})' if name else ''}"
    memory = ", ".join(f"{name} {si(size, 'B')}" for name, size in measurement.peak_memory_bytes.items())
    return [
        section(measurement.model, head, "", _ends(measurement)),
        _stages(measurement),
        _layers(measurement, all_layers),
        *([section("Peak memory", memory)] if memory else []),
    ]


def _ends(measurement: Measurement) -> RenderableType:
    eager = measurement.eager.median_s

    def spread(name: str, item: Spread) -> list[Cell]:
        quartiles = f"{si(item.q1_s, 's')} to {si(item.q3_s, 's')}"
        return [Name(name), si(item.median_s, "s"), quartiles, str(item.repeats), times(item.median_s / eager)]

    def total(name: str, seconds: float) -> list[Cell]:
        return [Name(name), si(seconds, "s"), "", "", times(seconds / eager)]

    rows = [
        spread("eager, end to end", measurement.eager),
        spread("graph, end to end", measurement.graph),
        total(f"kernels of {', '.join(measurement.only) or 'all layers'}", measurement.layer_sum_s),
        total("other kernels", measurement.unattributed_s),
    ]
    return table(["<time", ">median", ">quartiles", ">repeats", ">of eager"], rows)


def _stages(measurement: Measurement) -> RenderableType:
    total = measurement.layer_sum_s
    rows: list[list[Cell]] = [
        [Name(stage or "(none)"), si(seconds, "s"), fraction(seconds, total), bar(seconds / total if total else None)]
        for stage, seconds in measurement.stages().items()
    ]
    return section("Stages", table(["<stage", ">time", ">share", "<"], rows))


def _layers(measurement: Measurement, every: bool) -> RenderableType:
    chosen, notes = top(measurement.layers, _seconds, every)
    total = measurement.layer_sum_s
    rows: list[list[Cell]] = [
        [
            Name(item.layer),
            Name(item.op),
            Name(item.stage),
            si(_seconds(item), "s"),
            fraction(_seconds(item), total),
            str(item.kernels),
        ]
        for item in chosen
    ]
    if not measurement.user_kernels:
        difference = share(measurement.kernel_difference)
        notes.append(
            f"Not the user's kernels: eager and graph run different ones for {difference} of the time, so that the"
            " rows show the graph."
        )
    columns = ["<layer", "<operator", "<stage", ">time", ">share", ">kernels"]
    return section("Layers", table(columns, rows), *notes)


def _seconds(item: LayerTime) -> float:
    return item.time.median_s
