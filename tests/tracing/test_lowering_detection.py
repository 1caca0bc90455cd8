"""Operators of detection networks: deformable convolution, regions of interest, suppression."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

ops = pytest.importorskip("torchvision.ops")


class Deformable(nn.Module):
    """The offsets (and the mask) come from convolutions over the same input."""

    def __init__(self, groups: int = 1, mask: bool = False, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        options: dict[str, Any] = {"stride": stride, "padding": dilation, "dilation": dilation}
        self.offset = nn.Conv2d(4, 2 * 9, 3, **options)
        self.mask = nn.Conv2d(4, 9, 3, **options) if mask else None
        self.point = ops.DeformConv2d(4, 6, 3, groups=groups, **options)

    def forward(self, x: Any) -> Any:
        mask = None if self.mask is None else self.mask(x).sigmoid()
        return self.point(x, self.offset(x), mask)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 2)])
def test_a_deformable_convolution_has_the_macs_of_a_plain_one(
    trace: Any, count: Any, groups: int, stride: int, dilation: int, mask: bool
) -> None:
    x = torch.randn(2, 4, 9, 8)
    graph = trace(Deformable(groups, mask, stride, dilation), x).graph
    (layer,) = [layer for layer in graph if layer.op == "deform_conv2d"]
    plain = nn.Conv2d(4, 6, 3, stride=stride, padding=dilation, dilation=dilation, groups=groups)
    assert layer.macs == count(plain, x).macs
    assert layer.category == "Conv"
    height, width = plain(x).shape[-2:]
    outputs, samples = 2 * 6 * height * width, 2 * height * width * 4 * 9
    # Four products and three sums a sample, its mask, and the bias of each output.
    assert layer.vector_ops == (8 if mask else 7) * samples + outputs
    weights = 6 * (4 // groups) * 9 + 6
    offsets = 2 * height * width * 9 * (3 if mask else 2)
    # Without a mask torchvision passes one zero a sample of the batch.
    assert layer.read_bytes == 4 * (x.numel() + weights + offsets) + (0 if mask else 2 * 4)
    assert layer.write_bytes == 4 * outputs


def test_a_weight_makes_a_deformable_convolution_a_problem_with_a_weight(trace: Any) -> None:
    graph = trace(Deformable(), torch.randn(1, 4, 8, 8)).graph
    (layer,) = [layer for layer in graph if layer.op == "deform_conv2d"]
    (work,) = layer.work
    assert [item.role for item in work.problem.operands] == ["input", "weight", "output"]
    assert dict(work.problem.dims) == {"N": 64, "M": 6, "C": 36}


@pytest.mark.parametrize("name", ["roi_align", "ps_roi_align"])
def test_regions_are_sampled_at_fixed_points(trace: Any, name: str) -> None:
    features, boxes = torch.randn(1, 16, 32, 32), torch.rand(5, 5)
    graph = trace(lambda x, b: getattr(ops, name)(x, b, output_size=4, sampling_ratio=3), features, boxes).graph
    (layer,) = [layer for layer in graph if layer.op == name]
    channels = 16 if name == "roi_align" else 1
    samples = 5 * channels * 16 * 9
    assert (layer.vector_ops, layer.macs) == (8 * samples, 0)
    assert layer.write_bytes == 4 * 5 * channels * 16
    assert layer.read_bytes == min(features.numel() * 4, 4 * 4 * samples) + 100
    assert layer.assumptions == ("5 boxes",)


def test_the_size_of_a_box_may_decide_how_often_it_is_sampled(trace: Any) -> None:
    graph = trace(lambda x, b: ops.roi_align(x, b, output_size=2), torch.randn(1, 4, 8, 8), torch.rand(3, 5)).graph
    (layer,) = graph.layers
    assert layer.assumptions == ("3 boxes, one sample a cell",)
    assert layer.vector_ops == 8 * 3 * 4 * 4


def test_a_feature_map_is_not_read_more_than_once(trace: Any) -> None:
    graph = trace(lambda x, b: ops.roi_pool(x, b, output_size=7), torch.randn(1, 2, 4, 4), torch.rand(50, 5)).graph
    (layer,) = graph.layers
    # 50 boxes of 49 cells ask for 9800 points of 32 numbers.
    assert layer.read_bytes == 4 * (32 + 250)


def test_suppression_compares_every_pair_after_sorting(trace: Any) -> None:
    """Its result depends on values, so that it is traced by itself, on constant boxes."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.1, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])

    def keep(scores: Any) -> Any:
        kept = ops.nms(torch.tensor(boxes.tolist()), torch.tensor([0.9, 0.8, 0.7]), 0.5)
        return scores[kept] * 2

    graph = trace(keep, torch.rand(3)).graph
    layer = next(layer for layer in graph if layer.op == "nms")
    assert layer.vector_ops == 10 * 3 + 3 * math.ceil(math.log2(3))
    assert layer.assumptions == ("3 boxes, none suppressed early",)
    # The second box overlaps the first: two are left.
    assert [graph.tensors[name].shape for name in graph.outputs] == [(2,)]
    assert graph.route == "recorder"


def test_pooling_by_regions_feeds_a_head(trace: Any, count: Any) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.classify = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 9, 5)

        def forward(self, image: Any, boxes: Any) -> Any:
            return self.classify(F.relu(ops.roi_align(self.backbone(image), boxes, 3, sampling_ratio=2)).flatten(1))

    inputs = (torch.randn(1, 3, 8, 8), torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0], [0.0, 2.0, 2.0, 7.0, 7.0]]))
    graph = trace(Head(), *inputs).graph
    assert graph.total_macs == count(Head(), *inputs).macs == 64 * 27 * 4 + 2 * 36 * 5
    assert [layer.op for layer in graph] == ["conv2d", "roi_align", "relu", "linear"]
