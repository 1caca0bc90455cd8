"""The frames of one result in the forms that the views are group-bys of. Pure functions of frames and graph.

A layer's time is the median over the profiled runs, as everywhere (docs/numbers.md), and its kernels share it. Flops
and bytes are of the hardware counters where those were read, else ideal: what the traced layer must compute and move
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer
from mmworkload.simulating.footprint import lifetimes

if TYPE_CHECKING:
    import pandas

    from mmworkload.analyzing.view import Need
    from mmworkload.measuring.folder import Result
    from mmworkload.measuring.result import Measurement

WORK = ("flops", "dram_read_bytes", "dram_write_bytes")
WEIGHTED = ("dram_utilization", "occupancy", "ipc", "gld_efficiency", "gst_efficiency")
STALLS = tuple(f"stall_{name}" for name in ("cache", "memory", "execution", "pipe", "sync", "instruction", "other"))
# What the device moves by itself: Nsight Compute has no counters for it.
_MOVED = ("copy", "fill")
_ON_DEVICE = ("kernel", *_MOVED)


def per_run(frame: pandas.DataFrame, by: Sequence[str], value: str, runs: int) -> pandas.DataFrame:
    """The sum of ``value`` in each group (rows) and run (columns); zero in a run without the group."""
    sums = frame.groupby([*by, "run"], sort=False, dropna=False)[value].sum().unstack("run").fillna(0.0)
    for missing in range(runs - sums.shape[1]):
        sums[f"missing {missing}"] = 0.0
    return sums


def shared(layers: pandas.DataFrame, kernels: pandas.DataFrame) -> pandas.Series:
    """Seconds of each kernel: the median of its layer over the runs, shared in the proportion of the kernels' means.

    Means add up and medians do not; shared so, kernels add up to the layer that a measurement states. Both frames are
    of :func:`per_run`, by ``layer`` and by an index with a level of that name.
    """
    of_mean = (layers.median(axis=1) / layers.mean(axis=1)).fillna(0.0)
    return kernels.mean(axis=1) * of_mean.reindex(kernels.index.get_level_values("layer")).to_numpy()


def flops_of(layer: Layer) -> int:
    """Floating-point operations of one run: two a multiply-accumulate, one of any other kind."""
    loops = ((2 if work.problem.operation == "mac" else 1) * work.problem.points * work.count for work in layer.work)
    return sum(loops) + layer.vector_ops


def ideal_intensity(arch: Architecture) -> float:
    """Flops per byte at which a device's peak and its DRAM bandwidth take equally long (the roofline's ridge)."""
    return 2 * arch.macs_per_second / arch.dram_bytes_per_second


@dataclass(frozen=True)
class Memory:
    """Bytes by layer, in program order: newly written, alive while it runs, resident and read."""

    allocated: list[int]
    alive: list[int]
    persistent: list[int]


def memory_of(graph: LayerGraph) -> Memory:
    """By liveness over storages, as in :mod:`mmworkload.simulating.footprint`: what a layer writes lives to its last
    reader, or to the end when the model returns it. Storages of inputs, parameters, constants and state are not
    written anew."""
    resident = {tensor.storage for tensor in graph.tensors.values() if tensor.kind != "activation"}
    size: dict[str, int] = {}
    for tensor in graph.tensors.values():
        size[tensor.storage] = max(tensor.bytes, size.get(tensor.storage, 0))
    allocated, alive = lifetimes(graph, {storage: size[storage] for storage in size if storage not in resident})
    kept = ("weight", "constant", "state")
    persistent = [
        sum(
            {
                graph.tensors[n].storage: graph.tensors[n].bytes
                for n, _ in layer.reads
                if graph.tensors[n].kind in kept
            }.values()
        )
        for layer in graph.layers
    ]
    return Memory(allocated, alive, persistent)


class Taken:
    """One result with the frames that views are made of; each is made on first use.

    ``arch`` is the device's peak and bandwidth, for what is memory-bound.
    """

    def __init__(self, result: Result, arch: Architecture | None = None) -> None:
        self.measurement: Measurement = result.measurement
        self.arch = arch
        self._graph, self._kernels, self._host = result.graph, result.kernels, result.host

    @property
    def graph(self) -> LayerGraph:
        self.require("graph")
        assert self._graph is not None
        return self._graph

    @property
    def stage_times(self) -> Sequence[Any]:
        """The stage level: one entry a stage."""
        self.require("stage")
        return self.measurement.stage_times

    @property
    def counters_read(self) -> bool:
        """Whether any hardware counter was read."""
        names = [name for name in (*WORK, *WEIGHTED, *STALLS) if self._kernels is not None and name in self._kernels]
        return self._kernels is not None and bool(self._kernels[names].notna().any(axis=None))

    def has(self, need: Need) -> bool:
        return NEEDS[need].there(self)

    def require(self, need: Need) -> None:
        """MmworkloadError that says what to run when the result lacks ``need``."""
        if self.has(need):
            return
        m = self.measurement
        run = f"mmworkload measure {m.model} --batch {m.batch} --dtype {m.dtype} --device {m.device} -o result/"
        raise MmworkloadError(
            f"the measurement of {m.model} at batch {m.batch} has no {NEEDS[need].what}. {NEEDS[need].advice}: {run}"
            f"{NEEDS[need].option}"
        )

    @cached_property
    def runs(self) -> int:
        """Profiled forward passes."""
        self.require("kernel")
        assert self._kernels is not None
        return max(1, int(self._kernels["run"].nunique()))

    @cached_property
    def rows(self) -> pandas.DataFrame:
        """One row a kernel of a forward pass: the n-th of its name in its layer is the same one in every run.

        name, layer, occurrence, kind, op, stage, modality, category, name_category; ``kernel_s`` (its part of
        its layer's time, :func:`shared`), ``kernels`` (1 when at least half of the runs have it), counters (mean over
        runs, NaN when not read), ``ideal_*`` (its part of what its layer needs, by time), ``read`` (all counters of
        WORK are there).
        """
        self.require("kernel")
        assert self._kernels is not None
        import numpy

        frame = self._kernels.sort_values(["run", "start_s"], kind="stable").reset_index(drop=True)
        frame["occurrence"] = frame.groupby(["run", "name", "layer"], sort=False).cumcount()
        same = ["name", "layer", "occurrence"]
        groups = frame.groupby(same, sort=False)
        kept = ["kind", "op", "stage", "modality", "category", "name_category"]
        counters = [*WORK, *WEIGHTED, *STALLS]
        rows = groups[kept].first()
        for name in counters:
            rows[name] = groups[name].mean() if name in frame else numpy.nan
        by_layer = per_run(frame, ["layer"], "duration_s", self.runs)
        rows["kernel_s"] = shared(by_layer, per_run(frame, same, "duration_s", self.runs)).reindex(rows.index)
        rows["kernels"] = (groups["run"].nunique() * 2 >= self.runs).astype(int)
        rows = rows.reset_index()
        rows["read"] = rows[list(WORK)].notna().all(axis=1)
        layers = rows.groupby("layer", sort=False)["kernel_s"]
        total = layers.transform("sum")
        part = (rows["kernel_s"] / total.where(total > 0)).fillna(1 / layers.transform("size"))
        for name, needed in self._ideal.items():
            rows[f"ideal_{name}"] = part * rows["layer"].map(needed).astype(float)
        return rows

    @cached_property
    def _ideal(self) -> dict[str, dict[str, int]]:
        """What each layer needs by the graph; empty without one."""
        layers = self._graph.layers if self._graph is not None else ()
        return {
            "flops": {layer.name: flops_of(layer) for layer in layers},
            "dram_read_bytes": {layer.name: layer.read_bytes for layer in layers},
            "dram_write_bytes": {layer.name: layer.write_bytes for layer in layers},
        }

    @cached_property
    def layers(self) -> pandas.DataFrame:
        """One row a layer of the graph, of the chosen stages where some were: index, layer, op, category, stage,
        modality, shape, bytes, params, macs; ``layer_s`` and its ``kernels`` where kernels were recorded."""
        import numpy
        import pandas

        memory = memory_of(self.graph)
        chosen = {item.layer for item in self.measurement.layers} if self.measurement.only else None
        frame = pandas.DataFrame(
            [
                {
                    "index": index,
                    "layer": layer.name,
                    "op": layer.op,
                    "category": layer.category,
                    "stage": layer.stage,
                    "modality": layer.modality,
                    "shape": "x".join(map(str, self.graph.tensors[layer.writes[0][0]].shape)) if layer.writes else "",
                    "allocated_bytes": memory.allocated[index],
                    "alive_bytes": memory.alive[index],
                    "persistent_bytes": memory.persistent[index],
                    "macs": layer.macs,
                    "flops": flops_of(layer),
                }
                for index, layer in enumerate(self.graph.layers)
                if chosen is None or layer.name in chosen
            ]
        )
        frame["layer_s"] = numpy.nan
        if self.has("kernel"):
            frame["layer_s"] = frame["layer"].map(self.rows.groupby("layer")["kernel_s"].sum()).fillna(0.0)
        return frame

    def rolled(self, by: str | Sequence[str], rows: pandas.DataFrame | None = None) -> pandas.DataFrame:
        """Kernels summed by some of their columns: kernels, kernel_s, device_s, mean_s, share, flops, bytes, source,
        counters weighted by time, intensity, flops_per_s and memory_bound; in order of the first kernel.

        A group's flops and bytes are of the counters when all of its kernels have them, else ideal as a whole; copies
        and fills have none and then count for nothing.
        """
        keys = [by] if isinstance(by, str) else list(by)
        rows = self.rows if rows is None else rows
        moved = rows["kind"].isin(_MOVED)
        rows = rows.assign(
            device_s=rows["kernel_s"].where(rows["kind"].isin(_ON_DEVICE), 0.0), complete=rows["read"] | moved
        )
        groups = rows.groupby(keys, sort=False)
        frame = groups[["kernels", "kernel_s", "device_s"]].sum()
        frame["mean_s"] = frame["kernel_s"] / frame["kernels"].where(frame["kernels"] > 0)
        frame["share"] = frame["kernel_s"] / (frame["kernel_s"].sum() or 1.0)
        counted = groups["complete"].all() & groups["read"].any()
        for name in WORK:
            frame[name] = groups[name].sum().where(counted, groups[f"ideal_{name}"].sum(min_count=1))
        frame["source"] = counted.map({True: "counters", False: "ideal"}).where(frame["flops"].notna(), "")
        for name in (*WEIGHTED, *STALLS):
            frame[name] = _weighted(rows, keys, name)
        moved_bytes = frame["dram_read_bytes"] + frame["dram_write_bytes"]
        frame["intensity"] = frame["flops"] / moved_bytes.where(moved_bytes > 0)
        frame["flops_per_s"] = frame["flops"] / frame["kernel_s"].where(frame["kernel_s"] > 0)
        below = frame["intensity"] < (ideal_intensity(self.arch) if self.arch else 0.0)
        frame["memory_bound"] = below.astype("boolean").mask(frame["intensity"].isna() | (self.arch is None))
        return frame.reset_index()

    @cached_property
    def by_layer(self) -> pandas.DataFrame:
        """:meth:`rolled` by layer, with the host's time of each (NaN where it was not recorded)."""
        frame = self.rolled("layer")
        if not self.has("host"):
            return frame.assign(host_s=float("nan"), device_share=float("nan"))
        assert self._host is not None
        host = self._host[self._host["kind"] != "sync"]
        host_s = per_run(host, ["layer"], "self_s", self.runs).median(axis=1)
        frame["host_s"] = frame["layer"].map(host_s).fillna(0.0)
        both = frame["device_s"] + frame["host_s"]
        return frame.assign(device_share=frame["device_s"] / both.where(both > 0))

    @cached_property
    def stage_rows(self) -> pandas.DataFrame:
        """:attr:`rows` with ``stage`` cut to preprocess, encoder, fusion, head (empty: kernels of no stage)."""
        return self.rows.assign(stage=self.rows["stage"].str.partition("/")[0])


