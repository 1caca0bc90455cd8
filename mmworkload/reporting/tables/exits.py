"""The tables of ``exits``: exits, expected costs, orders of modalities, and the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmworkload.exits.analysis import WHY_DIFFERENT
from mmworkload.reporting.tables.common import top
from mmworkload.reporting.terminal import Cell, Name, bullets, section, table
from mmworkload.reporting.units import GAP, share, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.exits.analysis import ExitAnalysis, Row

_KINDS = {
    "macs": "MACs",
    "params": "parameters",
    "bytes": "bytes",
    "latency": "latency",
    "energy": "energy",
    "dram": "DRAM traffic",
}


def exits_tables(analysis: ExitAnalysis) -> list[RenderableType]:
    """The exits in the order in which they run; costs; orders; what exit rate gives the paper's reductions."""
    return [
        section(analysis.model, bullets(analysis.notes)),
        _exits(analysis),
        _costs(analysis),
        _orders(analysis),
        _rates(analysis),
    ]


def _exits(analysis: ExitAnalysis) -> RenderableType:
    rows: list[list[Cell]] = [
        [
            item.name,
            item.place,
            str(item.width),
            str(item.macs),
            share(item.cost),
            share(item.p),
            share(item.reach),
            share(item.leaves),
            f"{item.utility:.3f}",
        ]
        for item in analysis.exits
    ]
    columns = ["<exit", "<after", ">width", ">MACs", ">segment", ">p", ">reached", ">leave", ">utility"]
    left = 1 - sum(item.leaves for item in analysis.exits)
    return section(
        "Exits",
        table(columns, rows, tight=True),
        f"{share(left)} of {'runs' if analysis.batch > 1 else 'samples'} leave nowhere and go through the fusion."
        " Segment: MACs up to the exit, of the network's own. Utility: eq. 3 of the paper.",
    )


def _costs(analysis: ExitAnalysis) -> RenderableType:
    def row(item: Row) -> list[Cell]:
        # The row says that they are MACs.
        unit = "" if item.unit == "MAC" else item.unit
        return [
            _KINDS[item.kind],
            Name(item.machine or "(graph)"),
            *(si(value, unit) for value in (item.plain, item.full, item.expected)),
            share(-item.reduction),
            share(item.best / item.plain - 1 if item.plain else None),
        ]

    orders: dict[str, list[str]] = {}
    for item in analysis.rows:
        what = f"{_KINDS[item.kind]} on {item.machine}" if item.machine else _KINDS[item.kind]
        orders.setdefault(_arrow(item.best_order), []).append(what)
    best = [
        f"Best order for {'every cost' if len(orders) == 1 else ', '.join(what)}: {order}."
        for order, what in orders.items()
    ]
    columns = ["<cost", "<of", ">without", ">none taken", ">expected", ">change", ">best order"]
    return section(
        f"Expected cost of {'a batch' if analysis.batch > 1 else 'a sample'}, order {_arrow(analysis.order)}",
        table(columns, [row(item) for item in analysis.rows], tight=True),
        *best,
        "Parameters: those that are read; all of them have to be stored. Bytes of the graph: each tensor once a layer.",
    )


def _orders(analysis: ExitAnalysis) -> RenderableType:
    macs = analysis.row("macs").plain
    chosen, notes = top(analysis.orders, lambda item: item.utility, False, "order")
    rows: list[list[Cell]] = [
        [Name(_arrow(item.order)), f"{item.utility:.4f}", share(item.expected[0] / macs - 1)]
        for item in sorted(chosen, key=lambda item: -item.utility)
    ]
    serial: list[list[Cell]] = [
        [item.name, share(item.staying), f"{item.phi:.4f}", GAP if item.index is None else f"{item.index:.4f}"]
        for item in analysis.modalities
    ]
    agrees = "which is as useful" if analysis.phi_agrees else "which is LESS useful: probabilities are not equal"
    return section(
        "Order of modalities",
        table(["<modality", ">stay", ">phi (eq. 7)", ">index"], serial),
        "",
        table(["<order", ">utility (eq. 6)", ">MACs"], rows),
        *notes,
        f"Best of all orders: {_arrow(analysis.useful_order)}. By phi: {_arrow(analysis.phi_order)}, {agrees}."
        f" By the index, which assumes no equal probabilities: {_arrow(analysis.index_order)}.",
    )


def _rates(analysis: ExitAnalysis) -> RenderableType:
    rows: list[list[Cell]] = [
        [_KINDS[item.kind], f"{100 * item.reduction:.2f} %", "never" if item.p is None else f"{item.p:.3f}"]
        for item in analysis.rates
    ]
    return section(
        "The paper's reductions (Fig. 7), and the exit probability here that gives them",
        table(["<cost", ">reduction", ">p of every exit"], rows),
        WHY_DIFFERENT,
    )


def _arrow(order: Sequence[str]) -> str:
    return ", ".join(order)
