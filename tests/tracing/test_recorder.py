"""The recorder: the same graph as torch.export gives, and graphs where it gives none, because values decide."""

from __future__ import annotations

import collections
import copy
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree, checkpoint

from mmworkload.errors import ModelError
from mmworkload.graph import LayerGraph
from mmworkload.models import Model
from mmworkload.tracing import Traced, trace_model
from mmworkload.tracing.program import make_fake
from mmworkload.tracing.recorder import Modules, input_names, record

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

X = torch.randn(4, 6)
SEQUENCE = torch.randn(2, 4, 6)
IMAGE = torch.randn(2, 4, 5, 6)
IDS = torch.tensor([[1, 2, 2], [0, 5, 1]])
MASK = torch.tensor([[True, True, False, True, False, False]] * 2 + [[False] * 6, [True] * 6])
THREE = torch.tensor(3)
LENGTHS = torch.tensor([3, 1, 4, 2])


def shapes(graph: LayerGraph) -> list[tuple[int, ...]]:
    return [graph.tensors[name].shape for name in graph.outputs]


def lowered(graph: LayerGraph) -> list[Any]:
    return [item for item in graph.coverage if item.treatment != "ignored"]


# --- the graph of export --------------------------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 6), nn.ReLU())

    def forward(self, x: Any) -> Any:
        return self.block(self.block(self.block(x)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Any) -> Any:
        return self.head(self.embedding(tokens).relu())


class State(nn.Module):
    """A buffer and an input written in place, through a view too; a plain attribute; a list of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(8, 6))
        self.inner = nn.Module()
        self.inner.scale = torch.arange(6.0)
        self.rows = nn.ParameterList([nn.Parameter(torch.randn(6)) for _ in range(2)])

    def forward(self, x: Any, state: Any) -> Any:
        self.keys[2:6].copy_(x)
        state.add_(1)
        return x.sum() * self.inner.scale + self.rows[1], self.rows[0], self.inner.scale


class Same(nn.Module):
    """A weight, a buffer and a plain attribute that are called like inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.randn(6, 6))
        self.register_buffer("y", torch.zeros(6))

    def forward(self, x: Any, y: Any) -> Any:
        return x @ self.x + self.y + y


class Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.unread = nn.Linear(6, 5), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        self.unread(x).relu()
        return self.used(x)


class MadeInside(nn.Module):
    """A module that a forward makes belongs to the one that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Block()

    def forward(self, x: Any) -> Any:
        return self.inner(self.inner(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        return nn.ReLU()(self.linear(x)) * 2


class Hooked(nn.Module):
    """What hooks of a module do belongs to the module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.linear.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
        self.linear.register_forward_hook(lambda module, inputs, output: output * 2)

    def forward(self, x: Any) -> Any:
        return self.linear(x).relu()


