"""The page of goals: from any set of measurements, with what makes them doubtful, reproducible by its command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmworkload.errors import MmworkloadError
from mmworkload.host import to_yaml
from mmworkload.measuring.folder import Result, save
from mmworkload.packs.measured import collect
from mmworkload.validating.device import terms
from mmworkload.validating.page import cpus, main, page


def rows(scale: int) -> list[Any]:
    return [("dense", "Gemm", "encoder/x", 200 * scale, 0), ("copy", "Relu", "head", 0, 100_000 * scale)]


@pytest.fixture
def folder(chain: Any, measured: Any, device: Any, tmp_path: Path) -> Path:
    place = tmp_path / "measurements"
    for name, scale in (("one", 1), ("two", 2), ("three", 3)):
        graph = chain(name, rows(scale))
        seconds = {item.name: 2 * terms(item, device).compute_s + 4 * terms(item, device).memory_s for item in graph}
        facts = {"device_name": "A round CPU", "load_average": 7.5, "threads": 1}
        save(Result(measured(graph, seconds, provenance=facts), graph), place / name)
    (place / "cpu.yaml").write_text(to_yaml(device))
    (place / "summary.json").write_text("{}")
    return place


def test_the_page_has_the_goals_misses_and_constants(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "docs" / "validation.md"

    assert main([str(output), str(folder)]) == 0
    text = output.read_text()
    assert text.startswith("# Validation\n\nWritten by `python -m mmworkload.validating.page ")
    assert "## A round CPU" in text
    assert "The machine was busy with other work in 3 of them (load average up to 7.5 for 1 thread)" in text
    goals = [line for line in text.splitlines() if line.startswith("| error of the time, per layer | calibrated |")]
    assert len(goals) == 1
    assert "| at most 15.0 %, median | 6 |" in goals[0]
    assert "| class | part of the peak | part of the bandwidth | a kernel |" in text
    assert "\n| Gemm | " in text
    assert "\n| linear | " in text
    assert "- one: fitted on two, three (4 layers)" in text or "- one: fitted on three, two (4 layers)" in text
    # Nothing of it depends on the time or the order of files.
    before = output.read_bytes()
    assert main([str(output), str(folder)]) == 0
    assert output.read_bytes() == before


def test_a_device_that_nothing_describes_is_excluded_and_said(folder: Path) -> None:
    (folder / "cpu.yaml").unlink()
    measured, archs = collect([folder]), cpus([folder])

    assert (len(measured), archs) == (3, [])
    assert "Excluded: no architecture describes this device." in page(measured, archs, "x")


def test_one_measurement_is_compared_without_calibration(folder: Path) -> None:
    text = page(collect([folder / "one"]), cpus([folder / "cpu.yaml"]), "x")

    assert "roofline" in text
    assert "Calibrated constants" not in text


def test_nothing_to_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "page.md"), str(tmp_path)]) == 2
    assert "no measurement in it or below it" in capsys.readouterr().err
    with pytest.raises(MmworkloadError, match="nowhere does not exist"):
        collect([tmp_path / "nowhere"])
