"""CMU-MOSEI and MUStARD: the networks of MultiBench that both have, against closed forms from their layer lists.

Parameters and MACs of every ``-multibench`` variant were also found equal to those of MultiBench's own classes
(pliang279/MultiBench, commit 49f9be2, sizes of examples/affect), counted by torch.utils.flop_counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch

from mmworkload.models import families, resolve
from mmworkload.tracing import Traced, trace_model

# Seconds each; that every variant has its stages, totals and operators is read from shapes/ in test_zoo.py.
pytestmark = pytest.mark.slow


class Size(NamedTuple):
    """MACs of one sample, and parameters."""

    macs: int
    params: int


def add(*sizes: Size) -> Size:
    return Size(sum(size.macs for size in sizes), sum(size.params for size in sizes))


def linear(*widths: int, rows: int = 1) -> Size:
    pairs = list(pairwise(widths))
    return Size(rows * sum(a * b for a, b in pairs), sum(a * b + b for a, b in pairs))


def gru(width: int, hidden: int, steps: int, directions: int = 1) -> Size:
    """Three gates, each of input and state, with two biases."""
    weights = directions * 3 * hidden * (width + hidden)
    return Size(steps * weights, weights + directions * 6 * hidden)


def transformer(width: int, embed: int, steps: int) -> Size:
    """A projection without bias, then five layers of 2048 hidden units, each with two norms."""
    layer = add(linear(embed, 3 * embed, rows=steps), linear(embed, embed, rows=steps))
    forward = add(linear(embed, 2048, rows=steps), linear(2048, embed, rows=steps))
    macs = layer.macs + 2 * steps * steps * embed + forward.macs
    params = layer.params + forward.params + 2 * 2 * embed
    return Size(steps * width * embed + 5 * macs, width * embed + 5 * params)


def mult(widths: tuple[int, ...], out: int, lengths: tuple[int, ...]) -> Size:
    """MulT with 40 features and four layers: 3 x 3 cross-modal encoders, three of self-attention, a residual block."""

    def encoder(width: int, steps: int, source: int, projections: Size) -> Size:
        forward = add(linear(width, 4 * width, rows=steps), linear(4 * width, width, rows=steps))
        attention = 2 * steps * source * width
        return Size(
            4 * (projections.macs + attention + forward.macs),
            4 * (projections.params + forward.params + 2 * 2 * width) + 2 * width,
        )

    embed, joined, all_joined = 40, 120, 360
    project = Size(sum(a * embed * t for a, t in zip(widths, lengths, strict=True)), sum(widths) * embed)
    parts = [project]
    for steps in lengths:
        for source in lengths:
            query_out, key_value = (linear(embed, embed, rows=2 * rows) for rows in (steps, source))
            projections = Size(query_out.macs + key_value.macs, 2 * query_out.params + 2 * key_value.params)
            parts.append(encoder(embed, steps, source, projections))
        parts.append(
            encoder(
                joined, steps, steps, add(linear(joined, 3 * joined, rows=steps), linear(joined, joined, rows=steps))
            )
        )
    return add(*parts, linear(all_joined, all_joined, all_joined, out))


def low_rank(widths: tuple[int, ...], out: int, rank: int) -> Size:
    """A factor for each part, with a one in front; their products are summed over the rank with weights."""
    factors = sum(rank * (width + 1) * out for width in widths)
    return Size(factors + rank * out, factors + rank + out)


def translation(width: int, hidden: int, steps: int) -> Size:
    """Both ways over the text and over what it is translated to, ``steps`` of decoding, and three short recurrences."""
    encode = gru(width, hidden, steps, directions=2)
    compare, look = linear(2 * hidden, hidden, rows=steps), Size(2 * steps * hidden, hidden)
    step = add(compare, look, gru(hidden + width, hidden, 1), linear(2 * hidden, width))
    behind = add(gru(hidden, hidden, 2, directions=2), gru(hidden, hidden, 2))
    return Size(2 * encode.macs + steps * step.macs + behind.macs, encode.params + step.params + behind.params)


def bert(tokens: int) -> Size:
    """BERT-base: twelve layers, and a pooler for one token."""
    width, hidden = 768, 3072
    layer = add(
        *4 * [linear(width, width, rows=tokens)], linear(width, hidden, rows=tokens), linear(hidden, width, rows=tokens)
    )
    pooler = linear(width, width)
    embeddings = (30522 + 512 + 2) * width
    norms = (1 + 2 * 12) * 2 * width
    return Size(
        12 * (layer.macs + 2 * tokens * tokens * width) + pooler.macs,
        embeddings + norms + 12 * layer.params + pooler.params,
    )


def resnet50(frames: int) -> Size:
    """torchvision's totals at 224 x 224 without the classifier, 2048 to 1000."""
    classifier = linear(2048, 1000)
    return Size(frames * (4_089_184_256 - classifier.macs), 25_557_032 - classifier.params)


