"""Each planted disagreement gets its own cause, on the device itself and on an accelerator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload.simulating.engine import simulate
from mmworkload.validating import compare
from mmworkload.validating.device import bound, describes

# On the device of the fixtures, with 10 us a kernel:
ROWS = [
    ("dense", "Gemm", "encoder/x", 400, 0),  # 0.64 ms of arithmetic
    ("copy", "Elewise", "encoder/y", 0, 2_000_000),  # 1.6 ms of memory
    ("tiny", "Relu", "fusion", 0, 10),  # a start of 10 us
]
AGREED = {"dense": 0.65e-3, "copy": 1.61e-3, "tiny": 1e-5}


def kinds(graph: Any, device: Any, taken: Any) -> dict[str, tuple[str, str]]:
    """Layer to the kind and the evidence of its cause."""
    found = compare(graph, taken, simulate(graph, device, "roofline", cache=False), device)
    assert found.same_device
    return {entry.layer: (cause.kind, entry.text) for cause in found.causes for entry in cause.layers}


@pytest.fixture
def graph(chain: Any) -> Any:
    return chain("one", ROWS)


def test_layers_that_agree_have_no_cause(graph: Any, measured: Any, device: Any) -> None:
    assert kinds(graph, device, measured(graph, {"dense": 0.8e-3, "copy": 1.4e-3, "tiny": 1e-5})) == {}


def test_a_layer_below_the_peak(graph: Any, measured: Any, device: Any) -> None:
    found = kinds(graph, device, measured(graph, {**AGREED, "dense": 4e-3}))

    assert found["dense"] == ("below-peak", "16.00 GMAC/s, 16.0 % of the peak")
    assert "copy" not in found


def test_a_layer_below_the_bandwidth(graph: Any, measured: Any, device: Any) -> None:
    kind, text = kinds(graph, device, measured(graph, {**AGREED, "copy": 16e-3}))["copy"]

    assert (kind, text) == ("memory-bound", "1.00 GB/s of 10.0 GB/s")


def test_a_layer_of_short_kernels(graph: Any, measured: Any, device: Any) -> None:
    taken = measured(graph, {**AGREED, "tiny": 25e-6 * 100})
    layers = [replace(item, kernels=100) if item.layer == "tiny" else item for item in taken.layers]

    found = kinds(graph, device, replace(taken, layers=tuple(layers)))
    assert found["tiny"] == ("launch-bound", "100 operators of 25.0 µs on average; starting one costs 10.0 µs")


def test_a_layer_of_one_short_kernel_has_no_average(graph: Any, measured: Any, device: Any) -> None:
    taken = measured(graph, {**AGREED, "tiny": 25e-6})
    layers = [replace(item, kernels=1) if item.layer == "tiny" else item for item in taken.layers]

    found = kinds(graph, device, replace(taken, layers=tuple(layers)))
    assert found["tiny"] == ("launch-bound", "1 operator of 25.0 µs; starting one costs 10.0 µs")


def test_no_mean_is_below_what_is_said_of_the_others(chain: Any, measured: Any) -> None:
    """Of 35,302 operators two take long: a tenth of all take no more than those of the layer that has the most."""
    graph = chain(
        "one", [("many", "Relu", "fusion", 0, 1), ("first", "Relu", "fusion", 0, 1), ("second", "Relu", "head", 0, 1)]
    )
    taken = measured(graph, {"many": 35_300 * 373e-6, "first": 1.67e-3, "second": 1.7e-3})
    counts = {"many": 35_300, "first": 1, "second": 1}
    taken = replace(taken, layers=tuple(replace(item, kernels=counts[item.layer]) for item in taken.layers))

    eyeriss = architectures.load("eyeriss_like")
    found = compare(graph, taken, simulate(graph, eyeriss, "roofline", cache=False), eyeriss)
    texts = [entry.text for cause in found.causes for entry in cause.layers if cause.kind == "launch-bound"]
    assert texts == ["35300 operators of 373 µs on average; a tenth of all operators take no more than 373 µs"]


def test_more_kernels_than_charged_is_said_of_a_gpu_only(graph: Any, measured: Any, device: Any) -> None:
    taken = measured(graph, {**AGREED, "tiny": 0.5e-3})
    taken = replace(
        taken, layers=tuple(replace(item, kernels=5) if item.layer == "tiny" else item for item in taken.layers)
    )

    assert kinds(graph, device, taken)["tiny"][0] != "more-kernels"
    on_gpu = kinds(graph, device, replace(taken, device="cuda"))
    assert on_gpu["tiny"] == ("more-kernels", "5 kernels run, 1 charged")


def test_a_layer_in_cache_and_one_above_the_peak(chain: Any, measured: Any, device: Any) -> None:
    graph = chain("one", [("dense", "Gemm", "encoder/x", 400, 0), ("copy", "Elewise", "encoder/y", 0, 100_000)])

    found = kinds(graph, device, measured(graph, {"dense": 1e-4, "copy": 2e-5}))
    assert found["copy"] == ("in-cache", "781 KiB at 40.0 GB/s; DRAM has 10.0 GB/s")
    assert found["dense"] == ("peak-too-low", "640.00 GMAC/s, 640.0 % of the peak")


def test_a_layer_without_kernels_and_other_kernels(graph: Any, measured: Any, device: Any) -> None:
    taken = measured(graph, {"dense": 0.65e-3}, kernel_difference=0.4)
    found = compare(graph, taken, simulate(graph, device, "roofline", cache=False), device)

    by_kind = {cause.kind: cause for cause in found.causes}
    assert by_kind["without-kernels"].layers[0].layer == "copy"
    assert "40 % of the operator time" in by_kind["other-kernels"].layers[0].text
    assert by_kind["other-kernels"].points == 0.4
    assert all(cause.advice for cause in found.causes)


def test_the_costliest_cause_is_first(graph: Any, measured: Any, device: Any) -> None:
    taken = measured(graph, {**AGREED, "dense": 4e-3, "copy": 160e-3})
    causes = compare(graph, taken, simulate(graph, device, "roofline", cache=False), device).causes

    assert [cause.kind for cause in causes][:2] == ["memory-bound", "below-peak"]
    # Seconds that the model lacks over all measured ones.
    assert causes[0].layers[0].points == pytest.approx(-(160e-3 - 1.61e-3) / 164.01e-3, rel=0.01)


def test_on_an_accelerator_shares_are_compared(graph: Any, measured: Any, device: Any) -> None:
    eyeriss = architectures.load("eyeriss_like")
    found = compare(graph, measured(graph, AGREED), simulate(graph, eyeriss, "roofline", cache=False), device)

    assert not found.same_device
    assert "shares of time" in found.meaning
    every = found.errors[0]
    row = next(item for item in found.layers if item.layer == every.worst_row)
    assert row.sides.simulated_share is not None
    assert row.sides.measured_share is not None
    assert every.worst == pytest.approx(abs(row.sides.simulated_share / row.sides.measured_share - 1))


def test_what_a_measured_layer_waits_for(graph: Any, device: Any) -> None:
    assert bound(graph["dense"], device, 1e-3, 1) == "compute"
    assert bound(graph["copy"], device, 2e-3, 1) == "memory"
    assert bound(graph["tiny"], device, 1e-3, 50) == "launch"
    assert bound(graph["tiny"], device, 1e-3, 1) == "other"


def test_a_device_is_known_by_its_name(graph: Any, measured: Any, device: Any) -> None:
    taken = measured(graph, AGREED)

    assert describes(device, taken)
    assert not describes(device, replace(taken, provenance={"device_name": "Another CPU"}))
    assert not describes(device, replace(taken, provenance={}))
    assert not describes(device, replace(taken, device="cuda"))
    gpu = replace(taken, device="cuda", provenance={"device_name": "NVIDIA GeForce RTX 2080 Ti"})
    assert describes(architectures.load("rtx_2080_ti"), gpu)
    assert not describes(architectures.load("h200"), gpu)
