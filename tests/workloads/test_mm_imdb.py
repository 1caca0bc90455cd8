"""MM-IMDb: totals by stage against MMBench's public code and closed forms, sizes, dropped modalities, end to end."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from mmworkload.errors import MmworkloadError, ModelError
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import trace_model
from mmworkload.workloads.mm_imdb import networks

pytestmark = pytest.mark.slow

Total = tuple[int, int]
FAMILY = families()["mm-imdb"]


def linear(before: int, after: int, rows: int = 1) -> Total:
    """(MACs, parameters) of a linear layer."""
    return rows * before * after, before * after + after


def add(*parts: Total) -> Total:
    return sum(macs for macs, _ in parts), sum(params for _, params in parts)


def albert(tokens: int = 512) -> Total:
    """ALBERT-base: a factorised embedding, one layer used twelve times, a pooler for one token."""
    width, hidden, table = 768, 3072, 128
    layer = add(*4 * [linear(width, width, tokens)], linear(width, hidden, tokens), linear(hidden, width, tokens))
    norms = 2 * table + 2 * 2 * width
    embeddings = (30000 + 512 + 2) * table
    project, pooler = linear(table, width, tokens), linear(width, width)
    macs = project[0] + 12 * (layer[0] + 2 * tokens * tokens * width) + pooler[0]
    return macs, embeddings + norms + project[1] + layer[1] + pooler[1]


def vgg(side: int = 224) -> Total:
    """VGG-16 (Simonyan and Zisserman 2015, column D), and the linear layer that MMBench puts behind its classes."""
    parts: list[Total] = []
    before = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            parts.append((side * side * before * width * 9, before * width * 9 + width))
            before = width
        side //= 2
    return add(*parts, linear(512 * 49, 4096), linear(4096, 4096), linear(4096, 1000), linear(1000, 4096))


def max_out(before: int, hidden: int, after: int) -> Total:
    """Two layers twice as wide as what they give, three batch normalisations."""
    return add(linear(before, 2 * hidden), linear(hidden, 2 * after), (0, 2 * (before + hidden + after)))


TEXT = add(albert(), max_out(768, 512, 512))
IMAGE = add(vgg(), max_out(4096, 1024, 512))
LATE = {"encoder/text": TEXT, "encoder/image": IMAGE}
OUTER = 513 * 513
SINGLE_HEAD = add(linear(512, 512), linear(512, 23))

EXPECTED: dict[str, dict[str, Total]] = {
    "concat": {**LATE, "fusion": (0, 0), "head": linear(1024, 23)},
    "tensor": {**LATE, "fusion": (0, 0), "head": linear(OUTER, 23)},
    # Rank 128, to 512 features: two factors, the weights of the ranks and a bias.
    "low-rank": {
        **LATE,
        "fusion": (128 * (2 * 513 * 512 + 512), 128 * (2 * 513 * 512 + 1) + 512),
        "head": linear(512, 23),
    },
    # x W y, x U and V y.
    "interaction": {
        **LATE,
        "fusion": (512 * 512 * 1024 + 2 * 512 * 1024, 1024 * (512 * 512 + 512 + 512 + 1)),
        "head": linear(1024, 23),
    },
    "early": {
        "encoder/text": albert(),
        "encoder/image": vgg(),
        "fusion": (0, 0),
        "head": add(max_out(768 + 4096, 512, 512), linear(512, 23)),
    },
    "text": {"encoder/text": TEXT, "head": SINGLE_HEAD},
    "text-mmbench": {"encoder/text": albert()},
    "image": {"encoder/image": IMAGE, "head": SINGLE_HEAD},
    "image-mmbench": {"encoder/image": vgg()},
}


@cache
def graph(name: str, batch: int = 1, end_to_end: bool = False) -> LayerGraph:
    return trace_model(resolve(f"mm-imdb/{name}", batch=batch, end_to_end=end_to_end)).graph


def totals(found: LayerGraph) -> dict[str, Total]:
    return {stage: (total.macs, total.params) for stage, total in found.stages.items()}


def test_the_closed_forms_give_the_published_totals() -> None:
    # Parameters and MACs of MMBench's default, and of its two networks alone.
    assert add(*EXPECTED["concat"].values()) == (63_854_435_328, 164_932_671)
    assert albert() == (48_369_303_552, 11_683_584)
    assert albert(128)[0] == 11_186_798_592
    extra = linear(1000, 4096)
    assert (vgg()[0] - extra[0], vgg()[1] - extra[1]) == (15_470_264_320, 138_357_544)
    # MMBench's own classes, counted by torch's FlopCounterMode.
    assert EXPECTED["low-rank"]["fusion"] == (67_305_472, 67_240_576)
    assert EXPECTED["interaction"]["fusion"] == (269_484_032, 269_485_056)
    assert EXPECTED["early"]["head"] == (5_516_800, 5_530_647)
    assert max_out(768, 512, 512) == (1_310_720, 1_316_352)
    assert max_out(4096, 1024, 512) == (9_437_184, 9_451_520)


def test_every_variant_is_in_the_table() -> None:
    assert [variant.name for variant in FAMILY.variants] == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_macs_and_parameters_of_each_stage(name: str) -> None:
    found = graph(name)
    assert totals(found) == EXPECTED[name]
    assert found.built_params == found.total_params == sum(params for _, params in EXPECTED[name].values())
    assert not [item for item in found.coverage if item.treatment == "unknown"]


def test_only_the_outer_product_has_products_that_are_not_accumulated() -> None:
    assert {name: graph(name).outer_macs for name in EXPECTED if graph(name).outer_macs} == {"tensor": OUTER}


@pytest.mark.parametrize("name", ["concat", "interaction"])
def test_the_batch_scales_macs_and_leaves_parameters(name: str) -> None:
    one, two = graph(name), graph(name, 2)
    assert {stage: (2 * macs, params) for stage, (macs, params) in totals(one).items()} == totals(two)


def test_names_of_the_public_code_lead_to_its_variants() -> None:
    aliases = {"concat-mmbench": "concat", "slfs": "concat", "tensor-mmbench": "low-rank", "lrtf": "low-rank"}
    assert {alias: FAMILY.variant(alias, "mm-imdb").name for alias in aliases} == aliases
    assert FAMILY.variant("", "mm-imdb").name == "concat"


def test_one_layer_of_albert_is_used_twelve_times_and_the_pooler_is_for_nobody() -> None:
    found = graph("text-mmbench")
    queries = [layer for layer in found if layer.module.endswith("attention.query")]
    assert len(queries) == 12
    assert found.params(queries) == 768 * 768 + 768
    assert [layer.op for layer in found if layer.dead and "pooler" in layer.module] == ["linear", "tanh"]
    assert sum(layer.macs for layer in found if layer.dead) == 768 * 768


# --- parameters -------------------------------------------------------------------------------------------------------


def test_tokens_and_image_size_change_the_encoders_and_nothing_else() -> None:
    small = trace_model(resolve("mm-imdb/concat?tokens=64&image_size=64")).graph
    text, image = add(albert(64), max_out(768, 512, 512)), add(vgg(64), max_out(4096, 1024, 512))
    assert totals(small) == {**EXPECTED["concat"], "encoder/text": text, "encoder/image": image}
    shapes = {item.tensor: item.shape for item in small.inputs}
    assert shapes == {"text": (1, 64), "image": (1, 3, 64, 64)}


def test_the_smallest_sizes_can_be_traced() -> None:
    found = trace_model(resolve("mm-imdb/concat?tokens=1&image_size=32")).graph
    assert totals(found)["encoder/text"][0] == albert(1)[0] + max_out(768, 512, 512)[0]


@pytest.mark.parametrize("settings", ["tokens=0", "tokens=513", "image_size=31", "fusion=average", "drop=audio"])
def test_impossible_parameters_are_refused(settings: str) -> None:
    with pytest.raises(MmworkloadError, match=settings.split("=")[0]):
        resolve(f"mm-imdb/concat?{settings}")


def test_an_image_network_has_no_tokens() -> None:
    with pytest.raises(MmworkloadError, match="tokens"):
        resolve("mm-imdb/image?tokens=64")


def test_a_dropped_modality_has_no_encoder_and_no_input() -> None:
    for name, dropped, kept in (("concat", "text", "image"), ("early", "image", "text")):
        found = trace_model(resolve(f"mm-imdb/{name}?drop={dropped}")).graph
        stages = {stage: total for stage, total in EXPECTED[name].items() if stage != f"encoder/{dropped}"}
        assert totals(found) == stages
        assert [item.tensor for item in found.inputs] == [kept]


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(ModelError, match="keep at least one"):
        resolve("mm-imdb/concat?drop=text,image").build("meta")


def test_an_operator_of_table_1_takes_the_place_of_the_concatenation() -> None:
    glu = totals(trace_model(resolve("mm-imdb/concat?fusion=linear-glu&tokens=8&image_size=32")).graph)
    assert (glu["fusion"], glu["head"]) == ((2 * 512 * 512, 2 * 512 * 512), linear(512, 23))


# --- it runs ----------------------------------------------------------------------------------------------------------


def real(name: str, **options: Any) -> torch.Tensor:
    built = resolve(f"mm-imdb/{name}", batch=2, **options).build("cpu")
    with torch.no_grad():
        return built.module(*built.args, **built.kwargs)


def traced_output(name: str, **options: Any) -> tuple[int, ...]:
    found = trace_model(resolve(f"mm-imdb/{name}", batch=2, **options)).graph
    (output,) = found.outputs
    return found.tensors[output].shape


@pytest.mark.parametrize("name", ["text?tokens=8", "concat?tokens=8&drop=image"])
def test_the_traced_output_has_the_shape_of_a_real_forward(name: str) -> None:
    result = real(name)
    assert tuple(result.shape) == traced_output(name) == (2, 23)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize(
    "name", ["concat?tokens=8&image_size=32", "early?tokens=8&image_size=32", "image?image_size=32"]
)
def test_the_large_networks_run_as_they_are_traced(name: str) -> None:
    assert tuple(real(name).shape) == traced_output(name) == (2, 23)


class Small(nn.Module):
    """Features that only have the right width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().flatten(1).mean(1, keepdim=True).expand(-1, self.width)


