"""A sweep's results as pandas frames, and what one asks of them: fronts, bests, bottlenecks, sensitivities."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError
from mmworkload.sweeping.conditions import Term, figure
from mmworkload.sweeping.rows import OK, SUMS, TIMING
from mmworkload.sweeping.space import BATCH
from mmworkload.sweeping.spec import SweepSpec
from mmworkload.sweeping.store import Store
from mmworkload.sweeping.workloads import expand

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow

FEASIBLE = "feasible"
_WORTH = 0.001
"""By how much a stage has to be better on another design for that to count."""
_FIGURES = (*SUMS, "cycles", "utilization")


class Results:
    """What a sweep's folder has so far. Rows are read on first use. Raises MmworkloadError when it holds none, and when
    its ``sweep.yaml`` was edited since."""

    def __init__(self, directory: str | Path) -> None:
        self.store = Store(Path(directory))
        self.store.require()
        self.spec: SweepSpec = self.store.spec()

    @cached_property
    def weights(self) -> dict[str, float]:
        """Workload to its weight in the mix."""
        return {entry.name: entry.weight for entry in expand(self.spec.workloads)}

    @cached_property
    def axes(self) -> list[str]:
        """What is varied, in the order of the file; of several batches also ``batch``."""
        found = self.trials
        return [name for name in found.attrs["axes"] if name in found]

    @cached_property
    def _table(self) -> pyarrow.Table:
        """Rows of designs and workloads, without stages."""
        import pyarrow.compute

        def whole(segment: pyarrow.Table) -> pyarrow.Table:
            return segment.filter(pyarrow.compute.equal(segment.column("stage").cast("string"), ""))

        return self.store.table(whole)

    @cached_property
    def trials(self) -> pandas.DataFrame:
        """One row a design: ``design``, its settings, figures of the mix, every metric that is asked for, whether it
        meets the constraints (``feasible``), ``status`` and ``reason``."""
        return frame(self._table, self.spec, self.weights)

    @cached_property
    def workloads(self) -> pandas.DataFrame:
        """One row a design and workload: its settings and figures."""
        rows = _plain(self._table)
        rows = rows[rows["workload"] != ""].drop(columns=["stage", "status", "reason", "log", "settings", "area_mm2"])
        return rows.merge(self.trials[["design", *[name for name in self.axes if name != BATCH]]], on="design")

    def stages(self, designs: Sequence[str] | None = None) -> pandas.DataFrame:
        """One row a design, workload and stage, of ``designs`` (default: all), with ``weight`` and ``share`` of the
        workload's latency."""
        import pyarrow
        import pyarrow.compute

        def chosen(segment: pyarrow.Table) -> pyarrow.Table:
            mask = pyarrow.compute.not_equal(segment.column("stage").cast("string"), "")
            if designs is not None:
                wanted = pyarrow.array(list(designs), pyarrow.string())
                mine = pyarrow.compute.is_in(segment.column("design").cast("string"), wanted)
                mask = pyarrow.compute.and_(mask, mine)
            return segment.filter(mask)

        rows = _plain(self.store.table(chosen))
        rows = rows[
            ["design", "workload", "stage", "batch", *_FIGURES[:1], "energy_j", "dram_bytes", "utilization", "bound"]
        ]
        rows["weight"] = rows["workload"].map(self.weights)
        whole = rows.groupby(["design", "workload"], sort=False)["latency_s"].transform("sum")
        rows["share"] = rows["latency_s"] / whole
        return rows.reset_index(drop=True)

    @property
    def feasible(self) -> pandas.DataFrame:
        """The trials that meet the constraints."""
        return self.trials[self.trials[FEASIBLE]]

    def pareto(self, objectives: Sequence[str] | None = None) -> pandas.DataFrame:
        """The feasible trials that no other one beats in every objective; those of each batch by themselves, as a batch
        is a way of use and not a design. Sorted by batch and the first objective."""
        goals = [Term.parse(text) for text in objectives or self.spec.objectives]
        found = self.feasible
        if not len(found):
            return found
        keep = []
        groups = [found] if BATCH not in self.axes else [rows for _, rows in found.groupby(BATCH, sort=True)]
        for rows in groups:
            values = _costs(rows, goals)
            front = rows[pareto_front(values)]
            keep.append(front.sort_values(str(goals[0]), ascending=not goals[0].maximise, kind="stable"))
        import pandas

        return pandas.concat(keep)

    def require_figures(self) -> None:
        """MmworkloadError with the first reason when designs are finished and none has figures."""
        if len(self.trials) and not bool((self.trials["status"] == OK).any()):
            raise MmworkloadError(
                f"none of the {len(self.trials):,} designs has figures: {self.trials['reason'].iloc[0]}"
            )

    def best(self, term: str) -> pandas.Series[Any] | None:
        """The feasible trial with the best ``term``, of equal ones the best by the objectives in their order; None when
        there is none."""
        goal = Term.parse(term)
        found = self.feasible
        values = column(found, self._workload_rows, goal)
        if not len(found) or bool(values.isna().all()):
            return None
        return found.iloc[int(_best_first(found, values, goal, self.spec.goals)[0])]

    @cached_property
    def _workload_rows(self) -> pandas.DataFrame:
        rows = _plain(self._table)
        return rows[rows["workload"] != ""]

    def sensitivity(self, term: str) -> pandas.DataFrame:
        """What each axis does to a metric: one row an axis and value, with ``value``, ``designs``, the geometric mean
        over all trials with figures that have it, and by ``axis`` the ``factor`` between its largest and smallest mean
        and ``explained``, the share of the variance of the logarithm that its value explains. Numbers between the steps
        of a search are put into four groups of equal size. Of several batches, differences between them are taken out.
        """
        import numpy
        import pandas

        goal = Term.parse(term)
        found = self.trials[self.trials["status"] == OK]
        values = column(found, self._workload_rows, goal)
        logs = pandas.Series(numpy.log(values.where(values > 0).to_numpy(dtype=float)), index=found.index).dropna()
        if BATCH in self.axes:
            # A batch is a way of use: what it changes is taken out, so that designs are compared.
            logs = logs - logs.groupby(found.loc[logs.index, BATCH]).transform("mean") + logs.mean()
        rows = []
        variance = float(logs.var(ddof=0)) if len(logs) else 0.0
        for axis in [name for name in self.axes if name != BATCH]:
            kinds = found.loc[logs.index, axis]
            if kinds.nunique() > 12 and pandas.api.types.is_numeric_dtype(kinds):
                kinds = pandas.qcut(kinds, 4, duplicates="drop").map(
                    lambda item: f"{item.left:.4g} to {item.right:.4g}"
                )
            elif kinds.dtype == object:
                kinds = kinds.map(str)
            groups = logs.groupby(kinds, sort=True, observed=True)
            means = groups.mean()
            counts = groups.size()
            between = float((counts * (means - logs.mean()) ** 2).sum() / len(logs)) if len(logs) else 0.0
            for (value, mean), count in zip(means.items(), counts, strict=True):
                rows.append(
                    {
                        "axis": axis,
                        "value": value,
                        "designs": int(count),
                        "mean": float(numpy.exp(mean)),
                        "factor": float(numpy.exp(means.max() - means.min())),
                        "explained": between / variance if variance > 1e-24 else 0.0,
                    }
                )
        return pandas.DataFrame(rows, columns=["axis", "value", "designs", "mean", "factor", "explained"])

    def bottlenecks(self, designs: Sequence[str] | None = None) -> pandas.DataFrame:
        """Design and stage to the ``share`` of the mix's latency and the ``bound`` that most of it waits for. Stages of
        one name are one over the workloads."""
        rows = self.stages(designs)
        rows["seconds"] = rows["latency_s"] * rows["weight"]
        whole = rows.groupby("design", sort=False)["seconds"].sum()
        summed = rows.groupby(["design", "stage"], sort=False)["seconds"].sum()
        bounds = rows.groupby(["design", "stage", "bound"], sort=False)["seconds"].sum().reset_index()
        largest = bounds.loc[bounds.groupby(["design", "stage"], sort=False)["seconds"].idxmax()]
        found = summed.reset_index()
        found["share"] = found["seconds"] / found["design"].map(whole)
        return found.merge(largest[["design", "stage", "bound"]], on=["design", "stage"])

    def heterogeneous(self, metric: str = "latency_s") -> Heterogeneous | None:
        """See :class:`Heterogeneous`; None with fewer than two feasible designs or two stages."""
        return heterogeneous(self, metric)


