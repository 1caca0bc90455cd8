"""``mmworkload simulate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import (
    All,
    Archs,
    Json,
    Model,
    Only,
    Simulator,
    Strict,
    command,
    model_options,
    print_json,
    simulator_options,
    split_archs,
)
from mmworkload.models.names import Options
from mmworkload.options import SimulateOptions
from mmworkload.printing import tell


@command
@model_options
@simulator_options
def simulate(
    model: Model,
    arch: Archs,
    how: Options,
    running: SimulateOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="report to write: .html, .json, .csv or .parquet by its suffix"),
    ] = None,
    simulator: Simulator = "auto",
    only: Only = None,
    strict: Strict = True,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Cycles, latency and energy of every layer; several accelerators and several simulators side by side."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.outputs import keep, require_output_file
    from mmworkload.reporting.simulation_file import SUFFIXES, write
    from mmworkload.simulating.choice import require_known

    if output is not None:
        require_output_file(output, SUFFIXES)
    simulators = simulator.split(",")
    for name in simulators:
        require_known(name)
    with bar(f"simulating {model}") as progress:
        found = verbs.simulate_all(
            model,
            list(dict.fromkeys(item for text in arch for item in split_archs(text))),
            simulators,
            only=only or (),
            strict=strict,
            progress=progress,
            **running,
            **how,
        )
    if output is not None:
        keep(output, partial(write, found))
    if json:
        print_json(found.to_dict())
    else:
        from mmworkload.reporting.tables import comparison_tables, print_out, simulate_tables
        from mmworkload.reporting.tables.several import several_tables

        if found.alone is not None:
            print_out(*simulate_tables(found.alone, all_layers=all_layers))
        elif found.comparison is not None:
            print_out(*comparison_tables(found.comparison))
        else:
            print_out(*several_tables(found))
    if output is not None:
        tell(f"wrote {output}")
