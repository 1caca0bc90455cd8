"""Tracing: a model in, a layer graph out; no data and no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmworkload.graph import InputInfo, LayerGraph
from mmworkload.layer import Tensor

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from mmworkload.models import Model


@dataclass(frozen=True)
class Traced:
    """A layer graph together with the program that runs it.

    ``layer_of_node`` maps the key of an FX call (``region/node``) to the name of its layer; views are not in it.
    """

    graph: LayerGraph
    program: ExportedProgram
    layer_of_node: dict[str, str]


def trace_model(model: Model) -> Traced:
    """Traces ``model`` with :func:`torch.export.export` on fake tensors.

    Raises ModelError when the model cannot be built or traced.
    """
    import torch

    from mmworkload.tracing.program import export_program
    from mmworkload.tracing.stages import assign
    from mmworkload.tracing.walk import walk
    from mmworkload.versions import versions

    built = model.build("meta")
    parameters = {id(item): item.numel() for item in built.module.parameters()}
    forced = getattr(torch, model.dtype) if model.dtype != "float32" else None
    program = export_program(built.module, built.args, built.kwargs, model.name, forced)

    def info(name: str, tensor: Tensor) -> InputInfo:
        return model.input_info(name, tensor.shape, tensor.dtype)

    walked = walk(program, model.name, info)
    graph = LayerGraph(
        model=model.name,
        variant=model.variant,
        batch=model.batch,
        dtype=model.dtype,
        layers=assign(walked.layers, walked.tensors, walked.inputs, model.rules),
        tensors=walked.tensors,
        inputs=walked.inputs,
        outputs=walked.outputs,
        built_params=sum(parameters.values()),
        route="export",
        versions=versions("torch", "torchvision", "transformers", "timm"),
        coverage=walked.coverage,
    )
    return Traced(graph, program, walked.layer_of_node)
