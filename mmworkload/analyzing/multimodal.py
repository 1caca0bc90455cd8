"""The analyses of MMBench (Xu et al., IISWC 2023) and of the CAL paper (2022): stages, modalities, kernels, memory.

The numbering follows the order of the papers' figures. What needs a data set is in :data:`ELSEWHERE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmworkload.analyzing.across_stack import end_to_end
from mmworkload.analyzing.taken import STALLS
from mmworkload.analyzing.view import View
from mmworkload.straggler import encoded

if TYPE_CHECKING:
    import pandas

    from mmworkload.analyzing.taken import Taken

ENCODER = "encoder"
KINDS = ("Conv", "BNorm", "Elewise", "Pooling", "Relu", "Gemm", "Reduce", "Other")
INFERENCES = 10_000
BINS_US = (0, 10, 50, 100, math.inf)
BINS = ("0-10 us", "10-50 us", "50-100 us", ">100 us")
_ORDER = {"preprocess": 0, ENCODER: 1, "fusion": 2, "head": 3}
_DEVICE_USE = ("dram_utilization", "occupancy", "ipc", "gld_efficiency", "gst_efficiency")


def stages(taken: Taken) -> pandas.DataFrame:
    """Kernels by preprocess, encoder, fusion, head; what belongs to no stage comes last."""
    frame = taken.rolled("stage", taken.stage_rows)
    return frame.sort_values("stage", key=lambda names: names.map(_ORDER).fillna(4), kind="stable", ignore_index=True)


def stage_time(taken: Taken) -> pandas.DataFrame:
    """Kernel time by stage, over that of the encoders; wall time where the stage level was measured."""
    frame = stages(taken)
    encoders = frame.loc[frame["stage"] == ENCODER, "kernel_s"].sum()
    wall: dict[str, float] = {}
    for item in taken.stage_times if taken.has("stage") else ():
        stage = item.stage.partition("/")[0]
        wall[stage] = wall.get(stage, 0.0) + item.time.median_s
    return frame.assign(
        of_encoders=frame["kernel_s"] / encoders if encoders else math.nan,
        wall_s=frame["stage"].map(wall).astype(float),
    )


def host_and_device(taken: Taken) -> pandas.DataFrame:
    """CPU, runtime, busy and idle time of each stage, and all together."""
    import pandas

    sums = ["cpu_s", "runtime_s", "busy_s", "idle_s", "launches", "syncs", "copies"]
    frame = pandas.DataFrame(
        [{"stage": item.stage, **{name: getattr(item, name) for name in sums}} for item in taken.stage_times]
    )
    frame = pandas.concat([frame, frame[sums].sum().to_frame().T.assign(stage="total")], ignore_index=True)
    frame[sums] = frame[sums].apply(pandas.to_numeric)
    host = frame["cpu_s"] + frame["runtime_s"]
    both = host + frame["busy_s"]
    # The processor is the device on a CPU: both sides are the same time.
    apart = taken.measurement.device != "cpu"
    return frame.assign(host_share=host / both.where((both > 0) & apart))


def modalities(taken: Taken) -> pandas.DataFrame:
    """Time of each modality's encoder, and how long it would wait for the slowest if all ran at once."""
    timed = {item.stage: item.time.median_s for item in (taken.stage_times if taken.has("stage") else ())}
    frame = taken.rolled("stage", taken.rows[taken.rows["stage"].map(encoded).astype(bool)])
    clocked = bool(timed) and all(stage in timed for stage in frame["stage"])
    frame["encoder_s"] = (frame["stage"].map(timed) if clocked else frame["kernel_s"]).astype(float)
    slowest = frame["encoder_s"].max()
    return frame.assign(
        modality=frame["stage"].map(encoded),
        slowest_over_this=slowest / frame["encoder_s"].where(frame["encoder_s"] > 0),
        idle_share=1 - frame["encoder_s"] / slowest if slowest else math.nan,
        straggler=(frame["encoder_s"] == slowest) & (len(frame) > 1),
        timed_by="timers" if clocked else "kernels",
    )


def categories(taken: Taken) -> pandas.DataFrame:
    """Kernel time by stage and category, judged by operator and by name; categories without time are left out."""
    found = []
    for source, column in (("category", "by_operator_s"), ("name_category", "by_name_s")):
        kind = taken.rows[source].where(taken.rows[source].isin(KINDS), "Other")
        found.append(
            taken.rows.assign(kind=kind).groupby(["stage", "kind"], sort=False)["kernel_s"].sum().rename(column)
        )
    frame = found[0].to_frame().join(found[1], how="outer").fillna(0.0).reset_index()
    frame = frame[(frame["by_operator_s"] > 0) | (frame["by_name_s"] > 0)]
    for column in ("by_operator", "by_name"):
        frame[f"{column}_share"] = frame[f"{column}_s"] / frame.groupby("stage")[f"{column}_s"].transform("sum")
    order = {stage: place for place, stage in enumerate(dict.fromkeys([*filter(None, taken.rows["stage"]), ""]))}
    return frame.sort_values(
        ["stage", "kind"], key=lambda names: names.map({**order, **{kind: i for i, kind in enumerate(KINDS)}})
    ).reset_index(drop=True)


