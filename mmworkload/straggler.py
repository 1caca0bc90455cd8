"""What stages are called, and how unequal the encoders of a multi-modal network are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mmworkload.errors import MmworkloadError

ENCODER = "encoder/"
"""What the stage of a modality's encoder begins with."""
STAGE = r"preprocess|encoder/[\w-]+|fusion|head(/[\w-]+)?"


def require_stage(stage: str, where: str) -> None:
    """Raises MmworkloadError for what is no stage; ``where`` is who says it."""
    if not re.fullmatch(STAGE, stage):
        raise MmworkloadError(f"{where} {stage}: a stage is preprocess, encoder/MODALITY, fusion, head or head/OUTPUT")


def kind_of_stage(stage: str) -> str:
    """``preprocess``, ``encoder``, ``fusion`` or ``head``: a stage without the modality or output that it names."""
    return stage.partition("/")[0]


def in_order(stages: Iterable[str]) -> list[str]:
    """Pre-processing, encoders, fusion, heads; of a kind, as they come."""
    order = {"preprocess": 0, "fusion": 2, "head": 3}
    return sorted(stages, key=lambda stage: order.get(kind_of_stage(stage), 1))


def stage_matches(stage: str, glob: str) -> bool:
    """Whether a glob names the stage (``encoder/*``) or all of its kind (``encoder``, ``head``)."""
    return fnmatch.fnmatch(stage, glob) or kind_of_stage(stage) == glob


def encoded(stage: str) -> str:
    """The modality whose encoder ``stage`` is; empty for any other stage."""
    return stage.removeprefix(ENCODER) if stage.startswith(ENCODER) else ""


def encoders(by_stage: Mapping[str, float]) -> dict[str, float]:
    """Of values by stage, those of the encoders, by modality."""
    return {encoded(stage): value for stage, value in by_stage.items() if encoded(stage)}


@dataclass(frozen=True)
class Straggler:
    """How unequal the encoders are. Ratios and idle share are None when there is one modality or none.

    ``ratio`` is the slowest over the mean of the others; ``ratios`` the slowest over each other one, as MMBench
    (Xu et al., IISWC 2023) gives it; ``idle_share`` the part of accelerator time spent waiting when every encoder
    has its own accelerator and all wait for the slowest.
    """

    modality: str
    ratio: float | None
    ratios: dict[str, float]
    idle_share: float | None


def straggler(encoder_s: Mapping[str, float]) -> Straggler:
    """The slowest of the encoders; seconds by modality. Encoders that take no time give no ratio."""
    if not encoder_s:
        return Straggler("", None, {}, None)
    slowest = max(encoder_s, key=lambda modality: encoder_s[modality])
    longest = encoder_s[slowest]
    others = {modality: seconds for modality, seconds in encoder_s.items() if modality != slowest}
    mean = sum(others.values()) / len(others) if others else 0.0
    return Straggler(
        modality=slowest,
        ratio=longest / mean if mean else None,
        ratios={modality: longest / seconds for modality, seconds in others.items() if seconds},
        idle_share=1 - sum(encoder_s.values()) / (len(encoder_s) * longest) if others and longest else None,
    )
