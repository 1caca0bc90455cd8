"""Items and reproductions for readers: tables on a terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.files import write_atomic
from mmworkload.reporting import markdown
from mmworkload.reporting.markdown import literal
from mmworkload.reporting.terminal import Cell, Name, Prose, bullets, facts, section, table
from mmworkload.reporting.units import GAP
from mmworkload.reproducing.item import MEANING, Item, Reproduction, Table, cell

if TYPE_CHECKING:
    from rich.console import RenderableType

_LIST = ("<id", "<paper", "<shows", "<made", "<all of it needs")
_BESIDE = ("<the paper", ">says", ">here", "<how")


def list_tables(items: Iterable[Item]) -> list[RenderableType]:
    """What there is, how it is made, and what making all of it needs."""
    rows: list[list[Cell]] = [[row[0], *map(Prose, row[1:])] for row in _listed(items)]
    return [table(_LIST, rows, tight=True)]


def list_markdown(items: Iterable[Item]) -> str:
    """The same as Markdown."""
    return markdown.table(_LIST, (map(literal, row) for row in _listed(items)))  # type: ignore[misc]


def item_tables(made: Reproduction) -> list[RenderableType]:
    """Statements with ours beside them, the tables, why they differ, and what is missing."""
    item = made.item
    origin = facts([("from", f"{item.paper}: {item.figure}"), ("made on", item.platform)])
    rows: list[list[Cell]] = [[Prose(text), said, own, Prose(how)] for text, said, own, how in _beside(made)]
    found = [
        section(f"{item.id}: {item.shows}", origin),
        section("", table(_BESIDE, rows, tight=True), *_statuses(item)),
    ]
    for one in made.tables:
        cells: list[list[Cell]] = [
            [Name(text) if unit == "" else text for text, (_, unit) in zip(row, one.columns, strict=True)]
            for row in _texts(one)
        ]
        body = table(_heads(one), cells, tight=True)
        found.append(section(f"{one.title} ({one.basis})", one.on, "", body, *one.notes))
    found.append(section("Why it differs", item.differs))
    return [*found, section("Not shown", bullets(_missing(made)))] if made.missing else found


def item_markdown(made: Reproduction) -> str:
    """The same as Markdown."""
    item = made.item
    blocks = [
        f"## {item.id}: {literal(item.shows)}",
        f"{item.paper}: {item.figure}. Made on: {literal(item.platform)}.",
        markdown.table(_BESIDE, ([literal(text) for text in row] for row in _beside(made))),
        *_statuses(item),
    ]
    for one in made.tables:
        blocks.append(f"**{literal(one.title)}** ({one.basis}; {literal(one.on)})")
        blocks.append(markdown.table(_heads(one), ([literal(text) for text in row] for row in _texts(one))))
        blocks += map(literal, one.notes)
    blocks.append(f"*Why it differs.* {literal(item.differs)}")
    if made.missing:
        blocks.append("*Not shown.*\n\n" + "\n".join(f"- {literal(text)}" for text in _missing(made)))
    return "\n\n".join(blocks) + "\n"


def write(made: Reproduction, folder: Path) -> list[Path]:
    """``D4.md`` and ``D4-1.csv``, ``D4-2.csv``, ... into ``folder``, each whole or not at all."""
    files = {folder / f"{made.item.id}.md": item_markdown(made)}
    files |= {folder / f"{made.item.id}-{number}.csv": as_csv(one) for number, one in enumerate(made.tables, 1)}
    for path, text in files.items():
        write_atomic(path, text)
    return list(files)


def as_csv(one: Table) -> str:
    """A table with all digits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[name for name, _ in one.columns], *one.rows])
    return text.getvalue()


def _listed(items: Iterable[Item]) -> list[list[str]]:
    found = []
    for item in items:
        said = item.to_dict()
        found.append(
            [item.id, item.paper, item.shows, ", ".join(said["bases"]) or GAP, "; ".join(said["needs"]) or GAP]
        )
    return found


def _beside(made: Reproduction) -> list[tuple[str, str, str, str]]:
    """Statement, its figure, ours and how it is made; each further figure of ours has a row of its own."""
    rows = []
    for line in made.item.headlines:
        said = cell(line.value, line.unit) if line.value is not None else ""
        own = [(cell(ours.value, line.unit), f"{_how(one)}: {ours.what}") for ours, one in made.ours(line.key)]
        first, *more = own or [("", "")]
        rows += [(f"{line.text} ({line.source})", said, *first), *(("", "", *pair) for pair in more)]
    return rows


def _how(one: Table) -> str:
    return f"measured, {one.on.partition(':')[0]}" if one.basis == "measured" else one.basis


def _statuses(item: Item) -> list[str]:
    unusual = {line.status for line in item.headlines} - {"published"}
    return [f"{status.capitalize()}: {MEANING[status]}." for status in unusual]


def _heads(one: Table) -> list[str]:
    return [f"{'<' if unit in ('', 'yes/no') else '>'}{name}" for name, unit in one.columns]


def _texts(one: Table) -> list[list[str]]:
    return [[cell(value, unit) for value, (_, unit) in zip(row, one.columns, strict=True)] for row in one.rows]


def _missing(made: Reproduction) -> list[str]:
    return [f"{item.basis}: {item.needs}" if item.basis else item.needs for item in made.missing]
