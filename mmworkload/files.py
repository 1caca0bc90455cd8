"""Files: one that cannot be read is told with the reason; one that is written appears whole or not at all."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError, MmworkloadError


def read_text(path: Path, wrong: type[MmworkloadError] = FormatError) -> str:
    """The text of a file. Raises ``wrong``: what keeps it from being read, and files with a name like it."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        near: list[str] = []
        with suppress(OSError):
            near = difflib.get_close_matches(path.name, [item.name for item in path.absolute().parent.iterdir()])
        advice = f" Did you mean {' or '.join(str(path.with_name(name)) for name in near)}?" if near else ""
        raise wrong(f"cannot read {path}: there is no such file.{advice}") from error
    except OSError as error:
        raise wrong(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise wrong(f"cannot read {path}: it is no text in UTF-8 (byte {error.start})") from error


def read_json(path: Path, wrong: type[MmworkloadError] = FormatError) -> Any:
    """The content of a JSON file. Raises ``wrong`` as :func:`read_text` does, and for what is no JSON."""
    try:
        return json.loads(read_text(path, wrong))
    except (ValueError, RecursionError) as error:
        raise wrong(f"cannot read {path}: it is no JSON ({error})") from error


def table_suffix(path: Path) -> str:
    """``.parquet`` or ``.csv``, as which a table is written. MmworkloadError for another suffix."""
    if path.suffix not in (".parquet", ".csv"):
        raise MmworkloadError(f"{path}: the table is written as .parquet or .csv")
    return path.suffix


def _writable_parent(path: Path) -> Path:
    parent = path.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MmworkloadError(f"cannot create the folder {parent}: {error.strerror}. Choose another output.") from error
    return parent


def write_atomic(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Writes ``content`` next to ``path`` and renames it; with ``durable`` it is on the disk before the rename.

    Raises MmworkloadError when the place cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    parent = _writable_parent(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        # mkstemp makes files private; a result is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        raise MmworkloadError(f"cannot write {path}: {error.strerror}. Choose another output.") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def folder_atomic(path: Path, marker: str) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``path`` when the block ends without an error.

    An existing ``path`` is replaced only when it is empty or holds ``marker``, the file by which we know it as ours;
    anything else is refused with MmworkloadError, so that a wrong ``-o`` deletes nothing.
    """
    if path.exists():
        if not path.is_dir():
            raise MmworkloadError(f"{path} is a file; give a folder for the output.")
        if any(path.iterdir()) and not (path / marker).is_file():
            raise MmworkloadError(f"{path} is not empty and was not written by mmworkload; give another folder.")
    parent = _writable_parent(path)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent))
    except OSError as error:
        raise MmworkloadError(f"cannot write in {parent}: {error.strerror}. Choose another output.") from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise MmworkloadError(f"cannot write {path}: {error.strerror}. Choose another output.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
