"""The networks of AV-MNIST. ``channels`` is what the first convolution of an encoder gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mmworkload.workloads.blocks.audio import RANGE_DB, Spectrum, decibels
from mmworkload.workloads.blocks.fusion import LowRankTensor, Multiplicative, TensorFusion, table1
from mmworkload.workloads.blocks.layers import mlp
from mmworkload.workloads.blocks.multimodal import MultiModal

CLASSES = 10
HIDDEN = 100
# Doublings of the channels in each encoder: 28 and 112 pixels a side become one.
BLOCKS = {"image": 3, "audio": 5}
# Features of the latent state in the variational and the factorized network.
LATENT = 200


class LeNet(nn.Module):
    """[N, 1, H, W] to [N, width]: a 5x5 convolution, then ``blocks`` of 3x3, each with 2x2 pooling, to one pixel."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        widths = [channels * 2**block for block in range(blocks + 1)]
        self.width = widths[-1]
        self.convs = nn.ModuleList([nn.Conv2d(1, channels, 5, padding=2, bias=False)])
        self.convs.extend(nn.Conv2d(width, 2 * width, 3, padding=1, bias=False) for width in widths[:-1])
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.pool(self.relu(norm(conv(x))))
            # Runs, and nobody reads it: the original does so too.
            x.mean(dim=(2, 3))
        return x.flatten(1)


class ProductOfExperts(nn.Module):
    """Means and log-variances side by side, [N, 2 w] of each modality, to the mean [N, w] of their product.

    A standard normal prior is one expert more (Wu and Goodman, Multimodal generative models, NeurIPS 2018).
    """

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        width = parts[0].shape[-1] // 2
        prior = parts[0].new_zeros(1, parts[0].shape[0], width)
        means = torch.cat([prior, *(part[None, :, :width] for part in parts)])
        logarithms = torch.cat([prior, *(part[None, :, width:] for part in parts)])
        precisions = 1 / (logarithms.exp() + 1e-8)
        total = precisions.sum(dim=0)
        # The log-variance of the product: runs, and nobody reads it in inference.
        (1 / total).log()
        return (means * precisions).sum(dim=0) / total


def _encoders(channels: int) -> dict[str, LeNet]:
    return {name: LeNet(channels, blocks) for name, blocks in BLOCKS.items()}


def _network(
    encoders: Mapping[str, nn.Module], widths: Sequence[int], fusion: nn.Module, head: nn.Module, drop: Sequence[str]
) -> MultiModal:
    """``widths`` of what the encoders give, in their order."""
    shapes = dict(zip(encoders, widths, strict=True))
    return MultiModal(encoders, fusion, head, {name: (shapes[name],) for name in drop})


def concat(channels: int, fusion: str, drop: Sequence[str]) -> MultiModal:
    widths = (8 * channels, 32 * channels)
    join = table1(fusion, widths)
    return _network(_encoders(channels), widths, join, mlp(join.width, HIDDEN, CLASSES), drop)


def tensor(channels: int, drop: Sequence[str]) -> MultiModal:
    widths = (8 * channels, 32 * channels)
    join = TensorFusion(widths)
    return _network(_encoders(channels), widths, join, mlp(join.width, HIDDEN, CLASSES), drop)


def interaction(channels: int, width: int, drop: Sequence[str]) -> MultiModal:
    widths = (8 * channels, 32 * channels)
    join = Multiplicative(widths, width, "matrix")
    return _network(_encoders(channels), widths, join, mlp(width, HIDDEN, CLASSES), drop)


def low_rank(channels: int, drop: Sequence[str]) -> MultiModal:
    widths = (8 * channels, 32 * channels)
    join = LowRankTensor(widths, 20 * channels, 40)
    return _network(_encoders(channels), widths, join, mlp(join.width, HIDDEN, CLASSES), drop)


def cca(channels: int, fusion: str, drop: Sequence[str]) -> MultiModal:
    """The audio encoder ends at the width of the image encoder, so that the two can be correlated."""
    encoders = _encoders(channels)
    width = encoders["image"].width
    narrowed = nn.Sequential(encoders["audio"], nn.Linear(encoders["audio"].width, width))
    join = table1(fusion, (width, width))
    head = nn.Linear(join.width, CLASSES)
    return _network({"image": encoders["image"], "audio": narrowed}, (width, width), join, head, drop)


def refnet(channels: int, fusion: str, drop: Sequence[str]) -> MultiModal:
    """The image encoder ends at the width of the audio encoder."""
    encoders = _encoders(channels)
    width = encoders["audio"].width
    widened = nn.Sequential(encoders["image"], nn.Linear(encoders["image"].width, width))
    join = table1(fusion, (width, width))
    head = mlp(join.width, HIDDEN, CLASSES)
    return _network({"image": widened, "audio": encoders["audio"]}, (width, width), join, head, drop)


def _latent(channels: int, width: int) -> dict[str, nn.Module]:
    return {name: nn.Sequential(net, nn.Linear(net.width, width)) for name, net in _encoders(channels).items()}


def factorized(channels: int, fusion: str, drop: Sequence[str]) -> MultiModal:
    join = table1(fusion, (LATENT, LATENT))
    fuse = nn.Sequential(join, mlp(join.width, LATENT, LATENT // 2))
    return _network(_latent(channels, LATENT), (LATENT, LATENT), fuse, mlp(LATENT // 2, 40, CLASSES), drop)


def variational(channels: int, drop: Sequence[str]) -> MultiModal:
    widths = (2 * LATENT, 2 * LATENT)
    return _network(_latent(channels, 2 * LATENT), widths, ProductOfExperts(), mlp(LATENT, 40, CLASSES), drop)


def single(name: str, channels: int) -> MultiModal:
    encoder = LeNet(channels, BLOCKS[name])
    return MultiModal({name: encoder}, None, mlp(encoder.width, HIDDEN, CLASSES))


class Prepare(nn.Module):
    """Grey pixels, uint8 [N, 28, 28], and a waveform [N, 8000] at 8 kHz to the network's ``image`` and ``audio``.

    The image is scaled to 0..1. The spectrogram has 112 frequencies up to 4 kHz and 112 frames of 222 samples, 9 ms
    apart; its upper 80 dB become 0..1. What is not given is not prepared.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum(fft=222, hop=72)

    def forward(
        self, pixels: torch.Tensor | None = None, waveform: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        ready = {}
        if pixels is not None:
            ready["image"] = pixels.unsqueeze(1).float() / 255
        if waveform is not None:
            level = decibels(self.spectrum(waveform).abs().square())
            loudest = level.amax(dim=(1, 2), keepdim=True)
            ready["audio"] = ((level - loudest) / RANGE_DB + 1).unsqueeze(1)
        return ready
