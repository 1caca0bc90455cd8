"""Every error that a user can cause: what is wrong, where, and what to do about it.

The command line prints ``str(error)`` and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mmworkload.visible import one_line as on_one_line
from mmworkload.visible import visible

FOREIGN = (Exception, SystemExit)
"""What code of others may raise to fail: its ``sys.exit`` ends the attempt and not this program."""


class MmworkloadError(Exception):
    """Base of all errors that mmworkload raises on purpose."""


class UnknownNameError(MmworkloadError):
    """A name that is not in its table; the nearest names are suggested."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            advice = "Did you mean " + " or ".join(near) + "?"
        elif names:
            advice = "Known: " + ", ".join(names[:20]) + ("." if len(names) <= 20 else ", ...")
        else:
            advice = "There is none."
        super().__init__(f"unknown {kind} '{visible(name)}'. {advice}")


class FormatError(MmworkloadError):
    """A file or a text that cannot be read as what it should be."""


def one_line(error: BaseException) -> str:
    """The error on one line, for stderr or a table; one that is not ours with its kind."""
    return on_one_line(str(error)) if isinstance(error, MmworkloadError) else kind_and_text(error)


def kind_and_text(error: BaseException, limit: int = 300) -> str:
    """``ValueError: no such file`` of what code of others raised: its first line, of which ``limit`` characters;
    ``sys.exit(7)`` for a SystemExit."""
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return on_one_line(f"{type(error).__name__}: {first.strip()[:limit]}" if first else type(error).__name__)


def deed(error: BaseException) -> str:
    """What code of others did: ``raised ValueError: no such file``, ``called sys.exit(7)``."""
    return f"called {kind_and_text(error)}" if isinstance(error, SystemExit) else f"raised {kind_and_text(error)}"


class ModelError(MmworkloadError):
    """A model that cannot be built, called or traced."""


class UnknownOperatorError(MmworkloadError):
    """Operators that no lowering covers, refused under ``strict``."""


class ArchitectureError(MmworkloadError):
    """An architecture that is not consistent, with the YAML path of the offending value."""


class SimulationError(MmworkloadError):
    """A simulator that failed or gave an answer that cannot be right."""


class UnavailableError(MmworkloadError):
    """A tool or a device that is not on this machine, and how to get it."""
