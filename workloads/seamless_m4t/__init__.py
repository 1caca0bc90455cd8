"""SeamlessM4T large: speech or text in, translated text or speech out (Seamless communication team, 2023).

Sizes: the default configurations of transformers, which are those of the large models. The generation paper says
"Seamless M4T large"; its operators point to a text-to-unit model that is not auto-regressive, as in v2.
"""

from __future__ import annotations

import importlib
from typing import Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.models.family import Generating, Run

PAPER = "Characterizing and efficiently accelerating multimodal generation model inference (arXiv 2410.00215)"
# The large models, both versions.
WIDTH, HEADS, HEAD_WIDTH, TEXT_LAYERS, UNIT_LAYERS = 1024, 16, 64, 24, 6
VOCABULARY, UNIT_VOCABULARY, CHARACTERS, SPOKEN_UNITS, BANKS = 256_102, 10_082, 10_943, 10_000, 160
# Frames per second of speech, and how many of them the adapter makes one.
FRAME_RATE, STRIDE = 50, 8
# What both versions have in the same sizes.
SHARED = ("text-encoder", "text-prefill", "text-decode", "vocoder")
# A decoder begins with an end mark and a language.
PREFIX = 2
VERSIONS = ("v1", "v2")

HEAD = {"network.lm_head": "head", "network.t2u_model": "head", "scoring": "head", "reorder": "head"}
BEAM_NOTE = "The caches of the decoder are reordered at each step; those of the encoder are the same for all beams."
SAME_NOTE = "Both versions have this part in the same sizes; the rest of the model, which does not run, is that of v1."
FIXED_NOTE = "How many characters, units and frames there are depends on data and is fixed here."


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.seamless_m4t.networks")


def encoded_length(frames: int) -> int:
    """Steps that leave the speech encoder: a convolution of 8 with a stride of 8 and 4 zeros at each end."""
    return (frames + STRIDE - STRIDE) // STRIDE + 1


def _tokens(rows: int, length: int, high: int) -> InputSpec:
    return InputSpec("tokens", (rows, length), "int64", high=high)


def _caches(layers: int, rows: int, length: int, source: int) -> tuple[InputSpec, ...]:
    own, cross = ((layers, rows, HEADS, size, HEAD_WIDTH) for size in (length, source))
    return (
        InputSpec("keys", own, role="state"),
        InputSpec("values", own, role="state"),
        InputSpec("cross_keys", cross, role="state"),
        InputSpec("cross_values", cross, role="state"),
    )


FRAMES = Parameter(500, "frames of speech, 20 ms each", low=16, high=20_000)
SOURCE = Parameter(64, "steps that the encoder gave", high=4096)
TEXT = Parameter(32, "tokens of the text that comes in", high=4096)
CACHED = Parameter(32, "tokens that the decoder's cache holds before the step", high=4096)
TOKENS = Parameter(PREFIX, "tokens that the decoder begins with", high=4096)
BEAMS = Parameter(5, "beams that are kept for each sample; with two or more the caches are reordered", high=64)
UNITS = Parameter(200, "units of speech that come out", high=4096)
SPOKEN = Parameter(400, "frames of 20 ms that the units last", high=65_536)
SPELLED = Parameter(128, "characters of the text that is spoken", high=4096)


