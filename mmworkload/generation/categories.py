"""The operator categories of the generation paper (arXiv 2410.00215), judged by module and operator.

The paper charges kernels to the module that launched them: linear layers, the core of attention, norms, one-dimensional
convolutions, embeddings (rotary ones too), the reordering of caches in beam search, and the rest. ``Idle`` is time in
which the device runs nothing: no layer is idle, it comes from a measurement only.
"""

from __future__ import annotations

import re

from mmworkload.layer import Layer
from mmworkload.models.names import families

PAPER = "arXiv 2410.00215"
"""As sources of workloads name it."""
CATEGORIES = ("Attention", "Linear", "LayerNorm", "Conv1d", "Embedding", "KV_Cache_Reorder", "Misc", "Idle")
IDLE = "Idle"

# Encoding and decoding an image is Misc there as a whole, whatever is inside.
_IMAGE = re.compile(r"(^|\.)(vqmodel|image_encoder|image_decoder)(\.|$)")
_NORM = re.compile(r"norm\d*$")
_ATTENTION = re.compile(r"(attn|attention)$")


def in_the_paper(model: str) -> bool:
    """Whether the graph called ``model`` is of a workload that the paper profiles."""
    family = families().get(model.partition("/")[0])
    return family is not None and any(PAPER in item.source for item in family.variants)


def category(layer: Layer) -> str:
    """One of :data:`CATEGORIES`, never ``Idle``."""
    path = layer.module.split(".") if layer.module else [""]
    innermost = path[-1].lower()
    if "reorder" in path:
        return "KV_Cache_Reorder"
    if _IMAGE.search(layer.module):
        return "Misc"
    if layer.op == "attention":
        return "Attention"
    if layer.op in ("conv1d", "conv_transpose1d"):
        return "Conv1d"
    if layer.op in ("embedding", "embedding_bag") or "rotary" in innermost or innermost.startswith("embed"):
        return "Embedding"
    if _NORM.search(innermost) or layer.op in ("layer_norm", "rms_norm"):
        return "LayerNorm"
    if any(operand.role == "weight" for work in layer.work for operand in work.problem.operands):
        return "Linear"
    if layer.work or _ATTENTION.search(innermost):
        # A product of two activations is attention that is written out; so is what its module does besides.
        return "Attention"
    return "Misc"
