"""Pixels to the normalised squares that image networks take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

# Means and deviations of ImageNet for pixels of 0 to 1 (torchvision's convention).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PrepareImage(nn.Module):
    """Pixels, uint8 [N, H, W, 3] in RGB, to float32 [N, 3, size, size].

    The largest square in the middle (all of the image with ``crop=False``) is resized with an anti-aliased bilinear
    filter; ``mean`` is taken off and the rest divided by ``std``, both for pixels of 0 to 1 and for the channels in
    their final order, which is BGR with ``bgr``.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, size: int, mean: Sequence[float], std: Sequence[float], bgr: bool = False, *, crop: bool = True
    ) -> None:
        super().__init__()
        self.size, self.bgr, self.crop = size, bgr, crop
        # For pixels of 0 to 255: one subtraction, and one product unless it is by one.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(-1, 1, 1)), persistent=False)
        self.scaled = any(abs(255 * value - 1) > 1e-6 for value in std)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        _, height, width, _ = pixels.shape
        if self.crop:
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            pixels = pixels[:, top : top + side, left : left + side]
        # Channels really come first in memory: the network then runs as on inputs of its own.
        image = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if image.shape[2:] != (self.size, self.size):
            image = functional.interpolate(image, size=(self.size, self.size), mode="bilinear", antialias=True)
        if self.bgr:
            image = image.flip(1)
        image = image - self.mean
        return image * self.scale if self.scaled else image
