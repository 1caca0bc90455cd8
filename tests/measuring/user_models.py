"""Models that a user might bring: each function returns (module, example_inputs). Tests name them as FILE:FUNCTION."""

import torch
from torch import nn


class Recurrent(nn.Module):
    """A nested input, an input that nobody reads, tied weights, and the initial states that an LSTM makes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.lstm = nn.LSTM(4, 8, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, inputs, unused):
        steps = self.lstm(self.second(self.first(inputs["steps"])))[0]
        return {"last": steps[:, -1], "shifted": inputs["rest"][0] + 1}


def recurrent():
    return Recurrent(), ({"steps": torch.randn(2, 5, 4), "rest": [torch.randn(3)]}, torch.randn(2))


class InPlace(nn.Module):
    """Writes an input (through a view too), a buffer and a buffer that is not saved; constants of every kind."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = torch.tensor([1.0, 2.0, 3.0, 4.0])
        self.register_buffer("seen", torch.zeros(4))
        self.register_buffer("growth", torch.ones(4), persistent=False)

    def forward(self, x, state, factor=1.0, nothing=None):
        y = self.linear(x) * self.scale + torch.tensor([0.5, 1.5, 2.5, 3.5])
        state.add_(1)
        state[:1].mul_(3)
        self.seen.add_(y.sum(0))
        self.growth.mul_(2)
        return y * factor + state + self.seen * self.growth + torch.arange(4.0, device=x.device)


def in_place():
    inputs = {"state": torch.randn(4, 4), "factor": 2.0, "nothing": None, "x": torch.randn(4, 4)}
    return InPlace(), inputs


class Regions(nn.Module):
    """Nested regions; one of them writes an input and makes tensors."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, state):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            state.add_(1)
            y = self.linear(x)
            with torch.enable_grad():
                y = y * 2
                with torch.autocast("cpu", enabled=False):
                    y = y.float() @ torch.eye(4) + torch.zeros(4)
        return y.to(x.device) + state


def regions():
    return Regions(), (torch.randn(4, 4), torch.zeros(4))


def full_precision():
    class FullPrecision(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            with torch.autocast("cpu", enabled=False):
                return self.linear(x.float()) + torch.ones(4)

    return FullPrecision(), (torch.randn(2, 4),)


def encoder():
    layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, batch_first=True)
    return nn.TransformerEncoder(layer, 2), (torch.randn(2, 6, 16),)


def attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, query, memory):
            return self.attention(query, memory, memory, need_weights=False)

    return Attention(), (torch.randn(2, 3, 16), torch.randn(2, 6, 16))


def three_relus():
    return nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU()), (torch.randn(512, 512),)


def growing_list():
    """The model keeps what it sees in the list that it is given."""

    class Growing(nn.Module):
        def forward(self, x, cache):
            cache.append(x * 2)
            return torch.stack(cache).sum(0)

    return Growing(), (torch.randn(3), [torch.randn(3)])


def fails_on_values():
    """Can be traced without values, but not run with them."""

    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 2)

        def forward(self, index):
            return self.table(index + 100)

    return Fails(), (torch.zeros(3, dtype=torch.long),)


def too_large():
    """Needs 4 EiB for one activation."""

    class TooLarge(nn.Module):
        def forward(self, x):
            return x.expand(2**20, 2**40, 1).contiguous().sum()

    return TooLarge(), (torch.randn(1),)
