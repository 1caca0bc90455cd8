"""A class that takes a modality which no rule makes is refused, unless the user leaves the modality out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmworkload.cli.app import app
from mmworkload.errors import ModelError, UnknownNameError
from mmworkload.models import resolve
from mmworkload.tracing import trace_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "named", "settings"),
    [
        (
            "phi4_multimodal",
            ["image (image_pixel_values", "audio (audio_input_features"],
            "--set image=none --set audio=none",
        ),
        ("higgs_audio_v2", ["audio (audio_input_ids)"], "--set audio=none"),
        # Its causal language model takes no sound, and its configuration has an encoder of it.
        ("moshi", ["audio (audio_encoder_config)"], "--set audio=none"),
        ("pop2piano", ["audio (input_features)"], "--set audio=none"),
        ("evolla", ["protein (protein_input_ids"], "--set protein=none"),
        ("prompt_depth_anything", ["depth (prompt_depth)"], "--set depth=none"),
    ],
)
def test_a_modality_without_arguments_is_refused_by_name(kind: str, named: list[str], settings: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(f"hf:{kind}")
    assert all(item in str(caught.value) for item in named)
    assert settings in str(caught.value)


def test_one_of_two_is_not_enough() -> None:
    with pytest.raises(ModelError, match=r"takes audio \(audio_input_features") as caught:
        resolve("hf:phi4_multimodal?image=none")
    assert "image_pixel_values" not in str(caught.value)


PIANO = {"model_type": "pop2piano", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}


def test_what_is_left_out_by_will_is_in_the_notes_and_the_name(tmp_path: Path, count: Callable[..., Any]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**PIANO, "vocab_size": 50}))
    refused = CliRunner().invoke(app, ["show", f"hf:{path}"])
    assert refused.exit_code == 2
    assert "--set audio=none" in refused.stderr
    model = resolve(f"hf:{path}", settings={"audio": "none", "tokens": 8, "decoder_tokens": 4})
    assert model.name == f"hf:{path}?tokens=8&decoder_tokens=4&audio=none"
    graph = trace_model(model).graph
    assert "audio is left out (input_features): none of its layers run" in graph.notes
    built = model.build("cpu")
    assert graph.total_macs == count(built.module, *built.args, **built.kwargs).macs > 0
    with pytest.raises(UnknownNameError, match="unknown value of audio 'all'"):
        resolve(f"hf:{path}?audio=all")


def test_a_class_that_the_user_names_is_taken_at_its_word() -> None:
    assert resolve("hf:moshi#MoshiForCausalLM").variant == "MoshiForCausalLM"


@pytest.mark.parametrize(
    # Videos go where images go; embeddings and encoders' outputs stand for what is given; examples of what comes out.
    "kind",
    ["qwen2_vl?image_size=32", "sam", "vilt", "kosmos-2", "idefics", "musicgen", "whisper", "clip", "bert", "speecht5"],
)
def test_a_model_that_is_whole_is_not_refused(kind: str, small: Callable[..., Path]) -> None:
    name, _, size = kind.partition("?")
    path = small(name)
    assert resolve(f"hf:{path}?{size}").parameters.keys().isdisjoint({"audio", "image", "depth", "protein"})
    with pytest.raises(UnknownNameError, match="'audio'"):
        resolve(f"hf:{path}?{size}&audio=none")


def depth_pro(side: int) -> dict[str, Any]:
    inner = {"model_type": "dinov2", "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2}
    inner |= {"num_attention_heads": 2, "mlp_ratio": 2}
    return {
        "model_type": "depth_pro",
        "patch_size": side,
        "scaled_images_ratios": [0.5, 1.0],
        "scaled_images_overlap_ratios": [0.0, 0.25],
        "scaled_images_feature_dims": [16, 16],
        "fusion_hidden_size": 16,
        "intermediate_hook_ids": [1],
        "intermediate_feature_dims": [16],
        "use_fov_model": False,
        **{f"{name}_model_config": inner for name in ("image", "patch", "fov")},
    }


def test_image_size_leaves_encoders_of_patches_as_they_are(tmp_path: Path) -> None:
    """An image of side 64 in patches of 32: one of the image at half size, 2 x 2 that overlap by a quarter at full
    size; of side 128, 2 x 2 and 5 x 5. The encoder of the whole image sees it at 32 whatever its size."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(depth_pro(32)))
    small, large = (trace_model(resolve(f"hf:{path}{query}")).graph for query in ("", "?image_size=128"))
    assert [graph.inputs[0].shape for graph in (small, large)] == [(1, 3, 64, 64), (1, 3, 128, 128)]
    patches = [sum(item.macs for item in graph if "patch_encoder" in item.module) for graph in (small, large)]
    images = [sum(item.macs for item in graph if "image_encoder" in item.module) for graph in (small, large)]
    assert patches[1] * (1 + 2 * 2) == patches[0] * (2 * 2 + 5 * 5) > 0
    assert images[0] == images[1] > 0
    assert small.built_params == large.built_params
    with pytest.raises(Exception, match="image_size=48 is impossible: 64 to"):
        resolve(f"hf:{path}?image_size=48")