class Direct(nn.Module):
    """A forward that is called without its module runs in the caller."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        return self.linear.forward(x).relu() + self.linear(x)


class Regions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        with torch.enable_grad():
            y = doubled(self.linear(x))
            with torch.no_grad():
                y = self.linear(y)
        with torch.inference_mode():
            return y + 1


@torch.no_grad()
def doubled(x: Any) -> Any:
    return x * 2


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2


def written(x: Any) -> Any:
    y = x * 2
    y[1] = 0.5
    y[:, 2] = x[:, 0]
    y[1:3, 1:3] += 1
    return y.relu_()


def cell(kind: str) -> nn.Module:
    return getattr(nn, kind)(6, 3)


NETWORKS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "a module called again": (Twice(), (X,)),
    "tied weights": (Tied(), (IDS,)),
    "state": (State(), (X, torch.zeros(3))),
    "equal names": (Same(), (X, torch.zeros(6))),
    "dead branches": (Dead(), (X,)),
    "modules made inside": (MadeInside(), (X,)),
    "hooks": (Hooked(), (X,)),
    "a forward called directly": (Direct(), (X,)),
    "regions of gradients": (Regions(), (X,)),
    "a function of autograd": (lambda x: Double.apply(x) + 1, (X,)),
    "a checkpoint": (lambda x: checkpoint.checkpoint(lambda y: y * 2, x, use_reentrant=False), (X,)),
    "in-place writes": (written, (X,)),
    "an in-place result": (lambda x: torch.add(x, 1, out=torch.zeros(4, 6)), (X,)),
    "foreach": (lambda x: torch._foreach_add_([(y := x * 2)[0], y[2]], 1.0), (X,)),
    "training dropout": (lambda x: F.dropout(x + 1, 0.5, training=True), (X,)),
    "views": (lambda x: torch.cat(x.transpose(0, 1).reshape(4, 6).chunk(2, 1)[::-1], 1), (X,)),
    "an expanded row": (lambda x: x + x[:1].expand(4, 6), (X,)),
    "factories": (lambda x: x + torch.arange(6, device=x.device) + torch.ones_like(x) + x.new_zeros(6), (X,)),
    "types": (lambda x, i: x.to(torch.float64) + i.type_as(x), (X, torch.zeros(4, 6, dtype=torch.long))),
    "one input twice": (lambda x, y: x + y, (X, X)),
    "a part of an input beside it": (lambda x, y: x + y, (X, X[0])),
    "an input as a result": (lambda x: (x.view(24), x, x * 2), (X,)),
    "several results of one operator": (lambda x: (x.max(1)[0] * 2, x.sort(1)), (X,)),
    "indices and masks": (lambda x, i, m: (x[i], x.masked_fill(m, 0.0), x.index_select(0, i[0])), (X, IDS % 4, MASK)),
    "nested inputs": (lambda xs: torch.stack(xs["a"]) + xs["b"], ({"a": [X, X + 1], "b": X},)),
    **{kind: (cell(kind), (X,)) for kind in ("LSTMCell", "GRUCell", "RNNCell")},
    "LSTM": (nn.LSTM(6, 3, 2, batch_first=True, bidirectional=True, proj_size=2), (SEQUENCE,)),
    "GRU": (nn.GRU(6, 3, 2, bidirectional=True), (SEQUENCE,)),
    "RNN": (nn.RNN(6, 3, 2, nonlinearity="relu"), (SEQUENCE,)),
    "attention": (nn.MultiheadAttention(6, 2, batch_first=True), (SEQUENCE, SEQUENCE, SEQUENCE)),
    "transformer": (nn.Transformer(6, 2, 1, 2, 8, batch_first=True), (SEQUENCE, SEQUENCE)),
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(4, 6, 3, padding="same", dilation=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1, groups=2), nn.GroupNorm(2, 4),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", groups=4), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        ),
        (IMAGE,),
    ),
    "products": (lambda a, b: torch.einsum("bij,bkj,bkl->bil", a, b, a) @ a[0].T + torch.dot(a[0, 0], b[0, 0]),
                 (SEQUENCE, SEQUENCE + 1)),
    "a product with a weight of its own norm": (nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), (X,)),
    "spectra": (lambda x: torch.stft(x, 64, 16, window=torch.hann_window(64), return_complex=True).abs(),
                (torch.randn(2, 640),)),
    "a loss": (F.cross_entropy, (X, torch.zeros(4, dtype=torch.long))),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_both_routes_give_one_graph(name: str, trace: Any) -> None:
    source, inputs = NETWORKS[name]
    exported: LayerGraph = trace(source, *inputs, route="export").graph
    recorded: LayerGraph = trace(source, *inputs, route="recorder").graph
    assert exported.layers
    assert recorded.layers == exported.layers
    assert recorded.tensors == exported.tensors
    assert (recorded.inputs, recorded.outputs) == (exported.inputs, exported.outputs)
    assert lowered(recorded) == lowered(exported)
    assert (exported.route, recorded.route) == ("export", "recorder")


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_a_forced_type_gives_one_graph(trace: Any, dtype: str) -> None:
    for source, inputs in (NETWORKS["convolutions"], NETWORKS["LSTM"], NETWORKS["tied weights"]):
        exported = trace(source, *inputs, route="export", dtype=dtype).graph
        recorded = trace(source, *inputs, route="recorder", dtype=dtype).graph
        assert recorded.layers == exported.layers
        assert {item.dtype for item in recorded.tensors.values()} <= {dtype, "int64"}


def test_a_workload_is_one_graph_on_both_routes() -> None:
    from mmworkload.models import resolve

    for name in ("av-mnist/concat", "mujoco-push/late"):
        exported, recorded = (trace_model(resolve(name), route).graph for route in ("export", "recorder"))
        assert recorded.layers == exported.layers
        assert recorded.stages == exported.stages


def test_calls_of_a_module_are_counted(trace: Any) -> None:
    names = [layer.name for layer in trace(Twice(), X, route="recorder").graph]
    assert names == ["block.0", "block.1", "block.0@1", "block.1@1", "block.0@2", "block.1@2"]
    inside = [layer.name for layer in trace(MadeInside(), X, route="recorder").graph]
    assert inside == [
        "inner.linear", "inner:relu", "inner:mul", "inner.linear@1", "inner@1:relu", "inner@1:mul",
    ]  # fmt: skip


# --- where the routes differ ----------------------------------------------------------------------------------------


def test_a_module_with_two_names_is_recorded_under_the_first(trace: Any, count: Any) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.second = self.first

        def forward(self, x: Any) -> Any:
            return self.second(self.first(x))

    exported, recorded = (trace(Shared(), X, route=route).graph for route in ("export", "recorder"))
    assert [layer.name for layer in recorded] == ["first", "first@1"]
    assert [layer.name for layer in exported] == ["first", "second"]
    assert recorded.total_macs == exported.total_macs == count(Shared(), X).macs
    assert recorded.total_params == exported.total_params == 42


def test_autocast_casts_are_recorded_as_layers(trace: Any, count: Any) -> None:
    class Auto(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 5)

        def forward(self, x: Any) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = self.linear(x)
                with torch.autocast("cpu", enabled=False):
                    return y.float() @ y.float().T

    graph = trace(Auto(), X, route="recorder").graph
    assert graph.total_macs == trace(Auto(), X, route="export").graph.total_macs == count(Auto(), X).macs
    (linear,) = [layer for layer in graph if layer.op == "linear"]
    assert [item.bits for item in linear.work[0].problem.operands] == [16, 16, 16]
    casts = [layer for layer in graph if layer.op == "to" and layer.module == "linear"]
    # Input, weight and bias.
    assert sorted(layer.read_bytes for layer in casts) == [5 * 4, 24 * 4, 30 * 4]
    (product,) = [layer for layer in graph if layer.op == "matmul"]
    assert [item.bits for item in product.work[0].problem.operands] == [32, 32, 32]


def test_constants_have_the_names_of_export(trace: Any) -> None:
    class Inner(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * torch.tensor([1.0] * 6) + torch.tensor(3)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Any) -> Any:
            return self.inner(self.inner(x * torch.tensor(2.0))) + torch.tensor([1])

    exported, recorded = (trace(Outer(), X, route=route).graph for route in ("export", "recorder"))
    assert recorded.layers == exported.layers
    assert recorded.tensors == exported.tensors
    assert [name for name, item in recorded.tensors.items() if item.kind == "constant"] == [
        "lifted_tensor_0", "inner.lifted_tensor_1", "inner.lifted_tensor_2", "inner.lifted_tensor_3",
        "inner.lifted_tensor_4", "lifted_tensor_5",
    ]  # fmt: skip


def test_a_number_written_out_is_a_constant(trace: Any) -> None:
    graph = trace(lambda x: x * torch.tensor(2.0) + torch.tensor([1.0] * 6), X, route="recorder").graph
    assert [layer.op for layer in graph] == ["mul", "add"]
    assert sorted(item.elements for item in graph.tensors.values() if item.kind == "constant") == [1, 6]


# --- values ---------------------------------------------------------------------------------------------------------

VALUES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}


def case(*inputs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        VALUES[function.__name__] = (function, inputs)
        return function

    return add


@case(X, MASK)
def places(x: Any, mask: Any) -> Any:
    where = mask.nonzero()
    return x[where[:, 0], where[:, 1]] * 2


@case(X, MASK)
def places_by_axis(x: Any, mask: Any) -> Any:
    return x[torch.where(mask)], x[mask.nonzero(as_tuple=True)]


@case(X, MASK)
def boolean_index(x: Any, mask: Any) -> Any:
    return x[mask] * 2, x[mask[:, 0]] @ x.T, x[:, mask[0]]


@case(X, MASK)
def boolean_write(x: Any, mask: Any) -> Any:
    y = x * 1
    y[mask] = x[mask] * 2
    y[mask] = 0.5
    return y


@case(X, MASK)
def selection_of_unknown_values(x: Any, mask: Any) -> Any:
    return x.masked_select(mask) * 2, x.masked_select(mask[:1])


@case(X, MASK)
def scattered(x: Any, mask: Any) -> Any:
    return torch.zeros(4, 6).masked_scatter(mask, x), x.new_zeros(4, 6).index_put_(mask.nonzero(as_tuple=True), x[mask])


@case(X, THREE)
def item(x: Any, number: Any) -> Any:
    return x[: number.item()] * 2, x[:number] + 1, x.select(0, number) * 2, x[number] * 3


@case(X, LENGTHS)
def listed(x: Any, lengths: Any) -> Any:
    return [part * 2 for part in x.repeat(3, 1)[:10].split(lengths.tolist())]


@case(X, LENGTHS)
def as_array(x: Any, lengths: Any) -> Any:
    import numpy

    return x[: int(lengths.numpy().max()) - 1] * 2, x[numpy.asarray(lengths) > 2] * 2


@case(X, LENGTHS)
def list_of_tensors(x: Any, lengths: Any) -> Any:
    return torch.zeros(int(torch.tensor([lengths.max(), lengths.min()]).sum())) + 1


@case(X, LENGTHS)
def repeats(x: Any, lengths: Any) -> Any:
    return x.repeat_interleave(lengths, 0) * 2, x.repeat_interleave(lengths, dim=0, output_size=10) + 1


@case(X, IDS)
def distinct(x: Any, ids: Any) -> Any:
    values, inverse = torch.unique(ids, return_inverse=True)
    return x.repeat(2, 1)[values][inverse] * 2, torch.unique_consecutive(ids.flatten()) + 1


@case(X, THREE)
def branch(x: Any, number: Any) -> Any:
    return x @ x.T if number > 2 else x + 1


@case(X, THREE)
def loop(x: Any, number: Any) -> Any:
    for _ in range(number):
        x = x * 2
    return x


@case(X, torch.tensor([[2, 3]]))
def grid(x: Any, sizes: Any) -> Any:
    height, width = sizes[0]
    rows, columns = sizes[0].tolist()
    image = F.interpolate(x[None, None], size=(int(height), int(width)))
    return image, x.reshape(rows * 2, 2 * columns) + 0, torch.arange(height * width) + 1


@case(X, LENGTHS)
def mask_made_here(x: Any, lengths: Any) -> Any:
    mask = torch.arange(6)[None] < lengths[:, None]
    return x[mask] * 2, x[mask.expand_as(x)], x[mask[:, :, None].expand(4, 6, 2).any(-1)]


@case(X)
def mask_like_an_unknown_tensor(x: Any) -> Any:
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[:, :2] = True
    other = x.new_ones(4).bool().view_as(x[:, 0])
    return x[mask] * 2, x[other], x[torch.full_like(x, 1, dtype=torch.bool)]


@case(X, IDS)
def largest(x: Any, ids: Any) -> Any:
    return x.new_zeros(int(ids.max()) + 1) + 1, F.one_hot(ids), torch.bincount(ids.flatten()) + 1


@case(X, IDS)
def weighted_counts(x: Any, ids: Any) -> Any:
    return torch.bincount(ids.flatten(), weights=x.flatten()[:6]) * 2


@case(X, torch.tensor([2, 1, 1]))
def parts(x: Any, counts: Any) -> Any:
    ends = F.pad(counts.cumsum(0), (1, 0))
    split = torch.tensor_split(x, counts[:1])
    return [x[ends[i] : ends[i + 1]] * 2 for i in range(3)], [item + 1 for item in split]


@case(X, MASK)
def questions(x: Any, mask: Any) -> Any:
    assert mask.any()
    torch._assert(mask.any(), "nothing")
    if torch.equal(mask, mask.clone()) and torch.allclose(mask.long(), mask.long()) and not bool((~mask).all()):
        return x * 2
    return x @ x.T


@case(X, IDS)
def rows_of_a_known_tensor(x: Any, ids: Any) -> Any:
    return [x[index] * 2 for index in ids[0]]


@case(X)
def constants(x: Any) -> Any:
    factors = torch.tensor([1.0, 2.0])
    return (x * 2 if factors.max() > 1 else x @ x.T) * factors.sum().item()


@case(X)
def chance(x: Any) -> Any:
    return x * 2 if torch.rand(1).item() < 2 else x @ x.T


@case(torch.randn(6, 6), IDS)
def tokens(table: Any, ids: Any) -> Any:
    return F.embedding(ids, table)[ids != 2] * 2


@case(SEQUENCE, torch.tensor([4, 2]))
def packed(x: Any, lengths: Any) -> Any:
    sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(sequence, batch_first=True)[0] * 2


@case(X, THREE)
def counted_in_place(x: Any, number: Any) -> Any:
    number = number.clone()
    number += 1
    number[...] = number - 2
    return x[: number.item()] * 2


@case(X, LENGTHS)
def written_through_a_view(x: Any, lengths: Any) -> Any:
    lengths = lengths.clone()
    first = lengths[0]
    first.fill_(1)
    lengths[1:].add_(1)
    return [x[:n] * 2 for n in lengths.tolist()]


@case(X, LENGTHS)
def sorted_lengths(x: Any, lengths: Any) -> Any:
    longest, order = lengths.sort(descending=True)
    return [x[index, :length] * 2 for index, length in zip(order, longest, strict=True)]


@pytest.mark.parametrize("name", VALUES)
def test_values_of_integer_and_boolean_inputs_decide(name: str, trace: Any, count: Any) -> None:
    function, inputs = VALUES[name]
    graph: LayerGraph = trace(function, *inputs, route="recorder").graph
    real = count(function, *inputs)
    used = [item for item in real.outputs if item.numel()]
    found = [shape for name, shape in zip(graph.outputs, shapes(graph), strict=True) if name in graph.producers]
    assert found == [tuple(item.shape) for item in used]
    assert graph.total_macs == real.macs
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []
    assert LayerGraph.from_text(graph.to_text(".yaml")) == graph


@pytest.mark.parametrize("name", VALUES)
def test_inputs_with_values_give_the_same_graph(name: str, trace: Any) -> None:
    function, inputs = VALUES[name]
    hidden, known = (trace(function, *inputs, route="recorder", known=known).graph for known in (False, True))
    assert known.total_macs == hidden.total_macs
    assert shapes(known) == shapes(hidden)
    # Composite operators over known values need not be taken apart; views stay views.
    assert len(known) <= len(hidden)
    assert [item for item in known.coverage if item.treatment == "unknown"] == []


def test_a_branch_on_a_sample_is_taken_as_the_sample_says(trace: Any) -> None:
    def function(x: Any) -> Any:
        return x @ x.T if x.sum() > 0 else x[x > -2] * 2

    x = torch.tensor([[-1.0, -3.0], [1.0, -4.0]])
    negative, positive = (trace(function, value, known=True).graph for value in (x, -x))
    assert (negative.route, positive.route) == ("recorder", "recorder")
    assert (shapes(negative), shapes(positive)) == ([(2,)], [(2, 2)])
    assert (negative.total_macs, positive.total_macs) == (0, 8)


class Counter(nn.Module):
    """A buffer that decides how often a layer runs, and is updated."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("steps", torch.tensor(1, device="cpu"))
        self.register_buffer("seen", torch.zeros(3, dtype=torch.long, device="cpu"))

    def forward(self, x: Any) -> Any:
        for _ in range(2):
            self.steps += 1
            self.seen[0] = self.steps
            for _ in range(self.steps.item()):
                x = self.linear(x)
        return x, x[: self.seen.max()]


