"""``mmworkload export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import Arch, Json, Model, Only, Strict, command, model_options, print_json
from mmworkload.models.names import Options


@command
@model_options
def export(
    target: Annotated[str, typer.Argument(help="the tool to write for: timeloop (mmworkload list exporters)")],
    model: Model,
    arch: Arch,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write; replaced when it is an export")],
    how: Options,
    only: Only = None,
    strict: Strict = True,
    json: Json = False,
) -> None:
    """Writes the inputs of another tool: architecture, problems, and a manifest of every layer."""
    from mmworkload import verbs

    result = verbs.export(target, model, arch, output, only=only or (), strict=strict, **how)
    if json:
        print_json(result.to_dict())
        return
    from mmworkload.reporting.tables import export_tables, print_out

    print_out(*export_tables(result, output))
