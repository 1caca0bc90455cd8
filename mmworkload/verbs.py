"""The verbs in Python: ``trace``, ``export``, ``simulate``, ``measure``, ``validate``. The command line calls these.

A source is a model name, the path of a saved graph, a :class:`LayerGraph` or a :class:`Workload`; an architecture is a
name, the path of a YAML file, or an :class:`Architecture`. ``how`` says more about a model: batch, dtype, settings of
its parameters, stages, end_to_end, inputs (:class:`mmworkload.models.Options`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, MmworkloadError, SimulationError, UnknownNameError, one_line
from mmworkload.exporting import MANIFEST, Export, Exports, exporter_for, write_all, write_export
from mmworkload.graph import LayerGraph, Workload
from mmworkload.models.names import Options
from mmworkload.outputs import require_output_folder
from mmworkload.sources import (
    Arch,
    Source,
    architecture,
    generation,
    load_graph,
    load_workload,
    machine,
    require_runnable,
    sampled_generation,
)
from mmworkload.system import System

if TYPE_CHECKING:
    from mmworkload.measuring.combinations import Combination
    from mmworkload.measuring.folder import Result
    from mmworkload.measuring.parts import MeasuredParts
    from mmworkload.measuring.result import Measurement
    from mmworkload.simulating.engine import Simulation
    from mmworkload.simulating.several import Asked, Simulations
    from mmworkload.tracing import Traced
    from mmworkload.validating.report import Report, Study

__all__ = [
    "architecture",
    "export",
    "export_all",
    "generation",
    "measure",
    "measure_combinations",
    "measure_parts",
    "measure_result",
    "simulate",
    "simulate_all",
    "trace",
    "validate",
    "validate_all",
]


def trace(model: Source, *, only: Iterable[str] = (), strict: bool = False, **how: Unpack[Options]) -> LayerGraph:
    """The layer graph of a model; a saved graph or a graph is taken as it is.

    ``only`` keeps the layers of these stage globs, ``strict`` refuses operators without a lowering. Without torch, a
    workload at its defaults comes from its snapshot. Raises MmworkloadError (unknown name, a model that cannot be
    traced, a corrupt file).
    """
    return load_graph(model, how, only=only, strict=strict)


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
    spec, own = _export_arch(arch, how)
    exporter_for(target, spec)
    require_output_folder(output, MANIFEST)
    workload = load_workload(source, only, strict, own)
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
    spec, own = _export_arch(arch, how)
    require_output_folder(output, MANIFEST)
    workload = load_workload(source, only, strict, own)
    return write_all(workload, spec, output, workload.parts[0].graph.versions)


def _export_arch(arch: Arch, how: Options) -> tuple[Architecture, Options]:
    spec, own = machine(arch, how)
    if isinstance(spec, System):
        raise ArchitectureError(f"{spec.label}: an export is for one architecture; export each stage with --only")
    return spec, own


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
    (``timeloop_runner``). Under ``auto`` one simulator answers all layers with MACs, the first in its order that
    answers every one; one that was asked for by name and hangs or crashes is an error. Raises MmworkloadError.
    """
    from mmworkload.simulating import engine
    from mmworkload.simulating.choice import choose
    from mmworkload.simulating.estimate import Options

    spec, own = machine(arch, how)
    running = Options(effort=effort, limit_s=limit_s, extra=dict(extra or {}))
    for design in System.of(spec).architectures:
        choose(simulator, design, running)  # what cannot run is told before anything is traced
    sampled = sampled_generation(source, own)
    workload = load_workload(sampled.workload if sampled else source, only, strict, own)
    result = engine.simulate(
        workload,
        spec,
        simulator,
        dtype=own.get("dtype"),
        workers=workers,
        options=running,
        cache=cache,
        retry=retry,
        fallback=False,
        progress=progress,
    )
    return sampled.told(result) if sampled else result


