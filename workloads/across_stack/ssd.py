"""Single-shot detectors: two trunks with six feature maps each, heads on every map, and what is done with the scores.

MobileNet: TensorFlow's ssd_mobilenet_v1_coco. ResNet-34: MLPerf inference, single_stage_detector. Anchors are constants
of the image size, and boxes are in fractions of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from mmworkload.errors import ModelError
from mmworkload.workloads.across_stack.backbones import MobileNet, ResNet34Trunk, unit
from mmworkload.workloads.across_stack.boxes import decode, pick
from mmworkload.workloads.across_stack.sizes import after
from mmworkload.workloads.across_stack.suppression import suppress

# Codes are multiplied by these: shifts by 10, logarithms of growth by 5 (both sources).
SHIFT_WEIGHT, GROWTH_WEIGHT = 10.0, 5.0


@dataclass(frozen=True)
class Head:
    """How the six maps are read: a convolution for classes and one for boxes on each.

    ``anchors`` in a cell of each map; ``sigmoid`` scores a class by itself, else a softmax over all.
    """

    channels: tuple[int, ...]
    anchors: tuple[int, ...]
    kernel: int
    stride: int
    sigmoid: bool
    iou_threshold: float
    score_threshold: float


MOBILENET_HEAD = Head(
    channels=(512, 1024, 512, 256, 256, 128), anchors=(3, 6, 6, 6, 6, 6), kernel=1, stride=1,
    sigmoid=True, iou_threshold=0.6, score_threshold=0.3,
)  # fmt: skip
RESNET34_HEAD = Head(
    channels=(256, 512, 512, 256, 256, 256), anchors=(4, 6, 6, 6, 4, 4), kernel=3, stride=3,
    sigmoid=False, iou_threshold=0.5, score_threshold=0.05,
)  # fmt: skip

# The blocks of MobileNet whose output is read: 11 and 13, with the stem as 0.
MOBILENET_READ = (11, 13)
# Behind the trunks, pairs of a 1x1 and a 3x3 convolution. MobileNet: channels after the second, half as many between.
# ResNet-34: channels between and after, stride and padding of the second.
MOBILENET_EXTRAS = (512, 256, 256, 128)
RESNET34_EXTRAS = ((256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 2, 0), (128, 256, 1, 0))


class MobileNetMaps(nn.Module):
    """[N, 3, S, S] to six maps: two of MobileNet, then four that halve the side each."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = MobileNet()
        extras, channels = [], 1024
        for width in MOBILENET_EXTRAS:
            extras.append(
                nn.Sequential(
                    unit(channels, width // 2, 1, activation=nn.ReLU6),
                    unit(width // 2, width, 3, 2, activation=nn.ReLU6),
                )
            )
            channels = width
        self.extras = nn.ModuleList(extras)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for index, block in enumerate(self.trunk):
            x = block(x)
            if index in MOBILENET_READ:
                maps.append(x)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        return maps


def mobilenet_cells(image_size: int) -> list[int]:
    """Cells along a side of each map."""
    side = image_size
    for _ in range(4):
        side = after(side, 3, 2, 1)
    sides = [side]
    for _ in range(5):
        side = after(side, 3, 2, 1)
        sides.append(side)
    return sides


def mobilenet_anchors(image_size: int) -> torch.Tensor:
    """[A, 4]: scales of 0.2 to 0.95 and then 1, with five shapes and the geometric mean of two scales as a square.

    The first map has a square of half the scale and two shapes only.
    """
    scales = [0.2 + 0.15 * index for index in range(6)] + [1.0]
    shapes = (1.0, 2.0, 0.5, 3.0, 1 / 3)
    sides = [[(0.1, 0.1), *((0.2 * ratio**0.5, 0.2 / ratio**0.5) for ratio in (2.0, 0.5))]]
    for scale, larger in list(pairwise(scales))[1:]:
        between = math.sqrt(scale * larger)
        sides.append([*((scale * ratio**0.5, scale / ratio**0.5) for ratio in shapes), (between, between)])
    cells = mobilenet_cells(image_size)
    return torch.cat([_corners(_grid(pairs, count, count)) for pairs, count in zip(sides, cells, strict=True)])


class ResNet34Maps(nn.Module):
    """[N, 3, S, S] to six maps: the trunk's, then five of pairs of convolutions without normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet34Trunk()
        extras, channels = [], 256
        for narrow, width, stride, padding in RESNET34_EXTRAS:
            extras.append(
                nn.Sequential(
                    nn.Conv2d(channels, narrow, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(narrow, width, 3, stride, padding),
                    nn.ReLU(inplace=True),
                )
            )
            channels = width
        self.extras = nn.ModuleList(extras)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.trunk(x)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return maps


def resnet34_cells(image_size: int) -> list[int]:
    """Cells along a side of each map, as the heads see it: they move three at a time."""
    side = after(after(after(image_size, 7, 2, 3), 3, 2, 1), 3, 2, 1)
    sides = [side]
    for _, _, stride, padding in RESNET34_EXTRAS:
        side = after(side, 3, stride, padding)
        sides.append(side)
    return [after(side, 3, RESNET34_HEAD.stride, 1) for side in sides]


def resnet34_anchors(image_size: int) -> torch.Tensor:
    """[A, 4]: SSD's scales for 300 pixels, 21 to 315; squares of a scale and of its mean with the next, then shapes."""
    scales = [int(scale * image_size / 300) / image_size for scale in (21, 45, 99, 153, 207, 261, 315)]
    ratios = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    found = []
    for index, count in enumerate(resnet34_cells(image_size)):
        scale, mean = scales[index], math.sqrt(scales[index] * scales[index + 1])
        pairs = [(scale, scale), (mean, mean)]
        for ratio in ratios[index]:
            long, short = scale * ratio**0.5, scale / ratio**0.5
            pairs += [(long, short), (short, long)]
        # Cells are whole pixels wide, so the last ones may lie a little inside.
        found.append(_corners(_grid(pairs, count, image_size / (image_size // count)).clamp(0, 1)))
    return torch.cat(found)


def _grid(pairs: Sequence[tuple[float, float]], count: int, cells: float) -> torch.Tensor:
    """Centre x, centre y, width, height, [len(pairs) * count * count, 4]: the shape changes slowest, then the row.

    ``cells`` of them fill the image.
    """
    centres = (torch.arange(count, dtype=torch.float32) + 0.5) / cells
    sides = torch.tensor(pairs)
    _, y, x = torch.meshgrid(sides[:, 0], centres, centres, indexing="ij")
    wide = sides[:, None, None, :].expand(-1, count, count, -1)
    return torch.cat([torch.stack([x, y], dim=-1), wide], dim=-1).reshape(-1, 4)


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1)


class Predictors(nn.Module):
    """Six maps to codes [N, 4, A] and logits [N, classes, A]; a convolution for either on each map."""

    def __init__(self, head: Head, classes: int) -> None:
        super().__init__()
        self.classes = classes

        def convolutions(outputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(width, anchors * outputs, head.kernel, head.stride, padding=head.kernel // 2)
                for width, anchors in zip(head.channels, head.anchors, strict=True)
            )

        self.boxes, self.scores = convolutions(4), convolutions(classes)

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = maps[0].shape[0]
        codes = [conv(x).reshape(batch, 4, -1) for conv, x in zip(self.boxes, maps, strict=True)]
        logits = [conv(x).reshape(batch, self.classes, -1) for conv, x in zip(self.scores, maps, strict=True)]
        return torch.cat(codes, dim=2), torch.cat(logits, dim=2)


class Detections(nn.Module):
    """Codes and logits to the best boxes: of each class ``candidates`` are compared, of all ``detections`` are left.

    Gives boxes [N, detections, 4], scores (zero where fewer were found) and labels [N, detections]; class 0 is no
    object.
    """

    anchors: torch.Tensor

    def __init__(self, head: Head, anchors: torch.Tensor, candidates: int, detections: int) -> None:
        super().__init__()
        self.head, self.detections = head, detections
        # No more than there are.
        self.candidates = min(candidates, len(anchors))
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, codes: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        boxes = decode(codes.transpose(1, 2), self.anchors, SHIFT_WEIGHT, GROWTH_WEIGHT)
        scores = (logits.sigmoid() if self.head.sigmoid else logits.softmax(dim=1))[:, 1:]
        scores, places = scores.topk(self.candidates, dim=2)
        chosen = pick(boxes, places.flatten(1)).unflatten(1, places.shape[1:])
        kept = suppress(chosen, scores, self.head.iou_threshold) & (scores > self.head.score_threshold)
        scores, order = (scores * kept).flatten(1).topk(self.detections, dim=1)
        labels = order.div(self.candidates, rounding_mode="floor") + 1
        return {"boxes": pick(chosen.flatten(1, 2), order), "scores": scores, "labels": labels}


class SingleShot(nn.Module):
    """Image [N, 3, S, S] to detections."""

    def __init__(self, backbone: nn.Module, predictors: Predictors, postprocess: Detections) -> None:
        super().__init__()
        self.backbone, self.heads, self.postprocess = backbone, predictors, postprocess

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        codes, logits = self.heads(self.backbone(image))
        return self.postprocess(codes, logits)


def single_shot(
    backbone: nn.Module, head: Head, anchors: torch.Tensor, classes: int, candidates: int, detections: int
) -> SingleShot:
    """Raises ModelError when more detections are asked for than boxes are compared."""
    compared = (classes - 1) * min(candidates, len(anchors))
    if detections > compared:
        raise ModelError(
            f"detections={detections} is more than the {compared} boxes that are compared ({classes - 1} classes of"
            f" {min(candidates, len(anchors))}): set detections to no more, or candidates or image_size higher"
        )
    return SingleShot(backbone, Predictors(head, classes), Detections(head, anchors, candidates, detections))
