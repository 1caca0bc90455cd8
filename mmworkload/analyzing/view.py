"""What an analysis is: a named view of results, what it needs, and the columns of its table with their units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas

    from mmworkload.analyzing.taken import Taken

Unit = Literal["", "s", "B", "share", "ratio", "count", "flop", "flop/B", "flop/s", "1/s", "yes/no", "index"]
Need = Literal["graph", "stage", "kernel", "host", "stalls"]


@dataclass(frozen=True)
class Column:
    """A column. ``header`` heads it in a table; ``unit`` is empty for text; ``counter`` when only hardware counters
    fill it."""

    name: str
    header: str
    unit: Unit
    meaning: str
    counter: bool = False


_GLOSSARY = (
    Column("model", "model", "", "the model that was measured"),
    Column("batch", "batch", "count", "samples per forward pass"),
    Column("dtype", "dtype", "", "of weights and activations"),
    Column("device", "device", "", "the device that was measured, by its name"),
    Column("duration_s", "eager", "s", "one forward pass of the eager model, uninstrumented (median)"),
    Column("latency_s", "per input", "s", "duration over batch"),
    Column("throughput_per_s", "inputs/s", "1/s", "batch over duration"),
    Column(
        "optimal", "optimal", "yes/no", "the batch with the highest throughput of its model, number type and device"
    ),
    Column("index", "#", "index", "place of the layer in the program"),
    Column("layer", "layer", "", "the layer of the traced graph; empty: kernels of no layer"),
    Column("op", "operator", "", "operator family"),
    Column("category", "category", "", "one of the eight kernel categories, movement apart (A views)"),
    Column("shape", "shape", "", "of the first tensor that the layer writes"),
    Column("stage", "stage", "", "preprocess, encoder/MODALITY, fusion, head or head/OUTPUT; encoder: all of them"),
    Column("modality", "modality", "", "the modality of an encoder"),
    Column("layer_s", "time", "s", "kernel time of the layer"),
    Column("allocated_bytes", "allocated", "B", "of the tensors that the layer is the first to write, from the graph"),
    Column("alive_bytes", "alive", "B", "of all activations that are needed while the layer runs, by liveness"),
    Column("persistent_bytes", "resident", "B", "of parameters, constants and state that the layer reads"),
    Column("layers", "layers", "count", "number of layers"),
    Column("share", "share", "share", "part of the whole of the column before it"),
    Column("name", "kernel", "", "the kernel's name; on a CPU the operator's"),
    Column("kernels", "kernels", "count", "kernels of one forward pass; on a CPU operators"),
    Column("kernel_s", "time", "s", "sum of kernel durations in one forward pass; on a CPU self time"),
    Column("mean_s", "mean", "s", "kernel time over kernels"),
    Column("device_s", "device", "s", "time of kernels, copies and fills on the device; zero on a CPU"),
    Column("host_s", "host", "s", "self time of operators and runtime calls on the host, waiting apart"),
    Column("device_share", "on device", "share", "device over device and host time"),
    Column("flops", "flop", "flop", "floating-point operations; a multiply-accumulate is two"),
    Column("dram_read_bytes", "read", "B", "bytes read from DRAM; ideal: each input and weight once"),
    Column("dram_write_bytes", "written", "B", "bytes written to DRAM; ideal: each output once"),
    Column("occupancy", "occup.", "share", "achieved occupancy, weighted by kernel time", counter=True),
    Column("intensity", "flop/B", "flop/B", "arithmetic intensity: flops over bytes read and written"),
    Column("flops_per_s", "flop/s", "flop/s", "flops over kernel time"),
    Column("memory_bound", "bound", "yes/no", "intensity below the ideal one of --arch; empty without"),
    Column("source", "", "", "of flops and bytes: counters (read by the hardware) or ideal (from the graph)"),
    Column("of_encoders", "of encoders", "ratio", "kernel time over that of all encoders together"),
    Column("wall_s", "wall time", "s", "between timers at the stage's ends, without a profiler (median)"),
    Column("dram_utilization", "DRAM", "share", "DRAM throughput over its peak, weighted by kernel time", counter=True),
    Column("ipc", "IPC", "ratio", "instructions per cycle, weighted by kernel time", counter=True),
    Column("gld_efficiency", "loads", "share", "useful part of global loads, weighted by kernel time", counter=True),
    Column("gst_efficiency", "stores", "share", "useful part of global stores, weighted by kernel time", counter=True),
    Column("cpu_s", "CPU", "s", "host time outside the device's runtime"),
    Column("runtime_s", "runtime", "s", "host time in calls of the device's runtime"),
    Column("busy_s", "busy", "s", "the device runs a kernel"),
    Column("idle_s", "idle", "s", "the device waits"),
    Column("host_share", "host", "share", "CPU and runtime over CPU, runtime and busy time"),
    Column("launches", "launches", "count", "kernel launches"),
    Column("syncs", "syncs", "count", "synchronisations of host and device"),
    Column("copies", "copies", "count", "copies between host and device"),
    Column("encoder_s", "encoder", "s", "of the encoder: wall time of the stage level, else kernel time"),
    Column("slowest_over_this", "slowest/this", "ratio", "time of the slowest modality over this one's"),
    Column("idle_share", "idle", "share", "part of the slowest one's time that this one would wait for it"),
    Column("straggler", "straggler", "yes/no", "the slowest modality"),
    Column("timed_by", "timed by", "", "timers (of the stage level) or kernels (their sum)"),
    Column("kind", "category", "", "Conv, BNorm, Elewise, Pooling, Relu, Gemm, Reduce or Other (movement too)"),
    Column("by_operator_s", "by operator", "s", "kernel time, kernels judged by the operator that they belong to"),
    Column("by_operator_share", "share", "share", "by operator, part of the stage"),
    Column("by_name_s", "by name", "s", "kernel time, kernels judged by their names as the papers do"),
    Column("by_name_share", "share", "share", "by name, part of the stage"),
    Column("of_longest", "longest", "share", "mean over that of the stage where the kernel takes longest"),
    Column("bin", "duration", "", "kernels of 0-10, 10-50, 50-100 or over 100 microseconds"),
    Column("passes", "passes", "count", "forward passes for 10,000 inputs, the last one full"),
    Column("total_s", "10,000 inputs", "s", "passes times duration"),
    Column(
        "speedup", "faster", "ratio", "total of the smallest batch of the same model, number type and device over it"
    ),
    Column("batch_ratio", "batch larger", "ratio", "batch over the smallest one"),
    Column("over_fastest", "over fastest", "ratio", "duration over that of the fastest device, all else the same"),
    Column("part", "part", "", "model (parameters, buffers), data (inputs) or intermediates"),
    Column("measured_bytes", "measured", "B", "peak memory"),
    Column("liveness_bytes", "liveness", "B", "the same from the graph: what is alive at its peak"),
    *(
        Column(f"stall_{name}", header, "share", f"part of stalls: {meaning}; by kernel time", counter=True)
        for name, header, meaning in (
            ("cache", "cache", "cache dependency"),
            ("memory", "memory", "memory dependency"),
            ("execution", "exec.", "execution dependency"),
            ("pipe", "pipe", "busy pipeline"),
            ("sync", "sync", "synchronisation"),
            ("instruction", "instr.", "instruction not fetched"),
            ("other", "other", "all else"),
        )
    ),
    Column(
        "module_category",
        "category",
        "",
        "Attention, Linear, LayerNorm, Conv1d, Embedding, KV_Cache_Reorder, Misc (kernels of no layer too) or Idle",
    ),
    Column("params", "params", "count", "parameters, tied ones once"),
    Column("macs", "MACs", "count", "multiply-accumulates"),
    Column("weight_bytes", "weights", "B", "of the parameters"),
    Column("activation_bytes", "activations", "B", "read and written, weights apart"),
)
COLUMNS = {column.name: column for column in _GLOSSARY}
"""Every column of every view by name; one name means one thing."""


@dataclass(frozen=True)
class View:
    """A named analysis.

    Parameters
    ----------
    id, title: ``A11``; what it shows.
    source: the paper and its table or figure.
    needs: of each result (:data:`mmworkload.analyzing.taken.NEEDS` says what that is and what gives it).
    columns: of its table, names in :data:`COLUMNS`.
    of: the table of one result; columns that are not listed are dropped.
    across: what is compared between results, on their tables one after the other.
    counters: whether hardware counters fill some columns or replace ideal figures.
    largest: the columns by whose sum a table that is too long is cut.
    note: what else is to be known.
    """

    id: str
    title: str
    source: str
    needs: tuple[Need, ...]
    columns: tuple[str, ...]
    of: Callable[[Taken], pandas.DataFrame]
    across: Callable[[pandas.DataFrame], pandas.DataFrame] | None = None
    counters: bool = False
    largest: tuple[str, ...] = ()
    note: str = ""

    @property
    def bound(self) -> bool:
        """Whether it tells memory-bound from compute-bound, for which an architecture is needed."""
        return "memory_bound" in self.columns
