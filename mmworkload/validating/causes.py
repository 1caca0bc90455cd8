"""Where a model of the hardware disagrees with the device, and why: rules on both sides' figures. Pure functions.

A layer disagrees when it has at least one per cent of either side's time and the model is off by more than half, in
seconds on the same device and in shares on another. Each one gets the first cause whose evidence holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.units import si
from mmworkload.validating.accuracy import SMALLEST_SHARE
from mmworkload.validating.device import cache_bytes, terms

if TYPE_CHECKING:
    from mmworkload.arch import Architecture
    from mmworkload.layer import Layer
    from mmworkload.simulating.result import LayerResult
    from mmworkload.validating.result import LayerRow

OFF = 1.5
"""Factor between the sides from which a layer disagrees."""
NEAR_FLOOR = 3.0
"""Kernels that take less than this many times what starting one costs do little but start."""
SHORTEST = 0.1
"""Without a known launch cost, the time that this part of all kernels does not exceed stands in for it."""
IDLE_ARRAY = 0.5
"""Utilisation below which the array, not the amount of work, decides."""


@dataclass(frozen=True)
class Evidence:
    """One layer that disagrees. ``ratio`` is simulated over measured, in seconds or in shares; ``points`` the
    difference of its shares (or of its seconds over all measured ones), signed."""

    layer: str
    ratio: float | None
    points: float
    text: str


@dataclass(frozen=True)
class Cause:
    """One reason, the layers it holds for (the costliest first), and what a reader can do about it."""

    kind: str
    what: str
    advice: str
    layers: tuple[Evidence, ...]

    @property
    def points(self) -> float:
        """Sum of the layers' differences, unsigned."""
        return sum(abs(item.points) for item in self.layers)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "points": self.points}


# kind: what is wrong, what to do.
_TEXTS = {
    "without-kernels": (
        "One side has no time for these layers.",
        "On the measured side nothing ran in the layer's range (a view, or work fused into a neighbour): judge them"
        " together with the neighbour. On the simulated side the layer runs on the host or has no lowering.",
    ),
    "other-kernels": (
        "The measured rows are not of the kernels that the user's model runs.",
        "Compare stages and the whole rather than layers, or measure with the same attention backend and without the"
        " fused fast path.",
    ),
    "launch-bound": (
        "On the device these layers do little but start kernels; the model counts arithmetic and bytes.",
        "Raise the batch, use CUDA graphs or torch.compile, or compare with an architecture that has launch_us; on an"
        " accelerator that starts layers for free the difference is real.",
    ),
    "more-kernels": (
        "The device runs more kernels for these layers than the model charges.",
        "Look at the kernels of the layer: a reshape that copies, or a composite operator. The calibrated model takes"
        " the mean for the operator class.",
    ),
    "memory-bound": (
        "The layer moves data and the device reaches less than its bandwidth on it.",
        "Strided or small accesses, or a layout change: the model moves every tensor once at full bandwidth. Use the"
        " calibrated model, or check the memory format.",
    ),
    "below-peak": (
        "The arithmetic runs below the peak that the model assumes.",
        "The library's kernel for this shape is inefficient (few rows, odd sizes, another precision). Use the"
        " calibrated model, or another batch.",
    ),
    "in-cache": (
        "The model sends every tensor through DRAM; on the device it stays in a cache.",
        "Look at what fits on the chip (on_chip of the simulation), or measure with cold caches; with larger batches"
        " the effect ends.",
    ),
    "launch-charged": (
        "The model starts a kernel for each loop nest; the device starts fewer.",
        "The library fuses the steps of the layer (recurrent layers, attention): take the layer as one kernel.",
    ),
    "vector-unit": (
        "The architecture's vector unit is the limit of layers that the device runs at memory speed.",
        "Add lanes (--set vector.lanes=...), or fuse these layers with the ones before them.",
    ),
    "idle-array": (
        "The mapping leaves most of the array idle.",
        "The shape does not fill the array in the dimensions that it unrolls: see the mapping, raise the search effort"
        " (--effort thorough), or choose another array.",
    ),
    "memory-wall": (
        "The architecture waits for DRAM where the device does not.",
        "Its bandwidth is low for its arithmetic: --set levels.dram.read_bandwidth=..., or keep tensors on the chip.",
    ),
    "peak-too-low": (
        "The device is faster than the peaks that the model assumes.",
        "The peaks were measured while the machine was busy, or the layer computes in another precision: measure the"
        " architecture again (python -m mmworkload.host), or choose the precision with --dtype.",
    ),
    "slower-than-class": (
        "These layers are slower than their operator class on the workloads that the constants are fitted on.",
        "Fit on workloads with layers of this size, or measure again where nothing else runs.",
    ),
    "faster-than-class": (
        "These layers are faster than their operator class on the workloads that the constants are fitted on.",
        "Fit on workloads with layers of this size, or measure again where nothing else runs.",
    ),
    "compute-heavy": (
        "The architecture has little arithmetic for its bandwidth, so that dense layers weigh more than on the device.",
        "A difference of the designs and no error of the model, unless both describe the same device.",
    ),
}
_ORDER = tuple(_TEXTS)


