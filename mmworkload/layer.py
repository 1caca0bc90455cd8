"""A node of the layer graph, the tensors it touches and the loop nests it runs. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mmworkload.problem import Problem

TensorKind = Literal["input", "weight", "activation", "state", "constant"]
TENSOR_KINDS: tuple[TensorKind, ...] = ("input", "weight", "activation", "state", "constant")
Placement = Literal["device", "host"]

# MMBench's eight kernel categories (IISWC 2023, section on kernel breakdown), judged by operator and not by kernel
# name; movement (copies, gathers, concatenations) is its own category here, "Other" there.
CATEGORIES = ("Conv", "Gemm", "BNorm", "Elewise", "Pooling", "Relu", "Reduce", "Movement", "Other")


@dataclass(frozen=True)
class Tensor:
    """One value of the graph. Identity matters: two tensors with one ``storage`` share memory.

    An in-place operator writes a new tensor (a new version) with the storage of the old one; tied weights are one
    storage; views are not tensors of their own but reads of their base.
    ``shape`` in elements; ``bits`` per element as stored.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bits: int
    kind: TensorKind
    storage: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return -(-self.elements * self.bits // 8)


@dataclass(frozen=True)
class Work:
    """A problem and how often one layer runs it; ``sequential`` when each run needs the one before (a recurrence).

    The problem is kept in its canonical form, so that equal work is equal.
    """

    problem: Problem
    count: int = 1
    sequential: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "problem", self.problem.canonical())

    @property
    def macs(self) -> int:
        return self.problem.macs * self.count


@dataclass(frozen=True)
class Layer:
    """One operator of the network.

    Parameters
    ----------
    name: stable, derived from the module path.
    op: operator family (``conv2d``, ``linear``, ``lstm``, ``attention``, ...).
    stage: ``preprocess``, ``encoder/<modality>``, ``fusion``, ``head`` or ``head/<output>``; empty while undecided.
    modality: the single modality that reaches the layer, empty when none or several do.
    category: one of :data:`CATEGORIES`.
    module: dotted path of the innermost module.
    reads, writes: (tensor, bytes) pairs: the bytes that must move once, not the tensor's size (an embedding reads the
        gathered rows). Zero bytes mark a dependence without traffic.
    work: the loop nests; empty for a layer without multiply-accumulates.
    vector_ops: elementwise operations besides ``work`` (one per element and pass).
    placement: where it runs.
    assumptions: what depends on data and was fixed ("1000 proposals").
    dead: no output depends on it (eager execution runs it all the same).
    rule: how the stage was decided.
    """

    name: str
    op: str
    category: str = "Other"
    module: str = ""
    stage: str = ""
    modality: str = ""
    reads: tuple[tuple[str, int], ...] = ()
    writes: tuple[tuple[str, int], ...] = ()
    work: tuple[Work, ...] = ()
    vector_ops: int = 0
    placement: Placement = "device"
    assumptions: tuple[str, ...] = ()
    dead: bool = False
    rule: str = ""

    def __repr__(self) -> str:
        return f"<Layer {self.name!r}: {self.op}, {self.stage or 'no stage'}, {self.macs:,} MACs>"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one execution (rank-1 outer products apart)."""
        return sum(work.macs for work in self.work if work.problem.operation == "mac")

    @property
    def launches(self) -> int:
        """Kernels of one execution: each loop nest is one, and a layer is one at least."""
        return max(1, sum(work.count for work in self.work))

    @property
    def useful_macs(self) -> int:
        """The part of :attr:`macs` under attention masks."""
        return sum(work.problem.useful_macs * work.count for work in self.work if work.problem.operation == "mac")

    @property
    def outer_macs(self) -> int:
        """Products of rank-1 outer products, which accumulate nothing."""
        return sum(work.macs for work in self.work if work.problem.operation == "mul")

    @property
    def read_bytes(self) -> int:
        return sum(size for _, size in self.reads)

    @property
    def write_bytes(self) -> int:
        return sum(size for _, size in self.writes)

    @property
    def bytes(self) -> int:
        """Bytes read and written once each, whatever level they come from."""
        return self.read_bytes + self.write_bytes
