"""Images and videos, in the form that each kind of model takes them in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmworkload.models.sources.transformers.configuration import inner
from mmworkload.models.sources.transformers.sheet import Placeholders, Sheet

if TYPE_CHECKING:
    import torch

VISION = ("vision_config", "vq_config", "image_config", "vision_encoder_config", "vision_tower_config", "encoder")
OWN_SIZE = ("image_size", "input_size", "img_size", "resolution")
# Images of models without a size of their own, by a word in the name of the class; else 224.
USUAL_SIZE = 224
SIZES = {"Detection": 800, "Segmentation": 512, "MaskGeneration": 1024}
FRAMES = ("num_frames", "frames_per_clip", "max_num_frames", "video_length")


def images(sheet: Sheet) -> None:
    """Every argument that holds images or videos, and what says of them which pixels, patches or tiles there are."""
    if sheet.takes("flattened_patches"):
        _flattened(sheet)
    elif sheet.takes("pixel_values", "image_grid_thw"):
        _grid(sheet)
    elif sheet.takes("pixel_values", "spatial_shapes"):
        _packed(sheet)
    elif sheet.takes("pixel_values", "aspect_ratio_ids"):
        _tiles(sheet)
    elif sheet.takes("pixel_values", "pixel_attention_mask"):
        _several(sheet)
    elif sheet.takes("pixel_values", "perceiver_embeddings"):
        _interleaved(sheet)
    elif sheet.takes("pixel_values", "image_sizes") and sheet.look("image_grid_pinpoints"):
        _resolutions(sheet)
    elif sheet.takes("pixel_values"):
        _plain(sheet, "pixel_values")
    elif sheet.takes("image"):
        _plain(sheet, "image")
    elif sheet.takes("pixel_values_videos"):
        _video(sheet)


# --- sizes ----------------------------------------------------------------------------------------------------------


def image_size(sheet: Sheet, step: int = 0) -> tuple[int, int]:
    """Height and width in pixels. A square one is the parameter ``image_size``, a multiple of ``step`` (0 is the patch
    size); the model is made for it: what the configuration says of images follows."""
    part = sheet.part(*VISION)
    own = next(
        (getattr(item, key) for item in whole_images(part) for key in OWN_SIZE if getattr(item, key, None)), None
    )
    least = _least(sheet.configuration)
    size = own or least or next((size for word, size in SIZES.items() if word in sheet.kind.__name__), USUAL_SIZE)
    if isinstance(size, dict):
        size = (size["height"], size["width"])
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    if height != width:
        return height, width
    patch = sheet.look("patch_size", within=part, default=1)
    patch = patch if isinstance(patch, int) else max(patch) if isinstance(patch, (list, tuple)) else 1
    whole = step or (math.gcd(patch, height) if own else 1)
    smallest = patch if own else step or least or 32
    chosen = sheet.size(
        "image_size",
        whole * max(1, round(height / whole)),
        "height and width of an image, in pixels",
        low=whole * math.ceil(smallest / whole),
        high=4096 // whole * whole,
        step=whole,
    )
    if own and chosen != height:
        _resize(sheet, own, chosen if isinstance(own, int) else type(own)([chosen, chosen]))
    return chosen, chosen


def whole_images(configuration: Any) -> Iterator[Any]:
    """The parts of a configuration that an image reaches whole. Encoders whose images are as large as the patches of
    the configuration round them are handed these patches, and a spectrogram is no image."""
    patch = getattr(configuration, "patch_size", None)
    yield configuration
    for name, part in inner(configuration):
        of_patches = patch is not None and any(getattr(part, key, None) == patch for key in OWN_SIZE)
        if not of_patches and not any(word in name for word in ("audio", "speech")):
            yield from whole_images(part)


def _least(configuration: Any) -> int:
    """The side of the smallest image whose smallest scaled copy still holds a patch; 0 where images are not scaled."""
    ratios = getattr(configuration, "scaled_images_ratios", None)
    return math.ceil(int(configuration.patch_size) / min(ratios)) if ratios else 0


def _resize(sheet: Sheet, before: Any, after: Any) -> None:
    for part in whole_images(sheet.configuration):
        for key in OWN_SIZE:
            if getattr(part, key, None) == before:
                setattr(part, key, after)
                if hasattr(part, "image_embedding_size"):
                    part.image_embedding_size = after // part.patch_size


def channels(sheet: Sheet) -> int:
    return int(
        sheet.look(
            "num_channels", "in_channels", "in_chans", "num_input_channels", within=sheet.part(*VISION), default=3
        )
    )


def _patch(sheet: Sheet, default: int = 16) -> int:
    patch = sheet.look("patch_size", within=sheet.part(*VISION), default=default)
    return int(patch if isinstance(patch, int) else patch[0])


def frames(sheet: Sheet, part: Any, default: int = 8) -> int:
    """Frames of a clip; positions over time are made for them."""
    own = next((key for key in FRAMES if getattr(part, key, None)), None)
    chosen = sheet.size("frames", getattr(part, own) if own else default, "frames of a video", high=1024)
    if own:
        setattr(part, own, chosen)
    return chosen


# --- forms ----------------------------------------------------------------------------------------------------------


def _plain(sheet: Sheet, name: str) -> None:
    """Pixels [batch, channels, height, width], or [batch, frames, ...] where images are the frames of a clip."""
    part = sheet.part(*VISION)
    height, width = image_size(sheet)
    shape: tuple[int, ...] = (channels(sheet), height, width)
    clip = sheet.type in CLIPS
    if clip:
        shape = (frames(sheet, part), *shape)
    sheet.add(name, (sheet.batch, *shape), modality="video" if clip else "image")
    if getattr(part, "model_type", "") == "pixtral":
        sheet.values("image_sizes", [[height, width]] * sheet.batch)
    # A mask of pixels beyond a smaller image of the batch.
    sheet.ones("pixel_mask", (sheet.batch, height, width))


# Model types whose ``pixel_values`` are the frames of a clip.
CLIPS = ("videomae", "vivit", "timesformer", "xclip", "tvp", "instructblipvideo", "xclip_vision_model")


def _grid(sheet: Sheet) -> None:
    """Patches of all images in a row [patches, channels x frames x patch x patch], and each image's grid of them."""
    part = sheet.part(*VISION)
    patch = _patch(sheet, 14)
    merge = sheet.look("spatial_merge_size", "merge_size", within=part, default=2)
    deep = sheet.look("temporal_patch_size", within=part, default=1)
    height, width = image_size(sheet, patch * merge)
    rows, columns = height // patch, width // patch
    sheet.add("pixel_values", (sheet.batch * rows * columns, channels(sheet) * deep * patch * patch))
    sheet.values("image_grid_thw", [[1, rows, columns]] * sheet.batch)


