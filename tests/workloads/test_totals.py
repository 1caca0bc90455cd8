"""Every workload has the MACs and parameters that are published or derived by hand, and runs as it was traced."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import Traced, trace_model
from mmworkload.verbs import require_known

NAMES = [f"{family}/{variant.name}" for family, item in families().items() for variant in item.variants]


def lenet_macs(side: int, blocks: int, channels: int) -> int:
    """A 5x5 convolution, then 3x3 ones that double the channels; 2x2 pooling halves the side after each."""
    macs = side * side * channels * 25
    for _ in range(blocks):
        side //= 2
        macs += side * side * channels * 2 * channels * 9
        channels *= 2
    return macs


def lenet_params(blocks: int, channels: int) -> int:
    """Convolutions without bias, each with a scale and a shift per channel."""
    total = channels * 25 + 2 * channels
    for _ in range(blocks):
        total += channels * 2 * channels * 9 + 2 * 2 * channels
        channels *= 2
    return total


def head(width: int) -> tuple[int, int]:
    return width * 100 + 100 * 10, width * 100 + 100 + 100 * 10 + 10


# workload: stage: (MACs, parameters). av-mnist: MMBench's public code, and the formulas above; mujoco-push: from the
# layer sizes of the same code, worked out in test_mujoco_push_by_hand.
TOTALS: dict[str, dict[str, tuple[int, int]]] = {
    "av-mnist/concat": {
        "": (11993032, 260922),
        "encoder/image": (464928, 13938),
        "encoder/audio": (11503104, 221874),
        "fusion": (0, 0),
        "head": (25000, 25110),
    },
    "av-mnist/image": {"": (lenet_macs(28, 3, 3) + head(24)[0], 7077), "head": head(24)},
    "av-mnist/audio": {
        "": (11503104 + head(192)[0], 221874 + head(192)[1]),
        "encoder/audio": (11503104, 221874),
        "head": head(192),
    },
    "mujoco-push/late": {"": (439403520, 1904986)},
}


@cache
def traced(name: str, batch: int | None = None, dtype: str = "float32") -> Traced:
    return trace_model(resolve(name, batch=batch, dtype=dtype))


def graph(name: str, batch: int | None = None, dtype: str = "float32") -> LayerGraph:
    return traced(name, batch, dtype).graph


def test_every_workload_is_in_the_table() -> None:
    assert set(TOTALS) == set(NAMES)


@pytest.mark.parametrize("name", TOTALS)
def test_macs_and_parameters_of_a_workload(name: str) -> None:
    traced_graph = graph(name)
    found = {stage: (total.macs, total.params) for stage, total in traced_graph.stages.items()}
    found[""] = (traced_graph.total_macs, traced_graph.total_params)
    expected = TOTALS[name]
    assert {stage: found.get(stage) for stage in expected} == expected
    assert traced_graph.built_params == traced_graph.total_params
    assert require_known(traced_graph) is traced_graph


def test_av_mnist_by_hand() -> None:
    assert (lenet_macs(28, 3, 6), lenet_params(3, 6)) == TOTALS["av-mnist/concat"]["encoder/image"]
    assert (lenet_macs(112, 5, 6), lenet_params(5, 6)) == TOTALS["av-mnist/concat"]["encoder/audio"]
    assert head(48 + 192) == TOTALS["av-mnist/concat"]["head"]
    assert lenet_params(3, 3) + head(24)[1] == 7077


def test_mujoco_push_by_hand() -> None:
    steps, width, hidden = 16, 64, 256
    lstm = (4 * hidden * (width + hidden), 4 * hidden * (width + hidden) + 8 * hidden)
    dense = (width * width, width * width + width)
    vector = {
        name: (size * width, size * width + width) for name, size in (("position", 3), ("sensors", 7), ("control", 7))
    }
    pixels = 32 * 32
    image_macs = pixels * (25 * 32 + 2 * 9 * 32 * 32 + 9 * 32 * 16 + 9 * 16 * 8) + 8 * pixels * width
    image_params = (
        (25 * 32 + 32) + 2 * (9 * 32 * 32 + 32) + (9 * 32 * 16 + 16) + (9 * 16 * 8 + 8) + (8 * pixels * width + width)
    )
    macs = steps * (
        sum(item[0] for item in vector.values()) + image_macs + 4 * (2 * dense[0] + lstm[0]) + 4 * hidden * 2
    )
    params = sum(item[1] for item in vector.values()) + image_params + 4 * (2 * dense[1] + lstm[1]) + 4 * hidden * 2 + 2
    assert (macs, params) == TOTALS["mujoco-push/late"][""]
    found = graph("mujoco-push/late").stages
    assert found["encoder/image"].macs == steps * (image_macs + 2 * dense[0] + lstm[0])
    assert (found["fusion"].macs, found["fusion"].params) == (steps * 4 * hidden * 2, 4 * hidden * 2 + 2)
    assert set(found) == {"encoder/position", "encoder/sensors", "encoder/image", "encoder/control", "fusion"}


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_scales_macs_exactly_and_leaves_parameters(name: str) -> None:
    one = graph(name, 1)
    three = graph(name, 3)
    assert (three.batch, three.total_macs, three.total_params) == (3, 3 * one.total_macs, one.total_params)
    for stage, total in one.stages.items():
        assert three.stages[stage].macs == 3 * total.macs
        assert three.stages[stage].weight_bytes == total.weight_bytes
    assert [layer.name for layer in three] == [layer.name for layer in one]


@pytest.mark.parametrize("name", NAMES)
def test_another_type_changes_bits_and_nothing_else(name: str) -> None:
    full, half = graph(name), graph(name, None, "bfloat16")
    assert (half.dtype, half.total_macs, half.total_params) == ("bfloat16", full.total_macs, full.total_params)
    assert half.totals().weight_bytes * 2 == full.totals().weight_bytes
    assert {item.bits for problem in half.problems.values() for item in problem.operands} == {16}
    assert {item.bits for problem in full.problems.values() for item in problem.operands} == {32}


def shapes(values: Any) -> list[tuple[int, ...]]:
    from torch.utils import _pytree

    return [tuple(item.shape) for item in _pytree.tree_leaves(values) if hasattr(item, "shape")]


@pytest.mark.parametrize("name", NAMES)
def test_the_traced_output_has_the_shape_of_a_real_forward(name: str) -> None:
    model = resolve(name, batch=2)
    built = model.build("cpu")
    with torch.no_grad():
        real = built.module(*built.args, **built.kwargs)
    node = next(node for node in traced(name, 2).program.graph.nodes if node.op == "output")
    assert shapes([part.meta["val"] for part in node.args[0]]) == shapes(real)


@pytest.mark.parametrize("name", NAMES)
def test_modalities_are_those_of_the_inputs(name: str) -> None:
    found = graph(name)
    declared = {item.modality for item in found.inputs if item.role == "modality"}
    encoders = {stage.removeprefix("encoder/") for stage in found.stages if stage.startswith("encoder/")}
    assert encoders == declared
    assert {layer.modality for layer in found if layer.stage.startswith("encoder/")} == declared


def test_the_pools_that_nobody_reads_are_dead_and_only_they() -> None:
    dead = [layer for layer in graph("av-mnist/concat") if layer.dead]
    assert {layer.op for layer in dead} == {"mean"}
    assert len(dead) == 4 + 6


def test_every_family_names_its_data_set_and_every_variant_its_source() -> None:
    for family in families().values():
        assert family.description
        assert family.dataset
        assert all(variant.source for variant in family.variants)
        spelled = [name for variant in family.variants for name in (variant.name, *variant.aliases)]
        assert len(set(spelled)) == len(spelled)
