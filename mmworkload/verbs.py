"""The verbs in Python: ``trace``, ``export``, ``simulate``, ``measure``, ``validate``. The command line calls these.

A source is a model name, the path of a saved graph, a :class:`LayerGraph` or a :class:`Workload`; an architecture is a
name, the path of a YAML file, or an :class:`Architecture`. ``how`` says more about a model: batch, dtype, settings of
its parameters, stages, end_to_end, inputs (:class:`mmworkload.models.Options`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, MmworkloadError, UnknownOperatorError
from mmworkload.exporting import Export, Exports, write_all, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.models.names import SCHEMES, Options
from mmworkload.system import System
from mmworkload.system import parse as parse_system

if TYPE_CHECKING:
    from mmworkload.measuring.result import Measurement
    from mmworkload.simulating.engine import Simulation
    from mmworkload.tracing import Traced
    from mmworkload.validating import Validation

Source = str | Path | LayerGraph | Workload
GRAPH_SUFFIXES = (".json", ".yaml", ".yml")


def is_saved_graph(name: str | Path) -> bool:
    """Whether the name is the path of a saved graph (``hf:config.json`` is a model)."""
    scheme, colon, _ = str(name).partition(":")
    return Path(name).suffix in GRAPH_SUFFIXES and not (colon and scheme in SCHEMES)


def trace(model: Source, *, only: Iterable[str] = (), strict: bool = False, **how: Unpack[Options]) -> LayerGraph:
    """The layer graph of a model; a saved graph or a graph is taken as it is.

    ``only`` keeps the layers of these stage globs, ``strict`` refuses operators without a lowering. Without torch, a
    workload at its defaults comes from its snapshot. Raises MmworkloadError (unknown name, a model that cannot be
    traced, a corrupt file).
    """
    graph = _load(model, how)
    if strict:
        require_known(graph)
    return graph.only(only)


def _load(model: Source, how: Options) -> LayerGraph:
    graph: LayerGraph | None = None
    if isinstance(model, Workload):
        if len(model.parts) != 1:
            raise MmworkloadError(
                f"{model.name} has {len(model.parts)} parts; take one of them: workload.parts[0].graph"
            )
        graph = model.parts[0].graph
    elif isinstance(model, LayerGraph):
        graph = model
    elif is_saved_graph(model):
        graph = LayerGraph.load(model)
    if graph is not None:
        if how.get("batch") not in (None, graph.batch):
            raise MmworkloadError(
                f"the graph was traced with batch {graph.batch}; trace the model again for batch {how.get('batch')}"
            )
        for option in ("settings", "stages", "end_to_end", "inputs"):
            if how.get(option):
                raise MmworkloadError(f"{graph.model} is traced already: '{option}' cannot be changed; trace it again")
        return graph
    said = {option for option, value in how.items() if value} - ({"dtype"} if how.get("dtype") == "float32" else set())
    if importlib.util.find_spec("torch") is None and not said:
        snapshot = _snapshot(str(model))
        if snapshot is not None:
            return snapshot
    return _traced(str(model), how).graph


def _snapshot(name: str) -> LayerGraph | None:
    from mmworkload.models import families
    from mmworkload.tracing.snapshot import path_of

    family_name, _, variant = name.partition("/")
    family = families().get(family_name)
    path = path_of(f"{family_name}/{family.variant(variant, family_name).name}") if family else None
    return LayerGraph.load(path) if path else None


def _traced(name: str, how: Options) -> Traced:
    from mmworkload.models import resolve
    from mmworkload.tracing import trace_model

    return trace_model(resolve(name, **how))


def require_known(graph: LayerGraph) -> LayerGraph:
    """``strict``: the graph itself, or UnknownOperatorError that lists every operator without a lowering."""
    unknown = [item for item in graph.coverage if item.treatment == "unknown"]
    if unknown:
        places = "; ".join(
            f"{item.operator} in '{item.module or 'the root module'}' ({item.calls} calls)" for item in unknown
        )
        raise UnknownOperatorError(
            f"{graph.model}: operators without a lowering: {places}. Add one (CONTRIBUTING.md, 'A lowering'), or pass"
            " --no-strict to count their bytes only."
        )
    return graph


def _workload(source: Source, only: Iterable[str], strict: bool, how: Options) -> Workload:
    wanted = list(only)
    if isinstance(source, Workload):
        parts = [(part, require_known(part.graph) if strict else part.graph) for part in source.parts]
        return Workload(
            source.name,
            tuple(Part(graph.only(wanted), part.name, part.count, part.sequential) for part, graph in parts),
        )
    return Workload.of(trace(source, only=wanted, strict=strict, **how))


Arch = str | Path | Architecture | System


def architecture(
    arch: Arch, *, dtype: str | None = None, settings: Mapping[str, Any] | None = None
) -> Architecture | System:
    """An architecture by name, from a file or folder, or as it is; a system from ``STAGE=ARCH,STAGE=ARCH``.

    ``dtype`` chooses a GPU's peak. ``settings`` override parameters by path, in a system behind the architecture's name
    (``nvdla_like:array.x``). Raises MmworkloadError.
    """
    if isinstance(arch, str) and "=" in arch:
        found: Architecture | System = parse_system(arch, lambda name: architectures.load(name, dtype))
    else:
        found = arch if isinstance(arch, Architecture | System) else architectures.load(arch, dtype)
    if not settings:
        return found
    from mmworkload.overriding import overridden

    return overridden(found, settings) if isinstance(found, Architecture) else found.each(settings, overridden)


def machine(arch: Arch, how: Options) -> Architecture | System:
    """The architecture, with its own settings taken out of those in ``how`` that came for the model."""
    said = how.get("settings") or {}
    own = {}
    if said:
        from mmworkload.overriding import is_path

        own = {path: value for path, value in said.items() if is_path(path.rpartition(":")[2])}
        how["settings"] = {name: value for name, value in said.items() if name not in own}
    found = architecture(arch, dtype=how.get("dtype"), settings=own)
    if how.get("dtype") == "tf32":
        # A precision of units, not of tensors.
        how["dtype"] = "float32"
    return found


def export(
    target: str,
    source: Source,
    arch: Arch,
    output: str | Path,
    *,
    only: Iterable[str] = (),
    strict: bool = True,
    **how: Unpack[Options],
) -> Export:
    """Writes ``source`` for a tool into the folder ``output``, which appears whole or not at all.

    Raises MmworkloadError: unknown exporter or architecture, unknown operators under ``strict``, a folder that holds
    other files.
    """
    workload, spec = _for_export(source, arch, only, strict, how)
    return write_export(target, workload, spec, output, workload.parts[0].graph.versions)


def export_all(
    source: Source,
    arch: Arch,
    output: str | Path,
    *,
    only: Iterable[str] = (),
    strict: bool = True,
    **how: Unpack[Options],
) -> Exports:
    """Writes ``source`` for every tool, side by side in folders under ``output``.

    A tool that cannot be told the architecture is left out with its reason. Raises MmworkloadError as :func:`export`.
    """
    workload, spec = _for_export(source, arch, only, strict, how)
    return write_all(workload, spec, output, workload.parts[0].graph.versions)


def _for_export(
    source: Source, arch: Arch, only: Iterable[str], strict: bool, how: Options
) -> tuple[Workload, Architecture]:
    spec = machine(arch, how)
    if isinstance(spec, System):
        raise ArchitectureError(f"{spec.label}: an export is for one architecture; export each stage with --only")
    return _workload(source, only, strict, how), spec


def simulate(
    source: Source,
    arch: Arch,
    *,
    simulator: str = "auto",
    only: Iterable[str] = (),
    strict: bool = True,
    effort: str = "normal",
    limit_s: float = 300.0,
    workers: int | None = None,
    cache: bool = True,
    retry: bool = False,
    extra: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **how: Unpack[Options],
) -> Simulation:
    """Estimates cycles, latency and energy of every layer.

    ``dtype`` forces the operand bits; by default they are the architecture's native precision. ``limit_s`` is the
    wall-clock limit of one job, ``retry`` runs again what failed before, ``extra`` is what one simulator understands
    (``timeloop_runner``). A simulator that was asked for by name and
    hangs or crashes is an error; under ``auto`` the roofline answers and the row says so. Raises MmworkloadError.
    """
    from mmworkload.simulating import engine
    from mmworkload.simulating.estimate import Options

    spec = machine(arch, how)
    workload = _workload(source, only, strict, how)
    return engine.simulate(
        workload,
        spec,
        simulator,
        dtype=how.get("dtype"),
        workers=workers,
        options=Options(effort=effort, limit_s=limit_s, extra=dict(extra or {})),
        cache=cache,
        retry=retry,
        fallback=simulator == "auto",
        progress=progress,
    )


def measure(
    model: str,
    *,
    device: str = "cpu",
    only: Iterable[str] = (),
    warmup: int = 10,
    repeats: int = 50,
    limit_s: float = 60.0,
    traced: Traced | None = None,
    progress: Callable[[int, int], None] | None = None,
    **how: Unpack[Options],
) -> Measurement:
    """Times a model on ``device`` (``cpu`` or ``cuda``): eager, as a graph, and layer by layer.

    ``warmup``, ``repeats``, ``limit_s``, ``traced``: see :func:`mmworkload.measuring.measure`. Raises MmworkloadError.
    """
    from mmworkload.measuring import measure as run
    from mmworkload.models import resolve

    _require_runnable(model)
    return run(
        resolve(model, **how),
        device=device,
        only=tuple(only),
        warmup=warmup,
        repeats=repeats,
        limit_s=limit_s,
        traced=traced,
        progress=progress,
    )


def _require_runnable(model: str) -> None:
    """MmworkloadError for a saved graph."""
    if is_saved_graph(model):
        raise MmworkloadError(f"{model} is a saved graph, which cannot be run; measure the model itself")


@dataclass(frozen=True)
class Report:
    """All that ``validate`` found: the graph, both sides and their comparison."""

    graph: LayerGraph
    measurement: Measurement
    simulation: Simulation
    validation: Validation

    def write_html(self, path: str | Path) -> None:
        """One self-contained HTML file, whole or not at all."""
        from mmworkload.reporting.html import write_html

        write_html(self.validation, self.graph, self.measurement, self.simulation, Path(path))

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "validation": self.validation.to_dict(),
            "measurement": self.measurement.to_dict(),
            "simulation": self.simulation.to_dict(),
        }


def validate(
    model: str,
    arch: Arch,
    *,
    device: str = "cpu",
    simulator: str = "auto",
    only: Iterable[str] = (),
    measurement: Measurement | None = None,
    strict: bool = True,
    effort: str = "normal",
    limit_s: float = 300.0,
    workers: int | None = None,
    cache: bool = True,
    retry: bool = False,
    extra: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **how: Unpack[Options],
) -> Report:
    """Measures and simulates the same layers and puts them side by side.

    ``effort`` to ``progress`` are those of :func:`simulate`. ``measurement`` (one that was taken earlier, on another
    machine perhaps) replaces the measuring; batch and the graph's dtype are then its own. ``dtype`` forces the operand
    bits of the simulated side too. Raises MmworkloadError, also when the measurement is of another model or batch.
    """
    from mmworkload.validating import compare

    wanted = tuple(only)
    forced = how.get("dtype")
    spec = machine(arch, how)
    traced = None
    if measurement is None:
        _require_runnable(model)
        traced = _traced(model, how)
        graph = trace(traced.graph, strict=strict)
    else:
        if how.get("batch") is None:
            how["batch"] = measurement.batch
        how["dtype"] = measurement.dtype
        graph = trace(model, strict=strict, **how)
        if (measurement.model, measurement.batch) != (graph.model, graph.batch):
            raise MmworkloadError(
                f"the measurement is of {measurement.model} at batch {measurement.batch}, the graph of {graph.model} at"
                f" batch {graph.batch}"
            )
    part = graph.only(wanted)
    simulation = simulate(
        part,
        spec,
        simulator=simulator,
        strict=False,
        effort=effort,
        limit_s=limit_s,
        workers=workers,
        cache=cache,
        retry=retry,
        extra=extra,
        progress=progress,
        dtype=forced,
    )
    if measurement is None:
        measurement = measure(model, device=device, only=wanted, traced=traced, **how)
    elif wanted:
        inside = {layer.name for layer in part}
        kept = tuple(item for item in measurement.layers if item.layer in inside)
        measurement = replace(measurement, layers=kept, only=wanted)
    return Report(part, measurement, simulation, compare(part, measurement, simulation))
