"""The table of work items as CSV, for tools that we do not know."""

from __future__ import annotations

from pathlib import Path

from mmworkload.arch import KINDS, Architecture
from mmworkload.exporters.work_table import csv_text, export_table
from mmworkload.exporting import Export
from mmworkload.graph import Workload

FILE = "work_items.csv"


class CsvExporter:
    """See :mod:`mmworkload.exporters.work_table` for the columns."""

    name = "csv"
    description = "a table for everybody else: one row a work item with dimensions, strides, bytes and counts"

    kinds = KINDS

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes ``work_items.csv`` and ``columns.csv``; a second call writes the same bytes."""
        return export_table(
            self.name,
            FILE,
            lambda columns, rows: csv_text(columns, rows).encode(),
            "read_csv",
            workload,
            arch,
            directory,
            versions,
        )


EXPORTER = CsvExporter()
