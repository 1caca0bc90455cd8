"""mmworkload: trace a multi-modal network once, and time and simulate the very same layers.

The verbs are functions here: ``trace``, ``export``, ``simulate``, ``measure``, ``validate``, ``analyze`` and their
relatives; ``load`` reads a saved graph, ``architecture`` an accelerator. Everything is imported on first use, so that
``import mmworkload`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmworkload.analyzing import analyze
    from mmworkload.errors import MmworkloadError
    from mmworkload.graph import LayerGraph, Workload
    from mmworkload.problem import Problem
    from mmworkload.verbs import (
        architecture,
        export,
        export_all,
        measure,
        measure_combinations,
        measure_parts,
        measure_result,
        simulate,
        simulate_all,
        simulate_from,
        trace,
        validate,
        validate_all,
    )

    __version__: str

_HOMES = {
    "LayerGraph": "mmworkload.graph",
    "MmworkloadError": "mmworkload.errors",
    "Problem": "mmworkload.problem",
    "Workload": "mmworkload.graph",
    "analyze": "mmworkload.analyzing",
    "architecture": "mmworkload.verbs",
    "export": "mmworkload.verbs",
    "export_all": "mmworkload.verbs",
    "measure": "mmworkload.verbs",
    "measure_combinations": "mmworkload.verbs",
    "measure_parts": "mmworkload.verbs",
    "measure_result": "mmworkload.verbs",
    "simulate": "mmworkload.verbs",
    "simulate_all": "mmworkload.verbs",
    "simulate_from": "mmworkload.verbs",
    "trace": "mmworkload.verbs",
    "validate": "mmworkload.verbs",
    "validate_all": "mmworkload.verbs",
}
__all__ = [
    "LayerGraph",
    "MmworkloadError",
    "Problem",
    "Workload",
    "analyze",
    "architecture",
    "export",
    "export_all",
    "load",
    "measure",
    "measure_combinations",
    "measure_parts",
    "measure_result",
    "simulate",
    "simulate_all",
    "simulate_from",
    "trace",
    "validate",
    "validate_all",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from mmworkload.versions import versions

        return versions()["mmworkload"]
    if name not in _HOMES:
        raise AttributeError(f"module 'mmworkload' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def load(path: str) -> LayerGraph:
    """The graph in a file.

    Parameters
    ----------
    path: a .json or .yaml file, as ``trace -o`` or :meth:`LayerGraph.save` wrote it.

    Raises
    ------
    FormatError
        With the file and what is wrong.

    Examples
    --------
    >>> mmworkload.load("graph.json").total_macs
    """
    from mmworkload.graph import LayerGraph

    return LayerGraph.load(path)
