"""The command line: one thin module per verb.

Results go to stdout (``--json`` for machines), progress and messages to stderr. Exit code 2 for anything the user can
mend; 130 for Ctrl-C, and likewise 128 and the number of SIGTERM or SIGHUP.
"""

from __future__ import annotations

from mmworkload.signals import leave_at_once


def main() -> None:
    """The console script ``mmworkload``."""
    leave_at_once()
    # The verbs take long to import: Ctrl-C comes in that time too.
    from mmworkload.cli.app import run

    run()


__all__ = ["main"]
