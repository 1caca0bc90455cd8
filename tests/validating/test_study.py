"""Several workloads, architectures and simulators in one study: what is compared, fitted, and judged."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload import verbs
from mmworkload.cli.options import split_archs
from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.measuring.result import Spread
from mmworkload.simulating.concurrency import concurrency
from mmworkload.simulating.engine import simulate
from mmworkload.validating import compare
from mmworkload.validating.compare import excess
from mmworkload.validating.device import terms
from mmworkload.validating.goals import goals
from mmworkload.validating.lanes import lanes, modalities
from mmworkload.validating.report import report
from mmworkload.validating.runs import Run, compare_runs


def rows(scale: int) -> list[Any]:
    return [
        ("dense", "Gemm", "encoder/x", 200 * scale, 0),
        ("copy", "Relu", "encoder/x", 0, 20_000 * scale**2),
        ("wide", "Gemm", "encoder/y", 100 * scale, 0),
        ("last", "Gemm", "head", 50 * scale, 0),
    ]


def true_s(layer: Any, device: Any) -> float:
    """Half of the peak and of the bandwidth, 20 us a kernel."""
    needs = terms(layer, device)
    return 2 * needs.compute_s + 2 * needs.memory_s + 20e-6


@pytest.fixture(scope="module")
def cases(chain: Any, measured: Any, device: Any) -> list[Any]:
    graphs = [chain(name, rows(scale)) for name, scale in (("one", 1), ("two", 2), ("three", 3))]
    return [(graph, measured(graph, {item.name: true_s(item, device) for item in graph})) for graph in graphs]


def study(cases: Any, device: Any, names: Any = ("one", "two"), **more: Any) -> Any:
    return verbs.validate_all(
        names,
        [device, "eyeriss_like"],
        measurements=[taken for _, taken in cases],
        graphs={(graph.model, graph.batch, graph.dtype): graph for graph, _ in cases},
        **{"simulators": ("roofline", "calibrated"), **more},
    )


def test_every_workload_on_every_architecture_by_every_simulator(cases: Any, device: Any) -> None:
    found = study(cases, device)

    assert [
        (item.validation.model, item.validation.arch, item.validation.simulator, item.validation.same_device)
        for item in found.reports
    ] == [
        ("one", "round", "roofline", True),
        ("one", "eyeriss_like", "roofline", False),
        ("one", "round", "calibrated", True),
        ("two", "round", "roofline", True),
        ("two", "eyeriss_like", "roofline", False),
        ("two", "round", "calibrated", True),
    ]
    # The third measurement was not asked for and serves the calibration.
    assert {split.tested: split.calibration.fitted_on for split in found.splits} == {
        "one": ("two", "three"),
        "two": ("one", "three"),
    }


def test_progress_counts_graphs_simulations_measurements_and_calibrations(cases: Any, device: Any) -> None:
    steps: list[tuple[int, int]] = []
    study(cases, device, progress=lambda done, total: steps.append((done, total)))

    # Of two workloads each: a graph, two architectures, a measurement, the calibrated model.
    assert steps == [(done, 10) for done in range(1, 11)]


def test_several_measurements_of_one_graph_are_refused(cases: Any, device: Any) -> None:
    with pytest.raises(MmworkloadError, match="av-mnist/image is one graph, and there are 2 measurements; give one"):
        verbs.validate("av-mnist/image", device, measurement=[taken for _, taken in cases[:2]])


def test_without_names_all_measurements_are_compared(cases: Any, device: Any) -> None:
    assert [key[0] for key in study(cases, device, ()).by_workload] == ["one", "two", "three"]


def test_a_name_that_no_given_result_is_of_is_measured_with_a_word(
    cases: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise MmworkloadError("measuring would begin")

    monkeypatch.setattr("mmworkload.validating.study._case", stop)
    for model in ("av-mnist", "av-mnist+exits?p=0.5"):
        with pytest.raises(MmworkloadError, match="measuring would begin"):
            verbs.validate_all([model], ["eyeriss_like"], measurements=[item for _, item in cases])
        assert f"{model}: none of the results given is of it" in capsys.readouterr().err
        with pytest.raises(MmworkloadError, match="measuring would begin"):
            verbs.validate_all([model], ["eyeriss_like"])
        assert capsys.readouterr().err == ""


def test_calibration_meets_the_goals_where_its_law_holds(cases: Any, device: Any) -> None:
    found = {(goal.what, goal.simulator): goal for goal in study(cases, device, ()).goals}

    layers = found["error of the time, per layer", "calibrated"]
    assert (layers.rows, layers.excluded, layers.met, layers.limit) == (12, 0, True, 0.15)
    assert found["error of the time, sum over layers", "calibrated"].rows == 3
    assert found["error of the time, sum over layers", "calibrated"].met is True
    ranks = found["Spearman of the layers, per workload", "calibrated"]
    assert (ranks.rows, ranks.least, ranks.every, ranks.met) == (3, True, True, True)
    # The roofline lacks a factor of two and the launches, which changes shares little.
    assert ("error of the time, per layer", "roofline") not in found


def test_a_planted_slowdown_is_a_miss_with_its_cause(cases: Any, device: Any, measured: Any) -> None:
    graph, taken = cases[0]
    slow = {item.layer: item.time.median_s * (10 if item.layer == "dense" else 1) for item in taken.layers}
    made = report(graph, [measured(graph, slow)], simulate(graph, device, "roofline", cache=False), device=device)

    assert made.validation.widest_stage == "encoder/x"
    shares = goals([made])[1]
    assert shares.met is False
    assert shares.misses[0].row == "one (batch 1, float32) encoder/x"
    assert "below the peak" in shares.misses[0].cause
    assert "dense: " in shares.misses[0].cause
    # Another architecture is different, not wrong.
    eyeriss = simulate(graph, architectures.load("eyeriss_like"), "roofline", cache=False)
    assert goals([report(graph, [taken], eyeriss, device=device)]) == ()


def test_calibration_needs_another_workload_and_the_device(cases: Any, device: Any) -> None:
    with pytest.raises(MmworkloadError, match="two workloads or more"):
        study(cases[:1], device, ("one",))
    assert study(cases[:1], device, ("one",), simulators=("roofline",)).splits == ()
    with pytest.raises(MmworkloadError, match="name a workload, or give measurements"):
        verbs.validate_all((), [device])
    with pytest.raises(UnknownNameError, match="rooflin"):
        study(cases, device, simulators=("rooflin",))


def test_a_simulator_that_cannot_answer_is_named(cases: Any, device: Any) -> None:
    found = study(cases, device, ("one",), simulators=("roofline", "scalesim"))

    asked = [(item.validation.arch, item.validation.simulator) for item in found.reports]
    assert ("round", "roofline") in asked
    assert ("round", "scalesim") not in asked
    assert any(text.startswith("scalesim on round for one: ") for text in found.unanswered)


def test_a_workload_of_parts_is_weighted(cases: Any, device: Any) -> None:
    (first, taken_first), (second, taken_second) = cases[:2]
    workload = Workload("both", (Part(first, "prefill"), Part(second, "decode", 10.0)))
    base = simulate(workload, device, "roofline", cache=False)
    found = compare(workload, [taken_first, taken_second], base, device)

    assert [item.label for item in found.layers][:5] == [
        "prefill: dense",
        "prefill: copy",
        "prefill: wide",
        "prefill: last",
        "decode: dense",
    ]
    assert sum(item.sides.measured_s or 0 for item in found.layers) == pytest.approx(
        taken_first.layer_sum_s + 10 * taken_second.layer_sum_s
    )
    assert sum(item.sides.simulated_s or 0 for item in found.layers) == pytest.approx(base.serial_latency_s)
    assert found.gaps.eager_s == pytest.approx(taken_first.eager.median_s + 10 * taken_second.eager.median_s)
    by_verb = verbs.validate(workload, device, simulator="roofline", measurement=[taken_first, taken_second])
    assert by_verb.validation == found
    assert len(by_verb.to_dict()["measurements"]) == 2
    with pytest.raises(MmworkloadError, match="2 parts and 1 measurements"):
        compare(workload, taken_first, base)


def test_only_keeps_the_stages_on_both_sides(cases: Any, device: Any) -> None:
    found = study(cases, device, ("one",), simulators=("roofline",), only=("head",))

    assert [row.layer for row in found.reports[0].validation.layers] == ["last"]
    assert found.reports[0].validation.gaps.only == ("head",)


def test_settings_of_one_architecture_are_for_it_alone(cases: Any, device: Any) -> None:
    found = study(cases, device, ("one",), simulators=("roofline",), settings={"eyeriss_like:clock_mhz": "400"})

    assert [item.validation.arch for item in found.reports] == ["round", "eyeriss_like clock_mhz=400"]


def test_json_has_every_comparison_and_no_value_that_json_lacks(cases: Any, device: Any) -> None:
    data = json.loads(json.dumps(study(cases, device).to_dict(), allow_nan=False))

    assert len(data["reports"]) == 6
    assert data["calibrations"][0]["tested"] == "one"
    assert data["goals"][0]["met"] in (True, False)
    assert data["reports"][0]["validation"]["errors"][0]["name"] == "all"


def tables(heading: str) -> list[set[str]]:
    """The fields of each table under a heading of docs/json.md."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [set(re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)) for block in section.split("| field |")[1:]]


