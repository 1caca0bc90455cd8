"""Measuring: a model timed on a CPU or a GPU, end to end and layer by layer.

Three times that are never mixed: (a) the user's eager model, uninstrumented; (b) the traced graph; (c) per layer, the
sum of its kernels' durations from a profiled run of the graph, node by node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmworkload.errors import MmworkloadError, UnavailableError, UnknownNameError
from mmworkload.measuring.result import LayerTime, Measurement, Spread

if TYPE_CHECKING:
    import torch

    from mmworkload.measuring.attribution import Event, LayerKernels
    from mmworkload.models import Model
    from mmworkload.tracing import Traced

__all__ = ["LayerTime", "Measurement", "Spread", "measure"]

DEVICES = ("cpu", "cuda")
# Forward passes under the profiler: a few are enough for a spread, and each one costs memory for its events.
PROFILED_RUNS = (3, 10)
STEPS = 6


def measure(
    model: Model,
    *,
    device: str = "cpu",
    warmup: int = 10,
    repeats: int = 50,
    only: Sequence[str] = (),
    limit_s: float = 60.0,
    traced: Traced | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Times ``model`` on ``device``, ``cpu`` or ``cuda``, with random weights and inputs.

    Parameters
    ----------
    warmup, repeats: upper bounds. One warm-up run and the first 5 of the repeats are taken however long they last.
    only: globs over stages. The whole model runs, and all numbers are those of the whole model, except that ``layers``
        holds the layers of these stages alone.
    limit_s: for all runs together, tracing and building apart.
    traced: the trace of ``model``, where it is at hand.
    progress: called with the number of steps done (trace, build, warm up, time, profile, memory) and of all steps.

    Raises UnknownNameError for another device or a stage that is not there, UnavailableError for a device that this
    machine does not have, ModelError when the model fails on the device, and MmworkloadError when it does not fit.
    """
    from mmworkload.measuring.attribution import difference, kernels, per_layer
    from mmworkload.measuring.guard import guarded
    from mmworkload.measuring.memory import peak_memory
    from mmworkload.measuring.profiling import profiled, run_names
    from mmworkload.measuring.program import bind
    from mmworkload.measuring.provenance import provenance
    from mmworkload.measuring.timing import alternated, sampler, warmed
    from mmworkload.tracing import trace_model

    if repeats < 1 or warmup < 0 or limit_s <= 0:
        raise MmworkloadError(
            f"cannot measure with {repeats} repeats after {warmup} warm-up runs in {limit_s} s: at least one repeat and"
            " more than 0 s are needed"
        )
    place = find_device(device)
    done = progress or (lambda steps, total: None)
    done(0, STEPS)
    traced = traced or trace_model(model)
    chosen = {layer.name for layer in traced.graph.only(only)} if only else None
    done(1, STEPS)
    with guarded(model, device, "building it"):
        program = bind(traced, model.build(device), place)
    done(2, STEPS)
    eager_sample, graph_sample = sampler(program.eager_run, place), sampler(program.graph_run, place)
    with guarded(model, device, "running the eager model"):
        warmed(eager_sample, warmup=max(1, warmup), limit_s=limit_s / 6)
    with guarded(model, device, "running the traced graph"):
        warmed(graph_sample, warmup=max(1, warmup), limit_s=limit_s / 6)
    done(3, STEPS)
    with guarded(model, device, "timing it"):
        eager, graph = alternated([eager_sample, graph_sample], repeats=repeats, limit_s=limit_s / 3)
    facts = provenance(place)
    done(4, STEPS)
    runs = _profiled_runs(graph.median_s, repeats, limit_s / 3)
    with guarded(model, device, "profiling it"):
        eager_events = profiled(program.eager_run, runs, place)
        node_events = profiled(program.node_run, runs, place)
    on_device = place.type != "cpu"
    eager_kernels, node_kernels = (kernels(events, on_device=on_device) for events in (eager_events, node_events))
    times, unattributed_s = per_layer(node_kernels, traced.layer_of_call, run_names(runs))
    host = {layer.name for layer in traced.graph if layer.placement == "host"}
    if host and on_device:
        # What runs on the host has no kernels on the device: its time is the processor's.
        on_host, _ = per_layer(kernels(node_events, on_device=False), traced.layer_of_call, run_names(runs))
        times.update({name: time for name, time in on_host.items() if name in host})
    done(5, STEPS)
    with guarded(model, device, "measuring its memory"):
        peak_bytes = peak_memory(program, place)
    done(STEPS, STEPS)
    return Measurement(
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
    )


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
