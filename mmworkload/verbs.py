"""The verbs in Python: ``trace``, ``export``, ``simulate``, ``measure``, ``validate``. The command line calls these.

A source is a model name, the path of a saved graph, a :class:`LayerGraph` or a :class:`Workload`; an architecture is a
name, the path of a YAML file, or an :class:`Architecture`. ``how`` says more about a model: batch, dtype, settings of
its parameters, stages, end_to_end, inputs (:class:`mmworkload.models.Options`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, MmworkloadError, SimulationError, UnknownNameError, one_line
from mmworkload.exporting import MANIFEST, Export, Exports, exporter_for, write_all, write_export
from mmworkload.graph import LayerGraph, Workload
from mmworkload.models.names import Options
from mmworkload.options import MeasureOptions, SimulateOptions, takes
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
    "simulate_from",
    "trace",
    "validate",
    "validate_all",
]


@takes(Options)
def trace(model: Source, *, only: Iterable[str] = (), strict: bool = False, **how: Unpack[Options]) -> LayerGraph:
    """The layer graph of a model; a saved graph or a graph is taken as it is.

    Nothing is allocated. Without torch, a workload at its defaults comes from its snapshot.

    Parameters
    ----------
    model: a model's name (``av-mnist/concat``, ``hf:clip``, ``mine.py:build``), the path of a saved graph, a
        :class:`LayerGraph` or a :class:`Workload`.
    only: globs of the stages to keep (``encoder/*``); none keeps all.
    strict: refuse operators that no lowering covers; else only their bytes count.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations.
    settings: values of the model's parameters by name (``show`` lists them).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        Unknown name, a model that cannot be traced, a damaged file; UnknownOperatorError under ``strict``.

    Examples
    --------
    >>> graph = mmworkload.trace("av-mnist/concat", batch=8)
    >>> graph.total_macs, graph.stages["encoder/audio"].params
    """
    return load_graph(model, how, only=only, strict=strict)


@takes(Options)
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
    """Writes ``source`` for a tool into a folder, which appears whole or not at all.

    Parameters
    ----------
    target: name of the exporter: ``timeloop``, ``zigzag``, ``scalesim``, ``accelforge``, ``csv``, ``parquet``.
    source: a model's name (``av-mnist/concat``, ``hf:clip``, ``mine.py:build``), the path of a saved graph, a
        :class:`LayerGraph` or a :class:`Workload`.
    arch: name of an architecture, path of its YAML file or native folder, ``host``, ``STAGE=ARCH,*=ARCH``, an
        :class:`Architecture` or a :class:`System`.
    output: the folder; replaced when it is an earlier export.
    only: globs of the stages to keep (``encoder/*``); none keeps all.
    strict: refuse operators that no lowering covers; else only their bytes count.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations.
    settings: values of the model's parameters by name (``show`` lists them), and of the architecture by path
        (``array.x``).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        Unknown exporter or architecture, unknown operators under ``strict``, a folder that holds other files.

    Examples
    --------
    >>> mmworkload.export("timeloop", "av-mnist/concat", "eyeriss_like", "out/").problem_files
    """
    spec, own = _export_arch(arch, how)
    exporter_for(target, spec)
    require_output_folder(output, MANIFEST)
    workload = load_workload(source, only, strict, own)
    return write_export(target, workload, spec, output, workload.parts[0].graph.versions)


@takes(Options)
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

    A tool that cannot be told the architecture is left out with its reason.

    Parameters
    ----------
    source: a model's name (``av-mnist/concat``, ``hf:clip``, ``mine.py:build``), the path of a saved graph, a
        :class:`LayerGraph` or a :class:`Workload`.
    arch: name of an architecture, path of its YAML file or native folder, ``host``, ``STAGE=ARCH,*=ARCH``, an
        :class:`Architecture` or a :class:`System`.
    output: the folder; replaced when it is an earlier export.
    only: globs of the stages to keep (``encoder/*``); none keeps all.
    strict: refuse operators that no lowering covers; else only their bytes count.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations.
    settings: values of the model's parameters by name (``show`` lists them), and of the architecture by path
        (``array.x``).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        As :func:`export`.

    Examples
    --------
    >>> mmworkload.export_all("av-mnist/concat", "eyeriss_like", "out/").refused
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


@takes(Options)
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
    """Estimates cycles, latency (s) and energy (J) of every layer.

    Operands have the architecture's native precision unless ``dtype`` says otherwise. Under ``auto`` one simulator
    answers all layers with MACs, the first in its order that answers every one; layers without MACs go to the roofline.

    Parameters
    ----------
    source: a model's name (``av-mnist/concat``, ``hf:clip``, ``mine.py:build``), the path of a saved graph, a
        :class:`LayerGraph` or a :class:`Workload`.
    arch: name of an architecture, path of its YAML file or native folder, ``host``, ``STAGE=ARCH,*=ARCH``, an
        :class:`Architecture` or a :class:`System`.
    simulator: ``auto``, ``timeloop``, ``recorded``, ``zigzag``, ``accelforge``, ``scalesim`` or ``roofline``.
    only: globs of the stages to keep (``encoder/*``); none keeps all.
    strict: refuse operators that no lowering covers; else only their bytes count.
    effort: of a mapper's search: ``quick``, ``normal`` or ``thorough``.
    limit_s: wall-clock limit of one simulator run, in seconds.
    workers: simulator processes at a time; None takes the cores.
    cache: use and fill the cache of answers.
    retry: run again what failed before.
    extra: what one simulator understands, by name (``timeloop_runner``, ``timeloop_array``).
    progress: called with what is done and the total, now and then.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations; simulated operands have
        it too, instead of the architecture's own precision.
    settings: values of the model's parameters by name (``show`` lists them), and of the architecture by path
        (``array.x``).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        Unknown name, a simulator that is not here, or one asked for by name that hangs or crashes.

    Examples
    --------
    >>> result = mmworkload.simulate("av-mnist/concat", "eyeriss_like")
    >>> result.serial_latency_s, result.layers[0].energy_j
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


def simulate_from(folder: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Simulation:
    """The simulation whose answers ``run.py`` left in a folder of :func:`export`. Nothing is traced.

    What has no result there, or a wrong one, is answered by the roofline, and its rows say so.

    Parameters
    ----------
    folder: the exported one, with the ``outputs/`` that ``run.py`` wrote into it.
    progress: called with what is done and the total, now and then.

    Raises
    ------
    MmworkloadError
        A folder that is no such export, of a target whose results cannot be read, or without any result.

    Examples
    --------
    >>> mmworkload.simulate_from("out/").serial_latency_s
    """
    from mmworkload.files import read_json
    from mmworkload.plugins import plugins
    from mmworkload.simulating import engine

    place = Path(folder)
    manifest = read_json(place / MANIFEST)
    target = manifest.get("target") if isinstance(manifest, dict) else None
    readers = plugins("mmworkload.exporters", "RESULTS")
    if target not in readers:
        raise MmworkloadError(
            f"{place} is an export for {target}; results of {', '.join(sorted(readers))} can be read back"
        )
    workload, spec, simulator = readers[target](place)
    return engine.simulate(workload, spec, simulator, cache=False, progress=progress)


@takes(Options)
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

    One simulator that cannot answer for one architecture is an entry with its reason.

    Parameters
    ----------
    source: a model's name (``av-mnist/concat``, ``hf:clip``, ``mine.py:build``), the path of a saved graph, a
        :class:`LayerGraph` or a :class:`Workload`.
    archs: architectures, each as :func:`simulate` takes it.
    simulators: names, each as :func:`simulate` takes it.
    only: globs of the stages to keep (``encoder/*``); none keeps all.
    strict: refuse operators that no lowering covers; else only their bytes count.
    effort: of a mapper's search: ``quick``, ``normal`` or ``thorough``.
    limit_s: wall-clock limit of one simulator run, in seconds.
    workers: simulator processes at a time; None takes the cores.
    cache: use and fill the cache of answers.
    retry: run again what failed before.
    extra: what one simulator understands, by name (``timeloop_runner``, ``timeloop_array``).
    progress: called with what is done and the total, now and then.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations; simulated operands have
        it too, instead of the architecture's own precision.
    settings: values of the model's parameters by name (``show`` lists them), and of the architecture by path
        (``array.x``).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        When none answers; for names that do not exist, before anything is traced.

    Examples
    --------
    >>> mmworkload.simulate_all("av-mnist/concat", ["eyeriss_like", "h100"]).first
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


@takes(MeasureOptions)
def measure(model: str, **options: Unpack[MeasureOptions]) -> Measurement:
    """Times a model: eager end to end, stage by stage, layer by layer, all in seconds.

    :func:`measure_result` also gives its graph, kernels and host activities.

    Parameters
    ----------
    model: its name; not a saved graph, which cannot be run.
    device: ``cpu`` or ``cuda``.
    mode: ``infer``, or ``train``, which also times forward, backward and update.
    only: globs of the stages whose layers are reported (``encoder/*``); none keeps all.
    warmup: forward passes before the first that counts.
    repeats: forward passes that count, of each execution.
    limit_s: seconds after which no further repeat begins.
    compiled: also time it under ``torch.compile``.
    cuda_graph: also time it replayed as a CUDA graph.
    streams: also time it with each encoder on a CUDA stream of its own.
    energy: also measure joules per inference.
    counters: also read the GPU's hardware counters of the stages of ``only``.
    traced: the model as traced before, which saves tracing it again.
    progress: called with what is done and the total, now and then.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations.
    settings: values of the model's parameters by name (``show`` lists them).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        Unknown name, no such device, out of memory, or a forward pass that fails.

    Examples
    --------
    >>> measured = mmworkload.measure("av-mnist/concat", device="cpu", batch=8)
    >>> measured.eager.median_s
    """
    return measure_result(model, **options).measurement


@takes(Options)
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
    """Times a model as :func:`measure`, and keeps its graph, kernels and host activities beside the times.

    :mod:`mmworkload.measuring.folder` saves and loads the result.

    Parameters
    ----------
    model: its name; not a saved graph, which cannot be run.
    device: ``cpu`` or ``cuda``.
    mode: ``infer``, or ``train``, which also times forward, backward and update.
    only: globs of the stages whose layers are reported (``encoder/*``); none keeps all.
    warmup: forward passes before the first that counts.
    repeats: forward passes that count, of each execution.
    limit_s: seconds after which no further repeat begins.
    compiled: also time it under ``torch.compile``.
    cuda_graph: also time it replayed as a CUDA graph.
    streams: also time it with each encoder on a CUDA stream of its own.
    energy: also measure joules per inference.
    counters: also read the GPU's hardware counters of the stages of ``only``.
    traced: the model as traced before, which saves tracing it again.
    progress: called with what is done and the total, now and then.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations.
    settings: values of the model's parameters by name (``show`` lists them).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        As :func:`measure`.

    Examples
    --------
    >>> mmworkload.measuring.folder.save(mmworkload.measure_result("av-mnist/concat"), "result/")
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


@takes(MeasureOptions)
def measure_parts(name: str, **options: Unpack[MeasureOptions]) -> MeasuredParts:
    """Times each part of a name that stands for several graphs, and what they take together, in seconds.

    Parts are the phases of a generation (``codellama/7b``) or the segments or paths of a network with exits
    (``av-mnist/concat+exits``).

    Parameters
    ----------
    name: of a generation or a network with exits.
    device: ``cpu`` or ``cuda``.
    mode: ``infer``, or ``train``, which also times forward, backward and update.
    only: globs of the stages whose layers are reported (``encoder/*``); none keeps all.
    warmup: forward passes before the first that counts.
    repeats: forward passes that count, of each execution.
    limit_s: seconds after which no further repeat begins.
    compiled: also time it under ``torch.compile``.
    cuda_graph: also time it replayed as a CUDA graph.
    streams: also time it with each encoder on a CUDA stream of its own.
    energy: also measure joules per inference.
    counters: also read the GPU's hardware counters of the stages of ``only``.
    traced: the model as traced before, which saves tracing it again.
    progress: called with what is done and the total, now and then.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations.
    settings: values of the model's parameters by name (``show`` lists them).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        As :func:`measure`; for a name of one graph, for training and for levers too.

    Examples
    --------
    >>> mmworkload.measure_parts("av-mnist/concat+exits").total_s
    """
    from mmworkload.measuring.parts import measurable

    how, taking = _apart(options)
    return measurable(name, how).measure(**taking)


def _apart(options: MeasureOptions) -> tuple[Options, dict[str, Any]]:
    """What is said about the model, and how it is measured."""
    given: dict[str, Any] = {**options}
    how: dict[str, Any] = {name: given.pop(name) for name in Options.__annotations__ if name in given}
    return cast("Options", how), given


@takes(MeasureOptions)
def measure_combinations(
    model: str,
    output: str | Path,
    *,
    batches: Iterable[int] = (),
    dtypes: Iterable[str] = (),
    **options: Unpack[MeasureOptions],
) -> list[Combination]:
    """Measures a model at each batch in each number type, into a folder each.

    A combination that fails is a row with its reason; one that is there already is kept
    (:mod:`mmworkload.measuring.combinations`).

    Parameters
    ----------
    model: its name; not a saved graph, which cannot be run.
    output: the folder that gets a result folder for each combination.
    batches, dtypes: those to combine; none is the model's own.
    device: ``cpu`` or ``cuda``.
    mode: ``infer``, or ``train``, which also times forward, backward and update.
    only: globs of the stages whose layers are reported (``encoder/*``); none keeps all.
    warmup: forward passes before the first that counts.
    repeats: forward passes that count, of each execution.
    limit_s: seconds after which no further repeat begins.
    compiled: also time it under ``torch.compile``.
    cuda_graph: also time it replayed as a CUDA graph.
    streams: also time it with each encoder on a CUDA stream of its own.
    energy: also measure joules per inference.
    counters: also read the GPU's hardware counters of the stages of ``only``.
    traced: the model as traced before, which saves tracing it again.
    progress: called with what is done and the total, now and then.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations.
    settings: values of the model's parameters by name (``show`` lists them).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        When none can be measured.

    Examples
    --------
    >>> mmworkload.measure_combinations("av-mnist/concat", "results/", batches=[1, 8])
    """
    from mmworkload.measuring.combinations import measure_combinations as run
    from mmworkload.models import Model, resolve

    require_output_folder(output)
    how, taking = _apart(options)
    progress = taking.pop("progress", None)
    types, sizes = tuple(dict.fromkeys(dtypes)), tuple(dict.fromkeys(batches))
    models = [
        resolve(model, **cast("Options", {**how, "batch": batch, "dtype": dtype}))
        for dtype in types or (how.get("dtype"),)
        for batch in sizes or (how.get("batch"),)
    ]

    def measured(one: Model) -> Result:
        said: Options = {**how, "batch": one.batch, "dtype": one.dtype}
        return measure_result(model, **said, **taking)

    return run(models, output, measure=measured, asked=taking, progress=progress)


@takes(Options)
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

    Parameters
    ----------
    model: a model's name, or a :class:`Workload`.
    arch: name of an architecture, path of its YAML file or native folder, ``host``, ``STAGE=ARCH,*=ARCH``, an
        :class:`Architecture` or a :class:`System`.
    device: that the model is measured on: ``cpu`` or ``cuda``.
    simulator: ``auto``, ``timeloop``, ``recorded``, ``zigzag``, ``accelforge``, ``scalesim`` or ``roofline``.
    only: globs of the stages to keep (``encoder/*``); none keeps all.
    measurement: taken earlier, on another machine perhaps (of a workload of several parts one for each); it replaces
        the measuring, and batch and the graph's dtype are then its own.
    strict: refuse operators that no lowering covers; else only their bytes count.
    effort: of a mapper's search: ``quick``, ``normal`` or ``thorough``.
    limit_s: wall-clock limit of one simulator run, in seconds.
    workers: simulator processes at a time; None takes the cores.
    cache: use and fill the cache of answers.
    retry: run again what failed before.
    extra: what one simulator understands, by name (``timeloop_runner``, ``timeloop_array``).
    progress: called with what is done and the total, now and then.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations; simulated operands have
        it too, instead of the architecture's own precision.
    settings: values of the model's parameters by name (``show`` lists them), and of the architecture by path
        (``array.x``).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        As :func:`measure` and :func:`simulate`; when the measurement is of another model or batch.

    Examples
    --------
    >>> report = mmworkload.validate("av-mnist/concat", "eyeriss_like")
    >>> report.write_html("report.html")
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


@takes(Options)
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
    running: SimulateOptions | None = None,
    **how: Unpack[Options],
) -> Study:
    """Every workload on every architecture by every simulator.

    A model without a measurement is measured here. On the architecture of the measured device, and with measurements of
    two models or more, the simulator ``calibrated`` is fitted on all other families
    (:mod:`mmworkload.validating.calibration`); ``auto`` brings it along. A simulator that cannot answer is named in the
    result.

    Parameters
    ----------
    models: names or workloads; none compares all that ``measurements`` are of.
    archs: architectures, each as :func:`validate` takes it.
    device: that models without a measurement are measured on: ``cpu`` or ``cuda``.
    simulators: names, each as :func:`simulate` takes it.
    only: globs of the stages to keep (``encoder/*``); none keeps all.
    measurements: taken earlier; those of other models serve the calibration only.
    graphs: by model, batch and number type, where they are at hand: what was measured needs no tracing then.
    strict: refuse operators that no lowering covers; else only their bytes count.
    progress: called with what is done and the total, now and then.
    running: ``effort``, ``limit_s``, ``workers``, ``cache``, ``retry`` and ``extra``, as :func:`simulate` takes them.
    batch: samples per forward pass; default is the workload's own, or that of the function's argument ``batch``.
    dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64`` of weights and activations; simulated operands have
        it too, instead of the architecture's own precision.
    settings: values of the model's parameters by name (``show`` lists them), and of the architecture by path
        (``array.x``).
    stages: globs over module paths to stages (``{"vision_model.*": "encoder/image"}``), before the model's own rules.
    end_to_end: with pre-processing of raw inputs, on the host; workloads only.
    inputs: path of a real sample, an .npz or .pt with a tensor for each input.

    Raises
    ------
    MmworkloadError
        When no simulator answers; else as :func:`validate`.

    Examples
    --------
    >>> mmworkload.validate_all(["av-mnist/concat"], ["host", "eyeriss_like"]).write_html("report.html")
    """
    from mmworkload.validating import study

    asked = study.Asked(device, tuple(simulators), tuple(only), strict, running or {}, how)
    return study.every(models, archs, measurements, graphs or {}, asked, progress)
