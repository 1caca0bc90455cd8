"""The sizes of a layer in plain columns: the shape that it writes and the bounds of its loops. Free of torch.

A layer runs no loop nest (a ReLU), one (a convolution), or several (an attention has two, a recurrence runs its own
for every step). The bounds are those of one nest, the one with most of the layer's multiply-accumulates; ``nests``
says how many different ones there are and ``runs`` how often the layer runs this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmworkload.layer import Layer, Tensor
from mmworkload.problem import LEGEND, SPATIAL

# What a table calls the loops of the legend, in the order of its columns.
BOUNDS = {"n": "N", "m": "M", "c": "C", "o": "O", "p": "P", "q": "Q", "t": "T", "r": "R", "s": "S"}
NUMBERS = (*BOUNDS, "stride", "groups", "runs", "nests")
"""The columns of :func:`loop_bounds` that are integers."""


def output_shape(layer: Layer, tensors: Mapping[str, Tensor]) -> str:
    """Of the first tensor that the layer writes, in elements: ``2x64x28x28``; ``scalar``, or empty without one."""
    if not layer.writes:
        return ""
    return "x".join(map(str, tensors[layer.writes[0][0]].shape)) or "scalar"


def loop_bounds(layer: Layer) -> dict[str, Any]:
    """The columns of a layer: bounds, ``stride``, ``groups``, ``other_dims``, ``runs`` and ``nests``.

    A loop that the nest does not have is 1. ``stride`` is that of output height, width and depth, the largest where
    they differ. Without a loop nest ``nests`` is 0 and the others are None.

    >>> from mmworkload.layer import Work
    >>> from mmworkload.problem import gemm
    >>> found = loop_bounds(Layer("fc", "linear", work=(Work(gemm(2, 10, 64)),)))
    >>> found["n"], found["m"], found["c"], found["p"], found["stride"], found["runs"]
    (2, 10, 64, 1, 1, 1)
    """
    if not layer.work:
        return dict.fromkeys([*BOUNDS, "stride", "groups", "other_dims", "runs"]) | {"nests": 0}
    largest = max(layer.work, key=lambda work: work.macs)
    problem = largest.problem
    return {
        **{name: problem.extents.get(dim, 1) for name, dim in BOUNDS.items()},
        "stride": max(problem.coefficient(outer) for outer, _ in SPATIAL.values()),
        "groups": problem.extents.get("G", 1),
        "other_dims": " ".join(f"{dim}={extent}" for dim, extent in problem.dims if dim not in LEGEND),
        "runs": largest.count,
        "nests": len(layer.work),
    }
