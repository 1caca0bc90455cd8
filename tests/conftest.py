"""What tests of several folders share."""

from __future__ import annotations

import signal

import pytest

# A shell ignores SIGINT for what it starts in the background, nohup SIGHUP, and children inherit that. A signal that is
# handled here instead is not ignored there.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)

# Image blocks end at an activation that is written in place; audio can be left after steps alone.
NETWORK = """
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        first = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)
        self.image = nn.Sequential(*first, nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3))
        self.audio = nn.GRU(7, 8, 2, batch_first=True)
        self.head = nn.Linear(13, 3)

    def forward(self, image, audio):
        _, state = self.audio(audio)
        return self.head(torch.cat([self.image(image).mean(dim=(2, 3)), state[-1]], dim=-1))


def build(batch=2):
    return Two(), (torch.randn(batch, 3, 12, 12), torch.randn(batch, 9, 7))
"""


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a network of two modalities in a file of its own."""
    file = tmp_path_factory.mktemp("models") / "two.py"
    file.write_text(NETWORK)
    return f"{file}:build"
