"""Putting a measurement and a simulation of one graph side by side. A pure function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph, Workload
from mmworkload.layer import Layer
from mmworkload.measuring.result import LayerTime, Measurement
from mmworkload.measuring.steadiness import busy
from mmworkload.reporting.units import kernel_noun, plural
from mmworkload.simulating.result import LayerResult, Simulation
from mmworkload.straggler import Straggler, encoded, straggler
from mmworkload.validating.accuracy import SMALLEST_SHARE, Accuracy, accuracy, distance
from mmworkload.validating.calibration import NAME as CALIBRATED
from mmworkload.validating.causes import Context, Sided, causes
from mmworkload.validating.rank import kendall, spearman
from mmworkload.validating.result import Correlation, Excess, Gaps, GroupRow, LayerRow, Part, Sides, Validation

EXPLAINED = 1.25
"""Sum of layers over the eager time, from which it is explained by row."""
UNSTEADY_ROW = 1.5
"""Ratio of the quartiles of a layer's runs, from which it is called unsteady."""


@dataclass(frozen=True)
class _Part:
    """One part of the workload on both sides. ``label`` is empty when there is one part."""

    label: str
    phase: str
    weight: float
    graph: LayerGraph
    measurement: Measurement
    results: tuple[LayerResult, ...]


def compare(
    source: LayerGraph | Workload,
    measurement: Measurement | Sequence[Measurement],
    simulation: Simulation,
    device: Architecture | None = None,
) -> Validation:
    """Joins both sides by layer name. A layer that a side lacks is a row with a gap, never dropped.

    ``measurement`` is one a part of the workload, in order; times of a part count as often as it runs. ``device`` is
    the architecture that describes the measured device, where one is known: it tells what layers wait for there, and
    makes the comparison one of seconds when it is also what was simulated.

    Raises MmworkloadError when the three are not of one model, or graph and measurement not of one batch.
    """
    workload = Workload.of(source)
    taken = (measurement,) if isinstance(measurement, Measurement) else tuple(measurement)
    parts = _parts(workload, taken, simulation)
    first = taken[0]
    same = device is not None and simulation.arch_key == device.key
    rows = _layer_rows(parts, simulation)
    stages = _groups(rows, lambda row: row.stage)
    measured_s, simulated_s = (_total(seconds) for seconds in _seconds(rows))
    return Validation(
        model=workload.name,
        variant=parts[0].graph.variant,
        batch=parts[0].graph.batch,
        device=first.device,
        device_name=str(first.provenance.get("device_name", first.device)),
        measured_precision=", ".join(dict.fromkeys(_precision(item) for item in taken)),
        arch=simulation.arch,
        simulator=simulation.simulator,
        answered=simulation.answered,
        chosen=simulation.chosen,
        simulator_version=simulation.version,
        fidelity=simulation.fidelity,
        why=simulation.why,
        simulated_precision=simulation.precision,
        serial_s=simulation.serial_latency_s,
        critical_path_s=simulation.critical_path_s,
        layers=rows,
        stages=stages,
        modalities=_groups(rows, lambda row: row.modality),
        operators=_groups(rows, lambda row: row.op),
        all_layers=_correlation(rows),
        mac_layers=_correlation(row for row in rows if row.macs),
        large_layers=_correlation(row for row in rows if _counts(row.sides)),
        measured_straggler=_straggler(rows, lambda sides: sides.measured_s),
        simulated_straggler=_straggler(rows, lambda sides: sides.simulated_s),
        gaps=_gaps(parts, rows),
        same_device=same,
        stage_distance=distance(
            [row.sides.measured_share or 0.0 for row in stages], [row.sides.simulated_share or 0.0 for row in stages]
        ),
        widest_stage=max(stages, key=lambda row: abs(row.sides.share_difference), default=_NO_GROUP).name,
        end_to_end_ratio=None if not measured_s or simulated_s is None else simulated_s / measured_s,
        errors=_errors(rows, same=same),
        stage_errors=_accuracy("stages", ((row.name, row.sides) for row in stages), same=same),
        causes=causes(
            _sided(parts, rows, same=same, measured_s=measured_s or 0.0),
            Context(
                device=device,
                same_device=same,
                calibrated=simulation.chosen == CALIBRATED,
                launches=first.device != "cpu",
                kernel_difference=max(item.kernel_difference for item in taken),
                user_kernels=all(item.user_kernels for item in taken),
            ),
        ),
    )


