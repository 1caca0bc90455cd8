"""The verbs in Python: ``trace``, ``export``, ``simulate``, ``measure``, ``validate``. The command line calls these.

A source is a model name, the path of a saved graph, a :class:`LayerGraph` or a :class:`Workload`; an architecture is a
name, the path of a YAML file, or an :class:`Architecture`. ``how`` says more about a model: batch, dtype, settings of
its parameters, stages, end_to_end, inputs (:class:`mmworkload.models.Options`).
"""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, MmworkloadError, UnknownNameError, UnknownOperatorError
from mmworkload.exits.settings import split_exits
from mmworkload.exporting import Export, Exports, write_all, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.models.names import SCHEMES, Options
from mmworkload.system import System
from mmworkload.system import parse as parse_system

if TYPE_CHECKING:
    from mmworkload.exits.network import ExitNetwork
    from mmworkload.generation import Generation, Sampled
    from mmworkload.measuring.folder import Result
    from mmworkload.measuring.result import Measurement
    from mmworkload.simulating.engine import Simulation
    from mmworkload.tracing import Traced
    from mmworkload.validating.report import Report, Study

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


def exit_network(source: Source, how: Options) -> ExitNetwork | None:
    """The network with exits that a name asks for (``av-mnist/concat+exits?p=0.3``); None for any other source."""
    base, settings = split_exits(source) if isinstance(source, str) else ("", None)
    if settings is None:
        return None
    from mmworkload.exits import with_exits

    return with_exits(_load(base, how), settings)


def _load(model: Source, how: Options) -> LayerGraph:
    network = exit_network(model, how)
    if network is not None:
        return network.graph
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
    network = exit_network(source, how)
    if network is not None:
        return _workload(network.workload(), wanted, strict, {})
    sampled = _sampled(source, how)
    if sampled is not None:
        kept = tuple(part for part in sampled.workload.parts if part.count)
        return _workload(replace(sampled.workload, parts=kept), wanted, strict, {})
    if isinstance(source, Workload):
        parts = [(part, require_known(part.graph) if strict else part.graph) for part in source.parts]
        stages = dict.fromkeys(layer.stage for _, graph in parts for layer in graph)
        if wanted and not any(fnmatch.fnmatch(stage, glob) for stage in stages for glob in wanted):
            raise UnknownNameError("stage", ", ".join(wanted), stages)
        # A part may have nothing of a stage that others have.
        having = [(part, graph) for part, graph in parts if not wanted or _has(graph, wanted)]
        return Workload(
            source.name,
            tuple(Part(graph.only(wanted), part.name, part.count, part.sequential) for part, graph in having),
        )
    return Workload.of(trace(source, only=wanted, strict=strict, **how))


def _has(graph: LayerGraph, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(layer.stage, glob) for layer in graph for glob in globs)


def generation(source: Source, **how: Unpack[Options]) -> Generation | None:
    """The generation behind a name, with exact totals over all its steps; None for any other source.

    Raises MmworkloadError.
    """
    if not isinstance(source, str) or is_saved_graph(source) or split_exits(source)[1] is not None:
        return None
    from mmworkload.generation import resolve_generation

    return resolve_generation(source, **how)


