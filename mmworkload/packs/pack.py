"""A pack: one Parquet file of answers of one simulator in one version, with what anybody needs to check them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError
from mmworkload.files import write_atomic
from mmworkload.simulating.estimate import Estimate

SCHEMA = 1
_META = b"mmworkload"


@dataclass(frozen=True)
class Row:
    """The answer to one problem on one architecture.

    ``key`` is that of the job (:attr:`mmworkload.simulating.estimate.Job.key`) in the pack's version of the simulator,
    ``problem`` the loop nest as it ran, ``options`` what else decided the answer; energies are joules by component,
    traffic bytes by level and role, both as JSON. ``seconds`` is what the run took, ``command`` repeats it.
    """

    key: str
    arch: str
    arch_key: str
    problem: str
    effort: str
    options: str
    cycles: int
    latency_s: float
    energy_j: str
    utilization: float
    traffic_bytes: str
    macs: int
    footprints: str
    includes: str
    mapping: str
    seconds: float
    command: str

    @classmethod
    def of(cls, key: str, problem: str, arch: str, arch_key: str, effort: str, options: str, found: Estimate) -> Row:
        """The row of an estimate as the simulator gave it, before it is raised to any floor."""
        return cls(
            key=key,
            arch=arch,
            arch_key=arch_key,
            problem=problem,
            effort=effort,
            options=options,
            cycles=found.cycles,
            latency_s=found.latency_s,
            energy_j=_text(found.energy_j),
            utilization=found.utilization,
            traffic_bytes=_text(found.traffic_bytes),
            macs=found.macs,
            footprints=_text(found.footprints),
            includes=_text(found.includes),
            mapping=found.mapping,
            seconds=round(found.seconds, 3),
            command=f"mmworkload results verify --key {key[:16]}",
        )

    def estimate(self, simulator: str, version: str) -> Estimate:
        """The answer, as given by ``simulator`` in ``version``."""
        return Estimate(
            simulator=simulator,
            version=version,
            cycles=self.cycles,
            latency_s=self.latency_s,
            energy_j=json.loads(self.energy_j),
            utilization=self.utilization,
            traffic_bytes=json.loads(self.traffic_bytes),
            macs=self.macs,
            footprints=json.loads(self.footprints),
            includes=tuple(json.loads(self.includes)),
            mapping=self.mapping,
            seconds=self.seconds,
        )


COLUMNS = tuple(item.name for item in fields(Row))


@dataclass(frozen=True)
class Pack:
    """Rows of one ``simulator`` in one ``version`` (a hash of the installed tool); ``tool`` is what people call that
    version, ``recorded`` the date."""

    simulator: str
    version: str
    tool: str
    recorded: str
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        return f"{self.tool} of {self.recorded}"

    @cached_property
    def by_key(self) -> dict[str, Row]:
        return {row.key: row for row in self.rows}

    @cached_property
    def arch_keys(self) -> frozenset[str]:
        return frozenset(row.arch_key for row in self.rows)

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all; the same rows give the same bytes."""
        import pyarrow
        import pyarrow.parquet

        rows = sorted(self.rows, key=lambda row: (row.arch, row.key))
        about = {
            "schema": SCHEMA,
            "simulator": self.simulator,
            "version": self.version,
            "tool": self.tool,
            "recorded": self.recorded,
            "rows": len(rows),
            "digest": _digest(rows, self.version),
        }
        kinds = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64()}
        schema = pyarrow.schema(
            [(item.name, kinds[str(item.type)]) for item in fields(Row)], metadata={_META: _text(about).encode()}
        )
        table = pyarrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, compression="zstd", compression_level=19)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Pack:
        """Reads what :meth:`save` wrote. FormatError for any other file, and when a row is not what was written."""
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
            about = json.loads((table.schema.metadata or {})[_META])
            if about["schema"] != SCHEMA:
                raise FormatError(f"{path}: a pack of schema {about['schema']}; this mmworkload reads {SCHEMA}")
            rows = tuple(Row(**row) for row in table.to_pylist())
            found = cls(about["simulator"], about["version"], about["tool"], about["recorded"], rows)
            if len(rows) != about["rows"] or _digest(rows, found.version) != about["digest"]:
                raise FormatError(f"{path}: its rows are not those that were recorded; get the file anew")
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise FormatError(f"{path} cannot be read as a pack: {str(error).splitlines()[0]}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path} is not a pack of results: {type(error).__name__} {error}") from error
        return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(rows: Iterable[Row], version: str) -> str:
    digest = hashlib.sha256(version.encode())
    for row in rows:
        digest.update(_text(asdict(row)).encode())
    return digest.hexdigest()
