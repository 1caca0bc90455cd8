"""Encoders on streams: what waits for what, without a device, and that the result is that of one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils import _pytree  # noqa: E402

from mmworkload.errors import MmworkloadError, UnavailableError  # noqa: E402
from mmworkload.graph import LayerGraph  # noqa: E402
from mmworkload.layer import Layer, Tensor  # noqa: E402
from mmworkload.measuring import measure  # noqa: E402
from mmworkload.measuring.program import bind  # noqa: E402
from mmworkload.measuring.streams import (  # noqa: E402
    MAIN,
    Concurrent,
    Segment,
    require_streams,
    schedule,
    streams_runner,
    what_runs,
)
from mmworkload.models import resolve  # noqa: E402
from mmworkload.tracing import trace_model  # noqa: E402
from mmworkload.tracing.snapshot import snapshots  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
CPU = torch.device("cpu")
IMAGE, AUDIO = "encoder/image", "encoder/audio"


# --- the schedule ---------------------------------------------------------------------------------------------------


def graph(*layers: tuple[str, str, str, str], storages: dict[str, str] | None = None) -> LayerGraph:
    """Layers as (name, stage, tensors read, tensors written); a tensor is its own storage unless told."""
    used = dict.fromkeys(name for _, _, reads, writes in layers for name in (*reads.split(), *writes.split()))
    written = {name for _, _, _, writes in layers for name in writes.split()}
    tensors = {
        name: Tensor(
            name,
            (1,),
            "float32",
            32,
            "activation" if name in written else "input",
            (storages or {}).get(name, name),
        )
        for name in used
    }
    return LayerGraph(
        "m",
        "",
        1,
        "float32",
        tuple(
            Layer(
                name=name,
                op="relu",
                category="Relu",
                module=name,
                stage=stage,
                reads=tuple((item, 4) for item in reads.split()),
                writes=tuple((item, 4) for item in writes.split()),
            )
            for name, stage, reads, writes in layers
        ),
        tensors,
    )


def planned(made: LayerGraph) -> tuple[Segment, ...]:
    return schedule(made, {f"call_{layer.name}": layer.name for layer in made})


def test_the_fusion_waits_for_all_encoders_and_these_for_none() -> None:
    made = graph(
        ("i1", IMAGE, "image", "a"),
        ("i2", IMAGE, "a", "b"),
        ("s1", AUDIO, "audio", "c"),
        ("cat", "fusion", "b c", "d"),
        ("fc", "head", "d", "e"),
    )

    assert planned(made) == (
        Segment(IMAGE, ("call_i1", "call_i2"), ()),
        Segment(AUDIO, ("call_s1",), ()),
        Segment(MAIN, ("call_cat", "call_fc"), (0, 1)),
    )


def test_encoders_that_exchange_wait_where_they_do_and_for_the_last_segment_alone() -> None:
    made = graph(
        ("i1", IMAGE, "image", "a"),
        ("s1", AUDIO, "audio", "b"),
        ("i2", IMAGE, "a", "c"),
        ("s2", AUDIO, "a b c", "d"),
    )

    assert [item.waits for item in planned(made)] == [(), (), (), (2,)]


def test_what_writes_in_place_waits_for_those_that_read_the_old_content_and_the_next_reader_for_it() -> None:
    made = graph(
        ("i1", IMAGE, "image", "a"),
        ("s1", AUDIO, "state", "b"),
        # A new version of the state, in the same memory.
        ("i2", IMAGE, "a state", "state2"),
        ("s2", AUDIO, "b state2", "c"),
        storages={"state2": "state"},
    )

    assert [item.waits for item in planned(made)] == [(), (), (1,), (2,)]


def test_a_stream_waits_for_the_users_of_its_memory_before_it_takes_memory_again() -> None:
    made = graph(
        ("i1", IMAGE, "image", "a"),
        ("mix", "fusion", "a", "b"),
        # Reads nothing of the fusion; but when "a" is let go, its memory is the image stream's.
        ("i2", IMAGE, "image", "c"),
        ("end", "head", "b c", "d"),
    )

    assert [item.waits for item in planned(made)] == [(), (0,), (1,), (2,)]


@pytest.mark.parametrize("name", ["av-mnist/concat", "mujoco-push/late", "vision-touch/low-rank", "transfuser/latent"])
def test_encoders_of_workloads_run_side_by_side_where_fusion_is_late(name: str) -> None:
    made = LayerGraph.load(snapshots()[name])
    segments = planned(made)

    reached: list[set[int]] = []
    for index, item in enumerate(segments):
        before = [at for at in range(index) if segments[at].stream == item.stream]
        direct = {*item.waits, *before[-1:]}
        reached.append(direct.union(*(reached[at] for at in direct)))
    across = {
        (segments[at].stream, item.stream)
        for item, found in zip(segments, reached, strict=True)
        for at in found
        if item.stream and segments[at].stream and item.stream != segments[at].stream
    }
    encoders = {stage for stage in made.stages if stage.startswith("encoder/")}
    assert {item.stream for item in segments} - {MAIN} == encoders
    # TransFuser's encoders exchange features at four depths.
    assert bool(across) == name.startswith("transfuser")
    # The last segment is the head's, after everything.
    assert reached[-1] == set(range(len(segments) - 1))


# --- running it -----------------------------------------------------------------------------------------------------


class Fake:
    """Streams that write down what they are told; an event is a number."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.current = MAIN
        self.events = 0

    def switch(self, stream: str) -> None:
        self.current = stream
        self.log.append(("on", stream))

    def record(self) -> int:
        self.events += 1
        self.log.append(("event", self.events))
        return self.events

    def wait(self, event: int) -> None:
        self.log.append(("wait", event))


