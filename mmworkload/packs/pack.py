"""A pack: one Parquet file of answers of one simulator in one version, with what anybody needs to check them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from mmworkload.packs import parquet
from mmworkload.simulating.estimate import Estimate

SCHEMA = 1


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
_KINDS = {item.name: {"str": str, "int": int, "float": float}[str(item.type)] for item in fields(Row)}


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
        rows = sorted(self.rows, key=lambda row: (row.arch, row.key))
        about = {
            "schema": SCHEMA,
            "simulator": self.simulator,
            "version": self.version,
            "tool": self.tool,
            "recorded": self.recorded,
        }
        parquet.write(path, map(asdict, rows), _KINDS, about)

    @classmethod
    def load(cls, path: Path) -> Pack:
        """Reads what :meth:`save` wrote. FormatError for any other file, and when a row is not what was written."""

        def made(rows: list[dict[str, Any]], about: dict[str, Any]) -> Pack:
            found = tuple(Row(**row) for row in rows)
            return cls(about["simulator"], about["version"], about["tool"], about["recorded"], found)

        return parquet.read(path, made, what="a pack of results", schema=SCHEMA)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
