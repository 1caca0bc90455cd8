"""Fusion operators: the six of MMBench's Table 1, tensor fusion, low-rank tensor fusion, multiplicative interactions.

Every module takes the list of encoded parts: [N, w_i] vectors or [N, T, w_i] sequences, unless it says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from mmworkload.errors import ModelError, UnknownNameError
from mmworkload.workloads.blocks.stages import FUSIONS

# An outer product of Table 1 has at most so many elements a sample; wider parts are projected first.
LARGEST_OUTER_PRODUCT = 65536


class Fusion(nn.Module):
    """A module with ``forward(parts)``; ``width`` is the last axis of what it gives."""

    width: int


def table1(name: str, widths: Sequence[int]) -> Fusion:
    """The operator ``name`` of MMBench's Table 1 for parts of ``widths``; ``plain`` is the concatenation alone.

    ``plain``, ``zero`` and ``tensor`` are as wide as their formula makes them; the others give the largest of
    ``widths``, to which parts of another width are projected. Raises UnknownNameError for another name, ModelError for
    fewer than two parts.
    """
    if len(widths) < 2:
        raise ModelError(f"fusion '{name}' joins at least two parts, not {len(widths)}")
    operators: dict[str, Callable[[Sequence[int]], Fusion]] = {
        "plain": Plain,
        "zero": Zero,
        "sum": Sum,
        "concat": ConcatReLU,
        "tensor": OuterProduct,
        "attention": Attention,
        "linear-glu": LinearGLU,
    }
    if name not in operators:
        raise UnknownNameError("fusion", name, FUSIONS)
    return operators[name](widths)


class Plain(Fusion):
    """Concatenation of the last axes: ``[x, y]``."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = sum(widths)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts, dim=-1)


