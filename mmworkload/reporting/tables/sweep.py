"""The tables of ``sweep``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.sweep_report import Chosen, Report, answers, estimated, named, reminders, telling, value_text
from mmworkload.reporting.terminal import Cell, Name, bullets, facts, section, table
from mmworkload.reporting.units import plural, share, si, times

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.sweeping.planning import Plan
    from mmworkload.sweeping.running import Progress, Summary

_ROWS = 20


def plan_tables(found: Plan) -> list[RenderableType]:
    """What would run."""
    simulator = f"{found.simulator} {found.version}" + (f" ({found.why})" if found.why else "")
    about = "" if found.looked_at >= found.designs else f" (extrapolated from {found.looked_at:,} designs)"
    entries = [
        ("designs", f"{found.designs:,} by {found.method}, {found.finished:,} of them finished"),
        ("workloads", f"{found.workloads}, with {plural(found.layers, 'layer')}"),
        ("simulator", simulator),
        ("loop nests", f"{found.problems:,} over all designs"),
    ]
    if found.jobs:
        entries.append(("jobs", f"{found.jobs:,} different ones, {found.cached:,} of them known{about}"))
    else:
        entries.append(("jobs", "none: the closed form is evaluated for many designs at once"))
    if found.refused:
        entries.append(("refused", f"{found.refused:,} of {found.looked_at:,} designs: {found.reason}"))
    if found.seconds_a_job is not None:
        entries.append(("a job takes", f"{si(found.seconds_a_job, 's')}, mean of a few"))
    if found.loading_s >= 1.0:
        entries.append(("workloads take", f"{duration(found.loading_s)} to read and trace"))
    if found.seconds is not None:
        entries.append(("time", f"about {duration(found.seconds)} with {found.workers} at work"))
    return [section("Plan", facts(entries))]


def summary_tables(done: Summary, folder: Path) -> list[RenderableType]:
    """What a run did."""
    lines = [f"{done.evaluated:,} of {plural(done.designs, 'design')} evaluated in {duration(done.seconds)}"]
    if done.failed:
        lines.append(f"{plural(done.failed, 'design')} without figures; the report has the reasons")
    if done.jobs:
        inside = done.simulator_s / (done.workers * done.seconds) if done.seconds else None
        lines.append(f"{plural(done.jobs, 'simulator run')}, {share(inside)} of the workers' time inside the simulator")
    lines.append(f"next: mmworkload sweep report {folder} -o report.html")
    return [section("Sweep", *lines)]


def status_tables(found: Mapping[str, Any]) -> list[RenderableType]:
    """How far a sweep is."""
    total = "" if found["designs"] is None else f" of {found['designs']:,}"
    entries = [
        ("designs", f"{found['finished']:,}{total}, {found['feasible']:,} meet the constraints"),
        ("failed", f"{found['failed']:,}"),
        ("driver", found["running"] or "none at work"),
        ("simulator", f"{found['simulator']} {found['version']}"),
    ]
    for term, best in found["best"].items():
        settings = {name: value for name, value in best.items() if name not in ("value", "design")}
        entries.append((f"best {term}", f"{value_text(term, best['value'])} with {named(settings)}"))
    return [section(found["path"], facts(entries))]


def report_tables(report: Report) -> list[RenderableType]:
    """The answer, the front, the best designs, what decides, and what failed."""
    status = report.status
    total = "" if status["designs"] is None else f" of {status['designs']:,}"
    head = [
        f"{status['finished']:,}{total} designs by {status['method']}, {report.feasible:,} meet the constraints",
        f"on {'; '.join(status['base'])}, simulated by {status['simulator']} {status['version']} (mmworkload"
        f" {status['mmworkload']})",
        f"the simulator is told the architecture: {status['fidelity']}",
    ]
    parts = [section("Sweep", *head), section("Answers", bullets(answers(report)))]
    if minded := reminders(report):
        parts.append(section("What to mind", bullets(minded)))
    if report.front:
        parts.append(_front(report))
    if report.best:
        rows: list[list[Cell]] = [
            [
                Name(item.workload),
                item.term.partition("[")[0],
                value_text(item.term, item.value),
                Name(named(item.chosen.settings)),
            ]
            for item in report.best
        ]
        parts.append(section("Best designs", table(["<for", "<metric", ">value", "<design"], rows)))
    if report.effects:
        rows = [[Name(item.axis), item.term, share(item.explained), times(item.factor)] for item in report.effects]
        parts.append(
            section(
                "What each parameter does",
                table(["<parameter", "<to", ">explains", ">largest over smallest"], rows),
                *filter(None, [estimated(report)]),
            )
        )
    if report.side_by_side:
        rows = [
            [
                Name(item.workload),
                si(item.latency_s, "s"),
                si(item.critical_path_s, "s"),
                times(item.speedup),
                Name(item.straggler),
            ]
            for item in report.side_by_side[:_ROWS]
        ]
        columns = ["<workload", ">one", ">one a modality", ">speed-up", "<slowest"]
        parts.append(section("Modalities side by side, on the best design", table(columns, rows)))
    if report.failures:
        lines = [f"{count:,}: {reason}" for reason, count in list(report.failures.items())[:_ROWS]]
        parts.append(section("Designs without figures", bullets(lines)))
    return parts


def _front(report: Report) -> RenderableType:
    terms = list(dict.fromkeys([*report.objectives[:3], "area_mm2"]))

    def row(name: str, item: Chosen) -> list[Cell]:
        values = [value_text(term, item.values.get(term)) for term in terms]
        return [Name(name), *values, Name(item.stage), share(item.share)]

    labels = [term.removesuffix("_mm2").removesuffix("_s").removesuffix("_j") for term in terms]
    columns = ["<design", *(f">{label}" for label in labels), "<largest stage", ">share"]
    notes = []
    whole = "all"
    if len(report.front) > _ROWS:
        whole = "all of these"
        notes.append(f"The first {_ROWS} of {len(report.front):,}; --json and export have all.")
    shown = report.front[:_ROWS]
    same = {
        name: value for name, value in shown[0].settings.items() if all(item.settings[name] == value for item in shown)
    }
    if len(shown) > 1 and same:
        notes.append(f"The same in {whole}: {named(same)}.")
    rows = [row(name, item) for name, item in zip(telling(shown), shown, strict=True)]
    return section("Pareto front", table(columns, rows, tight=True), *notes)


def progress_line(progress: Progress) -> str:
    """One line for a terminal of 80 columns."""
    left = "" if progress.left_s is None else f", {duration(progress.left_s)} left"
    best = ", ".join(f"{term} {value_text(term, value)}" for term, (value, _) in progress.best.items())
    return f"{progress.done:,}/{progress.total:,} designs{left}{'; best ' if best else ''}{best}"[:79]


def duration(seconds: float) -> str:
    """``850 ms``, ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 10:
        return si(seconds, "s")
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:,.0f} h {seconds % 3600 // 60:02.0f} min"
