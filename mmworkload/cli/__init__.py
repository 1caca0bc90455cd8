"""The command line: one thin module per verb.

Results go to stdout (``--json`` for machines), progress and messages to stderr. Exit code 2 for anything the user can
mend, 130 for Ctrl-C.
"""

from __future__ import annotations

from mmworkload.cli.app import app, main

__all__ = ["app", "main"]
