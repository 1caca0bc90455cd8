"""The eight networks of across-stack profiling: closed forms and published totals; boxes as torchvision gives them."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import nn

from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import Traced, trace_model

pytestmark = pytest.mark.slow

FAMILY = families()["across-stack"]
NAMES = [variant.name for variant in FAMILY.variants]


class Size(NamedTuple):
    """MACs of one image, and parameters."""

    macs: int
    params: int


class Conv(NamedTuple):
    """``times`` convolutions of ``kernel`` x ``kernel`` that give ``side`` x ``side`` (or rows, columns) maps.

    ``norm``: two parameters a channel; ``bias``: one. ``groups`` of channels are apart.
    """

    side: int | tuple[int, int]
    channels: int
    width: int
    kernel: int
    times: int = 1
    groups: int = 1
    norm: bool = True
    bias: bool = False

    @property
    def size(self) -> Size:
        rows, columns = self.side if isinstance(self.side, tuple) else (self.side, self.side)
        weights = self.channels // self.groups * self.width * self.kernel**2
        params = weights + self.width * (2 * self.norm + self.bias)
        return Size(self.times * rows * columns * weights, self.times * params)


def plus(*sizes: Size) -> Size:
    return Size(sum(size.macs for size in sizes), sum(size.params for size in sizes))


def total(convs: list[Conv]) -> Size:
    return plus(*(conv.size for conv in convs))


def linear(width: int, out: int, rows: int = 1) -> Size:
    return Size(rows * width * out, width * out + out)


def separable(side: int, channels: int, width: int, times: int = 1) -> list[Conv]:
    """3x3 for each channel by itself, then 1x1."""
    return [Conv(side, channels, channels, 3, times, groups=channels), Conv(side, channels, width, 1, times)]


def plain(side: int, channels: int, width: int, kernel: int) -> Conv:
    """A convolution with bias, without normalisation."""
    return Conv(side, channels, width, kernel, norm=False, bias=True)


# MobileNets (Howard et al., 2017), Table 1, at 224 pixels.
MOBILENET = [
    Conv(112, 3, 32, 3),
    *separable(112, 32, 64),
    *separable(56, 64, 128),
    *separable(56, 128, 128),
    *separable(28, 128, 256),
    *separable(28, 256, 256),
    *separable(14, 256, 512),
    *separable(14, 512, 512, times=5),
    *separable(7, 512, 1024),
    *separable(7, 1024, 1024),
]


def bottlenecks(side: int, channels: int, width: int, times: int, before: int) -> list[Conv]:
    """A stage of ResNet: ``before`` is the side on which the first block's 1x1 runs."""
    return [
        Conv(before, channels, width, 1),
        Conv(side, channels, 4 * width, 1),
        Conv(side, 4 * width, width, 1, times - 1),
        Conv(side, width, width, 3, times),
        Conv(side, width, 4 * width, 1, times),
    ]


def resnet(depths: tuple[int, int, int, int], stride_in_first: bool) -> list[Conv]:
    """Deep residual learning (He et al., CVPR 2016), Table 1, at 224 pixels."""
    befores = (56, 28, 14, 7) if stride_in_first else (56, 56, 28, 14)
    return [
        Conv(112, 3, 64, 7),
        *bottlenecks(56, 64, 64, depths[0], befores[0]),
        *bottlenecks(28, 256, 128, depths[1], befores[1]),
        *bottlenecks(14, 512, 256, depths[2], befores[2]),
        *bottlenecks(7, 1024, 512, depths[3], befores[3]),
    ]


