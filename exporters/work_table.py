"""A workload as one table for everybody else: one row a work item (see :mod:`mmworkload.exporters.work_items`).

Numbers that a row does not have (the dimensions of a layer without a loop nest) are empty. A dimension, stride or
dilation that a loop nest does not have is 1, a padding 0. ``problem`` is the whole loop nest, which says all of it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmworkload.arch import Architecture
from mmworkload.exporters.work_items import WorkItem, work_items
from mmworkload.exporting import Export
from mmworkload.files import write_atomic
from mmworkload.graph import Workload
from mmworkload.layer import Work
from mmworkload.problem import LEGEND, SPATIAL, Operand, Problem

Value = str | int | float | bool | None
Kind = Literal["string", "integer", "number", "boolean"]
DESCRIPTION = "columns.csv"
_NAMES = ("Inputs", "Weights", "Outputs")


@dataclass(frozen=True)
class Column:
    """One column; ``value`` gives what stands there, None for an empty field."""

    name: str
    kind: Kind
    meaning: str
    value: Callable[[WorkItem], Value]


def export_table(
    name: str,
    file: str,
    content: Callable[[list[Column], list[list[Value]]], bytes],
    reader: str,
    workload: Workload,
    arch: Architecture,
    directory: Path,
    versions: dict[str, str],
) -> Export:
    """Writes the table as ``file`` and what its columns mean as ``columns.csv``. Nothing is left out.

    The table has the traced precision and does not depend on ``arch``. ``reader`` is the pandas function that reads it.
    """
    items = list(work_items(workload))
    columns = table_columns()
    write_atomic(directory / file, content(columns, [[column.value(item) for column in columns] for item in items]))
    write_atomic(directory / DESCRIPTION, _description(columns))
    return Export(
        target=name,
        model=workload.name,
        arch=arch.name,
        rows=tuple(
            item.manifest_row(f"{file}#{item.work.problem.key}" if item.work else file, excluded="") for item in items
        ),
        files=tuple(sorted((file, DESCRIPTION))),
        run_command=f"python -c \"import pandas; print(pandas.{reader}('{file}'))\"",
        versions=dict(versions),
        contents={file: "the table, a row for each loop nest of each layer", DESCRIPTION: "what its columns mean"},
    )


def csv_text(columns: list[Column], rows: list[list[Value]]) -> str:
    """CSV as RFC 4180 has it, but for line ends (LF): empty fields for None, ``true`` and ``false``."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows([str(value).lower() if isinstance(value, bool) else value for value in row] for row in rows)
    return stream.getvalue()


def _description(columns: list[Column]) -> str:
    about = [Column(name, "string", "", lambda item: None) for name in ("column", "type", "meaning")]
    return csv_text(about, [[column.name, column.kind, column.meaning] for column in columns])


def table_columns() -> list[Column]:
    """All columns, in order."""
    return [*_layer_columns(), *_work_columns(), *_shape_columns(), *_operand_columns(), *_last_columns()]


def _layer_columns() -> list[Column]:
    return [
        Column("model", "string", "workload and variant", lambda item: item.part.graph.model),
        Column("batch", "integer", "samples of one forward pass", lambda item: item.part.graph.batch),
        Column("dtype", "string", "floating-point type as traced", lambda item: item.part.graph.dtype),
        Column("part", "string", "phase of the workload; empty when it has one", lambda item: item.part.name),
        Column("part_count", "number", "how often the phase runs for one sample", lambda item: float(item.part.count)),
        Column("layer", "string", "name in the graph of its phase", lambda item: item.layer.name),
        Column("op", "string", "operator family", lambda item: item.layer.op),
        Column("category", "string", "kernel category", lambda item: item.layer.category),
        Column("stage", "string", "preprocess, encoder/<modality>, fusion or head", lambda item: item.layer.stage),
        Column("modality", "string", "the only modality that reaches it, or empty", lambda item: item.layer.modality),
        Column("module", "string", "dotted path of the module", lambda item: item.layer.module),
        Column("placement", "string", "device or host", lambda item: item.layer.placement),
        Column("dead", "boolean", "no output depends on it", lambda item: item.layer.dead),
    ]


def _work(get: Callable[[Work], Value]) -> Callable[[WorkItem], Value]:
    return lambda item: None if item.work is None else get(item.work)


def _problem(get: Callable[[Problem], Value]) -> Callable[[WorkItem], Value]:
    return lambda item: None if item.work is None else get(item.work.problem)


