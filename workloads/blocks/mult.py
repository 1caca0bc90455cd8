"""MulT: each modality attends to every modality, step by step (Tsai et al., Multimodal Transformer, ACL 2019).

In the form of MultiBench, which MMBench takes over: a modality also attends to itself in the cross-modal layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from mmworkload.errors import ModelError


class MulT(nn.Module):
    """Parts [N, T, w_i] to [N, T, out], or to [N, out] from the last steps when not ``all_steps``.

    1. Each part is projected to ``embed`` features by a convolution over one step.
    2. For each ordered pair of modalities, ``layers`` cross-modal layers: the steps of the first ask, those of the
       second are keys and values.
    3. What a modality heard is put side by side and goes through ``memory_layers`` self-attention layers.
    4. All of it side by side: two linear layers with a residual connection, and one to ``out``.

    ``memory_layers`` is by default ``layers``, but at least 3. ``causal``: a step sees none that follow. ``steps`` is
    the longest sequence that positions are kept for. Raises ModelError when ``heads`` cannot share ``embed`` features,
    and in ``forward`` for a longer sequence.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        embed: int,
        heads: int,
        layers: int,
        out: int,
        all_steps: bool,
        memory_layers: int | None = None,
        causal: bool = True,
        steps: int = 1024,
    ) -> None:
        super().__init__()
        if embed % heads or embed % 2:
            raise ModelError(f"MulT: {embed} features must be even, and a multiple of the {heads} heads")
        joined = len(widths) * embed
        depth = max(layers, 3) if memory_layers is None else memory_layers
        self.width = out
        self.all_steps = all_steps
        self.steps = steps
        self.project = nn.ModuleList(nn.Conv1d(width, embed, 1, bias=False) for width in widths)
        self.streams = nn.ModuleList(Stream(len(widths), embed, heads, layers, depth, causal) for _ in widths)
        self.residual = nn.Sequential(
            nn.Linear(len(widths) * joined, len(widths) * joined),
            nn.ReLU(),
            nn.Linear(len(widths) * joined, len(widths) * joined),
        )
        self.out = nn.Linear(len(widths) * joined, out)
        self.cross_positions: torch.Tensor
        self.memory_positions: torch.Tensor
        self.register_buffer("cross_positions", sinusoids(steps, embed), persistent=False)
        self.register_buffer("memory_positions", sinusoids(steps, joined), persistent=False)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        longest = max(part.shape[1] for part in parts)
        if longest > self.steps:
            raise ModelError(f"MulT keeps positions for {self.steps} steps, the input has {longest}")
        sources = [
            project(part.transpose(1, 2)).transpose(1, 2) for project, part in zip(self.project, parts, strict=True)
        ]
        heard = [
            stream(query, sources, self.cross_positions, self.memory_positions)
            for stream, query in zip(self.streams, sources, strict=True)
        ]
        joined = torch.cat([part if self.all_steps else part[:, -1] for part in heard], dim=-1)
        return self.out(self.residual(joined) + joined)


class Stream(nn.Module):
    """One modality: it attends to each of ``sources``, and then over what it heard, [N, T, sources * embed]."""

    def __init__(self, sources: int, embed: int, heads: int, layers: int, memory_layers: int, causal: bool) -> None:
        super().__init__()
        self.cross = nn.ModuleList(Encoder(embed, heads, layers, causal, cross=True) for _ in range(sources))
        self.memory = Encoder(sources * embed, heads, memory_layers, causal, cross=False)

    def forward(
        self,
        query: torch.Tensor,
        sources: list[torch.Tensor],
        cross_positions: torch.Tensor,
        memory_positions: torch.Tensor,
    ) -> torch.Tensor:
        heard = [encoder(query, cross_positions, source) for encoder, source in zip(self.cross, sources, strict=True)]
        return self.memory(torch.cat(heard, dim=-1), memory_positions)


class Encoder(nn.Module):
    """Layers over [N, T, width], then a layer norm. ``source``, for cross-modal layers, stays the same for all."""

    def __init__(self, width: int, heads: int, layers: int, causal: bool, *, cross: bool) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.layers = nn.ModuleList(Layer(width, heads, causal, cross=cross) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, source: torch.Tensor | None = None) -> torch.Tensor:
        def placed(part: torch.Tensor) -> torch.Tensor:
            return self.scale * part + positions[: part.shape[1]]

        x = placed(x)
        # Keys and values are two tensors from here on, as in the public code.
        asked = [] if source is None else [placed(source), placed(source)]
        for layer in self.layers:
            x = layer(x, *asked)
        return self.norm(x)


class Layer(nn.Module):
    """Attention and a feed-forward network of four times the width, each behind a norm and beside a residual.

    In a cross-modal layer keys and values are normed one by one, by the norm of the queries.
    """

    def __init__(self, width: int, heads: int, causal: bool, *, cross: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads, causal) if cross else SelfAttention(width, heads, causal)
        self.forward_norm = nn.LayerNorm(width)
        self.forward_network = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, *asked: torch.Tensor) -> torch.Tensor:
        """``asked``: keys and values of a cross-modal layer."""
        x = x + self.attention(*(self.attention_norm(part) for part in (x, *asked)))
        return x + self.forward_network(self.forward_norm(x))


class Attention(nn.Module):
    """Heads of ``width / heads`` features, and a linear layer behind them."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.out = nn.Linear(width, width)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(attended.transpose(1, 2).flatten(2))


class SelfAttention(Attention):
    """Queries, keys and values by one product of ``width`` by three times the width."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__(width, heads, causal)
        self.project = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attend(*self.project(x).chunk(3, dim=-1))


class CrossAttention(Attention):
    """Queries, keys and values by three products of ``width`` by ``width``: each is its own tensor."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__(width, heads, causal)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return self.attend(self.query(x), self.key(keys), self.value(values))


def sinusoids(steps: int, width: int) -> torch.Tensor:
    """[steps, width]: sines and cosines of each position, wavelengths from 2 pi to 10,000 times that (Vaswani 2017)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / max(1, half - 1)))
    angles = torch.arange(1, steps + 1)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
