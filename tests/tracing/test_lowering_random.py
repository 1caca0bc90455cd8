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
    """``call(inner, *tensors)``."""

    def __init__(self, call: Callable[..., Any], inner: nn.Module | None) -> None:
        super().__init__()
        self.call, self.inner = call, inner

    def forward(self, *tensors: Any) -> Any:
        return self.call(self.inner, *tensors)


class Net(nn.Module):
    """Steps over a growing list of values, some of them more than once; what is not returned is a dead branch.

    ``order`` says which step runs on which of the values made so far.
    """

    def __init__(self, steps: list[Step], order: list[tuple[int, tuple[int, ...]]], returned: tuple[int, ...]) -> None:
        super().__init__()
        self.steps, self.order, self.returned = nn.ModuleList(steps), order, returned

    def forward(self, sequence: Any, image: Any) -> Any:
        values = [sequence, image]
        for step, chosen in self.order:
            values.append(self.steps[step](*(values[index] for index in chosen)))
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


def masked(inner: Any, x: Any) -> Any:
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
    return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)


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
    if draw(st.booleans()):
        return kind(channels, out, kernel, stride=stride, padding="valid", groups=groups, bias=False)
    return kind(channels, out, kernel, stride=stride, padding=tuple(k // 2 for k in kernel), groups=groups)


SEQUENCE: dict[str, Callable[..., Any]] = {
    "linear": lambda m, x: m(x),
    "scaled": lambda m, x: torch.einsum("btd,md->btm", x, m.weight) * 0.5,
    "lstm": lambda m, x: m(x)[0],
    "gru": lambda m, x: m(x)[0],
    "rnn": lambda m, x: m(x)[0],
    "time first": lambda m, x: m(x.transpose(0, 1))[0].transpose(0, 1),
    "gru cell": lambda m, x: m(x[:, 0]).unsqueeze(1),
    "lstm cell": lambda m, x: m(x[:, -1])[0].unsqueeze(1),
    "rnn cell": lambda m, x: m(x[:, 0]).unsqueeze(1),
    "attention": lambda m, x: m(x, x, x, need_weights=True)[0],
    "encoder": lambda m, x: m(x),
    "heads": heads,
    "grouped": grouped,
    "masked": masked,
    "gram": lambda _, x: x @ x.transpose(1, 2),
    "reweigh": lambda _, x: (x @ x.transpose(1, 2)).softmax(-1) @ x,
    "baddbmm": lambda _, x: torch.baddbmm(x, x @ x.transpose(1, 2), x),
    "pairs": lambda _, x: torch.einsum("bi,bj->bij", x[:, 0], x[:, -1]),
    "chain": lambda _, x: torch.einsum("bij,bkj,bkl->bil", x, x, x),
    "vector": lambda _, x: (x @ x[0, 0]).unsqueeze(-1),
    "bmm": lambda _, x: torch.bmm(x, x.transpose(1, 2)),
    "addmm": lambda _, x: torch.addmm(x[0, :, :1], x[0], x[-1].T).unsqueeze(0),
    "addbmm_": lambda _, x: (x[0] @ x[0].T).addbmm_(x, x.transpose(1, 2)).unsqueeze(0),
    "tensordot": lambda m, x: torch.tensordot(x, m.weight, dims=([2], [1])),
    "multi_dot": lambda _, x: torch.linalg.multi_dot([x[0], x[-1].T, x[0]]).unsqueeze(0),
    "power": lambda _, x: torch.linalg.matrix_power(x @ x.transpose(1, 2), 3),
    "norm": lambda m, x: m(x),
    "relu_": lambda _, x: F.relu_(x),
    "row": write_row,
    "window": lambda _, x: x[:, 1:] + x[:, :-1],
    "view": lambda _, x: x.transpose(1, 2),
    "flat": lambda _, x: x.reshape(x.shape[0], 1, -1),
    "image": lambda _, x: x.unsqueeze(2),
    "dropout": lambda m, x: m(x),
    "written": lambda _, x: torch.zeros_like(x).copy_(x).index_fill_(1, torch.tensor([0]), 1.0),
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
    "relu_": lambda _, x: F.relu_(x),
    "volume": lambda _, x: x.unsqueeze(2),
    "stacked": lambda _, x: torch.stack([x, x.flip(-1)], 2),
}
VOLUME: dict[str, Callable[..., Any]] = {
    "convolution": lambda m, x: m(x),
    "middle": lambda _, x: x.mean(2),
    "trilinear": lambda m, x: F.interpolate(x, scale_factor=2, mode="trilinear"),
    "norm": lambda m, x: m(x),
}
MERGES: dict[str, Callable[..., Any]] = {
    "add": lambda _, a, b: a + b,
    "cat": lambda _, a, b: torch.cat([a, b], 1),
    "product": lambda _, a, b: a @ b.transpose(1, 2),
    "cross": lambda m, a, b: m(a, b, b, need_weights=False)[0],
    "decoder": lambda m, a, b: m(a, b),
}
TABLES = {3: SEQUENCE, 4: IMAGE, 5: VOLUME}
# Drawn more often: what has weights.
WEIGHTED = (
    "linear", "scaled", "tensordot", "lstm", "gru", "rnn", "time first", "attention", "encoder", "convolution",
)  # fmt: skip


def module_for(draw: st.DrawFn, name: str, x: Any, made: list[Step]) -> nn.Module | None:
    width = x.shape[-1]
    if name in ("linear", "scaled", "tensordot"):
        linear = nn.Linear(width, WIDTH, bias=name == "linear" and draw(st.booleans()))
        others = [step.inner for step in made if isinstance(step.inner, nn.Linear) and step.inner.in_features == width]
        if others and draw(st.integers(0, 3)):
            linear.weight = draw(st.sampled_from(others)).weight
        return linear
    if name in ("lstm", "gru", "rnn", "time first"):
        kind = "lstm" if name == "time first" else name
        options: dict[str, Any] = {"num_layers": draw(st.integers(1, 2)), "bidirectional": draw(st.booleans())}
        options["batch_first"] = name != "time first"
        if kind == "lstm" and draw(st.booleans()):
            options["proj_size"] = 2
        if kind == "rnn":
            options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
        return {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](width, 3, **options)
    if name.endswith(" cell"):
        return {"gru": nn.GRUCell, "lstm": nn.LSTMCell, "rnn": nn.RNNCell}[name.split()[0]](width, WIDTH)
    if name in ("attention", "cross"):
        return nn.MultiheadAttention(width, draw(st.sampled_from([1, width])), batch_first=True)
    if name == "encoder":
        return nn.TransformerEncoderLayer(width, 1, 5, batch_first=True)
    if name == "decoder":
        return nn.TransformerDecoderLayer(width, 1, 5, batch_first=True)
    if name == "dropout":
        return nn.Dropout()
    if name == "norm":
        return {3: lambda: nn.LayerNorm(width), 4: lambda: nn.BatchNorm2d(x.shape[1]),
                5: lambda: nn.GroupNorm(1, x.shape[1])}[x.dim()]()  # fmt: skip
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
    values: list[Any] = [sequence.clone(), image.clone()]
    steps: list[Step] = []
    order: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(draw(st.integers(2, 8))):
        # What was made last is the likeliest to go on.
        index = max(draw(st.integers(0, len(values) - 1)), draw(st.integers(0, len(values) - 1)))
        x = values[index]
        again = [number for number, (step, chosen) in enumerate(order) if same_shapes(values, chosen, (index,))]
        partners = [(name, i) for i, y in enumerate(values) for name in MERGES if i != index and fits(name, x, y)]
        if again and draw(st.integers(0, 3)) == 0:
            # A module that is called again.
            number, chosen = order[draw(st.sampled_from(again))][0], (index,)
            step = steps[number]
            if not may_write(step, x):
                continue
        else:
            if partners and draw(st.integers(0, 2)) == 0:
                name, other = draw(st.sampled_from(partners))
                call, chosen = MERGES[name], (index, other)
            else:
                table = TABLES[x.dim()]
                names = [name for name in table if applies(name, x)]
                name = draw(st.sampled_from(names + 3 * [name for name in names if name in WEIGHTED]))
                call, chosen = table[name], (index,)
            number, step = len(steps), Step(call, module_for(draw, name, x, steps)).eval()
        with torch.no_grad():
            made = step(*(values[i] for i in chosen))
        if 0 < made.numel() <= LIMIT:
            steps += [step] if number == len(steps) else []
            order.append((number, chosen))
            values.append(made)
    returned = tuple(sorted(draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=3))))
    return Net(steps, order, returned), sequence, image


