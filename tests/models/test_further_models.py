"""Models that are not ours come out whole: exact work, exact parameters, sensible stages, no rules given.

The count is that of tests/tracing: the operators below autograd of one eager forward pass, with the operands that
arrive there; it shares no code with the lowering. Convolutional networks are counted at full size on meta tensors,
models of transformers at a small configuration on real ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from mmworkload.errors import ModelError
from mmworkload.models import resolve
from mmworkload.tracing import trace_model
from mmworkload.tracing.stages import assign

pytestmark = pytest.mark.slow

slow, full = pytest.mark.slow, pytest.mark.full


def marked(names: str, mark: Any) -> list[Any]:
    return [pytest.param(name, marks=mark) for name in names.split()]


def check(model: Any, count: Callable[..., Any], device: str) -> Any:
    """The graph of ``model``, which multiplies what one forward pass on ``device`` does."""
    built = model.build(device)
    with torch.device(device):
        counted = count(built.module, *built.args, **built.kwargs)
    graph = trace_model(model).graph
    assert graph.total_macs == counted.macs
    assert graph.built_params == sum({id(item): item.numel() for item in built.module.parameters()}.values())
    assert [item.operator for item in graph.coverage if item.treatment == "unknown"] == []
    return graph


# --- torchvision ----------------------------------------------------------------------------------------------------

# Those on which the official converter of the Timeloop project fails, then others.
CLASSIFIERS = [
    *["alexnet", "vgg16", "resnet18", "squeezenet1_1"],
    *marked("resnet50 resnext50_32x4d mobilenet_v2 mobilenet_v3_large densenet121 googlenet", slow),
    *marked("shufflenet_v2_x1_0 efficientnet_b0 squeezenet1_0 mobilenet_v3_small mnasnet1_0", slow),
    *marked("efficientnet_v2_s regnet_y_400mf convnext_tiny swin_t swin_v2_t vit_b_16 maxvit_t", full),
    *marked("wide_resnet50_2 r3d_18 mvit_v2_s swin3d_t", full),
]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_of_torchvision_has_the_published_size(name: str, count: Callable[..., Any]) -> None:
    """Against the count, and against the operations (in 10^9, three digits) and parameters that torchvision prints
    beside its weights."""
    from torchvision import models

    graph = check(resolve(f"torchvision:{name}"), count, "meta")
    published = models.get_model_weights(name).DEFAULT.meta
    assert round(graph.total_macs / 1e9, 3) == published["_ops"]
    assert graph.total_params == published["num_params"]
    assert len(graph.stages) == 1
    assert set(graph.stages) <= {"encoder/image", "encoder/video"}


# --- timm -----------------------------------------------------------------------------------------------------------

IMAGE_MODELS = [
    *["mixer_s32_224", "lcnet_050", "starnet_s1"],
    *marked("vit_tiny_patch16_224 seresnet18 mobilenetv4_conv_small regnetx_002 mambaout_femto", slow),
    *marked("swin_tiny_patch4_window7_224 convnext_atto efficientnet_lite0 ghostnet_100 resmlp_12_224", full),
    *marked("deit_tiny_distilled_patch16_224 xcit_nano_12_p16_224 levit_128s poolformer_s12 edgenext_xx_small", full),
    *marked("mobilevit_xxs fastvit_t8 tf_efficientnetv2_b0 hrnet_w18_small dla34 repvgg_a0 nf_resnet50", full),
    *marked("pit_ti_224 cait_xxs24_224 eva02_tiny_patch14_224 hiera_tiny_224 crossvit_tiny_240 volo_d1_224", full),
    *marked("twins_pcpvt_small pvt_v2_b0 efficientformer_l1 inception_next_tiny caformer_s18 resnest14d", full),
    *marked("skresnet18 eca_botnext26ts_256 halonet26t lambda_resnet26t gmlp_s16_224 gcvit_xxtiny", full),
    *marked("coatnet_nano_rw_224 maxvit_rmlp_pico_rw_256 tiny_vit_5m_224 efficientvit_b0 repghostnet_050", full),
    *marked("tresnet_m selecsls42b cspresnet50 rexnet_100 nextvit_small davit_tiny beit_base_patch16_224", full),
    *marked("visformer_tiny coat_tiny convit_tiny tnt_s_patch16_224 focalnet_tiny_srf", full),
]


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_model_of_timm_is_counted_exactly(name: str, count: Callable[..., Any]) -> None:
    graph = check(resolve(f"timm:{name}"), count, "meta")
    assert set(graph.stages) == {"encoder/image"}


# --- transformers ---------------------------------------------------------------------------------------------------

# Model type (and class): the class, the stages without the word encoder ("-" marks one without MACs: an embedding, a
# scale), the sizes to set.
FAMILIES: dict[str, tuple[str, str, dict[str, int]]] = {
    # Two encoders and a product.
    "clip": ("CLIPModel", "image text fusion head-", {}),
    "siglip": ("SiglipModel", "image text fusion head-", {}),
    "siglip2": ("Siglip2Model", "image text fusion head-", {}),
    "altclip": ("AltCLIPModel", "image text fusion head-", {}),
    "chinese_clip": ("ChineseCLIPModel", "image text fusion head-", {}),
    "align": ("AlignModel", "image text fusion head-", {}),
    "groupvit": ("GroupViTModel", "image text fusion head-", {}),
    "clap": ("ClapModel", "audio text fusion head-", {}),
    "xclip": ("XCLIPModel", "video text fusion", {}),
    "owlvit": ("OwlViTForObjectDetection", "image text fusion head-", {}),
    # Encoders under a joint transformer, or one transformer over both.
    "flava": ("FlavaModel", "image text fusion", {}),
    "vilt": ("ViltForQuestionAnswering", "text- image fusion head", {}),
    "bridgetower": ("BridgeTowerModel", "text image fusion head", {}),
    "visual_bert": ("VisualBertModel", "text- image fusion head", {}),
    "lxmert": ("LxmertModel", "text image fusion head", {}),
    "layoutlmv3": ("LayoutLMv3ForQuestionAnswering", "text- image fusion head", {}),
    "grounding-dino": ("GroundingDinoForObjectDetection", "text image fusion head", {"image_size": 64}),
    # An encoder and a decoder that attends to it: what the decoder does before its first look is its own.
    "blip": ("BlipForConditionalGeneration", "image text fusion head", {}),
    "blip#BlipForQuestionAnswering": ("BlipForQuestionAnswering", "image text fusion head", {}),
    "blip#BlipForImageTextRetrieval": ("BlipForImageTextRetrieval", "image text fusion head", {}),
    "whisper": ("WhisperForConditionalGeneration", "audio text fusion head", {}),
    "speecht5": ("SpeechT5ForSpeechToText", "audio text fusion head", {"samples": 800}),
    "pix2struct": ("Pix2StructForConditionalGeneration", "image text fusion head", {}),
    "vision-encoder-decoder": ("VisionEncoderDecoderModel", "image text fusion head", {}),
    "musicgen": ("MusicgenForConditionalGeneration", "text audio fusion head", {}),
    "idefics": ("IdeficsForVisionText2Text", "text- image fusion head", {}),
    "mllama": ("MllamaForConditionalGeneration", "image text fusion head", {}),
    # Vectors of the image in the place of words.
    "llava": ("LlavaForConditionalGeneration", "text- image fusion head", {}),
    "llava_next": ("LlavaNextForConditionalGeneration", "text- image fusion head", {}),
    "paligemma": ("PaliGemmaForConditionalGeneration", "text- image fusion head", {}),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", "text- image fusion head", {"image_size": 32}),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", "text- image fusion head", {"image_size": 32}),
    "idefics2": ("Idefics2ForConditionalGeneration", "text- image fusion head", {}),
    "idefics3": ("Idefics3ForConditionalGeneration", "text- image fusion head", {}),
    "llama4": ("Llama4ForConditionalGeneration", "text- image fusion head", {}),
    "blip-2": ("Blip2ForConditionalGeneration", "text- image fusion head", {}),
    "instructblip": ("InstructBlipForConditionalGeneration", "image text fusion head", {}),
    "git": ("GitForCausalLM", "text- image fusion head", {}),
    "kosmos-2": ("Kosmos2ForConditionalGeneration", "image text- fusion head", {}),
    # A prompt beside an image.
    "sam": ("SamModel", "image prompt fusion", {}),
    # One modality: all encoder.
    "detr": ("DetrForObjectDetection", "image", {"image_size": 64}),
    "bert": ("BertForMaskedLM", "text", {}),
    "wav2vec2": ("Wav2Vec2ForCTC", "audio", {"samples": 800}),
    "videomae": ("VideoMAEForVideoClassification", "video", {}),
}
# What a release of transformers cannot run itself, by the words of its own error: 5.24 asks the language model of
# Llama 4 for an output that it no longer has.
FAULTS = {"llama4": "has no attribute 'image_outputs'"}
# Fast ones stand for their kind; the others run in `make test` too.
FAST = ("clip", "flava", "vilt", "blip", "whisper", "llava", "qwen2_vl", "sam", "detr")
ONE_MODALITY = {
    "text": "roberta albert distilbert electra gpt2 llama t5 bart mamba perceiver layoutlm",
    "image": "vit deit swin convnext segformer",
    "audio": "audio-spectrogram-transformer",
}


def stages(graph: Any) -> list[str]:
    return [stage.removeprefix("encoder/") + ("" if found.macs else "-") for stage, found in graph.stages.items()]


def fault(model: Any, words: str) -> str:
    """What one pass of the library's own model raises, where that is its known fault; empty where it runs."""
    built = model.build("cpu")
    try:
        with torch.no_grad():
            built.module(*built.args, **built.kwargs)
    except Exception as error:
        if words not in str(error):
            raise
        return str(error)
    return ""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FAST else slow) for name in FAMILIES])
