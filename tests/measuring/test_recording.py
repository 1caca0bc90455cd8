"""A recorded model on a real device: it computes what eager execution does, and each of its layers gets its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils import _pytree  # noqa: E402

from mmworkload.measuring import measure  # noqa: E402
from mmworkload.measuring.attribution import NODE  # noqa: E402
from mmworkload.measuring.profiling import profiled  # noqa: E402
from mmworkload.measuring.program import bind  # noqa: E402
from mmworkload.measuring.recording import Recorded  # noqa: E402
from mmworkload.models import Model, resolve  # noqa: E402
from mmworkload.tracing import Traced, trace_model  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
CPU = torch.device("cpu")
QUICK = {"warmup": 1, "repeats": 3, "limit_s": 5.0}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for each other far longer than these small networks run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Selects(nn.Module):
    """Rows by a mask, a loop over a count, a branch, and a list of lengths: export refuses each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.step, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Any, mask: Any, count: Any, lengths: Any) -> Any:
        y = self.see(x[mask])
        for _ in range(count):
            y = self.step(y).relu()
        if lengths.sum() > 3:
            y = y.repeat_interleave(lengths, 0)
        return [self.head(part) for part in y.split(lengths.tolist())]


class Packed(nn.Module):
    """A recurrence over sequences of different length, which is recorded in its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)

    def forward(self, x: Any, lengths: Any) -> Any:
        rnn = nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0] * 2


class Counts(nn.Module):
    """A buffer that is updated decides how often a layer runs; an input is written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("steps", torch.tensor(1, device="cpu"))

    def forward(self, x: Any, state: Any) -> Any:
        self.steps += 1
        state.add_(x)
        for _ in range(self.steps.item()):
            x = self.linear(x)
        return x + state


