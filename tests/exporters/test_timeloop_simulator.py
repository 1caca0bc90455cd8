"""The Timeloop simulator and the script that runs an export, with a stand-in for the tool that replays real outputs.

The stand-in is a package ``pytimeloop`` and a program ``timeloop-mapper``; everything else is the real thing: the child
process, the files, the checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop import SIMULATOR
from mmworkload.exporters.timeloop.simulator import PYTHON_VARIABLE
from mmworkload.exporting import write_export
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem, gemm
from mmworkload.simulating.energy import leakage_j
from mmworkload.simulating.estimate import Job, Options, check

RECORDED = Path(__file__).parents[1] / "fixtures" / "timeloop"

FRONT_END = """
import os, pathlib, shutil, subprocess, time

class Specification:
    @classmethod
    def from_yaml_files(cls, *files):
        assert all(pathlib.Path(file).is_file() for file in files)
        self = cls()
        self.files = [pathlib.Path(file).name for file in files]
        return self

def call_mapper(specification, output_dir, log_to, return_proc):
    output = pathlib.Path(output_dir)
    (output / "files").write_text(" ".join(specification.files))
    behaviour = os.environ["STAND_IN"]
    if behaviour == "sleep":
        return subprocess.Popen("sleep 60 & echo $! > " + os.environ["STAND_IN_PID"] + "; wait", shell=True)
    if behaviour == "raise":
        raise KeyError("N")
    if behaviour == "no mapping":
        (output / "timeloop-mapper.stats.txt").write_text("")
        pathlib.Path(log_to).write_text("MESSAGE: no valid mappings found within search criteria.")
    else:
        for file in pathlib.Path(behaviour).iterdir():
            shutil.copy(file, output)
    return subprocess.Popen(["true"])
"""

# AV-MNIST's fourth audio convolution, as recorded in eyeriss_conv.
CONV = Problem.parse(
    "mac M=48 C=24 P=14 Q=14 R=3 S=3 | Inputs input 16 [C:24, P+R:14~1,1, Q+S:14~1,1] | "
    "Weights weight 16 [M:48, C:24, R:3, S:3] | Outputs output 16 [M:48, P:14, Q:14]"
).canonical()
# The first product of a ViT's attention, as recorded (padded) in eyeriss_padded.
ATTENTION = gemm(197, 197, 64, groups=12, bits=(16, 16, 16), second_role="input").canonical()


@pytest.fixture
def arch() -> Architecture:
    return architectures.load("eyeriss_like")


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, installed; returns its folder. ``STAND_IN`` says what it does."""
    package = tmp_path / "tool" / "pytimeloop" / "timeloopfe"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "v4.py").write_text(FRONT_END)
    mapper = tmp_path / "tool" / "timeloop-mapper"
    mapper.write_text(f"#!/bin/sh\n# {tmp_path}\n")
    mapper.chmod(0o755)
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "tool"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "tool"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'tool'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "tool"


def replay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: str, *changes: tuple[str, str]) -> None:
    """Makes the stand-in answer with the recorded ``run``, edited."""
    folder = tmp_path / "replayed"
    folder.mkdir()
    for file in ("stats.txt", "map.txt"):
        source = RECORDED / run / f"timeloop-mapper.{file}"
        text = source.read_text()
        for before, after in changes:
            text = text.replace(before, after)
        (folder / source.name).write_text(text)
    monkeypatch.setenv("STAND_IN", str(folder))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


# --- is it there -----------------------------------------------------------------------------------------------------


def test_without_the_tool_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "pytimeloop").exists()])
    monkeypatch.setenv("PATH", str(tmp_path))

    reason = SIMULATOR.unavailable()

    assert reason is not None
    assert "timeloopaccelergy/timeloop-accelergy-pytorch" in reason
    assert "https://timeloop.csail.mit.edu" in reason
    assert PYTHON_VARIABLE in reason
    assert SIMULATOR.version() == "not installed"


def test_a_front_end_without_the_mapper_is_not_enough(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tool.parent))

    assert "timeloop-mapper is not on PATH" in str(SIMULATOR.unavailable())


def test_the_python_that_is_named_must_exist(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(tool / "no-python"))

    assert "no-python', which is no program" in str(SIMULATOR.unavailable())


def test_a_front_end_that_cannot_be_loaded_is_unavailable(tool: Path) -> None:
    (tool / "pytimeloop" / "__init__.py").write_text("raise ImportError('libbarvinok is missing')")

    assert "ImportError: libbarvinok is missing" in str(SIMULATOR.unavailable())


