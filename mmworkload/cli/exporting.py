"""``mmworkload export``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import Arch, Json, Model, Only, Strict, command, model_options, print_json
from mmworkload.models.names import Options


@command
@model_options
def export(
    target: Annotated[str, typer.Argument(help="the tool to write for (mmworkload list exporters), or all")],
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
    from mmworkload.exporting import ALL
    from mmworkload.reporting.tables import export_tables, exports_tables, print_out

    if target == ALL:
        every = verbs.export_all(model, arch, output, only=only or (), strict=strict, **how)
        found, tables = every.to_dict(), partial(exports_tables, every, output)
    else:
        one = verbs.export(target, model, arch, output, only=only or (), strict=strict, **how)
        found, tables = one.to_dict(), partial(export_tables, one, output)
    if json:
        print_json(found)
    else:
        print_out(*tables())
