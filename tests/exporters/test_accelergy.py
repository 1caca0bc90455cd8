"""Accelergy by itself, in the hands of a program that answers like it: one run, kept answers, errors that say why."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmworkload.arch import load
from mmworkload.energy_scaling import Mac, Memory, law, logic_node
from mmworkload.errors import SimulationError, UnavailableError
from mmworkload.exporters.timeloop import accelergy as module
from mmworkload.exporters.timeloop.accelergy import ENERGY_ESTIMATOR, Accelergy, Query, ask
from mmworkload.exporters.timeloop.simulator import PYTHON_VARIABLE
from mmworkload.overriding import overridden
from mmworkload.plugins import plugins

SRAM = Memory("sram", 108, 64, 2, 45)

# Reads cost depth times width over 1000, writes twice that; leakage 1 pJ in 5 ns; area 3 um^2.
PROGRAM = """#!{python}
import json, pathlib, sys, yaml
count = pathlib.Path({count!r})
count.write_text(str(int(count.read_text() or 0) + 1) if count.exists() else "1")
system = yaml.safe_load(pathlib.Path("arch.yaml").read_text())["architecture"]["subtree"][0]
mode = {mode!r}
if mode == "fail":
    print("ERROR   Can not find an energy estimator for regfile(technology=45nm). tried nothing")
    sys.exit(1)
out = pathlib.Path("out")
out.mkdir()
tables, areas, sources = [], [], []
for item in system["local"]:
    of = item["attributes"]
    read = of.get("depth", 1) * of["width"] / 1000
    energies = {{"read": read, "write": 2 * read, "compute": read, "leak": 1.0}}
    actions = [{{"name": name, "energy": energies[name], "arguments": {{}}}} for name in item["required_actions"]]
    if mode == "lacking":
        actions = actions[:1]
    tables.append({{"name": "system." + item["name"], "actions": actions}})
    areas.append({{"name": "system." + item["name"], "area": 3.0}})
    estimator = "dummy" if mode == "dummy" else "CactiSRAM"
    estimators = [{{"x": {{"estimator": estimator}}}}]
    sources.append({{"name": "system." + item["name"], "primitive_estimation(s)": estimators}})
write = lambda name, content: (out / name).write_text(yaml.safe_dump(content))
write("ERT.yaml", {{"ERT": {{"tables": tables}}}})
write("ART.yaml", {{"ART": {{"tables": areas}}}})
write("ERT_summary_verbose.yaml", {{"ERT_summary": {{"table_summary": sources}}}})
write("ART_summary_verbose.yaml", {{"ART_summary": {{"table_summary": sources}}}})
"""


class Tool:
    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, folder / "count"
        self.answers()
        self.is_version("9.1", "0123456789ab")

    def is_version(self, version: str, plug_ins: str) -> None:
        """The Python of the tool answers so, whatever it is asked."""
        python = self.folder / "tool-python"
        python.write_text(f"#!/bin/sh\necho '{json.dumps({'version': version, 'plug_ins': plug_ins})}'\n")
        python.chmod(0o755)
        module._version.cache_clear()

    def answers(self, mode: str = "") -> None:
        program = self.folder / "accelergy"
        program.write_text(PROGRAM.format(python=sys.executable, count=str(self.count), mode=mode))
        program.chmod(0o755)

    @property
    def runs(self) -> int:
        return int(self.count.read_text()) if self.count.exists() else 0


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tool]:
    """A program called accelergy on PATH, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(PYTHON_VARIABLE, str(folder / "tool-python"))
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path / "cache"))
    yield Tool(folder)
    module._version.cache_clear()


def test_it_comes_in_as_a_plug_in() -> None:
    assert plugins("mmworkload.exporters", "ENERGY_ESTIMATOR")["timeloop"] is ENERGY_ESTIMATOR
    assert ENERGY_ESTIMATOR.name == "accelergy"


def test_all_components_are_one_run_and_an_answer_is_kept(tool: Tool) -> None:
    regfile, mac = Memory("regfile", 0.4375, 16, 1, 45), Mac("intmac", 16, 45)
    first, second, third, again = Accelergy().estimate([SRAM, regfile, mac, SRAM])
    assert tool.runs == 1
    # 13824 rows of 64 bits; 1 pJ in 5 ns is 200 microwatts.
    assert first == again == pytest.approx((884.736, 1769.472, 200.0, 3.0))
    assert second == pytest.approx((3.584, 7.168, 200.0, 3.0))
    assert third == pytest.approx((0.016, 0.016, 200.0, 3.0))
    assert Accelergy().estimate([mac, SRAM]) == [third, first]
    assert tool.runs == 1
    Accelergy().estimate([SRAM, Memory("sram", 216, 64, 2, 45)])
    assert tool.runs == 2


