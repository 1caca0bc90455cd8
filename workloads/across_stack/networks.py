"""The eight networks and their pre-processing, from settings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models import densenet121 as torchvision_densenet121
from torchvision.models import resnet50

from mmworkload.workloads.across_stack import ssd
from mmworkload.workloads.across_stack.backbones import RESNET152, MobileNet, ResNetV1
from mmworkload.workloads.across_stack.preprocess import Prepare
from mmworkload.workloads.across_stack.sizes import padded, resized, shares
from mmworkload.workloads.across_stack.two_stage import READ, Counts, TwoStage, two_stage


class Classifier(nn.Module):
    """Image [N, 3, S, S] to logits [N, classes]: a network's features, their means, a linear layer."""

    def __init__(self, backbone: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(image))


def mobilenet_v1(classes: int) -> Classifier:
    return Classifier(MobileNet(), 1024, classes)


def resnet50_v1_5(classes: int) -> Classifier:
    layers = OrderedDict(resnet50(weights=None).named_children())
    layers.pop("avgpool")
    linear = layers.pop("fc")
    return Classifier(nn.Sequential(layers), linear.in_features, classes)


def densenet121(classes: int) -> Classifier:
    network = torchvision_densenet121(weights=None)
    # torchvision applies the last ReLU outside of its features.
    layers = OrderedDict([*network.features.named_children(), ("relu", nn.ReLU(inplace=True))])
    return Classifier(nn.Sequential(layers), network.classifier.in_features, classes)


def resnet152_v1(classes: int) -> Classifier:
    return Classifier(ResNetV1(RESNET152), ResNetV1.width, classes)


def ssd_mobilenet_v1(image_size: int, classes: int, candidates: int, detections: int) -> ssd.SingleShot:
    anchors = ssd.mobilenet_anchors(image_size)
    return ssd.single_shot(ssd.MobileNetMaps(), ssd.MOBILENET_HEAD, anchors, classes, candidates, detections)


def ssd_resnet34(image_size: int, classes: int, candidates: int, detections: int) -> ssd.SingleShot:
    anchors = ssd.resnet34_anchors(image_size)
    return ssd.single_shot(ssd.ResNet34Maps(), ssd.RESNET34_HEAD, anchors, classes, candidates, detections)


def rcnn(
    kind: str,
    version: str,
    photo: tuple[int, int],
    short_side: int,
    long_side: int,
    classes: int,
    counts: tuple[int, int, int, int],
    level_shares: str,
) -> TwoStage:
    """``kind`` is ``faster`` or ``mask``, ``version`` ``v1`` or ``v2``, both torchvision's; ``counts``: see Counts."""
    builder = f"{kind}rcnn_resnet50_fpn" + ("_v2" if version == "v2" else "")
    return two_stage(builder, photo, short_side, long_side, classes, Counts(*counts, shares(level_shares, READ)))


def prepare_crop(photo: tuple[int, int], image_size: int, mean: Sequence[float], std: Sequence[float]) -> Prepare:
    """The middle seven eighths of the photo's short side, as a square."""
    square = (image_size, image_size)
    # No limit for the long side: it is cut off.
    return Prepare(resized(photo, round(image_size / 0.875), 1 << 30), square, square, mean, std)


def prepare_square(image_size: int, mean: Sequence[float], std: Sequence[float]) -> Prepare:
    """All of the photo, its sides stretched."""
    square = (image_size, image_size)
    return Prepare(square, None, square, mean, std)


def prepare_padded(
    photo: tuple[int, int], short_side: int, long_side: int, mean: Sequence[float], std: Sequence[float]
) -> Prepare:
    """All of the photo in its proportions, filled up to multiples of 32."""
    size = resized(photo, short_side, long_side)
    return Prepare(size, None, padded(size), mean, std)
