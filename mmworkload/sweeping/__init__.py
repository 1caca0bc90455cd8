"""Design-space sweeps: many designs, a mix of workloads, one table.

In Python: ``run(file, directory)`` or ``resume(directory)``, then ``Results(directory)``, whose frames are pandas'.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Results": "mmworkload.sweeping.results",
    "export": "mmworkload.sweeping.results",
    "pareto_front": "mmworkload.sweeping.results",
    "plan": "mmworkload.sweeping.planning",
    "resume": "mmworkload.sweeping.running",
    "run": "mmworkload.sweeping.running",
    "read": "mmworkload.sweeping.spec",
}
__all__ = list(_HOMES)  # all are imported on first use


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mmworkload.sweeping' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
