"""From profiler events to layers: pure functions over simple records. Free of torch.

A *kernel* is what takes the time. On a GPU it is a kernel, copy or fill that the device ran; it belongs to the range
inside which the host launched it. On the CPU it is an operator, whose time is its own: without the operators that it
calls. A layer's time is the sum over the kernels in the range of its node, never the wall time of the range, which
holds the dispatch and the profiler's overhead.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# Names of the ranges that the measurement opens: one forward pass, one node of the graph.
RUN = "run::"
NODE = "node::"

EventKind = Literal["range", "operator", "launch", "kernel"]


@dataclass(frozen=True)
class Event:
    """One record of a profile, times in nanoseconds on one clock.

    Parameters
    ----------
    kind: ``range`` (a named span of the host), ``operator`` (of the framework, on the host), ``launch`` (a call of the
        device's runtime, on the host) or ``kernel`` (work on the device).
    id: of an operator, its number, which ``linked`` of launches and kernels cites; of launches and kernels, the number
        that both share.
    linked: number of the operator that caused a launch or kernel, 0 when it is not known.
    thread: the host thread.
    """

    name: str
    kind: EventKind
    start_ns: int
    end_ns: int
    id: int = 0
    linked: int = 0
    thread: int = 0


@dataclass(frozen=True)
class Kernel:
    """A kernel with the key of the node that ran it, empty when no node did, and the forward pass it belongs to."""

    name: str
    node: str
    run: str
    time_s: float


@dataclass(frozen=True)
class LayerKernels:
    """Seconds of kernel time of one layer in each forward pass, and the kernels of a typical one."""

    times_s: tuple[float, ...]
    kernels: int


def kernels(events: Sequence[Event], *, on_device: bool) -> list[Kernel]:
    """The kernels of all forward passes in ``events``; what ran outside a pass is left out.

    ``on_device`` takes the device's kernels, otherwise the operators of the host are the kernels.
    """
    ranges = _Ranges([event for event in events if event.kind == "range"])
    nodes = sorted(event.start_ns for event in events if event.kind == "range" and event.name.startswith(NODE))
    found = []
    for event, cause_ns, time_ns in _caused(events) if on_device else _exclusive(events):
        first = bisect_right(nodes, event.start_ns)
        if not on_device and first < len(nodes) and nodes[first] < event.end_ns:
            # The call as a recorded run intercepts it: the range of its node, with the operator itself, is inside.
            continue
        # Without a known cause the node is not known; the moment it ran still tells the forward pass.
        run, node = ranges.at(event.start_ns if cause_ns is None else cause_ns)
        if run:
            found.append(Kernel(event.name, "" if cause_ns is None else node, run, time_ns * 1e-9))
    return found


def _caused(events: Sequence[Event]) -> list[tuple[Event, int | None, int]]:
    """(kernel, when the host caused it, its duration): kernels run later than the range that launched them."""
    operators = {event.id: event.start_ns for event in events if event.kind == "operator"}
    launches = {event.id: event.start_ns for event in events if event.kind == "launch"}
    return [
        (event, operators.get(event.linked, launches.get(event.id)), event.end_ns - event.start_ns)
        for event in events
        if event.kind == "kernel"
    ]


def _exclusive(events: Sequence[Event]) -> list[tuple[Event, int | None, int]]:
    """(operator, its start, its time without the operators it calls), by nesting in time on each thread."""
    operators = sorted(
        (event for event in events if event.kind == "operator"),
        key=lambda item: (item.thread, item.start_ns, -item.end_ns),
    )
    own = [event.end_ns - event.start_ns for event in operators]
    stack: list[int] = []
    for index, event in enumerate(operators):
        while stack and (operators[stack[-1]].thread != event.thread or operators[stack[-1]].end_ns < event.end_ns):
            stack.pop()
        if stack:
            own[stack[-1]] -= event.end_ns - event.start_ns
        stack.append(index)
    # Clock ticks can make children a few nanoseconds longer than their parent.
    return [(event, event.start_ns, max(0, time)) for event, time in zip(operators, own, strict=True)]


class _Ranges:
    """Which forward pass and which node the host was in at a moment. Ranges nest; the innermost node counts."""

    def __init__(self, ranges: Sequence[Event]) -> None:
        self.ranges = sorted(ranges, key=lambda item: (item.start_ns, -item.end_ns))
        self.starts = [item.start_ns for item in self.ranges]
        self.parents: list[int] = []
        stack: list[int] = []
        for index, item in enumerate(self.ranges):
            while stack and self.ranges[stack[-1]].end_ns < item.end_ns:
                stack.pop()
            self.parents.append(stack[-1] if stack else -1)
            stack.append(index)

    def at(self, moment_ns: int) -> tuple[str, str]:
        """(run, node), each without its prefix and empty when there is none."""
        run = node = ""
        index = bisect_right(self.starts, moment_ns) - 1
        while index >= 0:
            item = self.ranges[index]
            if moment_ns <= item.end_ns:
                if item.name.startswith(NODE) and not node:
                    node = item.name.removeprefix(NODE)
                elif item.name.startswith(RUN) and not run:
                    run = item.name.removeprefix(RUN)
            index = self.parents[index]
        return run, node


def per_layer(
    found: Iterable[Kernel], layer_of_call: Mapping[str, str], runs: Sequence[str]
) -> tuple[dict[str, LayerKernels], float]:
    """Kernel time per layer and run, and the median over runs of the seconds that belong to no layer.

    ``layer_of_call`` maps node keys to layer names. Every layer in it is in the result, at zero when it launched
    nothing. Kernels of other nodes (views, checks) and of no node are unattributed.
    """
    times: dict[str, dict[str, float]] = {layer: dict.fromkeys(runs, 0.0) for layer in layer_of_call.values()}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    rest = dict.fromkeys(runs, 0.0)
    for kernel in found:
        layer = layer_of_call.get(kernel.node)
        if layer is None:
            rest[kernel.run] += kernel.time_s
        else:
            times[layer][kernel.run] += kernel.time_s
            counts[layer][kernel.run] += 1
    layers = {
        layer: LayerKernels(tuple(by_run.values()), statistics.median_low([counts[layer][run] for run in runs]))
        for layer, by_run in times.items()
    }
    return layers, statistics.median(rest.values())


def difference(first: Iterable[Kernel], second: Iterable[Kernel]) -> float:
    """Share of the kernel time of two programs spent in kernels that the other does not run: 0 equal, 1 disjoint.

    Kernels are the same when their names are; of ``n`` calls against ``m`` of the same name, ``|n - m|`` are counted as
    different, at the mean time of a call. Both must hold the same number of forward passes.
    """
    ours, theirs = _by_name(first), _by_name(second)
    total = different = 0.0
    for mine, other in ((ours, theirs), (theirs, ours)):
        for name, times in mine.items():
            seconds, extra = sum(times), len(times) - len(other.get(name, ()))
            total += seconds
            if extra > 0:
                different += seconds * extra / len(times)
    return different / total if total else 0.0


def _by_name(found: Iterable[Kernel]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = defaultdict(list)
    for kernel in found:
        times[kernel.name].append(kernel.time_s)
    return times
