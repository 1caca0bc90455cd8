"""Chameleon: totals by hand, phases that agree with transformers' own forward, images, and text to image."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn
from transformers import ChameleonVQVAEConfig

from mmworkload.generation import Totals, category, generation
from mmworkload.generation.totals import of_graph
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.models.family import InputSpec
from mmworkload.models.model import Model, synthesize
from mmworkload.sources import require_known
from mmworkload.tracing import trace_model
from mmworkload.workloads.chameleon import vq
from mmworkload.workloads.chameleon.networks import IMAGE_WORDS, Builder, chameleon
from mmworkload.workloads.chameleon.sizes import SIZES, Size

pytestmark = pytest.mark.slow

SMALL = {post: Size(32, 48, 2, 4, 2 if post else 4, post, vocabulary=8704, positions=64) for post in (False, True)}


@cache
def traced(name: str) -> LayerGraph:
    return require_known(trace_model(resolve(name)).graph)


def traced_module(module: nn.Module, inputs: dict[str, torch.Tensor]) -> LayerGraph:
    specs = tuple(
        InputSpec(key, tuple(item.shape), str(item.dtype).removeprefix("torch."), high=2)
        for key, item in inputs.items()
    )
    model = Model(
        "small", "small", 1, "float32", lambda device: (module.to("meta"), synthesize(specs)), specs, {"*": "head"}
    )
    return require_known(trace_model(model).graph)


# --- small networks, for real ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("post", [False, True])
def test_every_step_gives_the_logits_and_shapes_of_transformers_own_forward(post: bool) -> None:
    size = SMALL[post]
    torch.manual_seed(0)
    reference = chameleon(size, 2).eval()
    # The names of image tokens, as the released vocabulary has them: transformers forbids them in a text.
    letters = "ABCDEFGHIJ"
    spelled = {
        "IMGIMG" + "".join(letters[int(digit)] for digit in f"{code:04d}") + "Z": code + 4 for code in range(8192)
    }
    mapping = reference.model.vocabulary_mapping
    mapping.vocab_map = {"<image>": 8700, **spelled}
    mapping.__dict__.pop("image_tokens", None)
    tokens = torch.randint(0, size.vocabulary, (2, 5), generator=torch.Generator().manual_seed(1))
    state = [torch.full((2, 2, size.kv_heads, 8, size.head_width), torch.nan) for _ in range(2)]

    def run(start: int, fed: torch.Tensor) -> torch.Tensor:
        module = Builder(size).phase(2, start, "text", "off").eval()
        module.load_state_dict(reference.state_dict())
        length = start + fed.shape[1]
        inputs = {"tokens": fed, "keys": state[0][:, :, :, :length], "values": state[1][:, :, :, :length]}
        with torch.no_grad():
            logits, chosen = module(**inputs)
            torch.testing.assert_close(logits, reference(tokens).logits[:, -1:])
        assert not set(chosen.tolist()) & set(IMAGE_WORDS)
        graph = traced_module(module, inputs)
        assert [graph.tensors[name].shape for name in graph.outputs] == [tuple(logits.shape), tuple(chosen.shape)]
        return chosen

    chosen = run(0, tokens)
    for start in (5, 6):
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        chosen = run(start, chosen[:, None])


def test_guidance_goes_away_from_what_is_drawn_without_a_condition() -> None:
    torch.manual_seed(0)
    module = Builder(SMALL[False]).phase(2, 0, "image", "on").eval()
    state = torch.zeros(2, 2, 4, 3, 8)
    with torch.no_grad():
        logits, chosen = module(torch.tensor([[1, 2, 3], [1, 1, 1]]), state, state.clone())
    one, other = logits[:, 0]
    assert chosen.tolist() == [int((other + 3.0 * (one - other)).argmax())]
    assert chosen[0] in IMAGE_WORDS
    forbidden = torch.finfo(torch.float32).min
    assert {int(row) for row in (logits[:, 0] != forbidden).sum(1)} == {len(IMAGE_WORDS)}


def test_the_image_decoder_mirrors_the_encoder_of_transformers() -> None:
    config = ChameleonVQVAEConfig(
        embed_dim=8, num_embeddings=16, resolution=32, base_channels=32, channel_multiplier=[1, 1, 2], num_res_blocks=1,
        latent_channels=8, attn_resolutions=None,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder, decoder = vq.ImageEncoder(config).eval(), vq.ImageDecoder(config, 32, 64).eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        words = encoder(image)
        drawn = decoder(words)
        codes = encoder.vqmodel.encode(image).image_tokens
    assert torch.equal(words.flatten(), codes + 4)
    assert (words.shape, drawn.shape) == ((2, 64), image.shape)
    assert traced_module(encoder, {"image": image}).tensors
    graph = traced_module(decoder, {"words": words})
    assert [graph.tensors[name].shape for name in graph.outputs] == [tuple(drawn.shape)]
    assert {category(layer) for layer in graph if layer.module.startswith("image_decoder")} == {"Misc"}


# --- totals ---------------------------------------------------------------------------------------------------------


def macs(size: Size, layers: int, rows: int, tokens: int, length: int) -> int:
    """Four projections, three of the gated feed-forward, two products of attention; the head on the last token."""
    shared = size.kv_heads * size.head_width
    block = size.width * (2 * size.width + 2 * shared + 3 * size.inner) + 2 * size.width * length
    return rows * (layers * tokens * block + size.width * size.vocabulary)


@pytest.mark.parametrize("name", SIZES)
def test_macs_are_those_by_hand(name: str) -> None:
    size = SIZES[name]
    step = traced(f"chameleon/{name}-decode?layers=2&cached=300&guidance=on&output=image")
    assert step.total_macs == macs(size, 2, 2, 1, 301)
    assert set(step.stages) == {"fusion", "head"}
    prefill = traced(f"chameleon/{name}-prefill?layers=1&prompt=40")
    assert prefill.total_macs == macs(size, 1, 1, 40, 40)
    # Guidance doubles the rows of the caches.
    place = 2 * 2 * 2 * size.kv_heads * size.head_width * 4
    assert of_graph(step).state_bytes == place * 301 + place


def conv(side: int, channels: int, out: int, kernel: int = 9) -> int:
    return side * side * channels * out * kernel


def residual(side: int, channels: int, out: int) -> int:
    return conv(side, channels, out) + conv(side, out, out) + (conv(side, channels, out, 1) if channels != out else 0)


def test_the_image_tokenizer_has_the_macs_of_its_layer_list() -> None:
    """VQGAN: 128 channels times 1, 1, 2, 2, 4; two residual blocks a level, three in the decoder; one attention."""
    widths = [128, 128, 256, 256, 512]
    pixels = 32 * 32
    attention = 4 * conv(32, 512, 512, 1) + 2 * pixels * pixels * 512
    middle = 2 * residual(32, 512, 512) + attention
    down, channels = conv(512, 3, 128), 128
    for level, width in enumerate(widths):
        side = 512 >> level
        down += residual(side, channels, width) + residual(side, width, width)
        down += conv(side // 2, width, width) if level < 4 else 0
        channels = width
    down += middle + conv(32, 512, 256) + conv(32, 256, 256, 1) + pixels * 256 * 8192
    encoder = traced("chameleon/image-encoder")
    assert encoder.total_macs == down
    # Facts, A.4: 29.4 M parameters of the encoder with its codebook.
    assert encoder.total_params == pytest.approx(29.4e6, rel=2e-3)

    up, channels = conv(32, 256, 256, 1) + conv(32, 256, 512) + middle, 512
    for level in range(4, -1, -1):
        side, width = 512 >> level, widths[level]
        up += residual(side, channels, width) + 2 * residual(side, width, width)
        up += conv(2 * side, width, width) if level else 0
        channels = width
    assert traced("chameleon/image-decoder").total_macs == up + conv(512, 128, 3)


@pytest.mark.parametrize(
    ("name", "params"), [("7b", 7_043_090_432), pytest.param("34b", 34_323_732_480, marks=pytest.mark.full)]
)
def test_the_whole_models_have_the_published_parameters(name: str, params: int) -> None:
    graph = traced(f"chameleon/{name}-decode")
    assert graph.built_params == params
    assert graph.total_macs == macs(SIZES[name], SIZES[name].layers, 1, 1, 1057)


# --- generations ----------------------------------------------------------------------------------------------------


def test_text_to_image_over_1024_steps_is_the_exact_sum() -> None:
    """The closed sum is that of graphs traced at lengths that were not used to fit it."""
    made = generation("chameleon/7b-text-to-image?layers=1")
    decode = made.phases[1]
    assert [phase.runs for phase in made.phases] == [1, 1024, 1]
    used = decode.growing.lengths  # type: ignore[union-attr]
    for cached in (100, 777, 1000):
        assert cached not in (*used, (used[0] + used[1]) // 2)
        expected = traced(f"chameleon/7b-decode?layers=1&cached={cached}&guidance=on&output=image")
        found = decode.growing.at(cached)  # type: ignore[union-attr]
        assert (found.layers, found.tensors) == (expected.layers, expected.tensors)
    totals = made.by_phase()
    size = SIZES["7b"]
    assert totals["decode"].macs == sum(macs(size, 1, 2, 1, cached + 1) for cached in range(32, 32 + 1024))
    every = sum((of_graph(decode.growing.at(cached)) for cached in range(32, 1056)), Totals())  # type: ignore[union-attr]
    assert totals["decode"] == every
    assert totals["prefill"].macs == macs(size, 1, 2, 32, 32)
    assert totals["image decoder"] == of_graph(traced("chameleon/image-decoder"))
    assert made.sampled(3).workload.total_macs == made.totals.macs


def test_every_task_of_the_paper_is_there_under_its_name() -> None:
    family = families()["chameleon"]
    for size in SIZES:
        for alias, steps in (("it-t", 12), ("i-t", 30)):
            found = family.generation(f"{size}-{alias}")
            assert found is not None
            assert found.parameters["steps"].default == steps
        assert family.generation(f"{size}-t-i") is not None
    found = family.generation("7b")
    assert found is not None
    runs = found.runs(image_size=512, text=32, steps=12, layers=32)
    assert [(run.name, run.steps, run.start) for run in runs] == [
        ("image encoder", 1, 0),
        ("prefill", 1, 0),
        ("decode", 12, 1056),
    ]
