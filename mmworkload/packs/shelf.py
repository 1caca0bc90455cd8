"""The packs that are installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mmworkload.packs.pack import Pack
from mmworkload.plugins import data_files

GROUP = "mmworkload.results"
SUFFIX = ".parquet"


def files() -> dict[str, Path]:
    """Name to path of every pack of the shelves."""
    return data_files(GROUP, SUFFIX)


@cache
def packs() -> tuple[Pack, ...]:
    """All of them, the newest first. FormatError names one that is damaged."""
    found = [Pack.load(path) for path in files().values()]
    return tuple(sorted(found, key=lambda pack: (pack.recorded, pack.version), reverse=True))
