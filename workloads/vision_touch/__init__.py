"""Vision & Touch: a robot inserts a peg; will there be contact after the next action? From camera, force, pose, depth.

MMBench's Table 3 lists the four sensors, its text speaks of an action-conditional objective, and its code encodes and
fuses the action too. Here the action is a modality like the others; the variants called ``-sensors`` are without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter, stages

if TYPE_CHECKING:
    import torch

SENSORS = ("image", "force", "proprio", "depth")
ALL = (*SENSORS, "action")
SHAPES = {"image": (128, 128, 3), "force": (6, 32), "proprio": (8,), "depth": (1, 128, 128), "action": (4,)}
# As recorded (README of stanford-iprl-lab/multimodal_representation): 50 force readings for each time step.
RAW = {"image": (128, 128, 3), "force": (50, 6), "depth": (128, 128, 1)}
# The other modalities are taken as they are recorded.
PREPARED = frozenset({"image", "force"})

CODE = "MMBench (IISWC 2023), applications/Vision-Touch/inference.py"
TABLE = "MMBench (IISWC 2023), Table 3"
MULTIBENCH = "MultiBench (NeurIPS 2021), examples/robotics"
NARROW = (
    "a linear layer brings each modality to `width` features in front of the outer product, which would have 1.4e11"
    " elements at the encoders' widths; 8 is the narrowest width of MMBench's tensor fusion of MuJoCo Push"
)


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.vision_touch.networks")


def _variant(
    name: str, modalities: Sequence[str], source: str, build: Callable[..., torch.nn.Module], **more: Any
) -> Variant:
    def inputs(batch: int, drop: tuple[str, ...] = ()) -> tuple[InputSpec, ...]:
        return tuple(InputSpec(item, (batch, *SHAPES[item])) for item in modalities if item not in drop)

    def raw(batch: int, drop: tuple[str, ...] = ()) -> tuple[InputSpec, ...]:
        return tuple(
            InputSpec(item, (batch, *RAW.get(item, SHAPES[item])), "uint8" if item == "image" else "float32", high=256)
            for item in modalities
            if item not in drop
        )

    prepared = not PREPARED.isdisjoint(modalities)
    return Variant(
        name=name,
        source=source,
        build=build,
        inputs=inputs,
        stages=stages(*modalities),
        preprocess=(lambda: _networks().PrepareSensors()) if prepared else None,
        raw=raw if prepared else None,
        **more,
    )


def _low_rank(name: str, modalities: Sequence[str], source: str, **more: Any) -> Variant:
    return _variant(name, modalities, source, lambda: _networks().low_rank(modalities), **more)


def _concat(name: str, modalities: Sequence[str], source: str, **more: Any) -> Variant:
    return _variant(
        name,
        modalities,
        source,
        lambda fusion, drop: _networks().concat(modalities, fusion, drop),
        parameters={"fusion": fusion_parameter(), "drop": drop_parameter(modalities)},
        **more,
    )


def _tensor(name: str, modalities: Sequence[str], source: str, **more: Any) -> Variant:
    return _variant(
        name,
        modalities,
        source,
        lambda width: _networks().tensor(modalities, width),
        parameters={"width": Parameter(8, "features of each modality in the outer product", high=16)},
        stand_ins=(NARROW,),
        **more,
    )


def _with_action(name: str, modalities: Sequence[str]) -> Variant:
    return _variant(
        f"{name}-action",
        modalities,
        f"{MULTIBENCH}/unimodal_{name}.py",
        lambda: _networks().concat(modalities),
        aliases=(f"unimodal-{name}",),
        notes="Uni-modal in MultiBench's sense: the action comes with the sensor.",
    )


def _single(name: str) -> Variant:
    return _variant(
        name,
        (name,),
        f"the encoder of {CODE}; the head of {MULTIBENCH}/unimodal_*.py at its width",
        lambda: _networks().single(name),
    )


FAMILY = Family(
    description="contact after the next action from camera, force, pose and depth of a robot that inserts a peg",
    dataset="Vision & Touch (Lee et al., Making sense of vision and touch, T-RO 2020)",
    dataset_url="http://downloads.cs.stanford.edu/juno/triangle_real_data.zip",
    variants=(
        _low_rank(
            "low-rank",
            ALL,
            CODE,
            aliases=("low-rank-mmbench", "tensor-mmbench", "lrtf"),
            notes="The only fusion that MMBench's code runs. Its factors of 1.0 on the inputs are left out.",
        ),
        _low_rank("low-rank-sensors", SENSORS, f"{TABLE}: four modalities; the rest of {CODE}"),
        _concat(
            "concat",
            ALL,
            f"{TABLE}; the sizes of MultiBench, deprecated/dataloaders/deprecated_examples/robotics/LF.py",
            aliases=("lf",),
        ),
        _concat("concat-sensors", SENSORS, f"{TABLE}: four modalities"),
        _variant(
            "concat-mmbench",
            ALL,
            f"{CODE}, the lines that are commented out",
            lambda: _networks().concat_alone(ALL),
            notes="The public code has no head here: the result is the concatenation.",
        ),
        _tensor("tensor", ALL, f"{TABLE}; TensorFusion of MMBench's models/fusions/common_fusions.py"),
        _tensor("tensor-sensors", SENSORS, f"{TABLE}: four modalities; TensorFusion of MMBench's common_fusions.py"),
        _variant(
            "product-of-experts",
            ALL,
            "Lee et al., T-RO 2020; MMBench, models/fusions/robotics/sensor_fusion.py with ContactDecoder",
            lambda: _networks().product_of_experts(),
            aliases=("poe", "sensor-fusion"),
            notes="A latent state is drawn at random in each pass.",
        ),
        _with_action("image", ("image", "depth", "action")),
        _with_action("force", ("force", "action")),
        _with_action("proprio", ("proprio", "action")),
        *(_single(name) for name in ALL),
    ),
)
