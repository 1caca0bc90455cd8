"""A trace that takes long says on stderr where it is and how far it has come; a short one says nothing."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
import torch
from torch import nn

from mmworkload.models.model import Model
from mmworkload.tracing import trace_model, waiting

# The sums are done; a word was said after that.
summed, said = threading.Event(), threading.Event()


class Slow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(5):
            x = x + 1
        summed.set()
        # As long as it takes until a word is said of this module.
        assert said.wait(60)
        return x


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.slow = nn.Linear(3, 3), Slow()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.slow(self.first(x))


def model(module: type[nn.Module]) -> Model:
    return Model("mine", "mine", 1, "float32", lambda device: (module(), (torch.zeros(1, 3),)))


@pytest.mark.parametrize("route", ["export", "recorder"])
def test_a_long_trace_names_module_operators_and_seconds_on_stderr(
    route: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = waiting.Watch.say

    def say(watch: Any) -> None:
        here = summed.is_set() and watch.faked is not None and watch.module(watch.faked) == "slow"
        plain(watch)
        if here:
            said.set()

    summed.clear()
    said.clear()
    monkeypatch.setattr(waiting.Watch, "say", say)
    monkeypatch.setattr(waiting, "FIRST_S", 0.01)
    monkeypatch.setattr(waiting, "EVERY_S", 0.01)
    assert trace_model(model(Network), route).graph.route == route
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    inside = [found for line in lines if (found := re.search(r"in slow, (\d+) operators so far, \d+ s$", line))]
    assert all(line.startswith("still tracing mine: ") for line in lines)
    # The linear layer and five sums are recorded by then.
    assert max(int(found[1]) for found in inside) >= 6
    assert not any(thread.name == "waiting" for thread in threading.enumerate())


def test_a_short_trace_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    trace_model(model(lambda: nn.Linear(3, 3)))  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "")


def test_the_first_word_comes_after_ten_seconds() -> None:
    assert waiting.FIRST_S == 10
