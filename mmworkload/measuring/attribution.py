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
from dataclasses import dataclass, replace
from typing import Literal

# Names of the ranges that the measurement opens: one forward pass, one node of the graph.
RUN = "run::"
NODE = "node::"
# What autograd calls the work of one backward node, in front of the node's name.
BACKWARD_NODE = "autograd::engine::evaluate_function: "
# What is put in front of a node's key for the backward pass that it makes.
BACKWARD = "backward/"

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
    thread: the host thread; of a kernel, the stream.
    sequence: of an operator of autograd's engine, the number of the backward node that it runs, which the forward pass
        gave it; negative where there is none.
    """

    name: str
    kind: EventKind
    start_ns: int
    end_ns: int
    id: int = 0
    linked: int = 0
    thread: int = 0
    sequence: int = -1


@dataclass(frozen=True)
class Kernel:
    """A kernel with the key of the node that ran it, empty when no node did, and the forward pass it belongs to.

    ``caused_ns`` is when the host launched it (on the CPU, when it began), ``launch_ns`` how long the call of the
    runtime took; both None where the profile does not say. ``stream`` is the thread on the CPU.
    """

    name: str
    node: str
    run: str
    time_s: float
    start_ns: int = 0
    stream: int = 0
    caused_ns: int | None = None
    launch_ns: int | None = None


@dataclass(frozen=True)
class Activity:
    """What the host did in a forward pass: an operator or a runtime call; ``self_ns`` is without what it calls."""

    name: str
    kind: EventKind
    node: str
    run: str
    start_ns: int
    time_ns: int
    self_ns: int
    thread: int


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
    return _on_device(events, ranges) if on_device else _on_host(events, ranges)


def backward_ranges(events: Iterable[Event], starts: Sequence[tuple[int, str]]) -> list[Event]:
    """A range round each piece of backward work, named after ``backward/`` and the key of the forward node behind it.

    ``starts`` are the nodes of the forward passes in order, each with the number that the next backward node would have
    got when it began: a backward node belongs to the last forward node that began at or below its number. Gradients
    are accumulated without a number, right after the node that gave them.
    """
    numbers = [number for number, _ in starts]
    found, before = [], {}
    for event in sorted(events, key=lambda item: item.start_ns):
        if not event.name.startswith(BACKWARD_NODE):
            continue
        index = bisect_right(numbers, event.sequence) - 1
        if index >= 0:
            before[event.thread] = starts[index][1]
        if event.thread in before:
            found.append(replace(event, name=f"{NODE}{BACKWARD}{before[event.thread]}", kind="range"))
    return found


def activities(events: Sequence[Event]) -> list[Activity]:
    """Operators and calls of the device's runtime of all forward passes, in order of thread and time."""
    ranges = _Ranges([event for event in events if event.kind == "range"])
    found = []
    for event, own_ns in _exclusive([event for event in events if event.kind in ("operator", "launch")]):
        run, node = ranges.at(event.start_ns)
        if run and not ranges.intercepts(event):
            time_ns = event.end_ns - event.start_ns
            found.append(Activity(event.name, event.kind, node, run, event.start_ns, time_ns, own_ns, event.thread))
    return found


def run_spans(events: Sequence[Event]) -> dict[str, tuple[int, int]]:
    """Start and end in nanoseconds of each forward pass, by name: the end is that of its last work on any device."""
    ranges = _Ranges([event for event in events if event.kind == "range"])
    spans = {
        item.name.removeprefix(RUN): (item.start_ns, item.end_ns) for item in ranges.ranges if item.name.startswith(RUN)
    }
    for kernel in _on_device(events, ranges):
        start_ns, end_ns = spans[kernel.run]
        spans[kernel.run] = (start_ns, max(end_ns, kernel.start_ns + round(kernel.time_s * 1e9)))
    return spans


def _on_device(events: Sequence[Event], ranges: _Ranges) -> list[Kernel]:
    """Kernels run later than the range that launched them: their operator says where they belong, or their launch."""
    operators = {event.id: event.start_ns for event in events if event.kind == "operator"}
    launches = {event.id: event for event in events if event.kind == "launch"}
    found = []
    for event in events:
        if event.kind != "kernel":
            continue
        launch = launches.get(event.id)
        moments = [operators.get(event.linked), launch.start_ns if launch else None]
        known = [moment for moment in moments if moment is not None]
        places = [ranges.at(moment) for moment in known]
        # Without a known cause the node is not known; the moment it ran still tells the forward pass.
        run, node = next((place for place in places if place[1]), places[0] if places else (None, ""))
        if run is None:
            run, _ = ranges.at(event.start_ns)
        if run:
            found.append(
                Kernel(
                    name=event.name,
                    node=node,
                    run=run,
                    time_s=(event.end_ns - event.start_ns) * 1e-9,
                    start_ns=event.start_ns,
                    stream=event.thread,
                    caused_ns=known[-1] if known else None,
                    launch_ns=launch.end_ns - launch.start_ns if launch else None,
                )
            )
    return found


def _on_host(events: Sequence[Event], ranges: _Ranges) -> list[Kernel]:
    found = []
    for event, own_ns in _exclusive([event for event in events if event.kind == "operator"]):
        run, node = ranges.at(event.start_ns)
        if run and not ranges.intercepts(event):
            found.append(
                Kernel(event.name, node, run, own_ns * 1e-9, event.start_ns, event.thread, event.start_ns, None)
            )
    return found


def _exclusive(events: Sequence[Event]) -> list[tuple[Event, int]]:
    """(event, its time without the events it calls), by nesting in time on each thread."""
    ordered = sorted(events, key=lambda item: (item.thread, item.start_ns, -item.end_ns))
    own = [event.end_ns - event.start_ns for event in ordered]
    stack: list[int] = []
    for index, event in enumerate(ordered):
        while stack and (ordered[stack[-1]].thread != event.thread or ordered[stack[-1]].end_ns < event.end_ns):
            stack.pop()
        if stack:
            own[stack[-1]] -= event.end_ns - event.start_ns
        stack.append(index)
    # Clock ticks can make children a few nanoseconds longer than their parent.
    return [(event, max(0, time)) for event, time in zip(ordered, own, strict=True)]


class _Ranges:
    """Which forward pass and which node the host was in at a moment. Ranges nest; the innermost node counts."""

    def __init__(self, ranges: Sequence[Event]) -> None:
        self.ranges = sorted(ranges, key=lambda item: (item.start_ns, -item.end_ns))
        self.starts = [item.start_ns for item in self.ranges]
        self.nodes = sorted(item.start_ns for item in ranges if item.name.startswith(NODE))
        self.parents: list[int] = []
        stack: list[int] = []
        for index, item in enumerate(self.ranges):
            while stack and self.ranges[stack[-1]].end_ns < item.end_ns:
                stack.pop()
            self.parents.append(stack[-1] if stack else -1)
            stack.append(index)

    def intercepts(self, event: Event) -> bool:
        """Whether ``event`` is a call as a recorded run intercepts it: the range of its node, with the operator itself,
        is inside. It is no work of the model."""
        first = bisect_right(self.nodes, event.start_ns)
        return event.kind == "operator" and first < len(self.nodes) and self.nodes[first] < event.end_ns

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