def test_it_is_available_and_the_version_follows_mapper_and_front_end(tool: Path, tmp_path: Path) -> None:
    assert SIMULATOR.unavailable() is None
    version = SIMULATOR.version()
    other = tmp_path / "other"
    other.mkdir()
    (other / "timeloop-mapper").write_text("#!/bin/sh\n# another build\n")

    mapper, front_end = version.split(", ")

    assert mapper.startswith("mapper ")
    assert front_end.startswith("front end ")
    assert len(version) == len("mapper 012345678901, front end 012345678901")


# --- preparing -------------------------------------------------------------------------------------------------------


def test_a_job_has_all_the_files_and_what_a_right_answer_must_report(arch: Architecture) -> None:
    job = SIMULATOR.prepare(CONV, arch, Options(limit_s=7.0))

    assert sorted(job.files) == [
        "arch.yaml",
        "art.yaml",
        "components.yaml",
        "constraints.yaml",
        "ert.yaml",
        "mapper.yaml",
        "problem.yaml",
        "variables.yaml",
    ]
    assert (job.simulator, job.limit_s) == ("timeloop", 7.0)
    expected = json.loads(job.options["expected"])
    assert expected["macs"] == expected["computes"] == 2032128
    assert expected["footprints"] == {"Weights": 10368, "Inputs": 6144, "Outputs": 9408}
    assert SIMULATOR.prepare(CONV, arch, Options(limit_s=9.0)).key == job.key


def test_effort_precision_and_architecture_change_the_key(arch: Architecture) -> None:
    smaller = arch.model_copy(
        update={"levels": {**arch.levels, "glb": arch.levels["glb"].model_copy(update={"size_kib": 54})}}
    )
    jobs = [
        SIMULATOR.prepare(CONV, arch, Options()),
        SIMULATOR.prepare(CONV, arch, Options(effort="quick")),
        SIMULATOR.prepare(CONV, arch, Options(extra={"timeloop_array": "free"})),
        SIMULATOR.prepare(CONV.with_bits({"weight": 8, "input": 8, "output": 8}), arch, Options()),
        SIMULATOR.prepare(CONV, smaller, Options()),
    ]

    assert len({job.key for job in jobs}) == len(jobs)


def test_the_search_can_be_left_free(arch: Architecture) -> None:
    job = SIMULATOR.prepare(ATTENTION, arch, Options(extra={"timeloop_array": "free"}))

    assert job.files["constraints.yaml"] == "constraints: {version: 0.4, targets: []}\n"
    assert "N: 197" in job.files["problem.yaml"]


def test_operands_stored_in_fewer_bits_take_words_of_the_widest_and_the_answer_says_so(arch: Architecture) -> None:
    narrow, wide = CONV.with_bits({"weight": 8}), CONV

    job, plain = SIMULATOR.prepare(narrow, arch, Options()), SIMULATOR.prepare(wide, arch, Options())

    assert job.files == plain.files
    assert json.loads(job.options["expected"])["wider"] == "Weights of 8 bits charged as 16"
    assert "wider" not in plain.options["expected"]
    assert job.key != plain.key


def test_a_problem_that_cannot_be_told_is_refused(arch: Architecture) -> None:
    pooling = Problem.parse("max M=8 C=4 | Inputs input 16 [M:8, C:4] | Outputs output 16 [M:8]")

    with pytest.raises(SimulationError, match="the operation 'max'"):
        SIMULATOR.prepare(pooling, arch, Options())
    with pytest.raises(SimulationError, match="fill or free"):
        SIMULATOR.prepare(CONV, arch, Options(extra={"timeloop_array": "half"}))


# --- running ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_converted_from_the_tools_own_files(
    tool: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv")
    job = SIMULATOR.prepare(CONV, arch, Options())

    estimate = SIMULATOR.run(job, directory)

    assert {name: (directory / name).read_text() for name in job.files} == job.files
    assert (directory / "output" / "files").read_text().split() == list(job.files)
    assert (estimate.simulator, estimate.version) == ("timeloop", SIMULATOR.version())
    assert (estimate.cycles, estimate.macs, estimate.utilization) == (12096, 2032128, 1.0)
    assert estimate.latency_s == pytest.approx(12096 / 200e6)
    assert estimate.footprints == {"weight": 10368, "input": 6144, "output": 9408}
    # 16-bit words: 10368 weights and 6144 inputs read once, 9408 outputs written once.
    assert estimate.traffic_bytes["dram"] == {"weight": 20736, "input": 12288, "output": 18816}
    assert list(estimate.energy_j) == ["mac", "ospad", "wspad", "ispad", "glb", "dram", "leakage"]
    assert estimate.energy_j["mac"] == pytest.approx(2032128 * 2.20035e-12)
    # Four words an access of 512 pJ.
    assert estimate.energy_j["dram"] == pytest.approx((10368 + 6144 + 9408) / 4 * 512e-12)
    assert estimate.energy_j["leakage"] == pytest.approx(leakage_j(arch, 12096))
    assert estimate.total_energy_j == pytest.approx(13.57e-6, abs=0.005e-6)
    assert estimate.mapping.startswith("dram [ Weights:10368 (10368)")
    assert check(estimate, CONV, arch).floored_from is None


