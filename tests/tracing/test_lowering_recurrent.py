"""Recurrent layers: one product over the input, one small product a step, against closed formulas and a real run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mmworkload.problem import gemm
from mmworkload.tracing.call import Call, Value
from mmworkload.tracing.lowering.recurrent import recurrent

STEPS, BATCH, IN, HIDDEN = 5, 3, 4, 6
X = torch.randn(STEPS, BATCH, IN)

# (module, gates, layers, directions, projection)
LAYERS = {
    "LSTM": (nn.LSTM(IN, HIDDEN), 4, 1, 1, 0),
    "GRU": (nn.GRU(IN, HIDDEN), 3, 1, 1, 0),
    "RNN": (nn.RNN(IN, HIDDEN), 1, 1, 1, 0),
    "RNN with ReLU": (nn.RNN(IN, HIDDEN, nonlinearity="relu"), 1, 1, 1, 0),
    "LSTM, bidirectional": (nn.LSTM(IN, HIDDEN, bidirectional=True), 4, 1, 2, 0),
    "LSTM, three layers": (nn.LSTM(IN, HIDDEN, num_layers=3), 4, 3, 1, 0),
    "GRU, two layers, bidirectional": (nn.GRU(IN, HIDDEN, num_layers=2, bidirectional=True), 3, 2, 2, 0),
    "RNN, two layers, bidirectional": (nn.RNN(IN, HIDDEN, num_layers=2, bidirectional=True), 1, 2, 2, 0),
    "LSTM with projection": (nn.LSTM(IN, HIDDEN, proj_size=2), 4, 1, 1, 2),
    "LSTM with projection, two layers, bidirectional": (
        nn.LSTM(IN, HIDDEN, num_layers=2, bidirectional=True, proj_size=2), 4, 2, 2, 2,
    ),
    "LSTM without bias": (nn.LSTM(IN, HIDDEN, bias=False), 4, 1, 1, 0),
}  # fmt: skip


def closed_form(gates: int, layers: int, directions: int, projection: int) -> int:
    """Sum over layers and directions of T B (g H in + g H out + H proj)."""
    state = projection or HIDDEN
    total = 0
    for index in range(layers):
        inner = IN if index == 0 else directions * state
        total += directions * (gates * HIDDEN * (inner + state) + HIDDEN * projection)
    return STEPS * BATCH * total


@pytest.mark.parametrize("name", LAYERS)
def test_macs_of_a_recurrent_layer(name: str, trace: Any, count: Any, output_shapes: Any) -> None:
    module, *sizes = LAYERS[name]
    traced, real = trace(module, X), count(module, X)
    assert traced.graph.total_macs == closed_form(*sizes) == real.macs
    assert traced.graph.total_params == sum(item.numel() for item in module.parameters())
    assert output_shapes(traced) == [tuple(item.shape) for item in real.outputs]
    (layer,) = [layer for layer in traced.graph if layer.work]
    # Every weight is read once, whatever the number of steps.
    weights = sum(size for tensor, size in layer.reads if traced.graph.tensors[tensor].kind == "weight")
    assert weights == 4 * traced.graph.total_params
    assert layer.write_bytes == 4 * sum(item.numel() for item in real.outputs)


def test_the_recurrence_is_a_product_a_step_in_sequence(trace: Any) -> None:
    (layer,) = [layer for layer in trace(nn.LSTM(IN, HIDDEN), X).graph if layer.work]
    whole, step = layer.work
    assert (whole.problem, whole.count, whole.sequential) == (gemm(15, 24, IN).canonical(), 1, False)
    assert (step.problem, step.count, step.sequential) == (gemm(BATCH, 24, HIDDEN).canonical(), STEPS, True)
    # 13 passes over the hidden state and the addition of two biases of four gates.
    assert layer.vector_ops == STEPS * BATCH * (13 * HIDDEN + 2 * 4 * HIDDEN)


def test_each_direction_is_work_of_its_own(trace: Any) -> None:
    """The second layer reads both directions of the first."""
    module = nn.GRU(IN, HIDDEN, num_layers=2, bidirectional=True)
    (layer,) = [layer for layer in trace(module, X).graph if layer.work]
    step = (gemm(BATCH, 18, HIDDEN).canonical(), STEPS, True)
    assert [(w.problem, w.count, w.sequential) for w in layer.work] == [
        *[(gemm(15, 18, IN).canonical(), 1, False), step] * 2,
        *[(gemm(15, 18, 2 * HIDDEN).canonical(), 1, False), step] * 2,
    ]


def test_a_projection_is_a_product_a_step_as_well(trace: Any) -> None:
    (layer,) = [layer for layer in trace(nn.LSTM(IN, HIDDEN, proj_size=2), X).graph if layer.work]
    assert [(w.problem, w.count, w.sequential) for w in layer.work] == [
        (gemm(15, 24, IN).canonical(), 1, False),
        (gemm(BATCH, 24, 2).canonical(), STEPS, True),
        (gemm(BATCH, 2, HIDDEN).canonical(), STEPS, True),
    ]


def test_batch_first_and_missing_batch_are_the_same_work(trace: Any, works: Any) -> None:
    expected = works(trace(nn.GRU(IN, HIDDEN), X))
    assert works(trace(nn.GRU(IN, HIDDEN, batch_first=True), X.transpose(0, 1).contiguous())) == expected
    single = works(trace(nn.GRU(IN, HIDDEN), X[:, :1]))
    assert works(trace(nn.GRU(IN, HIDDEN), X[:, 0])) == single


def test_packed_sequences_cost_their_rows(count: Any) -> None:
    packed = nn.utils.rnn.pack_padded_sequence(X, torch.tensor([5, 3, 3]))
    lstm = nn.LSTM(IN, HIDDEN)

    def value(tensor: Any, is_weight: bool = False) -> Value:
        return Value("", tuple(tensor.shape), "float32", 32, tensor.numel(), is_weight)

    arguments = {
        "data": value(packed.data),
        "batch_sizes": value(packed.batch_sizes),
        "params": [value(item, is_weight=True) for item in lstm.parameters()],
        "bidirectional": False,
        "num_layers": 1,
    }
    lowered = recurrent(Call("aten.lstm", arguments, ()))
    # Eleven rows in five steps: one step of three rows and four of two stand for 3, 3, 3, 1, 1.
    assert [(dict(w.problem.dims)["N"], w.count) for w in lowered.work] == [(11, 1), (3, 1), (2, 4)]
    assert sum(work.macs for work in lowered.work) == 11 * 4 * HIDDEN * (IN + HIDDEN) == count(lstm, packed).macs
    assert lowered.assumptions == ("packed sequences: 11 rows spread evenly over 5 steps",)


class Unrolled(nn.Module):
    """A cell called once a step."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Any) -> Any:
        state = None
        for step in x:
            state = self.cell(step, state)
        return state


@pytest.mark.parametrize(
    ("cell", "gates"),
    [(nn.LSTMCell(IN, HIDDEN), 4), (nn.GRUCell(IN, HIDDEN), 3), (nn.RNNCell(IN, HIDDEN), 1)],
)
def test_an_unrolled_cell_costs_what_the_layer_does(trace: Any, count: Any, cell: nn.Module, gates: int) -> None:
    graph = trace(Unrolled(cell), X).graph
    assert graph.total_macs == closed_form(gates, 1, 1, 0) == count(Unrolled(cell), X).macs
    cells = [layer for layer in graph if layer.work]
    assert len(cells) == STEPS
    assert [layer.name for layer in cells] == ["cell", *(f"cell@{index}" for index in range(1, STEPS))]
    assert graph.total_params == sum(item.numel() for item in cell.parameters())
    assert {work.problem for layer in cells for work in layer.work} == {
        gemm(BATCH, gates * HIDDEN, IN).canonical(),
        gemm(BATCH, gates * HIDDEN, HIDDEN).canonical(),
    }


def test_a_recurrent_layer_without_rows_has_no_work(trace: Any) -> None:
    graph = trace(nn.LSTM(IN, HIDDEN), X[:, :0]).graph
    assert graph.total_macs == 0
