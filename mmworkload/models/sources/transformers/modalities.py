"""Modalities that a class takes and that no rule here makes arguments for: refused, or left out by will.

A class takes a modality if an argument of its forward holds raw data of it, by its name (``audio_input_features``), or
if its configuration has a part for it (``audio_encoder_config``) and the class was chosen here. It is whole if one
argument of each modality is made. What the model itself would make of raw data (embeddings, hidden states), masks,
sizes and labels stand beside raw data or in its place, and videos go through the tower of images: none of these is
asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from mmworkload.models.family import Parameter
from mmworkload.models.model import guess
from mmworkload.models.sources.transformers.configuration import inner
from mmworkload.models.sources.transformers.sheet import Sheet

NONE = "none"
# Parts of names to modalities. Image and video are one: they are seen.
WORDS = {
    "audio": ("audio", "speech", "sound", "input_features", "input_values", "mel"),
    "image": ("pixel", "image", "video", "visual", "vision", "patches"),
    "depth": ("prompt_depth",),
    "protein": ("protein",),
}
# Parts of the names of arguments that are no raw data.
NOT_RAW = ("embed", "hidden", "states", "encoder_outputs", "labels", "output_", "layer")
SEEN = ("image", "video")


def left_out(sheet: Sheet, chosen: bool) -> tuple[str, ...]:
    """One note for each modality that the user leaves out, each a parameter whose one value is ``none``.

    ``chosen`` says that nobody named the class. Raises ModelError when a modality has no argument and the user has not
    left it out.
    """
    made = {item.spec.modality for item in sheet.arguments.values() if item.spec.role == "modality"}
    lacking: dict[str, list[str]] = {}
    for modality, name in (*_arguments(sheet), *(_configured(sheet) if chosen else ())):
        if not made.intersection(SEEN if modality == "image" else (modality,)):
            lacking.setdefault(modality, []).append(name)
    for modality, names in lacking.items():
        parameter = Parameter("", f"leaves out {_and(names)}, which no rule makes", choices=(NONE,))
        sheet.parameters[modality] = parameter
        if modality in sheet.given:
            sheet.settings[modality] = parameter.read(modality, sheet.given[modality])
    refused = {modality: names for modality, names in lacking.items() if modality not in sheet.settings}
    if refused:
        lacks = _and([f"{key} ({_and(names)})" for key, names in refused.items()])
        settings = " ".join(f"--set {key}={NONE}" for key in refused)
        raise sheet.fail(
            f"{sheet.kind.__name__} takes {lacks}, and no rule makes that. Leave it out by {settings}, or write a"
            " function that returns the model and its inputs, and name it as path/file.py:function"
        )
    return tuple(f"{key} is left out ({_and(names)}): none of its layers run" for key, names in lacking.items())


def _arguments(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """(modality, argument) of every argument that may hold raw data."""
    for name, parameter in sheet.signature.items():
        kind = "" if parameter.annotation is inspect.Parameter.empty else str(parameter.annotation)
        is_tensor = "Tensor" in kind or not kind
        if is_tensor and guess(name)[1] == "modality" and not any(word in name for word in NOT_RAW):
            yield from ((modality, name) for modality in _named(name))


def _configured(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """(modality, entry) of every part of the configuration that is for one modality."""
    for name, _ in inner(sheet.configuration):
        yield from ((modality, name) for modality in _named(name))


def _named(name: str) -> list[str]:
    return [modality for modality, words in WORDS.items() if any(word in name for word in words)][:1]


def _and(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
