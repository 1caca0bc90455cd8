"""The report of a comparison as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import UnavailableError
from mmworkload.files import write_atomic
from mmworkload.reporting.summary import caveats, sentences
from mmworkload.reporting.units import plural, share, si, times
from mmworkload.validating.result import MEANING

if TYPE_CHECKING:
    from mmworkload.graph import LayerGraph
    from mmworkload.measuring.result import Measurement
    from mmworkload.simulating.result import Simulation
    from mmworkload.validating.result import LayerRow, Validation


@dataclass(frozen=True)
class _Figure:
    title: str
    svg: Any
    caption: str


@dataclass(frozen=True)
class _Column:
    label: str
    number: bool = False


_COLUMNS = (
    _Column("#", number=True),
    _Column("layer"),
    _Column("operator"),
    _Column("stage"),
    _Column("MACs", number=True),
    _Column("measured", number=True),
    _Column("share", number=True),
    _Column("simulated", number=True),
    _Column("share", number=True),
    _Column("ratio", number=True),
    _Column("bound"),
)


def write_html(
    validation: Validation, graph: LayerGraph, measurement: Measurement, simulation: Simulation, path: str | Path
) -> None:
    """Writes the report, whole or not at all. Equal arguments give equal bytes.

    Raises UnavailableError when jinja2 or matplotlib is missing, MmworkloadError when ``path`` cannot be written.
    """
    write_atomic(Path(path), render(validation, graph, measurement, simulation))


def render(validation: Validation, graph: LayerGraph, measurement: Measurement, simulation: Simulation) -> str:
    """The report as text. Raises UnavailableError when jinja2 or matplotlib is missing."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"the HTML report needs {' and '.join(missing)}, not installed: pip install 'mmworkload[report]'"
        )
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters.update(seconds=lambda value: si(value, "s"), si=si, share=share, times=times)
    package = files("mmworkload.reporting")
    notes = [_notes(row) for row in validation.layers]
    template = environment.from_string(package.joinpath("report.html").read_text(encoding="utf-8"))
    return template.render(
        v=validation,
        graph=graph,
        css=Markup(package.joinpath("report.css").read_text(encoding="utf-8")),
        meaning=MEANING,
        summary=list(sentences(validation)),
        caveats=list(caveats(validation)),
        date=_date(measurement),
        figures=[_Figure(item.title, Markup(item.svg), item.caption) for item in _figures(validation)],
        columns=(*_COLUMNS, _Column("notes")) if any(notes) else _COLUMNS,
        layers=list(zip(validation.layers, notes, strict=True)),
        provenance=_provenance(graph, measurement, simulation),
    )


def _date(measurement: Measurement) -> str:
    """When it was measured, to the minute; empty when that is not recorded."""
    text = str(measurement.provenance.get("date_utc", ""))
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text


def _figures(validation: Validation) -> list[_Figure]:
    from mmworkload.reporting import plots

    found = []
    operators = sorted(validation.operators, key=lambda group: group.sides.larger_share, reverse=True)
    if len(validation.stages) > 1:
        found.append(
            _Figure(
                "Share by stage",
                plots.bars("stages", "stage", validation.stages),
                "Of the time in layers on each side.",
            )
        )
    found.append(
        _Figure(
            "Share by operator",
            plots.bars("operators", "operator", operators),
            "Which kinds of layer the time goes to.",
        )
    )
    scatter = plots.scatter("scatter", validation)
    if scatter is not None:
        found.append(
            _Figure(
                "Layer times",
                scatter,
                "One mark a layer, logarithmic axes. On the dashed line a layer has the same share on both sides; above"
                " it the accelerator spends the larger share. Point at a mark for its layer.",
            )
        )
    found.append(
        _Figure(
            "Largest layers",
            plots.dumbbells("largest", validation),
            "Share of each side's time, largest first. A long line: the two sides disagree.",
        )
    )
    return found


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


def _provenance(graph: LayerGraph, measurement: Measurement, simulation: Simulation) -> dict[str, dict[str, str]]:
    return {
        "Graph": {
            "traced by": f"torch.{graph.route}" if graph.route == "export" else graph.route,
            "dtype": graph.dtype,
            **{f"input {item.tensor}": f"{list(item.shape)} {item.dtype}, {item.role}" for item in graph.inputs},
            **graph.versions,
        },
        "Measurement": {
            "eager, end to end": f"{si(measurement.eager.median_s, 's')} (median of {measurement.eager.repeats})",
            "graph, end to end": f"{si(measurement.graph.median_s, 's')} (median of {measurement.graph.repeats})",
            **{f"peak memory, {name}": si(size, "B") for name, size in measurement.peak_memory_bytes.items()},
            **_flat(measurement.provenance),
        },
        "Simulation": {
            "simulator": simulation.choice,
            "architecture": f"{simulation.arch} (key {simulation.arch_key})",
            "precision": simulation.precision,
            "problems": f"{simulation.unique_problems} unique in {plural(simulation.runs, 'loop nest')}",
            "with an accelerator per modality": si(simulation.critical_path_s, "s"),
            "energy": si(simulation.energy_j, "J"),
        },
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
