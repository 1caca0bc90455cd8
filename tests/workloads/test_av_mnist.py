"""AV-MNIST: every network has the published totals, or those of its layer list; raw inputs become its inputs."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import Traced, trace_model

FAMILY = families()["av-mnist"]


class Size(NamedTuple):
    """MACs of one sample, and parameters."""

    macs: int
    params: int

    def then(self, other: Size) -> Size:
        return Size(self.macs + other.macs, self.params + other.params)


def lenet(side: int, blocks: int, channels: int) -> Size:
    """A 5x5 convolution, then 3x3 ones that double the channels, without bias, each with a scale and a shift a channel;
    2x2 pooling halves the side after each."""
    macs, params = side * side * channels * 25, channels * 25 + 2 * channels
    for _ in range(blocks):
        side //= 2
        macs += side * side * channels * 2 * channels * 9
        params += channels * 2 * channels * 9 + 2 * 2 * channels
        channels *= 2
    return Size(macs, params)


def linear(*widths: int) -> Size:
    pairs = list(pairwise(widths))
    return Size(sum(a * b for a, b in pairs), sum(a * b + b for a, b in pairs))


def interaction(x: int, y: int, out: int) -> Size:
    """x makes a matrix of y by out, which y goes through, and an offset."""
    return Size(x * y * out + y * out + x * out, x * y * out + x * out + y * out + out)


def low_rank(widths: tuple[int, ...], out: int, rank: int) -> Size:
    """A factor for each part, with a one in front; their products are summed over the rank with weights."""
    factors = sum(rank * (width + 1) * out for width in widths)
    return Size(factors + rank * out, factors + rank + out)


NOTHING = Size(0, 0)
IMAGE, AUDIO = lenet(28, 3, 6), lenet(112, 5, 6)

# Layers of MMBench's public code, applications/Avmnist/inference.py and models/examples/multimedia/avmnist_*.py
# (`tensor`: its TensorFusion behind the encoders of `concat`). Running those classes at batch 2 under torch's
# FlopCounterMode gave twice these MACs and these parameters.
STAGES: dict[str, dict[str, Size]] = {
    "concat": {"encoder/image": IMAGE, "encoder/audio": AUDIO, "fusion": NOTHING, "head": linear(240, 100, 10)},
    "tensor": {
        "encoder/image": IMAGE, "encoder/audio": AUDIO, "fusion": NOTHING, "head": linear(49 * 193, 100, 10),
    },
    "tensor-mmbench": {
        "encoder/image": lenet(28, 3, 3),
        "encoder/audio": lenet(112, 5, 3),
        "fusion": interaction(24, 96, 96),
        "head": linear(96, 100, 10),
    },
    "interaction": {
        "encoder/image": IMAGE,
        "encoder/audio": AUDIO,
        "fusion": interaction(48, 192, 240),
        "head": linear(240, 100, 10),
    },
    "low-rank": {
        "encoder/image": IMAGE,
        "encoder/audio": AUDIO,
        "fusion": low_rank((48, 192), 120, 40),
        "head": linear(120, 100, 10),
    },
    "cca": {
        "encoder/image": IMAGE,
        "encoder/audio": AUDIO.then(linear(192, 48)),
        "fusion": NOTHING,
        "head": linear(96, 10),
    },
    "refnet": {
        "encoder/image": IMAGE.then(linear(48, 192)),
        "encoder/audio": AUDIO,
        "fusion": NOTHING,
        "head": linear(384, 100, 10),
    },
    "mfm": {
        "encoder/image": IMAGE.then(linear(48, 200)),
        "encoder/audio": AUDIO.then(linear(192, 200)),
        "fusion": linear(400, 200, 100),
        "head": linear(100, 40, 10),
    },
    "mvae": {
        "encoder/image": IMAGE.then(linear(48, 400)),
        "encoder/audio": AUDIO.then(linear(192, 400)),
        "fusion": NOTHING,
        "head": linear(200, 40, 10),
    },
    "image": {"encoder/image": lenet(28, 3, 3), "head": linear(24, 100, 10)},
    "audio": {"encoder/audio": AUDIO, "head": linear(192, 100, 10)},
}  # fmt: skip

# MMBench's public code at 3eeb472, run: MACs and parameters.
PUBLISHED = {"concat": Size(11_993_032, 260_922)}
PUBLISHED_STAGES = {
    "encoder/image": Size(464_928, 13_938),
    "encoder/audio": Size(11_503_104, 221_874),
    "fusion": NOTHING,
    "head": Size(25_000, 25_110),
}


@cache
def traced(name: str, batch: int | None = None) -> Traced:
    return trace_model(resolve(f"av-mnist/{name}", batch=batch))


def graph(name: str, batch: int | None = None) -> LayerGraph:
    return traced(name, batch).graph


def sizes(found: LayerGraph) -> dict[str, Size]:
    return {stage: Size(total.macs, total.params) for stage, total in found.stages.items()}


def test_every_variant_is_in_the_table() -> None:
    assert list(STAGES) == [variant.name for variant in FAMILY.variants]


@pytest.mark.parametrize("name", STAGES)
def test_macs_and_parameters_of_each_stage(name: str) -> None:
    found = graph(name)
    assert sizes(found) == STAGES[name]
    assert found.built_params == found.total_params == sum(size.params for size in STAGES[name].values())
    assert not [item for item in found.coverage if item.treatment == "unknown"]


def test_published_totals() -> None:
    found = graph("concat")
    assert Size(found.total_macs, found.total_params) == PUBLISHED["concat"]
    assert sizes(found) == PUBLISHED_STAGES
    # The image network that stands alone is narrower; the paper's figure of 31 times is the audio encoder over it.
    assert graph("image").total_params == 7_077
    assert AUDIO.params / 7_077 == pytest.approx(31.35, abs=0.005)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("slf", "concat"), ("slfs", "concat"), ("concat-mmbench", "concat"), ("lrtf", "low-rank"),
        ("tensor-matrix", "tensor-mmbench"), ("mim", "interaction"), ("uni-image", "image"),
    ],
)  # fmt: skip
def test_names_of_the_papers_and_the_code(alias: str, name: str) -> None:
    assert resolve(f"av-mnist/{alias}").name == f"av-mnist/{name}"


@pytest.mark.parametrize("name", STAGES)
def test_two_samples_are_twice_the_macs(name: str) -> None:
    one, two = graph(name), graph(name, 2)
    assert sizes(two) == {stage: Size(2 * size.macs, size.params) for stage, size in sizes(one).items()}


@pytest.mark.parametrize("name", STAGES)
def test_the_traced_output_has_the_shape_of_a_real_forward(name: str) -> None:
    built = resolve(f"av-mnist/{name}", batch=2).build("cpu")
    with torch.no_grad():
        real = built.module(**built.kwargs)
    output = next(node for node in traced(name, 2).program.graph.nodes if node.op == "output")
    assert real.isfinite().all()
    assert [tuple(part.meta["val"].shape) for part in output.args[0]] == [tuple(real.shape)] == [(2, 10)]


def test_dead_layers_are_the_pools_and_what_training_alone_reads() -> None:
    for name, stages in STAGES.items():
        dead = [layer.op for layer in graph(name) if layer.dead]
        pools = sum({"encoder/image": 4, "encoder/audio": 6}.get(stage, 0) for stage in stages)
        assert dead.count("mean") == pools
        # 1 / precision, and its logarithm.
        assert len(dead) - pools == (3 if name == "mvae" else 0), name


# Table 1 of MMBench on 48 and 192 features: the fusion's size, and the width of what it gives.
TABLE1 = {
    "plain": (NOTHING, 240),
    "zero": (NOTHING, 240),
    "sum": (Size(48 * 192, 48 * 192), 192),
    "concat": (linear(240, 192), 192),
    "tensor": (NOTHING, 48 * 192),
    # One query and one key: a score of 192 products and 192 products with the value.
    "attention": (Size(48 * 192 + 2 * 192, 48 * 192), 192),
    "linear-glu": (Size(48 * 192 + 192 * 192, 48 * 192 + 192 * 192), 192),
}


@pytest.mark.parametrize("name", TABLE1)
def test_operators_of_table_1(name: str) -> None:
    size, width = TABLE1[name]
    expected = {**STAGES["concat"], "fusion": size, "head": linear(width, 100, 10)}
    assert sizes(graph(f"concat?fusion={name}")) == expected


def test_the_outer_products_are_counted_apart() -> None:
    assert graph("concat?fusion=tensor").totals().outer_macs == 48 * 192
    assert graph("tensor").totals().outer_macs == 49 * 193
    assert graph("tensor-mmbench").totals().outer_macs == 0


def test_a_dropped_modality_has_no_encoder_and_no_input() -> None:
    for dropped, kept in (("audio", "image"), ("image", "audio")):
        found = graph(f"concat?drop={dropped}")
        assert [item.tensor for item in found.inputs] == [kept]
        assert sizes(found) == {stage: STAGES["concat"][stage] for stage in (f"encoder/{kept}", "fusion", "head")}
    assert graph("mvae?drop=image").total_params == sum(
        STAGES["mvae"][stage].params for stage in ("encoder/audio", "head")
    )


def test_channels_widen_the_encoders() -> None:
    found = sizes(graph("interaction?channels=2"))
    assert found == {
        "encoder/image": lenet(28, 3, 2),
        "encoder/audio": lenet(112, 5, 2),
        "fusion": interaction(16, 64, 80),
        "head": linear(80, 100, 10),
    }
    # The image network alone has three channels unless told: with six it is the encoder of the others.
    assert sizes(graph("image?channels=6"))["encoder/image"] == IMAGE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("concat?drop=image,audio", "every modality is dropped"),
        ("concat?fusion=glu", "linear-glu"),
        ("concat?channels=0", "1 to 32"),
        ("image?drop=image", "drop"),
        ("tensor?fusion=sum", "fusion"),
    ],
)
def test_impossible_settings_are_refused(name: str, message: str) -> None:
    with pytest.raises(MmworkloadError, match=message):
        resolve(f"av-mnist/{name}").build("meta")


def test_product_of_experts_is_a_mean_weighted_by_precision() -> None:
    from mmworkload.workloads.av_mnist.networks import ProductOfExperts

    # Means 3 and 6 with variances 1 and 1/2, beside the prior's 0 with variance 1: (3 + 12) / 4.
    parts = [torch.tensor([[3.0, 0.0]]), torch.tensor([[6.0, -math.log(2)]])]
    assert ProductOfExperts()(parts).item() == pytest.approx(15 / 4)


@pytest.mark.parametrize("name", ["concat", "image", "audio"])
def test_end_to_end_has_the_network_and_a_preprocess_stage(name: str) -> None:
    found = graph(f"{name}?end-to-end")
    stages = sizes(found)
    assert stages.pop("preprocess") == NOTHING
    assert stages == STAGES[name]
    assert not [item for item in found.coverage if item.treatment == "unknown"]
    kinds = {"image": ("pixels", (1, 28, 28), "uint8"), "audio": ("waveform", (1, 8000), "float32")}
    wanted = ["image", "audio"] if name == "concat" else [name]
    assert [(item.tensor, item.shape, item.dtype) for item in found.inputs] == [kinds[item] for item in wanted]
    if "audio" in wanted:
        # 112 frames of 222 samples: the window, and 5 n log2 n for the transform.
        transform = 112 * (222 + math.ceil(5 * 222 * math.log2(222)))
        assert [layer.vector_ops for layer in found if layer.op == "stft"] == [transform]


def test_a_tone_is_a_line_in_the_spectrogram_and_pixels_lie_between_zero_and_one() -> None:
    from mmworkload.workloads.av_mnist.networks import Prepare

    row = 30
    seconds = torch.arange(8000) / 8000
    tones = torch.sin(2 * math.pi * row * 8000 / 222 * seconds).repeat(2, 1) * torch.tensor([[1.0], [0.01]])
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(2, 28, 10)[:, :, :28]
    ready = Prepare()(pixels=pixels, waveform=tones)
    assert ready["image"].shape == (2, 1, 28, 28)
    assert ready["image"].unique().tolist() == pytest.approx([0, 0.2, 1])
    audio = ready["audio"]
    assert audio.shape == (2, 1, 112, 112)
    assert (audio.min().item(), audio.max().item()) == pytest.approx((0, 1), abs=1e-6)
    # Away from the ends, where half a frame is silence.
    assert set(audio[0, 0, :, 4:-4].argmax(dim=0).tolist()) == {row}
    # Loudness is relative to the loudest: a faint tone gives the same picture down to its floor.
    assert torch.allclose(audio[0, 0, row], audio[1, 0, row], atol=1e-4)


def test_end_to_end_runs() -> None:
    built = resolve("av-mnist/concat?end-to-end", batch=2).build("cpu")
    with torch.no_grad():
        assert built.module(**built.kwargs).shape == (2, 10)
