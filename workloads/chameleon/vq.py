"""The image tokenizer of Chameleon: pixels to codes by transformers' encoder, codes to pixels by the decoder here.

The decoder mirrors the encoder, as in VQGAN (Esser et al., Taming transformers, CVPR 2021): residual blocks and one
attention at the lowest resolution, then at each level one residual block more than the encoder has, and between levels
an enlargement to twice the side by repeating pixels and a 3x3 convolution.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import ChameleonVQVAEConfig
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE

from mmworkload.workloads.chameleon.sizes import CODE_WIDTH, CODES, FIRST_IMAGE_WORD


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels), channels, eps=1e-6)


def configuration(side: int, channels: int = 128) -> ChameleonVQVAEConfig:
    """For images of ``side`` pixels; ``channels`` of the first level."""
    return ChameleonVQVAEConfig(
        embed_dim=CODE_WIDTH, num_embeddings=CODES, resolution=side, base_channels=channels, attn_resolutions=None
    )


class Residual(nn.Module):
    """Two 3x3 convolutions, each behind a norm and a swish, beside the input or its 1x1 convolution."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(width), nn.Conv2d(width, out, 3, padding=1)
        self.norm2, self.conv2 = _norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        y = self.conv2(nn.functional.silu(self.norm2(y)))
        return self.shortcut(x) + y


class PixelAttention(nn.Module):
    """Every pixel attends to every other, one head: [N, width, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q, self.k, self.v, self.out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        q, k, v = (part(y).flatten(2).transpose(1, 2)[:, None] for part in (self.q, self.k, self.v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(seen[:, 0].transpose(1, 2).reshape(x.shape))


class Level(nn.Module):
    """Residual blocks at one resolution, and the way to the next."""

    def __init__(self, width: int, out: int, blocks: int, grow: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual(width if index == 0 else out, out) for index in range(blocks)))
        self.enlarge = nn.Upsample(scale_factor=2.0, mode="nearest") if grow else None
        self.conv = nn.Conv2d(out, out, 3, padding=1) if grow else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(x)
        return x if self.enlarge is None or self.conv is None else self.conv(self.enlarge(x))


class Decoder(nn.Module):
    """Latent features [N, latent, H, W] to pixels [N, 3, 16 H, 16 W]; sizes from the encoder's configuration."""

    def __init__(self, config: ChameleonVQVAEConfig) -> None:
        super().__init__()
        widths = [config.base_channels * factor for factor in config.channel_multiplier]
        low = widths[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, low, 3, padding=1)
        self.middle = nn.Sequential(Residual(low, low), PixelAttention(low), Residual(low, low))
        before = [low, *reversed(widths[1:])]
        levels = zip(before, reversed(widths), range(len(widths) - 1, -1, -1), strict=True)
        self.levels = nn.Sequential(*(Level(a, b, config.num_res_blocks + 1, index > 0) for a, b, index in levels))
        self.norm_out, self.conv_out = _norm(widths[0]), nn.Conv2d(widths[0], config.in_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.levels(self.middle(self.conv_in(x)))
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


class ImageEncoder(nn.Module):
    """Pixels [N, 3, side, side] to the words of an image [N, (side / 16)^2]."""

    words: torch.Tensor

    def __init__(self, config: ChameleonVQVAEConfig) -> None:
        super().__init__()
        self.vqmodel = ChameleonVQVAE(config)
        # What only a decoder needs.
        self.vqmodel.post_quant_conv = nn.Identity()
        words = torch.arange(config.num_embeddings, device="cpu") + FIRST_IMAGE_WORD
        self.register_buffer("words", words.to(self.vqmodel.quant_conv.weight.device), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        latent = self.vqmodel.quant_conv(self.vqmodel.encoder(image))
        codes = self.vqmodel.quantize(latent)[2]
        return self.words[codes].view(image.shape[0], -1)


class ImageDecoder(nn.Module):
    """The words of an image [N, (side / 16)^2] to pixels [N, 3, side, side]."""

    codes: torch.Tensor

    def __init__(self, config: ChameleonVQVAEConfig, side: int, vocabulary: int) -> None:
        super().__init__()
        # From words to codes; words of text, which are never drawn, have the code at the nearer end.
        codes = (torch.arange(vocabulary, device="cpu") - FIRST_IMAGE_WORD).clamp(0, config.num_embeddings - 1)
        self.register_buffer("codes", codes.to(torch.empty(0).device), persistent=False)
        self.rows = side // 2 ** (len(config.channel_multiplier) - 1)
        self.codebook = nn.Embedding(config.num_embeddings, config.embed_dim)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.latent_channels, 1)
        self.image_decoder = Decoder(config)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        found = self.codebook(self.codes[words]).transpose(1, 2)
        return self.image_decoder(self.post_quant_conv(found.reshape(*found.shape[:2], self.rows, self.rows)))
