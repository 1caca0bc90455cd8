"""The table of a sweep: rows of designs, of each workload on a design, and of each stage of a workload.

A row of the mix has neither workload nor stage, a row of a workload no stage. Figures are of one forward pass; those of
the mix are weighted sums (see :mod:`mmworkload.sweeping.conditions`). A design that failed has its one row of the mix
with ``status`` and ``reason``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.simulating.result import LayerResult, Simulation
from mmworkload.sweeping.space import Design
from mmworkload.sweeping.workloads import Entry

if TYPE_CHECKING:
    import pyarrow

OK, FAILED, KILLED = "ok", "failed", "killed"
"""``killed``: somebody ended the worker again and again; unlike ``failed``, a resumed sweep tries it again."""
BOUNDS = ("compute", "memory", "vector", "launch")
SUMS = ("latency_s", "critical_path_s", "energy_j", "dram_bytes")
"""What adds up over the mix."""
TIMING = ("seconds",)
"""Columns that say how long it took here and no more."""


def schema() -> pyarrow.Schema:
    import pyarrow

    name = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    number, text = pyarrow.float64(), pyarrow.string()
    return pyarrow.schema(
        [
            ("index", pyarrow.int64()),
            ("design", name),
            ("workload", name),
            ("stage", name),
            ("status", name),
            ("reason", text),
            ("log", text),
            ("settings", text),
            ("batch", pyarrow.int64()),
            ("area_mm2", number),
            ("cycles", number),
            ("latency_s", number),
            ("critical_path_s", number),
            ("energy_j", number),
            ("dram_bytes", number),
            ("utilization", number),
            ("bound", name),
            ("fallbacks", pyarrow.int64()),
            ("seconds", number),
        ]
    )


@dataclass(frozen=True)
class Trial:
    """One evaluated design: its rows, the mix first."""

    design: Design
    rows: tuple[Mapping[str, Any], ...]

    @property
    def status(self) -> str:
        status: str = self.rows[0]["status"]
        return status

    @property
    def mix(self) -> Mapping[str, Any]:
        return self.rows[0]

    @property
    def workloads(self) -> dict[str, Mapping[str, Any]]:
        return {row["workload"]: row for row in self.rows if row["workload"] and not row["stage"]}


def table(trials: Iterable[Trial]) -> pyarrow.Table:
    import pyarrow

    return pyarrow.Table.from_pylist([dict(row) for trial in trials for row in trial.rows], schema=schema())


def failed(design: Design, reason: str, log: str = "", status: str = FAILED) -> Trial:
    """The trial of a design without figures."""
    return Trial(design, ({**_head(design), "status": status, "reason": " ".join(reason.split()), "log": log},))


def succeeded(
    design: Design,
    entries: Sequence[Entry],
    simulations: Mapping[str, Simulation],
    batches: Mapping[str, int],
    area_mm2: float | None,
) -> Trial:
    """The trial of a design from the simulations of its workloads and their batches."""
    rows: list[dict[str, Any]] = []
    whole: list[dict[str, Any]] = []
    for entry in entries:
        simulation = simulations[entry.name]
        head = {**_head(design), "workload": entry.name, "settings": None, "batch": batches[entry.name]}
        row = {
            **head,
            **_sums(simulation.layers),
            "critical_path_s": simulation.critical_path_s,
            "fallbacks": simulation.fallbacks,
            "seconds": sum(
                item.seconds for item in {id(item): item for item in simulation.estimates.values()}.values()
            ),
        }
        whole.append(row)
        rows.append(row)
        stages: dict[str, list[LayerResult]] = {}
        for layer in simulation.layers:
            stages.setdefault(layer.stage, []).append(layer)
        # Layers without a stage are the whole workload's alone.
        rows += [{**head, "stage": stage, **_sums(stages[stage])} for stage in simulation.stages() if stage]
    weights = [entry.weight for entry in entries]
    return Trial(design, ({**_head(design), **mix(whole, weights), "area_mm2": area_mm2}, *rows))


def mix(rows: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> dict[str, Any]:
    """The row of the mix from those of its workloads: figures may be numbers or arrays."""
    found: dict[str, Any] = {
        name: sum(row[name] * weight for row, weight in zip(rows, weights, strict=True))
        if _complete(rows, name)
        else None
        for name in (*SUMS, "cycles")
    }
    busy = sum(row["utilization"] * row["latency_s"] * weight for row, weight in zip(rows, weights, strict=True))
    found["utilization"] = busy / found["latency_s"]
    for name in ("fallbacks", "seconds"):
        if all(name in row for row in rows):
            found[name] = sum(row[name] for row in rows)
    return found


def _complete(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return not any(row[name] is None for row in rows)


def _head(design: Design) -> dict[str, Any]:
    return {
        "index": design.index,
        "design": design.id,
        "workload": "",
        "stage": "",
        "status": OK,
        "settings": json.dumps(dict(design.point)),
        "batch": design.batch,
    }


def _sums(layers: Sequence[LayerResult]) -> dict[str, Any]:
    latency_s = sum(row.latency_s * row.weight for row in layers)
    energies = [row.energy_j for row in layers]
    bounds = dict.fromkeys(BOUNDS, 0.0)
    for row in layers:
        bounds[row.bound] += row.latency_s * row.weight
    busy = sum(row.utilization * row.latency_s * row.weight for row in layers)
    return {
        "cycles": float(sum(row.cycles * row.weight for row in layers)),
        "latency_s": latency_s,
        "energy_j": None if None in energies else sum((row.energy_j or 0.0) * row.weight for row in layers),
        "dram_bytes": float(sum(row.dram_bytes * row.weight for row in layers)),
        "utilization": busy / latency_s if latency_s else 0.0,
        "bound": max(bounds, key=lambda bound: bounds[bound]),
    }
