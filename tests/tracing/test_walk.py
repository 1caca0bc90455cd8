"""The walk over a program: in-place code, views, dead code, tied weights, unknown operators, and nothing lost."""

from __future__ import annotations

import operator
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmworkload.errors import ModelError, UnknownOperatorError
from mmworkload.graph import LayerGraph
from mmworkload.models import InputSpec
from mmworkload.tracing.walk import region_of, regions

X = torch.randn(4, 6)  # 96 bytes, 24 a row


def edges(graph: LayerGraph) -> set[tuple[str, str]]:
    return {(source, target) for source, target, _ in graph.to_networkx().edges(keys=True)}


# --- storages and versions ------------------------------------------------------------------------------------------


def test_an_in_place_operator_is_a_new_version_in_the_same_storage(trace: Any) -> None:
    def function(x: Any) -> Any:
        y = x * 2
        y.add_(1)
        return y.relu_()

    graph = trace(function, X).graph
    assert [layer.op for layer in graph] == ["mul", "add", "relu"]
    assert edges(graph) == {("mul", "add"), ("add", "relu")}
    written = [graph.tensors[name] for layer in graph for name, _ in layer.writes]
    assert {tensor.storage for tensor in written} == {"mul:out"}
    assert [tensor.kind for tensor in written] == ["activation"] * 3
    assert graph.outputs == ("relu:out",)
    assert all((layer.read_bytes, layer.write_bytes) == (96, 96) for layer in graph)


def test_a_write_through_a_view_is_an_edge_and_moves_only_the_row(trace: Any) -> None:
    def function(x: Any) -> Any:
        y = x * 2
        y[1].mul_(3)
        return y + 1

    graph = trace(function, X).graph
    assert edges(graph) == {("mul", "mul.1"), ("mul.1", "add")}
    row = graph["mul.1"]
    assert (row.reads, row.writes) == ((("mul:out", 24),), (("mul.1:out", 24),))
    assert graph.tensors["mul.1:out"].shape == (4, 6)
    assert graph["add"].reads == (("mul.1:out", 96),)


def test_overwriting_a_part_depends_on_the_rest_without_reading_it(trace: Any) -> None:
    def function(x: Any, row: Any) -> Any:
        y = x * 2
        y[1] = row
        return y

    graph = trace(function, X, X[0].clone()).graph
    copy = graph["copy"]
    assert dict(copy.reads) == {"args_1": 24, "mul:out": 0}
    assert copy.writes == (("copy:out", 24),)
    assert [layer.dead for layer in graph] == [False, False]


def test_overwriting_the_whole_depends_on_nothing_old(trace: Any) -> None:
    def function(x: Any) -> Any:
        y = x * 2
        y.copy_(x)
        return y

    graph = trace(function, X).graph
    assert edges(graph) == set()
    assert [(layer.name, layer.dead) for layer in graph] == [("mul", True), ("copy", False)]


def test_a_view_made_before_a_write_sees_it(trace: Any) -> None:
    def function(x: Any) -> Any:
        y = x + 0
        first = y[0]
        y.mul_(2)
        return first.exp()

    graph = trace(function, X).graph
    assert edges(graph) == {("add", "mul"), ("mul", "exp")}
    assert graph["exp"].reads == (("mul:out", 24),)


def test_parts_written_by_one_operator_are_added_up(trace: Any) -> None:
    def function(x: Any) -> Any:
        y = x * 2
        torch._foreach_add_([y[0], y[2]], 1.0)
        return y

    layer = trace(function, X).graph.layers[-1]
    assert sum(size for _, size in layer.writes) == 48
    assert len(layer.writes) == 1


def test_a_result_that_is_written_into_a_tensor_does_not_read_it(trace: Any) -> None:
    graph = trace(lambda x: torch.add(x, 1, out=torch.zeros(4, 6)), X).graph
    assert [(layer.op, layer.dead) for layer in graph] == [("fill", True), ("add", False)]
    assert graph["add"].reads == (("args_0", 96),)


