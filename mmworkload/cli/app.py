"""The application: verbs in the order in which people use them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
import typer.core

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
from mmworkload.printing import OutputError, claim_stdout, discard, flush, put, put_line, tell


class OneLine(typer.core.TyperGroup):
    """A wrong option or argument is one line on stderr and exit code 2, as every other mistake."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
        except typer.Abort:
            code = 130
        except Exception as error:
            # Versions of typer differ in where these classes are, and not in what they can do.
            if not hasattr(error, "format_message"):
                raise
            context = getattr(error, "ctx", None)
            tell(f"error: {error.format_message()} ({context.command_path if context else 'mmworkload'} -h says more)")
            code = 2
        sys.exit(code)


app = typer.Typer(
    name="mmworkload",
    cls=OneLine,
    help="Trace a multi-modal network once; time and simulate the very same layers.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("list")(list_)
for verb in (show, trace, export, simulate, measure, analyze, validate, compare, exits, reproduce):
    app.command(verb.__name__)(verb)
app.add_typer(results, name="results")
app.add_typer(sweep, name="sweep")


def _version(asked: bool) -> None:
    if asked:
        from mmworkload import __version__

        put_line(f"mmworkload {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _all(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Trace a multi-modal network once; time and simulate the very same layers."""
    if context.invoked_subcommand is None:
        # With rich, typer prints the help itself and returns nothing.
        put(context.get_help())


def run() -> None:
    """Runs the command that the process was started with, and ends the process."""
    try:
        claim_stdout()
        try:
            app()
        finally:
            flush(sys.stdout)
    except BrokenPipeError:
        discard(sys.stdout)
    except OutputError as error:
        discard(sys.stdout)
        tell(f"error: {error}")
        sys.exit(2)
