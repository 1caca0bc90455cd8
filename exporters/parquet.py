"""The table of work items as Parquet: the columns of the CSV with their types."""

from __future__ import annotations

import io
import math
from pathlib import Path

from mmworkload.arch import KINDS, Architecture
from mmworkload.errors import FormatError
from mmworkload.exporters.work_table import Column, Value, export_table
from mmworkload.exporting import Export
from mmworkload.graph import Workload

FILE = "work_items.parquet"
_MOST = 2**63 - 1


class ParquetExporter:
    """See :mod:`mmworkload.exporters.work_table` for the columns."""

    name = "parquet"
    description = "the same table as csv, typed"

    kinds = KINDS

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes ``work_items.parquet`` and ``columns.csv``; a second call writes the same bytes."""
        return export_table(self.name, FILE, _parquet, "read_parquet", workload, arch, directory, versions)


def _parquet(columns: list[Column], rows: list[list[Value]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {
        "string": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
    }
    schema = pyarrow.schema([(column.name, types[column.kind]) for column in columns])
    for index, column in enumerate(columns):
        largest = max((value for row in rows if isinstance(value := row[index], int)), default=0)
        if column.kind == "integer" and largest > _MOST:
            raise FormatError(
                f"'{column.name}' reaches 10^{int(math.log10(largest))}, and an integer of a Parquet file goes up to"
                " 2^63 - 1; export to csv instead"
            )
    arrays = [pyarrow.array([row[index] for row in rows], types[column.kind]) for index, column in enumerate(columns)]
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), stream)
    return stream.getvalue()


EXPORTER = ParquetExporter()