def test_width_and_node_of_logic_follow_the_law(tool: Tool) -> None:
    at45, at16 = Accelergy().estimate([Memory("regfile", 0.5, 16, 1, 45), Memory("regfile", 1, 32, 1, 16)])
    energy, area = logic_node(16)
    assert at16 == pytest.approx((2 * energy * at45.read_pj, 2 * energy * at45.write_pj, 400 * energy, 6 * area))
    assert tool.runs == 1


def test_a_damaged_answer_is_asked_for_again(tool: Tool, tmp_path: Path) -> None:
    expected = Accelergy().estimate([SRAM])
    (kept,) = (tmp_path / "cache" / "components").rglob("*.json")
    content = json.loads(kept.read_text())
    assert content["version"] == Accelergy().version()
    assert content["query"]["attributes"]["n_banks"] == 2
    content["answer"]["energy_pj"]["read"] = 1.0
    for text in (json.dumps(content), "{", "[]"):
        kept.write_text(text)
        assert Accelergy().estimate([SRAM]) == expected
    assert tool.runs == 4


def test_another_version_is_asked_anew(tool: Tool) -> None:
    assert Accelergy().version() == "Accelergy 9.1, plug-ins 0123456789ab"
    Accelergy().estimate([SRAM])
    tool.is_version("9.1", "ba9876543210")
    Accelergy().estimate([SRAM])
    assert tool.runs == 2
    Accelergy().estimate([SRAM])
    assert tool.runs == 2


def test_answers_of_unknown_plug_ins_are_not_kept(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This Python has no plug-ins of Accelergy, so it cannot say what answered."""
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    assert Accelergy().version() == "Accelergy of unknown version"
    for _ in range(2):
        Accelergy().estimate([SRAM])
    assert tool.runs == 2
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_a_warning(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path / "file"))
    assert Accelergy().estimate([SRAM])[0].read_pj == pytest.approx(884.736)
    assert "Accelergy's answers are not kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fail", r"no plug-in has an energy estimator for regfile\(technology=45nm\)"),
        ("dummy", r"SRAM .* from its dummy table"),
        ("lacking", "Accelergy gave no leak, write energy of SRAM"),
    ],
)
def test_what_is_no_answer_is_an_error_and_not_kept(tool: Tool, mode: str, message: str) -> None:
    tool.answers(mode)
    with pytest.raises(SimulationError, match=message):
        Accelergy().estimate([SRAM])
    tool.answers()
    assert Accelergy().estimate([SRAM])[0].read_pj == pytest.approx(884.736)


def test_a_tool_that_hangs_is_killed(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    (tool.folder / "accelergy").write_text("#!/bin/sh\nsleep 60\n")
    monkeypatch.setattr(module, "LIMIT_S", 0.2)
    with pytest.raises(SimulationError, match=r"did not end within 0\.2 s"):
        ask([Query("SRAM", {"width": 64}, ("read",))])


def test_where_it_is_missing_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    assert "the program accelergy is not on PATH" in str(Accelergy().unavailable())
    with pytest.raises(UnavailableError, match="not on PATH"):
        Accelergy().estimate([SRAM])


def test_it_is_found_beside_the_python(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    assert Accelergy().unavailable() is not None
    monkeypatch.setenv(PYTHON_VARIABLE, str(tool.folder / "tool-python"))
    assert Accelergy().unavailable() is None


def test_an_override_takes_its_ratio(tool: Tool) -> None:
    arch = load("eyeriss_like")
    found = overridden(arch, {"levels.glb.size_kib": 216})
    glb, was = found.levels["glb"], arch.levels["glb"]
    assert (glb.energy.read_pj, glb.energy.write_pj) == (2 * was.energy.read_pj, 2 * was.energy.write_pj)
    assert (glb.energy.leak_pj_per_cycle, glb.area_um2) == (was.energy.leak_pj_per_cycle, was.area_um2)
    assert found.rescaled[0].startswith(f"levels.glb by the ratio of {Accelergy().version()} (read x2, write x2,")
    assert tool.runs == 1
    assert overridden(arch, {"levels.glb.size_kib": 216}, estimator="law") != found


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("accelergy") is None or not os.environ.get(PYTHON_VARIABLE), reason="Accelergy is not installed"
)
def test_the_real_one_gives_the_figures_of_the_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path))
    arch = load("eyeriss_like")
    found = overridden(arch, {"levels.glb.size_kib": 128, "compute.bits": 8}, estimator="accelergy")
    textbook = load("simple_weight_stationary").levels["glb"]
    # Its buffer is the same with 128 KiB.
    assert found.levels["glb"].energy.read_pj == pytest.approx(textbook.energy.read_pj, rel=1e-3)
    assert found.levels["glb"].area_um2 == pytest.approx(textbook.area_um2, rel=1e-3)
    assert found.compute.energy_pj == pytest.approx(law(Mac("intmac", 8, 45)).read_pj, rel=1e-3)
    assert not any("ratio" in note for note in found.rescaled)