NOTHING = Size(0, 0)
MODALITIES = ("vision", "audio", "text")
# MultiBench, examples/affect: features extracted before, units of each network (vision, audio, text); the width of
# Librosa's features in the paper's build, and what comes out there.
SIZES: dict[str, dict[str, Any]] = {
    "cmu-mosei": {
        "features": (35, 74, 300),
        "late": ((70, 200, 600), 870),
        "projected": (64, 128, 512),
        "early": (512, 50),
        "late_transformer": (40, 10, 600),
        "blended": (70, 150, 600),
        "translated": 300,
        "librosa": 24,
        "out": 1,
    },
    "mustard": {
        "features": (371, 81, 300),
        "late": ((512, 256, 600), 512),
        "projected": (512, 256, 600),
        "early": (1128, 40),
        "late_transformer": (400, 100, 600),
        "blended": (700, 150, 600),
        "translated": 371,
        "librosa": 283,
        "out": 2,
    },
}


def each(*sizes: Size) -> dict[str, Size]:
    return {f"encoder/{name}": size for name, size in zip(MODALITIES, sizes, strict=True) if size != NOTHING}


def extracted(steps: int = 50) -> tuple[Size, Size, Size]:
    return resnet50(steps), NOTHING, bert(steps)


def expected(family: str, name: str) -> dict[str, Size]:
    """Stage to its size."""
    sizes = SIZES[family]
    given = name.endswith("-multibench")
    features = sizes["features"] if given else (2048, sizes["librosa"], 768)
    before = (NOTHING,) * 3 if given else extracted()
    out = 1 if given else sizes["out"]

    def recurrent(units: tuple[int, ...], widths: tuple[int, ...]) -> dict[str, Size]:
        encoders = zip(before, features, units, widths, strict=True)
        return each(*(add(size, gru(a, b, 50), linear(b, c) if c else NOTHING) for size, a, b, c in encoders))

    match name.removesuffix("-multibench"):
        case "concat":
            units, hidden = sizes["late"]
            return {**recurrent(units, (0, 0, 0)), "fusion": NOTHING, "head": linear(sum(units), hidden, out)}
        case "tensor":
            # The outer product has no MACs: each element is one product.
            head = linear(5 * 20 * 80, 512, out)
            return {**recurrent(sizes["projected"], (4, 19, 79)), "fusion": NOTHING, "head": head}
        case "low-rank":
            fusion, head = low_rank((32, 32, 128), 128, 32), linear(128, 512, out)
            return {**recurrent(sizes["projected"], (32, 32, 128)), "fusion": fusion, "head": head}
        case "transformer":
            return {**each(*before), "fusion": mult(features, out, (50, 50, 50))}
        case "early":
            units, steps = sizes["early"] if given else (sizes["early"][0], 50)
            head = add(gru(sum(features), units, steps), linear(units, 512, out))
            return {**each(*before), "fusion": NOTHING, "head": head}
        case "early-transformer":
            head = add(transformer(sum(features), 300, 50), linear(300, 128, out))
            return {**each(*before), "fusion": NOTHING, "head": head}
        case "late-transformer" | "gradient-blend" as kind:
            units, hidden, out = (
                (sizes["late_transformer"], 256, 1) if kind == "late-transformer" else (sizes["blended"], 512, 2)
            )
            encoders = each(*(transformer(a, b, 50) for a, b in zip(features, units, strict=True)))
            return {**encoders, "fusion": NOTHING, "head": linear(sum(units), hidden, out)}
        case "translation":
            return {"encoder/text": translation(sizes["translated"], 32, 20), "head": linear(32, 64, 1)}
    raise AssertionError(name)


