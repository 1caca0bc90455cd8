"""Recurrent layers cut in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mmworkload.exits import ExitError, ExitSettings, with_exits
from mmworkload.exits.steps import cut
from mmworkload.graph import LayerGraph

GRU = "encoders.vision.gru"


def test_the_parts_of_a_gru_add_up_to_it(zoo: Callable[[str], LayerGraph]) -> None:
    graph = zoo("cmu-mosei/concat-multibench")
    whole = graph[GRU]
    parts = cut(graph, whole, (17, 34)).layers
    assert [layer.name for layer in parts] == [GRU, f"{GRU}@1", f"{GRU}@2"]
    # 17, 17 and 16 steps of 210 x 35 and 210 x 70.
    assert [layer.macs for layer in parts] == [steps * 210 * (35 + 70) for steps in (17, 17, 16)]
    assert sum(layer.macs for layer in parts) == whole.macs == 1_102_500
    assert sum(layer.vector_ops for layer in parts) == whole.vector_ops
    # The steps' input once, the state of 70 numbers, all weights: 22,470 numbers each time.
    assert parts[1].read_bytes == 4 * (17 * 35 + 70 + 22_470)
    assert parts[1].write_bytes == 4 * (17 * 70 + 70)
    assert parts[2].writes[1][0] == f"{GRU}:out.1"
    assert parts[1].reads[1][0] == f"{GRU}:out.1@1"


@pytest.mark.slow
def test_a_part_is_what_a_shorter_sequence_traces_to() -> None:
    import mmworkload

    short = mmworkload.trace("cmu-mosei/concat-multibench?steps=17")
    network = with_exits(mmworkload.trace("cmu-mosei/concat-multibench"), ExitSettings(classes=5))
    for modality in ("vision", "audio", "text"):
        name = f"encoders.{modality}.gru"
        part = network.graph[name]
        assert part.work == short[name].work
        assert (part.reads, part.vector_ops) == (short[name].reads, short[name].vector_ops)
        assert [size for _, size in part.writes] == [size for _, size in short[name].writes]


def test_an_exit_reads_the_last_state(zoo: Callable[[str], LayerGraph]) -> None:
    network = with_exits(zoo("cmu-mosei/concat-multibench"), ExitSettings(classes=5, at={"vision": (10,)}))
    graph = network.graph
    assert [item.place for item in network.exits[:2]] == ["step 10 of 50", "step 17 of 50"]
    linear = graph["exits.vision.1.linear"]
    assert linear.reads[0] == (f"{GRU}:out.1@1", 280)
    assert "exits.vision.1.pool" not in {layer.name for layer in graph}
    assert linear.macs == 70 * 5


def test_what_cannot_be_cut_says_why(zoo: Callable[[str], LayerGraph]) -> None:
    graph = zoo("cmu-mosei/concat-multibench")
    whole = graph[GRU]
    with pytest.raises(ExitError, match="exits are after 1 to 49"):
        cut(graph, whole, (17, 50))
    both = dict(graph.tensors)
    name = whole.writes[0][0]
    both[name] = replace(both[name], shape=(1, 50, 140))
    with pytest.raises(ExitError, match="both directions"):
        cut(replace(graph, tensors=both), whole, (17,))
    packed = replace(whole, assumptions=("packed sequences",))
    with pytest.raises(ExitError, match="packed"):
        cut(graph, packed, (17,))
    read = replace(graph["fusion"], reads=((name, 4),))
    layers = tuple(read if layer.name == "fusion" else layer for layer in graph)
    with pytest.raises(ExitError, match="every step"):
        cut(replace(graph, layers=layers), whole, (17,))
