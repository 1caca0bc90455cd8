"""What an exit network is expected to cost, and which order of modalities is best: by MACs, and on an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

from mmworkload.exits.branch import Branch
from mmworkload.exits.encoders import ExitError
from mmworkload.exits.network import FUSION, ExitNetwork
from mmworkload.exits.probability import leaving
from mmworkload.exits.utility import (
    MOST,
    cheapest_order,
    expected,
    index,
    most_useful_order,
    phi,
    serialised,
    utilities,
    utility,
)
from mmworkload.graph import Part, Workload
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    from mmworkload.simulating.result import Simulation

# Fig. 7 and section 5.5 of the paper: what MMExit takes off the late-fusion networks, from its least to its largest.
PUBLISHED = {"macs": (0.2264, 0.4872), "params": (0.2144, 0.4502)}
WHY_DIFFERENT = (
    "The paper gives no exit rates, no places of its exits and no sizes of its encoders, so its percentages cannot be"
    " computed; what can be is how often every exit has to be taken for them."
)
_STEPS = 1000


@dataclass(frozen=True)
class Cost:
    """One kind of cost. ``unit`` is MAC, B, s or J, empty for parameters.

    Parameters
    ----------
    segments: by name.
    plain: of the network without exits.
    machine: the architecture that it was simulated on; empty for what the graph says.
    """

    kind: str
    unit: str
    segments: Mapping[str, float]
    plain: float
    machine: str = ""

    @property
    def full(self) -> float:
        """With every exit evaluated and none taken."""
        return sum(self.segments.values())


@dataclass(frozen=True)
class Row:
    """One cost under the exit probabilities.

    ``reduction`` is of the cost without exits; ``best_order`` the order in which ``best`` is the expected cost, the
    least of all orders.
    """

    kind: str
    machine: str
    unit: str
    plain: float
    full: float
    expected: float
    reduction: float
    best_order: tuple[str, ...]
    best: float


@dataclass(frozen=True)
class ExitRow:
    """One exit in the chosen order: ``reach`` is how often it is evaluated, ``leaves`` how often it ends the run.

    ``cost`` and ``utility`` (eq. 3) in shares of the whole network's MACs.
    """

    name: str
    place: str
    width: int
    macs: int
    cost: float
    p: float
    reach: float
    leaves: float
    utility: float


@dataclass(frozen=True)
class Modality:
    """``phi`` is eq. 7 at the mean exit probability; ``index`` needs no such assumption (None when nobody leaves)."""

    name: str
    staying: float
    phi: float
    index: float | None


@dataclass(frozen=True)
class Order:
    """One order of the modalities: eq. 6, and the expected cost by (kind, machine) in the order of the rows."""

    order: tuple[str, ...]
    utility: float
    expected: tuple[float, ...]


@dataclass(frozen=True)
class Rate:
    """The exit probability, equal for all exits, at which ``kind`` falls by ``reduction``; None when it never does.

    Of thousandths, the least; modalities run in the order with least expected MACs.
    """

    kind: str
    reduction: float
    p: float | None


@dataclass(frozen=True)
class ExitAnalysis:
    """The result of :func:`analyse`.

    ``orders`` has every order up to eight modalities. ``phi_order`` is theorem 1's, ``index_order`` that of the index,
    ``useful_order`` has the largest eq. 6 by brute force; ``phi_agrees`` is whether theorem 1 gets as much.
    """

    model: str
    batch: int
    classes: int
    order: tuple[str, ...]
    overhead: float
    notes: tuple[str, ...]
    exits: tuple[ExitRow, ...]
    modalities: tuple[Modality, ...]
    rows: tuple[Row, ...]
    orders: tuple[Order, ...]
    phi_order: tuple[str, ...]
    index_order: tuple[str, ...]
    useful_order: tuple[str, ...]
    phi_agrees: bool
    rates: tuple[Rate, ...]

    def row(self, kind: str, machine: str = "") -> Row:
        """Raises KeyError for a cost that was not looked at."""
        return next(item for item in self.rows if (item.kind, item.machine) == (kind, machine))

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def graph_costs(network: ExitNetwork) -> tuple[Cost, ...]:
    """MACs, parameters (each where it is read first) and bytes (each tensor once a layer) as the graph has them."""
    names = network.segments
    layers = {name: [network.layers[item] for item in segment.layers] for name, segment in names.items()}
    macs = {name: float(sum(layer.macs for layer in own)) for name, own in layers.items()}
    moved = {name: float(sum(layer.bytes for layer in own)) for name, own in layers.items()}
    params: dict[str, float] = {}
    known: set[str] = set()
    for name, own in layers.items():
        new = [item for item in network.graph.weights(own) if item.storage not in known]
        known.update(item.storage for item in new)
        params[name] = float(sum(item.elements for item in new))
    base = network.base
    return (
        Cost("macs", "MAC", macs, base.total_macs),
        Cost("params", "", params, base.total_params),
        Cost("bytes", "B", moved, sum(layer.bytes for layer in base)),
    )


def simulated_costs(network: ExitNetwork, simulate: Callable[[Workload], Simulation]) -> tuple[Cost, ...]:
    """Serial latency, energy (where known) and DRAM bytes of every segment; ``simulate`` says of what machine."""
    segments = Workload(
        network.name,
        tuple(Part(network.segment_graph(name), name) for name in network.segments if _runs(network, name)),
    )
    found, plain = simulate(segments), simulate(Workload.of(network.base))

    def summed(value: Callable[[Any], float]) -> dict[str, float]:
        total = dict.fromkeys(network.segments, 0.0)
        for row in found.layers:
            total[row.part] += value(row)
        return total

    costs = [Cost("latency", "s", summed(lambda row: row.latency_s), plain.serial_latency_s, found.arch)]
    if found.energy_j is not None and plain.energy_j is not None:
        costs.append(Cost("energy", "J", summed(lambda row: row.energy_j), plain.energy_j, found.arch))
    costs.append(Cost("dram", "B", summed(lambda row: row.dram_bytes), plain.dram_bytes, found.arch))
    return tuple(costs)


def _runs(network: ExitNetwork, name: str) -> bool:
    return any(network.layers[layer].placement == "device" for layer in network.segments[name].layers)


def analyse(network: ExitNetwork, simulated: Sequence[Cost] = ()) -> ExitAnalysis:
    """Expected costs, utilities and orders of ``network``; ``simulated`` are those of :func:`simulated_costs`.

    Raises ExitError for more modalities than orders can be tried for.
    """
    if len(network.modalities) > MOST:
        raise ExitError(
            f"{network.name}: {len(network.modalities)} modalities have too many orders; {MOST} can be tried"
        )
    costs = (*graph_costs(network), *simulated)
    weight = network.settings.weight
    shares = network.utility_branches()
    as_paper = [replace(item, rest=0.0) for item in shares]
    every = [item for branch in shares for item in branch.p]
    mean = sum(every) / len(every)
    phi_order, useful = serialised(as_paper, weight), most_useful_order(as_paper, weight)
    return ExitAnalysis(
        model=network.name,
        batch=network.base.batch,
        classes=network.classes,
        order=network.order,
        overhead=network.overhead,
        notes=network.notes,
        exits=_exit_rows(network, as_paper),
        modalities=tuple(
            Modality(
                item.name, item.staying, phi(item, mean, weight), index(item, weight) if item.staying < 1 else None
            )
            for item in as_paper
        ),
        rows=tuple(_row(network, cost) for cost in costs),
        orders=tuple(
            Order(
                tuple(branch.name for branch in order),
                utility(order, weight),
                tuple(_expected(network, cost, [branch.name for branch in order]) for cost in costs),
            )
            for order in permutations(as_paper)
        ),
        phi_order=phi_order,
        index_order=tuple(item.name for item in sorted(as_paper, key=lambda item: -index(item, weight))),
        useful_order=useful,
        phi_agrees=_close(utility(_by_name(as_paper, phi_order), weight), utility(_by_name(as_paper, useful), weight)),
        rates=_rates(network),
    )


def _by_name(branches: Sequence[Branch], names: Sequence[str]) -> list[Branch]:
    known = {branch.name: branch for branch in branches}
    return [known[name] for name in names]


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-12 * max(1.0, abs(one), abs(other))


def _expected(network: ExitNetwork, cost: Cost, order: Sequence[str]) -> float:
    branches = _by_name(network.branches(cost.segments), order)
    return expected(branches, cost.segments[FUSION], network.settings.rest, network.batch_for_leaving)


def _row(network: ExitNetwork, cost: Cost) -> Row:
    here = _expected(network, cost, network.order)
    best = cheapest_order(
        network.branches(cost.segments), cost.segments[FUSION], network.settings.rest, network.batch_for_leaving
    )
    return Row(
        kind=cost.kind,
        machine=cost.machine,
        unit=cost.unit,
        plain=cost.plain,
        full=cost.full,
        expected=here,
        reduction=1 - here / cost.plain if cost.plain else 0.0,
        best_order=best,
        best=_expected(network, cost, best),
    )


def _exit_rows(network: ExitNetwork, branches: Sequence[Branch]) -> tuple[ExitRow, ...]:
    order = _by_name(branches, network.order)
    worth = dict(zip(network.order, utilities(order, network.settings.weight), strict=True))
    reach = network.reach()
    ends = leaving(reach, {item.name for item in network.in_order() if item.exit or item.name == FUSION})
    rows = []
    for branch in order:
        for segment in network.encoders[branch.name]:
            end = segment.exit
            if end is None:
                continue
            at = end.number - 1
            rows.append(
                ExitRow(
                    name=segment.name,
                    place=end.place,
                    width=end.width,
                    macs=end.macs,
                    cost=branch.costs[at],
                    p=branch.p[at],
                    reach=reach[segment.name],
                    leaves=ends[segment.name],
                    utility=worth[branch.name][at],
                )
            )
    return tuple(rows)


def _rates(network: ExitNetwork) -> tuple[Rate, ...]:
    """For the published reductions: ascending probabilities until MACs, or parameters, have fallen so far."""
    costs = {item.kind: item for item in graph_costs(network)}
    wanted = [(kind, reduction) for kind, both in PUBLISHED.items() for reduction in both]
    found: dict[tuple[str, float], float] = {}
    for step in range(_STEPS + 1):
        tried = replace(network, settings=replace(network.settings, p=step / _STEPS, order="macs"))
        for kind, reduction in wanted:
            cost = costs[kind]
            if (kind, reduction) not in found and _expected(tried, cost, tried.order) <= (1 - reduction) * cost.plain:
                found[kind, reduction] = step / _STEPS
        if len(found) == len(wanted):
            break
    return tuple(Rate(kind, reduction, found.get((kind, reduction))) for kind, reduction in wanted)
