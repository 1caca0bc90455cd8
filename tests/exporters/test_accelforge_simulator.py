"""AccelForge's answers: recorded ones read exactly, wrong ones refused, its process ended in time, and, where it is
installed (``MMWORKLOAD_ACCELFORGE_PYTHON``), the tool itself against closed forms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError, UnavailableError
from mmworkload.exporters.accelforge import EXPORTER, SIMULATOR, run
from mmworkload.exporters.accelforge.simulator import NAME, PYTHON_VARIABLE, estimate
from mmworkload.exporters.timeloop.problem_file import problem_name
from mmworkload.graph import LayerGraph, Workload
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem, gemm
from mmworkload.simulating.cache import TIMEOUT, Failure
from mmworkload.simulating.choice import AUTO
from mmworkload.simulating.energy import access_bits, leakage_j
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Estimate, Job, Options, check, compulsory_elements, floors
from mmworkload.simulating.workers import WorkerPool

RECORDED = Path(__file__).parents[1] / "fixtures" / "accelforge"
SHAPES = Path(__file__).parents[2] / "shapes"
EYERISS = architectures.load("eyeriss_like")
SIMPLE = architectures.load("simple_weight_stationary")
ARCHITECTURES = {arch.name: arch for arch in (SIMPLE, EYERISS)}
BITS = (16, 16, 16)
INSTALLED = os.environ.get(PYTHON_VARIABLE, "")
needs_accelforge = pytest.mark.skipif(
    SIMULATOR.unavailable() is not None, reason=f"{PYTHON_VARIABLE} names no Python with accelforge"
)

GEMM = gemm(256, 256, 256, bits=BITS).canonical()
PRIMES = gemm(34, 41, 61, bits=BITS).canonical()
BATCHED = gemm(128, 128, 64, groups=12, bits=BITS, second_role="input").canonical()
CONV = Problem.parse(
    "mac M=32 C=32 P=28 Q=28 R=3 S=3 | Inputs input 16 [C:32, P+R:28~1,1, Q+S:28~1,1] | "
    "Weights weight 16 [M:32, C:32, R:3, S:3] | Outputs output 16 [M:32, P:28, Q:28]"
).canonical()
DEPTHWISE = Problem.parse(
    "mac G=32 P=28 Q=28 R=3 S=3 | Inputs input 16 [G:32, P+R:28~1,1, Q+S:28~1,1] | "
    "Weights weight 16 [G:32, R:3, S:3] | Outputs output 16 [G:32, P:28, Q:28]"
).canonical()


def recorded(name: str) -> dict[str, dict[str, Any]]:
    """Problem to AccelForge's answer, for a problem on its own under the simulator's name for its Einsum."""
    found: dict[str, dict[str, Any]] = json.loads((RECORDED / f"{name}.json").read_text())
    for answer in found.values():
        (item,) = answer["einsums"].values()
        answer["einsums"] = {NAME: item}
    return found


def job_of(problem: Problem, arch: Architecture, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(SIMULATOR, "version", lambda: "recorded")
    return SIMULATOR.prepare(problem, arch, Options())


# --- recorded answers -------------------------------------------------------------------------------------------------

RUNS = [
    (arch, workload, name)
    for arch in ARCHITECTURES
    for workload in ("av-mnist-concat", "mujoco-push-late")
    for name in json.loads((RECORDED / f"{workload}.{arch}.json").read_text())
]


def problems_of(workload: str, arch: Architecture) -> dict[str, Problem]:
    family, _, variant = workload.rpartition("-")
    graph = LayerGraph.load(SHAPES / family / f"{variant}.yaml")
    plain = (problem.with_bits(arch.bits).canonical() for problem in graph.problems.values())
    return {problem_name(problem): problem for problem in plain}


@pytest.mark.parametrize("arch_name", ARCHITECTURES)
@pytest.mark.parametrize("workload", ["av-mnist-concat", "mujoco-push-late"])
def test_every_unique_problem_of_two_workloads_was_run(workload: str, arch_name: str) -> None:
    run_there = {name for arch, of, name in RUNS if (arch, of) == (arch_name, workload)}

    assert run_there == set(problems_of(workload, ARCHITECTURES[arch_name]))


@pytest.mark.parametrize(("arch_name", "workload", "name"), RUNS)
def test_a_recorded_run_is_above_the_floors_and_charged_with_our_table(
    arch_name: str, workload: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = ARCHITECTURES[arch_name]
    problem = problems_of(workload, arch)[name]
    answer = recorded(f"{workload}.{arch_name}")[name]

    found = estimate(job_of(problem, arch, monkeypatch), answer)

    assert found.macs == problem.macs
    assert found.cycles >= floors(problem, arch).cycles
    assert check(found, problem, arch).cycles == found.cycles
    dram = next(iter(arch.levels))
    for operand in problem.operands:
        moved = found.traffic_bytes[dram][operand.role]
        assert moved >= compulsory_elements(problem, operand) * operand.bits // 8
    (item,) = answer["einsums"].values()
    for level in arch.levels:
        energy = arch.levels[level].energy
        actions = item["actions"].get(level, {}).values()
        charged = sum(a["read"] * energy.read_pj + a["write"] * energy.write_pj for a in actions)
        assert found.energy_j[level] == pytest.approx(charged * 1e-12, rel=1e-6)
    assert found.energy_j["mac"] == pytest.approx(problem.macs * arch.compute.energy_pj * 1e-12, rel=1e-9)
    # AccelForge's own leakage is over its own latency.
    own = sum(actions.get("leak", 0.0) for actions in item["energy_j"].values())
    raw = found.cycles if found.floored_from is None else found.floored_from
    assert own == pytest.approx(leakage_j(arch, raw), rel=2e-3)


def test_a_matrix_product_fills_the_array_and_waits_for_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = recorded("known")["gemm"]
    found = estimate(job_of(GEMM, SIMPLE, monkeypatch), answer)

    # 2^24 MACs on all of the 256 elements.
    assert run.cycles(answer["einsums"][NAME]["latency_s"]["mac"], 200) == floors(GEMM, SIMPLE).compute == 65536
    # Each of 16 tiles of 16 channels writes every sum, 16 a cycle, and the inputs come in once.
    assert found.cycles == (16 * 256 * 256 + 256 * 256) // 16 == 69632
    assert found.utilization == 65536 / 69632
    assert found.floored_from is None
    assert found.footprints == {"input": 65536, "weight": 65536, "output": 65536}
    # Weights are loaded twice, the others once; each weight is read from its register for each MAC.
    assert found.traffic_bytes["dram"] == {"input": 131072, "weight": 2 * 131072, "output": 131072}
    assert found.traffic_bytes["wreg"]["weight"] == 2 * (GEMM.macs + 2 * 65536)


def test_incomplete_last_passes_are_whole_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimate(job_of(PRIMES, SIMPLE, monkeypatch), recorded("known")["primes"])

    # 34 rows, 3 passes of 14 columns for 41, 4 of 16 for 61: 408 steps; the DRAM takes longer.
    assert run.array_steps(found.mapping, {"n": 34, "m": 41, "c": 61}) == 408
    assert found.cycles == 1144
    assert floors(PRIMES, SIMPLE).memory == 1144
    assert found.traffic_bytes["dram"] == {"input": 34 * 61 * 2, "weight": 41 * 61 * 2, "output": 34 * 41 * 2}


def test_a_batched_product_moves_two_activations_on_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimate(job_of(BATCHED, SIMPLE, monkeypatch), recorded("known")["batched"])

    # The sums are written for each of 4 tiles of channels, and the inputs come in once.
    assert floors(BATCHED, SIMPLE).compute == 49152
    assert found.cycles == (4 * 12 * 128 * 128 + 12 * 128 * 64) // 16 == 55296
    assert found.traffic_bytes["dram"] == {"input": 2 * 12 * 128 * 64 * 2, "output": 12 * 128 * 128 * 2}
    assert found.footprints == {"input": 2 * 12 * 128 * 64, "output": 12 * 128 * 128}


def test_a_convolution_reads_its_padding_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = recorded("known")["conv"]
    found = estimate(job_of(CONV, SIMPLE, monkeypatch), answer)

    assert found.macs == 7225344
    assert run.cycles(answer["einsums"][NAME]["latency_s"]["mac"], 200) == floors(CONV, SIMPLE).compute == 28224
    # The sums of 9 taps times 2 tiles of channels are written, and the inputs come in once.
    assert found.cycles == (18 * 32 * 28 * 28 + 32 * 30 * 30) // 16 == 30024
    assert found.traffic_bytes["dram"]["input"] == 32 * 30 * 30 * 2
    assert found.traffic_bytes["dram"]["weight"] == 32 * 32 * 9 * 2
    assert found.traffic_bytes["dram"]["output"] == 32 * 28 * 28 * 2
    assert "zeros of the padding, read like data" in found.includes


def test_a_depthwise_convolution_leaves_most_of_a_weight_stationary_array_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = estimate(job_of(DEPTHWISE, SIMPLE, monkeypatch), recorded("known")["depthwise"])

    # 16 groups across and the 9 taps down are the most that M and G across, C, R and S down can fill.
    assert found.cycles >= DEPTHWISE.macs // (16 * 9)
    # However many run at once, the buffer sends an input for each MAC, and the sums once, at 32 numbers a cycle.
    assert found.cycles == (DEPTHWISE.macs + 32 * 28 * 28) // 32 == 7840
    assert found.utilization == DEPTHWISE.macs / (7840 * 256)
    assert found.traffic_bytes["dram"] == {"input": 32 * 30 * 30 * 2, "weight": 32 * 9 * 2, "output": 32 * 28 * 28 * 2}


def test_fusion_keeps_what_one_einsum_writes_for_the_next_on_the_chip() -> None:
    answers = json.loads((RECORDED / "chain.json").read_text())
    fused = answers["cascade"]["einsums"]
    alone = {name: next(iter(answers[name]["einsums"].values())) for name in ("first", "second")}

    def moved(item: dict[str, Any], tensor: str) -> float:
        return sum(item["actions"]["dram"].get(tensor, {}).values())

    # 64 x 256 numbers of 16 bits, four to an access.
    assert (moved(alone["first"], "O"), moved(alone["second"], "I")) == (4096, 4096)
    assert moved(fused["e0"], "T0") == moved(fused["e1"], "T0") == 0
    assert [item["computes"] for item in fused.values()] == [2097152, 2097152]
    expected = {
        "computes": {"e0": 2097152, "e1": 2097152},
        "instances": {},
    }
    machine = {"clock_mhz": 200, "elements": 256}
    macs, cycles, joules = run.totals(answers["cascade"], expected, machine)
    separate = [
        run.totals(answers[name], {"computes": {}, "instances": {}}, machine)[1:] for name in ("first", "second")
    ]
    assert macs == 2 * 2097152
    assert cycles < sum(item[0] for item in separate)
    assert joules < sum(item[1] for item in separate)


# --- answers that cannot be right -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer: answer["einsums"][NAME].update(computes=85033), "counted 85033 multiply-accumulates"),
        (lambda answer: answer["bits"].update(W=16), "W has 16 bits where ours has 40016"),
        (lambda answer: answer["einsums"][NAME].update(latency_s={}), "neither latency nor actions"),
        (lambda answer: answer["einsums"].clear(), "answered for"),
    ],
)
def test_a_wrong_answer_is_refused(change: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = recorded("known")["primes"]
    change(answer)

    with pytest.raises(SimulationError, match=message):
        estimate(job_of(PRIMES, SIMPLE, monkeypatch), answer)


@pytest.mark.parametrize(
    ("mapping", "extents", "steps"),
    [
        ("mac computes layer", {}, 1),
        ("T-n in [0..5) shape=1 mac computes e", {"n": 5}, 5),
        ("S-X-n in [0..5) shape=1 mac computes e", {"n": 5}, 1),
        # 41 on 16 elements is 16, 16 and 9: three steps.
        ("T-n in [0..3) shape=16 S-X-n in [0..16) shape=1 mac computes e", {"n": 41}, 3),
        # 16 elements of 3 each for 41: 14 elements, the last with two.
        ("S-X-n in [0..14) shape=3 T-n in [0..3) shape=1 mac computes e", {"n": 41}, 3),
        # 41 in tiles of 20, 20 and 1; a tile on 16 elements takes two steps, the last one.
        ("T-n in [0..3) shape=20 T-n in [0..2) shape=16 S-X-n in [0..16) shape=1", {"n": 41}, 5),
        # Neighbouring loops of one shape are written together.
        ("T-r,s in [0..3) shape=1 S-Y-c in [0..4) shape=1", {"r": 3, "s": 3, "c": 4}, 9),
        ("T-p_q in [0..2) shape=8 S-X-p_q in [0..8) shape=1", {"p_q": 16, "u": 1}, 2),
    ],
)
def test_steps_are_counted_from_the_mapping(mapping: str, extents: dict[str, int], steps: int) -> None:
    assert run.array_steps(mapping, extents) == steps


@pytest.mark.parametrize(
    ("latency_s", "cycles"),
    [(5.12e-4, 102400), (5.12e-4 * (1 + 3e-8), 102400), (5.12e-4 * (1 - 3e-8), 102400), (1.2505e-6, 251), (0.0, 0)],
)
def test_single_precision_makes_no_cycle(latency_s: float, cycles: int) -> None:
    assert run.cycles(latency_s, 200) == cycles


# --- the process ------------------------------------------------------------------------------------------------------

# A Python that answers as told; whatever is asked of it, it is asked as the real one is.
STAND_IN = """#!/bin/sh
shift 2
if [ "$1" = --versions ]; then echo '{versions}'; exit 0; fi
output=$2; shift 2
for file in "$@"; do test -f "$file" || exit 9; done
pwd > "{folder}/cwd"; echo "$PYTHONPATH" > "{folder}/pythonpath"; echo "$NUMBA_NUM_THREADS" > "{folder}/threads"
{behaviour}
"""
VERSIONS = '{"accelforge": "1.0.466", "hwcomponents": "1.0.114", "python": "3.12"}'


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tool"
    folder.mkdir()
    monkeypatch.setenv(PYTHON_VARIABLE, str(folder / "python"))
    return folder


def stand_in(folder: Path, behaviour: str, versions: str = VERSIONS) -> None:
    program = folder / "python"
    program.write_text(STAND_IN.format(folder=folder, behaviour=behaviour, versions=versions))
    program.chmod(0o755)


def replay(folder: Path, answer: dict[str, Any]) -> None:
    (folder / "answer.json").write_text(json.dumps(answer))
    stand_in(folder, f'cp "{folder}/answer.json" "$output"')


def test_without_the_tool_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    reason = SIMULATOR.unavailable()

    assert reason is not None
    assert "accelforge==1.0.466" in reason
    assert PYTHON_VARIABLE in reason
    assert "3.12" in reason


def test_the_python_that_is_named_must_exist_and_have_it(tool: Path) -> None:
    assert "which is no program" in str(SIMULATOR.unavailable())

    stand_in(tool, "exit 0", versions='{"python": "3.12"}')
    assert "has no accelforge" in str(SIMULATOR.unavailable())


def test_a_python_that_cannot_say_what_it_has_is_unavailable(tool: Path) -> None:
    (tool / "python").write_text("#!/bin/sh\necho 'broken pipe dream' >&2\nexit 3\n")
    (tool / "python").chmod(0o755)

    assert "broken pipe dream" in str(SIMULATOR.unavailable())


def test_versions_of_all_packages_are_in_the_key(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tool, "exit 0")
    assert SIMULATOR.version() == "accelforge 1.0.466, hwcomponents 1.0.114, python 3.12"
    before = SIMULATOR.prepare(PRIMES, SIMPLE, Options()).key

    (tmp_path / "other").mkdir()
    stand_in(tmp_path / "other", "exit 0", versions=VERSIONS.replace("1.0.114", "1.0.115"))
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "other" / "python"))

    assert SIMULATOR.prepare(PRIMES, SIMPLE, Options()).key != before


def test_effort_counts_where_there_are_windows(tool: Path) -> None:
    stand_in(tool, "exit 0")

    def tiling(problem: Problem, effort: str) -> str:
        text = SIMULATOR.prepare(problem, SIMPLE, Options(effort=effort)).files["problem.yaml"]
        return next(line.split()[-1] for line in text.splitlines() if "tiling_coarseness" in line)

    assert [tiling(CONV, effort) for effort in ("quick", "normal", "thorough")] == ["4", "2", "1"]
    assert [tiling(GEMM, effort) for effort in ("quick", "normal", "thorough")] == ["1", "1", "1"]


def test_the_child_runs_in_a_folder_of_its_own_with_one_thread_and_without_our_packages(
    tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "ours")
    replay(tool, recorded("known")["primes"])
    (tmp_path / "job").mkdir()

    found = SIMULATOR.run(SIMULATOR.prepare(PRIMES, SIMPLE, Options()), tmp_path / "job")

    assert found.cycles == 1144
    assert found.version == SIMULATOR.version()
    assert Path((tool / "cwd").read_text().strip()) == (tmp_path / "job" / "work").resolve()
    assert (tool / "pythonpath").read_text() == "\n"
    assert (tool / "threads").read_text() == "1\n"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("echo Traceback; echo 'ValueError: no mapping is valid'; exit 1", "gave no result: ValueError: no mapping"),
        ("exit 4", "ended with code 4 and no message"),
        ("kill -9 $$", "killed by signal 9"),
    ],
)
def test_a_child_without_an_answer_says_why(behaviour: str, message: str, tool: Path, tmp_path: Path) -> None:
    stand_in(tool, behaviour)

    with pytest.raises(SimulationError, match=message):
        SIMULATOR.run(SIMULATOR.prepare(PRIMES, SIMPLE, Options()), tmp_path)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_past_the_limit_the_child_and_what_it_started_are_gone(tool: Path) -> None:
    stand_in(tool, f'sleep 600 & echo $! $$ > "{tool}/pids"; wait')
    job = SIMULATOR.prepare(PRIMES, SIMPLE, Options(limit_s=3))

    with WorkerPool(1) as pool:
        ((_, result),) = pool.run([job])

    assert isinstance(result, Failure)
    assert result.kind == TIMEOUT
    pids = [int(pid) for pid in (tool / "pids").read_text().split()]
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(pid)] == []


def graph_of(**problems: Problem) -> LayerGraph:
    table = {"x": Tensor("x", (4,), "float32", 32, "input", "x")}
    layers = tuple(
        Layer(name, "linear", stage="head", reads=(("x", 16),), work=(Work(problem),))
        for name, problem in problems.items()
    )
    return LayerGraph("hand/made", "made", 1, "float32", layers, table)


def test_a_workload_is_simulated_through_the_engine(tool: Path) -> None:
    replay(tool, recorded("known")["primes"])

    found = simulate(graph_of(a=PRIMES), SIMPLE, "accelforge", workers=1, cache=False)

    assert (found.simulator, found.fidelity) == ("accelforge", "exact")
    assert [(row.macs, row.cycles, row.simulator) for row in found.layers] == [(85034, 1144, "accelforge")]


def test_it_answers_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "no-such-python")

    assert "accelforge" not in AUTO
    with pytest.raises(UnavailableError, match="no-such-python"):
        simulate(graph_of(a=PRIMES), SIMPLE, "accelforge", cache=False)


# --- the exported runner ----------------------------------------------------------------------------------------------


def exported(folder: Path, **problems: Problem) -> Path:
    EXPORTER.export(Workload.of(graph_of(**problems)), SIMPLE, folder, {"mmworkload": "0.1.0"})
    return folder


def run_py(folder: Path, *arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-P", str(folder / "run.py"), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif("accelforge" in run.versions(), reason="accelforge is in this Python")
def test_without_accelforge_the_runner_says_what_to_install(tmp_path: Path) -> None:
    answer = run_py(exported(tmp_path, a=PRIMES))

    assert answer.returncode == 2
    assert answer.stderr == "accelforge is not installed: pip install accelforge==1.0.466\n"


def test_the_runner_needs_nothing_of_mmworkload(tmp_path: Path) -> None:
    text = (exported(tmp_path, a=PRIMES) / "run.py").read_text()

    assert "import mmworkload" not in text
    assert "from mmworkload" not in text


# --- the tool itself --------------------------------------------------------------------------------------------------


@needs_accelforge
@pytest.mark.slow
@pytest.mark.parametrize("name", ["av-mnist/concat", "mujoco-push/late"])
def test_accelforge_reads_every_file_and_counts_as_we_do(name: str, tmp_path: Path) -> None:
    family, variant = name.split("/")
    source = LayerGraph.load(SHAPES / family / f"{variant}.yaml")
    EXPORTER.export(Workload.of(source), SIMPLE, tmp_path, {"mmworkload": "0.1.0"})

    answer = run_py(tmp_path, "--read", python=INSTALLED or sys.executable)

    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = answer.stdout.splitlines()
    assert len(lines) == len(list((tmp_path / "problems").iterdir())) + 1
    assert all(line.endswith("  ok") for line in lines)


@needs_accelforge
@pytest.mark.slow
@pytest.mark.parametrize("problem", [GEMM, PRIMES, BATCHED, CONV, DEPTHWISE], ids=lambda item: problem_name(item))
def test_a_known_answer(problem: Problem, tmp_path: Path) -> None:
    found = SIMULATOR.run(SIMULATOR.prepare(problem, SIMPLE, Options(effort="quick")), tmp_path)

    checked = check(found, problem, SIMPLE)
    assert checked.cycles == found.cycles
    assert isinstance(found, Estimate)
    assert found.macs == problem.macs
    assert found.footprints["output"] == problem.footprint(problem.output)
    assert sum(found.traffic_bytes["dram"].values()) * 8 >= sum(
        compulsory_elements(problem, item) * item.bits for item in problem.operands
    )
    # Weights pass their register once for each MAC.
    role = problem.operand("Weights").role
    assert found.traffic_bytes["wreg"][role] * 8 >= problem.macs * access_bits(SIMPLE, "wreg")
