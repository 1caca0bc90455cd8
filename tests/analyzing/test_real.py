"""Every view on a network that was really measured, on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from mmworkload import verbs
from mmworkload.analyzing import VIEWS, analyze
from mmworkload.measuring import measure_result
from mmworkload.measuring.folder import Result, load, save
from mmworkload.models import resolve
from mmworkload.validating.runs import load_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("real") / "result"
    save(measure_result(resolve("av-mnist/concat"), device="cpu", warmup=1, repeats=3, limit_s=2.0), folder)
    return load(Path(folder))


@pytest.mark.parametrize("view", [name for name, view in VIEWS.items() if "stalls" not in view.needs])
def test_every_view_without_counters_is_made(view: str, real: Result) -> None:
    frame = analyze(view, real)

    assert list(frame.columns) == list(VIEWS[view].columns)
    assert len(frame)


def test_sums_of_the_views_agree(real: Result) -> None:
    model = analyze("A15", real).iloc[0]
    layers = analyze("A14", real)

    assert model["kernel_s"] > 0
    for view in ("A8", "A10", "A12", "D1", "D9a"):
        assert analyze(view, real)["kernel_s"].sum() == pytest.approx(model["kernel_s"])
    assert analyze("A3", real)["layer_s"].sum() == pytest.approx(layers.loc[layers["layer"] != "", "kernel_s"].sum())
    assert analyze("D5", real)["by_operator_s"].sum() == pytest.approx(model["kernel_s"])
    assert analyze("D5", real)["by_name_s"].sum() == pytest.approx(model["kernel_s"])
    assert model["flops"] == analyze("D14", real)["flops"].sum()
    assert model["source"] == "ideal"


def test_every_verb_states_the_same_time_of_each_layer(real: Result, tmp_path: Path) -> None:
    stated = {item.layer: item.time.median_s for item in real.measurement.layers}
    save(real, tmp_path / "result")

    assert analyze("A3", real).set_index("layer")["layer_s"].to_dict() == pytest.approx(stated, rel=1e-6)
    assert load_run(tmp_path / "result").layers == stated
    assert dict(real.measurement.to_pandas().set_index("layer")["time_s"]) == stated
    compared = verbs.validate("av-mnist/concat", "eyeriss_like", simulator="roofline", measurement=real.measurement)
    assert {row.layer: row.sides.measured_s for row in compared.validation.layers} == stated
    unattributed = analyze("A14", real).set_index("layer")["kernel_s"].get("", 0.0)
    assert unattributed == pytest.approx(real.measurement.unattributed_s, rel=1e-6)
