"""The exporter: a workload and an architecture as a folder that SCALE-Sim runs.

::

    scale.cfg layout.csv     the array, its buffers and dataflow
    conv.csv                 convolutions that SCALE-Sim has a form for, one row for each unique one (-i conv)
    gemm.csv                 everything else as a matrix product, one row for each unique one (-i gemm)
    expected.csv             cycles and buffer reads of each row of the two, by the closed form
    layers.csv               every work item: its row, how often it runs, and the cycles of all runs
    run.py                   runs the rows and checks the answers
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError
from mmworkload.exporters.provenance import provenance
from mmworkload.exporters.scalesim import run
from mmworkload.exporters.scalesim.dataflow import Dataflow, choose
from mmworkload.exporters.scalesim.files import (
    CONFIG,
    CONV,
    GEMM,
    LAYOUT,
    config_text,
    conv_text,
    gemm_text,
    layout_text,
)
from mmworkload.exporters.scalesim.inexpressible import refusal
from mmworkload.exporters.scalesim.product import Convolution, Product, convolution, product
from mmworkload.exporters.scalesim.simulator import NO_DATAFLOW, TOOL_VERSION, fidelity
from mmworkload.exporters.words import in_words
from mmworkload.exporters.work_items import WorkItem, work_items
from mmworkload.exporting import Export
from mmworkload.files import write_atomic
from mmworkload.graph import Workload
from mmworkload.simulating.estimate import as_asked, floors

EXPECTED, LAYERS, SCRIPT = "expected.csv", "layers.csv", "run.py"
_EXPECTED_COLUMNS = (
    "name",
    "file",
    "M",
    "N",
    "K",
    "macs",
    "row_folds",
    "column_folds",
    "cycles",
    "ifmap_reads",
    "filter_reads",
)
_LAYER_COLUMNS = (
    *("layer", "op", "stage", "modality", "part_count", "file", "name", "M", "N", "K", "groups", "count", "sequential"),
    *("macs", "cycles", "dram_floor_cycles", "excluded"),
)


@dataclass(frozen=True)
class _Row:
    """A row of a topology: one product, and its convolution where it is written as one."""

    item: Product
    form: Convolution | None

    @property
    def name(self) -> str:
        return self.form.row_name if self.form else self.item.row_name

    @property
    def file(self) -> str:
        return CONV if self.form else GEMM


class ScaleSimExporter:
    """SCALE-Sim v3 (PyPI ``scalesim`` 3.0.0)."""

    name = "scalesim"
    description = "SCALE-Sim v3: convolution and GEMM topologies, cfg, layout, and the cycles of the closed form"

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes all files under ``directory``; a second call writes the same bytes.

        Raises ArchitectureError when the array of ``arch`` allows none of SCALE-Sim's dataflows.
        """
        dataflow = choose(arch)
        if dataflow is None:
            raise ArchitectureError(f"{arch.name}: {NO_DATAFLOW}")
        listed = [_listed(item) for item in work_items(workload)]
        unique = {row.name: row for _, row, _ in listed if row is not None}
        convolutions = [row.form for row in unique.values() if row.form]
        products = [row.item for row in unique.values() if not row.form]
        files = {
            CONFIG: config_text(arch, dataflow, _about(workload, arch, dataflow, versions)),
            LAYOUT: layout_text(),
            EXPECTED: _csv(_EXPECTED_COLUMNS, (_expected(row, dataflow) for row in unique.values())),
            LAYERS: _csv(_LAYER_COLUMNS, (_layer(*entry, dataflow, arch) for entry in listed)),
            SCRIPT: Path(run.__file__).read_text(encoding="utf-8"),
        }
        if convolutions:
            files[CONV] = conv_text(convolutions)
        if products:
            files[GEMM] = gemm_text(products)
        for name, text in files.items():
            write_atomic(directory / name, text)
        return Export(
            target=self.name,
            model=workload.name,
            arch=arch.name,
            rows=tuple(
                item.manifest_row(f"{row.file}#{row.name}" if row else "", reason) for item, row, reason in listed
            ),
            files=tuple(sorted(files)),
            run_command=f"python {SCRIPT}",
            versions=dict(versions),
            fidelity=str(in_words(fidelity(arch), workload, arch)),
            contents={
                "scale.cfg, layout.csv": "the array, its buffers and dataflow",
                "conv.csv, gemm.csv": "a row for each unique problem, as a convolution or as a matrix product",
                "expected.csv": "cycles and buffer reads of each row by the closed form",
                "layers.csv": "every layer: its row, how often it runs, and the cycles of all runs",
                "run.py": "runs the rows and compares them with expected.csv",
            },
            notes=("It needs SCALE-Sim alone: `pip install scalesim==3.0.0 'numpy<2.4'`.",),
        )


def _listed(item: WorkItem) -> tuple[WorkItem, _Row | None, str]:
    """The item, its row, and why it has none."""
    reason = refusal(item)
    if reason or item.work is None:
        return item, None, reason
    return item, _Row(product(item.work.problem), convolution(item.work.problem)), ""


def _expected(row: _Row, dataflow: Dataflow) -> list[object]:
    item, edge = row.item, dataflow.edge_elements(row.item)
    return [
        row.name,
        row.file,
        item.m,
        item.n,
        item.k,
        item.m * item.n * item.k,
        *dataflow.folds(item),
        dataflow.cycles(item),
        edge.ifmap_read,
        edge.filter_read,
    ]


def _layer(item: WorkItem, row: _Row | None, reason: str, dataflow: Dataflow, arch: Architecture) -> list[object]:
    """A line of ``layers.csv``; ``macs`` and cycles are those of all runs in one execution of the layer."""
    layer, work = item.layer, item.work
    head: list[object] = [item.name, layer.op, layer.stage, layer.modality, f"{item.part.count:g}"]
    if row is None or work is None:
        run_items: list[object] = [work.count, work.sequential, work.macs] if work else ["", "", 0]
        return [*head, "", "", "", "", "", "", *run_items, "", "", reason]
    one = row.item
    native = as_asked(work.problem, arch.bits)
    return [
        *head,
        row.file,
        row.name,
        one.m,
        one.n,
        one.k,
        one.runs,
        work.count,
        work.sequential,
        work.macs,
        dataflow.cycles(one) * one.runs * work.count,
        floors(native, arch).memory * work.count,
        "",
    ]


def _about(workload: Workload, arch: Architecture, dataflow: Dataflow, versions: dict[str, str]) -> list[str]:
    """The first lines of the configuration."""
    lines = provenance(workload, arch, versions, f"SCALE-Sim {TOOL_VERSION}")
    lines += [
        f"architecture: {arch.name}, {arch.array.x} x {arch.array.y} elements, {arch.dram.word_bits}-bit words",
        f"dataflow: {dataflow}",
        "Sizes are in units of 1024 words of the architecture: a word is one byte to SCALE-Sim. CALC counts no stalls.",
        "With InterfaceBandwidth = USER, reads obey IfmapSRAMBankBandwidth and FilterSRAMBankBandwidth, and writes",
        "Bandwidth; they are the DRAM's, in words a cycle.",
    ]
    # A line break in a name must not end the comment.
    return [" ".join(line.split()) for line in lines]


def _csv(columns: Iterable[str], rows: Iterable[list[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()
