"""The report of a sweep: what to print and draw, collected once, and as one HTML file that needs nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.files import write_atomic
from mmworkload.outputs import require_report_packages
from mmworkload.reporting.templates import environment, text_of
from mmworkload.reporting.units import plural, share, si, times
from mmworkload.straggler import encoded
from mmworkload.sweeping.conditions import UNITS, Term
from mmworkload.sweeping.results import FEASIBLE, Heterogeneous, Results, column, heterogeneous
from mmworkload.sweeping.rows import OK
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas

_COLOURED = 2000
"""Designs whose stages are looked at for the picture of all; of more, so many spread over the sweep, and the front."""
_MIX = "the mix"


@dataclass(frozen=True)
class Chosen:
    """A design that stands out. ``values`` are metrics as they are asked for; ``stage``, ``share`` and ``bound`` say
    which stage takes most of the mix's latency, and what most of that waits for."""

    design: str
    settings: dict[str, Any]
    values: dict[str, float]
    stage: str
    share: float | None
    bound: str


@dataclass(frozen=True)
class Best:
    """The design with the best ``term``."""

    workload: str
    term: str
    value: float
    chosen: Chosen


@dataclass(frozen=True)
class Effect:
    """What one parameter does to one objective; see :meth:`Results.sensitivity`. ``means`` is value to mean."""

    term: str
    axis: str
    explained: float
    factor: float
    means: dict[str, float]


@dataclass(frozen=True)
class SideBySide:
    """A workload on the best design by itself and with one more for each modality; ``straggler`` is the slowest
    encoder."""

    workload: str
    latency_s: float
    critical_path_s: float
    straggler: str

    @property
    def speedup(self) -> float:
        return self.latency_s / self.critical_path_s


@dataclass(frozen=True)
class Report:
    """Everything that a report says. ``nearest`` is the design that comes closest where none meets the constraints,
    with what it violates; ``points`` are all designs with figures, for the picture; ``full_grid`` when those are every
    combination of their settings, so that shares of variance do not overlap."""

    status: dict[str, Any]
    workloads: dict[str, float]
    objectives: list[str]
    constraints: list[str]
    feasible: int
    front: list[Chosen]
    best: list[Best]
    binding: dict[str, int]
    effects: list[Effect]
    side_by_side: list[SideBySide]
    mixed: list[Heterogeneous]
    failures: dict[str, int]
    nearest: Chosen | None
    violated: list[str]
    shares: dict[str, dict[str, float]]
    points: list[dict[str, Any]]
    full_grid: bool

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def status_of(results: Results) -> dict[str, Any]:
    """How far a sweep is: plain values."""
    trials = results.trials
    state = results.store.state
    spec = results.spec
    failed = trials[trials["status"] != OK]
    best = {}
    for goal in spec.goals:
        found = results.best(str(goal))
        if found is not None:
            best[str(goal)] = {"value": float(found[str(goal)]), "design": found["design"], **_settings(results, found)}
    return {
        "schema_version": SCHEMA_VERSION,
        "path": str(results.store.root),
        "running": results.store.driver,
        "method": spec.search.method,
        "simulator": state["simulator"],
        "version": state["version"],
        "estimator": state["estimator"],
        # Sweeps begun before these were kept do not have them.
        "fidelity": state.get("fidelity", "not recorded"),
        "mmworkload": state.get("mmworkload", "not recorded"),
        "base": spec.arch.bases,
        "designs": total_of(results),
        "finished": len(trials),
        "failed": len(failed),
        "mixed": int((trials["fallbacks"] > 0).sum()),
        "feasible": int(trials[FEASIBLE].sum()),
        "simulator_s": float(trials["seconds"].sum()),
        "best": best,
    }


def total_of(results: Results) -> int | None:
    """Designs of the whole sweep; None when its architecture cannot be read here."""
    from mmworkload import arch as architectures
    from mmworkload.errors import MmworkloadError
    from mmworkload.sweeping.space import Space
    from mmworkload.system import parse

    try:
        spec = results.spec
        bases: dict[str, Any] = {}
        for name in spec.arch.bases:
            bases[name] = parse(name, architectures.load) if "=" in name else architectures.load(name, spec.dtype)
        return Space(spec, bases).count()
    except MmworkloadError:
        return None