QUICK = ("concat", "tensor", "low-rank", "early", "early-transformer", "translation")
LONG = ("transformer", "late-transformer", "gradient-blend")
JOINED = ("tensor", "transformer", "low-rank", "early", "early-transformer")
GIVEN = [(family, f"{name}-multibench") for family in SIZES for name in QUICK]
EVERY = [
    *GIVEN,
    *(
        pytest.param(family, name, marks=pytest.mark.slow)
        for family in SIZES
        for name in (*(f"{item}-multibench" for item in LONG), *JOINED)
    ),
]


@cache
def traced(name: str, batch: int = 1) -> Traced:
    return trace_model(resolve(name, batch=batch))


def found(item: Traced) -> dict[str, Size]:
    return {stage: Size(total.macs, total.params) for stage, total in item.graph.stages.items()}


def shapes(values: Any) -> list[tuple[int, ...]]:
    from torch.utils import _pytree

    return [tuple(item.shape) for item in _pytree.tree_leaves(values) if hasattr(item, "shape")]


def outputs(item: Traced) -> list[tuple[int, ...]]:
    node = next(node for node in item.program.graph.nodes if node.op == "output")
    return shapes([part.meta["val"] for part in node.args[0]])


def forward(name: str, settings: Mapping[str, Any], *, end_to_end: bool = False) -> torch.Tensor:
    built = resolve(name, batch=2, settings=settings, end_to_end=end_to_end).build("cpu")
    with torch.no_grad():
        return built.module(*built.args, **built.kwargs)


def test_the_closed_forms_of_bert_are_the_known_totals() -> None:
    # transformers' bert-base-uncased with its pooler, at 15, 50 and 128 tokens.
    known = {15: 1_278_756_864, 50: 4_293_402_624, 128: 11_174_215_680}
    assert {tokens: bert(tokens) for tokens in known} == {
        tokens: Size(macs, 109_482_240) for tokens, macs in known.items()
    }


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_macs_and_parameters_of_each_stage(family: str, name: str) -> None:
    item = traced(f"{family}/{name}")
    assert found(item) == expected(family, name)
    assert item.graph.built_params == item.graph.total_params
    assert {part.treatment for part in item.graph.coverage} <= {"lowered", "ignored"}


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_the_batch_scales_macs_and_leaves_parameters(family: str, name: str) -> None:
    one = found(traced(f"{family}/{name}"))
    assert found(traced(f"{family}/{name}", 2)) == {stage: Size(2 * macs, size) for stage, (macs, size) in one.items()}


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_real_forward_gives_what_was_traced(family: str, name: str) -> None:
    declared = families()[family].variant(name, family).parameters
    small = {"steps": 3, "frames": 2, "tokens": 4, "image_size": 32}
    real = forward(f"{family}/{name}", {key: value for key, value in small.items() if key in declared})
    assert [tuple(real.shape)] == outputs(traced(f"{family}/{name}", 2))
    assert torch.isfinite(real).all()


def test_the_sequences_of_mult_may_differ_in_length() -> None:
    lengths = {"frames": 7, "steps": 20, "tokens": 12}
    graph = trace_model(resolve("cmu-mosei/transformer", settings={**lengths, "image_size": 64})).graph
    assert graph.stages["fusion"].macs == mult((2048, 24, 768), 1, (7, 20, 12)).macs


def test_both_families_have_these_networks_under_the_names_of_the_public_code() -> None:
    names = {"lf": "concat", "tf": "tensor", "mult": "transformer", "lrtf": "low-rank", "ef": "early"}
    for family in SIZES:
        for short, name in names.items():
            for suffix in ("", "-multibench"):
                assert families()[family].variant(short + suffix, family).name == name + suffix