@pytest.mark.parametrize("name", ["concat", "tensor", "low-rank", "interaction", "early"])
def test_every_fusion_joins_what_the_encoders_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {key: lambda width=width: Small(width) for key, width in networks.RAW_FEATURES.items()}
    monkeypatch.setattr(networks, "ENCODERS", small)
    # At 512 features the weight tensor of the interaction alone is 1 GB.
    monkeypatch.setattr(networks, "FEATURES", 16)
    result = real(f"{name}?tokens=8&image_size=32")
    assert result.shape == (2, 23)
    # Both samples differ, and so do their results: no modality is lost on the way.
    assert not torch.equal(result[0], result[1])


# --- end to end -------------------------------------------------------------------------------------------------------


def test_pre_processing_comes_before_the_same_network() -> None:
    whole, network = graph("concat", end_to_end=True), graph("concat")
    assert [item.shape for item in whole.inputs] == [(1, 3072), (1, 256, 160, 3)]
    assert {item.dtype for item in whole.inputs} == {"uint8"}
    assert whole.stages["preprocess"].params == 0
    assert {layer.placement for layer in whole if layer.stage == "preprocess"} == {"host"}
    rest = [layer.name for layer in whole if layer.stage != "preprocess"]
    assert rest == [layer.name for layer in network]
    assert whole.total_macs == network.total_macs
    assert not [item for item in whole.coverage if item.treatment == "unknown"]


def test_raw_inputs_become_those_of_the_network() -> None:
    prepare = networks.Prepare(tokens=4, image_size=2)
    plot = b"a film"
    text = torch.tensor([list(plot) + [0] * 18], dtype=torch.uint8)
    poster = torch.tensor([10, 20, 30], dtype=torch.uint8).expand(1, 2, 2, 3)
    ready = prepare(text=text, image=poster)
    film = sum(byte * 257**place for place, byte in enumerate(b"film"))
    assert ready["text"].tolist() == [[ord("a") % 29999 + 1, film % 29999 + 1, 0, 0]]
    # Blue, green and red, less the means that the Caffe model was trained with.
    found = ready["image"][0, :, 0, 0]
    assert torch.allclose(found, torch.tensor([30 - 103.939, 20 - 116.779, 10 - 123.68]), atol=1e-4)


def test_a_raw_text_runs_through_to_the_genres() -> None:
    assert real("concat?tokens=8&drop=image", end_to_end=True).shape == (2, 23)
