"""Rows in a Parquet file with a description in its metadata; the same rows give the same bytes.

A digest of all of both shows what was damaged or edited since; it is no signature.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mmworkload.errors import FormatError
from mmworkload.files import require_readable, write_atomic

_META = b"mmworkload"
Kind = type[str] | type[int] | type[float]
T = TypeVar("T")


def write(path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Kind], about: Mapping[str, Any]) -> None:
    """Writes the file, whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    table = [dict(row) for row in rows]
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    text = _text({**about, "digest": _digest(table, about, list(columns))})
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()], metadata={_META: text.encode()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(table, schema=schema), buffer, compression="zstd", compression_level=19
    )
    write_atomic(path, buffer.getvalue())


def about(path: Path) -> dict[str, Any]:
    """The description in a file's metadata; empty for any other Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        text = (pyarrow.parquet.read_schema(path).metadata or {}).get(_META)
    except (OSError, pyarrow.ArrowInvalid):
        return {}
    try:
        return dict(json.loads(text)) if text else {}
    except (TypeError, ValueError):
        return {}


def read(path: Path, made: Callable[[list[dict[str, Any]], dict[str, Any]], T], *, what: str, schema: int) -> T:
    """What ``made`` makes of rows and description. FormatError for a file that is not ``what`` in this ``schema``."""
    import pyarrow
    import pyarrow.parquet

    try:
        require_readable(path)
        table = pyarrow.parquet.read_table(path)
        about = json.loads((table.schema.metadata or {})[_META])
        if about["schema"] != schema:
            raise FormatError(f"{path}: {what} of schema {about['schema']}; this mmworkload reads {schema}")
        rows = table.to_pylist()
        digest = about.pop("digest")
        if _digest(rows, about, table.column_names) != digest:
            raise FormatError(f"{path}: not as it was recorded; get the file anew")
        return made(rows, about)
    except FormatError:
        raise
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise FormatError(
            f"{path} cannot be read as {what}: {str(error).splitlines()[0]}; get the file anew"
        ) from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"{path} is not {what}: {type(error).__name__} {error}") from error


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(rows: list[dict[str, Any]], about: Mapping[str, Any], columns: list[str]) -> str:
    digest = hashlib.sha256(_text(about).encode())
    for row in rows:
        digest.update(_text([row[name] for name in columns]).encode())
    return digest.hexdigest()
