"""Running ZigZag: the only module that imports it. Its stages are called directly, without plots and dumps.

This file is copied into every export, so it needs zigzag-dse and nothing of mmworkload.

Temporal orders: ZigZag's own engine (LOMA) tries every order of the loops, split into up to as many factors as the
effort allows; with more loops than that it would still try every order, hours for a 3-D convolution. There, loops that
stay together in practice (the kernel's, the output's) are moved as one block until the orders are few enough.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from zigzag.cost_model.cost_model import CostModelEvaluation
from zigzag.datatypes import LayerDim
from zigzag.mapping.data_movement import DataDirection, DataMoveAttr
from zigzag.mapping.temporal_mapping import TemporalMapping, TemporalMappingType
from zigzag.opt.loma.engine import LomaEngine, NoValidLoopOrderingFoundException
from zigzag.opt.loma.memory_allocator import (
    MemoryAllocator,
    MemoryHierarchyTooSmallException,
    MemoryTooSmallException,
)
from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
from zigzag.stages.main import MainStage
from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
from zigzag.stages.parser.accelerator_parser import AcceleratorParserStage
from zigzag.stages.parser.workload_parser import WorkloadParserStage
from zigzag.stages.stage import Stage
from zigzag.stages.workload_iterator import WorkloadStage

_DIRECTIONS = {
    False: (DataDirection.RD_OUT_TO_LOW, DataDirection.RD_OUT_TO_HIGH),
    True: (DataDirection.WR_IN_BY_LOW, DataDirection.WR_IN_BY_HIGH),
}


class RefusedError(Exception):
    """ZigZag refuses an input, or no order of the loops fits the memories."""


@dataclass(frozen=True)
class Movement:
    """Transfers of one operand at one level (0 is the innermost that holds it) in one direction: ``bits`` at a time,
    ``times`` over all instances of the level."""

    operand: str
    level: int
    write: bool
    bits: float
    times: float


@dataclass(frozen=True)
class Found:
    """ZigZag's best answer for one spatial mapping.

    ``cycles`` as ZigZag counts them, ``dram_cycles`` what its own transfers need at the outermost memory (more, at
    times), ``passes`` the steps of an array that never waits, ``elements`` the size of each operand, ``movements`` all
    transfers, ``orders`` the loop orders that were tried.
    """

    cycles: int
    dram_cycles: int
    passes: int
    macs: int
    elements: dict[str, int]
    movements: tuple[Movement, ...]
    mapping: str
    orders: int


def search(
    folder: Path, workload: str, accelerator: str, mapping: str, *, most_loops: int, dram_bits: tuple[float, float]
) -> Found:
    """ZigZag's answer for the files of these names in ``folder``.

    ``dram_bits`` are those that the outermost memory reads and writes in a cycle. ``most_loops`` bounds the search: as
    many loops are ordered in every way. Raises RefusedError when no order fits the memories or ZigZag refuses an
    input.
    """
    complaints = _listen()
    try:
        answers = MainStage(
            [
                WorkloadParserStage,
                AcceleratorParserStage,
                WorkloadStage,
                SpatialMappingGeneratorStage,
                _BestOrderStage,
                CostModelStage,
            ],
            workload=yaml.safe_load((folder / workload).read_text()),
            accelerator=str(folder / accelerator),
            mapping=str(folder / mapping),
            most_loops=most_loops,
            dram_bits=dram_bits,
            access_same_data_considered_as_no_access=True,
        ).run()
    except NoValidLoopOrderingFoundException:
        raise RefusedError("no order of the loops fits the memories") from None
    except (ValueError, AssertionError, KeyError) as error:
        reason = "; ".join(complaints) or f"{type(error).__name__}: {error}"
        raise RefusedError(f"ZigZag refused its input: {reason}") from error
    # Each stage wraps what it passes on: the layer, the spatial mapping, and what our own stage says.
    evaluation, (_, (_, orders)) = answers[0]
    return _found(evaluation, orders, dram_bits)


def _listen() -> list[str]:
    """Silences ZigZag's loggers; gives the list that collects its reasons for refusing an input."""
    complaints: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.getMessage())

    logger = logging.getLogger("zigzag")
    logger.setLevel(logging.CRITICAL)
    logger.propagate = False
    logger.handlers = [Collector()]
    return complaints


class _BestOrderStage(Stage):
    """Evaluates temporal orders; passes on the evaluation with the fewest cycles, then the least energy."""

    def __init__(
        self, list_of_callables: list[Any], *, most_loops: int, dram_bits: tuple[float, float], **kwargs: Any
    ) -> None:
        super().__init__(list_of_callables, **kwargs)
        self.most_loops, self.dram_bits = most_loops, dram_bits

    def run(self) -> Iterator[tuple[CostModelEvaluation, int]]:
        best: tuple[tuple[float, float], CostModelEvaluation] | None = None
        orders = 0
        for temporal_mapping in _Orders(self.most_loops, self.kwargs).run():
            orders += 1
            stage = self.list_of_callables[0](
                self.list_of_callables[1:], temporal_mapping=temporal_mapping, **self.kwargs
            )
            for evaluation, _ in stage.run():
                cycles = max(evaluation.latency_total2, _dram_cycles(evaluation, self.dram_bits))
                cost = (cycles, evaluation.energy_total)
                if best is None or cost < best[0]:
                    best = (cost, evaluation)
        if best is None:
            raise NoValidLoopOrderingFoundException
        yield best[1], orders