def _sampled(source: Source, how: Options) -> Sampled | None:
    """The phases of a generation, the growing ones at a few lengths; None for any other source."""
    found = generation(source, **how)
    return found.sampled() if found is not None else None


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
    sampled = _sampled(source, how)
    workload = _workload(sampled.workload if sampled else source, only, strict, how)
    result = engine.simulate(
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
    return sampled.told(result) if sampled else result


def measure(model: str, **options: Any) -> Measurement:
    """Times a model: the measurement of :func:`measure_result`, whose arguments and errors are the same."""
    return measure_result(model, **options).measurement


def measure_result(
    model: str,
    *,
    device: str = "cpu",
    only: Iterable[str] = (),
    warmup: int = 10,
    repeats: int = 50,
    limit_s: float = 60.0,
    compiled: bool = False,
    cuda_graph: bool = False,
    energy: bool = False,
    counters: bool = False,
    traced: Traced | None = None,
    progress: Callable[[int, int], None] | None = None,
    **how: Unpack[Options],
) -> Result:
    """Times a model on ``device`` (``cpu`` or ``cuda``): eager, stage by stage, layer by layer, kernel by kernel.

    Gives the measurement with its graph and frames, which :mod:`mmworkload.measuring.folder` saves and loads.
    ``counters`` reads the GPU's hardware counters of ``only`` in a further pass
    (:func:`mmworkload.measuring.counters.with_counters`). ``warmup`` to ``traced`` without it: see
    :func:`mmworkload.measuring.measure_result`. Raises MmworkloadError.
    """
    from mmworkload.measuring import measure_result as run
    from mmworkload.measuring.counters import require_counters, with_counters
    from mmworkload.models import resolve

    _require_runnable(model)
    if counters:
        require_counters(device)
    result = run(
        resolve(model, **how),
        device=device,
        only=tuple(only),
        warmup=warmup,
        repeats=repeats,
        limit_s=limit_s,
        compiled=compiled,
        cuda_graph=cuda_graph,
        energy=energy,
        traced=traced,
        progress=progress,
    )
    return with_counters(result, model, how) if counters else result


def _require_runnable(model: str) -> None:
    """MmworkloadError for a saved graph."""
    if is_saved_graph(model):
        raise MmworkloadError(f"{model} is a saved graph, which cannot be run; measure the model itself")


def validate(
    model: str | Workload,
    arch: Arch,
    *,
    device: str = "cpu",
    simulator: str = "auto",
    only: Iterable[str] = (),
    measurement: Measurement | Sequence[Measurement] | None = None,
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
    machine perhaps; of a workload of several parts one for each) replaces the measuring; batch and the graph's dtype
    are then its own. ``dtype`` forces the operand bits of the simulated side too. Raises MmworkloadError, also when the
    measurement is of another model or batch.
    """
    from mmworkload.measuring.result import Measurement

    taken = (measurement,) if isinstance(measurement, Measurement) else tuple(measurement or ())
    asked = _Asked(
        device,
        tuple(only),
        strict,
        {
            "effort": effort,
            "limit_s": limit_s,
            "workers": workers,
            "cache": cache,
            "retry": retry,
            "extra": extra,
            "progress": progress,
        },
    )
    case = _case(model, taken, asked, how)
    (spec,) = _machines([arch], case, how)
    simulation = case.simulate(spec, simulator, asked, how)
    case = case.measured(asked)
    return _report(case, spec, simulation, _device([spec], case))


def validate_all(
    models: Sequence[str | Workload],
    archs: Sequence[Arch],
    *,
    device: str = "cpu",
    simulators: Sequence[str] = ("auto",),
    only: Iterable[str] = (),
    measurements: Sequence[Measurement] = (),
    graphs: Mapping[tuple[str, int], LayerGraph] | None = None,
    strict: bool = True,
    progress: Callable[[int, int], None] | None = None,
    running: Mapping[str, Any] | None = None,
    **how: Unpack[Options],
) -> Study:
    """Every workload on every architecture by every simulator.

    ``measurements`` belong to the models that they name; those of other models serve the calibration only, and without
    ``models`` all of them are compared. A model without one is measured here, on ``device``. ``graphs`` are by model
    and batch, where they are at hand: what was measured needs no tracing then. On the architecture of the measured
    device, and with measurements of two models or more, the simulator ``calibrated`` is fitted on all other models
    (:mod:`mmworkload.validating.calibration`); ``auto`` brings it along. ``running`` are the options ``effort`` to
    ``extra`` of :func:`simulate`.

    A simulator that cannot answer is named in the result; MmworkloadError when none does, and for all that
    :func:`validate` raises it for.
    """
    from mmworkload.validating import calibration
    from mmworkload.validating.device import describes
    from mmworkload.validating.report import Study

    if not models and not measurements:
        raise MmworkloadError("name a workload, or give measurements with --measured")
    asked = _Asked(device, tuple(only), strict, dict(running or {}))
    cases, others = _cases(models, measurements, dict(graphs or {}), asked, how)
    wanted = [name for name in simulators if name != calibration.NAME]
    machines = {index: _machines(archs, case, how) for index, case in enumerate(cases)}
    steps = sum(len(found) for found in machines.values()) * max(1, len(wanted)) + len(cases)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    reports: dict[int, list[Report]] = {}
    unanswered: dict[str, None] = {}
    bases: dict[tuple[int, str], Simulation] = {}
    for index, case in enumerate(cases):
        answers: list[tuple[Architecture | System, Simulation]] = []
        for spec in machines[index]:
            for name in wanted:
                try:
                    answers.append((spec, case.simulate(spec, name, asked, how)))
                except UnknownNameError:
                    raise
                except MmworkloadError as error:
                    if len(machines[index]) * len(wanted) == 1:
                        raise
                    unanswered[f"{name} on {spec.label} for {case.workload.name}: {error}"] = None
                step()
        cases[index] = case = case.measured(asked)
        step()
        own = _device(machines[index], case)
        if own is not None:
            bases[index, own.key] = case.simulate(own, "roofline", asked, how)
        reports[index] = [_report(case, spec, simulation, own) for spec, simulation in answers]

    splits: list[calibration.Split] = []
    if "auto" in simulators or calibration.NAME in simulators:
        devices = {own.key: own for index, case in enumerate(cases) if (own := _device(machines[index], case))}
        for own in devices.values():
            here = [index for index, case in enumerate(cases) if (index, own.key) in bases]
            known = [pair for index in here for pair in cases[index].pairs]
            known += [pair for pair in others if describes(own, pair[1])]
            tested = {
                cases[index].workload.name: {part.graph.model for part in cases[index].workload.parts} for index in here
            }
            found = calibration.leave_one_out(known, own, tested)
            splits += found
            fitted = {split.tested: split.calibration for split in found}
            for index in here:
                case = cases[index]
                if case.workload.name in fitted:
                    base = bases[index, own.key]
                    made = calibration.calibrated(base, case.workload, own, fitted[case.workload.name])
                    reports[index].append(_report(case, own, made, own))
        if calibration.NAME in simulators and not splits:
            raise MmworkloadError(
                "the calibrated model is fitted on other workloads than the one under test: give an architecture of the"
                " measured device (--arch host, or the GPU by name) and measurements of two workloads or more"
            )
    found_reports = tuple(item for index in sorted(reports) for item in reports[index])
    if not found_reports:
        raise MmworkloadError("; ".join(unanswered) or "nothing to compare")
    return Study(found_reports, tuple(splits), tuple(unanswered))


@dataclass(frozen=True)
class _Asked:
    """What holds for all comparisons of one call."""

    device: str
    only: tuple[str, ...]
    strict: bool
    running: Mapping[str, Any]


@dataclass(frozen=True)
class _Case:
    """A workload on its way to a comparison: measured already, or with what is needed to do it."""

    workload: Workload
    measurements: tuple[Measurement, ...]
    model: str = ""
    traced: Traced | None = None
    how: Options = field(default_factory=lambda: Options())

    @property
    def dtype(self) -> str | None:
        """What the measured side computes in."""
        return self.measurements[0].dtype if self.measurements else self.how.get("dtype")

    @property
    def pairs(self) -> list[tuple[LayerGraph, Measurement]]:
        return [(part.graph, taken) for part, taken in zip(self.workload.parts, self.measurements, strict=True)]

    def simulate(self, spec: Architecture | System, simulator: str, asked: _Asked, how: Options) -> Simulation:
        forced = how.get("dtype")
        return simulate(self.workload, spec, simulator=simulator, strict=False, dtype=forced, **asked.running)

    def measured(self, asked: _Asked) -> _Case:
        if self.measurements:
            return self
        taken = measure(self.model, device=asked.device, only=asked.only, traced=self.traced, **self.how)
        return replace(self, measurements=(taken,))


def _case(
    model: str | Workload,
    taken: Sequence[Measurement],
    asked: _Asked,
    how: Options,
    graphs: Mapping[tuple[str, int], LayerGraph] | None = None,
) -> _Case:
    own: Options = {**how}
    if isinstance(model, Workload):
        if not taken:
            raise MmworkloadError(f"{model.name}: a workload of parts is compared with a measurement of each part")
        if len(taken) != len(model.parts):
            raise MmworkloadError(
                f"{model.name} has {len(model.parts)} parts and {len(taken)} measurements; give one for each part"
            )
        return _Case(_workload(model, asked.only, asked.strict, own), _narrowed(model, taken, asked.only))
    if not taken:
        _require_runnable(model)
        if own.get("dtype") == "tf32":
            # A precision of units, not of tensors.
            own["dtype"] = "float32"
        own["settings"] = _own_settings(how)[0]
        traced = _traced(model, own)
        graph = trace(traced.graph, strict=asked.strict)
        return _Case(Workload.of(graph.only(asked.only)), (), model, traced, own)
    (measurement,) = taken
    known = (graphs or {}).get((measurement.model, measurement.batch))
    if known is not None:
        graph = require_known(known) if asked.strict else known
    else:
        if own.get("batch") is None:
            own["batch"] = measurement.batch
        own["dtype"] = measurement.dtype
        own["settings"] = _own_settings(how)[0]
        graph = trace(model, strict=asked.strict, **own)
    if (measurement.model, measurement.batch) != (graph.model, graph.batch):
        raise MmworkloadError(
            f"the measurement is of {measurement.model} at batch {measurement.batch}, the graph of {graph.model} at"
            f" batch {graph.batch}"
        )
    part = Workload.of(graph.only(asked.only))
    return _Case(part, _narrowed(part, taken, asked.only))


def _narrowed(workload: Workload, taken: Sequence[Measurement], only: tuple[str, ...]) -> tuple[Measurement, ...]:
    """The measurements with the layers of these stages alone."""
    if not only:
        return tuple(taken)
    found = []
    for part, measurement in zip(workload.parts, taken, strict=True):
        inside = {layer.name for layer in part.graph.only(only)}
        kept = tuple(item for item in measurement.layers if item.layer in inside)
        found.append(replace(measurement, layers=kept, only=only))
    return tuple(found)


def _cases(
    models: Sequence[str | Workload],
    measurements: Sequence[Measurement],
    graphs: Mapping[tuple[str, int], LayerGraph],
    asked: _Asked,
    how: Options,
) -> tuple[list[_Case], list[tuple[LayerGraph, Measurement]]]:
    """What is compared, and what serves the calibration only. MmworkloadError as :func:`_case`."""
    names: Sequence[str | Workload] = models or list(dict.fromkeys(item.model for item in measurements))
    found: list[_Case] = []
    used: set[int] = set()
    for model in names:
        if isinstance(model, Workload):
            wanted = [part.graph.model for part in model.parts]
            by_name = {item.model: item for item in measurements if item.model in wanted}
            missing = [name for name in wanted if name not in by_name]
            if missing:
                raise MmworkloadError(f"{model.name}: no measurement of its parts {', '.join(missing)}")
            found.append(_case(model, [by_name[name] for name in wanted], asked, how))
            used |= {index for index, item in enumerate(measurements) if item.model in wanted}
            continue
        called = model if any(item.model == model for item in measurements) else _full_name(model)
        own = [index for index, item in enumerate(measurements) if item.model == called]
        used |= set(own)
        batch = how.get("batch")
        own = [index for index in own if batch in (None, measurements[index].batch)] or own
        found += [_case(model, [measurements[index]], asked, how, graphs) for index in own]
        if not own:
            found.append(_case(model, (), asked, how))
    others = []
    for index, item in enumerate(measurements):
        if index not in used:
            graph = graphs.get((item.model, item.batch)) or trace(item.model, batch=item.batch, dtype=item.dtype)
            others.append((graph, item))
    return found, others


def _full_name(model: str) -> str:
    """As the measurement of a model is called: with its variant, a saved graph by the model that it is of."""
    if is_saved_graph(model):
        return LayerGraph.load(model).model
    from mmworkload.models import families

    family_name, _, variant = model.partition("/")
    family = families().get(family_name)
    return f"{family_name}/{family.variant(variant, family_name).name}" if family else model


def _own_settings(how: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the model, and those of architectures."""
    from mmworkload.overriding import is_path

    said = how.get("settings") or {}
    of_arch = {path: value for path, value in said.items() if is_path(path.rpartition(":")[2])}
    return {name: value for name, value in said.items() if name not in of_arch}, of_arch


def _machines(archs: Sequence[Arch], case: _Case, how: Options) -> list[Architecture | System]:
    """The architectures, a GPU in the precision of the measured side. A setting without an architecture's name is for
    each of them."""
    settings = _own_settings(how)[1]
    found: list[Architecture | System] = []
    for arch in archs:
        spec = architecture(arch, dtype=how.get("dtype") or case.dtype)
        if settings and isinstance(spec, System):
            spec = architecture(spec, settings=settings)
        elif settings and isinstance(spec, Architecture):
            named = {path.rpartition(":")[2]: value for path, value in settings.items() if _is_for(path, spec.name)}
            spec = architecture(spec, settings=named)
        found.append(spec)
    return found


def _is_for(path: str, name: str) -> bool:
    owner, colon, _ = path.rpartition(":")
    return not colon or owner == name


def _device(specs: Sequence[Architecture | System], case: _Case) -> Architecture | None:
    """The architecture of the device that ``case`` was measured on."""
    from mmworkload.validating.device import describes

    for spec in specs:
        if isinstance(spec, Architecture) and all(describes(spec, item) for item in case.measurements):
            return spec
    return None


def _report(case: _Case, spec: Architecture | System, simulation: Simulation, device: Architecture | None) -> Report:
    from mmworkload.validating.report import report

    alone = spec if isinstance(spec, Architecture) else None
    return report(case.workload, case.measurements, simulation, arch=alone, device=device)
