"""MUStARD: published totals, closed forms of the paper's build, what may be set, end to end."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from mmworkload.errors import MmworkloadError, ModelError
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import trace_model

# Seconds each; that every variant has its stages, totals and operators is read from shapes/ in test_zoo.py.
pytestmark = pytest.mark.slow

FAMILY = families()["mustard"]
Total = tuple[int, int]
# (MACs, parameters) without the classifier of 2048 x 1000: torchvision's totals at 224 x 224.
RESNET50: Total = (4_089_184_256 - 2_048_000, 25_557_032 - 2_049_000)
RESNET152: Total = (11_513_626_624 - 2_048_000, 60_192_808 - 2_049_000)
# BERT-base with its pooler.
BERT_PARAMS = 109_482_240
BERT_MACS = {15: 1_278_756_864, 50: 4_293_402_624}


def linear(*widths: int) -> Total:
    pairs = list(pairwise(widths))
    return sum(a * b for a, b in pairs), sum(a * b + b for a, b in pairs)


def frames(count: int, network: Total) -> Total:
    return count * network[0], network[1]


TEXT = (BERT_MACS[50], BERT_PARAMS)
VISION = frames(50, RESNET50)
HEAD = linear(2048 + 283 + 768, 10, 2)
TOTALS: dict[str, dict[str, Total]] = {
    "concat": {"encoder/vision": VISION, "encoder/text": TEXT, "fusion": (0, 0), "head": HEAD},
    "concat-mmbench": {
        "encoder/vision": RESNET152,
        "encoder/text": (BERT_MACS[15], BERT_PARAMS),
        "fusion": (0, 0),
        "head": HEAD,
    },
    "vision": {"encoder/vision": VISION, "head": linear(2048, 10, 2)},
    # Librosa's features are not encoded any further.
    "audio": {"head": linear(283, 10, 2)},
    "text": {"encoder/text": TEXT, "head": linear(768, 10, 2)},
}


@cache
def graph(name: str, batch: int = 1, end_to_end: bool = False) -> LayerGraph:
    return trace_model(resolve(f"mustard/{name}", batch=batch, end_to_end=end_to_end)).graph


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
    assert (item.total_macs, item.total_params) == (12_790_366_498, 167_657_070)


def test_the_paper_s_build_is_the_default_and_the_code_s_has_no_stand_in_for_openface() -> None:
    assert FAMILY.variants[0].name == "concat"
    stand_ins = {variant.name: "".join(variant.stand_ins) for variant in FAMILY.variants}
    assert "ResNet-50" in stand_ins["concat"]
    assert "OpenFace" not in stand_ins["concat-mmbench"]


def test_the_batch_scales_macs_and_leaves_parameters() -> None:
    found = totals(graph("concat?frames=2&tokens=15", 3))
    assert found["encoder/vision"] == (3 * 2 * RESNET50[0], RESNET50[1])
    assert found["encoder/text"] == (3 * BERT_MACS[15], BERT_PARAMS)
    assert found["head"] == (3 * HEAD[0], HEAD[1])


def test_the_sample_of_the_public_code_has_96_frames() -> None:
    assert totals(graph("concat-mmbench?frames=96&drop=text"))["encoder/vision"] == frames(96, RESNET152)


def test_a_dropped_modality_is_not_encoded_and_not_read() -> None:
    part = graph("concat?drop=text,vision")
    assert totals(part) == {"fusion": (0, 0), "head": HEAD}
    assert [item.modality for item in part.inputs] == ["audio"]


# Widths of 2048, 283 and 768 are brought to 2048.
FUSIONS: dict[str, tuple[Total, int]] = {
    "sum": ((2048 * 1051, 2048 * 1051), 2048),
    "concat": (linear(3099, 2048), 2048),
    # The first part, alone dropped here, asks the two others.
    "attention": ((2048 * 1051 + 2 * 2 * 2048, 2048 * 1051), 2048),
}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_operators_of_table_1_change_fusion_and_head_alone(fusion: str) -> None:
    found = totals(graph(f"concat?fusion={fusion}&drop=text,vision"))
    join, width = FUSIONS[fusion]
    assert found == {"fusion": join, "head": linear(width, 10, 2)}


@pytest.mark.parametrize(
    ("name", "message"),
    [("concat?tokens=0", "1 to 512"), ("tensor?steps=1", "2 to 1000"), ("concat?fusion=mean", "fusion")],
)
def test_impossible_settings_are_refused_before_tracing(name: str, message: str) -> None:
    with pytest.raises(MmworkloadError, match=message):
        resolve(f"mustard/{name}")


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(ModelError, match="every modality is dropped"):
        resolve("mustard/concat?drop=vision,audio,text").build("meta")


def voice_macs(samples: int) -> int:
    """Every frame against every frame, two mel spectra, the cosine transform, a centroid; deltas over nine frames."""
    count, bins, bands = 1 + samples // 512, 1025, 128
    return count * (count * bins + 2 * bands * bins + 13 * bands + bins) + (count - 8) * 9 * (13 + bands)


def test_a_waveform_becomes_the_features_of_the_utterance() -> None:
    item = graph("audio", end_to_end=True)
    assert [(info.modality, info.shape) for info in item.inputs] == [("audio", (1, 4 * 22_050))]
    assert item.stages["preprocess"].macs == voice_macs(4 * 22_050)
    assert totals(item)["head"] == TOTALS["audio"]["head"]
    assert {"stft", "istft", "topk", "sort"} <= {layer.op for layer in item if layer.stage == "preprocess"}
    assert not [part for part in item.coverage if part.treatment == "unknown"]


@pytest.mark.parametrize(("name", "heard"), [("concat", (283,)), ("tensor", (3, 283)), ("concat-mmbench", (283,))])
def test_raw_inputs_become_the_inputs_of_the_network(name: str, heard: tuple[int, ...]) -> None:
    variant = FAMILY.variant(name, "mustard")
    assert variant.preprocess is not None
    assert variant.raw is not None
    settings: dict[str, Any] = {"tokens": 5, "frames": 2, "steps": 3, "drop": ()}
    raw = {
        spec.name: torch.randint(0, 256, spec.shape).to(torch.uint8)
        if spec.dtype == "uint8"
        else torch.randn(spec.shape)
        for spec in variant.raw(1, **settings)
    }
    assert raw["vision"].shape == (1, 2, 352, 624, 3)
    ready = variant.preprocess(tokens=5, steps=3, image_size=64, drop=())(**raw)
    specs = variant.inputs(1, **settings, image_size=64)
    assert {key: tuple(item.shape) for key, item in ready.items()} == {spec.name: spec.shape for spec in specs}
    assert tuple(ready["audio"].shape[1:]) == heard
    assert torch.isfinite(ready["audio"]).all()


def test_end_to_end_on_the_cpu() -> None:
    built = resolve("mustard/concat?frames=2&image_size=32&drop=text&end-to-end", batch=2).build("cpu")
    with torch.no_grad():
        out = built.module(**built.kwargs)
    assert out.shape == (2, 2)
    assert torch.isfinite(out).all()


@pytest.mark.full
@pytest.mark.parametrize("name", ["concat-mmbench?tokens=5", "transformer?frames=2&steps=4&tokens=5"])
def test_all_modalities_end_to_end_on_the_cpu(name: str) -> None:
    model = resolve(f"mustard/{name}&image_size=32&end-to-end", batch=2)
    built = model.build("cpu")
    with torch.no_grad():
        out = built.module(**built.kwargs)
    assert out.shape == (2, 2)
    assert torch.isfinite(out).all()
    assert not [part for part in trace_model(model).graph.coverage if part.treatment == "unknown"]