def test_what_is_left_in_an_input_or_a_buffer_is_a_result(trace: Any) -> None:
    class Cache(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("keys", torch.zeros(8, 6))

        def forward(self, x: Any, state: Any) -> Any:
            self.keys[2:6].copy_(x)
            state.add_(1)
            return x.sum()

    graph = trace(Cache(), X, torch.zeros(3)).graph
    assert not any(layer.dead for layer in graph)
    row = graph["copy"]
    assert (dict(row.reads), row.writes) == ({"x": 96, "keys": 0}, (("copy:out", 96),))
    assert graph.tensors["keys"].kind == "constant"
    assert (graph.tensors["copy:out"].kind, graph.tensors["copy:out"].storage) == ("state", "keys")
    assert (graph.tensors["add:out"].kind, graph.tensors["add:out"].storage) == ("state", "state")


def test_tensors_of_one_name_stay_apart(trace: Any) -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.randn(6, 6))
            self.register_buffer("y", torch.zeros(6))

        def forward(self, x: Any, y: Any) -> Any:
            return x @ self.x + self.y + y

    graph = trace(Same(), X, torch.zeros(6)).graph
    assert dict(graph["matmul"].reads) == {"x": 96, "x:weight": 144}
    assert [item.tensor for item in graph.inputs] == ["x", "y"]
    assert {name: item.kind for name, item in graph.tensors.items() if ":out" not in name} == {
        "x": "input", "y": "input", "x:weight": "weight", "y:constant": "constant",
    }  # fmt: skip
    assert graph.total_params == 36


# --- bytes ----------------------------------------------------------------------------------------------------------


def test_expanded_and_sliced_tensors_count_the_bytes_they_have(trace: Any) -> None:
    graph = trace(lambda x, row: x + row.expand(4, 6) + x[:2].repeat(2, 1), X, X[0].clone()).graph
    assert dict(graph["add"].reads) == {"args_0": 96, "args_1": 24}
    assert dict(graph["repeat"].reads) == {"args_0": 48}
    # Of a column that stands for a whole tensor only the column is in memory.
    column = trace(lambda x: x[:, :1].expand(4, 6) * 2, X).graph
    assert dict(column["mul"].reads) == {"args_0": 16}


def test_outputs_of_one_operator_are_tensors_of_their_own(trace: Any) -> None:
    def function(x: Any) -> Any:
        values, indices = x.max(1)
        return values * 2, indices

    graph = trace(function, X).graph
    assert graph["max"].writes == (("max:out.0", 16), ("max:out.1", 32))
    assert graph["mul"].reads == (("max:out.0", 16),)
    assert graph.outputs == ("mul:out", "max:out.1")


def test_a_list_of_views_is_read_part_by_part(trace: Any) -> None:
    graph = trace(lambda x: [part.relu() for part in x.split(1)], X).graph
    assert [layer.reads for layer in graph] == [(("args_0", 24),)] * 4
    assert len(graph.outputs) == 4


def test_an_output_that_is_an_input_is_named_as_such(trace: Any) -> None:
    graph = trace(lambda x: (x.view(24), x), X).graph
    assert (len(graph), graph.outputs) == (0, ("args_0",))


# --- dead code, tied weights ----------------------------------------------------------------------------------------


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.unread = nn.Linear(6, 5), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        self.unread(x).relu()
        return self.used(x)


def test_dead_layers_are_marked_and_their_macs_counted(trace: Any, count: Any) -> None:
    graph = trace(Branches(), X).graph
    assert {layer.name: layer.dead for layer in graph} == {"unread": True, "relu": True, "used": False}
    assert graph.total_macs == 4 * 6 * 5 + 4 * 6 * 2 == count(Branches(), X).macs
    # What this forward uses, and what the model has.
    assert graph.total_params == 35 + 14
    assert graph.built_params == 35 + 21 + 14


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Any) -> Any:
        return self.head(self.embedding(tokens).relu())


def test_tracing_leaves_the_callers_random_numbers_alone() -> None:
    from mmworkload.models import Model
    from mmworkload.tracing import trace_model

    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    trace_model(Model("drawn", "", 1, "float32", lambda device: (nn.Linear(3, 2), (torch.randn(4, 3),))))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_tied_weights_are_one_storage() -> None:
    from mmworkload.models import Model
    from mmworkload.tracing import trace_model

    model = Model("tied", "", 1, "float32", lambda device: (Tied(), (torch.zeros(2, 3, dtype=torch.long),)))
    graph = trace_model(model).graph
    assert graph.total_params == graph.built_params == 60
    assert dict(graph["embedding"].reads)["embedding.weight"] == 6 * 24
    assert dict(graph["head"].reads)["embedding.weight"] == 240


