"""The networks of Vision & Touch: five encoders, and the ways to fuse them.

Sizes: MMBench (applications/Vision-Touch, models/unimodals/robotics/encoders.py), after Lee et al., "Making sense of
vision and touch", T-RO 2020. Every encoder but that of the action gives 2 x 128 features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from mmworkload.workloads.blocks.fusion import LowRankTensor, TensorFusion, table1
from mmworkload.workloads.blocks.multimodal import MultiModal

LATENT = 128
FEATURES = {"image": 2 * LATENT, "force": 2 * LATENT, "proprio": 2 * LATENT, "depth": 2 * LATENT, "action": 32}
HIDDEN, CLASSES = 128, 2
# Depths outside this range, in metres, are taken for errors of the camera.
NEAREST_M, FARTHEST_M = 1e-7, 2.0


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.1, inplace=True)


def _dense(*widths: int) -> nn.Sequential:
    """Linear layers with a leaky ReLU after each."""
    return nn.Sequential(*(layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), _leaky())))


def _halving(channels: Sequence[int], kernels: Sequence[int]) -> nn.Sequential:
    """Convolutions of stride 2, each with a leaky ReLU; the sides halve, rounded down for an even kernel."""
    layers: list[nn.Module] = []
    for (before, after), kernel in zip(pairwise(channels), kernels, strict=True):
        layers += [nn.Conv2d(before, after, kernel, stride=2, padding=(kernel - 1) // 2), _leaky()]
    return nn.Sequential(*layers)


class Image(nn.Module):
    """RGB pixels of 0 to 255, [N, 128, 128, 3], to [N, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = _halving((3, 16, 32, 64, 64, 128, LATENT), (7, 5, 5, 3, 3, 3))
        self.linear = nn.Linear(4 * LATENT, 2 * LATENT)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.linear(self.convs((pixels / 255).permute(0, 3, 1, 2)).flatten(1))


class Depth(nn.Module):
    """Distances in metres, [N, 1, 128, 128], to [N, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = _halving((1, 32, 64, 64, 64, 128, LATENT), (3, 3, 4, 3, 3, 3))
        self.linear = nn.Linear(4 * LATENT, 2 * LATENT)

    def forward(self, depth: torch.Tensor) -> torch.Tensor:
        sound = torch.where((depth > NEAREST_M) & (depth < FARTHEST_M), depth, 0.0)
        return self.linear(self.convs(sound).flatten(1))


class CausalConv(nn.Conv1d):
    """A 1-d convolution padded at both ends, whose columns past the present are computed and cut off."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__(before, after, kernel, stride=stride, padding=kernel - 1)
        self.ahead = kernel - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[:, :, : -self.ahead]


class Force(nn.Module):
    """The last 32 readings of six forces and torques, [N, 6, 32], to [N, 256]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 16, 32, 64, 128, 2 * LATENT)
        layers = (layer for pair in pairwise(widths) for layer in (CausalConv(*pair, 2, stride=2), _leaky()))
        self.convs = nn.Sequential(*layers)

    def forward(self, force: torch.Tensor) -> torch.Tensor:
        return self.convs(force)[:, :, 0]


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "image": Image,
    "force": Force,
    "proprio": partial(_dense, 8, 32, 64, 128, 2 * LATENT),
    "depth": Depth,
    "action": partial(_dense, 4, 32, FEATURES["action"]),
}


class ProjectedTensor(nn.Module):
    """The outer product of the modalities, each brought to ``width`` features by a linear layer."""

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(item, width) for item in widths)
        self.product = TensorFusion([width] * len(widths))
        self.width = self.product.width

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return self.product([layer(part) for layer, part in zip(self.project, parts, strict=True)])


class ProductOfExperts(nn.Module):
    """Each of the four sensors gives the mean and the variance of a Gaussian; a state is drawn from their product with
    a standard normal prior and joined with the action.

    Lee et al.; SensorFusion in MMBench's models/fusions/robotics/sensor_fusion.py. Parts: four of [N, 256] and the
    action, [N, 32]; result: [N, 128].
    """

    width = LATENT

    def __init__(self) -> None:
        super().__init__()
        self.prior_mean = nn.Parameter(torch.zeros(LATENT), requires_grad=False)
        self.prior_variance = nn.Parameter(torch.ones(LATENT), requires_grad=False)
        self.join = _dense(LATENT + FEATURES["action"], 128, LATENT)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        *sensors, action = parts
        means, raw = torch.stack(sensors, dim=2).chunk(2, dim=1)
        prior = means.shape[0], -1, 1
        means = torch.cat([means, self.prior_mean[:, None].expand(prior)], dim=2)
        variances = functional.softplus(raw) + 1e-8
        precisions = 1 / torch.cat([variances, self.prior_variance[:, None].expand(prior)], dim=2)
        variance = 1 / precisions.sum(2)
        mean = (means * precisions).sum(2) * variance
        state = mean + variance.sqrt() * torch.randn_like(mean)
        return self.join(torch.cat([state, action], dim=1))


def _head(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def _fused(modalities: Sequence[str], fusion: nn.Module, head: nn.Module, drop: Sequence[str] = ()) -> MultiModal:
    encoders = {name: ENCODERS[name]() for name in modalities}
    return MultiModal(encoders, fusion, head, {name: (FEATURES[name],) for name in drop})


def _widths(modalities: Sequence[str]) -> list[int]:
    return [FEATURES[name] for name in modalities]


def low_rank(modalities: Sequence[str]) -> MultiModal:
    """Low-rank tensor fusion of rank 40 to 200 features."""
    return _fused(modalities, LowRankTensor(_widths(modalities), 200, 40), _head(200))


def concat(modalities: Sequence[str], fusion: str = "plain", drop: Sequence[str] = ()) -> MultiModal:
    """Concatenation, or an operator of MMBench's Table 1."""
    joined = table1(fusion, _widths(modalities))
    return _fused(modalities, joined, _head(joined.width), drop)


def concat_alone(modalities: Sequence[str]) -> MultiModal:
    """Concatenation without a classifier."""
    return _fused(modalities, table1("plain", _widths(modalities)), nn.Identity())


def tensor(modalities: Sequence[str], width: int) -> MultiModal:
    """The outer product of the modalities at ``width`` features each."""
    joined = ProjectedTensor(_widths(modalities), width)
    return _fused(modalities, joined, _head(joined.width))


def product_of_experts() -> MultiModal:
    """The network of the original paper with its contact decoder: one logit."""
    return _fused(tuple(ENCODERS), ProductOfExperts(), nn.Linear(LATENT, 1))


def single(modality: str) -> MultiModal:
    """One encoder and a classifier."""
    return MultiModal({modality: ENCODERS[modality]()}, None, _head(FEATURES[modality]))


class PrepareSensors(nn.Module):
    """The transforms of the data set: pixels to floats, the last 32 force readings squashed by tanh, depth to
    [N, 1, H, W]. Names that are not given are left out."""

    window = 32

    def forward(self, **raw: torch.Tensor) -> dict[str, torch.Tensor]:
        ready = dict(raw)
        if "image" in raw:
            ready["image"] = raw["image"].float()
        if "force" in raw:
            ready["force"] = raw["force"][:, -self.window :].tanh().transpose(1, 2)
        if "depth" in raw:
            ready["depth"] = raw["depth"].squeeze(3).unsqueeze(1)
        return ready
