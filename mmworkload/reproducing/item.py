"""What an item is: a table or figure of a paper, what the paper says, and the sides from which it is made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from mmworkload.reporting.units import GAP, TIMES, share, si, times
from mmworkload.versions import SCHEMA_VERSION

if TYPE_CHECKING:
    from mmworkload.reproducing.sources import Sources

Basis = Literal["exact", "modelled", "measured"]
Status = Literal["published", "script"]
Unit = Literal["", "s", "B", "share", "ratio", "count", "number", "1/s", "yes/no"]
Value = str | float | bool | None
MEANING: dict[Basis | Status, str] = {
    "published": "stated in the paper",
    "script": "read in the script with which the authors parse their traces: their intermediate data, not published",
    "exact": "counted in the traced graph, of no device",
    "modelled": "by the closed-form roofline on a GPU's published figures: layer by layer, nothing fused, no launches",
    "measured": "from the results given with --measured, on the device that is named",
}


@dataclass(frozen=True)
class Headline:
    """A statement of a paper. ``value`` is None where it gives no number; ``key`` is what ours refer to."""

    key: str
    text: str
    value: float | None
    unit: Unit
    source: str
    status: Status = "published"


@dataclass(frozen=True)
class Ours:
    """Our figure for the headline ``key``, and what it is of."""

    key: str
    value: float
    what: str


@dataclass(frozen=True)
class Table:
    """Rows of one side.

    ``on`` is the graph, a GPU or a measured device; ``heads`` are the columns with units: ``"workload, MACs:number"``.
    """

    title: str
    basis: Basis
    on: str
    heads: str
    rows: Sequence[Sequence[Value]]
    ours: Sequence[Ours] = ()
    notes: Sequence[str] = ()

    @property
    def columns(self) -> list[tuple[str, Unit]]:
        """Name and unit of each column."""
        pairs = [text.strip().partition(":") for text in self.heads.split(",")]
        assert all(unit in get_args(Unit) for _, _, unit in pairs), self.heads
        return [(name, cast(Unit, unit)) for name, _, unit in pairs]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        names = [name for name, _ in self.columns]
        return {
            "title": self.title,
            "basis": self.basis,
            "on": self.on,
            "columns": [{"name": name, "unit": unit} for name, unit in self.columns],
            "rows": [dict(zip(names, row, strict=True)) for row in self.rows],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Side:
    """One way to make an item. ``needs`` is empty where the installed snapshots are enough."""

    basis: Basis
    make: Callable[[Sources], Iterable[Table]]
    needs: str = ""


@dataclass(frozen=True)
class Item:
    """A table or figure.

    Parameters
    ----------
    id: on the command line.
    paper, figure: where it is.
    shows: what, in a few words.
    platform: what the paper's figures were made on.
    headlines: what the paper states.
    differs: why ours need not be equal.
    sides: how it is made; none for what needs more than a model.
    lacking: what of it nothing here can show, and what that would need.
    """

    id: str
    paper: str
    figure: str
    shows: str
    platform: str
    headlines: tuple[Headline, ...]
    differs: str
    sides: tuple[Side, ...] = ()
    lacking: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For the list: plain values only."""
        return {
            "id": self.id,
            "paper": self.paper,
            "figure": self.figure,
            "shows": self.shows,
            "bases": list(dict.fromkeys(side.basis for side in self.sides)),
            "needs": [*dict.fromkeys(side.needs for side in self.sides if side.needs), *filter(None, [self.lacking])],
        }


@dataclass(frozen=True)
class Missing:
    """What could not be made here, and what it needs; without a basis, nothing here can make it."""

    basis: Basis | Literal[""]
    needs: str


@dataclass(frozen=True)
class Reproduction:
    """An item with the tables that could be made."""

    item: Item
    tables: tuple[Table, ...]
    missing: tuple[Missing, ...]

    def ours(self, key: str) -> list[tuple[Ours, Table]]:
        """Our figures for a headline, each with the table that it is of."""
        return [(own, table) for table in self.tables for own in table.ours if own.key == key]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""

        def beside(key: str) -> list[dict[str, Any]]:
            return [
                {"value": own.value, "what": own.what, "basis": table.basis, "on": table.on}
                for own, table in self.ours(key)
            ]

        return {
            "schema_version": SCHEMA_VERSION,
            **self.item.to_dict(),
            "platform": self.item.platform,
            "headlines": [{**asdict(line), "ours": beside(line.key)} for line in self.item.headlines],
            "tables": [table.to_dict() for table in self.tables],
            "differs": self.item.differs,
            "missing": [asdict(item) for item in self.missing],
        }


def cell(value: Value, unit: Unit) -> str:
    """A value for readers."""
    if value is None:
        return GAP
    if isinstance(value, str | bool):
        return value if isinstance(value, str) else "yes" if value else "no"
    match unit:
        case "s" | "B":
            return si(value, unit)
        case "share":
            return share(value)
        case "ratio":
            return f"<0.001{TIMES}" if 0 < value < 0.001 else times(value)
        case "count":
            return f"{value:,.0f}"
        case "1/s":
            return f"{value:,.1f}" if value >= 100 else f"{value:.4g}"
    # What rounds to 1000 has a prefix too.
    return si(value) if value >= 999.5 else f"{value:.3g}"
