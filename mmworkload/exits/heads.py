"""The layers of one exit: pooling, a linear layer, softmax, and the entropy that says how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmworkload.exits.encoders import ExitError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import gemm
from mmworkload.tracing.stages import RECURRENT

STAGE = "exit/"
# Operators behind which the last axis is the features', and those behind which it is the second.
_LAST = RECURRENT | {"linear", "layer_norm", "attention", "embedding", "matmul"}
_SECOND = ("conv", "max_pool", "avg_pool", "adaptive_", "batch_norm", "group_norm", "instance_norm")


@dataclass(frozen=True)
class Head:
    """The layers of an exit with their tensors. ``scores`` and ``entropy`` are the tensors that it gives."""

    layers: tuple[Layer, ...]
    tensors: dict[str, Tensor]
    width: int
    scores: str
    entropy: str


def head(
    graph: LayerGraph, tensor: Tensor, modality: str, number: int, classes: int, producer: Layer | None = None
) -> Head:
    """Exit ``number`` of ``modality``, which reads ``tensor``; ``producer`` writes it, if no layer of ``graph`` does.

    The mean over everything but samples and features (none for a vector a sample; of a recurrence the last state), one
    linear layer with bias to ``classes``, softmax, and the normalised entropy of the paper's eq. 2. Raises ExitError
    for a tensor that has no whole number of rows for each sample.
    """
    batch, name = graph.batch, f"exits.{modality}.{number}"
    bits, dtype = tensor.bits, tensor.dtype
    made: dict[str, Tensor] = {}
    layers: list[Layer] = []

    def value(suffix: str, *shape: int, kind: str = "activation") -> Tensor:
        full = f"{name}.{suffix}"
        made[full] = Tensor(full, shape, dtype, bits, kind, full)  # type: ignore[arg-type]
        return made[full]

    def layer(
        suffix: str, op: str, category: str, reads: list[tuple[str, int]], written: Tensor, **more: object
    ) -> None:
        layers.append(
            Layer(
                name=f"{name}.{suffix}",
                op=op,
                category=category,
                module=f"{name}.{suffix}",
                stage=f"{STAGE}{modality}",
                modality=modality,
                reads=tuple(reads),
                writes=((written.name, written.bytes),),
                rule="an exit",
                **more,  # type: ignore[arg-type]
            )
        )

    source = producer or graph[graph.producers[tensor.name]]
    width = tensor.shape[-1] if source.op in RECURRENT else tensor.shape[features_axis(graph, tensor)]
    features, size = tensor, tensor.bytes
    if source.op in RECURRENT:
        # The last layer's state after the last step: a view.
        size = -(-batch * width * bits // 8)
    elif tensor.elements != batch * width:
        if tensor.elements % (batch * width):
            raise ExitError(
                f"{graph.model}: '{tensor.name}' {tensor.shape} has no features for each of {batch} samples; place the"
                f" exits of {modality} elsewhere (at={modality}:...)"
            )
        features = value("pool:out", batch, width)
        layer("pool", "mean", "Reduce", [(tensor.name, size)], features, vector_ops=tensor.elements)
        size = features.bytes
    weight = value("linear.weight", classes, width, kind="weight")
    bias = value("linear.bias", classes, kind="weight")
    logits = value("linear:out", batch, classes)
    product = gemm(batch, classes, width, bits=(bits, bits, bits))
    layer(
        "linear",
        "linear",
        "Gemm",
        [(features.name, size), (weight.name, weight.bytes), (bias.name, bias.bytes)],
        logits,
        work=(Work(product),),
        vector_ops=logits.elements,
    )
    scores = value("softmax:out", batch, classes)
    # Maximum, difference, exponential, sum, quotient.
    layer("softmax", "softmax", "Other", [(logits.name, logits.bytes)], scores, vector_ops=5 * scores.elements)
    entropy = value("entropy:out", batch)
    # Logarithm, product, sum; then for each sample the scale by -1 / log(classes) and the comparison with a threshold.
    operations = 3 * scores.elements + 2 * batch
    layer("entropy", "entropy", "Reduce", [(scores.name, scores.bytes)], entropy, vector_ops=operations)
    return Head(tuple(layers), made, width, scores.name, entropy.name)


def features_axis(graph: LayerGraph, tensor: Tensor) -> int:
    """The axis of ``tensor`` that has the features: known from the operator that made it or what came before."""
    rank = len(tensor.shape)
    if rank < 3:
        return rank - 1
    name: str | None = tensor.name
    while name is not None and name in graph.producers:
        layer = graph[graph.producers[name]]
        if layer.op in _LAST:
            return rank - 1
        if layer.op.startswith(_SECOND):
            return 1
        # Elementwise: the axes are those of what it reads.
        same = [
            read
            for read, _ in layer.reads
            if graph.tensors[read].kind == "activation" and len(graph.tensors[read].shape) == rank
        ]
        name = same[0] if same else None
    return 1 if rank > 3 else rank - 1


def entropy(scores: tuple[float, ...]) -> float:
    """Equation 2: ``-(1 / log C) * sum(y * log y)``, 0 for a sure answer and 1 for equal scores."""
    return -sum(score * math.log(score) for score in scores if score) / math.log(len(scores))
