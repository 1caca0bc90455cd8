"""A calibrated model of a GPU or CPU: the roofline with a few constants per operator class, fitted on measurements.

A layer of class c takes::

    seconds = compute_s / compute_efficiency(c) + memory_s / bandwidth_efficiency(c) + launches * kernel_s(c)

with the terms of :func:`mmworkload.validating.device.terms`, which know nothing of measured times. One more constant
holds for all convolutions: their channels run in blocks (vectors of a CPU, tiles of a GPU), whose size is that of
:data:`BLOCKS` with the least loss. The constants are
the minimum of a Huber loss (P. J. Huber, "Robust Estimation of a Location Parameter", Ann. Math. Stat. 35(1), 1964) on
log(predicted / measured), so that a factor counts alike for short and long layers and single outliers count little,
found by Levenberg-Marquardt steps from a fixed start: the same samples give the same constants. Three constants are not
always told apart by few layers: each class is drawn to the constants of its category (Conv, Gemm, ...), these to the
constants of all together, and these to peaks that are half reached, with the weight of :data:`PULL` layers. A class
that no sample has takes the constants of its category, else of all.

A class is an operator; convolutions of one element (1x1) and grouped ones are classes of their own, since libraries
have other kernels for them (:func:`kind`). The model is fitted on other families of workloads than the one that it is
asked for: variants of a family share their encoders (:func:`leave_one_out`). Pure functions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError
from mmworkload.layer import Layer
from mmworkload.simulating.concurrency import concurrency, runs_of
from mmworkload.simulating.rollup import critical_path_s
from mmworkload.validating.accuracy import quantile
from mmworkload.validating.device import Terms, terms

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from mmworkload.graph import LayerGraph, Workload
    from mmworkload.measuring.result import Measurement
    from mmworkload.simulating.result import Simulation

    Vector = NDArray[numpy.float64]

NAME = "calibrated"
EVERY = "all"
"""The name of the class that stands for all classes."""
PULL = 1.0
HUBER = 0.3
"""Residuals above this, a factor of 1.35, count linearly."""
START_LAUNCH_S = 2e-6
"""Seconds to start a kernel where the architecture does not say."""
BLOCKS = (1, 8, 16, 32)
_STEPS = 200
# Workloads that are named one by one.
_FEW = 4
_CONVERGED = 1e-10
# Constants stay within these logarithms of the start: beyond, a term is simply absent.
_WIDEST = math.log(1e4)


@dataclass(frozen=True)
class Sample:
    """One measured layer: class, category, what it asks of the device, the seconds it took, its weight in the fit."""

    kind: str
    category: str
    terms: Terms
    measured_s: float
    weight: float = 1.0


@dataclass(frozen=True)
class Constants:
    """Of one operator class: parts of the peaks that are reached, and seconds a kernel. ``layers`` were fitted;
    ``residual`` is the median factor between prediction and measurement on them, 1 when it is exact."""

    kind: str
    layers: int
    compute_efficiency: float
    bandwidth_efficiency: float
    kernel_s: float
    residual: float

    def seconds(self, needs: Terms) -> float:
        """The prediction for one layer."""
        return (
            needs.compute_s / self.compute_efficiency
            + needs.memory_s / self.bandwidth_efficiency
            + needs.launches * self.kernel_s
        )


@dataclass(frozen=True)
class Calibration:
    """The constants by class, by category and of all, on what they were fitted, and the channels of a block."""

    arch: str
    device_name: str
    fitted_on: tuple[str, ...]
    constants: Mapping[str, Constants]
    block: int = 1

    @property
    def source(self) -> str:
        """What it was fitted on: the workloads, or their families where these are many."""
        if len(self.fitted_on) <= _FEW:
            return ", ".join(self.fitted_on)
        return f"{len(self.fitted_on)} workloads of {', '.join(dict.fromkeys(map(_family, self.fitted_on)))}"

    def of(self, layer: Layer) -> Constants:
        """Those of the layer's class, else of its category, else of all."""
        return self.constants.get(kind(layer)) or self.constants.get(layer.category) or self.constants[EVERY]

    def seconds(self, layer: Layer, arch: Architecture) -> float:
        """The prediction for one run of a layer."""
        return self.of(layer).seconds(terms(layer, arch, self.block))


@dataclass(frozen=True)
class Spread:
    """One constant over all splits: the least, the median and the largest value."""

    kind: str
    constant: str
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Split:
    """The model under test and the calibration that was fitted without it."""

    tested: str
    calibration: Calibration