def densenet() -> Size:
    """Densely connected networks (Huang et al., CVPR 2017), Table 1: growth 32; normalisation before convolutions."""
    stem = Conv(112, 3, 64, 7).size
    channels, sizes = 64, [stem]
    for side, layers in ((56, 6), (28, 12), (14, 24), (7, 16)):
        for _ in range(layers):
            narrow, wide = Conv(side, channels, 128, 1).size, Conv(side, 128, 32, 3, norm=False).size
            sizes += [Size(0, 2 * channels), narrow, wide]
            channels += 32
        sizes.append(Size(0, 2 * channels))
        if side > 7:
            sizes.append(Conv(side, channels, channels // 2, 1, norm=False).size)
            channels //= 2
    return plus(*sizes)


# TensorFlow's ssd_mobilenet_v1_coco: MobileNet at 300 pixels, four pairs behind it; 3 anchors in a cell of the first
# map and 6 in others, 4 numbers and 91 classes for each, by 1x1 convolutions.
SSD_MOBILENET = [
    Conv(150, 3, 32, 3),
    *separable(150, 32, 64),
    *separable(75, 64, 128),
    *separable(75, 128, 128),
    *separable(38, 128, 256),
    *separable(38, 256, 256),
    *separable(19, 256, 512),
    *separable(19, 512, 512, times=5),
    *separable(10, 512, 1024),
    *separable(10, 1024, 1024),
    Conv(10, 1024, 256, 1), Conv(5, 256, 512, 3),
    Conv(5, 512, 128, 1), Conv(3, 128, 256, 3),
    Conv(3, 256, 128, 1), Conv(2, 128, 256, 3),
    Conv(2, 256, 64, 1), Conv(1, 64, 128, 3),
]  # fmt: skip
SSD_MOBILENET_HEADS = [
    plain(19, 512, 12, 1), plain(19, 512, 273, 1),
    plain(10, 1024, 24, 1), plain(10, 1024, 546, 1),
    plain(5, 512, 24, 1), plain(5, 512, 546, 1),
    plain(3, 256, 24, 1), plain(3, 256, 546, 1),
    plain(2, 256, 24, 1), plain(2, 256, 546, 1),
    plain(1, 128, 24, 1), plain(1, 128, 546, 1),
]  # fmt: skip
# MLPerf inference v0.5: three stages of ResNet-34 at 1200 pixels, the third without stride, five pairs without
# normalisation; 4, 6, 6, 6, 4 and 4 anchors, 4 numbers and 81 classes for each, by 3x3 convolutions of stride 3.
SSD_RESNET34 = [
    Conv(600, 3, 64, 7),
    Conv(300, 64, 64, 3, 6),
    Conv(150, 64, 128, 3), Conv(150, 64, 128, 1), Conv(150, 128, 128, 3, 7),
    Conv(150, 128, 256, 3), Conv(150, 128, 256, 1), Conv(150, 256, 256, 3, 11),
    plain(150, 256, 256, 1), plain(75, 256, 512, 3),
    plain(75, 512, 256, 1), plain(38, 256, 512, 3),
    plain(38, 512, 128, 1), plain(19, 128, 256, 3),
    plain(19, 256, 128, 1), plain(9, 128, 256, 3),
    plain(9, 256, 128, 1), plain(7, 128, 256, 3),
]  # fmt: skip
SSD_RESNET34_HEADS = [
    plain(50, 256, 16, 3), plain(50, 256, 324, 3),
    plain(25, 512, 24, 3), plain(25, 512, 486, 3),
    plain(13, 512, 24, 3), plain(13, 512, 486, 3),
    plain(7, 256, 24, 3), plain(7, 256, 486, 3),
    plain(3, 256, 16, 3), plain(3, 256, 324, 3),
    plain(3, 256, 16, 3), plain(3, 256, 324, 3),
]  # fmt: skip

# FPN (Lin et al., CVPR 2017) on ResNet50-v1.5 at 800 x 1088: rows and columns of its five levels.
LEVELS = [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)]
CELLS = sum(rows * columns for rows, columns in LEVELS)
RESNET50 = resnet((3, 4, 6, 3), stride_in_first=False)


def pyramid(norm: bool) -> Size:
    """All sides of ResNet50 are multiples of those at 224 pixels; 1x1 and 3x3 convolutions on four stages."""
    body = total(RESNET50)
    on_stages = [
        Conv(level, channels, width, kernel, norm=norm, bias=not norm)
        for level, channels in zip(LEVELS, (256, 512, 1024, 2048), strict=False)
        for channels, width, kernel in ((channels, 256, 1), (256, 256, 3))
    ]
    return plus(Size(body.macs * 800 * 1088 // 224**2, body.params), total(on_stages))


def over_levels(convs: list[Conv]) -> Size:
    """Convolutions on all levels with the same weights; their ``side`` is (1, 1)."""
    once = total(convs)
    return Size(CELLS * once.macs, once.params)


def on_each(count: int, size: Size) -> Size:
    """A network that runs for each of ``count`` boxes."""
    return Size(count * size.macs, size.params)


def proposal_head(depth: int) -> Size:
    return over_levels(
        [Conv((1, 1), 256, 256, 3, depth, norm=False, bias=True), plain(1, 256, 3, 1), plain(1, 256, 12, 1)]
    )


BOX_HEADS = {
    "v1": plus(linear(7 * 7 * 256, 1024), linear(1024, 1024)),
    "v2": plus(Conv(7, 256, 256, 3, 4).size, linear(7 * 7 * 256, 1024)),
}
PREDICTORS = plus(linear(1024, 91), linear(1024, 4 * 91))
MASK_HEADS = {"v1": Conv(14, 256, 256, 3, 4, norm=False, bias=True).size, "v2": Conv(14, 256, 256, 3, 4).size}
# A transposed convolution: each of its 14 x 14 inputs gives 2 x 2 outputs.
MASK_PREDICTOR = plus(Size(14 * 14 * 256 * 256 * 4, 256 * 256 * 4 + 256), plain(28, 256, 91, 1).size)

EXPECTED: dict[str, dict[str, Size]] = {
    "mobilenet-v1": {"encoder/image": total(MOBILENET), "head": linear(1024, 1000)},
    "resnet50-v1.5": {"encoder/image": total(RESNET50), "head": linear(2048, 1000)},
    "ssd-mobilenet-v1-300": {"encoder/image": total(SSD_MOBILENET), "head": total(SSD_MOBILENET_HEADS)},
    "ssd-resnet34-1200": {"encoder/image": total(SSD_RESNET34), "head": total(SSD_RESNET34_HEADS)},
    "densenet-121": {"encoder/image": densenet(), "head": linear(1024, 1000)},
    "resnet152-v1": {"encoder/image": total(resnet((3, 8, 36, 3), stride_in_first=True)), "head": linear(2048, 1000)},
    "faster-rcnn-resnet50": {
        "encoder/image": pyramid(norm=False),
        "head": plus(proposal_head(1), on_each(1000, BOX_HEADS["v1"]), on_each(1000, PREDICTORS)),
    },
    "mask-rcnn-resnet50": {
        "encoder/image": pyramid(norm=False),
        "head": plus(
            proposal_head(1), on_each(1000, BOX_HEADS["v1"]), on_each(1000, PREDICTORS),
            on_each(100, MASK_HEADS["v1"]), on_each(100, MASK_PREDICTOR),
        ),
    },
    "mask-rcnn-resnet50?version=v2": {
        "encoder/image": pyramid(norm=True),
        "head": plus(
            proposal_head(2), on_each(1000, BOX_HEADS["v2"]), on_each(1000, PREDICTORS),
            on_each(100, MASK_HEADS["v2"]), on_each(100, MASK_PREDICTOR),
        ),
    },
}  # fmt: skip

# Facts: thousand millions of MACs and millions of parameters, counted from public implementations; to the last digit.
PUBLISHED = {
    "mobilenet-v1": ("0.569", "4.23"),
    "resnet50-v1.5": ("4.089", "25.56"),
    "densenet-121": ("2.834", "7.98"),
    "resnet152-v1": ("11.28", "60.19"),
    "faster-rcnn-resnet50": ("177.6", "41.81"),
    "mask-rcnn-resnet50": ("230.8", "44.45"),
    "mask-rcnn-resnet50?version=v2": ("388.1", "46.36"),
}
# The same of parts of the two-stage detectors, with 1000 proposals and 100 detections.
PARTS = {
    "mask-rcnn-resnet50": {
        "backbone": "120.2", "heads.rpn": "43.0", "heads.box": "13.9", "heads.classes": "0.47", "heads.mask": "46.2",
        "heads.mask_classes": "7.0",
    },
    "mask-rcnn-resnet50?version=v2": {"backbone": "120.2", "heads.rpn": "85.8", "heads.box": "128.5"},
}  # fmt: skip

# The others are built of the same parts, and larger.
QUICK = ("mobilenet-v1", "ssd-mobilenet-v1-300", "mask-rcnn-resnet50")
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
# Settings that make a network small enough to run; batch 2 comes with them.
FEW = "photo_height=60&photo_width=90&short_side=64&long_side=128&anchors=50&proposals=40&candidates=60&detections=6"
SMALL = {
    "mobilenet-v1": "image_size=32&classes=10",
    "resnet50-v1.5": "image_size=32&classes=10",
    "ssd-mobilenet-v1-300": "image_size=64&classes=5&candidates=20&detections=30",
    "ssd-resnet34-1200": "image_size=385&classes=3&candidates=20&detections=30",
    "densenet-121": "image_size=32&classes=10",
    "resnet152-v1": "image_size=32&classes=10",
    "faster-rcnn-resnet50": f"{FEW}&classes=4",
    "mask-rcnn-resnet50": f"{FEW}&classes=4",
}


@cache
def traced(name: str, batch: int | None = None) -> Traced:
    return trace_model(resolve(f"across-stack/{name}", batch=batch))


def graph(name: str, batch: int | None = None) -> LayerGraph:
    return traced(name, batch).graph


def sizes(found: LayerGraph) -> dict[str, Size]:
    return {stage: Size(total.macs, total.params) for stage, total in found.stages.items()}


def small(name: str) -> str:
    return f"{name}?{SMALL[name]}"


def lies_in(module: str, part: str) -> bool:
    return f"{module}.".startswith(f"{part}.")


def shown(number: int, like: str, unit: float) -> str:
    """``number`` of ``unit`` with as many decimals as ``like``."""
    return f"{number / unit:.{len(like.partition('.')[2])}f}"


# --- totals ---------------------------------------------------------------------------------------------------------


def test_the_eight_networks_of_the_poster_in_its_order() -> None:
    assert NAMES == [
        "mobilenet-v1", "resnet50-v1.5", "ssd-mobilenet-v1-300", "ssd-resnet34-1200", "densenet-121", "resnet152-v1",
        "faster-rcnn-resnet50", "mask-rcnn-resnet50",
    ]  # fmt: skip
    assert set(NAMES) == set(SMALL) == {name.partition("?")[0] for name in EXPECTED}


@pytest.mark.parametrize("name", EXPECTED)
def test_macs_and_parameters_of_each_stage(name: str) -> None:
    found = graph(name)
    assert sizes(found) == EXPECTED[name]
    assert found.built_params == found.total_params
    assert found.route == "export"
    assert not [item for item in found.coverage if item.treatment == "unknown"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name: str) -> None:
    macs, params = PUBLISHED[name]
    found = graph(name)
    assert shown(found.total_macs, macs, 1e9) == macs
    assert shown(found.total_params, params, 1e6) == params


@pytest.mark.parametrize("name", PARTS)
def test_published_parts_of_the_two_stage_detectors(name: str) -> None:
    found = graph(name)
    macs = {part: sum(layer.macs for layer in found if lies_in(layer.module, part)) for part in PARTS[name]}
    assert {part: shown(macs[part], like, 1e9) for part, like in PARTS[name].items()} == PARTS[name]


def test_the_ssds_agree_with_openvinos_model_pages() -> None:
    # Open Model Zoo: 2.494 and 433.411 thousand million operations, which are two a MAC and those of other layers.
    mobilenet, resnet34 = graph("ssd-mobilenet-v1-300"), graph("ssd-resnet34-1200")
    assert 2 * mobilenet.total_macs / 2.494e9 == pytest.approx(1, abs=0.01)
    assert 2 * resnet34.total_macs / 433.411e9 == pytest.approx(1, abs=0.002)
    # 6.807 million parameters with normalisation folded into one bias a channel; 20.058 with the graph's constants.
    folded = sum(conv.size.params - conv.times * conv.width * conv.norm for conv in SSD_MOBILENET + SSD_MOBILENET_HEADS)
    assert shown(folded, "6.807", 1e6) == "6.807"
    assert resnet34.total_params / 20.058e6 == pytest.approx(1, abs=0.005)


def test_version_1_has_the_stride_in_the_first_convolution_and_less_work() -> None:
    # Facts: 11.514 thousand millions with the stride in the 3x3 convolution.
    later = total(resnet((3, 8, 36, 3), stride_in_first=False))
    assert shown(later.macs + linear(2048, 1000).macs, "11.514", 1e9) == "11.514"
    found = graph("resnet152-v1")
    assert later.macs > found.stages["encoder/image"].macs
    assert later.params == found.stages["encoder/image"].params


@pytest.mark.parametrize("name", EACH)
def test_two_images_are_twice_the_work(name: str) -> None:
    one, two = graph(small(name), 1), graph(small(name), 2)
    assert sizes(two) == {stage: Size(2 * size.macs, size.params) for stage, size in sizes(one).items()}
    # Suppression too: images are not compared with each other.
    assert [layer.vector_ops for layer in two if layer.op == "nms"] == [
        2 * layer.vector_ops for layer in one if layer.op == "nms"
    ]


@pytest.mark.parametrize("name", EACH)
def test_the_traced_outputs_have_the_shapes_of_a_real_forward(name: str) -> None:
    built = resolve(f"across-stack/{small(name)}", batch=2).build("cpu")
    with torch.no_grad():
        real = built.module(**built.kwargs)
    results = list(real.values()) if isinstance(real, dict) else [real]
    output = next(node for node in traced(small(name), 2).program.graph.nodes if node.op == "output")
    assert [tuple(part.meta["val"].shape) for part in output.args[0]] == [tuple(result.shape) for result in results]
    assert all(result.isfinite().all() for result in results)
    if isinstance(real, dict):
        count = real["scores"].shape[1]
        assert count == (6 if "rcnn" in name else 30)
        assert real["boxes"].shape == (2, count, 4)
        assert real["labels"].min() >= 1


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if "rcnn" in name or "1200" in name else ()) for name in NAMES]
)
def test_the_network_runs_at_its_own_size(name: str) -> None:
    built = resolve(f"across-stack/{name}").build("cpu")
    with torch.no_grad():
        real = built.module(**built.kwargs)
    results = list(real.values()) if isinstance(real, dict) else [real]
    output = next(node for node in traced(name).program.graph.nodes if node.op == "output")
    assert [tuple(part.meta["val"].shape) for part in output.args[0]] == [tuple(result.shape) for result in results]


