"""MM-IMDb: the genres of a film from its plot and its poster.

The paper names VGG and ALBERT, concatenation and tensor fusion. Its code takes VGG-16 with all of its classifier and
another linear layer, and calls a low-rank tensor fusion "tensor"; the outer product is that of MMBench's TensorFusion.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter, stages

if TYPE_CHECKING:
    import torch

MODALITIES = ("text", "image")
# Of albert-base-v2.
VOCABULARY = 30000
# Height and width of a poster in multimodal_imdb.hdf5 (datasets/imdb/gmu-mmimdb/gmu.json of the public code).
POSTER = (256, 160)
# About five letters and a space.
BYTES_PER_TOKEN = 6

CODE = "MMBench (IISWC 2023), applications/MMimdb/inference.py"
TABLE = "MMBench (IISWC 2023), Table 3"
HASHED = "end to end, words are hashed to token ids in place of ALBERT's SentencePiece"


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.mm_imdb.networks")


def _parameters(modalities: Sequence[str]) -> dict[str, Parameter]:
    known = {
        "text": ("tokens", Parameter(512, "length of the plot", high=512)),
        # Five poolings halve the sides.
        "image": ("image_size", Parameter(224, "height and width of the poster", low=32, high=1024)),
    }
    return dict(known[name] for name in modalities)


def _variant(
    name: str,
    source: str,
    build: Callable[..., torch.nn.Module],
    *,
    modalities: Sequence[str] = MODALITIES,
    parameters: dict[str, Parameter] | None = None,
    **more: Any,
) -> Variant:
    def chosen(specs: dict[str, InputSpec], drop: tuple[str, ...]) -> tuple[InputSpec, ...]:
        return tuple(specs[item] for item in modalities if item not in drop)

    def inputs(
        batch: int, tokens: int = 512, image_size: int = 224, drop: tuple[str, ...] = ()
    ) -> tuple[InputSpec, ...]:
        text = InputSpec("text", (batch, tokens), "int64", high=VOCABULARY)
        image = InputSpec("image", (batch, 3, image_size, image_size))
        return chosen({"text": text, "image": image}, drop)

    def raw(batch: int, tokens: int = 512, drop: tuple[str, ...] = ()) -> tuple[InputSpec, ...]:
        text = InputSpec("text", (batch, BYTES_PER_TOKEN * tokens), "uint8", high=256)
        image = InputSpec("image", (batch, *POSTER, 3), "uint8", high=256)
        return chosen({"text": text, "image": image}, drop)

    def preprocess(tokens: int = 512, image_size: int = 224) -> torch.nn.Module:
        return _networks().Prepare(tokens, image_size)

    return Variant(
        name=name,
        source=source,
        build=build,
        inputs=inputs,
        stages=stages(*modalities),
        parameters={**_parameters(modalities), **(parameters or {})},
        preprocess=preprocess,
        raw=raw,
        stand_ins=(HASHED,) if "text" in modalities else (),
        **more,
    )


def _joining(name: str, source: str, build: Callable[..., torch.nn.Module], **more: Any) -> Variant:
    """A variant that concatenates."""
    parameters = {"fusion": fusion_parameter(), "drop": drop_parameter(MODALITIES)}
    return _variant(name, source, build, parameters=parameters, **more)


def _single(name: str) -> tuple[Variant, Variant]:
    script = {"text": "mmimdb_uni0.py", "image": "mmimdb_uni1.py"}[name]
    return (
        _variant(
            name,
            f"the encoder of {CODE}; the head of MultiBench, examples/multimedia/mmimdb_unimodal_{name}.py",
            lambda: _networks().single(name),
            modalities=(name,),
        ),
        _variant(
            f"{name}-mmbench",
            f"MMBench, models/examples/multimedia/{script}",
            lambda: _networks().single_alone(name),
            modalities=(name,),
            aliases=(script.removeprefix("mmimdb_").removesuffix(".py"),),
            notes="The public code stops at the features of the network: it has no classifier.",
        ),
    )


FAMILY = Family(
    description="genres of a film from its plot and its poster",
    dataset="MM-IMDb (Arevalo et al., Gated multimodal units for information fusion, ICLR 2017 workshop)",
    dataset_url="https://archive.org/download/mmimdb",
    variants=(
        _joining(
            "concat",
            f"{TABLE}; {CODE}",
            lambda fusion, drop: _networks().concat(fusion, drop),
            aliases=("concat-mmbench", "slf", "slfs", "late"),
        ),
        _variant(
            "tensor",
            f"{TABLE}; TensorFusion of MMBench's models/fusions/common_fusions.py",
            lambda: _networks().tensor(),
        ),
        _variant(
            "low-rank",
            CODE,
            lambda: _networks().low_rank(),
            aliases=("low-rank-mmbench", "tensor-mmbench", "lrtf"),
            notes="MMBench's code calls this tensor fusion.",
        ),
        _variant(
            "interaction",
            CODE,
            lambda: _networks().interaction(),
            aliases=("interaction-mmbench", "mim", "multi-interac-matrix"),
        ),
        _joining(
            "early",
            CODE,
            lambda fusion, drop: _networks().early(fusion, drop),
            aliases=("early-mmbench", "ef"),
        ),
        *_single("text"),
        *_single("image"),
    ),
)
