"""Where exported files come from, in the same words for every target."""

from __future__ import annotations

from mmworkload.arch import Architecture
from mmworkload.graph import Workload


def provenance(workload: Workload, arch: Architecture, versions: dict[str, str], target: str) -> list[str]:
    """Lines for the head of a file. No time of day, so that a second export is the same."""
    lines = [f"Written by {', '.join(f'{name} {version}' for name, version in versions.items())} for {target}"]
    for part in workload.parts:
        graph = part.graph
        where = f" ({part.name}, {part.count:g} times)" if part.name else ""
        variant = f", variant {graph.variant}" if graph.variant else ""
        lines.append(f"model: {graph.model}{where}{variant}, batch {graph.batch}, {graph.dtype}, on {arch.name}")
    return lines