def kind(layer: Layer) -> str:
    """The operator class of a layer: ``linear``, ``conv2d``, ``conv2d 1x1``, ``conv2d grouped``, ..."""
    if layer.category != "Conv" or not layer.work:
        return layer.op
    sizes = layer.work[0].problem.extents
    if sizes.get("G", 1) > 1:
        return f"{layer.op} grouped"
    return layer.op if any(sizes.get(name, 1) > 1 for name in "TRS") else f"{layer.op} 1x1"


def samples(graph: LayerGraph, measurement: Measurement, arch: Architecture, block: int = 1) -> list[Sample]:
    """The layers with a positive time. A layer weighs by the root of its share of the workload's time, so that one
    workload of many small layers does not decide alone; the weights of a workload have the mean 1."""
    traced = {layer.name: layer for layer in graph}
    found = [
        Sample(kind(layer), layer.category, terms(layer, arch, block), item.time.median_s)
        for item in measurement.layers
        if (layer := traced.get(item.layer)) is not None and item.time.median_s > 0
    ]
    total = sum(item.measured_s for item in found)
    weights = [math.sqrt(item.measured_s / total) for item in found]
    mean = statistics.fmean(weights) if weights else 1.0
    return [replace(item, weight=weight / mean) for item, weight in zip(found, weights, strict=True)]


def fit(
    found: Sequence[Sample], arch: Architecture, device_name: str, fitted_on: Iterable[str], block: int = 1
) -> Calibration:
    """The constants of every class and category in ``found``, and of all. MmworkloadError without samples."""
    if not found:
        raise MmworkloadError(f"nothing to calibrate {arch.name} on: no layer with a measured time")
    start = _start(arch)
    every, _ = _minimum(found, start, start)
    constants = {EVERY: _constants(EVERY, found, every)}
    for category in dict.fromkeys(item.category for item in found):
        own = [item for item in found if item.category == category]
        centre, _ = _minimum(own, every, start)
        constants[category] = _constants(category, own, centre)
        for name in dict.fromkeys(item.kind for item in own):
            same = [item for item in own if item.kind == name]
            constants[name] = _constants(name, same, _minimum(same, centre, start)[0])
    return Calibration(arch.label, device_name, tuple(fitted_on), constants, block)


def best_block(by_block: Mapping[int, Sequence[Sample]], arch: Architecture) -> int:
    """The block whose samples of convolutions are fitted best, the smallest of equals; 1 without convolutions."""
    start = _start(arch)
    losses = {}
    for block, found in by_block.items():
        own = [item for item in found if item.category == "Conv"]
        losses[block] = _minimum(own, start, start)[1] if own else 0.0
    return min(losses, key=lambda block: (losses[block], block))


def _start(arch: Architecture) -> tuple[float, float, float]:
    """Logarithms of factors from which a fit starts: half of the peaks, the architecture's own launches."""
    return math.log(2), math.log(2), math.log(arch.launch_us * 1e-6 if arch.launch_us else START_LAUNCH_S)


def leave_one_out(
    cases: Sequence[tuple[LayerGraph, Measurement]],
    arch: Architecture,
    tested: Mapping[str, Collection[str]] | None = None,
) -> tuple[Split, ...]:
    """For each workload in ``tested``, the calibration on the cases of all families but its own.

    ``tested`` is name to models whose families are left out (default: each model of ``cases`` to itself), whatever
    their batch. Workloads for which nothing is left to fit on are not in the result.
    """
    own = {block: [samples(graph, measurement, arch, block) for graph, measurement in cases] for block in BLOCKS}

    @cache
    def without(families: frozenset[str]) -> Calibration | None:
        others = [
            index for index, (graph, _) in enumerate(cases) if _family(graph.model) not in families and own[1][index]
        ]
        if not others:
            return None
        device = str(cases[others[0]][1].provenance.get("device_name", ""))
        fitted_on = dict.fromkeys(cases[index][0].model for index in others)
        known = {block: [item for index in others for item in own[block][index]] for block in BLOCKS}
        block = best_block(known, arch)
        return fit(known[block], arch, device, fitted_on, block)

    if tested is None:
        tested = {graph.model: {graph.model} for graph, _ in cases}
    found = {name: without(frozenset(map(_family, models))) for name, models in tested.items()}
    return tuple(Split(name, calibration) for name, calibration in found.items() if calibration is not None)


def _family(model: str) -> str:
    """Of ``av-mnist/concat`` the part before the variant; any other model is alone."""
    return model.partition("/")[0] if ":" not in model else model


def spreads(splits: Sequence[Split]) -> tuple[Spread, ...]:
    """Each constant over the splits that have its class, classes in order of first use."""
    found = []
    for kind in dict.fromkeys(kind for split in splits for kind in split.calibration.constants):
        own = [item.calibration.constants[kind] for item in splits if kind in item.calibration.constants]
        for name in ("compute_efficiency", "bandwidth_efficiency", "kernel_s"):
            values = [getattr(item, name) for item in own]
            found.append(Spread(kind, name, min(values), statistics.median(values), max(values)))
    return tuple(found)