def variants(version: str) -> tuple[Variant, ...]:
    """The phases of one version."""

    def network() -> Any:
        return _networks().seamless(version)

    def variant(
        name: str, build: Any, inputs: Any, stages: dict[str, str], notes: str = "", **more: Parameter
    ) -> Variant:
        shared = name in SHARED
        return Variant(
            name if shared else f"{version}-{name}",
            f"{PAPER}; SeamlessM4T large{'' if shared else f' {version}'}",
            build,
            inputs,
            stages,
            tuple(f"{item}-{name}" for item in VERSIONS) if shared else (),
            parameters=more,
            notes=" ".join(filter(None, (notes, SAME_NOTE if shared else ""))),
        )

    def decoder(name: str, layers: int, vocabulary: int, beams: Parameter, unit: bool) -> tuple[Variant, ...]:
        stages = {**HEAD, "*": "head" if unit else "fusion"}

        def prefill(batch: int, tokens: int, source: int, beams: int) -> tuple[InputSpec, ...]:
            rows = batch * beams
            encoded = InputSpec("encoded", (rows, source, WIDTH), modality="tokens")
            return _tokens(rows, tokens, vocabulary), encoded, *_caches(layers, rows, tokens, source)

        def step(batch: int, cached: int, source: int, beams: int) -> tuple[InputSpec, ...]:
            rows = batch * beams
            scores = (InputSpec("scores", (rows,), role="state"),) if beams > 1 else ()
            return _tokens(rows, 1, vocabulary), *_caches(layers, rows, cached + 1, source), *scores

        return (
            variant(
                f"{name}-prefill",
                lambda head: _networks().DecoderPrefill(network(), unit=unit, head=head == "on"),
                prefill,
                stages,
                tokens=TOKENS,
                source=SOURCE,
                beams=beams,
                head=Parameter("on", "whether logits are computed, or states alone", choices=("on", "off")),
            ),
            variant(
                f"{name}-decode",
                lambda cached, beams: _networks().DecoderStep(network(), cached, unit=unit, beams=beams),
                step,
                stages,
                BEAM_NOTE,
                cached=CACHED,
                source=SOURCE,
                beams=beams,
            ),
        )

    found = [
        variant(
            "speech-encoder",
            lambda: _networks().SpeechEncoder(network()),
            lambda batch, frames: (InputSpec("speech", (batch, frames, BANKS)),),
            {"*": "encoder/speech"},
            frames=FRAMES,
        ),
        variant(
            "text-encoder",
            lambda: _networks().TextEncoder(network()),
            lambda batch, text: (InputSpec("text", (batch, text), "int64", high=VOCABULARY),),
            {"*": "encoder/text"},
            text=TEXT,
        ),
        *decoder("text", TEXT_LAYERS, VOCABULARY, BEAMS, unit=False),
    ]
    states = Parameter(34, "tokens of the text that is spoken", high=4096)
    if version == "v1":
        found.append(
            variant(
                "unit-encoder",
                lambda: _networks().UnitEncoder(network()),
                lambda batch, tokens: (InputSpec("states", (batch, tokens, WIDTH)),),
                {"*": "head"},
                tokens=states,
            )
        )
        one = Parameter(1, BEAMS.help, high=64)
        found += decoder("unit", UNIT_LAYERS, UNIT_VOCABULARY, one, unit=True)
    else:
        found.append(
            variant(
                "units",
                lambda characters, units: _networks().Units(network(), characters, units),
                lambda batch, tokens, characters: (
                    InputSpec("states", (batch, tokens, WIDTH)),
                    InputSpec("characters", (batch, characters), "int64", role="position", high=CHARACTERS),
                    InputSpec("counts", (batch, tokens), "int64", role="position", high=8),
                ),
                {"*": "head"},
                FIXED_NOTE,
                tokens=states,
                characters=SPELLED,
                units=UNITS,
            )
        )
    found.append(
        variant(
            "vocoder",
            lambda frames: _networks().Vocoder(network(), frames),
            lambda batch, units: (
                InputSpec("units", (batch, units), "int64", high=SPOKEN_UNITS),
                InputSpec("speaker", (batch, 1), "int64", role="position", high=200),
                InputSpec("language", (batch, 1), "int64", role="position", high=36),
            ),
            {"*": "head"},
            FIXED_NOTE,
            units=UNITS,
            frames=SPOKEN,
        )
    )
    return tuple(found)