def test_streams_are_switched_awaited_and_joined() -> None:
    lanes = Fake()
    run = Concurrent([Segment("a", ("x",), ()), Segment("b", ("y",), ()), Segment(MAIN, ("z",), (0, 1))], lanes)
    run.begin()
    for segment in "012":
        run.mark(segment)
    run.end()

    assert lanes.log == [
        ("event", 1),
        *(("on", "a"), ("wait", 1), ("event", 2)),
        *(("on", "b"), ("wait", 1), ("event", 3)),
        *(("on", MAIN), ("wait", 1), ("wait", 2), ("wait", 3), ("event", 4)),
        # The main stream goes on after all of them.
        *(("on", MAIN), ("wait", 2), ("wait", 3), ("wait", 4)),
    ]


@pytest.mark.parametrize("route", ["export", "recorder"])
def test_the_result_is_that_of_one_stream_and_each_call_is_on_its_own(route: str) -> None:
    model = resolve("av-mnist/concat")
    traced = trace_model(model, route)
    program = bind(traced, model.build("cpu"), CPU)
    lanes = Fake()
    prepare = streams_runner(program, traced.graph, traced.layer_of_call, lanes)
    with torch.inference_mode():
        expected = _pytree.tree_leaves(program.graph_run()())
        for _ in range(2):
            torch.testing.assert_close(_pytree.tree_leaves(prepare()()), expected, rtol=1e-5, atol=1e-5)

    switches = [stream for kind, stream in lanes.log if kind == "on"]
    assert switches == [*(item.stream for item in schedule(traced.graph, traced.layer_of_call)), MAIN] * 2
    assert set(switches) == {IMAGE, AUDIO, MAIN}


def test_after_a_failure_the_main_stream_is_the_current_one() -> None:
    model = resolve(f"{MODELS}:in_place")
    traced = trace_model(model)
    program = bind(traced, model.build("cpu"), CPU)
    lanes = Fake()

    class Broken(type(program)):  # type: ignore[misc]
        def stage_runner(self, mark: Callable[[str], None], stage_of_call: Any) -> Any:
            def fail() -> None:
                lanes.switch("encoder/elsewhere")
                raise RuntimeError("planted")

            return lambda: fail

    broken = Broken(**{name: getattr(program, name) for name in program.__dataclass_fields__})
    with pytest.raises(RuntimeError, match="planted"):
        streams_runner(broken, traced.graph, traced.layer_of_call, lanes)()()
    assert lanes.current == MAIN


def reordered(segments: Sequence[Segment]) -> Iterable[int]:
    """An order that streams may take: of the segments that may run, the last comes first."""
    left, done = list(range(len(segments))), set()
    while left:
        ready = [
            at
            for at in left
            if done.issuperset(segments[at].waits)
            and not any(segments[before].stream == segments[at].stream for before in left if before < at)
        ]
        left.remove(ready[-1])
        done.add(ready[-1])
        yield ready[-1]


@pytest.mark.parametrize("name", ["av-mnist/concat", "mujoco-push/late"])
def test_any_order_that_the_streams_may_take_gives_the_same_result(name: str) -> None:
    model = resolve(name)
    traced = trace_model(model, "export")
    program = bind(traced, model.build("cpu"), CPU)
    segments = schedule(traced.graph, traced.layer_of_call)
    nodes = {node.name: node for node in program.graph_module.graph.nodes}
    order = list(reordered(segments))
    values: dict[Any, Any] = {}
    placeholders = [node for node in nodes.values() if node.op == "placeholder"]
    values.update(zip(placeholders, program.values, strict=True))

    def value(node: Any) -> Any:
        """Views are made when somebody needs them."""
        if node not in values:
            assert node.name not in traced.layer_of_call, f"{node.name} is needed before it has run"
            run(node)
        return values[node]

    def run(node: Any) -> None:
        args, kwargs = (torch.fx.node.map_arg(item, value) for item in (node.args, node.kwargs))
        values[node] = (
            program.graph_module.get_submodule(node.target) if node.op == "get_attr" else node.target(*args, **kwargs)
        )

    with torch.inference_mode():
        expected = list(program.graph_run()())
        for index in order:
            for key in segments[index].calls:
                run(nodes[key])
        result = torch.fx.node.map_arg(nodes["output"].args[0], value)

    assert order != sorted(order)
    torch.testing.assert_close(list(result), expected, rtol=1e-5, atol=1e-5)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_cpu_has_no_streams() -> None:
    steps: list[int] = []
    with pytest.raises(UnavailableError, match=r"--streams needs --device cuda"):
        measure(resolve("av-mnist/concat"), streams=True, progress=lambda done, total: steps.append(done))
    assert steps == []
    require_streams(torch.device("cuda", 0))


def test_one_encoder_has_nothing_beside_it() -> None:
    with pytest.raises(MmworkloadError, match=r"m has 1 encoder, so that nothing runs side by side.*--stage"):
        what_runs(graph(("i1", IMAGE, "image", "a"), ("fc", "head", "a", "b")))
    two = graph(("i1", IMAGE, "image", "a"), ("s1", AUDIO, "audio", "b"))
    assert what_runs(two) == "traced program, encoder/image, encoder/audio each on a CUDA stream of its own"
