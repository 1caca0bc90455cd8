"""The comparison in sentences, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmworkload.measuring.steadiness import disturbances
from mmworkload.reporting.answered import simulated_by
from mmworkload.reporting.units import coefficient, kernel_noun, plural, share, si, times
from mmworkload.validating.calibration import NAME as CALIBRATED
from mmworkload.validating.device import bound

if TYPE_CHECKING:
    from mmworkload.validating.report import Report
    from mmworkload.validating.result import GroupRow, Part, Validation


@dataclass(frozen=True)
class Bound:
    """What limits one side: shares of ``seconds``, the largest first. Empty when the device's peaks are not known."""

    where: str
    seconds: float
    shares: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{share(value)} {name}" for name, value in self.shares.items() if value >= 0.0005)


def measured_bound(report: Report) -> Bound:
    """Of the eager time: what is in no kernel, and what the kernels of each layer wait for. Where layers take longer
    one by one than the whole model does, of the sum over layers."""
    gaps = report.validation.gaps
    inside: dict[str, float] = {}
    for part, measured in zip(report.workload.parts, report.measurements, strict=True):
        traced = {layer.name: layer for layer in part.graph}
        for item in measured.layers:
            layer = traced.get(item.layer)
            if report.device is None:
                name = "in kernels"
            elif layer is None:
                name = "other"
            else:
                name = bound(layer, report.device, item.time.median_s, item.kernels)
            inside[name] = inside.get(name, 0.0) + item.time.median_s * part.count
    inside["other kernels"] = gaps.unattributed_s
    used = sum(inside.values())
    if gaps.only or used > gaps.eager_s:
        return _bound(report.validation.device_name, used, inside)
    return _bound(report.validation.device_name, gaps.eager_s, {**inside, "idle or dispatch": gaps.eager_s - used})


def simulated_bound(report: Report) -> Bound:
    """Of the serial latency: what the longest share of each layer waits for."""
    parts: dict[str, float] = {}
    for row in report.simulation.layers:
        parts[row.bound] = parts.get(row.bound, 0.0) + row.latency_s * row.weight
    v = report.validation
    return _bound(f"{v.arch} ({v.simulator})", v.serial_s, parts)


def _bound(where: str, seconds: float, parts: dict[str, float]) -> Bound:
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return Bound(where, seconds, {name: value / seconds for name, value in ordered} if seconds else {})


def verdicts(reports: tuple[Report, ...]) -> Iterator[str]:
    """What bounds one workload, on the device and on each architecture, in a sentence each."""
    first = reports[0]
    yield f"On {first.validation.device_name}: {measured_bound(first)} of {si(measured_bound(first).seconds, 's')}."
    for report in reports:
        found = simulated_bound(report)
        own = report.simulation.simulator
        rest = [item for item in report.simulation.answered if not item.matrix and item.simulator != own]
        apart = "".join(f"; {share(item.share)} of it without MACs, by the {item.simulator}" for item in rest)
        yield f"On {found.where}: {found} of {si(found.seconds, 's')}{apart}."


def mixtures(reports: Sequence[Report]) -> Iterator[str]:
    """The totals that several simulators answered for, and the architectures that they did in different comparisons."""
    found: dict[str, dict[str, None]] = {}
    for item in reports:
        v = item.validation
        if sum(one.matrix for one in v.answered) > 1:
            yield f"{v.model}, batch {v.batch}, on {v.arch}: {simulated_by(v.answered)[0]}"
        if v.chosen != CALIBRATED:
            found.setdefault(v.arch, {})[v.simulator] = None
    for arch, names in found.items():
        if len(names) > 1:
            yield (
                f"{arch} is simulated by {' and by '.join(names)}: what two simulators say cannot be compared with each"
                " other"
            )


def sentences(validation: Validation) -> Iterator[str]:
    """What a reader should know first; the caveats are in :func:`caveats`."""
    v = validation
    yield (
        f"Measured on {v.device} in {v.measured_precision}: {si(v.gaps.eager_s, 's')} for a batch of {v.batch}."
        f" Simulated on {v.arch} by {v.simulator}: {si(v.serial_s, 's')}, layer after layer."
    )
    yield from _longest_stage(v)
    yield from _stragglers(v)
    yield from _ranks(v)


def _longest_stage(v: Validation) -> Iterator[str]:
    def longest(side: str) -> GroupRow | None:
        present = [row for row in v.stages if getattr(row.sides, side) is not None]
        return max(present, key=lambda row: getattr(row.sides, side), default=None)

    measured, simulated = longest("measured_share"), longest("simulated_share")
    if measured is None or simulated is None or len(v.stages) < 2:
        return
    if measured.name == simulated.name:
        sides = measured.sides
        yield (
            f"Both sides spend most time in {measured.name}: {share(sides.measured_share)} of the measured and"
            f" {share(sides.simulated_share)} of the simulated time."
        )
    else:
        yield (
            f"The longest stage differs: {measured.name} with {share(measured.sides.measured_share)} of the measured"
            f" time, {simulated.name} with {share(simulated.sides.simulated_share)} of the simulated time."
        )


