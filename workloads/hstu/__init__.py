"""HSTU: generative recommendation from what a user has done (Zhai et al., ICML 2024); the paper's H-A task.

Sizes: the public configurations of generative-recommenders. Which one the generation paper profiled is not known.
"""

from __future__ import annotations

import importlib
from typing import Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.workloads.hstu.sizes import DLRM, RESEARCH, Size

PAPER = "Characterizing and efficiently accelerating multimodal generation model inference (arXiv 2410.00215), H-A"
CODE = "generative-recommenders, the public code of HSTU"
NOTE = "Sequences are padded to one length; the causal mask is a product with zeros and ones, and all MACs are done."
WEEK = 7 * 24 * 3600


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.hstu.networks")


def _parameters(size: Size) -> dict[str, Parameter]:
    return {
        "length": Parameter(size.length, "places of a sequence", low=2, high=1 << 16),
        "layers": Parameter(size.layers, "blocks", high=256),
        "items": Parameter(size.items, "rows of the table of items", low=2, high=1 << 30),
        "candidates": Parameter(10, "items that are scored for each user", high=1 << 16),
    }


def _research(name: str, size: Size) -> Variant:
    def inputs(batch: int, length: int, items: int, candidates: int) -> tuple[InputSpec, ...]:
        return (
            InputSpec("items", (batch, length), "int64", high=items),
            InputSpec("times", (batch, length), "int64", role="position", high=WEEK),
            InputSpec("candidates", (batch, candidates), "int64", modality="items", high=items),
        )

    return Variant(
        f"research-{name}",
        f"{PAPER}; {CODE}, configuration {name}",
        lambda length, layers, items: _networks().Retrieval(size, length, layers, items),
        inputs,
        parameters=_parameters(size),
        notes=NOTE,
    )


def _ranking(name: str, size: Size) -> Variant:
    def inputs(batch: int, length: int, items: int) -> tuple[InputSpec, ...]:
        return (
            InputSpec("items", (batch, length), "int64", high=items),
            InputSpec("actions", (batch, length), "int64", high=size.actions),
        )

    def build(length: int, layers: int, items: int, candidates: int, output: str) -> Any:
        return _networks().Ranking(size, length, layers, items, min(candidates, length), output == "joined")

    return Variant(
        name,
        f"{PAPER}; {CODE}, {'the MLPerf-like configuration' if name == 'dlrm-v3' else 'DlrmHSTUConfig'}",
        build,
        inputs,
        {
            "embed_items": "encoder/items",
            "embed_actions": "encoder/actions",
            "output_norm": "head",
            "head": "head",
            "*": "fusion",
        },
        parameters={
            **_parameters(size),
            "output": Parameter(
                "joined",
                "what leaves a block: gates, attention and their product, or the product",
                choices=("joined", "gated"),
            ),
        },
        notes=NOTE,
    )


FAMILY = Family(
    description="what a user will do next, from what they have done",
    dataset="MovieLens (Harper and Konstan, 2015), Amazon reviews (McAuley et al., 2015)",
    dataset_url="https://grouplens.org/datasets/movielens/",
    variants=(
        *(_research(name, size) for name, size in RESEARCH.items()),
        *(_ranking(name, size) for name, size in DLRM.items()),
    ),
)
