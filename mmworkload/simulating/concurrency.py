"""Modalities side by side: what k accelerators gain, how much slack the faster modalities have, what energy it buys.

Every accelerator is one of the simulated kind. A modality runs on one of them, and so does what several modalities
share (fusion and head). Its layers run in the order in which they would start if each modality had an accelerator of
its own; it waits for the next one rather than take another before it. With that order a further accelerator is never
slower, and the schedule is the longest path over data dependences and neighbours on one accelerator. This is list
scheduling (R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Applied Mathematics 17(2), 1969) with a
list for each accelerator. Transfers between accelerators are not charged. The parts of a workload, and the runs of one
part, follow each other.

Waiting accelerators are taken to leak nothing, as the simulated energy has no waiting in it either.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.graph import LayerGraph, Workload
from mmworkload.simulating.rollup import unit_of
from mmworkload.simulating.voltage import EnergySplit, VoltageScaling

if TYPE_CHECKING:
    from mmworkload.simulating.result import LayerResult

EXACT = 6
"""Modalities up to which every assignment to accelerators is tried."""
SHARED = ""
"""The unit of the layers that several modalities reach."""
_ROUNDING = 1e-9

Assignment = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Run:
    """One part of a workload: its graph, how often it runs, and seconds and joules by layer name (None without)."""

    graph: LayerGraph
    count: float
    latency_s: Mapping[str, float]
    energy: Mapping[str, EnergySplit] | None


@dataclass(frozen=True)
class Accelerators:
    """The workload on ``count`` accelerators.

    Parameters
    ----------
    latency_s, speedup: from start to end; over one accelerator.
    critical: the modality with most seconds on the longest path.
    idle_share: of all accelerators' time from start to end.
    waiting_share: the part of it in which accelerators with an encoder wait, until the last encoder has ended.
    assignment: the modalities of each accelerator; the empty one is what they share.
    """

    count: int
    latency_s: float
    speedup: float
    critical: str
    idle_share: float
    waiting_share: float
    assignment: Assignment


@dataclass(frozen=True)
class Slack:
    """What one modality could give away without moving the end, when each has an accelerator of its own.

    Joules are None when the simulator gives no energy.

    Parameters
    ----------
    seconds: of its layers, also those outside its encoder that it alone reaches.
    slack_s, slowdown: by how much and by which factor they could all take longer, the other modalities as they are.
    energy_j: of its layers.
    clock: share of the nominal clock that costs least within the slack, the others slowed down too.
    saving_j, saving_share: at that clock; of ``energy_j``.
    floor_saving_j: the bound: what could be saved down to the lowest voltage if the slack did not end before. Zero for
        a modality without slack.
    """

    seconds: float
    slack_s: float
    slowdown: float
    energy_j: float | None
    clock: float | None
    saving_j: float | None
    saving_share: float | None
    floor_saving_j: float | None


@dataclass(frozen=True)
class Concurrency:
    """The modalities of a workload side by side.

    Parameters
    ----------
    accelerators: for one accelerator and more, up to one a modality and one for what they share.
    modalities: the slack of each, in order of first use.
    saving_j, floor_saving_j: sums over the modalities; None when the simulator gives no energy.
    saving_share, floor_saving_share: of the energy of the whole workload.
    scaling: how voltage, clock and energy hang together.
    """

    accelerators: tuple[Accelerators, ...]
    modalities: dict[str, Slack]
    saving_j: float | None
    saving_share: float | None
    floor_saving_j: float | None
    floor_saving_share: float | None
    scaling: VoltageScaling

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        return asdict(self)


def runs_of(workload: Workload, rows: Iterable[LayerResult], dram: str) -> list[Run]:
    """The parts with the costs of their layers. ``rows`` are those of the workload in program order, part after part;
    ``dram`` is the component that keeps its voltage."""
    ordered = list(rows)
    charged = all(row.energy_j is not None for row in ordered)
    found = []
    for part in workload.parts:
        own, ordered = ordered[: len(part.graph.layers)], ordered[len(part.graph.layers) :]
        energy = {row.layer: _split(row.energy_by_component_j, dram) for row in own} if charged else None
        found.append(Run(part.graph, part.count, {row.layer: row.latency_s for row in own}, energy))
    return found


def _split(components: Mapping[str, float], dram: str) -> EnergySplit:
    switching = math.fsum(joules for name, joules in components.items() if name not in (dram, "leakage"))
    return EnergySplit(switching, components.get("leakage", 0.0), components.get(dram, 0.0))


def concurrency(runs: Sequence[Run], scaling: VoltageScaling | None = None) -> Concurrency | None:
    """See the module; None for fewer than two modalities, and for a workload that takes no time.

    Up to :data:`EXACT` modalities every assignment to accelerators is tried. Beyond, modalities go longest first to the
    accelerator with least to do (Graham 1969) and the shared layers to each accelerator in turn; also tried are the
    assignments that move one unit from the best on one accelerator fewer to the new one.
    """
    scaling = scaling or VoltageScaling()
    parts = [_Part(_blocks(run.graph, run.latency_s), run) for run in runs]
    units = list(dict.fromkeys(block.unit for part in parts for block in part.blocks))
    serial_s = sum(part.count * block.seconds for part in parts for block in part.blocks)
    if len([unit for unit in units if unit != SHARED]) < 2 or not serial_s:
        return None
    rows: list[Accelerators] = []
    for count in range(1, len(units) + 1):
        rows.append(_best(parts, _assignments(parts, units, count, rows[-1].assignment if rows else ()), serial_s))
    slacks = _slacks(parts, [unit for unit in units if unit != SHARED], scaling)
    charged = all(run.energy is not None for run in runs)
    whole_j = sum(run.count * item.total_j for run in runs for item in (run.energy or {}).values())
    saving_j = sum(slack.saving_j or 0.0 for slack in slacks.values()) if charged else None
    floor_saving_j = sum(slack.floor_saving_j or 0.0 for slack in slacks.values()) if charged else None
    return Concurrency(
        accelerators=tuple(rows),
        modalities=slacks,
        saving_j=saving_j,
        saving_share=_over(saving_j, whole_j),
        floor_saving_j=floor_saving_j,
        floor_saving_share=_over(floor_saving_j, whole_j),
        scaling=scaling,
    )


def _over(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


# --- the schedule -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """Layers of one unit that follow each other, entered from other units at the first and left at the last only.
    ``needs`` are positions of earlier blocks, the one before on the same unit among them."""

    unit: str
    seconds: float
    needs: tuple[int, ...]


@dataclass(frozen=True)
class _Part:
    """One part of the workload: blocks in the order in which every accelerator takes them."""

    blocks: tuple[_Block, ...]
    run: Run

    @property
    def count(self) -> float:
        return self.run.count

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(block.unit for block in self.blocks))

    def seconds(self, unit: str) -> float:
        return sum(block.seconds for block in self.blocks if block.unit == unit)

    def split(self, unit: str) -> EnergySplit | None:
        """Energy of one unit."""
        if self.run.energy is None:
            return None
        own = (self.run.energy[layer.name] for layer in self.run.graph.layers if unit_of(layer) == unit)
        return sum(own, EnergySplit())


def _blocks(graph: LayerGraph, latency_s: Mapping[str, float]) -> tuple[_Block, ...]:
    """The blocks of a graph by the time at which they would start if every unit had its own accelerator."""
    unit = {layer.name: unit_of(layer) for layer in graph.layers}
    sources = {
        layer.name: {graph.producers[tensor] for tensor, _ in layer.reads if tensor in graph.producers}
        for layer in graph.layers
    }
    leaving = {item for name, found in sources.items() for item in found if unit[item] != unit[name]}
    home: dict[str, int] = {}
    seconds: list[float] = []
    units: list[str] = []
    needs: list[set[int]] = []
    last: dict[str, str] = {}
    for layer in graph.layers:
        name, own = layer.name, unit[layer.name]
        foreign = {home[item] for item in sources[name] if unit[item] != own}
        if foreign or own not in last or last[own] in leaving:
            needs.append(foreign | ({home[last[own]]} if own in last else set()))
            home[name] = len(units)
            units.append(own)
            seconds.append(0.0)
        else:
            home[name] = home[last[own]]
        seconds[home[name]] += latency_s[name]
        last[own] = name
    start: list[float] = []
    for found in needs:
        start.append(max((start[index] + seconds[index] for index in found), default=0.0))
    order = sorted(range(len(units)), key=lambda index: (start[index], index))
    place = {index: position for position, index in enumerate(order)}
    return tuple(
        _Block(units[index], seconds[index], tuple(sorted(place[item] for item in needs[index]))) for index in order
    )


@dataclass(frozen=True)
class _Schedule:
    """When each block ends, and the block that it waited for longest (None at the start)."""

    blocks: tuple[_Block, ...]
    finish: list[float]
    before: list[int | None]

    @property
    def end_s(self) -> float:
        return max(self.finish, default=0.0)

    def on_path(self) -> dict[str, float]:
        """Unit to its seconds, as given in the blocks, on the longest path."""
        found: dict[str, float] = {}
        index = max(range(len(self.finish)), key=self.finish.__getitem__, default=None)
        while index is not None:
            block = self.blocks[index]
            found[block.unit] = found.get(block.unit, 0.0) + block.seconds
            index = self.before[index]
        return found


def _schedule(
    blocks: tuple[_Block, ...], place: Mapping[str, int] | None = None, slower: Mapping[str, float] | None = None
) -> _Schedule:
    """``place`` is unit to accelerator (without: each unit has its own), ``slower`` unit to the factor on its time."""
    slower = slower or {}
    finish: list[float] = []
    before: list[int | None] = []
    last: dict[int, int] = {}
    for index, block in enumerate(blocks):
        waits = list(block.needs)
        if place is not None:
            accelerator = place[block.unit]
            if accelerator in last:
                waits.append(last[accelerator])
            last[accelerator] = index
        latest = max(waits, key=finish.__getitem__, default=None)
        before.append(latest)
        finish.append((0.0 if latest is None else finish[latest]) + block.seconds * slower.get(block.unit, 1.0))
    return _Schedule(blocks, finish, before)


# --- on k accelerators ------------------------------------------------------------------------------------------------


def _assignments(
    parts: Sequence[_Part], units: list[str], count: int, fewer: Assignment
) -> Iterator[list[tuple[str, ...]]]:
    """The assignments of all units to exactly ``count`` accelerators that are compared; ``fewer`` is the best one on
    one accelerator less."""
    modalities = [unit for unit in units if unit != SHARED]
    if len(modalities) <= EXACT:
        yield from _partitions(units, count)
        return
    for group in fewer:
        for unit in group if len(group) > 1 else ():
            rest = tuple(item for item in group if item != unit)
            yield [*(item for item in fewer if item != group), rest, (unit,)]
    groups: list[list[str]] = [[] for _ in range(min(count, len(modalities)))]
    seconds = {unit: sum(part.count * part.seconds(unit) for part in parts) for unit in modalities}
    for unit in sorted(modalities, key=lambda item: -seconds[item]):
        min(groups, key=lambda group: sum(seconds[item] for item in group)).append(unit)
    made = [tuple(group) for group in groups]
    if SHARED not in units:
        yield made
    elif count > len(modalities):
        yield [*made, (SHARED,)]
    else:
        for index, group in enumerate(made):
            yield [*made[:index], (*group, SHARED), *made[index + 1 :]]


def _partitions(items: Sequence[str], count: int) -> Iterator[list[tuple[str, ...]]]:
    """All ways to divide ``items`` into exactly ``count`` groups."""
    if not items:
        if count == 0:
            yield []
        return
    first, rest = items[0], items[1:]
    if count:
        for groups in _partitions(rest, count - 1):
            yield [(first,), *groups]
    for groups in _partitions(rest, count):
        for index, group in enumerate(groups):
            yield [*groups[:index], (first, *group), *groups[index + 1 :]]


def _best(parts: Sequence[_Part], assignments: Iterable[Sequence[tuple[str, ...]]], serial_s: float) -> Accelerators:
    """The assignment that ends first; of equal ones, that with the encoders and then all layers spread most evenly."""
    seconds = {unit: sum(part.count * part.seconds(unit) for part in parts) for part in parts for unit in part.units}

    def cost(groups: Sequence[tuple[str, ...]]) -> tuple[float, ...]:
        place = _place(groups)
        end_s = sum(part.count * _schedule(part.blocks, place).end_s for part in parts)
        encoders = sum(sum(seconds[unit] for unit in group if unit != SHARED) ** 2 for group in groups)
        return end_s, encoders, sum(sum(seconds[unit] for unit in group) ** 2 for group in groups)

    position = {unit: index for index, unit in enumerate(seconds)}
    chosen = min(assignments, key=cost)
    groups = sorted(chosen, key=lambda group: min(position[unit] for unit in group))
    place = _place(groups)
    end_s, waiting_s = 0.0, 0.0
    path: dict[str, float] = {}
    for part in parts:
        schedule = _schedule(part.blocks, place)
        end_s += part.count * schedule.end_s
        waiting_s += part.count * _waiting_s(schedule, place)
        for unit, on_path in schedule.on_path().items():
            path[unit] = path.get(unit, 0.0) + part.count * on_path
    modalities = [unit for unit in path if unit != SHARED]
    return Accelerators(
        count=len(groups),
        latency_s=end_s,
        speedup=serial_s / end_s,
        critical=max(modalities, key=path.__getitem__, default=""),
        idle_share=_above_rounding(1 - serial_s / (len(groups) * end_s)),
        waiting_share=_above_rounding(waiting_s / (len(groups) * end_s)),
        assignment=tuple(groups),
    )


def _place(groups: Sequence[tuple[str, ...]]) -> dict[str, int]:
    return {unit: index for index, group in enumerate(groups) for unit in group}


def _waiting_s(schedule: _Schedule, place: Mapping[str, int]) -> float:
    """Seconds that accelerators with an encoder are idle before the last encoder ends."""
    ends = [(place[block.unit], end) for block, end in zip(schedule.blocks, schedule.finish, strict=True) if block.unit]
    last_s = max((end for _, end in ends), default=0.0)
    encoding = {accelerator for accelerator, _ in ends}
    busy_s = 0.0
    for block, end in zip(schedule.blocks, schedule.finish, strict=True):
        if place[block.unit] in encoding:
            busy_s += max(0.0, min(end, last_s) - (end - block.seconds))
    return len(encoding) * last_s - busy_s


def _above_rounding(share: float) -> float:
    return share if share > _ROUNDING else 0.0


# --- slack and what it buys -------------------------------------------------------------------------------------------


def _slowdown(blocks: tuple[_Block, ...], unit: str, end_s: float, slower: Mapping[str, float]) -> float:
    """The largest factor on the time of ``unit`` that leaves the end where it is, every unit on its own accelerator.

    The end is the maximum over paths of a + b x factor, so Newton's method from above reaches the exact solution.
    """
    seconds = sum(block.seconds for block in blocks if block.unit == unit)
    if not seconds:
        return 1.0
    factor = end_s / seconds
    while (schedule := _schedule(blocks, slower={**slower, unit: factor})).end_s > end_s * (1 + _ROUNDING):
        own_s = schedule.on_path()[unit]
        factor = (end_s - (schedule.end_s - own_s * factor)) / own_s
    return factor if factor > 1 + _ROUNDING else 1.0


@dataclass
class _SlackSum:
    """A :class:`Slack` as it is added up over the parts."""

    seconds: float = 0.0
    slack_s: float = 0.0
    scaled_s: float = 0.0
    energy_j: float = 0.0
    saving_j: float = 0.0
    floor_saving_j: float = 0.0
    charged: bool = True

    def total(self) -> Slack:
        return Slack(
            seconds=self.seconds,
            slack_s=self.slack_s,
            slowdown=1 + self.slack_s / self.seconds if self.seconds else 1.0,
            energy_j=self.energy_j if self.charged else None,
            clock=_over(self.seconds, self.scaled_s) if self.charged else None,
            saving_j=self.saving_j if self.charged else None,
            saving_share=_over(self.saving_j, self.energy_j) if self.charged else None,
            floor_saving_j=self.floor_saving_j if self.charged else None,
        )


def _slacks(parts: Sequence[_Part], modalities: Sequence[str], scaling: VoltageScaling) -> dict[str, Slack]:
    """The slack of each modality alone; the clocks are chosen one after another, most switching energy first, each
    with the slower clocks before it in place, so that together they leave the end where it is."""
    sums = {unit: _SlackSum() for unit in modalities}
    for part in parts:
        end_s = _schedule(part.blocks).end_s
        splits = {unit: part.split(unit) for unit in part.units if unit != SHARED}
        slower: dict[str, float] = {}
        for unit, split in sorted(splits.items(), key=lambda item: -item[1].switching_j if item[1] else 0.0):
            total, seconds = sums[unit], part.seconds(unit)
            alone = _slowdown(part.blocks, unit, end_s, {})
            total.seconds += part.count * seconds
            total.slack_s += part.count * (alone - 1) * seconds
            if split is None:
                total.charged = False
                continue
            volts = scaling.cheapest_v(split, _slowdown(part.blocks, unit, end_s, slower))
            slower[unit] = 1 / scaling.clock(volts)
            total.scaled_s += part.count * seconds * slower[unit]
            total.energy_j += part.count * split.total_j
            total.saving_j += part.count * (split.total_j - scaling.energy_j(split, volts))
            if alone > 1:
                lowest = scaling.energy_j(split, scaling.cheapest_v(split))
                total.floor_saving_j += part.count * (split.total_j - lowest)
    return {unit: item.total() for unit, item in sums.items()}
