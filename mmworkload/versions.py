"""Versions: of the packages that a result depends on, and of the JSON answers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

# Of every JSON answer and file (docs/json.md); the text of graphs and the store of a sweep have their own.
SCHEMA_VERSION = 2


def versions(*packages: str) -> dict[str, str]:
    """``mmworkload`` and those of ``packages`` that are installed, with their versions."""
    found = {}
    for name in ("mmworkload", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
