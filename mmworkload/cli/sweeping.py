"""``mmworkload sweep``: many designs, a mix of workloads, one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmworkload.cli.options import Json, Workers, command, print_json
from mmworkload.printing import put_line
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    from mmworkload.sweeping.running import Progress, Summary

sweep = typer.Typer(help="Design-space sweeps: which accelerator for a mix of workloads.")

File = Annotated[Path, typer.Argument(help="the sweep: a YAML file (docs/sweeps.md)")]
Folder = Annotated[Path, typer.Argument(help="folder of the sweep")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="run jobs on a Dask cluster: tcp://HOST:PORT (default: here)")
]
Retry = Annotated[bool, typer.Option("--retry", help="run again designs and jobs that failed before")]


@sweep.command("plan")
@command
def plan(
    file: File,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="folder of a sweep that was begun")] = None,
    workers: Workers = None,
    timed: Annotated[bool, typer.Option("--timed/--not-timed", help="run a few jobs to know what one takes")] = True,
    json: Json = False,
) -> None:
    """What would run: designs, layers, different jobs, those that are known, and the time it may take."""
    from mmworkload.cli.progress import bar
    from mmworkload.sweeping.planning import plan as planned

    with bar("reading workloads") as progress:
        found = planned(file, output, workers=workers, timed=timed, loading=progress)
    if json:
        print_json({"schema_version": SCHEMA_VERSION, **asdict(found)})
        return
    from mmworkload.reporting.tables import print_out
    from mmworkload.reporting.tables.sweep import plan_tables

    print_out(*plan_tables(found))


@sweep.command("run")
@command
def run(
    file: File,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the results")],
    scheduler: Scheduler = None,
    workers: Workers = None,
    retry: Retry = False,
    json: Json = False,
) -> None:
    """Runs a sweep, or goes on with it; every finished job is kept at once. Exit code 2 when no design has figures."""
    from mmworkload.cli.progress import bar
    from mmworkload.sweeping import running

    with bar("reading workloads") as loading, _watching() as progress:
        done = running.run(
            file, output, scheduler=scheduler, workers=workers, retry=retry, progress=progress, loading=loading
        )
    _show(done, output, json)


@sweep.command("resume")
@command
def resume(
    folder: Folder,
    scheduler: Scheduler = None,
    workers: Workers = None,
    retry: Retry = False,
    json: Json = False,
) -> None:
    """Goes on where a sweep was ended, however it ended."""
    from mmworkload.cli.progress import bar
    from mmworkload.sweeping import running

    with bar("reading workloads") as loading, _watching() as progress:
        done = running.resume(
            folder, scheduler=scheduler, workers=workers, retry=retry, progress=progress, loading=loading
        )
    _show(done, folder, json)


@sweep.command("status")
@command
def status(folder: Folder, json: Json = False) -> None:
    """How far a sweep is, who runs it, and the best so far."""
    from mmworkload.reporting.sweep_report import status_of
    from mmworkload.sweeping.results import Results

    found = status_of(Results(folder))
    if json:
        print_json(found)
        return
    from mmworkload.reporting.tables import print_out
    from mmworkload.reporting.tables.sweep import status_tables

    print_out(*status_tables(found))


@sweep.command("report")
@command
def report(
    folder: Folder,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="also write an HTML file with pictures")] = None,
    json: Json = False,
) -> None:
    """Pareto front, best designs, which stage bounds them, what each parameter does, modalities side by side."""
    from mmworkload.outputs import HTML, require_output_file
    from mmworkload.reporting.sweep_report import collect, write_html
    from mmworkload.sweeping.results import Results

    if output is not None:
        require_output_file(output, HTML)
    found = collect(Results(folder))
    if output is not None:
        write_html(found, output)
    if json:
        print_json(found.to_dict())
        return
    from mmworkload.reporting.tables import print_out
    from mmworkload.reporting.tables.sweep import report_tables

    print_out(*report_tables(found))
    if output is not None:
        put_line(str(output))


@sweep.command("export")
@command
def export(
    folder: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="file to write: .parquet or .csv")],
    json: Json = False,
) -> None:
    """All rows as one table: designs, workloads and stages."""
    from mmworkload.outputs import TABLE, require_output_file
    from mmworkload.sweeping.results import Results
    from mmworkload.sweeping.results import export as write

    require_output_file(output, TABLE)
    rows = write(Results(folder), output)
    if json:
        print_json({"path": str(output), "rows": rows})
    else:
        put_line(f"{rows:,} rows in {output}")


def _show(done: Summary, folder: Path, json: bool) -> None:
    if json:
        print_json({"schema_version": SCHEMA_VERSION, "path": str(folder), **asdict(done)})
    else:
        from mmworkload.reporting.tables import print_out
        from mmworkload.reporting.tables.sweep import summary_tables

        print_out(*summary_tables(done, folder))
    if done.failed == done.evaluated:
        from mmworkload.sweeping.results import Results

        Results(folder).require_figures()


@contextmanager
def _watching() -> Iterator[Callable[[Progress], None]]:
    """Progress with the time left and the best so far, on stderr."""
    from mmworkload.cli.progress import log
    from mmworkload.reporting.tables.sweep import progress_line

    if not sys.stderr.isatty():
        yield log(progress_line)
        return

    def show(progress: Progress) -> None:
        print(f"\r\x1b[K{progress_line(progress)}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