@dataclass(frozen=True)
class Sided:
    """What the rules look at: one layer of both sides, and what it disagrees by."""

    row: LayerRow
    layer: Layer | None
    result: LayerResult | None
    ratio: float | None
    points: float

    @property
    def measured_s(self) -> float:
        return (self.row.sides.measured_s or 0.0) / self.row.weight

    @property
    def kernel_s(self) -> float | None:
        """Measured seconds per kernel."""
        return self.measured_s / self.row.kernels if self.row.kernels and self.measured_s else None


@dataclass(frozen=True)
class Context:
    """What holds for all layers of a comparison.

    Parameters
    ----------
    device: the architecture of the measured device, where one is known.
    same_device: it is what was simulated.
    calibrated: by the calibrated model.
    launches: kernels are started from a host. On a CPU they are operators, those inside others too, whose number says
        little.
    kernel_difference, user_kernels: of the measurement.
    """

    device: Architecture | None
    same_device: bool
    calibrated: bool
    launches: bool
    kernel_difference: float = 0.0
    user_kernels: bool = True

    @property
    def noun(self) -> str:
        return "kernels" if self.launches else "operators"


def causes(sided: Sequence[Sided], context: Context) -> tuple[Cause, ...]:
    """See the module."""
    start = _start(sided, context.device, context.noun)
    found: dict[str, list[Evidence]] = {}
    if not context.user_kernels:
        differing, noun = context.kernel_difference, context.noun.removesuffix("s")
        text = f"{100 * differing:.0f} % of the {noun} time is in {noun}s that only one of eager and graph runs"
        found["other-kernels"] = [Evidence("", None, differing, text)]
    for item in sided:
        if item.row.sides.larger_share < SMALLEST_SHARE:
            continue
        kind, text = _why(item, context, start)
        if kind:
            found.setdefault(kind, []).append(Evidence(item.row.label, item.ratio, item.points, text))
    made = [
        Cause(kind, *_TEXTS[kind], tuple(sorted(found[kind], key=lambda item: -abs(item.points))))
        for kind in _ORDER
        if kind in found
    ]
    return tuple(sorted(made, key=lambda cause: -cause.points))


@dataclass(frozen=True)
class _Start:
    """What starting a kernel costs, and how that is known."""

    seconds: float
    known: str


def _start(sided: Iterable[Sided], device: Architecture | None, noun: str) -> _Start:
    """The launch cost of the device; else the time that a tenth of all kernels, each at its layer's mean, do not
    exceed."""
    if device is not None and device.launch_us:
        seconds = device.launch_us * 1e-6
        return _Start(seconds, f"starting one costs {si(seconds, 's')}")
    times = sorted((item.kernel_s, item.row.kernels or 0) for item in sided if item.kernel_s)
    needed = SHORTEST * sum(count for _, count in times)
    seconds = 0.0
    for each_s, count in times:
        seconds, needed = each_s, needed - count
        if needed <= 0:
            break
    return _Start(seconds, f"a tenth of all {noun} take no more than {si(seconds, 's')}")


