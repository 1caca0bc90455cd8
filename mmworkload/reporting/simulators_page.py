"""The page that puts simulators side by side on multi-modal networks.

``python -m mmworkload.reporting.simulators_page docs/simulators.md`` writes it from the graphs in ``shapes/`` and from
every simulator that is on this machine; recorded answers stand for a simulator that is not. It needs no torch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmworkload import arch as architectures
from mmworkload.cli.progress import bar
from mmworkload.errors import MmworkloadError
from mmworkload.files import write_atomic
from mmworkload.graph import LayerGraph
from mmworkload.models import families
from mmworkload.packs.coverage import coverage
from mmworkload.packs.shelf import packs
from mmworkload.reporting.markdown import literal, table
from mmworkload.reporting.units import plural, share, si
from mmworkload.simulating.choice import choose
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Options
from mmworkload.simulating.result import LayerResult, Simulation
from mmworkload.tracing.snapshot import snapshots
from mmworkload.validating.rank import spearman

WORKLOADS = ("av-mnist/concat", "mujoco-push/late", "vision-touch/concat")
ARCHS = ("eyeriss_like", "simple_weight_stationary", "tpu_like", "nvdla_like")
SIMULATORS = ("timeloop", "recorded", "zigzag", "accelforge", "scalesim", "roofline")
COMPARED = ("zigzag", "scalesim", "roofline")
REFERENCE = "recorded"

_HEAD = """# Simulators side by side

