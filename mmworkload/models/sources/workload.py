"""``workload/variant``: the networks that come as plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.models.family import Family, accepted, full_name, settle
from mmworkload.models.foreign import refuse_file
from mmworkload.models.model import Model, Request, synthesize

if TYPE_CHECKING:
    import torch


def find(request: Request, known: Mapping[str, Family]) -> Model:
    """The variant of a workload at its settings.

    Raises UnknownNameError for a workload, variant or parameter, MmworkloadError for an impossible value or for
    end-to-end where nothing is pre-processed.
    """
    family_name, _, variant_name = request.name.partition("/")
    if family_name not in known:
        refuse_file(request.name)
        everything = [f"{key}/{item.name}" for key, family in known.items() for item in family.variants]
        raise UnknownNameError("workload", request.name, [*known, *everything])
    family = known[family_name]
    variant = family.variant(variant_name, family_name)
    name = f"{family_name}/{variant.name}"
    settings = settle(variant.parameters, request.settings, name)
    batch = request.batch or family.default_batch
    declare = variant.raw if request.end_to_end else variant.inputs
    preprocessed = request.end_to_end and variant.preprocess is not None
    if declare is None or preprocessed != request.end_to_end:
        raise MmworkloadError(f"{name} takes its inputs as they come: there is nothing to pre-process end to end")
    specs = declare(batch, **accepted(declare, settings))

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        return variant.build(**accepted(variant.build, settings)), synthesize(specs)

    return Model(
        full_name(name, variant.parameters, settings, end_to_end=request.end_to_end),
        variant.name,
        batch,
        request.dtype,
        make,
        specs,
        variant.stages,
        request.stages,
        partial(variant.preprocess, **accepted(variant.preprocess, settings))
        if variant.preprocess and preprocessed
        else None,
        request.inputs,
        tuple(filter(None, (variant.notes, *(f"stand-in: {item}" for item in variant.stand_ins)))),
        variant.parameters,
        settings,
    )
