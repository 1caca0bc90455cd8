"""Reading what Timeloop and Accelergy write. Free of both tools.

A return code of 0 is not success: without a valid mapping ``stats.txt`` is empty, and without an energy estimate there
is none. Every reader therefore raises SimulationError with what is missing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from mmworkload.errors import SimulationError

_LEVEL = re.compile(r"^=== (\S+) ===\s*$", re.MULTILINE)
_FIELD = re.compile(r"\s+([A-Z][^:\n]*):(.*)")
_DATA_SPACE = re.compile(r"^    (\w+):\s*$")
_FOOTPRINT = re.compile(r"\b(\w+):(\d+) \(\d+\)")
_COMPONENT = re.compile(r"(?:^|\.)([^.\[]+)\[1\.\.(\d+)\]$")


@dataclass(frozen=True)
class Accesses:
    """One data space at one level: words moved by all instances together, and their energy in picojoules."""

    reads: int
    fills: int
    updates: int
    energy_pj: float

    @property
    def words(self) -> int:
        """Words moved into and out of the level."""
        return self.reads + self.fills + self.updates


@dataclass(frozen=True)
class LevelStats:
    """One storage level (without ``accesses`` when all data pass it by) or the compute units.

    Energies are of all instances, in picojoules; ``dynamic_pj`` is that of accesses or computes. ``area_um2`` is of
    one instance. ``energy_source`` is ``ERT`` when the energies came from a table; otherwise Timeloop invented them.
    """

    name: str
    word_bits: int
    instances: int
    dynamic_pj: float
    leakage_pj: float
    area_um2: float
    energy_source: str
    accesses: dict[str, Accesses]

    @property
    def energy_pj(self) -> float:
        return self.dynamic_pj + self.leakage_pj


@dataclass(frozen=True)
class Stats:
    """A ``stats.txt``. ``energy_pj`` is the sum over levels; ``energy_uj`` what the summary prints, rounded."""

    cycles: int
    computes: int
    utilization: float
    energy_uj: float
    fj_per_compute: dict[str, float]
    levels: dict[str, LevelStats]

    @property
    def energy_pj(self) -> float:
        return sum(level.energy_pj for level in self.levels.values())


@dataclass(frozen=True)
class EnergyTable:
    """An ``ERT_summary.yaml``: picojoules by component and action, and who estimated each component."""

    energy_pj: dict[str, dict[str, float]]
    estimators: dict[str, str]

    @property
    def dummies(self) -> list[str]:
        """Components whose energies are placeholders (1 pJ an action), not estimates."""
        return sorted(name for name, estimator in self.estimators.items() if "dummy" in estimator.lower())


@dataclass(frozen=True)
class AreaTable:
    """An ``ART_summary.yaml``: square micrometres of one instance, and instances, by component."""

    area_um2: dict[str, float]
    instances: dict[str, int]
    estimators: dict[str, str]

    @property
    def total_um2(self) -> float:
        """Area of all components; placeholders of the front end for a fan-out are left out."""
        return sum(
            area * self.instances[name]
            for name, area in self.area_um2.items()
            if not (name.startswith("inter_") and name.endswith("_spatial"))
        )


def parse_stats(text: str) -> Stats:
    """Reads ``timeloop-mapper.stats.txt``.

    Raises SimulationError when it is empty (no valid mapping), cut short, or its parts contradict each other.
    """
    if not text.strip():
        raise SimulationError("timeloop found no valid mapping: stats.txt is empty")
    head, separator, summary = text.partition("\nSummary Stats\n")
    if not separator:
        raise SimulationError("timeloop's stats.txt has no 'Summary Stats': the run was cut short")
    table = dict(re.findall(r"^    (\S+)\s+= ([\d.]+)$", summary, re.MULTILINE))
    table.pop("Total", None)
    stats = Stats(
        cycles=int(_number(summary, r"^Cycles: (\d+)$")),
        computes=int(_number(summary, r"^Computes = (\d+)$")),
        utilization=_number(summary, r"^Utilization: ([\d.]+)%$") / 100,
        energy_uj=_number(summary, r"^Energy: ([\d.e+-]+) uJ$"),
        fj_per_compute={name: float(value) for name, value in table.items()},
        levels={level.name: level for level in _levels(head)},
    )
    # A component that the level sections do not show (a network) would be lost from the energy by level.
    printed = sum(stats.fj_per_compute.values()) * stats.computes / 1000
    rounding = 0.005 * max(1, len(stats.fj_per_compute)) * stats.computes / 1000
    if not math.isclose(printed, stats.energy_pj, rel_tol=1e-4, abs_tol=rounding + 0.01 * len(stats.levels)):
        raise SimulationError(
            f"timeloop's energy by level adds up to {stats.energy_pj:.6g} pJ, its summary to {printed:.6g} pJ"
        )
    return stats


def parse_footprints(map_text: str) -> dict[str, int]:
    """Elements of each data space at the outermost level: the first line of ``timeloop-mapper.map.txt``."""
    first = map_text.split("\n", 1)[0]
    found = {name: int(size) for name, size in _FOOTPRINT.findall(first)}
    if not found:
        raise SimulationError(f"timeloop's map.txt does not begin with the footprints but with '{first[:80]}'")
    return found


def parse_energy_table(data: Any) -> EnergyTable:
    """Takes a loaded ``timeloop-mapper.ERT_summary.yaml``. Raises SimulationError when it is another file."""
    energy: dict[str, dict[str, float]] = {}
    estimators: dict[str, str] = {}
    for entry in _tables(data, "ERT_summary"):
        name, _ = _component(entry["name"])
        energy[name] = {action["name"]: float(action["energy"]) for action in entry["actions"]}
        estimators[name] = ", ".join(sorted({item["estimator"] for item in entry["primitive_estimation(s)"]}))
    return EnergyTable(energy, estimators)


def parse_area_table(data: Any) -> AreaTable:
    """Takes a loaded ``timeloop-mapper.ART_summary.yaml``. Raises SimulationError when it is another file."""
    area: dict[str, float] = {}
    instances: dict[str, int] = {}
    estimators: dict[str, str] = {}
    for entry in _tables(data, "ART_summary"):
        name, count = _component(entry["name"])
        area[name], instances[name] = float(entry["area"]), count
        estimators[name] = str(entry["primitive_estimations"])
    return AreaTable(area, instances, estimators)


def failure(mapper_log: str, accelergy_log: str = "") -> str:
    """Why a run left no result, from its logs, in one line."""
    missing = re.search(r"Can not find an energy estimator for (\w+)\(", accelergy_log)
    if missing:
        return (
            f"Accelergy has no energy estimator for {missing[1]} with these attributes (those for regfile and mac know"
            " 40 and 45 nm only); use the energies of the architecture instead"
        )
    key = re.search(r'Required key "(\w+)" not found', accelergy_log)
    if key:
        return f"Accelergy misses {key[1]}"
    if "no valid mappings found" in mapper_log:
        return "no valid mapping was found: a tile does not fit a buffer, or the search was too short"
    if "Failed to run Accelergy" in mapper_log:
        return "Accelergy failed: see timeloop-mapper.accelergy.log"
    lines = [line.strip() for line in mapper_log.splitlines() if line.strip()]
    return f"timeloop said: {lines[-1][:300]}" if lines else "timeloop said nothing"


def _levels(text: str) -> list[LevelStats]:
    """The sections ``=== name ===`` of "Buffer and Arithmetic Levels"."""
    body = text.partition("\nNetworks\n")[0]
    pieces = _LEVEL.split(body)[1:]
    return [_level(name, section) for name, section in zip(pieces[::2], pieces[1::2], strict=True)]


def _level(name: str, section: str) -> LevelStats:
    common: dict[str, str] = {}
    spaces: dict[str, dict[str, str]] = {}
    fields = common
    for line in section.splitlines():
        if header := _DATA_SPACE.match(line):
            fields = spaces.setdefault(header[1], {})
        elif field := _FIELD.match(line):
            fields[field[1].rstrip()] = field[2].strip()
    try:
        accesses = {space: _accesses(values) for space, values in spaces.items()}
        # A level that everything passes by has no data space either.
        storage = "Computes (total)" not in common
        dynamic = sum(item.energy_pj for item in accesses.values()) if storage else _value(common["Energy (total)"])
        instances = int(common["Instances"].split()[0])
        # Compute units print the area of all of them, storage that of one.
        area = _value(common["Area"]) if storage else _value(common["Area (total)"]) / instances
        return LevelStats(
            name=name,
            word_bits=int(common["Word bits"]),
            instances=instances,
            dynamic_pj=dynamic,
            leakage_pj=_value(common["Leakage energy (total)"]) if storage else 0.0,
            area_um2=area,
            energy_source=common.get("Vector access energy source", ""),
            accesses=accesses,
        )
    except (KeyError, ValueError) as error:
        raise SimulationError(f"timeloop's stats.txt, level {name}: cannot read {error}") from error


def _accesses(values: dict[str, str]) -> Accesses:
    instances = int(values["Utilized instances (max)"])
    return Accesses(
        reads=int(values["Scalar reads (per-instance)"]) * instances,
        fills=int(values["Scalar fills (per-instance)"]) * instances,
        updates=int(values["Scalar updates (per-instance)"]) * instances,
        energy_pj=sum(
            _value(values[key])
            for key in ("Energy (total)", "Temporal Reduction Energy (total)", "Address Generation Energy (total)")
        ),
    )


def _value(text: str) -> float:
    """The number of ``12.50 pJ``."""
    return float(text.split()[0])


def _number(text: str, pattern: str) -> float:
    match = re.search(pattern, text, re.MULTILINE)
    if not match:
        raise SimulationError(f"timeloop's summary has no line like {pattern}")
    return float(match[1])


def _tables(data: Any, key: str) -> list[dict[str, Any]]:
    try:
        return list(data[key]["table_summary"])
    except (KeyError, TypeError) as error:
        raise SimulationError(f"not an {key}.yaml of Accelergy: {error}") from error


def _component(full_name: str) -> tuple[str, int]:
    """``system_top_level.rf[1..64]`` is ``rf``, 64 times."""
    match = _COMPONENT.search(full_name)
    if not match:
        raise SimulationError(f"'{full_name}' is not a component name of Accelergy")
    return match[1], int(match[2])