def test_a_multimodal_family_of_transformers_comes_out_whole(
    name: str, small: Callable[..., Path], count: Callable[..., Any]
) -> None:
    class_name, expected, settings = FAMILIES[name]
    kind, mark, asked = name.partition("#")
    model = resolve(f"hf:{small(kind)}{mark}{asked}", batch=2, settings=settings)
    assert model.variant == class_name
    if kind in FAULTS and (said := fault(model, FAULTS[kind])):
        with pytest.raises(ModelError, match=re.escape(said)):
            trace_model(model)
        pytest.xfail(f"transformers {version('transformers')} cannot run {name} itself: {said}")
    graph = check(model, count, "cpu")
    assert sorted(stages(graph)) == sorted(expected.split())


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "modality"), [(name, modality) for modality, names in ONE_MODALITY.items() for name in names.split()]
)
def test_a_model_of_one_modality_is_counted_exactly(
    name: str, modality: str, small: Callable[..., Path], count: Callable[..., Any]
) -> None:
    settings = {"image_size": 64} if name in ("convnext", "segformer") else {}
    graph = check(resolve(f"hf:{small(name)}", batch=2, settings=settings), count, "cpu")
    assert stages(graph) == [modality]


# --- the stages of our own workloads --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "av-mnist/concat",
        "mm-imdb/concat",
        "cmu-mosei/transformer",
        "mustard/transformer",
        "medical-vqa/concat",
        "mujoco-push/late",
        "vision-touch/concat",
    ],
)
def test_data_flow_alone_finds_the_stages_that_a_workload_declares(name: str) -> None:
    graph = trace_model(resolve(name)).graph
    found = assign(graph.layers, graph.tensors, graph.inputs, {})
    agreeing = sum(a.macs for a, b in zip(graph.layers, found, strict=True) if a.stage == b.stage)
    assert agreeing >= 0.999 * graph.total_macs


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        # A decoder of convolutions.
        ("medical-seg/transformer", {"head"}),
        # Branches that go on behind an exchange, and a decoder.
        ("transfuser/transformer", {"encoder/image", "encoder/lidar", "head"}),
    ],
)
def test_data_flow_alone_takes_for_fusion_what_both_reach_and_combines_positions(name: str, declared: set[str]) -> None:
    """A workload that knows better says so; all else is found."""
    graph = trace_model(resolve(name)).graph
    found = assign(graph.layers, graph.tensors, graph.inputs, {})
    differing = {(a.stage, b.stage) for a, b in zip(graph.layers, found, strict=True) if a.macs and a.stage != b.stage}
    assert differing == {(stage, "fusion") for stage in declared}
