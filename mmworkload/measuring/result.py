"""What a measurement gives: three times that are never mixed, and where they were taken."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmworkload.errors import FormatError
from mmworkload.files import read_json, write_atomic
from mmworkload.measuring.energy import Energy
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas

    from mmworkload.straggler import Straggler

# Written before there were levels; what is missing stays empty.
READABLE = (1, SCHEMA_VERSION)


@dataclass(frozen=True)
class Spread:
    """Repeated times in seconds: median, quartiles, extremes and number of repeats."""

    median_s: float
    q1_s: float
    q3_s: float
    min_s: float
    max_s: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The spread of at least one time."""
        ordered = sorted(seconds)
        if len(ordered) == 1:
            (only,) = ordered
            return cls(only, only, only, only, only, 1)
        q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(median, q1, q3, ordered[0], ordered[-1], len(ordered))


@dataclass(frozen=True)
class LayerTime:
    """One layer of the traced graph: the durations of its kernels, not the wall time of its range.

    ``kernels`` is how many kernels one run launches, copies and fills included; on the CPU, how many operators it runs,
    those inside others too.
    """

    layer: str
    op: str
    stage: str
    modality: str
    category: str
    time: Spread
    kernels: int


@dataclass(frozen=True)
class StageTime:
    """One stage: its time between timers at its boundaries, and what the profile of the layer level says of it.

    Parameters
    ----------
    modality: of its layers, empty when they are of several or of none.
    time: the sum of its segments in the traced program, which has no other timers.
    cpu_s, runtime_s: time of the host in its operators and in calls of the device's runtime, each without what it
        calls.
    busy_s, idle_s: the device works for it, or does nothing while the stage is under way. On the CPU the processor is
        the device. The profiler lengthens idle times.
    launches, syncs, copies: kernels launched, calls that wait for the device, copies between host and device, in a
        typical run.
    """

    stage: str
    modality: str
    time: Spread
    cpu_s: float
    runtime_s: float
    busy_s: float
    idle_s: float
    launches: int
    syncs: int
    copies: int


@dataclass(frozen=True)
class FusedKernel:
    """A kernel that a compiler made: the layers it covers (none where the compiler does not say) and its time a run."""

    name: str
    layers: tuple[str, ...]
    time_s: float
    calls: int


@dataclass(frozen=True)
class Execution:
    """Another way to run the model, timed in turn with the eager one.

    ``name`` is ``compile``, ``cuda-graph``, ``streams`` or ``alone``; ``what`` says what was run; ``kernels`` are those
    of a compiled model.
    """

    name: str
    what: str
    time: Spread
    kernels: tuple[FusedKernel, ...] = ()


@dataclass(frozen=True)
class TrainingStage:
    """One stage of a training iteration, ``loss`` among them; of no name are parameters that no layer reads.

    Parameters
    ----------
    forward, backward, update: between timers at its boundaries in the traced program, the sum of its segments.
    forward_kernels_s, backward_kernels_s, update_kernels_s: the sum of its kernels' durations under the profiler.
    """

    stage: str
    forward: Spread
    backward: Spread
    update: Spread
    forward_kernels_s: float
    backward_kernels_s: float
    update_kernels_s: float


@dataclass(frozen=True)
class TrainingLayer:
    """One layer of the program that trains: kernel time of its forward pass and of the backward pass that this makes.

    The layer named ``(views)`` of a stage stands for its views, whose gradients cost work.
    """

    layer: str
    op: str
    stage: str
    modality: str
    forward_s: float
    backward_s: float


@dataclass(frozen=True)
class Training:
    """Training iterations: forward pass, backward pass and update of the parameters (``measuring.training``).

    Parameters
    ----------
    loss, optimizer: what was computed and stepped, in words.
    iteration, forward, backward, update: the user's eager model in training mode, uninstrumented but for the moments
        between the three.
    stages, layers: of the traced program in training mode; empty where it has none.
    unattributed_s: kernel time of an iteration that belongs to no stage, median of the profiled ones.
    attributed_share: share of the kernel time of the whole profiled iterations that belongs to a stage; None where
        nothing was traced.
    peak_memory_bytes: ``model``, ``data``, ``gradients`` (of parameters; those alive at the peak), ``optimizer`` (its
        state), ``intermediates`` (the rest of the peak) and ``total``.
    note: why there are no stages.
    """

    loss: str
    optimizer: str
    iteration: Spread
    forward: Spread
    backward: Spread
    update: Spread
    stages: tuple[TrainingStage, ...]
    layers: tuple[TrainingLayer, ...]
    unattributed_s: float
    attributed_share: float | None
    peak_memory_bytes: dict[str, int]
    note: str = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Training:
        """The inverse of :func:`dataclasses.asdict`."""
        return cls(
            **{
                **_spread(data, "iteration", "forward", "backward", "update"),
                "stages": tuple(
                    TrainingStage(**_spread(item, "forward", "backward", "update")) for item in data["stages"]
                ),
                "layers": tuple(TrainingLayer(**item) for item in data["layers"]),
            }
        )


def _spread(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**data, **{name: Spread(**data[name]) for name in names}}


