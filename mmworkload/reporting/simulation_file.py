"""Simulations as a file: a page, JSON, or a table, by the suffix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.files import write_atomic
from mmworkload.outputs import HTML

if TYPE_CHECKING:
    from mmworkload.simulating.several import Simulations

SUFFIXES = (*HTML, ".json", ".csv", ".parquet")


def write(found: Simulations, path: Path) -> None:
    """Writes the file, whole or not at all. Raises MmworkloadError when it cannot be written."""
    suffix = path.suffix.lower()
    if suffix in HTML:
        from mmworkload.reporting.simulation_page import render

        write_atomic(path, render(found))
    elif suffix == ".json":
        write_atomic(path, json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")
    elif suffix == ".csv":
        write_atomic(path, found.to_pandas().to_csv(index=False))
    else:
        write_atomic(path, found.to_pandas().to_parquet(index=False))
