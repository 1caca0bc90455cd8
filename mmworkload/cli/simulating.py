"""``mmworkload simulate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from mmworkload.errors import MmworkloadError
from mmworkload.models.names import Options
from mmworkload.options import SimulateOptions
from mmworkload.printing import tell

if TYPE_CHECKING:
    from mmworkload.simulating.several import Simulations


@command
@model_options
@simulator_options
def simulate(
    how: Options,
    running: SimulateOptions,
    model: Model = "",
    arch: Archs = [],  # noqa: B006 (typer copies it)
    results: Annotated[
        Path | None,
        typer.Option("--from", help="folder of mmworkload export timeloop whose run.py was run, in place of MODEL"),
    ] = None,
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
    from mmworkload.outputs import require_output_file
    from mmworkload.reporting.simulation_file import SUFFIXES
    from mmworkload.simulating.choice import require_known

    if output is not None:
        require_output_file(output, SUFFIXES)
    if results is not None:
        _from_folder(results, model, arch, output, all_layers=all_layers, json=json)
        return
    if not model or not arch:
        raise MmworkloadError("give a MODEL and --arch ARCH, or --from FOLDER with the results of an export")
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
    _told(found, output, all_layers=all_layers, json=json)


def _from_folder(
    folder: Path, model: str, arch: list[str], output: Path | None, *, all_layers: bool, json: bool
) -> None:
    from mmworkload import verbs
    from mmworkload.simulating.several import Asked, Simulations

    if model or arch:
        raise MmworkloadError("--from FOLDER has its own model and architecture; leave MODEL and --arch out")
    found = verbs.simulate_from(folder)
    _told(Simulations((Asked(found.arch, found.chosen, found),)), output, all_layers=all_layers, json=json)


def _told(found: Simulations, output: Path | None, *, all_layers: bool, json: bool) -> None:
    from mmworkload.outputs import keep
    from mmworkload.reporting.simulation_file import write

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
