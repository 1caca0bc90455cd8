"""Recurrent layers and cells: one product over the whole input, then one small product per step, in sequence."""

from __future__ import annotations

import math

from mmworkload.layer import Work
from mmworkload.problem import gemm
from mmworkload.tracing.call import Call, Lowered, Value, lowers

# Gates, and elementwise operations per hidden element and step: adding the two products, activations, state update.
_KINDS = {"lstm": (4, 4 + 5 + 4), "gru": (3, 3 + 3 + 5), "rnn_tanh": (1, 2), "rnn_relu": (1, 2)}


def _product(rows: int, weight: Value, bits: int, count: int = 1, sequential: bool = False) -> tuple[Work, ...]:
    columns, reduction = weight.shape
    if 0 in (rows, count):
        return ()
    role = "weight" if weight.is_weight else "input"
    problem = gemm(rows, columns, reduction, bits=(bits, weight.bits, bits), second_role=role)  # type: ignore[arg-type]
    return (Work(problem, count, sequential),)


@lowers("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu")
def recurrent(call: Call) -> Lowered:
    """Padded [T, B, C] (or batch first) and packed [sum of lengths, C] input, several layers, both directions.

    ``params`` are, per layer and direction: input weight, recurrent weight, two biases, and for a projected LSTM the
    projection.
    """
    kind = call.operator.removeprefix("aten.")
    gates, passes = _KINDS[kind]
    packed = "batch_sizes" in call.args
    data = call["data"] if packed else call["input"]
    assumptions: tuple[str, ...] = ()
    rows = math.prod(data.shape[:-1])
    if packed:
        steps = call["batch_sizes"].shape[0]
        assumptions = (f"packed sequences: {rows} rows spread evenly over {steps} steps",)
    else:
        steps = data.shape[1 if len(data.shape) == 3 and call["batch_first"] else 0]
    batch, longer = divmod(rows, max(1, steps))
    weights: list[Value] = call["params"]
    directions = 2 if call["bidirectional"] else 1
    layers = call["num_layers"]
    per_cell = len(weights) // (layers * directions)
    work: list[Work] = []
    vector_ops = 0
    for index in range(layers * directions):
        cell = weights[index * per_cell : (index + 1) * per_cell]
        matrices = [value for value in cell if len(value.shape) == 2]
        hidden = matrices[0].shape[0] // gates
        work += _product(rows, matrices[0], data.bits)
        for matrix in matrices[1:]:
            work += _product(batch + 1, matrix, data.bits, longer, sequential=True)
            work += _product(batch, matrix, data.bits, steps - longer, sequential=True)
        biases = sum(value.elements for value in cell if len(value.shape) == 1)
        vector_ops += rows * (passes * hidden + biases)
    return Lowered(kind, "Gemm", tuple(work), vector_ops=vector_ops, assumptions=assumptions)


@lowers("aten.lstm_cell", "aten.gru_cell", "aten.rnn_tanh_cell", "aten.rnn_relu_cell")
def cell(call: Call) -> Lowered:
    kind = call.operator.removeprefix("aten.").removesuffix("_cell")
    gates, passes = _KINDS[kind]
    x: Value = call["input"]
    rows = math.prod(x.shape[:-1])
    hidden = call["w_ih"].shape[0] // gates
    biases = sum(call[name].elements for name in ("b_ih", "b_hh") if isinstance(call.get(name), Value))
    return Lowered(
        f"{kind}_cell",
        "Gemm",
        _product(rows, call["w_ih"], x.bits) + _product(rows, call["w_hh"], x.bits),
        vector_ops=rows * (passes * hidden + biases),
    )
