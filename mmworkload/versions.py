"""Provenance: versions of the packages that a result depends on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def versions(*packages: str) -> dict[str, str]:
    """``mmworkload`` and those of ``packages`` that are installed, with their versions."""
    found = {}
    for name in ("mmworkload", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
