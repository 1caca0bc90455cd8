"""Reproducing: the tables and figures of the papers that can be made without their data sets.

``reproduce("D4", ["result/"])`` gives the tables of an item beside what the paper states; :func:`items` lists them.
Figures are exact from the traced graph, modelled by the roofline on the paper's own GPU, or measured; a table says
which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.reproducing.item import Headline, Item, Missing, Ours, Reproduction, Side, Table
from mmworkload.reproducing.sources import Sources

if TYPE_CHECKING:
    from mmworkload.measuring.folder import Result

__all__ = ["Headline", "Item", "Missing", "Ours", "Reproduction", "Side", "Sources", "Table", "items", "reproduce"]


def items() -> tuple[Item, ...]:
    """All items: multi-modal networks by the numbers of docs/analyses.md, then the other papers."""
    from mmworkload.reproducing import cal, generation, mmbench, mmexit, poster

    numbered = sorted(
        (*cal.ITEMS, *mmbench.ITEMS), key=lambda item: (item.id[0], int(re.sub(r"\D", "", item.id)), item.id)
    )
    return (*numbered, *poster.ITEMS, *generation.ITEMS, *mmexit.ITEMS)


def find(name: str) -> Item:
    """The item called ``name``, in either case; UnknownNameError suggests the nearest."""
    known = {item.id.lower(): item for item in items()}
    if name.lower() not in known:
        raise UnknownNameError("item", name, [item.id for item in known.values()])
    return known[name.lower()]


def reproduce(
    item: str | Item,
    measured: Iterable[str | Path | Result] = (),
    *,
    arch: str | None = None,
    sources: Sources | None = None,
) -> Reproduction:
    """The tables of an item that can be made here, and what the others need.

    ``measured`` are results that ``mmworkload measure -o`` wrote; ``arch`` replaces the paper's GPU in what is modelled
    and tells memory-bound in what was measured. ``sources`` of several items stand for both. Raises UnknownNameError
    for an unknown item or architecture, FormatError for a folder that is no result.
    """
    chosen = item if isinstance(item, Item) else find(item)
    given = sources or Sources(measured, arch)
    given.gpu()
    tables: list[Table] = []
    missing: dict[Missing, None] = {}
    for side in chosen.sides:
        try:
            tables += side.make(given)
        except MmworkloadError as error:
            missing[Missing(side.basis, str(error))] = None
    if chosen.lacking:
        missing[Missing("", chosen.lacking)] = None
    return Reproduction(chosen, tuple(tables), tuple(missing))