def calibrated(simulation: Simulation, workload: Workload, arch: Architecture, calibration: Calibration) -> Simulation:
    """``simulation``, the closed form on ``arch``, with the calibrated time of every layer. Energies are not known.

    Layers in ``simulation`` are those of ``workload`` in program order, part after part, without those of the host.
    """
    layers = {
        (part.name or str(index), item.name): item for index, part in enumerate(workload.parts) for item in part.graph
    }
    second = arch.clock_mhz * 1e6
    rows = []
    for row in simulation.layers:
        layer = layers[row.part, row.layer]
        own = calibration.of(layer)
        seconds = calibration.seconds(layer, arch)
        of_others = f"class not fitted: the constants of {own.kind}" if own.kind != kind(layer) else ""
        note = "; ".join(filter(None, [row.note, of_others]))
        rows.append(
            replace(
                row, latency_s=seconds, cycles=round(seconds * second), simulator=NAME, floored_from=None, note=note
            )
        )
    path_s = 0.0
    for index, part in enumerate(workload.parts):
        latency_s = {row.layer: row.latency_s for row in rows if row.part == (part.name or str(index))}
        inside = part.graph.where(lambda layer, known=latency_s: layer.name in known)  # type: ignore[misc]
        times = part.count if part.sequential else min(part.count, 1.0)
        path_s += times * critical_path_s(inside, latency_s)
    on_device = replace(
        workload,
        parts=tuple(
            replace(part, graph=part.graph.where(lambda layer: layer.placement == "device")) for part in workload.parts
        ),
    )
    return replace(
        simulation,
        chosen=NAME,
        version=simulation.version,
        fidelity=f"approximate (three constants per operator class, fitted on {calibration.source})",
        why="",
        layers=tuple(rows),
        critical_path_s=path_s,
        concurrency=concurrency(runs_of(on_device, rows, next(iter(arch.levels)))),
        on_chip=None,
        estimates={},
        device_notes=(*simulation.device_notes, f"{NAME} on other families of workloads: {calibration.source}"),
    )


def _constants(kind: str, found: Sequence[Sample], theta: Sequence[float]) -> Constants:
    compute, memory, kernel = (math.exp(value) for value in theta)
    made = Constants(kind, len(found), 1 / compute, 1 / memory, kernel, 1.0)
    factors = [math.exp(abs(math.log(made.seconds(item.terms) / item.measured_s))) for item in found]
    return replace(made, residual=quantile(factors, 0.5))


def _minimum(
    found: Sequence[Sample], drawn_to: Sequence[float], start: Sequence[float]
) -> tuple[tuple[float, ...], float]:
    """Logarithms of the three factors at the minimum of the loss, by Levenberg-Marquardt, and the loss."""
    import numpy

    needs = numpy.array([[item.terms.compute_s, item.terms.memory_s, item.terms.launches] for item in found], float)
    measured = numpy.log([item.measured_s for item in found])
    weights = numpy.array([item.weight for item in found], float)
    centre, middle = numpy.array(drawn_to, float), numpy.array(start, float)

    def parts(theta: Vector) -> Vector:
        return needs * numpy.exp(theta)

    def loss(theta: Vector) -> float:
        size = numpy.abs(numpy.log(parts(theta).sum(axis=1)) - measured)
        huber = numpy.where(size <= HUBER, size**2 / 2, HUBER * (size - HUBER / 2))
        return float((weights * huber).sum() + PULL * ((theta - centre) ** 2).sum() / 2)

    theta, damping = centre.copy(), 1e-3
    value = loss(theta)
    for _ in range(_STEPS):
        seconds = parts(theta)
        total = seconds.sum(axis=1)
        jacobian = seconds / total[:, None]
        residual = numpy.log(total) - measured
        # Huber's loss by weights: quadratic near zero, linear beyond.
        effective = weights * numpy.minimum(1.0, HUBER / numpy.maximum(numpy.abs(residual), 1e-300))
        gradient = jacobian.T @ (effective * residual) + PULL * (theta - centre)
        hessian = (jacobian.T * effective) @ jacobian + PULL * numpy.eye(3)
        step = numpy.linalg.solve(hessian + damping * numpy.diag(numpy.diag(hessian)), -gradient)
        tried = numpy.clip(theta + step, middle - _WIDEST, middle + _WIDEST)
        next_value = loss(tried)
        if next_value <= value:
            done = value - next_value <= _CONVERGED * max(1.0, value)
            theta, value, damping = tried, next_value, max(damping / 10, 1e-9)
            if done:
                break
        else:
            damping *= 10
            if damping > 1e12:
                break
    return tuple(float(item) for item in theta), value
