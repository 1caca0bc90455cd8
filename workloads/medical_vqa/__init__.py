"""Medical VQA: a photograph of a retina, or another medical image, and a question about it.

MMBench's paper builds on ViLMedic: DenseNet, RoBERTa, a transformer, and an answer that is generated. ViLMedic has each
of these parts, with sizes in its configuration files, but joins them for reports, not for questions. MMBench's public
code runs another network: ResNet-152, LSTM and glimpses, with the answer as one of five classes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter, stages

if TYPE_CHECKING:
    import torch

TABLE = "MMBench (IISWC 2023), Table 3"
VILMEDIC = "ViLMedic (ACL 2022), github.com/jbdel/vilmedic"
CODE = "MMBench (IISWC 2023), applications/Medical-VQA"
BOTH = ("image", "text")

# The fundus camera of IDRiD, whose images the data set holds.
PHOTOGRAPH = (2848, 4288)
# A word of English and its space, rounded up.
BYTES_OF_A_WORD = 8

ROBERTA_VOCABULARY = 50265
LONGEST = 512

TOKENS = Parameter(12, "words of the question (max_question_length of MMBench's code)", high=LONGEST)
ANSWER = Parameter(
    12, "words of the answer in one teacher-forced pass, as many as the question's; 1 is one step", high=LONGEST
)
VOCABULARY = Parameter(ROBERTA_VOCABULARY, "words that the text encoder and the decoder know", low=2)
DENSENET = Parameter(
    "densenet169",
    "the image encoder (ViLMedic's is densenet169)",
    choices=("densenet121", "densenet169", "densenet201"),
)
LAYERS = Parameter(12, "layers of the transformer over the tokens", high=96)
DROP = drop_parameter(BOTH)


def _decoder_layers(default: int) -> Parameter:
    return Parameter(default, "layers of the decoder", high=96)


def _image_size(default: int) -> Parameter:
    return Parameter(default, "rows and columns of the image", low=32, high=2048, step=8)


def _answers(default: int) -> Parameter:
    return Parameter(default, "answers to choose from")


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.medical_vqa.networks")


def _inputs(
    modalities: Sequence[str],
    masked: bool,
    raw: bool,
    batch: int,
    image_size: int = 0,
    tokens: int = 0,
    vocabulary: int = 0,
    answer: int = 0,
    drop: tuple[str, ...] = (),
) -> tuple[InputSpec, ...]:
    specs = []
    if "image" in modalities and "image" not in drop:
        pixels = (batch, *PHOTOGRAPH, 3) if raw else (batch, 3, image_size, image_size)
        specs.append(_pixels("image", pixels, raw, "modality"))
        if masked:
            region = (batch, *PHOTOGRAPH) if raw else (batch, 1, image_size, image_size)
            specs.append(_pixels("mask", region, raw, "mask"))
    if "text" in modalities and "text" not in drop:
        if raw:
            specs.append(InputSpec("text", (batch, BYTES_OF_A_WORD * tokens), "uint8", high=256))
        else:
            specs.append(InputSpec("text", (batch, tokens), "int64", high=vocabulary))
    if answer:
        # What has been said so far, which the decoder continues.
        specs.append(InputSpec("answer", (batch, answer), "int64", modality="text", role="state", high=vocabulary))
    return tuple(specs)


def _pixels(name: str, shape: tuple[int, ...], raw: bool, role: str) -> InputSpec:
    return InputSpec(name, shape, "uint8" if raw else "float32", modality="image", role=role, high=256)


def _preprocess(masked: bool, image_size: int = 0, vocabulary: int = 0, tokens: int = 0) -> torch.nn.Module:
    # ViLMedic resizes the whole image, the public code its middle square.
    return _networks().Prepare(image_size, vocabulary, tokens, crop=masked)


def _variant(
    name: str,
    modalities: Sequence[str],
    source: str,
    build: Callable[..., torch.nn.Module],
    parameters: Mapping[str, Parameter],
    masked: bool = False,
    stage_rules: Mapping[str, str] | None = None,
    **more: Any,
) -> Variant:
    return Variant(
        name=name,
        source=source,
        build=build,
        inputs=partial(_inputs, modalities, masked, False),
        raw=partial(_inputs, modalities, masked, True),
        preprocess=partial(_preprocess, masked),
        stages={**stages(*modalities), **(stage_rules or {"decoder": "head"})},
        parameters=parameters,
        **more,
    )


def _text() -> dict[str, Parameter]:
    return {
        "tokens": TOKENS,
        "vocabulary": VOCABULARY,
        "text_layers": Parameter(12, "layers of the text encoder", high=96),
    }


def _transformer(
    tokens: int,
    image_size: int,
    vocabulary: int,
    densenet: str,
    text_layers: int,
    layers: int,
    decoder_layers: int,
    drop: tuple[str, ...],
) -> torch.nn.Module:
    return _networks().transformer(tokens, image_size, vocabulary, densenet, text_layers, layers, decoder_layers, drop)


def _cross_attention(
    tokens: int,
    image_size: int,
    vocabulary: int,
    densenet: str,
    text_layers: int,
    decoder_layers: int,
    drop: tuple[str, ...],
) -> torch.nn.Module:
    return _networks().cross_attention(tokens, image_size, vocabulary, densenet, text_layers, decoder_layers, drop)


def _region(name: str, glimpses: bool, source: str, **more: Any) -> Variant:
    def build(image_size: int, vocabulary: int, answers: int, fusion: str, drop: tuple[str, ...]) -> torch.nn.Module:
        return _networks().region(image_size, vocabulary, answers, fusion, drop, glimpses)

    return _variant(
        name,
        BOTH,
        source,
        build,
        {
            "image_size": _image_size(448),
            "tokens": TOKENS,
            "vocabulary": Parameter(30, "rows of the word table; a placeholder, the data set decides it", low=2),
            "answers": _answers(5),
            "fusion": fusion_parameter(),
            "drop": DROP,
        },
        masked=True,
        **more,
    )


FAMILY = Family(
    description="answers to questions about medical images",
    dataset="DME-VQA: questions about regions of IDRiD and e-Ophtha fundus images (Tascon-Morales et al., MICCAI 2022)",
    dataset_url="https://zenodo.org/record/6784358",
    variants=(
        _variant(
            "transformer",
            BOTH,
            f"{TABLE} (DenseNet, RoBERTa, transformer, generation); sizes from {VILMEDIC}: image and transformer from"
            " config/MVQA/vqa.yml at the 224 pixels of config/RRG, decoder from config/RRG/baseline-mimic.yml",
            _transformer,
            {
                **_text(),
                "image_size": _image_size(224),
                "answer": ANSWER,
                "densenet": DENSENET,
                "layers": LAYERS,
                "decoder_layers": _decoder_layers(1),
                "drop": DROP,
            },
            notes="ViLMedic answers questions from the image alone; here the question's tokens go through its"
            " transformer with the image's, and its decoder for reports answers. One teacher-forced pass over"
            " `answer` words; no length of answers is published.",
        ),
        _variant(
            "cross-attention",
            BOTH,
            f"{VILMEDIC}, config/RRS/biorobert_multi.yml with models/rrs/SumHugMulti.py (commit 3460604)",
            _cross_attention,
            {
                **_text(),
                "image_size": _image_size(224),
                "answer": ANSWER,
                "densenet": DENSENET,
                "decoder_layers": _decoder_layers(12),
                "drop": DROP,
            },
            stage_rules={"decoder.network.lm_head": "head", "decoder": "fusion"},
            notes="ViLMedic summarises reports so, at tokens=120 and answer=80. The decoder's layers are where the"
            " modalities meet, so they are the fusion; the head is the language-model head. The encoder's pooler, which"
            " nobody reads, is left out.",
        ),
        _variant(
            "concat",
            BOTH,
            f"encoders of {TABLE}, each averaged or pooled to a vector; joined and classified as in {CODE}",
            lambda vocabulary, densenet, text_layers, answers, fusion, drop: _networks().concat(
                vocabulary, densenet, text_layers, answers, fusion, drop
            ),
            {
                **_text(),
                "image_size": _image_size(224),
                "densenet": DENSENET,
                "answers": _answers(5),
                "fusion": fusion_parameter(),
                "drop": DROP,
            },
            notes="Neither paper nor code has it: the paper's encoders with the fusion and the head of the code.",
        ),
        _region(
            "concat-mmbench",
            True,
            f"{CODE}, config/idrid_regions/single/default_consistency.yaml",
            aliases=("mmbench", "glimpse"),
        ),
        _region(
            "concat-mean-mmbench",
            False,
            f"{CODE}, core/models/models.py with `attention: False`",
        ),
        _variant(
            "image",
            ("image",),
            f"{VILMEDIC}, config/RRG/biomed-roberta-baseline-mimic.yml",
            lambda vocabulary, densenet, decoder_layers: _networks().image_alone(vocabulary, densenet, decoder_layers),
            {
                "image_size": _image_size(224),
                "answer": ANSWER,
                "vocabulary": VOCABULARY,
                "densenet": DENSENET,
                "decoder_layers": _decoder_layers(12),
            },
            aliases=("rrg",),
            notes="A report generator: the answer comes from the image alone.",
        ),
        _variant(
            "image-classifier",
            ("image",),
            f"{VILMEDIC}, config/MVQA/vqa.yml and models/mvqa/MVQA.py",
            lambda densenet, layers, answers: _networks().image_classifier(densenet, layers, answers),
            {
                "image_size": _image_size(232),
                "densenet": DENSENET,
                "layers": LAYERS,
                "answers": _answers(330),
            },
            aliases=("mvqa",),
            notes="ViLMedic's own solution of medical VQA, which does not read the question.",
        ),
        _variant(
            "text",
            ("text",),
            f"{VILMEDIC}, config/RRS/biomed-roberta-baseline-mimic.yml",
            lambda vocabulary, text_layers, decoder_layers: _networks().text_alone(
                vocabulary, text_layers, decoder_layers
            ),
            {**_text(), "answer": ANSWER, "decoder_layers": _decoder_layers(12)},
            aliases=("rrs",),
            notes="The encoder's pooler, which nobody reads, is left out.",
        ),
    ),
)
