"""Loss functions: elementwise operations, and a sum where there is a reduction."""

from __future__ import annotations

from mmworkload.tracing.call import Call, Lowered, lowers

# Operations for each element of the prediction, without the reduction.
PASSES = {
    "mse_loss": 2, "l1_loss": 2, "smooth_l1_loss": 4, "huber_loss": 4, "kl_div": 3, "poisson_nll_loss": 3,
    "binary_cross_entropy": 6, "binary_cross_entropy_with_logits": 7, "soft_margin_loss": 4,
    "hinge_embedding_loss": 3, "margin_ranking_loss": 3, "cosine_embedding_loss": 6, "triplet_margin_loss": 8,
    "multi_margin_loss": 3, "multilabel_margin_loss": 3, "nll_loss_nd": 1, "nll_loss": 1, "nll_loss2d": 1,
    # A softmax with logarithm, then one pick.
    "cross_entropy_loss": 5,
}  # fmt: skip


@lowers(*(f"aten.{name}" for name in PASSES))
def loss(call: Call) -> Lowered:
    name = call.operator.removeprefix("aten.")
    elements = max(value.elements for value in call.tensors)
    reduced = call.output.elements < elements
    return Lowered(
        name.removesuffix("_nd"), "Reduce", vector_ops=(PASSES[name] + reduced) * elements,
        write_bytes=call.output.bytes,
    )  # fmt: skip


# Over three predecessors: two maxima, three differences and exponentials, two sums, a logarithm, two more sums.
_CTC_PASSES = 13


@lowers("aten.ctc_loss", "aten._ctc_loss")
def alignment_loss(call: Call) -> Lowered:
    """The forward recursion over all steps and all labels with a blank before, between and after (Graves 2006)."""
    log_probabilities, targets, lengths = call["log_probs"], call["targets"], call["target_lengths"]
    steps = log_probabilities.shape[0]
    labels = max(lengths) if isinstance(lengths, list) else targets.shape[-1]
    batch = log_probabilities.shape[1] if len(log_probabilities.shape) == 3 else 1
    return Lowered(
        "ctc_loss", "Reduce", vector_ops=_CTC_PASSES * steps * batch * (2 * labels + 1), write_bytes=call.output.bytes
    )
