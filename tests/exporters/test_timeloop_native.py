"""Folders of Timeloop's own files as architectures: what is read, what is refused, and where their energies come from.

The folder (tests/fixtures/timeloop/native) and its tables and outputs (native_run) went through the real Timeloop and
Accelergy; here they are replayed by stand-ins.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, SimulationError
from mmworkload.exporters.timeloop import NATIVE, native_energies
from mmworkload.exporters.timeloop.native import is_native, read_native
from mmworkload.exporters.timeloop.simulator import PYTHON_VARIABLE, TimeloopSimulator
from mmworkload.exporting import write_export
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem, gemm
from mmworkload.simulating.estimate import Options, check

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parents[1] / "fixtures" / "timeloop"
# As run on the folder for real: the convolution of the recorded outputs, in 8 bits.
CONV = Problem.parse(
    "mac M=48 C=24 P=14 Q=14 R=3 S=3 | Inputs input 8 [C:24, P+R:14~1,1, Q+S:14~1,1] | "
    "Weights weight 8 [M:48, C:24, R:3, S:3] | Outputs output 8 [M:48, P:14, Q:14]"
).canonical()
SMALL = gemm(4, 6, 8, bits=(8, 8, 8)).canonical()


def _stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location("timeloop_stand_in", FIXTURES / "stand_in.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAND_IN = _stand_in()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the folder that may be changed."""
    return Path(shutil.copytree(FIXTURES / "native", tmp_path / "designs" / "native"))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Front end, mapper and Accelergy as stand-ins, an empty cache; the file that lists their calls."""
    place = tmp_path / "tools"
    place.mkdir()
    STAND_IN.install(place, "timeloop-mapper", "docker")
    (place / "accelergy").symlink_to(place / "timeloop-mapper")
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setenv("PATH", STAND_IN.path_with(place))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "calls"))
    monkeypatch.setenv("STAND_IN", str(FIXTURES / "native_run" / "outputs"))
    monkeypatch.setenv("STAND_IN_TABLES", str(FIXTURES / "native_run" / "tables"))
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native_energies, "_FAILED", {})
    monkeypatch.setattr(native_energies, "ACCELERGY_RUNS", type(native_energies.ACCELERGY_RUNS)())
    return tmp_path / "calls"


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def accelergy_runs(calls: Path) -> int:
    return sum(line.startswith("accelergy ") for line in calls.read_text().splitlines()) if calls.is_file() else 0


# --- reading ---------------------------------------------------------------------------------------------------------


def test_what_the_rest_has_to_know_is_read() -> None:
    native = read_native(FIXTURES / "native")

    assert list(native.files) == ["arch.yaml", "variables.yaml", "components_mac.yaml"]
    assert native.files["arch.yaml"] == (FIXTURES / "native" / "arch.yaml").read_text()
    # columns x columns // 2, from variables.yaml.
    assert (native.mesh, native.elements) == ((8, 4), 32)
    assert (native.clock_mhz, native.technology) == (500.0, "45nm")
    assert native.levels == ("main_memory", "buffer", "weight_file", "sum_file")
    assert (native.word_bits, native.width_bits) == (8, 64)
    assert (native.read_bandwidth, native.write_bandwidth) == (8.0, 4.0)
    assert (native.compute, native.compute_class) == ("unit", "multiplier_mac")


def test_it_is_an_architecture_without_energies_of_its_own(folder: Path) -> None:
    found = architectures.load(folder)

    assert found.kind == "native"
    assert found.native == str(folder)
    assert (found.elements, found.clock_mhz, found.technology_nm) == (32, 500.0, 45)
    assert list(found.levels) == ["main_memory"]
    assert found.bits == {"weight": 8, "input": 8, "output": 8}
    assert (found.dram.read_bandwidth, found.dram.write_bandwidth) == (8.0, 4.0)
    assert not found.charged
    assert "one elementwise operation a cycle and element" in found.description
    assert TimeloopSimulator().fidelity(found).level == "exact"
    assert "native" in TimeloopSimulator.kinds


def test_an_edited_folder_is_another_architecture_but_a_comment_is_none(folder: Path) -> None:
    before = architectures.load(folder)
    edit(folder / "arch.yaml", "architecture:\n", "# a comment\n\narchitecture:\n")
    commented = architectures.load(folder)
    edit(folder / "variables.yaml", "buffer_rows: 4096", "buffer_rows: 8192")
    larger = architectures.load(folder)

    assert before.key == commented.key != larger.key


def test_a_dram_without_bandwidth_gets_a_stated_assumption(folder: Path) -> None:
    edit(folder / "arch.yaml", ", read_bandwidth: 8, write_bandwidth: 4", "")

    found = architectures.load(folder)

    assert (found.dram.read_bandwidth, found.dram.write_bandwidth) == (8.0, 8.0)
    assert "8 words a cycle at main_memory" in found.description
    assert read_native(folder).read_bandwidth is None


def test_files_of_one_problem_and_what_the_tool_wrote_are_left_out(folder: Path) -> None:
    key = read_native(folder).key
    (folder / "problem.yaml").write_text("problem: {version: 0.4, instance: {}, shape: {}}\n")
    (folder / "mapping.yaml").write_text("mapping: []\n")
    (folder / "parsed-processed-input.yaml").write_text("architecture: {version: 0.3}\n")
    (folder / "timeloop-mapper.ERT.yaml").write_text("ERT: {version: 0.4, tables: []}\n")
    (folder / "notes.yaml").write_text("author: nobody\n")

    native = read_native(folder)

    assert native.left_out == ("mapping.yaml", "problem.yaml")
    assert native.key == key


def test_components_beside_the_folder_are_used_as_in_the_public_exercises(folder: Path) -> None:
    shutil.move(folder / "components", folder.parent / "_components")

    assert list(read_native(folder).files) == ["arch.yaml", "variables.yaml", "_components_mac.yaml"]


def test_a_folder_of_something_else_is_nobodys_architecture(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("architecture_notes: none\n")

    assert not is_native(tmp_path)
    assert NATIVE(tmp_path) is None
    with pytest.raises(ArchitectureError, match="no tool reads this folder as an architecture"):
        architectures.load(tmp_path)


ARCH, VARIABLES = "arch.yaml", "variables.yaml"


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        (ARCH, "version: 0.4", "version: 0.3", r"arch.yaml: architecture has version 0.3; only .* form 0.4"),
        (ARCH, "  nodes:", "  subtree:", r"architecture.nodes is missing"),
        (ARCH, "meshX: columns", "meshX: rows", r"nodes\[4\].spatial.meshX is 'rows', .*no variable 'rows'"),
        (ARCH, "meshX: columns", "meshX: ceil(columns)", r"only numbers, names under variables"),
        (ARCH, "meshX: columns", "meshX: 2.5", r"meshX is 2.5; it is a whole number from 1"),
        (ARCH, "- !Container", "- !Box", r"nodes\[0\]: expected !Container"),
        (ARCH, "class: multiplier_mac", "class: adder_tree", "the last node has to be a compute component"),
        (ARCH, "width: 64, datawidth: 8, read", "width: 64, read", r"nodes\[1\].attributes has no datawidth"),
        (ARCH, "datawidth: 8, read", "datawidth: 0, read", r"datawidth is 0; it is a whole number from 1"),
        (
            ARCH,
            "keep: [Inputs, Outputs]",
            "keep: [Ifmaps, Outputs]",
            r"keep: the data space 'Ifmaps' is in none of our",
        ),
        (ARCH, "factors: [N=1, G=1, P=1]", "factors: N=1 K<=4", r"factors: the dimension 'K' is in none of our"),
        (ARCH, "permutation: [N,", "permutation: [B,", r"permutation: the dimension 'B'"),
        (ARCH, "name: buffer", "name: leakage", r"nodes\[3\]: a level cannot be called 'leakage'"),
        (ARCH, "name: system", "name: {{ system }}", r"is a Jinja template; expand it"),
        (ARCH, "architecture:\n", "architecture: [\n", r"arch.yaml is not YAML"),
        (VARIABLES, "  global_cycle_seconds: 2e-9\n", "", r"no 'global_cycle_seconds'; put a variables.yaml beside it"),
        (VARIABLES, "2e-9", "2", r"global_cycle_seconds is 2; it is in seconds"),
        (ARCH, '{technology: "45nm"}', "{technology: -1}", r"technology is '-1'; it is a node like 45nm"),
        (VARIABLES, "variables:", "problem: {}\nvariables:", r"has the section 'problem' beside others"),
        (VARIABLES, "variables:", "architecture: {}\nvariables:", r"both arch.yaml and variables.yaml have a section"),
        (VARIABLES, "variables:", "ERT: {version: 0.4, tables: []}\nvariables:", r"only one of ERT and ART"),
    ],
)
def test_what_cannot_be_read_gets_one_error_with_its_place(
    file: str, before: str, after: str, message: str, folder: Path
) -> None:
    edit(folder / file, before, after)

    with pytest.raises(ArchitectureError, match=message):
        read_native(folder)


def test_a_template_alone_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "top.yaml.jinja2").write_text("architecture: {{include('arch.yaml', 'architecture')}}\n")

    with pytest.raises(ArchitectureError, match=r"top\.yaml\.jinja2 is a Jinja template"):
        architectures.load(tmp_path)


EXAMPLE = "architecture:\n  version: 0.4\n  nodes:\n  - !Component {name: mac, class: intmac}\n"
FORM_0_3 = """architecture:
  version: 0.3
  subtree:
  - name: system
    local:
    - {name: DRAM, class: DRAM, attributes: {width: 64, word-bits: 8}}
    - {name: "MAC[0..167]", class: intmac, attributes: {datawidth: 8, meshX: 12}}