@dataclass(frozen=True)
class Heterogeneous:
    """Each stage on the design that runs it best, against all stages on the one design that is best for all.

    ``stages``: stage to design; ``joined`` and ``single``: the metric of the mix, with each stage where it is best and
    on the best single design. A bound: it takes as many accelerators as there are different designs, and what is moved
    between them is not charged (a system in ``arch.base`` is charged in full).
    """

    metric: str
    batch: int | None
    stages: dict[str, str]
    single_design: str
    single: float
    joined: float
    single_area_mm2: float | None
    joined_area_mm2: float | None

    @property
    def designs(self) -> int:
        return len(set(self.stages.values()))


def heterogeneous(results: Results, metric: str) -> Heterogeneous | None:
    """For ``latency_s`` or ``energy_j``, which add up over stages."""
    found = results.feasible
    if BATCH in results.axes and len(found):
        # One batch: stages of different batches do not make one network.
        found = found[found[BATCH] == found[BATCH].min()]
    if len(found) < 2:
        return None
    found = found.iloc[_best_first(found, found[metric], Term(metric), results.spec.goals)]
    rows = results.stages(list(found["design"]))
    rows["cost"] = rows[metric] * rows["weight"]
    costs = rows.groupby(["design", "stage"], sort=False)["cost"].sum().unstack().reindex(found["design"])
    if costs.shape[1] < 2 or bool(costs.isna().any().any()):
        return None
    whole = costs.sum(axis=1)
    single = str(whole.index[0])
    by_stage = {str(stage): costs[stage].to_dict() for stage in costs.columns}
    chosen: dict[str, str] = {}
    for stage, own in by_stage.items():
        best = min(own, key=own.__getitem__)
        # Another accelerator has to be worth it.
        chosen[stage] = single if own[single] <= own[best] * (1 + _WORTH) else str(best)
    joined = float(sum(by_stage[stage][design] for stage, design in chosen.items()))
    area = found.set_index("design")["area_mm2"]
    batch = min((item for item in results.spec.batches if item is not None), default=None)
    return Heterogeneous(
        metric=metric,
        batch=batch,
        stages=chosen,
        single_design=single,
        single=float(whole[single]),
        joined=joined,
        single_area_mm2=_known(area[single]),
        joined_area_mm2=_known(area[list(dict.fromkeys(chosen.values()))].sum(skipna=False)),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def frame(rows: pyarrow.Table, spec: SweepSpec, weights: Mapping[str, float]) -> pandas.DataFrame:
    """The trials of a table of rows; see :attr:`Results.trials`."""
    import pandas

    plain = _plain(rows)
    heads = plain[plain["workload"] == ""].reset_index(drop=True)
    settings = [json.loads(text) for text in heads["settings"]]
    axes = list(dict.fromkeys(name for item in settings for name in item))
    points = pandas.DataFrame({axis: [_hashable(item.get(axis)) for item in settings] for axis in axes})
    figures = heads[[*_FIGURES, "area_mm2", "fallbacks", *TIMING, "status", "reason", "log"]]
    found = pandas.concat([heads[["index", "design"]], points, figures], axis=1)
    parts = plain[(plain["workload"] != "") & (plain["stage"] == "")].assign(
        weight=lambda item: item["workload"].map(weights)
    )
    ok = found["status"] == OK
    for term in spec.terms:
        if str(term) not in found:
            found[str(term)] = column(found, parts, term)
    met = ok.copy()
    for condition in spec.conditions:
        met &= found[str(condition.term)].map(condition.holds).astype(bool)
    for goal in spec.goals:
        met &= found[str(goal)].notna()
    found[FEASIBLE] = met
    found.attrs["axes"] = axes
    return found


def column(found: pandas.DataFrame, parts: pandas.DataFrame, term: Term) -> pandas.Series[Any]:
    """A metric of each trial; ``parts`` are the rows of the workloads."""
    import pandas

    if str(term) in found:
        return found[str(term)]
    by_name = {
        str(name): rows.set_index("design").reindex(found["design"]).reset_index()
        for name, rows in parts.groupby("workload", sort=False, observed=True)
    }
    if term.workload and term.workload not in by_name:
        return pandas.Series(float("nan"), index=found.index)
    plain = {
        name: {key: rows[key].to_numpy(dtype=float) for key in (*_FIGURES, "batch", "weight") if key in rows}
        for name, rows in by_name.items()
    }
    mix = {key: found[key].to_numpy(dtype=float) for key in (*_FIGURES, "area_mm2")}
    return pandas.Series(figure(term, mix, plain), index=found.index, dtype=float)


def figures_of(
    rows: pyarrow.Table, spec: SweepSpec, weights: Mapping[str, float]
) -> dict[str, tuple[list[float], list[float]] | None]:
    """Design to its objectives and violations of constraints; None for one without figures."""
    found = frame(rows, spec, weights)
    goals = [found[str(goal)].to_numpy(dtype=float) for goal in spec.goals]
    asked = [(item, found[str(item.term)].to_numpy(dtype=float)) for item in spec.conditions]
    values: dict[str, tuple[list[float], list[float]] | None] = {}
    for place, (design, status) in enumerate(zip(found["design"], found["status"], strict=True)):
        own = [float(goal[place]) for goal in goals]
        if status != OK or any(value != value for value in own):
            values[design] = None
        else:
            values[design] = (own, [item.violation(float(column[place])) for item, column in asked])
    return values


def pareto_front(costs: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Mask of the rows that no other row beats: at most as large everywhere and smaller somewhere. (rows, objectives),
    smaller is better; of equal rows all are kept."""
    import numpy

    order = numpy.lexsort(costs.T[::-1])
    keep = numpy.zeros(len(costs), dtype=bool)
    front = numpy.empty((0, costs.shape[1]))
    for place in order:
        row = costs[place]
        beaten = ((front <= row).all(axis=1) & (front < row).any(axis=1)).any() if len(front) else False
        if not beaten:
            keep[place] = True
            front = numpy.vstack([front, row])
    return keep


def _best_first(
    rows: pandas.DataFrame, values: pandas.Series[Any], term: Term, goals: Sequence[Term]
) -> numpy.ndarray[Any, Any]:
    """The places of ``rows`` by their ``values`` of ``term``, equal ones by the objectives in their order, so that the
    first of an objective is on the Pareto front."""
    import numpy

    own = values.to_numpy(dtype=float) * (-1 if term.maximise else 1)
    return numpy.lexsort([*_costs(rows, goals).T[::-1], own])


def _costs(rows: pandas.DataFrame, goals: Sequence[Term]) -> numpy.ndarray[Any, Any]:
    import numpy

    for goal in goals:
        if str(goal) not in rows:
            raise MmworkloadError(f"{goal} is not an objective or constraint of this sweep")
    return numpy.stack([rows[str(goal)].to_numpy(dtype=float) * (-1 if goal.maximise else 1) for goal in goals], axis=1)


def _plain(rows: pyarrow.Table) -> pandas.DataFrame:
    """With text instead of categories."""
    import pyarrow

    columns = []
    for name in rows.column_names:
        item = rows.column(name)
        columns.append(item.cast(pyarrow.string()) if pyarrow.types.is_dictionary(item.type) else item)
    found: pandas.DataFrame = pyarrow.table(columns, names=rows.column_names).to_pandas()
    return found


def _hashable(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def export(results: Results, path: Path) -> int:
    """Writes all rows as Parquet or CSV, by the suffix; the number of rows. MmworkloadError for another suffix."""
    import io

    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    from mmworkload.files import write_atomic
    from mmworkload.outputs import TABLE, require_output_file

    require_output_file(path, TABLE)
    rows = flat(results)
    stream = io.BytesIO()
    if path.suffix.lower() == ".parquet":
        pyarrow.parquet.write_table(rows, stream, compression="zstd")
    else:
        plain = [
            item.cast(pyarrow.string()) if pyarrow.types.is_dictionary(item.type) else item for item in rows.columns
        ]
        pyarrow.csv.write_csv(pyarrow.table(plain, names=rows.column_names), stream)
    write_atomic(path, stream.getvalue())
    return int(rows.num_rows)


def flat(results: Results) -> pyarrow.Table:
    """Every row with the settings of its design as columns, in the order of the enumeration."""
    import numpy
    import pyarrow

    rows = results.store.table()
    trials = results.trials
    place = {design: number for number, design in enumerate(trials["design"])}
    codes = numpy.array([place[design] for design in rows.column("design").to_pylist()], dtype=numpy.int64)
    for axis in [name for name in results.axes if name != BATCH]:
        rows = rows.append_column(axis, pyarrow.array(trials[axis]).take(pyarrow.array(codes)))
    rows = rows.drop_columns(["settings"])
    # Names in the order in which they come, whatever segments they were in.
    columns = [
        item.cast(pyarrow.string()).dictionary_encode() if pyarrow.types.is_dictionary(item.type) else item
        for item in rows.columns
    ]
    return pyarrow.table(columns, names=rows.column_names)
