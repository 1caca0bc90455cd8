"""The page of all analyses, from their registry.

``python -m mmworkload.analyzing.page docs/analyses.md`` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmworkload.analyzing.multimodal import ELSEWHERE
from mmworkload.analyzing.registry import VIEWS
from mmworkload.analyzing.taken import NEEDS
from mmworkload.analyzing.view import COLUMNS, View
from mmworkload.files import write_atomic

_HEAD = """\
# Analyses

Written by `python -m mmworkload.analyzing.page docs/analyses.md` from the registry of views.

`mmworkload analyze VIEW RESULT [RESULT ...]` makes the table of a view from what `mmworkload measure -o result/` wrote,
on any machine, without torch and without the device. `--json` and `--csv` give it to other programs, `--all` prints
every row. In Python, `mmworkload.analyzing.analyze("A11", "result/", arch="h200")` gives a data frame. Several results
(batches, devices, models) make one table; `model`, `batch`, `dtype` and `device` then stand in front.

`mmworkload analyze --list` lists the views; with results, it says which of them can be made.

- **XSP** is across-stack profiling, the fifteen analyses of MLModelScope (poster of SC 2019 with the public code
  rai-project/evaluation, whose columns and formulas these are); **CAL** the paper of 2022 on multi-modal networks on
  GPUs, and **MMBench** its successor (IISWC 2023).
- **Times** of layers are medians over the profiled runs, those that `measure` and `validate` state; the kernels of a
  layer share its time in the proportion of their means, so that sums hold.
- **Flops and bytes** are of hardware counters where those were read, else *ideal*: what the traced layer must compute
  and move once. The column `source` says which. Ideal figures of a layer are shared among its kernels by their time, so
  that sums hold. A group of kernels is `counters` only when all of them were read; copies and fills have no counters
  and count for nothing.
- **Memory-bound** is an arithmetic intensity below the ideal one of the device: peak flop/s over DRAM bytes/s of
  `--arch` (a GPU's published peak in the precision of the result, without structured sparsity; `host`: measured on the
  spot).
- **Kernels of no layer** (views, checks, what has no known cause) are a row with an empty name.
"""

_JSON = """\
## JSON

`--json` prints an object with `view`, `title`, `source`, `columns` (each with `name`, `unit` and `meaning`), `rows`
(each an object by column name; null where there is no number) and `notes` (the definitions that hold for the table).
`--list --json` prints a list of objects with `id`, `title`, `source`, `needs`, `counters`, `possible` (whether the
given results allow the view; null without results), `missing` (what they lack), `advice` (how to measure that), and
`without_counters` (whether columns stay empty because no hardware counters were read; null without results).
"""


def page() -> str:
    """The whole page as Markdown."""
    rows = [
        [view.id, view.title, view.source, _needs(view), ", ".join(f"`{name}`" for name in view.columns)]
        for view in VIEWS.values()
    ]
    used = {name for view in VIEWS.values() for name in view.columns} | {"model", "batch", "dtype", "device"}
    columns = [
        [f"`{column.name}`", column.unit, column.meaning + (" (counter)" if column.counter else "")]
        for column in COLUMNS.values()
        if column.name in used
    ]
    notes = [f"- {view.id}: {view.note}" for view in VIEWS.values() if view.note]
    needs = [f"- {need}: {given.what}" for need, given in NEEDS.items()]
    parts = [
        _HEAD,
        "## Views\n",
        _table(["view", "shows", "from", "needs", "columns"], rows),
        "What they need of each result, besides the end-to-end time:\n",
        "\n".join(needs) + "\n",
        "\n".join(notes) + "\n",
        "## What needs more than a measurement\n",
        _table(["analysis", "shows", "from", "needs"], ([i.id, i.title, i.source, i.needs] for i in ELSEWHERE)),
        "## Columns\n",
        _table(["column", "unit", "meaning"], columns),
        _JSON,
    ]
    return "\n".join(parts)


def _needs(view: View) -> str:
    return ", ".join([*view.needs, *(["counters where read"] if view.counters else [])])


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/analyses.md")
    write_atomic(target, page())
    print(target)