Written by `python -m mmworkload.reporting.simulators_page docs/simulators.md`; do not edit it. Every simulator gets the
same layers, the same architecture and the same energy table, so that differences are those of the models. What each is
told of an architecture, and what it is not, `mmworkload simulate` says under "What to mind".
"""


@dataclass
class Cells:
    """The answers for one workload on one architecture by simulator, and why others gave none."""

    simulations: dict[str, Simulation] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def ask(graph: LayerGraph, arch: str, simulators: Iterable[str], options: Options) -> Cells:
    """Every simulator on one graph. One that cannot answer every layer is a reason, not a total of two models."""
    cells = Cells()
    spec = architectures.load(arch)
    for name in simulators:
        try:
            choose(name, spec, options)
            found = simulate(graph, spec, name, options=options)
        except MmworkloadError as error:
            cells.reasons[name] = " ".join(str(error).split())[:160]
            continue
        missing = found.fallbacks
        if missing:
            note = next(row.note for row in found.layers if row.note and row.simulator != name)
            cells.reasons[name] = f"no answer for {plural(missing, 'layer')}: {note[:140]}"
        else:
            cells.simulations[name] = found
    return cells


def utilization(rows: Sequence[LayerResult]) -> float | None:
    """Of the array over the time of all rows."""
    cycles = sum(row.cycles * row.weight for row in rows)
    return sum(row.utilization * row.cycles * row.weight for row in rows) / cycles if cycles else None


def grid(found: Mapping[tuple[str, str], Cells], simulators: Sequence[str]) -> Iterator[str]:
    """Latency, energy and utilisation of each stage."""
    for workload in dict.fromkeys(name for name, _ in found):
        yield f"## {workload}"
        for arch in (name for model, name in found if model == workload):
            cells = found[workload, arch]
            rows = []
            first = next(iter(cells.simulations.values()), None)
            for stage in [*(first.stages() if first else []), "all"]:
                row = [literal(stage)]
                for name in simulators:
                    item = cells.simulations.get(name)
                    if item is None:
                        row.append("")
                        continue
                    layers = [entry for entry in item.layers if stage in ("all", entry.stage)]
                    totals = item.totals if stage == "all" else item.stages()[stage]
                    parts = [si(totals.latency_s, "s"), si(totals.energy_j, "J"), share(utilization(layers))]
                    row.append(", ".join(parts))
                rows.append(row)
            yield f"On `{arch}` (latency, energy, share of the array in use):"
            yield table(["<stage", *(f"<{name}" for name in simulators)], rows)
            if cells.reasons:
                yield "\n".join(f"- `{name}` is empty: {literal(why)}" for name, why in cells.reasons.items())


@dataclass(frozen=True)
class Pair:
    """One loop-nest layer as the reference and another simulator see it."""

    family: str
    reference_s: float
    other_s: float


def pairs(reference: Simulation, other: Simulation) -> list[Pair]:
    """The layers with loop nests that both answered themselves."""
    found = []
    for one, two in zip(reference.layers, other.layers, strict=True):
        both = one.simulator == reference.simulator and two.simulator == other.simulator
        if one.macs + one.outer_macs and both:
            found.append(Pair(one.op, one.latency_s, two.latency_s))
    return found


def against_reference(graphs: Sequence[LayerGraph], archs: Sequence[str], options: Options) -> Iterator[str]:
    """Rank correlation and ratio by operator family over the workloads that the packs answer whole."""
    yield "## Against recorded Timeloop results"
    labels = "; ".join(dict.fromkeys(pack.label for pack in packs()))
    for arch in archs:
        spec = architectures.load(arch)
        names = {item.model for item in coverage(graphs, [spec], packs()) if item.recorded == item.problems > 0}
        covered = [graph for graph in graphs if graph.model in names]
        if not covered:
            yield f"On `{arch}` no workload is recorded whole."
            continue
        found: dict[str, list[Pair]] = {name: [] for name in COMPARED}
        ranks: dict[str, list[float]] = {name: [] for name in COMPARED}
        refused: dict[str, str] = {}
        with bar(f"comparing on {arch}") as progress:
            for done, graph in enumerate(covered):
                progress(done, len(covered))
                reference = simulate(graph, spec, REFERENCE, options=options)
                for name in COMPARED:
                    try:
                        both = pairs(reference, simulate(graph, spec, name, options=options))
                    except MmworkloadError as error:
                        refused[name] = " ".join(str(error).split())[:160]
                        continue
                    found[name] += both
                    rho = spearman([item.reference_s for item in both], [item.other_s for item in both])
                    if rho is not None and len(both) > 2:
                        ranks[name].append(rho)
            progress(len(covered), len(covered))
        yield (
            f"On `{arch}`, {', '.join(f'`{graph.model}`' for graph in covered)}, which are recorded whole ({labels})."
            " Ratio: latency of a layer over Timeloop's, median and quartiles over layers."
        )
        families = sorted({item.family for items in found.values() for item in items})
        rows = [["rank correlation (Spearman) within a workload, median", "", *(_middle(ranks[n]) for n in COMPARED)]]
        for family in families:
            ratios = {
                name: [item.other_s / item.reference_s for item in found[name] if item.family == family]
                for name in COMPARED
            }
            count = max(len(items) for items in ratios.values())
            rows.append([f"ratio, {family}", f"{count:,}", *(_middle(ratios[name]) for name in COMPARED)])
        yield table(["<", ">layers", *(f"<{name}" for name in COMPARED)], rows)
        if refused:
            yield "\n".join(f"- `{name}`: {literal(why)}" for name, why in refused.items())


def _middle(values: Sequence[float]) -> str:
    """Median and quartiles."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", default="docs/simulators.md", type=Path)
    parser.add_argument("--limit-s", type=float, default=120.0, help="of one simulator run")
    parser.add_argument("--workload", action="append", help="instead of the three of the page")
    parser.add_argument("--all", action="store_true", help="compare on every variant, not the first of each workload")
    parser.add_argument("--skip", action="append", default=[], help="SIMULATOR=WORKLOAD that would take too long")
    chosen = parser.parse_args(arguments)
    options = Options(limit_s=chosen.limit_s)
    known = snapshots()
    found = {}
    names = chosen.workload or WORKLOADS
    with bar("simulating") as progress:
        for done, (workload, arch) in enumerate((model, arch) for model in names for arch in ARCHS):
            progress(done, len(names) * len(ARCHS))
            skipped = [name for name in SIMULATORS if f"{name}={workload}" in chosen.skip]
            asked = [name for name in SIMULATORS if name not in skipped]
            found[workload, arch] = ask(LayerGraph.load(known[workload]), arch, asked, options)
            found[workload, arch].reasons |= dict.fromkeys(skipped, "not asked, since it would take hours (--skip)")
    versions = {
        name: item.version for cells in found.values() for name, item in cells.simulations.items() if item.version
    }
    blocks = [_HEAD, f"Limit of one run: {chosen.limit_s:g} s. Versions:"]
    blocks.append("\n".join(f"- `{name}`: {literal(version)}" for name, version in versions.items()))
    blocks += grid(found, SIMULATORS)
    recorded = list(dict.fromkeys(row.arch for pack in packs() for row in pack.rows))
    firsts = {f"{name}/{family.variants[0].name}" for name, family in families().items()}
    graphs = [LayerGraph.load(path) for name, path in known.items() if chosen.all or name in firsts]
    blocks += against_reference(graphs, recorded, options)
    write_atomic(chosen.output, "\n".join(block.rstrip("\n") + "\n" for block in blocks))
    print(chosen.output)


if __name__ == "__main__":
    main(sys.argv[1:])