def test_both_routes_give_one_graph() -> None:
    name = small("mask-rcnn-resnet50")
    recorded, exported = trace_model(resolve(f"across-stack/{name}"), "recorder").graph, graph(name, 1)
    assert (recorded.route, exported.route) == ("recorder", "export")
    assert recorded.layers == exported.layers
    assert recorded.tensors == exported.tensors


# --- stages, counts, names ------------------------------------------------------------------------------------------


def test_post_processing_is_in_layers_of_its_own() -> None:
    found = graph("mask-rcnn-resnet50")
    layers = [layer for layer in found if layer.module.startswith("postprocess")]
    assert {(layer.stage, layer.rule) for layer in layers} == {("head", "rule postprocess")}
    assert not sum(layer.macs for layer in layers)
    counted = [(layer.module, layer.assumptions[0].partition(",")[0]) for layer in layers if layer.assumptions]
    assert counted == [
        # The coarsest of five levels has three anchors in each of 13 x 17 cells.
        *[("postprocess.proposals", "1 x 1000 boxes")] * 4,
        ("postprocess.proposals", "1 x 663 boxes"),
        *[("postprocess.box_regions", f"{count} boxes") for count in (500, 250, 150, 100)],
        ("postprocess.detections", "1 x 1000 boxes"),
        *[("postprocess.mask_regions", f"{count} boxes") for count in (50, 25, 15, 10)],
    ]
    (pasted,) = [layer for layer in layers if layer.op == "grid_sample"]
    assert found.tensors[pasted.writes[0][0]].shape == (100, 1, 480, 640)


