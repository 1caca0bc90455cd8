"""Memory of a forward pass: graphs made by hand, and what torch's allocator says of the same network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload.arch import Architecture, from_dict
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Placement, Tensor, TensorKind
from mmworkload.simulating.footprint import GIB, Fit, MemoryNeed, fits, memory_need


def layer(name: str, reads: dict[str, int], writes: dict[str, int], placement: Placement = "device") -> Layer:
    return Layer(name, "op", reads=tuple(reads.items()), writes=tuple(writes.items()), placement=placement)


def tensor(name: str, size: int, kind: TensorKind, storage: str = "", dtype: str = "float32", bits: int = 32) -> Tensor:
    return Tensor(name, (size,), dtype, bits, kind, storage or name)


# Bytes: x 100, w 7; a 40, b 30, c 50, d 20.
DIAMOND = (
    layer("one", {"x": 100, "w": 7}, {"a": 40}),
    layer("left", {"a": 40}, {"b": 30}),
    layer("right", {"a": 40}, {"c": 50}),
    layer("join", {"b": 30, "c": 50}, {"d": 20}),
)


def test_a_tensor_lives_from_its_writer_to_its_last_reader(make_graph: Any) -> None:
    need = memory_need(make_graph(*DIAMOND, weights=("w",), outputs=("d",)))
    # one: a = 40. left: a + b = 70. right: a + b + c = 120. join: b + c + d = 100.
    assert (need.peak_activation_bytes, need.peak_layer) == (120, "right")
    assert (need.weights_bytes, need.input_bytes, need.state_bytes, need.constant_bytes) == (7, 100, 0, 0)
    assert need.total_bytes == 7 + 100 + 120


def test_what_the_model_returns_lives_to_the_end(make_graph: Any) -> None:
    need = memory_need(make_graph(*DIAMOND, weights=("w",), outputs=("a", "d")))
    # join: a too.
    assert (need.peak_activation_bytes, need.peak_layer) == (40 + 30 + 50 + 20, "join")


def test_what_nobody_reads_dies_at_once(make_graph: Any) -> None:
    layers = (
        layer("one", {"x": 1}, {"a": 10, "aside": 1000}),
        layer("two", {"a": 10}, {"b": 10}),
    )
    need = memory_need(make_graph(*layers, outputs=("b",)))
    assert (need.peak_activation_bytes, need.peak_layer) == (1010, "one")


@pytest.mark.parametrize(("storage", "peak"), [("a", 8 + 2), ("a2", 8 + 8)])
def test_an_operator_in_place_takes_no_memory(make_graph: Any, storage: str, peak: int) -> None:
    layers = (layer("one", {"x": 1}, {"a": 8}), layer("relu", {"a": 8}, {"a2": 8}), layer("two", {"a2": 8}, {"b": 2}))
    tensors = {"a2": Tensor("a2", (8,), "uint8", 8, "activation", storage)}
    assert memory_need(make_graph(*layers, tensors=tensors, outputs=("b",))).peak_activation_bytes == peak


def test_memory_counts_once_by_storage_and_by_its_first_use(make_graph: Any) -> None:
    layers = (
        layer("embed", {"table": 4, "x": 4}, {"a": 40}),
        layer("write", {"a": 40, "cache": 0}, {"cache2": 8}),
        layer("head", {"cache2": 80, "tied": 400}, {"out": 20}),
    )
    tensors = {
        item.name: item
        for item in (
            tensor("table", 100, "weight"),
            tensor("tied", 100, "weight", "table"),
            tensor("x", 2, "input", dtype="int64", bits=64),
            tensor("a", 10, "activation"),
            tensor("cache", 20, "constant"),
            tensor("cache2", 20, "state", "cache"),
            tensor("out", 5, "activation"),
        )
    }
    graph = make_graph(*layers, tensors=tensors, outputs=("out",))
    need = memory_need(graph)
    assert need == MemoryNeed(
        weights_bytes=400,
        unread_bytes=0,
        constant_bytes=80,
        input_bytes=16,
        state_bytes=0,
        peak_activation_bytes=40,
        peak_layer="embed",
        batch=1,
    )
    # Half the bits: floats take half, integers what they took.
    half = memory_need(graph, 16)
    assert (half.weights_bytes, half.constant_bytes, half.input_bytes, half.peak_activation_bytes) == (200, 40, 16, 20)
    fresh = {**tensors, "cache": replace(tensors["cache"], kind="state")}
    kept = memory_need(make_graph(*layers, tensors=fresh, outputs=("out",)))
    assert (kept.state_bytes, kept.constant_bytes) == (80, 0)


def test_parameters_that_no_layer_reads_are_there_too(make_graph: Any) -> None:
    layers = (layer("one", {"w": 40, "x": 4}, {"a": 4}),)
    tensors = {"w": tensor("w", 10, "weight"), "x": tensor("x", 1, "input"), "a": tensor("a", 1, "activation")}
    graph = replace(make_graph(*layers, tensors=tensors, outputs=("a",)), built_params=25)
    assert memory_need(graph).unread_bytes == 15 * 4
    assert memory_need(graph, 16).unread_bytes == 15 * 2
    assert memory_need(graph).total_bytes == 40 + 60 + 4 + 4


def test_what_the_host_computes_is_an_input_of_the_device(make_graph: Any) -> None:
    layers = (
        layer("decode", {"raw": 1000}, {"x": 10}, "host"),
        layer("one", {"x": 10}, {"a": 5}),
    )
    need = memory_need(make_graph(*layers, outputs=("a",)))
    assert (need.input_bytes, need.peak_activation_bytes, need.peak_layer) == (10, 5, "one")


def test_a_graph_without_layers_needs_nothing() -> None:
    assert memory_need(LayerGraph("none", "none", 4, "float32", (), {})) == MemoryNeed(0, 0, 0, 0, 0, 0, "", 4)


def with_memory(spec: dict[str, Any], gib: float | None, unified: bool = False) -> Architecture:
    dram = {**spec["levels"]["dram"], "capacity_gib": gib}
    return from_dict({**spec, "levels": {**spec["levels"], "dram": dram}, "unified_memory": unified})


NEED = MemoryNeed(
    weights_bytes=GIB,
    unread_bytes=0,
    constant_bytes=0,
    input_bytes=GIB,
    state_bytes=0,
    peak_activation_bytes=4 * GIB,
    peak_layer="conv",
    batch=80,
)


def test_a_batch_that_fits_says_its_share(spec: dict[str, Any]) -> None:
    found = fits(NEED, with_memory(spec, 8))
    # 7 GiB are left beside the weights, and 80 samples take 5.
    assert found == Fit(6 * GIB, 8 * GIB, 0.75, False, 112)
    assert found.fits is True
    assert str(found) == "6 GiB of 8 GiB (75.0%)"


def test_a_batch_that_no_longer_fits_is_seen(spec: dict[str, Any]) -> None:
    found = fits(NEED, with_memory(spec, 4, unified=True))
    assert (found.fits, found.share, found.largest_batch) == (False, 1.5, 48)
    text = "6 GiB of 4 GiB (150.0%), does not fit (largest batch that does: 48)"
    assert str(found) == f"{text}; the host's share of this memory is unknown"
    assert str(fits(NEED, with_memory(spec, 0.5))) == "6 GiB of 512 MiB (1200.0%), does not fit at any batch"


def test_without_a_capacity_nothing_is_claimed(spec: dict[str, Any]) -> None:
    found = fits(NEED, with_memory(spec, None))
    assert (found.fits, found.capacity_bytes, found.share, found.largest_batch) == (None, None, None, None)
    assert str(found) == "6 GiB of a memory of unknown size"


def test_weights_alone_give_no_batch(spec: dict[str, Any]) -> None:
    need = replace(NEED, input_bytes=0, peak_activation_bytes=0)
    assert fits(need, with_memory(spec, 8)).largest_batch is None


def test_a_chain_needs_what_torch_allocates() -> None:
    """512 x 512 floats, 1 MiB: in a chain two are alive at a time, and torch's allocator records the same."""
    torch = pytest.importorskip("torch")
    from mmworkload.measuring.memory import peak_memory
    from mmworkload.measuring.program import bind
    from mmworkload.models import resolve
    from mmworkload.tracing import trace_model

    model = resolve(f"{Path(__file__).parents[1] / 'measuring' / 'user_models.py'}:three_relus")
    program = trace_model(model)
    need = memory_need(program.graph)
    taken = peak_memory(bind(program, model.build("cpu"), torch.device("cpu")), torch.device("cpu"))
    assert need.peak_activation_bytes == taken["intermediates"] == 2 * 2**20
    assert need.input_bytes == taken["data"] == 2**20
    assert need.total_bytes == taken["total"]


def test_model_and_data_of_a_workload_are_those_that_torch_holds() -> None:
    """Parameters, running statistics and inputs of av-mnist, as tests/measuring/test_memory.py derives them."""
    pytest.importorskip("torch")
    from mmworkload.verbs import trace

    need = memory_need(trace("av-mnist/concat"))
    widths = [6 * 2**i for i in range(4)] + [6 * 2**i for i in range(6)]
    assert need.weights_bytes + need.unread_bytes == 4 * 260922
    # A batch norm in inference does not read its counter.
    assert need.constant_bytes == 8 * sum(widths)
    assert need.input_bytes == 4 * (28 * 28 + 112 * 112)
    twice = memory_need(trace("av-mnist/concat", batch=2))
    assert twice.per_batch_bytes == 2 * need.per_batch_bytes
    assert twice.fixed_bytes == need.fixed_bytes
