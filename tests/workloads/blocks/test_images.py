"""Prepared images: the crop, the channels and the normalisation, value by value."""

from __future__ import annotations

import torch

from mmworkload.workloads.blocks.images import IMAGENET_MEAN, IMAGENET_STD, PrepareImage


def picture(height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator)


def test_pixels_are_normalised_as_torchvision_does() -> None:
    pixels = picture(6, 6, batch=2)
    found = PrepareImage(6, IMAGENET_MEAN, IMAGENET_STD)(pixels)
    expected = torch.empty(2, 3, 6, 6)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        expected[:, channel] = (pixels[..., channel] / 255 - mean) / std
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.is_contiguous()


def test_channels_are_turned_round_and_a_deviation_of_one_pixel_costs_no_product() -> None:
    pixels = picture(4, 4)
    prepare = PrepareImage(4, [1 / 255, 2 / 255, 3 / 255], [1 / 255] * 3, bgr=True)
    found = prepare(pixels)
    expected = torch.stack([pixels[..., 2] - 1.0, pixels[..., 1] - 2.0, pixels[..., 0] - 3.0], dim=1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not prepare.scaled


def test_the_square_in_the_middle_is_taken_and_resized() -> None:
    pixels = torch.zeros(1, 8, 4, 3, dtype=torch.uint8)
    pixels[:, 2:6] = 200
    half = [0.0] * 3, [1.0] * 3
    middle = PrepareImage(16, *half)(pixels)
    assert middle.shape == (1, 3, 16, 16)
    assert torch.allclose(middle, torch.full_like(middle, 200 / 255))
    # Without the crop the dark rows above and below are part of it.
    whole = PrepareImage(16, *half, crop=False)(pixels)
    assert (whole[:, :, 0].max(), whole[:, :, -1].max()) == (0, 0)
    assert torch.allclose(whole[:, :, 8], torch.tensor(200 / 255))


def test_small_sides_average_what_they_cover() -> None:
    pixels = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    pixels[:, :, 2:] = 255
    found = PrepareImage(1, [0.0] * 3, [1.0] * 3)(pixels)
    # Anti-aliasing weighs all columns alike about the middle: half are dark.
    assert torch.allclose(found, torch.full((1, 3, 1, 1), 0.5))
