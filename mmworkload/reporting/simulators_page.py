"""The page that puts simulators side by side on multi-modal networks.

``python -m mmworkload.reporting.simulators_page docs/simulators.md`` writes it from the graphs in ``shapes/`` and from
every simulator that is on this machine; recorded answers stand for a simulator that is not. Three workloads are shown
stage by stage; every one that is recorded whole is compared with what was recorded. It needs no torch.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmworkload import arch as architectures
from mmworkload.cli.progress import bar
from mmworkload.errors import MmworkloadError, one_line
from mmworkload.files import write_atomic
from mmworkload.graph import LayerGraph
from mmworkload.packs.coverage import coverage
from mmworkload.packs.shelf import packs
from mmworkload.reporting.markdown import literal, table
from mmworkload.reporting.units import plural, share, si
from mmworkload.simulating.choice import choose
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Options
from mmworkload.simulating.result import LayerResult, Simulation, Totals
from mmworkload.tracing.snapshot import snapshots
from mmworkload.validating.rank import spearman

WORKLOADS = ("av-mnist/concat", "mujoco-push/late", "vision-touch/concat")
ARCHS = ("eyeriss_like", "simple_weight_stationary", "tpu_like", "nvdla_like")
SIMULATORS = ("timeloop", "recorded", "zigzag", "accelforge", "scalesim", "roofline")
COMPARED = ("zigzag", "scalesim", "roofline")
REFERENCE = "recorded"
_FIGURES = (", latency", ", energy", ", rank")

_HEAD = """# Simulators side by side

Written by `{command}`; do not edit it. Every simulator gets the
same layers, the same architecture and the same energy table, so that differences are those of the models. What each is
told of an architecture, and what it is not, `mmworkload simulate` says under "What to mind".
"""

_EXPLAINED = """\
Each workload of the zoo that the result packs answer whole ({labels}), by the other simulators. Figures are ratios to
Timeloop's, of latency and of energy: the median, with quartiles in brackets. Rank is Spearman's correlation of
latencies: of workloads, of the layers within a workload, of different layers of a family; fewer than three layers
have none. Layers without loop nests are the same for all simulators; they are in the figures of workloads, not in
those of layers. A latency below Timeloop's is a coarser model or a better mapping: Timeloop's mapper stops at the
limits of normal effort, and the roofline, a lower bound, shows how much could be gained at most. Where that is a
factor of two or more, as for the prefill of large language models on `eyeriss_like`, the search found no good
mapping."""


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
            cells.reasons[name] = one_line(error)[:160]
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
    """One layer with loop nests as the reference and another simulator see it; equal layers are equal in ``what``."""

    family: str
    what: tuple[Hashable, ...]
    reference: LayerResult
    other: LayerResult

    @property
    def latency(self) -> float:
        return self.other.latency_s / self.reference.latency_s

    @property
    def energy(self) -> float | None:
        return energy_ratio(self.reference, self.other)


def energy_ratio(reference: LayerResult | Totals, other: LayerResult | Totals) -> float | None:
    """``other`` over ``reference``; None where one has no energies."""
    one, two = reference.energy_j, other.energy_j
    return two / one if one and two is not None else None


def pairs(reference: Simulation, other: Simulation) -> list[Pair]:
    """The layers with loop nests that both answered themselves."""
    found = []
    for one, two in zip(reference.layers, other.layers, strict=True):
        both = one.simulator == reference.chosen and two.simulator == other.chosen
        if one.macs + one.outer_macs and both:
            found.append(Pair(one.op, (one.op, one.problems), one, two))
    return found


def correlation(found: Sequence[Pair]) -> float | None:
    """Spearman's, of latencies; None for fewer than three layers, or when all take equally long."""
    if len(found) < 3:
        return None
    return spearman([item.reference.latency_s for item in found], [item.other.latency_s for item in found])


@dataclass
class Workloads:
    """What the packs answer whole of one architecture, beside the answers of other simulators to the same."""

    arch: str
    reference: dict[str, Simulation] = field(default_factory=dict)
    others: dict[str, dict[str, Simulation]] = field(default_factory=lambda: {name: {} for name in COMPARED})
    refused: dict[str, str] = field(default_factory=dict)

    def pairs(self, name: str, workload: str) -> list[Pair]:
        other = self.others[name].get(workload)
        return pairs(self.reference[workload], other) if other else []

    def different(self, name: str) -> list[Pair]:
        """Of all workloads, each layer once: variants of a workload share most of theirs."""
        every = (pair for workload in self.reference for pair in self.pairs(name, workload))
        return list({pair.what: pair for pair in every}.values())

    def whole(self, name: str, workload: str) -> Simulation | None:
        """The answer to a workload, if it is of this simulator in every layer with loop nests."""
        other = self.others[name].get(workload)
        return other if other and not other.fallbacks else None


def compare(graphs: Sequence[LayerGraph], arch: str, options: Options) -> Workloads:
    """Every graph that is recorded whole, by the reference and by the others."""
    spec = architectures.load(arch)
    names = {item.model for item in coverage(graphs, [spec], packs()) if item.recorded == item.problems > 0}
    covered = [graph for graph in graphs if graph.model in names]
    found = Workloads(arch)
    with bar(f"comparing on {arch}") as progress:
        for done, graph in enumerate(covered):
            progress(done, len(covered))
            found.reference[graph.model] = simulate(graph, spec, REFERENCE, options=options)
            for name in COMPARED:
                try:
                    found.others[name][graph.model] = simulate(graph, spec, name, options=options)
                except MmworkloadError as error:
                    found.refused[name] = one_line(error)[:160]
        progress(len(covered), len(covered))
    return found


