"""Operators of detection networks: regions of interest, deformable convolution, suppression of overlaps."""

from __future__ import annotations

import math

from mmworkload.layer import Work
from mmworkload.problem import gemm
from mmworkload.tracing.call import Call, Lowered, lowers


@lowers("torchvision.roi_align", "torchvision.roi_pool", "torchvision.ps_roi_align", "torchvision.ps_roi_pool")
def regions(call: Call) -> Lowered:
    """Bilinear sampling of a fixed number of boxes: four reads and four products for each sample point."""
    ratio = int(call.get("sampling_ratio", 1))
    # Zero and below, the size of the box decides.
    adaptive, ratio = ratio < 1, max(1, ratio)
    samples = call.output.elements * ratio * ratio
    x, boxes = call["input"], call["rois"]
    reads = ((x, min(x.bytes, 4 * samples * x.bits // 8)), (boxes, boxes.bytes))
    name = call.operator.removeprefix("torchvision.")
    return Lowered(
        name, "Other", vector_ops=8 * samples, reads=reads, write_bytes=call.output.bytes,
        assumptions=(f"{boxes.shape[0]} boxes" + (", one sample a cell" if adaptive else ""),),
    )  # fmt: skip


@lowers("torchvision.deform_conv2d")
def deformable_convolution(call: Call) -> Lowered:
    """Samples the input where the offsets say, then one product for each group; the samples stay on chip."""
    x, weight, out = call["input"], call["weight"], call.output
    groups = call["groups"]
    batch, columns, height, width = out.shape
    rows, taps = batch * height * width, math.prod(weight.shape[1:])
    samples = rows * taps * groups
    if 0 in (samples, columns):
        return Lowered("deform_conv2d", "Conv")
    problem = gemm(
        rows, columns // groups, taps, groups=groups, bits=(x.bits, weight.bits, out.bits),
        second_role="weight" if weight.is_weight else "input",
    )  # fmt: skip
    # Four products and three sums a sample, and its mask.
    passes = 7 + bool(call.get("use_mask", False))
    return Lowered(
        "deform_conv2d", "Conv", (Work(problem),), vector_ops=passes * samples + out.elements,
        assumptions=("sampled columns stay on chip",),
    )  # fmt: skip


@lowers("torchvision.nms")
def suppression(call: Call) -> Lowered:
    """Sorts the boxes by score and compares each with those below it: an overlap is about ten operations."""
    boxes = call["dets"].shape[0]
    pairs = boxes * (boxes - 1) // 2
    sorting = boxes * math.ceil(math.log2(max(2, boxes)))
    return Lowered(
        "nms", "Other", vector_ops=10 * pairs + sorting, assumptions=(f"{boxes} boxes, none suppressed early",)
    )