def _why(item: Sided, context: Context, start: _Start) -> tuple[str, str]:
    """The kind of the cause and its evidence; empty when the layer agrees."""
    sides = item.row.sides
    if not sides.measured_s or not sides.simulated_s:
        side = "not simulated" if sides.measured_s else "not measured"
        return "without-kernels", f"{side}; {100 * sides.larger_share:.1f} % of the other side"
    if item.ratio is None or 1 / OFF <= item.ratio <= OFF:
        return "", ""
    if context.calibrated:
        kind = "slower-than-class" if item.ratio < 1 else "faster-than-class"
        return kind, f"{item.row.category or item.row.op}: {_rate(item, context, memory=not item.row.macs)}"
    return _too_fast(item, context, start) if item.ratio < 1 else _too_slow(item, context)


def _too_fast(item: Sided, context: Context, start: _Start) -> tuple[str, str]:
    kernels = item.row.kernels or 0
    charged = max(1, item.result.count if item.result else 1)
    if item.kernel_s and item.kernel_s <= NEAR_FLOOR * start.seconds:
        noun, average = (context.noun.removesuffix("s"), "") if kernels == 1 else (context.noun, " on average")
        each = f"{kernels} {noun} of {si(item.kernel_s, 's')}{average}"
        return "launch-bound", f"{each}; {start.known}"
    if context.launches and kernels > 2 * charged:
        return "more-kernels", f"{kernels} kernels run, {charged} charged"
    if item.result is not None and item.result.bound in ("memory", "vector", "launch"):
        return "memory-bound", _rate(item, context, memory=True)
    return "below-peak", _rate(item, context, memory=False)


def _too_slow(item: Sided, context: Context) -> tuple[str, str]:
    bound = item.result.bound if item.result else ""
    rate = item.layer.bytes / item.measured_s if item.layer and item.measured_s else 0.0
    if bound == "launch":
        charged = max(1, item.result.count if item.result else 1)
        return "launch-charged", f"{charged} starts charged, {item.row.kernels or 0} {context.noun} run"
    if bound == "memory":
        device = context.device
        if device is not None and item.layer is not None:
            fits = 0 < item.layer.bytes <= cache_bytes(device)
            if fits or rate > device.dram_bytes_per_second:
                size = f"{item.layer.bytes / 1024:,.0f} KiB"
                return "in-cache", f"{size} at {rate / 1e9:.1f} GB/s; DRAM has {_gb(device)}"
        return "memory-wall", f"measured at {rate / 1e9:.1f} GB/s"
    if context.same_device:
        return "peak-too-low", _rate(item, context, memory=False)
    if bound == "vector":
        return "vector-unit", f"{item.layer.vector_ops if item.layer else 0:,} elementwise operations"
    if item.result is not None and item.result.utilization < IDLE_ARRAY:
        return "idle-array", f"{100 * item.result.utilization:.0f} % of the array busy"
    return "compute-heavy", _rate(item, context, memory=False)


def _rate(item: Sided, context: Context, *, memory: bool) -> str:
    """What the device reached on the layer, beside its peak where that is known."""
    device = context.device
    if item.layer is None or not item.measured_s:
        return "not in the graph"
    if memory:
        text = f"{item.layer.bytes / item.measured_s / 1e9:.2f} GB/s"
        return text if device is None else f"{text} of {_gb(device)}"
    text = f"{item.layer.macs / item.measured_s / 1e9:.2f} GMAC/s"
    if device is None:
        return text
    part = terms(item.layer, device).compute_s / item.measured_s
    return f"{text}, {100 * part:.1f} % of the peak"


def _gb(device: Architecture) -> str:
    return f"{device.dram_bytes_per_second / 1e9:.1f} GB/s"