class Zero(Fusion):
    """Zeros, as wide as the concatenation: what the encoders found is thrown away."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = sum(widths)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return parts[0].new_zeros(*parts[0].shape[:-1], self.width)


class Aligned(nn.Module):
    """Parts of one width, the largest: narrower ones are projected to it, without bias."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = max(widths)
        self.projections = nn.ModuleList(
            nn.Identity() if width == self.width else nn.Linear(width, self.width, bias=False) for width in widths
        )

    def forward(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        return [project(part) for project, part in zip(self.projections, parts, strict=True)]


class Sum(Fusion):
    """``x + y``, after narrower parts are projected to the largest width."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.aligned = Aligned(widths)
        self.width = self.aligned.width

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        first, *others = self.aligned(parts)
        for part in others:
            first = first + part
        return first


class ConcatReLU(Fusion):
    """``ReLU([x, y] W + b)``, as wide as the widest part."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = max(widths)
        self.linear = nn.Linear(sum(widths), self.width)
        self.relu = nn.ReLU()

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return self.relu(self.linear(torch.cat(parts, dim=-1)))


class OuterProduct(Fusion):
    """``x (x) y``, flattened. Parts too wide for LARGEST_OUTER_PRODUCT are first projected to an even share of it."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        share = max(widths)
        if math.prod(widths) > LARGEST_OUTER_PRODUCT:
            share = _root(LARGEST_OUTER_PRODUCT, len(widths))
        self.projections = nn.ModuleList(
            nn.Linear(width, share, bias=False) if width > share else nn.Identity() for width in widths
        )
        self.width = math.prod(min(width, share) for width in widths)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return outer_product([project(part) for project, part in zip(self.projections, parts, strict=True)])


class Attention(Fusion):
    """``softmax(x y^T / sqrt(C)) y``: the first part asks, the others are keys and values.

    A vector is one token, a sequence one for each step; tokens have the largest width C. The result has the shape of
    the first part. With two vectors the softmax is over one key.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.aligned = Aligned(widths)
        self.width = self.aligned.width

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        x, *others = (part if part.dim() > 2 else part.unsqueeze(1) for part in self.aligned(parts))
        y = torch.cat(others, dim=1) if len(others) > 1 else others[0]
        attended = F.scaled_dot_product_attention(x, y, y)
        return attended if parts[0].dim() > 2 else attended.squeeze(1)


class LinearGLU(Fusion):
    """``x W1 * sigmoid(y W2)``, x the first part, y the others side by side; as wide as the widest part."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = max(widths)
        self.value = nn.Linear(widths[0], self.width, bias=False)
        self.gate = nn.Linear(sum(widths[1:]), self.width, bias=False)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        x, *others = parts
        y = torch.cat(others, dim=-1) if len(others) > 1 else others[0]
        return self.value(x) * torch.sigmoid(self.gate(y))


class Concat(nn.Module):
    """Concatenation of everything that a part holds but its batch: [N, ...] to [N, sum]."""

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([part if part.dim() == 2 else part.flatten(1) for part in parts], dim=1)


class EarlyConcat(nn.Module):
    """Concatenation step by step, before anything recurrent: [N, T, w_i] to [N, T, sum]."""

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts, dim=2)


class ConcatLinear(Fusion):
    """The parts joined by ``fusion`` of Table 1, plainly by default, and a linear layer to ``out``."""

    def __init__(self, widths: Sequence[int], out: int, fusion: str = "plain") -> None:
        super().__init__()
        self.join = table1(fusion, widths)
        self.linear = nn.Linear(self.join.width, out)
        self.width = out

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return self.linear(self.join(parts))


class TensorFusion(Fusion):
    """The outer product of all ``[1, x_i]``, flattened (Zadeh et al., Tensor Fusion Network, EMNLP 2017)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.width = math.prod(width + 1 for width in widths)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return outer_product([_with_one(part) for part in parts])


class LowRankTensor(Fusion):
    """Tensor fusion and a linear layer to ``out`` at once, its weight of ``rank`` factors for each part; vectors only.

    Liu et al., Efficient Low-rank Multimodal Fusion with Modality-specific Factors, ACL 2018.
    """

    def __init__(self, widths: Sequence[int], out: int, rank: int) -> None:
        super().__init__()
        self.width = out
        self.factors = nn.ParameterList(_weight(rank, width + 1, out) for width in widths)
        self.weights = _weight(1, rank)
        self.bias = nn.Parameter(torch.zeros(1, out))

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        product = None
        for part, factor in zip(parts, self.factors, strict=True):
            # [N, w + 1] by [rank, w + 1, out]
            projected = torch.matmul(_with_one(part), factor)
            product = projected if product is None else product * projected
        if product is None:
            raise ModelError("low-rank tensor fusion has no parts to join")
        return torch.matmul(self.weights, product.permute(1, 0, 2)).squeeze(1) + self.bias


class Multiplicative(Fusion):
    """``x^T W y + x^T U + V y + b`` of two vectors (Jayakumar et al., Multiplicative Interactions, ICLR 2020).

    ``matrix``: W is a full tensor, ``out`` wide. ``vector``: its diagonal form, ``y`` scaled feature by feature.
    ``scalar``: ``y`` scaled by one number. The last two are as wide as ``y``. Raises ModelError for another kind, for
    other than two parts, and for an ``out`` that a kind cannot give.
    """

    KINDS = ("matrix", "vector", "scalar")

    def __init__(self, widths: Sequence[int], out: int, kind: str) -> None:
        super().__init__()
        if len(widths) != 2:
            raise ModelError(f"a multiplicative interaction joins two parts, not {len(widths)}")
        if kind not in self.KINDS:
            raise UnknownNameError("kind of multiplicative interaction", kind, self.KINDS)
        x, y = widths
        if kind != "matrix" and out != y:
            raise ModelError(f"a {kind} interaction is as wide as its second part, {y}, not {out}")
        self.kind = kind
        self.width = out
        shapes = {
            "matrix": ((x, y, out), (x, out), (y, out), (out,)),
            "vector": ((x, y), (x, y), (y,), (y,)),
            "scalar": ((x, 1), (x, 1), (1,), (1,)),
        }
        self.w, self.u, self.v, self.b = (_weight(*shape) for shape in shapes[kind])

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        x, y = parts
        offset = torch.matmul(x, self.u) + self.b
        if self.kind == "matrix":
            # x makes the weights of a linear layer for each sample, which y goes through.
            weights = torch.einsum("bn,nmd->bmd", x, self.w) + self.v
            return torch.einsum("bm,bmd->bd", y, weights) + offset
        return (torch.matmul(x, self.w) + self.v) * y + offset


def outer_product(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """[..., w_1], [..., w_2], ... to [..., w_1 * w_2 * ...], one part after the other."""
    product = parts[0]
    for part in parts[1:]:
        product = torch.einsum("...i,...j->...ij", product, part).flatten(-2)
    return product


def _with_one(part: torch.Tensor) -> torch.Tensor:
    """``[1, x]`` along the last axis."""
    return torch.cat([part.new_ones(*part.shape[:-1], 1), part], dim=-1)


def _weight(*shape: int) -> nn.Parameter:
    """Random values that keep the size of what is summed over the last axis but one."""
    fan_in = shape[-2] if len(shape) > 1 else 1
    return nn.Parameter(torch.randn(*shape) / math.sqrt(fan_in))


def _root(number: int, degree: int) -> int:
    """The largest integer whose ``degree``-th power is at most ``number``."""
    root = round(number ** (1 / degree))
    return root if root**degree <= number else root - 1