def _stragglers(v: Validation) -> Iterator[str]:
    measured, simulated = v.measured_straggler, v.simulated_straggler
    if measured is None or simulated is None:
        return
    if v.stragglers_agree:
        yield (
            f"The straggler modality is {measured.modality} on both sides: its encoder takes {times(measured.ratio)}"
            f" the time of the others (their mean) measured, {times(simulated.ratio)} simulated."
        )
    else:
        yield (
            f"The straggler modality differs: {measured.modality} measured ({times(measured.ratio)} the mean of the"
            f" others), {simulated.modality} simulated ({times(simulated.ratio)})."
        )


def _ranks(v: Validation) -> Iterator[str]:
    every, macs = v.all_layers, v.mac_layers
    text = f"Rank correlation over {plural(every.layers, 'layer')}: Spearman {coefficient(every.spearman)}, Kendall"
    text += f" {coefficient(every.kendall)}"
    if macs.layers < every.layers:
        text += (
            f"; over the {macs.layers} with MACs: Spearman {coefficient(macs.spearman)}, Kendall"
            f" {coefficient(macs.kendall)}"
        )
    yield text + "."


def accuracies(validation: Validation) -> Iterator[str]:
    """How far the two sides are apart."""
    v = validation
    basis = "seconds" if v.same_device else "shares of time"
    every = v.errors[0]
    yield (
        f"Stages differ by {share(v.stage_distance)} of the time in all"
        + (f", most in {v.widest_stage}" if len(v.stages) > 1 else "")
        + f"; over the {plural(v.large_layers.layers, 'layer')} with at least 1 % of the measured time, Spearman"
        f" {coefficient(v.large_layers.spearman)}, Kendall {coefficient(v.large_layers.kendall)}."
    )
    if every.median is not None:
        yield (
            f"Median error of {basis} per layer: {share(every.median)} (nine tenths within {share(every.p90)}, worst"
            f" {share(every.worst)} in {every.worst_row}); {plural(every.excluded, 'layer')} left out."
        )
    if v.same_device and v.end_to_end_ratio is not None:
        yield f"Sum over layers: {times(v.end_to_end_ratio)} the measured one."


def warnings(validation: Validation) -> Iterator[str]:
    """What puts the comparison in doubt, one sentence each; only what applies."""
    v, gaps = validation, validation.gaps
    noun = kernel_noun(v.device)
    if not gaps.user_kernels:
        yield (
            f"Not the user's {noun}s: eager and graph run different {noun}s for {share(gaps.kernel_difference)} of the"
            f" {noun} time, and the measured rows are those of the graph."
        )
    yield from disturbances(gaps.eager_s, gaps.eager_quartiles_s, gaps.busy)
    if gaps.excess:
        shown = ", ".join(f"{row.layer} ({si(row.excess_s, 's')}; {row.why})" for row in gaps.excess[:3])
        yield (
            f"The layers add up to {times(gaps.layers_over_eager)} the eager time: they are measured one by one under"
            f" the profiler. If each {noun} costs the same there, most of it is in {shown}."
        )
    yield from _missing("measured", gaps.unmeasured)
    yield from _missing("simulated", gaps.unsimulated)
    yield from _missing("traced", gaps.untraced)
    yield from _some(gaps.fallback, f"that {v.chosen} could not answer for: {_others(v)} did")
    if gaps.unknown:
        yield f"Operators without a lowering, in neither side's shares: {_calls(gaps.unknown)}."


def caveats(validation: Validation) -> Iterator[str]:
    """The :func:`warnings`, and what else the comparison does not cover."""
    v, gaps = validation, validation.gaps
    noun = kernel_noun(v.device)
    yield from warnings(v)
    yield f"End to end, the graph takes {times(gaps.graph_over_eager)} the time of the eager model."
    if gaps.idle_share is None:
        yield f"The end-to-end times are of the whole model, the layers those of {', '.join(gaps.only)}."
    else:
        yield (
            f"The {noun}s of all layers add up to {times(gaps.layers_over_eager)} the eager time."
            f" {share(gaps.idle_share)} of it is in no {noun}: idle, dispatch, or a machine busy with other work. No"
            " share includes it."
        )
    if gaps.unattributed_s:
        yield f"{si(gaps.unattributed_s, 's')} of {noun} time belong to views and other nodes that are no layer."
    yield f"Precision: {v.measured_precision} measured; simulated {v.simulated_precision}."
    yield f"{v.chosen} is told the architecture: {v.fidelity}."
    yield from _some(gaps.floored, "raised to a physical bound, which the simulator undercut")
    yield from _some(gaps.dead, "whose result nobody needs: eager execution runs them all the same")
    if gaps.ignored:
        yield f"Operators that move no bytes and are not simulated: {_calls(gaps.ignored)}."
    for text in gaps.assumptions:
        yield f"Assumed: {text}."


def _others(v: Validation) -> str:
    """Who answered for layers with MACs in the place of the chosen simulator."""
    names = (name for row in v.layers if row.fallback for name in row.simulator.split("+") if name != v.chosen)
    return " and ".join(dict.fromkeys(names))


def _missing(how: str, names: tuple[str, ...]) -> Iterator[str]:
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        yield f"{plural(len(names), 'layer')} not {how}: {shown}."


def _some(part: Part, what: str) -> Iterator[str]:
    if part.layers:
        yield (
            f"{plural(part.layers, 'layer')} ({share(part.measured_share)} of the measured,"
            f" {share(part.simulated_share)} of the simulated time) {what}."
        )


def _calls(operators: dict[str, int]) -> str:
    return ", ".join(f"{name} ({plural(count, 'call')})" for name, count in operators.items())