def _dram_cycles(evaluation: CostModelEvaluation, dram_bits: tuple[float, float]) -> int:
    """Cycles that ZigZag's transfers from and to the outermost memory take at its bandwidths."""
    moved = {False: 0.0, True: 0.0}
    for operand in evaluation.layer.layer_operands:
        outermost = len(evaluation.mapping.unit_mem_data_movement[operand]) - 1
        for item in _movements(evaluation, operand, outermost):
            moved[item.write] += item.bits * item.times
    return max(math.ceil(moved[False] / dram_bits[0]), math.ceil(moved[True] / dram_bits[1]))


def _movements(evaluation: CostModelEvaluation, operand: Any, level: int) -> Iterator[Movement]:
    pattern = evaluation.mapping.unit_mem_data_movement[operand][level]
    instances = evaluation.mapping.spatial_mapping.unit_count[operand][level + 1]
    amounts = pattern.get_attribute(DataMoveAttr.DATA_TRANS_AMOUNT_PER_PERIOD)
    precisions = pattern.get_attribute(DataMoveAttr.DATA_PRECISION)
    periods = pattern.get_attribute(DataMoveAttr.DATA_TRANS_PERIOD_COUNT)
    for write, directions in _DIRECTIONS.items():
        for direction in directions:
            bits = amounts.get(direction) * precisions.get(direction)
            times = periods.get(direction) * instances
            if bits and times:
                yield Movement(operand.name, level, write, bits, times)


class _Orders(LomaEngine):
    """LOMA with exact loop counts, and with blocks of loops where there are too many to try every order."""

    def __init__(self, most_loops: int, stage: dict[str, Any]) -> None:
        super().__init__(
            accelerator=stage["accelerator"],
            layer=stage["layer"],
            spatial_mapping=stage["spatial_mapping"],
            mapping_type=TemporalMappingType.UNEVEN,
            loma_lpf_limit=most_loops,
        )
        self.most_loops = most_loops

    def get_temporal_loops(self) -> dict[LayerDim, int]:
        """Loop to the steps that the array leaves of it.

        ZigZag's own rounds up a quotient of floats, and 34 / (34 / 7) is a little more than 7.
        """
        unrolled: dict[LayerDim, float] = {}
        for dim, factor in self.spatial_mapping.spatial_loop_dim_size:
            unrolled[dim] = unrolled.get(dim, 1) * factor
        steps = {
            dim: math.ceil(round(extent / unrolled.get(dim, 1), 6))
            for dim, extent in self.layer.layer_dim_sizes.items()
        }
        return {dim: count for dim, count in steps.items() if count > 1}

    def run(self) -> Iterator[TemporalMapping]:
        loops = self.get_temporal_loops()
        if len(loops) <= self.most_loops:
            yield from super().run()
            return
        for order in itertools.permutations(self._blocks(loops)):
            try:
                yield MemoryAllocator(
                    self.accelerator, self.layer, self.spatial_mapping, list(itertools.chain(*order)), self.mapping_type
                ).run()
            except (MemoryHierarchyTooSmallException, MemoryTooSmallException):
                continue

    def _blocks(self, loops: dict[LayerDim, int]) -> list[list[tuple[LayerDim, int]]]:
        """As many blocks as the effort allows, each innermost loop first.

        Joined are first the smallest blocks of one kind: those that move the same operands in the same way (all loops
        of the kernel, all of the output's axes), then the smallest of all.
        """
        relevancy = self.layer.loop_relevancy_info
        windows = {dim for pair in self.layer.pr_loop.values() for dim in pair}

        def kind(block: list[tuple[LayerDim, int]]) -> tuple[object, ...]:
            dim = block[0][0]
            moved = (dim in relevancy.get_r_layer_dims(operand) for operand in self.layer.layer_operands)
            return (dim in windows, *moved)

        def size(block: list[tuple[LayerDim, int]]) -> int:
            return math.prod(count for _, count in block)

        blocks = [[loop] for loop in sorted(loops.items(), key=lambda loop: loop[1])]
        while len(blocks) > self.most_loops:
            pairs = list(itertools.combinations(blocks, 2))
            alike = [pair for pair in pairs if kind(pair[0]) == kind(pair[1])]
            first, second = min(alike or pairs, key=lambda pair: size(pair[0]) * size(pair[1]))
            blocks = [block for block in blocks if block is not first and block is not second]
            blocks.append([*first, *second])
        return blocks


def _found(evaluation: CostModelEvaluation, orders: int, dram_bits: tuple[float, float]) -> Found:
    moved = evaluation.mapping.unit_mem_data_movement
    movements = [
        item
        for operand in moved
        for level in range(len(moved[operand]))
        for item in _movements(evaluation, operand, level)
    ]
    layer = evaluation.layer
    return Found(
        cycles=math.ceil(evaluation.latency_total2),
        dram_cycles=_dram_cycles(evaluation, dram_bits),
        passes=round(evaluation.ideal_temporal_cycle),
        macs=int(layer.total_mac_count),
        elements={operand.name: int(size) for operand, size in layer.operand_size_elem.items()},
        movements=tuple(movements),
        mapping=_mapping_text(evaluation),
        orders=orders,
    )


def _mapping_text(evaluation: CostModelEvaluation) -> str:
    """The loops on the array, then for each operand the loops of each level, innermost first."""
    lines = [f"array {evaluation.layer.spatial_mapping}"]
    for operand, levels in evaluation.temporal_mapping.mapping_dic_origin.items():
        text = " | ".join(" ".join(f"{dim}={count}" for dim, count in level) or "-" for level in levels)
        lines.append(f"{operand}: {text}")
    return "\n".join(lines)
