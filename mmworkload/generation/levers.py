"""Levers as transformations of a graph: weights and caches in fewer bits, attention written out.

Arithmetic stays in the graph's own type: what is stored in fewer bits is brought back to it before use, one vector
operation an element. A group of ``group`` weights along the reduction shares a scale in the graph's type (and, with
four bits, an offset); a cached row of one head shares a scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.generation.totals import states
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.models.family import Parameter
from mmworkload.problem import Operand, Problem

if TYPE_CHECKING:
    from mmworkload.generation.generation import Generation

STORED = {"int8": 8, "int4": 4, "float8": 8}
AS_IT_IS = "as-is"
# Weights that share a scale and an offset with four bits; with eight a whole row does.
GROUP = 64

SDPA, EAGER = "sdpa", "eager"

LEVERS: Mapping[str, Parameter] = {
    "attention": Parameter(
        SDPA, "as one fused operator, or written out: its scores are written and read twice", choices=(SDPA, EAGER)
    ),
    "weights": Parameter(AS_IT_IS, "how linear weights are stored", choices=(AS_IT_IS, "int8", "int4")),
    "cache": Parameter(AS_IT_IS, "how keys and values are stored", choices=(AS_IT_IS, "int8", "float8", "int4")),
}


def pulled(generation: Generation, settings: Mapping[str, str]) -> Generation:
    """The generation with the levers of ``settings``; one that is not named stays as it is."""
    if settings.get("attention", SDPA) == EAGER:
        note = "attention is written out: its scores are moved between its layers"
        generation = generation.mapped(eager_attention, note)
    weights, cache = settings.get("weights", AS_IT_IS), settings.get("cache", AS_IT_IS)
    if weights != AS_IT_IS:
        generation = generation.mapped(lambda graph: quantized_weights(graph, weights), f"linear weights are {weights}")
    if cache != AS_IT_IS:
        generation = generation.mapped(lambda graph: quantized_caches(graph, cache), f"keys and values are {cache}")
    return generation


def eager_attention(graph: LayerGraph) -> LayerGraph:
    """Each fused attention as three layers: scores, softmax, and the sum of values weighted by them.

    Scores and weights are tensors of their own, written and read once each: the least that attention moves which is
    not fused. Multiply-accumulates and vector operations stay.
    """
    tensors = dict(graph.tensors)
    layers: list[Layer] = []
    for layer in graph.layers:
        if layer.op != "attention" or len(layer.work) != 2:
            layers.append(layer)
            continue
        scores, values = layer.work
        output = scores.problem.output
        raw, weights = f"{layer.name}:scores", f"{layer.name}:softmax"
        for name in (raw, weights):
            shape = tuple(item.size for item in output.axes)
            tensors[name] = Tensor(name, shape, graph.dtype, output.bits, "activation", name)
        size = tensors[raw].bytes * scores.count
        # Query, key, value, and a mask, which is added to the scores; what shares a tensor is read at first.
        first, third = (*layer.reads[:2], *layer.reads[3:]), layer.reads[2:3]
        plain = replace(layer, assumptions=())
        product = replace(plain, op="matmul", vector_ops=0)
        layers.append(replace(product, name=raw, reads=first, writes=((raw, size),), work=(scores,)))
        softmax = replace(plain, name=weights, op="softmax", category="Other", work=())
        layers.append(replace(softmax, reads=((raw, size),), writes=((weights, size),)))
        layers.append(replace(product, reads=((weights, size), *third), work=(values,)))
    return replace(graph, tensors=tensors, layers=tuple(layers))


def quantized_weights(graph: LayerGraph, stored: str) -> LayerGraph:
    """The weights of linear layers as ``int8`` (a scale for each row of outputs) or ``int4`` (a scale and an offset for
    each 64 inputs); tables of embeddings, norms, biases and convolutions stay.

    Raises UnknownNameError for another type, MmworkloadError when rows do not divide into groups.
    """
    bits = _bits(stored, ("int8", "int4"))
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in graph.layers:
        if layer.op in ("linear", "addmm", "mm", "matmul") and _weight_operands(layer):
            read = [graph.tensors[name] for name, _ in layer.reads]
            shapes.update((t.name, t.shape) for t in read if t.kind == "weight" and len(t.shape) == 2)
    tensors = dict(graph.tensors)
    scales: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        old = tensors[name]
        groups = 1 if stored == "int8" else -(-shape[1] // GROUP)
        if shape[1] * bits % 8:
            raise MmworkloadError(
                f"{graph.model}: rows of {shape[1]} weights of '{name}' do not fill bytes as {stored}"
            )
        tensors[name] = replace(old, dtype=stored, bits=bits)
        # With four bits an offset stands beside each scale.
        width = groups if stored == "int8" else 2 * groups
        scale = f"{name}:scale"
        tensors[scale] = Tensor(scale, (shape[0], width), graph.dtype, old.bits, "constant", scale)
        scales[name] = tensors[scale]

    def change(layer: Layer) -> Layer:
        reads: list[tuple[str, int]] = []
        restored = 0
        touched = False
        for name, size in layer.reads:
            old = graph.tensors[name]
            if name not in shapes:
                reads.append((name, size))
                continue
            if layer.op == "embedding":
                # A table that is also a head's weight: its rows come in fewer bits too.
                reads.append((name, size * bits // old.bits))
                restored += size * 8 // old.bits
                continue
            touched = True
            reads.append((name, size * bits // old.bits))
            reads.append((scales[name].name, scales[name].bytes))
            restored += old.elements * (1 if stored == "int8" else 2)
        if not touched and not restored:
            return layer
        work = tuple(_with_bits(item, "weight", bits) for item in layer.work) if touched else layer.work
        return replace(layer, reads=tuple(reads), work=work, vector_ops=layer.vector_ops + restored)

    return replace(graph, tensors=tensors, layers=tuple(change(layer) for layer in graph.layers))


def quantized_caches(graph: LayerGraph, stored: str) -> LayerGraph:
    """Keys and values that outlive a pass as ``int8``, ``float8`` or ``int4``; a row of one head shares a scale, which
    is stored in the graph's type beside it.

    What is read of them is brought back, what is written is scaled: two vector operations an element. Raises
    UnknownNameError for another type.
    """
    bits = _bits(stored, ("int8", "float8", "int4"))
    declared = {item.tensor: item for item in graph.inputs if item.role == "state" and len(item.shape) == 5}
    kept = {graph.tensors[name].storage for name in declared} & states(graph)
    # Reordered caches are new tensors that outlive the pass too.
    kept |= {
        tensor.storage
        for layer in graph.layers
        if "reorder" in layer.module.split(".")
        for name, _ in layer.writes
        for tensor in [graph.tensors[name]]
    }
    tensors = {
        name: replace(item, dtype=stored, bits=bits) if item.storage in kept else item
        for name, item in graph.tensors.items()
    }

    def moved(name: str, size: int) -> int:
        """Bytes of the numbers and of one scale a row of a head, the last axis."""
        old = graph.tensors[name]
        elements = size * 8 // old.bits
        return -(-elements * bits // 8) + -(-(elements // old.shape[-1]) * old.bits // 8)

    def change(layer: Layer) -> Layer:
        read = {name for name, size in layer.reads if graph.tensors[name].storage in kept and size}
        written = {name for name, _ in layer.writes if graph.tensors[name].storage in kept}
        if not read and not written:
            return layer
        reads = tuple((name, moved(name, size) if name in read else size) for name, size in layer.reads)
        writes = tuple((name, moved(name, size) if name in written else size) for name, size in layer.writes)
        # Reordering moves what is stored, as it is.
        moves_only = "reorder" in layer.module.split(".")
        pairs = [pair for pair in (*layer.reads, *layer.writes) if pair[0] in read | written]
        elements = 0 if moves_only else sum(size * 8 // graph.tensors[name].bits for name, size in pairs)
        # In both products of attention the second operand is the cache.
        work = tuple(_with_bits(item, "Weights", bits) for item in layer.work) if read else layer.work
        return replace(layer, reads=reads, writes=writes, work=work, vector_ops=layer.vector_ops + 2 * elements)

    inputs = tuple(replace(item, dtype=stored) if item.tensor in declared else item for item in graph.inputs)
    return replace(graph, tensors=tensors, inputs=inputs, layers=tuple(change(layer) for layer in graph.layers))


def _bits(stored: str, known: tuple[str, ...]) -> int:
    if stored not in known:
        raise UnknownNameError("stored type", stored, known)
    return STORED[stored]


def _weight_operands(layer: Layer) -> list[Operand]:
    return [item for work in layer.work for item in work.problem.operands if item.role == "weight"]


def _with_bits(work: Work, which: str, bits: int) -> Work:
    """``work`` with the operands of that role, or the operand of that name, stored in other bits."""
    problem: Problem = work.problem
    operands = tuple(replace(item, bits=bits) if which in (item.role, item.name) else item for item in problem.operands)
    return replace(work, problem=replace(problem, operands=operands))