def by_family(found: Workloads) -> str:
    """Ratios and rank correlation by operator family, of different layers."""
    layers = {name: found.different(name) for name in COMPARED}
    count = {pair.what: pair.family for items in layers.values() for pair in items}
    rows = []
    for family in [*sorted(set(count.values())), "all"]:
        row = [family, f"{sum(family in (one, 'all') for one in count.values()):,}"]
        for name in COMPARED:
            items = [pair for pair in layers[name] if family in (pair.family, "all")]
            energies = [pair.energy for pair in items if pair.energy is not None]
            row += [_middle([pair.latency for pair in items]), _middle(energies), _two(correlation(items))]
        rows.append(row)
    return table(["<", ">layers", *(f"<{name}{what}" for name in COMPARED for what in _FIGURES)], rows)


def by_workload(found: Workloads) -> str:
    """Of each workload the reference's latency and energy, and how far the others are from them."""
    rows = []
    for workload, reference in found.reference.items():
        row = [f"`{workload}`", si(reference.totals.latency_s, "s"), si(reference.totals.energy_j, "J")]
        for name in COMPARED:
            other = found.whole(name, workload)
            if other is None:
                row += ["", "", ""]
                continue
            one, two = reference.totals, other.totals
            rank = correlation(found.pairs(name, workload))
            row += [_two(two.latency_s / one.latency_s), _two(energy_ratio(one, two)), _two(rank)]
        rows.append(row)
    heads = [f">{name}{what}" for name in COMPARED for what in _FIGURES]
    return table(["<workload", ">latency", ">energy", *heads], rows)


def summary(every: Sequence[Workloads]) -> str:
    """Whole workloads: ratios and the order of the workloads; and the order of the layers within one."""
    rows = []
    for found in every:
        for name in COMPARED:
            answered = ((item, found.whole(name, key)) for key, item in found.reference.items())
            whole = [(item.totals, other.totals) for item, other in answered if other]
            if not whole:
                continue
            seconds = [(one.latency_s, two.latency_s) for one, two in whole]
            joules = [ratio for one, two in whole if (ratio := energy_ratio(one, two)) is not None]
            within = [correlation(found.pairs(name, key)) for key in found.reference]
            rows.append(
                [
                    f"`{found.arch}`",
                    f"`{name}`",
                    f"{len(whole):,}",
                    _middle([two / one for one, two in seconds]),
                    _middle(joules),
                    _two(spearman(*zip(*seconds, strict=True)) if len(whole) > 2 else None),
                    _middle([item for item in within if item is not None]),
                ]
            )
    heads = ["<architecture", "<simulator", ">workloads", "<latency", "<energy", ">rank of workloads"]
    return table([*heads, "<rank of layers within one"], rows)


def against_reference(graphs: Sequence[LayerGraph], archs: Sequence[str], options: Options) -> Iterator[str]:
    """Rank correlation and ratio over the workloads that the packs answer whole."""
    every = [compare(graphs, arch, options) for arch in archs]
    yield "## Against recorded Timeloop results"
    yield _EXPLAINED.format(labels="; ".join(dict.fromkeys(pack.label for pack in packs())))
    yield summary(every)
    for found in every:
        yield f"### {found.arch}"
        count = plural(len(graphs), "workload")
        if not found.reference:
            yield f"Of {count} none is recorded whole."
            continue
        yield f"Recorded whole are {len(found.reference):,} of {count}. Each layer once, by operator family:"
        yield by_family(found)
        if found.refused:
            yield "\n".join(f"- `{name}`: {literal(why)}" for name, why in found.refused.items())
    yield "## Each recorded workload"
    yield "Timeloop's own latency and energy; then the other simulators' over these, and the rank of the layers."
    for found in every:
        if found.reference:
            yield f"On `{found.arch}`:"
            yield by_workload(found)


def _middle(values: Sequence[float]) -> str:
    """Median and quartiles."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", default="docs/simulators.md", type=Path)
    parser.add_argument("--limit-s", type=float, default=120.0, help="of one simulator run")
    parser.add_argument("--workload", action="append", help="instead of the three of the page")
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
    command = shlex.join(["python", "-m", "mmworkload.reporting.simulators_page", *arguments])
    blocks = [_HEAD.format(command=command), f"Limit of one run: {chosen.limit_s:g} s. Versions:"]
    blocks.append("\n".join(f"- `{name}`: {literal(version)}" for name, version in versions.items()))
    blocks += grid(found, SIMULATORS)
    recorded = list(dict.fromkeys(row.arch for pack in packs() for row in pack.rows))
    blocks += against_reference([LayerGraph.load(path) for path in known.values()], recorded, options)
    write_atomic(chosen.output, "\n".join(block.rstrip("\n") + "\n" for block in blocks))
    print(chosen.output)


if __name__ == "__main__":
    main(sys.argv[1:])