def collect(results: Results) -> Report:
    """All that the report says of what is finished so far."""
    spec = results.spec
    trials = results.trials
    with_figures = trials[trials["status"] == OK]
    front = results.pareto() if len(with_figures) else with_figures
    best_rows = _best_rows(results)
    nearest, violated = _nearest(results) if not len(front) and len(with_figures) else (None, [])
    looked = list(dict.fromkeys([*front["design"], *(row["design"] for _, _, row in best_rows)]))
    if nearest is not None:
        looked.append(str(nearest["design"]))
    step = max(1, len(with_figures) // _COLOURED)
    looked = list(dict.fromkeys([*looked, *with_figures["design"].iloc[::step]]))
    stages = results.bottlenecks(looked) if looked else None
    largest: dict[str, tuple[str, float, str]] = {}
    shares: dict[str, dict[str, float]] = {}
    if stages is not None and len(stages):
        for row in stages.loc[stages.groupby("design", sort=False)["share"].idxmax()].to_dict("records"):
            largest[row["design"]] = (row["stage"], float(row["share"]), row["bound"])
        shown = set(front["design"])
        for row in stages[stages["design"].isin(shown)].to_dict("records"):
            shares.setdefault(row["design"], {})[row["stage"]] = float(row["share"])
    terms = list(dict.fromkeys(map(str, spec.terms)))
    feasible = set(results.feasible["design"])
    binding: dict[str, int] = {}
    for design, (stage, _, bound) in largest.items():
        if design in feasible:
            key = f"{stage} ({bound})"
            binding[key] = binding.get(key, 0) + 1

    def chosen(row: pandas.Series[Any]) -> Chosen:
        stage, part, bound = largest.get(str(row["design"]), ("", None, ""))
        values = {term: float(row[term]) for term in dict.fromkeys([*terms, "area_mm2"]) if row[term] == row[term]}
        return Chosen(str(row["design"]), _settings(results, row), values, stage, part, bound)

    points = [
        {
            "design": row["design"],
            "feasible": bool(row[FEASIBLE]),
            "stage": largest.get(row["design"], ("", None, ""))[0],
            **{term: float(row[term]) for term in map(str, spec.goals) if row[term] == row[term]},
        }
        for row in with_figures.to_dict("records")
    ]
    return Report(
        status=status_of(results),
        workloads=results.weights,
        objectives=list(map(str, spec.goals)),
        constraints=list(map(str, spec.conditions)),
        feasible=len(feasible),
        front=[chosen(row) for _, row in front.iterrows()],
        best=[Best(workload, term, value, chosen(row)) for (workload, term), value, row in best_rows],
        binding=dict(sorted(binding.items(), key=lambda item: -item[1])),
        effects=_effects(results) if len(with_figures) > 1 else [],
        side_by_side=_side_by_side(results, best_rows[0][2] if best_rows else nearest),
        mixed=_mixed(results),
        failures=_failures(trials),
        nearest=None if nearest is None else chosen(nearest),
        violated=violated,
        shares=shares,
        points=points,
        full_grid=len(points) == math.prod(with_figures[axis].nunique() for axis in results.axes),
    )


def _settings(results: Results, row: pandas.Series[Any]) -> dict[str, Any]:
    return {axis: _plain(row[axis]) for axis in results.axes}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _best_rows(results: Results) -> list[tuple[tuple[str, str], float, pandas.Series[Any]]]:
    """((workload, term), value, trial) for the mix and each workload, by each objective that workloads have."""
    found = []
    for workload in ("", *results.weights):
        for goal in results.spec.goals:
            if workload and (goal.workload or goal.metric == "area_mm2"):
                continue
            term = Term(goal.metric, workload or goal.workload)
            row = results.best(str(term))
            if row is not None:
                value = column(row.to_frame().T.infer_objects(), results._workload_rows, term).iloc[0]
                found.append(((workload or _MIX, str(term)), float(value), row))
    return found


def _nearest(results: Results) -> tuple[pandas.Series[Any], list[str]]:
    """The trial whose largest violation is smallest, and its violations."""
    trials = results.trials[results.trials["status"] == OK]
    worst = [
        max((item.violation(float(row[str(item.term)])) for item in results.spec.conditions), default=0.0)
        for row in trials.to_dict("records")
    ]
    row = trials.iloc[min(range(len(worst)), key=worst.__getitem__)]
    violated = [
        f"{item}: it has {si(float(row[str(item.term)]), UNITS[item.term.metric])}"
        for item in results.spec.conditions
        if not item.holds(float(row[str(item.term)]))
    ]
    return row, violated


def _effects(results: Results) -> list[Effect]:
    found = []
    for goal in results.spec.goals:
        rows = results.sensitivity(str(goal))
        for axis, own in rows.groupby("axis", sort=False):
            means = {str(_plain(value)): float(mean) for value, mean in zip(own["value"], own["mean"], strict=True)}
            first = own.iloc[0]
            found.append(Effect(str(goal), str(axis), float(first["explained"]), float(first["factor"]), means))
    return sorted(found, key=lambda item: (results.spec.objectives.index(item.term), -item.explained))


def _side_by_side(results: Results, row: pandas.Series[Any] | None) -> list[SideBySide]:
    if row is None:
        return []
    design = str(row["design"])
    own = results.workloads[results.workloads["design"] == design]
    stages = results.stages([design])
    found = []
    for item in own.to_dict("records"):
        encoders = stages[(stages["workload"] == item["workload"]) & stages["stage"].map(encoded).astype(bool)]
        if len(encoders) > 1 and item["critical_path_s"]:
            slowest = max(encoders.to_dict("records"), key=lambda row: row["latency_s"])["stage"]
            found.append(
                SideBySide(
                    item["workload"],
                    float(item["latency_s"]),
                    float(item["critical_path_s"]),
                    encoded(slowest),
                )
            )
    return found


def _failures(trials: pandas.DataFrame) -> dict[str, int]:
    """Reason to designs; what was set is left out, so that equal reasons are one."""
    reasons = trials["reason"].dropna().map(lambda text: re.sub(r"^\S+ with [^:]+: ", "", text))
    return {str(text): int(count) for text, count in reasons.value_counts().items()}


def _mixed(results: Results) -> list[Heterogeneous]:
    metrics = [goal.metric for goal in results.spec.goals if goal.metric in ("latency_s", "energy_j")]
    found = (heterogeneous(results, metric) for metric in dict.fromkeys(metrics))
    return [item for item in found if item is not None]


# --- sentences, shared by terminal and page ---------------------------------------------------------------------------


def named(settings: dict[str, Any]) -> str:
    """The settings of a design in a few words; the last part of a path tells enough where it is not there twice."""
    last = [name.rpartition(".")[2] for name in settings]
    words = []
    for name, value in settings.items():
        short = name.rpartition(".")[2]
        parts = name.split(".")
        label = name if last.count(short) > 1 or len(parts) < 2 else ".".join(parts[-2:])
        words.append(f"{label}={value:.6g}" if isinstance(value, float) else f"{label}={value}")
    return ", ".join(words) or "as in the file"


def telling(chosen: Sequence[Chosen]) -> list[str]:
    """A name for each design by the settings in which they differ; all settings of one alone."""
    differ = [name for name in chosen[0].settings if len({str(item.settings[name]) for item in chosen}) > 1]
    return [named({name: item.settings[name] for name in differ or item.settings}) for item in chosen]


def value_text(term: str, value: float | None) -> str:
    """A value with its unit."""
    metric = Term.parse(term).metric
    if value is None or value != value:
        return si(None)
    if metric == "utilization":
        return share(value)
    if metric == "area_mm2":
        return f"{value:.3g} mm²"
    return si(value, UNITS[metric])


def answers(report: Report) -> list[str]:
    """The answer first: which design, and which stage is the bottleneck."""
    lines = []
    for item in report.best:
        if item.workload == _MIX:
            where = ""
            if item.chosen.stage:
                where = (
                    f"; {item.chosen.stage} takes {share(item.chosen.share)} of the latency of the mix and waits for"
                    f" {item.chosen.bound}"
                )
            lines.append(
                f"best {item.term}: {value_text(item.term, item.value)} with {named(item.chosen.settings)}{where}"
            )
    if report.binding:
        total = sum(report.binding.values())
        parts = [f"{stage} in {count}" for stage, count in list(report.binding.items())[:4]]
        lines.append(f"the largest stage of the mix, of {plural(total, 'design')}: {', '.join(parts)}")
    for term in report.objectives:
        found = [item for item in report.effects if item.term == term and item.explained >= 0.005]
        if found:
            parts = [f"{item.axis} {share(item.explained)}" for item in found[:3]]
            lines.append(f"what decides {term}: {', '.join(parts)} of its variance{estimated(report, ' (', ')')}")
    for mixed in report.mixed:
        if mixed.designs > 1:
            gain = mixed.single / mixed.joined
            joined, single = (value_text("area_mm2", area) for area in (mixed.joined_area_mm2, mixed.single_area_mm2))
            lines.append(
                f"heterogeneous: each stage where its {mixed.metric} is best takes"
                f" {plural(mixed.designs, 'accelerator')} and {joined}, and gains"
                f" {times(gain)} over the best single design at {single} (transfers not charged)"
            )
        else:
            lines.append(f"heterogeneous: one design is the best for every stage in {mixed.metric}; nothing is gained")
    if report.nearest is not None:
        lines.append(
            f"no design meets the constraints; nearest is {named(report.nearest.settings)}, which violates"
            f" {'; '.join(report.violated)}"
        )
    if not report.points:
        reason = next(iter(report.failures), "")
        lines.append(f"no design has figures: {reason}" if reason else "no design is finished yet")
    return lines


def estimated(report: Report, before: str = "", after: str = "") -> str:
    """What to mind of shares of variance, between ``before`` and ``after``; empty for a full grid."""
    if report.full_grid:
        return ""
    kind = {"random": "random design", "grid": "design"}.get(report.status["method"], "searched design")
    return f"{before}estimated from {plural(len(report.points), kind)}; shares overlap{after}"


def reminders(report: Report) -> list[str]:
    """What to mind of all figures."""
    if report.status["simulator"] == "roofline":
        return ["closed form: lower bounds, on-chip bandwidth is never the limit; check a design with a mapper"]
    mixed = report.status["mixed"]
    if mixed:
        return [
            f"{plural(mixed, 'design')} of {report.status['finished']:,} with layers that"
            f" {report.status['simulator']} could not answer: the roofline did (column fallbacks), and such a design"
            " cannot be compared with the others"
        ]
    return []


def energies(status: Mapping[str, Any]) -> str:
    """How energies and areas that a setting changes are estimated, in words."""
    how = {"law": "by scaling laws in size, width and technology", "accelergy": "by Accelergy"}[status["estimator"]]
    return f"those of the architecture, times the ratio of the new to the old as estimated {how}"


# --- the page ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Figure:
    title: str
    svg: Any
    caption: str


def write_html(report: Report, path: Path) -> None:
    """Writes the page, whole or not at all.

    Raises UnavailableError when jinja2 or matplotlib is missing, MmworkloadError when ``path`` cannot be written.
    """
    write_atomic(path, render(report))


def render(report: Report) -> str:
    """The page as text. Raises UnavailableError when jinja2 or matplotlib is missing."""
    require_report_packages("jinja2", "matplotlib")
    from markupsafe import Markup

    pages = environment()
    pages.filters.update(share=share, times=times, si=si, named=named)
    pages.globals["value_text"] = value_text
    template = pages.get_template("sweep_report.html")
    figures: Sequence[_Figure] = [_Figure(title, Markup(svg), caption) for title, svg, caption in _drawn(report)]
    return template.render(
        report=report,
        status=report.status,
        css=Markup(text_of("report.css")),
        answers=answers(report),
        reminders=reminders(report),
        energies=energies(report.status),
        figures=figures,
    )


def _drawn(report: Report) -> list[tuple[str, str, str]]:
    from mmworkload.reporting import sweep_plots

    found = []
    if len(report.objectives) > 1 and len(report.points) > 1:
        caption = "One mark a design, by its largest stage of the mix; joined: the Pareto front. Point at a mark."
        found.append(("Designs", sweep_plots.designs("designs", report), caption))
    if report.shares:
        caption = "Each bar is a design on the Pareto front: where its time on the mix goes."
        found.append(("Stages on the front", sweep_plots.stages("front", report), caption))
    if report.effects:
        caption = "Share of the variance of an objective's logarithm that a parameter by itself explains."
        caption += estimated(report, " Here ", ".") or " What is missing to 100 % are parameters together."
        found.append(("What decides", sweep_plots.decides("decides", report), caption))
        caption = "Geometric mean over all designs with that value, relative to the smallest of the parameter."
        found.append(("Parameters", sweep_plots.effects("effects", report), caption))
    if report.side_by_side:
        caption = "The best design by itself, and with one more for each modality and for what they share."
        found.append(("Modalities side by side", sweep_plots.side_by_side("modalities", report), caption))
    return found
