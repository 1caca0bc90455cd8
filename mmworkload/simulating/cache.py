"""Answers that are kept: one file per key, shared by all processes of a user and safe on network file systems.

A file is written beside its place, flushed to the disk and renamed, so a reader sees a whole file or none, whoever
else writes and whenever a writer is killed. Successes and failures lie apart. Of the failures a timeout counts only
while the limit asked for is not larger than the one it ran into.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.files import write_atomic
from mmworkload.printing import tell
from mmworkload.simulating.estimate import Estimate
from mmworkload.temporary import temporary_folder

SCHEMA = 1
TIMEOUT, ERROR, CRASH = "timeout", "error", "crash"


@dataclass(frozen=True)
class Failure:
    """A job without an answer: ``timeout`` (at ``limit_s``), ``error`` (the tool refused or was wrong) or ``crash``
    (the worker died)."""

    kind: str
    message: str
    limit_s: float

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def default_root() -> Path:
    """``$MMWORKLOAD_CACHE``, else the platform's cache folder; for a user without a home one of this process alone."""
    chosen = os.environ.get("MMWORKLOAD_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return _of_the_user()
    except RuntimeError:
        # Neither HOME nor an entry among the users, as in a container that runs under any number.
        return _of_this_process()


def _of_the_user() -> Path:
    """Raises RuntimeError when there is no home folder."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mmworkload"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mmworkload"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmworkload"


@functools.cache
def _of_this_process() -> Path:
    tell("warning: there is no home folder: results are not kept beyond this command; MMWORKLOAD_CACHE names a place")
    until_the_end = ExitStack()
    atexit.register(until_the_end.close)
    return until_the_end.enter_context(temporary_folder())


class Cache:
    """Estimates and failures by key under ``root`` (default: :func:`default_root`)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self._warned = False

    def get(self, key: str, limit_s: float) -> Estimate | Failure | None:
        """What is known for ``key`` when up to ``limit_s`` may be spent on it; None when it has to be run.

        A damaged entry is removed, with a warning on stderr, and counts as missing.
        """
        estimate = self._read("estimates", key)
        if estimate is not None:
            try:
                return Estimate.from_dict(estimate)
            except FormatError as error:
                self._drop("estimates", key, str(error))
        failure = self._read("failures", key)
        if failure is not None:
            try:
                found = Failure(**failure)
                retry = found.kind == TIMEOUT and limit_s > found.limit_s
            except TypeError as error:
                self._drop("failures", key, str(error))
                return None
            return None if retry else found
        return None

    def put(self, key: str, result: Estimate | Failure) -> None:
        """Keeps ``result``. A cache that cannot be written is a warning, once, and not an error."""
        kind = "failures" if isinstance(result, Failure) else "estimates"
        # Through JSON, so that the digest is over what a reader gets (tuples become lists). The order is kept: what is
        # summed over an answer is the same whether it was just given or kept.
        plain = json.loads(json.dumps(asdict(result)))
        content = {"schema": SCHEMA, "key": key, "digest": _digest(plain), "result": plain}
        try:
            write_atomic(self._path(kind, key), json.dumps(content) + "\n", durable=True)
            if kind == "estimates":
                self._path("failures", key).unlink(missing_ok=True)
        except (MmworkloadError, OSError) as error:
            self._warn(f"results are not kept: {error}")

    def _path(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / f"{key}.json"

    def _read(self, kind: str, key: str) -> dict[str, Any] | None:
        path = self._path(kind, key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"the cache entry {path} cannot be read: {error.strerror}")
            return None
        try:
            content = json.loads(data)
            result: dict[str, Any] = content["result"]
            if content["schema"] != SCHEMA:
                return None  # of another version of mmworkload; it is written anew
            if content["key"] != key or content["digest"] != _digest(result):
                raise ValueError("its content is not what was written")
        except (ValueError, KeyError, TypeError) as error:
            self._drop(kind, key, str(error))
            return None
        return result

    def _drop(self, kind: str, key: str, reason: str) -> None:
        path = self._path(kind, key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"the damaged cache entry {path} cannot be removed: {error.strerror}")
            return
        tell(f"warning: the cache entry {path} is damaged ({reason}) and was removed")

    def _warn(self, message: str) -> None:
        if not self._warned:
            tell(f"warning: {message}")
            self._warned = True


def _digest(result: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
