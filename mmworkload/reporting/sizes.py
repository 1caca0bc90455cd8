"""What the snapshots in ``shapes/`` say about the size of a workload, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmworkload.graph import InputInfo, LayerGraph, StageTotals
from mmworkload.tracing.snapshot import path_of


@dataclass(frozen=True)
class Sizes:
    """Sums of one graph at its ``batch``: ``params`` are those that the forward pass reads, tied ones once."""

    batch: int
    macs: int
    params: int
    inputs: tuple[InputInfo, ...]
    stages: dict[str, StageTotals]


def sizes_of(model: str) -> Sizes | None:
    """The sizes of ``workload/variant`` at its defaults; None when there is no snapshot of it.

    Raises FormatError when the snapshot cannot be read.
    """
    path = path_of(model)
    return None if path is None else read_sizes(path)


def read_sizes(path: Path) -> Sizes:
    """The sums of a saved graph. Those at its head are taken where it has them: reading all of it takes far longer.

    Raises FormatError.
    """
    found = _from_head(path)
    if found is not None:
        return found
    graph = LayerGraph.load(path)
    return Sizes(graph.batch, graph.total_macs, graph.total_params, graph.inputs, graph.stages)


def _from_head(path: Path) -> Sizes | None:
    """The sums in front of the long tables of a graph in YAML; None when they are not there as they should be."""
    import yaml

    head = []
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("problems:"):
                    break
                head.append(line)
        data: Any = yaml.load("".join(head), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return Sizes(
            batch=data["batch"],
            macs=data["total_macs"],
            params=data["total_params"],
            inputs=tuple(InputInfo(**{**item, "shape": tuple(item["shape"])}) for item in data["inputs"]),
            stages={name: StageTotals(**item) for name, item in data["stages"].items()},
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
