"""The networks of MM-IMDb: ALBERT for the plot, VGG-16 for the poster, and the ways to fuse them.

Sizes: MMBench, applications/MMimdb/inference.py, with MaxOut_MLP of models/unimodals/common_models.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mmworkload.workloads.blocks.fusion import LowRankTensor, Multiplicative, TensorFusion, table1
from mmworkload.workloads.blocks.images import PrepareImage
from mmworkload.workloads.blocks.multimodal import MultiModal
from mmworkload.workloads.blocks.tokens import HashTokens
from mmworkload.workloads.mm_imdb import VOCABULARY

GENRES = 23
# What the networks give before, and what they give after, their max-out layers.
RAW_FEATURES = {"text": 768, "image": 4096}
FEATURES = 512
# Means of blue, green and red that the Caffe version of VGG was trained with, for pixels of 0 to 255; no deviation.
CAFFE_MEAN = (103.939, 116.779, 123.68)


class Albert(nn.Module):
    """ALBERT-base: one layer applied twelve times. Token ids [N, L] to the state of the last token, [N, 768].

    The pooler runs, as in the public code, and nobody reads it.
    """

    def __init__(self) -> None:
        super().__init__()
        from transformers import AlbertConfig, AlbertModel

        config = AlbertConfig(
            vocab_size=VOCABULARY,
            embedding_size=128,
            hidden_size=RAW_FEATURES["text"],
            intermediate_size=3072,
            num_attention_heads=12,
            num_hidden_layers=12,
            num_hidden_groups=1,
            max_position_embeddings=512,
            attn_implementation="sdpa",
        )
        self.albert = AlbertModel(config)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.albert(input_ids=tokens).last_hidden_state[:, -1]


class Vgg(nn.Module):
    """VGG-16 without batch normalisation, with its classifier of 1000 classes and a linear layer: [N, 3, H, W] to
    [N, 4096]."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg16

        self.vgg = vgg16(weights=None, init_weights=False)
        self.linear = nn.Linear(1000, RAW_FEATURES["image"])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.linear(self.vgg(image))


class MaxOut(nn.Module):
    """The larger of two linear layers, feature by feature (Goodfellow et al., Maxout Networks, ICML 2013)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, 2 * after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).unflatten(-1, (-1, 2)).amax(-1)


def _max_out(before: int, hidden: int, after: int) -> list[nn.Module]:
    """Two max-out layers between three batch normalisations."""
    return [
        nn.BatchNorm1d(before, 1e-4),
        MaxOut(before, hidden),
        nn.BatchNorm1d(hidden),
        MaxOut(hidden, after),
        nn.BatchNorm1d(after),
    ]


ENCODERS: dict[str, Callable[[], nn.Module]] = {"text": Albert, "image": Vgg}
HIDDEN = {"text": 512, "image": 1024}


def _encoder(name: str) -> nn.Module:
    """The encoder ``name`` down to 512 features."""
    return nn.Sequential(ENCODERS[name](), *_max_out(RAW_FEATURES[name], HIDDEN[name], FEATURES))


def _late(fusion: Any, drop: Sequence[str] = ()) -> MultiModal:
    """512 features of each modality, joined by ``fusion``, and a linear classifier."""
    # What is dropped is not built: its weights would be drawn for nothing.
    encoders = {name: nn.Identity() if name in drop else _encoder(name) for name in ENCODERS}
    return MultiModal(encoders, fusion, nn.Linear(fusion.width, GENRES), dict.fromkeys(drop, (FEATURES,)))


def concat(fusion: str, drop: Sequence[str]) -> MultiModal:
    """Concatenation, or an operator of MMBench's Table 1."""
    return _late(table1(fusion, [FEATURES, FEATURES]), drop)


def tensor() -> MultiModal:
    """The outer product of the two, each with a one in front: 263,169 features."""
    return _late(TensorFusion([FEATURES, FEATURES]))


def low_rank() -> MultiModal:
    """Low-rank tensor fusion of rank 128."""
    return _late(LowRankTensor([FEATURES, FEATURES], FEATURES, 128))


def interaction() -> MultiModal:
    """A multiplicative interaction with a full weight tensor."""
    return _late(Multiplicative([FEATURES, FEATURES], 1024, "matrix"))


def early(fusion: str, drop: Sequence[str]) -> MultiModal:
    """The networks' own features are joined, and the max-out layers follow."""
    joined: Any = table1(fusion, list(RAW_FEATURES.values()))
    encoders = {name: nn.Identity() if name in drop else build() for name, build in ENCODERS.items()}
    head = nn.Sequential(*_max_out(joined.width, 512, 512), nn.Linear(512, GENRES))
    return MultiModal(encoders, joined, head, {name: (RAW_FEATURES[name],) for name in drop})


def single(name: str) -> MultiModal:
    """One encoder and a classifier of two layers."""
    head = nn.Sequential(nn.Linear(FEATURES, 512), nn.ReLU(), nn.Linear(512, GENRES))
    return MultiModal({name: _encoder(name)}, None, head)


def single_alone(name: str) -> MultiModal:
    """One encoder without its max-out layers and without a classifier."""
    return MultiModal({name: ENCODERS[name]()}, None, nn.Identity())


class Prepare(nn.Module):
    """Text bytes, uint8 [N, B], to token ids [N, tokens]; poster pixels, uint8 [N, H, W, 3], to BGR with the means
    taken off, [N, 3, size, size]. Names that are not given are left out."""

    def __init__(self, tokens: int, image_size: int) -> None:
        super().__init__()
        self.text = HashTokens(VOCABULARY, tokens)
        self.image = PrepareImage(image_size, [mean / 255 for mean in CAFFE_MEAN], [1 / 255] * 3, bgr=True)

    def forward(self, **raw: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name)(value) for name, value in raw.items()}
