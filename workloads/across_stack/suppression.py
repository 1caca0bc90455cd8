"""Non-maximum suppression with an output of fixed size: for each box, whether it is kept.

``torchvision.ops.nms`` gives as many indices as boxes are kept, so that the shapes behind it depend on data. This
operator calls it and gives a mask. Leading axes are suppressions of their own: images, classes.
"""

from __future__ import annotations

import math

import torch
from torchvision.ops import batched_nms

from mmworkload.tracing.call import Call, Lowered, lowers


@torch.library.custom_op("across_stack::nms", mutates_args=())
def suppress(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Boxes [..., K, 4] by their corners and scores [..., K] to a mask [..., K]: true where the box is kept."""
    count = scores.shape[-1]
    groups = torch.arange(scores.numel(), device=scores.device) // count
    # torchvision moves groups apart by the largest coordinate: none may be negative.
    moved = boxes.reshape(-1, 4).float() - boxes.min()
    kept = batched_nms(moved, scores.reshape(-1).float(), groups, iou_threshold)
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[kept] = True
    return mask.view(scores.shape)


@suppress.register_fake
def _(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    return scores.new_empty(scores.shape, dtype=torch.bool)


@lowers("across_stack.nms")
def suppression(call: Call) -> Lowered:
    """Each group is sorted by score, and each box compared with those below it: an overlap is about ten operations."""
    *leading, boxes = call["scores"].shape
    groups = math.prod(leading)
    sorting = boxes * math.ceil(math.log2(max(2, boxes)))
    return Lowered(
        "nms",
        "Other",
        vector_ops=groups * (10 * (boxes * (boxes - 1) // 2) + sorting),
        assumptions=(f"{groups} x {boxes} boxes, none suppressed early",),
    )
