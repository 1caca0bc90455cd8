"""When each modality runs and waits if every one has a device of its own: one lane a modality, one for what they share.

The rule is that of :func:`mmworkload.simulating.rollup.critical_path_s`: a layer waits for the layers that write what
it reads and for the one before it in its lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmworkload.graph import LayerGraph
from mmworkload.simulating.rollup import unit_of


@dataclass(frozen=True)
class Lanes:
    """Busy intervals in seconds from the start, by modality (empty: what several share), and the end of all."""

    busy: dict[str, list[tuple[float, float]]]
    end_s: float

    @property
    def idle_share(self) -> float:
        """Of all lanes' time from start to end."""
        used = sum(stop - start for found in self.busy.values() for start, stop in found)
        whole = len(self.busy) * self.end_s
        return 1 - used / whole if whole else 0.0


def lanes(graph: LayerGraph, seconds: Mapping[str, float]) -> Lanes:
    """``seconds`` is by layer name; layers without one take no time."""
    finished: dict[str, float] = {}
    free: dict[str, float] = {}
    busy: dict[str, list[tuple[float, float]]] = {}
    for layer in graph:
        lane = unit_of(layer)
        sources = (graph.producers[tensor] for tensor, _ in layer.reads if tensor in graph.producers)
        start = max([free.get(lane, 0.0), *(finished[source] for source in sources)])
        stop = start + seconds.get(layer.name, 0.0)
        finished[layer.name] = free[lane] = stop
        own = busy.setdefault(lane, [])
        if own and start - own[-1][1] <= 1e-9 * stop:
            own[-1] = (own[-1][0], stop)
        elif stop > start:
            own.append((start, stop))
    return Lanes(busy, max(finished.values(), default=0.0))


def modalities(graph: LayerGraph) -> int:
    """How many encoders or modalities there are to run side by side."""
    return len({unit_of(layer) for layer in graph} - {""})
