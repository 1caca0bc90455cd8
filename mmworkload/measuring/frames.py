"""The kernels and the host's activity of the profiled runs, as rows and as pandas frames. Free of torch.

Every kernel is a row, those of no layer too: their ``layer`` is empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from mmworkload.measuring.attribution import Activity, Event, Kernel, activities, kernels, run_spans
from mmworkload.measuring.categories import kernel_kind, name_category, runtime_kind

if TYPE_CHECKING:
    import pandas

    from mmworkload.graph import LayerGraph


@dataclass(frozen=True)
class KernelRow:
    """One kernel (``kind`` kernel, copy or fill) or, on the CPU, one operator with its own time.

    ``start_s`` and ``caused_s`` (when the host launched it) count from the start of the run; ``stream`` is the thread
    on the CPU; ``launch_s`` is the duration of the runtime's call. NaN where it is not known.
    """

    run: int
    name: str
    kind: str
    layer: str
    op: str
    stage: str
    modality: str
    category: str
    name_category: str
    start_s: float
    duration_s: float
    stream: int
    caused_s: float
    launch_s: float


@dataclass(frozen=True)
class HostRow:
    """One activity of the host: ``kind`` operator, runtime, sync or copy; ``self_s`` is without what it calls."""

    run: int
    kind: str
    name: str
    layer: str
    stage: str
    modality: str
    start_s: float
    duration_s: float
    self_s: float
    thread: int


@dataclass(frozen=True)
class _Place:
    """What a node of the graph is."""

    layer: str = ""
    op: str = ""
    stage: str = ""
    modality: str = ""
    category: str = ""


_NOWHERE = _Place()


def places(graph: LayerGraph, layer_of_call: Mapping[str, str]) -> dict[str, _Place]:
    """Key of a node to its layer; nodes that are no layer (views, checks) are not in it."""
    layers = {layer.name: _Place(layer.name, layer.op, layer.stage, layer.modality, layer.category) for layer in graph}
    return {key: layers[name] for key, name in layer_of_call.items()}


def kernel_rows(
    events: Sequence[Event], graph: LayerGraph, layer_of_call: Mapping[str, str], *, on_device: bool
) -> list[KernelRow]:
    """The kernels of the profiled runs in order of run and start.

    On a device, layers that are placed on the host have no kernels: their operators are their rows.
    """
    where = places(graph, layer_of_call)
    starts = {run: start for run, (start, _) in run_spans(events).items()}
    rows = [_kernel_row(item, where, starts, on_device) for item in kernels(events, on_device=on_device)]
    on_host = {layer.name for layer in graph if layer.placement == "host"}
    if on_device and on_host:
        rows += [
            _kernel_row(item, where, starts, False)
            for item in kernels(events, on_device=False)
            if where.get(item.node, _NOWHERE).layer in on_host
        ]
    return sorted(rows, key=lambda row: (row.run, row.start_s))


def _kernel_row(item: Kernel, where: Mapping[str, _Place], starts: Mapping[str, int], on_device: bool) -> KernelRow:
    place, start_ns = where.get(item.node, _NOWHERE), starts[item.run]
    return KernelRow(
        run=int(item.run),
        name=item.name,
        kind=kernel_kind(item.name) if on_device else "operator",
        layer=place.layer,
        op=place.op,
        stage=place.stage,
        modality=place.modality,
        category=place.category,
        name_category=name_category(item.name, on_device=on_device),
        start_s=(item.start_ns - start_ns) * 1e-9,
        duration_s=item.time_s,
        stream=item.stream,
        caused_s=math.nan if item.caused_ns is None else (item.caused_ns - start_ns) * 1e-9,
        launch_s=math.nan if item.launch_ns is None else item.launch_ns * 1e-9,
    )


def host_rows(events: Sequence[Event], graph: LayerGraph, layer_of_call: Mapping[str, str]) -> list[HostRow]:
    """What the host did in the profiled runs, in order of run and start."""
    where = places(graph, layer_of_call)
    starts = {run: start for run, (start, _) in run_spans(events).items()}

    def row(item: Activity) -> HostRow:
        place = where.get(item.node, _NOWHERE)
        return HostRow(
            run=int(item.run),
            kind=item.kind if item.kind == "operator" else runtime_kind(item.name),
            name=item.name,
            layer=place.layer,
            stage=place.stage,
            modality=place.modality,
            start_s=(item.start_ns - starts[item.run]) * 1e-9,
            duration_s=item.time_ns * 1e-9,
            self_s=item.self_ns * 1e-9,
            thread=item.thread,
        )

    return sorted((row(item) for item in activities(events)), key=lambda item: (item.run, item.start_s))


def attributed_share(rows: Iterable[KernelRow]) -> float:
    """Share of the kernel time of the whole profiled runs, inside our ranges or not, that belongs to a layer."""
    total = found = 0.0
    for row in rows:
        total += row.duration_s
        found += row.duration_s if row.layer else 0.0
    return found / total if total else 1.0


def kernels_frame(rows: Sequence[KernelRow]) -> pandas.DataFrame:
    """One row a kernel; the columns are the fields of :class:`KernelRow` in their order."""
    return _frame(KernelRow, rows)


def host_frame(rows: Sequence[HostRow]) -> pandas.DataFrame:
    """One row an activity; the columns are the fields of :class:`HostRow` in their order."""
    return _frame(HostRow, rows)


def columns(kind: type[KernelRow] | type[HostRow]) -> list[str]:
    """The columns of a frame of such rows."""
    return [item.name for item in fields(kind)]


def _frame(kind: type[KernelRow] | type[HostRow], rows: Sequence[KernelRow] | Sequence[HostRow]) -> pandas.DataFrame:
    import pandas

    types = {item.name: {"int": "int64", "float": "float64"}.get(str(item.type), "str") for item in fields(kind)}
    frame = pandas.DataFrame([astuple(row) for row in rows], columns=columns(kind))
    return frame.astype(types)