def test_a_buffer_that_is_updated_decides_with_its_new_value(trace: Any, count: Any) -> None:
    graph = trace(Counter(), X).graph
    assert graph.route == "recorder"
    assert graph.total_macs == count(Counter(), X).macs == 5 * 4 * 36
    assert [layer.name for layer in graph if layer.op == "linear"] == ["linear"] + [f"linear@{i}" for i in range(1, 5)]
    assert graph.tensors["steps"].kind == "constant"
    updates = [item for item in graph.tensors.values() if item.kind == "state" and item.name.startswith("add")]
    assert [item.storage for item in updates] == ["steps", "steps"]


@pytest.mark.parametrize("route", ["auto", "recorder"])
def test_the_users_module_and_inputs_keep_their_values(route: str) -> None:
    module, mask, numbers = Counter(), torch.ones(4, dtype=torch.bool), torch.tensor([1, 2])

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counter = module

        def forward(self, x: Any, mask: Any, numbers: Any) -> Any:
            mask[0] = False
            numbers.add_(1)
            return self.counter(x)[0][mask], numbers.tolist()

    outer = Outer()
    before = {name: (id(item), item.clone()) for name, item in outer.state_dict(keep_vars=True).items()}

    def make(device: str) -> tuple[nn.Module, Any]:
        return outer, (X, mask, numbers)

    graph = trace_model(Model("test", "", 1, "float32", make), route).graph
    assert graph.route == "recorder"
    assert shapes(graph)[0] == (3, 6)
    assert (mask.tolist(), numbers.tolist()) == ([True] * 4, [1, 2])
    for name, item in outer.state_dict(keep_vars=True).items():
        assert id(item) == before[name][0]
        assert torch.equal(item, before[name][1])
    assert nn.Module.__call__ is ORIGINAL_CALL


