"""From layers to the whole: stages, modalities side by side, and what stays on the chip. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor
from mmworkload.simulating.energy import transfer_j
from mmworkload.simulating.estimate import dram_cycles
from mmworkload.straggler import encoded


def unit_of(layer: Layer) -> str:
    """The accelerator of ``layer`` when every modality has its own: the modality, or empty for the shared one."""
    return layer.modality or encoded(layer.stage)


def critical_path_s(
    graph: LayerGraph, latency_s: Mapping[str, float], unit_of: Callable[[Layer], str] = unit_of
) -> float:
    """Seconds from start to end when every modality has an accelerator of its own and the mixed layers one more.

    The longest path over the layer graph, where a layer waits for the layers that write what it reads and for the one
    before it on the same accelerator. ``latency_s`` is by layer name; ``unit_of`` says on which accelerator a layer is.
    """
    finished: dict[str, float] = {}
    free: dict[str, float] = {}
    for layer in graph.layers:
        unit = unit_of(layer)
        sources = (graph.producers[tensor] for tensor, _ in layer.reads if tensor in graph.producers)
        start = max([free.get(unit, 0.0), *(finished[source] for source in sources)])
        finished[layer.name] = free[unit] = start + latency_s[layer.name]
    return max(finished.values(), default=0.0)


def stored_bits(tensor: Tensor, size_bytes: int, bits: int) -> int:
    """Bits that ``size_bytes`` of a traced tensor take in a run of ``bits`` a number; integers, and floats that are
    only stored (eight bits), keep their own width."""
    dtype = tensor.dtype.removeprefix("torch.")
    if dtype.startswith(("float", "bfloat")) and not dtype.startswith("float8"):
        return -(-size_bytes * 8 * bits // tensor.bits)
    return size_bytes * 8


def moved_bits(graph: LayerGraph, layer: Layer, bits: int, kept: frozenset[str] = frozenset()) -> tuple[int, int]:
    """(read, written) bits of ``layer`` through DRAM, each tensor once, without the tensors in ``kept``."""

    def total(pairs: tuple[tuple[str, int], ...]) -> int:
        return sum(stored_bits(graph.tensors[name], size, bits) for name, size in pairs if name not in kept)

    return total(layer.reads), total(layer.writes)


@dataclass(frozen=True)
class OnChip:
    """What a run would save if intermediate tensors that fit stayed in ``level`` until their last use.

    Optimistic: tiles of the running layer take no room. ``saved_bytes`` and ``saved_j`` (None where no energies are
    known) are the DRAM traffic and its energy that fall away, each kept tensor written once and read once by every
    consumer; repeated loads, which fall away too, are not counted. The two floors are lower bounds of the serial
    latency by one formula: compute, vector operations and remaining DRAM traffic of each layer, with every tensor
    through DRAM and with the kept ones not.
    """

    level: str
    capacity_bytes: int
    tensors: int
    saved_bytes: float
    saved_j: float | None
    floor_s: float
    kept_floor_s: float


def buffer_level(arch: Architecture) -> str | None:
    """The largest on-chip level that the whole array shares and that holds both inputs and outputs."""
    shared = [name for name in arch.outer_levels[1:] if {"input", "output"} <= set(arch.levels[name].holds)]
    return max(shared, key=lambda name: arch.levels[name].words or 0, default=None)


def kept_tensors(graph: LayerGraph, capacity_bits: int, bits: int) -> frozenset[str]:
    """Intermediate tensors that stay on the chip from their producer to their last consumer.

    First come, first served, in program order: a tensor is kept when it fits beside those kept at that time. What the
    model returns, and state that outlives the run, is not kept.
    """
    last_use = {name: index for index, layer in enumerate(graph.layers) for name, _ in layer.reads}
    alive: list[tuple[int, int]] = []
    kept = set()
    for index, layer in enumerate(graph.layers):
        alive = [(last, size) for last, size in alive if last >= index]
        for name, _ in layer.writes:
            tensor = graph.tensors[name]
            if tensor.kind != "activation" or name in graph.outputs or name not in last_use:
                continue
            size = stored_bits(tensor, tensor.bytes, bits)
            if sum(other for _, other in alive) + size <= capacity_bits:
                alive.append((last_use[name], size))
                kept.add(name)
    return frozenset(kept)


def on_chip(graph: LayerGraph, arch: Architecture, bits: int) -> OnChip | None:
    """See :class:`OnChip`; None when the architecture has no shared buffer for inputs and outputs."""
    level = buffer_level(arch)
    if level is None:
        return None
    capacity = (arch.levels[level].words or 0) * arch.dram.word_bits
    kept = kept_tensors(graph, capacity, bits)
    dram = next(iter(arch.levels))
    saved_bits, saved_j, all_cycles, kept_cycles = 0, 0.0, 0, 0
    for layer in graph.layers:
        everything, remaining = moved_bits(graph, layer, bits), moved_bits(graph, layer, bits, kept)
        read, written = everything[0] - remaining[0], everything[1] - remaining[1]
        saved_bits += read + written
        saved_j += transfer_j(arch, dram, read_bits=read, write_bits=written)
        all_cycles += _floor_cycles(layer, arch, everything)
        kept_cycles += _floor_cycles(layer, arch, remaining)
    second = arch.clock_mhz * 1e6
    return OnChip(
        level=level,
        capacity_bytes=capacity // 8,
        tensors=len(kept),
        saved_bytes=-(-saved_bits // 8),
        saved_j=saved_j if arch.charged else None,
        floor_s=all_cycles / second,
        kept_floor_s=kept_cycles / second,
    )


def _floor_cycles(layer: Layer, arch: Architecture, moved: tuple[int, int]) -> int:
    array = sum(-(-work.problem.points // arch.elements) * work.count for work in layer.work)
    return max(array, -(-layer.vector_ops // arch.vector.lanes), dram_cycles(arch, *moved))
