"""Which class of a model type does the type's job."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from mmworkload.errors import ModelError, UnknownNameError
from mmworkload.models.sources.transformers.configuration import parts

# Tasks of transformers from those that take most modalities in to those that take one; among equals the generating
# before the judging. The first that a model type can do says what the whole model is. A bare encoder comes last: it
# leaves out a head. Encoders of text precede decoders, since every one of them can be asked to decode.
TASKS = (
    "IMAGE_TEXT_TO_TEXT",
    "MULTIMODAL_LM",
    "VISUAL_QUESTION_ANSWERING",
    "DOCUMENT_QUESTION_ANSWERING",
    "ZERO_SHOT_OBJECT_DETECTION",
    "SPEECH_SEQ_2_SEQ",
    "TEXT_TO_WAVEFORM",
    "TEXT_TO_SPECTROGRAM",
    "ZERO_SHOT_IMAGE_CLASSIFICATION",
    "RETRIEVAL",
    "MASK_GENERATION",
    "OBJECT_DETECTION",
    "UNIVERSAL_SEGMENTATION",
    "INSTANCE_SEGMENTATION",
    "DEPTH_ESTIMATION",
    "POSE_ESTIMATION",
    "KEYPOINT_MATCHING",
    "KEYPOINT_DETECTION",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "MASKED_LM",
    "CAUSAL_LM",
    "CTC",
    "RNNT",
    "TDT",
    "IMAGE_CLASSIFICATION",
    "SEMANTIC_SEGMENTATION",
    "VIDEO_CLASSIFICATION",
    "AUDIO_CLASSIFICATION",
)
# Types whose job comes later in that order than another thing that they can do.
OWN_JOB = {"segformer": "SegformerForSemanticSegmentation"}


def choose(configuration: Any, asked: str, in_file: str, name: str) -> tuple[Any, Any]:
    """The class, and the configuration that it takes (``configuration`` or one inside it).

    ``asked`` by the user (``hf:clip#CLIPTextModel``) comes first, then the class that the configuration file names,
    then the first of :data:`TASKS` that the model type can do, then its bare model. Raises UnknownNameError or
    ModelError.
    """
    import transformers

    known = list(dict.fromkeys(_classes(configuration)))
    wanted = asked or in_file
    if not wanted:
        if not known:
            raise ModelError(
                f"{name}: transformers has no model for {configuration.model_type}; name a class after '#'"
            )
        return getattr(transformers, known[0]), configuration
    found = getattr(transformers, wanted, None)
    takes = getattr(found, "config_class", None)
    for part in parts(configuration):
        if takes is not None and isinstance(part, takes):
            return found, part
    raise UnknownNameError(f"class of {configuration.model_type}", wanted, known)


def _classes(configuration: Any) -> Iterator[str]:
    """Every class that transformers lists for a model type, the one that does its job first."""
    from transformers.models.auto import modeling_auto

    if configuration.model_type in OWN_JOB:
        yield OWN_JOB[configuration.model_type]
    for table in (*(f"MODEL_FOR_{task}_MAPPING_NAMES" for task in TASKS), "MODEL_MAPPING_NAMES", *_other_tables()):
        entry = getattr(modeling_auto, table, {}).get(configuration.model_type)
        if entry:
            yield from [entry] if isinstance(entry, str) else entry


def _other_tables() -> list[str]:
    from transformers.models.auto import modeling_auto

    return [item for item in vars(modeling_auto) if item.startswith("MODEL_") and item.endswith("_NAMES")]


def runnable(configuration: Any, beside: type) -> list[str]:
    """The public classes next to ``beside`` that run on the configuration or on one inside it."""
    import torch
    import transformers

    kinds = {type(part) for part in parts(configuration)}
    return [
        name
        for name, item in vars(sys.modules[beside.__module__]).items()
        if getattr(item, "config_class", None) in kinds
        and item.forward is not torch.nn.Module.forward
        and hasattr(transformers, name)
    ]