def test_a_plain_attribute_keeps_its_values_too() -> None:
    class Doubles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.tensor([1.0, 2.0])

        def forward(self, x: Any) -> Any:
            self.table.mul_(2)
            return x[: int(self.table.max())] * self.table.sum(), self.table.tolist()

    module = Doubles()
    model = Model("test", "", 1, "float32", lambda device: (module, (torch.randn(6, 6),)))
    assert shapes(trace_model(model, "recorder").graph) == [(4, 6)]
    assert module.table.tolist() == [1.0, 2.0]


def test_a_known_tensor_that_an_unknown_one_was_written_into_has_no_values(trace: Any) -> None:
    def copied(x: Any) -> Any:
        y = torch.zeros(4, 6)
        y.copy_(x)
        return y.nonzero()

    def through_a_view(x: Any) -> Any:
        y = torch.zeros(4, 6)
        y[0].add_(x[0])
        return y.nonzero()

    def under_a_mask(x: Any, mask: Any) -> Any:
        y = torch.zeros(4, 6)
        y[mask] = x[mask]
        return y[y > 0]

    def into_a_view_made_before(x: Any) -> Any:
        y = torch.zeros(4, 6)
        row = y[1]
        y.add_(x)
        return row.tolist()

    def with_out(x: Any) -> Any:
        y = torch.zeros(4, 6)
        torch.add(x, 1, out=y)
        return y.max().item()

    for function, inputs in (
        (copied, (X,)), (through_a_view, (X,)), (under_a_mask, (X, MASK)), (into_a_view_made_before, (X,)),
        (with_out, (X,)),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=rf"depends on values .*test_recorder\.py:\d+ in {function.__name__}"):
            trace(function, *inputs, route="recorder")


