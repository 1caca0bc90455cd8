"""The workloads of a sweep: globs to names, and their graphs, which are kept with the sweep.

A name of several graphs (a generation, a network with exits) is a workload of weighted parts.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmworkload.errors import FormatError, MmworkloadError, UnknownNameError
from mmworkload.files import write_atomic
from mmworkload.graph import LayerGraph, Workload


@dataclass(frozen=True)
class Entry:
    """One workload of the mix: ``name`` as the user wrote it (of a glob: as it is called), and its weight."""

    name: str
    weight: float


def expand(workloads: Mapping[str, float], where: str = "sweep") -> tuple[Entry, ...]:
    """Globs replaced by what they match; what is named itself keeps its own weight.

    FormatError with the YAML path for a name or glob that nothing has.
    """
    from mmworkload.tracing.snapshot import snapshots

    found: dict[str, float] = {}
    for text, weight in workloads.items():
        base, mark, query = text.partition("?")
        names = [text]
        if "*" in base:
            names = [f"{name}{mark}{query}" for name in snapshots() if fnmatch.fnmatchcase(name, base)]
            if not names:
                raise FormatError(f"{where}: workloads.{text}: {UnknownNameError('workload', base, snapshots())}")
        else:
            _require_known(text, where)
        for name in names:
            if name not in workloads or name == text:
                found[name] = weight
    return tuple(Entry(name, weight) for name, weight in found.items())


def _require_known(text: str, where: str) -> None:
    from mmworkload.exits.settings import split_exits
    from mmworkload.models.names import families, split
    from mmworkload.sources import is_saved_graph

    try:
        text = split_exits(text)[0]
    except MmworkloadError as error:
        raise FormatError(f"{where}: workloads.{text}: {error}") from error
    base = split(text)[0]
    if is_saved_graph(text) or ":" in base or base.endswith(".py"):
        return
    family, _, variant = base.partition("/")
    try:
        known = families()
        if family not in known:
            raise UnknownNameError("workload", family, known)
        if not known[family].generation(variant):
            known[family].variant(variant, family)
    except MmworkloadError as error:
        raise FormatError(f"{where}: workloads.{text}: {error}") from error


def load_workloads(
    names: tuple[str, ...],
    batch: int | None,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Workload]:
    """Name to workload at ``batch``: from ``folder``, where a sweep keeps them, else traced and put there.

    What is kept makes a sweep independent of later changes of the model. Raises MmworkloadError when a model
    cannot be traced, also without torch at another batch than its snapshot's.
    """
    from mmworkload.sources import has_parts, load_workload

    found = {}
    for done, name in enumerate(names):
        progress(done, len(names))
        key = hashlib.sha256(f"{name} {batch}".encode()).hexdigest()[:12]
        if has_parts(name, {}):
            path = folder / f"{key}.json"
            try:
                found[name] = Workload.from_dict(json.loads(path.read_text()))
            except (OSError, ValueError, FormatError):
                found[name] = load_workload(name, (), True, {} if batch is None else {"batch": batch})
                write_atomic(path, json.dumps(found[name].to_dict()))
            continue
        path = folder / f"{key}.yaml"
        try:
            found[name] = Workload.of(LayerGraph.load(path))
        except FormatError:
            graph, text = _traced(name, batch)
            found[name] = Workload.of(graph)
            write_atomic(path, text or graph.to_text(path.suffix))
    progress(len(names), len(names))
    return found


def _traced(name: str, batch: int | None) -> tuple[LayerGraph, str]:
    """The graph, and the text of its snapshot where it has one."""
    from mmworkload.models.names import families, split
    from mmworkload.sources import load_graph
    from mmworkload.tracing.snapshot import path_of

    base, settings, end_to_end = split(name)
    family, _, variant = base.partition("/")
    known = families().get(family)
    if known and not settings and not end_to_end:
        path = path_of(f"{family}/{known.variant(variant, family).name}")
        if path is not None:
            text = path.read_text()
            graph = LayerGraph.from_text(text)
            if batch in (None, graph.batch):
                return graph, text
    if known and importlib.util.find_spec("torch") is None:
        wanted = name if batch is None else f"{name} at batch {batch}"
        raise MmworkloadError(f"{wanted} has no snapshot and has to be traced: pip install 'mmworkload[trace]'")
    return load_graph(name, {} if batch is None else {"batch": batch}, strict=True), ""
