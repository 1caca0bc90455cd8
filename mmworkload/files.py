"""Files: one that cannot be read is told with the reason; one that is written appears whole or not at all."""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.temporary import temporary_file, temporary_folder

# Of Linux's renameat2.
_WORKING_DIRECTORY, _RENAME_EXCHANGE = -100, 2

LARGEST_BYTES = 1 << 30
"""The largest file that is read whole."""


def require_readable(path: Path, wrong: type[MmworkloadError] = FormatError) -> None:
    """Raises ``wrong`` for what is no regular file (a pipe or a device may never end) or is too large; else OSError."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise wrong(f"cannot read {path}: it is no regular file but a pipe, socket or device; give a file")
    if status.st_size > LARGEST_BYTES:
        raise wrong(f"cannot read {path}: it has {status.st_size:,} bytes, and at most {LARGEST_BYTES:,} are read")


def read_text(path: Path, wrong: type[MmworkloadError] = FormatError) -> str:
    """The text of a file. Raises ``wrong``: what keeps it from being read, and files with a name like it."""
    try:
        require_readable(path, wrong)
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


def parse_yaml(text: str, where: str, wrong: type[MmworkloadError] = FormatError, loader: Any = None) -> Any:
    """The content of YAML ``text``. Raises ``wrong`` with line, column and what stands there; ``where`` is its file."""
    import yaml

    try:
        return yaml.load(text, Loader=loader or yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise wrong(f"{where} is not YAML: {yaml_place(text, error)}") from error
    except (ValueError, RecursionError, IndexError, AttributeError, TypeError) as error:
        # PyYAML's constructors fail so on values that their tags do not allow, and on deep nesting.
        raise wrong(f"{where} is not YAML that can be read: {type(error).__name__}: {error}") from error


def yaml_place(text: str, error: Exception) -> str:
    """``line 3, column 9, at 'x: y': mapping values are not allowed here``, as far as the error says so."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    line = text.splitlines()[mark.line : mark.line + 1]
    there = line[0][mark.column :].strip() if line else ""
    at = f"at '{there[:40]}'" if there else "at the end of the line" if line else "at the end of the file"
    context, begun = getattr(error, "context", None), getattr(error, "context_mark", None)
    during = f" ({context}" + (f" of line {begun.line + 1}" if begun else "") + ")" if context else ""
    return f"line {mark.line + 1}, column {mark.column + 1}, {at}: {getattr(error, 'problem', '')}{during}"


def everything_below(folder: Path) -> list[Path]:
    """All files and folders below ``folder``, sorted. FormatError names a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise FormatError(f"cannot read {error.filename}: {error.strerror}") from error

    walked = os.walk(folder, onerror=refuse)
    return sorted(Path(place, name) for place, folders, files in walked for name in (*folders, *files))


def _writable_parent(path: Path) -> Path:
    parent = path.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MmworkloadError(f"cannot create the folder {parent}: {error.strerror}. Choose another output.") from error
    return parent


def require_file_output(path: Path) -> None:
    """Raises MmworkloadError for what :func:`write_atomic` does not write to: a folder, a block device, a socket."""
    kind = _kind(path)
    if kind and not (stat.S_ISREG(kind) or _takes_a_stream(kind)):
        what = {stat.S_IFDIR: "a folder", stat.S_IFBLK: "a block device"}.get(stat.S_IFMT(kind), "no file")
        raise MmworkloadError(f"cannot write {path}: it is {what}. Choose another output.")


def write_atomic(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Writes ``content`` beside ``path`` and renames it; with ``durable`` it is on the disk before the rename.

    Of a symbolic link the target is written, and the link stays. A terminal, ``/dev/null`` or a named pipe gets the
    content as it is. Raises MmworkloadError when the place cannot be written, and as :func:`require_file_output`.
    """
    require_file_output(path)
    data = content.encode() if isinstance(content, str) else content
    place = Path(os.path.realpath(path))
    parent = _writable_parent(place)
    try:
        if _takes_a_stream(_kind(path)):
            with path.open("wb") as stream:
                stream.write(data)
            return
        with temporary_file(parent) as (temporary, stream):
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
            # Temporary files are private; a result is an ordinary file.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(place)
    except OSError as error:
        raise MmworkloadError(f"cannot write {path}: {error.strerror}. Choose another output.") from error


