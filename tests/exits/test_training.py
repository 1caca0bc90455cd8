"""Joint training on a task of known difficulty: who leaves where is what the task was made for."""

from __future__ import annotations

import math

import pytest

import mmworkload
from mmworkload.exits import ExitSettings, with_exits


def test_exit_weights_by_hand() -> None:
    from mmworkload.exits.training import weights

    gradients = {("a", 1): 0.2, ("b", 1): 0.6, ("a", 2): 9.0}
    found = weights(gradients, [("a", 1), ("b", 1)], 0.5)
    whole = math.exp(0.4) + math.exp(1.2)
    # Of two exits the first is halved: m - j + 1 = 2.
    assert found == pytest.approx({("a", 1): math.exp(0.4) / whole / 2, ("b", 1): math.exp(1.2) / whole / 2}, rel=1e-6)
    assert weights(gradients, [("a", 2)], 0.5) == pytest.approx({("a", 2): 1.0})


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["mmexit", "eloss", "sloss"])
def test_samples_leave_where_the_task_lets_them(scheme: str) -> None:
    import torch

    from mmworkload.exits import training

    generator = torch.Generator().manual_seed(1)
    learn, test = training.make_samples(3000, generator), training.make_samples(1500, generator)
    network = training.train(scheme, learn)
    taken = training.infer(network, test, scheme=scheme)
    assert taken.accuracy > 0.98
    assert taken.leaves["easy"]["a"] > 0.95
    assert taken.leaves["medium"]["b"] > 0.95
    assert taken.leaves["hard"]["fusion"] > 0.9
    # In the other order easy samples say nothing to b, and still leave in a.
    turned = training.infer(network, test, order=("b", "a"))
    assert turned.leaves["easy"]["a"] > 0.95
    # Untrained, nobody is sure.
    assert training.infer(training.ExitNetwork().eval(), test).leaves["easy"]["fusion"] == 1.0

    p, accuracy = taken.settings()
    graph = mmworkload.trace(f"{training.__file__}:build")
    settings = ExitSettings(p=p, accuracy=accuracy, at={"a": (1, 2), "b": (1, 2)}, order="a,b")
    change = with_exits(graph, settings).workload().total_macs / graph.total_macs - 1
    # Half of the samples leave in the small encoder, 30 % in the other one.
    assert -0.85 < change < -0.65
