"""``mmworkload compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import All, Json, command, print_json


@command
def compare(
    first: Annotated[Path, typer.Argument(help="a result of measure -o, or a file of simulate --json")],
    second: Annotated[Path, typer.Argument(help="another of the same kind")],
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Two measurements, or two simulations, side by side: another device, batch, version or design."""
    from mmworkload.validating.runs import compare_runs, load_run

    found = compare_runs(load_run(first), load_run(second))
    if json:
        print_json(found.to_dict())
        return
    from mmworkload.reporting.tables.runs import runs_tables
    from mmworkload.reporting.terminal import print_out

    print_out(*runs_tables(found, all_layers=all_layers))
