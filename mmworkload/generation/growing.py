"""A graph whose sizes grow with one length: traced at three lengths, exact at every other.

Every number in the graph (an extent, a tensor's size, bytes) is fitted as ``a + b * length`` from two traces and must
be exactly that in the third. Products of such numbers, such as multiply-accumulates, are polynomials of the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

from mmworkload.errors import ModelError
from mmworkload.generation.series import series
from mmworkload.generation.totals import Totals, of_layer
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer


class _CrookedError(Exception):
    """What does not grow along a straight line of whole numbers."""


@dataclass(frozen=True)
class Growing:
    """A graph at two lengths, and by that at all.

    ``along`` is the parameter that is the length; ``name_at`` gives the graph's name at a length. Made by :func:`grow`,
    which checks a third.
    """

    along: str
    lengths: tuple[int, int]
    graphs: tuple[LayerGraph, LayerGraph]
    name_at: Callable[[int], str] = field(compare=False)

    def at(self, length: int) -> LayerGraph:
        """The graph at any length from the shortest one on, without tracing."""
        low, high = self.graphs
        tensors = {name: self._line(item, high.tensors[name], length) for name, item in low.tensors.items()}
        return replace(
            low,
            model=self.name_at(length),
            layers=tuple(self.layer(index, length) for index in range(len(low.layers))),
            tensors=tensors,
            inputs=self._line(low.inputs, high.inputs, length),
            coverage=self._line(low.coverage, high.coverage, length),
        )

    def layer(self, index: int, length: int) -> Layer:
        """One layer of :meth:`at`."""
        low, high = self.graphs
        found: Layer = self._line(low.layers[index], high.layers[index], length)
        return found

    def mapped(self, change: Callable[[LayerGraph], LayerGraph]) -> Growing:
        """With a transformation of graphs applied; it must keep what grows on straight lines."""
        low, high = self.graphs
        return replace(self, graphs=(change(low), change(high)))

    @cached_property
    def moving(self) -> frozenset[int]:
        """Indices of the layers that change with the length."""
        low, high = self.graphs
        return frozenset(
            index for index, pair in enumerate(zip(low.layers, high.layers, strict=True)) if pair[0] != pair[1]
        )

    def layer_totals(self, start: int, steps: int, stride: int = 1) -> Iterator[tuple[Layer, Totals]]:
        """Each layer, as it is in the shortest graph, with its exact totals over the lengths ``start``, ``start +
        stride``, and so on."""
        low, high = self.graphs
        for index, layer in enumerate(low.layers):
            if index not in self.moving:
                yield layer, of_layer(low, layer).times(steps)
                continue
            degree = _degree(layer, high.layers[index])

            places = [start + place * stride for place in range(min(steps, degree + 1))]
            known = {length: of_layer(low, self.layer(index, length)) for length in places}
            yield layer, _summed(known, start, steps, stride, degree)

    def _line(self, low: Any, high: Any, length: int) -> Any:
        return _line(low, high, self.lengths, length)


def grow(traced: Callable[[int], LayerGraph], along: str, lengths: tuple[int, int, int]) -> Growing:
    """The graph that ``traced(length)`` gives, at every length; traced at these three, the last of which is checked.

    Raises ModelError, with the layer, when the graph is another one there than the line through the first two says.
    """
    first, second, third = lengths
    low, high, held = traced(first), traced(second), traced(third)
    where = f"{low.model} does not grow evenly with {along}"
    for other in (high, held):
        for one, two in zip(low.layers, other.layers, strict=False):
            if (one.name, one.op) != (two.name, two.op):
                raise ModelError(f"{where}: layer '{one.name}' ({one.op}) is '{two.name}' ({two.op}) in {other.model}")
        if len(low.layers) != len(other.layers) or set(low.tensors) != set(other.tensors):
            raise ModelError(f"{where}: {len(low.layers)} layers there and {len(other.layers)} in {other.model}")
    known = {first: low.model, second: high.model, third: held.model}
    found = Growing(along, (first, second), (low, high), _names(known, along))
    for index, (item, expected) in enumerate(zip(low.layers, held.layers, strict=True)):
        _check(lambda index=index: found.layer(index, third), expected, f"{where}: layer '{item.name}'", third)  # type: ignore[misc]
    for name, tensor in held.tensors.items():
        _check(
            lambda name=name: found._line(low.tensors[name], high.tensors[name], third),  # type: ignore[misc]
            tensor,
            f"{where}: tensor '{name}'",
            third,
        )
    return found


def _summed(known: dict[int, Totals], start: int, steps: int, stride: int, degree: int) -> Totals:
    """Each total over all steps, from those at the first few."""

    def total(name: str) -> int:
        return series(lambda length: getattr(known[length], name), start, steps, stride, degree)

    return Totals(**{item.name: total(item.name) for item in fields(Totals)})


def _check(make: Callable[[], Any], expected: Any, what: str, length: int) -> None:
    try:
        made = make()
    except _CrookedError as error:
        raise ModelError(f"{what}: {error}") from error
    if made != expected:
        raise ModelError(f"{what}: at {length} it is {expected}, and the line through the other two says {made}")


def _names(known: dict[int, str], along: str) -> Callable[[int], str]:
    """A graph's name at a length: the base, and the settings with the length among them."""

    def name_at(length: int) -> str:
        if length in known:
            return known[length]
        base, _, query = next(iter(known.values())).partition("?")
        kept = [part for part in query.split("&") if part and part.partition("=")[0] != along]
        return f"{base}?" + "&".join([f"{along}={length}", *kept])

    return name_at


def _line(low: Any, high: Any, lengths: tuple[int, int], length: int) -> Any:
    """``low`` at the first length and ``high`` at the second, at another: numbers on their line, all else equal."""
    if low == high:
        return low
    if type(low) is not type(high):
        raise _CrookedError(f"{low!r} becomes {high!r}")
    if is_dataclass(low):
        changed = {
            item.name: _line(getattr(low, item.name), getattr(high, item.name), lengths, length) for item in fields(low)
        }
        return replace(low, **changed)  # type: ignore[type-var]
    if isinstance(low, tuple):
        if len(low) != len(high):
            raise _CrookedError(f"{low} becomes {high}")
        return tuple(_line(one, two, lengths, length) for one, two in zip(low, high, strict=True))
    if type(low) is int:
        rise, run = (high - low) * (length - lengths[0]), lengths[1] - lengths[0]
        if rise % run:
            raise _CrookedError(f"{low} and {high} have no whole number at {length} between them")
        return low + rise // run
    raise _CrookedError(f"{low!r} becomes {high!r}")


def _degree(low: Layer, high: Layer) -> int:
    """The degree of the polynomial that a layer's products are: how many extents of one loop nest grow."""
    degree = 1
    for one, two in zip(low.work, high.work, strict=True):
        before, after = one.problem.extents, two.problem.extents
        degree = max(degree, sum(before[dim] != after.get(dim) for dim in before) + (one.count != two.count))
    return degree
