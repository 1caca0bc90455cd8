"""Sizes of Chameleon. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

# The image tokenizer: pixels a side of one token, entries of the codebook, their width.
PATCH, CODES, CODE_WIDTH = 16, 8192, 256
# Words of the vocabulary that are image tokens: these, from the first on.
FIRST_IMAGE_WORD = 4
VOCABULARY = 65536


@dataclass(frozen=True)
class Size:
    """``post_norm``: blocks normalise what leaves attention and feed-forward instead of what enters."""

    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    post_norm: bool
    vocabulary: int = VOCABULARY
    positions: int = 4096

    @property
    def head_width(self) -> int:
        return self.width // self.heads


SIZES = {
    "7b": Size(4096, 11008, 32, 32, 32, False),
    "34b": Size(8192, 22016, 48, 64, 8, True),
}
