"""``mmworkload trace``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import Json, Model, Only, command, model_options, print_json
from mmworkload.models.names import Options
from mmworkload.printing import put, tell


@command
@model_options
def trace(
    model: Model,
    how: Options,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="file to write: .json, .yaml or .csv by its suffix")
    ] = None,
    only: Only = None,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="refuse operators that no lowering covers")
    ] = False,
    json: Json = False,
) -> None:
    """The layer graph of a model: to a file, or as JSON."""
    from mmworkload import verbs
    from mmworkload.exits.settings import split_exits
    from mmworkload.outputs import GRAPH, require_output_file

    if output is not None:
        require_output_file(output, GRAPH)
    if split_exits(model)[1] is not None:
        tell(
            "the whole network, with every exit evaluated and none taken; its segments: mmworkload exits",
        )
    graph = verbs.trace(model, only=only or (), strict=strict, **how)
    if output is not None:
        graph.save(output)
        tell(f"wrote {output}: {len(graph)} layers, {graph.total_macs} MACs")
    if json:
        print_json(graph.to_dict())
    elif output is None:
        put(graph.to_text(".yaml"))
