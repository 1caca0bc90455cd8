"""TransFuser: every stage has the work that follows from the layers' sizes, and the public code's totals."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree

from mmworkload.errors import MmworkloadError, ModelError, UnknownNameError
from mmworkload.graph import LayerGraph
from mmworkload.models import resolve
from mmworkload.tracing import Traced, trace_model
from mmworkload.workloads.transfuser import FAMILY
from mmworkload.workloads.transfuser.preprocess import Cameras, Correspondences, Histogram, TargetImage

# Seconds each; that every variant has its stages, totals and operators is read from shapes/ in test_zoo.py.
pytestmark = pytest.mark.slow

NAMES = [variant.name for variant in FAMILY.variants]
# MACs and parameters.
Cost = tuple[int, int]

# Published totals at 224x224 with a classifier of 1000 classes (torchvision's and timm's model tables).
PUBLISHED: dict[str, Cost] = {
    "resnet34": (3_663_761_408, 21_797_672),
    "resnet18": (1_814_073_344, 11_689_512),
    "regnety_032": (3_176_482_752, 19_436_338),
}
Size = tuple[int, int]
IMAGE, LIDAR = (160, 704), (256, 256)
REGNETS = "image_backbone=regnety_032&lidar_backbone=regnety_032"


@cache
def traced(name: str, batch: int = 1) -> Traced:
    return trace_model(resolve(f"transfuser/{name}", batch=batch))


def graph(name: str, batch: int = 1) -> LayerGraph:
    return traced(name, batch).graph


def add(*costs: Cost) -> Cost:
    return sum(macs for macs, _ in costs), sum(params for _, params in costs)


def conv(channels: int, out: int, kernel: int, pixels: int, *, bias: bool = True, groups: int = 1) -> Cost:
    """A convolution onto ``pixels`` of output; without a bias it has a batch norm, with two parameters a channel."""
    weights = channels // groups * out * kernel**2
    return weights * pixels, weights + (out if bias else 2 * out)


def linear(features: int, out: int, rows: int = 1) -> Cost:
    return features * out * rows, features * out + out


def resnet(name: str, size: Size) -> Cost:
    """A ResNet's work is all in convolutions, whose outputs shrink with the input (sides are multiples of 32)."""
    macs, params = PUBLISHED[name]
    classifier = linear(512, 1000)
    scaled, rest = divmod((macs - classifier[0]) * size[0] * size[1], 224 * 224)
    assert rest == 0
    return scaled, params - classifier[1]


