"""Nsight Compute: a stand-in on the PATH replays tables and errors; which metrics are asked for and what they mean."""

import itertools
import json
import math
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

pandas = pytest.importorskip("pandas")

from mmworkload.errors import FormatError, MmworkloadError, UnavailableError  # noqa: E402
from mmworkload.measuring import counted_pass, counters  # noqa: E402
from mmworkload.measuring.counter_metrics import COLUMNS, STALLS, columns_of, stall_classes, wanted  # noqa: E402
from mmworkload.measuring.counters import (  # noqa: E402
    CountedKernel,
    Counters,
    find_ncu,
    function_name,
    join,
    read_counters,
    read_table,
    with_counters,
)
from mmworkload.measuring.folder import Result  # noqa: E402
from mmworkload.measuring.result import LayerTime, Measurement, Spread  # noqa: E402

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ncu"
TABLE = (FIXTURES / "raw.csv").read_text()
LISTED = {line.split()[0] for line in (FIXTURES / "query_metrics.txt").read_text().splitlines() if "__" in line}
LAYERS = ["encoder.conv", "", "head"]


@pytest.fixture
def ncu(tmp_path, monkeypatch):
    """Puts an ncu on the PATH: ``install(body)``; in the body ``log``, ``answer`` and ``target`` are at hand."""

    def install(body, query="print(open(sys.argv[0] + '.query').read())"):
        program = tmp_path / "bin" / "ncu"
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f"#!{sys.executable}\n"
            + textwrap.dedent(
                """\
                import json, os, pathlib, subprocess, sys, time
                if "--version" in sys.argv:
                    print("NVIDIA (R) Nsight Compute Command Line Profiler\\nVersion 2026.1.0.0 (build 1)")
                    sys.exit()
                if "--query-metrics" in sys.argv:
                    QUERY
                    sys.exit()
                pathlib.Path(sys.argv[0] + ".arguments").write_text(json.dumps(sys.argv[1:]))
                log = pathlib.Path(sys.argv[sys.argv.index("--log-file") + 1])
                target = sys.argv[sys.argv.index("--metrics") + 2:]
                answer = pathlib.Path(target[-1]).with_name("answer.json")
                """
            ).replace("QUERY", query)
            + textwrap.dedent(body)
        )
        program.chmod(0o755)
        (program.parent / "ncu.query").write_text((FIXTURES / "query_metrics.txt").read_text())
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return program.parent / "ncu.arguments"

    monkeypatch.setattr(counters, "FOLDERS", (str(tmp_path / "toolkit"),))
    return install


def replay(text, layers=LAYERS):
    return f"log.write_text({text!r})\nanswer.write_text(json.dumps({{'layers': {layers!r}}}))\n"


def test_a_table_becomes_kernels_of_layers_with_every_column(ncu):
    ncu(replay(TABLE))
    found = read_counters("av-mnist/concat")
    assert [(item.layer, item.name) for item in found.kernels] == [
        ("encoder.conv", "sm80_xmma_fprop_implicit_gemm_tf32f32_kernel"),
        ("encoder.conv", "vectorized_elementwise_kernel"),
        ("head", "ampere_sgemm_32x32_sliced1x4_tn"),
        # Launched in no range.
        ("", "vectorized_elementwise_kernel"),
    ]
    assert dict(found.kernels[0].values) == pytest.approx(
        {
            # 24 additions, 1000 fused multiply-adds, and the tensor cores' operations.
            "flops": 24 + 2 * 1000 + 20_480_000,
            "dram_read_bytes": 1_228_800,
            "dram_write_bytes": 409_600,
            "dram_utilization": 0.615,
            "occupancy": 0.24,
            "ipc": 0.4,
            "gld_efficiency": 0.8,
            "gst_efficiency": 1.0,
            "stall_cache": 0.015,
            # long_scoreboard, lg_throttle, drain, tex_throttle.
            "stall_memory": 0.30 + 0.02 + 0.005 + 0.0025,
            "stall_execution": 0.06 + 0.09,
            "stall_pipe": 0.12 + 0.03,
            "stall_sync": 0.04 + 0.005,
            "stall_instruction": 0.05 + 0.01,
            "stall_other": 0.07 + 0.0075 + 0.0025,
        }
    )
    last = found.kernels[3].values
    assert math.isnan(last["dram_utilization"])
    assert math.isnan(last["gld_efficiency"])
    # Half precision works on two values: 100 additions and 10 fused multiply-adds.
    assert last["flops"] == 2 * 100 + 4 * 10
    assert found.unread == ()
    facts = found.provenance()
    assert (facts["ncu"], facts["kernels"], facts["unread"]) == ("2026.1.0.0", 4, [])
    assert facts["metrics"] == list(wanted(LISTED))


