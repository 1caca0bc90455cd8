"""A recurrent layer cut in time: the same module on the first steps, then on the next ones, states handed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mmworkload.exits.encoders import ExitError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Axis, Problem
from mmworkload.tracing.stages import RECURRENT


@dataclass(frozen=True)
class Cut:
    """One recurrent layer as several; ``states`` has, for each of them, the tensor of its last hidden state."""

    layers: tuple[Layer, ...]
    tensors: dict[str, Tensor]
    states: tuple[str, ...]


def recurrence(layers: Sequence[Layer]) -> Layer | None:
    """The one recurrent layer of an encoder; None when it has none or several."""
    found = [layer for layer in layers if layer.op in RECURRENT]
    return found[0] if len(found) == 1 else None


def steps_of(graph: LayerGraph, layer: Layer) -> int:
    """Steps of a recurrent layer that can be cut in time.

    Raises ExitError for one that cannot: in both directions (the backward one starts at the end), packed sequences, or
    one whose single steps are needed later.
    """
    where = f"{graph.model}: layer '{layer.name}'"
    (sequence, _), *states = layer.writes
    width, hidden = graph.tensors[sequence].shape[-1], graph.tensors[states[0][0]].shape[-1]
    if width != hidden:
        raise ExitError(
            f"{where} runs in both directions, and the backward one begins at the end; place exits by blocks"
        )
    counts = {work.count for work in layer.work if work.sequential}
    if len(counts) != 1 or layer.assumptions:
        raise ExitError(f"{where} runs on packed sequences, which have no common steps; place exits by blocks")
    if any(tensor == sequence for item in graph if not item.dead for tensor, _ in item.reads):
        raise ExitError(f"{where} gives every step to later layers; only its last state may be left with")
    (steps,) = counts
    return steps


def cut(graph: LayerGraph, layer: Layer, ends: Sequence[int]) -> Cut:
    """``layer`` as one layer up to each of the steps ``ends`` and one for those that are left.

    MACs and vector operations add up to the layer's own. Each part reads the weights again.
    """
    steps = steps_of(graph, layer)
    bounds = [0, *ends, steps]
    if any(first >= last for first, last in pairwise(bounds)):
        raise ExitError(
            f"{graph.model}: layer '{layer.name}' has {steps} steps; exits are after 1 to {steps - 1} of them"
        )
    outputs = [name for name, _ in layer.writes]
    weights = [pair for pair in layer.reads if graph.tensors[pair[0]].kind == "weight"]
    data, *before = [pair for pair in layer.reads if graph.tensors[pair[0]].kind != "weight"]
    made, tensors, states = [], dict[str, Tensor](), []
    for number, (first, last) in enumerate(pairwise(bounds), 1):
        final = last == steps
        names = outputs if final else [f"{name}@{number}" for name in outputs]
        for position, (name, source) in enumerate(zip(names, outputs, strict=True)):
            whole = graph.tensors[source]
            shape = _shortened(whole.shape, steps, last - first) if position == 0 else whole.shape
            storage = whole.storage if final else name
            tensors[name] = replace(whole, name=name, shape=shape, storage=storage)
        made.append(
            replace(
                layer,
                name=layer.name if number == 1 else f"{layer.name}@{number - 1}",
                reads=((data[0], data[1] * (last - first) // steps), *before, *weights),
                writes=tuple((name, tensors[name].bytes) for name in names),
                work=tuple(_part(work, steps, last - first) for work in layer.work),
                vector_ops=layer.vector_ops * (last - first) // steps,
            )
        )
        before = [(name, tensors[name].bytes) for name in names[1:]]
        states.append(names[1])
    return Cut(tuple(made), tensors, tuple(states))


def _part(work: Work, steps: int, some: int) -> Work:
    """``some`` of the steps: of a recurrent product fewer runs, of the product over the whole input fewer rows."""
    if work.sequential:
        return replace(work, count=some)
    return replace(work, problem=_with_rows(work.problem, work.problem.extents.get("N", 1) // steps * some))


def _with_rows(problem: Problem, rows: int) -> Problem:
    def sized(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(replace(item, size=rows) if item.terms == (("N", 1),) else item for item in axes)

    return replace(
        problem,
        dims=tuple((dim, rows if dim == "N" else extent) for dim, extent in problem.dims),
        operands=tuple(replace(operand, axes=sized(operand.axes)) for operand in problem.operands),
    )


def _shortened(shape: tuple[int, ...], steps: int, some: int) -> tuple[int, ...]:
    """[N, steps, width] or [steps, N, width] with fewer steps."""
    at = 1 if shape[1] == steps else 0
    return (*shape[:at], some, *shape[at + 1 :])
