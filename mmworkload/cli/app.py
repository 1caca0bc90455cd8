"""The application: verbs in the order in which people use them."""

from __future__ import annotations

import typer

from mmworkload.cli.analyzing import analyze
from mmworkload.cli.comparing import compare
from mmworkload.cli.exits import exits
from mmworkload.cli.exporting import export
from mmworkload.cli.listing import list_
from mmworkload.cli.measuring import measure
from mmworkload.cli.reproducing import reproduce
from mmworkload.cli.results import results
from mmworkload.cli.showing import show
from mmworkload.cli.simulating import simulate
from mmworkload.cli.sweeping import sweep
from mmworkload.cli.tracing import trace
from mmworkload.cli.validating import validate

app = typer.Typer(
    name="mmworkload",
    help="Trace a multi-modal network once; time and simulate the very same layers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("list")(list_)
for verb in (show, trace, export, simulate, measure, analyze, validate, compare, exits, reproduce):
    app.command(verb.__name__)(verb)
app.add_typer(results, name="results")
app.add_typer(sweep, name="sweep")


def main() -> None:
    """The console script ``mmworkload``."""
    app()
