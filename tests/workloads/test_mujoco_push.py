"""MuJoCo Push: every network has the published totals, or those of its layer list, at every number of steps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import Traced, trace_model

pytestmark = pytest.mark.slow

FAMILY = families()["mujoco-push"]
STEPS = 16


class Size(NamedTuple):
    """MACs of one sample, and parameters."""

    macs: int
    params: int


def add(sizes: Iterable[Size]) -> Size:
    found = list(sizes)
    return Size(sum(size.macs for size in found), sum(size.params for size in found))


def linear(steps: int, *widths: int) -> Size:
    pairs = list(pairwise(widths))
    return Size(steps * sum(a * b for a, b in pairs), sum(a * b + b for a, b in pairs))


def convolution(steps: int, side: int, channels: int, out: int, kernel: int) -> Size:
    weights = kernel**2 * channels * out
    return Size(steps * side**2 * weights, weights + out)


def lstm(steps: int, width: int, hidden: int) -> Size:
    """Four gates, each of input and state, with two biases."""
    weights = 4 * hidden * (width + hidden)
    return Size(steps * weights, weights + 8 * hidden)


def vector(steps: int, features: int, width: int) -> Size:
    return linear(steps, features, width, width, width)


def image(steps: int, width: int) -> Size:
    """5x5 to 32 channels, a residual block of two 3x3, 3x3 to 16 and to 8, all of 32 by 32; then linear layers."""
    convolutions = [(1, 32, 5), (32, 32, 3), (32, 32, 3), (32, 16, 3), (16, 8, 3)]
    return add(
        [
            *(convolution(steps, 32, channels, out, kernel) for channels, out, kernel in convolutions),
            linear(steps, 8 * 32 * 32, width, width, width),
        ]
    )


def encoders(
    steps: int, position: int = 64, sensors: int = 64, picture: int = 64, control: int = 64
) -> dict[str, Size]:
    return {
        "encoder/position": vector(steps, 3, position),
        "encoder/sensors": vector(steps, 7, sensors),
        "encoder/image": image(steps, picture),
        "encoder/control": vector(steps, 7, control),
    }


def recurrent_head(steps: int) -> Size:
    return add([lstm(steps, 64, 512), lstm(steps, 512, 512), linear(steps, 512, 64, 2)])


def mult(steps: int, count: int, width: int, embed: int, layers: int, out: int) -> Size:
    """Of ``count`` modalities each attends to each; then over what it heard; then a residual block and the output.

    A layer: queries, keys, values, output (4 d^2) and a feed-forward network (4 d^2 twice), scores and values over all
    pairs of steps; 9 d biases, two norms of 2 d, and one norm behind the last layer.
    """

    def encoder(size: int) -> Size:
        macs = layers * (steps * 12 * size**2 + 2 * steps**2 * size)
        return Size(macs, layers * (12 * size**2 + 9 * size + 4 * size) + 2 * size)

    joined = count**2 * embed
    return add(
        [
            Size(steps * count * width * embed, count * width * embed),
            *[encoder(embed)] * count**2,
            *[encoder(count * embed)] * count,
            linear(steps, joined, joined, joined, out),
        ]
    )


NOTHING = Size(0, 0)


def stages(name: str, steps: int) -> dict[str, Size]:
    """The layers of MMBench's public code: applications/MuJoCo-Push/inference.py, models/unimodals/gentle_push and
    models/examples/gentle_push. ``concat`` is the paper's Table 3: the encoders of ``ef``, and 64 and 2 features.

    Running those classes at batch 1 under torch's FlopCounterMode gave these MACs and these parameters.
    """
    if name == "late":
        alone = encoders(steps)
        return {
            **{stage: add([size, lstm(steps, 64, 256)]) for stage, size in alone.items()},
            "fusion": linear(steps, 4 * 256, 2),
        }
    if name == "tensor":
        return {
            **encoders(steps, position=8, sensors=8, picture=64, control=16),
            "fusion": NOTHING,
            "head": linear(steps, 9 * 9 * 65 * 17, 256, 2),
        }
    if name == "concat":
        return {**encoders(steps), "fusion": NOTHING, "head": linear(steps, 4 * 64, 64, 2)}
    if name == "early":
        return {**encoders(steps), "fusion": linear(steps, 4 * 64, 64), "head": recurrent_head(steps)}
    if name == "transformer":
        return {**encoders(steps), "fusion": mult(steps, 4, 64, 64, 3, 2)}
    stage = f"encoder/{name}"
    # The public code keeps the fusion layer, 64 to 64, before the head.
    return {stage: encoders(steps)[stage], "head": add([linear(steps, 64, 64), recurrent_head(steps)])}


# MMBench's public code at 3eeb472, run: MACs and parameters.
PUBLISHED = {
    "late": Size(439_403_520, 1_904_986),
    "early": Size(471_616_512, 3_918_426),
    "tensor": Size(784_624_640, 23_472_890),
    "transformer": Size(644_137_984, 584_024 + 13_998_082),
    "position": Size(53_154_816, 3_330_690),
    "image": Size(471_009_280, 3_879_898),
}
NAMES = ["late", "concat", "early", "tensor", "transformer", "position", "sensors", "image"]


@cache
def traced(name: str, batch: int | None = None) -> Traced:
    return trace_model(resolve(f"mujoco-push/{name}", batch=batch))


def graph(name: str, batch: int | None = None) -> LayerGraph:
    return traced(name, batch).graph


def sizes(found: LayerGraph) -> dict[str, Size]:
    return {stage: Size(total.macs, total.params) for stage, total in found.stages.items()}


def test_every_variant_is_in_the_tests() -> None:
    assert [variant.name for variant in FAMILY.variants] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_macs_and_parameters_of_each_stage(name: str) -> None:
    found = graph(name)
    assert sizes(found) == stages(name, STEPS)
    assert found.built_params == found.total_params
    assert not [item for item in found.coverage if item.treatment == "unknown"]
    if name in PUBLISHED:
        assert Size(found.total_macs, found.total_params) == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_two_samples_of_three_steps(name: str) -> None:
    found = graph(f"{name}?steps=3", 2)
    assert sizes(found) == {stage: Size(2 * size.macs, size.params) for stage, size in stages(name, 3).items()}
    built = resolve(f"mujoco-push/{name}?steps=3", batch=2).build("cpu")
    with torch.no_grad():
        real = built.module(**built.kwargs)
    output = next(node for node in traced(f"{name}?steps=3", 2).program.graph.nodes if node.op == "output")
    assert real.isfinite().all()
    assert [tuple(part.meta["val"].shape) for part in output.args[0]] == [tuple(real.shape)] == [(2, 3, 2)]


def test_transformer_over_encoders() -> None:
    """The CAL paper (2022) has about 15 times the parameters and 2.17 times the kernel time; the code that it published
    has 24 times the parameters and little more than half the MACs."""
    found = sizes(graph("transformer"))
    fusion = found.pop("fusion")
    alone = add(found.values())
    assert (fusion.params, alone.params) == (13_998_082, 584_024)
    assert fusion.params / alone.params == pytest.approx(23.97, abs=0.005)
    assert (fusion.macs, alone.macs) == (225_738_752, 418_399_232)


def test_transformer_layers_are_those_of_the_public_code() -> None:
    found = graph("transformer")
    cross = [layer.op for layer in found if layer.name.startswith("fusion.streams.1.cross.2.layers.0.")]
    memory = [layer.op for layer in found if layer.name.startswith("fusion.streams.1.memory.layers.0.")]
    # Queries, keys and values are normed and projected one by one across modalities, together within one.
    assert (cross.count("layer_norm"), cross.count("linear"), cross.count("attention")) == (3 + 1, 3 + 1 + 2, 1)
    assert (memory.count("layer_norm"), memory.count("linear"), memory.count("attention")) == (1 + 1, 1 + 1 + 2, 1)
    attention = [layer for layer in found if layer.op == "attention"]
    assert len(attention) == 3 * (16 + 4)
    # Causal: of 16 by 16 pairs of steps 136 count.
    assert {work.problem.useful_macs / work.problem.macs for layer in attention for work in layer.work} == {136 / 256}
    assert not [layer.name for layer in found if layer.dead]


def test_the_outer_product_is_counted_apart() -> None:
    # Position and sensors, then the image, then the control.
    products = 9 * 9 + 9 * 9 * 65 + 9 * 9 * 65 * 17
    assert graph("tensor").totals().outer_macs == STEPS * products


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("lf", "late"), ("late-mmbench", "late"), ("ef", "early"), ("mult", "transformer"), ("tf", "tensor"),
        ("control", "sensors"),
    ],
)  # fmt: skip
def test_names_of_the_papers_and_the_code(alias: str, name: str) -> None:
    assert resolve(f"mujoco-push/{alias}").name == f"mujoco-push/{name}"


def test_control_would_be_the_graph_of_sensors() -> None:
    assert encoders(STEPS)["encoder/control"] == encoders(STEPS)["encoder/sensors"]
    assert "control is the same graph" in resolve("mujoco-push/control").notes[0]


# Table 1 of MMBench on four sequences of 256 features: what the fusion adds to the linear layer, and its width.
TABLE1 = {
    "sum": (NOTHING, 256),
    "concat": (linear(2, 4 * 256, 256), 256),
    # Four parts share 65,536: 16 features each.
    "tensor": (Size(2 * 4 * 256 * 16, 4 * 256 * 16), 16**4),
    # Two queries, and the two steps of three modalities as keys.
    "attention": (Size(2 * 2 * 6 * 256, 0), 256),
    "linear-glu": (Size(2 * 4 * 256 * 256, 4 * 256 * 256), 256),
}


@pytest.mark.parametrize("name", TABLE1)
def test_operators_of_table_1(name: str) -> None:
    size, width = TABLE1[name]
    expected = {**stages("late", 2), "fusion": add([size, linear(2, width, 2)])}
    assert sizes(graph(f"late?steps=2&fusion={name}")) == expected


def test_a_dropped_modality_has_no_encoder_and_no_input() -> None:
    found = graph("early?steps=2&drop=image,control")
    assert [item.tensor for item in found.inputs] == ["position", "sensors"]
    expected = stages("early", 2)
    assert sizes(found) == {
        stage: size for stage, size in expected.items() if stage not in ("encoder/image", "encoder/control")
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("late?drop=position,sensors,image,control", "every modality is dropped"),
        ("late?steps=0", "1 to 1024"),
        ("late?fusion=mult", "fusion"),
        ("image?drop=image", "drop"),
        ("transformer?fusion=sum", "fusion"),
    ],
)
def test_impossible_settings_are_refused(name: str, message: str) -> None:
    with pytest.raises(MmworkloadError, match=message):
        resolve(f"mujoco-push/{name}").build("meta")


def test_preparation_takes_the_control_from_positions() -> None:
    from mmworkload.workloads.mujoco_push.networks import Prepare

    prepare = Prepare(["position", "sensors", "control"])
    prepare.get_buffer("sensors_mean")[6] = 0.5
    prepare.get_buffer("sensors_deviation")[6] = 0.25
    position = torch.tensor([[[1.0, 2, 3], [1, 4, 3], [2, 4, 0]]])
    ready = prepare(position=position, force=torch.full((1, 3, 6), 7.0), contact=torch.tensor([[[0.0], [1], [1]]]))
    assert torch.equal(ready["position"], position)
    assert ready["sensors"].tolist() == [[[7.0] * 6 + [contact] for contact in (-2.0, 2.0, 2.0)]]
    assert ready["control"].tolist() == [
        [[1.0, 2, 3, 0, 0, 0, 0], [1, 2, 3, 0, 2, 0, 1], [1, 4, 3, 1, 0, -3, 1]],
    ]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("concat?steps=2", {"position", "force", "contact", "image"}),
        ("concat?steps=2&drop=image,sensors", {"position", "contact"}),
        ("position?steps=2", {"position"}),
        ("sensors?steps=2", {"force", "contact"}),
        ("image?steps=2", {"image"}),
    ],
)
def test_end_to_end_has_the_network_and_a_preprocess_stage(name: str, inputs: set[str]) -> None:
    found = graph(f"{name}&end-to-end")
    assert {item.tensor for item in found.inputs} == inputs
    after = sizes(found)
    assert after.pop("preprocess") == NOTHING
    assert after == sizes(graph(name))
    built = resolve(f"mujoco-push/{name}&end-to-end", batch=2).build("cpu")
    with torch.no_grad():
        assert built.module(**built.kwargs).shape == (2, 2, 2)