def same_shapes(values: list[Any], one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return [values[index].shape for index in one] == [values[index].shape for index in other]


def may_write(step: Step, x: Any) -> bool:
    """Torch refuses to write where several elements share memory."""
    return 0 not in x.stride() or step.call not in (write_row, SEQUENCE["relu_"], IMAGE["relu_"], IMAGE["gate_"])


def applies(name: str, x: Any) -> bool:
    if name == "heads":
        return x.shape[2] % 2 == 0
    if name in ("attention", "encoder", "decoder"):
        return x.shape[2] <= 16
    if name == "halves":
        return x.shape[1] > 1
    if name == "window":
        return x.shape[1] > 1
    if name in ("scaled", "chain", "tensordot"):
        # Over an axis of extent one an einsum is elementwise below autograd.
        return min(x.shape[1:]) > 1
    if name in ("row", "relu_", "gate_"):
        # Torch refuses to write where several elements share memory.
        return 0 not in x.stride()
    return True


def check(trace: Any, count: Any, output_shapes: Any, case: tuple[Net, Any, Any]) -> None:
    net, sequence, image = case
    traced, real = trace(net, sequence, image, route="export"), count(net, sequence, image)
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
    # The second route sees the same network.
    recorded: LayerGraph = trace(net, sequence, image, route="recorder").graph
    assert (recorded.layers, recorded.tensors) == (graph.layers, graph.tensors)
    assert (recorded.inputs, recorded.outputs) == (graph.inputs, graph.outputs)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=20, deadline=None, suppress_health_check=QUIET)
@given(networks())
def test_a_random_network_costs_what_a_real_forward_does(
    trace: Any, count: Any, output_shapes: Any, case: tuple[Net, Any, Any]
) -> None:
    check(trace, count, output_shapes, case)


@pytest.mark.full
@settings(max_examples=250, deadline=None, suppress_health_check=QUIET)
@given(networks())
def test_many_random_networks_cost_what_a_real_forward_does(
    trace: Any, count: Any, output_shapes: Any, case: tuple[Net, Any, Any]
) -> None:
    check(trace, count, output_shapes, case)
