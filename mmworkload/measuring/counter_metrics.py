"""Which of Nsight Compute's metrics are read, and what they mean. Pure rules over names and numbers.

Where the names come from (all read on 2026-11-21; none was tried on a device):

- The five of MMBench's ``scripts/ncu_metric.sh``: DRAM utilisation, achieved occupancy, IPC, load and store efficiency.
- The ten stall reasons and their seven classes: the papers' own parsing script. It sums the reasons of a class and
  takes the plain average over kernels; its twin for nvprof reads one metric a class, which tells the classes' names.
- The other stall reasons: their equivalents in nvprof's terms (NVIDIA's transition table as a public script cites it),
  else the meaning of the stall in Nsight Compute's guide. ``Stall.source`` says which.
- Floating-point instructions and their weights: Nsight Compute's roofline sections as public scripts use them
  (``..._ffma_pred_on_x2``, ``..._hfma_pred_on_x4``): a fused multiply-add is two operations, and an instruction of half
  precision works on two values.
- Operations of tensor cores: ``sm__ops_path_tensor_*``, from Ampere on. Assumed: one multiply-accumulate counts as two
  operations, as in those sections, and the names without an operand type's ``dst`` are sums of those with one.

Names differ between chips (Blackwell has no ``imc_miss``, only Hopper has ``gmma``) and ncu refuses a whole run over
one unknown name, so that :func:`wanted` keeps to the names that ``ncu --query-metrics`` lists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Source = Literal["papers", "nvprof", "guide"]


@dataclass(frozen=True)
class Stall:
    """One reason why a warp does not issue, its column (the papers' class), and who put it there."""

    reason: str
    column: str
    source: Source

    @property
    def metric(self) -> str:
        """Percent of the warps' active cycles."""
        return f"smsp__warp_issue_stalled_{self.reason}_per_warp_active.pct"


STALLS = (
    # nvprof: stall_constant_memory_dependency. The papers' Cache.
    Stall("imc_miss", "stall_cache", "papers"),
    # stall_memory_dependency. Mem.
    Stall("long_scoreboard", "stall_memory", "papers"),
    # stall_memory_throttle (both), stall_texture.
    Stall("lg_throttle", "stall_memory", "nvprof"),
    Stall("drain", "stall_memory", "nvprof"),
    Stall("tex_throttle", "stall_memory", "guide"),
    # stall_exec_dependency (both). Exec.
    Stall("short_scoreboard", "stall_execution", "papers"),
    Stall("wait", "stall_execution", "papers"),
    # stall_pipe_busy (both). Pipe.
    Stall("math_pipe_throttle", "stall_pipe", "papers"),
    Stall("mio_throttle", "stall_pipe", "papers"),
    # stall_sync (both). Sync. gmma waits for the arrival of a warp group.
    Stall("barrier", "stall_sync", "papers"),
    Stall("membar", "stall_sync", "papers"),
    Stall("gmma", "stall_sync", "guide"),
    # stall_inst_fetch. Inst. A branch's target is not known yet, nor is the next instruction.
    Stall("no_instruction", "stall_instruction", "papers"),
    Stall("branch_resolving", "stall_instruction", "guide"),
    # stall_not_selected. Else; then stall_other (both) and stall_sleeping.
    Stall("not_selected", "stall_other", "papers"),
    Stall("dispatch_stall", "stall_other", "nvprof"),
    Stall("misc", "stall_other", "nvprof"),
    Stall("sleeping", "stall_other", "guide"),
)

# Column: its metrics, the first that the chip has is read. Per cent become shares. The papers' IPC is that of one of an
# SM's four sub-partitions.
_SHARES = {
    "dram_utilization": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "gld_efficiency": "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct",
    "gst_efficiency": "smsp__sass_average_data_bytes_per_sector_mem_global_op_st.pct",
}
_IPC = "smsp__inst_executed.avg.per_cycle_active"
# The second name is that of public scripts for ncu 2025.
_BYTES = {
    "dram_read_bytes": ("dram__bytes_read.sum", "dram__bytes_op_read.sum"),
    "dram_write_bytes": ("dram__bytes_write.sum", "dram__bytes_op_write.sum"),
}
# Operations per executed thread instruction.
_WEIGHTS = {
    f"smsp__sass_thread_inst_executed_op_{precision}{operation}_pred_on.sum": lanes * operations
    for precision, lanes in (("f", 1), ("h", 2), ("d", 1))
    for operation, operations in (("add", 1), ("mul", 1), ("fma", 2))
}
_TENSOR_PIPE = "sm__inst_executed_pipe_tensor.sum"
_TENSOR_OPS = re.compile(r"sm__ops_path_tensor_src_(?:fp|bf|tf)\w*(?<!_sparsity_on)(?<!_sparsity_off)")
_TENSOR_OPS_BY_KIND = re.compile(r"sm__ops_path_tensor_op_\w+?_src_(?:fp|bf|tf)\w*(?<!_sparsity_on)(?<!_sparsity_off)")

# What a kernel of the frame gets, in this order. Shares are from 0 to 1, ``ipc`` is instructions per cycle of an SM's
# sub-partition, ``flops`` are operations (not operations per second) of single, half and double precision and of tensor
# cores, integers apart.
COLUMNS = (
    "flops",
    "dram_read_bytes",
    "dram_write_bytes",
    "dram_utilization",
    "occupancy",
    "ipc",
    "gld_efficiency",
    "gst_efficiency",
    "stall_cache",
    "stall_memory",
    "stall_execution",
    "stall_pipe",
    "stall_sync",
    "stall_instruction",
    "stall_other",
)


def wanted(listed: Collection[str]) -> tuple[str, ...]:
    """The metrics to ask for. ``listed`` are the base names of the chip; without any, the papers' and the traffic.

    Metrics that the chip lacks are left out; their columns stay NaN.
    """
    if not listed:
        stalls = [stall.metric for stall in STALLS if stall.source == "papers"]
        return (*_SHARES.values(), _IPC, *(names[0] for names in _BYTES.values()), *_WEIGHTS, *stalls)
    names = [*_SHARES.values(), _IPC, *_WEIGHTS, _TENSOR_PIPE, *(stall.metric for stall in STALLS)]
    chosen = [name for name in names if _base(name) in listed]
    for options in _BYTES.values():
        chosen += [name for name in options if _base(name) in listed][:1]
    return (*chosen, *(f"{name}.sum" for name in _tensor_ops(listed)))


def _tensor_ops(listed: Iterable[str]) -> list[str]:
    """The counters of tensor operations, each operation in one of them: by operand type, or else by instruction too."""
    names = sorted(listed)
    found = [name for name in names if _TENSOR_OPS.fullmatch(name)]
    found = found or [name for name in names if _TENSOR_OPS_BY_KIND.fullmatch(name)]
    # "..._src_fp16" is the sum of "..._src_fp16_dst_fp16" and "..._src_fp16_dst_fp32".
    return [name for name in found if not any(other.startswith(f"{name}_dst_") for other in found)]


def _base(metric: str) -> str:
    return metric.partition(".")[0]


def columns_of(values: Mapping[str, float]) -> dict[str, float]:
    """The columns of one kernel from its metrics: full name to value in base units or per cent. NaN: not read."""
    shares = {column: values.get(metric, math.nan) / 100 for column, metric in _SHARES.items()}
    sizes = {
        column: next((values[name] for name in names if name in values), math.nan) for column, names in _BYTES.items()
    }
    found = {
        "flops": _flops(values),
        "ipc": values.get(_IPC, math.nan),
        **shares,
        **sizes,
        **stall_classes(values),
    }
    return {column: found[column] for column in COLUMNS}


def _flops(values: Mapping[str, float]) -> float:
    """NaN where tensor cores were, or may have been, busy and their operations are not counted: never too low."""
    tensor = [
        value
        for name, value in values.items()
        if _TENSOR_OPS.fullmatch(_base(name)) or _TENSOR_OPS_BY_KIND.fullmatch(_base(name))
    ]
    if not tensor and values.get(_TENSOR_PIPE, math.nan) != 0:
        return math.nan
    return sum(weight * values.get(name, math.nan) for name, weight in _WEIGHTS.items()) + sum(tensor)


def stall_classes(values: Mapping[str, float], *, papers_only: bool = False) -> dict[str, float]:
    """Share of the warps' active cycles per class, of all reasons that were read or of the papers' ten alone."""
    totals = dict.fromkeys((stall.column for stall in STALLS), math.nan)
    for stall in STALLS:
        value = values.get(stall.metric, math.nan)
        if not math.isnan(value) and (stall.source == "papers" or not papers_only):
            before = totals[stall.column]
            totals[stall.column] = value / 100 + (0.0 if math.isnan(before) else before)
    return totals
