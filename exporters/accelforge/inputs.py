"""AccelForge's input files and what a right answer to them must report: shared by the simulator and the exporter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmworkload.arch import Architecture
from mmworkload.exporters.accelforge.einsum import Einsum
from mmworkload.exporters.timeloop.yaml_text import mapping, scalar, sequence

VERSION = "1.0.466"
# Effort to coarseness: how many times the next smaller tile one has to be that is tried. It counts for windows only:
# without them, all tiles are tried in seconds.
EFFORTS = {"quick": 4, "normal": 2, "thorough": 1}


def workload_text(einsums: Iterable[Einsum], arch: Architecture, effort: str) -> str:
    """A workload of these Einsums in this order, and the mapper's settings for it.

    The metric, energy times delay, cannot be said in YAML; ``run.py`` sets it. Loop orders never changed a result where
    both were tried, and cost three to five times as long. Without imperfect loops a prime number of rows runs on one
    element of the array.
    """
    known = list(einsums)
    coarseness = EFFORTS[effort] if any(item.windowed for item in known) else 1
    lines = [
        "mapper:",
        "  explore_loop_orders: false",
        "  explore_imperfect_spatial_loops: true",
        f"  tiling_coarseness: {coarseness}",
        "workload:",
        "  einsums:",
    ]
    for item in known:
        entry = item.to_dict(arch.array)
        lines += [f"  - name: {scalar(entry['name'])}", "    tensor_accesses:"]
        lines += [f"    - {_accesses(access)}" for access in entry["tensor_accesses"]]
        lines.append(f"    iteration_space_shape: {sequence(entry['iteration_space_shape'])}")
        if item.instances > 1:
            lines.append(f"    n_instances: {item.instances}")
        lines.append(f"    renames: {mapping(entry['renames'])}")
    return "\n".join(lines) + "\n"


def task(einsums: Iterable[Einsum], *, alone: bool = False) -> dict[str, Any]:
    """What :func:`.run.check` and :func:`.run.totals` need, as plain data; for one Einsum ``alone`` also its tensors'
    sizes and extents."""
    known = list(einsums)
    found: dict[str, Any] = {
        "computes": {item.name: item.computes for item in known},
        "instances": {item.name: item.instances for item in known if item.instances > 1},
    }
    if alone:
        (item,) = known
        found["extents"] = item.extents
        found["bits"] = {access.tensor: item.size(access) * access.bits for access in item.accesses}
    return found


def machine(arch: Architecture) -> dict[str, Any]:
    """What :func:`.run.totals` needs of the architecture."""
    return {"clock_mhz": arch.clock_mhz, "elements": arch.elements}


def _accesses(access: dict[str, Any]) -> str:
    # YAML's own word for truth; the shared writer has Python's.
    return mapping(access).replace("output: True", "output: true")