def test_suppression_is_counted_for_each_class_and_each_image() -> None:
    (layer,) = [layer for layer in graph("ssd-mobilenet-v1-300", 1) if layer.op == "nms"]
    # 90 classes: 100 boxes sorted in 7 rounds, then each compared with those below it, ten operations an overlap.
    assert layer.vector_ops == 90 * (100 * 7 + 10 * (100 * 99 // 2))
    assert layer.assumptions == ("90 x 100 boxes, none suppressed early",)


def test_the_shares_of_levels_are_those_of_the_boxes() -> None:
    from mmworkload.workloads.across_stack.sizes import shares, split

    assert split(1000, shares("50/25/15/10", 4)) == (500, 250, 150, 100)
    # Nothing is lost by rounding, and a level may have none.
    assert split(40, shares("34/33/33/0", 4)) == (14, 13, 13, 0)
    found = graph(f"{small('faster-rcnn-resnet50')}&level_shares=34/33/33/0", 1)
    assert [layer.assumptions for layer in found if layer.op == "roi_align"] == [
        ("14 boxes",), ("13 boxes",), ("13 boxes",),
    ]  # fmt: skip


def test_fewer_proposals_are_less_work_in_the_second_stage_alone() -> None:
    whole, half = graph("faster-rcnn-resnet50"), graph("faster-rcnn-resnet50?proposals=500")
    assert whole.total_macs - half.total_macs == 500 * (BOX_HEADS["v1"].macs + PREDICTORS.macs)


@pytest.mark.parametrize("name", ["faster-rcnn-resnet50", "mask-rcnn-resnet50"])
def test_what_stands_in_is_said(name: str) -> None:
    found = graph(name)
    assert any(note.startswith("stand-in: torchvision's network with a feature pyramid") for note in found.notes)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("mlperf-mobilenet-v1", "mobilenet-v1"), ("mlperf-resnet50-v1.5", "resnet50-v1.5"),
        ("mlperf-ssd-mobilenet-v1-300x300", "ssd-mobilenet-v1-300"),
        ("mlperf-ssd-resnet34-1200x1200", "ssd-resnet34-1200"), ("ai-matrix-densenet121", "densenet-121"),
        ("ai-matrix-resnet152", "resnet152-v1"), ("faster-rcnn-resnet50-coco", "faster-rcnn-resnet50"),
        ("mask-rcnn-resnet50-v2-atrous-coco", "mask-rcnn-resnet50"),
    ],
)  # fmt: skip
def test_names_of_the_posters_models(alias: str, name: str) -> None:
    assert resolve(f"across-stack/{alias}").name == f"across-stack/{name}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet-v1?image_size=31", "32 to 4096"),
        ("ssd-resnet34-1200?image_size=384", "385 to 4096"),
        ("ssd-mobilenet-v1-300?classes=2&candidates=50", "detections=100 is more than the 50 boxes"),
        ("faster-rcnn-resnet50?anchors=100", "proposals=1000 is more than the 500 boxes"),
        ("faster-rcnn-resnet50?proposals=10&classes=3&candidates=21", "candidates=21 is more than the 20 boxes"),
        ("mask-rcnn-resnet50?detections=1001", "detections=1001 is more than the 1000 boxes"),
        ("mask-rcnn-resnet50?level_shares=50/25/15", "4 whole percentages"),
        ("mask-rcnn-resnet50?level_shares=50/25/15/20", "sum 100"),
        ("mask-rcnn-resnet50?level_shares=120/-20/0/0", "4 whole percentages"),
        ("mask-rcnn-resnet50?level_shares=a/b/c/d", "4 whole percentages"),
        ("mask-rcnn-resnet50?version=v3", "v1"),
    ],
)
def test_impossible_settings_are_refused(name: str, message: str) -> None:
    with pytest.raises(MmworkloadError, match=message):
        resolve(f"across-stack/{name}").build("meta")


