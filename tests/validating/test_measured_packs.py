"""Packs of measurements: lossless, refused when damaged, merged by run, and as good as the files they were made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.measuring.folder import Result, save
from mmworkload.packs import measured as packs
from mmworkload.packs.measured import MeasuredPack, add_measured, collect, name_of

FACTS = {"device_name": "A round CPU", "date_utc": "2026-11-20T10:00:00+00:00", "versions": {"torch": "2.15"}}


@pytest.fixture
def taken(chain: Any, measured: Any) -> list[Any]:
    found = []
    for name, seconds in (("one", 1e-3), ("two", 0.1 + 0.2)):
        graph = chain(name, [("dense", "Gemm", "encoder/x", 200, 0), ("copy", "Relu", "head", 0, 100_000)])
        found.append(measured(graph, {item.name: seconds for item in graph}, provenance=FACTS))
    return found


@pytest.fixture
def pack(taken: list[Any], tmp_path: Path) -> Path:
    ((path, _, new),) = add_measured([Result(item) for item in taken], tmp_path / "packs")
    assert (path.name, new) == ("a_round_cpu.parquet", 2)
    return path


def test_a_pack_gives_back_every_measurement_exactly(pack: Path, taken: list[Any]) -> None:
    found = MeasuredPack.load(pack)
    assert (found.device, found.recorded) == ("A round CPU", "2026-11-20")
    assert found.measurements == tuple(taken)


def test_a_pack_is_a_table_for_pandas(pack: Path) -> None:
    import pandas

    table = pandas.read_parquet(pack)
    assert list(table.model) == ["one", "one", "two", "two"]
    assert list(table.layer) == ["dense", "copy"] * 2
    assert list(table.median_s) == [1e-3, 1e-3, 0.1 + 0.2, 0.1 + 0.2]


def test_the_same_measurements_give_the_same_bytes_and_nothing_new(pack: Path, taken: list[Any]) -> None:
    before = pack.read_bytes()
    ((_, _, new),) = add_measured([Result(item) for item in reversed(taken)], pack.parent)
    assert (new, pack.read_bytes()) == (0, before)


def test_a_new_run_replaces_the_old_one_of_its_model_batch_and_type(pack: Path, taken: list[Any]) -> None:
    again = replace(taken[0], unattributed_s=5.0)
    other = replace(taken[0], dtype="bfloat16")
    ((_, merged, new),) = add_measured([Result(again), Result(other)], pack.parent)
    assert (len(merged.measurements), new) == (3, 2)
    assert MeasuredPack.load(pack).by_run["one", again.batch, again.dtype] == again


def test_a_tampered_row_a_truncated_file_and_another_file_are_refused(pack: Path, tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(pack)
    halved = pyarrow.array([value / 2 for value in table["median_s"].to_pylist()])
    faster = table.set_column(table.column_names.index("median_s"), "median_s", halved)
    pyarrow.parquet.write_table(faster, tmp_path / "faster.parquet")
    with pytest.raises(FormatError, match="not as it was recorded"):
        MeasuredPack.load(tmp_path / "faster.parquet")
    (tmp_path / "short.parquet").write_bytes(pack.read_bytes()[:-100])
    with pytest.raises(FormatError, match="cannot be read as a pack of measurements"):
        MeasuredPack.load(tmp_path / "short.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(FormatError, match="not a pack of measurements"):
        MeasuredPack.load(tmp_path / "other.parquet")


def test_files_folders_packs_and_installed_devices_give_the_same_measurements(
    pack: Path, taken: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for item in taken:
        item.save(tmp_path / "loose" / f"{item.model}.json")
        save(Result(item), tmp_path / "folders" / item.model)
    (tmp_path / "loose" / "other.json").write_text("[1]")
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "loose" / "other.parquet")
    monkeypatch.setattr(packs, "files", lambda: {"a_round_cpu": pack})
    for place in (tmp_path / "loose", tmp_path / "folders", pack, pack.parent, "a-round-cpu"):
        assert [item.measurement for item in collect([place])] == taken
    with pytest.raises(MmworkloadError, match=r"nowhere does not exist; .* installed device: a_round_cpu"):
        collect(["nowhere"])


def test_the_command_makes_a_pack_of_a_folder(taken: list[Any], tmp_path: Path) -> None:
    from mmworkload.cli.app import app

    for item in taken:
        item.save(tmp_path / "loose" / f"{item.model}.json")
    arguments = ["results", "add-measured", str(tmp_path / "loose"), "--packs", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert (row["device"], row["measurements"], row["new"]) == ("A round CPU", 2, 2)
    assert MeasuredPack.load(tmp_path / "out" / "a_round_cpu.parquet").measurements == tuple(taken)


def test_devices_have_plain_names() -> None:
    assert name_of("AMD EPYC (TM) 9654") == "amd_epyc_tm_9654"


def test_an_edited_device_date_or_model_is_refused(pack: Path, tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(pack)
    about = json.loads(table.schema.metadata[b"mmworkload"])
    for name, value in (("device", "Another CPU"), ("recorded", "2030-01-01")):
        edited = table.replace_schema_metadata({b"mmworkload": json.dumps({**about, name: value}).encode()})
        pyarrow.parquet.write_table(edited, tmp_path / f"{name}.parquet")
        with pytest.raises(FormatError, match="not as it was recorded"):
            MeasuredPack.load(tmp_path / f"{name}.parquet")
    other = table.set_column(table.column_names.index("model"), "model", pyarrow.array(["three"] * table.num_rows))
    pyarrow.parquet.write_table(other, tmp_path / "model.parquet")
    with pytest.raises(FormatError, match="not as it was recorded"):
        MeasuredPack.load(tmp_path / "model.parquet")


def test_the_later_measurement_stays_and_a_part_of_a_model_is_refused(pack: Path, taken: list[Any]) -> None:
    older = replace(taken[0], unattributed_s=9.0, provenance={**FACTS, "date_utc": "2020-01-01T00:00:00+00:00"})
    ((_, merged, new),) = add_measured([Result(older)], pack.parent)
    assert (new, merged.by_run["one", 1, "float32"]) == (0, taken[0])
    with pytest.raises(MmworkloadError, match="measured in part"):
        add_measured([Result(replace(taken[0], only=("head",)))], pack.parent)
