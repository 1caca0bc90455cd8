"""Form 0.3: what is written for the program alone is what the front end makes of form 0.4.

``front_end`` holds what the real front end handed to the program for two of our jobs (``parsed-processed-input.yaml``).
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mmworkload import arch as architectures
from mmworkload.exporters.timeloop import bare
from mmworkload.exporters.timeloop.padding import pad
from mmworkload.exporters.timeloop.runners import Binary
from mmworkload.exporters.timeloop.simulator import TimeloopSimulator
from mmworkload.exporting import write_export
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.simulating.estimate import Options

FIXTURES = Path(__file__).parents[1] / "fixtures" / "timeloop"
TOLD = [("eyeriss_like", "transposed"), ("tpu_like", "conv3d")]
BARE = Options(extra={"timeloop_runner": "binary"})


def _module(name: str) -> ModuleType:
    """A script of the fixtures."""
    spec = importlib.util.spec_from_file_location(f"timeloop_{name}", FIXTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAMILIES = _module("record").FAMILIES


def written(name: str, family: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our form 0.3 and what the front end made of our form 0.4, both loaded."""
    arch = architectures.load(name)
    problem = pad(FAMILIES[family].canonical().with_bits(arch.bits), arch)
    ours = yaml.safe_load(bare.arch_text(arch)) | yaml.safe_load(bare.constraints_text(problem, arch))
    return ours, yaml.safe_load((FIXTURES / "front_end" / f"{name}.{family}.yaml").read_text())


@pytest.mark.parametrize(("name", "family"), TOLD)
def test_levels_are_those_that_the_front_end_makes(name: str, family: str) -> None:
    ours, told = (side["architecture"]["subtree"][0] for side in written(name, family))

    assert ours["name"] == told["name"]
    assert [(level["name"], level["class"]) for level in ours["local"]] == [
        (level["name"], level["class"]) for level in told["local"]
    ]
    for level, other in zip(ours["local"], told["local"], strict=True):
        attributes = {key: value for key, value in level["attributes"].items() if value is not None}
        assert attributes == {key: other["attributes"][key] for key in attributes}, level["name"]
    # 5 ns and 45 nm; YAML reads the front end's 5.0e-09 as a number and so ours.
    assert ours["attributes"] == {key: told["attributes"][key] for key in ours["attributes"]}


@pytest.mark.parametrize(("name", "family"), TOLD)
def test_constraints_are_those_that_the_front_end_makes(name: str, family: str) -> None:
    ours, told = (side["architecture_constraints"]["targets"] for side in written(name, family))

    assert ours == told


def test_a_job_differs_from_the_front_ends_in_two_files_only() -> None:
    arch = architectures.load("eyeriss_like")
    problem = FAMILIES["linear"].canonical().with_bits(arch.bits)
    simulator = TimeloopSimulator()

    alone = simulator.prepare(problem, arch, BARE).files
    front_end = simulator.prepare(problem, arch, Options(extra={"timeloop_runner": "local"})).files

    assert set(front_end) - set(alone) == {"components.yaml", "variables.yaml"}
    assert {name for name in alone if alone[name] != front_end[name]} == {"arch.yaml", "constraints.yaml"}


@pytest.mark.slow
@pytest.mark.skipif(Binary().missing() is not None, reason="timeloop-mapper is not on PATH")
@pytest.mark.parametrize(("name", "family"), [("gemmini_like", "linear"), ("eyeriss_like", "conv3d")])
def test_the_program_alone_finds_the_front_ends_mapping(name: str, family: str, tmp_path: Path) -> None:
    arch = architectures.load(name)
    simulator = TimeloopSimulator()
    job = simulator.prepare(FAMILIES[family].canonical().with_bits(arch.bits), arch, BARE)

    estimate = simulator.run(job, tmp_path)

    # Of one build only; another may find another mapping.
    if job.version.startswith("mapper 6e37ccb782b2"):
        assert estimate.mapping == (FIXTURES / "runs" / name / f"{family}.map.txt").read_text()
    assert estimate.macs == FAMILIES[family].macs


def test_an_export_runs_without_the_front_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = _module("stand_in")
    tools = tmp_path / "tools"
    tools.mkdir()
    stand_in.install(tools, "timeloop-mapper", front_end=False)
    problem = FAMILIES["linear"].canonical()
    outputs = tmp_path / "replayed"
    outputs.mkdir()
    for file in ("stats.txt", "map.txt"):
        recorded = (FIXTURES / "runs" / "eyeriss_like" / f"linear.{file}").read_text()
        (outputs / f"timeloop-mapper.{file}").write_text(recorded)
    monkeypatch.setenv("PATH", stand_in.path_with(tools))
    monkeypatch.setenv("STAND_IN", str(outputs))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "calls"))
    tensors = {name: Tensor(name, (4,), "float32", 32, "input", name) for name in ("x", "y")}
    layer = Layer("fc", "linear", work=(Work(problem),), reads=(("x", 1),), writes=(("y", 1),))
    graph = LayerGraph("one", "", 1, "float32", (layer,), tensors)
    export = write_export("timeloop", graph, architectures.load("eyeriss_like"), tmp_path / "out", {})

    done = subprocess.run(
        [sys.executable, "run.py", "--binary"], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[1:3] == ["ok", "32768"]
    name = f"001_fc_{problem.key[:8]}.yaml"
    assert {"v0.3/arch.yaml", f"v0.3/constraints/{name}"} <= set(export.files)
    used = (tmp_path / "calls").read_text().split()
    assert used == ["binary", "arch.yaml", "mapper.yaml", "ert.yaml", "art.yaml", name, name]
    # The command that the file itself names is the one that ran.
    command = (
        "timeloop-mapper v0.3/arch.yaml mapper.yaml ert.yaml art.yaml problems/NAME.yaml v0.3/constraints/NAME.yaml"
    )
    assert command in (tmp_path / "out" / "v0.3" / "arch.yaml").read_text()
