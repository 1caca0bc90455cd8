"""``mmworkload measure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import All, Device, Json, Model, Only, command, model_options, print_json
from mmworkload.models.names import Options


@command
@model_options
def measure(
    model: Model,
    how: Options,
    device: Device = "cpu",
    only: Only = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="folder for the result: times, graph, kernels and timeline (or a .json)"),
    ] = None,
    limit_s: Annotated[float, typer.Option("--limit-s", help="seconds after which no further repeat begins")] = 60.0,
    compiled: Annotated[bool, typer.Option("--compile", help="also time the model under torch.compile")] = False,
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="also time it replayed as a CUDA graph")] = False,
    energy: Annotated[bool, typer.Option("--energy", help="also measure the joules of an inference")] = False,
    counters: Annotated[
        bool, typer.Option("--counters", help="also read the GPU's hardware counters (ncu) of the stages of --only")
    ] = False,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Times a model: eager end to end, its graph stage by stage, and the kernels of every layer."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.measuring.folder import check_place, save

    if output is not None:
        check_place(output)
    with bar(f"measuring {model}") as progress:
        result = verbs.measure_result(
            model,
            device=device,
            only=only or (),
            limit_s=limit_s,
            compiled=compiled,
            cuda_graph=cuda_graph,
            energy=energy,
            counters=counters,
            progress=progress,
            **how,
        )
    if output is not None:
        save(result, output)
    if json:
        print_json(result.measurement.to_dict())
        return
    from mmworkload.reporting.tables import measure_tables, print_out

    print_out(*measure_tables(result.measurement, all_layers=all_layers))
