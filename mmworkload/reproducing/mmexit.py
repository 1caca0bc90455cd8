"""MMExit: Hou et al., Euro-Par 2023: early exits in multi-modal networks."""

from __future__ import annotations

from collections.abc import Iterator

from mmworkload.exits import ExitAnalysis, ExitSettings, analyse, with_exits
from mmworkload.exits.analysis import PUBLISHED, WHY_DIFFERENT
from mmworkload.reproducing.item import Headline, Item, Ours, Side, Table, Value
from mmworkload.reproducing.sources import GRAPH, Sources

PAPER = "MMExit"
PLATFORM = "RTX 2080 Ti; MACs and parameters do not depend on it"
# The paper's data sets, our network, and the classes of an exit (0: the network's own).
NETWORKS = (
    ("avmnist", "av-mnist/concat", 0),
    ("sarcasm", "mustard/concat-multibench", 2),
    ("mosi, mosei", "cmu-mosei/concat-multibench", 5),
)
OFTEN, SELDOM = 0.3, 0.1


def _analysed(sources: Sources, name: str, classes: int, p: float, order: str = "phi") -> ExitAnalysis:
    return analyse(with_exits(sources.graph(name), ExitSettings(p=p, classes=classes, order=order)))


def _reductions(sources: Sources) -> Iterator[Table]:
    sizes: list[list[Value]] = []
    rates: list[list[Value]] = []
    ours: list[Ours] = []
    for data, name, classes in NETWORKS:
        found = _analysed(sources, name, classes, OFTEN)
        macs, params = found.row("macs"), found.row("params")
        sizes.append([data, name, macs.plain, params.plain, found.overhead, macs.reduction, params.reduction])
        rates.append([data, name, *(rate.p for rate in found.rates)])
        ours += [Ours(row.kind, row.reduction, f"{name}, p = {OFTEN}") for row in (macs, params)]
    heads = "data, network, MACs:number, params:number, exits add:share, MACs off:share, params off:share"
    notes = [f"Two exits a modality; who gets to one leaves there with probability {OFTEN}, a choice of ours."]
    yield Table("Reductions", "exact", GRAPH, heads, sizes, ours, notes)
    ends = [f"{kind} {100 * end:.1f}:share" for kind, both in PUBLISHED.items() for end in both]
    notes = ["The least probability of every exit that takes off so many per cent, the ends of the paper's ranges."]
    yield Table("How often exits are taken", "exact", GRAPH, ", ".join(["data", "network", *ends]), rates, (), notes)


def _orders(sources: Sources) -> Iterator[Table]:
    rows: list[list[Value]] = []
    ours: list[Ours] = []
    for data, name, classes in NETWORKS:
        serial = _analysed(sources, name, classes, SELDOM)
        listed = _analysed(sources, name, classes, SELDOM, "listed").row("macs").reduction
        macs = serial.row("macs")
        every = [1 - order.expected[serial.rows.index(macs)] / macs.plain for order in serial.orders]
        # A comma would be one of the table's.
        rows.append([data, macs.reduction, listed, max(every), min(every), " ".join(serial.phi_order)])
        ours += [Ours(key, off, f"{name}, p = {SELDOM}") for key, off in (("phi", macs.reduction), ("listed", listed))]
    heads = "data, MMExit:share, listed:share, best:share, worst:share, MMExit's order"
    notes = [
        f"MACs taken off at p = {SELDOM}, a choice of ours: in MMExit's order, the model's own (RExit), best and worst."
    ]
    yield Table("Order of modalities", "exact", GRAPH, heads, rows, ours, notes)


def _range(kind: str, what: str) -> Headline:
    low, high = (100 * end for end in PUBLISHED[kind])
    return Headline(kind, f"{what} taken off late fusion, {low:.4g} to {high:.4g} %", None, "share", "section 5.5")


REDUCTIONS = Item(
    "E1", PAPER, "figure 7", "MACs and parameters that early exits take off four networks", PLATFORM,
    (_range("macs", "MACs"), _range("params", "parameters")),
    WHY_DIFFERENT,
    (Side("exact", _reductions),),
    "accuracies, and how often exits are taken: trained weights and the data sets",
)  # fmt: skip

ORDER = Item(
    "E2", PAPER, "figure 4", "exits in MMExit's order, and without one (RExit)", PLATFORM,
    (
        Headline("phi", "MMExit: computation taken off, 23 to 49 %", None, "share", "utility analysis"),
        Headline("listed", "RExit: computation taken off, 1.4 to 44 %", None, "share", "utility analysis"),
    ),
    "Exits are taken equally often here, in the paper as often as they were trained to be. Two of the networks list"
    " their modalities in MMExit's order already; what an order can lose is in the column of the worst.",
    (Side("exact", _orders),),
)  # fmt: skip

ITEMS = (REDUCTIONS, ORDER)