def test_timeloops_own_leakage_agrees_with_the_shared_figure(
    tool: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    from mmworkload.exporters.timeloop.stats import parse_stats

    stats = parse_stats((RECORDED / "eyeriss_conv" / "timeloop-mapper.stats.txt").read_text())

    own = sum(level.leakage_pj for level in stats.levels.values()) * 1e-12

    assert own == pytest.approx(leakage_j(arch, stats.cycles), rel=1e-3)


def test_padding_is_checked_exactly_and_disclosed(
    tool: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_padded")
    job = SIMULATOR.prepare(ATTENTION, arch, Options())

    estimate = SIMULATOR.run(job, directory)

    assert json.loads(job.options["expected"])["computes"] == 12 * 198 * 198 * 64
    assert estimate.macs == ATTENTION.macs == 12 * 197 * 197 * 64
    assert estimate.utilization == pytest.approx(ATTENTION.macs / (209088 * 168))
    assert estimate.includes[-1] == "padding of N 197 to 198, M 197 to 198"
    assert estimate.footprints == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Computes = 2032128", "Computes = 2032127"), "counted 2032127 multiply-accumulates where the problem has"),
        (("Inputs:6144 (6144)", "Inputs:4704 (4704)"), r"footprints are .*'Inputs': 4704"),
        (("source     : ERT", "source     : PAT"), "did not take the energies of .*glb.* from the table"),
        (("Summary Stats", "Summary"), "was cut short"),
    ],
)
def test_a_wrong_answer_is_an_error(
    change: tuple[str, str],
    message: str,
    tool: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    directory: Path,
    arch: Architecture,
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv", change)

    with pytest.raises(SimulationError, match=message):
        SIMULATOR.run(SIMULATOR.prepare(CONV, arch, Options()), directory)


def test_a_job_that_started_accelergy_is_an_error(
    tool: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv")
    (tmp_path / "replayed" / "timeloop-mapper.accelergy.log").write_text("")

    with pytest.raises(SimulationError, match="ran Accelergy although it was given both tables"):
        SIMULATOR.run(SIMULATOR.prepare(CONV, arch, Options()), directory)


def test_return_code_0_without_a_result_is_a_failure(
    tool: Path, monkeypatch: pytest.MonkeyPatch, directory: Path, arch: Architecture
) -> None:
    monkeypatch.setenv("STAND_IN", "no mapping")

    with pytest.raises(SimulationError, match="no result: no valid mapping was found"):
        SIMULATOR.run(SIMULATOR.prepare(CONV, arch, Options()), directory)


def test_an_error_of_the_front_end_is_passed_on_by_its_last_line(
    tool: Path, monkeypatch: pytest.MonkeyPatch, directory: Path, arch: Architecture
) -> None:
    monkeypatch.setenv("STAND_IN", "raise")

    with pytest.raises(SimulationError, match="no result: timeloop said: KeyError: 'N'"):
        SIMULATOR.run(SIMULATOR.prepare(CONV, arch, Options()), directory)


def test_another_python_does_not_see_our_packages(
    tool: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path, arch: Architecture
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv")
    job: Job = SIMULATOR.prepare(CONV, arch, Options())
    # The same interpreter under its full path, so that only the environment differs: without PYTHONPATH there is no
    # front end.
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)

    with pytest.raises(SimulationError, match="No module named 'pytimeloop'"):
        SIMULATOR.run(replace(job), directory)


# --- the script of an export -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, arch: Architecture) -> Path:
    """An export of one layer."""
    tensors = {name: Tensor(name, (4,), "float32", 32, "input", name) for name in ("x", "y")}
    layer = Layer("conv", "conv2d", work=(Work(CONV),), reads=(("x", 1),), writes=(("y", 1),))
    graph = LayerGraph("one", "", 1, "float32", (layer,), tensors)
    write_export("timeloop", graph, arch, tmp_path / "out", {"mmworkload": "0.1.0"})
    return tmp_path / "out"


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_script_runs_every_problem_and_lists_the_results(
    tool: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv")

    done = script(folder)

    assert (done.returncode, done.stderr) == (0, "")
    rows = (folder / "outputs" / "results.csv").read_text().splitlines()
    assert rows[0] == "problem,status,cycles,energy_uj,utilization_percent,seconds"
    assert rows[1].startswith(f"001_conv_{CONV.key[:8]},ok,12096,13.57,100.00,")
    used = (folder / "outputs" / f"001_conv_{CONV.key[:8]}" / "files").read_text().split()
    assert used == [
        *("arch.yaml", "components.yaml", "variables.yaml", "mapper.yaml", "ert.yaml", "art.yaml"),
        *[f"001_conv_{CONV.key[:8]}.yaml"] * 2,
    ]


def test_accelergy_estimates_when_the_tables_are_left_out_together(
    tool: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv")

    assert script(folder, "--accelergy").returncode == 0

    used = (folder / "outputs" / f"001_conv_{CONV.key[:8]}" / "files").read_text().split()
    assert "ert.yaml" not in used
    assert "art.yaml" not in used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Computes = 2032128", "Computes = 2032127"), "counted 2032127 multiply-accumulates instead of 2032128"),
        (("Inputs:6144 (6144)", "Inputs:4704 (4704)"), "'Inputs': 4704"),
        (("source     : ERT", "source     : PAT"), "some energies do not come from the table"),
        (("Summary Stats", "Summary"), "no result; see the logs in"),
    ],
)
def test_the_script_does_not_pass_off_a_wrong_answer(
    change: tuple[str, str], message: str, tool: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv", change)

    done = script(folder)

    assert done.returncode == 1
    assert message in done.stdout


def test_the_script_says_that_no_mapping_was_found(tool: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", "no mapping")

    done = script(folder)

    assert done.returncode == 1
    assert "no valid mapping was found" in done.stdout


def test_results_of_an_earlier_run_do_not_cover_a_failure(
    tool: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replay(monkeypatch, tmp_path, "eyeriss_conv")
    assert script(folder).returncode == 0
    monkeypatch.setenv("STAND_IN", "raise")

    done = script(folder)

    assert done.returncode == 1
    assert "no result" in done.stdout


def test_at_the_limit_the_mapper_dies_with_the_front_end(
    tool: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN", "sleep")
    monkeypatch.setenv("STAND_IN_PID", str(tmp_path / "pid"))

    done = script(folder, "--limit", "1.5")

    assert done.returncode == 1
    assert "killed after 1.5 s" in done.stdout
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        # Killed, and perhaps not yet collected by init.
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the mapper is still running")


def test_an_unknown_problem_is_an_error(tool: Path, folder: Path) -> None:
    done = script(folder, "conv2d_nothing")

    assert done.returncode == 2
    assert "no such problem: conv2d_nothing" in done.stderr


# --- the real tool ---------------------------------------------------------------------------------------------------

REAL = {
    "convolution": CONV,
    "attention, padded": ATTENTION,
    "transposed convolution": Problem.parse(
        "mac M=32 C=64 P=14 Q=14 R=4 S=4 | Inputs input 16 [C:64, P:14, Q:14] | "
        "Weights weight 16 [C:64, M:32, R:4, S:4] | Outputs output 16 [M:32, 2P+R:28~1,1, 2Q+S:28~1,1]"
    ),
    "depthwise, stride 2": Problem.parse(
        "mac G=96 P=56 Q=56 R=3 S=3 | Inputs input 16 [G:96, 2P+R:112~1,1, 2Q+S:112~1,1] | "
        "Weights weight 16 [G:96, R:3, S:3] | Outputs output 16 [G:96, P:56, Q:56]"
    ),
    "conv3d": Problem.parse(
        "mac M=8 C=4 O=6 P=14 Q=14 T=3 R=3 S=3 | Inputs input 16 [C:4, 2O+T:12~1,1, P+R:14~1,1, Q+S:14~1,1] | "
        "Weights weight 16 [M:8, C:4, T:3, R:3, S:3] | Outputs output 16 [M:8, O:6, P:14, Q:14]"
    ),
    "letters of an einsum": Problem.parse(
        "mac B=4 H=6 M=12 N=20 C=16 | Inputs input 16 [B:4, H:6, N:20, C:16] | Weights weight 16 [H:6, C:16, M:12] | "
        "Outputs output 16 [B:4, H:6, N:20, M:12]"
    ),
    "one product": gemm(1, 1, 1, bits=(16, 16, 16)),
}


@pytest.mark.slow
@pytest.mark.skipif(SIMULATOR.unavailable() is not None, reason="Timeloop is not installed")
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("name", REAL)
def test_the_real_tool_takes_our_files_and_counts_what_we_count(
    name: str, bits: int, directory: Path, arch: Architecture
) -> None:
    problem = REAL[name].canonical().with_bits({"weight": bits, "input": bits, "output": bits})

    estimate = check(SIMULATOR.run(SIMULATOR.prepare(problem, arch, Options(effort="quick")), directory), problem, arch)

    assert estimate.macs == problem.macs
    assert estimate.energy_j["mac"] >= problem.macs * 2.2e-12
    assert estimate.cycles >= -(-problem.macs // arch.elements)
