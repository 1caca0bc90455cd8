"""What lies in an exported folder: names, README, which operand is which; running it, and reading the answers back.

Timeloop itself is replayed from recorded outputs.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mmworkload import arch as architectures
from mmworkload import verbs
from mmworkload.cli.app import app
from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.exporters.naming import FileNames
from mmworkload.exporting import exporters, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem, gemm

FIXTURES = Path(__file__).parents[1] / "fixtures" / "timeloop"
LINEAR = gemm(4, 6, 8, bits=(16, 16, 16))


def graph(*layers: tuple[str, str, str, Problem | None]) -> LayerGraph:
    """Layers by name, operator, stage and problem, one after another."""
    tensors = {"x": Tensor("x", (4,), "float32", 32, "input", "x")}
    made = []
    before = "x"
    for name, op, stage, problem in layers:
        out = f"{name}:out"
        tensors[out] = Tensor(out, (4,), "float32", 32, "activation", out)
        work = (Work(problem),) if problem else ()
        made.append(Layer(name, op, stage=stage, work=work, reads=((before, 16),), writes=((out, 16),)))
        before = out
    return LayerGraph("toy", "", 1, "float32", tuple(made), tensors)


def stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location("timeloop_stand_in_here", FIXTURES / "stand_in.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- names ------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=8, unique=True))
def test_names_are_safe_unique_and_in_order_whatever_layers_are_called(layers: list[str]) -> None:
    problems = [gemm(4, 6, 8 + index) for index in range(len(layers))]
    names = FileNames(Workload.of(LayerGraph("none", "", 1, "float32", (), {})))

    found = [names.name(problem, layer) for problem, layer in zip(problems, layers, strict=True)]

    assert found == sorted(found)
    assert len({name.lower() for name in found}) == len(found)
    for name in found:
        assert len(name) <= 80
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert name[:3].isdigit()


def test_a_name_says_place_first_layer_and_key() -> None:
    names = FileNames(Workload.of(graph(("a", "linear", "head", LINEAR))))

    assert names.name(LINEAR, "layer1.0.conv1") == f"001_layer1.0.conv1_{LINEAR.key[:8]}"
    assert names.name(LINEAR, "again") == f"001_layer1.0.conv1_{LINEAR.key[:8]}"


def test_more_than_a_thousand_problems_are_still_in_order() -> None:
    many = graph(*((f"l{index}", "linear", "head", gemm(2, 3, 4 + index)) for index in range(1001)))
    names = FileNames(Workload.of(many))

    found = [names.name(layer.work[0].problem, layer.name) for layer in many]

    assert found == sorted(found)
    assert found[0].startswith("0001_l0_")


# --- README and operands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["accelforge", "timeloop", "zigzag"])
def test_control_characters_in_the_name_of_a_layer_leave_yaml_that_can_be_read(target: str, tmp_path: Path) -> None:
    made = graph(("a\x1b[31m\nb\x7f: [", "aten.linear", "head", LINEAR))
    write_export(target, made, architectures.load("eyeriss_like"), tmp_path / "out", {})
    files = list((tmp_path / "out").rglob("*.yaml"))
    assert files
    for file in files:
        # The scanner reads comments too; tags of Timeloop are no matter of its.
        assert list(yaml.scan(file.read_text("utf-8"), Loader=yaml.SafeLoader))


@pytest.mark.parametrize("target", sorted(exporters()))
def test_every_folder_explains_each_of_its_files_and_how_to_run_it(target: str, tmp_path: Path) -> None:
    source = graph(("fc", "linear", "head", LINEAR))
    export = write_export(target, source, architectures.load("eyeriss_like"), tmp_path / "out", {})

    text = (tmp_path / "out" / "README.md").read_text()

    assert export.run_command in text
    for file in export.files:
        top = f"{file.split('/')[0]}/" if "/" in file else file
        # Further mappings are told together.
        assert top == "README.md" or re.sub(r"-\d+\.yaml$", "-2.yaml", top) in text, file


def test_the_readme_for_timeloop_has_the_containers_line_and_explains_v0_3(tmp_path: Path) -> None:
    write_export(
        "timeloop", graph(("fc", "linear", "head", LINEAR)), architectures.load("eyeriss_like"), tmp_path / "out", {}
    )

    text = (tmp_path / "out" / "README.md").read_text()

    assert "docker run --rm" in text
    assert "timeloopaccelergy/timeloop-accelergy-pytorch" in text
    assert "`v0.3/`: " in text
    assert "mmworkload simulate --from" in text


def test_manifest_and_problems_of_attention_say_which_operand_is_q_k_and_v(tmp_path: Path) -> None:
    scores, values = (
        gemm(5, 7, 8, groups=2, second_role="input"),
        gemm(5, 8, 7, groups=2, second_role="input"),
    )
    one = graph(("attend", "attention", "fusion", scores), ("fc", "linear", "head", LINEAR))
    both = Layer("attend", "attention", stage="fusion", work=(Work(scores), Work(values)), reads=one.layers[0].reads,
                 writes=one.layers[0].writes)  # fmt: skip
    source = LayerGraph("toy", "", 1, "float32", (both, one.layers[1]), one.tensors)

    export = write_export("timeloop", source, architectures.load("eyeriss_like"), tmp_path / "out", {})

    rows = json.loads((tmp_path / "out" / "manifest.json").read_text())["layers"]
    assert [row["operands"] for row in rows] == [
        {"Inputs": "Q", "Weights": "K^T", "Outputs": "scores"},
        {"Inputs": "softmax of the scores", "Weights": "V", "Outputs": "output of the attention"},
        {},
    ]
    texts = [(tmp_path / "out" / row.problem_file).read_text() for row in export.rows]
    assert "# in attention: Inputs is Q, Weights is K^T, Outputs is scores\n" in texts[0]
    assert "Weights is V" in texts[1]
    assert "in attention" not in texts[2]


# --- running and reading back -----------------------------------------------------------------------------------------


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two layers of one problem and a layer without, run with recorded outputs: 32768 cycles each."""
    spec = importlib.util.spec_from_file_location("timeloop_record_here", FIXTURES / "record.py")
    assert spec is not None
    assert spec.loader is not None
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    problem = record.FAMILIES["linear"].canonical()
    tools, outputs = tmp_path / "tools", tmp_path / "replayed"
    tools.mkdir()
    outputs.mkdir()
    stand_in().install(tools, "timeloop-mapper", front_end=False)
    for file in ("stats.txt", "map.txt"):
        recorded = (FIXTURES / "runs" / "eyeriss_like" / f"linear.{file}").read_text()
        (outputs / f"timeloop-mapper.{file}").write_text(recorded)
    monkeypatch.setenv("PATH", stand_in().path_with(tools))
    monkeypatch.setenv("STAND_IN", str(outputs))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "calls"))
    source = graph(
        ("one", "linear", "encoder/a", problem), ("two", "linear", "head", problem), ("pool", "pool", "head", None)
    )
    workload = Workload("both", (Part(source, "prefill"), Part(source, "decode", 3)))
    write_export("timeloop", workload, architectures.load("eyeriss_like"), tmp_path / "out", {})
    return tmp_path / "out"


