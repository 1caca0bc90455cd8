"""Photos to what the networks take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class Prepare(nn.Module):
    """Photos, uint8 [N, H, W, 3] in RGB, to ``image``, float32 [N, 3, h, w].

    They are ``resized`` (bilinear, anti-aliased when they shrink); the middle ``crop`` is cut out, if given; ``mean``
    is taken off and the rest divided by ``std``, for pixels of 0 to 255; zeros below and right fill up to ``full``.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        resized: tuple[int, int],
        crop: tuple[int, int] | None,
        full: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.resized, self.crop, self.full = resized, crop, full
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        image = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        shrinks = self.resized[0] < image.shape[2] or self.resized[1] < image.shape[3]
        image = functional.interpolate(image, size=self.resized, mode="bilinear", antialias=shrinks)
        if self.crop:
            top, left = (self.resized[0] - self.crop[0]) // 2, (self.resized[1] - self.crop[1]) // 2
            image = image[:, :, top : top + self.crop[0], left : left + self.crop[1]]
        image = (image - self.mean) * self.scale
        below, right = self.full[0] - image.shape[2], self.full[1] - image.shape[3]
        return {"image": functional.pad(image, (0, right, 0, below)) if below or right else image}
