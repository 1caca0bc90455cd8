"""Networks with exits: segments, exit layers, paths and workloads; what is refused."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from mmworkload.exits import ExitError, ExitSettings, with_exits
from mmworkload.exits.analysis import graph_costs
from mmworkload.exits.heads import entropy
from mmworkload.exits.network import LARGEST_SHARE
from mmworkload.graph import LayerGraph

Toy = Callable[..., LayerGraph]
Zoo = Callable[[str], LayerGraph]
TWO = {"a": (8, 4, 4, 2), "b": (16, 8, 8, 2)}
PAPER = {
    "av-mnist/concat": ("", 960),
    "mustard/concat-multibench": ("classes=2", 2 * 2 * (512 + 256 + 600)),
    "cmu-mosei/concat-multibench": ("classes=5", 2 * 5 * (70 + 200 + 600)),
}


def _settings(query: str) -> ExitSettings:
    return ExitSettings.read(dict(item.split("=") for item in query.split("&") if item))


def test_av_mnist_has_the_segments_of_the_facts(zoo: Zoo) -> None:
    graph = zoo("av-mnist/concat")
    network = with_exits(graph)
    assert graph.total_macs == 11_993_032
    assert network.graph.total_macs == 11_993_992
    exits = {item.modality + str(item.number): item.macs for item in network.exits}
    assert exits == {"image1": 120, "image2": 240, "audio1": 120, "audio2": 480}
    bare = {
        name: network.macs(name) - (segment.exit.macs if segment.exit else 0)
        for name, segment in network.segments.items()
    }
    assert bare == {
        "image/1": 244_608,
        "image/2": 127_008,
        "image/rest": 93_312,
        "audio/1": 3_913_728,
        "audio/2": 4_064_256,
        "audio/rest": 3_525_120,
        "fusion": 25_000,
    }


@pytest.mark.parametrize(
    ("p", "order", "change"),
    [
        ("image:.5:.5,audio:.2:.3", "image,audio", -0.782),
        ("image:.5:.5,audio:.2:.3", "audio,image", -0.222),
        ("0.3", "image,audio", -0.621),
        ("0.3", "audio,image", -0.276),
    ],
)
def test_av_mnist_expects_what_the_facts_say(zoo: Zoo, p: str, order: str, change: float) -> None:
    network = with_exits(zoo("av-mnist/concat"), _settings(f"p={p}&order={order}"))
    assert network.workload().total_macs / 11_993_032 - 1 == pytest.approx(change, abs=5e-4)


def test_the_layers_of_an_exit_by_hand(zoo: Zoo) -> None:
    graph = with_exits(zoo("av-mnist/concat")).graph
    pool, linear, softmax, sure = (graph[f"exits.image.1.{name}"] for name in ("pool", "linear", "softmax", "entropy"))
    # 12 channels of 7 x 7 to 12 features, to 10 scores, to one number.
    assert (pool.reads, pool.write_bytes, pool.vector_ops) == ((("encoders.image.pool@1:out", 2352),), 48, 588)
    assert (linear.macs, linear.read_bytes, linear.write_bytes, linear.vector_ops) == (120, 48 + 480 + 40, 40, 10)
    assert str(linear.work[0].problem).startswith("mac M=10 C=12")
    assert (softmax.vector_ops, softmax.bytes) == (50, 80)
    assert (sure.vector_ops, sure.read_bytes, sure.write_bytes) == (32, 40, 4)
    assert {item.stage for item in (pool, linear, softmax, sure)} == {"exit/image"}
    assert graph.built_params == 260_922 + 130 + 250 + 130 + 490


def test_a_batch_multiplies_the_work_of_an_exit(toy: Toy) -> None:
    one, four = (with_exits(toy(TWO, batch=batch)).graph for batch in (1, 4))
    assert four["exits.a.1.linear"].macs == 4 * one["exits.a.1.linear"].macs == 4 * 3 * 4
    # Weights and bias are read once: 3 x 4 and 3 numbers.
    assert four["exits.a.1.linear"].read_bytes == 4 * 16 + 48 + 12
    assert four.tensors["exits.a.1.entropy:out"].shape == (4,)


def test_entropy_is_zero_when_sure_and_one_when_not() -> None:
    assert entropy((1.0, 0.0, 0.0)) == 0.0
    assert entropy((0.25,) * 4) == pytest.approx(1.0)
    assert entropy((0.5, 0.5, 0.0, 0.0)) == pytest.approx(math.log(2) / math.log(4))


@pytest.mark.parametrize("name", PAPER)
def test_linear_exits_of_the_papers_networks_stay_below_its_share(zoo: Zoo, name: str) -> None:
    query, macs = PAPER[name]
    network = with_exits(zoo(name), _settings(query))
    assert sum(item.macs for item in network.exits) == macs
    assert network.overhead < LARGEST_SHARE == 0.0002
    assert not any("more than the paper's" in note for note in network.notes)


def test_a_network_too_small_for_the_papers_share_says_so(zoo: Zoo) -> None:
    network = with_exits(zoo("vision-touch/concat-mmbench"))
    assert network.overhead == pytest.approx(0.010371, rel=1e-4)
    assert any(
        "1% of the network's MACs, more than the paper's 0.02 %" in note.replace("1 %", "1%") for note in network.notes
    )


@pytest.mark.parametrize("name", [*PAPER, "cmu-mosei/concat", "medical-vqa/concat", "vision-touch/concat"])
@pytest.mark.parametrize("rest", ["next", "last"])
def test_with_no_exit_taken_the_network_costs_itself_and_its_exits(zoo: Zoo, name: str, rest: str) -> None:
    base = zoo(name)
    network = with_exits(base, replace(_settings("classes=5&p=0"), rest=rest))
    heads = [layer for layer in network.graph if layer.stage.startswith("exit/")]
    weights = [item for layer in heads for item in network.graph.weights([layer])]
    workload = network.workload()
    assert [part.count for part in workload.parts] == [1.0] * len(network.segments)
    assert workload.total_macs == base.total_macs + sum(layer.macs for layer in heads)
    costs = {item.kind: item for item in graph_costs(network)}
    assert costs["params"].full == base.total_params + sum(item.elements for item in weights)
    # A layer that was cut in time reads its weights again, and the state that the part before it left.
    cut = [layer for layer in network.graph if layer.name.rpartition("@")[0] in {item.name for item in base}]
    cut = [layer for layer in cut if layer.name not in {item.name for item in base}]
    again = 0
    for layer in cut:
        first = base[layer.name.rpartition("@")[0]]
        kinds = {read: base.tensors[read].kind for read, _ in first.reads}
        again += sum(size for read, size in first.reads if kinds[read] == "weight")
        again += 2 * sum(size for _, size in first.writes[1:])
    moved = sum(layer.bytes for layer in base) + sum(layer.bytes for layer in heads) + again
    assert costs["bytes"].full == moved


def test_what_an_exit_costs_lies_between_the_first_exit_and_the_whole(zoo: Zoo) -> None:
    rng = random.Random(7)
    graph = zoo("vision-touch/concat-sensors")
    for _ in range(10):
        p = {name: (rng.random(), rng.random()) for name in ("image", "force", "proprio", "depth")}
        network = with_exits(graph, ExitSettings(p=p, order=rng.choice(["listed", "phi", "macs"])))
        first = network.macs(f"{network.order[0]}/1")
        workload = network.workload()
        assert first <= workload.total_macs <= network.graph.total_macs
        paths = replace(network, settings=replace(network.settings, parts="paths")).workload()
        assert sum(part.count for part in paths.parts) == pytest.approx(1.0)
        assert paths.total_macs == pytest.approx(workload.total_macs, rel=1e-12)


def test_there_is_a_path_for_every_exit_and_one_through_the_fusion(zoo: Zoo) -> None:
    network = with_exits(zoo("av-mnist/concat"), ExitSettings(parts="paths"))
    parts = network.workload().parts
    assert [part.name for part in parts] == [
        "leaves at image/1",
        "leaves at image/2",
        "leaves at audio/1",
        "leaves at audio/2",
        "leaves at fusion",
    ]
    macs = [part.graph.total_macs for part in parts]
    assert macs == [244_728, 371_976, 371_976 + 93_312 + 3_913_848, 8_443_872, 11_993_992]
    assert "exits.image.1.softmax:out" in parts[0].graph.outputs


def test_a_segment_waits_for_the_decision_before_it(zoo: Zoo) -> None:
    graph = with_exits(zoo("av-mnist/concat")).graph
    assert ("exits.image.2.entropy:out", 0) in graph["encoders.audio.convs.0"].reads
    assert ("exits.audio.2.entropy:out", 0) in graph["fusion"].reads
    order = [layer.name for layer in graph]
    assert order.index("encoders.image.convs.3") < order.index("encoders.audio.convs.0")


def test_the_rest_of_an_encoder_can_wait_for_the_fusion(zoo: Zoo) -> None:
    graph = zoo("av-mnist/concat")
    soon, late = (with_exits(graph, _settings(f"rest={rest}&order=audio,image")) for rest in ("next", "last"))
    assert [item.name for item in late.in_order()][-3:] == ["audio/rest", "image/rest", "fusion"]
    # The rest of the audio encoder, run with 0.49 before the image and with 0.49 ** 2 behind it.
    saved = (0.49 - 0.49**2) * 3_525_120
    assert soon.workload().total_macs - late.workload().total_macs == pytest.approx(saved)


@pytest.mark.parametrize(("batch", "rule", "reach"), [(1, "worst", 0.7), (3, "worst", 1 - 0.3**3), (3, "each", 0.7)])
def test_the_worst_sample_of_a_batch_decides(toy: Toy, batch: int, rule: str, reach: float) -> None:
    network = with_exits(toy(TWO, batch=batch), ExitSettings(batch=rule))
    assert network.reach()["a/2"] == pytest.approx(reach)


def test_exits_can_be_put_anywhere(toy: Toy) -> None:
    network = with_exits(toy(TWO), _settings("at=a:3,b:1:2:3&order=b,a"))
    assert [item.place for item in network.exits] == [
        "block 3 of 3",
        "block 1 of 3",
        "block 2 of 3",
        "block 3 of 3",
    ]
    # An exit at the very end leaves no rest.
    assert list(network.segments) == ["a/1", "b/1", "b/2", "b/3", "fusion"]
    assert network.macs("b/1") == 16 * 8 + 3 * 8
    assert with_exits(toy(TWO), _settings("place=macs&per_modality=1")).exits[0].place == "block 1 of 3"


def test_a_network_with_exits_reads_back_from_its_file(zoo: Zoo) -> None:
    graph = with_exits(zoo("cmu-mosei/concat-multibench"), _settings("classes=5")).graph
    assert LayerGraph.from_text(graph.to_text(".yaml")) == graph
    assert LayerGraph.from_dict(graph.to_dict()) == graph


def test_a_modality_without_encoder_has_no_exits(zoo: Zoo) -> None:
    network = with_exits(zoo("mustard/concat"))
    assert network.modalities == ("vision", "text")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("av-mnist/image", "this network has 1"),
        ("av-mnist/tensor", "joined by 'outer'"),
        ("av-mnist/low-rank", "joined by 'mul'"),
        ("av-mnist/mvae", "concatenate features"),
        ("cmu-mosei/early-multibench", "no modality has an encoder"),
        ("medical-seg/concat", "one row of class scores"),
        ("mujoco-push/concat", "one row of class scores"),
        ("transfuser/transformer", "encoders that run without each other"),
        ("transfuser/late", "joined by 'add'"),
        ("cmu-mosei/concat-multibench", "how many classes"),
    ],
)
def test_a_network_that_cannot_have_exits_says_why(zoo: Zoo, name: str, said: str) -> None:
    with pytest.raises(ExitError, match=said):
        with_exits(zoo(name))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("at=a:4", "has 3 places"),
        ("at=c:1", "modalities with an encoder are a, b"),
        ("p=a:0.5", "a has 2 exits and 1 values"),
        ("order=a", "each of a,b once"),
        ("place=steps", "no recurrence"),
    ],
)
def test_settings_that_do_not_fit_say_why(toy: Toy, query: str, said: str) -> None:
    with pytest.raises(ExitError, match=said):
        _ = with_exits(toy(TWO), _settings(query)).graph
