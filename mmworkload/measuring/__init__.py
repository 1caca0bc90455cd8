"""Measuring: a model timed on a CPU or a GPU, end to end, stage by stage, layer by layer and kernel by kernel.

Three times that are never mixed: (a) the user's eager model, uninstrumented; (b) the traced graph; (c) per layer, the
sum of its kernels' durations from a profiled run of the graph, node by node. Each level is measured in runs of its own,
so that the instruments of a deeper one do not lengthen the times of the one above.
"""

from __future__ import annotations

import fnmatch
import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mmworkload.errors import MmworkloadError, UnavailableError, UnknownNameError
from mmworkload.measuring.folder import Result
from mmworkload.measuring.result import Execution, LayerTime, Measurement, Spread, StageTime, Training
from mmworkload.straggler import stage_matches

if TYPE_CHECKING:
    import torch

    from mmworkload.graph import LayerGraph
    from mmworkload.measuring.attribution import Event, LayerKernels
    from mmworkload.measuring.frames import HostRow, KernelRow
    from mmworkload.models import Model
    from mmworkload.tracing import Traced

__all__ = [
    "Execution",
    "LayerTime",
    "Measurement",
    "Result",
    "Spread",
    "StageTime",
    "Taken",
    "Training",
    "measure",
    "measure_result",
    "take",
]

DEVICES = ("cpu", "cuda")
MODES = ("infer", "train")
# Forward passes under the profiler: a few are enough for a spread, and each one costs memory for its events.
PROFILED_RUNS = (3, 10)
STEPS = 6


class Taken(NamedTuple):
    """All that one measurement gives: times, the graph that was measured, a row for each kernel and host activity."""

    measurement: Measurement
    graph: LayerGraph
    kernels: list[KernelRow]
    host: list[HostRow]


def measure(model: Model, **options: Any) -> Measurement:
    """The times of :func:`take`, whose arguments and errors these are; needs no pandas."""
    return take(model, **options).measurement


def measure_result(model: Model, **options: Any) -> Result:
    """What :func:`take` gives, with its rows as frames; arguments and errors are the same."""
    from mmworkload.measuring.frames import host_frame, kernels_frame

    taken = take(model, **options)
    return Result(taken.measurement, taken.graph, kernels_frame(taken.kernels), host_frame(taken.host))