def test_every_field_is_described(cases: Any, device: Any) -> None:
    data = study(cases, device).to_dict()

    whole, goal, calibration = tables("Several validations")
    assert (set(data), set(data["goals"][0]), set(data["calibrations"][0])) == (whole, goal, calibration)
    assert set(data["spreads"][0]) == {"kind", "constant", "low", "median", "high"}
    taken = load_run_of(cases[0][1])
    pair, run = tables("Two runs")
    compared = compare_runs(taken, taken).to_dict()
    assert (set(compared), set(compared["first"])) == (pair, run)


def load_run_of(measurement: Any) -> Run:
    seconds = {item.layer: item.time.median_s for item in measurement.layers}
    return Run("measurement", "one", 1, "here", "float32", 1.0, seconds, dict.fromkeys(seconds, "head"))


def test_layers_above_the_eager_time_are_explained_by_row(cases: Any) -> None:
    _, taken = cases[0]
    assert excess(taken) == ()
    slow = replace(taken, eager=Spread.of([taken.layer_sum_s / 2]))
    layers = [replace(item, kernels=7) if item.layer == "dense" else item for item in slow.layers]
    unsteady = [
        replace(item, time=replace(item.time, q1_s=1.0, q3_s=2.0)) if item.layer == "copy" else item for item in layers
    ]
    found = {item.layer: item for item in excess(replace(slow, layers=tuple(unsteady)))}

    # Half of the sum is too much, seven tenths of it by kernels, but no more than the layer took.
    dense = next(item for item in layers if item.layer == "dense")
    assert found["dense"].excess_s == pytest.approx(min(0.35 * taken.layer_sum_s, dense.time.median_s))
    assert found["copy"].why == "unsteady: half of its runs lie within a factor of 2.0"
    assert excess(replace(slow, only=("head",))) == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("host", ["host"]),
        ("host,eyeriss_like", ["host", "eyeriss_like"]),
        ("encoder/image=a,*=b", ["encoder/image=a,*=b"]),
        ("host,encoder/image=a,*=b,c", ["host", "encoder/image=a,*=b", "c"]),
    ],
)
def test_architectures_are_told_from_systems(text: str, wanted: list[str]) -> None:
    assert split_archs(text) == wanted


