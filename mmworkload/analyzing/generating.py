"""The operator breakdown of the generation paper (arXiv 2410.00215): one view, of one phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.analyzing.view import View
from mmworkload.generation.categories import CATEGORIES, IDLE, category

if TYPE_CHECKING:
    import pandas

    from mmworkload.analyzing.taken import Taken

_REST = "Misc"


def by_category(taken: Taken) -> pandas.DataFrame:
    """Layers, kernels, their time and MACs by the paper's categories; those that the phase does not have are left out.

    ``Idle`` is what is left of the uninstrumented time end to end, at least zero; a measurement of some stages has
    none, since its time is that of them all.
    """
    m = taken.measurement
    of_layer = {layer.name: category(layer) for layer in taken.graph.layers}
    kernels = taken.rows.assign(module_category=taken.rows["layer"].map(of_layer).fillna(_REST))
    frame = kernels.groupby("module_category")[["kernels", "kernel_s"]].sum()
    layers = taken.layers.assign(module_category=taken.layers["layer"].map(of_layer)).groupby("module_category")
    frame = frame.join(layers.agg(layers=("layer", "size"), macs=("macs", "sum")), how="outer").fillna(0)
    if not m.only:
        frame.loc[IDLE] = 0
        frame.loc[IDLE, "kernel_s"] = max(0.0, m.eager.median_s - frame["kernel_s"].sum())
    frame = frame.reindex([name for name in CATEGORIES if name in frame.index])
    counts = ["kernels", "layers", "macs"]
    frame[counts] = frame[counts].astype("int64")
    return frame.assign(share=frame["kernel_s"] / (frame["kernel_s"].sum() or 1)).reset_index()


VIEWS = (
    View(
        "G1",
        "Kernel time by operator category, and idle time",
        "generation paper (arXiv 2410.00215), operator breakdown",
        ("graph", "kernel"),
        ("module_category", "kernel_s", "share", "kernels", "layers", "macs"),
        by_category,
        note="Idle is the uninstrumented time end to end without the kernels: what the host keeps the device waiting."
        " Give a result of each phase (prefill, decode) to compare them.",
    ),
)