def hotspots(taken: Taken) -> pandas.DataFrame:
    """Kernels that run in more than one stage, the longest first: one row a stage, each figure the mean of a kernel."""
    frame = taken.rolled(["name", "stage"], taken.stage_rows)
    names = frame.groupby("name", sort=False)
    frame = frame.assign(
        total=names["kernel_s"].transform("sum"), of_longest=frame["mean_s"] / names["mean_s"].transform("max")
    )
    frame = frame[(names["stage"].transform("size") > 1) & (frame["kernels"] > 0)]
    for column in ("flops", "dram_read_bytes", "dram_write_bytes"):
        frame[column] = frame[column] / frame["kernels"]
    return frame.sort_values(["total", "name"], ascending=False, kind="stable", ignore_index=True)


def duration_bins(taken: Taken) -> pandas.DataFrame:
    """How many kernels are how long, and their time; all bins, empty ones too. A bin ends below its upper bound."""
    import pandas

    # Clocks tick in nanoseconds: rounding keeps 10 us, as a mean of floats, out of the bin below.
    bins = pandas.cut((taken.rows["kernel_s"] * 1e6).round(3), BINS_US, right=False, labels=BINS)
    groups = taken.rows.groupby(bins, observed=False)
    frame = groups[["kernels", "kernel_s"]].sum().rename_axis("bin").reset_index()
    frame["bin"] = frame["bin"].astype(str)
    m = taken.measurement
    return frame.assign(model=m.model, batch=m.batch, share=frame["kernels"] / (frame["kernels"].sum() or 1))


