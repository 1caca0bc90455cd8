"""From the file of a sweep to what its designs are evaluated with; everything that can be refused is refused here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, MmworkloadError, SimulationError, UnknownNameError, one_line
from mmworkload.graph import Workload
from mmworkload.plugins import plugins
from mmworkload.problem import ROLES
from mmworkload.simulating.choice import choices, choose, simulators
from mmworkload.simulating.engine import DTYPE_BITS, as_run
from mmworkload.simulating.estimate import Options, Simulator
from mmworkload.sweeping.conditions import NEED_ENERGY
from mmworkload.sweeping.space import Space, require_paths
from mmworkload.sweeping.spec import SweepSpec
from mmworkload.sweeping.store import Store
from mmworkload.sweeping.workloads import Entry, expand, load_workloads
from mmworkload.system import System
from mmworkload.system import parse as parse_system
from mmworkload.versions import versions

RECORDED = "recorded"


@dataclass(frozen=True)
class Setup:
    """A sweep that can run. ``simulator`` and ``estimator`` are never ``auto``: one answers for all designs, for what
    two simulators say cannot be compared. ``workloads`` are by batch, then by name."""

    spec: SweepSpec
    space: Space
    bases: dict[str, Architecture | System]
    entries: tuple[Entry, ...]
    workloads: dict[int | None, dict[str, Workload]]
    simulator: str
    version: str
    fidelity: str
    estimator: str
    why: str

    @property
    def options(self) -> Options:
        return _options(self.spec)

    @property
    def tool(self) -> Simulator:
        found: Simulator = simulators()[self.simulator]
        configured = getattr(found, "configured", None)
        return configured(self.options) if configured else found

    @property
    def state(self) -> dict[str, Any]:
        """What has to be the same when the sweep goes on."""
        return {"simulator": self.simulator, "version": self.version, "estimator": self.estimator}

    @property
    def notes(self) -> dict[str, str]:
        """What the report says besides: how faithfully the simulator is told the architectures, and our version."""
        return {"fidelity": self.fidelity, "mmworkload": versions().get("mmworkload", "unknown")}


def prepare(
    spec: SweepSpec,
    store: Store,
    *,
    where: str = "sweep",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Setup:
    """Reads architectures and workloads and chooses the simulator; what was chosen for a sweep that exists holds.

    FormatError with the YAML path: an unknown architecture, path, workload, dtype or metric, or a metric that simulator
    or architecture do not give. UnavailableError when the simulator cannot run here.
    """
    bases = {name: _base(name, spec, where) for name in spec.arch.bases}
    require_paths(spec, bases, where)
    if spec.dtype is not None and spec.dtype not in DTYPE_BITS:
        raise FormatError(f"{where}: dtype: {UnknownNameError('dtype', spec.dtype, DTYPE_BITS)}")
    space = Space(spec, bases)
    if spec.search.method == "grid":
        space.count()
    entries = expand(spec.workloads, where)
    names = tuple(entry.name for entry in entries)
    for key, terms in (("objectives", spec.goals), ("constraints", tuple(item.term for item in spec.conditions))):
        for term in terms:
            try:
                term.require(names)
            except MmworkloadError as error:
                raise FormatError(f"{where}: {key}: {error}") from error
    kept = store.state if store.exists else {}
    _require_simulator(kept.get("simulator") or spec.simulator, spec, bases, where)
    _require_metrics(spec, bases, where)
    workloads = {batch: load_workloads(names, batch, store.graphs, progress) for batch in spec.batches}
    simulator, why = _simulator(spec, bases, kept.get("simulator"), workloads)
    options = _options(spec)
    chosen = [choose(simulator, arch, options) for base in bases.values() for arch in System.of(base).architectures]
    version = chosen[0].version
    fidelity = "; ".join(dict.fromkeys(str(item.fidelity) for item in chosen))
    estimator = kept.get("estimator") or _estimator(spec)
    return Setup(spec, space, bases, entries, workloads, simulator, version, fidelity, estimator, why)


def with_spec(setup: Setup, **changes: Any) -> Setup:
    """The same with parts of the file changed; axes and workloads stay."""
    spec = setup.spec.model_copy(update=changes)
    return replace(setup, spec=spec, space=Space(spec, setup.bases))


def _base(name: str, spec: SweepSpec, where: str) -> Architecture | System:
    try:
        if "=" in name:
            return parse_system(name, lambda item: architectures.load(item, spec.dtype))
        return architectures.load(name, spec.dtype)
    except MmworkloadError as error:
        raise FormatError(f"{where}: arch.base: {error}") from error


def _options(spec: SweepSpec) -> Options:
    return Options(effort=spec.effort, limit_s=spec.limit_s, extra=dict(spec.options))


def _machines(bases: dict[str, Architecture | System]) -> list[Architecture]:
    found = {arch.label: arch for base in bases.values() for arch in System.of(base).architectures}
    return list(found.values())


def _require_simulator(name: str, spec: SweepSpec, bases: dict[str, Architecture | System], where: str) -> None:
    """FormatError for a name that does not exist, UnavailableError for one that cannot run: told before tracing."""
    try:
        choices(name, _machines(bases), _options(spec))
    except UnknownNameError as error:
        raise FormatError(f"{where}: simulator: {error}") from error


def _simulator(
    spec: SweepSpec,
    bases: dict[str, Architecture | System],
    kept: str | None,
    workloads: Mapping[int | None, Mapping[str, Workload]],
) -> tuple[str, str]:
    """The one simulator, and why it is not a better one. ``auto`` passes over one that refuses a loop nest on an
    architecture as it is in its file."""
    asked = kept or spec.simulator
    if asked != "auto":
        return asked, ""
    # Recorded answers are of designs as they are in their files, and the others would be another simulator's.
    *before, last = (
        item for item in choices(asked, _machines(bases), _options(spec)) if item.simulator.name != RECORDED
    )
    passed: list[str] = []
    for choice in before:
        refused = _refused(choice.simulator, spec, bases, workloads)
        if not refused:
            return choice.simulator.name, _joined(choice.why, passed)
        passed.append(f"{choice.simulator.name}: {refused}")
    return last.simulator.name, _joined(last.why, passed)


def _joined(why: str, passed: Iterable[str]) -> str:
    return "; ".join(filter(None, [why, *passed]))


def _refused(
    simulator: Simulator,
    spec: SweepSpec,
    bases: dict[str, Architecture | System],
    workloads: Mapping[int | None, Mapping[str, Workload]],
) -> str:
    """Why the simulator cannot be told a loop nest of the sweep; empty when it can."""
    asked: set[tuple[str, str]] = set()
    for base in bases.values():
        system = System.of(base)
        for part in (part for found in workloads.values() for one in found.values() for part in one.parts):
            for layer in part.graph:
                if layer.placement != "device":
                    continue
                arch = system.runs(layer.stage)
                bits = arch.bits if spec.dtype is None else dict.fromkeys(ROLES, DTYPE_BITS[spec.dtype])
                for problem in as_run([layer], bits).values():
                    if (arch.label, problem.key) in asked:
                        continue
                    asked.add((arch.label, problem.key))
                    try:
                        simulator.prepare(problem, arch, _options(spec))
                    except SimulationError as error:
                        return f"refused layer '{layer.name}' of {part.graph.model}: {one_line(error)[:160]}"
    return ""


def _require_metrics(spec: SweepSpec, bases: dict[str, Architecture | System], where: str) -> None:
    """FormatError for a metric that an architecture does not give."""
    for name, base in bases.items():
        for arch in System.of(base).architectures:
            for term in spec.terms:
                if term.metric in NEED_ENERGY and not arch.charged:
                    raise FormatError(
                        f"{where}: {term} cannot be asked for: {name} ({arch.kind}) has no energies; ask for latency_s"
                    )
                if term.metric == "area_mm2" and not arch.area_mm2:
                    raise FormatError(f"{where}: {term} cannot be asked for: {name} has no areas; ask for latency_s")


def _estimator(spec: SweepSpec) -> str:
    """Who estimates stale figures, decided once: finding out whether Accelergy is here costs more than the law."""
    if spec.arch.estimator != "auto":
        return spec.arch.estimator
    found = plugins("mmworkload.exporters", "ENERGY_ESTIMATOR").values()
    tool = next((item for item in found if item.name == "accelergy"), None)
    return "accelergy" if tool is not None and not tool.unavailable() else "law"


def area_mm2(arch: Architecture | System) -> float | None:
    """Of all architectures together; None when that of one is not known."""
    areas = [item.area_mm2 for item in System.of(arch).architectures]
    return None if None in areas else sum(filter(None, areas))
