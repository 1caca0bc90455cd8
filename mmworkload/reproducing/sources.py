"""Where the figures come from: snapshots and traces, the roofline, and measurements that are given. Each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload import verbs
from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError, UnavailableError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer
from mmworkload.reproducing.item import Ours, Side, Table, Value
from mmworkload.tracing.snapshot import recorded

if TYPE_CHECKING:
    from mmworkload.measuring.folder import Result
    from mmworkload.simulating.result import Simulation

# Rows of a view, by column name.
Records = Sequence[Mapping[str, Any]]
TORCH = "torch"
SERVER = "rtx_2080_ti"
GRAPH = "the graph, batch 1"
# Rows of a measured table; mmworkload analyze has all.
TOP = 20


class Sources:
    """``measured`` are results; ``arch`` replaces the paper's GPU in what is modelled and judges what is measured."""

    def __init__(self, measured: Iterable[str | Path | Result] = (), arch: str | None = None) -> None:
        from mmworkload.packs.measured import collect

        self.measured: list[Result] = []
        for item in measured:
            self.measured += collect([item]) if isinstance(item, str | Path) else [item]
        self.arch = arch
        self._graphs: dict[tuple[Any, ...], LayerGraph] = {}
        self._simulations: dict[tuple[int, str], tuple[LayerGraph, Simulation]] = {}

    def graph(self, name: str, batch: int | None = None, **how: Any) -> LayerGraph:
        """The snapshot of a workload; a trace where another batch, dtype or setting is asked for.

        Raises UnavailableError where that needs torch and there is none.
        """
        key = (name, batch, *sorted((option, str(value)) for option, value in how.items()))
        if key not in self._graphs:
            graph = None if how else recorded(name)
            if graph is None or batch not in (None, graph.batch):
                graph = verbs.trace(name, batch=batch, **how)
            self._graphs[key] = graph
        return self._graphs[key]

    def gpu(self, default: str = SERVER, dtype: str = "float32") -> Architecture:
        """The GPU that is modelled: the paper's unless another was asked for."""
        found = verbs.architecture(self.arch or default, dtype=dtype)
        if not isinstance(found, Architecture):
            raise MmworkloadError(f"{self.arch}: give one architecture, not a system")
        return found

    def roofline(self, graph: LayerGraph, gpu: Architecture) -> Simulation:
        """The closed form's times of every layer."""
        key = (id(graph), gpu.key)
        if key not in self._simulations:
            # The graph stays beside it, so that no other takes its id.
            self._simulations[key] = graph, verbs.simulate(graph, gpu, simulator="roofline", strict=False, cache=False)
        return self._simulations[key][1]


def launches(layers: Iterable[Layer]) -> int:
    """Kernels that the layers start: one for each loop nest, and one for a layer without any. Libraries may fuse."""
    return sum(layer.launches for layer in layers if layer.placement == "device")


def devices(results: Iterable[Result]) -> str:
    """The devices that were measured, by their names."""
    return ", ".join(
        dict.fromkeys(item.measurement.provenance.get("device_name") or item.measurement.device for item in results)
    )


def measured(
    view: str,
    names: Sequence[str],
    columns: str,
    ours: Callable[[Records], Iterable[Ours]] = lambda rows: (),
    *,
    counters: bool = False,
) -> Side:
    """The side that a view of :mod:`mmworkload.analyzing` makes of given measurements of ``names``.

    ``columns`` are those of the view that are shown, ``name`` or ``name=heading``; ``ours`` gets all of them, with
    model and batch. ``counters``: without hardware counters there is nothing to show.
    """
    from mmworkload.analyzing import COLUMNS, Taken, analyze, find

    headings = dict(column.partition("=")[::2] for column in columns.split())
    advice = f"mmworkload measure {names[0]} --device cuda{' --counters' if counters else ''} -o FOLDER"

    def make(sources: Sources) -> Iterable[Table]:
        own = [item for item in sources.measured if item.measurement.model in names]
        # A pack has no kernels.
        found = [item for item in own if all(map(Taken(item).has, find(view).needs))]
        if not found:
            raise UnavailableError(f"a result folder of {' or '.join(names)}: {advice}")
        frame = analyze(view, found, arch=sources.arch)
        on = devices(found)
        if len(found) == 1:
            m = found[0].measurement
            on = f"{on}: {m.model}, batch {m.batch}"
            frame = frame.assign(model=m.model, batch=m.batch)
        wanted = [*(["model", "batch"] if len(found) > 1 else []), *headings]
        notes = list(frame.attrs.get("notes", ()))
        largest = list(find(view).largest)
        shown = frame
        if largest and len(frame) > TOP:
            notes.insert(0, f"The {TOP} largest of {len(frame):,} rows; mmworkload analyze {view} has all.")
            order = frame[largest].sum(axis=1).sort_values(ascending=False, kind="stable").index
            shown = frame.loc[order[:TOP].sort_values()]
        kept = shown[list(dict.fromkeys(wanted))]
        if counters and kept[[name for name in kept.columns if COLUMNS[name].counter]].isna().all(axis=None):
            raise UnavailableError(f"hardware counters, which the result of {devices(found)} has not: {advice}")
        rows = kept.astype(object).where(kept.notna(), None).to_numpy().tolist()
        heads = ", ".join(
            f"{headings.get(name) or name}:{_UNITS.get(COLUMNS[name].unit, 'number')}" for name in kept.columns
        )
        records = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
        yield Table(find(view).title, "measured", on, heads, rows, list(ours(records)), notes)

    return Side("measured", make, f"a measurement{' with hardware counters' if counters else ''}")


def executed(option: str, names: Sequence[str], key: str = "") -> Side:
    """The side of given measurements of ``names`` that ran in another way too, with ``--option``; ours, for the
    headline ``key``, is how much faster that is."""

    def make(sources: Sources) -> Iterable[Table]:
        found = [item for item in sources.measured if item.measurement.model in names]
        rows: list[list[Value]] = []
        ours = []
        for m in (item.measurement for item in found):
            # The traced graph is what runs on streams; all else is the eager model.
            base = m.graph if option == "streams" else m.eager
            for other in (item for item in m.executions if item.name == option):
                faster = base.median_s / other.time.median_s
                rows.append([m.model, m.batch, base.median_s, other.time.median_s, faster])
                ours += [Ours(key, faster, f"--{option}, {m.model}, batch {m.batch}")] if key else []
        if not rows:
            advice = f"mmworkload measure {names[0]} --device cuda --{option} -o FOLDER"
            raise UnavailableError(f"a result of {' or '.join(names)}, with --{option}: {advice}")
        heads = f"model, batch:count, without:s, {option}:s, faster:ratio"
        yield Table(f"With --{option}", "measured", devices(found), heads, rows, ours)

    return Side("measured", make, f"a measurement with --{option}")


_UNITS = {unit: unit for unit in ("", "s", "B", "share", "ratio", "count", "1/s", "yes/no")} | {"index": "count"}