_NO_GROUP = GroupRow("", 0, 0, Sides(None, None, None, None), 0, 0)


def _parts(workload: Workload, taken: Sequence[Measurement], simulation: Simulation) -> list[_Part]:
    if simulation.model != workload.name:
        raise MmworkloadError(
            f"the simulation is of {simulation.model}, the graph of {workload.name}; compare one model"
        )
    if len(taken) != len(workload.parts):
        raise MmworkloadError(
            f"{workload.name} has {len(workload.parts)} parts and {len(taken)} measurements; give one for each part"
        )
    several = len(workload.parts) > 1
    found = []
    for index, (part, measured) in enumerate(zip(workload.parts, taken, strict=True)):
        graph, label = part.graph, part.name or str(index)
        if measured.model != graph.model:
            raise MmworkloadError(
                f"the measurement is of {measured.model}, the graph of {graph.model}; compare one model"
            )
        if measured.batch != graph.batch:
            raise MmworkloadError(
                f"{graph.model}: the measurement is of batch {measured.batch}, the graph of batch {graph.batch};"
                " measure or trace again with one batch"
            )
        results = tuple(item for item in simulation.layers if not several or item.part == label)
        named = (label, part.phase or label) if several else ("", "")
        found.append(_Part(*named, part.count, graph, measured, results))
    return found


def _precision(measurement: Measurement) -> str:
    """The type, and where tensor cores round its products to TF32."""
    settings = (("matrix products", "tf32_matmul"), ("convolutions", "tf32_conv"))
    rounded = [what for what, key in settings if measurement.provenance.get(key) == "tf32"]
    if measurement.dtype != "float32" or not rounded:
        return measurement.dtype
    return f"{measurement.dtype} (TF32 in {' and '.join(rounded)})"


def _layer_rows(parts: Sequence[_Part], simulation: Simulation) -> tuple[LayerRow, ...]:
    """Layers in program order, part after part; in each, last those that only a side knows."""
    measured_s = sum(item.time.median_s * part.weight for part in parts for item in part.measurement.layers)
    simulated_s = sum(item.latency_s * part.weight for part in parts for item in part.results)
    return tuple(row for part in parts for row in _part_rows(part, simulation, measured_s, simulated_s))


def _part_rows(part: _Part, simulation: Simulation, measured_s: float, simulated_s: float) -> Iterator[LayerRow]:
    traced = {layer.name: layer for layer in part.graph}
    measured = {item.layer: item for item in part.measurement.layers}
    simulated = {item.layer: item for item in part.results}
    for name in dict.fromkeys([*traced, *measured, *simulated]):
        time, estimate = measured.get(name), simulated.get(name)
        known = next(item for item in (traced.get(name), estimate, time) if item is not None)
        yield LayerRow(
            layer=name,
            op=known.op,
            stage=known.stage,
            modality=known.modality,
            macs=_macs(known),
            sides=_sides(
                None if time is None else time.time.median_s * part.weight,
                measured_s,
                None if estimate is None else estimate.latency_s * part.weight,
                simulated_s,
            ),
            kernels=None if time is None else time.kernels,
            simulator=estimate.simulator if estimate else "",
            bound=estimate.bound if estimate else "",
            floored=estimate is not None and estimate.floored_from is not None,
            fallback=estimate is not None and estimate.matrix and estimate.simulator != simulation.chosen,
            dead=name in traced and traced[name].dead,
            note=estimate.note if estimate else "",
            part=part.label,
            phase=part.phase,
            weight=part.weight,
            bytes=traced[name].bytes if name in traced else 0,
            category=traced[name].category if name in traced else time.category if time is not None else "",
        )