def test_a_copy_that_was_made_before_an_unknown_write_keeps_its_values(trace: Any) -> None:
    def function(x: Any) -> Any:
        y = torch.ones(4)
        kept = y.clone()
        y.copy_(x[:, 0])
        return x[: int(kept.sum()) - 1] * 2

    assert shapes(trace(function, X, route="recorder").graph) == [(3, 6)]


# --- what has no values ---------------------------------------------------------------------------------------------

UNANSWERED: dict[str, tuple[Callable[..., Any], str]] = {
    "a branch": (lambda x: x if x.sum() > 0 else -x, "_local_scalar_dense"),
    "an item": (lambda x: x * x.sum().item(), "_local_scalar_dense"),
    "a list": (lambda x: x * sum(x[0].tolist()), "_local_scalar_dense"),
    "an array": (lambda x: x * x.numpy().max(), "numpy"),
    "a mask": (lambda x: x[x > 0], "aten.index.Tensor"),
    "a selection": (lambda x: x.masked_select(x > 0), "masked_select"),
    "places": (lambda x: x.nonzero(), "nonzero"),
    "distinct values": (lambda x: torch.unique(x), "_unique2"),
    "a size": (lambda x: F.interpolate(x[None, None], scale_factor=float(x.abs().sum())), "_local_scalar_dense"),
    "an index": (lambda x: x[:, : x.argmax()], "_local_scalar_dense"),
    "a list of tensors": (lambda x: torch.tensor([x[0, 0], x[0, 1]]) * 2, "tensor"),
    "a weight": (nn.Module, ""),
}


class ReadsWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6))

    def forward(self, x: Any) -> Any:
        return x * 2 if self.weight.max() > 0 else x


@pytest.mark.parametrize("name", UNANSWERED)
def test_what_depends_on_weights_or_data_is_one_error_with_its_line(name: str, trace: Any) -> None:
    function, operator = UNANSWERED[name]
    source = ReadsWeight() if name == "a weight" else function
    with pytest.raises(ModelError) as caught:
        trace(source, X, route="recorder")
    message = str(caught.value)
    assert "depends on values that only real weights and data give" in message
    assert "test_recorder.py:" in message
    assert operator in message
    assert "device='cpu'" in message
    assert message.count("\n") == 0


def test_the_error_names_the_line_that_asked(trace: Any) -> None:
    def asks(x: Any) -> Any:
        y = x * 2
        return y[y > 1]

    first = asks.__code__.co_firstlineno
    with pytest.raises(ModelError, match=rf"test_recorder\.py:{first + 2} in asks"):
        trace(asks, X)


def test_an_integer_input_without_values_says_how_to_give_them() -> None:
    def make(device: str) -> tuple[nn.Module, Any]:
        return Branch(), (X, torch.tensor(3, device="meta"))

    class Branch(nn.Module):
        def forward(self, x: Any, number: Any) -> Any:
            return x[: number.item()] * 2

    with pytest.raises(ModelError, match=r"made with device='cpu'"):
        trace_model(Model("test", "", 1, "float32", make))


def test_a_question_that_the_model_answers_by_catching_the_error_is_an_error_all_the_same(trace: Any) -> None:
    """With values it would not have come to the other path."""

    def function(x: Any) -> Any:
        try:
            return x * x.sum().item()
        except Exception:
            return x @ x.T

    with pytest.raises(
        ModelError, match=rf"depends on values .*test_recorder\.py:{function.__code__.co_firstlineno + 2} in"
    ):
        trace(function, X, route="recorder")


def test_an_error_of_the_model_keeps_its_name_and_line(trace: Any) -> None:
    def function(x: Any) -> Any:
        raise KeyError("no such modality")

    with pytest.raises(ModelError, match=r"raised KeyError: 'no such modality' .*test_recorder\.py:\d+ in function"):
        trace(function, X)
    with pytest.raises(ModelError, match=r"raised IndexError: .*test_recorder\.py:\d+ in <lambda>"):
        trace(lambda x, ids: torch.arange(4)[ids + 100], X, IDS, route="recorder")


# --- composite operators --------------------------------------------------------------------------------------------


def test_a_composite_operator_whose_shape_depends_on_values_is_recorded_in_parts(trace: Any) -> None:
    graph = trace(lambda x, n: x.repeat_interleave(n, 0) * 2, X, LENGTHS, route="recorder").graph
    assert [layer.op for layer in graph] == ["repeat_interleave", "index_select", "mul"]
    # Ten places, then the rows.
    assert graph["index_select"].reads == (("args_0", 96), ("repeat_interleave:out", 80))


def test_a_recurrence_over_packed_sequences_costs_what_its_rows_cost(trace: Any, count: Any) -> None:
    class Packed(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.layer = getattr(nn, kind)(6, 3, 2, batch_first=True, bidirectional=True)

        def forward(self, x: Any, lengths: Any) -> Any:
            rnn = nn.utils.rnn
            packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]

    for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        lengths = torch.tensor([2, 4])
        graph = trace(Packed(kind), SEQUENCE, lengths).graph
        # Six rows; two directions of a layer over 6 features and of one over the 6 of both directions.
        assert graph.total_macs == 6 * 2 * 2 * gates * 3 * (6 + 3) == count(Packed(kind), SEQUENCE, lengths).macs
        assert graph.route == "recorder"
        assert graph.total_params == graph.built_params
        assert shapes(graph) == [(2, 4, 6)]


# --- modules --------------------------------------------------------------------------------------------------------

ORIGINAL_CALL = nn.Module.__call__


class Fails(nn.Module):
    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.linear, self.fail = nn.Linear(6, 6), fail

    def forward(self, x: Any) -> Any:
        y = self.linear(x)
        if self.fail:
            raise ValueError("too dark")
        return y


class Catches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Sequential(Fails(True)), Fails(False)

    def forward(self, x: Any) -> Any:
        try:
            x = self.first(x)
        except ValueError:
            x = x + 1
        return self.second(x).relu()


def test_modules_are_known_after_an_exception_that_the_caller_caught(trace: Any) -> None:
    graph = trace(Catches(), X, route="recorder").graph
    assert [(layer.name, layer.module) for layer in graph] == [
        ("first.0.linear", "first.0.linear"), ("add", ""), ("second.linear", "second.linear"), ("relu", ""),
    ]  # fmt: skip
    assert [layer.name for layer in graph if layer.dead] == ["first.0.linear"]


