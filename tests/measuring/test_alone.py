"""A stage alone: its own calls on what the full run gave it, and none of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from mmworkload.errors import UnknownNameError  # noqa: E402
from mmworkload.measuring import measure  # noqa: E402
from mmworkload.measuring.alone import Tape, alone_runner  # noqa: E402
from mmworkload.measuring.profiling import profiled  # noqa: E402
from mmworkload.measuring.program import bind  # noqa: E402
from mmworkload.models import resolve  # noqa: E402
from mmworkload.tracing import trace_model  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
CPU = torch.device("cpu")
QUICK = {"warmup": 1, "repeats": 5, "limit_s": 5.0}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bound(name: str, route: str) -> tuple[Any, Any]:
    model = resolve(name)
    traced = trace_model(model, route)
    return traced, bind(traced, model.build("cpu"), CPU)


def operators(prepare: Any) -> list[str]:
    events = profiled(prepare, 1, CPU)
    begin = next(item.start_ns for item in events if item.name == "run::0")
    end = next(item.end_ns for item in events if item.name == "run::0")
    return [item.name for item in events if item.kind == "operator" and begin <= item.start_ns <= end]


@pytest.mark.parametrize("route", ["export", "recorder"])
def test_the_operators_of_the_stage_run_and_no_others(route: str) -> None:
    traced, program = bound("av-mnist/concat", route)
    head = {layer.name for layer in traced.graph if layer.stage == "head"}
    found = operators(alone_runner(program, traced.layer_of_call, head))

    assert found.count("aten::addmm") == 2
    assert found.count("aten::relu") == 1
    assert not any("conv" in name or "pool" in name for name in found)


@pytest.mark.parametrize("route", ["export", "recorder"])
def test_all_stages_alone_compute_what_the_model_computes(route: str) -> None:
    """The last tensor that is made has the values of the model's output, in each of several runs."""
    for name in ("av-mnist/concat", f"{MODELS}:in_place", f"{MODELS}:regions", f"{MODELS}:recurrent"):
        traced, program = bound(name, route)
        everything = {layer.name for layer in traced.graph}
        seen: list[Any] = []
        tape = Tape(traced.layer_of_call, everything)

        def observe(*call: Any, tape: Tape = tape, seen: list[Any] = seen) -> Any:
            result = tape.observe(*call)
            seen.append(result)
            return result

        with torch.inference_mode():
            program.observed_run(observe)()
            expected = seen[-1].clone() if isinstance(seen[-1], torch.Tensor) else seen[-1][0].clone()
            last = tape.made[id(seen[-1] if isinstance(seen[-1], torch.Tensor) else seen[-1][0])]
            module = tape.module(last)
            for _ in range(2):
                program.restore()
                tape.restore()
                torch.testing.assert_close(module(), expected, rtol=1e-5, atol=1e-5)


def test_what_a_stage_writes_from_outside_is_restored_before_each_run() -> None:
    traced, program = bound(f"{MODELS}:in_place", "export")
    prepare = alone_runner(program, traced.layer_of_call, {layer.name for layer in traced.graph})
    states = [tensor for tensor, _ in program.pristine]
    with torch.inference_mode():
        contents = []
        for _ in range(3):
            prepare()()
            contents.append([tensor.clone() for tensor in states])
    for later in contents[1:]:
        torch.testing.assert_close(later, contents[0])


def test_autocast_holds_inside_a_region_that_is_run_alone() -> None:
    traced, program = bound(f"{MODELS}:regions", "export")
    linear = {layer.name for layer in traced.graph if layer.op == "linear"}
    assert linear
    found = operators(alone_runner(program, traced.layer_of_call, linear))

    # The casts to bfloat16 are autocast's.
    assert "aten::to" in found or "aten::_to_copy" in found
    assert not torch.is_autocast_enabled("cpu")


def test_only_gives_the_stage_a_time_of_its_own() -> None:
    result = measure(resolve("av-mnist/concat"), only=["encoder/image"], **QUICK)

    (alone,) = result.executions
    assert (alone.name, alone.what) == ("alone", "encoder/image alone, on stored inputs")
    # Six to one in operators: the image's encoder is the smaller part of the network.
    assert 0 < alone.time.min_s < result.graph.min_s
    assert [item.stage for item in result.stage_times] == ["encoder/image"]


def test_only_takes_a_modality_too() -> None:
    model = resolve("av-mnist/concat")
    traced = trace_model(model)
    result = measure(model, only=["audio"], traced=traced, **QUICK)

    assert [row.layer for row in result.layers] == [row.name for row in traced.graph if row.modality == "audio"]
    with pytest.raises(UnknownNameError, match="encoder/audio"):
        measure(model, only=["audio", "smell"], traced=traced, **QUICK)