def _macs(item: Layer | LayerResult | LayerTime) -> int:
    return 0 if isinstance(item, LayerTime) else item.macs


def _sides(measured: float | None, all_measured: float, simulated: float | None, all_simulated: float) -> Sides:
    return Sides(
        measured,
        simulated,
        None if measured is None or not all_measured else measured / all_measured,
        None if simulated is None or not all_simulated else simulated / all_simulated,
    )


def _groups(rows: Sequence[LayerRow], key: Callable[[LayerRow], str]) -> tuple[GroupRow, ...]:
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return tuple(
        GroupRow(
            name=name,
            layers=len(members),
            macs=sum(row.macs for row in members),
            sides=Sides(
                _total(row.sides.measured_s for row in members),
                _total(row.sides.simulated_s for row in members),
                _total(row.sides.measured_share for row in members),
                _total(row.sides.simulated_share for row in members),
            ),
            unmeasured=sum(row.sides.measured_s is None for row in members),
            unsimulated=sum(row.sides.simulated_s is None for row in members),
        )
        for name, members in groups.items()
    )


def _total(values: Iterable[float | None]) -> float | None:
    """The sum of what is there; None when nothing is."""
    present = [value for value in values if value is not None]
    return sum(present) if present else None


def _correlation(rows: Iterable[LayerRow]) -> Correlation:
    pairs = [
        (row.sides.measured_s, row.sides.simulated_s)
        for row in rows
        if row.sides.measured_s is not None and row.sides.simulated_s is not None
    ]
    measured, simulated = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return Correlation(len(pairs), spearman(measured, simulated), kendall(measured, simulated))


def _straggler(rows: Sequence[LayerRow], seconds: Callable[[Sides], float | None]) -> Straggler | None:
    times: dict[str, float] = {}
    for row in rows:
        value, modality = seconds(row.sides), encoded(row.stage)
        if modality and value is not None:
            times[modality] = times.get(modality, 0.0) + value
    return straggler(times) if len(times) > 1 else None


def _gaps(parts: Sequence[_Part], rows: Sequence[LayerRow]) -> Gaps:
    traced = {(part.label, layer.name) for part in parts for layer in part.graph}
    taken = [part.measurement for part in parts]

    def whole(value: Callable[[Measurement], float]) -> float:
        return sum(value(part.measurement) * part.weight for part in parts)

    return Gaps(
        eager_s=whole(lambda item: item.eager.median_s),
        graph_s=whole(lambda item: item.graph.median_s),
        layer_sum_s=whole(lambda item: item.layer_sum_s),
        eager_quartiles_s=(whole(lambda item: item.eager.q1_s), whole(lambda item: item.eager.q3_s)),
        only=tuple(dict.fromkeys(glob for item in taken for glob in item.only)),
        unattributed_s=whole(lambda item: item.unattributed_s),
        kernel_difference=max(item.kernel_difference for item in taken),
        user_kernels=all(item.user_kernels for item in taken),
        unmeasured=tuple(row.label for row in rows if row.sides.measured_s is None),
        unsimulated=tuple(row.label for row in rows if row.sides.simulated_s is None),
        untraced=tuple(row.label for row in rows if (row.part, row.layer) not in traced),
        dead=_part(row for row in rows if row.dead),
        fallback=_part(row for row in rows if row.fallback),
        floored=_part(row for row in rows if row.floored),
        ignored=_calls(parts, "ignored"),
        unknown=_calls(parts, "unknown"),
        assumptions=tuple(
            dict.fromkeys(
                text
                for part in parts
                for text in (*part.graph.notes, *(text for layer in part.graph for text in layer.assumptions))
            )
        ),
        excess=tuple(item for part in parts for item in excess(part.measurement)),
        busy=max((load for load in map(busy, taken) if load is not None), default=None),
    )


