"""The table of ``measure`` of a name of several parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.measuring.steadiness import disturbed
from mmworkload.reporting.tables.common import fraction
from mmworkload.reporting.terminal import Cell, section, table
from mmworkload.reporting.units import si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.measuring.parts import MeasuredParts


def parts_tables(measured: MeasuredParts) -> list[RenderableType]:
    """A row a part: how often it runs, its time, that of all its runs, and its share; then all together."""
    rows: list[list[Cell]] = []
    for part in measured.parts:
        weighted_s = part.eager_s * part.count
        rows.append(
            [
                part.name,
                f"{part.count:.4g}",
                si(part.eager_s, "s"),
                si(weighted_s, "s"),
                fraction(weighted_s, measured.total_s),
            ]
        )
    rows.append(["all", "", "", si(measured.total_s, "s"), ""])
    columns = ["<part", ">runs", ">eager", ">weighted", ">share"]
    warnings = [f"{part.name}: {text}" for part in measured.parts for text in disturbed(part.result.measurement)]
    return [section(measured.name, table(columns, rows), *measured.notes, *warnings)]
