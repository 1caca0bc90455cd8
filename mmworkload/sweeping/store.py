"""What a sweep keeps in its folder. Whatever is killed at whatever moment, what is there is whole.

::

    sweep.yaml        the sweep as it was given
    state.json        what was decided at the start: the sweep as it was read, simulator, version, estimator
    trials/           segments: finished designs as Parquet, named by the hash of their content
    graphs/           the workloads' graphs
    optuna.db         Optuna's own storage, of a search that uses it
    lock              held by the driver that runs

Answers of the simulator are not here but in the cache, each durable at once; a segment follows at least every few
seconds, and what it lacks after a kill comes again from the cache. Segments are written aside, flushed and renamed, so
there is none in halves; a name that does not fit the content is damage, the file is put aside and its designs run
again. Files instead of a database, so that damage costs one file and a network file system is safe.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.files import read_json, write_atomic
from mmworkload.printing import tell
from mmworkload.sweeping.rows import KILLED
from mmworkload.sweeping.spec import SweepSpec, from_dict, read
from mmworkload.temporary import open_lock, still_there

if TYPE_CHECKING:
    import pyarrow

SCHEMA = 2
SPEC, STATE, TRIALS, GRAPHS, STUDY, LOCK = "sweep.yaml", "state.json", "trials", "graphs", "optuna.db", "lock"


class FullDiskError(MmworkloadError):
    """A result that cannot be kept. The sweep stops; what is finished stays."""


class Store:
    """The folder of a sweep. Reading needs no lock."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # --- a new sweep and an old one ---------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.root / STATE).is_file()

    def require_room(self) -> None:
        """MmworkloadError when the folder holds something else."""
        if self.root.exists() and not self.root.is_dir():
            raise MmworkloadError(f"{self.root} is a file; give a folder for the sweep")
        if self.root.is_dir() and any(self.root.iterdir()) and not self._ours:
            raise MmworkloadError(f"{self.root} is not empty and holds no sweep; give another folder")

    def require_same(self, spec: str) -> None:
        """MmworkloadError when the folder has another ``sweep.yaml``: of another sweep, or the user's own."""
        if not self.spec_path.is_file() or self.spec_path.read_text("utf-8", errors="replace") == spec:
            return
        if self.exists:
            raise MmworkloadError(
                f"{self.root} holds another sweep, begun with the {SPEC} in it. Give another folder: what the simulator"
                " answered is in the cache and does not run again, also where only constraints or objectives changed."
                f" mmworkload sweep resume {self.root} would go on with the file kept there and not with yours"
            )
        raise MmworkloadError(
            f"{self.spec_path} is another file than the sweep that is to run, and is not overwritten; give another"
            f" folder, or go on with that file: mmworkload sweep resume {self.root}"
        )

    @contextmanager
    def claim(self, spec: str) -> Iterator[None]:
        """Writes the sweep; needs the lock. An error before it is begun takes back what was made here, so that a
        corrected file can run. MmworkloadError as :meth:`require_same`."""
        there = {item.name for item in self.root.iterdir()} - {LOCK}
        try:
            self.require_same(spec)
            if SPEC not in there:
                self._write(self.spec_path, spec)
            yield
        except MmworkloadError as error:
            if not self.exists and not isinstance(error, FullDiskError):
                if GRAPHS not in there:
                    shutil.rmtree(self.graphs, ignore_errors=True)
                # The lock last: without it the folder may be another driver's at once.
                for name in (SPEC, LOCK):
                    if name not in there:
                        (self.root / name).unlink(missing_ok=True)
            raise

    def begin(self, spec: SweepSpec, state: dict[str, Any], notes: dict[str, str]) -> None:
        """Writes what was decided, with ``notes`` for the report; with it, the sweep exists. MmworkloadError when it
        was begun with other tools."""
        if not self.exists:
            content = {"schema_version": SCHEMA, **state, **notes, "sweep": spec.model_dump(mode="json")}
            self._write(self.root / STATE, json.dumps(content, indent=1) + "\n")
        kept = self.state
        for name, value in state.items():
            if kept.get(name) != value:
                raise MmworkloadError(
                    f"{self.root} was begun with {name} {kept.get(name)}; here it is {value}. Results of both in one"
                    " table cannot be compared: use the same, or start anew in another folder"
                )

    def spec(self) -> SweepSpec:
        """The sweep of this folder. FormatError for a file that cannot be read, MmworkloadError for one that was edited
        after the sweep was begun: the results are not of what it says now."""
        spec = read(self.spec_path)
        if not self.exists:
            return spec
        before = from_dict(self.state["sweep"], f"{self.root / STATE}: sweep")
        if spec != before:
            changes = "; ".join(_differences(before.model_dump(mode="json"), spec.model_dump(mode="json")))
            raise MmworkloadError(
                f"{self.spec_path} was edited after the sweep was begun ({changes}), and the results here are of the"
                " file as it was. Change that back, or run the edited file into another folder, where what the"
                f" simulator answered does not run again: mmworkload sweep run {self.spec_path} -o FOLDER"
            )
        return spec

    @property
    def _ours(self) -> bool:
        return (self.root / SPEC).is_file() or all(item.name == LOCK for item in self.root.iterdir())

    def require(self) -> None:
        """MmworkloadError when there is no sweep here."""
        if not self.exists and self.spec_path.is_file():
            raise MmworkloadError(
                f"{self.root}: ended before its first design; go on: mmworkload sweep resume {self.root}"
            )
        if not self.exists:
            raise MmworkloadError(f"{self.root} holds no sweep; begin one: mmworkload sweep run FILE -o {self.root}")

    @property
    def state(self) -> dict[str, Any]:
        """What was decided at the start. FormatError when it cannot be read."""
        path = self.root / STATE
        found: dict[str, Any] = read_json(path)
        if found.get("schema_version") != SCHEMA:
            raise FormatError(f"{path} was written by another version of mmworkload; use that one or start anew")
        return found

    @property
    def spec_path(self) -> Path:
        return self.root / SPEC

    @property
    def graphs(self) -> Path:
        return self.root / GRAPHS

    @property
    def study(self) -> Path:
        return self.root / STUDY

    # --- one driver at a time ---------------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by the one driver that writes. The system releases it when the driver ends, however it ends.

        MmworkloadError that names the other driver.
        """
        path = self.root / LOCK
        with ExitStack() as opened:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                handle = None
                # A driver that fails at its start removes the file that it holds: then we hold nothing that others see.
                while handle is None or not still_there(handle, path):
                    handle = open_lock(path)
                    opened.callback(os.close, handle)
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            except BlockingIOError:
                raise MmworkloadError(
                    f"{self.root} is being run by {_holder(handle)}. Wait for it, or look on with: mmworkload sweep"
                    f" status {self.root}"
                ) from None
            except OSError as error:
                raise MmworkloadError(f"cannot lock {path}: {error.strerror}. Choose another folder.") from error
            try:
                yield
            except OSError as error:
                raise _full(Path(error.filename or self.root), error) from error

    @property
    def driver(self) -> str:
        """Who runs the sweep now; empty when nobody does."""
        try:
            handle = os.open(self.root / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return ""
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _holder(handle)
        finally:
            os.close(handle)
        return ""

    # --- trials -----------------------------------------------------------------------------------------------------

    def append(self, table: pyarrow.Table) -> None:
        """Keeps rows of whole designs. FullDiskError when they cannot be written."""
        if not table.num_rows:
            return
        import pyarrow.parquet

        stream = io.BytesIO()
        pyarrow.parquet.write_table(table, stream, compression="zstd", compression_level=1)
        data = stream.getvalue()
        first = table.column("index")[0].as_py()
        name = f"{first:08d}-{hashlib.sha256(data).hexdigest()[:32]}.parquet"
        self._write(self.root / TRIALS / name, data)

    def segments(self) -> Iterator[pyarrow.Table]:
        """The segments in the order of their first designs; a damaged one is put aside, with a warning on stderr."""
        import pyarrow.parquet

        for path in sorted((self.root / TRIALS).glob("*.parquet")):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # another process put it aside
            except OSError as error:
                raise MmworkloadError(f"cannot read {path}: {error.strerror}") from error
            if hashlib.sha256(data).hexdigest()[:32] != path.stem.partition("-")[2]:
                path.replace(path.with_suffix(".damaged"))
                tell(f"warning: {path} is damaged and was put aside; its designs run again")
                continue
            yield pyarrow.parquet.read_table(io.BytesIO(data))

    def finished(self) -> dict[str, str]:
        """Design to status, of all that need not run again."""
        found: dict[str, str] = {}
        for segment in self.segments():
            found.update(_heads(segment))
        return {design: status for design, status in found.items() if status != KILLED}

    def table(self, keep: Callable[[pyarrow.Table], pyarrow.Table] = lambda segment: segment) -> pyarrow.Table:
        """All rows of the finished designs in the order of the enumeration, each design once; ``keep`` reduces each
        segment as it is read."""
        import pyarrow.compute

        from mmworkload.sweeping.rows import schema

        parts: list[pyarrow.Table] = []
        place: dict[str, tuple[int, str]] = {}
        twice: set[str] = set()
        for number, segment in enumerate(self.segments()):
            for design, status in _heads(segment):
                if design in place:
                    twice.add(design)
                # A design that was killed and then ran is in two segments.
                if design not in place or place[design][1] == KILLED:
                    place[design] = (number, status)
            parts.append(keep(segment))
        kept = []
        for number, part in enumerate(parts):
            elsewhere = [design for design in twice if place[design][0] != number]
            if elsewhere:
                there = pyarrow.compute.is_in(part.column("design").cast("string"), pyarrow.array(elsewhere, "string"))
                part = part.filter(pyarrow.compute.invert(there))
            kept.append(part)
        if not kept:
            return schema().empty_table()
        whole = pyarrow.concat_tables(kept).unify_dictionaries().combine_chunks()
        order = _stable_order(whole)
        return whole if order is None else whole.take(order)

    def _write(self, path: Path, content: str | bytes) -> None:
        try:
            write_atomic(path, content, durable=True)
        except MmworkloadError as error:
            raise _full(path, error.__cause__ or error) from error


def _holder(handle: int | None) -> str:
    """Who wrote a name into the lock file."""
    name = b"" if handle is None else os.pread(handle, 200, 0)
    return name.decode(errors="replace").strip() or "another process"


def _differences(before: dict[str, Any], now: dict[str, Any], inside: str = "") -> Iterator[str]:
    """What is another in ``now``, each with its path."""
    for name in dict.fromkeys((*before, *now)):
        path = f"{inside}{name}"
        if name not in now:
            yield f"{path} is gone"
        elif name not in before:
            yield f"{path} is new"
        elif isinstance(before[name], dict) and isinstance(now[name], dict):
            yield from _differences(before[name], now[name], f"{path}.")
        elif before[name] != now[name]:
            yield f"{path} is {now[name]} and was {before[name]}"


def _heads(segment: pyarrow.Table) -> list[tuple[str, str]]:
    """Design and status of each row of the mix."""
    import pyarrow.compute

    heads = segment.select(["design", "status", "workload"])
    heads = heads.filter(pyarrow.compute.equal(heads.column("workload").cast("string"), ""))
    return list(zip(heads.column("design").to_pylist(), heads.column("status").to_pylist(), strict=True))


def _stable_order(table: pyarrow.Table) -> pyarrow.Array | None:
    """Positions that sort rows by design; the rows of one keep their order. None when they are sorted."""
    import numpy
    import pyarrow

    index = table.column("index").to_numpy()
    if bool((index[1:] >= index[:-1]).all()):
        return None
    return pyarrow.array(numpy.argsort(index, kind="stable"))


def _full(path: Path, error: BaseException) -> MmworkloadError:
    """The error of a result that cannot be kept."""
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return FullDiskError(
            f"the disk is full: {path} cannot be written ({reason}). All finished results are kept; make room, then:"
            " mmworkload sweep resume"
        )
    return MmworkloadError(f"cannot read or write {path}: {reason}")
