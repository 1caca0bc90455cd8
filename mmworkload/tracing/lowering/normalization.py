"""Normalisation layers and softmax. Vector operations are counted per element and pass."""

from __future__ import annotations

from mmworkload.tracing.call import Call, Lowered, Value, lowers

# Mean, deviation, its square summed, and the normalised value.
_STATISTICS_PASSES = 5
_AFFINE_PASSES = 2


@lowers(
    "aten.batch_norm",
    "aten._native_batch_norm_legit_no_training",
    "aten._native_batch_norm_legit",
    "aten.native_batch_norm",
    "aten.cudnn_batch_norm",
    "aten._batch_norm_no_update",
    "aten._batch_norm_with_update",
)
def batch_norm(call: Call) -> Lowered:
    """With running statistics one scale and one shift; in training the statistics as well."""
    training = bool(call.get("training", call.get("train", False)))
    passes = _AFFINE_PASSES + (_STATISTICS_PASSES if training else 0)
    return Lowered("batch_norm", "BNorm", vector_ops=passes * call.output.elements, write_bytes=call.output.bytes)


@lowers(
    "aten.layer_norm",
    "aten.native_layer_norm",
    "aten.group_norm",
    "aten.native_group_norm",
    "aten.instance_norm",
    "aten.rms_norm",
    "aten._fused_rms_norm",
)
def statistics_norm(call: Call) -> Lowered:
    name = call.operator.removeprefix("aten.").removeprefix("native_").removeprefix("_fused_")
    affine = _AFFINE_PASSES if any(isinstance(call.get(key), Value) for key in ("weight", "bias")) else 0
    passes = (3 if name == "rms_norm" else _STATISTICS_PASSES) + affine
    if not call.get("use_input_stats", True):
        # Instance normalisation with running statistics: one scale and one shift.
        passes = _AFFINE_PASSES
    return Lowered(name, "BNorm", vector_ops=passes * call.output.elements, write_bytes=call.output.bytes)


@lowers("aten._weight_norm", "aten._weight_norm_interface")
def weight_norm(call: Call) -> Lowered:
    return Lowered("weight_norm", "BNorm", vector_ops=3 * call.output.elements, write_bytes=call.output.bytes)


@lowers(
    "aten.softmax",
    "aten._softmax",
    "aten._safe_softmax",
    "aten.log_softmax",
    "aten._log_softmax",
    "aten.special_softmax",
    "aten.special_log_softmax",
)
def softmax(call: Call) -> Lowered:
    """Maximum, difference, exponential, sum, quotient."""
    return Lowered("softmax", "Other", vector_ops=5 * call.output.elements)