def take(
    model: Model,
    *,
    device: str = "cpu",
    mode: str = "infer",
    warmup: int = 10,
    repeats: int = 50,
    only: Sequence[str] = (),
    limit_s: float = 60.0,
    compiled: bool = False,
    cuda_graph: bool = False,
    streams: bool = False,
    energy: bool = False,
    traced: Traced | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Taken:
    """Times ``model`` on ``device``, ``cpu`` or ``cuda``, with random weights and inputs.

    Parameters
    ----------
    mode: ``infer``, or ``train``, which measures training iterations too, of the whole model, in half of the time.
    warmup, repeats: upper bounds. One warm-up run and the first 5 of the repeats are taken however long they last.
    only: globs over stages, or over modalities where they match no stage. The whole model runs, and all numbers are
        those of the whole model, except that ``layers`` and ``stage_times`` hold these stages alone, and that what is
        chosen is also run alone, as the execution ``alone``.
    limit_s: for all runs together, tracing, building and compiling apart.
    compiled, cuda_graph, streams: also times the model under ``torch.compile``, replayed as a CUDA graph, and with each
        encoder on a stream of its own (both CUDA only).
    energy: also measures the joules of an inference of the eager model, which takes some eight seconds more.
    traced: the trace of ``model``, where it is at hand.
    progress: called with the number of steps done (trace, train, build, warm up, time, profile, memory) and of all
        steps.

    Raises UnknownNameError for another device or mode or a stage that is not there, UnavailableError for a device,
    compiler, stream or counter of energy that this machine does not have, ModelError when the model fails on the
    device, and MmworkloadError when it does not fit, cannot be trained, has no CUDA graph or no encoders for streams.
    """
    from mmworkload.measuring.alone import alone_runner
    from mmworkload.measuring.attribution import difference, kernels, per_layer, run_spans
    from mmworkload.measuring.energy import measure_energy, open_meter
    from mmworkload.measuring.executions import (
        captured,
        compile_model,
        fused_kernels,
        require_compiler,
        require_cuda_graphs,
    )
    from mmworkload.measuring.frames import attributed_share, host_rows, kernel_rows
    from mmworkload.measuring.guard import guarded
    from mmworkload.measuring.memory import peak_memory, require_room
    from mmworkload.measuring.profiling import profiled, run_names
    from mmworkload.measuring.program import bind
    from mmworkload.measuring.provenance import provenance
    from mmworkload.measuring.stages import StageSampler, fastest_s, stage_of_call, stage_times
    from mmworkload.measuring.streams import CudaLanes, require_streams, streams_runner, what_runs
    from mmworkload.measuring.timing import alternated, sampler, warmed
    from mmworkload.measuring.training import measure_training
    from mmworkload.tracing import trace_model

    if repeats < 1 or warmup < 0 or limit_s <= 0:
        raise MmworkloadError(
            f"cannot measure with {repeats} repeats after {warmup} warm-up runs in {limit_s} s: at least one repeat and"
            " more than 0 s are needed"
        )
    if mode not in MODES:
        raise UnknownNameError("mode", mode, MODES)
    place = find_device(device)
    if compiled:
        require_compiler(place)
    if cuda_graph:
        require_cuda_graphs(place)
    if streams:
        require_streams(place)
    if energy:
        # Told before all else is measured.
        with open_meter(place):
            pass
    total = STEPS + (mode == "train")
    steps = iter(range(total + 1))

    def done() -> None:
        if progress is not None:
            progress(next(steps), total)

    done()
    traced = traced or trace_model(model)
    chosen = _chosen(traced.graph, only) if only else None
    beside = what_runs(traced.graph) if streams else ""
    require_room(traced.graph, place)
    done()
    training = None
    if mode == "train":
        # First, and on a model of its own, so that no gradients are in the memory of inference.
        limit_s /= 2
        training = measure_training(model, traced, place, warmup=warmup, repeats=repeats, limit_s=limit_s)
        gc.collect()
        done()
    with guarded(model, device, "building it"):
        program = bind(traced, model.build(device), place)
    done()
    eager_sample, graph_sample = sampler(program.eager_run, place), sampler(program.graph_run, place)
    stage_sample = StageSampler(program, stage_of_call(traced.graph, traced.layer_of_call), place)
    with guarded(model, device, "running the eager model"):
        warmed(eager_sample, warmup=max(1, warmup), limit_s=limit_s / 6)
    with guarded(model, device, "running the traced graph"):
        warmed(graph_sample, warmup=max(1, warmup), limit_s=limit_s / 12)
        warmed(stage_sample, warmup=max(1, warmup), limit_s=limit_s / 12)
    stage_sample.taken.clear()
    samples = {}
    made = None
    if compiled:
        with guarded(model, device, "compiling it"):
            made = compile_model(program)
            samples["compile"] = "torch.compile of the eager model, default backend", sampler(made.run, place)
    if cuda_graph:
        with guarded(model, device, "capturing it as a CUDA graph"):
            samples["cuda-graph"] = (
                "replay of the eager model as a CUDA graph",
                sampler(captured(program, place), place),
            )
    if streams:
        with guarded(model, device, "running its encoders on streams"):
            runner = streams_runner(program, traced.graph, traced.layer_of_call, CudaLanes(place))
            samples["streams"] = beside, sampler(runner, place)
    if chosen is not None:
        with guarded(model, device, f"running {', '.join(only)} alone"):
            runner = alone_runner(program, traced.layer_of_call, chosen)
            samples["alone"] = f"{', '.join(only)} alone, on stored inputs", sampler(runner, place)
    for name, (_, sample) in samples.items():
        with guarded(model, device, f"running it as {name}"):
            warmed(sample, warmup=max(1, warmup), limit_s=limit_s / 12)
    done()
    with guarded(model, device, "timing it"):
        eager, graph, staged, *others = alternated(
            [eager_sample, graph_sample, stage_sample, *(sample for _, sample in samples.values())],
            repeats=repeats,
            limit_s=limit_s / 3,
        )
    facts = provenance(place)
    done()
    runs = _profiled_runs(graph.median_s, repeats, limit_s / 3)
    with guarded(model, device, "profiling it"):
        eager_events = profiled(program.eager_run, runs, place)
        node_events = profiled(program.node_run, runs, place)
        compiled_events = profiled(made.run, runs, place) if made else []
    on_device = place.type != "cpu"
    eager_kernels, node_kernels = (kernels(events, on_device=on_device) for events in (eager_events, node_events))
    times, unattributed_s = per_layer(node_kernels, traced.layer_of_call, run_names(runs))
    host = {layer.name for layer in traced.graph if layer.placement == "host"}
    if host and on_device:
        # What runs on the host has no kernels on the device: its time is the processor's.
        on_host, _ = per_layer(kernels(node_events, on_device=False), traced.layer_of_call, run_names(runs))
        times.update({name: time for name, time in on_host.items() if name in host})
    kernel_table = kernel_rows(node_events, traced.graph, traced.layer_of_call, on_device=on_device)
    host_table = host_rows(node_events, traced.graph, traced.layer_of_call)
    done()
    with guarded(model, device, "measuring its memory"):
        peak_bytes = peak_memory(program, place)
    joules = None
    if energy:
        with guarded(model, device, "measuring its energy"):
            joules = measure_energy(program.eager_run, place)
    done()
    fused = (
        fused_kernels(kernels(compiled_events, on_device=on_device), made.code, made.modules, traced.graph)
        if made
        else ()
    )
    measurement = Measurement(
        model=model.name,
        variant=model.variant,
        batch=model.batch,
        dtype=model.dtype,
        device=device,
        eager=eager,
        graph=graph,
        layers=_rows(traced, times, chosen),
        unattributed_s=unattributed_s,
        kernel_difference=difference(eager_kernels, node_kernels),
        peak_memory_bytes=peak_bytes,
        only=tuple(only),
        provenance={**facts, "sdpa_used": attention_operators(eager_events), "profiled_runs": runs},
        stage_times=stage_times(traced.graph, stage_sample.taken, kernel_table, host_table, chosen),
        overhead={
            "stage": staged.min_s / graph.min_s,
            "layer": fastest_s(run_spans(node_events)) / graph.min_s,
            "kernel": fastest_s(run_spans(eager_events)) / eager.min_s,
        },
        attributed_share=attributed_share(kernel_table),
        executions=tuple(
            Execution(name, what, time, fused if name == "compile" else ())
            for (name, (what, _)), time in zip(samples.items(), others, strict=True)
        ),
        energy=joules,
        training=training,
    )
    return Taken(measurement, traced.graph, kernel_table, host_table)


def _chosen(graph: LayerGraph, only: Sequence[str]) -> set[str]:
    """Names of the layers whose stage, or else whose modality, matches a glob. Raises UnknownNameError."""
    modalities = {layer.modality for layer in graph if layer.modality}
    stages = {layer.stage for layer in graph}
    named = [
        glob
        for glob in only
        if not any(stage_matches(stage, glob) for stage in stages) and fnmatch.filter(modalities, glob)
    ]
    staged = [glob for glob in only if glob not in named]
    found = {layer.name for layer in graph.only(staged)} if staged else set()
    return found | {layer.name for layer in graph if any(fnmatch.fnmatch(layer.modality, glob) for glob in named)}


def find_device(name: str) -> torch.device:
    """The device called ``name``, with its index. Raises UnknownNameError or UnavailableError."""
    if name not in DEVICES:
        raise UnknownNameError("device", name, DEVICES)
    import torch

    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        reason = "no GPU answers" if torch.version.cuda else "this torch is built without CUDA"
        raise UnavailableError(
            f"device cuda cannot be used: {reason}. Measure with --device cpu, or use a machine with a GPU, its driver"
            " and a CUDA build of torch."
        )
    return torch.device("cuda", torch.cuda.current_device())


def attention_operators(events: Sequence[Event]) -> list[str]:
    """The operators of scaled dot product attention that ran: they name the backend that torch chose."""
    names = {event.name for event in events if event.kind == "operator"}
    return sorted(name for name in names if "::_scaled_dot_product" in name)


def _profiled_runs(graph_s: float, repeats: int, limit_s: float) -> int:
    """How many forward passes to profile: under the profiler one takes several times ``graph_s``, and there are two."""
    least, most = PROFILED_RUNS
    return max(1, min(repeats, max(least, min(most, int(limit_s / (8 * max(graph_s, 1e-9)))))))


def _rows(traced: Traced, times: dict[str, LayerKernels], chosen: set[str] | None) -> tuple[LayerTime, ...]:
    return tuple(
        LayerTime(
            layer=layer.name,
            op=layer.op,
            stage=layer.stage,
            modality=layer.modality,
            category=layer.category,
            time=Spread.of(times[layer.name].times_s),
            kernels=times[layer.name].kernels,
        )
        for layer in traced.graph
        if chosen is None or layer.name in chosen
    )