def many_inferences(taken: Taken) -> pandas.DataFrame:
    """Time for 10,000 inputs, batch after batch."""
    frame = end_to_end(taken)
    frame["passes"] = -(-INFERENCES // frame["batch"])
    return frame.assign(total_s=frame["passes"] * frame["duration_s"])


def against_smallest(frame: pandas.DataFrame) -> pandas.DataFrame:
    """How much faster than the smallest batch, and how much larger the batch is; by model, number type and device."""
    keys = ["model", "dtype", "device"]
    frame = frame.sort_values("batch", kind="stable", ignore_index=True)
    groups = frame.groupby(keys, sort=False)
    return frame.assign(
        speedup=groups["total_s"].transform("first") / frame["total_s"],
        batch_ratio=frame["batch"] / groups["batch"].transform("first"),
    )


def against_fastest(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Each duration over that of the fastest device at the same model, batch and number type."""
    fastest = frame.groupby(["model", "batch", "dtype"])["duration_s"].transform("min")
    return frame.assign(over_fastest=frame["duration_s"] / fastest)


def peak_memory(taken: Taken) -> pandas.DataFrame:
    """Peak memory in three parts, measured and by liveness."""
    import pandas

    from mmworkload.simulating.footprint import memory_need

    m = taken.measurement
    alive: dict[str, int] = {}
    if taken.has("graph"):
        need = memory_need(taken.graph)
        alive = {
            "model": need.fixed_bytes,
            "data": need.input_bytes + need.state_bytes,
            "intermediates": need.peak_activation_bytes,
        }
    parts = ("model", "data", "intermediates")
    frame = pandas.DataFrame({"part": parts, "measured_bytes": [m.peak_memory_bytes.get(part) for part in parts]})
    frame["share"] = frame["measured_bytes"] / (frame["measured_bytes"].sum() or 1)
    return frame.assign(model=m.model, batch=m.batch, liveness_bytes=[alive.get(part, math.nan) for part in parts])


def stalls(taken: Taken) -> pandas.DataFrame:
    """The seven classes by stage, each as a part of all stalls."""
    frame = stages(taken)
    total = frame[list(STALLS)].sum(axis=1)
    frame[list(STALLS)] = frame[list(STALLS)].div(total.where(total > 0), axis=0)
    return frame


def size_by_stage(taken: Taken) -> pandas.DataFrame:
    """Parameters, MACs, flops and bytes of each stage of the graph."""
    import pandas

    flops = taken.layers.groupby("stage")["flops"].sum()
    rows = [
        {
            "stage": stage,
            "layers": totals.layers,
            "params": totals.params,
            "macs": totals.macs,
            "flops": flops.get(stage, 0),
            "weight_bytes": totals.weight_bytes,
            "activation_bytes": totals.activation_bytes,
        }
        for stage, totals in taken.graph.stages.items()
    ]
    return pandas.DataFrame(rows)


def fusion(taken: Taken) -> pandas.DataFrame:
    """The operators that the fusion stage is made of; no rows for a network without fusion."""
    layers = taken.layers[taken.layers["stage"] == "fusion"]
    groups = layers.groupby("op", sort=False)
    frame = groups[["macs", "flops", "allocated_bytes", "layer_s"]].sum(min_count=1)
    frame.insert(0, "layers", groups.size())
    return frame.reset_index()


_RESOURCES = ("stage", "kernel_s", *_DEVICE_USE)
VIEWS = (
    View(
        "D1",
        "Stage time",
        "CAL, figure 2; MMBench, figure 6",
        ("kernel",),
        ("stage", "kernel_s", "share", "of_encoders", "wall_s"),
        stage_time,
    ),
    View(
        "D2",
        "Resource use by stage",
        "CAL, figure 3; MMBench, figure 7",
        ("kernel",),
        _RESOURCES,
        stages,
        counters=True,
        note="The papers take plain means over kernels; here a kernel weighs by its time.",
    ),
    View(
        "D3",
        "Host and device time by stage",
        "CAL, figure 4; MMBench, figure 11",
        ("stage",),
        ("stage", "cpu_s", "runtime_s", "busy_s", "idle_s", "host_share", "launches", "syncs", "copies"),
        host_and_device,
        note="Give a multi-modal and a uni-modal result to compare them. A CPU is its own device: no share.",
    ),
    View(
        "D4",
        "Modality time and straggler",
        "CAL, figure 5; MMBench, figure 10",
        ("kernel",),
        ("modality", "encoder_s", "kernel_s", "slowest_over_this", "idle_share", "straggler", "timed_by"),
        modalities,
    ),
    View(
        "D5",
        "Kernel categories by stage, by operator and by name",
        "CAL, figure 6; MMBench, figure 8",
        ("kernel",),
        ("stage", "kind", "by_operator_s", "by_operator_share", "by_name_s", "by_name_share"),
        categories,
        largest=("by_operator_s",),
        note="Kernel names of convolutions contain relu, so that the papers' rule files them under Relu.",
    ),
    View(
        "D6",
        "The same kernel in different stages",
        "CAL, figure 7; MMBench, figure 9",
        ("kernel",),
        (
            "name",
            "stage",
            "kernels",
            "mean_s",
            "of_longest",
            "flops",
            "dram_read_bytes",
            "dram_write_bytes",
            "occupancy",
            "source",
        ),
        hotspots,
        counters=True,
        largest=("mean_s",),
        note="Flops, bytes and time are those of one kernel on average. Give a result of each fusion method.",
    ),
    View(
        "D9a",
        "Kernels by duration",
        "MMBench, figure 12, left",
        ("kernel",),
        ("model", "batch", "bin", "kernels", "share", "kernel_s"),
        duration_bins,
        note="Give one result for each batch. A bin ends below its upper bound; the paper names 0-10, 50 and >100.",
    ),
    View(
        "D9b",
        "Time for 10,000 inferences",
        "MMBench, figure 12, right",
        (),
        ("model", "batch", "duration_s", "passes", "total_s", "speedup", "batch_ratio"),
        many_inferences,
        across=against_smallest,
        note="Give one result for each batch.",
    ),
    View(
        "D10",
        "Peak memory",
        "MMBench, figure 13",
        (),
        ("model", "batch", "part", "measured_bytes", "share", "liveness_bytes"),
        peak_memory,
        note="Give one result for each batch. Liveness needs the graph.",
    ),
    View(
        "D11",
        "One model on several devices",
        "CAL, figure 8; MMBench, figure 14",
        (),
        ("model", "batch", "device", "duration_s", "latency_s", "over_fastest"),
        end_to_end,
        across=against_fastest,
        note="Give one result for each device and batch.",
    ),
    View(
        "D12",
        "Stalls by stage",
        "CAL, figure 9a and b; MMBench, figure 15a and b",
        ("kernel", "stalls"),
        ("stage", *STALLS),
        stalls,
        counters=True,
    ),
    View(
        "D13",
        "Resource use by stage on a small device",
        "CAL, figure 9c; MMBench, figure 15c",
        ("kernel",),
        _RESOURCES,
        stages,
        counters=True,
        note="D2 of a result from the small device.",
    ),
    View(
        "D14",
        "Parameters and operations by stage",
        "MMBench, sections 3.1 and 3.4",
        ("graph",),
        ("stage", "layers", "params", "macs", "flops", "weight_bytes", "activation_bytes"),
        size_by_stage,
    ),
    View(
        "D15",
        "Operators of the fusion",
        "MMBench, table 1",
        ("graph",),
        ("op", "layers", "macs", "flops", "allocated_bytes", "layer_s"),
        fusion,
    ),
)


@dataclass(frozen=True)
class Elsewhere:
    """An analysis of the papers that no result can give, and what it needs."""

    id: str
    title: str
    source: str
    needs: str


ELSEWHERE = (
    Elsewhere(
        "D7",
        "Quality of the algorithm, by fusion method",
        "MMBench, figure 4",
        "trained weights and the data set with its labels",
    ),
    Elsewhere(
        "D8",
        "Importance of each modality",
        "MMBench, figure 5",
        "trained weights and the data set with its labels",
    ),
)
