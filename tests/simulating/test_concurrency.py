"""Modalities side by side: toy graphs by hand, properties of random graphs, and the snapshots of the zoo.

The critical path of the roll-up, which goes layer by layer, is the independent count.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch
from mmworkload.arch import Architecture
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer
from mmworkload.simulating.concurrency import Accelerators, Concurrency, Run, Slack, concurrency
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.rollup import critical_path_s, unit_of
from mmworkload.simulating.voltage import EnergySplit, VoltageScaling
from mmworkload.system import System

SHAPES = Path(__file__).resolve().parents[2] / "shapes"
# The clock is proportional to the voltage, which may fall to 0.4: figures to do by hand.
PLAIN = VoltageScaling(nominal_v=1.0, lowest_v=0.4, threshold_v=0.0, alpha=2.0)


def layer(name: str, stage: str, reads: str, writes: str) -> Layer:
    modality = stage.removeprefix("encoder/") if stage.startswith("encoder/") else ""
    return Layer(
        name,
        "op",
        stage=stage,
        modality=modality,
        reads=tuple((item, 8) for item in reads.split()),
        writes=((writes, 8),),
    )


TWO = (
    layer("image.1", "encoder/image", "image", "i1"),
    layer("image.2", "encoder/image", "i1", "i2"),
    layer("audio.1", "encoder/audio", "audio", "a1"),
    layer("fuse", "fusion", "i2 a1", "f"),
    layer("head", "head", "f", "out"),
)
TWO_S = {"image.1": 3.0, "image.2": 4.0, "audio.1": 5.0, "fuse": 2.0, "head": 1.0}
THREE = (
    *TWO[:3],
    layer("text.1", "encoder/text", "text", "t1"),
    layer("join", "fusion", "a1 t1", "j"),
    layer("fuse", "fusion", "i2 j", "f"),
)
THREE_S = {"image.1": 3.0, "image.2": 4.0, "audio.1": 5.0, "text.1": 1.0, "join": 1.5, "fuse": 2.0}


def found_in(
    graph: LayerGraph,
    latency_s: dict[str, float],
    energy: dict[str, EnergySplit] | None = None,
    scaling: VoltageScaling = PLAIN,
) -> Concurrency:
    found = concurrency([Run(graph, 1, latency_s, energy)], scaling)
    assert found is not None
    return found


def test_two_modalities_by_hand(make_graph: Any) -> None:
    one, two, three = found_in(make_graph(*TWO), TWO_S).accelerators

    assert (one.latency_s, one.speedup, one.critical) == (15.0, 1.0, "image")
    assert (one.idle_share, one.waiting_share) == (0.0, 0.0)
    # The image encoder until 7, fusion and head until 10; audio is done at 5.
    assert (two.latency_s, two.speedup, two.critical) == (10.0, 1.5, "image")
    assert two.assignment == (("image",), ("audio", ""))
    assert two.idle_share == pytest.approx(5 / 20)
    assert two.waiting_share == pytest.approx(2 / 20)
    # A third accelerator for fusion and head has nothing to do before 7.
    assert (three.count, three.latency_s) == (3, 10.0)
    assert three.idle_share == pytest.approx(15 / 30)
    assert three.waiting_share == pytest.approx(2 / 30)


def test_three_modalities_by_hand(make_graph: Any) -> None:
    rows = found_in(make_graph(*THREE), THREE_S).accelerators

    # On two: audio and text one after the other (6), their fusion until 7.5, then the last layer.
    assert [item.latency_s for item in rows] == [16.5, 9.5, 9.0, 9.0]
    assert [item.critical for item in rows] == ["image", "audio", "image", "image"]
    assert rows[1].assignment == (("image",), ("audio", "text", ""))
    assert rows[1].waiting_share == pytest.approx(0.0)
    assert rows[1].idle_share == pytest.approx(1 - 16.5 / 19)


def test_the_slack_of_an_encoder_is_seen_on_the_graph_and_not_in_the_sums(make_graph: Any) -> None:
    slacks = found_in(make_graph(*THREE), THREE_S).modalities

    # The audio encoder (5 s) has to leave 1.5 s for the layer that joins it with text before the image is there at 7.
    assert {name: item.slack_s for name, item in slacks.items()} == pytest.approx(
        {"image": 0.0, "audio": 0.5, "text": 4.5}
    )
    assert slacks["image"].slowdown == 1.0
    assert slacks["audio"].slowdown == pytest.approx(5.5 / 5)
    assert slacks["text"].slowdown == pytest.approx(5.5)


def test_slack_counts_on_every_stretch_of_a_modality(make_graph: Any) -> None:
    # Image and audio meet twice. In the first stretch audio has 1 s of 2 s to spare, in the second 3 s of 1 s.
    graph = make_graph(
        layer("image.1", "encoder/image", "image", "i1"),
        layer("audio.1", "encoder/audio", "audio", "a1"),
        layer("mix", "fusion", "i1 a1", "m"),
        layer("image.2", "encoder/image", "m", "i2"),
        layer("audio.2", "encoder/audio", "m", "a2"),
        layer("fuse", "fusion", "i2 a2", "f"),
    )
    seconds = {"image.1": 3.0, "audio.1": 2.0, "mix": 1.0, "image.2": 4.0, "audio.2": 1.0, "fuse": 1.0}

    slack = found_in(graph, seconds).modalities["audio"]

    assert slack.slowdown == pytest.approx(1.5)
    assert slack.slack_s == pytest.approx(1.5)


def test_an_accelerator_does_not_wait_for_the_straggler_with_work_at_hand(make_graph: Any) -> None:
    # The projection of the image stands before the audio encoder in the program.
    graph = make_graph(
        layer("image.1", "encoder/image", "image", "i1"),
        layer("project", "fusion", "i1", "p"),
        layer("audio.1", "encoder/audio", "audio", "a1"),
        layer("text.1", "encoder/text", "text", "t1"),
        layer("fuse", "fusion", "p a1 t1", "f"),
    )
    seconds = {"image.1": 6.0, "project": 1.0, "audio.1": 3.0, "text.1": 3.0, "fuse": 1.0}

    assert found_in(graph, seconds).accelerators[1].latency_s == 8.0


def test_slower_clocks_save_by_the_law(make_graph: Any) -> None:
    energy = dict.fromkeys(TWO_S, EnergySplit(switching_j=10.0, leakage_j=0.0, dram_j=4.0))

    found = found_in(make_graph(*TWO), TWO_S, energy)
    audio = found.modalities["audio"]

    # 5 s may become 7: the clock and the voltage fall to 5/7, the energy of switching to 25/49.
    assert audio.clock == pytest.approx(5 / 7)
    assert (audio.energy_j, audio.saving_j) == (14.0, pytest.approx(10 * (1 - 25 / 49)))
    assert audio.saving_share == pytest.approx(10 * (1 - 25 / 49) / 14)
    assert audio.floor_saving_j == pytest.approx(10 * (1 - 0.4**2))
    image = found.modalities["image"]
    assert (image.clock, image.saving_j, image.floor_saving_j) == (1.0, 0.0, 0.0)
    assert found.saving_j == pytest.approx(audio.saving_j)
    assert found.saving_share == pytest.approx(10 * (1 - 25 / 49) / 70)
    assert found.floor_saving_share == pytest.approx(10 * (1 - 0.4**2) / 70)


def test_leakage_stops_the_clock_from_falling_further(make_graph: Any) -> None:
    lossy = dict.fromkeys(TWO_S, EnergySplit(switching_j=1.0, leakage_j=100.0))

    # At alpha 2 without a threshold half the leakage power for twice the time is neither loss nor gain.
    assert found_in(make_graph(*TWO), TWO_S, lossy).modalities["audio"].clock == pytest.approx(5 / 7)
    law = VoltageScaling(nominal_v=1.0, lowest_v=0.4, threshold_v=0.3)
    audio = found_in(make_graph(*TWO), TWO_S, lossy, law).modalities["audio"]
    assert audio.clock is not None
    assert audio.saving_j is not None
    assert 5 / 7 < audio.clock < 1
    assert audio.saving_j == audio.floor_saving_j
    assert audio.saving_j > 0


def test_without_energy_there_is_slack_and_no_saving(make_graph: Any) -> None:
    found = found_in(make_graph(*TWO), TWO_S)

    assert (found.saving_j, found.saving_share, found.floor_saving_j, found.floor_saving_share) == (None,) * 4
    audio = found.modalities["audio"]
    assert (audio.energy_j, audio.clock, audio.saving_j, audio.saving_share, audio.floor_saving_j) == (None,) * 5
    assert audio.slack_s == pytest.approx(2.0)


@pytest.mark.parametrize("layers", [(), TWO[:2], TWO[3:4]])
def test_fewer_than_two_modalities_have_nothing_to_say(make_graph: Any, layers: tuple[Layer, ...]) -> None:
    assert concurrency([Run(make_graph(*layers), 1, TWO_S, None)]) is None


def test_modalities_that_take_no_time_have_nothing_to_say(make_graph: Any) -> None:
    assert concurrency([Run(make_graph(*TWO), 1, dict.fromkeys(TWO_S, 0.0), None)]) is None


def test_parts_follow_each_other_and_are_weighted(make_graph: Any) -> None:
    energy = dict.fromkeys(TWO_S, EnergySplit(switching_j=10.0))
    swapped = {**TWO_S, "audio.1": 8.0}
    runs = [Run(make_graph(*TWO), 1, TWO_S, energy), Run(make_graph(*TWO), 4, swapped, energy)]

    found = concurrency(runs, PLAIN)

    assert found is not None
    assert [item.latency_s for item in found.accelerators] == pytest.approx([15 + 4 * 18, 10 + 4 * 11, 10 + 4 * 11])
    assert found.accelerators[1].critical == "audio"  # four times 8 against once 7
    assert found.accelerators[1].waiting_share == pytest.approx((2 + 4 * 1) / (2 * 54))
    image, audio = found.modalities["image"], found.modalities["audio"]
    assert (image.seconds, audio.seconds) == (7 + 4 * 7, 5 + 4 * 8)
    assert (image.slack_s, audio.slack_s) == pytest.approx((4 * 1, 2))
    assert image.slowdown == pytest.approx(1 + 4 / 35)
    assert image.saving_j == pytest.approx(4 * 20 * (1 - 49 / 64))
    assert audio.saving_j == pytest.approx(10 * (1 - 25 / 49))
    assert found.saving_share == pytest.approx((image.saving_j + audio.saving_j) / (50 * 5))


# --- properties -------------------------------------------------------------------------------------------------------


def random_case(make_graph: Any, seed: int, modalities: int) -> tuple[LayerGraph, dict[str, float]]:
    """Encoders that sometimes read each other or the fusion, and fusion layers in between."""
    draw = random.Random(seed)
    layers: list[Layer] = []
    names = [f"m{index}" for index in range(modalities)]
    for index in range(draw.randint(modalities * 2, modalities * 6)):
        # Every modality at least once.
        name = names[index] if index < modalities else draw.choice([*names, ""])
        own = [item.writes[0][0] for item in layers if item.modality == name][-1:]
        other = [item.writes[0][0] for item in layers]
        reads = {*own, *(draw.sample(other, 1) if other and draw.random() < (0.25 if name else 0.9) else ())}
        layers.append(
            layer(f"l{index}", f"encoder/{name}" if name else "fusion", " ".join(sorted(reads or {"x"})), f"t{index}")
        )
    return make_graph(*layers), {item.name: float(draw.choice([0, 1, 1, 2, 3, 10])) for item in layers}


@pytest.mark.parametrize("modalities", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", range(12))
def test_more_accelerators_and_slack_keep_their_laws(make_graph: Any, seed: int, modalities: int) -> None:
    graph, seconds = random_case(make_graph, seed, modalities)
    draw = random.Random(seed)
    energy = {name: EnergySplit(draw.random(), draw.random() / 5, draw.random()) for name in seconds}

    found = found_in(graph, seconds, energy, VoltageScaling())

    serial_s, path_s = sum(seconds.values()), critical_path_s(graph, seconds)
    ends = [item.latency_s for item in found.accelerators]
    assert ends[0] == pytest.approx(serial_s)
    assert ends[-1] == pytest.approx(path_s)
    assert all(later <= before for before, later in pairwise(ends))
    for item in found.accelerators:
        assert item.latency_s >= max(path_s, serial_s / item.count) - 1e-9
        assert item.count == len(item.assignment)
        assert sorted(unit for group in item.assignment for unit in group) == sorted({unit_of(one) for one in graph})
        assert 0 <= item.waiting_share <= item.idle_share + 1e-12 < 1
    slower = {}
    for name, slack in found.modalities.items():
        own = [one.name for one in graph if unit_of(one) == name]
        assert slack.slack_s == pytest.approx((slack.slowdown - 1) * slack.seconds, abs=1e-9)
        if slack.seconds:
            at_limit = seconds | {one: seconds[one] * slack.slowdown for one in own}
            beyond = seconds | {one: seconds[one] * slack.slowdown * 1.01 for one in own}
            assert critical_path_s(graph, at_limit) == pytest.approx(path_s)
            assert critical_path_s(graph, beyond) > path_s * (1 + 1e-6)
        assert slack.saving_j is not None
        assert slack.clock is not None or not slack.seconds
        assert 0 <= slack.saving_j <= (slack.floor_saving_j or 0.0) + 1e-12
        slower |= {one: seconds[one] / (slack.clock or 1.0) for one in own}
    # All slowed down together.
    assert critical_path_s(graph, seconds | slower) == pytest.approx(path_s)


def test_up_to_six_modalities_get_the_best_assignment(make_graph: Any) -> None:
    times = {"a": 3.0, "b": 3.0, "c": 2.0, "d": 2.0, "e": 2.0}
    layers = [layer(name, f"encoder/{name}", f"x{name}", f"t{name}") for name in times]
    graph = make_graph(*layers, layer("fuse", "fusion", " ".join(f"t{name}" for name in times), "f"))

    # 3 + 3 beside 2 + 2 + 2; longest first would give 3 + 2 + 2 = 7.
    assert found_in(graph, times | {"fuse": 1.0}).accelerators[1].latency_s == 6 + 1


def test_more_modalities_are_assigned_longest_first(make_graph: Any) -> None:
    # Nine encoders of 1 to 9 s; on three accelerators 9 + 4 + 3, 8 + 5 + 2, 7 + 6 + 1 (15 each were possible).
    layers = [layer(f"e{index}", f"encoder/m{index}", f"x{index}", f"t{index}") for index in range(1, 10)]
    graph = make_graph(*layers, layer("fuse", "fusion", " ".join(f"t{index}" for index in range(1, 10)), "f"))
    seconds = {f"e{index}": float(index) for index in range(1, 10)} | {"fuse": 2.0}

    ends = [item.latency_s for item in found_in(graph, seconds).accelerators]

    assert ends[0] == 47.0
    assert ends[2] == 16 + 2
    assert ends[8:] == [9 + 2, 9 + 2]


# --- with a simulator -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["av-mnist/concat", "mujoco-push/late", "vision-touch/concat", "transfuser/late"])
def test_the_zoo_on_an_accelerator(name: str) -> None:
    graph = LayerGraph.load(SHAPES / f"{name}.yaml")

    result = simulate(graph, arch.load("eyeriss_like"), "roofline", cache=False)

    found = result.concurrency
    assert found is not None
    assert found.accelerators[0].latency_s == pytest.approx(result.serial_latency_s)
    assert found.accelerators[-1].latency_s == pytest.approx(result.critical_path_s)
    assert set(found.modalities) == set(result.encoder_s)
    assert found.modalities[result.straggler.modality].slack_s == 0.0
    assert found.accelerators[-1].critical == result.straggler.modality
    assert found.saving_j is not None
    assert 0 < found.saving_j <= (found.floor_saving_j or 0.0)
    own = sum(item.energy_j or 0.0 for item in found.modalities.values())
    rows = [row for row in result.layers if row.modality or row.stage.startswith("encoder/")]
    assert own == pytest.approx(sum(row.energy_j or 0.0 for row in rows))
    assert json.loads(json.dumps(result.to_dict()))["concurrency"]["saving_j"] == found.saving_j


def test_a_gpu_has_slack_and_no_saving_and_a_system_has_its_own_accelerators() -> None:
    graph = LayerGraph.load(SHAPES / "av-mnist" / "concat.yaml")
    eyeriss, gpu = arch.load("eyeriss_like"), arch.load("v100")

    found = simulate(graph, gpu, "roofline").concurrency
    assert found is not None
    assert found.saving_j is None
    assert found.modalities["image"].slack_s > 0
    system = System((("encoder/image", gpu), ("*", eyeriss)))
    assert simulate(graph, system, "roofline").concurrency is None


def test_every_field_is_described() -> None:
    text = (SHAPES.parent / "docs" / "json.md").read_text().split("\n## Modalities side by side\n")[1].split("\n## ")[0]
    described = [set(re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)) for block in text.split("| field |")[1:]]

    assert described == [{item.name for item in fields(kind)} for kind in (Concurrency, Accelerators, Slack)]


def test_weighted_parts_end_with_the_serial_latency(small: Architecture, make_graph: Any) -> None:
    def relu(name: str, stage: str, reads: str, writes: str) -> Layer:
        return layer(name, stage, reads, writes)

    graph = make_graph(relu("a", "encoder/image", "i", "x"), relu("b", "encoder/audio", "s", "y"))
    workload = Workload("w", (Part(graph, "once"), Part(graph, "often", 2.5)))

    result = simulate(workload, small, "roofline")

    # 8 bytes in and out of each layer, one byte written a cycle of 1 µs.
    assert result.concurrency is not None
    assert [item.latency_s for item in result.concurrency.accelerators] == pytest.approx([3.5 * 16e-6, 3.5 * 8e-6])
    assert result.critical_path_s == pytest.approx(3.5 * 8e-6)
