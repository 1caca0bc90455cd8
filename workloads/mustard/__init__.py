"""MUStARD: is an utterance from a television show sarcastic? From the picture, the voice and the words.

MMBench's Table 3 names BERT, OpenFace and Librosa as encoders. Its public code runs ResNet-152 on the frames and looks
at means over the utterance (``concat-mmbench``); until March 2024 it also had MultiBench's networks on features that
were extracted before (``-multibench``).
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from mmworkload.models import Family, Variant
from mmworkload.workloads.blocks.affect_variants import (
    FRAMES,
    MODALITIES,
    MULTIBENCH,
    TABLE,
    TOKENS,
    Recording,
    Sizes,
    joined_variants,
    multibench_variants,
)
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter

MULTIBENCH_WIDTHS = {"vision": 371, "audio": 81, "text": 300}
SIZES = Sizes(
    late=(512, 256, 600),
    late_head=512,
    projected=(512, 256, 600),
    early=1128,
    late_transformer=(400, 100, 600),
    blended=(700, 150, 600),
    translated=371,
)
# Of the sample that comes with the public code.
FRAME = (352, 624)
SECONDS, RATE_HZ = 4, 22_050
# Four frames of audio at a hop of 512 samples: 50 steps are 4.6 s.
FRAMES_PER_STEP, HOP = 4, 512
FEATURES = 283

MMBENCH = "MMBench (IISWC 2023), applications/Sarcasm/inference.py"
# Files of MultiBench that the public code once had too.
ADAPTED = ("early_fusion", "ef_transformer", "gradient_blend", "lrf", "mctn", "mult", "tf")


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.mustard.networks")


def _source(file: str) -> str:
    adapted = file.removeprefix("affect_").removesuffix(".py") in ADAPTED
    before = f"; MMBench, applications/Sarcasm/NVIDIA_test/{file} before commit 19fb1e3" if adapted else ""
    return f"{MULTIBENCH.format(file)}, the sizes for humor and sarcasm{before}"


UTTERANCE = Recording(
    frame=FRAME,
    audio=FEATURES,
    listen=lambda steps: _networks().listen(1 + SECONDS * RATE_HZ // HOP),
    samples=SECONDS * RATE_HZ,
)
SEQUENCES = Recording(
    frame=FRAME,
    audio=FEATURES,
    listen=lambda steps: _networks().listen_in_steps(steps, FRAMES_PER_STEP),
    samples_per_step=FRAMES_PER_STEP * HOP,
)
FUSED = {"fusion": fusion_parameter(), "drop": drop_parameter(MODALITIES)}


def _single(name: str) -> Variant:
    return UTTERANCE.variant(
        name,
        f"{TABLE}; one modality of {MMBENCH}",
        lambda: _networks().single(name),
        (name,),
        aliases=(f"uni-{name}",),
    )


FAMILY = Family(
    description="sarcasm of an utterance from the picture, the voice and the words",
    dataset="MUStARD (Castro et al., Towards multimodal sarcasm detection, ACL 2019)",
    dataset_url="https://github.com/soujanyaporia/MUStARD",
    variants=(
        UTTERANCE.variant(
            "concat",
            f"{TABLE}; behind the extractors the network of {MMBENCH}",
            lambda fusion, drop: _networks().concat("resnet50", fusion, drop),
            parameters=FUSED,
            aliases=("slfs", "slf", "lf", "late"),
        ),
        *joined_variants(SEQUENCES, SIZES, out=2),
        *(_single(name) for name in MODALITIES),
        UTTERANCE.variant(
            "concat-mmbench",
            MMBENCH,
            lambda fusion, drop: _networks().concat("resnet152", fusion, drop),
            parameters={**FUSED, "frames": replace(FRAMES, default=1), "tokens": replace(TOKENS, default=15)},
            openface="",
            aliases=("slfs-mmbench", "lf-mmbench"),
            notes="One frame, as in the totals; the sample that comes with the public code has 96.",
        ),
        *multibench_variants(MULTIBENCH_WIDTHS, SIZES, _source, early_steps=40),
    ),
)
