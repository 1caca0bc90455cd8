"""Two-stage detectors: torchvision's Faster and Mask R-CNN with every count fixed, so that no shape depends on data.

Networks are torchvision's, by configuration. What lies between them is written here with the same steps and limits:
torchvision keeps as many boxes as the scores say, here a declared number goes on, the best first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import get_model
from torchvision.ops import roi_align

from mmworkload.errors import ModelError
from mmworkload.workloads.across_stack.boxes import at_least, clip, decode, pick
from mmworkload.workloads.across_stack.sizes import padded, resized, split
from mmworkload.workloads.across_stack.suppression import suppress

# Pyramid levels, fine to coarse: pixels of a cell, and the side of its anchors. Boxes are read from the first four.
STRIDES = (4, 8, 16, 32, 64)
ANCHOR_SIZES = (32, 64, 128, 256, 512)
# Height over width of the anchors of a cell.
SHAPES = (0.5, 1.0, 2.0)
READ = 4
# Samples along each side of a cell of a region, and the region's cells for boxes and for masks.
SAMPLING = 2
BOX_CELLS, MASK_CELLS = 7, 14
# Limits of torchvision's builders.
PROPOSAL_IOU, BOX_IOU, SCORE_THRESHOLD = 0.7, 0.5, 0.05
SMALLEST_PROPOSAL, SMALLEST_BOX = 1e-3, 1e-2
# Codes of the second stage are multiplied by these.
SHIFT_WEIGHT, GROWTH_WEIGHT = 10.0, 5.0


@dataclass(frozen=True)
class Counts:
    """What depends on data in a two-stage detector, per image.

    ``anchors`` of a level that are compared, ``proposals`` that go on, ``candidates`` (pairs of a box and a class)
    whose score passes, ``detections`` that are left; ``shares`` are the percentages of boxes for each pyramid level.
    """

    anchors: int
    proposals: int
    candidates: int
    detections: int
    shares: tuple[int, ...]


def cells(image: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of each pyramid level: the backbone halves and rounds up, the last level takes every second."""
    return [(-(-image[0] // stride), -(-image[1] // stride)) for stride in STRIDES]


def anchors_of_level(grid: tuple[int, int], stride: tuple[int, int], size: int) -> torch.Tensor:
    """[rows * columns * 3, 4] in pixels: for each cell three shapes of one area."""
    half = [(size / math.sqrt(shape) / 2, size * math.sqrt(shape) / 2) for shape in SHAPES]
    bases = torch.tensor([[-x, -y, x, y] for x, y in half]).round()
    rows = torch.arange(grid[0], dtype=torch.float32) * stride[0]
    columns = torch.arange(grid[1], dtype=torch.float32) * stride[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1)
    return (shifts.unsqueeze(2) + bases).reshape(-1, 4)


class Proposals(nn.Module):
    """Maps of objectness [N, 3, h, w] and codes [N, 12, h, w] of each level to boxes [N, proposals, 4] in pixels.

    The best of each level are compared within it; those that are kept come first, by score.
    """

    anchors: torch.Tensor

    def __init__(self, image: tuple[int, int], inside: tuple[int, int], counts: Counts) -> None:
        """``image`` is padded, ``inside`` without the padding: height and width."""
        super().__init__()
        self.inside, self.proposals = inside, counts.proposals
        grids = cells(image)
        levels = [
            anchors_of_level(grid, (image[0] // grid[0], image[1] // grid[1]), size)
            for grid, size in zip(grids, ANCHOR_SIZES, strict=True)
        ]
        self.sizes = [len(level) for level in levels]
        self.compared = [min(counts.anchors, size) for size in self.sizes]
        self.register_buffer("anchors", torch.cat(levels), persistent=False)

    def forward(self, objectness: Sequence[torch.Tensor], codes: Sequence[torch.Tensor]) -> torch.Tensor:
        logits = [item.permute(0, 2, 3, 1).flatten(1) for item in objectness]
        together = torch.cat([item.permute(0, 2, 3, 1).reshape(len(item), -1, 4) for item in codes], dim=1)
        boxes = decode(together, self.anchors, 1.0, 1.0, bounded=True)
        chosen, scores = [], []
        for level, part, compared in zip(logits, boxes.split(self.sizes, dim=1), self.compared, strict=True):
            best, places = level.topk(compared, dim=1)
            inside = clip(pick(part, places), *self.inside)
            best = best.sigmoid()
            kept = suppress(inside, best, PROPOSAL_IOU) & at_least(inside, SMALLEST_PROPOSAL)
            chosen.append(inside)
            scores.append(best * kept)
        places = torch.cat(scores, dim=1).topk(self.proposals, dim=1).indices
        return pick(torch.cat(chosen, dim=1), places)


class Regions(nn.Module):
    """Levels [N, C, h, w] and boxes [N, K, 4] in pixels to what is in the boxes, [N * K, C, size, size].

    FPN (Lin et al., CVPR 2017, equation 1) reads larger boxes from coarser levels; how many from which depends on data.
    Here ``shares`` say it, in percent, and the smallest boxes are read from the finest level.
    """

    def __init__(self, size: int, shares: Sequence[int]) -> None:
        super().__init__()
        self.size, self.shares = size, tuple(shares)

    def forward(self, levels: Sequence[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        batch, count = boxes.shape[:2]
        sides = boxes[..., 2:] - boxes[..., :2]
        order = sides.prod(dim=-1).argsort(dim=1)
        images = torch.arange(batch, device=boxes.device).unsqueeze(1)
        found = boxes.new_zeros(batch * count, levels[0].shape[1], self.size, self.size)
        parts = order.split(split(count, self.shares), dim=1)
        for level, places, stride in zip(levels, parts, STRIDES, strict=False):
            if places.shape[1]:
                numbers = images.to(boxes.dtype).expand_as(places).unsqueeze(-1)
                rois = torch.cat([numbers, pick(boxes, places)], dim=-1).flatten(0, 1)
                read = roi_align(level, rois, self.size, 1 / stride, SAMPLING)
                found[(images * count + places).flatten()] = read
        return found


class Detections(nn.Module):
    """Logits [N * P, classes] and codes [N * P, 4 * classes] on boxes [N, P, 4] to the best detections.

    Gives boxes [N, D, 4] in pixels, scores (zero where fewer were found) and labels [N, D]; class 0 is no object.
    """

    def __init__(self, inside: tuple[int, int], classes: int, counts: Counts) -> None:
        super().__init__()
        self.inside, self.classes = inside, classes
        self.candidates, self.detections = counts.candidates, counts.detections

    def forward(self, logits: torch.Tensor, codes: torch.Tensor, boxes: torch.Tensor) -> dict[str, torch.Tensor]:
        batch, count = boxes.shape[:2]
        decoded = decode(
            codes.reshape(batch, count, self.classes, 4), boxes.unsqueeze(2), SHIFT_WEIGHT, GROWTH_WEIGHT, bounded=True
        )
        objects = clip(decoded, *self.inside)[:, :, 1:].flatten(1, 2)
        scores = logits.softmax(dim=-1).reshape(batch, count, self.classes)[:, :, 1:].flatten(1)
        scores, places = scores.topk(self.candidates, dim=1)
        chosen, labels = pick(objects, places), places % (self.classes - 1) + 1
        # Boxes of different classes lie apart: one suppression for all.
        apart = chosen + (labels * (max(self.inside) + 1)).unsqueeze(-1)
        kept = suppress(apart, scores, BOX_IOU) & (scores > SCORE_THRESHOLD) & at_least(chosen, SMALLEST_BOX)
        scores, order = (scores * kept).topk(self.detections, dim=1)
        return {"boxes": pick(chosen, order), "scores": scores, "labels": labels.gather(1, order)}


class Masks(nn.Module):
    """Logits [N * D, classes, m, m], labels [N, D] and boxes [N, D, 4] in the photo to masks [N, D, height, width].

    Each mask is sampled at all pixels of the photo, which has a fixed size, and not resized to its box, which has none.
    """

    def __init__(self, photo: tuple[int, int]) -> None:
        super().__init__()
        self.photo = photo

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        which = labels.view(-1, 1, 1, 1).expand(-1, 1, *logits.shape[2:])
        masks = logits.sigmoid().gather(1, which)
        corner, opposite = boxes.flatten(0, 1).unsqueeze(1).chunk(2, dim=-1)
        height, width = self.photo
        sides = (opposite - corner).clamp(min=SMALLEST_BOX)

        def along(axis: int, pixels: int) -> torch.Tensor:
            """Centres of pixels from -1 to 1 over the box: [N * D, pixels]."""
            centres = torch.arange(pixels, dtype=boxes.dtype, device=boxes.device) + 0.5
            return (centres - corner[..., axis]) * (2 / sides[..., axis]) - 1

        x, y = along(0, width).unsqueeze(1), along(1, height).unsqueeze(2)
        grid = torch.stack([x.expand(-1, height, -1), y.expand(-1, -1, width)], dim=-1)
        pasted = functional.grid_sample(masks, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return pasted.view(*labels.shape, height, width)


class TwoStage(nn.Module):
    """Image [N, 3, H, W], resized and padded, to detections in the photo that it was made from.

    ``photo`` and ``inside`` are heights and widths of the photo, and of the image without its padding.
    """

    scale: torch.Tensor

    def __init__(
        self, network: Any, photo: tuple[int, int], inside: tuple[int, int], classes: int, counts: Counts
    ) -> None:
        """``network`` is a detector of torchvision, whose parts are taken."""
        super().__init__()
        scale = (photo[1] / inside[1], photo[0] / inside[0])
        self.register_buffer("scale", torch.tensor(scale * 2), persistent=False)
        regions = network.roi_heads
        self.masked = regions.mask_head is not None
        self.backbone = network.backbone
        self.heads = nn.ModuleDict({"rpn": network.rpn.head, "box": regions.box_head, "classes": regions.box_predictor})
        self.postprocess = nn.ModuleDict(
            {
                "proposals": Proposals(padded(inside), inside, counts),
                "box_regions": Regions(BOX_CELLS, counts.shares),
                "detections": Detections(inside, classes, counts),
            }
        )
        if self.masked:
            self.heads.update({"mask": regions.mask_head, "mask_classes": regions.mask_predictor})
            self.postprocess.update({"mask_regions": Regions(MASK_CELLS, counts.shares), "masks": Masks(photo)})

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        heads, postprocess = self.heads, self.postprocess
        levels = list(self.backbone(image).values())
        proposals = postprocess["proposals"](*heads["rpn"](levels))
        found = postprocess["box_regions"](levels[:READ], proposals)
        result = postprocess["detections"](*heads["classes"](heads["box"](found)), proposals)
        boxes = result["boxes"]
        result["boxes"] = boxes * self.scale
        if self.masked:
            found = postprocess["mask_regions"](levels[:READ], boxes)
            logits = heads["mask_classes"](heads["mask"](found))
            result["masks"] = postprocess["masks"](logits, result["labels"], result["boxes"])
        return result


def two_stage(
    builder: str, photo: tuple[int, int], short_side: int, long_side: int, classes: int, counts: Counts
) -> TwoStage:
    """The detector that torchvision registers as ``builder``, for photos of one size.

    Raises ModelError when a step is to give more boxes than it gets.
    """
    inside = resized(photo, short_side, long_side)
    available = sum(min(counts.anchors, len(SHAPES) * rows * columns) for rows, columns in cells(padded(inside)))
    _require("proposals", counts.proposals, available, "anchors or short_side")
    _require("candidates", counts.candidates, counts.proposals * (classes - 1), "proposals or classes")
    _require("detections", counts.detections, counts.candidates, "candidates")
    network = get_model(builder, weights=None, weights_backbone=None, num_classes=classes)
    return TwoStage(network, photo, inside, classes, counts)


def _require(name: str, wanted: int, available: int, higher: str) -> None:
    if wanted > available:
        raise ModelError(
            f"{name}={wanted} is more than the {available} boxes there are: set it lower, or {higher} higher"
        )
