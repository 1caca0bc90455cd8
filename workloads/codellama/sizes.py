"""Sizes of Code Llama. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """``kv_heads`` fewer than ``heads``: keys and values are shared by groups of heads."""

    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    positions: int = 16384

    @property
    def head_width(self) -> int:
        return self.width // self.heads


SIZES = {
    "7b": Size(4096, 11008, 32, 32, 32, 32016),
    "34b": Size(8192, 22016, 48, 64, 8, 32000),
}
