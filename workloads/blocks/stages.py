"""Stage rules and parameters of :class:`~mmworkload.workloads.blocks.multimodal.MultiModal`. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from mmworkload.models import Parameter

# How the encoded parts are joined: plainly concatenated, or by an operator of MMBench's Table 1.
FUSIONS = ("plain", "zero", "sum", "concat", "tensor", "attention", "linear-glu")


def stages(*modalities: str) -> dict[str, str]:
    """The rules of a network with these encoders: ``encoders.image`` is ``encoder/image``, then fusion and head."""
    return {
        **{f"encoders.{name}": f"encoder/{name}" for name in modalities},
        "fusion": "fusion",
        "head": "head",
    }


def fusion_parameter() -> Parameter:
    """``--set fusion=sum``: an operator of MMBench's Table 1 in place of the plain concatenation."""
    return Parameter("plain", "how the modalities are joined (MMBench Table 1; plain: concatenation)", choices=FUSIONS)


def drop_parameter(modalities: Sequence[str]) -> Parameter:
    """``--set drop=audio``: modalities whose encoder does not run; zeros take the place of its features."""
    return Parameter((), "modalities whose encoder does not run", choices=tuple(modalities), several=True)