def _weighted(rows: pandas.DataFrame, keys: list[str], name: str) -> pandas.Series:
    """Mean of ``name`` by group, weighted by kernel time, over the kernels that have it; NaN where none has."""
    weights = rows["kernel_s"].where(rows[name].notna())
    groups = [rows[key] for key in keys]
    sums = (rows[name] * weights).groupby(groups, sort=False).sum(min_count=1)
    total = weights.groupby(groups, sort=False).sum(min_count=1)
    return sums / total.where(total > 0)


@dataclass(frozen=True)
class Given:
    """Something that a view needs: ``what`` it is, whether a result has it, and what gives it."""

    what: str
    advice: str
    there: Callable[[Taken], bool]
    option: str = ""


_FOLDER = "Measure it into a folder"
NEEDS: dict[Need, Given] = {
    "graph": Given("layer graph", _FOLDER, lambda taken: taken._graph is not None),
    "stage": Given("stage level", _FOLDER, lambda taken: bool(getattr(taken.measurement, "stage_times", ()))),
    "kernel": Given("kernels", _FOLDER, lambda taken: taken._kernels is not None and len(taken._kernels) > 0),
    "host": Given("host activities", _FOLDER, lambda taken: taken._host is not None),
    "stalls": Given(
        "stall counters",
        "Read them where Nsight Compute and the right to use counters are",
        lambda taken: taken.has("kernel") and bool(taken.rows[list(STALLS)].notna().any(axis=None)),
        " --counters",
    ),
}
