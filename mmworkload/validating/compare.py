"""Putting a measurement and a simulation of one graph side by side. A pure function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer
from mmworkload.measuring.result import LayerTime, Measurement
from mmworkload.simulating.result import LayerResult, Simulation
from mmworkload.simulating.rollup import ENCODER, Straggler, straggler
from mmworkload.validating.rank import kendall, spearman
from mmworkload.validating.result import Correlation, Gaps, GroupRow, LayerRow, Part, Sides, Validation


def compare(graph: LayerGraph, measurement: Measurement, simulation: Simulation) -> Validation:
    """Joins both sides by layer name. A layer that a side lacks is a row with a gap, never dropped.

    Raises MmworkloadError when the three are not of one model, or graph and measurement not of one batch.
    """
    _require_same(graph, measurement, simulation)
    rows = _layer_rows(graph, measurement, simulation)
    return Validation(
        model=graph.model,
        variant=graph.variant,
        batch=graph.batch,
        device=measurement.device,
        device_name=str(measurement.provenance.get("device_name", measurement.device)),
        measured_precision=_precision(measurement),
        arch=simulation.arch,
        simulator=simulation.simulator,
        simulator_version=simulation.version,
        fidelity=simulation.fidelity,
        simulated_precision=simulation.precision,
        serial_s=simulation.serial_latency_s,
        critical_path_s=simulation.critical_path_s,
        layers=rows,
        stages=_groups(rows, lambda row: row.stage),
        modalities=_groups(rows, lambda row: row.modality),
        operators=_groups(rows, lambda row: row.op),
        all_layers=_correlation(rows),
        mac_layers=_correlation(row for row in rows if row.macs),
        measured_straggler=_straggler(rows, lambda sides: sides.measured_s),
        simulated_straggler=_straggler(rows, lambda sides: sides.simulated_s),
        gaps=_gaps(graph, measurement, rows),
    )


def _require_same(graph: LayerGraph, measurement: Measurement, simulation: Simulation) -> None:
    for what, model in (("measurement", measurement.model), ("simulation", simulation.model)):
        if model != graph.model:
            raise MmworkloadError(f"the {what} is of {model}, the graph of {graph.model}; compare one model")
    if measurement.batch != graph.batch:
        raise MmworkloadError(
            f"{graph.model}: the measurement is of batch {measurement.batch}, the graph of batch {graph.batch};"
            " measure or trace again with one batch"
        )


def _precision(measurement: Measurement) -> str:
    """The type, and where tensor cores round its products to TF32."""
    settings = (("matrix products", "tf32_matmul"), ("convolutions", "tf32_conv"))
    rounded = [what for what, key in settings if measurement.provenance.get(key) == "tf32"]
    if measurement.dtype != "float32" or not rounded:
        return measurement.dtype
    return f"{measurement.dtype} (TF32 in {' and '.join(rounded)})"


def _layer_rows(graph: LayerGraph, measurement: Measurement, simulation: Simulation) -> tuple[LayerRow, ...]:
    """Layers in program order, then those that only a side knows."""
    traced = {layer.name: layer for layer in graph}
    measured = {item.layer: item for item in measurement.layers}
    simulated = {item.layer: item for item in simulation.layers}
    measured_s = sum(item.time.median_s for item in measured.values())
    simulated_s = sum(item.latency_s for item in simulated.values())

    def row(name: str) -> LayerRow:
        time, estimate = measured.get(name), simulated.get(name)
        known = next(item for item in (traced.get(name), estimate, time) if item is not None)
        return LayerRow(
            layer=name,
            op=known.op,
            stage=known.stage,
            modality=known.modality,
            macs=_macs(known),
            sides=_sides(
                None if time is None else time.time.median_s,
                measured_s,
                None if estimate is None else estimate.latency_s,
                simulated_s,
            ),
            kernels=None if time is None else time.kernels,
            simulator=estimate.simulator if estimate else "",
            bound=estimate.bound if estimate else "",
            floored=estimate is not None and estimate.floored_from is not None,
            fallback=estimate is not None and _is_fallback(estimate, simulation.simulator),
            dead=name in traced and traced[name].dead,
            note=estimate.note if estimate else "",
        )

    return tuple(row(name) for name in dict.fromkeys([*traced, *measured, *simulated]))


def _macs(item: Layer | LayerResult | LayerTime) -> int:
    return 0 if isinstance(item, LayerTime) else item.macs


def _is_fallback(row: LayerResult, simulator: str) -> bool:
    return row.macs + row.outer_macs > 0 and row.simulator != simulator


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
        value = seconds(row.sides)
        if row.stage.startswith(ENCODER) and value is not None:
            modality = row.stage.removeprefix(ENCODER)
            times[modality] = times.get(modality, 0.0) + value
    return straggler(times) if len(times) > 1 else None


def _gaps(graph: LayerGraph, measurement: Measurement, rows: Sequence[LayerRow]) -> Gaps:
    traced = {layer.name for layer in graph}
    return Gaps(
        eager_s=measurement.eager.median_s,
        graph_s=measurement.graph.median_s,
        layer_sum_s=measurement.layer_sum_s,
        eager_quartiles_s=(measurement.eager.q1_s, measurement.eager.q3_s),
        only=measurement.only,
        unattributed_s=measurement.unattributed_s,
        kernel_difference=measurement.kernel_difference,
        user_kernels=measurement.user_kernels,
        unmeasured=tuple(row.layer for row in rows if row.sides.measured_s is None),
        unsimulated=tuple(row.layer for row in rows if row.sides.simulated_s is None),
        untraced=tuple(row.layer for row in rows if row.layer not in traced),
        dead=_part(row for row in rows if row.dead),
        fallback=_part(row for row in rows if row.fallback),
        floored=_part(row for row in rows if row.floored),
        ignored=_calls(graph, "ignored"),
        unknown=_calls(graph, "unknown"),
        assumptions=tuple(dict.fromkeys([*graph.notes, *(text for layer in graph for text in layer.assumptions)])),
    )


def _part(rows: Iterable[LayerRow]) -> Part:
    chosen = list(rows)
    return Part(
        len(chosen),
        _total(row.sides.measured_share for row in chosen) or 0.0,
        _total(row.sides.simulated_share for row in chosen) or 0.0,
    )


def _calls(graph: LayerGraph, treatment: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in graph.coverage:
        if item.treatment == treatment:
            found[item.operator] = found.get(item.operator, 0) + item.calls
    return found
