"""Peak memory of one forward pass, split into model, data and intermediates."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError
from mmworkload.reporting.units import binary

if TYPE_CHECKING:
    import torch

    from mmworkload.graph import LayerGraph
    from mmworkload.measuring.program import Eager


def highest(changes: Iterable[int]) -> int:
    """The most bytes alive at a time, from allocations (positive) and frees (negative) in order; 0 for none."""
    return max(accumulate(changes, initial=0))


def require_room(graph: LayerGraph, device: torch.device) -> None:
    """MmworkloadError when weights and inputs alone are more than the device has: the system would end the process."""
    import torch

    held = {item.storage: item.bytes for item in graph.tensors.values() if item.kind != "activation"}
    needed = sum(held.values())
    has = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else memory_bytes()
    if needed > has:
        raise MmworkloadError(
            f"{graph.model} at batch {graph.batch}: its weights and inputs in {graph.dtype} take {binary(needed)},"
            f" and {device} has {binary(has)}. Give a smaller --batch or a narrower --dtype."
        )


def memory_bytes() -> int:
    """The DRAM of the machine, or what the control group of this process may use of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def storage_bytes(tensors: Iterable[Any]) -> int:
    """Bytes of the memory behind ``tensors``, shared memory once; what is no tensor has none."""
    import torch

    storages = {
        storage._cdata: storage.nbytes()
        for storage in (tensor.untyped_storage() for tensor in tensors if isinstance(tensor, torch.Tensor))
    }
    return sum(storages.values())


def peak_memory(program: Eager, device: torch.device) -> dict[str, int]:
    """Bytes: ``model`` (parameters and buffers), ``data`` (inputs), ``intermediates`` and their ``total``.

    The intermediates are the most that the eager model allocates beyond what is there before the forward pass, outputs
    included: on CUDA as the caching allocator counts it, without library workspaces that stay; on the CPU from the
    profiler's record of torch's allocator.
    """
    model = storage_bytes([*program.module.parameters(), *program.module.buffers()])
    data = storage_bytes(program.inputs)
    intermediates = _cuda_peak(program, device) if device.type == "cuda" else _cpu_peak(program, device)
    return {"model": model, "data": data, "intermediates": intermediates, "total": model + data + intermediates}


def _cuda_peak(program: Eager, device: torch.device) -> int:
    import torch

    with torch.inference_mode():
        run = program.eager_run()
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        outputs = run()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        del outputs
    return peak - before


def _cpu_peak(program: Eager, device: torch.device) -> int:
    from mmworkload.measuring.profiling import memory_changes

    return highest(size for _, size in memory_changes(program.eager_run, device))
