"""A result as a folder: it comes back as it was, a second one replaces it, damage is one clear error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from mmworkload.errors import FormatError, MmworkloadError  # noqa: E402
from mmworkload.measuring import Execution, Measurement, Result, Spread, measure_result  # noqa: E402
from mmworkload.measuring.folder import check_place, load, save  # noqa: E402
from mmworkload.measuring.result import FusedKernel  # noqa: E402
from mmworkload.models import resolve  # noqa: E402

FILES = {"measurement.json", "graph.yaml", "kernels.parquet", "host.parquet", "timeline.json"}


@pytest.fixture(scope="module")
def taken() -> Result:
    return measure_result(resolve("av-mnist/concat"), warmup=1, repeats=3, limit_s=5.0)


@pytest.fixture
def folder(taken: Result, tmp_path: Path) -> Path:
    place = tmp_path / "result"
    save(taken, place)
    return place


def test_a_result_comes_back_as_it_was(taken: Result, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    read = load(folder)
    assert read.measurement == taken.measurement
    assert read.graph == taken.graph
    assert read.kernels is not None
    assert read.host is not None
    assert read.kernels.equals(taken.kernels)
    assert read.host.equals(taken.host)


def test_frames_and_measurement_agree(taken: Result) -> None:
    assert taken.kernels is not None
    kernels, measurement = taken.kernels, taken.measurement
    runs = kernels["run"].nunique()
    assert runs == measurement.provenance["profiled_runs"]
    by_layer = kernels.groupby("layer")["duration_s"].sum()
    for row in measurement.layers:
        mean_s = by_layer.get(row.layer, 0.0) / runs
        assert row.time.min_s - 1e-12 <= mean_s <= row.time.max_s + 1e-12, row.layer
    assert set(kernels.loc[kernels["layer"] != "", "stage"]) == set(measurement.stages())


def test_another_result_replaces_it_whole(taken: Result, folder: Path) -> None:
    save(Result(taken.measurement), folder)
    assert {path.name for path in folder.iterdir()} == {"measurement.json"}
    read = load(folder)
    assert (read.graph, read.kernels, read.host) == (None, None, None)


def test_a_file_holds_the_measurement_alone(taken: Result, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    save(taken, path)
    read = load(path)
    assert read == Result(taken.measurement)
    assert Measurement.load(path) == taken.measurement


def test_a_folder_of_somebody_else_is_refused_and_left_alone(taken: Result, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for refuse in (lambda: save(taken, tmp_path), lambda: check_place(tmp_path)):
        with pytest.raises(MmworkloadError, match="not written by mmworkload"):
            refuse()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_is_checked_without_leaving_a_trace(tmp_path: Path, folder: Path) -> None:
    for place in (tmp_path / "new", tmp_path / "new.json", folder):
        check_place(place)
    assert {path.name for path in tmp_path.iterdir()} == {"result"}
    (tmp_path / "file").write_text("")
    with pytest.raises(MmworkloadError, match="is a file"):
        check_place(tmp_path / "file")


@pytest.mark.parametrize("name", ["measurement.json", "graph.yaml", "kernels.parquet", "host.parquet"])
def test_damage_names_the_file(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match=name):
        load(folder)


def test_a_frame_without_a_column_is_damage(folder: Path, taken: Result) -> None:
    assert taken.kernels is not None
    taken.kernels.drop(columns=["stream", "launch_s"]).to_parquet(folder / "kernels.parquet")
    with pytest.raises(FormatError, match=r"kernels\.parquet: no column stream, launch_s"):
        load(folder)


def test_the_graph_of_another_measurement_is_damage(folder: Path, taken: Result) -> None:
    assert taken.graph is not None
    replace(taken.graph, batch=7).save(folder / "graph.yaml")
    with pytest.raises(FormatError, match="at batch 7"):
        load(folder)


def test_what_is_no_result_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="measure NAME -o"):
        load(tmp_path)
    with pytest.raises(FormatError, match=r"cannot read .*absent"):
        load(tmp_path / "absent")


def old(measurement: Measurement) -> dict[str, Any]:
    """As version 1 wrote it."""
    data = measurement.to_dict() | {"schema_version": 1}
    for name in ("stage_times", "overhead", "attributed_share", "executions", "straggler"):
        del data[name]
    return data


def test_a_file_of_version_1_is_read(taken: Result, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old(taken.measurement)))
    read = load(path).measurement
    assert read == replace(taken.measurement, stage_times=(), overhead={}, attributed_share=None, executions=())
    # Without the stage level the encoders are compared by their kernels.
    assert read.straggler.modality in ("image", "audio")


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_other_versions_are_refused(taken: Result, version: Any) -> None:
    with pytest.raises(FormatError, match="schema_version 1 or 2"):
        Measurement.from_dict(taken.measurement.to_dict() | {"schema_version": version})


def test_executions_survive_a_file(taken: Result, tmp_path: Path) -> None:
    kernels = (FusedKernel("triton_poi_fused_relu_0", ("a", "b"), 1e-6, 2), FusedKernel("gemm", (), 2e-6, 1))
    more = replace(taken.measurement, executions=(Execution("compile", "compiled", Spread.of([1.0, 2.0]), kernels),))
    more.save(tmp_path / "m.json")
    assert Measurement.load(tmp_path / "m.json") == more


def test_a_timeline_is_what_perfetto_reads(folder: Path, taken: Result) -> None:
    assert taken.host is not None
    data = json.loads((folder / "timeline.json").read_text())
    spans = [item for item in data["traceEvents"] if item["ph"] == "X"]
    names = {item["pid"]: item["args"]["name"] for item in data["traceEvents"] if item["name"] == "process_name"}
    # On the CPU there is no track of a device.
    assert names == {1: "stages", 2: "layers", 3: "host"}
    assert all(set(item) == {"ph", "name", "cat", "pid", "tid", "ts", "dur", "args"} for item in spans)
    assert all(item["ts"] >= 0 and item["dur"] >= 0 for item in spans)
    host = taken.host
    assert sum(item["pid"] == 3 for item in spans) == (host["run"] == host["run"].max()).sum()
    order = [item["name"] for item in spans if item["pid"] == 1]
    assert order == ["encoder/image", "encoder/audio", "fusion", "head"]
    layers = [item["name"] for item in spans if item["pid"] == 2]
    assert taken.graph is not None
    assert layers == [layer.name for layer in taken.graph]
