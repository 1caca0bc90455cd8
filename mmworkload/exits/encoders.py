"""Which layers are whose: the encoder of each modality, and what runs behind them. Refuses what exits do not fit."""

from __future__ import annotations

from dataclasses import dataclass

from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer
from mmworkload.straggler import encoded
from mmworkload.tracing.stages import modalities


class ExitError(MmworkloadError):
    """A network that cannot be given exits, or settings that do not fit it: which, why, and what to do."""


@dataclass(frozen=True)
class Encoders:
    """The layers of each modality's encoder in program order, in order of the inputs, and those behind all of them.

    ``carried`` is tensor name to the modalities that reach it. ``classes`` is the width of the network's answer.
    """

    layers: dict[str, tuple[Layer, ...]]
    behind: tuple[Layer, ...]
    carried: dict[str, frozenset[str]]
    classes: int


def find_encoders(graph: LayerGraph) -> Encoders:
    """The encoders of a network whose modalities meet by concatenation and which gives one row of scores a sample.

    Raises ExitError for any other: fewer than two modalities, another fusion, encoders that feed each other, no
    encoder at all, or an output that is no row of scores for each sample.
    """
    names = list(dict.fromkeys(item.modality for item in graph.inputs if item.role == "modality"))
    if len(names) < 2:
        raise ExitError(f"{graph.model}: exits are put in order over modalities, and this network has {len(names)}")
    carried = modalities(graph.layers, graph.inputs)
    owner = _owners(graph, names)
    layers = {name: tuple(layer for layer in graph if owner.get(layer.name) == name) for name in names}
    if not any(layers.values()):
        raise ExitError(f"{graph.model}: no modality has an encoder of its own; there is no layer to leave after")
    behind = tuple(layer for layer in graph if layer.name not in owner)
    _require_apart(graph, owner)
    _require_concatenation(graph, behind, owner, carried)
    return Encoders(layers, behind, carried, _classes(graph))


def _owners(graph: LayerGraph, names: list[str]) -> dict[str, str]:
    """Layer to the modality of its encoder; a layer that only feeds one encoder (pre-processing) is that one's."""
    owner = {layer.name: encoded(layer.stage) for layer in graph if encoded(layer.stage) in names}
    for layer in reversed(graph.layers):
        for tensor, _ in layer.reads:
            source = graph.producers.get(tensor)
            if source is None or layer.name not in owner or source in owner:
                continue
            if graph[source].modality in ("", owner[layer.name]):
                owner[source] = owner[layer.name]
    return owner


def _require_apart(graph: LayerGraph, owner: dict[str, str]) -> None:
    for layer in graph:
        for tensor, _ in layer.reads:
            source = graph.producers.get(tensor)
            if layer.name in owner and source is not None and owner.get(source) != owner[layer.name]:
                raise ExitError(
                    f"{graph.model}: layer '{layer.name}' of the {owner[layer.name]} encoder reads '{tensor}' of"
                    f" {owner.get(source) or 'the fusion'}; exits need encoders that run without each other"
                )


def _require_concatenation(
    graph: LayerGraph, behind: tuple[Layer, ...], owner: dict[str, str], carried: dict[str, frozenset[str]]
) -> None:
    """The layers in which different modalities meet for the first time have to be concatenations."""
    joins = []
    for layer in behind:
        met = {carried[tensor] for tensor, _ in layer.reads if len(carried.get(tensor, ())) == 1}
        if len(met) > 1:
            joins.append(layer)
    if not joins:
        raise ExitError(f"{graph.model}: no layer joins the modalities; exits go in front of a concatenating fusion")
    other = next((layer for layer in joins if not _concatenates_features(graph, layer)), None)
    if other is not None:
        raise ExitError(
            f"{graph.model}: the modalities are joined by '{other.op}' in layer '{other.name}'; exits are for networks"
            " that concatenate features, as the paper's are (late fusion, LF)"
        )


def _concatenates_features(graph: LayerGraph, layer: Layer) -> bool:
    """Side by side for each sample, and not one behind another on a first axis of their own (a stack of experts)."""
    first = graph.tensors[layer.writes[0][0]].shape[0]
    return layer.op == "cat" and first in {graph.batch, *(graph.tensors[name].shape[0] for name, _ in layer.reads)}


def _classes(graph: LayerGraph) -> int:
    shapes = [graph.tensors[name].shape for name in graph.outputs]
    for shape in shapes:
        if len(shape) == 2 and shape[0] == graph.batch:
            return shape[1]
    raise ExitError(
        f"{graph.model}: gives {', '.join(map(str, shapes))} for a batch of {graph.batch}; an exit stands for an answer"
        " that is one row of class scores for each sample"
    )
