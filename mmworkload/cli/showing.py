"""``mmworkload show``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmworkload.cli.options import All, Json, Model, Only, command, model_options, print_json
from mmworkload.exits.settings import split_exits
from mmworkload.models.names import Options
from mmworkload.printing import tell

if TYPE_CHECKING:
    from mmworkload.graph import LayerGraph
    from mmworkload.models import Model as Resolved


@command
@model_options
def show(
    model: Model,
    how: Options,
    only: Only = None,
    all_layers: All = False,
    why: Annotated[bool, typer.Option("--why", help="the rule that decided each layer's stage")] = False,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="how each operator was treated, and its share of MACs and bytes")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="draw the stages into this .svg: lanes, merges, width by MACs")
    ] = None,
    json: Json = False,
) -> None:
    """What a model is; per stage and layer MACs, parameters, bytes, intensity, share; how operators were treated."""
    from mmworkload import verbs
    from mmworkload.outputs import SVG, require_output_file

    if plot is not None:
        require_output_file(plot, SVG)
    made = verbs.generation(model, **how)
    if made is not None:
        from mmworkload.generation.tables import generation_tables
        from mmworkload.reporting.terminal import print_out as print_generation

        if json:
            print_json(made.to_dict())
        else:
            print_generation(*generation_tables(made, all_layers=all_layers))
        return
    resolved, graph = _traced(model, how)
    graph = graph.only(only or ())
    if plot is not None:
        from mmworkload.reporting.stage_plot import write_plot

        write_plot(graph, plot)
        tell(f"wrote {plot}")
    if json:
        print_json(graph.to_dict())
        return
    from mmworkload.reporting.tables import coverage_tables, print_out, show_tables

    if coverage:
        print_out(*coverage_tables(graph))
    else:
        print_out(*show_tables(graph, model=resolved, all_layers=all_layers, why=why))


def _traced(name: str, how: Options) -> tuple[Resolved | None, LayerGraph]:
    """The model, with the parameters that can be set, and its graph; no model for what is traced already."""
    from mmworkload import verbs
    from mmworkload.sources import is_saved_graph

    if is_saved_graph(name) or split_exits(name)[1] or importlib.util.find_spec("torch") is None:
        return None, verbs.trace(name, **how)
    from mmworkload.models import resolve
    from mmworkload.tracing import trace_model

    resolved = resolve(name, **how)
    return resolved, trace_model(resolved).graph
