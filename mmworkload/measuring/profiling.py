"""torch's profiler: runs a forward pass a few times under it and gives plain event records.

The raw records of Kineto are read, not ``key_averages()``: there a range of the host appears again as a row of the
device (``gpu_user_annotation``) and its time is counted twice.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError
from mmworkload.measuring.attribution import NODE, RUN, Event

if TYPE_CHECKING:
    import torch
    from torch.profiler import profile

    from mmworkload.measuring.program import Run

# Calls of the CUDA runtime and driver; torch before 2.15 does not say the type of a record.
_LAUNCH = re.compile(r"cu(da)?[A-Z]")
# Kernels that torch.compile made for the CPU.
_COMPILED = re.compile(r"graph_\d+_cpp_")


def run_names(count: int) -> list[str]:
    """The names of ``count`` profiled forward passes."""
    return [str(index) for index in range(count)]


def profiled(prepare: Callable[[], Run], runs: int, device: torch.device, *, training: bool = False) -> list[Event]:
    """Events of ``runs`` forward passes, each in a range ``run::<index>``, after one that is not recorded in a range.

    ``training`` records gradients in them, which inference mode does not. Raises MmworkloadError when the device's
    profiler recorded no kernel.
    """
    records = _results(_profile(prepare, runs, device, training=training)).events()
    events = [found for item in records if (found := event(item)) is not None]
    if device.type != "cpu" and not any(item.kind == "kernel" for item in events):
        raise MmworkloadError(
            f"the profiler recorded no kernels on {device}, so there are no times per layer. It needs CUPTI and the"
            " right to read performance counters; see whether another profiler (nsys, ncu) is attached."
        )
    return events


def memory_changes(
    prepare: Callable[[], Run], device: torch.device, *, training: bool = False
) -> list[tuple[int, int]]:
    """What one forward pass allocates (positive) and frees (negative) on ``device``: address and bytes, in order.

    Memory that a library takes without torch's allocator is not seen.
    """
    from torch._C._profiler import _EventType

    found = list(_results(_profile(prepare, 1, None, memory=True, training=training)).experimental_event_tree())
    for item in found:
        # The list grows by the levels below.
        found += item.children
    span = next(item for item in found if item.name == f"{RUN}0")
    changes = [
        (item.start_time_ns, item.extra_fields.ptr, item.extra_fields.alloc_size)
        for item in found
        if item.tag == _EventType.Allocation
        and item.extra_fields.device.type == device.type
        and span.start_time_ns <= item.start_time_ns <= span.end_time_ns
    ]
    # The sort is stable: what happens in one tick of the clock keeps its order.
    return [(address, size) for _, address, size in sorted(changes, key=lambda change: change[0])]


def _profile(
    prepare: Callable[[], Run], runs: int, device: torch.device | None, *, memory: bool = False, training: bool = False
) -> profile:
    """A finished profile. The first forward pass pays for the profiler's own start and is outside any range."""
    # Kineto reports every start and stop on stderr, and a CUDA build complains where there is no GPU; 6 is silence.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU]
    on_device = device is not None and device.type == "cuda"
    if on_device:
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities, profile_memory=memory)
    with warnings.catch_warnings():
        # torch 2.11 says so before the one and only cycle.
        warnings.filterwarnings("ignore", "Warning: Profiler clears events", UserWarning)
        profiler.start()
    try:
        with torch.inference_mode(not training):
            prepare()()
            for name in run_names(runs):
                run = prepare()
                if on_device:
                    torch.cuda.synchronize(device)
                with record_function(f"{RUN}{name}"):
                    # The outputs are freed after the range, as a caller would hold them.
                    outputs = run()
                del outputs
            if on_device:
                torch.cuda.synchronize(device)
    finally:
        profiler.stop()
    return profiler


def _results(profiler: profile) -> Any:
    results = profiler.profiler.kineto_results if profiler.profiler is not None else None
    if results is None:
        raise MmworkloadError("torch's profiler gave no records: this build of torch has no Kineto")
    return results


def _on_host(record: Any) -> bool:
    from torch.autograd import DeviceType

    return record.device_type() == DeviceType.CPU


def event(record: Any) -> Event | None:
    """The record of Kineto as an :class:`Event`; None for what is neither work nor a range of ours."""
    name = record.name()
    times = (record.start_ns(), record.end_ns())
    number, linked, thread = record.correlation_id(), record.linked_correlation_id(), record.start_thread_id()
    ours = name.startswith((RUN, NODE))
    if not _on_host(record):
        # The device's row of a host range is no work.
        if ours or record.is_user_annotation():
            return None
        # Builds of torch before 2.11 do not name the stream.
        stream = getattr(record, "device_resource_id", int)()
        return Event(name, "kernel", *times, number, linked, stream)
    if ours:
        return Event(name, "range", *times, number, 0, thread)
    if record.is_user_annotation() or name.startswith("["):
        return None
    if linked or _LAUNCH.match(name):
        return Event(name, "launch", *times, number, linked, thread)
    # Records of the profiler itself ("Activity Buffer Request") have no number of their own.
    named = "::" in name or _COMPILED.match(name)
    return Event(name, "operator", *times, number, 0, thread, record.sequence_nr()) if number and named else None
