"""mmworkload: trace a multi-modal network once, and time and simulate the very same layers.

The verbs are functions here: ``trace``, ``export``, ``simulate``, ``measure``, ``validate``; ``load`` reads a saved
graph. Everything is imported on first use, so that ``import mmworkload`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "trace": "mmworkload.verbs",
    "export": "mmworkload.verbs",
    "simulate": "mmworkload.verbs",
    "measure": "mmworkload.verbs",
    "validate": "mmworkload.verbs",
    "architecture": "mmworkload.verbs",
    "export_all": "mmworkload.verbs",
    "analyze": "mmworkload.analyzing",
    "LayerGraph": "mmworkload.graph",
    "Workload": "mmworkload.graph",
    "Problem": "mmworkload.problem",
    "MmworkloadError": "mmworkload.errors",
}
__all__ = ["load", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from mmworkload.versions import versions

        return versions()["mmworkload"]
    if name not in _HOMES:
        raise AttributeError(f"module 'mmworkload' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def load(path: str) -> Any:
    """A :class:`LayerGraph` from a .json or .yaml file; FormatError names the file and what is wrong."""
    from mmworkload.graph import LayerGraph

    return LayerGraph.load(path)