def test_ncu_is_told_what_to_run_and_what_to_read(ncu):
    arguments = ncu(replay(TABLE))
    read_counters("av-mnist/concat")
    said = json.loads(arguments.read_text())
    options = dict(itertools.pairwise(said))
    assert "--csv" in said
    assert "--nvtx" in said
    assert (options["--page"], options["--print-units"], options["--profile-from-start"]) == ("raw", "base", "off")
    assert options["--clock-control"] == "none"
    assert options["--metrics"].split(",") == list(wanted(LISTED))
    assert said[-5:-1] == [sys.executable, "-P", "-m", "mmworkload.measuring.counted_pass"]


def test_the_request_names_the_model_and_what_is_said_of_it(ncu, tmp_path):
    copy = tmp_path / "request.json"
    ncu(f"pathlib.Path({str(copy)!r}).write_text(pathlib.Path(target[-1]).read_text())\n" + replay(TABLE))
    read_counters("av-mnist/concat", layers=["head.0"], how={"batch": 4, "inputs": Path("sample.npz")})
    assert json.loads(copy.read_text()) == {
        "model": "av-mnist/concat",
        "layers": ["head.0"],
        "how": {"batch": 4, "inputs": "sample.npz"},
    }


def test_without_ncu_the_message_says_where_to_get_it(ncu, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UnavailableError, match=r"no ncu on the PATH\. It comes with the CUDA toolkit"):
        read_counters("av-mnist/concat")


def test_the_newest_installed_ncu_is_taken_when_none_is_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for version in ("2025.9.0", "2025.10.1"):
        program = tmp_path / "nsight-compute" / version / "ncu"
        program.parent.mkdir(parents=True)
        program.write_text("")
        program.chmod(0o755)
    monkeypatch.setattr(counters, "FOLDERS", (str(tmp_path / "none"), str(tmp_path / "nsight-compute" / "*")))
    assert find_ncu() == str(tmp_path / "nsight-compute" / "2025.10.1" / "ncu")


@pytest.mark.parametrize("code", [0, 1])
def test_no_right_to_read_counters_says_what_to_do(ncu, code):
    log = (FIXTURES / "permission.txt").read_text()
    # The forward pass itself went well, and ncu's exit code differs between versions.
    ncu(replay(log) + f"sys.exit({code})")
    with pytest.raises(UnavailableError, match="NVreg_RestrictProfilingToAdminUsers=0"):
        read_counters("av-mnist/concat")


def test_no_right_is_told_before_the_model_is_built(ncu):
    arguments = ncu(replay(TABLE), query="print('==ERROR== ERR_NVGPUCTRPERM - no'); sys.exit(1)")
    with pytest.raises(UnavailableError, match="CAP_SYS_ADMIN"):
        read_counters("av-mnist/concat")
    assert not arguments.exists()


def test_a_hang_is_ended_with_all_that_ncu_started(ncu, tmp_path):
    pid = tmp_path / "pid"
    ncu(
        f"""
        child = subprocess.Popen(["sleep", "60"])
        pathlib.Path({str(pid)!r}).write_text(str(child.pid))
        time.sleep(60)
        """
    )
    begin = time.monotonic()
    with pytest.raises(MmworkloadError, match=r"not done after 3 s and was ended.*--only STAGE"):
        read_counters("av-mnist/concat", limit_s=3)
    assert time.monotonic() - begin < 20
    assert ended(int(pid.read_text()))


def test_what_outlives_ncu_is_ended_too(ncu, tmp_path):
    pid = tmp_path / "pid"
    ncu(
        f"child = subprocess.Popen(['sleep', '60'])\npathlib.Path({str(pid)!r}).write_text(str(child.pid))\n"
        + replay(TABLE)
    )
    read_counters("av-mnist/concat")
    assert ended(int(pid.read_text()))


