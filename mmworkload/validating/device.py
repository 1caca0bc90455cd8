"""The measured device told as an architecture: which one describes it, and what each layer would wait for on it.

Pure functions of the traced graph and of published or measured peaks; nothing here looks at a measured time.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.layer import Layer
from mmworkload.measuring.result import Measurement
from mmworkload.problem import Problem

_ARRAY = ("mac", "mul")
FEW_CHANNELS = 4


def describes(arch: Architecture, measurement: Measurement) -> bool:
    """Whether ``arch`` is the device of ``measurement``: a CPU by the name that the system gives, a GPU by its own."""
    name = str(measurement.provenance.get("device_name", ""))
    if not name:
        return False
    if measurement.device == "cpu":
        return arch.kind == "cpu" and name in arch.description
    return arch.kind == "gpu" and _plain(arch.name) in _plain(name)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


@dataclass(frozen=True)
class Terms:
    """What one run of a layer asks of a device: seconds of arithmetic at its peaks, seconds of DRAM traffic at its
    bandwidth (every tensor once, as stored), kernels to start, and the bytes behind the second figure."""

    compute_s: float
    memory_s: float
    launches: int
    bytes: int


def terms(layer: Layer, arch: Architecture, block: int = 1) -> Terms:
    """Each loop nest is a kernel, and a layer is one at least. Convolutions run their channels in blocks of ``block``,
    the last one filled up."""
    lanes_per_s = arch.vector.lanes * arch.clock_mhz * 1e6
    filled = block if layer.category == "Conv" else 1
    array = sum(_points(work.problem, filled) * work.count for work in layer.work if work.problem.operation in _ARRAY)
    vector = sum(work.problem.points * work.count for work in layer.work if work.problem.operation not in _ARRAY)
    return Terms(
        compute_s=array / arch.macs_per_second + (vector + layer.vector_ops) / lanes_per_s,
        memory_s=layer.bytes / arch.dram_bytes_per_second,
        launches=layer.launches,
        bytes=layer.bytes,
    )


def _points(problem: Problem, block: int) -> int:
    """Points of the loop nest with channels in full blocks: outputs and inputs, the groups of a depthwise convolution.
    Inputs of few channels, as images are, have kernels of their own, without blocks."""
    if block == 1:
        return problem.points
    sizes = problem.extents
    if sizes.get("G", 1) > 1 and sizes.get("M", 1) == sizes.get("C", 1) == 1:
        names = ["G"]
    else:
        names = ["M", *(["C"] if sizes.get("C", 1) > FEW_CHANNELS else [])]
    points = problem.points
    for name in names:
        size = sizes.get(name, 1)
        points = points // size * (-(-size // block) * block)
    return points


def operations(layer: Layer) -> int:
    """Multiply-accumulates, products and elementwise operations of one run."""
    return sum(work.problem.points * work.count for work in layer.work) + layer.vector_ops


def cache_bytes(arch: Architecture) -> int:
    """Capacity of the on-chip levels that all of the device shares."""
    sizes = (arch.levels[name].size_kib or 0 for name in arch.outer_levels[1:])
    return round(sum(sizes) * 1024)


def bound(layer: Layer, arch: Architecture, measured_s: float, kernels: int) -> str:
    """What most of a measured time is explained by: ``launch``, ``memory`` or ``compute``; ``other`` when all three
    peaks together explain less than a tenth of it."""
    needs = terms(layer, arch)
    found = {
        "launch": kernels * (arch.launch_us or 0.0) * 1e-6,
        "memory": needs.memory_s,
        "compute": needs.compute_s,
    }
    if sum(found.values()) < 0.1 * measured_s:
        return "other"
    return max(found, key=lambda name: found[name])
