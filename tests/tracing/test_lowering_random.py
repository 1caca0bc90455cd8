"""Random networks: MACs equal a count that shares no code with the lowering, and the graph is well formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mmworkload.graph import LayerGraph

# Torch says on the CPU which of its kernels it takes.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BATCH, WIDTH = 2, 6
LIMIT = 1500


class Step(nn.Module):
    """``call(inner, *tensors)`` on some of the values made so far."""

    def __init__(self, call: Callable[..., Any], inner: nn.Module | None, chosen: tuple[int, ...]) -> None:
        super().__init__()
        self.call, self.inner, self.chosen = call, inner, chosen

    def forward(self, values: list[Any]) -> Any:
        return self.call(self.inner, *(values[index] for index in self.chosen))


class Net(nn.Module):
    """Steps over a growing list of values; those that are not returned are dead branches."""

    def __init__(self, steps: list[Step], returned: tuple[int, ...]) -> None:
        super().__init__()
        self.steps, self.returned = nn.ModuleList(steps), returned

    def forward(self, sequence: Any, image: Any) -> Any:
        values = [sequence, image]
        for step in self.steps:
            values.append(step(values))
        return [values[index] for index in self.returned]


def write_row(_: Any, x: Any) -> Any:
    """In place through a view; the value itself goes on."""
    x[:, 0].mul_(0.5)
    x[:, -1] = 0.25
    return x


def heads(inner: Any, x: Any) -> Any:
    q = x.reshape(*x.shape[:2], 2, -1).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q, q, is_causal=True).transpose(1, 2).flatten(2)


def grouped(inner: Any, x: Any) -> Any:
    q = x.unsqueeze(1).expand(-1, 4, -1, -1)
    kv = torch.stack([x, x], 1)
    return F.scaled_dot_product_attention(q, kv, kv, enable_gqa=True).sum(1)


def convolution_of(draw: st.DrawFn, x: Any) -> nn.Module:
    channels, size = x.shape[1], x.shape[2:]
    rank = len(size)
    groups = draw(st.sampled_from([divisor for divisor in (1, 2, 3, channels) if channels % divisor == 0]))
    kernel = tuple(draw(st.integers(1, min(3, extent))) for extent in size)
    stride, out = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    if draw(st.booleans()):
        kind = getattr(nn, f"ConvTranspose{rank}d")
        return kind(channels, out, kernel, stride=stride, output_padding=stride - 1, groups=groups)
    kind = getattr(nn, f"Conv{rank}d")
    if stride == 1 and draw(st.booleans()):
        return kind(channels, out, kernel, padding="same", groups=groups, dilation=draw(st.integers(1, 2)))
    return kind(channels, out, kernel, stride=stride, padding=tuple(k // 2 for k in kernel), groups=groups)


SEQUENCE: dict[str, Callable[..., Any]] = {
    "linear": lambda m, x: m(x),
    "scaled": lambda m, x: torch.einsum("btd,md->btm", x, m.weight) * 0.5,
    "lstm": lambda m, x: m(x)[0],
    "gru": lambda m, x: m(x)[0],
    "cell": lambda m, x: m(x[:, 0]).unsqueeze(1),
    "attention": lambda m, x: m(x, x, x, need_weights=True)[0],
    "encoder": lambda m, x: m(x),
    "heads": heads,
    "grouped": grouped,
    "gram": lambda _, x: x @ x.transpose(1, 2),
    "reweigh": lambda _, x: (x @ x.transpose(1, 2)).softmax(-1) @ x,
    "baddbmm": lambda _, x: torch.baddbmm(x, x @ x.transpose(1, 2), x),
    "pairs": lambda _, x: torch.einsum("bi,bj->bij", x[:, 0], x[:, -1]),
    "chain": lambda _, x: torch.einsum("bij,bkj,bkl->bil", x, x, x),
    "vector": lambda _, x: (x @ x[0, 0]).unsqueeze(-1),
    "norm": lambda m, x: m(x),
    "relu_": lambda _, x: F.relu_(x),
    "row": write_row,
    "window": lambda _, x: x[:, 1:] + x[:, :-1],
    "view": lambda _, x: x.transpose(1, 2),
    "flat": lambda _, x: x.reshape(x.shape[0], 1, -1),
    "image": lambda _, x: x.unsqueeze(2),
    "convolution": lambda m, x: m(x),
}
IMAGE: dict[str, Callable[..., Any]] = {
    "convolution": lambda m, x: m(x),
    "bilinear": lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "pool": lambda _, x: F.max_pool2d(x, 2, ceil_mode=True),
    "mean": lambda _, x: F.adaptive_avg_pool2d(x, 1),
    "norm": lambda m, x: m(x),
    "gate_": lambda _, x: x.mul_(x.mean((2, 3), keepdim=True)),
    "rows": lambda _, x: x.flatten(2).transpose(1, 2),
    "halves": lambda _, x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "row": write_row,
}
MERGES: dict[str, Callable[..., Any]] = {
    "add": lambda _, a, b: a + b,
    "cat": lambda _, a, b: torch.cat([a, b], 1),
    "product": lambda _, a, b: a @ b.transpose(1, 2),
    "cross": lambda m, a, b: m(a, b, b, need_weights=False)[0],
}


def module_for(draw: st.DrawFn, name: str, x: Any) -> nn.Module | None:
    width = x.shape[-1]
    if name in ("linear", "scaled"):
        return nn.Linear(width, WIDTH, bias=name == "linear" and draw(st.booleans()))
    if name in ("lstm", "gru"):
        options = {"num_layers": draw(st.integers(1, 2)), "bidirectional": draw(st.booleans()), "batch_first": True}
        if name == "lstm" and draw(st.booleans()):
            options["proj_size"] = 2
        return {"lstm": nn.LSTM, "gru": nn.GRU}[name](width, 3, **options)
    if name == "cell":
        return nn.GRUCell(width, WIDTH)
    if name in ("attention", "cross"):
        return nn.MultiheadAttention(width, draw(st.sampled_from([1, width])), batch_first=True)
    if name == "encoder":
        return nn.TransformerEncoderLayer(width, 1, 5, batch_first=True)
    if name == "norm":
        return nn.LayerNorm(width) if x.dim() == 3 else nn.BatchNorm2d(x.shape[1])
    return convolution_of(draw, x) if name == "convolution" else None


def fits(name: str, x: Any, y: Any) -> bool:
    if name == "add":
        return x.shape == y.shape
    if name == "cat":
        return x.shape[0] == y.shape[0] and x.shape[2:] == y.shape[2:]
    return x.dim() == y.dim() == 3 and x.shape[0] == y.shape[0] and x.shape[2] == y.shape[2]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Net, Any, Any]:
    sequence, image = torch.randn(BATCH, 4, WIDTH), torch.randn(BATCH, 4, 5, 6)
    values, steps = [sequence.clone(), image.clone()], []
    for _ in range(draw(st.integers(2, 8))):
        # What was made last is the likeliest to go on.
        index = max(draw(st.integers(0, len(values) - 1)), draw(st.integers(0, len(values) - 1)))
        x = values[index]
        partners = [(name, i) for i, y in enumerate(values) for name in MERGES if i != index and fits(name, x, y)]
        if partners and draw(st.integers(0, 2)) == 0:
            name, other = draw(st.sampled_from(partners))
            call, chosen = MERGES[name], (index, other)
        else:
            table = SEQUENCE if x.dim() == 3 else IMAGE
            names = [name for name in table if applies(name, x)]
            name = draw(st.sampled_from(names))
            call, chosen = table[name], (index,)
        step = Step(call, module_for(draw, name, x), chosen).eval()
        with torch.no_grad():
            made = step(values)
        if 0 < made.numel() <= LIMIT:
            steps.append(step)
            values.append(made)
    returned = tuple(sorted(draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=3))))
    return Net(steps, returned), sequence, image


def applies(name: str, x: Any) -> bool:
    if name == "heads":
        return x.shape[2] % 2 == 0
    if name in ("attention", "encoder"):
        return x.shape[2] <= 16
    if name == "halves":
        return x.shape[1] > 1
    if name == "window":
        return x.shape[1] > 1
    if name in ("scaled", "chain"):
        # Over an axis of extent one an einsum is elementwise below autograd.
        return min(x.shape[1:]) > 1
    if name in ("row", "relu_", "gate_"):
        # Torch refuses to write where several elements share memory.
        return 0 not in x.stride()
    return True


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(networks())
def test_a_random_network_costs_what_a_real_forward_does(
    trace: Any, count: Any, output_shapes: Any, case: tuple[Net, Any, Any]
) -> None:
    net, sequence, image = case
    traced, real = trace(net, sequence, image), count(net, sequence, image)
    graph: LayerGraph = traced.graph
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []
    assert graph.total_macs == real.macs
    # An einsum without a sum is an elementwise product below autograd, where the count does not see it.
    assert sum(layer.outer_macs for layer in graph if layer.op != "outer") == real.outer
    assert output_shapes(traced) == [tuple(item.shape) for item in real.outputs]
    assert graph.built_params == sum(item.numel() for item in net.parameters())
    assert graph.total_params <= graph.built_params
    # Every tensor that moves has its producer, or comes from outside.
    for layer in graph:
        for name, size in (*layer.reads, *layer.writes):
            tensor = graph.tensors[name]
            assert size <= tensor.bytes
            assert (name in graph.producers) == (tensor.kind == "activation" or name.endswith(":out"))
    assert LayerGraph.from_text(graph.to_text(".yaml")) == graph
    calls = [node for node in traced.program.graph.nodes if node.op == "call_function"]
    unpacked = [node for node in calls if "getitem" in str(node.target)]
    ignored = sum(item.calls for item in graph.coverage if item.treatment == "ignored")
    assert len(traced.layer_of_call) + ignored + len(unpacked) == len(calls)
