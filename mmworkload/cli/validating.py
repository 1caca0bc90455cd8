"""``mmworkload validate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mmworkload.cli.options import (
    All,
    Archs,
    Device,
    Json,
    Only,
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
def validate(
    arch: Archs,
    how: Options,
    running: SimulateOptions,
    models: Annotated[
        list[str] | None,
        typer.Argument(help="workloads, or none for all that --measured has", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML report to write")] = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="folder for the report's figures as SVG")] = None,
    device: Device = "cpu",
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            "--measured",
            "--measurement",
            help="saved results (measure -o), a folder of them, or an installed device (results list), instead of"
            " measuring now; may be repeated",
        ),
    ] = None,
    simulator: Annotated[
        str,
        typer.Option(
            "--simulator",
            "-s",
            help="auto, timeloop, zigzag, roofline, ..., or calibrated: fitted on the other workloads; several with"
            " commas between",
        ),
    ] = "auto",
    only: Only = None,
    strict: Strict = True,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Measures and simulates the same layers and puts them side by side, for several workloads and architectures."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.outputs import HTML, keep, require_output_file, require_output_folder, require_report_packages
    from mmworkload.packs.measured import collect
    from mmworkload.validating.study import graphs_of

    if output is not None:
        require_output_file(output, HTML)
    if figures is not None:
        require_report_packages("matplotlib")
        require_output_folder(figures)
    results = collect(measured or ())
    names = list(dict.fromkeys(models or ()))
    archs = [item for text in arch for item in split_archs(text)]
    simulators = simulator.split(",")
    with bar("validating") as progress:
        study = verbs.validate_all(
            names,
            archs,
            device=device,
            simulators=simulators,
            only=only or (),
            measurements=[item.measurement for item in results],
            graphs=graphs_of(results),
            strict=strict,
            progress=progress,
            running=running,
            **how,
        )
    if output is not None:
        keep(output, study.write_html)
    if figures is not None:
        from mmworkload.reporting.figures import write_figures

        keep(figures, lambda place: write_figures(study, place))
        tell(f"wrote the figures in {figures}")
    if json:
        print_json(study.reports[0].to_dict() if _is_one(study.reports, names, archs, simulators) else study.to_dict())
    else:
        from mmworkload.reporting.tables import print_out
        from mmworkload.reporting.tables.validate import study_tables

        print_out(*study_tables(study, all_layers=all_layers))
    if output is not None:
        tell(f"wrote {output}")


def _is_one(reports: Sequence[Any], *asked: Sequence[str]) -> bool:
    """Whether one comparison was asked for, so that the answer is one."""
    return len(reports) == 1 and all(len(item) <= 1 for item in asked)
