"""What the snapshots in ``shapes/`` say about the size of a workload, without torch and without reading a graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError
from mmworkload.graph import InputInfo, StageTotals
from mmworkload.tracing.snapshot import path_of


@dataclass(frozen=True)
class Sizes:
    """Sums of one graph at its ``batch``: ``params`` are those that the forward pass reads, tied ones once."""

    batch: int
    macs: int
    params: int
    layers: int
    inputs: tuple[InputInfo, ...]
    stages: dict[str, StageTotals]


def sizes_of(model: str) -> Sizes | None:
    """The sizes of ``workload/variant`` at its defaults; None when there is no snapshot of it.

    Raises FormatError when the snapshot cannot be read.
    """
    path = path_of(model)
    return None if path is None else read_sizes(path)


def read_sizes(path: Path) -> Sizes:
    """The sums at the head of a graph that was saved as YAML; the long tables below them are not read."""
    import yaml

    head = []
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("problems:"):
                    break
                head.append(line)
        data: dict[str, Any] = yaml.load("".join(head), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        stages = {name: StageTotals(**item) for name, item in data["stages"].items()}
        return Sizes(
            batch=data["batch"],
            macs=data["total_macs"],
            params=data["total_params"],
            layers=sum(item.layers for item in stages.values()),
            inputs=tuple(InputInfo(**{**item, "shape": tuple(item["shape"])}) for item in data["inputs"]),
            stages=stages,
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: not a saved graph: {type(error).__name__} {error}") from error
