"""Code Llama: text to text, as a prefill and a decoding step, and as whole generations of the two.

Sizes: the 34B's from its public ``params.json``; the 7B's from the Code Llama paper (Roziere et al., 2023) and Llama 2.
What runs is transformers' ``LlamaForCausalLM`` with random weights.
"""

from __future__ import annotations

import importlib
from typing import Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.models.family import Generating, Run
from mmworkload.workloads.codellama.sizes import SIZES, Size

PAPER = "Characterizing and efficiently accelerating multimodal generation model inference (arXiv 2410.00215), T-T"
STAGES = {"lm_head": "head", "model.norm": "head", "scoring": "head", "reorder": "head", "*": "encoder/text"}
NOTE = "The next token is the most likely one: greedy decoding, or beam search; nothing is drawn at random."


def _builder(size: Size) -> Any:
    return importlib.import_module("mmworkload.workloads.codellama.networks").Builder(size)


def caches(size: Size, layers: int, rows: int, length: int) -> tuple[InputSpec, InputSpec]:
    """Keys and values of all blocks: the places of ``length`` tokens."""
    shape = (layers, rows, size.kv_heads, length, size.head_width)
    return InputSpec("keys", shape, role="state"), InputSpec("values", shape, role="state")


def _text(size: Size, rows: int, tokens: int) -> InputSpec:
    return InputSpec("tokens", (rows, tokens), "int64", modality="text", high=size.vocabulary)


def _layers(size: Size) -> Parameter:
    return Parameter(size.layers, "blocks of the transformer", high=256)


def _cached(size: Size) -> Parameter:
    return Parameter(1024, "tokens that the caches hold before the step", high=size.positions)


BEAMS = Parameter(1, "beams that are kept for each sample; with two or more the caches are reordered", high=64)


def variants(name: str, size: Size) -> tuple[Variant, ...]:
    """The phases of one size."""
    half = size.layers // 4
    exit_block = Parameter(half, "blocks that draft; the logits leave behind the last of them", high=255)

    def prefill(batch: int, prompt: int, layers: int, beams: int) -> tuple[InputSpec, ...]:
        rows = batch * beams
        return _text(size, rows, prompt), *caches(size, layers, rows, prompt)

    def decode(batch: int, cached: int, layers: int, beams: int) -> tuple[InputSpec, ...]:
        rows = batch * beams
        scores = (InputSpec("scores", (rows,), role="state"),) if beams > 1 else ()
        return _text(size, rows, 1), *caches(size, layers, rows, cached + 1), *scores

    def draft(batch: int, cached: int, layers: int) -> tuple[InputSpec, ...]:
        return _text(size, batch, 1), *caches(size, layers, batch, cached + 1)

    def verify(batch: int, cached: int, layers: int, drafted: int) -> tuple[InputSpec, ...]:
        states = InputSpec("states", (batch, drafted, size.width), modality="text")
        return _text(size, batch, 1), states, *caches(size, layers, batch, cached + drafted + 1)

    network = _builder
    source = f"{PAPER}; Code Llama {name.upper()}"
    skip = f"LayerSkip (Elhoushi et al., 2024) on Code Llama {name.upper()}"
    return (
        Variant(
            f"{name}-prefill",
            source,
            lambda layers, beams, logits: network(size).prefill(layers, beams, logits),
            prefill,
            STAGES,
            parameters={
                "prompt": Parameter(1024, "tokens of the prompt", high=size.positions),
                "logits": Parameter("last", "of which tokens the logits are computed", choices=("last", "all")),
                "beams": BEAMS,
                "layers": _layers(size),
            },
            notes=NOTE,
        ),
        Variant(
            f"{name}-decode",
            source,
            lambda layers, cached, beams: network(size).decode(layers, cached, beams),
            decode,
            STAGES,
            parameters={"cached": _cached(size), "beams": BEAMS, "layers": _layers(size)},
            notes=NOTE,
        ),
        Variant(
            f"{name}-draft",
            skip,
            lambda layers, cached, exit_block: network(size).draft(layers, cached, exit_block),
            draft,
            STAGES,
            parameters={"cached": _cached(size), "exit_block": exit_block, "layers": _layers(size)},
            notes="One drafted token: the first blocks alone.",
        ),
        Variant(
            f"{name}-verify",
            skip,
            lambda layers, cached, exit_block, drafted: network(size).verify(layers, cached, exit_block, drafted),
            verify,
            STAGES,
            parameters={
                "cached": _cached(size),
                "drafted": Parameter(4, "drafted tokens that are verified at once", high=64),
                "exit_block": exit_block,
                "layers": _layers(size),
            },
            notes="The blocks behind the exit on all drafted tokens and the one before them.",
        ),
    )


def generations(name: str, size: Size) -> tuple[Generating, ...]:
    """Whole generations with one size, plain and self-speculative."""
    prompt = Parameter(1024, "tokens of the prompt", high=size.positions)
    steps = Parameter(128, "decoding steps after the prefill, which gives the first token", high=size.positions)

    def plain(prompt: int, steps: int, beams: int, layers: int) -> tuple[Run, ...]:
        more = {"beams": beams, "layers": layers}
        return (
            Run("prefill", f"{name}-prefill", {"prompt": prompt, **more}),
            Run("decode", f"{name}-decode", more, along="cached", start=prompt, steps=steps),
        )

    def skipping(prompt: int, steps: int, drafted: int, accepted: int, exit_block: int, layers: int) -> tuple[Run, ...]:
        more = {"exit_block": exit_block, "layers": layers}
        kept = min(accepted, drafted) + 1
        rounds = -(-steps // kept)
        drafts = (
            Run(f"draft {index}", f"{name}-draft", more, "cached", prompt + index, rounds, kept)
            for index in range(drafted)
        )
        verify = Run("verify", f"{name}-verify", {"drafted": drafted, **more}, "cached", prompt, rounds, kept)
        return Run("prefill", f"{name}-prefill", {"prompt": prompt, "layers": layers}), *drafts, verify

    return (
        Generating(
            name,
            PAPER,
            plain,
            {"prompt": prompt, "steps": steps, "beams": BEAMS, "layers": _layers(size)},
            notes=NOTE,
        ),
        Generating(
            f"{name}-layerskip",
            f"LayerSkip (Elhoushi et al., 2024) on Code Llama {name.upper()}",
            skipping,
            {
                "prompt": prompt,
                "steps": Parameter(
                    128, "tokens after the prefill's; the last round may give more", high=size.positions
                ),
                "drafted": Parameter(4, "tokens of a draft", high=64),
                "accepted": Parameter(3, "drafted tokens that each round keeps, besides its own one", low=0, high=64),
                "exit_block": Parameter(size.layers // 4, "blocks that draft", high=255),
                "layers": _layers(size),
            },
            notes="Self-speculative decoding; every round accepts the same number of tokens.",
        ),
    )


FAMILY = Family(
    description="code from a prompt: text generation, token by token",
    dataset="HumanEval (Chen et al., 2021) and MBPP (Austin et al., 2021)",
    dataset_url="https://github.com/openai/human-eval",
    variants=tuple(item for name, size in SIZES.items() for item in variants(name, size)),
    generations=tuple(item for name, size in SIZES.items() for item in generations(name, size)),
)
