"""What the families for speech that is seen, heard and read declare. Free of torch; ``affect.py`` has the networks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mmworkload.models import InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter, stages

if TYPE_CHECKING:
    import torch

MODALITIES = ("vision", "audio", "text")  # in the order of the public code
VOCABULARY = 30_522  # WordPiece tokens of BERT-base, uncased
STEPS = 50  # sequences are cut or padded to so many, by MultiBench and by MMBench
IMAGE_SIZE = 224
# Enough for a word and the space behind it.
BYTES_PER_TOKEN = 8

OPENFACE = "OpenFace, which has no PyTorch network: ResNet-50 on every frame (MMExit, Table 1, names a ResNet)"
WORDPIECE = "BERT's WordPiece, end to end: words are hashed to token ids"
MULTIBENCH = "MultiBench (NeurIPS 2021), examples/affect/{}"
TABLE = "MMBench (IISWC 2023), Table 3"

FRAMES = Parameter(STEPS, "video frames", high=1000)
TOKENS = Parameter(STEPS, "tokens of text", high=512)
IMAGE = Parameter(IMAGE_SIZE, "height and width of a frame, in pixels", low=32, high=1024)
AUDIO_STEPS = Parameter(STEPS, "steps of audio features", low=2, high=1000)
ALL_STEPS = Parameter(STEPS, "steps of every modality: frames, audio features, tokens", low=2, high=512)
FEATURE_STEPS = Parameter(STEPS, "steps of every modality's features", high=1000)

Build = Callable[..., "torch.nn.Module"]
Listen = Callable[[int], "torch.nn.Module"]


@dataclass(frozen=True)
class Sizes:
    """The widths of MultiBench's networks for one data set; three numbers are for vision, audio and text."""

    late: tuple[int, int, int]
    late_head: int
    projected: tuple[int, int, int]
    early: int
    late_transformer: tuple[int, int, int]
    blended: tuple[int, int, int]
    translated: int


