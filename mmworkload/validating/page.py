"""Writes ``docs/validation.md``: how far the models of devices are from measurements, goal by goal.

``python -m mmworkload.validating.page docs/validation.md measurements/`` takes every saved measurement in the folders
(packs, files of :meth:`Measurement.save` and result folders) and every architecture of a CPU there (``*.yaml``, as
``python -m mmworkload.host`` writes); GPUs are found among the installed architectures by the device's name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError
from mmworkload.files import write_atomic
from mmworkload.measuring.folder import Result
from mmworkload.measuring.result import Measurement
from mmworkload.measuring.steadiness import busy
from mmworkload.packs.measured import collect
from mmworkload.reporting.units import coefficient, plural, share, si, times
from mmworkload.validating.compare import EXPLAINED
from mmworkload.validating.device import describes

if TYPE_CHECKING:
    from mmworkload.validating.goals import Goal
    from mmworkload.validating.report import Study

MISSES = 8
"""Misses of a goal that are shown at once, the worst first; the others unfold."""
_NAMES = {
    "compute_efficiency": "part of the peak",
    "bandwidth_efficiency": "part of the bandwidth",
    "kernel_s": "a kernel",
}


def cpus(places: Iterable[Path]) -> list[Architecture]:
    """The architectures of CPUs below ``places``, in the order of their paths."""
    files = [path for place in places for path in (sorted(place.rglob("*.y*ml")) if place.is_dir() else [place])]
    return [architectures.load(path) for path in files if path.suffix in (".yaml", ".yml") and _is_cpu(path)]


def _is_cpu(path: Path) -> bool:
    return "kind: cpu" in path.read_text().splitlines()


def page(measured: Sequence[Result], archs: Sequence[Architecture], command: str) -> str:
    """The page. MmworkloadError without measurements."""
    if not measured:
        raise MmworkloadError("no measurement to validate against")
    parts = [
        "# Validation",
        "",
        f"Written by `{command}` from saved measurements; not edited by hand.",
        "",
        "How far the models of a device are from what was measured on it: the closed form with published or measured"
        " peaks (`roofline`), and the same with three constants per operator class that were fitted on other"
        " families of workloads (`calibrated`). Figures are over layers and"
        " stages with at least 1 % of the measured time; the measured time of a layer is that of its kernels, and sums"
        " over layers are compared with sums over layers, never with the time of the eager model. Families may"
        " still have layers in common (text encoders, residual networks); each variant of a family counts by itself.",
        "",
    ]
    for name, group in _by_device(measured).items():
        parts += _device(name, group, archs)
    return "\n".join(parts).rstrip() + "\n"


def _by_device(measured: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for item in measured:
        found.setdefault(str(item.measurement.provenance.get("device_name", item.measurement.device)), []).append(item)
    return found


def _device(name: str, group: Sequence[Result], archs: Sequence[Architecture]) -> Iterator[str]:
    from mmworkload import verbs
    from mmworkload.validating.study import graphs_of

    first = group[0].measurement
    yield f"## {name}"
    yield ""
    yield from _set(group)
    arch = _arch_of(first, archs)
    if arch is None:
        yield (
            "Excluded: no architecture describes this device. For a CPU, put what `python -m mmworkload.host` prints"
            " there beside the measurements; a GPU needs a file in `arch_specs/`."
        )
        yield ""
        return
    models = {item.measurement.model for item in group}
    study = verbs.validate_all(
        (),
        [arch],
        simulators=("roofline", "calibrated") if len(models) > 1 else ("roofline",),
        measurements=[item.measurement for item in group],
        graphs=graphs_of(group),
    )
    yield f"The architecture: {arch.source}."
    yield ""
    yield from _goals(study.goals)
    yield from _comparisons(study)
    yield from _excess(group)
    yield from _constants(study)


def _set(group: Sequence[Result]) -> Iterator[str]:
    taken = [item.measurement for item in group]
    yield (
        f"{plural(len(taken), 'measurement')}: "
        + ", ".join(f"{item.model} (batch {item.batch}, {item.dtype})" for item in taken)
        + "."
    )
    loads = [load for load in map(busy, taken) if load is not None]
    if loads:
        yield (
            f"The machine was busy with other work in {len(loads)} of them (load average up to"
            f" {max(load for load, _ in loads):g} for {plural(max(threads for _, threads in loads), 'thread')}):"
            f" these times vary, and part of every error"
            " below is the measurement's."
        )
    yield ""


def _arch_of(measurement: Measurement, archs: Sequence[Architecture]) -> Architecture | None:
    installed = (architectures.load(name) for name in architectures.names()) if measurement.device != "cpu" else ()
    return next((item for item in (*archs, *installed) if describes(item, measurement)), None)


def _goals(goals: Sequence[Goal]) -> Iterator[str]:
    yield "### Goals"
    yield ""
    yield "| goal | model | limit | n | median | p90 | worst | excluded | within | met |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for goal in goals:
        limit = (
            f"{'at least' if goal.least else 'at most'} {_value(goal, goal.limit)}{'' if goal.every else ', median'}"
        )
        met = {None: "nothing to judge", True: "yes", False: "no"}[goal.met]
        figures = [_value(goal, value) for value in (goal.median, goal.p90, goal.worst)]
        cells = [goal.what, goal.simulator, limit, str(goal.rows), *figures]
        yield _row([*cells, str(goal.excluded), f"{goal.within} of {goal.rows}", met])
    yield ""
    missed = [goal for goal in goals if goal.misses]
    if missed:
        yield "### Misses and their causes"
        yield ""
    for goal in missed:
        yield f"{goal.what}, {goal.simulator}:"
        yield ""
        lines = [f"- `{miss.row}`: {_value(goal, miss.value)}. {miss.cause}" for miss in goal.misses]
        yield from lines[:MISSES]
        yield ""
        if len(lines) > MISSES:
            yield f"<details><summary>and {len(lines) - MISSES} more</summary>"
            yield ""
            yield from lines[MISSES:]
            yield ""
            yield "</details>"
            yield ""


def _value(goal: Goal, value: float | None) -> str:
    return coefficient(value) if goal.what.startswith("Spearman") else share(value)


def _comparisons(study: Study) -> Iterator[str]:
    yield "### Workloads"
    yield ""
    yield (
        "| workload | batch | model | Spearman | Kendall | stage distance | error, layers | error, stages"
        " | sum over layers | layers over eager |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for report in study.reports:
        v = report.validation
        yield _row(
            [
                v.model,
                str(v.batch),
                v.simulator,
                coefficient(v.large_layers.spearman),
                coefficient(v.large_layers.kendall),
                share(v.stage_distance),
                share(v.errors[0].median),
                share(v.stage_errors.median),
                times(v.end_to_end_ratio),
                times(v.gaps.layers_over_eager),
            ]
        )
    yield ""


def _excess(group: Sequence[Result]) -> Iterator[str]:
    from mmworkload.validating.compare import excess

    rows = [(item.measurement, excess(item.measurement, most=3)) for item in group]
    shown = [(taken, found) for taken, found in rows if found]
    if not shown:
        return
    yield f"Where the layers add up to more than {EXPLAINED:g} times the eager time, most of the excess is in:"
    yield ""
    for taken, found in shown:
        ratio = times(taken.layer_sum_s / taken.eager.median_s)
        layers = "; ".join(f"`{row.layer}` {si(row.excess_s, 's')}, {row.why}" for row in found)
        yield f"- {taken.model} (batch {taken.batch}), {ratio}: {layers}"
    yield ""


def _constants(study: Study) -> Iterator[str]:
    if not study.splits:
        return
    yield "### Calibrated constants"
    yield ""
    yield (
        "Seconds of a layer: its arithmetic over the part of the peak that is reached, its bytes over the part of the"
        f" bandwidth, and a constant for each kernel. The median of the {plural(len(study.splits), 'fit')}, each"
        " without the family of the workload that it predicts, and the range."
    )
    yield ""
    yield f"| class | {' | '.join(_NAMES.values())} |"
    yield "|---|---|---|---|"
    by_kind: dict[str, list[str]] = {}
    for item in study.spreads:
        low, median, high = (
            si(value, "s") if item.constant == "kernel_s" else share(value)
            for value in (item.low, item.median, item.high)
        )
        by_kind.setdefault(item.kind, [item.kind]).append(median if low == high else f"{median} ({low} to {high})")
    for cells in by_kind.values():
        yield _row(cells)
    yield ""
    fits = {split.calibration.fitted_on: split.calibration for split in study.splits}
    for found in fits.values():
        tested = [split.tested for split in study.splits if split.calibration.fitted_on == found.fitted_on]
        layers = plural(found.constants["all"].layers, "layer")
        blocks = f", channels of convolutions in blocks of {found.block}" if found.block > 1 else ""
        yield f"- {', '.join(tested)}: fitted on {found.source} ({layers}{blocks})"
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with the error on stderr."""
    parser = argparse.ArgumentParser(prog="python -m mmworkload.validating.page", description=__doc__)
    parser.add_argument("output", type=Path, help="the page, docs/validation.md")
    parser.add_argument("places", type=Path, nargs="+", help="folders or files of measurements and architectures")
    asked = parser.parse_args(arguments)
    command = " ".join(["python -m mmworkload.validating.page", str(asked.output), *map(str, asked.places)])
    try:
        measured = [place for place in asked.places if not (place.is_file() and _is_cpu(place))]
        write_atomic(asked.output, page(collect(measured), cpus(asked.places), command))
    except MmworkloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {asked.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
