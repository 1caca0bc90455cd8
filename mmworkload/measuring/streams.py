"""The traced program with each encoder on a CUDA stream of its own, and all else on the main one.

The schedule is worked out from the layer graph, without a device: the calls in program order, cut where the stream
changes, and for each piece the earlier pieces of other streams that it has to wait for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmworkload.errors import MmworkloadError, UnavailableError
from mmworkload.straggler import encoded

if TYPE_CHECKING:
    import torch

    from mmworkload.graph import LayerGraph
    from mmworkload.measuring.program import Eager, Run

MAIN = ""


@dataclass(frozen=True)
class Segment:
    """Calls that follow each other on one stream; ``waits`` are the earlier segments that must have ended."""

    stream: str
    calls: tuple[str, ...]
    waits: tuple[int, ...]


class Lanes(Protocol):
    """The streams of a device, by name."""

    def switch(self, stream: str) -> None:
        """What is called from now on runs on ``stream``."""

    def record(self) -> Any:
        """An event: the moment when the current stream has done what it was given so far."""

    def wait(self, event: Any) -> None:
        """What the current stream is given from now on runs after ``event``."""


class CudaLanes:
    """The stream that is current now is the main one."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self.device = device
        self.streams: dict[str, torch.cuda.Stream] = {MAIN: torch.cuda.current_stream(device)}

    def switch(self, stream: str) -> None:
        import torch

        if stream not in self.streams:
            self.streams[stream] = torch.cuda.Stream(self.device)
        torch.cuda.set_stream(self.streams[stream])

    def record(self) -> Any:
        import torch

        return torch.cuda.current_stream(self.device).record_event()

    def wait(self, event: Any) -> None:
        import torch

        torch.cuda.current_stream(self.device).wait_event(event)


def stream_of(stage: str) -> str:
    """An encoder has a stream of its own."""
    return stage if encoded(stage) else MAIN


def schedule(graph: LayerGraph, layer_of_call: Mapping[str, str]) -> tuple[Segment, ...]:
    """The segments in program order.

    A segment waits for those that wrote what it reads or writes, and for those that read what it writes. It also waits
    for those that use memory which its stream allocated: that memory is free for the stream as soon as the host lets go
    of it. Streams run in order, so that of each other stream only the last such segment is named.
    """
    streams: list[str] = []
    calls: list[list[str]] = []
    waits: list[set[int]] = []
    writer: dict[str, int] = {}
    readers: dict[str, set[int]] = defaultdict(set)
    home: dict[str, str] = {}
    users: dict[str, set[int]] = defaultdict(set)
    for key, name in layer_of_call.items():
        layer = graph[name]
        stream = stream_of(layer.stage)
        if not streams or streams[-1] != stream:
            streams.append(stream)
            calls.append([])
            waits.append(set(users[stream]))
        here = len(streams) - 1
        calls[here].append(key)
        for tensors, writes in ((layer.reads, False), (layer.writes, True)):
            for tensor, _ in tensors:
                storage = graph.tensors[tensor].storage
                waits[here] |= {writer[storage]} if storage in writer else set()
                if writes:
                    waits[here] |= readers.pop(storage, set())
                    writer[storage] = here
                    if graph.tensors[tensor].kind == "activation":
                        home.setdefault(storage, stream)
                else:
                    readers[storage].add(here)
                if home.get(storage, stream) != stream:
                    users[home[storage]].add(here)
    return tuple(
        Segment(stream, tuple(calls[index]), _last_of_each(waits[index], streams, stream))
        for index, stream in enumerate(streams)
    )


def _last_of_each(found: set[int], streams: Sequence[str], own: str) -> tuple[int, ...]:
    last = {streams[index]: index for index in sorted(found) if streams[index] != own}
    return tuple(sorted(last.values()))


class Concurrent:
    """Runs a schedule: switches streams where a segment begins, and lets it wait."""

    def __init__(self, segments: Sequence[Segment], lanes: Lanes) -> None:
        self.segments = segments
        self.lanes = lanes
        self.fork: Any = None
        self.current: int | None = None
        self.ended: dict[int, Any] = {}

    def begin(self) -> None:
        """Starts a run; the other streams wait for what the main one was given before."""
        self.ended.clear()
        self.fork = self.lanes.record()

    def mark(self, segment: str) -> None:
        """The segment with this number begins."""
        self._leave()
        self.current = int(segment)
        item = self.segments[self.current]
        self.lanes.switch(item.stream)
        for event in (self.fork, *(self.ended[index] for index in item.waits)):
            self.lanes.wait(event)

    def end(self) -> None:
        """Ends the run; the main stream waits for the others."""
        self._leave()
        self.lanes.switch(MAIN)
        last = {self.segments[index].stream: event for index, event in self.ended.items()}
        for event in last.values():
            self.lanes.wait(event)

    def _leave(self) -> None:
        if self.current is not None:
            self.ended[self.current] = self.lanes.record()
            self.current = None


def streams_runner(
    program: Eager, graph: LayerGraph, layer_of_call: Mapping[str, str], lanes: Lanes
) -> Callable[[], Run]:
    """A function that prepares a run of the traced program on the streams of ``lanes``."""
    segments = schedule(graph, layer_of_call)
    concurrent = Concurrent(segments, lanes)
    segment_of_call = {key: str(index) for index, item in enumerate(segments) for key in item.calls}
    runner = program.stage_runner(concurrent.mark, segment_of_call)

    def prepare() -> Run:
        run = runner()

        def on_streams() -> Any:
            concurrent.begin()
            try:
                return run()
            finally:
                concurrent.end()

        return on_streams

    return prepare


def what_runs(graph: LayerGraph) -> str:
    """What the execution is, in words. MmworkloadError for a graph with fewer than two encoders."""
    encoders = [stage for stage in graph.stages if encoded(stage)]
    if len(encoders) < 2:
        raise MmworkloadError(
            f"--streams: {graph.model} has {len(encoders) or 'no'} encoder{'' if len(encoders) == 1 else 's'}, so that"
            " nothing runs side by side. Say which modules are encoders: --stage 'encoder/image=vision_model.*'."
        )
    return f"traced program, {', '.join(encoders)} each on a CUDA stream of its own"


def require_streams(device: torch.device) -> None:
    """Raises UnavailableError where there are no streams."""
    if device.type != "cuda":
        raise UnavailableError("--streams needs --device cuda: a CPU has no streams.")