def ended(pid):
    """Whether the process is gone, or is a corpse that nobody collects, within five seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (replay("garbage\n\x00\xff"), FormatError, "printed no table of kernels, but: garbage"),
        (replay(""), FormatError, "printed no table of kernels, but: nothing"),
        (replay(TABLE[: TABLE.rindex(',"0.00","0.00"')]), FormatError, "was cut off"),
        (replay(TABLE[: TABLE.rindex('0.00"')]), FormatError, "was cut off"),
        (replay(TABLE, ["encoder.conv"]), FormatError, "names the range node::2, and the forward pass opened 1"),
        (replay("==WARNING== No kernels were profiled.\n"), MmworkloadError, "ncu saw no kernel"),
        ("print('boom'); sys.exit(9)", MmworkloadError, r"ended with exit code 9: boom\."),
        ("sys.exit(9)", MmworkloadError, "exit code 9: it printed nothing"),
        ("os.kill(os.getpid(), 9)", MmworkloadError, "exit code -9"),
        (
            "log.write_text('==ERROR== Failed to find metric regex:^dram__x$\\n'); sys.exit(1)",
            MmworkloadError,
            r"lacks a metric.*: Failed to find metric regex:\^dram__x",
        ),
        (
            "answer.write_text(json.dumps({'error': 'm: out of memory on cuda'})); sys.exit(2)",
            MmworkloadError,
            "the forward pass that ncu was to watch failed: m: out of memory",
        ),
        ("log.write_text('==ERROR== Driver not loaded\\n'); sys.exit(1)", MmworkloadError, "code 1: Driver not loaded"),
    ],
)
def test_each_failure_is_one_clear_error(ncu, body, error, message):
    ncu(body)
    with pytest.raises(error, match=message):
        read_counters("av-mnist/concat")


def test_an_ncu_that_cannot_be_run_is_unavailable(ncu, monkeypatch, tmp_path):
    ncu("")
    (tmp_path / "bin" / "ncu").write_text("#!/no/such/interpreter\n")
    with pytest.raises(UnavailableError, match="cannot be run: No such file"):
        read_counters("av-mnist/concat")


# --- the table


def test_units_of_bytes_and_thousands_are_undone():
    launches = read_table('"ID","Kernel Name","dram__bytes_read.sum"\n"","","Mbyte"\n"0","k","1,234.5"\n')
    assert launches[0].values == {"dram__bytes_read.sum": 1_234_500_000}
    assert launches[0].node is None
    with pytest.raises(FormatError, match="in 'sector', which is no unit of bytes"):
        read_table('"ID","Kernel Name","dram__bytes_read.sum"\n"","","sector"\n"0","k","1"\n')


def test_launches_are_in_the_order_of_their_numbers_and_the_innermost_range_counts():
    ranges = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
    cell = '7 ""<default domain>:node::3:none:none"" ""<default domain>:node::12:none:none""'
    launches = read_table(f'"ID","{ranges}","Kernel Name"\n"","",""\n"10","","b"\n"9","{cell}","a"\n')
    assert [(item.name, item.node) for item in launches] == [("a", 12), ("b", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"ID","Metric Name"\n"0","x"\n', "no column 'Kernel Name'"),
        ('"ID","Kernel Name","a__b"\n', "no row of units"),
        ('"ID","Kernel Name","a__b"\n"0","k","1"\n', "no row of units"),
        ('"ID","Kernel Name","a__b"\n"","","%"\n"0","k","many"\n', "'many' for a__b, which is no number"),
    ],
)
def test_another_page_is_refused(text, message):
    with pytest.raises(FormatError, match=message):
        read_table(text)


# --- metrics


def test_only_metrics_of_the_chip_are_asked_for():
    # GA100 has no gmma. Sparse and dense parts, and sums over them, would count twice; integers are no flops.
    metrics = wanted(LISTED)
    assert len(metrics) == len(set(metrics)) == 39
    assert sum("stalled_" in name for name in metrics) == len(STALLS) - 1
    assert [name for name in metrics if "ops_path" in name] == [
        "sm__ops_path_tensor_src_bf16_dst_fp32.sum",
        "sm__ops_path_tensor_src_fp16_dst_fp16.sum",
        "sm__ops_path_tensor_src_fp16_dst_fp32.sum",
        "sm__ops_path_tensor_src_fp64.sum",
        "sm__ops_path_tensor_src_tf32_dst_fp32.sum",
    ]


def test_other_names_of_newer_chips_are_found():
    listed = {
        "dram__bytes_op_read",
        "sm__ops_path_tensor_op_hmma_src_bf16_dst_fp32",
        "sm__ops_path_tensor_op_hmma_src_bf16_dst_fp32_sparsity_off",
    }
    assert wanted(listed) == ("dram__bytes_op_read.sum", "sm__ops_path_tensor_op_hmma_src_bf16_dst_fp32.sum")


def test_without_a_list_the_papers_metrics_are_asked_for():
    metrics = wanted(())
    assert {stall.metric for stall in STALLS if stall.source == "papers"} <= set(metrics)
    assert sum("stalled_" in name for name in metrics) == 10
    # All that MMBench's scripts/ncu_metric.sh reads.
    assert {
        "smsp__sass_average_data_bytes_per_sector_mem_global_op_st.pct",
        "smsp__inst_executed.avg.per_cycle_active",
        "dram__throughput.avg.pct_of_peak_sustained_elapsed",
        "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct",
        "sm__warps_active.avg.pct_of_peak_sustained_active",
    } <= set(metrics)


def test_the_papers_classes_sum_their_ten_reasons_alone():
    values = {stall.metric: float(index + 1) for index, stall in enumerate(STALLS)}
    by_reason = {stall.reason: values[stall.metric] / 100 for stall in STALLS}
    papers = stall_classes(values, papers_only=True)
    assert papers == pytest.approx(
        {
            "stall_cache": by_reason["imc_miss"],
            "stall_memory": by_reason["long_scoreboard"],
            "stall_execution": by_reason["short_scoreboard"] + by_reason["wait"],
            "stall_pipe": by_reason["math_pipe_throttle"] + by_reason["mio_throttle"],
            "stall_sync": by_reason["barrier"] + by_reason["membar"],
            "stall_instruction": by_reason["no_instruction"],
            "stall_other": by_reason["not_selected"],
        }
    )
    assert sum(stall_classes(values).values()) == pytest.approx(sum(by_reason.values()))


def test_what_was_not_read_is_nan_and_never_zero():
    assert all(math.isnan(value) for value in columns_of({}).values())
    assert tuple(columns_of({})) == COLUMNS
    # Blackwell has no imc_miss: the class is unknown, not free of stalls.
    classes = stall_classes({"smsp__warp_issue_stalled_wait_per_warp_active.pct": 5.0})
    assert math.isnan(classes["stall_cache"])
    assert classes["stall_execution"] == 0.05


def test_flops_are_unknown_when_tensor_cores_worked_uncounted():
    scalar = dict.fromkeys((name for name in wanted(()) if "sass_thread_inst" in name), 1.0)
    # single and double: 1 + 1 + 2 each; half: twice that.
    assert columns_of({**scalar, "sm__inst_executed_pipe_tensor.sum": 0.0})["flops"] == 4 + 8 + 4
    assert math.isnan(columns_of({**scalar, "sm__inst_executed_pipe_tensor.sum": 8.0})["flops"])
    assert math.isnan(columns_of(scalar)["flops"])
    counted = {**scalar, "sm__inst_executed_pipe_tensor.sum": 8.0, "sm__ops_path_tensor_src_bf16_dst_fp32.sum": 1e6}
    assert columns_of(counted)["flops"] == 1e6 + 16


# --- the join


@pytest.mark.parametrize(
    ("profiler", "ncu_says"),
    [
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>,"
            " at::detail::Array<char*, 3> >(int, at::native::CUDAFunctor_add<float>, at::detail::Array<char*, 3>)",
            "vectorized_elementwise_kernel",
        ),
        (
            "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>(int, float)",
            "vectorized_layer_norm_kernel",
        ),
        ("sm80_xmma_fprop_implicit_gemm_tf32f32_kernel", "sm80_xmma_fprop_implicit_gemm_tf32f32_kernel"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm>(cutlass_80_tensorop_s1688gemm::Params)", "Kernel2"),
    ],
)
def test_names_of_both_tools_are_told_to_be_one_function(profiler, ncu_says):
    assert function_name(profiler) == function_name(ncu_says) == ncu_says


def kernels_frame(rows):
    columns = ["run", "name", "kind", "layer", "start_s", "caused_s", "duration_s"]
    return pandas.DataFrame(rows, columns=columns)


def counted(layer, name, flops):
    return CountedKernel(layer, name, {**dict.fromkeys(COLUMNS, math.nan), "flops": flops})


def test_counters_are_joined_by_order_of_launch_within_a_layer():
    frame = kernels_frame(
        [
            # Two streams: the second launch starts first on the device.
            (0, "void add<4>(int)", "kernel", "a", 5.0, 1.0, 1.0),
            (0, "void add<4>(int)", "kernel", "a", 4.0, 2.0, 1.0),
            (0, "Memcpy DtoD", "copy", "a", 4.5, 2.5, 1.0),
            (0, "void add<4>(int)", "kernel", "b", 6.0, 3.0, 1.0),
            (0, "gemm", "kernel", "b", 7.0, math.nan, 1.0),
            # The next run has the same kernels; one more that the counted pass did not launch.
            (1, "void add<4>(int)", "kernel", "a", 1.0, math.nan, 1.0),
            (1, "void add<4>(int)", "kernel", "a", 2.0, math.nan, 1.0),
            (1, "void add<4>(int)", "kernel", "a", 3.0, math.nan, 1.0),
        ]
    )
    found = Counters(
        (
            counted("a", "add", 1.0),
            counted("a", "add", 2.0),
            counted("b", "add", 3.0),
            counted("b", "gemm", 4.0),
            counted("b", "split_k", 5.0),
        ),
        "1",
        (),
    )
    before = frame.copy()
    joined = join(frame, found)
    assert list(joined.frame.columns) == [*frame.columns, *COLUMNS]
    assert joined.frame["flops"].fillna(-1).tolist() == [1.0, 2.0, -1, 3.0, 4.0, 1.0, 2.0, -1]
    # split_k found no row.
    assert (joined.matched, joined.counted) == (4, 5)
    pandas.testing.assert_frame_equal(frame, before)


def test_nothing_counted_leaves_every_column_unread():
    joined = join(kernels_frame([(0, "k", "kernel", "a", 0.0, 0.0, 1.0)]), Counters((), "1", ()))
    assert joined.frame[list(COLUMNS)].isna().all(axis=None)
    assert (joined.matched, joined.counted) == (0, 0)


def measured(device, only=()):
    time_s = Spread.of([1.0])
    layers = tuple(LayerTime(name, "op", "head", "", "Gemm", time_s, 1) for name in ("encoder.conv", "head"))
    taken = Measurement(
        *("av-mnist/concat", "concat", 1, "float32", device, time_s, time_s, layers, 0.0, 0.0, {"total": 1}),
        only=only,
        provenance={"python": "3"},
    )
    conv = "void sm80_xmma_fprop_implicit_gemm_tf32f32_kernel(Params)"
    return Result(taken, None, kernels_frame([(0, conv, "kernel", "encoder.conv", 0.0, 0.0, 1.0)]))


def test_a_result_gets_its_counters_and_says_how_they_were_read(ncu, tmp_path):
    copy = tmp_path / "request.json"
    ncu(f"pathlib.Path({str(copy)!r}).write_text(pathlib.Path(target[-1]).read_text())\n" + replay(TABLE))
    found = with_counters(measured("cuda", only=("head",)), "av-mnist/concat", {"batch": 1})
    assert json.loads(copy.read_text())["layers"] == ["encoder.conv", "head"]
    assert found.kernels["flops"].tolist() == [20_482_024.0]
    facts = found.measurement.provenance
    assert facts["python"] == "3"
    assert (facts["counters"]["kernels"], facts["counters"]["matched"]) == (4, 1)
    with_counters(measured("cuda"), "av-mnist/concat")
    assert json.loads(copy.read_text())["layers"] is None


def test_counters_of_a_cpu_or_of_a_bare_file_are_refused(ncu):
    ncu(replay(TABLE))
    with pytest.raises(UnavailableError, match=r"there are none of device cpu\. Give --device cuda"):
        with_counters(measured("cpu"), "av-mnist/concat")
    with pytest.raises(MmworkloadError, match="has no kernels"):
        with_counters(Result(measured("cuda").measurement), "av-mnist/concat")


def test_measure_refuses_counters_before_it_measures(ncu, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from mmworkload import verbs

    steps = []
    options = {"counters": True, "progress": lambda done, total: steps.append(done)}
    with pytest.raises(UnavailableError, match="there are none of device cpu"):
        verbs.measure("av-mnist/concat", **options)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UnavailableError, match="no ncu on the PATH"):
        verbs.measure("av-mnist/concat", device="cuda", **options)
    assert steps == []


# --- the forward pass that ncu watches


class Recorder:
    """Takes down what the profiler would be told."""

    def __init__(self):
        self.said = []

    def push(self, name):
        self.said.append(f"push {name}")

    def pop(self):
        self.said.append("pop")

    def start(self):
        self.said.append("start")

    def stop(self):
        self.said.append("stop")


def test_all_of_the_pass_is_counted_and_each_node_has_a_range():
    pytest.importorskip("torch")
    tool = Recorder()
    layers = counted_pass.run({"model": "av-mnist/concat", "how": {}, "layers": None}, device="cpu", tool=tool)
    assert tool.said[0] == "start"
    assert tool.said[-1] == "stop"
    assert tool.said[1:-1] == [text for index in range(len(layers)) for text in (f"push node::{index}", "pop")]
    assert {"encoders.image.convs.0", "head.0"} <= set(layers)


def test_only_the_nodes_of_the_chosen_layers_are_counted():
    pytest.importorskip("torch")
    tool, chosen = Recorder(), {"head.0", "head.2"}
    request = {"model": "av-mnist/concat", "how": {"batch": 2}, "layers": sorted(chosen)}
    layers = counted_pass.run(request, device="cpu", tool=tool)
    expected = []
    for index, layer in enumerate(layers):
        expected += [f"push node::{index}", *(("start", "stop") if layer in chosen else ()), "pop"]
    assert tool.said == expected
    assert tool.said.count("start") == sum(layer in chosen for layer in layers) >= 2


def test_a_recorded_model_opens_a_range_for_each_layer_too():
    torch = pytest.importorskip("torch")
    from mmworkload.measuring.program import bind
    from mmworkload.measuring.ranges import opened_by
    from mmworkload.measuring.recording import Recorded
    from mmworkload.models import resolve
    from mmworkload.tracing import trace_model

    model = resolve("av-mnist/concat")
    traced = trace_model(model, "recorder")
    program = bind(traced, model.build("cpu"), torch.device("cpu"))
    assert isinstance(program, Recorded)
    counted = counted_pass.Counted(Recorder(), traced.layer_of_call, frozenset())
    with torch.inference_mode(), opened_by(counted.node):
        program.node_run()()
    assert sorted(filter(None, counted.layers)) == sorted(layer.name for layer in traced.graph)
    # Outside, ranges are those of torch's profiler again.
    before = len(counted.layers)
    program.node_run()()
    assert len(counted.layers) == before


def test_the_pass_answers_with_its_error(tmp_path):
    pytest.importorskip("torch")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"model": "no-such-model", "how": {}, "layers": None}))
    code = counted_pass.main(str(request))
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert code == 2
    assert answer["error"]


def test_the_program_that_ncu_runs_starts_and_reports_its_error(ncu):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, where the pass succeeds")
    ncu("sys.exit(subprocess.call(target))")
    with pytest.raises(MmworkloadError, match="was to watch failed: device cuda cannot be used"):
        read_counters("av-mnist/concat", limit_s=120)


def test_the_environment_is_not_changed(ncu):
    before = dict(os.environ)
    ncu(replay(TABLE))
    before["PATH"] = os.environ["PATH"]
    read_counters("av-mnist/concat")
    assert dict(os.environ) == before
