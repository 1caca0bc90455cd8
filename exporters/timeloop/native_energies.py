"""Energies and areas of a native folder: one run of Accelergy for each architecture, its tables for every later job.

The front end drops an ERT without an ART and takes stale ones without a word, so both are kept together, by everything
that decides them: the folder's files and the versions of the tool and of Accelergy's plug-ins. The tables lie in the
cache folder of mmworkload, written whole or not at all; of several processes that need one, one makes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmworkload.errors import MmworkloadError, SimulationError
from mmworkload.exporters.timeloop import stats
from mmworkload.exporters.timeloop.native import NativeArchitecture
from mmworkload.exporters.timeloop.problem_file import problem_text
from mmworkload.exporters.timeloop.runners import ESTIMATE, Local, Runner
from mmworkload.exporters.timeloop.settings import mapper_text
from mmworkload.exporters.timeloop.yaml_text import comment, mapping, scalar
from mmworkload.files import write_atomic
from mmworkload.problem import gemm
from mmworkload.simulating.cache import default_root
from mmworkload.temporary import open_lock, temporary_folder

LIMIT_S = 900.0
_SCHEMA = 1
_FAILED: dict[str, str] = {}
ACCELERGY_RUNS: Counter[str] = Counter()
"""Runs of Accelergy that this process made, by :attr:`NativeArchitecture.key`. Jobs never start one (it is checked)."""


@dataclass(frozen=True)
class EnergyTables:
    """Contents of ``ert.yaml`` and ``art.yaml``; both empty when the folder has its own."""

    ert: str
    art: str


def tables_of(native: NativeArchitecture, runner: Runner) -> EnergyTables:
    """The tables of ``native``, kept or made now.

    Raises SimulationError when Accelergy fails, the same one for every later call.
    """
    if "ERT" in native.sections:
        return EnergyTables("", "")
    key = _key(native, runner)
    if key in _FAILED:
        raise SimulationError(_FAILED[key])
    found = _read(key)
    if found is None:
        with _alone(key):
            # Another process may have made it while this one waited.
            found = _read(key)
            if found is None:
                try:
                    found = _estimate(native, runner)
                except SimulationError as error:
                    _FAILED[key] = str(error)
                    raise
                _keep(key, found)
    return found


def _key(native: NativeArchitecture, runner: Runner) -> str:
    version = runner.version()
    if isinstance(runner, Local):
        # That module needs the simulator's.
        from mmworkload.exporters.timeloop.accelergy import Accelergy

        version = f"{version}, {Accelergy().version()}"
    return hashlib.sha256(json.dumps([_SCHEMA, native.key, version]).encode()).hexdigest()


def _estimate(native: NativeArchitecture, runner: Runner) -> EnergyTables:
    """One run of Accelergy through the front end. A problem is needed to load the files, but decides nothing."""
    import yaml

    ACCELERGY_RUNS[native.key] += 1
    with temporary_folder() as folder:
        directory = folder.resolve()
        output = directory / "output"
        output.mkdir()
        files = {**job_files(native), "problem.yaml": problem_text(gemm(1, 1, 1).canonical())}
        for file, text in files.items():
            (directory / file).write_text(text)
        runner.call(ESTIMATE, directory, list(files), LIMIT_S)
        found = {}
        for table in ("ERT", "ART"):
            path = output / f"{table}.yaml"
            if not path.is_file():
                raise SimulationError(f"Accelergy cannot estimate {native.name}: {_reason(output)}")
            try:
                found[table] = yaml.safe_load(path.read_text())[table]["tables"]
            except (yaml.YAMLError, KeyError, TypeError) as error:
                raise SimulationError(f"Accelergy's {table}.yaml cannot be read: {error}") from error
    return EnergyTables(_energy_text(found["ERT"]), _area_text(found["ART"]))


def job_files(native: NativeArchitecture, effort: str = "normal") -> dict[str, str]:
    """The folder's files under names that no file of ours has, and our mapper where the folder has none."""
    files = {f"native_{name}": text for name, text in native.files.items()}
    return files if "mapper" in native.sections else {**files, "mapper.yaml": mapper_text(effort)}


def _reason(output: Path) -> str:
    logs = {path.name: path.read_text(errors="replace") for path in sorted(output.glob("*.log"))}
    accelergy = logs.get("timeloop-mapper.accelergy.log", "")
    unknown = re.search(r"Can not find an energy estimator for (\w+)\(", accelergy)
    if unknown:
        return f"none of its plug-ins knows a {unknown[1]} with these attributes; install the plug-in that does"
    front_end = "".join(text for name, text in logs.items() if name != "timeloop-mapper.accelergy.log")
    return stats.failure(front_end.strip() or accelergy, accelergy)


def _energy_text(tables: list[dict[str, Any]]) -> str:
    """In one order: Accelergy writes actions in another one each time."""
    lines = ["ERT:", "  version: 0.4", "  tables:"]
    for table in tables:
        lines += [f"  - name: {scalar(table['name'])}", "    actions:"]
        for action in sorted(table["actions"], key=lambda item: (item["name"], json.dumps(item, sort_keys=True))):
            told = {"name": action["name"], "arguments": action.get("arguments") or {}}
            lines.append(f"    - {mapping({**told, 'energy': float(action['energy'])})}")
    return comment(["pJ by action, as Accelergy estimated them."]) + "\n".join(lines) + "\n"


def _area_text(tables: list[dict[str, Any]]) -> str:
    lines = ["ART:", "  version: 0.4", "  tables:"]
    lines += [f"  - {mapping({'name': table['name'], 'area': float(table['area'])})}" for table in tables]
    return comment(["um^2 of one instance, as Accelergy estimated them."]) + "\n".join(lines) + "\n"


def _path(key: str) -> Path:
    return default_root() / "timeloop_tables" / f"{key}.json"


def _digest(tables: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def _read(key: str) -> EnergyTables | None:
    """What is kept; a damaged file counts as missing and is written anew."""
    try:
        content = json.loads(_path(key).read_bytes())
        if content["digest"] != _digest(content["tables"]):
            return None
        return EnergyTables(**content["tables"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(key: str, tables: EnergyTables) -> None:
    """Without a writable cache the tables are of this process's next call again, which costs seconds and is right."""
    plain = asdict(tables)
    text = json.dumps({"tables": plain, "digest": _digest(plain)}, sort_keys=True) + "\n"
    try:
        write_atomic(_path(key), text, durable=True)
    except MmworkloadError as error:
        raise SimulationError(f"the energies of the architecture cannot be kept: {error}") from error


@contextmanager
def _alone(key: str) -> Iterator[None]:
    """One process at a time; where the cache folder cannot be locked, all of them."""
    lock = _path(key).with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = open_lock(lock)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
