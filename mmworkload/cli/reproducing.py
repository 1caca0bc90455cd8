"""``mmworkload reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import Json, command, print_json
from mmworkload.errors import MmworkloadError
from mmworkload.printing import put_line

ALL = "all"


@command
def reproduce(
    item: Annotated[str | None, typer.Argument(help="D4, P1, ... (without one: the list), or all")] = None,
    measured: Annotated[
        list[Path] | None, typer.Option("--measured", help="a result of measure -o; may be repeated")
    ] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", "-a", help="the GPU to model, in place of the paper's: h200, a file")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="folder for Markdown and CSV files")] = None,
    json: Json = False,
) -> None:
    """Tables and figures of the papers, beside what the papers state: counted, modelled and measured."""
    from mmworkload.cli.progress import bar
    from mmworkload.outputs import require_output_folder
    from mmworkload.reporting.terminal import print_out
    from mmworkload.reproducing import Sources, find, items
    from mmworkload.reproducing import reproduce as made
    from mmworkload.reproducing.tables import item_tables, list_tables, write

    if item is None:
        if measured or arch or output:
            raise MmworkloadError("name what to reproduce: mmworkload reproduce D4, or all")
        if json:
            print_json([entry.to_dict() for entry in items()])
        else:
            print_out(*list_tables(items()))
        return
    chosen = items() if item.lower() == ALL else (find(item),)
    if output is not None:
        require_output_folder(output)
    sources = Sources(measured or (), arch)
    found, files = [], []
    with bar("reproducing") as progress:
        for done, entry in enumerate(chosen):
            progress(done, len(chosen))
            found.append(made(entry, sources=sources))
            if output:
                files += write(found[-1], output)
        progress(len(chosen), len(chosen))
    if json:
        print_json([one.to_dict() for one in found] if item.lower() == ALL else found[0].to_dict())
    elif output:
        put_line(f"{len(files)} files in {output}")
    else:
        print_out(*(part for one in found for part in item_tables(one)))
