"""The closed form of SCALE-Sim's systolic array, and which of its dataflows an architecture stands for.

An array of ``rows`` by ``columns`` keeps one matrix in place, a tile at a time (a fold), and the others pass through:

==  =======================  ============  ===============  =========================================
\\-   stays in place           rows hold     columns hold     cycles of one fold
==  =======================  ============  ===============  =========================================
ws  weights                  K             N                M + 2 rows + columns - 2
is  inputs                   K             M                N + 2 rows + columns - 2
os  outputs                  M             N                K + rows + columns - 2
==  =======================  ============  ===============  =========================================

All folds take as long as a full one. This is the analytical model of Samajdar et al., ISPASS 2020, with two differences
of version 3.0.0: it does not charge the draining of the outputs in ``os``, and reports the number of the last cycle,
counted from 0, so that one is missing. Recorded runs of the tool agree in every cycle (tests/fixtures/scalesim).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmworkload.arch import Architecture
from mmworkload.exporters.scalesim.product import Product

Name = Literal["ws", "is", "os"]
# Which extent of the product the rows and the columns of the array hold.
_HELD: dict[Name, tuple[str, str]] = {"ws": ("k", "n"), "is": ("k", "m"), "os": ("m", "n")}
_LETTERS = {"m": "NPQO", "n": "M", "k": "CRST"}
_WORDS: dict[Name, str] = {"ws": "weight stationary", "is": "input stationary", "os": "output stationary"}
_SIDES = {"m": "output pixels", "n": "output channels", "k": "the reduction"}


@dataclass(frozen=True)
class Dataflow:
    """A dataflow on an array. ``rows_on`` is the architecture's axis (``x`` or ``y``) that is SCALE-Sim's rows."""

    name: Name
    rows: int
    columns: int
    rows_on: str

    def __str__(self) -> str:
        on_rows, on_columns = (_SIDES[side] for side in _HELD[self.name])
        columns_on = "x" if self.rows_on == "y" else "y"
        return f"{_WORDS[self.name]}, {on_rows} along {self.rows_on}, {on_columns} along {columns_on}"

    def folds(self, item: Product) -> tuple[int, int]:
        """(row folds, column folds) of one product."""
        on_rows, on_columns = _HELD[self.name]
        return -(-getattr(item, on_rows) // self.rows), -(-getattr(item, on_columns) // self.columns)

    def cycles(self, item: Product) -> int:
        """Cycles of one of the products."""
        row_folds, column_folds = self.folds(item)
        fill = {"ws": item.m + 2 * self.rows, "is": item.n + 2 * self.rows, "os": item.k + self.rows}[self.name]
        return row_folds * column_folds * (fill + self.columns - 2) - 1

    def edge_elements(self, item: Product) -> EdgeElements:
        """What one product moves between the array and its buffers, in elements.

        Reads are as the tool counts them. Its writes are too, but for ``os``, where it also counts empty places.
        """
        row_folds, column_folds = self.folds(item)
        inputs, weights, outputs = item.m * item.k, item.n * item.k, item.m * item.n
        if self.name == "os":
            return EdgeElements(inputs * column_folds, weights * row_folds, outputs, 0)
        if self.name == "ws":
            inputs *= column_folds
        else:
            weights *= column_folds
        return EdgeElements(inputs, weights, outputs * row_folds, outputs * (row_folds - 1))


@dataclass(frozen=True)
class EdgeElements:
    """Elements read into the array, written out of it, and partial sums read back."""

    ifmap_read: int
    filter_read: int
    ofmap_written: int
    ofmap_read: int


def choose(arch: Architecture) -> Dataflow | None:
    """The dataflow whose two sides the array's axes prefer most; None when its axes allow no dataflow.

    An axis prefers what it lists first. Among equals the order is ``ws``, ``is``, ``os``, and rows along y.
    """
    best: tuple[int, Dataflow] | None = None
    for name, (on_rows, on_columns) in _HELD.items():
        for rows_on in ("y", "x"):
            array = arch.array
            rows_dims, columns_dims = array.y_dims, array.x_dims
            rows, columns = array.y, array.x
            if rows_on == "x":
                rows_dims, columns_dims, rows, columns = columns_dims, rows_dims, columns, rows
            row_rank, column_rank = _rank(rows_dims, on_rows), _rank(columns_dims, on_columns)
            if row_rank is None or column_rank is None:
                continue
            cost = row_rank + column_rank
            if best is None or cost < best[0]:
                best = (cost, Dataflow(name, rows, columns, rows_on))
    return best[1] if best else None


def _rank(dims: tuple[str, ...], side: str) -> int | None:
    """The place of the first dimension of ``side``; None when there is none."""
    return next((place for place, dim in enumerate(dims) if dim in _LETTERS[side]), None)