@dataclass(frozen=True)
class Recording:
    """How a data set is recorded, and what is made of it for the networks.

    ``frame`` is (height, width) of the video. With ``samples_per_step`` the audio features are a sequence, else one
    vector from ``samples``; ``audio`` is their width, ``listen(steps)`` makes the module that computes them.
    """

    frame: tuple[int, int]
    audio: int
    listen: Listen
    samples: int = 0
    samples_per_step: int = 0

    def inputs(
        self, batch: int, modalities: Sequence[str], tokens: int, frames: int, steps: int, image_size: int
    ) -> tuple[InputSpec, ...]:
        """Of the network: frames [N, frames, 3, size, size], audio features, token ids [N, tokens]."""
        heard = (steps, self.audio) if self.samples_per_step else (self.audio,)
        every = {
            "vision": InputSpec("vision", (batch, frames, 3, image_size, image_size)),
            "audio": InputSpec("audio", (batch, *heard)),
            "text": InputSpec("text", (batch, tokens), "int64", high=VOCABULARY),
        }
        return tuple(every[name] for name in modalities)

    def raw(self, batch: int, modalities: Sequence[str], tokens: int, frames: int, steps: int) -> tuple[InputSpec, ...]:
        """As recorded: pixels [N, frames, height, width, 3], a waveform [N, samples], bytes of text."""
        every = {
            "vision": InputSpec("vision", (batch, frames, *self.frame, 3), "uint8", high=256),
            "audio": InputSpec("audio", (batch, self.samples or self.samples_per_step * steps)),
            "text": InputSpec("text", (batch, BYTES_PER_TOKEN * tokens), "uint8", high=256),
        }
        return tuple(every[name] for name in modalities)

    def variant(
        self,
        name: str,
        source: str,
        build: Build,
        modalities: Sequence[str] = MODALITIES,
        parameters: Mapping[str, Parameter] | None = None,
        openface: str = OPENFACE,
        **more: Any,
    ) -> Variant:
        """A network that reads frames, audio features and tokens, each modality with a length of its own.

        ``parameters`` are added to the lengths and the image size, or replace them. ``openface`` says what stands in
        for OpenFace, if anything does.
        """
        own = {
            "vision": {"frames": FRAMES, "image_size": IMAGE},
            "audio": {"steps": AUDIO_STEPS} if self.samples_per_step else {},
            "text": {"tokens": TOKENS},
        }
        settings = {key: item for modality in modalities for key, item in own[modality].items()}
        stand_ins = {"vision": openface, "audio": "", "text": WORDPIECE}

        def inputs(
            batch: int,
            tokens: int = STEPS,
            frames: int = STEPS,
            steps: int = STEPS,
            image_size: int = IMAGE_SIZE,
            drop: Sequence[str] = (),
        ) -> tuple[InputSpec, ...]:
            return self.inputs(batch, _kept(modalities, drop), tokens, frames, steps, image_size)

        def raw(
            batch: int, tokens: int = STEPS, frames: int = STEPS, steps: int = STEPS, drop: Sequence[str] = ()
        ) -> tuple[InputSpec, ...]:
            return self.raw(batch, _kept(modalities, drop), tokens, frames, steps)

        def preprocess(
            tokens: int = STEPS, steps: int = STEPS, image_size: int = IMAGE_SIZE, drop: Sequence[str] = ()
        ) -> torch.nn.Module:
            return self._prepare(_kept(modalities, drop), tokens, steps, image_size)

        return Variant(
            name=name,
            source=source,
            build=build,
            inputs=inputs,
            raw=raw,
            preprocess=preprocess,
            stages=stages(*modalities),
            parameters={**settings, **_drop(modalities), **(parameters or {})},
            stand_ins=tuple(filter(None, (stand_ins[modality] for modality in modalities))),
            **more,
        )

    def in_step(self, name: str, source: str, build: Build, **more: Any) -> Variant:
        """A network that joins the modalities step by step: one length for all."""
        return Variant(
            name=name,
            source=source,
            build=build,
            inputs=lambda batch, steps, image_size, drop: self.inputs(
                batch, _kept(MODALITIES, drop), steps, steps, steps, image_size
            ),
            raw=lambda batch, steps, drop: self.raw(batch, _kept(MODALITIES, drop), steps, steps, steps),
            preprocess=lambda steps, image_size, drop: self._prepare(_kept(MODALITIES, drop), steps, steps, image_size),
            stages=stages(*MODALITIES),
            parameters={"steps": ALL_STEPS, "image_size": IMAGE, **_drop(MODALITIES)},
            stand_ins=(OPENFACE, WORDPIECE),
            **more,
        )

    def _prepare(self, modalities: Sequence[str], tokens: int, steps: int, image_size: int) -> torch.nn.Module:
        from mmworkload.workloads.blocks.affect import Prepare, prepare_frames
        from mmworkload.workloads.blocks.tokens import HashTokens

        make: dict[str, Callable[[], torch.nn.Module]] = {
            "vision": lambda: prepare_frames(image_size),
            "audio": lambda: self.listen(steps),
            "text": lambda: HashTokens(VOCABULARY, tokens),
        }
        return Prepare({name: make[name]() for name in modalities})


def joined_variants(recording: Recording, sizes: Sizes, out: int) -> tuple[Variant, ...]:
    """The paper's extractors in front of MultiBench's networks: tensor, transformer, low-rank, early."""

    def source(example: str) -> str:
        return f"{TABLE}; behind the extractors the network of {MULTIBENCH.format(example)}"

    def extracted() -> Any:
        return affect().extracted(recording.audio)

    return (
        recording.variant(
            "tensor",
            source("affect_tf.py"),
            lambda drop: affect().tensor(extracted(), sizes.projected, out, drop),
            aliases=("tf", "tensor-fusion"),
        ),
        recording.variant(
            "transformer",
            source("affect_mult.py"),
            lambda tokens, frames, steps, drop: affect().transformer(
                extracted(), out, {"vision": frames, "audio": steps, "text": tokens}, drop
            ),
            aliases=("mult",),
        ),
        recording.variant(
            "low-rank",
            source("affect_lrf.py"),
            lambda drop: affect().low_rank(extracted(), sizes.projected, out, drop),
            aliases=("lrtf", "lrf"),
        ),
        recording.in_step(
            "early",
            source("affect_early_fusion.py"),
            lambda steps, drop: affect().early(extracted(), sizes.early, out, _same(steps), drop),
            aliases=("ef",),
        ),
        recording.in_step(
            "early-transformer",
            source("affect_ef_transformer.py"),
            lambda steps, drop: affect().early_transformer(extracted(), out, _same(steps), drop),
            aliases=("ef-transformer",),
        ),
    )


