"""The eight networks that the across-stack profiling poster compares: four classifiers and four detectors.

The poster ran TensorFlow models through MLModelScope on a V100. Layer lists are from the networks' papers and from
MLPerf inference; torchvision builds what it has. Detectors are whole, with suppression, regions and masks; how many
boxes pass each step depends on data, so the counts are parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.workloads.across_stack.sizes import padded, resized

if TYPE_CHECKING:
    import torch


def _poster(rate: float, batch: int) -> str:
    return (
        f"across-stack profiling poster (MLModelScope, XSP), Table 1: {rate:g} images a second at best, batch {batch}"
    )


# Means and deviations of red, green and blue for pixels of 0 to 255.
Pixels = tuple[tuple[float, ...], tuple[float, ...]]
CENTRED = ((127.5,) * 3, (127.5,) * 3)
MEANS_ONLY = ((123.68, 116.78, 103.94), (1.0,) * 3)
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

# A photo of COCO, 480 x 640, is resized to 800 x 1066 and padded to 800 x 1088.
PHOTO = {
    "photo_height": Parameter(480, "rows of the photo that the image is made from", low=32, high=8192),
    "photo_width": Parameter(640, "columns of the photo that the image is made from", low=32, high=8192),
}


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.across_stack.networks")


def _pixels(batch: int, photo_height: int, photo_width: int) -> tuple[InputSpec, ...]:
    return (InputSpec("pixels", (batch, photo_height, photo_width, 3), "uint8", modality="image", high=256),)


def _square(batch: int, image_size: int) -> tuple[InputSpec, ...]:
    return (InputSpec("image", (batch, 3, image_size, image_size)),)


def _classifier(
    name: str,
    poster: str,
    source: str,
    build: Callable[..., torch.nn.Module],
    pixels: Pixels,
    alias: str,
) -> Variant:
    def preprocess(photo_height: int, photo_width: int, image_size: int) -> torch.nn.Module:
        return _networks().prepare_crop((photo_height, photo_width), image_size, *pixels)

    return Variant(
        name=name,
        source=f"{poster}; {source}",
        build=build,
        inputs=_square,
        raw=_pixels,
        preprocess=preprocess,
        stages={"backbone": "encoder/image", "head": "head"},
        aliases=(alias,),
        parameters={
            "image_size": Parameter(224, "height and width of the image", low=32, high=4096),
            "classes": Parameter(1000, "classes (TensorFlow's models have 1001, with one for none of them)"),
            **PHOTO,
        },
    )


def _ssd(
    name: str,
    poster: str,
    source: str,
    build: Callable[..., torch.nn.Module],
    pixels: Pixels,
    alias: str,
    parameters: dict[str, Parameter],
    notes: str = "",
) -> Variant:
    def preprocess(image_size: int) -> torch.nn.Module:
        return _networks().prepare_square(image_size, *pixels)

    return Variant(
        name=name,
        source=f"{poster}; {source}",
        build=build,
        inputs=_square,
        raw=_pixels,
        preprocess=preprocess,
        stages={"backbone": "encoder/image", "heads": "head", "postprocess": "head"},
        aliases=(alias,),
        parameters={**parameters, **PHOTO},
        notes=notes,
    )


def _build_rcnn(
    kind: str,
    version: str,
    photo_height: int,
    photo_width: int,
    short_side: int,
    long_side: int,
    classes: int,
    anchors: int,
    proposals: int,
    candidates: int,
    detections: int,
    level_shares: str,
) -> torch.nn.Module:
    size = ((photo_height, photo_width), short_side, long_side)
    return _networks().rcnn(kind, version, *size, classes, (anchors, proposals, candidates, detections), level_shares)


def _rcnn(name: str, poster: str, kind: str, masks: str, stand_in: str, alias: str) -> Variant:
    def inputs(
        batch: int, photo_height: int, photo_width: int, short_side: int, long_side: int
    ) -> tuple[InputSpec, ...]:
        return (InputSpec("image", (batch, 3, *padded(resized((photo_height, photo_width), short_side, long_side)))),)

    def preprocess(photo_height: int, photo_width: int, short_side: int, long_side: int) -> torch.nn.Module:
        return _networks().prepare_padded((photo_height, photo_width), short_side, long_side, *IMAGENET)

    return Variant(
        name=name,
        source=f"{poster}; torchvision's {kind}rcnn_resnet50_fpn",
        build=partial(_build_rcnn, kind),
        inputs=inputs,
        raw=_pixels,
        preprocess=preprocess,
        stages={"backbone": "encoder/image", "heads": "head", "postprocess": "head"},
        aliases=(alias,),
        parameters={
            "version": Parameter("v1", "torchvision's network: v2 has deeper heads, normalised", choices=("v1", "v2")),
            **PHOTO,
            "short_side": Parameter(800, "the photo's short side is resized to this", low=32, high=4096),
            "long_side": Parameter(1333, "unless the long side becomes longer than this", low=32, high=8192),
            "classes": Parameter(91, "classes, with one for no object", low=2, high=1 << 14),
            "anchors": Parameter(1000, "anchors of a pyramid level that are compared with each other"),
            "proposals": Parameter(1000, "boxes of an image that go to the second stage"),
            "candidates": Parameter(1000, "pairs of a box and a class whose score passes 0.05, per image"),
            "detections": Parameter(100, f"detections of an image{masks}"),
            "level_shares": Parameter("50/25/15/10", "percent of boxes read from each pyramid level, fine to coarse"),
        },
        stand_ins=(stand_in,),
    )


FAMILY = Family(
    description="image classification and object detection: the eight networks of the across-stack profiling poster",
    dataset="ImageNet (Russakovsky et al., IJCV 2015) for classifiers, COCO (Lin et al., ECCV 2014) for detectors",
    dataset_url="https://cocodataset.org",
    variants=(
        _classifier(
            "mobilenet-v1",
            _poster(2585.5, 128),
            "MobileNets (Howard et al., 2017), Table 1",
            lambda classes: _networks().mobilenet_v1(classes),
            CENTRED,
            "mlperf-mobilenet-v1",
        ),
        _classifier(
            "resnet50-v1.5",
            _poster(996.3, 256),
            "torchvision's resnet50, which has the stride in the 3x3 convolution",
            lambda classes: _networks().resnet50_v1_5(classes),
            MEANS_ONLY,
            "mlperf-resnet50-v1.5",
        ),
        _ssd(
            "ssd-mobilenet-v1-300",
            _poster(35.5, 64),
            "ssd_mobilenet_v1_coco of TensorFlow's object detection, which MLPerf inference took",
            lambda image_size, classes, candidates, detections: _networks().ssd_mobilenet_v1(
                image_size, classes, candidates, detections
            ),
            CENTRED,
            "mlperf-ssd-mobilenet-v1-300x300",
            {
                "image_size": Parameter(300, "height and width of the image", low=32, high=4096),
                "classes": Parameter(91, "classes, with one for no object", low=2, high=1 << 14),
                "candidates": Parameter(100, "boxes of each class that are compared with each other"),
                "detections": Parameter(100, "detections of an image"),
            },
            notes=(
                "TensorFlow compares all boxes whose score passes a threshold, which depends on data; here the best of"
                " each class."
            ),
        ),
        _ssd(
            "ssd-resnet34-1200",
            _poster(11.34, 1),
            "MLPerf inference v0.5, single_stage_detector",
            lambda image_size, classes, candidates, detections: _networks().ssd_resnet34(
                image_size, classes, candidates, detections
            ),
            IMAGENET,
            "mlperf-ssd-resnet34-1200x1200",
            {
                # Smaller ones leave less than a 3x3 map in front of the last convolution.
                "image_size": Parameter(1200, "height and width of the image", low=385, high=4096),
                "classes": Parameter(81, "classes, with one for no object", low=2, high=1 << 14),
                "candidates": Parameter(200, "boxes of each class that are compared with each other"),
                "detections": Parameter(200, "detections of an image"),
            },
        ),
        _classifier(
            "densenet-121",
            _poster(944.8, 128),
            "torchvision's densenet121",
            lambda classes: _networks().densenet121(classes),
            IMAGENET,
            "ai-matrix-densenet121",
        ),
        _classifier(
            "resnet152-v1",
            _poster(468.5, 256),
            "Deep residual learning (He et al., CVPR 2016), Table 1, with the stride in the first 1x1 convolution",
            lambda classes: _networks().resnet152_v1(classes),
            IMAGENET,
            "ai-matrix-resnet152",
        ),
        _rcnn(
            "faster-rcnn-resnet50",
            _poster(16.8, 4),
            "faster",
            "",
            "torchvision's network with a feature pyramid, for TensorFlow's faster_rcnn_resnet50_coco: one map of a"
            " sixteenth and no pyramid, short sides of 600 pixels, 300 proposals",
            "faster-rcnn-resnet50-coco",
        ),
        _rcnn(
            "mask-rcnn-resnet50",
            _poster(4.4, 1),
            "mask",
            ", each with a mask",
            "torchvision's network with a feature pyramid, for TensorFlow's mask_rcnn_resnet50_atrous_coco: one map of"
            " an eighth, by dilated convolutions, and no pyramid, 300 proposals, masks of 33 x 33",
            "mask-rcnn-resnet50-v2-atrous-coco",
        ),
    ),
)
