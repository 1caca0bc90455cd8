"""A1 to A15 on a result made by hand, every figure worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy
import pandas
import pytest

from mmworkload.analyzing import VIEWS, analyze
from mmworkload.analyzing.taken import Taken, flops_of, ideal_intensity, memory_of
from mmworkload.arch import load
from mmworkload.graph import LayerGraph
from mmworkload.measuring.folder import Result
from mmworkload.simulating.footprint import memory_need

ROOT = Path(__file__).resolve().parents[2]
US = 1e-6


def column(frame: pandas.DataFrame, key: str, value: str) -> dict[str, object]:
    return dict(zip(frame[key], frame[value], strict=True))


def about(values: dict[str, float]) -> object:
    return pytest.approx(values, rel=1e-9, nan_ok=True)


def test_one_disturbed_run_of_three_does_not_move_a_layer_and_its_kernels_add_up_to_it(result: Result) -> None:
    """12.3 ms in two runs and 48.6 in one are 12.3 ms, as the measurement says, and not their mean of 24.4."""
    times = {0: (10e-3, 2.3e-3), 1: (10e-3, 2.3e-3), 2: (40e-3, 8.6e-3)}
    assert result.kernels is not None
    made = result.kernels[result.kernels["layer"] == "image"].drop_duplicates("name").head(2)
    frames = [made.assign(run=run, duration_s=list(seconds)) for run, seconds in times.items()]
    taken = Taken(replace(result, kernels=pandas.concat(frames, ignore_index=True)))

    layers = taken.layers.set_index("layer")["layer_s"]
    assert layers["image"] == pytest.approx(12.3e-3)
    # 60 of 73.2 ms over the three runs.
    assert sorted(taken.rows["kernel_s"]) == pytest.approx([12.3e-3 * 13.2 / 73.2, 12.3e-3 * 60 / 73.2])
    assert taken.rolled("layer")["kernel_s"].tolist() == pytest.approx([12.3e-3])


def test_a1_throughput_and_the_batch_of_its_peak(result: Result) -> None:
    from_batch = {1: 1e-3, 8: 2e-3, 32: 8e-3, 64: 20e-3}
    results = [
        replace(
            result,
            measurement=replace(result.measurement, batch=batch, eager=replace(result.measurement.eager, median_s=s)),
        )
        for batch, s in from_batch.items()
    ]
    frame = analyze("a1", results)

    assert column(frame, "batch", "throughput_per_s") == about({1: 1000, 8: 4000, 32: 4000, 64: 3200})
    assert column(frame, "batch", "latency_s") == about({1: 1e-3, 8: 0.25e-3, 32: 0.25e-3, 64: 0.3125e-3})
    # The smallest batch that reaches the peak.
    assert column(frame, "batch", "optimal") == {1: False, 8: True, 32: False, 64: False}
    assert set(frame["device"]) == {"Some GPU"}


def test_a2_to_a4_layers_with_shapes_times_and_memory(result: Result) -> None:
    frame = analyze("A2", result)

    assert list(frame["layer"]) == ["image", "audio", "relu", "cat", "head"]
    assert list(frame["shape"]) == ["8x16", "8x8", "8x8", "8x24", "8x4"]
    assert column(frame, "layer", "layer_s") == about(
        {"image": 50 * US, "audio": 9 * US, "relu": 1 * US, "cat": 100 * US, "head": 50 * US}
    )
    assert list(frame["allocated_bytes"]) == [512, 256, 256, 768, 128]
    # image.out until cat; audio.out until relu; then cat's inputs and output; then head's.
    assert list(frame["alive_bytes"]) == [512, 768, 1024, 1536, 896]
    assert list(frame["persistent_bytes"]) == [4 * 16 * 32, 4 * 8 * 16, 0, 0, 4 * 4 * 24]

    assert column(analyze("A3", result), "layer", "share") == about(
        {"image": 50 / 210, "audio": 9 / 210, "relu": 1 / 210, "cat": 100 / 210, "head": 50 / 210}
    )
    assert list(analyze("A4", result).columns) == ["index", "layer", "allocated_bytes"]


def test_the_highest_alive_memory_is_that_of_the_footprint(graph: LayerGraph) -> None:
    assert max(memory_of(graph).alive) == memory_need(graph).peak_activation_bytes == 1536


@pytest.mark.parametrize("name", ["av_mnist/concat", "mujoco_push/transformer"])
def test_liveness_agrees_with_the_footprint_on_real_networks(name: str) -> None:
    found = next((ROOT / "shapes").glob(f"{name.replace('_', '-')}.yaml"))
    graph = LayerGraph.load(found)

    assert max(memory_of(graph).alive) == memory_need(graph).peak_activation_bytes


def test_only_the_chosen_stages_are_layers_of_a_part(result: Result) -> None:
    part = replace(result, measurement=replace(result.measurement, only=("encoder/image",)))

    assert list(analyze("A3", part)["layer"]) == ["image"]


def test_a5_to_a7_by_type(result: Result) -> None:
    assert column(analyze("A5", result), "op", "layers") == {"linear": 3, "relu": 1, "concat": 1}
    assert column(analyze("A5", result), "op", "share") == about({"linear": 0.6, "relu": 0.2, "concat": 0.2})
    assert column(analyze("A6", result), "op", "layer_s") == about(
        {"linear": 109 * US, "concat": 100 * US, "relu": 1 * US}
    )
    assert column(analyze("A7", result), "op", "allocated_bytes") == {"linear": 896, "concat": 768, "relu": 256}
    assert list(analyze("A7", result)["op"]) == ["linear", "concat", "relu"]


def test_flops_are_two_a_mac_and_one_an_elementwise_operation(graph: LayerGraph) -> None:
    assert {layer.name: flops_of(layer) for layer in graph} == {
        "image": 2 * 8 * 16 * 32,
        "audio": 2 * 8 * 8 * 16,
        "relu": 64,
        "cat": 0,
        "head": 2 * 8 * 4 * 24,
    }


def test_a8_ideal_work_of_a_layer_is_shared_among_its_kernels_by_time(result: Result) -> None:
    frame = analyze("A8", result).set_index(["layer", "name"])

    # image: 40 and 10 us, 8192 flops, 1024 + 2048 bytes read, 512 written.
    assert frame.loc[("image", "sgemm"), "flops"] == pytest.approx(0.8 * 8192)
    assert frame.loc[("image", "reduce"), "dram_read_bytes"] == pytest.approx(0.2 * 3072)
    assert frame.loc[("image", "sgemm"), "intensity"] == pytest.approx(8192 / 3584)
    assert frame.loc[("image", "sgemm"), "flops_per_s"] == pytest.approx(8192 / 50e-6)
    assert frame.loc[("image", "sgemm"), "source"] == "ideal"
    # What belongs to no layer is a row, without ideal work.
    assert numpy.isnan(frame.loc[("", "fill"), "flops"])
    assert frame.loc[("", "fill"), "source"] == ""
    assert frame.loc[("", "fill"), "kernel_s"] == pytest.approx(10 * US)
    assert analyze("A9", result)["intensity"].tolist() == pytest.approx(frame["intensity"].tolist(), nan_ok=True)


def test_counters_replace_ideal_figures_where_all_of_a_group_was_read(counted: Result) -> None:
    frame = analyze("A11", counted).set_index("layer")

    assert dict(frame["source"]) == {
        "image": "counters",
        "audio": "ideal",
        "relu": "ideal",
        "cat": "ideal",
        "head": "counters",
        "": "",
    }
    assert frame.loc["image", "flops"] == 10000
    assert (frame.loc["image", "dram_read_bytes"], frame.loc["image", "dram_write_bytes"]) == (2500, 1500)
    assert frame.loc["image", "intensity"] == pytest.approx(2.5)
    # 0.25 for 40 us, 0.75 for 10 us.
    assert frame.loc["image", "occupancy"] == pytest.approx(0.35)
    assert numpy.isnan(frame.loc["audio", "occupancy"])


def test_memory_bound_is_an_intensity_below_the_device_s(counted: Result) -> None:
    arch = load("h200", "float32")
    # 132 SMs x 128 lanes x 1980 MHz x 2 over 4.8 TB/s.
    assert ideal_intensity(arch) == pytest.approx(132 * 128 * 1.98e9 * 2 / 4.8e12)
    frame = analyze("A11", counted, arch="h200").set_index("layer")
    assert frame.loc["image", "memory_bound"] == True  # noqa: E712  2.5 < 13.9
    assert frame.loc["head", "memory_bound"] == True  # noqa: E712  10 < 13.9

    edge = analyze("A11", counted, arch=arch.model_copy(update={"clock_mhz": arch.clock_mhz})).set_index("layer")
    assert edge.equals(frame)
    slow = arch.model_copy(update={"array": arch.array.model_copy(update={"x": 66})})
    assert ideal_intensity(slow) == pytest.approx(ideal_intensity(arch) / 2)
    slower = analyze("A11", counted, arch=slow).set_index("layer")
    assert slower.loc["image", "memory_bound"] == True  # noqa: E712  2.5 < 6.97
    assert slower.loc["head", "memory_bound"] == False  # noqa: E712  10 > 6.97
    assert slower.loc["", "memory_bound"] is pandas.NA
    assert any(
        "13.9 flop/B" in note and "data sheet" in note for note in analyze("A11", counted, arch="h200").attrs["notes"]
    )


def test_without_an_architecture_nothing_is_called_memory_bound(counted: Result) -> None:
    frame = analyze("A15", counted)

    assert frame["memory_bound"].isna().all()
    assert any("--arch" in note for note in frame.attrs["notes"])


def test_a10_kernels_by_name_the_longest_first(result: Result) -> None:
    frame = analyze("A10", result)

    assert column(frame, "name", "kernels") == {"Memcpy DtoD": 1, "sgemm": 3, "reduce": 1, "fill": 1, "relu": 1}
    assert column(frame, "name", "kernel_s") == about(
        {"Memcpy DtoD": 100 * US, "sgemm": 99 * US, "reduce": 10 * US, "fill": 10 * US, "relu": 1 * US}
    )
    assert list(frame["name"])[:2] == ["Memcpy DtoD", "sgemm"]
    assert frame.loc[1, "flops"] == pytest.approx(0.8 * 8192 + 2048 + 1536)
    assert frame["share"].sum() == pytest.approx(1)


def test_a12_to_a14_device_and_host_of_a_layer(result: Result) -> None:
    frame = analyze("A13", result).set_index("layer")

    # Waiting is not work: 4 + 2 us of operators and runtime.
    assert frame.loc["image", "host_s"] == pytest.approx(6 * US)
    assert frame.loc["image", "device_s"] == pytest.approx(50 * US)
    assert frame.loc["image", "device_share"] == pytest.approx(50 / 56)
    assert frame.loc["", "host_s"] == 0
    assert column(analyze("A12", result), "layer", "dram_write_bytes")["head"] == 128
    roofs = analyze("A14", result).set_index("layer")
    assert roofs.loc["head", "intensity"] == pytest.approx(1536 / (768 + 384 + 128))
    assert roofs.loc["head", "flops_per_s"] == pytest.approx(1536 / 50e-6)


def test_operators_of_a_cpu_take_no_time_on_a_device(result: Result) -> None:
    frame = result.kernels.assign(kind="operator")
    on_cpu = analyze("A13", replace(result, kernels=frame)).set_index("layer")

    assert set(on_cpu["device_s"]) == {0.0}
    assert on_cpu.loc["image", "device_share"] == 0.0


def test_a15_the_model_is_the_sum_of_its_kernels(result: Result, counted: Result) -> None:
    (row,) = analyze("A15", result).to_dict("records")

    assert (row["model"], row["batch"], row["duration_s"]) == ("toy/late", 8, 1e-3)
    assert row["kernel_s"] == pytest.approx(220 * US)
    assert row["flops"] == 8192 + 2048 + 64 + 1536
    assert row["dram_read_bytes"] == 3072 + (512 + 512) + 256 + 768 + (768 + 384)
    assert row["dram_write_bytes"] == 512 + 256 + 256 + 768 + 128
    assert row["source"] == "ideal"
    # Some kernels were read and some not: the whole stays ideal.
    assert analyze("A15", counted).loc[0, "source"] == "ideal"


def test_a_kernel_of_few_runs_counts_by_what_it_adds_to_a_run(result: Result) -> None:
    extra = result.kernels[result.kernels["run"] == 0].iloc[[0]].assign(name="once", duration_s=8 * US, start_s=1.0)
    rows = Taken(replace(result, kernels=pandas.concat([result.kernels, extra]))).rows.set_index("name")

    assert rows.loc["once", "kernel_s"] == pytest.approx(4 * US)


def test_a_repeated_kernel_keeps_its_place_in_every_run(result: Result) -> None:
    again = result.kernels[result.kernels["name"] == "relu"].assign(start_s=1.0, duration_s=5 * US)
    frame = analyze("A8", replace(result, kernels=pandas.concat([again, result.kernels])))

    assert frame[frame["name"] == "relu"]["kernel_s"].tolist() == pytest.approx([1 * US, 5 * US])


@pytest.mark.parametrize("view", [f"A{number}" for number in range(1, 16)])
def test_every_view_has_its_columns(view: str, result: Result) -> None:
    assert list(analyze(view, result).columns) == list(VIEWS[view].columns)
