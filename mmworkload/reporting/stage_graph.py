"""The graph of stages behind a graph of layers: inputs, stages, and the bytes that pass between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmworkload.models.end_to_end import PREPROCESS
from mmworkload.reporting.about import shape_in_words
from mmworkload.straggler import encoded

if TYPE_CHECKING:
    from mmworkload.graph import LayerGraph
    from mmworkload.layer import Layer


@dataclass(frozen=True)
class Node:
    """An input or a stage.

    ``lane`` is its modality, empty where several modalities or none belong to it. ``bytes`` and ``shapes`` are those of
    an input, the rest is of a stage. ``output``: the model returns something that it writes.
    """

    key: str
    name: str
    lane: str = ""
    is_input: bool = False
    shapes: tuple[str, ...] = ()
    bytes: int = 0
    macs: int = 0
    params: int = 0
    output: bool = False


@dataclass(frozen=True)
class Link:
    """What passes between two nodes, of which ``source`` comes first in the program; ``back_bytes`` from the later to
    the earlier. A tensor counts once for each node that reads it. None: nothing passes that way."""

    source: str
    target: str
    bytes: int | None
    back_bytes: int | None


@dataclass(frozen=True)
class StageGraph:
    """Nodes in order of first use, inputs first; ``lanes`` are the modalities in the order of the inputs."""

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    lanes: tuple[str, ...]
    further_inputs: tuple[str, ...]


def stage_graph(graph: LayerGraph) -> StageGraph:
    """The stages of ``graph``. Pre-processing is one node a modality, every other stage is one node.

    Inputs are one node a modality; masks, positions and states without a modality of their own are ``further_inputs``.
    What a part of a graph reads from the rest is one input.
    """
    lanes = list(dict.fromkeys(item.modality for item in graph.inputs if item.role == "modality"))
    key_of = _keys(graph)
    groups: dict[str, list[Layer]] = {}
    for layer in graph:
        groups.setdefault(key_of[layer.name], []).append(layer)
    lanes += [lane for lane in map(encoded, groups) if lane and lane not in lanes]
    inputs = _inputs(graph, lanes)
    stages = [_stage(graph, key, layers, lanes) for key, layers in groups.items()]
    source_of = {tensor: node.key for node, tensors in inputs for tensor in tensors}
    source_of |= {tensor: key_of[layer.name] for layer in graph for tensor, _ in layer.writes}
    nodes = (*(node for node, _ in inputs), *stages)
    links = _links(groups, source_of, [node.key for node in nodes])
    used = {key for link in links for key in (link.source, link.target)}
    kept = tuple(node for node in nodes if not node.is_input or node.key in used)
    further = tuple(item.tensor for item in graph.inputs if item.tensor not in source_of)
    present = {node.lane for node in kept}
    return StageGraph(kept, links, tuple(lane for lane in lanes if lane in present), further)


def _keys(graph: LayerGraph) -> dict[str, str]:
    """Layer name to the key of its node."""
    modality = {layer.name: layer.modality for layer in graph if layer.stage == PREPROCESS}
    reached: dict[str, set[str]] = {}
    # A constant, such as the places of tokens, belongs to the one modality that uses it.
    for layer in reversed(graph.layers):
        if layer.name in modality:
            users = {user for tensor, _ in layer.writes for user in reached.get(tensor, ())}
            if not modality[layer.name] and len(users) == 1:
                (modality[layer.name],) = users
            for tensor, _ in layer.reads:
                reached.setdefault(tensor, set()).add(modality[layer.name])
    return {
        layer.name: f"{PREPROCESS}/{modality[layer.name]}" if modality.get(layer.name) else layer.stage or "(none)"
        for layer in graph
    }


def _inputs(graph: LayerGraph, lanes: Iterable[str]) -> list[tuple[Node, list[str]]]:
    """Input nodes, each with the tensors behind it."""
    found = []
    for lane in lanes:
        items = [item for item in graph.inputs if item.modality == lane]
        items.sort(key=lambda item: item.role != "modality")
        if items:
            node = Node(
                key=f"input {lane}",
                name=lane,
                lane=lane,
                is_input=True,
                shapes=tuple(shape_in_words(item.shape) for item in items),
                bytes=sum(graph.tensors[item.tensor].bytes for item in items),
            )
            found.append((node, [item.tensor for item in items]))
    known = {item.tensor for item in graph.inputs}
    cut = [name for name, tensor in graph.tensors.items() if tensor.kind == "input" and name not in known]
    if cut:
        size = sum(graph.tensors[name].bytes for name in cut)
        found.append((Node(key="input", name="other stages", is_input=True, bytes=size), cut))
    return found


def _stage(graph: LayerGraph, key: str, layers: list[Layer], lanes: list[str]) -> Node:
    totals = graph.totals(layers)
    named = key.removeprefix(f"{PREPROCESS}/") if key.startswith(f"{PREPROCESS}/") else encoded(key)
    modalities = {layer.modality for layer in layers}
    alone = next(iter(modalities)) if len(modalities) == 1 else ""
    written = {tensor for layer in layers for tensor, _ in layer.writes}
    return Node(
        key=key,
        name=key,
        lane=named if named in lanes else alone if alone in lanes else "",
        macs=totals.macs,
        params=totals.params,
        output=not written.isdisjoint(graph.outputs),
    )


def _links(groups: dict[str, list[Layer]], source_of: dict[str, str], order: list[str]) -> tuple[Link, ...]:
    traffic: dict[tuple[str, str], dict[str, int]] = {}
    for target, layers in groups.items():
        for layer in layers:
            for tensor, size in layer.reads:
                source = source_of.get(tensor, target)
                if source != target:
                    passed = traffic.setdefault((source, target), {})
                    passed[tensor] = max(passed.get(tensor, 0), size)
    sums = {pair: sum(passed.values()) for pair, passed in traffic.items()}
    rank = {key: index for index, key in enumerate(order)}
    pairs = sorted(
        {(a, b) if rank[a] < rank[b] else (b, a) for a, b in sums}, key=lambda pair: (rank[pair[0]], rank[pair[1]])
    )
    return tuple(Link(a, b, sums.get((a, b)), sums.get((b, a))) for a, b in pairs)
