"""The calibrated model: constants that were planted are found again, outliers count little, no peeking at the test."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from mmworkload.errors import MmworkloadError
from mmworkload.graph import Part, Workload
from mmworkload.simulating.engine import simulate
from mmworkload.validating import calibration
from mmworkload.validating.calibration import Constants, Sample, calibrated, fit, leave_one_out, samples, spreads
from mmworkload.validating.device import Terms, terms

# Half of the peak, a quarter of the bandwidth, 20 us a kernel; and another class.
TRUE = {
    "Gemm": Constants("Gemm", 0, 0.5, 0.25, 20e-6, 1),
    "Relu": Constants("Relu", 0, 1.0, 0.8, 5e-6, 1),
}


def planted(category: str, noise: float = 1.0) -> list[Sample]:
    """Layers that tell the three terms apart."""
    found = []
    for index in range(30):
        needs = Terms(
            compute_s=1e-3 * 3 ** (index % 5) / 81,
            memory_s=1e-3 * 3 ** (index // 5 % 6) / 81,
            launches=1 + 20 * (index % 3),
            bytes=1,
        )
        found.append(
            Sample(
                category.lower(), category, needs, TRUE[category].seconds(needs) * (noise if index % 2 else 1 / noise)
            )
        )
    return found


def rows(scale: int) -> list[Any]:
    return [
        ("a", "Gemm", "encoder/x", 200 * scale, 0),
        ("b", "Relu", "encoder/x", 0, 200_000 * scale),
        ("c", "Gemm", "encoder/y", 20 * scale, 0),
        ("d", "Relu", "fusion", 0, 3000),
        ("e", "Gemm", "head", 90, 0),
    ]


def times(graph: Any, device: Any) -> dict[str, float]:
    return {item.name: TRUE[item.category].seconds(terms(item, device)) for item in graph}


def test_terms_are_those_of_the_peaks(chain: Any, device: Any) -> None:
    graph = chain("one", rows(1))

    gemm, relu = terms(graph["a"], device), terms(graph["b"], device)
    # 8 million MACs at 100 G a second; three operands of 40 000 elements at 10 GB/s.
    assert (gemm.compute_s, gemm.memory_s, gemm.launches) == pytest.approx((8e-5, 4.8e-5, 1))
    # 200 000 operations at 10 G a second; they are read and written.
    assert (relu.compute_s, relu.memory_s, relu.bytes) == pytest.approx((2e-5, 1.6e-4, 1_600_000))


@pytest.mark.parametrize("category", ["Gemm", "Relu"])
def test_planted_constants_are_found(device: Any, category: str) -> None:
    # Many copies, so that the pull towards the start counts little.
    found = fit(planted(category) * 200, device, "x", ["y"]).constants[category]

    wanted = TRUE[category]
    assert found.compute_efficiency == pytest.approx(wanted.compute_efficiency, rel=0.02)
    assert found.bandwidth_efficiency == pytest.approx(wanted.bandwidth_efficiency, rel=0.02)
    assert found.kernel_s == pytest.approx(wanted.kernel_s, rel=0.02)
    assert found.residual == pytest.approx(1, abs=0.01)


def test_one_outlier_in_ten_moves_the_constants_little(device: Any) -> None:
    clean = planted("Gemm") * 10
    spoilt = [
        replace(item, measured_s=item.measured_s * (100 if index % 10 == 0 else 1)) for index, item in enumerate(clean)
    ]
    found = fit(spoilt, device, "x", ["y"]).constants["Gemm"]

    assert found.compute_efficiency == pytest.approx(0.5, rel=0.2)
    assert found.kernel_s == pytest.approx(20e-6, rel=0.3)


def test_the_same_samples_give_the_same_constants(device: Any) -> None:
    one = fit([*planted("Gemm", 1.3), *planted("Relu")], device, "x", ["y"])

    assert one == fit([*planted("Gemm", 1.3), *planted("Relu")], device, "x", ["y"])
    assert list(one.constants) == ["all", "Gemm", "gemm", "Relu", "relu"]
    assert one.constants["all"].layers == 60
    # Half of the layers are a factor of 1.3 off, the others by as much the other way.
    assert one.constants["Gemm"].residual == pytest.approx(1.3, rel=0.05)


def test_a_workload_is_predicted_by_the_others_only(chain: Any, measured: Any, device: Any) -> None:
    cases = []
    for name, scale in (("one", 1), ("two", 2), ("three", 5)):
        graph = chain(name, rows(scale))
        seconds = times(graph, device)
        if name == "one":
            seconds = {layer: 1000 * value for layer, value in seconds.items()}
        cases.append((graph, measured(graph, seconds)))
    splits = {item.tested: item.calibration for item in leave_one_out(cases, device)}

    assert splits["one"].fitted_on == ("two", "three")
    assert splits["two"].fitted_on == ("one", "three")
    predicted = splits["one"].seconds(cases[0][0]["a"], device)
    # Its own times, a thousand times slower, are unknown to it.
    assert predicted == pytest.approx(TRUE["Gemm"].seconds(terms(cases[0][0]["a"], device)), rel=0.3)


def test_other_batches_of_a_model_are_left_out_with_it(chain: Any, measured: Any, device: Any) -> None:
    small, large = chain("one", rows(1)), chain("one", rows(9), 9)
    cases = [(graph, measured(graph, times(graph, device))) for graph in (small, large)]

    assert leave_one_out(cases, device) == ()
    with pytest.raises(MmworkloadError, match="nothing to calibrate round on"):
        fit([], device, "x", [])


def test_variants_of_a_family_are_left_out_with_it(chain: Any, measured: Any, device: Any) -> None:
    names = ("shop/concat", "shop/image", "zoo/concat", "hf:clip")
    graphs = [chain(name, rows(index + 1)) for index, name in enumerate(names)]
    splits = leave_one_out([(graph, measured(graph, times(graph, device))) for graph in graphs], device)

    assert {item.tested: item.calibration.fitted_on for item in splits} == {
        "shop/concat": ("zoo/concat", "hf:clip"),
        "shop/image": ("zoo/concat", "hf:clip"),
        "zoo/concat": ("shop/concat", "shop/image", "hf:clip"),
        "hf:clip": ("shop/concat", "shop/image", "zoo/concat"),
    }


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ({"N": 1, "M": 8, "C": 8, "P": 9, "Q": 9, "R": 3, "S": 3}, "conv2d"),
        ({"N": 1, "M": 8, "C": 8, "P": 9, "Q": 9}, "conv2d 1x1"),
        ({"N": 1, "G": 8, "P": 9, "Q": 9, "R": 3, "S": 3}, "conv2d grouped"),
    ],
)
def test_libraries_have_other_kernels_for_pointwise_and_grouped_convolutions(sizes: Any, wanted: str) -> None:
    problem = SimpleNamespace(extents=sizes)
    layer = SimpleNamespace(op="conv2d", category="Conv", work=(SimpleNamespace(problem=problem),))
    assert calibration.kind(layer) == wanted  # type: ignore[arg-type]
    assert calibration.kind(SimpleNamespace(op="mean", category="Reduce", work=())) == "mean"  # type: ignore[arg-type]


def convolution(groups: int, outputs: int, inputs: int, window: int = 3) -> Any:
    """A layer of one convolution on a 10 x 10 image; ``groups`` of ``outputs`` from ``inputs`` channels each."""
    sizes = {"N": 1, "G": groups, "M": outputs, "C": inputs, "P": 10, "Q": 10, "R": window, "S": window}
    points = groups * outputs * inputs * 100 * window**2
    work = SimpleNamespace(problem=SimpleNamespace(extents=sizes, points=points, operation="mac"), count=1)
    return SimpleNamespace(op="conv2d", category="Conv", work=(work,), vector_ops=0, bytes=1000, launches=1)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (convolution(1, 24, 20), 32 * 32 * 900),
        # An image of three channels needs no blocks of inputs.
        (convolution(1, 24, 3), 32 * 3 * 900),
        (convolution(24, 1, 1), 32 * 900),
    ],
)
def test_channels_of_a_convolution_fill_whole_blocks(layer: Any, macs: int, device: Any) -> None:
    assert terms(layer, device, 16).compute_s == pytest.approx(macs / 1e11)
    assert terms(layer, device).compute_s < terms(layer, device, 16).compute_s


@pytest.mark.parametrize("block", [1, 8, 16])
def test_the_block_that_the_device_has_is_found(block: int, device: Any) -> None:
    layers = [convolution(1, outputs, inputs) for outputs in (6, 12, 20, 24, 48) for inputs in (6, 12, 24, 40)]
    made = {
        size: [
            Sample("conv2d", "Conv", terms(item, device, size), 2 * terms(item, device, block).compute_s + 1e-5)
            for item in layers
        ]
        for size in calibration.BLOCKS
    }
    assert calibration.best_block(made, device) == block
    assert calibration.best_block({size: [] for size in calibration.BLOCKS}, device) == 1


def test_spreads_are_over_the_splits(chain: Any, measured: Any, device: Any) -> None:
    cases = [(graph, measured(graph, times(graph, device))) for graph in (chain(str(n), rows(n)) for n in (1, 2, 4))]
    splits = leave_one_out(cases, device)
    found = {(item.kind, item.constant): item for item in spreads(splits)}

    values = sorted(split.calibration.constants["Gemm"].kernel_s for split in splits)
    item = found["Gemm", "kernel_s"]
    assert (item.low, item.median, item.high) == tuple(values)
    assert len(found) == 15
    assert {kind for kind, _ in found} == {"all", "Gemm", "linear", "Relu", "relu"}


def test_small_layers_weigh_by_the_root_of_their_share(chain: Any, measured: Any, device: Any) -> None:
    graph = chain("one", rows(1)[:2])
    found = samples(graph, measured(graph, {"a": 9.0, "b": 1.0}), device)

    assert [item.weight for item in found] == pytest.approx([1.5, 0.5])
    assert samples(graph, measured(graph, {"a": 9.0, "b": 0.0}), device)[0].weight == 1


def test_the_calibrated_simulation_has_the_predicted_times(chain: Any, measured: Any, device: Any) -> None:
    graph = chain("one", rows(1))
    other = chain("two", rows(3)[:3])
    found = fit(samples(other, measured(other, times(other, device)), device), device, "x", ["two"])
    workload = Workload("both", (Part(graph, "first", 2.0), Part(other, "second")))
    base = simulate(workload, device, "roofline", cache=False)
    made = calibrated(base, workload, device, found)

    assert [row.latency_s for row in made.layers[:5]] == pytest.approx([found.seconds(item, device) for item in graph])
    whole = 2 * sum(found.seconds(item, device) for item in graph) + sum(found.seconds(item, device) for item in other)
    assert made.serial_latency_s == pytest.approx(whole)
    # In the first part x and y run side by side only as far as data allow: a chain does not.
    assert made.critical_path_s == pytest.approx(whole)
    assert (made.simulator, made.arch_key) == (calibration.NAME, base.arch_key)
    assert "fitted on two" in made.fidelity
    assert math.isclose(made.layers[0].cycles, made.layers[0].latency_s * 1e8, rel_tol=1e-3)


def test_a_class_that_was_not_fitted_says_so(chain: Any, measured: Any, device: Any) -> None:
    graph = chain("one", rows(1))
    found = fit(
        [item for item in samples(graph, measured(graph, times(graph, device)), device) if item.category == "Gemm"],
        device,
        "x",
        ["one"],
    )
    workload = Workload.of(graph)
    made = calibrated(simulate(graph, device, "roofline", cache=False), workload, device, found)

    assert ["class not fitted" in row.note for row in made.layers] == [False, True, False, True, False]
    assert made.layers[1].latency_s == pytest.approx(found.constants["all"].seconds(terms(graph["b"], device)))
