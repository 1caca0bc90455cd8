"""Two encoders made by hand: critical path, straggler and what stays on the chip, in exact numbers."""

from __future__ import annotations

from typing import Any

import pytest

from mmworkload.arch import Architecture, from_dict
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import gemm
from mmworkload.simulating.rollup import (
    buffer_level,
    critical_path_s,
    kept_tensors,
    moved_bits,
    on_chip,
    stored_bits,
)
from mmworkload.straggler import encoded, encoders, straggler

BYTE = (8, 8, 8)


def layer(name: str, stage: str, reads: dict[str, int], writes: dict[str, int], **values: Any) -> Layer:
    modality = stage.removeprefix("encoder/") if stage.startswith("encoder/") else ""
    return Layer(
        name, "op", stage=stage, modality=modality, reads=tuple(reads.items()), writes=tuple(writes.items()), **values
    )


TWO_ENCODERS = (
    layer("image.1", "encoder/image", {"image": 8}, {"i1": 8}),
    layer("image.2", "encoder/image", {"i1": 8}, {"i2": 8}),
    layer("audio.1", "encoder/audio", {"audio": 8}, {"a1": 8}),
    layer("fuse", "fusion", {"i2": 8, "a1": 8}, {"f": 8}),
    layer("head", "head", {"f": 8}, {"out": 8}),
)
SECONDS = {"image.1": 3.0, "image.2": 4.0, "audio.1": 5.0, "fuse": 2.0, "head": 1.0}


def test_encoders_run_side_by_side_then_fusion_and_head(make_graph: Any) -> None:
    assert critical_path_s(make_graph(*TWO_ENCODERS), SECONDS) == max(3.0 + 4.0, 5.0) + 2.0 + 1.0


def test_the_longer_encoder_decides(make_graph: Any) -> None:
    assert critical_path_s(make_graph(*TWO_ENCODERS), {**SECONDS, "audio.1": 9.0}) == 9.0 + 2.0 + 1.0


def test_one_modality_has_one_accelerator_even_for_independent_layers(make_graph: Any) -> None:
    branches = (
        layer("image.1", "encoder/image", {"image": 8}, {"i1": 8}),
        layer("image.2", "encoder/image", {"image": 8}, {"i2": 8}),
    )

    assert critical_path_s(make_graph(*branches), {"image.1": 3.0, "image.2": 4.0}) == 7.0


def test_a_fusion_layer_waits_only_for_what_it_reads(make_graph: Any) -> None:
    layers = (
        *TWO_ENCODERS[:3],
        layer("project", "fusion", {"a1": 8}, {"p": 8}),
        layer("fuse", "fusion", {"i2": 8, "p": 8}, {"f": 8}),
    )

    # project runs from 5 to 6 while the image encoder is busy until 7.
    assert critical_path_s(make_graph(*layers), {**SECONDS, "project": 1.0}) == 7.0 + 2.0


def test_an_encoder_that_waits_for_the_fusion_is_on_the_path(make_graph: Any) -> None:
    layers = (*TWO_ENCODERS[:4], layer("image.3", "encoder/image", {"f": 8}, {"i3": 8}))

    assert critical_path_s(make_graph(*layers), {**SECONDS, "image.3": 6.0}) == 7.0 + 2.0 + 6.0


def test_an_empty_graph_takes_no_time(make_graph: Any) -> None:
    assert critical_path_s(make_graph(), {}) == 0.0


def test_the_straggler_of_three() -> None:
    found = straggler({"image": 8.0, "audio": 2.0, "text": 3.0})

    assert found.modality == "image"
    assert found.ratio == 8.0 / 2.5
    assert found.ratios == {"audio": 4.0, "text": 8.0 / 3.0}
    assert found.idle_share == pytest.approx(1 - 13.0 / 24.0)


def test_one_encoder_has_no_straggler() -> None:
    found = straggler({"image": 8.0})

    assert (found.modality, found.ratio, found.ratios, found.idle_share) == ("image", None, {}, None)
    assert straggler({}).modality == ""


def test_encoders_that_take_no_time_give_no_ratio() -> None:
    found = straggler({"image": 8.0, "ids": 0.0})

    assert (found.ratio, found.ratios, found.idle_share) == (None, {}, 0.5)