@pytest.mark.parametrize("source", [Fails(True), lambda x: x if x.sum() > 0 else -x])
def test_a_failing_forward_leaves_nothing_behind(source: Any, trace: Any) -> None:
    from torch.nn.modules import module

    fast_path = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ModelError):
        trace(source, X)
    assert nn.Module.__call__ is ORIGINAL_CALL
    for hooks in (module._global_forward_hooks, module._global_forward_pre_hooks, module._global_backward_hooks):
        assert len(hooks) == 0
    assert torch.backends.mha.get_fastpath_enabled() is fast_path
    assert not torch.is_inference_mode_enabled()
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert torch._C._len_torch_function_stack() == 0
    assert type(nn.Linear(2, 2)(torch.randn(1, 2))) is torch.Tensor


def test_the_stack_of_modules_follows_calls() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    modules, seen = Modules(net), []
    for item in net.modules():
        item.register_forward_pre_hook(lambda *_: seen.append(modules.innermost))
    with modules.tracked():
        net(torch.randn(1, 2))
        net(torch.randn(1, 2))
    assert seen == [
        ("", ""), ("0", ""), ("0.0", ""), ("1", ""), ("", ""), ("0", "@1"), ("0.0", "@1"), ("1", "@1"),
    ]  # fmt: skip
    assert modules.innermost == ("", "")


# --- inputs and outputs ---------------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "left right")


class Takes(nn.Module):
    def forward(self, x: Any, *args: Any, scale: Any = None, **kwargs: Any) -> Any:
        leaves = _pytree.tree_leaves((x, args, scale, kwargs))
        return sum(item for item in leaves if isinstance(item, torch.Tensor))


@pytest.mark.parametrize(
    ("args", "kwargs", "names"),
    [
        ((X,), {}, ["x"]),
        (({"a": [X, {"b": X}], "c": (X,)},), {}, ["x_a_0", "x_a_1_b", "x_c_0"]),
        (({"a.b": X, "c d": X, 3: X, "E-f": X},), {}, ["x_a_b", "x_c_d", "x_3", "x_e_f"]),
        ((X, X, {"u": X}), {}, ["x", "args_0", "args_1_u"]),
        ((X, X), {"z": X, "scale": X}, ["x", "args_0", "z", "scale"]),
        ((), {"w": {"q": [X, X]}, "x": X}, ["w_q_0", "w_q_1", "x"]),
        ((Pair(X, X), None, 3), {"scale": 2.0}, ["x_left", "x_right"]),
        (({"a": X},), {"x_a": X}, ["x_a", "x_a_1"]),
    ],
)
def test_inputs_have_the_names_of_export(args: Any, kwargs: Any, names: list[str]) -> None:
    from mmworkload.tracing.program import export_program

    inputs = copy.deepcopy((args, kwargs))
    assert list(input_names(Takes(), *inputs)) == names
    program = export_program(make_fake(Takes(), *copy.deepcopy((args, kwargs))))
    exported = [
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind.name == "USER_INPUT" and type(spec.arg).__name__ == "TensorArgument"
    ]
    assert exported == names


def test_modalities_are_found_by_these_names(trace: Any) -> None:
    def function(**kwargs: Any) -> Any:
        return sum(value.sum() for value in kwargs.values())

    inputs = {name: torch.randn(2, 3) for name in ("pixel_values", "input_ids", "attention_mask", "lidar")}
    exported, recorded = (trace(function, route=route, **inputs).graph for route in ("export", "recorder"))
    assert recorded.inputs == exported.inputs
    assert [(item.modality, item.role) for item in recorded.inputs][:3] == [
        ("image", "modality"), ("text", "modality"), ("attention_mask", "mask"),
    ]  # fmt: skip


class Result:
    """Of a class that nobody knows: a number, a tensor, a list, and another such."""

    def __init__(self, *parts: Any) -> None:
        self.count, self.parts = len(parts), list(parts)