def simulate_all(
    source: Source,
    archs: Sequence[Arch],
    simulators: Sequence[str] = ("auto",),
    *,
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
) -> Simulations:
    """Simulates ``source``, traced once, on each architecture by each simulator.

    The arguments are those of :func:`simulate`. One simulator that cannot answer for one architecture is an entry with
    its reason. Raises MmworkloadError when none answers, and for names that do not exist before anything is traced.
    """
    from mmworkload.simulating.choice import choose
    from mmworkload.simulating.estimate import Options as Running
    from mmworkload.simulating.several import Asked, Simulations

    specs = [machine(arch, how) for arch in archs]
    pairs = [(spec, name) for spec, _ in specs for name in dict.fromkeys(simulators)]
    running = Running(effort=effort, limit_s=limit_s, extra=dict(extra or {}))

    def told(call: Callable[[], Simulation | None], spec: Architecture | System, name: str) -> Asked:
        try:
            return Asked(System.of(spec).label, name, call())
        except UnknownNameError:
            raise
        except MmworkloadError as error:
            if len(pairs) == 1:
                raise
            return Asked(System.of(spec).label, name, None, one_line(error))

    def able(spec: Architecture | System, name: str) -> None:
        for design in System.of(spec).architectures:
            choose(name, design, running)

    before = [told(partial(able, spec, name), spec, name) for spec, name in pairs]
    _require_one(before, lambda item: not item.reason)
    own = specs[0][1]
    sampled = sampled_generation(source, own)
    workload = load_workload(sampled.workload if sampled else source, only, strict, own)

    def run(spec: Architecture | System, name: str) -> Simulation:
        result = simulate(
            workload,
            spec,
            simulator=name,
            strict=strict,
            effort=effort,
            limit_s=limit_s,
            workers=workers,
            cache=cache,
            retry=retry,
            extra=extra,
            progress=progress,
            dtype=own.get("dtype"),
        )
        return sampled.told(result) if sampled else result

    asked = [
        item if item.reason else told(partial(run, spec, name), spec, name)
        for item, (spec, name) in zip(before, pairs, strict=True)
    ]
    _require_one(asked, lambda item: item.simulation is not None)
    return Simulations(tuple(asked))


def _require_one(asked: Sequence[Asked], holds: Callable[[Asked], bool]) -> None:
    if not any(map(holds, asked)):
        raise SimulationError("; ".join(f"{item.simulator} on {item.arch}: {item.reason}" for item in asked))


def measure(model: str, **options: Any) -> Measurement:
    """Times a model: the measurement of :func:`measure_result`, whose arguments and errors are the same."""
    return measure_result(model, **options).measurement


def measure_result(
    model: str,
    *,
    device: str = "cpu",
    mode: str = "infer",
    only: Iterable[str] = (),
    warmup: int = 10,
    repeats: int = 50,
    limit_s: float = 60.0,
    compiled: bool = False,
    cuda_graph: bool = False,
    streams: bool = False,
    energy: bool = False,
    counters: bool = False,
    traced: Traced | None = None,
    progress: Callable[[int, int], None] | None = None,
    **how: Unpack[Options],
) -> Result:
    """Times a model on ``device`` (``cpu`` or ``cuda``): eager, stage by stage, layer by layer, kernel by kernel.

    ``mode="train"`` measures training iterations too. Gives the measurement with its graph and frames, which
    :mod:`mmworkload.measuring.folder` saves and loads.
    ``counters`` reads the GPU's hardware counters of ``only`` in a further pass
    (:func:`mmworkload.measuring.counters.with_counters`). ``warmup`` to ``traced`` without it: see
    :func:`mmworkload.measuring.measure_result`. Raises MmworkloadError.
    """
    from mmworkload.measuring import measure_result as run
    from mmworkload.measuring.counters import require_counters, with_counters
    from mmworkload.models import resolve

    require_runnable(model)
    if counters:
        require_counters(device)
    result = run(
        resolve(model, **how),
        device=device,
        mode=mode,
        only=tuple(only),
        warmup=warmup,
        repeats=repeats,
        limit_s=limit_s,
        compiled=compiled,
        cuda_graph=cuda_graph,
        streams=streams,
        energy=energy,
        traced=traced,
        progress=progress,
    )
    return with_counters(result, model, how) if counters else result


