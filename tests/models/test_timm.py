"""``timm:NAME``: names, sizes, and that nothing is downloaded or allocated."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.models import resolve
from mmworkload.tracing import trace_model

pytestmark = pytest.mark.slow


def test_the_closed_network_sees_a_download(calls: list[str]) -> None:
    with pytest.raises(OSError, match="closed in this test"):
        urllib.request.urlopen("http://weights.example/resnet18.pt")
    assert calls


def test_nothing_is_downloaded_and_on_the_meta_device_nothing_is_allocated(calls: list[str]) -> None:
    model = resolve("timm:resnet18.a1_in1k")
    built = model.build("meta")
    assert {item.device.type for item in (*built.module.parameters(), *built.module.buffers())} == {"meta"}
    model.build("cpu")
    assert calls == []


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (2, 3, 224, 224)),
        ("vit_tiny_patch16_384", (2, 3, 384, 384)),
        ("tf_efficientnet_b1", (2, 3, 240, 240)),
        ("inception_v3", (2, 3, 299, 299)),
        ("vit_base_patch16_224.augreg_in21k", (2, 3, 224, 224)),
        # A tag of weights that were trained at another size than the architecture's first.
        ("convnext_base.fb_in22k_ft_in1k_384", (2, 3, 384, 384)),
    ],
)
def test_images_have_the_size_that_the_weights_were_made_for(name: str, shape: tuple[int, ...]) -> None:
    model = resolve(f"timm:{name}", batch=2)
    assert [(item.name, item.shape, item.modality) for item in model.specs] == [("x", shape, "image")]
    assert (model.name, model.variant, model.batch) == (f"timm:{name}", name, 2)
    assert model.parameters["image_size"].default == shape[-1]


def test_a_tag_chooses_the_classes_that_its_weights_tell_apart() -> None:
    plain = resolve("timm:vit_tiny_patch16_224").build("meta").module
    tagged = resolve("timm:vit_tiny_patch16_224.augreg_in21k").build("meta").module
    assert (plain.num_classes, tagged.num_classes) == (1000, 21843)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", r"unknown timm model 'resnet5'\. Did you mean resnet50 or "),
        ("resnet18.a1_in22k", r"unknown timm model 'resnet18\.a1_in22k'\. Did you mean resnet18\.a1_in1k or "),
        ("../weights", r"unknown timm model '\.\./weights'"),
    ],
)
def test_an_unknown_name_is_told_the_nearest_ones(name: str, message: str, calls: list[str]) -> None:
    with pytest.raises(UnknownNameError, match=message):
        resolve(f"timm:{name}")
    assert calls == []


# --- image_size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        # Patches of 16 x 16; windows of the last of four maps, at 1/32; any size from one pixel of the last map on.
        ("vit_tiny_patch16_224", "16 to 4096, a multiple of 16"),
        ("swin_tiny_patch4_window7_224", "32 to 4096, a multiple of 32"),
        ("resnet18", "32 to 4096"),
        ("eva02_tiny_patch14_224", "14 to 4088, a multiple of 14"),
    ],
)
def test_image_size_is_bounded_by_what_the_model_can_cut_an_image_into(name: str, bounds: str) -> None:
    assert resolve(f"timm:{name}").parameters["image_size"].bounds == bounds


def test_a_convolutional_network_takes_another_size_as_it_is() -> None:
    graph = trace_model(resolve("timm:resnet18?image_size=64")).graph
    assert graph.model == "timm:resnet18?image_size=64"
    assert graph.inputs[0].shape == (1, 3, 64, 64)
    classifier = 512 * 1000
    whole = trace_model(resolve("timm:resnet18")).graph
    # 224 = 7 x 32 and 64 = 2 x 32: every map has (2/7)^2 as many pixels, the classifier one row as before.
    assert (graph.total_macs - classifier) * 49 == (whole.total_macs - classifier) * 4


def test_a_transformer_is_made_for_another_size() -> None:
    model = resolve("timm:vit_tiny_patch16_224", settings={"image_size": "32"})
    assert model.settings == {"image_size": 32}
    graph = trace_model(model).graph
    # A class token and 2 x 2 patches; ViT-Ti: width 192, 12 blocks, MLP of 768.
    tokens, width = 5, 192
    block = tokens * 4 * width**2 + 2 * tokens**2 * width + tokens * 2 * width * 768
    assert graph.total_macs == 4 * 3 * 16**2 * width + 12 * block + width * 1000


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("vit_tiny_patch16_224", "225", "image_size=225 is impossible: 16 to 4096, a multiple of 16"),
        ("resnet18", "31", "image_size=31 is impossible: 32 to 4096"),
        ("resnet18", "wide", "image_size=wide: give a whole number, 32 to 4096"),
    ],
)
def test_an_impossible_size_is_refused_before_tracing(name: str, size: str, reason: str) -> None:
    with pytest.raises(MmworkloadError, match=reason):
        resolve(f"timm:{name}", settings={"image_size": size})


def test_an_unknown_parameter_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown parameter of timm:resnet18 'tokens'\. Known: image_size\."):
        resolve("timm:resnet18?tokens=3")


def test_a_model_for_oblong_images_has_no_square_size_to_set() -> None:
    model = resolve("timm:vit_base_patch16_sapiens2")
    assert model.specs[0].shape == (1, 3, 1024, 768)
    assert not model.parameters


def test_the_traced_network_gives_what_the_real_one_gives(count: Callable[..., Any]) -> None:
    model = resolve("timm:convnext_atto?image_size=32", batch=2)
    built = model.build("cpu")
    counted = count(built.module, *built.args)
    graph = trace_model(model).graph
    assert graph.total_macs == counted.macs
    assert graph.tensors[graph.outputs[0]].shape == tuple(counted.outputs[0].shape) == (2, 1000)
    assert graph.total_params == sum(item.numel() for item in built.module.parameters())