# --- boxes ----------------------------------------------------------------------------------------------------------


def random_boxes(shape: tuple[int, ...], side: float, seed: int = 0) -> torch.Tensor:
    """Boxes in an image of that side."""
    drawn = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed)) * side
    return torch.cat([torch.minimum(drawn[..., :2], drawn[..., 2:]), torch.maximum(drawn[..., :2], drawn[..., 2:])], -1)


def test_suppression_keeps_the_boxes_that_torchvision_keeps() -> None:
    from torchvision.ops import nms

    from mmworkload.workloads.across_stack.suppression import suppress

    # As decoding gives them, also outside of the image.
    boxes = random_boxes((2, 3, 40), 100) - 70
    scores = torch.rand(2, 3, 40, generator=torch.Generator().manual_seed(1))
    kept = suppress(boxes, scores, 0.3)
    assert (kept.shape, kept.dtype) == ((2, 3, 40), torch.bool)
    for image in range(2):
        for label in range(3):
            wanted = nms(boxes[image, label], scores[image, label], 0.3)
            assert kept[image, label].nonzero().flatten().tolist() == sorted(wanted.tolist())
            assert 1 < len(wanted) < 40


def test_codes_are_decoded_as_torchvision_decodes_them() -> None:
    from torchvision.models.detection._utils import BoxCoder

    from mmworkload.workloads.across_stack.boxes import decode

    anchors = random_boxes((30,), 200)
    codes = 12 * torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    wanted = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(codes, anchors)
    assert torch.allclose(decode(codes, anchors, 10, 5, bounded=True), wanted, rtol=1e-5, atol=1e-2)
    # Some logarithms of growth are beyond the limit.
    assert (codes[:, 2:] / 5 > math.log(1000 / 16)).any()