class Gives(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.other, self.dead = nn.Linear(6, 5), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        self.dead(x)
        return {"first": Result(self.linear(x), Result(self.other(x))), "module": self}


def test_results_in_objects_of_any_class_are_results(trace: Any) -> None:
    graph = trace(Gives(), X).graph
    assert graph.outputs == ("linear:out", "other:out")
    assert [(layer.name, layer.dead) for layer in graph] == [("dead", True), ("linear", False), ("other", False)]
    # The module is among the results, its weights are not.
    assert "linear.weight" not in graph.outputs


def test_a_constant_and_a_weight_may_be_results(trace: Any) -> None:
    class Constants(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.table = nn.Parameter(torch.randn(6)), torch.ones(3)

        def forward(self, x: Any) -> Any:
            return x * self.weight, self.weight, self.table

    for route in ("export", "recorder"):
        assert trace(Constants(), X, route=route).graph.outputs == ("mul:out", "weight", "table")


def test_an_input_in_an_object_of_any_class_is_a_tensor_of_the_graph(trace: Any) -> None:
    class Appends(nn.Module):
        def forward(self, x: Any, cache: Any) -> Any:
            cache.parts.append(x * 2)
            return torch.stack(cache.parts).sum(0)

    graph = trace(Appends(), X, Result(X + 1)).graph
    assert [layer.op for layer in graph] == ["mul", "stack", "sum"]
    assert graph["stack"].read_bytes == 2 * 96


# --- routes ---------------------------------------------------------------------------------------------------------


def test_the_graph_says_which_route_was_taken_and_why(trace: Any) -> None:
    exported = trace(lambda x: x * 2, X).graph
    assert (exported.route, exported.notes) == ("export", ())
    recorded = trace(lambda x, n: x[: n.item()] * 2, X, THREE)
    assert recorded.graph.route == "recorder"
    (note,) = recorded.graph.notes
    assert note.startswith("traced by recording one run: torch.export refuses it (")
    assert "\n" not in note
    assert len(note) < 300
    assert recorded.program is None
    # Asked for, it is no refusal.
    assert trace(lambda x: x * 2, X, route="recorder").graph.notes == ()


def test_export_alone_refuses_with_the_line(trace: Any) -> None:
    with pytest.raises(ModelError, match=r"cannot be exported: .*test_recorder\.py:\d+ in <lambda>"):
        trace(lambda x, n: x if n.sum() > 1 else -x, X, LENGTHS, route="export")


def test_every_layer_has_a_call_and_every_call_a_key_of_its_own(trace: Any) -> None:
    traced: Traced = trace(Twice(), X, route="recorder")
    assert traced.layer_of_call == {
        "block.0|aten.linear|1": "block.0",
        "block.1|aten.relu|1": "block.1",
        "block.0@1|aten.linear|1": "block.0@1",
        "block.1@1|aten.relu|1": "block.1@1",
        "block.0@2|aten.linear|1": "block.0@2",
        "block.1@2|aten.relu|1": "block.1@2",
    }
    parts = trace(lambda x, n: (x.repeat_interleave(n, 0), x.repeat_interleave(n, 0)), X, LENGTHS, route="recorder")
    assert list(parts.layer_of_call.values()) == [
        "repeat_interleave", "index_select", "repeat_interleave.1", "index_select.1",
    ]  # fmt: skip
    assert all(" > " in key for key in parts.layer_of_call)


def test_every_operator_is_a_layer_or_in_the_coverage(trace: Any) -> None:
    """The calls that a mode of this test sees in a real run are those of the graph."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from mmworkload.tracing.ledger import operator_name

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: collections.Counter[str] = collections.Counter()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen[operator_name(func)] += 1
            return func(*args, **(kwargs or {}))

    for source, inputs in (NETWORKS["state"], NETWORKS["LSTM"], NETWORKS["transformer"], NETWORKS["convolutions"]):
        graph = trace(source, *inputs, route="recorder").graph
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            module, copies = copy.deepcopy(source).eval(), copy.deepcopy(inputs)
            with torch.inference_mode(), Watch() as watch:
                module(*copies)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
        calls: collections.Counter[str] = collections.Counter()
        for entry in graph.coverage:
            calls[entry.operator] += entry.calls
        # Torch detaches what a mode makes from nothing; that is a view.
        assert calls.pop("aten.detach", 0) >= watch.seen.pop("aten.detach", 0)
        assert calls == watch.seen


# --- models of others -----------------------------------------------------------------------------------------------


@pytest.fixture
def copied_nowhere() -> type:
    """A module that cannot be copied: its tensors are replaced where they are."""
    import threading

    class Locked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock, self.linear = threading.Lock(), nn.Linear(6, 6)
            self.register_buffer("count", torch.tensor(2))

        def forward(self, x: Any) -> Any:
            with self.lock:
                return self.linear(x)[: x.shape[0] - 1] @ x.T

    return Locked


def test_a_module_that_cannot_be_copied_is_recorded_all_the_same(copied_nowhere: type) -> None:
    model = Model("test", "", 1, "float32", lambda device: (copied_nowhere(), (torch.randn(4, 6),)))
    exported, recorded = (trace_model(model, route).graph for route in ("export", "recorder"))
    assert recorded.layers == exported.layers
    assert recorded.total_macs == 4 * 36 + 3 * 6 * 4


def test_a_language_model_is_one_graph_on_both_routes(trace: Any) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=50, use_cache=False,
    )  # fmt: skip
    ids = torch.randint(0, 50, (1, 7))
    exported, recorded = (
        trace(transformers.LlamaForCausalLM(config), input_ids=ids, route=route).graph
        for route in ("export", "recorder")
    )
    assert recorded.total_macs == exported.total_macs
    products = [[(layer.name, layer.work) for layer in graph if layer.work] for graph in (exported, recorded)]
    assert products[0] == products[1]
    # Attention keeps its shared heads.
    assert [layer.op for layer in recorded].count("attention") == 2


def test_the_line_of_a_users_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "theirs.py"
    path.write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        y = x * 2\n"
        "        return y[y.sum(1) > 0]\n"
    )
    spec = importlib.util.spec_from_file_location("theirs_of_the_recorder", path)
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = theirs
    spec.loader.exec_module(theirs)
    with pytest.raises(ModelError, match=r"theirs\.py:5 in forward"):
        record(make_fake(theirs.M(), (X.to("meta"),), {}), "theirs", lambda name, tensor: None)
