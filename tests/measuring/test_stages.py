"""The stage level: what a device does for each stage, timers at boundaries, and slowdowns that are planted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils import _pytree  # noqa: E402

from mmworkload.measuring import Measurement, measure  # noqa: E402
from mmworkload.measuring.frames import HostRow, KernelRow  # noqa: E402
from mmworkload.measuring.program import bind  # noqa: E402
from mmworkload.measuring.stages import (  # noqa: E402
    StageSampler,
    Timer,
    busy_and_idle,
    fastest_s,
    stage_of_call,
    stage_times,
)
from mmworkload.models import Model, resolve  # noqa: E402
from mmworkload.tracing import trace_model  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
CPU = torch.device("cpu")
QUICK = {"warmup": 1, "repeats": 5, "limit_s": 5.0}
SLEEP_S = 0.02


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for each other far longer than these small networks run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- the device -----------------------------------------------------------------------------------------------------


def test_a_gap_belongs_to_the_stage_that_the_device_waits_for() -> None:
    found = busy_and_idle([("a", 1.0, 3.0), ("a", 4.0, 5.0), ("b", 7.0, 8.0), ("a", 8.0, 9.0)])

    # a: waits 0..1 and 3..4; b: waits 5..7.
    assert found == {"a": (4.0, 2.0), "b": (1.0, 2.0)}
    assert sum(busy + idle for busy, idle in found.values()) == 9.0


def test_overlapping_kernels_of_a_stage_count_once_and_those_of_none_are_not_idle_time() -> None:
    found = busy_and_idle([("a", 0.0, 4.0), ("a", 2.0, 6.0), ("", 6.0, 7.0), ("a", 9.0, 10.0)])

    assert found == {"a": (7.0, 2.0)}


def test_stages_on_two_streams_are_each_busy_and_not_idle() -> None:
    assert busy_and_idle([("a", 0.0, 5.0), ("b", 0.0, 5.0)]) == {"a": (5.0, 0.0), "b": (5.0, 0.0)}


def test_nothing_is_under_way_without_work() -> None:
    assert busy_and_idle([]) == {}


def kernel(stage: str, start_s: float, duration_s: float, kind: str = "kernel", name: str = "k", run: int = 0) -> Any:
    return KernelRow(run, name, kind, stage, "", stage, "", "", "", start_s, duration_s, 7, start_s, 0.0)


def host(stage: str, kind: str, self_s: float, run: int = 0) -> Any:
    return HostRow(run, kind, "h", stage, stage, "", 0.0, self_s, self_s, 1)


def test_a_stage_of_a_device_sums_its_rows_as_a_median_over_runs() -> None:
    graph = trace_model(resolve("av-mnist/concat")).graph
    kernels, rows = [], []
    for run, scale in enumerate((1.0, 2.0, 3.0)):
        kernels += [
            kernel("encoder/image", 1.0 * scale, 2.0 * scale, run=run),
            kernel("encoder/image", 3.0 * scale, 1.0 * scale, "copy", "Memcpy HtoD", run),
            kernel("head", 6.0 * scale, 1.0 * scale, run=run),
            kernel("head", 7.0 * scale, 1.0 * scale, "copy", "Memcpy DtoD", run),
        ]
        rows += [
            host("encoder/image", "operator", 0.5 * scale, run),
            host("encoder/image", "runtime", 0.25 * scale, run),
            host("head", "sync", 0.125 * scale, run),
        ]
    taken = [{"encoder/image": 4.0, "head": 1.0}, {"encoder/image": 6.0}]
    found = {item.stage: item for item in stage_times(graph, taken, kernels, rows)}

    image, head = found["encoder/image"], found["head"]
    assert list(found) == ["encoder/image", "encoder/audio", "fusion", "head"]
    assert (image.modality, head.modality) == ("image", "")
    assert image.time.median_s == 5.0
    # Half of the samples did not reach the head's timer.
    assert (head.time.min_s, head.time.max_s) == (0.0, 1.0)
    assert (image.cpu_s, image.runtime_s, image.busy_s, image.idle_s) == (1.0, 0.5, 6.0, 2.0)
    assert (image.launches, image.syncs, image.copies) == (1, 0, 1)
    assert (head.cpu_s, head.runtime_s, head.busy_s, head.idle_s) == (0.0, 0.25, 4.0, 4.0)
    assert (head.launches, head.syncs, head.copies) == (1, 1, 0)
    assert found["fusion"].busy_s == 0.0
    chosen = stage_times(graph, taken, kernels, rows, {"head.0"})
    assert [item.stage for item in chosen] == ["head"]


# --- timers ---------------------------------------------------------------------------------------------------------


def test_the_segments_of_a_stage_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 3.0, 6.0, 10.0])
    monkeypatch.setattr("mmworkload.measuring.stages.time.perf_counter", lambda: next(moments))
    timer = Timer(CPU)
    timer.begin()
    for stage in ("a", "b", "a"):
        timer.mark(stage)

    # What is before the first stage is the first one's: 0..1 and 1..3 and 6..10, b 3..6.
    assert timer.seconds() == {"a": 7.0, "b": 3.0}


def test_the_shortest_run_counts_for_the_overhead() -> None:
    assert fastest_s({"0": (0, 5_000), "1": (10_000, 13_000)}) == pytest.approx(3e-6)


@pytest.mark.parametrize("route", ["export", "recorder"])
def test_boundaries_are_those_of_the_graph_and_the_result_is_the_models(route: str) -> None:
    model = resolve("mujoco-push/late")
    traced = trace_model(model, route)
    program = bind(traced, model.build("cpu"), CPU)
    stages = stage_of_call(traced.graph, traced.layer_of_call)
    marks: list[str] = []
    with torch.inference_mode():
        expected = [item.clone() for item in _pytree.tree_leaves(program.graph_run()())]
        for _ in range(2):
            marks.clear()
            outputs = _pytree.tree_leaves(program.stage_runner(marks.append, stages)()())
            torch.testing.assert_close(list(outputs), expected, rtol=1e-5, atol=1e-5)

    order = [stages[key] for key in traced.layer_of_call]
    assert marks == [stage for stage, before in zip(order, ["", *order], strict=False) if stage != before]
    assert set(marks) == set(traced.graph.stages)


def test_boundaries_inside_regions_are_marked() -> None:
    model = resolve(f"{MODELS}:regions")
    traced = trace_model(model)
    program = bind(traced, model.build("cpu"), CPU)
    inner = [key for key in traced.layer_of_call if "/" in key]
    marks: list[str] = []
    with torch.inference_mode():
        program.stage_runner(marks.append, {key: key for key in traced.layer_of_call})()()

    assert inner
    assert marks == list(traced.layer_of_call)


def test_a_sample_is_the_sum_of_its_stages() -> None:
    model = resolve("av-mnist/concat")
    traced = trace_model(model)
    sampler = StageSampler(
        bind(traced, model.build("cpu"), CPU), stage_of_call(traced.graph, traced.layer_of_call), CPU
    )
    seconds = [sampler(), sampler()]

    assert seconds == pytest.approx([sum(sample.values()) for sample in sampler.taken])
    assert [set(sample) for sample in sampler.taken] == [set(traced.graph.stages)] * 2


# --- planted slowdowns ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sleeps() -> Any:
    """An operator that takes 20 ms."""
    with torch.library._scoped_library("planted", "FRAGMENT") as library:
        library.define("sleep(Tensor x) -> Tensor")

        def sleep(x: Any) -> Any:
            time.sleep(SLEEP_S)
            return x.clone()

        library.impl("sleep", sleep, "CPU")
        library.impl("sleep", torch.empty_like, "Meta")
        yield torch.ops.planted.sleep


class TwoModalities(nn.Module):
    """Two encoders of two layers each, a fusion and a head."""

    def __init__(self, width: int, sleep: Any = None) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                "image": nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 64)),
                "audio": nn.Sequential(nn.Linear(256, width), nn.Linear(width, 64)),
            }
        )
        self.fusion = nn.Linear(128, 64)
        self.head = nn.Linear(64, 10)
        self.sleep = sleep

    def forward(self, image: Any, audio: Any) -> Any:
        first = self.encoders["image"](image)
        if self.sleep is not None:
            audio = self.sleep(self.encoders["audio"][0](audio))
            second = self.encoders["audio"][1](audio)
        else:
            second = self.encoders["audio"](audio)
        return self.head(self.fusion(torch.cat([first, second], -1)))


RULES = {"encoders.image*": "encoder/image", "encoders.audio*": "encoder/audio", "fusion": "fusion", "head": "head"}


def measured(width: int, sleep: Any = None) -> Measurement:
    def build(device: str) -> Any:
        return TwoModalities(width, sleep), {"image": torch.randn(256, 256), "audio": torch.randn(256, 256)}

    return measure(Model("two", "", 256, "float32", build, rules=RULES), **QUICK)


def test_a_layer_ten_times_larger_shows_in_its_row_stage_and_straggler() -> None:
    before, after = measured(256), measured(2560)

    def grown(name: str) -> float:
        first, second = ({row.layer: row.time.min_s for row in item.layers} for item in (before, after))
        return second[name] / first[name]

    stages = [{item.stage: item.time.min_s for item in result.stage_times} for result in (before, after)]
    # 10 times the work; small products run at a lower rate than large ones, and other load disturbs.
    assert grown("encoders.audio.0") > 4
    assert grown("encoders.audio.0") > 2 * max(grown(name) for name in ("encoders.image.0", "fusion", "head"))
    assert stages[1]["encoder/audio"] > 2 * stages[0]["encoder/audio"]
    assert after.straggler.modality == "audio"
    assert after.straggler.ratio is not None
    assert after.straggler.ratio > 2


def test_a_sleep_in_one_modality_shows_in_its_row_stage_and_straggler(sleeps: Any) -> None:
    result = measured(256, sleeps)

    row = max(result.layers, key=lambda item: item.time.median_s)
    assert (row.op, row.stage) == ("unknown:planted.sleep", "encoder/audio")
    assert row.time.min_s > 0.9 * SLEEP_S
    stages = {item.stage: item for item in result.stage_times}
    assert stages["encoder/audio"].time.min_s > SLEEP_S
    assert stages["encoder/audio"].busy_s > 0.9 * SLEEP_S
    assert stages["encoder/image"].time.min_s < SLEEP_S
    assert result.straggler.modality == "audio"
    assert result.straggler.ratio is not None
    assert result.straggler.ratio > 2


@pytest.mark.parametrize("name", ["av-mnist/concat", "mujoco-push/late"])
def test_what_belongs_to_no_layer_is_less_than_a_twentieth_of_the_whole_profile(name: str) -> None:
    result = measure(resolve(name), **{**QUICK, "limit_s": 10.0})

    assert result.attributed_share is not None
    assert 0.95 <= result.attributed_share <= 1.0
    attributed_s = result.layer_sum_s / (result.layer_sum_s + result.unattributed_s)
    # The share is over all runs, the others are medians of runs.
    assert result.attributed_share == pytest.approx(attributed_s, abs=0.05)
    assert set(result.overhead) == {"stage", "layer", "kernel"}
    assert all(ratio > 0 for ratio in result.overhead.values())
