"""MuJoCo Push: a robot pushes an object; its position is regressed from pose, force, image and control over 16 steps.

Sizes: MMBench's public code, after MultiBench's gentle push.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmworkload.models import Family, Figure, InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter, stages

if TYPE_CHECKING:
    import torch

CODE = "MMBench (IISWC 2023), applications/MuJoCo-Push/inference.py"
EXAMPLES = "MMBench (IISWC 2023), models/examples/gentle_push"
TABLE = "MMBench (IISWC 2023), Table 3"

# What one step of each modality holds.
SHAPES = {"position": (3,), "sensors": (7,), "image": (32, 32), "control": (7,)}
ALL = tuple(SHAPES)
# As recorded, and what each modality is made of.
RAW = {"position": (3,), "force": (6,), "contact": (1,), "image": (32, 32)}
MADE_OF = {
    "position": ("position",),
    "sensors": ("force", "contact"),
    "image": ("image",),
    "control": ("position", "contact"),
}


PAPER = "the CAL paper (2022, stage times of push with transformer fusion)"
CAL = (
    Figure(
        "parameters of the fusion over those of the encoders", 15, PAPER, "params", "fusion", "encoder/*",
        "ours are those of the public code, where position, sensors, control and image are encoded without an LSTM; the"
        " paper does not say which parts it counts",
    ),
    Figure(
        "time of the fusion over that of the encoders, for us MACs", 2.17, PAPER, "macs", "fusion", "encoder/*",
        "MACs are not time: 16 tokens make small products, so that launches of the fusion's many small kernels weigh",
    ),
)  # fmt: skip


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.mujoco_push.networks")


def _variant(
    name: str,
    modalities: tuple[str, ...],
    source: str,
    build: Callable[..., torch.nn.Module],
    *,
    fusion: bool = False,
    **more: Any,
) -> Variant:
    """``fusion``: the parts are concatenated."""

    def inputs(batch: int, steps: int, drop: tuple[str, ...] = ()) -> tuple[InputSpec, ...]:
        return tuple(InputSpec(item, (batch, steps, *SHAPES[item])) for item in modalities if item not in drop)

    def raw(batch: int, steps: int, drop: tuple[str, ...] = ()) -> tuple[InputSpec, ...]:
        needed = {part for item in modalities if item not in drop for part in MADE_OF[item]}
        owner = {"force": "sensors", "contact": "sensors"}
        return tuple(
            InputSpec(item, (batch, steps, *shape), modality=owner.get(item, item))
            for item, shape in RAW.items()
            if item in needed
        )

    parameters = {"steps": Parameter(16, "time steps", high=1024)}
    if fusion:
        parameters["fusion"] = fusion_parameter()
    if len(modalities) > 1:
        parameters["drop"] = drop_parameter(modalities)
    return Variant(
        name=name,
        source=source,
        build=build,
        inputs=inputs,
        stages=stages(*modalities),
        parameters=parameters,
        preprocess=(lambda drop: _networks().Prepare([item for item in modalities if item not in drop]))
        if len(modalities) > 1
        else (lambda: _networks().Prepare(modalities)),
        raw=raw,
        **more,
    )


def _single(name: str, *, aliases: tuple[str, ...], notes: str = "") -> Variant:
    return _variant(
        name,
        (name,),
        f"{EXAMPLES}/unimodal_{'pos' if name == 'position' else name}.py",
        lambda: _networks().single(name),
        aliases=aliases,
        notes=notes,
    )


FAMILY = Family(
    description="object position from robot pose, force, image and control",
    dataset="MuJoCo Push (Lee et al., Multimodal sensor fusion with differentiable filters, 2020)",
    dataset_url="https://drive.google.com/file/d/1JTgmq1KPRK9HYi8BgvljKg5MPqT_N4cR/view",
    variants=(
        _variant(
            "late",
            ALL,
            f"{CODE}, lf; the text of the paper: late fusion utilizing LSTM",
            lambda steps, fusion, drop: _networks().late(steps, fusion, drop),
            fusion=True,
            aliases=("lf", "late-mmbench"),
            notes="The public code has no head: the fusion layer already gives the two coordinates.",
        ),
        _variant(
            "concat",
            ALL,
            f"{TABLE}: MLP and CNN encoders, concat; their sizes from {CODE}, ef",
            lambda steps, fusion, drop: _networks().concat(steps, fusion, drop),
            fusion=True,
            notes=(
                "The paper does not say what its head is and the public code has no such network: here it is the two"
                " last layers of the public code's head, of 64 and 2 features, for each step."
            ),
        ),
        _variant(
            "early",
            ALL,
            f"{CODE}, ef",
            lambda steps, fusion, drop: _networks().early(steps, fusion, drop),
            fusion=True,
            aliases=("ef", "early-mmbench"),
            notes="Early: what is recurrent follows the concatenation.",
        ),
        _variant(
            "tensor",
            ALL,
            f"{TABLE}; {CODE}, tf",
            lambda steps, drop: _networks().tensor(steps, drop),
            aliases=("tf", "tensor-mmbench"),
        ),
        _variant(
            "transformer",
            ALL,
            f"{TABLE}; {CODE}, mult",
            lambda steps, drop: _networks().transformer(steps, drop),
            aliases=("mult", "transformer-mmbench"),
            figures=CAL,
            notes=(
                "Without a head: the fusion already gives the two coordinates. Attention is one operator here; the"
                " public code writes two products and a softmax, and a mean over the heads that nobody reads."
            ),
        ),
        _single("position", aliases=("uni-position", "pos")),
        _single(
            "sensors",
            aliases=("uni-sensors", "control", "uni-control"),
            notes="control is the same graph: it has seven features a step as well, and the same encoder and head.",
        ),
        _single("image", aliases=("uni-image",)),
    ),
)
