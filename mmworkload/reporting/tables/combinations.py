"""The table of ``measure --batches --dtypes``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmworkload.reporting.terminal import Cell, section, table
from mmworkload.reporting.units import si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.measuring.combinations import Combination


def combination_tables(model: str, rows: Sequence[Combination]) -> list[RenderableType]:
    """A row for each combination; below it why some failed, and what reads the folders."""
    trained = any(row.iteration_s is not None for row in rows)
    cells: list[list[Cell]] = [
        [
            str(row.batch),
            row.dtype,
            si(row.eager_s, "s"),
            si(row.throughput_per_s, "/s"),
            *([si(row.iteration_s, "s")] if trained else []),
            si(row.peak_memory_bytes, "B"),
            "optimal" if row.optimal else "" if row.status != "failed" else "failed",
        ]
        for row in rows
    ]
    columns = [">batch", "<dtype", ">eager", ">throughput", *([">training"] if trained else []), ">peak memory", "<"]
    failed = [f"Batch {row.batch} in {row.dtype}: {row.reason}" for row in rows if row.status == "failed"]
    kept = sum(row.status == "kept" for row in rows)
    notes = [f"{kept} of {len(rows)} were there already."] if kept else []
    warnings = [f"Batch {row.batch} in {row.dtype}: {text}" for row in rows for text in row.warnings]
    return [section(model, table(columns, cells), *failed, *warnings, *notes)]
