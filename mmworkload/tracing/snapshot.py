"""The text graphs in ``shapes/``: the golden snapshot of the tracer, usable without torch.

``python -m mmworkload.tracing.snapshot shapes/`` writes one file for every workload and variant, and with globs after
the folder (``'av-mnist/*'``) those whose name matches one.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mmworkload.graph import LayerGraph
from mmworkload.plugins import packages


def snapshots() -> dict[str, Path]:
    """``workload/variant`` to its snapshot, sorted by name, of all that are installed."""
    from importlib.resources import files

    found: dict[str, Path] = {}
    for _, package in packages("mmworkload.shapes"):
        root = Path(str(files(package)))
        found.update((path.relative_to(root).with_suffix("").as_posix(), path) for path in root.rglob("*.yaml"))
    return dict(sorted(found.items()))


def path_of(model: str) -> Path | None:
    """The snapshot of ``workload/variant`` at its default batch, or None when there is none."""
    return snapshots().get(model)


@cache
def recorded(model: str) -> LayerGraph | None:
    """The graph in the snapshot of ``workload/variant``, read once a process; None for any other name."""
    path = path_of(model)
    return LayerGraph.load(path) if path else None


def write_all(folder: Path, only: Iterable[str] = ()) -> list[Path]:
    """Traces each variant whose name matches one of the globs (default: all), writes its graph, returns the files."""
    from mmworkload.models import families, resolve
    from mmworkload.sources import require_known
    from mmworkload.tracing import trace_model

    globs = list(only) or ["*"]
    written = []
    for family_name, family in families().items():
        for variant in family.variants:
            name = f"{family_name}/{variant.name}"
            if any(fnmatch.fnmatchcase(name, glob) for glob in globs):
                graph: LayerGraph = require_known(trace_model(resolve(name)).graph)
                target = folder / f"{name}.yaml"
                graph.save(target)
                written.append(target)
    return written


if __name__ == "__main__":
    for item in write_all(Path(sys.argv[1] if len(sys.argv) > 1 else "shapes"), sys.argv[2:]):
        print(item)
