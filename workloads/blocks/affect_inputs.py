"""Inputs and parameters of the networks for speech that is seen, heard and read. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.models import InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, stages

if TYPE_CHECKING:
    import torch

MODALITIES = ("vision", "audio", "text")  # in the order of the public code
VOCABULARY = 30_522  # WordPiece tokens of BERT-base, uncased
STEPS = 50  # sequences are cut or padded to so many, by MultiBench and by MMBench
IMAGE_SIZE = 224
# Enough for a word and the space behind it.
BYTES_PER_TOKEN = 8

STAND_INS = {
    "vision": "OpenFace, which has no PyTorch network: ResNet-50 on every frame (MMExit, Table 1, names a ResNet)",
    "text": "the WordPiece tokens of BERT, end to end: hashed words",
}
TOKENS = Parameter(STEPS, "tokens of text", high=512)
FRAMES = Parameter(STEPS, "video frames", high=1000)
AUDIO_STEPS = Parameter(STEPS, "steps of audio features", low=2, high=1000)
COMMON_STEPS = Parameter(STEPS, "steps of every modality: tokens, frames and audio features", low=2, high=512)
FEATURE_STEPS = Parameter(STEPS, "steps of every modality's features", high=1000)
SIZE = Parameter(IMAGE_SIZE, "height and width of a frame, in pixels", low=32, high=1024)

Build = Callable[..., "torch.nn.Module"]


@dataclass(frozen=True)
class Recording:
    """How a data set is recorded, and what is made of it for the networks.

    ``frame`` is (height, width) of the video; the waveform has ``samples``, and ``samples_per_step`` more for each step
    of audio features. ``audio`` is the shape of the audio features, without steps when ``samples_per_step`` is 0;
    ``listen(steps)`` makes the module that computes them.
    """

    frame: tuple[int, int]
    audio: tuple[int, ...]
    listen: Callable[[int], torch.nn.Module]
    samples: int = 0
    samples_per_step: int = 0

    def inputs(
        self, batch: int, modalities: Sequence[str], tokens: int, frames: int, steps: int, image_size: int
    ) -> tuple[InputSpec, ...]:
        """Of the network: frames [N, frames, 3, size, size], audio features, token ids [N, tokens]."""
        heard = (steps, *self.audio) if self.samples_per_step else self.audio
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
            "audio": InputSpec("audio", (batch, self.samples + self.samples_per_step * steps)),
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
        stand_ins: Mapping[str, str] = STAND_INS,
        **more: Any,
    ) -> Variant:
        """A network that reads tokens, frames and audio features, each modality with a length of its own.

        ``parameters`` are added to the lengths and the image size, or replace them.
        """
        own = {
            "vision": {"frames": FRAMES, "image_size": SIZE},
            "audio": {"steps": AUDIO_STEPS} if self.samples_per_step else {},
            "text": {"tokens": TOKENS},
        }
        settings = {key: item for modality in modalities for key, item in own[modality].items()}

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
            return _prepare(_kept(modalities, drop), self.listen, tokens, steps, image_size)

        return Variant(
            name=name,
            source=source,
            build=build,
            inputs=inputs,
            raw=raw,
            preprocess=preprocess,
            stages=stages(*modalities),
            parameters={**settings, **_drop(modalities), **(parameters or {})},
            stand_ins=tuple(stand_ins[modality] for modality in modalities if modality in stand_ins),
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
            preprocess=lambda steps, image_size, drop: _prepare(
                _kept(MODALITIES, drop), self.listen, steps, steps, image_size
            ),
            stages=stages(*MODALITIES),
            parameters={"steps": COMMON_STEPS, "image_size": SIZE, **_drop(MODALITIES)},
            stand_ins=tuple(STAND_INS.values()),
            **more,
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

    def inputs(batch: int, steps: int = STEPS, drop: Sequence[str] = ()) -> tuple[InputSpec, ...]:
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


def _kept(modalities: Sequence[str], drop: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in modalities if name not in drop)


def _drop(modalities: Sequence[str]) -> dict[str, Parameter]:
    return {"drop": drop_parameter(modalities)} if len(modalities) > 1 else {}


def _prepare(
    modalities: Sequence[str], listen: Callable[[int], torch.nn.Module], tokens: int, steps: int, image_size: int
) -> torch.nn.Module:
    from mmworkload.workloads.blocks.affect import Prepare, PrepareFrames
    from mmworkload.workloads.blocks.tokens import HashTokens

    make: dict[str, Callable[[], torch.nn.Module]] = {
        "vision": lambda: PrepareFrames(image_size),
        "audio": lambda: listen(steps),
        "text": lambda: HashTokens(VOCABULARY, tokens),
    }
    return Prepare({name: make[name]() for name in modalities})
