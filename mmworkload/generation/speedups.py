"""What the levers of the generation paper make of a generation's time, alone and together, by the roofline.

A run starts eager: attention is written out and every kernel is started on its own. ``launch_us`` is what starting one
keeps the device waiting; no published specification has it, so it is asked for. torch.compile's fusing of elementwise
kernels is not in it: a CUDA graph is one start a run, of the same kernels. Narrow weights and caches are widened by the
kernel that reads them, as the paper's quantised kernels do it; a library that widens them in a kernel of its own starts
one more each time, and writes and reads them once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mmworkload.arch import Architecture
from mmworkload.generation.generation import Generation
from mmworkload.generation.levers import EAGER, SDPA, pulled
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import dram_cycles
from mmworkload.simulating.rollup import moved_bits

US = 1e-6
PREFILL = "prefill"


@dataclass(frozen=True)
class Way:
    """A way to run: the graph's levers in ``settings`` (:data:`~mmworkload.generation.levers.LEVERS`), whether CUDA
    graphs start a whole run at once, and whether LayerSkip drafts (which is a generation of its own)."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    cuda_graph: bool = False
    layerskip: bool = False


_FUSED = {"attention": SDPA}
_INT4 = {"weights": "int4", "cache": "int8"}
WAYS = (
    Way("eager"),
    Way("SDPA", _FUSED),
    Way("CUDA graph", cuda_graph=True),
    Way("weights int8", {"weights": "int8"}),
    Way("weights int4", {"weights": "int4"}),
    Way("cache int8", {"cache": "int8"}),
    Way("LayerSkip", layerskip=True),
    Way("SDPA, CUDA graph", _FUSED, cuda_graph=True),
    Way("SDPA, CUDA graph, weights int8", {**_FUSED, "weights": "int8"}, cuda_graph=True),
    Way("SDPA, CUDA graph, weights int4, cache int8", {**_FUSED, **_INT4}, cuda_graph=True),
    Way("all with LayerSkip", {**_FUSED, **_INT4}, cuda_graph=True, layerskip=True),
)


@dataclass(frozen=True)
class Timed:
    """Seconds of one way on one architecture: of the prefill, of all that follows it, and of all ``launches`` alone."""

    way: Way
    prefill_s: float
    decode_s: float
    launches: float
    launch_s: float

    @property
    def total_s(self) -> float:
        return self.prefill_s + self.decode_s


def speedups(
    plain: Generation, skipping: Generation | None, arch: Architecture, launch_us: float, ways: Iterable[Way] = WAYS
) -> list[Timed]:
    """The ways on ``arch``; those with LayerSkip are of ``skipping`` and left out where there is none.

    The generations come without levers. ``launch_us`` replaces the architecture's own.
    """
    bare = arch.model_copy(update={"launch_us": None})
    found = []
    for way in ways:
        base = skipping if way.layerskip else plain
        if base is not None:
            found.append(_timed(pulled(base, {"attention": EAGER, **way.settings}), bare, way, launch_us))
    return found


def _timed(generation: Generation, arch: Architecture, way: Way, launch_us: float) -> Timed:
    workload = generation.sampled(held_out=False).workload
    rows = iter(simulate(workload, arch, "roofline", cache=False).layers)
    bits = arch.bits["input"]
    seconds = {True: 0.0, False: 0.0}
    kernels = 0.0
    for part in workload.parts:
        graph = part.graph.where(lambda layer: layer.placement == "device")
        part_s, part_kernels = 0.0, 0
        for layer in graph.layers:
            row = next(rows)
            fused = layer.op == "attention"
            part_s += fused_s(graph, layer, arch, bits) if fused else row.latency_s
            part_kernels += 1 if fused else layer.launches
        started = 1 if way.cuda_graph else part_kernels
        seconds[part.name == PREFILL] += part.count * (part_s + started * launch_us * US)
        kernels += part.count * started
    return Timed(way, seconds[True], seconds[False], kernels, kernels * launch_us * US)


def fused_s(graph: LayerGraph, layer: Layer, arch: Architecture, bits: int) -> float:
    """Seconds of attention as one kernel, as FlashAttention does it: its scores never leave the chip, so that only what
    the layer itself reads and writes moves while the array computes; its vector operations follow."""
    array = sum(-(-work.problem.points // arch.elements) * work.count for work in layer.work)
    moving = dram_cycles(arch, *moved_bits(graph, layer, bits))
    vector = -(-layer.vector_ops // arch.vector.lanes)
    return (max(array, moving) + vector) / (arch.clock_mhz * 1e6)