def image_list(batch: int, full: tuple[int, int], inside: tuple[int, int]) -> object:
    from torchvision.models.detection.image_list import ImageList

    return ImageList(torch.zeros(batch, 3, *full), [inside] * batch)


class Given(nn.Module):
    """A head that gives the same, whatever it is given."""

    def __init__(self, *results: object) -> None:
        super().__init__()
        self.results = results

    def forward(self, *ignored: object) -> object:
        return self.results


def test_proposals_are_torchvisions() -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.rpn import RegionProposalNetwork

    from mmworkload.workloads.across_stack.two_stage import Counts, Proposals, cells

    full, inside = (96, 160), (90, 140)
    draw = torch.Generator().manual_seed(0)
    maps = [torch.zeros(2, 1, *cell) for cell in cells(full)]
    objectness = [torch.randn(2, 3, *cell, generator=draw) for cell in cells(full)]
    codes = [0.3 * torch.randn(2, 12, *cell, generator=draw) for cell in cells(full)]
    anchors = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    names = ("pre_nms_top_n", "post_nms_top_n")
    limits = {name: {"training": 1, "testing": count} for name, count in zip(names, (120, 60), strict=True)}
    network = RegionProposalNetwork(anchors, Given(objectness, codes), 0.7, 0.3, 256, 0.5, nms_thresh=0.7, **limits)
    images = image_list(2, full, inside)
    wanted, _ = network.eval()(images, {str(index): item for index, item in enumerate(maps)})
    ours = Proposals(full, inside, Counts(120, 60, 1, 1, (100, 0, 0, 0)))
    assert torch.equal(ours.anchors, anchors(images, maps)[0])
    found = ours(objectness, codes)
    assert found.shape == (2, 60, 4)
    for boxes, expected in zip(found, wanted, strict=True):
        # torchvision gives what is left, here the worst boxes fill up.
        assert 20 < len(expected) <= 60
        assert torch.allclose(boxes[: len(expected)], expected, atol=1e-3)


