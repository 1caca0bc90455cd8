"""The designs of a sweep: axes, their enumeration, and identities that depend on the settings alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.sweeping.spec import Range, SweepSpec
from mmworkload.system import System

BASE, BATCH = "base", "batch"
"""The axes that are no path of an architecture."""


@dataclass(frozen=True)
class Axis:
    """One thing that is varied: ``values``, or any number of ``span`` where there are none. ``whole``: integers."""

    name: str
    values: tuple[Any, ...]
    span: Range | None = None
    whole: bool = False

    def at(self, share: float) -> Any:
        """The number at a share of the span, 0 to 1."""
        assert self.span is not None
        return _on(self.span, share, self.whole)


@dataclass(frozen=True)
class Design:
    """One point of the space: ``index`` is its place in the enumeration, ``point`` the value on every axis."""

    index: int
    base: str
    settings: Mapping[str, Any]
    batch: int | None
    point: Mapping[str, Any]

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits over what is set; its place in a sweep does not matter."""
        content = json.dumps([self.base, dict(sorted(self.settings.items())), self.batch], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        return ", ".join(f"{name}={_text(value)}" for name, value in self.point.items()) or self.base


class Space:
    """The axes of a sweep. ``bases`` are the architectures as they are in their files."""

    def __init__(self, spec: SweepSpec, bases: Mapping[str, Architecture | System]) -> None:
        self.spec = spec
        axes = [Axis(BASE, tuple(spec.arch.bases))]
        for path, given in spec.arch.set.items():
            whole = all(isinstance(_present(arch, path), int) for arch in bases.values())
            if isinstance(given, Range):
                values = (
                    [_on(given, step / (given.steps - 1), whole) for step in range(given.steps)] if given.steps else []
                )
                axes.append(Axis(path, tuple(dict.fromkeys(values)), given, whole))
            else:
                axes.append(Axis(path, _unique(given)))
        axes.append(Axis(BATCH, tuple(spec.batches)))
        self.axes = tuple(axes)

    @property
    def varied(self) -> tuple[Axis, ...]:
        """The axes with more than one value."""
        return tuple(axis for axis in self.axes if len(axis.values) != 1)

    @property
    def size(self) -> int | None:
        """Designs in all; None when an axis has no steps."""
        return None if self._open else math.prod(len(axis.values) for axis in self.axes)

    @property
    def _open(self) -> list[str]:
        return [axis.name for axis in self.axes if not axis.values]

    def designs(self) -> Iterator[Design]:
        """Those of a grid or a random search, in their order. FormatError for a grid over a range without steps."""
        return self.grid() if self.spec.search.method == "grid" else self.random()

    def count(self) -> int:
        """How many designs are evaluated."""
        if self.spec.search.method == "grid":
            self._require_steps()
            return self.size or 0
        return self.spec.search.designs if self.size is None else min(self.spec.search.designs, self.size)

    def grid(self) -> Iterator[Design]:
        """All designs; the last axis varies fastest."""
        self._require_steps()
        for index, values in enumerate(itertools.product(*(axis.values for axis in self.axes))):
            yield self.design(index, dict(zip((axis.name for axis in self.axes), values, strict=True)))

    def random(self) -> Iterator[Design]:
        """As many different designs as the budget says, the same for the same seed."""
        source = random.Random(self.spec.search.seed)
        budget = self.count()
        if self.size is not None:
            for index, place in enumerate(source.sample(range(self.size), budget)):
                yield self.design(index, self._at(place))
            return
        seen: set[str] = set()
        for _ in range(100 * budget):
            if len(seen) == budget:
                return
            point = {
                axis.name: source.choice(axis.values) if axis.values else axis.at(source.random()) for axis in self.axes
            }
            found = self.design(len(seen), point)
            if found.id not in seen:
                seen.add(found.id)
                yield found

    @property
    def first(self) -> Design:
        """The design with the first value on every axis."""
        return self.design(0, {axis.name: axis.values[0] if axis.values else axis.at(0.0) for axis in self.axes})

    def design(self, index: int, point: Mapping[str, Any]) -> Design:
        """The design at a point."""
        settings = {axis.name: point[axis.name] for axis in self.axes if axis.name not in (BASE, BATCH)}
        shown = {axis.name: point[axis.name] for axis in self.varied}
        return Design(index, point[BASE], settings, point[BATCH], shown)

    def _at(self, place: int) -> dict[str, Any]:
        """The point at a place of the grid."""
        point = {}
        for axis in reversed(self.axes):
            place, digit = divmod(place, len(axis.values))
            point[axis.name] = axis.values[digit]
        return point

    def _require_steps(self) -> None:
        if self._open:
            raise FormatError(
                f"arch.set.{self._open[0]}: a grid needs the number of steps of a range; give steps, or another"
                " search method"
            )


def architecture_of(
    design: Design, bases: Mapping[str, Architecture | System], estimator: Any
) -> Architecture | System:
    """The architecture with the design's settings. ArchitectureError when it is not consistent."""
    from mmworkload.overriding import overridden

    base = bases[design.base]
    if isinstance(base, System):
        return base.each(design.settings, lambda arch, own: overridden(arch, own, estimator=estimator))
    return overridden(base, design.settings, estimator=estimator)


def require_paths(spec: SweepSpec, bases: Mapping[str, Architecture | System], where: str = "sweep") -> None:
    """FormatError with the YAML path for a setting that an architecture does not have; the nearest one is suggested."""
    from mmworkload.overriding import overridden, paths

    for name, base in bases.items():
        for setting in spec.arch.set:
            owner, _, path = setting.rpartition(":")
            try:
                if isinstance(base, System):
                    base.each({setting: None}, lambda arch, own: arch)
                    arch = next(item for item in base.architectures if item.name == owner)
                else:
                    arch, path = base, setting
                if path not in paths(arch):
                    # Says what is near.
                    overridden(arch, {path: 0})
                    raise MmworkloadError(f"{name} has no parameter '{path}'")
            except MmworkloadError as error:
                raise FormatError(f"{where}: arch.set.{setting}: {error}") from error


def _present(arch: Architecture | System, setting: str) -> Any:
    """The value that the file has."""
    owner, _, path = setting.rpartition(":")
    if isinstance(arch, System):
        arch = next(item for item in arch.architectures if item.name == owner)
    else:
        path = setting
    found: Any = arch.model_dump()
    for part in path.split("."):
        found = found[part]
    return found


def _on(span: Range, share: float, whole: bool) -> int | float:
    low, high = span.range
    if share in (0.0, 1.0):
        number = high if share else low
    elif span.log:
        number = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        number = low + share * (high - low)
    # Nine digits: 256 and not 256.00000000000006.
    number = float(f"{number:.9g}")
    return round(number) if whole or number.is_integer() else number


def _unique(values: list[Any]) -> tuple[Any, ...]:
    """Each once, 200.0 as 200."""
    plain = [int(item) if isinstance(item, float) and item.is_integer() else item for item in values]
    return tuple({json.dumps(item): item for item in plain}.values())


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
