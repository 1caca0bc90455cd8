"""The report of one comparison or several as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.files import write_atomic
from mmworkload.outputs import require_report_packages
from mmworkload.reporting.answered import simulated_by
from mmworkload.reporting.summary import (
    Bound,
    accuracies,
    caveats,
    measured_bound,
    mixtures,
    sentences,
    simulated_bound,
    verdicts,
)
from mmworkload.reporting.templates import environment, text_of
from mmworkload.reporting.units import coefficient, kernel_noun, plural, share, si, times
from mmworkload.validating.device import operations
from mmworkload.validating.lanes import lanes, modalities

if TYPE_CHECKING:
    from mmworkload.validating.report import Report, Study
    from mmworkload.validating.result import LayerRow


@dataclass(frozen=True)
class _Figure:
    name: str
    title: str
    svg: Any
    caption: str


@dataclass(frozen=True)
class _Comparison:
    """One architecture and simulator: its report with what the template shows of it. ``anchor`` begins its ids."""

    anchor: str
    report: Report
    label: str
    headline: list[str]
    sentences: list[str]
    caveats: list[str]
    figures: list[_Figure]
    notes: list[str]
    provenance: dict[str, str]


@dataclass(frozen=True)
class _Workload:
    """One measured workload with its comparisons."""

    anchor: str
    first: Report
    title: str
    date: str
    verdicts: list[str]
    bounds: list[Bound]
    figures: list[_Figure]
    comparisons: list[_Comparison]
    provenance: dict[str, dict[str, str]]


def write_study(study: Study, path: str | Path) -> None:
    """Writes the report, whole or not at all. Equal arguments give equal bytes.

    Raises UnavailableError when jinja2 or matplotlib is missing, MmworkloadError when ``path`` cannot be written.
    """
    write_atomic(Path(path), render(study))


def render(study: Study) -> str:
    """The report as text. Raises UnavailableError when jinja2 or matplotlib is missing."""
    require_report_packages("jinja2", "matplotlib")
    from markupsafe import Markup

    pages = environment()
    pages.filters.update(
        kernel_noun=kernel_noun,
        seconds=lambda value: si(value, "s"),
        si=si,
        share=share,
        times=times,
        coefficient=coefficient,
    )
    template = pages.get_template("report.html")
    workloads = _workloads(study)
    names = list(dict.fromkeys(item.first.validation.model for item in workloads))
    archs = list(dict.fromkeys(item.validation.arch for item in study.reports))
    return template.render(
        css=Markup(text_of("report.css")),
        title=f"{_few(names, 'workload')} on {_few(archs, 'architecture')}",
        workloads=workloads,
        study=study,
        mixtures=list(mixtures(study.reports)),
        markup=Markup,
    )


def figures(study: Study) -> dict[str, str]:
    """Every figure by name, as ``<svg>``. UnavailableError without matplotlib."""
    require_report_packages("matplotlib")
    found = {}
    for item in _workloads(study):
        model = f"{item.first.validation.model} {item.anchor}"
        for figure in item.figures:
            found[f"{model} {figure.title}"] = figure.svg
        for comparison in item.comparisons:
            for figure in comparison.figures:
                found[f"{model} {comparison.label} {figure.title}"] = figure.svg
    return found


def _few(names: Sequence[str], noun: str) -> str:
    return " and ".join(names) if len(names) < 3 else plural(len(names), noun)


def _workloads(study: Study) -> list[_Workload]:
    found = []
    for index, reports in enumerate(study.by_workload.values()):
        first = reports[0]
        v = first.validation
        anchor = f"w{index}"
        found.append(
            _Workload(
                anchor=anchor,
                first=first,
                title=f"{v.model}, batch {v.batch}",
                date=_date(first),
                verdicts=list(verdicts(reports)),
                bounds=[measured_bound(first), *(simulated_bound(item) for item in reports)],
                figures=list(_workload_figures(anchor, reports)),
                comparisons=[_comparison(f"{anchor}c{place}", item) for place, item in enumerate(reports)],
                provenance=_provenance(first),
            )
        )
    return found


def _comparison(anchor: str, report: Report) -> _Comparison:
    v = report.validation
    return _Comparison(
        anchor=anchor,
        report=report,
        label=f"{v.arch}, {v.simulator}",
        headline=simulated_by(v.answered, v.why),
        sentences=[*sentences(v), *accuracies(v)],
        caveats=list(caveats(v)),
        figures=list(_comparison_figures(anchor, report)),
        notes=[_notes(row) for row in v.layers],
        provenance=_simulation(report),
    )


def _date(report: Report) -> str:
    """When it was measured, to the minute; empty when that is not recorded."""
    text = str(report.measurement.provenance.get("date_utc", ""))
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text


def _workload_figures(anchor: str, reports: Sequence[Report]) -> Iterator[_Figure]:
    from mmworkload.reporting import plots

    first = reports[0].validation
    sides = ["measured", *(f"{item.validation.arch}, {item.validation.simulator}" for item in reports)]
    stages = _shares(reports, "stage")
    if len(stages) > 1:
        yield _Figure(
            f"{anchor}-stages",
            "Stages",
            _drawn(plots.bars(f"{anchor}-stages", "stage", stages, sides)),
            "Share of each side's time in layers.",
        )
    yield _Figure(
        f"{anchor}-categories",
        "Kernel categories",
        _drawn(plots.bars(f"{anchor}-categories", "kernel category", _shares(reports, "category"), sides)),
        "Which kinds of operator the time goes to, by operator and not by kernel name.",
    )
    if len(reports[0].workload.parts) == 1 and modalities(reports[0].graph) > 1:
        graph = reports[0].graph
        times_s = [{item.layer: item.time.median_s for item in reports[0].measurement.layers}]
        times_s += [{row.layer: row.latency_s for row in item.simulation.layers} for item in reports]
        found = [(side, lanes(graph, seconds)) for side, seconds in zip(sides, times_s, strict=True)]
        drawn = [(side, item) for side, item in found if item.end_s > 0]
        idle = ", ".join(f"{share(item.idle_share)} ({side})" for side, item in drawn)
        yield _Figure(
            f"{anchor}-lanes",
            "Modalities side by side",
            _drawn(plots.lanes(f"{anchor}-lanes", drawn)),
            "If each modality had a device of its own and what they share had one more: filled is busy, grey is"
            f" waiting. Idle over all lanes: {idle}.",
        )
    roof = reports[0].device
    drawn_roof = plots.roofline(f"{anchor}-roofline", _measured_points(reports[0]), roof, "measured")
    if drawn_roof is not None:
        yield _Figure(
            f"{anchor}-roofline",
            "Roofline, measured",
            _drawn(drawn_roof),
            "One mark a layer. "
            + (
                f"The roof is that of {roof.name}."
                if roof is not None
                else f"No architecture of this report describes {first.device_name}, so that there is no roof."
            )
            + " Point at a mark for its layer.",
        )


def _shares(reports: Sequence[Report], attribute: str) -> dict[str, list[float | None]]:
    """Name to its share of the measured time and of each simulated one, in program order."""
    found: dict[str, list[float | None]] = {}
    for place, item in enumerate(reports):
        for row in item.validation.layers:
            values = found.setdefault(getattr(row, attribute), [None] * (len(reports) + 1))
            if place == 0 and row.sides.measured_share is not None:
                values[0] = (values[0] or 0.0) + row.sides.measured_share
            if row.sides.simulated_share is not None:
                values[place + 1] = (values[place + 1] or 0.0) + row.sides.simulated_share
    return found


def _measured_points(report: Report) -> list[Any]:
    from mmworkload.reporting.plots import Point

    found = []
    for part, measured in zip(report.workload.parts, report.measurements, strict=True):
        seconds = {item.layer: item.time.median_s for item in measured.layers}
        found += [
            Point(layer.name, layer.op, layer.stage, operations(layer), layer.bytes, seconds[layer.name])
            for layer in part.graph
            if layer.name in seconds
        ]
    return found


def _simulated_points(report: Report) -> list[Any]:
    from mmworkload.reporting.plots import Point

    layers = {
        (part.name or str(index), item.name): item
        for index, part in enumerate(report.workload.parts)
        for item in part.graph
    }
    found = []
    for row in report.simulation.layers:
        layer = layers.get((row.part, row.layer))
        if layer is not None:
            found.append(Point(row.layer, row.op, row.stage, operations(layer), row.dram_bytes, row.latency_s))
    return found


def _comparison_figures(anchor: str, report: Report) -> Iterator[_Figure]:
    from mmworkload.reporting import plots

    v = report.validation
    drawn = plots.scatter(f"{anchor}-scatter", v)
    if drawn is not None:
        line = "time" if v.same_device else "share"
        yield _Figure(
            f"{anchor}-scatter",
            "Layer times",
            _drawn(drawn),
            f"One mark a layer, logarithmic axes. On the dashed line a layer has the same {line} on both sides; above"
            f" it the simulated {line} is the larger. Point at a mark for its layer.",
        )
    drawn = plots.roofline(f"{anchor}-roofline", _simulated_points(report), report.arch, f"simulated on {v.arch}")
    if drawn is not None:
        yield _Figure(
            f"{anchor}-roofline",
            "Roofline, simulated",
            _drawn(drawn),
            f"One mark a layer, under the peaks of {v.arch}; bytes are those through DRAM.",
        )


def _drawn(svg: str) -> Any:
    """Markup where the template engine is there; a string for figures alone."""
    if find_spec("markupsafe") is None:
        return svg
    from markupsafe import Markup

    return Markup(svg)


def _notes(row: LayerRow) -> str:
    notes = [row.note] if row.note else []
    if row.floored:
        notes.append("raised to a physical bound")
    if row.dead and "output" not in row.note:
        notes.append("no output depends on it")
    if row.sides.measured_s is None:
        notes.append("not measured")
    if row.sides.simulated_s is None:
        notes.append("not simulated")
    return "; ".join(notes)


def _provenance(report: Report) -> dict[str, dict[str, str]]:
    found = {}
    several = len(report.workload.parts) > 1
    for part, measurement in zip(report.workload.parts, report.measurements, strict=True):
        graph, before = part.graph, f"{part.name}: " if several else ""
        found[f"{before}graph"] = {
            "traced by": f"torch.{graph.route}" if graph.route == "export" else graph.route,
            "dtype": graph.dtype,
            **{f"input {item.tensor}": f"{list(item.shape)} {item.dtype}, {item.role}" for item in graph.inputs},
            **graph.versions,
        }
        found[f"{before}measurement"] = {
            "eager, end to end": f"{si(measurement.eager.median_s, 's')} (median of {measurement.eager.repeats})",
            "graph, end to end": f"{si(measurement.graph.median_s, 's')} (median of {measurement.graph.repeats})",
            **{f"peak memory, {name}": si(size, "B") for name, size in measurement.peak_memory_bytes.items()},
            **_flat(measurement.provenance),
        }
    return found


def _simulation(report: Report) -> dict[str, str]:
    simulation = report.simulation
    return {
        "simulator": "; ".join(simulated_by(simulation.answered, simulation.why)),
        "architecture": f"{simulation.arch} (key {simulation.arch_key})",
        "precision": simulation.precision,
        "problems": f"{simulation.unique_problems} unique in {plural(simulation.runs, 'loop nest')}",
        "with an accelerator per modality": si(simulation.critical_path_s, "s"),
        "energy": si(simulation.energy_j, "J"),
        **{f"note {index}": note for index, note in enumerate(simulation.device_notes, 1)},
    }


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested plain data with one entry a leaf; empty values are left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}, ")
        elif isinstance(value, (list, tuple)):
            found[name] = ", ".join(map(str, value))
        else:
            found[name] = str(value)
    return {name: value for name, value in found.items() if value != ""}