def test_regions_are_torchvisions_where_the_boxes_are_as_large_as_the_shares_say() -> None:
    from torchvision.ops import MultiScaleRoIAlign

    from mmworkload.workloads.across_stack.two_stage import Regions

    draw = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 6, 1024 // stride, 1024 // stride, generator=draw) for stride in (4, 8, 16, 32)]
    # Sides below 112 are read from the first level, then twice as large ones from each.
    sides = torch.tensor([60] * 10 + [150] * 5 + [300] * 3 + [600] * 2)
    boxes = []
    for _ in range(2):
        order = torch.randperm(20, generator=draw)
        corner = torch.rand(20, 2, generator=draw) * 400
        sides_here = sides[order, None] * (0.9 + 0.2 * torch.rand(20, 2, generator=draw))
        boxes.append(torch.cat([corner, corner + sides_here], dim=1))
    wanted = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)(
        {str(index): level for index, level in enumerate(levels)}, boxes, [(1024, 1024)] * 2
    )
    found = Regions(7, (50, 25, 15, 10))(levels, torch.stack(boxes))
    assert found.shape == (40, 6, 7, 7)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_detections_are_torchvisions() -> None:
    from torchvision.models.detection.roi_heads import RoIHeads

    from mmworkload.workloads.across_stack.two_stage import Counts, Detections

    draw = torch.Generator().manual_seed(0)
    logits, codes = 3 * torch.randn(60, 5, generator=draw), torch.randn(60, 20, generator=draw)
    boxes = random_boxes((2, 30), 90)
    heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 25)
    wanted = heads.postprocess_detections(logits, codes, list(boxes), [(80, 100)] * 2)
    found = Detections((80, 100), 5, Counts(1, 30, 120, 25, (100, 0, 0, 0)))(logits, codes, boxes)
    assert found["boxes"].shape == (2, 25, 4)
    for image, (expected, scores, labels) in enumerate(zip(*wanted, strict=True)):
        count = len(scores)
        assert 10 < count <= 25
        assert torch.allclose(found["scores"][image, :count], scores, atol=1e-6)
        assert torch.equal(found["labels"][image, :count], labels)
        assert torch.allclose(found["boxes"][image, :count], expected, atol=1e-3)
        assert not found["scores"][image, count:].any()


def test_a_mask_is_pasted_into_its_box() -> None:
    from mmworkload.workloads.across_stack.two_stage import Masks

    logits = torch.full((2, 3, 28, 28), -20.0)
    # Class 2 fills its box, class 1 the left half of it.
    logits[:, 2], logits[:, 1, :, :14] = 20, 20
    labels = torch.tensor([[2, 1]])
    boxes = torch.tensor([[[10.0, 20.0, 50.0, 40.0], [0.0, 0.0, 64.0, 48.0]]])
    found = Masks((48, 64))(logits, labels, boxes)
    assert found.shape == (1, 2, 48, 64)
    whole, left = found[0]
    assert whole[21:39, 11:49].min() > 0.99
    outside = whole.clone()
    outside[19:41, 9:51] = 0
    assert outside.max() < 1e-6
    assert left[2:-2, 2:30].min() > 0.99
    assert left[:, 34:].max() < 1e-6


def test_the_anchors_of_the_ssds() -> None:
    from mmworkload.workloads.across_stack.ssd import (
        mobilenet_anchors,
        mobilenet_cells,
        resnet34_anchors,
        resnet34_cells,
    )

    assert mobilenet_cells(300) == [19, 10, 5, 3, 2, 1]
    assert resnet34_cells(1200) == [50, 25, 13, 7, 3, 3]
    mobilenet, resnet34 = mobilenet_anchors(300), resnet34_anchors(1200)
    assert (len(mobilenet), len(resnet34)) == (1917, 15130)
    # Squares of a tenth and of 84 pixels in the first cells.
    assert mobilenet[0].tolist() == pytest.approx([0.5 / 19 - 0.05] * 2 + [0.5 / 19 + 0.05] * 2, abs=1e-6)
    assert resnet34[0].tolist() == pytest.approx([0.01 - 0.035] * 2 + [0.01 + 0.035] * 2, abs=1e-6)
    # The third shape of the first map: twice as wide as high, 84 pixels in the mean.
    wide = resnet34[2 * 50 * 50]
    assert [(wide[2] - wide[0]).item(), (wide[3] - wide[1]).item()] == pytest.approx(
        [0.07 * 2**0.5, 0.07 / 2**0.5], abs=1e-6
    )
    # The last anchor of MobileNet: a square of the mean of 0.95 and 1 in the middle.
    half = (0.95 * 1) ** 0.5 / 2
    assert mobilenet[-1].tolist() == pytest.approx([0.5 - half] * 2 + [0.5 + half] * 2, abs=1e-6)


