"""HSTU: hierarchical sequential transduction units (Zhai et al., Actions speak louder than words, ICML 2024).

A block turns its input into gates, values, queries and keys at once, attends without a softmax, and gates what
it finds. Sequences are padded to one length: the jagged form of the public code needs operators that are not in torch.
"""

from __future__ import annotations

import torch
from torch import nn

from mmworkload.workloads.hstu.sizes import BUCKETS, Size


class Bias(nn.Module):
    """Attention bias [N, L, L] by the distance of two places and by the logarithm of the time between them."""

    distance: torch.Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.by_distance = nn.Parameter(torch.zeros(2 * length - 1))
        self.by_time = nn.Parameter(torch.zeros(BUCKETS + 1))
        place = torch.arange(length, device="cpu")
        distance = place[None] - place[:, None] + length - 1
        self.register_buffer("distance", distance.to(self.by_time.device), persistent=False)

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        apart = (times[:, :, None] - times[:, None, :]).abs().clamp(min=1)
        bucket = (torch.log(apart.to(self.by_time.dtype)) / 0.301).to(torch.int64).clamp(0, BUCKETS)
        return self.by_distance[self.distance][None] + self.by_time[bucket]


class PointwiseAttention(nn.Module):
    """``silu(q k^T + bias) / length`` under a causal mask, times the values; [N, L, heads, width] each."""

    mask: torch.Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        mask = torch.ones(length, length, device="cpu").tril()
        self.register_buffer("mask", mask.to(torch.empty(0).device), persistent=False)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        scores = torch.einsum("nlhd,nmhd->nhlm", q, k)
        if bias is not None:
            scores = scores + bias[:, None]
        weights = nn.functional.silu(scores) / self.length * self.mask
        return torch.einsum("nhlm,nmhd->nlhd", weights, v)


class Block(nn.Module):
    """[N, L, width] to the same. ``joined``: the output sees gates, attention and their product side by side."""

    def __init__(self, size: Size, length: int, joined: bool) -> None:
        super().__init__()
        self.size, self.joined = size, joined
        both = size.heads * size.value_width
        self.input_norm = nn.LayerNorm(size.width, elementwise_affine=size.affine)
        inner = 2 * size.heads * (size.value_width + size.key_width)
        self.uvqk = nn.Linear(size.width, inner, bias=size.affine)
        self.bias = Bias(length) if size.biased else None
        self.attention = PointwiseAttention(length)
        self.output_norm: nn.Module = (
            nn.GroupNorm(size.heads, both) if size.affine else nn.LayerNorm(both, elementwise_affine=False)
        )
        self.output = nn.Linear(3 * both if joined else both, size.width, bias=not size.affine)

    def forward(self, x: torch.Tensor, times: torch.Tensor | None = None) -> torch.Tensor:
        size = self.size
        values, keys = size.heads * size.value_width, size.heads * size.key_width
        u, v, q, k = nn.functional.silu(self.uvqk(self.input_norm(x))).split([values, values, keys, keys], dim=-1)
        heads = (*x.shape[:2], size.heads, -1)
        bias = self.bias(times) if self.bias is not None and times is not None else None
        y = self.attention(q.view(heads), k.view(heads), v.view(heads), bias).flatten(2)
        normed = self.output_norm(y.flatten(0, 1)).view(y.shape)
        gated = u * normed
        return x + self.output(torch.cat([u, y, gated], dim=-1) if self.joined else gated)


class Retrieval(nn.Module):
    """The research model: items seen, [N, L], and when, to scores of candidates, [N, candidates]."""

    def __init__(self, size: Size, length: int, layers: int, items: int) -> None:
        super().__init__()
        self.embed_items = nn.Embedding(items, size.width)
        self.embed_places = nn.Embedding(length, size.width)
        self.blocks = nn.ModuleList(Block(size, length, joined=False) for _ in range(layers))

    def forward(self, items: torch.Tensor, times: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        places = torch.arange(items.shape[1], device=items.device)
        x = self.embed_items(items) * self.embed_items.embedding_dim**0.5 + self.embed_places(places)
        for block in self.blocks:
            x = block(x, times)
        last = nn.functional.normalize(x[:, -1], dim=-1)
        found = nn.functional.normalize(self.embed_items(candidates), dim=-1)
        return torch.einsum("nd,ncd->nc", last, found)


class Ranking(nn.Module):
    """The ranking model: items and actions, [N, L], to a score of each of the last ``candidates`` items."""

    def __init__(self, size: Size, length: int, layers: int, items: int, candidates: int, joined: bool) -> None:
        super().__init__()
        self.candidates = candidates
        self.embed_items = nn.Embedding(items, size.table_width)
        self.embed_actions = nn.Embedding(size.actions, size.table_width)
        self.project = nn.Linear(size.table_width, size.width)
        self.blocks = nn.ModuleList(Block(size, length, joined) for _ in range(layers))
        self.output_norm = nn.LayerNorm(size.width)
        self.head = nn.Sequential(nn.Linear(size.width, size.width), nn.SiLU(), nn.Linear(size.width, 1))

    def forward(self, items: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        x = self.project(self.embed_items(items) + self.embed_actions(actions))
        for block in self.blocks:
            x = block(x)
        return self.head(self.output_norm(x[:, -self.candidates :])).squeeze(-1)