def test_a_module_that_is_called_twice_is_two_layers_with_one_weight(trace: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return self.block(self.block(x))

    graph = trace(Twice(), X).graph
    assert [layer.name for layer in graph] == ["block", "block@1"]
    assert (graph.total_macs, graph.total_params) == (2 * 4 * 36, 42)


def test_names_come_from_module_paths_and_operator_families(trace: Any) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return (self.project(x).relu_() + x).relu_()

    net = nn.Sequential(Block(), Block())
    names = [layer.name for layer in trace(net, X).graph]
    assert names == [f"{i}{part}" for i in (0, 1) for part in (".project", ":relu", ":add", ":relu.1")]


# --- nothing is lost ------------------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Views, checks, in-place code, tuples, regions, constants and an operator without output."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.lstm = nn.Linear(6, 6), nn.LSTM(6, 6, batch_first=True)
        self.dropout = nn.Dropout()

    def forward(self, x: Any) -> Any:
        y = self.dropout(self.linear(x).view(2, 2, 6).transpose(0, 1))
        with torch.autocast("cpu", enabled=False):
            y = self.lstm(y)[0]
            with torch.enable_grad():
                y = self.linear(y) * torch.tensor([1.0] * 6)
        torch._assert(y.shape[0] == 2, "two")
        a, b = y.reshape(4, 6).split(3, dim=1)
        a.mul_(torch.tensor(2.0))
        return torch.cat([a, b.contiguous()], 1).to(torch.float32)


def calls_of(traced: Any) -> Iterator[tuple[str, Any]]:
    """Every call of the program, those inside regions too, by a walk of this test's own."""

    def inside(module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for node in module.graph.nodes:
            if node.op != "call_function":
                continue
            holders = [arg for arg in node.args if getattr(arg, "op", "") == "get_attr"]
            if "wrap_with" in str(node.target):
                (holder,) = holders
                yield from inside(getattr(module, holder.target), f"{prefix}{node.name}/")
            elif node.target is not operator.getitem:
                yield f"{prefix}{node.name}", node

    return inside(traced.program.graph_module, "")


def test_every_call_is_a_layer_or_is_in_the_coverage(trace: Any) -> None:
    traced = trace(Everything(), X)
    keys = [key for key, _ in calls_of(traced)]
    assert any("/" in key for key in keys)
    assert set(traced.layer_of_call) <= set(keys)
    ignored = [item for item in traced.graph.coverage if item.treatment == "ignored"]
    assert len(traced.layer_of_call) + sum(item.calls for item in ignored) == len(keys)
    assert all(item.reason for item in ignored)
    lowered = [item for item in traced.graph.coverage if item.treatment == "lowered"]
    assert sum(item.calls for item in lowered) == len(traced.layer_of_call) == len(traced.graph)
    assert sum(item.macs for item in lowered) == traced.graph.total_macs
    assert sum(item.bytes for item in lowered) == sum(layer.bytes for layer in traced.graph)


def test_layers_inside_regions_are_layers_like_any_other(trace: Any, count: Any) -> None:
    traced = trace(Everything(), X)
    assert traced.graph.total_macs == count(Everything(), X).macs == 2 * 144 + 4 * 4 * 6 * 12
    wrapped = [node for _, owner, node in regions(traced.program.graph_module) if region_of(owner, node) is not None]
    assert wrapped
    assert traced.graph.total_params == 42 + 4 * 6 * 12 + 48
    assert ("lstm", "linear@1") in edges(traced.graph)
    assert not any(layer.dead for layer in traced.graph if layer.op in ("linear", "lstm", "cat"))


def test_training_dropout_is_work_and_inference_dropout_is_not(trace: Any) -> None:
    for training, ops in ((True, ["add", "dropout", "mul"]), (False, ["add", "mul"])):
        for in_place in (True, False):

            def function(x: Any, training: bool = training, in_place: bool = in_place) -> Any:
                return F.dropout(x + 1, 0.5, training=training, inplace=in_place) * 2

            assert [layer.op for layer in trace(function, X).graph] == ops


def test_a_check_that_computes_is_a_layer(trace: Any) -> None:
    graph = trace(lambda x: torch.where(torch._is_all_true(x > 0), x, -x), X).graph
    assert ("is_all_true", "where") in edges(graph)
    assert not any(layer.dead for layer in graph)


def test_a_number_made_in_the_forward_is_a_constant_and_not_unknown(trace: Any) -> None:
    graph = trace(lambda x: x.masked_fill(x > 0, float("-inf")) * torch.tensor(2.0), X).graph
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []
    assert "constant" in {item.kind for item in graph.tensors.values()}


# --- unknown operators ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def custom() -> Iterator[Any]:
    """Two operators that no lowering knows: one that makes a tensor, one that writes its argument."""
    with torch.library._scoped_library("mmworkload_test", "FRAGMENT") as library:
        library.define("mystery(Tensor x, Tensor y) -> Tensor")
        library.define("scribble(Tensor(a!) x) -> ()")
        for kind in ("CPU", "Meta"):
            library.impl("mystery", lambda x, y: x.new_empty(x.shape), kind)
            library.impl("scribble", lambda x: None, kind)
        yield torch.ops.mmworkload_test


class Mysterious(nn.Module):
    def __init__(self, ops: Any) -> None:
        super().__init__()
        self.inner = Inner(ops)
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        return self.linear(self.inner(self.inner(x)))


class Inner(nn.Module):
    def __init__(self, ops: Any) -> None:
        super().__init__()
        self.ops = ops

    def forward(self, x: Any) -> Any:
        y = self.ops.mystery(x, x[:2])
        self.ops.scribble(y[0])
        return y

    def __deepcopy__(self, memo: Any) -> Inner:
        # Operators cannot be copied.
        return self


def test_an_unknown_operator_is_a_layer_with_its_bytes_and_stands_in_the_coverage(trace: Any, custom: Any) -> None:
    graph = trace(Mysterious(custom), X).graph
    unknown = [item for item in graph.coverage if item.treatment == "unknown"]
    assert [(item.operator, item.module, item.calls, item.macs) for item in unknown] == [
        ("mmworkload_test.mystery", "inner", 2, 0),
        ("mmworkload_test.scribble", "inner", 2, 0),
    ]
    # The argument is read once, x[:2] with it, and an output of its size is written; one row is read and written.
    assert [item.bytes for item in unknown] == [2 * (96 + 96), 2 * (24 + 24)]
    assert all(item.reason == "no lowering is registered" for item in unknown)
    names = [layer.name for layer in graph]
    assert names[:2] == ["inner:unknown:mmworkload_test.mystery", "inner:unknown:mmworkload_test.scribble"]
    assert (names[0], names[1]) in edges(graph)
    assert not any(layer.dead for layer in graph)


def test_strict_names_operator_and_module(trace: Any, custom: Any) -> None:
    from mmworkload.sources import require_known

    graph = trace(Mysterious(custom), X).graph
    with pytest.raises(UnknownOperatorError) as caught:
        require_known(graph)
    message = str(caught.value)
    assert "mmworkload_test.mystery in 'inner' (2 calls)" in message
    assert "mmworkload_test.scribble in 'inner' (2 calls)" in message
    known = trace(nn.Linear(6, 6), X).graph
    assert require_known(known) is known


# --- what cannot be traced ------------------------------------------------------------------------------------------


def test_a_branch_on_values_is_one_error_that_names_the_line(trace: Any) -> None:
    def function(x: Any) -> Any:
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(ModelError, match=r"depends on values .*test_walk\.py:\d+ in function"):
        trace(function, X)


def test_a_shape_that_depends_on_values_is_one_error(trace: Any) -> None:
    with pytest.raises(ModelError, match=r"depends on values .*test_walk\.py:\d+ in <lambda>"):
        trace(lambda x: x[x > 0] * 2, X)


def test_a_file_in_a_folder_called_as_we_are_is_still_the_users(tmp_path: Path) -> None:
    from mmworkload.models import resolve
    from mmworkload.tracing import trace_model

    folder = tmp_path / "mmworkload"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.nonexistent()\n"
        "def build():\n"
        "    return M(), (torch.randn(2),)\n"
    )
    with pytest.raises(ModelError, match=r"mmworkload/mine\.py:4 in forward"):
        trace_model(resolve(f"{folder / 'mine.py'}:build"))


# --- no weights -----------------------------------------------------------------------------------------------------


def test_the_users_module_is_left_as_it_is() -> None:
    from mmworkload.tracing.program import export_program, make_fake

    module = nn.LSTM(3, 4, num_layers=2)
    before = {name: (id(item), item.clone()) for name, item in module.named_parameters()}
    program = export_program(make_fake(module, (torch.randn(5, 2, 3),), {}))
    assert len(list(program.graph.nodes)) > 8
    for name, item in module.named_parameters():
        assert id(item) == before[name][0]
        assert torch.equal(item, before[name][1])
    assert module(torch.randn(5, 2, 3))[0].shape == (5, 2, 4)


def test_a_module_that_cannot_be_copied_is_traced_all_the_same(trace: Any) -> None:
    import threading

    from mmworkload.tracing.program import export_program, make_fake

    class Locked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock, self.gru = threading.Lock(), nn.GRU(3, 4)

        def forward(self, x: Any) -> Any:
            with self.lock:
                return self.gru(x)[0]

    program = export_program(make_fake(Locked(), (torch.randn(5, 2, 3),), {}))
    assert "gru.input" in str(program.graph)


LLAMA = """
import torch
from torch import nn
from torch.nn import functional as F

WIDTH, INNER, LAYERS, HEADS, KV, TOKENS, VOCABULARY = 8192, 22016, 48, 64, 8, 256, 32016


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(WIDTH))

    def forward(self, x):
        return F.rms_norm(x, (WIDTH,), self.weight)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, WIDTH // HEADS * KV, bias=False) for _ in range(2))

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2) for p in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.attention = Norm(), Norm(), Attention()
        self.gate, self.up = (nn.Linear(WIDTH, INNER, bias=False) for _ in range(2))
        self.down = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = Norm(), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def build(batch=1):
    return Llama(), {"tokens": torch.zeros(batch, TOKENS, dtype=torch.long)}
"""

REPORT = r"""
import json, re, sys
from mmworkload.models import resolve
from mmworkload.tracing import trace_model

graph = trace_model(resolve(sys.argv[1], dtype="bfloat16")).graph
# Not ru_maxrss, which starts at that of the process it was forked from, even after exec.
peak = int(re.findall(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[0]) * 1024
print(json.dumps([peak, graph.total_params, graph.total_macs, graph.totals().useful_macs, len(graph.problems)]))
"""


@pytest.mark.slow
def test_a_model_of_34_billion_parameters_is_traced_without_its_weights(tmp_path: Path) -> None:
    import json

    (tmp_path / "llama.py").write_text(LLAMA)
    (tmp_path / "report.py").write_text(REPORT)
    command = [sys.executable, str(tmp_path / "report.py"), f"{tmp_path / 'llama.py'}:build"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    peak, params, macs, useful, problems = json.loads(done.stdout)
    assert peak < 1.5e9
    width, inner, kv, tokens, words = 8192, 22016, 1024, 256, 32016
    block = 2 * width * width + 2 * width * kv + 3 * width * inner
    assert params == 48 * (block + 2 * width) + width + 2 * words * width
    attention = 2 * tokens * tokens * width
    assert macs == 48 * (tokens * block + attention) + tokens * width * words
    assert macs - useful == 48 * 2 * width * (tokens * (tokens - 1) // 2)
    # q and o, k and v, gate and up, down, scores, values, head.
    assert problems == 7


# --- inputs ---------------------------------------------------------------------------------------------------------


def test_inputs_are_declared_or_guessed_from_their_names(trace: Any) -> None:
    def function(**kwargs: Any) -> Any:
        return sum(value.sum() for value in kwargs.values())

    names = ("pixel_values", "input_ids", "attention_mask", "position_ids", "past_key_values", "lidar")
    graph = trace(function, **{name: torch.randn(2, 3) for name in names}).graph
    assert [(item.tensor, item.modality, item.role) for item in graph.inputs] == [
        ("pixel_values", "image", "modality"),
        ("input_ids", "text", "modality"),
        ("attention_mask", "attention_mask", "mask"),
        ("position_ids", "position_ids", "position"),
        ("past_key_values", "past_key_values", "state"),
        ("lidar", "lidar", "modality"),
    ]
    spec = InputSpec("position", (2, 3), modality="pose")
    declared = trace(lambda position: position.relu(), specs=(spec,), position=torch.randn(2, 3)).graph
    assert [(item.modality, item.role, item.shape) for item in declared.inputs] == [("pose", "modality", (2, 3))]


def test_an_input_that_nothing_reads_is_still_an_input(trace: Any) -> None:
    graph = trace(lambda x, y: x + 1, X, X[0]).graph
    assert [(item.tensor, item.shape) for item in graph.inputs] == [("args_0", (4, 6)), ("args_1", (6,))]
    assert graph.tensors["args_1"].bytes == 24
