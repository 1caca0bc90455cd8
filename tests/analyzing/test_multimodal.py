"""The analyses of MMBench and CAL on a result made by hand, every figure worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pandas
import pytest

from mmworkload.analyzing import VIEWS, analyze
from mmworkload.graph import LayerGraph
from mmworkload.measuring.folder import Result

US = 1e-6


def column(frame: pandas.DataFrame, key: str, value: str) -> dict[str, float]:
    return dict(zip(frame[key], frame[value], strict=True))


def about(values: dict[str, float]) -> object:
    return pytest.approx(values, rel=1e-9, nan_ok=True)


def at(result: Result, batch: int, seconds: float) -> Result:
    m = result.measurement
    return replace(result, measurement=replace(m, batch=batch, eager=replace(m.eager, median_s=seconds)))


def test_d1_stage_time_over_that_of_the_encoders(result: Result, staged: Result) -> None:
    frame = analyze("D1", result)

    assert list(frame["stage"]) == ["encoder", "fusion", "head", ""]
    assert column(frame, "stage", "kernel_s") == about(
        {"encoder": 60 * US, "fusion": 100 * US, "head": 50 * US, "": 10 * US}
    )
    assert column(frame, "stage", "of_encoders") == about(
        {"encoder": 1, "fusion": 100 / 60, "head": 50 / 60, "": 1 / 6}
    )
    assert frame["wall_s"].isna().all()
    assert column(analyze("D1", staged), "stage", "wall_s") == about(
        {"encoder": 100 * US, "fusion": 100 * US, "head": 60 * US, "": numpy.nan}
    )


def test_d2_counters_are_weighted_by_time(counted: Result) -> None:
    frame = analyze("D2", counted).set_index("stage")

    # image: 0.5 for 40 us and 0.1 for 10 us; audio was not read.
    assert frame.loc["encoder", "dram_utilization"] == pytest.approx((0.5 * 40 + 0.1 * 10) / 50)
    assert frame.loc["head", "occupancy"] == pytest.approx(0.4)
    assert numpy.isnan(frame.loc["fusion", "dram_utilization"])


def test_d2_without_counters_says_that_they_were_not_read(result: Result) -> None:
    frame = analyze("D2", result)

    assert frame["kernel_s"].sum() == pytest.approx(220 * US)
    assert frame[["dram_utilization", "occupancy", "ipc", "gld_efficiency", "gst_efficiency"]].isna().all(axis=None)
    assert any(note.startswith("Not read: dram_utilization, occupancy, ipc") for note in frame.attrs["notes"])


def test_d3_host_share_of_each_stage_and_of_all(staged: Result) -> None:
    frame = analyze("D3", staged)

    assert list(frame["stage"]) == ["encoder/image", "encoder/audio", "fusion", "head", "total"]
    assert column(frame, "stage", "host_share") == about(
        {"encoder/image": 40 / 80, "encoder/audio": 15 / 25, "fusion": 10 / 110, "head": 15 / 65, "total": 80 / 280}
    )
    total = frame.set_index("stage").loc["total"]
    assert (total["launches"], total["syncs"], total["copies"]) == (12, 4, 8)
    assert total["idle_s"] == pytest.approx(15 * US)


def test_d3_on_a_cpu_has_no_host_share(staged: Result) -> None:
    on_cpu = replace(staged, measurement=replace(staged.measurement, device="cpu"))

    assert analyze("D3", on_cpu)["host_share"].isna().all()


def test_d4_the_straggler_by_kernels(result: Result) -> None:
    frame = analyze("D4", result).set_index("modality")

    assert dict(frame["encoder_s"]) == about({"image": 50 * US, "audio": 10 * US})
    assert dict(frame["slowest_over_this"]) == about({"image": 1, "audio": 5})
    assert dict(frame["idle_share"]) == about({"image": 0, "audio": 0.8})
    assert dict(frame["straggler"]) == {"image": True, "audio": False}
    assert set(frame["timed_by"]) == {"kernels"}


def test_d4_the_straggler_by_timers_where_the_stages_were_timed(staged: Result) -> None:
    # A sleep takes no kernel time: only timers see it.
    m = staged.measurement
    slow = [
        replace(item, time=replace(item.time, median_s=0.5)) if "audio" in item.stage else item
        for item in m.stage_times
    ]
    frame = analyze("D4", replace(staged, measurement=replace(m, stage_times=tuple(slow)))).set_index("modality")

    assert dict(frame["straggler"]) == {"image": False, "audio": True}
    assert frame.loc["image", "slowest_over_this"] == pytest.approx(0.5 / 8e-5)
    assert set(frame["timed_by"]) == {"timers"}


def test_d5_categories_by_operator_and_by_name(result: Result) -> None:
    frame = analyze("D5", result).set_index(["stage", "kind"])

    assert frame.loc[("encoder/image", "Gemm")].tolist() == pytest.approx([50 * US, 1.0, 40 * US, 0.8])
    assert frame.loc[("encoder/image", "Reduce")].tolist() == pytest.approx([0.0, 0.0, 10 * US, 0.2])
    # Movement is one of the papers' others.
    assert frame.loc[("fusion", "Other"), "by_operator_s"] == pytest.approx(100 * US)
    assert list(dict.fromkeys(stage for stage, _ in frame.index)) == [
        "encoder/image",
        "encoder/audio",
        "fusion",
        "head",
        "",
    ]


def test_d6_the_same_kernel_in_different_stages(result: Result) -> None:
    frame = analyze("D6", result)

    # reduce, relu and the copy run in one stage each.
    assert set(frame["name"]) == {"sgemm"}
    assert column(frame, "stage", "kernels") == {"encoder": 2, "head": 1}
    assert column(frame, "stage", "mean_s") == about({"encoder": 24.5 * US, "head": 50 * US})
    assert column(frame, "stage", "of_longest") == about({"encoder": 24.5 / 50, "head": 1})
    assert column(frame, "stage", "flops") == about({"encoder": (0.8 * 8192 + 2048) / 2, "head": 1536})


def test_d9a_kernels_by_duration_with_bounds_below(result: Result) -> None:
    frame = analyze("D9a", result)

    assert column(frame, "bin", "kernels") == {"0-10 us": 2, "10-50 us": 3, "50-100 us": 1, ">100 us": 1}
    assert column(frame, "bin", "kernel_s") == about(
        {"0-10 us": 10 * US, "10-50 us": 60 * US, "50-100 us": 50 * US, ">100 us": 100 * US}
    )
    assert frame["share"].tolist() == pytest.approx([2 / 7, 3 / 7, 1 / 7, 1 / 7])
    both = analyze("D9a", [at(result, 40, 1e-3), at(result, 400, 2e-3)])
    assert both["batch"].tolist() == [40] * 4 + [400] * 4


def test_d9b_ten_thousand_inferences(result: Result) -> None:
    frame = analyze("D9b", [at(result, 400, 2e-3), at(result, 40, 1e-3), at(result, 3000, 30e-3)]).set_index("batch")

    assert dict(frame["passes"]) == {40: 250, 400: 25, 3000: 4}
    assert dict(frame["total_s"]) == about({40: 0.25, 400: 0.05, 3000: 0.12})
    assert dict(frame["speedup"]) == about({40: 1, 400: 5, 3000: 0.25 / 0.12})
    assert dict(frame["batch_ratio"]) == about({40: 1, 400: 10, 3000: 75})


def test_d10_peak_memory_measured_and_by_liveness(result: Result) -> None:
    frame = analyze("D10", result)

    assert column(frame, "part", "measured_bytes") == {"model": 3000, "data": 1000, "intermediates": 4000}
    assert column(frame, "part", "share") == about({"model": 0.375, "data": 0.125, "intermediates": 0.5})
    # 736 parameters; 8 x 32 and 8 x 16 inputs; the peak of test_across_stack.
    assert column(frame, "part", "liveness_bytes") == {"model": 2944, "data": 1536, "intermediates": 1536}
    bare = analyze("D10", Result(result.measurement))
    assert bare["liveness_bytes"].isna().all()


def test_d11_devices_against_the_fastest(result: Result) -> None:
    edge = at(result, 8, 6.5e-3)
    edge = replace(edge, measurement=replace(edge.measurement, provenance={"device_name": "Edge"}))
    frame = analyze("D11", [at(result, 8, 1e-3), edge, at(result, 16, 5e-3)])

    assert frame["over_fastest"].tolist() == pytest.approx([1, 6.5, 1])


def test_d12_stalls_are_shares_of_all_stalls(counted: Result) -> None:
    frame = analyze("D12", counted).set_index("stage")

    # 0.02, 0.04, ... 0.14 of the active cycles: 1 to 7 of 28.
    assert frame.loc["encoder"].tolist() == pytest.approx([place / 28 for place in range(1, 8)])
    assert frame.loc["fusion"].isna().all()


def test_d13_is_d2_of_another_device(counted: Result) -> None:
    assert analyze("D13", counted).equals(analyze("D2", counted))


def test_d14_and_d15_come_from_the_graph(result: Result, graph: LayerGraph) -> None:
    bare = Result(result.measurement, graph)
    frame = analyze("D14", bare).set_index("stage")

    assert list(frame.index) == ["encoder/image", "encoder/audio", "fusion", "head"]
    assert frame.loc["encoder/audio", ["layers", "params", "macs", "flops", "weight_bytes"]].tolist() == [
        2,
        128,
        1024,
        2112,
        512,
    ]
    fused = analyze("D15", result)
    assert fused.to_dict("records") == [
        {"op": "concat", "layers": 1, "macs": 0, "flops": 0, "allocated_bytes": 768, "layer_s": pytest.approx(100 * US)}
    ]
    assert analyze("D15", bare)["layer_s"].isna().all()


@pytest.mark.parametrize("view", [name for name in VIEWS if name.startswith("D") and name not in ("D3", "D12")])
def test_every_view_has_its_columns(view: str, result: Result) -> None:
    assert list(analyze(view, result).columns) == list(VIEWS[view].columns)


@pytest.mark.parametrize("view", [name for name in VIEWS if name not in ("D3", "D12")])
def test_several_results_follow_each_other(view: str, result: Result) -> None:
    one, two = analyze(view, result), analyze(view, [result, at(result, 16, 3e-3)])

    assert len(two) == 2 * len(one)
    assert two["batch"].tolist() == [8] * len(one) + [16] * len(one)