def generations(version: str) -> tuple[Generating, ...]:
    """The paper's four tasks with one version."""
    steps = Parameter(32, "decoding steps of the text after the first pass", high=4096)

    def text(source: int, steps: int, beams: int) -> tuple[Run, ...]:
        more = {"source": source, "beams": beams}
        return (
            Run("text prefill", f"{version}-text-prefill", more),
            Run("text decode", f"{version}-text-decode", more, "cached", PREFIX, steps),
        )

    def spoken(source: int, steps: int, units: int, vocoder_frames: int, characters: int) -> tuple[Run, ...]:
        """What follows the text: its states once more, the units, the waveform."""
        tokens = steps + PREFIX
        again = {"tokens": tokens, "source": source, "beams": 1, "head": "off"}
        found = [Run("text states", f"{version}-text-prefill", again)]
        if version == "v1":
            found += [
                Run("unit encoder", "v1-unit-encoder", {"tokens": tokens}),
                Run("unit prefill", "v1-unit-prefill", {"source": tokens}),
                Run("unit decode", "v1-unit-decode", {"source": tokens}, "cached", PREFIX, units),
            ]
        else:
            found.append(Run("units", "v2-units", {"tokens": tokens, "characters": characters, "units": units}))
        found.append(Run("vocoder", f"{version}-vocoder", {"units": units, "frames": vocoder_frames}))
        return tuple(found)

    def from_speech(frames: int) -> Run:
        return Run("speech encoder", f"{version}-speech-encoder", {"frames": frames})

    def from_text(text: int) -> Run:
        return Run("text encoder", f"{version}-text-encoder", {"text": text})

    def speech_text(frames: int, steps: int, beams: int) -> tuple[Run, ...]:
        return from_speech(frames), *text(encoded_length(frames), steps, beams)

    def speech_speech(
        frames: int, steps: int, beams: int, units: int, vocoder_frames: int, characters: int = 0
    ) -> tuple[Run, ...]:
        source = encoded_length(frames)
        more = spoken(source, steps, units, vocoder_frames, characters)
        return from_speech(frames), *text(source, steps, beams), *more

    def text_text(source: int, steps: int, beams: int) -> tuple[Run, ...]:
        return from_text(source), *text(source, steps, beams)

    def text_speech(
        source: int, steps: int, beams: int, units: int, vocoder_frames: int, characters: int = 0
    ) -> tuple[Run, ...]:
        more = spoken(source, steps, units, vocoder_frames, characters)
        return from_text(source), *text(source, steps, beams), *more

    spelled = {} if version == "v1" else {"characters": SPELLED}
    speech = {"units": UNITS, "vocoder_frames": SPOKEN, **spelled}
    heard, read = {"frames": FRAMES}, {"source": TEXT}
    common = {"steps": steps, "beams": BEAMS}

    def task(name: str, label: str, alias: str, runs: Any, *parameters: dict[str, Parameter]) -> Generating:
        merged = {key: item for group in parameters for key, item in group.items()}
        source = f"{PAPER}, {label}; SeamlessM4T large {version}"
        return Generating(f"{version}-{name}", source, runs, merged, (f"{version}-{alias}",), BEAM_NOTE)

    return (
        task("speech-to-text", "S-T", "s2tt", speech_text, heard, common),
        task("speech-to-speech", "S-S", "s2st", speech_speech, heard, common, speech),
        task("text-to-text", "T-T", "t2tt", text_text, read, common),
        task("text-to-speech", "T-S", "t2st", text_speech, read, common, speech),
    )


def _variants() -> tuple[Variant, ...]:
    """Of both versions; what they share once, as v1 has it."""
    found: dict[str, Variant] = {}
    for version in VERSIONS:
        for item in variants(version):
            found.setdefault(item.name, item)
    return tuple(found.values())


FAMILY = Family(
    description="translation of speech or text into text or speech",
    dataset="FLEURS (Conneau et al., SLT 2022)",
    dataset_url="https://huggingface.co/datasets/google/fleurs",
    variants=_variants(),
    generations=tuple(item for version in VERSIONS for item in generations(version)),
)