class Remembers(nn.Module):
    """A tensor that is neither parameter nor buffer is written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.memory = torch.zeros(6)

    def forward(self, x: Any) -> Any:
        self.memory += self.linear(x).sum(0)
        return x + self.memory


class Catches(nn.Module):
    """Goes on after an exception in a module."""

    def __init__(self) -> None:
        super().__init__()
        self.fails, self.linear = nn.Sequential(nn.Linear(6, 6), nn.Linear(5, 6)), nn.Linear(6, 4)

    def forward(self, x: Any) -> Any:
        try:
            x = self.fails(x)
        except RuntimeError:
            x = x * 2
        return self.linear(x)


class Regions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.linear(x) @ self.linear(x).T
        return y.float().softmax(-1) @ x + torch.arange(6.0)


def tensors(*items: Any) -> tuple[Any, ...]:
    """On the CPU, with values, whatever the device context is."""
    return tuple(torch.tensor(item, device="cpu") for item in items)


RECORDED: dict[str, Callable[[], tuple[Any, Any]]] = {
    "selections": lambda: (Selects(), (torch.randn(5, 6), *tensors([True, False, True, True, False], 2, [2, 1, 3]))),
    "packed sequences": lambda: (Packed(), (torch.randn(3, 5, 6), *tensors([5, 2, 3]))),
    "a counter": lambda: (Counts(), (torch.randn(4, 6), torch.zeros(4, 6))),
    "a memory": lambda: (Remembers(), (torch.randn(4, 6),)),
    "an exception": lambda: (Catches(), (torch.randn(4, 6),)),
    "regions": lambda: (Regions(), (torch.randn(4, 6),)),
}


def model_of(name: str) -> Model:
    if name in RECORDED:
        return Model(name, "", 1, "float32", lambda device: RECORDED[name]())
    return resolve(name)


def bound(name: str) -> tuple[Traced, Any]:
    model = model_of(name)
    traced = trace_model(model, "recorder")
    return traced, bind(traced, model.build("cpu"), CPU)


def outputs(run: Any) -> list[Any]:
    with torch.inference_mode():
        return [item.clone() for item in _pytree.tree_leaves(run()()) if isinstance(item, torch.Tensor)]


NAMES = [
    *RECORDED,
    "av-mnist/concat",
    *(
        f"{MODELS}:{function}"
        for function in ("recurrent", "in_place", "regions", "full_precision", "encoder", "attention", "growing_list")
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_model_equals_eager_on_every_repeat(name: str) -> None:
    _, program = bound(name)
    assert isinstance(program, Recorded)
    expected = outputs(program.eager_run)
    assert expected
    for run in (program.graph_run, program.node_run, program.eager_run, program.node_run):
        torch.testing.assert_close(outputs(run), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_call_is_a_range_of_every_run(name: str) -> None:
    traced, program = bound(name)
    events = profiled(program.node_run, 2, CPU)
    ranges = [item.name.removeprefix(NODE) for item in events if item.name.startswith(NODE)]
    assert traced.layer_of_call
    for key in traced.layer_of_call:
        # Two runs are in ranges of their own, one before them warms up.
        assert ranges.count(key) == 3, key
    # Each layer has one call.
    assert sorted(traced.layer_of_call.values()) == sorted(layer.name for layer in traced.graph)


@pytest.mark.parametrize("name", ["selections", "packed sequences", "a counter", "av-mnist/concat"])
def test_every_layer_of_a_recorded_model_gets_its_kernels(name: str) -> None:
    model = model_of(name)
    traced = trace_model(model, "recorder")
    result = measure(model, traced=traced, **QUICK)
    assert [row.layer for row in result.layers] == [layer.name for layer in traced.graph]
    without = {row.layer for row in result.layers if not row.kernels}
    assert without == set()
    assert all(row.time.min_s >= 0 for row in result.layers)
    assert result.layer_sum_s > 0


def test_a_recorded_workload_has_the_rows_of_the_exported_one() -> None:
    model = resolve("av-mnist/concat")
    exported, recorded = (measure(model, traced=trace_model(model, route), **QUICK) for route in ("export", "recorder"))
    assert [(row.layer, row.stage, row.kernels > 0) for row in recorded.layers] == [
        (row.layer, row.stage, row.kernels > 0) for row in exported.layers
    ]
    assert recorded.kernel_difference == 0.0


def test_a_composite_operator_is_timed_in_its_parts() -> None:
    traced, program = bound("selections")
    parts = [key for key in traced.layer_of_call if " > " in key]
    assert {traced.graph[traced.layer_of_call[key]].op for key in parts} == {"repeat_interleave", "index_select"}
    seen = [item.name.removeprefix(NODE) for item in profiled(program.node_run, 1, CPU) if item.name.startswith(NODE)]
    whole = {key.partition(" > ")[0] for key in parts}
    assert whole
    assert not whole & set(seen)


def test_a_composite_operator_inside_another_is_taken_apart_too() -> None:
    """The outer one has no layer of its own."""
    linear = nn.Linear(6, 6)
    keys = {"a > b > c": "layer"}
    program = Recorded(linear, (torch.randn(2, 6),), _pytree.tree_flatten(((torch.randn(2, 6),), {}))[1], (), keys)
    assert program.composite == {"a", "a > b"}


def test_nothing_of_the_recording_is_left_behind() -> None:
    original = nn.Module.__call__
    _, program = bound("an exception")
    outputs(program.node_run)
    assert nn.Module.__call__ is original
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert not torch.is_inference_mode_enabled()
    assert torch.backends.mha.get_fastpath_enabled() is True


def test_a_model_that_fails_while_it_is_recorded_again_leaves_nothing_behind() -> None:
    _, program = bound("a counter")
    original = nn.Module.__call__
    program.module.linear = nn.Linear(7, 6)
    with torch.inference_mode(), pytest.raises(RuntimeError):
        program.node_run()()
    assert nn.Module.__call__ is original
    assert torch.backends.mha.get_fastpath_enabled() is True
