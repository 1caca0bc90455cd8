"""Chameleon: text and images in, text or images out, as one stream of tokens (Chameleon team, 2024).

Sizes: the 7B's are the defaults of transformers; the 34B's are not public as a whole, and its parameter count and the
public code (grouped keys, norms of queries and keys, norms behind the blocks) support the values here.
"""

from __future__ import annotations

import importlib
from typing import Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.models.family import Generating, Run
from mmworkload.workloads.chameleon.sizes import PATCH, SIZES, VOCABULARY, Size

PAPER = "Characterizing and efficiently accelerating multimodal generation model inference (arXiv 2410.00215)"
# Text and image tokens are one stream from the first layer on.
STAGES = {"lm_head": "head", "model.norm": "head", "scoring": "head", ":masked_fill": "head", "*": "fusion"}
NOTE = "The next token is the most likely one; the paper draws it at random from the most likely ones."

SIDE = Parameter(512, "height and width of the image", low=32, high=4096, step=PATCH)
OUTPUT = Parameter("text", "what is generated: words of the other kind are forbidden", choices=("text", "image"))
GUIDANCE = Parameter(
    "off", "classifier-free guidance: each sample with and without its condition", choices=("off", "on")
)


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.chameleon.networks")


def _rows(batch: int, guidance: str) -> int:
    return batch * (2 if guidance == "on" else 1)


def _inputs(size: Size, rows: int, layers: int, tokens: int, length: int) -> tuple[InputSpec, ...]:
    caches = (layers, rows, size.kv_heads, length, size.head_width)
    return (
        InputSpec("tokens", (rows, tokens), "int64", high=size.vocabulary),
        InputSpec("keys", caches, role="state"),
        InputSpec("values", caches, role="state"),
    )


def variants(name: str, size: Size) -> tuple[Variant, ...]:
    """The phases of one size."""
    common = {
        "output": OUTPUT,
        "guidance": GUIDANCE,
        "layers": Parameter(size.layers, "blocks of the transformer", high=256),
    }
    return (
        Variant(
            f"{name}-prefill",
            f"{PAPER}; Chameleon {name.upper()}",
            lambda layers, output, guidance: _networks().Builder(size).phase(layers, 0, output, guidance),
            lambda batch, prompt, layers, guidance: _inputs(size, _rows(batch, guidance), layers, prompt, prompt),
            STAGES,
            parameters={
                "prompt": Parameter(1056, "tokens of image and text", high=size.positions),
                **common,
            },
            notes=NOTE,
        ),
        Variant(
            f"{name}-decode",
            f"{PAPER}; Chameleon {name.upper()}",
            lambda layers, cached, output, guidance: _networks().Builder(size).phase(layers, cached, output, guidance),
            lambda batch, cached, layers, guidance: _inputs(size, _rows(batch, guidance), layers, 1, cached + 1),
            STAGES,
            parameters={
                "cached": Parameter(1056, "tokens that the caches hold before the step", high=size.positions),
                **common,
            },
            notes=NOTE,
        ),
    )


def _image_words(image_size: int) -> int:
    return (image_size // PATCH) ** 2


def generations(name: str, size: Size) -> tuple[Generating, ...]:
    """The paper's three tasks with one size."""
    layers = Parameter(size.layers, "blocks of the transformer", high=256)

    def describing(image_size: int, text: int, steps: int, layers: int) -> tuple[Run, ...]:
        prompt = _image_words(image_size) + text
        return (
            Run("image encoder", "image-encoder", {"image_size": image_size}),
            Run("prefill", f"{name}-prefill", {"prompt": prompt, "layers": layers}),
            Run("decode", f"{name}-decode", {"layers": layers}, "cached", prompt, steps),
        )

    def drawing(text: int, image_size: int, guidance: str, layers: int) -> tuple[Run, ...]:
        more = {"layers": layers, "output": "image", "guidance": guidance}
        return (
            Run("prefill", f"{name}-prefill", {"prompt": text, **more}),
            Run("decode", f"{name}-decode", more, "cached", text, _image_words(image_size)),
            Run("image decoder", "image-decoder", {"image_size": image_size}),
        )

    def text(default: int) -> Parameter:
        return Parameter(default, "tokens of text, marks of begin and end included", high=3072)

    def steps(default: int) -> Parameter:
        return Parameter(default, "decoding steps after the prefill, which gives the first token", high=3072)

    return (
        Generating(
            f"{name}-image-text-to-text",
            f"{PAPER}, IT-T: about 12 decoding steps on VizWiz",
            describing,
            {"image_size": SIDE, "text": text(32), "steps": steps(12), "layers": layers},
            aliases=(f"{name}-it-t", name),
            notes=NOTE,
        ),
        Generating(
            f"{name}-image-to-text",
            f"{PAPER}, I-T: about 30 decoding steps on MSCOCO",
            describing,
            {"image_size": SIDE, "text": text(8), "steps": steps(30), "layers": layers},
            aliases=(f"{name}-i-t",),
            notes=NOTE,
        ),
        Generating(
            f"{name}-text-to-image",
            f"{PAPER}, T-I: 1024 steps an image, with guidance",
            drawing,
            {
                "text": text(32),
                "image_size": SIDE,
                "guidance": Parameter("on", GUIDANCE.help, choices=GUIDANCE.choices),
                "layers": layers,
            },
            aliases=(f"{name}-t-i",),
            notes=NOTE,
        ),
    )


FAMILY = Family(
    description="questions on images, captions, and images from text: one transformer over tokens of both",
    dataset="VizWiz (Gurari et al., 2018), MSCOCO (Lin et al., 2014)",
    dataset_url="https://cocodataset.org",
    variants=(
        *(item for name, size in SIZES.items() for item in variants(name, size)),
        Variant(
            "image-encoder",
            f"{PAPER}; the image tokenizer of Chameleon, of both sizes",
            lambda image_size: _networks().image_encoder(image_size),
            lambda batch, image_size: (InputSpec("image", (batch, 3, image_size, image_size)),),
            {"*": "encoder/image"},
            parameters={"image_size": SIDE},
            notes="The loss of the codebook, which training alone reads, runs in inference too.",
        ),
        Variant(
            "image-decoder",
            f"{PAPER}; VQGAN (Esser et al., CVPR 2021), with the sizes of the encoder",
            lambda image_size: _networks().image_decoder(image_size),
            lambda batch, image_size: (
                InputSpec("words", (batch, _image_words(image_size)), "int64", high=VOCABULARY),
            ),
            {"*": "head"},
            parameters={"image_size": SIDE},
            notes="transformers has no decoder: this one is written here from the published structure.",
        ),
    ),
    generations=tuple(item for name, size in SIZES.items() for item in generations(name, size)),
)
