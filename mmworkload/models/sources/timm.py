"""``timm:NAME``: any model of timm, with random weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError, UnavailableError, UnknownNameError
from mmworkload.models.family import InputSpec, Parameter, full_name, settle
from mmworkload.models.hub import ADVICE, HubError, closed
from mmworkload.models.model import Model, Request, synthesize

if TYPE_CHECKING:
    import torch


def find(rest: str, request: Request) -> Model:
    """The model that timm registers as ``rest`` (a tag of its weights may follow, as in ``resnet50.a1_in1k``: it
    chooses image size and classes), at the image size that its weights were made for. Nothing is downloaded.

    Raises UnknownNameError, MmworkloadError for an impossible image size, and UnavailableError without timm.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise UnavailableError(f"timm cannot be imported ({error}): pip install 'mmworkload[trace]'") from error
    if rest.partition(":")[0] in ("hf-hub", "hf_hub"):
        raise HubError(f"timm:{rest} asks for a model on a hub. {ADVICE}: give a name that timm itself has")
    architecture = rest.partition(".")[0]
    if architecture not in timm.list_models():
        raise UnknownNameError("timm model", rest, timm.list_models())
    if rest not in (architecture, *timm.list_pretrained(f"{architecture}.*")):
        raise UnknownNameError("timm model", rest, [architecture, *timm.list_pretrained(f"{architecture}.*")])
    config = timm.get_pretrained_cfg(rest)
    channels, height, width = config.input_size
    parameters = {"image_size": _image_size(rest, height)} if height == width else {}
    settings = settle(parameters, request.settings, f"timm:{rest}")
    if settings:
        height = width = int(str(settings["image_size"]))
    # A model with positions or windows of its own is made for one size; any other takes what comes.
    options: dict[str, Any] = {"img_size": (height, width)} if config.fixed_input_size else {}
    batch = request.batch or 1
    specs = (InputSpec("x", (batch, channels, height, width), modality="image"),)

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        try:
            module = timm.create_model(rest, pretrained=False, **options)
        except (AssertionError, ValueError) as error:
            raise MmworkloadError(f"timm:{rest} cannot be made for images of {height} x {width}: {error}") from error
        return module, tuple(synthesize(specs).values())

    return Model(
        full_name(request.name, parameters, settings),
        rest,
        batch,
        request.dtype,
        make,
        specs,
        own_rules=request.stages,
        sample=request.inputs,
        parameters=parameters,
        settings=settings,
    )


def _image_size(name: str, default: int) -> Parameter:
    """The sizes that the model can be made for, from the stride of its last feature map."""
    import timm
    import torch

    config = timm.get_pretrained_cfg(name)
    with closed(f"timm:{name}"), torch.device("meta"):
        features = getattr(timm.create_model(name, pretrained=False), "feature_info", None)
    stride = int(features[-1]["reduction"]) if features else 1
    # A fixed size is cut into whole patches and windows; without one the last feature map has one pixel or more.
    step = math.gcd(stride, default) if config.fixed_input_size else 1
    smallest = config.min_input_size[-1] if config.min_input_size else step * math.ceil(stride / step)
    return Parameter(
        default, "height and width of the image, in pixels", low=smallest, high=4096 // step * step, step=step
    )
