"""The tables of ``measure``: three times that are never mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.measuring.steadiness import disturbed
from mmworkload.reporting.tables.common import fraction, top
from mmworkload.reporting.tables.training import training_tables
from mmworkload.reporting.terminal import Cell, Name, bar, section, table
from mmworkload.reporting.units import kernel_noun, share, si, times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mmworkload.measuring.result import FusedKernel, LayerTime, Measurement, Spread

# Above it the sum of the layers is explained.
LARGE_SUM = 1.25


def measure_tables(measurement: Measurement, *, all_layers: bool = False) -> list[RenderableType]:
    """End to end, stages, layers, compiled kernels, memory, energy and training."""
    name = measurement.provenance.get("device_name")
    head = f"batch {measurement.batch}, {measurement.dtype}, on {measurement.device}{f' ({name})' if name else ''}"
    memory = ", ".join(f"{name} {si(size, 'B')}" for name, size in measurement.peak_memory_bytes.items())
    return [
        section(measurement.model, head, "", _ends(measurement), *_quality(measurement)),
        *_stages(measurement),
        _layers(measurement, all_layers),
        *(_compiled(item.kernels) for item in measurement.executions if item.kernels),
        *([section("Peak memory", memory)] if memory else []),
        *_energy(measurement),
        *(
            training_tables(measurement.training, kernel_noun(measurement.device), all_layers=all_layers)
            if measurement.training
            else []
        ),
    ]


def _ends(measurement: Measurement) -> RenderableType:
    eager = measurement.eager.median_s

    def spread(name: str, item: Spread) -> list[Cell]:
        quartiles = f"{si(item.q1_s, 's')} to {si(item.q3_s, 's')}"
        return [Name(name), si(item.median_s, "s"), quartiles, str(item.repeats), times(item.median_s / eager)]

    def total(name: str, seconds: float) -> list[Cell]:
        return [Name(name), si(seconds, "s"), "", "", times(seconds / eager)]

    alone = f"{', '.join(measurement.only)} alone"
    names = {
        "compile": "compiled, end to end",
        "cuda-graph": "CUDA graph, end to end",
        "streams": "graph, encoders on streams",
        "alone": alone,
    }
    noun = kernel_noun(measurement.device)
    rows = [
        spread("eager, end to end", measurement.eager),
        *(spread(names.get(item.name, item.name), item.time) for item in measurement.executions),
        spread("graph, end to end", measurement.graph),
        total(f"{noun}s of {', '.join(measurement.only) or 'all layers'}", measurement.layer_sum_s),
        total(f"other {noun}s", measurement.unattributed_s),
    ]
    return table(["<time", ">median", ">quartiles", ">repeats", ">of eager"], rows)


def _quality(measurement: Measurement) -> list[str]:
    """What disturbed the measurement, what the instruments cost, and how much they saw."""
    notes = list(disturbed(measurement))
    noun = kernel_noun(measurement.device)
    if measurement.overhead:
        called = {"kernel": noun}
        levels = ", ".join(
            f"{called.get(level, level)} {times(ratio)}" for level, ratio in measurement.overhead.items()
        )
        notes.append(f"Instrumented over uninstrumented time by level: {levels}.")
    if measurement.attributed_share is not None:
        notes.append(f"Of the {noun} time of the profiled runs {share(measurement.attributed_share)} is in layers.")
    if not measurement.only and measurement.layer_sum_s > LARGE_SUM * measurement.eager.median_s:
        notes.append(
            f"The layers add up to {times(measurement.layer_sum_s / measurement.eager.median_s)} the eager time: small"
            " operators cost more when they are profiled one by one; the layers below say which."
        )
    streams = next((item.time for item in measurement.executions if item.name == "streams"), None)
    if streams is not None:
        ratio = times(streams.median_s / measurement.graph.median_s)
        notes.append(f"With its encoders on streams of their own the graph takes {ratio} the time of one stream.")
    return ["", *notes] if notes else []


def _energy(measurement: Measurement) -> list[RenderableType]:
    """Joules of an inference with what the idle device would have taken anyway."""
    found = measurement.energy
    if found is None:
        return []
    joules = found.per_inference
    extremes = f"{si(joules.min_j, 'J')} to {si(joules.max_j, 'J')}"
    return [
        section(
            "Energy of an inference",
            f"{si(joules.median_j, 'J')} ({extremes} in {joules.windows} windows, {found.inferences} inferences),"
            f" {si(found.above_idle_j, 'J')} above idle.",
            f"Power {si(found.power_w, 'W')}, idle {si(found.idle_power_w, 'W')}; {found.source}, of {found.scope}.",
        )
    ]


def _stages(measurement: Measurement) -> list[RenderableType]:
    total = measurement.layer_sum_s
    rows: list[list[Cell]] = [
        [Name(stage or "(none)"), si(seconds, "s"), fraction(seconds, total), bar(seconds / total if total else None)]
        for stage, seconds in measurement.stages().items()
    ]
    columns = ["<stage", f">{kernel_noun(measurement.device)}s", ">share", "<"]
    sections = [section("Stages", table(columns, rows))]
    if measurement.stage_times:
        sections.append(section("Stages, as they run", _running(measurement), *_straggler(measurement)))
    return sections


def _running(measurement: Measurement) -> RenderableType:
    """Times between timers at stage boundaries, and what host and device did meanwhile."""
    on_device = measurement.device != "cpu"
    rows: list[list[Cell]] = [
        [
            Name(item.stage or "(none)"),
            si(item.time.median_s, "s"),
            si(item.cpu_s, "s"),
            *([si(item.runtime_s, "s")] if on_device else []),
            si(item.busy_s, "s"),
            si(item.idle_s, "s"),
            *([str(item.launches), str(item.syncs), str(item.copies)] if on_device else []),
        ]
        for item in measurement.stage_times
    ]
    device = [">runtime", ">busy", ">idle", ">launch", ">sync", ">copy"] if on_device else [">busy", ">idle"]
    return table(["<stage", ">time", ">CPU", *device], rows, tight=on_device)


def _straggler(measurement: Measurement) -> list[str]:
    found = measurement.straggler
    if found.ratio is None:
        return []
    return [f"Straggler: {found.modality}, {times(found.ratio)} the mean of the other encoders."]


def _compiled(kernels: Sequence[FusedKernel]) -> RenderableType:
    """The kernels of the compiled model and the layers that each covers."""
    total = sum(item.time_s for item in kernels)
    chosen, notes = top(kernels, lambda item: item.time_s, False, "kernel")
    rows: list[list[Cell]] = [
        [
            Name(item.name),
            si(item.time_s, "s"),
            fraction(item.time_s, total),
            str(item.calls),
            Name(", ".join(item.layers) or "(not said by the compiler)"),
        ]
        for item in chosen
    ]
    columns = ["<compiled kernel", ">time", ">share", ">calls", "<layers"]
    return section("Compiled", table(columns, rows), *notes)


def _layers(measurement: Measurement, every: bool) -> RenderableType:
    chosen, notes = top(measurement.layers, _seconds, every)
    total, noun = measurement.layer_sum_s, kernel_noun(measurement.device)
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
            f"Not the user's {noun}s: eager and graph run different ones for {difference} of the time, so that the"
            " rows show the graph."
        )
    columns = ["<layer", "<operator", "<stage", ">time", ">share", f">{noun}s"]
    return section("Layers", table(columns, rows), *notes)


def _seconds(item: LayerTime) -> float:
    return item.time.median_s
