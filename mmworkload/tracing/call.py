"""One operator call of a trace as lowering sees it, and the registry of lowerings. Free of torch.

A lowering is a pure function of shapes: it takes a :class:`Call` and gives a :class:`Lowered`. Register one with
``@lowers("aten.linear")``; overloads and in-place forms (``aten.add_``) share the name of the plain operator.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mmworkload.layer import Placement, Work


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor as one call sees it: possibly a view of the graph tensor called ``tensor``.

    ``shape`` is the view's; ``unique`` its elements that are distinct in memory (an expanded axis counts once).
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    bits: int
    unique: int
    is_weight: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return -(-self.unique * self.bits // 8)


@dataclass(frozen=True)
class Call:
    """``operator`` without overload and in-place mark (``aten.conv2d``), arguments by schema name with defaults filled
    in (an ``out=`` tensor is not among them), outputs."""

    operator: str
    args: dict[str, Any]
    outputs: tuple[Value, ...]
    in_place: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.args.get(name, default)

    @property
    def tensors(self) -> list[Value]:
        """All tensor arguments in order, those in lists too."""
        return list(_values(list(self.args.values())))

    @property
    def output(self) -> Value:
        return self.outputs[0]


def _values(items: Any) -> Iterator[Value]:
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _values(item)


@dataclass(frozen=True)
class Lowered:
    """What a call costs.

    ``reads`` are (value, bytes) pairs, None for every tensor argument in full; ``write_bytes`` the bytes written by
    all outputs, None for the outputs in full; ``vector_ops`` elementwise operations besides ``work``.
    """

    op: str
    category: str
    work: tuple[Work, ...] = ()
    vector_ops: int = 0
    reads: tuple[tuple[Value, int], ...] | None = None
    write_bytes: int | None = None
    assumptions: tuple[str, ...] = field(default=())
    placement: Placement = "device"


Lowering = Callable[[Call], Lowered]
_REGISTRY: dict[str, Lowering] = {}


def lowers(*operators: str) -> Callable[[Lowering], Lowering]:
    """Registers a lowering for operators such as ``aten.linear``; two lowerings of one operator are an error."""

    def register(function: Lowering) -> Lowering:
        for operator in operators:
            if operator in _REGISTRY:
                raise ValueError(f"{operator} has two lowerings: {_REGISTRY[operator]} and {function}")
            _REGISTRY[operator] = function
        return function

    return register


@cache
def registry() -> dict[str, Lowering]:
    """Every lowering by operator name; all modules of ``mmworkload.tracing.lowering`` are loaded."""
    package = importlib.import_module("mmworkload.tracing.lowering")
    for info in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{info.name}")
    return _REGISTRY


def plain(operator: str) -> str:
    """The operator without in-place mark: ``aten.add`` for ``aten.add_``, ``aten.__and__`` for ``aten.__iand__``."""
    if operator in registry():
        return operator
    namespace, _, name = operator.rpartition(".")
    if name.startswith("__i") and name.endswith("__"):
        name = "__" + name[3:]
    elif name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return f"{namespace}.{name}"


def find(operator: str) -> Lowering | None:
    """The lowering of an operator; that of ``aten.add_`` is found under ``aten.add``."""
    return registry().get(plain(operator))
