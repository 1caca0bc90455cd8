"""The work items of a workload, one a row: what the exporters of this shelf list in their manifests.

A layer gives one item for each of its problems, and one without a problem when it has none, so that every layer is
listed and a layer's bytes are counted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmworkload.exporting import ManifestRow
from mmworkload.graph import Part, Workload
from mmworkload.layer import Layer, Work

_ATTENTION = (
    {"Inputs": "Q", "Weights": "K^T", "Outputs": "scores"},
    {"Inputs": "softmax of the scores", "Weights": "V", "Outputs": "output of the attention"},
)


@dataclass(frozen=True)
class WorkItem:
    """The ``index``-th work of a layer; ``work`` is None for a layer without a loop nest."""

    part: Part
    layer: Layer
    index: int
    work: Work | None

    @property
    def name(self) -> str:
        """The layer's name; with that of the part, because layers of different parts may have one name."""
        return f"{self.part.name}: {self.layer.name}" if self.part.name else self.layer.name

    @property
    def bytes(self) -> int:
        """Bytes that the layer reads and writes; on its first item, so that items add up."""
        return 0 if self.index else self.layer.bytes

    @property
    def operands(self) -> dict[str, str]:
        """What the operands are in attention, whose two products have the same names; empty elsewhere."""
        if self.layer.op != "attention" or len(self.layer.work) != len(_ATTENTION):
            return {}
        return dict(_ATTENTION[self.index])

    def manifest_row(self, problem_file: str, excluded: str) -> ManifestRow:
        """The row of an export's manifest; without a problem file when ``excluded`` says why."""
        problem = self.work.problem if self.work else None
        return ManifestRow(
            layer=self.name,
            op=self.layer.op,
            stage=self.layer.stage,
            modality=self.layer.modality,
            problem_file="" if excluded else problem_file,
            count=self.work.count if self.work else 1,
            sequential=self.work.sequential if self.work else False,
            macs=problem.macs if problem else 0,
            bytes=self.bytes,
            footprints={item.name: problem.footprint(item) for item in problem.operands} if problem else {},
            tensor_sizes={item.name: problem.tensor_size(item) for item in problem.operands} if problem else {},
            excluded=excluded,
            operands=self.operands,
            part_count=self.part.count,
        )


def work_items(workload: Workload) -> Iterator[WorkItem]:
    """All items, in the order of the parts and of their layers."""
    for part in workload.parts:
        for layer in part.graph:
            if not layer.work:
                yield WorkItem(part, layer, 0, None)
            for index, work in enumerate(layer.work):
                yield WorkItem(part, layer, index, work)