@pytest.mark.parametrize(
    ("dtype", "traced", "size", "bits", "stored"),
    [
        ("float32", 32, 400, 8, 800),
        ("torch.float32", 32, 400, 16, 1600),
        ("bfloat16", 16, 400, 8, 1600),
        ("float16", 16, 3, 4, 6),
        ("int64", 64, 400, 8, 3200),
        ("bool", 8, 400, 8, 3200),
    ],
)
def test_floating_point_tensors_take_the_runs_precision_and_others_keep_theirs(
    dtype: str, traced: int, size: int, bits: int, stored: int
) -> None:
    tensor = Tensor("t", (size * 8 // traced,), dtype, traced, "activation", "t")

    assert stored_bits(tensor, size, bits) == stored


def test_kept_tensors_share_the_buffer_while_they_are_needed(make_graph: Any) -> None:
    graph = make_graph(
        layer("1", "head", {"x": 4}, {"a": 40}),
        layer("2", "head", {"a": 40}, {"b": 30}),  # a and b are alive: 70 bytes
        layer("3", "head", {"b": 30}, {"c": 60}),  # b and c: 90
        layer("4", "head", {"c": 60, "a": 40}, {"d": 10}),  # a is read again
        layer("5", "head", {"d": 10}, {"out": 5}),
        outputs=("out",),
    )

    assert kept_tensors(graph, 8 * 130, 8) == {"a", "b", "c", "d"}
    # a lives until layer 4; beside it c does not fit, and d comes when c is not kept.
    assert kept_tensors(graph, 8 * 80, 8) == {"a", "b", "d"}
    assert kept_tensors(graph, 8 * 39, 8) == {"b", "d"}
    assert kept_tensors(graph, 8 * 9, 8) == frozenset()


def test_outputs_state_and_what_nobody_reads_are_not_kept(make_graph: Any) -> None:
    graph = make_graph(
        layer("1", "head", {"x": 4}, {"out": 4, "cache": 4, "unread": 4, "kept": 4}),
        layer("2", "head", {"out": 4, "cache": 4, "kept": 4}, {"last": 4}),
        tensors={"cache": Tensor("cache", (4,), "uint8", 8, "state", "cache")},
        outputs=("out",),
    )

    assert kept_tensors(graph, 1000, 8) == {"kept"}


def test_moved_bits_leave_out_what_is_kept(make_graph: Any) -> None:
    graph = make_graph(layer("1", "head", {"x": 4, "w": 6}, {"a": 5}), weights=("w",))

    assert moved_bits(graph, graph["1"], 8) == (80, 40)
    assert moved_bits(graph, graph["1"], 8, frozenset({"a", "x"})) == (48, 0)


def test_savings_on_the_chip(make_graph: Any, small: Architecture) -> None:
    # 6 x 4 inputs by 10 x 4 weights: 60 outputs, which fit the 64 bytes; then an addition over them.
    product = gemm(6, 10, 4, bits=BYTE)
    graph = make_graph(
        layer("product", "head", {"x": 24, "w": 40}, {"a": 60}, work=(Work(product),)),
        layer("relu", "head", {"a": 60}, {"out": 60}, vector_ops=60),
        weights=("w",),
        outputs=("out",),
    )

    found = on_chip(graph, small, 8)

    assert found is not None
    assert (found.level, found.capacity_bytes, found.tensors, found.saved_bytes) == ("buffer", 64, 1, 120)
    # 60 bytes written and read, 4 an access, 200 and 100 pJ.
    assert found.saved_j == pytest.approx(15 * (200 + 100) * 1e-12)
    # All through DRAM: 60 cycles of writing each. Kept: 32 of reading for the product; the other still writes 60.
    assert found.floor_s == pytest.approx(120e-6)
    assert found.kept_floor_s == pytest.approx(92e-6)


def test_without_a_shared_buffer_nothing_is_kept(make_graph: Any, spec: dict[str, Any]) -> None:
    spec["levels"]["buffer"]["holds"] = ["input"]
    arch = from_dict(spec)

    assert buffer_level(arch) is None
    assert on_chip(make_graph(*TWO_ENCODERS), arch, 8) is None


def test_only_the_stage_of_an_encoder_has_a_modality() -> None:
    assert [encoded(stage) for stage in ("encoder/image", "encoder/front/left", "fusion", "encoder", "")] == [
        "image",
        "front/left",
        "",
        "",
        "",
    ]
    assert encoders({"encoder/a": 1.0, "fusion": 2.0, "encoder/b": 3.0}) == {"a": 1.0, "b": 3.0}