@dataclass(frozen=True)
class Measurement:
    """A model timed on a device.

    Parameters
    ----------
    eager: (a) the user's eager model end to end, uninstrumented: *the* time.
    graph: (b) the traced graph end to end.
    layers: (c) per layer, the sum of its kernels' durations, from a profiled run of the graph.
    unattributed_s: kernel time of views and other nodes that are no layer, median per run.
    kernel_difference: share of kernel time by which the kernels of eager and graph differ, 0 to 1.
    peak_memory_bytes: ``model`` (parameters and buffers), ``data`` (inputs), ``intermediates`` and ``total``.
    only: the stage globs of ``--only``, which choose the rows of ``layers``; all else is of the whole model.
    provenance: device, driver, clocks, versions, threads, settings, git revision, command, date.
    stage_times: the stage level, in order of first use.
    overhead: end-to-end time of an instrumented run over the same run without instruments: ``stage`` (timers at stage
        boundaries), ``layer`` (node by node under the profiler), both over ``graph``, and ``kernel`` (the eager model
        under the profiler) over ``eager``. Of the fastest runs, which other load on the machine disturbs least.
    attributed_share: share of the kernel time of the whole profiled runs that belongs to a layer, 0 to 1; None when it
        was not measured.
    executions: further end-to-end times: compiled, as a CUDA graph, encoders on streams, a stage alone.
    energy: joules of an inference of the eager model; None when it was not measured.
    training: training iterations; None when they were not measured. All else is of inference.
    """

    model: str
    variant: str
    batch: int
    dtype: str
    device: str
    eager: Spread
    graph: Spread
    layers: tuple[LayerTime, ...]
    unattributed_s: float
    kernel_difference: float
    peak_memory_bytes: dict[str, int]
    only: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    stage_times: tuple[StageTime, ...] = ()
    overhead: dict[str, float] = field(default_factory=dict)
    attributed_share: float | None = None
    executions: tuple[Execution, ...] = ()
    energy: Energy | None = None
    training: Training | None = None

    def __repr__(self) -> str:
        return (
            f"<Measurement of {self.model!r} on {self.device!r}: batch {self.batch}, {len(self.layers):,} layers,"
            f" {self.eager.median_s:.4g} s end to end>"
        )

    @property
    def straggler(self) -> Straggler:
        """The slowest encoder, from the stage level; from the kernels of the layers where that was not measured."""
        from mmworkload.straggler import encoders, straggler

        times = {item.stage: item.time.median_s for item in self.stage_times} or self.stages()
        return straggler(encoders(times))

    @property
    def layer_sum_s(self) -> float:
        """Sum of (c), in seconds."""
        return sum(item.time.median_s for item in self.layers)

    @property
    def user_kernels(self) -> bool:
        """False when eager and graph run different kernels for more than 5 % of the time: rows then are "not the
        user's kernels"."""
        return self.kernel_difference <= 0.05

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer: layer, op, stage, modality, category, time_s, q1_s, q3_s, share, kernels."""
        import pandas

        total = self.layer_sum_s or 1.0
        rows = [
            {
                "layer": item.layer,
                "op": item.op,
                "stage": item.stage,
                "modality": item.modality,
                "category": item.category,
                "time_s": item.time.median_s,
                "q1_s": item.time.q1_s,
                "q3_s": item.time.q3_s,
                "share": item.time.median_s / total,
                "kernels": item.kernels,
            }
            for item in self.layers
        ]
        return pandas.DataFrame(rows)

    def stages(self) -> dict[str, float]:
        """Seconds of kernel time per stage, in order of first use."""
        totals: dict[str, float] = {}
        for item in self.layers:
            totals[item.stage] = totals.get(item.stage, 0.0) + item.time.median_s
        return totals

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            **asdict(self),
            **{name: made(self) for name, made in _DERIVED.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Measurement:
        """The inverse of :meth:`to_dict`. Raises FormatError."""
        if not isinstance(data, dict) or data.get("schema_version") not in READABLE:
            raise FormatError(f"not a measurement of schema_version {' or '.join(map(str, READABLE))}")
        try:
            values = {key: value for key, value in data.items() if key not in ("schema_version", *_DERIVED)}
            return cls(
                **{
                    **values,
                    "only": tuple(values["only"]),
                    "eager": Spread(**values["eager"]),
                    "graph": Spread(**values["graph"]),
                    "layers": tuple(_timed(LayerTime, item) for item in values["layers"]),
                    "stage_times": tuple(_timed(StageTime, item) for item in values.get("stage_times", ())),
                    "executions": tuple(
                        _timed(Execution, {**item, "kernels": tuple(map(_fused, item["kernels"]))})
                        for item in values.get("executions", ())
                    ),
                    "energy": Energy.from_dict(values["energy"]) if values.get("energy") else None,
                    "training": Training.from_dict(values["training"]) if values.get("training") else None,
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"not a complete measurement: {type(error).__name__} {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes JSON, whole or not at all."""
        write_atomic(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Measurement:
        """Reads what :meth:`save` wrote. FormatError names the file and what is wrong."""
        data = read_json(Path(path))
        try:
            return cls.from_dict(data)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error


_Timed = TypeVar("_Timed", LayerTime, StageTime, Execution)


def _timed(kind: type[_Timed], item: dict[str, Any]) -> _Timed:
    return kind(**_spread(item, "time"))


def _fused(item: dict[str, Any]) -> FusedKernel:
    return FusedKernel(**{**item, "layers": tuple(item["layers"])})


# What the JSON holds besides the fields, for readers without this package.
_DERIVED: dict[str, Callable[[Measurement], Any]] = {
    "stages": Measurement.stages,
    "straggler": lambda measurement: asdict(measurement.straggler),
}
