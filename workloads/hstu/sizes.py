"""Sizes of HSTU. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

# Steps of the logarithm of time that have a bias of their own.
BUCKETS = 128


@dataclass(frozen=True)
class Size:
    """One configuration.

    ``affine``: norms with weights, a bias in the input projection, a norm for each head (the ranking code); without,
    the research code. ``biased``: attention knows distance and time. ``table_width`` of embeddings where it is not
    ``width``; ``actions`` that a user may take.
    """

    width: int
    layers: int
    heads: int
    key_width: int
    value_width: int
    length: int
    items: int
    affine: bool = False
    biased: bool = True
    table_width: int = 0
    actions: int = 0


# Public configurations of generative-recommenders: items seen, and ten places and one for what is to come. How many
# items there are: MovieLens and Amazon's catalogue after the code's filtering; tables do not change the arithmetic.
RESEARCH = {
    "ml-1m": Size(50, 2, 1, 50, 50, 211, 3_953),
    "ml-1m-large": Size(50, 8, 2, 25, 25, 211, 3_953),
    "ml-20m-large": Size(256, 16, 8, 32, 32, 211, 131_263),
    "ml-3b-large": Size(256, 16, 8, 32, 32, 511, 855_776),
    "amzn-books-large": Size(64, 16, 8, 8, 8, 61, 695_763),
}
DLRM = {
    "dlrm-v3": Size(512, 3, 4, 128, 128, 8192, 10_000_000, True, False, 256, 16),
    "dlrm": Size(256, 12, 1, 128, 256, 2056, 10_000_000, True, False, 192, 16),
}
