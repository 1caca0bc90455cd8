"""CMU-MOSEI: published totals, closed forms of the paper's build, what may be set, end to end."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from mmworkload.errors import MmworkloadError, ModelError, UnknownNameError
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import trace_model

# Seconds each; that every variant has its stages, totals and operators is read from shapes/ in test_zoo.py.
pytestmark = pytest.mark.slow

FAMILY = families()["cmu-mosei"]
Total = tuple[int, int]
# (MACs, parameters): torchvision's ResNet-50 at 224 x 224 without its classifier; BERT-base with its pooler, 50 tokens.
FRAME: Total = (4_089_184_256 - 2_048_000, 25_557_032 - 2_049_000)
BERT: Total = (4_293_402_624, 109_482_240)


def linear(*widths: int) -> Total:
    pairs = list(pairwise(widths))
    return sum(a * b for a, b in pairs), sum(a * b + b for a, b in pairs)


def gru(width: int, hidden: int, steps: int = 50) -> Total:
    """Three gates, each of input and state, with two biases."""
    weights = 3 * hidden * (width + hidden)
    return steps * weights, weights + 6 * hidden


def add(*parts: Total) -> Total:
    return sum(macs for macs, _ in parts), sum(params for _, params in parts)


VISION = add((50 * FRAME[0], FRAME[1]), gru(2048, 70))
TEXT = add(BERT, gru(768, 600))
TOTALS: dict[str, dict[str, Total]] = {
    "concat-mmbench": {
        "encoder/vision": gru(713, 70),
        "encoder/audio": gru(74, 200),
        "encoder/text": gru(300, 600),
        "fusion": (0, 0),
        "head": linear(870, 870, 1),
    },
    "concat": {
        "encoder/vision": VISION,
        "encoder/audio": gru(24, 200),
        "encoder/text": TEXT,
        "fusion": (0, 0),
        "head": linear(870, 870, 1),
    },
    "vision": {"encoder/vision": VISION, "head": linear(70, 512, 1)},
    "audio": {"encoder/audio": gru(24, 200), "head": linear(200, 512, 1)},
    "text": {"encoder/text": TEXT, "head": linear(600, 512, 1)},
    "text-multibench": {"encoder/text": gru(300, 600), "head": linear(600, 512, 1)},
    # All 50 states of 30 units each, projected; concatenation and two layers are the fusion.
    "factorized-multibench": {
        **{
            f"encoder/{name}": add(gru(width, 30), linear(30 * 50, 256))
            for name, width in {"vision": 35, "audio": 74, "text": 300}.items()
        },
        "fusion": linear(3 * 256, 256, 128),
        "head": linear(128, 20, 2),
    },
}


@cache
def graph(name: str, batch: int = 1, end_to_end: bool = False) -> LayerGraph:
    return trace_model(resolve(f"cmu-mosei/{name}", batch=batch, end_to_end=end_to_end)).graph


def totals(item: LayerGraph) -> dict[str, Total]:
    return {stage: (total.macs, total.params) for stage, total in item.stages.items()}


# What stands alone there is part of ``concat`` too.
SLOW = ("vision", "text")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TOTALS]
)
def test_macs_and_parameters_of_each_stage(name: str) -> None:
    item = graph(name)
    assert totals(item) == TOTALS[name]
    assert item.built_params == item.total_params


def test_the_public_code_s_totals() -> None:
    item = graph("concat-mmbench")
    assert (item.total_macs, item.total_params) == (98_199_270, 2_712_691)


def test_the_paper_s_build_is_the_default_and_says_what_stands_in() -> None:
    assert FAMILY.variants[0].name == "concat"
    for variant in FAMILY.variants:
        takes_video = any(
            item.name == "vision" and len(item.shape) == 5 for item in variant.inputs(1, **defaults(variant))
        )
        assert any("OpenFace" in text for text in variant.stand_ins) == takes_video


def defaults(variant: Any) -> dict[str, Any]:
    from mmworkload.models.family import accepted

    return accepted(variant.inputs, {name: item.default for name, item in variant.parameters.items()})


@pytest.mark.parametrize("name", ["concat-mmbench", "factorized-multibench", "audio"])
def test_the_batch_scales_macs_and_leaves_parameters(name: str) -> None:
    assert totals(graph(name, 3)) == {stage: (3 * macs, params) for stage, (macs, params) in TOTALS[name].items()}


@pytest.mark.parametrize("steps", [1, 20])
def test_the_work_of_the_encoders_is_proportional_to_the_steps(steps: int) -> None:
    found = totals(graph(f"concat-mmbench?steps={steps}"))
    assert found["encoder/text"] == gru(300, 600, steps)
    assert found["head"] == TOTALS["concat-mmbench"]["head"]


def test_frames_and_tokens_are_set_apart() -> None:
    found = totals(graph("vision?frames=3"))
    assert found["encoder/vision"] == add((3 * FRAME[0], FRAME[1]), gru(2048, 70, 3))
    assert totals(graph("text?tokens=15"))["encoder/text"] == add((1_278_756_864, BERT[1]), gru(768, 600, 15))


def test_a_dropped_modality_is_not_encoded_and_not_read() -> None:
    whole, part = graph("concat-mmbench"), graph("concat-mmbench?drop=text")
    assert totals(part) == {stage: total for stage, total in totals(whole).items() if stage != "encoder/text"}
    assert [item.modality for item in part.inputs] == ["vision", "audio"]


# Units of 70, 200 and 600 are brought to 600 where the operator needs one width; then the head is 600, 870, 1.
FUSIONS: dict[str, tuple[Total, int]] = {
    "plain": ((0, 0), 870),
    "zero": ((0, 0), 870),
    "sum": ((600 * 270, 600 * 270), 600),
    "concat": (linear(870, 600), 600),
    "linear-glu": ((600 * 870, 600 * 870), 600),
}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_operators_of_table_1_change_fusion_and_head_alone(fusion: str) -> None:
    found = totals(graph(f"concat-mmbench?fusion={fusion}"))
    join, width = FUSIONS[fusion]
    assert (found["fusion"], found["head"]) == (join, linear(width, 870, 1))
    if fusion != "zero":
        assert found["encoder/audio"] == gru(74, 200)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("concat?tokens=513", "1 to 512"),
        ("concat?frames=0", "1 to 1000"),
        ("vision?image_size=16", "32 to 1024"),
        ("early?steps=1000", "2 to 512"),
        ("concat-mmbench?steps=few", "whole number"),
    ],
)
def test_impossible_sizes_are_refused_before_tracing(name: str, message: str) -> None:
    with pytest.raises(MmworkloadError, match=message):
        resolve(f"cmu-mosei/{name}")


def test_what_a_variant_does_not_have_is_refused() -> None:
    for name in ("early?tokens=5", "text?drop=text", "concat-mmbench?image_size=64"):
        with pytest.raises(UnknownNameError):
            resolve(f"cmu-mosei/{name}")
    with pytest.raises(MmworkloadError, match="nothing to pre-process"):
        resolve("cmu-mosei/concat-mmbench?end-to-end")


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(ModelError, match="every modality is dropped"):
        resolve("cmu-mosei/concat-mmbench?drop=vision,audio,text").build("meta")


def test_a_waveform_becomes_the_features_of_each_step() -> None:
    item = graph("audio", end_to_end=True)
    # 25 frames a step at a hop of 128, and one at the end.
    frames = 1 + 50 * 25
    bins, bands = 257, 128
    macs = frames * (bands * bins + 20 * bands + bins)
    assert item.stages["preprocess"].macs == macs
    assert [(info.modality, info.shape) for info in item.inputs] == [("audio", (1, 50 * 3200))]
    assert {stage: total for stage, total in totals(item).items() if stage != "preprocess"} == TOTALS["audio"]
    assert {"stft", "cumsum"} <= {layer.op for layer in item if layer.stage == "preprocess"}


def test_raw_inputs_become_the_inputs_of_the_network() -> None:
    variant = FAMILY.variant("concat", "cmu-mosei")
    assert variant.preprocess is not None
    assert variant.raw is not None
    settings: dict[str, Any] = {"tokens": 6, "frames": 2, "steps": 4, "drop": ()}
    torch.manual_seed(0)
    raw = {
        spec.name: torch.randint(0, 256, spec.shape).to(torch.uint8)
        if spec.dtype == "uint8"
        else torch.randn(spec.shape)
        for spec in variant.raw(2, **settings)
    }
    raw["text"][1] = torch.tensor(list(b"so so good".ljust(48, b"\0")))
    ready = variant.preprocess(tokens=6, steps=4, image_size=32, drop=())(**raw)
    specs = variant.inputs(2, **settings, image_size=32)
    assert {name: (tuple(item.shape), str(item.dtype)) for name, item in ready.items()} == {
        spec.name: (spec.shape, f"torch.{spec.dtype}") for spec in specs
    }
    ids = ready["text"][1].tolist()
    assert ids[0] == ids[1] != ids[2]
    assert ids[3:] == [0, 0, 0]
    # ImageNet's means and deviations: a black pixel is -mean / std.
    black = variant.preprocess(image_size=32, drop=("audio", "text"))(vision=torch.zeros_like(raw["vision"]))["vision"]
    assert black[0, 0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rel=1e-5)


def test_end_to_end_on_the_cpu() -> None:
    built = resolve("cmu-mosei/vision?frames=2&image_size=32&end-to-end", batch=2).build("cpu")
    assert built.kwargs["vision"].shape == (2, 2, 360, 640, 3)
    with torch.no_grad():
        assert built.module(**built.kwargs).shape == (2, 1)


def test_the_whole_paper_s_build_end_to_end_on_the_cpu() -> None:
    model = resolve("cmu-mosei/concat?frames=2&steps=4&tokens=5&image_size=32&end-to-end", batch=2)
    built = model.build("cpu")
    with torch.no_grad():
        out = built.module(**built.kwargs)
    assert out.shape == (2, 1)
    assert torch.isfinite(out).all()
    found = trace_model(model).graph
    assert set(found.stages) == {"preprocess", *TOTALS["concat"]}
    assert not [item for item in found.coverage if item.treatment == "unknown"]
