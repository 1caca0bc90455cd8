"""Where exits may be, and where they are by default."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmworkload.exits.encoders import find_encoders
from mmworkload.exits.places import by_count, by_macs, places
from mmworkload.graph import LayerGraph


@pytest.mark.parametrize(
    ("blocks", "exits", "after"),
    [
        (4, 2, (2, 3)),
        (6, 2, (2, 4)),
        (50, 2, (17, 34)),
        (3, 2, (1, 2)),
        (2, 2, (1, 2)),
        (1, 2, (1,)),
        (0, 2, ()),
        (9, 1, (5,)),
    ],
)
def test_equal_numbers_of_blocks_lie_between_exits(blocks: int, exits: int, after: tuple[int, ...]) -> None:
    assert by_count(blocks, exits) == after


def test_equal_shares_of_macs_come_nearest() -> None:
    assert by_macs([10, 20, 30, 40, 50, 60], 2) == (2, 4)
    # Nearly all of it is in the first block: the next exit still takes another one.
    assert by_macs([90, 95, 97, 100], 2) == (1, 2)
    assert by_macs([1, 2, 99, 100], 2) == (2, 3)
    assert by_macs([5], 2) == (1,)


def test_blocks_of_av_mnist_end_behind_pooling(zoo: Callable[[str], LayerGraph]) -> None:
    graph = zoo("av-mnist/concat")
    found = find_encoders(graph)
    image = places(graph, found, "image")
    # 28 * 28 * 25 * 6, then 14 * 14 * 54 * 12, 7 * 7 * 108 * 24, 3 * 3 * 216 * 48.
    assert [item.macs for item in image] == [117600, 244608, 371616, 464928]
    pools = ["pool", "pool@1", "pool@2", "pool@3"]
    assert [item.tensor for item in image] == [f"encoders.image.{name}:out" for name in pools]
    # The pooled features that nobody reads stay with the block that they are of.
    assert found.layers["image"][image[0].index].name == "encoders.image:mean"
    assert len(places(graph, found, "audio")) == 6


def test_a_residual_block_is_left_at_its_end_only(zoo: Callable[[str], LayerGraph]) -> None:
    graph = zoo("cmu-mosei/concat")
    found = places(graph, find_encoders(graph), "vision")
    # ResNet-50: stem and 16 blocks; behind them the GRU.
    assert len(found) == 18
    assert [item.tensor.rpartition(":")[0] for item in found[1:4]] == [
        f"encoders.vision.features.network.layer1.{block}.relu@2" for block in range(3)
    ]


def test_a_transformer_is_left_behind_attention_or_feed_forward(zoo: Callable[[str], LayerGraph]) -> None:
    graph = zoo("mustard/concat")
    found = places(graph, find_encoders(graph), "text")
    assert len(found) == 24
    assert {item.tensor.rpartition(".")[2] for item in found} == {"LayerNorm:out"}
