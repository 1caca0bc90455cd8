"""``torchvision:NAME``: any model of torchvision, without weights."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from mmworkload.errors import UnavailableError, UnknownNameError
from mmworkload.models.family import InputSpec, Parameter, full_name, settle
from mmworkload.models.model import Model, Request, synthesize

if TYPE_CHECKING:
    import torch


def find(builder: str, request: Request) -> Model:
    """The model that torchvision registers as ``builder``, at the image size of its default weights.

    Raises UnknownNameError, and UnavailableError when torchvision cannot be imported.
    """
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        raise UnavailableError(
            f"torchvision cannot be imported ({error}). Install torch and torchvision together from one index."
        ) from error
    known = models.list_models()
    if builder not in known:
        raise UnknownNameError("torchvision model", builder, known)
    size = _image_size(models, builder)
    parameters = {"image_size": _parameter(builder, size[-1])}
    settings = settle(parameters, request.settings, request.name)
    if "image_size" in request.settings:
        size = (*size[:-2], settings["image_size"], settings["image_size"])
    options: dict[str, Any] = {}
    if builder in ("googlenet", "inception_v3"):
        # Auxiliary heads run in training only; without them the weights are those of inference.
        options = {"init_weights": False, "aux_logits": False}
    elif builder.startswith("vit_"):
        options["image_size"] = size[-1]
    elif builder.startswith("maxvit_"):
        options["input_size"] = size[-2:]
    elif "weights_backbone" in inspect.signature(models.get_model_builder(builder)).parameters:
        # The default is a pretrained backbone, which would be downloaded.
        options["weights_backbone"] = None
    batch = request.batch or 1
    specs = (InputSpec("x", (batch, *size), modality="video" if len(size) == 4 else "image"),)

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        return models.get_model(builder, weights=None, **options), tuple(synthesize(specs).values())

    return Model(
        full_name(request.name, parameters, settings),
        builder,
        batch,
        request.dtype,
        make,
        specs,
        own_rules=request.stages,
        sample=request.inputs,
        parameters=parameters,
        settings=settings,
    )


def _parameter(builder: str, default: int) -> Parameter:
    """The image size, with what divides it: the patch of a vision transformer, the windows at MaxViT's last stride."""
    low, high, step = 32, 4096, 1
    if builder.startswith("vit_"):
        step = int(builder.rpartition("_")[2])
    elif builder.startswith("maxvit_"):
        step = 7 * 32
    elif builder.startswith("mvit_"):
        # torchvision's builder makes one size.
        low = high = default
    smallest, largest = -(-low // step) * step, high // step * step
    return Parameter(default, "height and width of the image in pixels", low=smallest, high=largest, step=step)


def _image_size(models: Any, builder: str) -> tuple[int, ...]:
    """Input shape without batch, from the preset that belongs to the model's default weights."""
    preset = getattr(models.get_model_weights(builder).DEFAULT.transforms, "keywords", {})
    crop = preset.get("crop_size", preset.get("resize_size", 224))
    size = (crop, crop) if isinstance(crop, int) else tuple(crop)
    size = size * 2 if len(size) == 1 else size
    module = models.get_model_builder(builder).__module__
    # Clips of 16 frames, as the presets of torchvision's video models were trained on.
    return (3, 16, *size) if ".video." in module else (3, *size)