@pytest.mark.parametrize("text", ["", "host,", "host,,eyeriss_like", " "])
def test_an_architecture_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(MmworkloadError, match="empty name"):
        split_archs(text)


def test_lanes_end_with_the_critical_path(cases: Any, device: Any) -> None:
    graph, _ = cases[0]
    simulation = simulate(graph, device, "roofline", cache=False)
    found = lanes(graph, {row.layer: row.latency_s for row in simulation.layers})

    assert found.end_s == pytest.approx(simulation.critical_path_s)
    assert simulation.concurrency is not None
    assert found.idle_share == pytest.approx(simulation.concurrency.accelerators[-1].idle_share)
    assert modalities(graph) == 2
    assert list(found.busy) == ["x", "y", ""]
    # A chain: y begins where x ends.
    assert found.busy["y"][0][0] == pytest.approx(found.busy["x"][-1][1])
    assert concurrency([]) is None


def test_without_torch_measurements_at_recorded_batches_are_compared(
    measured: Any, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmworkload.tracing.snapshot import path_of
    from mmworkload.validating import study as module

    path = path_of("av-mnist/concat")
    assert path is not None
    graph = LayerGraph.load(path)
    taken = measured(graph, {layer.name: 1e-3 for layer in graph})
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    found = verbs.validate_all(
        ["av-mnist/concat"], [device], simulators=("roofline",), measurements=[taken, replace(taken, batch=7)]
    )
    assert [item.validation.batch for item in found.reports] == [graph.batch]
    assert "1 measurement whose graphs have to be traced" in found.unanswered[0]


def test_a_measurement_with_settings_in_its_name_has_no_recorded_graph(measured: Any, chain: Any) -> None:
    from mmworkload.validating.study import _at_hand

    graph = chain("av-mnist/concat?channels=12", [("dense", "Gemm", "head", 20, 0)])
    assert _at_hand(measured(graph, {"dense": 1e-3}), {}, {}) is None
