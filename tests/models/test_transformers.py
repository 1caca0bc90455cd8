"""``hf:TYPE``, ``hf:CONFIG`` and ``hf:TYPE#CLASS``: which class, which inputs, which sizes; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmworkload.errors import FormatError, MmworkloadError, ModelError, UnknownNameError
from mmworkload.models import resolve
from mmworkload.models.sources.transformers.classes import choose
from mmworkload.models.sources.transformers.configuration import read_configuration
from mmworkload.tracing import trace_model

pytestmark = pytest.mark.slow


def inputs(model: Any, device: str = "meta") -> dict[str, torch.Tensor]:
    return dict(model.build(device).kwargs)


# --- which class ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Image and text in, text out, before any task of one modality.
        ("llava", "LlavaForConditionalGeneration"),
        ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
        ("paligemma", "PaliGemmaForConditionalGeneration"),
        ("blip", "BlipForConditionalGeneration"),
        ("git", "GitForCausalLM"),
        ("vision-encoder-decoder", "VisionEncoderDecoderModel"),
        ("vilt", "ViltForQuestionAnswering"),
        ("layoutlmv3", "LayoutLMv3ForQuestionAnswering"),
        ("owlvit", "OwlViTForObjectDetection"),
        ("grounding-dino", "GroundingDinoForObjectDetection"),
        # Both encoders, not a classifier on one of them.
        ("clip", "CLIPModel"),
        ("siglip", "SiglipModel"),
        # The whole of a model that has no task of its own in the library's tables.
        ("clap", "ClapModel"),
        ("flava", "FlavaModel"),
        ("lxmert", "LxmertModel"),
        # Speech in, text out; text in, sound out.
        ("whisper", "WhisperForConditionalGeneration"),
        ("speecht5", "SpeechT5ForSpeechToText"),
        ("musicgen", "MusicgenForConditionalGeneration"),
        ("wav2vec2", "Wav2Vec2ForCTC"),
        ("sam", "SamModel"),
        ("detr", "DetrForObjectDetection"),
        ("segformer", "SegformerForSemanticSegmentation"),
        ("mobilenet_v2", "MobileNetV2ForImageClassification"),
        ("vit", "ViTForImageClassification"),
        # Every text encoder could be asked to decode, and every decoder to fill in; each does its own job.
        ("bert", "BertForMaskedLM"),
        ("gpt2", "GPT2LMHeadModel"),
        ("t5", "T5ForConditionalGeneration"),
        ("bart", "BartForConditionalGeneration"),
    ],
)
def test_the_class_of_a_type_is_the_one_that_takes_most_modalities_to_an_answer(kind: str, expected: str) -> None:
    configuration, in_file, is_file = read_configuration(kind, f"hf:{kind}")
    assert (in_file, is_file) == ("", False)
    assert choose(configuration, "", in_file, "")[0].__name__ == expected


def test_a_file_names_its_class_and_the_user_another(small: Callable[..., Path]) -> None:
    path = small("bert", architectures=["BertForSequenceClassification", "BertModel"])
    assert resolve(f"hf:{path}").variant == "BertForSequenceClassification"
    assert resolve(f"hf:{path}#BertModel").variant == "BertModel"
    # The folder of a config.json is as good.
    assert resolve(f"hf:{path.parent}").variant == "BertForSequenceClassification"


def test_a_part_of_a_model_takes_the_part_of_the_configuration(small: Callable[..., Path]) -> None:
    model = resolve(f"hf:{small('clip')}#CLIPTextModel", batch=2)
    assert [item.name for item in model.specs] == ["input_ids", "attention_mask"]
    graph = trace_model(model).graph
    tokens, width, hidden, layers = 2 * 64, 32, 48, 2
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * 2 * 64**2 * width
    assert graph.total_macs == layers * block
    assert set(graph.stages) == {"encoder/text"}


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("clipp", UnknownNameError, r"unknown model type of transformers 'clipp'\. Did you mean clip or xclip"),
        ("openai/clip-vit-base", ModelError, "there is no file or folder openai/clip-vit-base. Nothing is downloaded"),
        ("missing.json", FormatError, r"cannot read missing\.json"),
        ("clip#CLIPModle", UnknownNameError, r"unknown class of clip 'CLIPModle'\. Did you mean CLIPModel"),
        ("clip#BertModel", UnknownNameError, r"unknown class of clip 'BertModel'\. "),
        ("clip#AutoModel", UnknownNameError, r"unknown class of clip 'AutoModel'\. "),
        (
            "timm_wrapper",
            ModelError,
            "timm_wrapper has no default configuration: .*Give the path of a complete config.json",
        ),
        ("bark", ModelError, "BarkModel has no forward pass of its own. Name one of its parts .*BarkSemanticModel"),
        ("decision_transformer", ModelError, r"no rule makes any argument of DecisionTransformerModel\.forward"),
    ],
)
def test_what_has_no_model_says_why(name: str, error: type[Exception], message: str, calls: list[str]) -> None:
    with pytest.raises(error, match=message):
        resolve(f"hf:{name}")
    assert calls == []


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", FormatError, "cannot read"),
        ("[1]", FormatError, "it has no model_type"),
        ('{"hidden_size": 8}', FormatError, "it has no model_type"),
        ('{"model_type": "berd"}', UnknownNameError, r"unknown model_type in .*'berd'\. Did you mean bert"),
        ('{"model_type": "bert", "hidden_size": "wide"}', ModelError, "is not a configuration: .*hidden_size"),
        ('{"model_type": "bert", "architectures": ["MyBert"]}', UnknownNameError, "unknown class of bert 'MyBert'"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    text: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(error, match=message):
        resolve(f"hf:{path}")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot read .*config\.json"):
        resolve(f"hf:{tmp_path}")


# --- nothing is downloaded, nothing is allocated --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "llava"])
def test_weights_and_floats_are_not_allocated_and_integers_have_values(name: str, calls: list[str]) -> None:
    built = resolve(f"hf:{name}").build("meta")
    assert {item.device.type for item in built.module.parameters()} == {"meta"}
    for argument in built.kwargs.values():
        assert argument.device.type == ("meta" if argument.is_floating_point() else "cpu")
    assert calls == []


def test_a_backbone_that_comes_with_weights_comes_without(small: Callable[..., Path], calls: list[str]) -> None:
    backbone = {"model_type": "timm_backbone", "backbone": "resnet18", "use_pretrained_backbone": True}
    path = small("detr", backbone_config={**backbone, "out_indices": [1, 2, 3, 4]}, use_timm_backbone=True)
    model = resolve(f"hf:{path}", settings={"image_size": 64})
    model.build("meta")
    model.build("cpu")
    assert calls == []


def test_no_cache_comes_out(small: Callable[..., Path]) -> None:
    model = resolve(f"hf:{small('gpt2', use_cache=True)}")
    built = model.build("cpu")
    assert list(built.module(**built.kwargs)) == ["logits"]
    graph = trace_model(model).graph
    assert [graph.tensors[name].shape for name in graph.outputs] == [(1, 64, 120)]


# --- inputs ---------------------------------------------------------------------------------------------------------


def test_an_image_has_as_many_places_in_the_text_as_the_vision_tower_gives_vectors(small: Callable[..., Path]) -> None:
    model = resolve(f"hf:{small('llava')}", batch=2)
    given = inputs(model)
    assert list(given) == ["input_ids", "pixel_values", "attention_mask"]
    # 32 x 32 pixels in patches of 8 x 8, of 64 positions.
    assert given["pixel_values"].shape == (2, 3, 32, 32)
    assert given["input_ids"].shape == (2, 64)
    assert (given["input_ids"] == 119).sum(1).tolist() == [16, 16]
    assert (given["input_ids"][:, 1:17] == 119).all()
    assert given["attention_mask"].all()
    assert model.parameters["tokens"].default == 64 - 16


def test_the_grid_of_an_image_and_the_kind_of_each_token_are_told(small: Callable[..., Path]) -> None:
    given = inputs(resolve(f"hf:{small('qwen2_vl')}", batch=2, settings={"image_size": 32, "tokens": 5}))
    # Patches of 4 x 4 over two frames, four of them to one place in the text.
    assert given["pixel_values"].shape == (2 * 8 * 8, 3 * 2 * 4 * 4)
    assert given["image_grid_thw"].tolist() == [[1, 8, 8]] * 2
    assert given["mm_token_type_ids"].tolist() == [[0] + [1] * 16 + [0] * 4] * 2
    assert (given["input_ids"] == 118).tolist() == [[False] + [True] * 16 + [False] * 4] * 2


def test_random_tokens_have_no_meaning_of_their_own(small: Callable[..., Path]) -> None:
    path = small("bert", vocab_size=6, pad_token_id=0, bos_token_id=1, eos_token_id=[2, 3], mask_token_id=5)
    given = inputs(resolve(f"hf:{path}", batch=8))
    assert given["input_ids"].unique().tolist() == [4]


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("whisper", {}, {"input_features": (2, 8, 40), "decoder_input_ids": (2, 16)}),
        ("musicgen", {}, {"input_ids": (2, 128), "attention_mask": (2, 128), "decoder_input_ids": (4, 64)}),
        (
            "clap",
            {"audio_frames": 100},
            {"input_ids": (2, 64), "input_features": (2, 1, 100, 16), "is_longer": (2, 1), "attention_mask": (2, 64)},
        ),
        (
            "layoutlmv3",
            {"tokens": 7},
            {
                "input_ids": (2, 7),
                "attention_mask": (2, 7),
                "token_type_ids": (2, 7),
                "bbox": (2, 7, 4),
                "pixel_values": (2, 3, 32, 32),
            },
        ),
        ("sam", {}, {"pixel_values": (2, 3, 32, 32), "input_points": (2, 1, 1, 2), "input_labels": (2, 1, 1)}),
        ("detr", {"image_size": 96}, {"pixel_values": (2, 3, 96, 96), "pixel_mask": (2, 96, 96)}),
        ("videomae", {"frames": 2}, {"pixel_values": (2, 2, 3, 32, 32)}),
        ("wav2vec2", {"samples": 4000}, {"input_values": (2, 4000)}),
        ("audio-spectrogram-transformer", {"audio_frames": 48}, {"input_values": (2, 48, 32)}),
        ("pix2struct", {"patches": 10}, {"flattened_patches": (2, 10, 50), "decoder_input_ids": (2, 128)}),
        (
            "lxmert",
            {"regions": 3, "tokens": 4},
            {
                "input_ids": (2, 4),
                "visual_feats": (2, 3, 24),
                "visual_pos": (2, 3, 4),
                "attention_mask": (2, 4),
                "visual_attention_mask": (2, 3),
                "token_type_ids": (2, 4),
            },
        ),
        (
            "mllama",
            {"tokens": 4},
            {
                "input_ids": (2, 5),
                "pixel_values": (2, 1, 2, 3, 32, 32),
                "aspect_ratio_mask": (2, 1, 2),
                "aspect_ratio_ids": (2, 1),
                "attention_mask": (2, 5),
                "cross_attention_mask": (2, 5, 1, 2),
            },
        ),
    ],
)
def test_inputs_follow_from_signature_configuration_and_sizes(
    kind: str, settings: dict[str, int], expected: dict[str, tuple[int, ...]], small: Callable[..., Path]
) -> None:
    model = resolve(f"hf:{small(kind)}", batch=2, settings=settings)
    given = inputs(model)
    assert {name: tuple(item.shape) for name, item in given.items()} == expected
    assert {item.name: item.shape for item in model.specs} == expected


def test_masks_positions_and_prompts_are_what_they_are(small: Callable[..., Path]) -> None:
    roles = {item.name: (item.modality, item.role) for item in resolve(f"hf:{small('sam')}").specs}
    assert roles["input_points"] == roles["input_labels"] == ("prompt", "modality")
    roles = {item.name: item.role for item in resolve(f"hf:{small('mllama')}").specs}
    assert roles["aspect_ratio_ids"] == "position"
    assert roles["cross_attention_mask"] == roles["attention_mask"] == "mask"
    assert resolve(f"hf:{small('musicgen')}").specs[-1].modality == "audio"


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_the_sizes_of_clip_are_bounded_by_its_configuration() -> None:
    model = resolve("hf:clip")
    assert {name: (item.default, item.bounds) for name, item in model.parameters.items()} == {
        "image_size": (224, "32 to 4096, a multiple of 32"),
        "tokens": (77, "1 to 77"),
    }
    assert model.settings == {"image_size": 224, "tokens": 77}


def test_positions_that_start_behind_the_padding_are_not_all_there(small: Callable[..., Path]) -> None:
    # RoBERTa's 66 positions begin at 2.
    model = resolve(f"hf:{small('roberta', pad_token_id=1)}")
    assert model.parameters["tokens"].bounds == "1 to 64"
    built = model.build("cpu")
    assert built.module(**built.kwargs).logits.shape == (1, 64, 120)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip?tokens=78", "tokens=78 is impossible: 1 to 77"),
        ("clip?image_size=240", "image_size=240 is impossible: 32 to 4096, a multiple of 32"),
        ("bert?tokens=0", "tokens=0 is impossible: 1 to 512"),
        ("bert?tokens=many", "tokens=many: give a whole number"),
        ("bert?frames=3", r"unknown parameter of hf:bert 'frames'\. Known: tokens\."),
    ],
)
def test_an_impossible_size_is_refused_before_tracing(name: str, message: str) -> None:
    with pytest.raises(MmworkloadError, match=message):
        resolve(f"hf:{name}")


def test_a_larger_image_leaves_less_room_for_text(small: Callable[..., Path]) -> None:
    path = small("llava")
    model = resolve(f"hf:{path}", settings={"image_size": 48})
    assert model.parameters["tokens"].bounds == "1 to 28"
    with pytest.raises(MmworkloadError, match="tokens=29 is impossible: 1 to 28"):
        resolve(f"hf:{path}?image_size=48&tokens=29")
    with pytest.raises(ModelError, match="64 places for images or audio leave none of the 64 positions for text"):
        resolve(f"hf:{path}?image_size=64")


def bert(tokens: int, width: int, layers: int, hidden: int, vocabulary: int) -> int:
    """Projections, attention, MLP; then the masked-language head: one square layer and the vocabulary."""
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    return layers * block + tokens * (width**2 + width * vocabulary)


@pytest.mark.parametrize("tokens", [128, 64])
def test_bert_base_has_the_closed_form(tokens: int) -> None:
    graph = trace_model(resolve(f"hf:bert?tokens={tokens}")).graph
    assert graph.total_macs == bert(tokens, 768, 12, 3072, 30522)
    assert graph.model == ("hf:bert" if tokens == 128 else "hf:bert?tokens=64")


def test_an_image_size_makes_the_model_for_it(small: Callable[..., Path]) -> None:
    model = resolve(f"hf:{small('vit')}?image_size=64")
    assert model.build("meta").module.config.image_size == 64
    graph = trace_model(model).graph
    tokens, width, hidden = 65, 32, 48
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    assert graph.total_macs == 64 * 3 * 8 * 8 * width + 2 * block + width * 2


@pytest.mark.parametrize("kind", ["llava", "clip", "whisper"])
def test_work_grows_with_the_batch(kind: str, small: Callable[..., Path]) -> None:
    path = small(kind)
    one, three = (trace_model(resolve(f"hf:{path}", batch=batch)).graph for batch in (1, 3))
    # Every pair of a batch is compared in a dual encoder.
    squared = one["matmul"].macs if kind == "clip" else 0
    assert three.total_macs == 3 * (one.total_macs - squared) + 9 * squared
    assert three.total_params == one.total_params


# --- default configurations -----------------------------------------------------------------------------------------


def test_what_a_default_configuration_lacks_is_filled_in_and_said() -> None:
    model = resolve("hf:blip-2?tokens=8&image_size=28")
    assert model.notes == ("the default configuration does not fit together: image_token_index=50271 is set",)
    # One place for each query of the query transformer.
    assert (inputs(model)["input_ids"] == 50271).sum() == 32


def test_a_configuration_from_a_file_is_left_as_it_is(small: Callable[..., Path]) -> None:
    model = resolve(f"hf:{small('blip-2')}")
    assert model.notes == ()
    assert model.build("meta").module.config.to_dict()["image_token_index"] == 119


def test_a_default_configuration_that_cannot_run_says_so() -> None:
    with pytest.raises(
        ModelError, match=r"The default configuration of aya_vision may not fit together: give the path"
    ):
        resolve("hf:aya_vision")


def test_the_defaults_of_qwen2_vl_are_joined() -> None:
    """Its text model is that of 72 * 10^9 parameters, its vision tower that of 7 * 10^9."""
    model = resolve("hf:qwen2_vl?image_size=28&tokens=1")
    assert model.notes == ("the default configuration does not fit together: vision_config.hidden_size=8192 is set",)
