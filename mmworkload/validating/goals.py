"""What the models of a device are to reach, and how far they do. Pure functions.

Only comparisons on the measured device count: a different architecture is different, not wrong. All goals are over
layers and stages with at least one per cent of the measured time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.validating.accuracy import SMALLEST_SHARE, quantile
from mmworkload.validating.calibration import NAME as CALIBRATED

if TYPE_CHECKING:
    from mmworkload.validating.report import Report

SPEARMAN = 0.9
STAGE_POINTS = 0.05
LAYER_ERROR = 0.15
WHOLE_ERROR = 0.10
UNSTEADY = 1.5
"""Ratio of the quartiles of a layer's repeats, from which its measured time is no firm ground."""


@dataclass(frozen=True)
class Miss:
    """A row that misses a goal, its value, and the most likely cause."""

    row: str
    value: float
    cause: str


@dataclass(frozen=True)
class Goal:
    """One goal for one simulator on one device.

    Parameters
    ----------
    what, limit: the figure, and what it may be; ``least`` when the limit is a lower one.
    every: whether each row has to keep the limit, or the median of all.
    rows, excluded: counted; left out, as small, without a time on one side, or without a coefficient.
    median, p90, worst: of the rows; nine tenths of them are at least as good as ``p90``. None without rows.
    within: rows that keep the limit.
    misses: of rows that do not, the worst first.
    """

    what: str
    simulator: str
    arch: str
    device_name: str
    limit: float
    least: bool
    every: bool
    rows: int
    excluded: int
    median: float | None
    p90: float | None
    worst: float | None
    within: int
    misses: tuple[Miss, ...]

    @property
    def met(self) -> bool | None:
        """None when there is nothing to judge."""
        if self.median is None or self.worst is None:
            return None
        value = self.worst if self.every else self.median
        return value >= self.limit if self.least else value <= self.limit

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True)
class _Row:
    name: str
    value: float | None
    cause: str


def goals(reports: Iterable[Report]) -> tuple[Goal, ...]:
    """By simulator, architecture and device, in order of first use; empty without a comparison on one device."""
    groups: dict[tuple[str, str, str], list[Report]] = {}
    for report in reports:
        v = report.validation
        if v.same_device:
            groups.setdefault((v.simulator, v.arch, v.device_name), []).append(report)
    return tuple(goal for key, members in groups.items() for goal in _of(key, members))


def _of(key: tuple[str, str, str], reports: Sequence[Report]) -> Iterable[Goal]:
    ranks = [_Row(_name(item), item.validation.large_layers.spearman, cause(item)) for item in reports]
    yield _goal("Spearman of the layers, per workload", key, ranks, SPEARMAN, least=True, every=True)
    shares = [
        _Row(
            f"{_name(item)} {row.name}",
            abs(row.sides.share_difference) if (row.sides.measured_share or 0.0) >= SMALLEST_SHARE else None,
            cause(item, stage=row.name),
        )
        for item in reports
        for row in item.validation.stages
    ]
    yield _goal("difference of the shares, per stage", key, shares, STAGE_POINTS, every=True)
    if key[0] != CALIBRATED:
        return
    layers, stages, whole = [], [], []
    for item in reports:
        v = item.validation
        for row in v.layers:
            value = row.sides.compared(seconds=True)
            small = (row.sides.measured_share or 0.0) < SMALLEST_SHARE
            layers.append(
                _Row(f"{_name(item)} {row.label}", _error(None if small else value), _of_layer(item, row.label))
            )
        for group in v.stages:
            small = (group.sides.measured_share or 0.0) < SMALLEST_SHARE
            value = None if small else group.sides.compared(seconds=True)
            stages.append(_Row(f"{_name(item)} {group.name}", _error(value), cause(item, stage=group.name)))
        whole.append(_Row(_name(item), _error(v.end_to_end_ratio), cause(item)))
    yield _goal("error of the time, per layer", key, layers, LAYER_ERROR)
    yield _goal("error of the time, per stage", key, stages, WHOLE_ERROR)
    yield _goal("error of the time, sum over layers", key, whole, WHOLE_ERROR)


def _error(ratio: float | None) -> float | None:
    return None if ratio is None else abs(ratio - 1)


def _name(report: Report) -> str:
    v = report.validation
    return f"{v.model} (batch {v.batch}, {v.measured_precision})"


def _goal(
    what: str,
    key: tuple[str, str, str],
    rows: Sequence[_Row],
    limit: float,
    *,
    least: bool = False,
    every: bool = False,
) -> Goal:
    known = [(row, row.value) for row in rows if row.value is not None]
    values = [value for _, value in known]
    wrong = [(row, value) for row, value in known if (value < limit if least else value > limit)]
    wrong.sort(key=lambda pair: pair[1], reverse=not least)
    worst = (min if least else max)(values) if values else None
    return Goal(
        what,
        *key,
        limit=limit,
        least=least,
        every=every,
        rows=len(values),
        excluded=len(rows) - len(values),
        median=statistics.median(values) if values else None,
        p90=quantile(values, 0.1 if least else 0.9) if values else None,
        worst=worst,
        within=len(values) - len(wrong),
        misses=tuple(Miss(row.name, value, row.cause) for row, value in wrong),
    )


def cause(report: Report, stage: str | None = None) -> str:
    """The costliest cause of a comparison, or of one stage of it, and whether the measured times are firm at all."""
    v = report.validation
    inside = {row.label for row in v.layers if stage is None or row.stage == stage}
    points = {
        item: sum(abs(entry.points) for entry in item.layers if entry.layer in inside or not entry.layer)
        for item in v.causes
    }
    found = []
    if points and max(points.values()) > 0:
        largest = max(points, key=lambda item: points[item])
        example = next((entry for entry in largest.layers if entry.layer in inside), None)
        found.append(largest.what + (f" {example.layer}: {example.text}." if example else ""))
    shaky = _unsteady(report, inside)
    if shaky > 0.1:
        found.append(f"Unsteady: layers with {100 * shaky:.0f} % of this time vary by more than half between repeats.")
    return " ".join(found) or "No layer is off by more than half; small differences add up."


def _of_layer(report: Report, label: str) -> str:
    for item in report.validation.causes:
        for entry in item.layers:
            if entry.layer == label:
                return f"{item.what} {entry.text}."
    shaky = _unsteady(report, {label})
    return "Unsteady: its repeats vary by more than half." if shaky else "Off by less than half: its class is mixed."


def _unsteady(report: Report, labels: set[str]) -> float:
    """Share of the measured time of these layers whose repeats vary widely."""
    several = len(report.workload.parts) > 1
    total, shaky = 0.0, 0.0
    for index, (part, measured) in enumerate(zip(report.workload.parts, report.measurements, strict=True)):
        for item in measured.layers:
            label = f"{part.name or index}: {item.layer}" if several else item.layer
            if label in labels:
                total += item.time.median_s
                shaky += item.time.median_s if item.time.q3_s > UNSTEADY * item.time.q1_s else 0.0
    return shaky / total if total else 0.0
