"""Tracing: a model in, a layer graph out; no data and no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmworkload.errors import FOREIGN, ModelError, kind_and_text
from mmworkload.graph import InputInfo, LayerGraph
from mmworkload.layer import Tensor
from mmworkload.models.end_to_end import PREPROCESS

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from mmworkload.models import Model
    from mmworkload.tracing.program import Faked


ROUTES = ("auto", "export", "recorder")


@dataclass(frozen=True)
class Traced:
    """A layer graph together with the program that runs it.

    ``program`` is None where the recorder was used. ``layer_of_call`` maps the key of a call (``region/node`` of the
    program, or its number in the recording) to the name of its layer; views are not in it.
    """

    graph: LayerGraph
    program: ExportedProgram | None
    layer_of_call: dict[str, str]

    def __repr__(self) -> str:
        return f"<Traced: {self.graph!r}>"


def trace_model(model: Model, route: str = "auto", *, training: bool = False) -> Traced:
    """Traces ``model`` on fake tensors: with :func:`torch.export.export`, or where that refuses, by recording.

    ``route`` takes one of the two only; ``graph.route`` says which one it was. ``training`` traces the forward pass of
    training mode. Raises ModelError when the model cannot be built or traced.
    """
    import torch

    from mmworkload.tracing.program import export_program, make_fake
    from mmworkload.tracing.stages import Outline, assign, auxiliary, require_rules
    from mmworkload.tracing.waiting import waiting
    from mmworkload.tracing.walk import walk
    from mmworkload.versions import versions

    # Weights and inputs are drawn by a fixed seed; the caller's random numbers go on as if nothing had been.
    with torch.random.fork_rng(devices=[]):
        built = model.build("meta")
    built.module.train(training)
    built_params = sum({id(item): item.numel() for item in built.module.parameters()}.values())
    containers = frozenset(path for path, item in built.module.named_modules() if not _runs(item))
    forced = getattr(torch, model.dtype) if model.dtype != "float32" else None

    def info(name: str, tensor: Tensor) -> InputInfo:
        return model.input_info(name, tensor.shape, tensor.dtype)

    def fake() -> Faked:
        watch.faked = make_fake(built.module, built.args, built.kwargs, forced)
        return watch.faked

    program, walked, reason = None, None, ""
    with model.closed(), waiting(model.name) as watch:
        if route != "recorder":
            try:
                program = export_program(fake())
                walked = walk(program, model.name, info)
            except FOREIGN as error:
                if route == "export":
                    raise _refused(model.name, error) from error
                program, reason = None, kind_and_text(error, 160)
        if walked is None:
            from mmworkload.tracing.recorder import record

            # The failed export may have left its traces in the module.
            walked = record(fake(), model.name, info)
    inputs = auxiliary(walked.layers, walked.tensors, walked.inputs)
    require_rules(walked.layers, inputs, model.own_rules)
    layers = assign(walked.layers, walked.tensors, inputs, model.stage_rules, Outline(walked.outputs, containers))
    graph = LayerGraph(
        model=model.name,
        variant=model.variant,
        batch=model.batch,
        dtype=model.dtype,
        layers=tuple(replace(item, placement="host") if item.stage == PREPROCESS else item for item in layers),
        tensors=walked.tensors,
        inputs=inputs,
        outputs=tuple(dict.fromkeys(tensor for _, tensor in walked.outputs)),
        built_params=built_params,
        route="recorder" if program is None else "export",
        versions=versions("torch", "torchvision", "transformers", "timm"),
        coverage=walked.coverage,
        notes=(*model.notes, *([f"traced by recording one run: torch.export refuses it ({reason})"] if reason else [])),
    )
    return Traced(graph, program, walked.layer_of_call)


def _runs(module: torch.nn.Module) -> bool:
    """Whether the module has a forward pass of its own; a ``ModuleList`` has none."""
    import torch

    return type(module).forward is not torch.nn.Module.forward


def _refused(name: str, error: BaseException) -> ModelError:
    from mmworkload.tracing.program import user_frame

    place = user_frame(error)
    return ModelError(
        f"{name}: the forward pass cannot be exported: {kind_and_text(error, 160)}" + (f" ({place})" if place else "")
    )
