"""A network small enough to count by hand, and the zoo's networks from their snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from mmworkload.graph import InputInfo, LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import gemm
from mmworkload.tracing.snapshot import path_of


def _linear(layers: list[Layer], tensors: dict[str, Tensor], source: str, name: str, width: int, stage: str) -> str:
    rows, reduction = tensors[source].shape
    made = (
        Tensor(f"{name}.weight", (width, reduction), "float32", 32, "weight", f"{name}.weight"),
        Tensor(f"{name}:out", (rows, width), "float32", 32, "activation", f"{name}:out"),
    )
    tensors.update({item.name: item for item in made})
    layers.append(
        Layer(
            name,
            "linear",
            "Gemm",
            name,
            stage,
            stage.removeprefix("encoder/") if "/" in stage else "",
            ((source, tensors[source].bytes), (made[0].name, made[0].bytes)),
            ((made[1].name, made[1].bytes),),
            (Work(gemm(rows, width, reduction)),),
        )
    )
    return made[1].name


@pytest.fixture
def toy() -> Callable[..., LayerGraph]:
    """``toy({"a": (8, 4, 4, 2)}, classes=3, batch=1)``: linear layers of these widths for each modality, side by side,
    and one linear layer behind."""

    def build(widths: Mapping[str, Sequence[int]], classes: int = 3, batch: int = 1, join: str = "cat") -> LayerGraph:
        layers: list[Layer] = []
        tensors: dict[str, Tensor] = {}
        ends = []
        for modality, (first, *others) in widths.items():
            tensors[modality] = Tensor(modality, (batch, first), "float32", 32, "input", modality)
            end = modality
            for number, width in enumerate(others):
                end = _linear(layers, tensors, end, f"encoders.{modality}.{number}", width, f"encoder/{modality}")
            ends.append(end)
        joined = Tensor(
            "fusion:out", (batch, sum(tensors[end].shape[1] for end in ends)), "float32", 32, "activation", "fusion:out"
        )
        tensors[joined.name] = joined
        reads = tuple((end, tensors[end].bytes) for end in ends)
        layers.append(Layer("fusion", join, "Movement", "fusion", "fusion", "", reads, ((joined.name, joined.bytes),)))
        answer = _linear(layers, tensors, joined.name, "head", classes, "head")
        inputs = tuple(InputInfo(name, (batch, width[0]), "float32", name) for name, width in widths.items())
        return LayerGraph("toy", "toy", batch, "float32", tuple(layers), tensors, inputs, (answer,))

    return build


@pytest.fixture
def zoo() -> Callable[[str], LayerGraph]:
    """The snapshot of a workload, by name."""

    def load(name: str) -> LayerGraph:
        path = path_of(name)
        assert path is not None
        return LayerGraph.load(path)

    return load
