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
        Path | None, typer.Option("--output", "-o", help="JSON file to write, for validate --measurement")
    ] = None,
    limit_s: Annotated[float, typer.Option("--limit-s", help="seconds after which no further repeat begins")] = 60.0,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Times a model: eager end to end, its graph end to end, and the kernels of every layer."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar

    with bar(f"measuring {model}") as progress:
        result = verbs.measure(
            model,
            device=device,
            only=only or (),
            limit_s=limit_s,
            progress=progress,
            **how,
        )
    if output is not None:
        result.save(output)
    if json:
        print_json(result.to_dict())
        return
    from mmworkload.reporting.tables import measure_tables, print_out

    print_out(*measure_tables(result, all_layers=all_layers))
