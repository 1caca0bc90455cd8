"""Boxes: decoding, clipping, choice. A box is x1, y1, x2, y2 along the last axis."""

from __future__ import annotations

import math

import torch

# Sides grow at most from 16 to 1000 pixels in one decoding (torchvision's limit).
LARGEST_GROWTH = math.log(1000 / 16)


def decode(
    codes: torch.Tensor, anchors: torch.Tensor, shift_weight: float, growth_weight: float, *, bounded: bool = False
) -> torch.Tensor:
    """Codes [..., 4] on anchors [..., 4] to boxes: two shifts of the centre, in sides, and two logarithms of growth.

    The codes were multiplied by the weights (R-CNN, Girshick et al., CVPR 2014, appendix C). ``bounded`` keeps the
    growth below 1000 / 16.
    """
    corner, sides = anchors[..., :2], anchors[..., 2:] - anchors[..., :2]
    growth = codes[..., 2:] / growth_weight
    if bounded:
        growth = growth.clamp(max=LARGEST_GROWTH)
    centre = corner + (0.5 + codes[..., :2] / shift_weight) * sides
    half = 0.5 * growth.exp() * sides
    return torch.cat([centre - half, centre + half], dim=-1)


def clip(boxes: torch.Tensor, height: float, width: float) -> torch.Tensor:
    """The part of each box that lies in the image."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(-2)


def at_least(boxes: torch.Tensor, side: float) -> torch.Tensor:
    """[...]: whether both sides are that long."""
    return (boxes[..., 2:] - boxes[..., :2] >= side).all(dim=-1)


def pick(boxes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Of boxes [N, A, 4] those at places [N, K]: [N, K, 4]."""
    return boxes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4))
