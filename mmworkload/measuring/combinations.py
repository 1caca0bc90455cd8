"""One model at several batch sizes and in several number types: a result folder for each combination.

A folder that is there and complete is taken as it is, so that a run which was interrupted goes on, and what did not
work is tried again. ``mmworkload analyze A1 FOLDER/*`` and the other views of several results read these folders.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmworkload.errors import FormatError, MmworkloadError, one_line
from mmworkload.measuring.folder import MEASUREMENT, check_place, load, save_or_keep
from mmworkload.measuring.result import Measurement
from mmworkload.measuring.steadiness import disturbed
from mmworkload.outputs import require_output_folder

if TYPE_CHECKING:
    from mmworkload.measuring.folder import Result
    from mmworkload.models import Model

Status = Literal["measured", "kept", "failed"]
TERMS = "asked"
"""Where the provenance of a result says what it was taken with."""


@dataclass(frozen=True)
class Combination:
    """One batch size and number type; times and bytes are None when its measurement failed.

    Parameters
    ----------
    folder: its result.
    status: ``measured``, ``kept`` (it was there) or ``failed``.
    reason: why it failed.
    eager_s: the eager model end to end, median; ``throughput_per_s`` is the batch over it.
    iteration_s: a training iteration, median, where it was measured.
    peak_memory_bytes: of inference.
    optimal: the batch with the highest throughput of its number type.
    warnings: what disturbed its measurement.
    """

    batch: int
    dtype: str
    folder: str
    status: Status
    reason: str = ""
    eager_s: float | None = None
    throughput_per_s: float | None = None
    iteration_s: float | None = None
    peak_memory_bytes: int | None = None
    optimal: bool = False
    warnings: tuple[str, ...] = ()


def measure_combinations(
    models: Sequence[Model],
    place: str | Path,
    *,
    measure: Callable[[Model], Result],
    asked: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> list[Combination]:
    """Measures each of ``models``, which differ in batch and number type alone, into a folder of its own in ``place``.

    ``measure`` measures one of them; ``asked`` are the options that a result must have been taken with to be kept
    (:func:`answers`). ``progress`` is called with the combinations done and their number. Raises
    MmworkloadError for a folder that holds something else, and when no combination could be measured.
    """
    require_output_folder(place)
    folders = [Path(place) / f"b{model.batch}-{model.dtype}" for model in models]
    for model, folder in zip(models, folders, strict=True):
        check_place(folder)
        held = _held(folder)
        if held is not None and held.model != model.name:
            raise MmworkloadError(f"{folder} holds a result of {held.model}; give another folder for {model.name}.")
    rows = []
    for index, (model, folder) in enumerate(zip(models, folders, strict=True)):
        if progress is not None:
            progress(index, len(models))
        rows.append(_row(model, folder, measure, asked))
        # The next one needs the memory; modules and graphs refer to themselves.
        gc.collect()
    if progress is not None:
        progress(len(models), len(models))
    if all(row.status == "failed" for row in rows):
        raise MmworkloadError(f"nothing could be measured. {rows[0].folder}: {rows[0].reason}")
    return with_optimal(rows)


def answers(held: Measurement, model: Model, asked: Mapping[str, Any]) -> bool:
    """Whether ``held`` is what measuring ``model`` with the options ``asked`` of the verb would give.

    It may hold more than is asked for. One that was not taken here does not say how it was, and is no answer.
    """
    made = {item.name for item in held.executions}
    wanted = {"compile": "compiled", "cuda-graph": "cuda_graph", "streams": "streams"}
    return (
        (held.model, held.batch, held.dtype) == (model.name, model.batch, model.dtype)
        and (held.device, held.only) == (asked.get("device", "cpu"), tuple(asked.get("only", ())))
        and held.provenance.get(TERMS) == _terms(model, asked)
        and all(name in made for name, option in wanted.items() if asked.get(option))
        and (held.training is not None or asked.get("mode") != "train")
        and (held.energy is not None or not asked.get("energy"))
        and ("counters" in held.provenance or not asked.get("counters"))
    )


def _terms(model: Model, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What else decides a result, in JSON's types: stage rules in order, real inputs, and the limits that were said."""
    return {
        "stages": [list(rule) for rule in model.stage_rules.items()],
        "inputs": str(model.sample or ""),
        **{name: asked[name] for name in ("warmup", "repeats", "limit_s") if name in asked},
    }


def with_optimal(rows: Sequence[Combination]) -> list[Combination]:
    """The same rows; the highest throughput of each number type is marked, of equal ones the first."""
    best: dict[str, Combination] = {}
    for row in rows:
        if row.throughput_per_s is not None:
            before = best.setdefault(row.dtype, row)
            best[row.dtype] = row if row.throughput_per_s > (before.throughput_per_s or 0.0) else before
    return [replace(row, optimal=row is best.get(row.dtype)) for row in rows]


def _row(model: Model, folder: Path, measure: Callable[[Model], Result], asked: Mapping[str, Any]) -> Combination:
    held = _held(folder)
    status: Status = "kept"
    try:
        if held is None or not answers(held, model, asked):
            result = measure(model)
            taken = result.measurement
            held = replace(taken, provenance={**taken.provenance, TERMS: _terms(model, asked)})
            save_or_keep(replace(result, measurement=held), folder)
            status = "measured"
    except Exception as error:
        # A combination that does not fit must not cost the others.
        return Combination(model.batch, model.dtype, str(folder), "failed", one_line(error))
    return Combination(
        batch=model.batch,
        dtype=model.dtype,
        folder=str(folder),
        status=status,
        eager_s=held.eager.median_s,
        throughput_per_s=held.batch / held.eager.median_s,
        iteration_s=held.training.iteration.median_s if held.training else None,
        peak_memory_bytes=held.peak_memory_bytes["total"],
        warnings=disturbed(held),
    )


def _held(folder: Path) -> Measurement | None:
    """The measurement in ``folder``; None when there is none, or one that cannot be read."""
    if not (folder / MEASUREMENT).is_file():
        return None
    try:
        return load(folder).measurement
    except FormatError:
        return None
