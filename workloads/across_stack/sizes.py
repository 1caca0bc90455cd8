"""Sizes that follow from settings: of the resized photo, of feature maps, of pyramid levels. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from mmworkload.errors import ModelError

# Sides of the images that a pyramid takes are multiples of this.
MULTIPLE = 32


def resized(photo: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width of a photo whose short side becomes ``short_side``, unless the long one then is too long."""
    scale = min(short_side / min(photo), long_side / max(photo))
    return max(1, int(photo[0] * scale)), max(1, int(photo[1] * scale))


def padded(size: tuple[int, int]) -> tuple[int, int]:
    """Both sides up to the next multiple of 32."""
    return -(-size[0] // MULTIPLE) * MULTIPLE, -(-size[1] // MULTIPLE) * MULTIPLE


def after(size: int, kernel: int, stride: int, padding: int) -> int:
    """Side of what a convolution or a pooling gives."""
    return (size + 2 * padding - kernel) // stride + 1


def shares(text: str, count: int) -> tuple[int, ...]:
    """``50/25/15/10``: how many percent of the boxes each of ``count`` levels gets, the finest first.

    Raises ModelError unless there are that many whole numbers with the sum 100.
    """
    try:
        found = tuple(int(part) for part in text.split("/"))
    except ValueError:
        found = ()
    if len(found) != count or min(found) < 0 or sum(found) != 100:
        raise ModelError(
            f"level_shares={text}: give {count} whole percentages with slashes between and the sum 100, for the pyramid"
            " levels from fine to coarse, as in 50/25/15/10"
        )
    return found


def split(boxes: int, percent: Sequence[int]) -> tuple[int, ...]:
    """``boxes`` divided by percentages; the parts add up to all of them."""
    ends = [round(boxes * end / 100) for end in accumulate(percent)]
    return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))
