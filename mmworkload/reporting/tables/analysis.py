"""The tables of ``analyze``: a view of results, and the list of views."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.analyzing.view import COLUMNS, View
from mmworkload.reporting.tables.common import TOP
from mmworkload.reporting.terminal import Cell, Name, Prose, bullets, facts, section, table
from mmworkload.reporting.units import GAP, plural, share, si, times

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

    from mmworkload.analyzing.multimodal import Elsewhere
    from mmworkload.analyzing.view import Column

NONE = "(none)"
# What a table that is too wide does without, in this order; the layer only where kernels have names.
_EXPENDABLE = ("share", "layer", "flops_per_s", "kernels")
_MARKS = {"counters": "c", "ideal": "i", "": ""}


def analysis_tables(view: View, frame: pandas.DataFrame, *, every: bool = False) -> list[RenderableType]:
    """The view's table, its largest rows where there are many, and what to mind; one row alone is a list of facts.

    What is the same in all of several rows is said above the table, counters that were not read are left out, and a
    table that is wider than the terminal does without some columns and says which.
    """
    notes = list(frame.attrs.get("notes", ()))
    names = [str(name) for name in frame.columns]
    shown = frame
    if view.largest and not every and len(frame) > TOP:
        sizes = frame[list(view.largest)].sum(axis=1).sort_values(ascending=False, kind="stable")
        shown = frame.loc[sizes.index[:TOP].sort_values()]
        notes.insert(0, f"The {TOP} largest of {plural(len(frame), 'row')}; --all lists every one.")
    said = [
        name
        for name in ("model", "batch", "dtype", "device", "source", "timed_by")
        if name in names and len(frame) > 1 and frame[name].nunique() == 1 and frame[name].iloc[0] != ""
    ]
    empty = [name for name in names if (COLUMNS[name].counter or name == "memory_bound") and frame[name].isna().all()]
    columns = [COLUMNS[name] for name in names if name not in (*said, *empty)]
    rows = [
        [_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in _values(shown, columns)
    ]
    head = ", ".join(f"{COLUMNS[name].header or 'work'} {frame[name].iloc[0]}" for name in said)
    if len(rows) == 1:
        pairs = [
            (column.name, cell if isinstance(cell, str) else cell.text)
            for column, cell in zip(columns, _values_in_full(columns, rows[0], frame), strict=True)
        ]
        return [section(f"{view.id}: {view.title}", view.source, "", facts(pairs)), *_minded(notes)]
    columns, rows, dropped = _fitted(columns, rows)
    if dropped:
        notes.append(f"Without {', '.join(dropped)} for want of room; --csv and --json have all columns.")
    if any(column.name == "source" for column in columns):
        notes.append("i: ideal flops and bytes; c: by counters")
    heads = [f"{'<' if column.unit in ('', 'yes/no') else '>'}{column.header}" for column in columns]
    body: RenderableType = table(heads, rows, tight=True) if rows else "No rows: nothing in the result is of this kind."
    return [
        section(f"{view.id}: {view.title}", view.source, *([head] if head else []), "", body),
        *_minded(notes),
    ]


def _minded(notes: Sequence[str]) -> list[RenderableType]:
    return [section("What to mind", bullets(notes))] if notes else []


def _values_in_full(columns: Sequence[Column], cells: Sequence[Cell], frame: pandas.DataFrame) -> list[Cell]:
    """The cells, with the source in words."""
    return [
        frame["source"].iloc[0] or NONE if column.name == "source" else cell
        for column, cell in zip(columns, cells, strict=True)
    ]


def _fitted(columns: list[Column], rows: list[list[Cell]]) -> tuple[list[Column], list[list[Cell]], list[str]]:
    """Columns and rows in the terminal's width, and the names of the columns that had to go."""
    room = shutil.get_terminal_size((80, 24)).columns
    dropped: list[str] = []

    def width(place: int) -> int:
        cells = [row[place] for row in rows]
        # A name gives way down to ten characters.
        widest = max((len(cell) if isinstance(cell, str) else min(10, len(cell.text)) for cell in cells), default=0)
        return max(widest, len(columns[place].header)) + 2

    for name in _EXPENDABLE:
        names = [column.name for column in columns]
        if sum(map(width, range(len(columns)))) - 2 <= room:
            break
        if name in names and (name != "layer" or "name" in names):
            place = names.index(name)
            columns = columns[:place] + columns[place + 1 :]
            rows = [row[:place] + row[place + 1 :] for row in rows]
            dropped.append(name)
    return columns, rows, dropped


def analyses_tables(views: Sequence[Mapping[str, Any]], elsewhere: Sequence[Elsewhere]) -> list[RenderableType]:
    """The views; those that the given results do not allow say what is missing. Then what needs more than that."""
    judged = any(view["possible"] is not None for view in views)
    rows: list[list[Cell]] = [
        [
            view["id"],
            Prose(view["title"]),
            Prose(view["source"]),
            Prose(_state(view) if judged else ", ".join(view["needs"]) or GAP),
        ]
        for view in views
    ]
    more: list[list[Cell]] = [[item.id, Prose(item.title), Prose(item.source), Prose(item.needs)] for item in elsewhere]
    advice = list(dict.fromkeys(text for view in views if judged for text in view["advice"]))
    return [
        section(
            "Views of a result",
            table(["<view", "<shows", "<from", "<in the results" if judged else "<needs"], rows),
            *(f"For what is lacking: {text[0].lower()}{text[1:]}" for text in advice),
        ),
        section("What needs more than a measurement", table(["<view", "<shows", "<from", "<needs"], more)),
        section("", "Hardware counters (D2, D12, D13, and A8 to A15 where read) need a GPU and Nsight Compute."),
    ]


def _state(view: Mapping[str, Any]) -> str:
    if not view["possible"]:
        return f"lacks {', '.join(view['missing'])}"
    return "yes, without hardware counters" if view["without_counters"] else "yes"


def _values(frame: pandas.DataFrame, columns: Sequence[Column]) -> list[list[Any]]:
    import pandas

    found = frame[[column.name for column in columns]].astype(object)
    return [[None if pandas.isna(value) else value for value in row] for row in found.to_numpy().tolist()]


def _cell(column: Column, value: Any) -> Cell:
    if column.name == "source":
        return _MARKS[value]
    if column.unit == "":
        return Name(str(value) if value else NONE)
    if value is None:
        return GAP
    match column.unit:
        case "s" | "B":
            return si(value, column.unit)
        case "share":
            return share(value)
        case "ratio":
            return times(value) if not column.counter else f"{value:.2f}"
        case "index" | "count":
            whole = int(value)
            return si(whole) if column.name in ("params", "macs") else f"{whole:,}"
        case "flop/B":
            return f"{value:.3g}"
        case "yes/no":
            words = ("mem.", "comp.") if column.name == "memory_bound" else ("yes", "no")
            return words[0] if value else words[1]
    return si(value)
