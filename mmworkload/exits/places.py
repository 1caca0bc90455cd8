"""Where in an encoder an exit may be, and where exits are by default.

A *place* is behind a layer where one tensor alone carries all that later layers need, at the end of a *block*: the
layers up to the next one with multiply-accumulates. The paper does not say where its two exits are; after equal numbers
of blocks gives blocks 2 and 3 of the 4 in AV-MNIST's image encoder, 2 and 4 of the 6 in its audio encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmworkload.exits.encoders import Encoders
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer


@dataclass(frozen=True)
class Place:
    """Behind layer ``index`` (of the encoder's) the tensor ``tensor`` carries everything. ``macs`` are those so far."""

    index: int
    tensor: str
    macs: int


def places(graph: LayerGraph, encoders: Encoders, modality: str) -> tuple[Place, ...]:
    """Of one encoder in program order, one a block; the last one is the end of the encoder, if one tensor leaves it."""
    layers = encoders.layers[modality]
    inside = {layer.name for layer in layers}
    last = len(layers)
    used: dict[str, int] = {}
    for index, layer in enumerate(layers):
        if not layer.dead:
            used.update((tensor, index) for tensor, _ in layer.reads)
    outside = {tensor for layer in graph if layer.name not in inside for tensor, _ in layer.reads} | set(graph.outputs)
    used.update(dict.fromkeys(outside, last))
    alive = {item.tensor for item in graph.inputs if modality in encoders.carried.get(item.tensor, ())}
    written: set[str] = set()
    macs = 0
    cuts: list[Place] = []
    for index, layer in enumerate(layers):
        macs += layer.macs
        new = {tensor for tensor, _ in layer.writes if encoders.carried.get(tensor)}
        written |= new
        alive = {tensor for tensor in alive | new if used.get(tensor, -1) > index}
        if layer.dead and cuts and cuts[-1].index == index - 1:
            # What nobody needs belongs to the block before it.
            cuts[-1] = Place(index, cuts[-1].tensor, macs)
        elif not layer.dead and len(alive) == 1 and alive <= written and macs:
            cuts.append(Place(index, next(iter(alive)), macs))
    return tuple(
        cut
        for cut, after in zip(cuts, [*cuts[1:], None], strict=True)
        if after is None or _works(layers, cut.index + 1, after.index)
    )


def _works(layers: Sequence[Layer], first: int, last: int) -> bool:
    return any(layer.macs and not layer.dead for layer in layers[first : last + 1])


def by_count(blocks: int, exits: int) -> tuple[int, ...]:
    """After which of ``blocks``, from 1, so that equal numbers lie between: ``ceil(blocks * k / (exits + 1))``.

    Fewer blocks than exits have an exit each.
    """
    return tuple(dict.fromkeys(-(-blocks * number // (exits + 1)) for number in range(1, exits + 1) if blocks))


def by_macs(done: Sequence[int], exits: int) -> tuple[int, ...]:
    """After which block, from 1, so that the MACs done so far come nearest to equal shares; each block once."""
    chosen: list[int] = []
    for number in range(1, min(exits, len(done)) + 1):
        free = range(chosen[-1] if chosen else 0, len(done) - (min(exits, len(done)) - number))
        chosen.append(min(free, key=lambda at: abs(done[at] * (exits + 1) - number * done[-1])) + 1)
    return tuple(chosen)
