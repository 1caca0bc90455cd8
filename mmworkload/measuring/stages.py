"""The stage level: a run of the traced program with a timer where a stage begins and nowhere else.

Stages may interleave in program order (one encoder's layer, then another's): the segments of each are summed. What the
profile says of a stage (its kernels, calls of the runtime, idle device) comes from the profiled runs, not from these.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmworkload.measuring.categories import crosses
from mmworkload.measuring.result import Spread, StageTime

if TYPE_CHECKING:
    import torch

    from mmworkload.graph import LayerGraph
    from mmworkload.measuring.frames import HostRow, KernelRow
    from mmworkload.measuring.program import Eager


@dataclass
class Timer:
    """Moments at which stages begin, on the device's clock: events of the stream on CUDA, else the host's clock."""

    device: torch.device
    marks: list[tuple[str, Any]] = field(default_factory=list)

    def mark(self, stage: str) -> None:
        """Notes that ``stage`` begins now."""
        self.marks.append((stage, self._now()))

    def begin(self) -> None:
        """Forgets the marks of the run before; work before the first stage belongs to the first one."""
        self.marks.clear()
        self.mark("")

    def seconds(self) -> dict[str, float]:
        """Ends the run and gives the time of each stage: the sum of its segments."""
        self.mark("")
        if self.device.type == "cuda":
            self.marks[-1][1].synchronize()
        totals: dict[str, float] = defaultdict(float)
        first = next((stage for stage, _ in self.marks if stage), "")
        for (stage, start), (_, end) in zip(self.marks, self.marks[1:], strict=False):
            totals[stage or first] += start.elapsed_time(end) * 1e-3 if self.device.type == "cuda" else end - start
        return totals

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


class StageSampler:
    """Prepares and times one forward pass stage by stage; ``taken`` holds the seconds of each stage of each sample."""

    def __init__(self, program: Eager, stage_of_call: Mapping[str, str], device: torch.device) -> None:
        self.timer = Timer(device)
        self.device = device
        self.prepare = program.stage_runner(self.timer.mark, stage_of_call)
        self.taken: list[dict[str, float]] = []

    def __call__(self) -> float:
        """The seconds of the whole forward pass, timers included."""
        import torch

        with torch.inference_mode():
            run = self.prepare()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.timer.begin()
            outputs = run()
            seconds = self.timer.seconds()
            del outputs
        self.taken.append(seconds)
        return sum(seconds.values())


def stage_of_call(graph: LayerGraph, layer_of_call: Mapping[str, str]) -> dict[str, str]:
    """Key of a call to the stage of its layer."""
    return {key: graph[layer].stage for key, layer in layer_of_call.items()}


def stage_times(
    graph: LayerGraph,
    taken: Sequence[Mapping[str, float]],
    kernels: Sequence[KernelRow],
    host: Sequence[HostRow],
    chosen: set[str] | None = None,
) -> tuple[StageTime, ...]:
    """One entry a stage of ``graph`` in order of first use; ``chosen`` keeps the stages of these layers alone.

    ``taken`` are the samples of the stage level, ``kernels`` and ``host`` the rows of the profiled runs.
    """
    kept = {layer.stage for layer in graph if chosen is None or layer.name in chosen}
    modalities: dict[str, set[str]] = {}
    for layer in graph:
        if layer.stage in kept:
            modalities.setdefault(layer.stage, set()).add(layer.modality)
    runs = sorted({row.run for row in kernels} | {row.run for row in host})
    per_run = [
        _of_run([row for row in kernels if row.run == run], [row for row in host if row.run == run]) for run in runs
    ]

    def median(stage: str, name: str) -> float:
        return statistics.median([getattr(found.get(stage, _NOTHING), name) for found in per_run] or [0.0])

    def count(stage: str, name: str) -> int:
        return statistics.median_low([getattr(found.get(stage, _NOTHING), name) for found in per_run] or [0])

    return tuple(
        StageTime(
            stage=stage,
            modality=next(iter(names)) if len(names) == 1 else "",
            time=Spread.of([sample.get(stage, 0.0) for sample in taken]),
            cpu_s=median(stage, "cpu_s"),
            runtime_s=median(stage, "runtime_s"),
            busy_s=median(stage, "busy_s"),
            idle_s=median(stage, "idle_s"),
            launches=count(stage, "launches"),
            syncs=count(stage, "syncs"),
            copies=count(stage, "copies"),
        )
        for stage, names in modalities.items()
    )


@dataclass
class _Use:
    """What one profiled run did in one stage."""

    cpu_s: float = 0.0
    runtime_s: float = 0.0
    busy_s: float = 0.0
    idle_s: float = 0.0
    launches: int = 0
    syncs: int = 0
    copies: int = 0


_NOTHING = _Use()


def _of_run(kernels: Sequence[KernelRow], host: Sequence[HostRow]) -> dict[str, _Use]:
    uses: dict[str, _Use] = defaultdict(_Use)
    for row in host:
        use = uses[row.stage]
        if row.kind == "operator":
            use.cpu_s += row.self_s
        else:
            use.runtime_s += row.self_s
            use.syncs += row.kind == "sync"
    for item in kernels:
        use = uses[item.stage]
        use.launches += item.kind == "kernel"
        use.copies += item.kind == "copy" and crosses(item.name)
    on_device = [(row.stage, row.start_s, row.start_s + row.duration_s) for row in kernels if row.kind != "operator"]
    # On the CPU the processor is the device; an operator lasts until what it calls has ended.
    operators = [(row.stage, row.start_s, row.start_s + row.duration_s) for row in host if row.kind == "operator"]
    for stage, (busy_s, idle_s) in busy_and_idle(on_device or operators).items():
        uses[stage].busy_s, uses[stage].idle_s = busy_s, idle_s
    return uses


def busy_and_idle(work: Iterable[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """Seconds in which a device worked for each stage, and in which it did nothing while the stage was under way.

    ``work`` is (stage, start, end), from the start of the run at 0. A stage is under way from the end of the work of
    the stage before it to the end of its own, so that a gap belongs to the stage that the device waits for. Overlapping
    work of one stage counts once. Work of no stage (the empty name) is neither a stage's own nor idle time.
    """
    ordered = sorted(work, key=lambda item: (item[1], item[2]))
    spans: list[tuple[str, float, float]] = []
    for stage, _, end in ordered:
        if not stage:
            continue
        if spans and spans[-1][0] == stage:
            spans[-1] = (stage, spans[-1][1], max(spans[-1][2], end))
        else:
            spans.append((stage, spans[-1][2] if spans else 0.0, max(end, spans[-1][2] if spans else 0.0)))
    covered = _union((start, end) for _, start, end in ordered)
    totals: dict[str, tuple[float, float]] = {}
    for stage in dict.fromkeys(stage for stage, _, _ in spans):
        own = _union((start, end) for name, start, end in ordered if name == stage)
        mine = [(start, end) for name, start, end in spans if name == stage]
        length = sum(end - start for start, end in mine)
        totals[stage] = (sum(end - start for start, end in own), max(0.0, length - _overlap(mine, covered)))
    return totals


def _union(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same times as disjoint spans in order; ``spans`` come in order of their starts."""
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _overlap(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]) -> float:
    """Length of the intersection of two lists of disjoint spans in order."""
    total, index = 0.0, 0
    for start, end in first:
        while index < len(second) and second[index][1] <= start:
            index += 1
        at = index
        while at < len(second) and second[at][0] < end:
            total += min(end, second[at][1]) - max(start, second[at][0])
            at += 1
    return total


def fastest_s(spans: Mapping[str, tuple[int, int]]) -> float:
    """Seconds of the shortest profiled run (``attribution.run_spans``)."""
    return min((end - start) * 1e-9 for start, end in spans.values())
