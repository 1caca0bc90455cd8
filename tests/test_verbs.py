"""The verbs in Python: they take names, files and graphs, and fit together."""

from __future__ import annotations

import html.parser
from dataclasses import replace
from pathlib import Path

import pytest

import mmworkload
from mmworkload.errors import MmworkloadError
from mmworkload.measuring.result import Measurement, Spread


@pytest.fixture(scope="module")
def measurement() -> Measurement:
    return mmworkload.measure("av-mnist/image", batch=2, warmup=0, repeats=5, limit_s=5.0)


def test_a_graph_file_and_a_name_simulate_alike(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    graph = mmworkload.trace("av-mnist/image")
    graph.save(path)
    results = [mmworkload.simulate(source, "eyeriss_like", simulator="roofline") for source in (graph, str(path))]
    assert [row.cycles for row in results[0].layers] == [row.cycles for row in results[1].layers]
    assert sum(row.macs for row in results[0].layers) == 149032
    assert mmworkload.load(str(path)) == graph


def test_a_workload_of_two_parts_adds_up_with_its_counts() -> None:
    from mmworkload.graph import Part, Workload

    graph = mmworkload.trace("av-mnist/image")
    once = mmworkload.simulate(graph, "eyeriss_like", simulator="roofline")
    workload = Workload("twice", (Part(graph, "first", 1), Part(graph, "again", 3)))
    four = mmworkload.simulate(workload, "eyeriss_like", simulator="roofline")
    assert workload.total_macs == 4 * 149032
    assert four.serial_latency_s == pytest.approx(4 * once.serial_latency_s, rel=1e-12)
    assert four.unique_problems == once.unique_problems


def test_a_saved_measurement_replaces_measuring(measurement: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    measurement.save(path)
    report = mmworkload.validate(
        "av-mnist/image", "eyeriss_like", simulator="roofline", measurement=Measurement.load(path)
    )
    assert report.measurement == measurement
    assert report.graph.batch == 2
    assert [row.layer for row in report.validation.layers] == [layer.name for layer in report.graph]


def test_only_narrows_both_sides_of_a_saved_measurement(measurement: Measurement) -> None:
    report = mmworkload.validate(
        "av-mnist/image", "eyeriss_like", simulator="roofline", measurement=measurement, only=["head"]
    )
    assert [row.layer for row in report.validation.layers] == ["head.0", "head.1", "head.2"]
    assert [item.layer for item in report.measurement.layers] == ["head.0", "head.1", "head.2"]


def test_a_measurement_of_another_model_is_refused(measurement: Measurement) -> None:
    with pytest.raises(MmworkloadError, match="the measurement is of av-mnist/image at batch 2"):
        mmworkload.validate("av-mnist/concat", "eyeriss_like", simulator="roofline", measurement=measurement)
    with pytest.raises(MmworkloadError, match="at batch 2"):
        mmworkload.validate("av-mnist/image", "eyeriss_like", simulator="roofline", measurement=measurement, batch=3)


def test_the_report_is_one_html_file(measurement: Measurement, tmp_path: Path) -> None:
    steady = replace(measurement, eager=Spread.of([0.001]), graph=Spread.of([0.001]))
    report = mmworkload.validate("av-mnist/image", "eyeriss_like", simulator="roofline", measurement=steady)
    path = tmp_path / "report.html"
    report.write_html(path)
    text = path.read_text()
    html.parser.HTMLParser().feed(text)
    assert "av-mnist/image" in text
    assert "roofline" in text
    assert "<svg" in text


def test_a_saved_graph_cannot_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    mmworkload.trace("av-mnist/image").save(path)
    with pytest.raises(MmworkloadError, match="cannot be run"):
        mmworkload.measure(str(path))


def test_a_graph_has_the_batch_it_was_traced_with() -> None:
    graph = mmworkload.trace("av-mnist/image", batch=2)
    assert mmworkload.trace(graph, batch=2) is graph
    with pytest.raises(MmworkloadError, match="traced with batch 2"):
        mmworkload.trace(graph, batch=3)


def test_without_torch_a_workload_comes_from_its_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmworkload import sources

    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    assert mmworkload.trace("av-mnist/slf").total_macs == 11993032
    with pytest.raises(MmworkloadError, match=r"mmworkload\[trace\]"):
        mmworkload.trace("av-mnist/slf", batch=2)
