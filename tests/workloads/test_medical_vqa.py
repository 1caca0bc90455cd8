"""Medical VQA: sizes of ViLMedic's parts in closed form, totals of the public code, and what the networks compute."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from mmworkload.errors import MmworkloadError, ModelError, UnknownNameError
from mmworkload.models import families, resolve
from mmworkload.tracing import Traced, trace_model
from mmworkload.workloads.medical_vqa import networks

# Seconds each; that every variant has its stages, totals and operators is read from shapes/ in test_zoo.py.
pytestmark = pytest.mark.slow

Cost = tuple[int, int]  # MACs, parameters
WIDTH, VOCABULARY = 768, 50265
# Small enough to run for real: the widths stay, what repeats is once.
DENSENET = "image_size=64&densenet=densenet121"
SMALL = {
    "transformer": f"{DENSENET}&vocabulary=50&text_layers=1&layers=1&tokens=5&answer=3",
    "cross-attention": f"{DENSENET}&vocabulary=50&text_layers=1&decoder_layers=1&tokens=5&answer=3",
    "concat": f"{DENSENET}&vocabulary=50&text_layers=1&tokens=5",
    "concat-mmbench": "image_size=72&tokens=5",
    "concat-mean-mmbench": "image_size=72&tokens=5",
    "image": f"{DENSENET}&vocabulary=50&decoder_layers=1&answer=3",
    "image-classifier": "image_size=40&layers=1&densenet=densenet121",
    "text": "vocabulary=50&text_layers=1&decoder_layers=1&tokens=5&answer=3",
}
# Results for a batch of two at those settings.
RESULT = {
    **dict.fromkeys(("transformer", "cross-attention", "image", "text"), (2, 3, 50)),
    **dict.fromkeys(("concat", "concat-mmbench", "concat-mean-mmbench"), (2, 5)),
    "image-classifier": (2, 330),
}


# The other variants share every part with these.
QUICK = ("transformer", "cross-attention", "concat", "concat-mmbench", "image-classifier")


def slow_unless(quick: bool, *values: str) -> Any:
    return pytest.param(*values, marks=() if quick else pytest.mark.slow)


def plus(*parts: Cost) -> Cost:
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def linear(inputs: int, outputs: int, rows: int = 1) -> Cost:
    return rows * inputs * outputs, inputs * outputs + outputs


def norm(width: int) -> Cost:
    return 0, 2 * width


def densenet(blocks: tuple[int, ...], side: int) -> Cost:
    """Huang et al., CVPR 2017, Table 1: growth 32, bottlenecks of 128, all convolutions without bias."""
    side //= 2
    macs, params, channels = side * side * 49 * 3 * 64, 49 * 3 * 64 + 2 * 64, 64
    side //= 2
    for index, layers in enumerate(blocks):
        for _ in range(layers):
            weights = channels * 128 + 9 * 128 * 32
            macs, params = macs + side * side * weights, params + weights + 2 * channels + 2 * 128
            channels += 32
        if index < len(blocks) - 1:
            weights = channels * channels // 2
            macs, params = macs + side * side * weights, params + weights + 2 * channels
            channels //= 2
            side //= 2
    return macs, params + 2 * channels


def attention(rows: int, seen: int) -> Cost:
    """Query and output for each row, key and value for each token that is seen, scores and mix."""
    twice = plus(linear(WIDTH, WIDTH, rows), linear(WIDTH, WIDTH, rows))
    return plus(
        twice, linear(WIDTH, WIDTH, seen), linear(WIDTH, WIDTH, seen), (2 * rows * seen * WIDTH, 0), norm(WIDTH)
    )


def layer(rows: int, inner: int, memory: int = 0) -> Cost:
    feed_forward = plus(linear(WIDTH, inner, rows), linear(inner, WIDTH, rows), norm(WIDTH))
    return plus(attention(rows, rows), feed_forward, attention(rows, memory) if memory else (0, 0))


def times(count: int, cost: Cost) -> Cost:
    return count * cost[0], count * cost[1]


def embeddings(types: int) -> Cost:
    """Words, positions, types, and a norm; looked up, not multiplied."""
    return 0, (VOCABULARY + 514 + types) * WIDTH + 2 * WIDTH


DENSENET169 = densenet((6, 12, 32, 32), 224)
PLACES = 49  # 224 / 32, squared
TEXT = plus(embeddings(1), times(12, layer(12, 3072)))
IMAGE = plus(DENSENET169, linear(1664, WIDTH, PLACES))
# The language-model head reads the word table, which is tied: it counts in the stage, once in the total.
TIED = VOCABULARY * WIDTH
WORDS = (12 * WIDTH * VOCABULARY, VOCABULARY)


def roberta_decoder(memory: int) -> tuple[Cost, Cost]:
    """The layers and, apart, the head."""
    layers = plus(embeddings(1), times(12, layer(12, 3072, memory)))
    return layers, plus(linear(WIDTH, WIDTH, 12), norm(WIDTH), WORDS)


def classifier(width: int) -> Cost:
    return plus(linear(width, 1024), linear(1024, 5))


# torchvision's ResNet-152 at 448 x 448 (facts of the zoo: 46,048,362,496 MACs, 60,192,808 parameters), without its
# classifier, which the public code builds and does not run.
RESNET152 = (46_048_362_496 - 2048 * 1000, 60_192_808 - 2048 * 1000 - 1000)
LSTM = (12 * 4 * 1024 * (300 + 1024), 30 * 300 + 4 * 1024 * (300 + 1024 + 2))
GLIMPSES = plus((196 * 2048 * 512, 2048 * 512), linear(1024, 512), linear(512, 2, 1), (195 * 512 * 2, 0))


def totals(name: str) -> dict[str, Cost]:
    """Stage to MACs and parameters at batch 1."""
    both = sum(roberta_decoder(12 + PLACES)[part][0] for part in (0, 1))
    alone = {memory: plus(*roberta_decoder(memory)) for memory in (12, PLACES)}
    table: dict[str, dict[str, Cost]] = {
        "transformer": {
            "encoder/image": plus(IMAGE, norm(WIDTH)),
            "encoder/text": TEXT,
            "fusion": times(12, layer(12 + PLACES, 2048)),
            "head": plus(embeddings(0), layer(12, 3072, 12 + PLACES), WORDS),
        },
        "cross-attention": {
            "encoder/image": IMAGE,
            "encoder/text": TEXT,
            "fusion": roberta_decoder(12 + PLACES)[0],
            "head": plus(roberta_decoder(12 + PLACES)[1], (0, TIED)),
        },
        "concat": {
            "encoder/image": DENSENET169,
            "encoder/text": plus(TEXT, linear(WIDTH, WIDTH)),
            "fusion": (0, 0),
            "head": classifier(1664 + WIDTH),
        },
        "concat-mmbench": {
            "encoder/image": RESNET152,
            "encoder/text": LSTM,
            "fusion": GLIMPSES,
            "head": classifier(2 * 2048 + 1024),
        },
        "concat-mean-mmbench": {
            "encoder/image": RESNET152,
            "encoder/text": LSTM,
            "fusion": (0, 0),
            "head": classifier(2048 + 1024),
        },
        "image": {"encoder/image": IMAGE, "head": alone[PLACES]},
        "image-classifier": {
            "encoder/image": plus(
                densenet((6, 12, 32, 32), 232), linear(1664, WIDTH, PLACES), norm(WIDTH), times(12, layer(PLACES, 2048))
            ),
            "head": plus(linear(WIDTH, WIDTH), linear(WIDTH, 330)),
        },
        "text": {"encoder/text": TEXT, "head": alone[12]},
    }
    found = table[name]
    tied = TIED if name == "cross-attention" else 0
    whole = plus(*found.values())
    assert name != "cross-attention" or found["fusion"][0] + found["head"][0] == both
    return {**found, "": (whole[0], whole[1] - tied)}


@cache
def traced(name: str, batch: int = 1) -> Traced:
    return trace_model(resolve(f"medical-vqa/{name}", batch=batch))


def test_the_parts_have_the_published_sizes() -> None:
    # torchvision's and transformers' networks with their heads, as listed for stand-alone use.
    assert plus(densenet((6, 12, 32, 32), 224), linear(1664, 1000)) == (3_359_843_328, 14_149_480)
    assert plus(densenet((6, 12, 24, 16), 224), linear(1024, 1000)) == (2_834_161_664, 7_978_856)
    assert plus(densenet((6, 12, 48, 32), 224), linear(1920, 1000)) == (4_291_365_888, 20_013_928)
    assert plus(TEXT, linear(WIDTH, WIDTH)) == (1_022_459_904, 124_645_632)


def test_the_public_code_has_its_published_totals() -> None:
    assert totals("concat-mmbench")[""] == (46_322_885_632, 70_407_535)
    # Counted on the public code's own class with `attention: False`, built without its configuration file.
    assert totals("concat-mean-mmbench")[""] == (46_114_542_592, 66_735_981)


@pytest.mark.parametrize("name", [slow_unless(name in QUICK, name) for name in SMALL])
def test_macs_and_parameters_of_every_stage(name: str) -> None:
    graph = traced(name).graph
    found = {stage: (total.macs, total.params) for stage, total in graph.stages.items()}
    found[""] = (graph.total_macs, graph.total_params)
    assert found == totals(name)
    assert graph.built_params == graph.total_params
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []


@pytest.mark.parametrize("name", [slow_unless(name in ("transformer", "text"), name) for name in SMALL])
def test_a_batch_of_two_runs_as_it_was_traced_and_is_twice_the_work(name: str) -> None:
    small = f"{name}?{SMALL[name]}"
    one, two = traced(small), traced(small, 2)
    assert two.graph.total_macs == 2 * one.graph.total_macs
    assert two.graph.total_params == one.graph.total_params
    built = resolve(f"medical-vqa/{small}", batch=2).build("cpu")
    with torch.no_grad():
        result = built.module(**built.kwargs)
    output = next(node for node in two.program.graph.nodes if node.op == "output")
    assert result.shape == output.args[0][0].meta["val"].shape == RESULT[name]
    assert torch.isfinite(result).all()


def test_more_tokens_are_more_work_in_the_text_encoder_and_the_fusion() -> None:
    def fusion_macs(tokens: int) -> int:
        return layer(tokens + 4, 2048)[0]

    small = SMALL["transformer"].replace("tokens=5", "tokens=9")
    few, many = traced(f"transformer?{SMALL['transformer']}").graph.stages, traced(f"transformer?{small}").graph.stages
    assert (few["fusion"].macs, many["fusion"].macs) == (fusion_macs(5), fusion_macs(9))
    assert (few["encoder/text"].macs, many["encoder/text"].macs) == (layer(5, 3072)[0], layer(9, 3072)[0])
    assert few["encoder/image"].macs == many["encoder/image"].macs


@pytest.mark.parametrize(
    ("name", "drop"),
    [
        slow_unless(name == "transformer" and drop == "image", name, drop)
        for name in ("transformer", "cross-attention", "concat", "concat-mmbench")
        for drop in ("image", "text")
    ],
)
def test_a_dropped_modality_leaves_its_place_in_the_fusion(name: str, drop: str) -> None:
    whole = traced(f"{name}?{SMALL[name]}").graph
    part = traced(f"{name}?{SMALL[name]}&drop={drop}").graph
    assert f"encoder/{drop}" not in part.stages
    assert part.total_macs == whole.total_macs - whole.stages[f"encoder/{drop}"].macs
    assert part.stages["fusion"].macs == whole.stages["fusion"].macs


def test_without_image_or_question_the_public_code_gives_what_zeros_give() -> None:
    # An odd number of columns in the last maps: 72 / 32 rounded up.
    for drop, shape in (("image", (2, 2048, 3, 3)), ("text", (2, 1024))):
        network = networks.region(72, 30, 5, "plain", (), True).eval()
        part = networks.region(72, 30, 5, "plain", (drop,), True).eval()
        part.load_state_dict({key: network.state_dict()[key] for key in part.state_dict()})
        network.encoders[drop].register_forward_hook(lambda *_, shape=shape: torch.zeros(shape))
        inputs = {
            "image": torch.randn(2, 3, 72, 72),
            "mask": torch.ones(2, 1, 72, 72),
            "text": torch.randint(0, 30, (2, 4)),
        }
        kept = {key: value for key, value in inputs.items() if drop == "text" or key == "text"}
        with torch.no_grad():
            torch.testing.assert_close(part(**kept), network(**inputs))


def test_glimpses_are_weighted_means_over_the_image() -> None:
    look = networks.Glimpses().eval()
    maps, question = torch.randn(2, 2048, 3, 4), torch.randn(2, 1024)
    with torch.no_grad():
        seen = look(maps, question).view(2, 2, 2048)
        # By hand, place by place.
        flat = maps.flatten(2)
        middle = torch.einsum("mc,ncp->nmp", look.of_image.weight[:, :, 0, 0], flat)
        middle = torch.relu(middle * look.of_text(question)[:, :, None])
        scores = torch.einsum("gm,nmp->ngp", look.scores.weight[:, :, 0, 0], middle) + look.scores.bias[:, None]
        torch.testing.assert_close(seen, torch.einsum("ngp,ncp->ngc", scores.softmax(-1), flat))


def test_the_decoder_does_not_see_the_words_to_come() -> None:
    for decoder in (networks.small_decoder(50, 2), networks.roberta_decoder(50, 2)):
        decoder.eval()
        memory = torch.randn(1, 6, WIDTH)
        answer = torch.tensor([[5, 6, 7, 8]])
        other = torch.tensor([[5, 6, 9, 10]])
        with torch.no_grad():
            first, second = decoder(answer, memory), decoder(other, memory)
            elsewhere = decoder(answer, memory + 1)
        torch.testing.assert_close(first[:, :2], second[:, :2])
        assert not torch.allclose(first[:, 2:], second[:, 2:], atol=1e-4)
        assert not torch.allclose(first, elsewhere, atol=1e-4)


@pytest.mark.parametrize("name", [slow_unless(name == "concat-mmbench", name) for name in SMALL])
def test_end_to_end_adds_a_preprocessing_stage_and_nothing_else(name: str) -> None:
    small = f"{name}?{SMALL[name]}"
    plain, whole = traced(small).graph, traced(f"{small}&end-to-end").graph
    assert set(whole.stages) == {*plain.stages, "preprocess"}
    assert {stage: whole.stages[stage].macs for stage in plain.stages} == {
        stage: total.macs for stage, total in plain.stages.items()
    }
    raw = {"image": (1, 2848, 4288, 3), "text": (1, 5 * 8)}
    modalities = {item.tensor: item.shape for item in whole.inputs if item.role == "modality"}
    assert modalities == {key: raw[key] for key in modalities}
    assert {item.shape for item in whole.inputs if item.role == "mask"} == {
        raw["image"][:3] for item in plain.inputs if item.role == "mask"
    }
    assert [item for item in whole.coverage if item.treatment == "unknown"] == []


def test_raw_inputs_become_what_the_networks_take() -> None:
    # Twice as wide as high; only the outer columns, beyond the middle square, are bright.
    image, mask = torch.zeros(1, 32, 64, 3, dtype=torch.uint8), torch.zeros(1, 32, 64, dtype=torch.uint8)
    image[:, :, :8] = mask[:, :, :8] = 255
    text = torch.tensor([list(b"is there an exudate here" + bytes(8))], dtype=torch.uint8)
    answer = torch.tensor([[3, 4]])
    square = networks.Prepare(32, 30, 12, crop=True)(image=image, mask=mask, text=text, answer=answer)
    assert square["image"].shape == (1, 3, 32, 32)
    assert square["mask"].shape == (1, 1, 32, 32)
    assert square["mask"].max() == 0
    black = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(square["image"], black.view(1, 3, 1, 1).expand(1, 3, 32, 32))
    assert square["text"].shape == (1, 12)
    assert (square["text"] > 0).sum() == 5
    assert square["answer"] is answer
    squeezed = networks.Prepare(32, 30, 12, crop=False)(image=image, mask=mask)
    assert set(squeezed) == {"image", "mask"}
    torch.testing.assert_close(squeezed["mask"][0, 0, 5, :3], torch.ones(3))
    # An eighth of the columns, the filter's slope aside.
    assert squeezed["mask"].mean().item() == pytest.approx(1 / 8, abs=0.01)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("transformer?tokens=513", MmworkloadError),
        ("transformer?image_size=24", MmworkloadError),
        ("transformer?image_size=225", MmworkloadError),
        ("concat-mmbench?vocabulary=1", MmworkloadError),
        ("transformer?densenet=densenet1", UnknownNameError),
        ("concat?fusion=product", UnknownNameError),
        ("image?tokens=4", UnknownNameError),
    ],
)
def test_an_impossible_parameter_is_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve(f"medical-vqa/{name}")


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(ModelError, match="keep at least one"):
        resolve(f"medical-vqa/concat?{SMALL['concat']}&drop=image,text").build("meta")


def test_every_parameter_of_a_variant_reaches_it() -> None:
    import inspect

    family = families()["medical-vqa"]
    for variant in family.variants:
        functions: list[Any] = [variant.build, variant.inputs, variant.raw, variant.preprocess]
        taken = {name for function in functions for name in inspect.signature(function).parameters}
        assert set(variant.parameters) <= taken
    assert family.variants[0].name == "transformer"
    assert family.variant("mmbench", "medical-vqa").name == "concat-mmbench"
    assert set(SMALL) == {variant.name for variant in family.variants}
