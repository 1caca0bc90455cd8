"""Two results of one kind side by side: measurements with measurements, simulations with simulations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.files import read_json
from mmworkload.versions import SCHEMA_VERSION

MEASURED, SIMULATED = "measurement", "simulation"


@dataclass(frozen=True)
class Run:
    """What a saved result says of one run.

    Parameters
    ----------
    kind: ``measurement`` or ``simulation``.
    where: the device, or the architecture with its simulator.
    total_s: the sum over layers. ``whole_s`` is the eager model end to end, or the critical path; never mixed with it.
    layers: name to seconds of all its runs; stages: layer to its stage.
    energy_j, dram_bytes: of the whole, None where they are not known; energy_by_component_j: empty then.
    """

    kind: str
    model: str
    batch: int | None
    where: str
    precision: str
    whole_s: float
    layers: dict[str, float]
    stages: dict[str, str]
    energy_j: float | None = None
    dram_bytes: float | None = None
    energy_by_component_j: dict[str, float] = field(default_factory=dict)

    @property
    def total_s(self) -> float:
        return sum(self.layers.values())


def ratio(first: float | None, second: float | None) -> float | None:
    """Second over first; None without either, or of nothing."""
    return None if second is None or not first else second / first


@dataclass(frozen=True)
class Pair:
    """Seconds of one layer or stage in both runs (None where a run lacks it) and as shares of each run's sum."""

    name: str
    first_s: float | None
    second_s: float | None
    first_share: float | None
    second_share: float | None

    @property
    def ratio(self) -> float | None:
        """Second over first."""
        return ratio(self.first_s, self.second_s)

    @property
    def larger_s(self) -> float:
        return max(self.first_s or 0.0, self.second_s or 0.0)

    def to_dict(self, key: str) -> dict[str, Any]:
        """For ``--json``; the name is called ``key``."""
        values = asdict(self)
        return {key: values.pop("name"), **values, "ratio": self.ratio}


@dataclass(frozen=True)
class RunComparison:
    """Two runs, by stage and layer in the order of the first. ``differences`` are those besides the time."""

    first: Run
    second: Run
    stages: tuple[Pair, ...]
    layers: tuple[Pair, ...]
    differences: tuple[str, ...]

    @property
    def energy(self) -> dict[str, tuple[float | None, float | None]]:
        """Component to its joules in both runs, None where a run has no such component."""
        runs = self.first.energy_by_component_j, self.second.energy_by_component_j
        return {name: (runs[0].get(name), runs[1].get(name)) for name in dict.fromkeys([*runs[0], *runs[1]])}

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""

        def run(item: Run) -> dict[str, Any]:
            names = ("kind", "model", "batch", "where", "precision", "whole_s", "total_s", "energy_j", "dram_bytes")
            return {name: getattr(item, name) for name in names}

        return {
            "schema_version": SCHEMA_VERSION,
            "first": run(self.first),
            "second": run(self.second),
            "differences": list(self.differences),
            "energy": [
                {"component": name, "first_j": first, "second_j": second, "ratio": ratio(first, second)}
                for name, (first, second) in self.energy.items()
            ],
            "stages": [item.to_dict("stage") for item in self.stages],
            "layers": [item.to_dict("layer") for item in self.layers],
        }


def load_run(path: str | Path) -> Run:
    """A result folder or the JSON of a measurement, or the JSON that ``simulate --json`` printed.

    Raises FormatError for what is none of them.
    """
    place = Path(path)
    if place.is_dir():
        return _measured(place)
    data = read_json(place)
    if isinstance(data, dict) and "simulations" in data:
        raise FormatError(f"{place}: it holds several simulations; save each alone (simulate -o) to compare two")
    if isinstance(data, dict) and "serial_latency_s" in data:
        return _simulated(data, place)
    return _measured(place)


def _measured(place: Path) -> Run:
    from mmworkload.measuring.folder import load

    found = load(place).measurement
    return Run(
        kind=MEASURED,
        model=found.model,
        batch=found.batch,
        where=str(found.provenance.get("device_name", found.device)),
        precision=found.dtype,
        whole_s=found.eager.median_s,
        layers={item.layer: item.time.median_s for item in found.layers},
        stages={item.layer: item.stage for item in found.layers},
        energy_j=None if found.energy is None else found.energy.per_inference.median_j,
    )


def _simulated(data: dict[str, Any], place: Path) -> Run:
    if data.get("schema_version") != SCHEMA_VERSION:
        raise FormatError(f"{place}: not a simulation of schema_version {SCHEMA_VERSION}; simulate again")
    try:
        layers: dict[str, float] = {}
        stages: dict[str, str] = {}
        several = len({row["phase"] for row in data["layers"]}) > 1
        for row in data["layers"]:
            name = f"{row['phase']}: {row['layer']}" if several else row["layer"]
            layers[name] = layers.get(name, 0.0) + row["latency_s"] * row["weight"]
            stages[name] = row["stage"]
        return Run(
            kind=SIMULATED,
            model=data["model"],
            batch=None,
            where=f"{data['arch']}, {data['simulator']} {data['version']}",
            precision=data["precision"],
            whole_s=data["critical_path_s"],
            layers=layers,
            stages=stages,
            energy_j=data["energy_j"],
            dram_bytes=data["dram_bytes"],
            energy_by_component_j=dict(data["energy_by_component_j"]),
        )
    except (KeyError, TypeError) as error:
        raise FormatError(f"{place}: not a complete simulation: {type(error).__name__} {error}") from error


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Raises MmworkloadError for a measurement beside a simulation: that is what ``validate`` is for."""
    if first.kind != second.kind:
        raise MmworkloadError(
            f"a {first.kind} and a {second.kind} are not two runs of one kind; to put a simulation beside a"
            " measurement: validate --measured RESULT --arch ARCH"
        )
    differences = [
        f"{what}: {before} and {after}"
        for what, before, after in (
            ("model", first.model, second.model),
            ("batch", first.batch, second.batch),
            ("where", first.where, second.where),
            ("precision", first.precision, second.precision),
        )
        if before != after
    ]
    return RunComparison(
        first,
        second,
        _pairs(_by_stage(first), _by_stage(second)),
        _pairs(first.layers, second.layers),
        tuple(differences),
    )


def _by_stage(run: Run) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, seconds in run.layers.items():
        stage = run.stages[name]
        found[stage] = found.get(stage, 0.0) + seconds
    return found


def _pairs(first: dict[str, float], second: dict[str, float]) -> tuple[Pair, ...]:
    names: Iterable[str] = dict.fromkeys([*first, *second])
    first_s, second_s = sum(first.values()), sum(second.values())
    return tuple(
        Pair(
            name,
            first.get(name),
            second.get(name),
            first[name] / first_s if name in first and first_s else None,
            second[name] / second_s if name in second and second_s else None,
        )
        for name in names
    )
