"""TransFuser: where a car drives next, from cameras and a LiDAR that attend to each other at four scales.

Sizes: MMBench's public code, applications/TransFuser/transfuser-2022. MMBench's Table 3 says ResNets, the code runs
RegNets unless told otherwise: both are here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mmworkload.errors import ModelError
from mmworkload.models import Family, InputSpec, Parameter, Variant

if TYPE_CHECKING:
    import torch

CODE = "MMBench (IISWC 2023), applications/TransFuser/transfuser-2022"
Made = TypeVar("Made")

# Rows and columns of one frame; three lie side by side, 320 columns of each.
FRAME = (480, 960)
# Backbones halve the sides five times; the cells of the last grid are the tokens of transformers.
STRIDE = 32
# How many points geometric fusion gathers for a cell.
POINTS_OF_A_CELL = 5
BACKBONES = ("resnet18", "resnet34", "regnety_032")
BOTH = ("image", "lidar")

SIZES = {
    "image_height": Parameter(160, "rows of the image", low=STRIDE, high=4096, step=STRIDE),
    "image_width": Parameter(704, "columns of the image", low=STRIDE, high=4096, step=STRIDE),
    "lidar_size": Parameter(256, "side of the bird's-eye view", low=STRIDE, high=4096, step=STRIDE),
}
POINTS = Parameter(40_000, "points of the LiDAR, end to end (max_lidar_points of the code's config.py)", high=1 << 22)
LAYERS = Parameter(4, "transformer blocks at each scale (the code's argument; its config.py says 8)", high=96)
HEADS = Parameter(
    "all",
    "all: maps, classes and depth too, as in training and in MMBench's profile; driving: waypoints and boxes only",
    choices=("all", "driving"),
)


def _build(
    fusion: str,
    modalities: tuple[str, ...],
    image_height: int = 0,
    image_width: int = 0,
    lidar_size: int = 0,
    layers: int = 0,
    image_backbone: str = "",
    lidar_backbone: str = "",
    heads: str = "all",
) -> torch.nn.Module:
    from mmworkload.workloads.transfuser import networks

    backbones = {"image": image_backbone, "lidar": lidar_backbone}
    grids = {
        "image": (image_height // STRIDE, image_width // STRIDE),
        "lidar": (lidar_size // STRIDE, lidar_size // STRIDE),
    }
    return networks.transfuser(
        fusion,
        {name: backbones[name] for name in modalities},
        {name: grids[name] for name in modalities},
        heads,
        layers,
    )


def _inputs(
    fusion: str,
    modalities: tuple[str, ...],
    batch: int,
    image_height: int = 0,
    image_width: int = 0,
    lidar_size: int = 0,
) -> tuple[InputSpec, ...]:
    specs = [InputSpec("target_point", (batch, 2), role="position")]
    if "image" in modalities:
        specs.append(InputSpec("image", (batch, 3, image_height, image_width)))
    if "lidar" in modalities:
        if fusion != "latent":
            specs.append(InputSpec("lidar", (batch, 2, lidar_size, lidar_size)))
        seen_from_above = "bev" if fusion == "latent" else "lidar"
        specs.append(InputSpec("target_point_image", (batch, 1, lidar_size, lidar_size), modality=seen_from_above))
    if fusion == "geometric":
        rows, columns, side = image_height // STRIDE, image_width // STRIDE, lidar_size // STRIDE
        # Columns and rows of the other grid: random ones stay below its shorter side.
        for name, shape, high in (
            ("bev_points", (side, side), min(rows, columns)),
            ("cam_points", (rows, columns), side),
        ):
            specs.append(InputSpec(name, (batch, *shape, POINTS_OF_A_CELL, 2), "int64", role="position", high=high))
    return tuple(specs)


def _raw(
    fusion: str,
    modalities: tuple[str, ...],
    batch: int,
    image_height: int = 0,
    image_width: int = 0,
    points: int = 0,
) -> tuple[InputSpec, ...]:
    specs = [InputSpec("target_point", (batch, 2), role="position")]
    if "image" in modalities:
        _require_frame(image_height, image_width)
        specs += [
            InputSpec(f"camera_{side}", (batch, *FRAME, 4), "uint8", modality="image", high=256)
            for side in ("left", "front", "right")
        ]
    if "lidar" in modalities and fusion != "latent":
        specs.append(InputSpec("points", (batch, points, 4), modality="lidar"))
    return tuple(specs)


def _require_frame(image_height: int, image_width: int) -> None:
    if image_height > FRAME[0] or image_width > FRAME[1]:
        raise ModelError(
            f"an image of {image_height} rows and {image_width} columns is not in the cameras, which give"
            f" {FRAME[0]} and {FRAME[1]} together: set image_height and image_width to no more, or leave end-to-end out"
        )


def _preprocess(
    fusion: str,
    modalities: tuple[str, ...],
    image_height: int = 0,
    image_width: int = 0,
    lidar_size: int = 0,
) -> torch.nn.Module:
    from mmworkload.workloads.transfuser import preprocess as parts

    above = "lidar" in modalities
    return parts.Preprocess(
        parts.Cameras(image_height, image_width) if "image" in modalities else None,
        parts.Histogram(lidar_size) if above and fusion != "latent" else None,
        parts.TargetImage(lidar_size) if above else None,
        parts.Correspondences(image_height, image_width, lidar_size) if fusion == "geometric" else None,
    )


# Whole backbones are encoders.
NATURAL = {"encoders.image": "encoder/image", "encoders.lidar": "encoder/lidar", "fusion": "fusion", "head": "head"}

# The code's switch `stage` ends the encoders after their first stage, and begins the head at the last merge.
MMBENCH = {
    **{f"encoders.{name}.{part}": f"encoder/{name}" for name in BOTH for part in ("prepare", "stem", "stages.0")},
    **{f"encoders.{name}": "fusion" for name in BOTH},
    "fusion.merge": "head",
    "fusion": "fusion",
    "head": "head",
}


def _variant(
    name: str,
    fusion: str,
    source: str,
    modalities: tuple[str, ...] = BOTH,
    backbones: Mapping[str, str] | None = None,
    stages: Mapping[str, str] = NATURAL,
    aliases: tuple[str, ...] = (),
    notes: str = "",
) -> Variant:
    """A variant with those parameters that its modalities and its fusion have."""
    chosen = {"image": "resnet34", "lidar": "resnet18", **(backbones or {})}
    parameters = {key: item for key, item in SIZES.items() if key.split("_")[0] in modalities}
    for modality in modalities:
        parameters[f"{modality}_backbone"] = Parameter(
            chosen[modality], f"encoder of the {modality} branch", choices=BACKBONES
        )
    if fusion in ("transformer", "latent"):
        parameters["layers"] = LAYERS
    if "lidar" in modalities and fusion != "latent":
        parameters["points"] = POINTS
    parameters["heads"] = HEADS

    def bound(function: Callable[..., Made]) -> Callable[..., Made]:
        return partial(function, fusion, modalities)

    return Variant(
        name=name,
        source=source,
        build=bound(_build),
        inputs=bound(_inputs),
        raw=bound(_raw),
        preprocess=bound(_preprocess),
        stages=stages,
        aliases=aliases,
        notes=notes,
        parameters=parameters,
    )


FAMILY = Family(
    description="driving: waypoints, boxes and maps from cameras and a LiDAR",
    dataset="CARLA (Dosovitskiy et al., 2017), recorded for TransFuser (Chitta et al., PAMI 2022)",
    dataset_url="https://github.com/autonomousvision/transfuser",
    variants=(
        _variant(
            "transformer",
            "transformer",
            "MMBench (IISWC 2023), Table 3 (ResNets); sizes from the public code, whose classes default to resnet34"
            " for the image and resnet18 for the LiDAR",
            aliases=("transfuser",),
            notes="Boxes are suppressed and waypoints followed outside the network.",
        ),
        _variant(
            "transformer-mmbench",
            "transformer",
            f"{CODE}: arguments' defaults, team_code_transfuser/pytorch_profiler_train.py",
            backbones={"image": "regnety_032", "lidar": "regnety_032"},
            stages=MMBENCH,
            aliases=("transformer-regnet",),
            notes="Stages as the public code cuts them: the encoders end after the backbones' first stage.",
        ),
        _variant("late", "late", f"{CODE}: --backbone late_fusion", aliases=("late-fusion", "lf")),
        _variant(
            "geometric",
            "geometric",
            f"{CODE}: --backbone geometric_fusion",
            aliases=("geometric-fusion",),
            notes="At the last scale the public code reads the LiDAR embedding of the scale before, and its tables of"
            " points have columns first; sizes and work are the same.",
        ),
        _variant(
            "latent",
            "latent",
            f"{CODE}: --backbone latentTF (positions in place of the LiDAR)",
            stages={**NATURAL, "encoders.lidar": "encoder/bev"},
            aliases=("latent-tf",),
        ),
        _variant(
            "image",
            "late",
            f"{CODE}: the image branch of late_fusion and its heads; with heads=driving it is built like AIM (Prakash"
            " et al., CVPR 2021)",
            modalities=("image",),
            stages={"head": "head"},
            aliases=("uni-image",),
        ),
        _variant(
            "lidar",
            "late",
            f"{CODE}: the LiDAR branch of late_fusion and its heads",
            modalities=("lidar",),
            stages={"head": "head"},
            aliases=("uni-lidar",),
        ),
    ),
)