def regnet(size: Size) -> list[Cost]:
    """RegNetY-3.2GF (Radosavovic et al., 2020): the stem, then stages of 2, 5, 13 and 1 blocks of groups of 24.

    A block: 1x1, grouped 3x3, squeeze to a quarter of the block's input width and excite, 1x1; the first of a stage
    halves the sides and has a 1x1 beside it.
    """
    pixels = size[0] * size[1] // 4
    parts = [conv(3, 32, 3, pixels, bias=False)]
    before = 32
    for depth, width in ((2, 72), (5, 216), (13, 576), (1, 1512)):
        blocks = []
        for index in range(depth):
            wide, pixels = pixels, pixels if index else pixels // 4
            squeezed = round(before * 0.25)
            blocks += [
                conv(before, width, 1, wide, bias=False),
                conv(width, width, 3, pixels, bias=False, groups=width // 24),
                linear(width, squeezed),
                linear(squeezed, width),
                conv(width, width, 1, pixels, bias=False),
            ]
            if not index:
                blocks.append(conv(before, width, 1, pixels, bias=False))
            before = width
        parts.append(add(*blocks))
    return parts


def cells(size: Size) -> int:
    """Of 32x32 pixels."""
    return size[0] * size[1] // 1024


def transformer(widths: tuple[int, ...], tokens: int, layers: int) -> Cost:
    """At each scale: embeddings of positions; blocks of two norms, four products of width^2, two of 4 width^2, and
    scores and mixture of ``tokens``^2; a norm."""
    macs = params = 0
    for width in widths:
        macs += layers * (12 * width**2 * tokens + 2 * width * tokens**2)
        params += tokens * width + layers * (12 * width**2 + 13 * width) + 2 * width
    return macs, params


def geometric(widths: tuple[int, ...], image: tuple[int, int], lidar: Size) -> Cost:
    """At each scale, for both modalities: 1x1 to 512, three linear layers over the cells, and 1x1 back."""
    costs = []
    for index, width in enumerate(widths):
        for size in (image, lidar):
            pixels = size[0] * size[1] // 16 // 4**index
            costs += [conv(width, 512, 1, pixels), *[linear(512, 512, cells(size))] * 3, conv(512, width, 1, pixels)]
    return add(*costs)


def waypoints() -> Cost:
    join = add(linear(512, 256), linear(256, 128), linear(128, 64))
    cell_weights = 3 * 64 * (4 + 64)
    return add(join, (4 * cell_weights, cell_weights + 2 * 3 * 64), (4 * 64 * 3, 64 * 3 + 3))


def pyramid(size: Size) -> Cost:
    first = cells(size)
    return add(conv(512, 64, 1, first), *(conv(64, 64, 1, first * 4**index) for index in (1, 2, 3)))


def maps(size: Size, *classes: int) -> Cost:
    pixels = size[0] * size[1] // 16
    return add(*(add(conv(64, 64, 3, pixels), conv(64, count, 1, pixels)) for count in classes))


def detection(size: Size) -> Cost:
    """Centre, size, offset, twelve yaws, one yaw, velocity, braking or not."""
    return maps(size, 1, 2, 2, 12, 1, 1, 2)


def decoder(size: Size, classes: int) -> Cost:
    """3x3 convolutions over cells of 32, of 4 and of 1 pixel."""
    pixels = size[0] * size[1]
    return add(
        conv(512, 128, 3, pixels // 1024),
        conv(128, 64, 3, pixels // 1024),
        conv(64, 32, 3, pixels // 16),
        conv(32, 32, 3, pixels // 16),
        conv(32, 32, 3, pixels),
        conv(32, classes, 3, pixels),
    )


def heads(image: Size | None, lidar: Size | None, auxiliary: bool = True) -> Cost:
    """The map from above is laid out on 160x160 by interpolation, which has no MACs."""
    costs = [waypoints()]
    if lidar:
        costs += [pyramid(lidar), detection(lidar)] + [maps(lidar, 3)] * auxiliary
    if image and auxiliary:
        costs += [decoder(image, 7), decoder(image, 1)]
    return add(*costs)


RESNET_WIDTHS, REGNET_WIDTHS = (64, 128, 256, 512), (72, 216, 576, 1512)


def stages(variant: str, image: Size = IMAGE, lidar: Size = LIDAR, layers: int = 4) -> dict[str, Cost]:
    """What each stage of a variant costs with these sizes."""
    front, above = resnet("resnet34", image), resnet("resnet18", lidar)
    tokens = cells(image) + cells(lidar)
    if variant == "image":
        return {"encoder/image": front, "head": heads(image, None)}
    if variant == "lidar":
        return {"encoder/lidar": above, "head": heads(None, lidar)}
    if variant in ("transformer-mmbench", "regnets"):
        first, second = regnet(image), regnet(lidar)
        # RegNets leave with 1512 channels, which become 512.
        merge = add(conv(1512, 512, 1, cells(image)), conv(1512, 512, 1, cells(lidar)))
        attention = transformer(REGNET_WIDTHS, tokens, layers)
        both = heads(image, lidar)
        cut = variant == "transformer-mmbench"
        return {
            "encoder/image": add(*(first[:2] if cut else first)),
            "encoder/lidar": add(*(second[:2] if cut else second)),
            "fusion": add(attention, *first[2:], *second[2:]) if cut else add(attention, merge),
            "head": add(both, merge) if cut else both,
        }
    fusion = {
        "transformer": transformer(RESNET_WIDTHS, tokens, layers),
        "latent": transformer(RESNET_WIDTHS, tokens, layers),
        "geometric": geometric(RESNET_WIDTHS, image, lidar),
        "late": (0, 0),
    }
    from_above = "encoder/bev" if variant == "latent" else "encoder/lidar"
    return {"encoder/image": front, from_above: above, "fusion": fusion[variant], "head": heads(image, lidar)}


def small(variant: str) -> str:
    """A variant at sizes that run fast, as ``SMALL`` has them."""
    image, lidar, layers = SMALL[variant]
    settings = {"image_height": image[0], "image_width": image[1], "lidar_size": lidar[0], "layers": layers}
    query = "&".join(f"{key}={value}" for key, value in settings.items() if value)
    return f"{'transformer' if variant == 'regnets' else variant}?{query}" + f"&{REGNETS}" * (variant == "regnets")


# Image, bird's-eye view, transformer blocks; 0 for what a variant has no parameter for.
SMALL: dict[str, tuple[Size, Size, int]] = {
    "transformer": ((32, 64), (64, 64), 2),
    "transformer-mmbench": ((32, 64), (64, 64), 1),
    "regnets": ((32, 64), (64, 64), 1),
    "late": ((32, 64), (64, 64), 0),
    "geometric": ((64, 96), (64, 64), 0),
    "latent": ((32, 64), (32, 32), 1),
    "image": ((64, 32), (0, 0), 0),
    "lidar": ((0, 0), (64, 64), 0),
}


def test_the_regnet_by_hand_has_its_published_totals() -> None:
    assert add(*regnet((224, 224)), linear(1512, 1000)) == PUBLISHED["regnety_032"]


@pytest.mark.parametrize("name", NAMES)
def test_macs_and_parameters_of_every_stage(name: str) -> None:
    found = graph(name)
    assert {stage: (total.macs, total.params) for stage, total in found.stages.items()} == stages(name)
    assert (found.total_macs, found.total_params) == add(*stages(name).values())
    assert found.built_params == found.total_params


@pytest.mark.parametrize("name", [*NAMES, pytest.param("regnets", marks=pytest.mark.slow)])
def test_other_sizes_backbones_and_batches_cost_what_they_must(name: str) -> None:
    found = graph(small(name), 2)
    image, lidar, layers = SMALL[name]
    expected = stages(name, image, lidar, layers)
    assert {stage: (total.macs, total.params) for stage, total in found.stages.items()} == {
        stage: (2 * macs, params) for stage, (macs, params) in expected.items()
    }


def test_without_auxiliary_heads_waypoints_and_boxes_are_left() -> None:
    image, lidar, _ = SMALL["late"]
    head = graph(f"{small('late')}&heads=driving").stages["head"]
    assert (head.macs, head.params) == heads(image, lidar, auxiliary=False)
    image, _, _ = SMALL["image"]
    head = graph(f"{small('image')}&heads=driving").stages["head"]
    assert (head.macs, head.params) == waypoints()


def test_late_fusion_takes_any_two_backbones() -> None:
    found = graph(f"{small('late')}&lidar_backbone=regnety_032")
    image, lidar, _ = SMALL["late"]
    assert (found.stages["encoder/lidar"].macs, found.stages["encoder/lidar"].params) == add(*regnet(lidar))
    narrowed = conv(1512, 512, 1, cells(lidar))
    assert (found.stages["fusion"].macs, found.stages["fusion"].params) == narrowed
    assert found.stages["encoder/image"].macs == resnet("resnet34", image)[0]


def test_the_public_codes_totals() -> None:
    """What MMBench's code runs: 168,018,327 parameters and 38.388 G MACs, of which 114 k and 164.4 M parameters lie
    before and after its first cut. The ResNets and the other fusions: the public networks, counted on meta tensors."""
    mmbench = graph("transformer-mmbench")
    assert (mmbench.total_params, mmbench.total_macs) == (168_018_327, 38_387_948_288)
    assert mmbench.total_macs == pytest.approx(38.388e9, rel=1e-4)
    encoders = mmbench.totals(layer for layer in mmbench if layer.stage.startswith("encoder/"))
    assert encoders.params == 114_228
    assert mmbench.stages["fusion"].params == 164_422_656
    counted = {
        name: (graph(name).total_macs, graph(name).total_params) for name in ("transformer", "late", "geometric")
    }
    assert counted == {
        "transformer": (17_842_267_904, 51_323_875),
        "late": (14_701_915_904, 34_393_315),
        "geometric": (16_617_664_256, 42_669_155),
    }


def test_both_cuts_are_of_one_network() -> None:
    natural, mmbench = graph(small("regnets"), 2), graph(small("transformer-mmbench"), 2)
    assert [layer.name for layer in natural] == [layer.name for layer in mmbench]
    assert natural.problems == mmbench.problems


def test_the_cut_is_where_the_public_code_has_it() -> None:
    found = graph("transformer-mmbench")
    stages = {layer.module: layer.stage for layer in found}
    assert stages["encoders.image.stages.0.b2.conv3.conv"] == "encoder/image"
    assert stages["encoders.lidar.stages.1.b1.conv1.conv"] == "fusion"
    assert stages["fusion.scales.0.blocks.0.attention.query"] == "fusion"
    assert stages["fusion.merge.narrow.image"] == "head"


def test_modalities_are_those_of_the_inputs() -> None:
    for name in NAMES:
        found = graph(name)
        given = {item.modality for item in found.inputs if item.role == "modality"}
        assert {stage.removeprefix("encoder/") for stage in found.stages if "/" in stage} == given
    assert "lidar" not in {item.tensor for item in graph("latent").inputs}
    assert "image" not in {item.tensor for item in graph("lidar").inputs}


@pytest.mark.parametrize("alias", [alias for variant in FAMILY.variants for alias in variant.aliases])
def test_an_alias_is_the_same_variant(alias: str) -> None:
    (variant,) = (item for item in FAMILY.variants if alias in item.aliases)
    assert resolve(f"transfuser/{alias}").name == f"transfuser/{variant.name}"


def test_the_default_is_the_papers() -> None:
    assert resolve("transfuser").name == "transfuser/transformer"
    assert resolve("transfuser/transformer-regnet").name == "transfuser/transformer-mmbench"


def run(name: str, batch: int = 2) -> dict[str, torch.Tensor]:
    built = resolve(f"transfuser/{name}", batch=batch).build("cpu")
    with torch.no_grad():
        return built.module(*built.args, **built.kwargs)


def shapes(values: Any) -> list[tuple[int, ...]]:
    return [tuple(item.shape) for item in _pytree.tree_leaves(values)]


def traced_shapes(name: str) -> list[tuple[int, ...]]:
    node = next(node for node in traced(name, 2).program.graph.nodes if node.op == "output")
    return shapes([part.meta["val"] for part in node.args[0]])


@pytest.mark.parametrize("name", NAMES)
def test_a_real_forward_gives_the_traced_shapes(name: str) -> None:
    real = run(small(name))
    assert traced_shapes(small(name)) == shapes(real)
    assert all(bool(item.isfinite().all()) for item in real.values())
    assert real["waypoints"].shape == (2, 4, 2)


@pytest.mark.parametrize("name", ["geometric", "latent", "image"])
def test_raw_inputs_run_end_to_end_as_traced(name: str) -> None:
    points = "" if name in ("image", "latent") else "&points=3000"
    full = f"{small(name)}{points}&end-to-end"
    found, network = graph(full, 2), graph(small(name), 2)
    assert (found.stages["preprocess"].macs, found.stages["preprocess"].params) == (0, 0)
    assert {stage: total.macs for stage, total in found.stages.items() if stage != "preprocess"} == {
        stage: total.macs for stage, total in network.stages.items()
    }
    assert traced_shapes(full) == shapes(run(full))


def test_every_operator_is_known() -> None:
    for name in ("geometric", "latent"):
        found = graph(f"{small(name)}{'&points=3000' * (name == 'geometric')}&end-to-end", 2)
        assert [item for item in found.coverage if item.treatment == "unknown"] == []
    for found in [graph(name) for name in NAMES] + [graph(f"{small('late')}&heads=driving")]:
        assert [item for item in found.coverage if item.treatment == "unknown"] == []


def test_outputs_are_what_the_heads_are_for() -> None:
    found = {name: tuple(value.shape[1:]) for name, value in run(small("late")).items()}
    grid = (16, 16)
    assert found == {
        "waypoints": (4, 2),
        "centre": (1, *grid),
        "size": (2, *grid),
        "offset": (2, *grid),
        "yaw_class": (12, *grid),
        "yaw": (1, *grid),
        "velocity": (1, *grid),
        "brake": (2, *grid),
        "bev": (3, 160, 160),
        "semantic": (7, 32, 64),
        "depth": (32, 64),
    }
    driving = {name: tuple(value.shape[1:]) for name, value in run(f"{small('late')}&heads=driving").items()}
    assert driving == {"waypoints": (4, 2), "boxes": (100, 8)}


def test_boxes_are_read_at_the_peaks() -> None:
    from mmworkload.workloads.transfuser.heads import Boxes

    grid = (1, 1, 12, 16)
    maps = {name: torch.zeros(1, count, 12, 16) for name, count in (("size", 2), ("offset", 2), ("yaw_class", 12))}
    maps |= {name: torch.zeros(grid) for name in ("centre", "yaw", "velocity")} | {"brake": torch.zeros(1, 2, 12, 16)}
    maps["centre"][0, 0, 3, 5] = 0.9
    # Next to a higher one it is no peak.
    maps["centre"][0, 0, 3, 6] = 0.8
    maps["centre"][0, 0, 8, 2] = 0.7
    maps["size"][0, :, 3, 5] = torch.tensor([2.0, 3.0])
    maps["offset"][0, :, 3, 5] = torch.tensor([0.25, 0.5])
    maps["yaw_class"][0, 9, 3, 5] = 1
    maps["velocity"][0, 0, 3, 5] = 7
    maps["brake"][0, 1, 3, 5] = 1
    best, second = Boxes()(maps)[0, :2]
    # Four pixels a cell; the tenth of twelve directions is three quarters of a turn, or minus one quarter.
    assert best.tolist() == pytest.approx([4 * 5.25, 4 * 3.5, 8, 12, -np.pi / 2, 7, 1, 0.9], abs=1e-6)
    assert second.tolist() == pytest.approx([8, 32, 0, 0, 0, 0, 0, 0.7])


def test_points_become_the_histogram_that_numpy_counts() -> None:
    generator = np.random.default_rng(0)
    low, high = (-20, -5, -4, 0), (20, 40, 6, 1)
    points = generator.uniform(low, high, (2, 20_000, 4)).astype(np.float32)
    # A crowd, of which five count.
    points[:, :50] = (1.03, 2.03, 0, 0)
    found = Histogram(256)(torch.from_numpy(points)).numpy()
    for sample, channels in zip(points, found, strict=True):
        ground = sample[:, 2] <= -2.3
        for channel, chosen in zip(channels, (sample[~ground], sample[ground]), strict=True):
            edges = (np.linspace(0, 32, 257), np.linspace(-16, 16, 257))
            counts = np.histogram2d(chosen[:, 1], chosen[:, 0], bins=edges)[0]
            # Seen from above: the front is up, and the x axis points to the left.
            np.testing.assert_allclose(channel, np.minimum(counts, 5)[::-1, ::-1] / 5)
    assert found[:, 0].max() == 1


def test_cameras_become_the_middle_of_one_image() -> None:
    frames = torch.randint(0, 256, (3, 1, 480, 960, 4), dtype=torch.uint8)
    image = Cameras(160, 704)(*frames)
    assert (image.shape, image.dtype) == ((1, 3, 160, 704), torch.float32)
    # 128 columns are cut off the left camera's 320, which begin at its column 320; rows begin at 160.
    assert image[0, :, 0, 0].tolist() == frames[0, 0, 160, 320 + 128, [2, 1, 0]].tolist()
    assert image[0, :, 159, 192].tolist() == frames[1, 0, 319, 320, [2, 1, 0]].tolist()
    assert image[0, :, 80, 703].tolist() == frames[2, 0, 240, 320 + 191, [2, 1, 0]].tolist()


def test_the_target_point_is_a_ring_seen_from_above() -> None:
    # 2 m to the right and 10 m ahead (y points back); the LiDAR is 1.3 m ahead of the car's centre.
    image = TargetImage(256)(torch.tensor([[2.0, -10.0]]))
    column, row = 128 + 16, int(256 - 8.7 * 8)
    assert image.shape == (1, 1, 256, 256)
    marked = {(int(y) - row, int(x) - column) for y, x in image[0, 0].nonzero()}
    expected = {(y, x) for y in range(-9, 10) for x in range(-9, 10) if 3.5 <= (y * y + x * x) ** 0.5 <= 6.5}
    assert marked == expected


def pinhole(x: float, y: float, z: float) -> tuple[int, int] | None:
    """Column and row of a point (right, front, up, metres) in three cameras of 352x160 and 60 degrees, of which the
    middle 704 columns are kept."""
    focal = 176 / np.tan(np.radians(30))
    for angle, shift in ((-60, -176), (0, 176), (60, 528)):
        turned = np.radians(angle)
        side = np.cos(turned) * x - np.sin(turned) * y
        depth = np.sin(turned) * x + np.cos(turned) * y
        if depth <= 0:
            continue
        across, above = focal * side / depth + 176, focal * z / depth + 80
        if 0 < across < 352 and 0 < above < 160 and 0 <= across + shift < 704:
            return int(across + shift), 159 - int(above)
    return None


def test_cells_correspond_where_they_hold_the_same_points() -> None:
    generator = np.random.default_rng(1)
    points = generator.uniform((-20, -5, -4), (20, 40, 6), (400, 3))
    from_above: dict[tuple[int, int], list[list[int]]] = {}
    in_image: dict[tuple[int, int], list[list[int]]] = {}
    for left, front, up in points:
        right = -left
        seen = pinhole(right, front, up + 0.2) if abs(right) < 16 and 0 < front < 32 else None
        if seen is None:
            continue
        bev = [int((right + 16) * 8) // 32, (255 - int(front * 8)) // 32]
        image = [seen[0] // 32, seen[1] // 32]
        from_above.setdefault((bev[1], bev[0]), []).append(image)
        in_image.setdefault((image[1], image[0]), []).append(bev)
    assert max(len(item) for item in from_above.values()) > 5
    bev_points, cam_points = Correspondences(160, 704, 256)(torch.from_numpy(points)[None])
    for found, expected, rows, columns in ((bev_points, from_above, 8, 8), (cam_points, in_image, 5, 22)):
        assert found.shape == (1, rows, columns, 5, 2)
        for row in range(rows):
            for column in range(columns):
                first = expected.get((row, column), [])[:5]
                assert found[0, row, column].tolist() == first + [[0, 0]] * (5 - len(first))


def test_geometric_fusion_sums_the_features_at_its_points() -> None:
    from mmworkload.workloads.transfuser.networks import Projection

    layer = Projection(8).eval()
    embedding = torch.randn(2, 512, 3, 4)
    points = torch.stack([torch.randint(0, 4, (2, 2, 2, 5)), torch.randint(0, 3, (2, 2, 2, 5))], dim=4)
    with torch.no_grad():
        found = layer(embedding, points, (2, 2))
        summed = sum(embedding[1, :, int(y), int(x)] for x, y in points[1, 1, 0])
        expected = layer.expand(layer.mlp(summed).view(1, 512, 1, 1)).flatten()
    torch.testing.assert_close(found[1, :, 1, 0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("transformer?image_width=700", MmworkloadError, "a multiple of 32"),
        ("transformer?lidar_size=0", MmworkloadError, "32 to 4096"),
        ("late?layers=2", UnknownNameError, "parameter of transfuser/late"),
        ("image?lidar_size=64", UnknownNameError, "parameter of transfuser/image"),
        ("latent?points=5", UnknownNameError, "parameter of transfuser/latent"),
        ("lidar?lidar_backbone=vgg16", UnknownNameError, "vgg16"),
        ("image?image_height=512&end-to-end", ModelError, "480 and 960"),
    ],
)
def test_impossible_settings_are_refused(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        resolve(f"transfuser/{name}")


@pytest.mark.parametrize("name", ["transformer", "latent"])
def test_a_transformer_needs_features_of_one_width(name: str) -> None:
    with pytest.raises(ModelError, match="one width, not image 64, lidar 72"):
        resolve(f"transfuser/{name}?lidar_backbone=regnety_032").build("meta")