def multibench_variants(
    widths: Mapping[str, int], sizes: Sizes, source: Callable[[str], str], early_steps: int = STEPS
) -> tuple[Variant, ...]:
    """MultiBench's networks on features of ``widths`` that were extracted before.

    ``source`` says where one of its files is from; early fusion takes ``early_steps``.
    """

    def given() -> Any:
        return affect().Features(widths)

    def variant(name: str, file: str, build: Build, **more: Any) -> Variant:
        return featured(f"{name}-multibench", source(file), build, widths, **more)

    return (
        variant(
            "concat",
            "affect_late_fusion.py",
            lambda fusion, drop: affect().late(given(), sizes.late, sizes.late_head, 1, fusion, drop),
            parameters={"fusion": fusion_parameter(), "drop": drop_parameter(MODALITIES)},
            aliases=("lf-multibench",),
        ),
        variant(
            "tensor",
            "affect_tf.py",
            lambda: affect().tensor(given(), sizes.projected, 1),
            aliases=("tf-multibench",),
        ),
        variant(
            "low-rank",
            "affect_lrf.py",
            lambda: affect().low_rank(given(), sizes.projected, 1),
            aliases=("lrtf-multibench", "lrf-multibench"),
        ),
        variant(
            "transformer", "affect_mult.py", lambda: affect().transformer(given(), 1), aliases=("mult-multibench",)
        ),
        variant(
            "early",
            "affect_early_fusion.py",
            lambda: affect().early(given(), sizes.early, 1),
            parameters={"steps": replace(FEATURE_STEPS, default=early_steps)},
            aliases=("ef-multibench",),
        ),
        variant(
            "early-transformer",
            "affect_ef_transformer.py",
            lambda: affect().early_transformer(given(), 1),
            aliases=("ef-transformer-multibench",),
        ),
        variant(
            "late-transformer",
            "affect_lf_transformer.py",
            lambda: affect().late_transformer(given(), sizes.late_transformer, 256, 1),
            aliases=("lf-transformer-multibench",),
        ),
        variant(
            "gradient-blend",
            "affect_gradient_blend.py",
            lambda: affect().late_transformer(given(), sizes.blended, 512, 2),
            aliases=("gb-multibench",),
            notes="Gradient blending trains a head for each modality too; at inference the joint one runs.",
        ),
        variant(
            "translation",
            "affect_mctn.py",
            lambda: affect().translation(sizes.translated, 1),
            modalities=("text",),
            parameters={"steps": replace(FEATURE_STEPS, default=20, high=200)},
            aliases=("mctn-multibench",),
            notes="At inference only the text is read; the second translation's decoder is for training.",
        ),
    )


def featured(
    name: str,
    source: str,
    build: Build,
    widths: Mapping[str, int],
    modalities: Sequence[str] = MODALITIES,
    parameters: Mapping[str, Parameter] | None = None,
    **more: Any,
) -> Variant:
    """A network that takes features which were extracted before, [N, steps, width] of each modality."""

    def inputs(batch: int, steps: int, drop: Sequence[str] = ()) -> tuple[InputSpec, ...]:
        return tuple(InputSpec(item, (batch, steps, widths[item])) for item in _kept(modalities, drop))

    return Variant(
        name=name,
        source=source,
        build=build,
        inputs=inputs,
        stages=stages(*modalities),
        parameters={"steps": FEATURE_STEPS, **(parameters or {})},
        **more,
    )


def affect() -> Any:
    """The networks, imported when one is built."""
    return importlib.import_module("mmworkload.workloads.blocks.affect")


def _same(steps: int) -> dict[str, int]:
    return dict.fromkeys(MODALITIES, steps)


def _kept(modalities: Sequence[str], drop: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in modalities if name not in drop)


def _drop(modalities: Sequence[str]) -> dict[str, Parameter]:
    return {"drop": drop_parameter(modalities)} if len(modalities) > 1 else {}