"""


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "all.yaml",
            f"{EXAMPLE}mapper: {{version: 0.4}}\nproblem: {{version: 0.4}}\n",
            r"all\.yaml is Timeloop's own input \(architecture, mapper, problem\), which is given as a folder: put"
            r" it into one without its section problem, .*--arch FOLDER",
        ),
        (
            "nodes.yaml",
            "- !Container\n  name: system\n",
            r"own input \(nodes\), which is given as a folder: .*--arch FOLDER",
        ),
        (
            "parts.yaml",
            "components:\n  version: 0.4\n  classes: []\n",
            r"own input \(components\), which is given as a folder",
        ),
        (
            "old.yaml",
            FORM_0_3,
            r"old\.yaml is Timeloop's own input of version 0\.3; only .* form 0\.4 .*spatial: \{meshX: 168\}",
        ),
        ("rules.yaml", "architecture_constraints:\n  targets: []\narchitecture: {}\n", r"of version 0\.3; only"),
        ("top.yaml.jinja2", "architecture: {{include('a.yaml')}}\n", r"top\.yaml\.jinja2 is a Jinja template"),
    ],
)
def test_one_file_of_the_tools_own_gets_an_error_that_says_what_to_give(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ArchitectureError, match=message) as caught:
        architectures.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_of_a_file_in_a_folder_that_can_be_read_the_folder_is_what_to_give(folder: Path) -> None:
    for file in (folder / ARCH, folder / "components" / "mac.yaml"):
        where = re.escape(str(folder))
        with pytest.raises(ArchitectureError, match=rf"which is given as a folder: --arch {where}$"):
            architectures.load(file)
    assert architectures.load(folder).kind == "native"


def test_constraints_of_version_0_3_in_a_folder_are_refused_and_not_left_out(folder: Path) -> None:
    (folder / "constraints.yaml").write_text("mapspace_constraints:\n  targets: []\n")

    with pytest.raises(ArchitectureError, match=r"constraints\.yaml: mapspace_constraints is of version 0\.3"):
        read_native(folder)


def test_components_of_version_0_3_are_refused(folder: Path) -> None:
    (folder / "more.yaml").write_text("components: {version: 0.3, classes: []}\n")

    with pytest.raises(ArchitectureError, match=r"more\.yaml: components has version 0\.3"):
        read_native(folder)


@pytest.mark.parametrize("place", [".", ".."])
def test_variables_that_lie_in_a_template_are_said(place: str, folder: Path) -> None:
    (folder / VARIABLES).unlink()
    template = folder / place / "top.yaml.jinja2"
    template.write_text(
        "architecture: {{include('arch.yaml', 'architecture')}}\n"
        'variables:\n  version: 0.4\n  technology: "65nm"\n\n  global_cycle_seconds: 1e-8\nmapper: {}\n'
    )

    edit(folder / ARCH, "meshX: columns, meshY: columns // 2", "meshX: 4, meshY: 2")

    with pytest.raises(ArchitectureError) as caught:
        read_native(folder)
    _, _, advice = str(caught.value).partition("put a variables.yaml beside it: ")
    stated, _, where = advice.partition(", as ")
    expected = {"version": 0.4, "technology": "65nm", "global_cycle_seconds": "1e-8"}
    assert yaml.safe_load(stated)["variables"] == expected
    assert Path(where.removesuffix(" has it")).samefile(template)
    # What the error says is what helps.
    (folder / VARIABLES).write_text(stated)
    assert read_native(folder).clock_mhz == 100


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        (ARCH, "meshX: columns,", f"meshX: {'-' * 80_000}1,", "which is not a number"),
        (ARCH, "meshX: columns,", "meshX: .inf,", "meshX is inf"),
        (ARCH, "meshX: columns,", f"meshX: 1{'0' * 400},", "which is not a number"),
        (VARIABLES, "variables:", "variables: [1]\nunused:", "variables is a mapping"),
        (ARCH, "factors: [N=1, G=1, P=1]", f"factors: ['{'A' * 80_000}', 'K{' ' * 80_000}=1']", "the dimension 'K'"),
    ],
)
def test_values_without_end_get_one_error(file: str, before: str, after: str, message: str, folder: Path) -> None:
    edit(folder / file, before, after)

    with pytest.raises(ArchitectureError, match=message):
        read_native(folder)


def test_variables_that_name_each_other_are_worked_out_once(folder: Path) -> None:
    names = [f"v{number}" for number in range(60)]
    chain = "".join(f"  {name}: {after} + {after}\n" for name, after in itertools.pairwise(names))
    edit(folder / VARIABLES, "variables:\n", f"variables:\n{chain}  {names[-1]}: 1\n")
    edit(folder / ARCH, "meshX: columns,", f"meshX: {names[0]},")

    assert read_native(folder).mesh[0] == 2**59


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_has_the_folders_files_as_they_are_and_accelergys_tables(folder: Path, tools: Path) -> None:
    job = TimeloopSimulator().prepare(CONV, architectures.load(folder), Options())

    assert list(job.files) == [
        *("native_arch.yaml", "native_variables.yaml", "native_components_mac.yaml"),
        *("mapper.yaml", "problem.yaml", "ert.yaml", "art.yaml"),
    ]
    assert job.files["native_arch.yaml"] == (folder / "arch.yaml").read_text()
    told = {
        table["name"]: {action["name"]: action["energy"] for action in table["actions"]}
        for table in yaml.safe_load(job.files["ert.yaml"])["ERT"]["tables"]
    }
    assert told["system_top_level.buffer[1..1]"] == {
        "leak": 0.00208904,
        "read": 22.1883,
        "update": 21.0779,
        "write": 21.0779,
    }
    assert told["system_top_level.unit[1..32]"]["compute"] == 0.618325
    areas = {item["name"]: item["area"] for item in yaml.safe_load(job.files["art.yaml"])["ART"]["tables"]}
    assert areas["system_top_level.buffer[1..1]"] == 234821.0


def test_the_answer_is_the_real_runs(folder: Path, tools: Path, tmp_path: Path) -> None:
    arch = architectures.load(folder)
    simulator = TimeloopSimulator()
    directory = tmp_path / "job"
    directory.mkdir()

    estimate = check(simulator.run(simulator.prepare(CONV, arch, Options()), directory), CONV, arch)

    assert (estimate.cycles, estimate.macs, estimate.utilization) == (112896, 2032128, 0.5625)
    assert estimate.latency_s == pytest.approx(112896 / 500e6)
    # The compute unit is called as everywhere; Accelergy's 0.618325 pJ for each MAC.
    assert list(estimate.energy_j) == ["mac", "sum_file", "weight_file", "buffer", "main_memory", "leakage"]
    assert estimate.energy_j["mac"] == pytest.approx(2032128 * 0.618325e-12, rel=1e-6)
    # 8 words an access of 512 pJ.
    assert estimate.energy_j["main_memory"] == pytest.approx((10368 + 6144 + 9408) / 8 * 512e-12)
    assert estimate.energy_j["leakage"] == pytest.approx(1.2389e-9)
    assert estimate.traffic_bytes["main_memory"] == {"weight": 10368, "input": 6144, "output": 9408}
    assert estimate.footprints == {"weight": 10368, "input": 6144, "output": 9408}


def test_accelergy_runs_once_for_an_architecture(folder: Path, tools: Path) -> None:
    arch = architectures.load(folder)
    simulator = TimeloopSimulator()

    jobs = [simulator.prepare(problem, arch, Options()) for problem in (CONV, SMALL, CONV)]

    assert len({job.key for job in jobs}) == 2
    assert accelergy_runs(tools) == 1
    assert dict(native_energies.ACCELERGY_RUNS) == {read_native(folder).key: 1}
    edit(folder / "variables.yaml", "buffer_rows: 4096", "buffer_rows: 8192")
    simulator.prepare(CONV, architectures.load(folder), Options())
    assert accelergy_runs(tools) == 2


def test_ours_need_no_accelergy(tools: Path) -> None:
    arch = architectures.load("eyeriss_like")

    TimeloopSimulator().prepare(CONV.with_bits(arch.bits), arch, Options())

    assert accelergy_runs(tools) == 0


def test_processes_that_start_together_run_accelergy_once(
    folder: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough that all of them are there before the first is ready.
    monkeypatch.setenv("STAND_IN_DELAY", "2")
    script = (
        "import sys; from mmworkload import arch; from mmworkload.problem import gemm;"
        "from mmworkload.exporters.timeloop import SIMULATOR; from mmworkload.simulating.estimate import Options;"
        "print(SIMULATOR.prepare(gemm(4, 6, 8, bits=(8, 8, 8)).canonical(), arch.load(sys.argv[1]), Options()).key)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    keys = {process.communicate()[0].strip() for process in started}

    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(keys) == 1
    assert accelergy_runs(tools) == 1


def test_a_damaged_table_is_made_anew(folder: Path, tools: Path) -> None:
    arch, simulator = architectures.load(folder), TimeloopSimulator()
    before = simulator.prepare(SMALL, arch, Options())
    (kept,) = (tools.parent / "cache" / "timeloop_tables").glob("*.json")
    content = json.loads(kept.read_text())
    content["tables"]["ert"] = content["tables"]["ert"].replace("22.1883", "2.21883")
    kept.write_text(json.dumps(content))

    assert simulator.prepare(SMALL, arch, Options()).files == before.files
    assert accelergy_runs(tools) == 2


def test_a_failure_of_accelergy_is_told_once_and_remembered(
    folder: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_TABLES", "fail")
    arch = architectures.load(folder)

    for _ in range(3):
        with pytest.raises(SimulationError, match="Accelergy cannot estimate native: none of its plug-ins knows"):
            TimeloopSimulator().prepare(SMALL, arch, Options())

    assert accelergy_runs(tools) == 1


def test_tables_and_mapper_of_the_folder_are_used(folder: Path, tools: Path) -> None:
    for table in ("ERT", "ART"):
        shutil.copy(FIXTURES / "native_run" / "tables" / f"{table}.yaml", folder)
    (folder / "mapper.yaml").write_text("mapper: {version: 0.4, algorithm: random, victory_condition: 7}\n")

    job = TimeloopSimulator().prepare(SMALL, architectures.load(folder), Options())

    assert [name for name in job.files if not name.startswith("native_")] == ["problem.yaml"]
    assert {"native_ERT.yaml", "native_ART.yaml", "native_mapper.yaml"} <= set(job.files)
    assert accelergy_runs(tools) == 0


def test_the_containers_accelergy_estimates_for_the_containers_jobs(folder: Path, tools: Path) -> None:
    options = Options(extra={"timeloop_runner": "docker", "timeloop_image": "an/image:1"})

    job = TimeloopSimulator().prepare(SMALL, architectures.load(folder), options)

    assert job.version == "image sha256:abababababab"
    assert "ert.yaml" in job.files
    assert accelergy_runs(tools) == 1
    run = next(line for line in tools.read_text().splitlines() if line.startswith('docker ["run"'))
    # It writes into its plug-ins' folders, so it runs as the image's own user.
    assert "--estimate" in run
    assert "--user" not in run


def test_a_native_folder_is_used_as_it_is_or_not_at_all(folder: Path, tools: Path) -> None:
    arch = architectures.load(folder)

    with pytest.raises(SimulationError, match=r"words of 8 bits and the operands 16; .* leave the precision out"):
        TimeloopSimulator().prepare(gemm(4, 4, 4, bits=(16, 16, 16)).canonical(), arch, Options())
    with pytest.raises(SimulationError, match="needs Timeloop's front end"):
        TimeloopSimulator().prepare(SMALL, arch, Options(extra={"timeloop_runner": "binary"}))


def test_large_primes_are_padded_unless_the_search_is_free(folder: Path, tools: Path) -> None:
    arch = architectures.load(folder)
    tokens = gemm(197, 8, 8, bits=(8, 8, 8)).canonical()

    padded = TimeloopSimulator().prepare(tokens, arch, Options())
    free = TimeloopSimulator().prepare(tokens, arch, Options(extra={"timeloop_array": "free"}))

    assert json.loads(padded.options["expected"])["padded"] == "N 197 to 198"
    assert json.loads(free.options["expected"])["padded"] == ""


def test_an_export_has_the_folder_as_it_is_and_runs(folder: Path, tools: Path, tmp_path: Path) -> None:
    tensors = {name: Tensor(name, (4,), "float32", 32, "input", name) for name in ("x", "y")}
    layer = Layer("conv", "conv2d", work=(Work(CONV),), reads=(("x", 1),), writes=(("y", 1),))
    graph = LayerGraph("one", "", 1, "float32", (layer,), tensors)

    export = write_export("timeloop", graph, architectures.load(folder), tmp_path / "out", {})
    done = subprocess.run([sys.executable, "run.py"], cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    alone = subprocess.run(
        [sys.executable, "run.py", "--binary"], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )

    assert [name for name in export.files if not name.startswith(("manifest", "README"))] == [
        *("expected.json", "mapper.yaml", "native/arch.yaml", "native/components_mac.yaml", "native/variables.yaml"),
        *(f"problems/001_conv_{CONV.key[:8]}.yaml", "run.py", "workload.json"),
    ]
    assert (tmp_path / "out" / "native" / "arch.yaml").read_bytes() == (folder / "arch.yaml").read_bytes()
    assert (done.returncode, done.stdout.split()[1:3]) == (0, ["ok", "112896"])
    used = tools.read_text().splitlines()[-1].split()
    assert used == [
        "mapper",
        "mapper.yaml",
        "arch.yaml",
        "components_mac.yaml",
        "variables.yaml",
        f"001_conv_{CONV.key[:8]}.yaml",
    ]
    assert (alone.returncode, alone.stderr) == (2, "timeloop-mapper alone cannot read this architecture\n")


@pytest.mark.skipif(TimeloopSimulator().unavailable() is not None, reason="Timeloop is not installed")
def test_the_real_tools_give_the_recorded_tables_and_accept_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(tmp_path / "cache"))
    arch: Architecture = architectures.load(folder)
    simulator = TimeloopSimulator()
    directory = tmp_path / "job"
    directory.mkdir()

    job = simulator.prepare(SMALL, arch, Options(effort="quick"))
    estimate = check(simulator.run(job, directory), SMALL, arch)

    assert estimate.macs == SMALL.macs == 192
    assert estimate.energy_j["mac"] > 0
    assert not (directory / "output" / "timeloop-mapper.accelergy.log").exists()
