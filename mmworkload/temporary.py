"""Temporary files and folders that show whether their process lives: it holds a lock on them, which ends with it.

What a killed process left is known by its name and its free lock, and goes when the next process works in that folder.
A file system without locks keeps such leftovers.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PREFIX = ".mmworkload-"
_OURS = re.compile(re.escape(_PREFIX) + "[a-z0-9_]{8}")


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder in ``parent`` (default: the system's place for temporary files) that is gone after the block, unless the
    block renamed it. Raises OSError."""
    place = Path(tempfile.gettempdir()) if parent is None else parent
    remove_leftovers(place)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if _locked(handle, folder):
            break
        os.close(handle)
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        except KeyboardInterrupt:
            # A signal while it goes: what is left of it goes too.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(handle)


@contextmanager
def temporary_file(parent: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """An empty file in ``parent``, open for writing, that is gone after the block, unless the block renamed it. Raises
    OSError."""
    remove_leftovers(parent)
    while True:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=parent)
        file = Path(name)
        if _locked(handle, file):
            break
        os.close(handle)
    with os.fdopen(handle, "wb") as stream:
        try:
            yield file, stream
        finally:
            file.unlink(missing_ok=True)


@functools.cache
def remove_leftovers(folder: Path) -> None:
    """Removes what this module made in ``folder`` for processes that are gone; once in this process."""
    with suppress(OSError):
        for item in list(os.scandir(folder)):
            if _OURS.fullmatch(item.name):
                with suppress(OSError):
                    _remove_leftover(Path(item.path))


def _remove_leftover(path: Path) -> None:
    """Raises OSError when the process lives, and for what another user has."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid():
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(found.st_mode):
            path.unlink()
    finally:
        os.close(handle)


def open_lock(path: Path) -> int:
    """Opens a file that only serves to be locked, and makes it where there is none; what is in it stays.

    Raises OSError, also for a symbolic link and for what is no file.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file")
    return handle


def _locked(handle: int, path: Path) -> bool:
    """Takes the lock of what was just made; False when another process held it for a leftover and removed it."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
    return still_there(handle, path)


def still_there(handle: int, path: Path) -> bool:
    """Whether ``path`` still names the file or folder that is open as ``handle``."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
