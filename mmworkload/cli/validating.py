"""``mmworkload validate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mmworkload.cli.options import (
    All,
    Arch,
    Device,
    Json,
    Model,
    Only,
    Simulator,
    Strict,
    command,
    model_options,
    print_json,
    simulator_options,
)
from mmworkload.models.names import Options


@command
@model_options
@simulator_options
def validate(
    model: Model,
    arch: Arch,
    how: Options,
    running: dict[str, Any],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML report to write")] = None,
    device: Device = "cpu",
    measurement: Annotated[
        Path | None, typer.Option("--measurement", help="a saved measurement (measure -o) instead of measuring now")
    ] = None,
    simulator: Simulator = "auto",
    only: Only = None,
    strict: Strict = True,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Measures and simulates the same layers and puts them side by side."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.measuring.result import Measurement

    taken = Measurement.load(measurement) if measurement else None
    with bar(f"simulating {model}") as progress:
        report = verbs.validate(
            model,
            arch,
            device=device,
            simulator=simulator,
            only=only or (),
            measurement=taken,
            strict=strict,
            progress=progress,
            **running,
            **how,
        )
    if output is not None:
        report.write_html(output)
    if json:
        print_json(report.to_dict())
    else:
        from mmworkload.reporting.tables import print_out, validate_tables

        print_out(*validate_tables(report.validation, all_layers=all_layers))
    if output is not None:
        print(f"wrote {output}", file=sys.stderr)
