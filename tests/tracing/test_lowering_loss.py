"""Loss functions: operations for each element of the prediction, one more where they are summed, and bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

P, Q = torch.rand(6, 4), torch.rand(6, 4)
CLASSES = torch.tensor([0, 3, 1, 2, 2, 0])
SIGNS = torch.ones(6)
NONE = {"reduction": "none"}

# name: (function, inputs, operations for one element of 24 without the sum)
LOSSES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int]] = {
    "mse": (F.mse_loss, (P, Q), 2),
    "l1": (F.l1_loss, (P, Q), 2),
    "smooth l1": (F.smooth_l1_loss, (P, Q), 4),
    "huber": (F.huber_loss, (P, Q), 4),
    "kl divergence": (F.kl_div, (P, Q), 3),
    "poisson": (F.poisson_nll_loss, (P, Q), 3),
    "binary cross entropy": (F.binary_cross_entropy, (P, Q), 6),
    "binary cross entropy of logits": (F.binary_cross_entropy_with_logits, (P, Q), 7),
    "soft margin": (F.soft_margin_loss, (P, Q), 4),
    "hinge": (F.hinge_embedding_loss, (P, Q.sign()), 3),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduced", [False, True])
def test_an_elementwise_loss(trace: Any, name: str, reduced: bool) -> None:
    function, inputs, passes = LOSSES[name]
    graph = trace(lambda a, b: function(a, b, **({} if reduced else NONE)), *inputs).graph
    (layer,) = [layer for layer in graph if layer.category == "Reduce"]
    assert (layer.macs, layer.vector_ops) == (0, (passes + reduced) * 24)
    assert (layer.read_bytes, layer.write_bytes) == (192, 4 if reduced else 96)


def test_a_loss_over_classes_reads_the_classes(trace: Any) -> None:
    (layer,) = trace(F.cross_entropy, P, CLASSES).graph.layers
    # A softmax with logarithm, one pick, and the sum.
    assert (layer.op, layer.vector_ops) == ("cross_entropy_loss", (5 + 1) * 24)
    assert (layer.read_bytes, layer.write_bytes) == (96 + 48, 4)
    (layer,) = trace(lambda x, y: F.nll_loss(x, y, **NONE), P, CLASSES).graph.layers
    # One number for each row: a reduction of its classes.
    assert (layer.op, layer.vector_ops, layer.write_bytes) == ("nll_loss", (1 + 1) * 24, 24)


def test_a_loss_of_pairs_and_triplets_reads_each_once(trace: Any) -> None:
    (layer,) = trace(F.cosine_embedding_loss, P, Q, SIGNS).graph.layers
    assert (layer.vector_ops, layer.read_bytes, layer.write_bytes) == ((6 + 1) * 24, 192 + 24, 4)
    (layer,) = trace(F.triplet_margin_loss, P, Q, P + 1).graph.layers
    assert (layer.vector_ops, layer.read_bytes, layer.write_bytes) == ((8 + 1) * 24, 288, 4)
    (layer,) = trace(F.margin_ranking_loss, P[:, 0], Q[:, 0], SIGNS).graph.layers
    assert (layer.vector_ops, layer.read_bytes) == ((3 + 1) * 6, 72)


def test_a_linear_layer_with_its_loss_is_a_product_and_a_loss(trace: Any, count: Any) -> None:
    weight = torch.randn(5, 4)
    graph = trace(F.linear_cross_entropy, P, weight, CLASSES).graph
    assert [(layer.op, layer.macs) for layer in graph] == [("linear", 6 * 4 * 5), ("cross_entropy_loss", 0)]
    assert graph.layers[1].vector_ops == 6 * 6 * 5


def test_an_alignment_loss_runs_over_steps_and_labels_with_blanks(trace: Any) -> None:
    steps, batch, classes, labels = 7, 2, 5, 3
    targets = torch.randint(1, classes, (batch, labels))

    def loss(x: Any, y: Any) -> Any:
        return F.ctc_loss(x, y, (steps, steps), (labels, labels), reduction="sum")

    graph = trace(loss, torch.randn(steps, batch, classes).log_softmax(-1), targets).graph
    (layer,) = [layer for layer in graph if layer.op == "ctc_loss"]
    # Two maxima, three differences, three exponentials, two sums, a logarithm, two sums.
    assert layer.vector_ops == 13 * steps * batch * (2 * labels + 1)
    assert layer.read_bytes == 4 * steps * batch * classes + 8 * batch * labels
