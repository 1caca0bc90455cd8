"""AV-MNIST: digits seen (image) and heard (spectrogram).

Sizes: MMBench's public code. The encoders are convolutional networks of a 5x5 convolution and three (image) or five
(audio) 3x3 convolutions that double the channels, each with batch normalisation, ReLU and 2x2 max pooling; global pools
of each block are computed and thrown away. The papers call them LeNet.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter, stages

if TYPE_CHECKING:
    import torch

CODE = "MMBench (IISWC 2023), applications/Avmnist/inference.py"
EXAMPLES = "MMBench (IISWC 2023), models/examples/multimedia"
TABLE = "MMBench (IISWC 2023), Table 3"

BOTH = ("image", "audio")
SHAPES = {"image": (1, 28, 28), "audio": (1, 112, 112)}
# Spoken digits are recorded at 8 kHz; one second of them.
SAMPLES = 8000


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.av_mnist.networks")


def _variant(
    name: str,
    modalities: tuple[str, ...],
    source: str,
    build: Callable[..., torch.nn.Module],
    *,
    channels: int = 6,
    fusion: bool = False,
    **more: Any,
) -> Variant:
    """``channels`` is what the first convolution gives; ``fusion``: the parts are concatenated."""

    def inputs(batch: int, drop: tuple[str, ...] = ()) -> tuple[InputSpec, ...]:
        return tuple(InputSpec(item, (batch, *SHAPES[item])) for item in modalities if item not in drop)

    def raw(batch: int, drop: tuple[str, ...] = ()) -> tuple[InputSpec, ...]:
        specs = {
            "image": InputSpec("pixels", (batch, 28, 28), "uint8", modality="image", high=256),
            "audio": InputSpec("waveform", (batch, SAMPLES), modality="audio"),
        }
        return tuple(specs[item] for item in modalities if item not in drop)

    parameters = {"channels": Parameter(channels, "channels that the first convolutions give", high=32)}
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
        preprocess=lambda: _networks().Prepare(),
        raw=raw,
        **more,
    )


FAMILY = Family(
    description="digit classification from an image and a spectrogram",
    dataset="AV-MNIST: MNIST digits paired with spoken digits (Vielzeuf et al., CentralNet, 2018)",
    dataset_url="https://drive.google.com/file/d/1KvKynJJca5tDtI5Mmp6CoRh9pQywH8Xp/view",
    variants=(
        _variant(
            "concat",
            BOTH,
            f"{TABLE}; {CODE}, avmnist_simple_late_fusion",
            lambda channels, fusion, drop: _networks().concat(channels, fusion, drop),
            fusion=True,
            aliases=("slf", "slfs", "late", "concat-mmbench"),
        ),
        _variant(
            "tensor",
            BOTH,
            f"{TABLE}: concat or tensor; the encoders and the hidden width of {CODE}",
            lambda channels, drop: _networks().tensor(channels, drop),
            notes=(
                "The outer product that the paper's Table 1 means by tensor. The public code has none for AV-MNIST;"
                " what it calls tensor is tensor-mmbench, and the CAL paper's Fig. 2 says low-rank."
            ),
        ),
        _variant(
            "tensor-mmbench",
            BOTH,
            f"{CODE}, avmnist_tensor_matrix",
            lambda channels, drop: _networks().interaction(channels, 32 * channels, drop),
            channels=3,
            aliases=("tensor-matrix",),
            notes="A multiplicative interaction, in spite of its name, with encoders of half the channels.",
        ),
        _variant(
            "interaction",
            BOTH,
            f"{CODE}, avmnist_multi_interac_matrix",
            lambda channels, drop: _networks().interaction(channels, 40 * channels, drop),
            aliases=("interaction-mmbench", "multi-interac-matrix", "mim", "mi"),
        ),
        _variant(
            "low-rank",
            BOTH,
            f"{EXAMPLES}/avmnist_low_rank_tensor.py; CAL 2022, Fig. 2",
            lambda channels, drop: _networks().low_rank(channels, drop),
            aliases=("low-rank-mmbench", "low-rank-tensor", "lrtf"),
        ),
        _variant(
            "cca",
            BOTH,
            f"{CODE}, avmnist_cca",
            lambda channels, fusion, drop: _networks().cca(channels, fusion, drop),
            fusion=True,
            aliases=("cca-mmbench",),
            notes="Trained for canonical correlation of the two encoders; this is what runs in inference.",
        ),
        _variant(
            "refnet",
            BOTH,
            f"{EXAMPLES}/avmnist_refnet.py",
            lambda channels, fusion, drop: _networks().refnet(channels, fusion, drop),
            fusion=True,
            aliases=("refnet-mmbench",),
            notes="The refiner runs in training only.",
        ),
        _variant(
            "mfm",
            BOTH,
            f"{EXAMPLES}/avmnist_MFM.py",
            lambda channels, fusion, drop: _networks().factorized(channels, fusion, drop),
            fusion=True,
            aliases=("mfm-mmbench",),
            notes="Multi-modal factorization; the decoders run in training only.",
        ),
        _variant(
            "mvae",
            BOTH,
            f"{EXAMPLES}/avmnist_MVAE_mixed.py",
            lambda channels, drop: _networks().variational(channels, drop),
            aliases=("mvae-mmbench", "product-of-experts"),
            notes="Variational encoders joined by a product of experts; the decoders run in training only.",
        ),
        _variant(
            "image",
            ("image",),
            f"{EXAMPLES}/avmnist_unimodal_0.py",
            lambda channels: _networks().single("image", channels),
            channels=3,
            aliases=("uni-image", "image-mmbench"),
            notes="The public code halves the channels of the image network when it stands alone.",
        ),
        _variant(
            "audio",
            ("audio",),
            f"{EXAMPLES}/avmnist_unimodal_1.py",
            lambda channels: _networks().single("audio", channels),
            aliases=("uni-audio", "audio-mmbench"),
        ),
    ),
)
