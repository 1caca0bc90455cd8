"""What layers cost, in whole numbers that add up exactly."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer


@dataclass(frozen=True)
class Totals:
    """Sums over layers and runs.

    ``macs`` of the full rectangle; ``weight_bytes`` and ``state_bytes`` (caches, read and written) are parts of
    ``read_bytes`` and ``write_bytes``, the bytes that each run moves once.
    """

    layers: int = 0
    macs: int = 0
    vector_ops: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    weight_bytes: int = 0
    state_bytes: int = 0

    @property
    def bytes(self) -> int:
        return self.read_bytes + self.write_bytes

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})

    def times(self, count: int) -> Totals:
        return Totals(**{item.name: getattr(self, item.name) * count for item in fields(self)})


def states(graph: LayerGraph) -> frozenset[str]:
    """Storages that outlive a pass: caches and whatever else is declared as a state."""
    declared = {item.tensor for item in graph.inputs if item.role == "state"}
    return frozenset(
        tensor.storage for name, tensor in graph.tensors.items() if name in declared or tensor.kind == "state"
    )


def of_layer(graph: LayerGraph, layer: Layer) -> Totals:
    """One run of a layer of ``graph`` (or of that layer at another length)."""
    kept = _states_of(graph)
    weights = sum(size for name, size in layer.reads if graph.tensors[name].kind == "weight")
    moved = (*layer.reads, *layer.writes)
    return Totals(
        layers=1,
        macs=layer.macs,
        vector_ops=layer.vector_ops,
        read_bytes=layer.read_bytes,
        write_bytes=layer.write_bytes,
        weight_bytes=weights,
        state_bytes=sum(size for name, size in moved if graph.tensors[name].storage in kept),
    )


def of_graph(graph: LayerGraph) -> Totals:
    """One run of a graph."""
    return sum((of_layer(graph, layer) for layer in graph.layers), Totals())


def _states_of(graph: LayerGraph) -> frozenset[str]:
    # A graph is a value: what was found once holds.
    found = graph.__dict__.get("_states")
    if found is None:
        found = states(graph)
        graph.__dict__["_states"] = found
    return frozenset(found)
