"""How much memory a forward pass needs, and whether a device has it: when a batch no longer fits, it is seen.

Memory is counted by storage, so tied weights, in-place operators and caches that are written in place count once. What
is there before the pass stays throughout: parameters, inputs, constants and state. What a layer writes lives from that
layer to the last one that reads it, in program order; what the model returns lives to the end. The most that is alive
at a time is a lower bound of what a framework allocates: Python names keep some tensors longer, and library workspaces,
the allocator's rounding and the driver's own share come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from mmworkload.arch import Architecture
from mmworkload.graph import LayerGraph
from mmworkload.layer import Tensor
from mmworkload.reporting.units import binary
from mmworkload.simulating.rollup import stored_bits

GIB = 2**30
# What memory is for when several values share it; the first that applies.
_RESIDENT = ("weight", "input", "constant", "state")


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one forward pass on ``batch`` samples.

    ``unread_bytes`` are parameters that the model has and no layer reads; ``state_bytes`` what outlives the pass (a
    cache); ``peak_activation_bytes`` the most that layers have written and still need, while ``peak_layer`` runs (the
    first such; empty when no layer writes).
    """

    weights_bytes: int
    unread_bytes: int
    constant_bytes: int
    input_bytes: int
    state_bytes: int
    peak_activation_bytes: int
    peak_layer: str
    batch: int

    @property
    def fixed_bytes(self) -> int:
        """What does not grow with the batch."""
        return self.weights_bytes + self.unread_bytes + self.constant_bytes

    @property
    def per_batch_bytes(self) -> int:
        """What grows with the batch, at this one."""
        return self.input_bytes + self.state_bytes + self.peak_activation_bytes

    @property
    def total_bytes(self) -> int:
        return self.fixed_bytes + self.per_batch_bytes


@dataclass(frozen=True)
class Fit:
    """What is needed of what there is.

    ``capacity_bytes``, ``share`` and ``fits`` are None when the capacity is not known; ``largest_batch`` also when
    nothing grows with the batch. With ``unified`` memory the host needs a share of it, which is not known and not
    counted.
    """

    need_bytes: int
    capacity_bytes: int | None
    share: float | None
    unified: bool
    largest_batch: int | None

    @property
    def fits(self) -> bool | None:
        return None if self.capacity_bytes is None else self.need_bytes <= self.capacity_bytes

    def __str__(self) -> str:
        need = binary(self.need_bytes)
        if self.capacity_bytes is None or self.share is None:
            return f"{need} of a memory of unknown size"
        text = f"{need} of {binary(self.capacity_bytes)} ({self.share:.1%})"
        if not self.fits:
            text += ", does not fit"
            if self.largest_batch is not None:
                text += f" (largest batch that does: {self.largest_batch})" if self.largest_batch else " at any batch"
        return text + ("; the host's share of this memory is unknown" if self.unified else "")


def memory_need(graph: LayerGraph, bits: int | None = None) -> MemoryNeed:
    """Bytes that ``graph`` needs with numbers of ``bits`` bits; default is as traced, integers keep their own width.

    Layers of the host are left out; what they hand over is an input. Of a workload of several parts that follow each
    other, the largest need is that of the whole.
    """
    graph = graph.where(lambda layer: layer.placement == "device")
    sizes = _storage_bytes(graph.tensors.values(), bits)
    use: dict[str, str] = {}
    for tensor in graph.tensors.values():
        known = use.get(tensor.storage)
        if tensor.kind in _RESIDENT and (known is None or _RESIDENT.index(tensor.kind) < _RESIDENT.index(known)):
            use[tensor.storage] = tensor.kind
    resident = dict.fromkeys(_RESIDENT, 0)
    for storage, kind in use.items():
        resident[kind] += sizes[storage]
    _, alive = lifetimes(graph, {storage: size for storage, size in sizes.items() if storage not in use})
    peak = max(alive, default=0)
    peak_layer = graph.layers[alive.index(peak)].name if peak else ""
    weights = graph.weights()
    unread = max(0, graph.built_params - graph.total_params)
    width = bits or (weights[0].bits if weights else 32)
    return MemoryNeed(
        weights_bytes=resident["weight"],
        unread_bytes=-(-unread * width // 8),
        constant_bytes=resident["constant"],
        input_bytes=resident["input"],
        state_bytes=resident["state"],
        peak_activation_bytes=peak,
        peak_layer=peak_layer,
        batch=graph.batch,
    )


def fits(need: MemoryNeed, arch: Architecture) -> Fit:
    """Whether ``arch`` has the memory. ``largest_batch`` takes inputs, state and activations to grow with the batch."""
    gib = arch.dram.capacity_gib
    if gib is None:
        return Fit(need.total_bytes, None, None, arch.unified_memory, None)
    capacity = int(gib * GIB)
    growing = need.per_batch_bytes
    largest = max(0, (capacity - need.fixed_bytes) * need.batch // growing) if growing else None
    return Fit(need.total_bytes, capacity, need.total_bytes / capacity, arch.unified_memory, largest)


def _storage_bytes(tensors: Iterable[Tensor], bits: int | None) -> dict[str, int]:
    """Storage to its bytes: those of its largest value."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        size = -(-stored_bits(tensor, tensor.bytes, bits or tensor.bits) // 8)
        sizes[tensor.storage] = max(size, sizes.get(tensor.storage, 0))
    return sizes


def lifetimes(graph: LayerGraph, sizes: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """Bytes of the storages in ``sizes`` that each layer is the first to use, and bytes alive while it runs."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, layer in enumerate(graph.layers):
        for name, _ in (*layer.reads, *layer.writes):
            storage = graph.tensors[name].storage
            if storage in sizes:
                first.setdefault(storage, index)
                last[storage] = index
    for name in graph.outputs:
        storage = graph.tensors[name].storage
        if storage in last:
            last[storage] = len(graph.layers) - 1
    born, freed = [0] * len(graph.layers), [0] * len(graph.layers)
    for storage, index in first.items():
        born[index] += sizes[storage]
        freed[last[storage]] += sizes[storage]
    gone = accumulate(freed, initial=0)
    return born, [made - lost for made, lost in zip(accumulate(born), gone, strict=False)]
