"""What a simulated workload costs: one row a layer, stages, modalities, totals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from mmworkload.simulating.concurrency import Concurrency
from mmworkload.simulating.estimate import Estimate
from mmworkload.simulating.footprint import Fit
from mmworkload.simulating.rollup import OnChip
from mmworkload.simulating.transfers import Transfer
from mmworkload.straggler import Straggler, encoders, straggler
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas

Key = TypeVar("Key")
_COLUMNS = ("layer", "phase", "runs", "macs", "latency_s", "share", "energy_j", "dram_bytes")


@dataclass(frozen=True)
class LayerResult:
    """One layer of one part of the workload; all figures are of one execution of the layer.

    Parameters
    ----------
    part, weight: the part of the workload and how often it runs per sample.
    phase: what the part is a sample of, else the part itself (:class:`mmworkload.graph.Part`). Rows of one phase and
        name are one layer of the network.
    macs, outer_macs: of the graph, whatever the precision.
    count: runs of loop nests in the layer (an LSTM: one per step); they follow each other.
    utilization: MACs (outer products included) over what the array could do in ``cycles``.
    bound: ``compute``, ``memory``, ``vector`` or ``launch``: what the longest share of the layer waits for.
    energy_j: None when the simulator gives no energy.
    simulator: who answered (``roofline`` for layers without MAC work); several are joined by ``+``.
    floored_from: the cycles before a physical floor raised them, else None.
    note: what a reader has to know about this row.
    arch: what the layer runs on, with overridden parameters.
    energy_basis: where the energies per access come from; empty when there are none.
    energy_by_component_j: level, ``mac``, ``vector`` or ``leakage`` to joules; empty when there are none.
    traffic_bytes: level to role to bytes; at the DRAM also ``vector`` (what the vector unit moves) and ``compulsory``
    (every operand once, where the simulator gives no traffic).
    includes: what the latency of the loop nests covers.
    problems: (key, runs) of the loop nests that the simulator answered, see :attr:`Simulation.estimates`.
    """

    layer: str
    part: str
    phase: str
    weight: float
    op: str
    stage: str
    modality: str
    macs: int
    outer_macs: int
    count: int
    cycles: int
    latency_s: float
    energy_j: float | None
    utilization: float
    bound: str
    dram_bytes: int
    simulator: str
    floored_from: int | None
    note: str
    arch: str
    energy_basis: str
    energy_by_component_j: Mapping[str, float]
    traffic_bytes: Mapping[str, Mapping[str, int]]
    includes: tuple[str, ...]
    problems: tuple[tuple[str, int], ...]

    def __repr__(self) -> str:
        return f"<LayerResult {self.layer!r}: {self.latency_s:.4g} s, weight {self.weight:g}>"

    @property
    def matrix(self) -> bool:
        """Whether the array works for the layer: it has MACs or outer products."""
        return self.macs + self.outer_macs > 0


@dataclass(frozen=True)
class Answered:
    """The layers that one simulator answered, of those with MACs (``matrix``) or of those without.

    Parameters
    ----------
    simulator, version: who; for a layer whose loop nests several answered, their names joined by ``+``.
    layers: how many.
    share: of the serial latency.
    """

    simulator: str
    version: str
    matrix: bool
    layers: int
    share: float


@dataclass(frozen=True)
class Totals:
    """Weighted sums over rows. ``layers`` are those of the network, each phase's counted once; ``share`` is that of the
    serial latency; ``energy_j`` None when a layer has none."""

    layers: int
    macs: float
    cycles: float
    latency_s: float
    share: float
    energy_j: float | None
    dram_bytes: float


@dataclass(frozen=True)
class Simulation:
    """The result of :func:`mmworkload.simulating.engine.simulate`.

    Parameters
    ----------
    model: name of the workload.
    chosen, version, fidelity, why: who was asked, how faithfully it could be told the architecture, and why better ones
        were not taken. Who answered is :attr:`simulator` and :attr:`answered`.
    arch, arch_key: the architecture, and a key over all of it that can change a result.
    bits, precision, traced_dtype: bits of a number in this run (None when the architectures differ), why so, and the
    precision of the traced graph.
    layers: rows in program order, part after part.
    critical_path_s: with an accelerator per modality, or with the several of the system side by side (see
    :func:`~mmworkload.simulating.rollup.critical_path_s`).
    fit: what the largest part needs of the DRAM (see :mod:`mmworkload.simulating.footprint`); None for a system.
    transfers: between the architectures of a system, of one sample; empty on one architecture.
    estimates: the checked answer to each loop nest, with its mapping, by (architecture, key of the problem).
    concurrency: modalities on several accelerators; None for fewer than two modalities, and for a system.
    on_chip: savings when tensors that fit stay on the chip; None without a shared buffer, and for a system.
    runs: loop nests over all layers; unique_problems: different ones, each simulated once; cache_hits: of those,
    answers that were known; failures: of those, ones that the simulator could not answer.
    seconds: wall-clock time of this simulation.
    device_notes: what to know of a GPU or CPU: where its figures are from, and whether launches are charged.
    assumptions: notes of the model, assumptions of its layers, and what was left to the host.
    """

    model: str
    chosen: str
    version: str
    fidelity: str
    why: str
    arch: str
    arch_key: str
    bits: int | None
    precision: str
    traced_dtype: str
    layers: tuple[LayerResult, ...]
    critical_path_s: float
    on_chip: OnChip | None
    runs: int
    unique_problems: int
    cache_hits: int
    failures: int
    seconds: float
    assumptions: tuple[str, ...] = ()
    device_notes: tuple[str, ...] = ()
    fit: Fit | None = None
    transfers: tuple[Transfer, ...] = ()
    estimates: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    concurrency: Concurrency | None = None

    def __repr__(self) -> str:
        latency = f"{self.serial_latency_s:.4g} s one after another"
        return f"<Simulation of {self.model!r} on {self.arch!r}: {len(self.layers):,} layers, {latency}>"

    @cached_property
    def totals(self) -> Totals:
        """Sums over all layers."""
        return self.totals_of(self.layers)

    @cached_property
    def serial_latency_s(self) -> float:
        """Seconds when one accelerator runs all layers one after another."""
        return sum(row.latency_s * row.weight for row in self.layers)

    @property
    def energy_j(self) -> float | None:
        return self.totals.energy_j

    @cached_property
    def energy_by_component_j(self) -> dict[str, float]:
        """Level, ``mac``, ``vector`` or ``leakage`` to joules, in a system behind the architecture's name; empty when
        a layer has no energy."""
        several = len({row.arch for row in self.layers}) > 1
        found: dict[str, float] = {}
        for row in self.layers:
            if row.energy_j is None:
                return {}
            for component, joules in row.energy_by_component_j.items():
                name = f"{row.arch}: {component}" if several else component
                found[name] = found.get(name, 0.0) + joules * row.weight
        return found

    @property
    def transfer_s(self) -> float:
        """Seconds of all transfers between architectures, which no other figure contains."""
        return sum(item.seconds for item in self.transfers)

    @property
    def dram_bytes(self) -> float:
        """Bytes through DRAM with every tensor going there and back."""
        return self.totals.dram_bytes

    @property
    def floored(self) -> int:
        """Layers whose cycles were raised to a physical floor."""
        return len({(row.phase, row.layer) for row in self.layers if row.floored_from is not None})

    @cached_property
    def answered(self) -> tuple[Answered, ...]:
        """Who answered which part, by the rows: layers with MACs first, of these those of the chosen simulator."""
        groups = self._by(lambda row: (not row.matrix, row.simulator))
        versions: dict[str, dict[str, None]] = {}
        for item in self.estimates.values():
            versions.setdefault(item.simulator, {})[item.version] = None
        versions.setdefault(self.chosen, {self.version: None})
        ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != self.chosen))
        totals = [(key, self.totals_of(rows)) for key, rows in ordered]
        return tuple(
            Answered(name, "; ".join(versions.get(name, ())), not without, item.layers, item.share)
            for (without, name), item in totals
        )

    @property
    def simulator(self) -> str:
        """Who answered the layers with MACs, or all where none has any; several names are joined by ``+``."""
        names = [item.simulator for item in self.answered if item.matrix] or [item.simulator for item in self.answered]
        return "+".join(dict.fromkeys(one for name in names for one in name.split("+"))) or self.chosen

    @property
    def fallbacks(self) -> int:
        """Layers with MACs that the chosen simulator could not answer, at least in part, and the roofline did."""
        return sum(item.layers for item in self.answered if item.matrix and item.simulator != self.chosen)

    def stages(self) -> dict[str, Totals]:
        """Totals by stage, in order of first use."""
        return {stage: self.totals_of(rows) for stage, rows in self._by(lambda row: row.stage).items()}

    def phases(self) -> dict[str, Totals]:
        """Totals by phase, in order of first use."""
        return {phase: self.totals_of(rows) for phase, rows in self._by(lambda row: row.phase).items()}

    def by_layer(self) -> dict[tuple[str, str], list[LayerResult]]:
        """(phase, name) of each layer of the network to its rows: several where its phase was sampled."""
        return self._by(lambda row: (row.phase, row.layer))

    def _by(self, key: Callable[[LayerResult], Key]) -> dict[Key, list[LayerResult]]:
        groups: dict[Key, list[LayerResult]] = {}
        for row in self.layers:
            groups.setdefault(key(row), []).append(row)
        return groups

    @cached_property
    def encoder_s(self) -> dict[str, float]:
        """Modality to serial seconds of its encoder."""
        return encoders({stage: totals.latency_s for stage, totals in self.stages().items()})

    @property
    def straggler(self) -> Straggler:
        """The slowest encoder."""
        return straggler(self.encoder_s)

    def busy(self, rows: Iterable[LayerResult]) -> float | None:
        """How much of the array works over the time of ``rows``, 0 to 1; None when they take none."""
        rows = list(rows)
        cycles = sum(row.cycles * row.weight for row in rows)
        return sum(row.utilization * row.cycles * row.weight for row in rows) / cycles if cycles else None

    def totals_of(self, rows: Iterable[LayerResult]) -> Totals:
        """Totals of ``rows``, which are some of :attr:`layers`."""
        rows = list(rows)
        energies = [row.energy_j for row in rows]
        latency_s = sum(row.latency_s * row.weight for row in rows)
        return Totals(
            layers=len({(row.phase, row.layer) for row in rows}),
            macs=sum(row.macs * row.weight for row in rows),
            cycles=sum(row.cycles * row.weight for row in rows),
            latency_s=latency_s,
            share=latency_s / self.serial_latency_s if self.serial_latency_s else 0.0,
            energy_j=None if None in energies else sum((row.energy_j or 0.0) * row.weight for row in rows),
            dram_bytes=sum(row.dram_bytes * row.weight for row in rows),
        )

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer over all its runs in its phase, a table of plain columns (docs/json.md).

        Energy by component is a column ``energy_<component>_j`` each, traffic by level ``traffic_<level>_bytes``.
        """
        import pandas

        groups = list(self.by_layer().values())
        components = dict.fromkeys(name for row in self.layers for name in row.energy_by_component_j)
        levels = dict.fromkeys(name for row in self.layers for name in row.traffic_bytes)
        rows = [self._flat(group, components, levels) for group in groups]
        return pandas.DataFrame(rows, columns=None if rows else _COLUMNS)

    def _flat(self, rows: list[LayerResult], components: Iterable[str], levels: Iterable[str]) -> dict[str, Any]:
        first, totals = rows[0], self.totals_of(rows)
        values = {
            "layer": first.layer,
            "phase": first.phase,
            "runs": _whole(sum(row.weight for row in rows)),
            "op": first.op,
            "stage": first.stage,
            "modality": first.modality,
            "macs": _whole(totals.macs),
            "outer_macs": _whole(sum(row.outer_macs * row.weight for row in rows)),
            "cycles": _whole(totals.cycles),
            "latency_s": totals.latency_s,
            "share": totals.share,
            "energy_j": totals.energy_j,
            "utilization": self.busy(rows),
            "bound": first.bound,
            "dram_bytes": _whole(totals.dram_bytes),
            "simulator": first.simulator,
            "floored_from": first.floored_from,
            "note": first.note,
            "arch": first.arch,
            "energy_basis": first.energy_basis,
            "includes": "; ".join(first.includes),
        }
        for name in components:
            joules = sum(row.energy_by_component_j.get(name, 0.0) * row.weight for row in rows)
            values[f"energy_{name}_j"] = None if totals.energy_j is None else joules
        for name in levels:
            sizes = (sum(row.traffic_bytes.get(name, {}).values()) * row.weight for row in rows)
            values[f"traffic_{name}_bytes"] = _whole(sum(sizes))
        return values

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        slowest = self.straggler
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "simulator": self.simulator,
            "answered": [asdict(item) for item in self.answered],
            "chosen": self.chosen,
            "version": self.version,
            "fidelity": self.fidelity,
            "why": self.why,
            "arch": self.arch,
            "arch_key": self.arch_key,
            "bits": self.bits,
            "precision": self.precision,
            "traced_dtype": self.traced_dtype,
            "serial_latency_s": self.serial_latency_s,
            "critical_path_s": self.critical_path_s,
            "energy_j": self.energy_j,
            "energy_by_component_j": self.energy_by_component_j,
            "dram_bytes": self.dram_bytes,
            "on_chip": None if self.on_chip is None else asdict(self.on_chip),
            "stages": {stage: asdict(totals) for stage, totals in self.stages().items()},
            "encoder_s": self.encoder_s,
            "straggler": asdict(slowest),
            "concurrency": None if self.concurrency is None else self.concurrency.to_dict(),
            "runs": self.runs,
            "unique_problems": self.unique_problems,
            "cache_hits": self.cache_hits,
            "failures": self.failures,
            "floored": self.floored,
            "fallbacks": self.fallbacks,
            "seconds": self.seconds,
            "device_notes": list(self.device_notes),
            "assumptions": list(self.assumptions),
            "fit": None if self.fit is None else {**asdict(self.fit), "fits": self.fit.fits},
            "transfers": [asdict(item) for item in self.transfers],
            "transfer_s": self.transfer_s,
            "estimates": [
                {"arch": arch, "problem": key, **item.to_dict()} for (arch, key), item in self.estimates.items()
            ],
            "layers": [asdict(row) for row in self.layers],
        }


def _whole(value: float) -> float:
    """A count as an integer where it is one."""
    return int(value) if value == int(value) else value
