"""A network with exits is compared part by part, from saved measurements or measured now."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from mmworkload import verbs
from mmworkload.errors import MmworkloadError
from mmworkload.measuring.parts import MeasuredParts
from mmworkload.packs.measured import collect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def name(two: str) -> str:
    return f"{two}+exits?p=0.5&per_modality=1&order=listed"


@pytest.fixture(scope="module")
def measured(name: str) -> MeasuredParts:
    return verbs.measure_parts(name, warmup=0, repeats=2, limit_s=0.5)


def test_saved_parts_are_found_by_the_name_of_the_whole(name: str, measured: MeasuredParts, tmp_path: Path) -> None:
    measured.save(tmp_path / "out")
    taken = [item.measurement for item in collect([tmp_path / "out"])]

    (report,) = verbs.validate_all([name], ["eyeriss_like"], simulators=("roofline",), measurements=taken[::-1]).reports

    assert report.measurements == tuple(taken)
    rows = {(row.part, row.layer): row for row in report.validation.layers}
    for part in measured.parts:
        for time in part.result.measurement.layers:
            row = rows[part.name, time.layer]
            assert row.sides.measured_s == pytest.approx(part.count * time.time.median_s)
            assert row.weight == part.count
    assert report.validation.gaps.eager_s == pytest.approx(measured.total_s)
    assert report.validation.serial_s == report.simulation.serial_latency_s


def test_a_part_without_a_measurement_is_named(name: str, measured: MeasuredParts) -> None:
    some = [part.result.measurement for part in measured.parts[1:]]
    with pytest.raises(MmworkloadError, match=r"no measurement of its parts .*#image/1$"):
        verbs.validate(name, "eyeriss_like", simulator="roofline", measurement=some)


def test_what_is_missing_is_measured_here_and_only_keeps_the_parts_with_the_stage(name: str) -> None:
    report = verbs.validate(name, "eyeriss_like", simulator="roofline", only=["head"])

    assert [part.name for part in report.workload.parts] == ["fusion"]
    assert [(row.stage, row.sides.measured_s is not None) for row in report.validation.layers] == [("head", True)]


def test_only_of_saved_parts_leaves_the_others_out(name: str, measured: MeasuredParts) -> None:
    taken = [part.result.measurement for part in measured.parts]
    report = verbs.validate(name, "eyeriss_like", simulator="roofline", only=["encoder/image"], measurement=taken)

    assert [part.name for part in report.workload.parts] == ["image/1", "image/rest"]
    assert {row.stage for row in report.validation.layers} == {"encoder/image"}


def test_without_the_name_of_the_whole_each_saved_part_is_a_comparison(measured: MeasuredParts) -> None:
    results = [part.result for part in measured.parts]
    graphs = {
        (item.graph.model, item.graph.batch, item.graph.dtype): item.graph for item in results if item.graph is not None
    }
    taken = [item.measurement for item in results]
    found = verbs.validate_all([], ["eyeriss_like"], simulators=("roofline",), measurements=taken, graphs=graphs)

    assert [item.validation.model for item in found.reports] == [item.model for item in taken]
