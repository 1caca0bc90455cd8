"""A name of several parts, measured part by part: phases of a generation, segments or paths of a network with exits.

A phase is a model of its own (a growing one at a few lengths, between which times are taken to run in straight lines).
A segment or path is those layers of the traced network, run alone (:mod:`mmworkload.measuring.exits`). Each part that
differs is measured once and counts as often as it runs; a probability counts as such.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.files import folder_atomic, read_json, write_atomic
from mmworkload.measuring.folder import FILE_SUFFIX, Result, load, save
from mmworkload.measuring.result import READABLE
from mmworkload.models.names import Options
from mmworkload.outputs import require_output_folder
from mmworkload.sources import generation, has_parts, load_workload, split_exits, traced_model
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    from mmworkload.graph import LayerGraph, Part, Workload

INDEX = "parts.json"
_EXITS = (
    "parts of a network with exits: the calls of the traced program, run alone on stored inputs, and linear exits with"
    " random weights; waiting for the decision of an exit is not in it"
)


@dataclass(frozen=True)
class MeasuredPart:
    """One part: how often it runs, and its measurement."""

    name: str
    count: float
    result: Result

    @property
    def eager_s(self) -> float:
        return self.result.measurement.eager.median_s

    def to_dict(self) -> dict[str, Any]:
        taken = self.result.measurement
        return {
            "name": self.name,
            "model": taken.model,
            "count": self.count,
            "eager_s": self.eager_s,
            "graph_s": taken.graph.median_s,
            "layer_sum_s": taken.layer_sum_s,
            "weighted_s": self.eager_s * self.count,
        }


@dataclass(frozen=True)
class MeasuredParts:
    """All parts of a name. ``notes`` are for whoever reads the total."""

    name: str
    parts: tuple[MeasuredPart, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<MeasuredParts of {self.name!r}: {len(self.parts)} parts, {self.total_s:.4g} s>"

    @property
    def total_s(self) -> float:
        """Eager seconds of all parts, each as often as it runs."""
        return sum(part.eager_s * part.count for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: the table, and the measurements by part."""
        return {
            **self._index(),
            "measurements": {part.name: part.result.measurement.to_dict() for part in self.parts},
        }

    def _index(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "total_s": self.total_s,
            "parts": [part.to_dict() for part in self.parts],
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> None:
        """Writes a folder of result folders, one a model that was measured, and their index, whole or not at all."""
        with folder_atomic(Path(path), INDEX) as folder:
            entries = []
            places: dict[str, str] = {}
            for number, (entry, part) in enumerate(zip(self._index()["parts"], self.parts, strict=True), 1):
                label = re.sub(r"[^\w.-]+", "-", part.name)
                place = places.setdefault(entry["model"], f"{number:02}-{label}")
                if not (folder / place).exists():
                    save(part.result, folder / place)
                entries.append({**entry, "folder": place})
            index = {**self._index(), "parts": entries}
            write_atomic(folder / INDEX, json.dumps(index, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> MeasuredParts:
        """Reads what :meth:`save` wrote. FormatError says what is missing or damaged."""
        index = Path(path) / INDEX
        data = read_json(index)
        try:
            if data["schema_version"] not in READABLE:
                raise FormatError(f"{index}: not of schema_version {' or '.join(map(str, READABLE))}; measure again")
            parts = [(item["name"], float(item["count"]), Path(path) / item["folder"]) for item in data["parts"]]
            found = tuple(MeasuredPart(name, count, load(place)) for name, count, place in parts)
            return cls(data["name"], found, tuple(data["notes"]))
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{index}: not a complete index of parts: {type(error).__name__} {error}") from error


def check_place(path: str | Path) -> None:
    """Raises MmworkloadError when :meth:`MeasuredParts.save` would refuse ``path``."""
    place = Path(path)
    if place.suffix == FILE_SUFFIX:
        raise MmworkloadError(f"{place}: parts are written to a folder, one for each; give a folder")
    require_output_folder(place, INDEX)


@dataclass(frozen=True)
class Measurable:
    """A name with its parts traced, ready to be measured.

    ``take`` measures one part; ``said`` gives notes from the seconds by part.
    """

    workload: Workload
    take: Callable[..., Result]
    said: Callable[[Mapping[str, float]], list[str]]

    def measure(
        self,
        *,
        only: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> MeasuredParts:
        """Measures every part that has one of the stages ``only``; ``options`` are those of
        :func:`mmworkload.measuring.take`, for each part. Raises what that raises."""
        if options.get("mode", "infer") != "infer":
            raise MmworkloadError(f"{self.workload.name}: parts are measured in inference; leave --mode out")
        wanted = tuple(only)
        kept = {part.name for part in load_workload(self.workload, wanted, False, {}).parts}
        parts = [part for part in self.workload.parts if part.name in kept]
        models = list(dict.fromkeys(part.graph.model for part in parts))
        results: dict[str, Result] = {}
        for part in parts:
            if part.graph.model in results:
                continue
            inner = None if progress is None else partial(_inner, progress, len(results), len(models))
            result = self.take(part, only=wanted, progress=inner, **options)
            results[part.graph.model] = result
            # The next one needs the memory; modules and graphs refer to themselves.
            gc.collect()
        found = tuple(MeasuredPart(part.name, part.count, results[part.graph.model]) for part in parts)
        notes = self.said({part.name: part.eager_s for part in found})
        return MeasuredParts(self.workload.name, found, tuple(notes))


def _inner(progress: Callable[[int, int], None], index: int, parts: int, done: int, total: int) -> None:
    progress(index * total + done, parts * total)


def measurable(name: str, how: Options) -> Measurable:
    """The parts behind a name, traced. Raises MmworkloadError, also for a name that has none."""
    if not has_parts(name, how):
        raise MmworkloadError(f"{name} is one graph; measure it as such")
    return _exits(name, how) if split_exits(name)[1] is not None else _generation(name, how)


def _exits(name: str, how: Options) -> Measurable:
    from mmworkload.exits import with_exits
    from mmworkload.measuring import find_device, measure_result
    from mmworkload.measuring.exits import Runnable
    from mmworkload.models import resolve

    base, settings = split_exits(name)
    traced = traced_model(base, how)
    network = with_exits(traced.graph, settings)
    runnable = Runnable(network, resolve(base, **how), traced)

    def take(part: Part, *, device: str = "cpu", counters: bool = False, **options: Any) -> Result:
        if counters:
            raise MmworkloadError(f"{name}: --counters runs a model by its name, which a part has not; leave it out")
        model, ready = runnable.part(part.graph, find_device(device))
        return measure_result(model, traced=ready, device=device, **options)

    return Measurable(network.workload(), take, lambda seconds: [_EXITS])


def _generation(name: str, how: Options) -> Measurable:
    from mmworkload.verbs import measure_result

    made = generation(name, **how)
    assert made is not None
    own: Options = {key: value for key, value in how.items() if key in ("batch", "dtype", "stages")}  # type: ignore[assignment]

    def take(part: Part, **options: Any) -> Result:
        traced = traced_model(part.graph.model, own)
        _require_same(part.graph, traced.graph)
        result = measure_result(part.graph.model, traced=traced, **options, **own)
        # A length between those that were traced may be named in another order.
        named = replace(result.measurement, model=part.graph.model)
        return replace(result, measurement=named, graph=replace(traced.graph, model=part.graph.model))

    def said(seconds: Mapping[str, float]) -> list[str]:
        notes = []
        for phase in made.phases:
            places = {length: f"{phase.name} at {length}" for length in phase.lengths or ()}
            found = [(length, seconds[part]) for length, part in places.items() if part in seconds]
            if len(found) < phase.runs and len(found) > 2:
                (low, low_s), (middle, middle_s), (high, high_s) = found[0], found[len(found) // 2], found[-1]
                line_s = low_s + (high_s - low_s) * (middle - low) / (high - low)
                notes.append(
                    f"{phase.name}: measured at {len(found)} lengths and interpolated; at length {middle} the straight"
                    f" line through the ends is {100 * (line_s / middle_s - 1):+.1f} % off"
                )
        return notes

    return Measurable(made.sampled(held_out=False).workload, take, said)


def _require_same(part: LayerGraph, traced: LayerGraph) -> None:
    """MmworkloadError when a lever changed the graph: the model that would be measured does not have it."""
    if part.layers != traced.layers:
        raise MmworkloadError(
            f"{part.model}: levers change the graph and not the model, which is what would be measured; leave them out"
        )