def run_py(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_run_py_without_the_tool_says_in_one_line_what_is_missing(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_front_end = run_py(ran)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    without_any = run_py(ran, "--binary")

    for done, name in ((without_front_end, "pytimeloop"), (without_any, "timeloop-mapper")):
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"{name} is not installed")
        assert "docker run" in done.stderr
    assert not (ran / "outputs").exists()


def test_run_py_adds_up_layers_stages_and_the_network(ran: Path) -> None:
    done = run_py(ran, "--binary")

    assert (done.returncode, done.stderr) == (0, "")
    with (ran / "outputs" / "layers.csv").open() as stream:
        cycles = {row["layer"]: int(row["cycles"]) for row in csv.DictReader(stream)}
    assert cycles == {
        "prefill: one": 32768,
        "prefill: two": 32768,
        "decode: one": 3 * 32768,
        "decode: two": 3 * 32768,
    }
    with (ran / "outputs" / "stages.csv").open() as stream:
        sums = {row["stage"]: (int(row["layers"]), int(row["cycles"])) for row in csv.DictReader(stream)}
    assert sums == {"encoder/a": (2, 4 * 32768), "head": (2, 4 * 32768), "network": (4, 8 * 32768)}
    assert str(8 * 32768) in done.stdout.splitlines()[-1]


def test_results_are_read_back_into_the_ordinary_simulation(ran: Path) -> None:
    assert run_py(ran, "--binary").returncode == 0

    found = verbs.simulate_from(ran)

    assert (found.model, found.arch, found.chosen) == ("both", "eyeriss_like", "timeloop")
    assert found.version == f"as run in {ran}"
    rows = {(row.part, row.layer): row for row in found.layers}
    assert len(rows) == 6
    first = rows["prefill", "one"]
    assert (first.cycles, first.simulator, first.note) == (32768, "timeloop", "")
    assert first.energy_by_component_j.keys() >= {"dram", "glb", "mac", "leakage"}
    assert rows["prefill", "pool"].simulator == "roofline"
    assert found.totals.cycles == 8 * 32768 + 4 * rows["prefill", "pool"].cycles

    said = CliRunner().invoke(app, ["simulate", "--from", str(ran), "--json"])
    assert said.exit_code == 0
    printed = json.loads(said.stdout)
    assert (printed["model"], printed["critical_path_s"]) == ("both", found.critical_path_s)


def test_a_folder_without_results_is_one_error_and_of_a_part_the_rest_is_told(ran: Path) -> None:
    with pytest.raises(MmworkloadError, match=r"has no results yet: run `python run\.py`"):
        verbs.simulate_from(ran)
    assert run_py(ran, "--binary").returncode == 0
    (stats,) = (ran / "outputs").glob("001_*/timeloop-mapper.stats.txt")
    stats.write_text(stats.read_text().replace("Computes = ", "Computes = 9"))

    found = verbs.simulate_from(ran)

    notes = {row.layer: (row.simulator, row.note) for row in found.layers}
    assert notes["one"][0] == "roofline"
    assert "timeloop gave no answer" in notes["one"][1]


def test_other_folders_and_other_targets_are_refused(ran: Path, tmp_path: Path) -> None:
    write_export(
        "csv", graph(("fc", "linear", "head", LINEAR)), architectures.load("eyeriss_like"), tmp_path / "csv", {}
    )
    (ran / "workload.json").write_text("{}")

    with pytest.raises(MmworkloadError, match="is an export for csv; results of timeloop can be read back"):
        verbs.simulate_from(tmp_path / "csv")
    with pytest.raises(FormatError, match="are not of one export"):
        verbs.simulate_from(ran)
    for arguments in (["--from", str(ran), "av-mnist"], [], ["av-mnist"]):
        assert CliRunner().invoke(app, ["simulate", *arguments]).exit_code == 2
