"""The fifteen analyses of across-stack profiling (Li et al., XSP, IPDPS 2020; poster at SC 2019).

Columns and formulas are those of the public code, rai-project/evaluation, but for the median in the place of its
trimmed mean. Latency of a layer is here the time of its kernels. Temporary memory of libraries is not seen by torch
and not in A2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.analyzing.view import View

if TYPE_CHECKING:
    import pandas

    from mmworkload.analyzing.taken import Taken

XSP = "XSP"
_WORK = ("flops", "dram_read_bytes", "dram_write_bytes")
_ROOF = ("intensity", "flops_per_s", "memory_bound", "source")
_KERNEL = (*_WORK, "occupancy", *_ROOF)


def end_to_end(taken: Taken) -> pandas.DataFrame:
    """One row: the uninstrumented eager model."""
    import pandas

    m = taken.measurement
    seconds = m.eager.median_s
    return pandas.DataFrame(
        {
            "model": [m.model],
            "batch": [m.batch],
            "dtype": [m.dtype],
            "device": [m.provenance.get("device_name") or m.device],
            "duration_s": [seconds],
            "latency_s": [seconds / m.batch],
            "throughput_per_s": [m.batch / seconds],
        }
    )


def optimal(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The batch of the peak throughput (poster, table 1), the smallest such, by model, number type and device."""
    ordered = frame.sort_values("batch", kind="stable")
    best = ordered.groupby(["model", "dtype", "device"])["throughput_per_s"].idxmax()
    return frame.assign(optimal=frame.index.isin(best))


def whole(taken: Taken) -> pandas.DataFrame:
    """All kernels in one row, with the end-to-end time."""
    m = taken.measurement
    rows = taken.rows.assign(model=m.model)
    return taken.rolled("model", rows).assign(batch=m.batch, duration_s=m.eager.median_s)


def by_operator(taken: Taken, value: str) -> pandas.DataFrame:
    """Layers by operator: how many, the sum of ``value`` and its share, largest first."""
    groups = taken.layers.groupby("op", sort=False)
    frame = groups[value].sum().reset_index() if value != "layers" else groups.size().reset_index(name="layers")
    frame["share"] = frame[value] / (frame[value].sum() or 1)
    return frame.sort_values(value, ascending=False, kind="stable", ignore_index=True)


def _longest(frame: pandas.DataFrame) -> pandas.DataFrame:
    return frame.sort_values("kernel_s", ascending=False, kind="stable", ignore_index=True)


_THIS = ["name", "layer", "occurrence"]
VIEWS = (
    View(
        "A1",
        "Model information: latency and throughput by batch",
        f"{XSP} A1; poster, table 1",
        (),
        ("model", "batch", "device", "duration_s", "latency_s", "throughput_per_s", "optimal"),
        end_to_end,
        across=optimal,
        note="Give one result for each batch of a sweep. The optimal batch is that of the peak throughput, as the "
        "poster's table 1 gives it.",
    ),
    View(
        "A2",
        "Layer information",
        f"{XSP} A2",
        ("graph", "kernel"),
        ("index", "layer", "op", "category", "shape", "layer_s", "allocated_bytes", "alive_bytes", "persistent_bytes"),
        lambda taken: taken.layers,
        largest=("layer_s",),
        note="Temporary memory of libraries (workspaces) is not known per layer and not in it.",
    ),
    View(
        "A3",
        "Layer latency",
        f"{XSP} A3",
        ("graph", "kernel"),
        ("index", "layer", "layer_s", "share"),
        lambda taken: taken.layers.assign(share=taken.layers["layer_s"] / (taken.layers["layer_s"].sum() or 1)),
        largest=("layer_s",),
    ),
    View(
        "A4",
        "Layer memory",
        f"{XSP} A4",
        ("graph",),
        ("index", "layer", "allocated_bytes"),
        lambda taken: taken.layers,
        largest=("allocated_bytes",),
    ),
    View(
        "A5",
        "Layers by type",
        f"{XSP} A5",
        ("graph",),
        ("op", "layers", "share"),
        lambda taken: by_operator(taken, "layers"),
        largest=("layers",),
    ),
    View(
        "A6",
        "Layer latency by type",
        f"{XSP} A6",
        ("graph", "kernel"),
        ("op", "layer_s", "share"),
        lambda taken: by_operator(taken, "layer_s"),
        largest=("layer_s",),
    ),
    View(
        "A7",
        "Layer memory by type",
        f"{XSP} A7",
        ("graph",),
        ("op", "allocated_bytes", "share"),
        lambda taken: by_operator(taken, "allocated_bytes"),
        largest=("allocated_bytes",),
    ),
    View(
        "A8",
        "Kernel information",
        f"{XSP} A8",
        ("graph", "kernel"),
        ("name", "layer", "kernel_s", *_KERNEL),
        lambda taken: taken.rolled(_THIS),
        counters=True,
        largest=("kernel_s",),
    ),
    View(
        "A9",
        "Kernel roofline",
        f"{XSP} A9",
        ("graph", "kernel"),
        ("name", "kernel_s", *_ROOF),
        lambda taken: taken.rolled(_THIS),
        counters=True,
        largest=("kernel_s",),
    ),
    View(
        "A10",
        "Kernels by name",
        f"{XSP} A10; poster, bound table",
        ("graph", "kernel"),
        ("name", "kernels", "kernel_s", "share", *_KERNEL),
        lambda taken: _longest(taken.rolled("name")),
        counters=True,
        largest=("kernel_s",),
    ),
    View(
        "A11",
        "Kernels by layer",
        f"{XSP} A11; poster, bound table",
        ("graph", "kernel", "host"),
        ("layer", "device_s", "host_s", *_WORK, "occupancy", "intensity", "memory_bound", "source"),
        lambda taken: taken.by_layer,
        counters=True,
        largest=("device_s", "host_s"),
    ),
    View(
        "A12",
        "Device metrics by layer",
        f"{XSP} A12",
        ("graph", "kernel"),
        ("layer", "kernel_s", *_WORK, "occupancy", "source"),
        lambda taken: taken.by_layer,
        counters=True,
        largest=("kernel_s",),
    ),
    View(
        "A13",
        "Device and host time by layer",
        f"{XSP} A13",
        ("kernel", "host"),
        ("layer", "device_s", "host_s", "device_share"),
        lambda taken: taken.by_layer,
        largest=("device_s", "host_s"),
    ),
    View(
        "A14",
        "Layer roofline",
        f"{XSP} A14",
        ("graph", "kernel"),
        ("layer", "kernel_s", *_ROOF),
        lambda taken: taken.by_layer,
        counters=True,
        largest=("kernel_s",),
    ),
    View(
        "A15",
        "Kernels of the model",
        f"{XSP} A15; poster, bound table",
        ("graph", "kernel"),
        ("model", "batch", "duration_s", "kernel_s", *_KERNEL),
        whole,
        counters=True,
        note="Several results, of batches or models, make the model roofline.",
    ),
)
