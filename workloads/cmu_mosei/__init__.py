"""CMU-MOSEI: the sentiment of a sentence from a speaker's face, voice and words.

MMBench's Table 3 names BERT, OpenFace and Librosa as encoders; its public code takes OpenFace, COVAREP and GloVe
features that were extracted before (``concat-mmbench``). Behind the features stand the networks of MultiBench, from
which MMBench comes; ``-multibench`` takes MultiBench's own features.
"""

from __future__ import annotations

import importlib
from typing import Any

from mmworkload.models import Family, Variant
from mmworkload.workloads.blocks.affect_variants import (
    MODALITIES,
    MULTIBENCH,
    TABLE,
    Recording,
    Sizes,
    affect,
    featured,
    joined_variants,
    multibench_variants,
)
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter

MMBENCH_WIDTHS = {"vision": 713, "audio": 74, "text": 300}
MULTIBENCH_WIDTHS = {"vision": 35, "audio": 74, "text": 300}
SIZES = Sizes(
    late=(70, 200, 600),
    late_head=870,
    projected=(64, 128, 512),
    early=512,
    late_transformer=(40, 10, 600),
    blended=(70, 150, 600),
    translated=300,
)
# 25 frames of audio at a hop of 128 samples: 50 steps are 7.3 s.
FRAMES_PER_STEP, HOP = 25, 128
MMBENCH = "MMBench (IISWC 2023), applications/CMU-MOSEI/inference.py"
EXTRACTED = f"{TABLE}; behind the extractors the network of {MMBENCH}"


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.cmu_mosei.networks")


RECORDING = Recording(
    frame=(360, 640),
    audio=24,
    listen=lambda steps: _networks().listen(steps, FRAMES_PER_STEP),
    samples_per_step=FRAMES_PER_STEP * HOP,
)
FUSED = {"fusion": fusion_parameter(), "drop": drop_parameter(MODALITIES)}


def _source(file: str) -> str:
    of_mosi = file in ("affect_mult.py", "affect_lf_transformer.py")
    return MULTIBENCH.format(file) + (", there with the 20 and 5 features of MOSI" if of_mosi else "")


def _single(name: str, units: int) -> Variant:
    return RECORDING.variant(
        name,
        f"{EXTRACTED}; the head of {MULTIBENCH.format('affect_uni.py')}",
        lambda: affect().single(affect().extracted(RECORDING.audio), name, units, 1),
        (name,),
        aliases=(f"uni-{name}",),
    )


FAMILY = Family(
    description="sentiment of a sentence from a speaker's face, voice and words",
    dataset="CMU-MOSEI (Zadeh et al., Multimodal language analysis in the wild, ACL 2018)",
    dataset_url="https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK",
    variants=(
        RECORDING.variant(
            "concat",
            EXTRACTED,
            lambda fusion, drop: affect().late(
                affect().extracted(RECORDING.audio), SIZES.late, SIZES.late_head, 1, fusion, drop
            ),
            parameters=FUSED,
            aliases=("slfs", "slf", "lf", "late"),
        ),
        *joined_variants(RECORDING, SIZES, out=1),
        *(_single(name, units) for name, units in zip(MODALITIES, SIZES.late, strict=True)),
        featured(
            "concat-mmbench",
            MMBENCH,
            lambda fusion, drop: affect().late(
                affect().Features(MMBENCH_WIDTHS), SIZES.late, SIZES.late_head, 1, fusion, drop
            ),
            MMBENCH_WIDTHS,
            parameters=FUSED,
            aliases=("slfs-mmbench", "lf-mmbench"),
            notes="The public code packs sequences of unequal length; here all have the full one.",
        ),
        *multibench_variants(MULTIBENCH_WIDTHS, SIZES, _source),
        featured(
            "factorized-multibench",
            MULTIBENCH.format("affect_mfm.py"),
            lambda steps: affect().factorized(affect().Features(MULTIBENCH_WIDTHS), steps, 2),
            MULTIBENCH_WIDTHS,
            aliases=("mfm-multibench",),
            notes="What runs at inference: the decoders and the factors of one modality are for training.",
        ),
        featured(
            "text-multibench",
            MULTIBENCH.format("affect_uni.py"),
            lambda: affect().single(affect().Features(MULTIBENCH_WIDTHS), "text", SIZES.late[2], 1),
            MULTIBENCH_WIDTHS,
            ("text",),
            aliases=("uni-text-multibench",),
        ),
    ),
)