def require_folder_output(path: Path, marker: str) -> None:
    """Raises MmworkloadError for what :func:`folder_atomic` does not replace: a folder with files in it but without
    ``marker``, by which we know ours; the working directory or one above it; a link, a mount point; what is no folder.
    """
    kind = _kind(path)
    if path.is_symlink():
        raise MmworkloadError(f"{path} is a symbolic link; give the folder that it leads to, or another.")
    if not kind:
        return
    if not stat.S_ISDIR(kind):
        raise MmworkloadError(f"{path} is {'a file' if stat.S_ISREG(kind) else 'no folder'}; give a folder.")
    place = Path(os.path.realpath(path))
    if Path.cwd().is_relative_to(place):
        raise MmworkloadError(f"{path} is or holds the working directory and cannot be replaced; give another folder.")
    if any(mount.is_relative_to(place) for mount in _mount_points()) or place.is_mount():
        raise MmworkloadError(f"{path} is or holds a mount point and cannot be replaced; give a folder below it.")
    try:
        foreign = any(path.iterdir()) and not (path / marker).is_file()
    except OSError as error:
        raise MmworkloadError(f"cannot read the folder {path}: {error.strerror}. Choose another output.") from error
    if foreign:
        raise MmworkloadError(f"{path} is not empty and was not written by mmworkload; give another folder.")


@contextmanager
def folder_atomic(path: Path, marker: str) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``path`` when the block ends without an error.

    The two change places, and only then is the old one removed: whatever ends this process, ``path`` is the old folder
    or the new one. Raises MmworkloadError as :func:`require_folder_output` before the block, so that a wrong ``-o``
    deletes nothing, and when the place cannot be written.
    """
    require_folder_output(path, marker)
    place = Path(os.path.realpath(path))
    parent = _writable_parent(place)
    try:
        with temporary_folder(parent) as temporary:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if place.exists():
                _exchange(temporary, place)
            else:
                temporary.rename(place)
    except OSError as error:
        raise MmworkloadError(f"cannot write {path}: {error.strerror}. Choose another output.") from error


def _exchange(new: Path, old: Path) -> None:
    """The two folders change places. Raises OSError."""
    try:
        _exchange_at_once(new, old)
    except (OSError, AttributeError):
        # Not Linux, or a file system that cannot: the old one is a moment under a name beside its own.
        aside = Path(tempfile.mkdtemp(prefix=f"{old.name}.old-", dir=old.parent))
        try:
            old.rename(aside)
            new.rename(old)
        except BaseException:
            if not old.exists():
                aside.rename(old)
            with suppress(OSError):
                aside.rmdir()
            raise
        aside.rename(new)


def _exchange_at_once(new: Path, old: Path) -> None:
    """Raises OSError when the file system cannot, AttributeError when the C library cannot."""
    import ctypes

    rename = ctypes.CDLL(None, use_errno=True).renameat2
    if rename(_WORKING_DIRECTORY, os.fsencode(new), _WORKING_DIRECTORY, os.fsencode(old), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "the folders cannot change places")


def _kind(path: Path) -> int:
    """The mode of what a path leads to, 0 when there is nothing. Raises MmworkloadError when that cannot be told."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise MmworkloadError(f"cannot write {path}: {error.strerror}. Choose another output.") from error


def _takes_a_stream(kind: int) -> bool:
    return stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)


def _mount_points() -> list[Path]:
    """Linux: also folders that are mounted from the same disk, which a look at the folder itself does not show."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    return [Path(os.fsdecode(re.sub(rb"\\([0-7]{3})", _octal, line.split()[4]))) for line in lines]


def _octal(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8)])


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
