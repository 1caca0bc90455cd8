"""Scaled dot-product attention: a cascade of two products whose scores stay inside the layer."""

from __future__ import annotations

import math

from mmworkload.layer import Work
from mmworkload.problem import Mask, gemm
from mmworkload.tracing.call import Call, Lowered, Value, lowers

# max, subtract, exponential, sum, divide; and the scale before them.
_SOFTMAX_PASSES = 5


def attend(q: Value, k: Value, v: Value, out: Value, *, causal: bool, masked: bool) -> tuple[tuple[Work, ...], int]:
    """Problems of ``softmax(q k^T) v`` and its vector operations. Shapes [..., heads, length, width].

    Leading axes broadcast. Query heads that share a key head are rows of one product, so that keys and values are
    counted once per group. A causal mask is kept on both problems; MACs stay those of the full rectangle.
    """
    length, width = q.shape[-2:]
    keys, out_width = k.shape[-2], v.shape[-1]
    heads, kv_heads = math.prod(out.shape[:-2]), math.prod(k.shape[:-2])
    if 0 in (heads, length, keys, width, out_width):
        return (), 0
    shared = heads // kv_heads if heads > kv_heads and heads % kv_heads == 0 else 1
    groups, rows = heads // shared, shared * length
    # torch aligns is_causal with the first key.
    mask = Mask("causal", length, keys) if causal else None
    scores = gemm(rows, keys, width, groups=groups, bits=(q.bits, k.bits, out.bits), second_role="input", mask=mask)
    values = gemm(
        rows, out_width, keys, groups=groups, bits=(out.bits, v.bits, out.bits), second_role="input", mask=mask
    )
    elements = heads * length * keys
    return (Work(scores), Work(values)), elements * (1 + _SOFTMAX_PASSES + masked)


@lowers(
    "aten.scaled_dot_product_attention",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_attention_math",
    "aten._scaled_dot_product_attention_math_for_mps",
)
def attention(call: Call) -> Lowered:
    q, k, v = call["query"], call["key"], call["value"]
    mask = call.get("attn_mask", call.get("attn_bias"))
    work, vector_ops = attend(
        q, k, v, call.output, causal=bool(call.get("is_causal", False)), masked=isinstance(mask, Value)
    )
    return Lowered(
        "attention",
        "Gemm",
        work,
        vector_ops=vector_ops,
        write_bytes=call.output.bytes,
        assumptions=("attention scores stay on chip",),
    )
