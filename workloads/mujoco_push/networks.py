"""The networks of MuJoCo Push. All work step by step: inputs are [N, T, ...], results [N, T, 2]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mmworkload.workloads.blocks.fusion import ConcatLinear, TensorFusion, table1
from mmworkload.workloads.blocks.layers import Frames, Residual, mlp
from mmworkload.workloads.blocks.mult import MulT
from mmworkload.workloads.blocks.multimodal import MultiModal

# Features per step of the three vector modalities.
VECTORS = {"position": 3, "sensors": 7, "control": 7}
ORDER = ("position", "sensors", "image", "control")
COORDINATES = 2
WIDTH = 64


def vector_encoder(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, width), nn.ReLU(), Residual(nn.Linear(width, width), nn.Linear(width, width))
    )


def image_encoder(width: int) -> Frames:
    """[N, T, 32, 32] to [N, T, width]."""
    return Frames(
        nn.Sequential(
            nn.Unflatten(1, (1, 32)),
            nn.Conv2d(1, 32, 5, padding=2),
            nn.ReLU(),
            Residual(nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 8, 3, padding=1),
            nn.Flatten(),
            nn.Linear(8 * 32 * 32, width),
            nn.ReLU(),
            Residual(nn.Linear(width, width), nn.Linear(width, width)),
        )
    )


def encoder(name: str, width: int) -> nn.Module:
    return image_encoder(width) if name == "image" else vector_encoder(VECTORS[name], width)


class Recurrent(nn.Module):
    """An LSTM of ``hidden`` units over what ``steps`` makes of each step."""

    def __init__(self, steps: nn.Module, width: int, hidden: int) -> None:
        super().__init__()
        self.steps = steps
        self.lstm = nn.LSTM(width, hidden, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.steps(x))[0]


class RecurrentHead(nn.Module):
    """Two LSTM layers of 512 units and two linear layers: [N, T, 64] to [N, T, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, 512, 2, batch_first=True)
        self.output = mlp(512, WIDTH, COORDINATES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.lstm(x)[0])


def _network(
    encoders: Mapping[str, nn.Module],
    width: Mapping[str, int],
    fusion: nn.Module,
    head: nn.Module,
    steps: int,
    drop: Sequence[str],
) -> MultiModal:
    return MultiModal(encoders, fusion, head, {name: (steps, width[name]) for name in drop})


def _plain(fusion: nn.Module, head: nn.Module, steps: int, drop: Sequence[str]) -> MultiModal:
    """Encoders of one width, without anything recurrent."""
    widths = dict.fromkeys(ORDER, WIDTH)
    return _network({name: encoder(name, WIDTH) for name in ORDER}, widths, fusion, head, steps, drop)


def late(steps: int, fusion: str, drop: Sequence[str]) -> MultiModal:
    """Each modality has its own LSTM; the four sequences are joined and mapped to two coordinates a step."""
    hidden = dict.fromkeys(ORDER, 256)
    encoders = {name: Recurrent(encoder(name, WIDTH), WIDTH, hidden[name]) for name in ORDER}
    join = ConcatLinear(list(hidden.values()), COORDINATES, fusion)
    return _network(encoders, hidden, join, nn.Identity(), steps, drop)


def concat(steps: int, fusion: str, drop: Sequence[str]) -> MultiModal:
    join = table1(fusion, [WIDTH] * len(ORDER))
    return _plain(join, mlp(join.width, WIDTH, COORDINATES), steps, drop)


def early(steps: int, fusion: str, drop: Sequence[str]) -> MultiModal:
    return _plain(ConcatLinear([WIDTH] * len(ORDER), WIDTH, fusion), RecurrentHead(), steps, drop)


def tensor(steps: int, drop: Sequence[str]) -> MultiModal:
    widths = {"position": 8, "sensors": 8, "image": 64, "control": 16}
    join = TensorFusion(list(widths.values()))
    encoders = {name: encoder(name, width) for name, width in widths.items()}
    return _network(encoders, widths, join, mlp(join.width, 256, COORDINATES), steps, drop)


def transformer(steps: int, drop: Sequence[str]) -> MultiModal:
    fusion = MulT([WIDTH] * len(ORDER), embed=64, heads=4, layers=3, out=COORDINATES, all_steps=True, steps=steps)
    return _plain(fusion, nn.Identity(), steps, drop)


def single(name: str) -> MultiModal:
    """With the linear layer that takes the place of the fusion."""
    return MultiModal({name: encoder(name, WIDTH)}, None, nn.Sequential(nn.Linear(WIDTH, WIDTH), RecurrentHead()))


class Prepare(nn.Module):
    """What a simulator records to ``modalities``, each feature with its mean taken off and divided by its deviation.

    ``position`` [N, T, 3] of the gripper, ``force`` [N, T, 6], ``contact`` [N, T, 1], ``image`` [N, T, 32, 32]. Sensors
    are force and contact; the control is the position one step before, the move since then, and the contact. Means and
    deviations are those of a data set: zeros and ones here.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        for name in self.modalities:
            shape = (1,) if name == "image" else (VECTORS[name],)
            self.register_buffer(f"{name}_mean", torch.zeros(shape))
            self.register_buffer(f"{name}_deviation", torch.ones(shape))

    def forward(self, **raw: torch.Tensor) -> dict[str, torch.Tensor]:
        ready = {}
        for name in self.modalities:
            value = getattr(self, f"_{name}")(**raw) if name in ("sensors", "control") else raw[name]
            ready[name] = (value - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_deviation")
        return ready

    def _sensors(self, force: torch.Tensor, contact: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        return torch.cat([force, contact], dim=-1)

    def _control(self, position: torch.Tensor, contact: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        # The first step has none before it: it stays where it is.
        before = torch.cat([position[:, :1], position[:, :-1]], dim=1)
        return torch.cat([before, position - before, contact], dim=-1)