def _work_columns() -> list[Column]:
    return [
        Column("work", "integer", "number of the loop nest in its layer, from 0", _work_number),
        Column("count", "integer", "how often the layer runs the loop nest", _work(lambda work: work.count)),
        Column("sequential", "boolean", "each run needs the one before", _work(lambda work: work.sequential)),
        Column("operation", "string", "mac; mul: products without a sum", _problem(lambda item: item.operation)),
        Column("macs", "integer", "points of the loop nest, one run", _problem(lambda item: item.macs)),
        Column("useful_macs", "integer", "the part under an attention mask", _problem(lambda item: item.useful_macs)),
        Column("total_macs", "integer", "macs times count", _work(lambda work: work.macs)),
    ]


def _work_number(item: WorkItem) -> Value:
    return None if item.work is None else item.index


def _shape_columns() -> list[Column]:
    found = [Column(dim, "integer", f"extent of dimension {dim}", _problem(_extent(dim))) for dim in LEGEND]
    found.append(Column("other_dims", "string", "dimensions of an einsum beyond those", _problem(_other_dims)))
    for place, (outer, tap) in SPATIAL.items():
        found += [
            Column(f"stride_{place}", "integer", f"coefficient of {outer}", _problem(_coefficient(outer))),
            Column(f"dilation_{place}", "integer", f"coefficient of {tap}", _problem(_coefficient(tap))),
            Column(f"pad_low_{place}", "integer", "zeros before, or cropped", _problem(_padding(outer, tap, 0))),
            Column(f"pad_high_{place}", "integer", "zeros after, or cropped", _problem(_padding(outer, tap, 1))),
        ]
    found.append(
        Column("scattered", "boolean", "transposed: strides are the output's", _problem(lambda item: item.scattered))
    )
    return found


def _extent(dim: str) -> Callable[[Problem], Value]:
    return lambda problem: problem.extents.get(dim, 1)


def _other_dims(problem: Problem) -> Value:
    return " ".join(f"{dim}={extent}" for dim, extent in problem.dims if dim not in LEGEND)


def _coefficient(dim: str) -> Callable[[Problem], Value]:
    return lambda problem: problem.coefficient(dim)


def _padding(outer: str, tap: str, end: int) -> Callable[[Problem], Value]:
    def value(problem: Problem) -> Value:
        for axis in problem.windowed.axes if problem.windowed else ():
            if {outer, tap} & {letter for letter, _ in axis.terms}:
                return (axis.pad_low, axis.pad_high)[end]
        return 0

    return value


def _operand_columns() -> list[Column]:
    found = []
    for name in _NAMES:
        label = name.lower()
        found += [
            Column(f"{label}_role", "string", "weight, input or output", _operand(name, lambda p, o: o.role)),
            Column(f"{label}_bits", "integer", "of one element as traced", _operand(name, lambda p, o: o.bits)),
            Column(f"{label}_elements", "integer", "that the tensor has", _operand(name, Problem.tensor_size)),
            Column(f"{label}_bytes", "integer", "of the tensor, packed", _operand(name, Problem.operand_bytes)),
            Column(
                f"{label}_footprint", "integer", "elements of the index range, with padding", _operand(name, _footprint)
            ),
        ]
    return found


def _footprint(problem: Problem, operand: Operand) -> Value:
    return problem.footprint(operand)


def _operand(name: str, get: Callable[[Problem, Operand], Value]) -> Callable[[WorkItem], Value]:
    def value(problem: Problem) -> Value:
        return next((get(problem, operand) for operand in problem.operands if operand.name == name), None)

    return _problem(value)


def _last_columns() -> list[Column]:
    """Bytes and operations of the layer stand on its first row and are 0 on others, so that rows add up."""

    def weight_bytes(item: WorkItem) -> int:
        tensors = item.part.graph.tensors
        return sum(size for name, size in item.layer.reads if tensors[name].kind == "weight")

    first = "; on the layer's first row"
    return [
        Column("read_bytes", "integer", "that the layer reads" + first, _once(lambda item: item.layer.read_bytes)),
        Column("write_bytes", "integer", "that the layer writes" + first, _once(lambda item: item.layer.write_bytes)),
        Column("weight_bytes", "integer", "the part of read_bytes that is weights", _once(weight_bytes)),
        Column("vector_ops", "integer", "elementwise operations" + first, _once(lambda item: item.layer.vector_ops)),
        Column("mask", "string", "attention mask: kind(rows, columns, offset, window)", _problem(_mask)),
        Column("problem", "string", "the loop nest as docs/json.md explains it", _problem(str)),
        Column("problem_key", "string", "equal for equal loop nests", _problem(lambda problem: problem.key)),
        Column("assumptions", "string", "what depends on data and was fixed", _assumptions),
    ]


def _once(get: Callable[[WorkItem], int]) -> Callable[[WorkItem], Value]:
    return lambda item: 0 if item.index else get(item)


def _assumptions(item: WorkItem) -> Value:
    return "; ".join(item.layer.assumptions)


def _mask(problem: Problem) -> Value:
    return str(problem.mask) if problem.mask else ""
