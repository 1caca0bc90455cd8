"""Stages as a graph: which nodes there are, whose lane they are in, and how many bytes pass between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mmworkload.graph import InputInfo, LayerGraph
from mmworkload.reporting.stage_graph import Link, stage_graph

Draw = Callable[..., LayerGraph]


def two_encoders(draw: Draw) -> LayerGraph:
    return draw(
        {"image": (1, 3, 8, 8), "text": (1, 5)},
        [
            ("i1", "encoder/image", "image", ("image",), 300),
            ("i2", "encoder/image", "image", ("i1",), 200),
            ("t", "encoder/text", "text", ("text",), 100),
            ("f", "fusion", "", ("i2", "t"), 50),
            ("g", "fusion", "", ("i2", "f"), 0),
            ("h", "head", "", ("g",), 10),
        ],
    )


def test_inputs_and_stages_are_nodes_with_their_sizes(draw: Draw) -> None:
    found = stage_graph(two_encoders(draw))
    inputs = [node for node in found.nodes if node.is_input]
    stages = [node for node in found.nodes if not node.is_input]

    assert found.lanes == ("image", "text")
    assert [(node.name, node.shapes, node.bytes) for node in inputs] == [
        ("image", ("1\N{MULTIPLICATION SIGN}3\N{MULTIPLICATION SIGN}8\N{MULTIPLICATION SIGN}8",), 4 * 192),
        ("text", ("1\N{MULTIPLICATION SIGN}5",), 4 * 5),
    ]
    assert [(node.name, node.lane, node.macs, node.params, node.output) for node in stages] == [
        ("encoder/image", "image", 500, 500, False),
        ("encoder/text", "text", 100, 100, False),
        ("fusion", "", 50, 50, False),
        ("head", "", 10, 10, True),
    ]


def test_a_tensor_passes_once_to_a_node_however_many_layers_read_it(draw: Draw) -> None:
    assert stage_graph(two_encoders(draw)).links == (
        Link("input image", "encoder/image", 4 * 192, None),
        Link("input text", "encoder/text", 4 * 5, None),
        # i2 is read by two layers of the fusion.
        Link("encoder/image", "fusion", 1000, None),
        Link("encoder/text", "fusion", 1000, None),
        Link("fusion", "head", 1000, None),
    )


def test_to_and_fro_is_one_link_with_both_sizes(draw: Draw) -> None:
    graph = draw(
        {"a": (1, 2), "b": (1, 2)},
        [
            ("a1", "encoder/a", "a", ("a",), 10),
            ("b1", "encoder/b", "b", ("b",), 10),
            ("f", "fusion", "", ("a1", "b1"), 5),
            ("a2", "encoder/a", "", ("a1", "f"), 10),
            ("h", "head", "", ("a2",), 1),
        ],
    )
    links = {(link.source, link.target): (link.bytes, link.back_bytes) for link in stage_graph(graph).links}

    assert links["encoder/a", "fusion"] == (1000, 1000)
    assert links["encoder/b", "fusion"] == (1000, None)
    # The lane is the one that the stage is named after, although the other modality reaches it too.
    assert {node.name: node.lane for node in stage_graph(graph).nodes}["encoder/a"] == "a"


def test_preprocessing_is_one_node_a_modality_and_a_constant_is_its_users(draw: Draw) -> None:
    graph = draw(
        {"text": (1, 400), "image": (1, 4)},
        [
            ("places", "preprocess", "", (), 0),
            ("tokens", "preprocess", "text", ("text", "places"), 0),
            ("pixels", "preprocess", "image", ("image",), 7),
            ("t", "encoder/text", "text", ("tokens",), 100),
            ("i", "encoder/image", "image", ("pixels",), 100),
            ("f", "fusion", "", ("t", "i"), 1),
        ],
    )
    stages = {node.name: node for node in stage_graph(graph).nodes if not node.is_input}

    assert list(stages) == ["preprocess/text", "preprocess/image", "encoder/text", "encoder/image", "fusion"]
    assert [stages[f"preprocess/{name}"].lane for name in ("text", "image")] == ["text", "image"]
    assert stages["preprocess/image"].macs == 7


def test_a_mask_goes_with_its_modality_or_is_named(draw: Draw) -> None:
    graph = draw(
        {"ids": (1, 9), "mask": (1, 1, 9), "bias": (1, 2)},
        [("t", "encoder/text", "text", ("ids", "mask", "bias"), 100)],
    )
    inputs = (
        InputInfo("mask", (1, 1, 9), "float32", "text", "mask"),
        InputInfo("ids", (1, 9), "float32", "text"),
        InputInfo("bias", (1, 2), "float32", "bias", "mask"),
    )
    found = stage_graph(replace(graph, inputs=inputs))

    (text,) = [node for node in found.nodes if node.is_input]
    # The modality itself comes first.
    assert (text.name, [len(shape) for shape in text.shapes], text.bytes) == ("text", [3, 5], 4 * 18)
    assert found.lanes == ("text",)
    assert found.further_inputs == ("bias",)


def test_a_part_of_a_graph_reads_from_other_stages(draw: Draw) -> None:
    found = stage_graph(two_encoders(draw).only(["fusion", "head"]))

    assert found.nodes[0].name == "other stages"
    assert found.nodes[0].bytes == 2 * 1000
    assert found.links[0] == Link("input", "fusion", 2000, None)
    assert found.lanes == ()


@pytest.mark.parametrize("stage", ["", "encoder/depth"])
def test_a_stage_without_a_name_or_with_an_unknown_modality_is_a_node(draw: Draw, stage: str) -> None:
    graph = draw({"x": (1, 2)}, [("a", stage, "x", ("x",), 3), ("b", "head", "", ("a",), 1)])
    node = stage_graph(graph).nodes[1]

    assert node.name == (stage or "(none)")
    assert node.lane == ("depth" if stage else "x")
