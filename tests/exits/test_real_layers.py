"""Exit layers against the same layers written in torch and traced."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmworkload
from mmworkload.exits import with_exits

NETWORK = """
import torch
from torch import nn


class Exit(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 10)

    def forward(self, image):
        return self.linear(image.mean(dim=(2, 3))).softmax(dim=-1)


def build():
    return Exit(), torch.randn(3, 12, 7, 7)
"""


@pytest.mark.slow
def test_an_exit_is_what_torch_runs(tmp_path: Path) -> None:
    """Pooling, linear layer and softmax of the first image exit of AV-MNIST at batch 3."""
    file = tmp_path / "exit.py"
    file.write_text(NETWORK)
    real = {layer.op: layer for layer in mmworkload.trace(f"{file}:build")}
    made = with_exits(mmworkload.trace("av-mnist/concat", batch=3)).graph
    for op, name in (("mean", "pool"), ("linear", "linear"), ("softmax", "softmax")):
        ours = made[f"exits.image.1.{name}"]
        assert (ours.op, ours.category) == (real[op].op, real[op].category)
        assert ours.work == real[op].work
        assert ours.vector_ops == real[op].vector_ops
        assert [size for _, size in ours.reads] == [size for _, size in real[op].reads]
        assert ours.write_bytes == real[op].write_bytes