def excess(measurement: Measurement, most: int = 10) -> tuple[Excess, ...]:
    """Why the kernels of all layers take longer than :data:`EXPLAINED` times the eager model, by row, largest first.

    The profiler costs each operator about the same, so that a row's part of the excess is its part of all kernels. A
    row whose own runs spread widely is said to be unsteady instead, as that explains it too.
    """
    total_s, eager_s = measurement.layer_sum_s, measurement.eager.median_s
    kernels = sum(item.kernels for item in measurement.layers)
    if measurement.only or not kernels or total_s <= EXPLAINED * eager_s:
        return ()
    each_s = (total_s - eager_s) / kernels
    found = []
    for item in measurement.layers:
        spread = item.time.q3_s / item.time.q1_s if item.time.q1_s else 1.0
        if spread > UNSTEADY_ROW:
            why = f"unsteady: half of its runs lie within a factor of {spread:.1f}"
        elif each_s * item.kernels > item.time.median_s:
            why = "shorter than the mean cost of the profiler"
        else:
            why = f"{plural(item.kernels, kernel_noun(measurement.device))}, each measured with the profiler"
        found.append(
            Excess(item.layer, item.kernels, item.time.median_s, min(each_s * item.kernels, item.time.median_s), why)
        )
    return tuple(sorted(found, key=lambda row: -row.excess_s)[:most])


def _counts(sides: Sides) -> bool:
    return (sides.measured_share or 0.0) >= SMALLEST_SHARE


def _seconds(rows: Sequence[LayerRow]) -> tuple[list[float], list[float]]:
    """Both sides of the rows that both have."""
    pairs = [(row.sides.measured_s, row.sides.simulated_s) for row in rows]
    both = [(measured, simulated) for measured, simulated in pairs if measured is not None and simulated is not None]
    return [pair[0] for pair in both], [pair[1] for pair in both]


def _errors(rows: Sequence[LayerRow], *, same: bool) -> tuple[Accuracy, ...]:
    """Over all layers, then by kernel category in order of first use."""
    categories = dict.fromkeys(row.category for row in rows)
    every = _accuracy("all", ((row.label, row.sides) for row in rows if _counts(row.sides)), same=same, of=len(rows))
    found = [every]
    for category in categories:
        own = [row for row in rows if row.category == category]
        large = ((row.label, row.sides) for row in own if _counts(row.sides))
        found.append(_accuracy(category or "none", large, same=same, of=len(own)))
    return tuple(found)


def _accuracy(name: str, rows: Iterable[tuple[str, Sides]], *, same: bool, of: int | None = None) -> Accuracy:
    """Rows without a positive time on both sides are excluded, as are those of ``of`` that are not in ``rows``."""
    chosen = list(rows)
    ratios = [(label, sides.compared(same)) for label, sides in chosen]
    known = [(label, ratio) for label, ratio in ratios if ratio]
    return accuracy(name, known, (len(chosen) if of is None else of) - len(known))


def _sided(parts: Sequence[_Part], rows: Sequence[LayerRow], *, same: bool, measured_s: float) -> list[Sided]:
    layers = {(part.label, layer.name): layer for part in parts for layer in part.graph}
    results = {(part.label, item.layer): item for part in parts for item in part.results}
    found = []
    for row in rows:
        sides = row.sides
        points = sides.share_difference
        if same and measured_s and sides.measured_s is not None and sides.simulated_s is not None:
            points = (sides.simulated_s - sides.measured_s) / measured_s
        key = (row.part, row.layer)
        found.append(Sided(row, layers.get(key), results.get(key), sides.compared(same), points))
    return found


def _part(rows: Iterable[LayerRow]) -> Part:
    chosen = list(rows)
    return Part(
        len(chosen),
        _total(row.sides.measured_share for row in chosen) or 0.0,
        _total(row.sides.simulated_share for row in chosen) or 0.0,
    )


def _calls(parts: Sequence[_Part], treatment: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for item in part.graph.coverage:
            if item.treatment == treatment:
                found[item.operator] = found.get(item.operator, 0) + item.calls
    return found