def test_an_ssd_finds_the_best_box_of_an_object_once() -> None:
    from mmworkload.workloads.across_stack.ssd import RESNET34_HEAD, Detections

    anchors = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.52], [0.6, 0.6, 0.9, 0.9]])
    logits = torch.zeros(1, 3, 3)
    # The first two anchors see one object of class 1, the third an object of class 2.
    logits[0, 1, 0], logits[0, 1, 1], logits[0, 2, 2] = 6, 5, 4
    codes = torch.zeros(1, 4, 3)
    # A tenth of the third anchor's width to the right; weights are 10 and 5.
    codes[0, 0, 2] = 1
    found = Detections(RESNET34_HEAD, anchors, candidates=200, detections=4)(codes, logits)
    assert found["labels"][0, :2].tolist() == [1, 2]
    assert torch.allclose(found["boxes"][0, :2], torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.63, 0.6, 0.93, 0.9]]))
    best = math.exp(6) / (math.exp(6) + 2)
    assert found["scores"][0, 0].item() == pytest.approx(best)
    # What is left scored a third where no class is better, or the background is.
    assert found["scores"][0, 2:].max() < 0.34


# --- end to end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_end_to_end_has_the_network_and_a_preprocess_stage(name: str) -> None:
    found = graph(f"{name}?end-to-end")
    stages = sizes(found)
    assert stages.pop("preprocess") == Size(0, 0)
    assert stages == EXPECTED[name]
    assert [(item.tensor, item.shape, item.dtype) for item in found.inputs] == [("pixels", (1, 480, 640, 3), "uint8")]
    assert {layer.placement for layer in found if layer.stage == "preprocess"} == {"host"}


def test_photos_are_resized_and_padded_as_torchvision_does() -> None:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    from mmworkload.workloads.across_stack import IMAGENET
    from mmworkload.workloads.across_stack.networks import prepare_padded
    from mmworkload.workloads.across_stack.sizes import padded, resized

    assert resized((480, 640), 800, 1333) == (800, 1066)
    assert padded((800, 1066)) == (800, 1088)
    # Here the long side is the limit.
    assert resized((480, 1200), 800, 1333) == (533, 1333)
    pixels = torch.randint(256, (1, 50, 70, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform = GeneralizedRCNNTransform(80, 133, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    wanted, _ = transform([pixels[0].permute(2, 0, 1) / 255])
    found = prepare_padded((50, 70), 80, 133, *IMAGENET)(pixels)["image"]
    assert wanted.image_sizes == [resized((50, 70), 80, 133)]
    assert found.shape == wanted.tensors.shape == (1, 3, 96, 128)
    assert torch.allclose(found, wanted.tensors, atol=1e-4)


def test_classifiers_see_the_middle_and_ssds_the_whole_photo() -> None:
    from mmworkload.workloads.across_stack import CENTRED
    from mmworkload.workloads.across_stack.networks import prepare_crop, prepare_square

    pixels = torch.zeros(1, 64, 128, 3, dtype=torch.uint8)
    pixels[:, :, 32:96] = 255
    cropped, stretched = prepare_crop((64, 128), 28, *CENTRED), prepare_square(32, *CENTRED)
    middle, whole = cropped(pixels)["image"], stretched(pixels)["image"]
    assert (middle.shape, whole.shape) == ((1, 3, 28, 28), (1, 3, 32, 32))
    assert middle.min().item() == pytest.approx(1)
    assert whole[0, 0, 16, [0, 16, 31]].tolist() == pytest.approx([-1, 1, -1])


@pytest.mark.parametrize("name", [QUICK[1], pytest.param(QUICK[2], marks=pytest.mark.slow)])
def test_end_to_end_runs(name: str) -> None:
    built = resolve(f"across-stack/{small(name)}&end-to-end", batch=2).build("cpu")
    with torch.no_grad():
        found = built.module(**built.kwargs)
    assert found["boxes"].isfinite().all()