def _packed(sheet: Sheet) -> None:
    """Patches [batch, patches, channels x patch x patch] with a mask, and each image's height and width in patches."""
    patch = _patch(sheet)
    limit = sheet.look("num_patches", "max_num_patches", within=sheet.part(*VISION), default=256)
    side = math.isqrt(limit)
    height, width = image_size(sheet, patch) if sheet.look("image_size") else (patch * side, patch * side)
    rows, columns = height // patch, width // patch
    sheet.add("pixel_values", (sheet.batch, rows * columns, channels(sheet) * patch * patch))
    sheet.ones("pixel_attention_mask", (sheet.batch, rows * columns), "int32" if sheet.type == "siglip2" else "int64")
    sheet.values("spatial_shapes", [[rows, columns]] * sheet.batch)


def _tiles(sheet: Sheet) -> None:
    """One image of one tile in each sample: pixels [batch, images, tiles, channels, height, width]."""
    part = sheet.part(*VISION)
    height, width = image_size(sheet)
    tiles = int(sheet.look("max_num_tiles", within=part, default=4))
    sheet.add("pixel_values", (sheet.batch, 1, tiles, channels(sheet), height, width))
    sheet.values("aspect_ratio_mask", [[[1] + [0] * (tiles - 1)]] * sheet.batch)
    sheet.values("aspect_ratio_ids", [[1]] * sheet.batch)
    sheet.placeholders.append(Placeholders(int(sheet.look("image_token_index", "image_token_id")), 1))


def _several(sheet: Sheet) -> None:
    """One image in each sample: pixels [batch, images, channels, height, width] with a mask of pixels."""
    # Patches are joined in squares of this side.
    side = int(getattr(sheet.configuration, "scale_factor", None) or 1)
    height, width = image_size(sheet, _patch(sheet) * side)
    shape = (sheet.batch, 1, channels(sheet), height, width)

    def fill() -> torch.Tensor:
        import torch

        # The model looks which images are all zero, and leaves them out.
        return torch.randn(shape, device="cpu")

    sheet.add("pixel_values", shape, fill=fill)
    sheet.ones("pixel_attention_mask", (sheet.batch, 1, height, width), "bool")


def _interleaved(sheet: Sheet) -> None:
    """Pixels [batch, images, channels, height, width], which every token may look at."""
    height, width = image_size(sheet)
    sheet.add("pixel_values", (sheet.batch, 1, channels(sheet), height, width))


def _resolutions(sheet: Sheet) -> None:
    """The image and its tiles at full size: pixels [batch, 1 + tiles, channels, height, width], and its true size."""
    height, width = image_size(sheet)
    # The smallest of the sizes that images are brought to: the overview, and the tiles that cover it.
    size = min(sheet.look("image_grid_pinpoints"), key=lambda item: item[0] * item[1])
    tiles = math.ceil(size[0] / height) * math.ceil(size[1] / width)
    sheet.add("pixel_values", (sheet.batch, 1 + tiles, channels(sheet), height, width))
    sheet.values("image_sizes", [list(size)] * sheet.batch)


def _flattened(sheet: Sheet) -> None:
    """Patches [batch, patches, 2 + channels x patch x patch], each behind its row and column."""
    part = sheet.part(*VISION)
    limit = int(sheet.look("seq_len", "max_num_patches", within=part, default=4096))
    width = int(sheet.look("patch_embed_hidden_size", within=part) or channels(sheet) * _patch(sheet) ** 2)
    patches = sheet.size("patches", min(2048, limit), "patches that an image is cut into", high=limit)
    shape = (sheet.batch, patches, 2 + width)
    side = math.isqrt(patches - 1) + 1

    def fill() -> torch.Tensor:
        import torch

        made = torch.randn(shape, device="cpu")
        places = torch.arange(patches, device="cpu")
        # Rows and columns count from 1; 0 is padding.
        made[..., 0], made[..., 1] = 1 + places // side, 1 + places % side
        return made

    sheet.add("flattened_patches", shape, fill=fill)


def _video(sheet: Sheet) -> None:
    """Clips [batch, frames, channels, height, width]."""
    height, width = image_size(sheet)
    count = frames(sheet, sheet.part(*VISION), 16)
    sheet.add("pixel_values_videos", (sheet.batch, count, channels(sheet), height, width))
