"""AV-MNIST: digits seen (image) and heard (spectrogram).

Sizes: MMBench's public code, applications/Avmnist: the encoders are convolutional networks of a 5x5 convolution and
three (image) or five (audio) 3x3 convolutions that double the channels, each with batch normalisation, ReLU and 2x2 max
pooling; global pools of each block are computed and thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.models import Family, InputSpec, Variant

if TYPE_CHECKING:
    import torch

SOURCE = "MMBench (IISWC 2023), applications/Avmnist"


def _image(batch: int) -> InputSpec:
    return InputSpec("image", (batch, 1, 28, 28))


def _audio(batch: int) -> InputSpec:
    return InputSpec("audio", (batch, 1, 112, 112))


def _lenet(blocks: int, channels: int = 6) -> torch.nn.Module:
    """[N, 1, H, W] to [N, channels * 2^blocks]: a 5x5 convolution, then ``blocks`` of 3x3."""
    from torch import nn

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [channels * 2**i for i in range(blocks + 1)]
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

    return LeNet()


def _head(width: int, hidden: int, classes: int) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def _concat() -> torch.nn.Module:
    import torch
    from torch import nn

    class Concat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoders = nn.ModuleDict({"image": _lenet(3), "audio": _lenet(5)})
            self.head = _head(48 + 192, 100, 10)

        def forward(self, image: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            fused = torch.cat([self.encoders["image"](image), self.encoders["audio"](audio)], dim=1)
            return self.head(fused)

    return Concat()


def _single(name: str) -> torch.nn.Module:
    from torch import nn

    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # The public code narrows the image network to 3 channels when it stands alone.
            blocks, channels = (3, 3) if name == "image" else (5, 6)
            self.encoder = _lenet(blocks, channels)
            self.head = _head(channels * 2**blocks, 100, 10)

    class Image(Single):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(image))

    class Audio(Single):
        def forward(self, audio: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(audio))

    return Image() if name == "image" else Audio()


FAMILY = Family(
    description="digit classification from an image and a spectrogram",
    dataset="AV-MNIST: MNIST digits paired with spoken digits (Vielzeuf et al., CentralNet, 2018)",
    variants=(
        Variant(
            name="concat",
            source=SOURCE,
            build=_concat,
            inputs=lambda batch: (_image(batch), _audio(batch)),
            stages={"encoders.image": "encoder/image", "encoders.audio": "encoder/audio", "head": "head"},
            aliases=("slf", "slfs", "late"),
        ),
        Variant(
            name="image",
            source=SOURCE,
            build=lambda: _single("image"),
            inputs=lambda batch: (_image(batch),),
            stages={"encoder": "encoder/image", "head": "head"},
            aliases=("uni-image",),
        ),
        Variant(
            name="audio",
            source=SOURCE,
            build=lambda: _single("audio"),
            inputs=lambda batch: (_audio(batch),),
            stages={"encoder": "encoder/audio", "head": "head"},
            aliases=("uni-audio",),
        ),
    ),
)
