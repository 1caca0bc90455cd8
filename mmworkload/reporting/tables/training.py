"""The tables of ``measure --mode train``: phases end to end, stages, layers and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.reporting.tables.common import fraction, top
from mmworkload.reporting.terminal import Cell, Name, section, table
from mmworkload.reporting.units import share, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.measuring.result import Training, TrainingLayer


# Layers without backward time, which a reader may take for a gap.
_NO_GRADIENT = (
    "No gradient passes where there is no backward time: the loss does not depend on the layer, no parameter is behind"
    " it, or it computes whole numbers."
)


def training_tables(training: Training, noun: str, *, all_layers: bool = False) -> list[RenderableType]:
    """An iteration by phase; by stage and layer where the program could be traced. ``noun`` is what takes the time."""
    memory = ", ".join(f"{name} {si(size, 'B')}" for name, size in training.peak_memory_bytes.items())
    notes = [f"Loss: {training.loss}. Optimizer: {training.optimizer}."]
    if training.attributed_share is not None:
        notes.append(f"Of the {noun} time of the profiled iterations {share(training.attributed_share)} is in stages.")
    return [
        section("Training", _phases(training), *notes, *([training.note] if training.note else [])),
        *([_stages(training, noun), _layers(training, all_layers)] if training.stages else []),
        section("Peak memory of training", memory),
    ]


def _phases(training: Training) -> RenderableType:
    whole_s = training.iteration.median_s
    items = {
        "iteration": training.iteration,
        "forward": training.forward,
        "backward": training.backward,
        "update": training.update,
    }
    rows: list[list[Cell]] = [
        [
            Name(name),
            si(item.median_s, "s"),
            f"{si(item.q1_s, 's')} to {si(item.q3_s, 's')}",
            str(item.repeats),
            fraction(item.median_s, whole_s),
        ]
        for name, item in items.items()
    ]
    return table(["<time", ">median", ">quartiles", ">repeats", ">share"], rows)


def _stages(training: Training, noun: str) -> RenderableType:
    rows: list[list[Cell]] = [
        [
            Name(item.stage or "(none)"),
            *(si(time.median_s, "s") for time in (item.forward, item.backward, item.update)),
            *(si(time_s, "s") for time_s in (item.forward_kernels_s, item.backward_kernels_s, item.update_kernels_s)),
        ]
        for item in training.stages
    ]
    rows.append([Name("(no stage)"), "", "", "", "", si(training.unattributed_s, "s"), ""])
    summed = [f">{phase} {noun[:4]}." for phase in ("fwd", "bwd", "upd")]
    columns = ["<stage", ">forward", ">backward", ">update", *summed]
    return section("Training, stages", table(columns, rows, tight=True))


def _layers(training: Training, every: bool) -> RenderableType:
    chosen, notes = top(training.layers, _seconds, every)
    total = sum(map(_seconds, training.layers))
    rows: list[list[Cell]] = [
        [
            Name(item.layer),
            Name(item.op),
            Name(item.stage),
            si(item.forward_s, "s"),
            si(item.backward_s, "s"),
            fraction(_seconds(item), total),
        ]
        for item in chosen
    ]
    if any(item.forward_s and not item.backward_s for item in chosen):
        notes.append(_NO_GRADIENT)
    return section(
        "Training, layers", table(["<layer", "<operator", "<stage", ">forward", ">backward", ">share"], rows), *notes
    )


def _seconds(item: TrainingLayer) -> float:
    return item.forward_s + item.backward_s
