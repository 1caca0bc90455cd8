"""``mmworkload analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmworkload.cli.options import All, Json, command, print_json
from mmworkload.errors import MmworkloadError
from mmworkload.printing import put
from mmworkload.visible import visible_lines

if TYPE_CHECKING:
    import pandas

    from mmworkload.analyzing import View
    from mmworkload.analyzing.taken import Given


@command
def analyze(
    view: Annotated[str | None, typer.Argument(help="the analysis: A1 to A15, D1 to D15 (--list)")] = None,
    results: Annotated[list[Path] | None, typer.Argument(help="what measure -o wrote; several make one table")] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch", "-a", help="the measured device's figures, for what is memory-bound: h200, host, a file"
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="the views, what they need, and what needs more")] = False,
    all_rows: All = False,
    csv: Annotated[bool, typer.Option("--csv", help="print the table as CSV")] = False,
    json: Json = False,
) -> None:
    """A named analysis of what was measured: across-stack profiling's fifteen, and those of MMBench."""
    from mmworkload.analyzing import analyze as made
    from mmworkload.analyzing import find
    from mmworkload.reporting.tables import print_out
    from mmworkload.reporting.tables.analysis import analysis_tables

    if list_:
        # With --list, the first argument is a result as well.
        _list([*([Path(view)] if view else []), *(results or ())], json)
        return
    if view is None:
        raise MmworkloadError("name a view and a result: mmworkload analyze A11 result/; --list shows the views")
    if csv and json:
        raise MmworkloadError("--csv and --json print the same table: give one of them")
    chosen = find(view)
    frame = made(view, list(results or ()), arch=arch)
    if json:
        print_json(as_json(chosen, frame))
    elif csv:
        put(visible_lines(frame.to_csv(index=False)))
    else:
        print_out(*analysis_tables(chosen, frame, every=all_rows))


def as_json(view: View, frame: pandas.DataFrame) -> dict[str, Any]:
    """The table as plain data; null where there is no number."""
    import pandas

    from mmworkload.analyzing import COLUMNS

    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return {
        "view": view.id,
        "title": view.title,
        "source": view.source,
        "columns": [
            {"name": name, "unit": COLUMNS[name].unit, "meaning": COLUMNS[name].meaning} for name in frame.columns
        ],
        "rows": [{str(key): None if pandas.isna(value) else value for key, value in row.items()} for row in rows],
        "notes": frame.attrs["notes"],
    }


def views(results: list[Path]) -> list[dict[str, Any]]:
    """The views as plain data, with what the given results lack for each."""
    from mmworkload.analyzing import VIEWS, Taken
    from mmworkload.analyzing.taken import NEEDS
    from mmworkload.packs.measured import collect

    taken = [Taken(item) for item in collect(results)]
    listed = []
    for view in VIEWS.values():
        lacking = [NEEDS[need] for need in view.needs if not all(item.has(need) for item in taken)]
        listed.append(
            {
                "id": view.id,
                "title": view.title,
                "source": view.source,
                "needs": list(view.needs),
                "counters": view.counters,
                "possible": not lacking if taken else None,
                "missing": [given.what for given in lacking],
                "advice": list(dict.fromkeys(map(_advice, lacking))),
                "without_counters": view.counters and not all(item.counters_read for item in taken) if taken else None,
            }
        )
    return listed


def _advice(given: Given) -> str:
    return f"{given.advice}: mmworkload measure NAME -o FOLDER{given.option}"


def _list(results: list[Path], json: bool) -> None:
    found = views(results)
    if json:
        print_json(found)
        return
    from mmworkload.analyzing import ELSEWHERE
    from mmworkload.reporting.tables import print_out
    from mmworkload.reporting.tables.analysis import analyses_tables

    print_out(*analyses_tables(found, ELSEWHERE))
