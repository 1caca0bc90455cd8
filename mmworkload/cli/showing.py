"""``mmworkload show``."""

from __future__ import annotations

from typing import Annotated

import typer

from mmworkload.cli.options import All, Json, Model, Only, command, model_options, print_json
from mmworkload.models.names import Options


@command
@model_options
def show(
    model: Model,
    how: Options,
    only: Only = None,
    all_layers: All = False,
    why: Annotated[bool, typer.Option("--why", help="the rule that decided each layer's stage")] = False,
    json: Json = False,
) -> None:
    """Per stage and per layer: MACs, parameters, bytes, intensity, share; and how each operator was treated."""
    from mmworkload import verbs

    graph = verbs.trace(model, only=only or (), **how)
    if json:
        print_json(graph.to_dict())
        return
    from mmworkload.reporting.tables import print_out, show_tables

    print_out(*show_tables(graph, all_layers=all_layers, why=why))
