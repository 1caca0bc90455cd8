"""The tables of ``analyze``: a view of results, and the list of views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.analyzing.view import COLUMNS, View
from mmworkload.reporting.tables.common import TOP
from mmworkload.reporting.terminal import Cell, Name, Prose, bullets, section, table
from mmworkload.reporting.units import GAP, plural, share, si, times

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

    from mmworkload.analyzing.multimodal import Elsewhere
    from mmworkload.analyzing.view import Column

NONE = "(none)"


def analysis_tables(view: View, frame: pandas.DataFrame, *, every: bool = False) -> list[RenderableType]:
    """The view's table, its largest rows where there are many, and what to mind.

    What is the same in all of several rows is said above the table, and counters that were not read are left out.
    """
    notes = list(frame.attrs.get("notes", ()))
    shown = frame
    if view.largest and not every and len(frame) > TOP:
        key = view.largest if view.largest in frame else next(c for c in frame if COLUMNS[c].unit == "s")
        shown = frame.loc[frame.sort_values(key, ascending=False, kind="stable").index[:TOP].sort_values()]
        notes.insert(0, f"The {TOP} largest of {plural(len(frame), 'row')}; --all lists every one.")
    same = [
        name
        for name in ("model", "batch", "device", "source", "timed_by")
        if name in frame and len(frame) > 1 and frame[name].nunique() == 1 and frame[name].iloc[0] != ""
    ]
    unread = [name for name in frame if COLUMNS[name].counter and frame[name].isna().all()]
    undecided = [name for name in frame if name == "memory_bound" and frame[name].isna().all()]
    columns = [COLUMNS[name] for name in frame if name not in (*same, *unread, *undecided)]
    rows = [
        [_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in _values(shown, columns)
    ]
    heads = [f"{'<' if column.unit in ('', 'yes/no') else '>'}{column.header}" for column in columns]
    said = [", ".join(f"{COLUMNS[name].header} {frame[name].iloc[0]}" for name in same)] if same else []
    parts: list[RenderableType] = [
        section(f"{view.id}: {view.title}", view.source, *said, "", table(heads, rows, tight=len(columns) > 6))
    ]
    if not len(frame):
        parts.append(section("", "No rows: nothing in the result is of this kind."))
    return [*parts, *([section("What to mind", bullets(notes))] if notes else [])]


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
    return [
        section(
            "Views of a result", table(["<view", "<shows", "<from", "<in the results" if judged else "<needs"], rows)
        ),
        section("What needs more than a measurement", table(["<view", "<shows", "<from", "<needs"], more)),
        section("", "Hardware counters (D2, D12, D13, and A8 to A15 where read) need a GPU and Nsight Compute."),
    ]


def _state(view: Mapping[str, Any]) -> str:
    return "yes" if view["possible"] else f"no {' and no '.join(view['missing'])}"


def _values(frame: pandas.DataFrame, columns: Sequence[Column]) -> list[list[Any]]:
    import pandas

    found = frame[[column.name for column in columns]].astype(object)
    return [[None if pandas.isna(value) else value for value in row] for row in found.to_numpy().tolist()]


def _cell(column: Column, value: Any) -> Cell:
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
            return "yes" if value else "no"
    return si(value)
