"""Convolutional networks as their papers list them: MobileNet, ResNet v1, and the ResNet-34 of an SSD."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

# MobileNet's paper (Howard et al., 2017), Table 1: channels and stride of each depthwise separable block. The last
# block's stride is printed as 2; its sizes are those of 1.
MOBILENET_STEM = 32
MOBILENET_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1),
)  # fmt: skip
# ResNet's paper (He et al., CVPR 2016), Table 1: blocks of the four stages.
RESNET152 = (3, 8, 36, 3)
RESNET34_FIRST_THREE = (3, 4, 6)


def unit(
    channels: int,
    width: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution without bias that keeps the size but for its stride, batch normalisation, an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
    ]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class MobileNet(nn.Sequential):
    """[N, 3, H, W] to [N, 1024, H / 32, W / 32]: a 3x3 convolution, then depthwise separable ones."""

    def __init__(self) -> None:
        widths = [MOBILENET_STEM, *(width for width, _ in MOBILENET_BLOCKS)]
        super().__init__(
            unit(3, MOBILENET_STEM, 3, 2, activation=nn.ReLU6),
            *(
                nn.Sequential(
                    unit(before, before, 3, stride, groups=before, activation=nn.ReLU6),
                    unit(before, width, 1, activation=nn.ReLU6),
                )
                for (before, width), (_, stride) in zip(pairwise(widths), MOBILENET_BLOCKS, strict=True)
            ),
        )


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; as in the first version, the first one has the stride."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.reduce = unit(channels, width, 1, stride)
        self.conv = unit(width, width, 3)
        self.expand = unit(width, 4 * width, 1, activation=None)
        same = stride == 1 and channels == 4 * width
        self.shortcut = nn.Identity() if same else unit(channels, 4 * width, 1, stride, activation=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.expand(self.conv(self.reduce(x))) + self.shortcut(x))


def _stem() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


class ResNetV1(nn.Sequential):
    """[N, 3, H, W] to [N, 2048, H / 32, W / 32]."""

    width = 2048

    def __init__(self, depths: Sequence[int]) -> None:
        stages = []
        channels = 64
        for index, depth in enumerate(depths):
            width = 64 * 2**index
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(channels, width, 2 if index and not block else 1))
                channels = 4 * width
            stages.append(nn.Sequential(*blocks))
        super().__init__(_stem(), *stages)


class ResNet34Trunk(nn.Sequential):
    """[N, 3, H, W] to [N, 256, H / 8, W / 8]: ResNet-34 without its last stage, the third without its stride."""

    def __init__(self) -> None:
        stages = []
        channels = 64
        for index, depth in enumerate(RESNET34_FIRST_THREE):
            width, stride = 64 * 2**index, 2 if index == 1 else 1
            shortcut = unit(channels, width, 1, stride, activation=None) if width != channels else None
            blocks = [BasicBlock(channels, width, stride, shortcut)]
            blocks += [BasicBlock(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = width
        super().__init__(_stem(), *stages)