def measure_parts(name: str, **options: Any) -> MeasuredParts:
    """Times each part of a name that stands for several graphs, and what they take together.

    Parts are the phases of a generation (``codellama/7b``) or the segments or paths of a network with exits
    (``av-mnist/concat+exits``). ``options`` are those of :func:`measure_result`, each for one part. Raises
    MmworkloadError, also for a name of one graph, for training and for levers.
    """
    from mmworkload.measuring.parts import measurable

    how: Options = {key: options.pop(key) for key in Options.__annotations__ if key in options}  # type: ignore[assignment]
    return measurable(name, how).measure(**options)


def measure_combinations(
    model: str,
    output: str | Path,
    *,
    batches: Iterable[int] = (),
    dtypes: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Combination]:
    """Measures a model at each of ``batches`` in each of ``dtypes`` (its own where none are given), into a folder each.

    ``options`` are those of :func:`measure_result` and of the model. A combination that fails is a row with its reason;
    one that is there already is kept (:mod:`mmworkload.measuring.combinations`). Raises MmworkloadError when none can
    be measured.
    """
    from mmworkload.measuring.combinations import measure_combinations as run
    from mmworkload.models import Model, resolve

    how = {name: options.pop(name) for name in Options.__annotations__ if name in options}
    types, sizes = tuple(dict.fromkeys(dtypes)), tuple(dict.fromkeys(batches))
    models = [
        resolve(model, **{**how, "batch": batch, "dtype": dtype})
        for dtype in types or (how.get("dtype"),)
        for batch in sizes or (how.get("batch"),)
    ]

    def measured(one: Model) -> Result:
        return measure_result(model, **{**how, "batch": one.batch, "dtype": one.dtype}, **options)

    return run(models, output, measure=measured, asked=options, progress=progress)


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
    from mmworkload.validating import study

    taken = (measurement,) if isinstance(measurement, Measurement) else tuple(measurement or ())
    running = {
        "effort": effort,
        "limit_s": limit_s,
        "workers": workers,
        "cache": cache,
        "retry": retry,
        "extra": extra,
        "progress": progress,
    }
    return study.one(model, arch, taken, study.Asked(device, (simulator,), tuple(only), strict, running, how))


def validate_all(
    models: Sequence[str | Workload],
    archs: Sequence[Arch],
    *,
    device: str = "cpu",
    simulators: Sequence[str] = ("auto",),
    only: Iterable[str] = (),
    measurements: Sequence[Measurement] = (),
    graphs: Mapping[tuple[str, int, str], LayerGraph] | None = None,
    strict: bool = True,
    progress: Callable[[int, int], None] | None = None,
    running: Mapping[str, Any] | None = None,
    **how: Unpack[Options],
) -> Study:
    """Every workload on every architecture by every simulator.

    ``measurements`` belong to the models that they name; those of other models serve the calibration only, and without
    ``models`` all of them are compared. A model without one is measured here, on ``device``. ``graphs`` are by model,
    batch and number type, where they are at hand: what was measured needs no tracing then. On the architecture of the
    measured device, and with measurements of two models or more, the simulator ``calibrated`` is fitted on all other
    families (:mod:`mmworkload.validating.calibration`); ``auto`` brings it along. ``running`` are the options
    ``effort`` to ``extra`` of :func:`simulate`.

    A simulator that cannot answer is named in the result; MmworkloadError when none does, and for all that
    :func:`validate` raises it for.
    """
    from mmworkload.validating import study

    asked = study.Asked(device, tuple(simulators), tuple(only), strict, running or {}, how)
    return study.every(models, archs, measurements, graphs or {}, asked, progress)
