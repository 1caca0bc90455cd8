"""A layer as every accelerator tool sees it: one perfectly nested loop over named dimensions.

The project has one legend for dimension letters, Timeloop's:

=====  =============================================  =====  ==============================
N      batch, or the rows of a matrix product         P Q    output height and width
G      group, or attention head, or batched product   O      output depth
M      output channel or column                       R S    kernel height and width
C      input channel or reduction                     T      kernel depth
=====  =============================================  =====  ==============================

An axis of an operand is an affine expression of dimensions (``2P+R``) with its true size and padding. From these
come two different sizes: :meth:`Problem.footprint`, the index range that the loops touch (what Timeloop reports),
and :meth:`Problem.tensor_size`, the elements that the tensor really has. All arithmetic is exact (Python integers).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from mmworkload.errors import FormatError

LEGEND = "NGMCOPQTRS"
# Of each direction the loop over the output and the one over the kernel.
SPATIAL = {"depth": ("O", "T"), "height": ("P", "R"), "width": ("Q", "S")}
Role = Literal["weight", "input", "output"]
ROLES: tuple[Role, ...] = ("weight", "input", "output")
MASK_KINDS = ("causal", "window")
_AXIS = re.compile(r"^(?P<terms>[^:]+):(?P<size>\d+)(~(?P<low>-?\d+),(?P<high>-?\d+))?$")
_TERM = re.compile(r"^(?P<coefficient>\d*)(?P<dim>[A-Z])$")
_OPERAND = re.compile(r"^(?P<name>\w+) (?P<role>\w+) (?P<bits>\d+) \[(?P<axes>.*)\]$")
_MASK = re.compile(r"^(?P<kind>\w+)\((?P<numbers>-?\d+(, -?\d+){3})\)$")


@dataclass(frozen=True)
class Axis:
    """One axis of an operand: ``sum(coefficient * dim)``.

    ``size`` is the true extent of the tensor's axis. ``pad_low`` and ``pad_high`` are the zeros read outside the
    tensor, or, on the axis of a scattered output, the elements that are computed and cropped. An axis without terms
    is touched at one index only.
    """

    terms: tuple[tuple[str, int], ...]
    size: int
    pad_low: int = 0
    pad_high: int = 0

    def extent(self, dims: dict[str, int]) -> int:
        """The number of index values from the first to the last that the loops touch (elements)."""
        return sum(coefficient * (dims[dim] - 1) for dim, coefficient in self.terms) + 1

    def __str__(self) -> str:
        terms = "+".join(f"{coefficient if coefficient != 1 else ''}{dim}" for dim, coefficient in self.terms) or "0"
        padding = f"~{self.pad_low},{self.pad_high}" if self.pad_low or self.pad_high else ""
        return f"{terms}:{self.size}{padding}"

    @classmethod
    def parse(cls, text: str) -> Axis:
        match = _AXIS.match(text.strip())
        if not match:
            raise FormatError(f"'{text}' is not an axis; an axis is written like 2P+R:224~3,3")
        terms = []
        for term in match["terms"].split("+") if match["terms"] != "0" else ():
            parsed = _TERM.match(term)
            if not parsed:
                raise FormatError(f"'{term}' is not a term of an axis (in '{text}'); a term is written like P or 2P")
            terms.append((parsed["dim"], int(parsed["coefficient"] or 1)))
        return cls(tuple(terms), int(match["size"]), int(match["low"] or 0), int(match["high"] or 0))


def axis(dim: str, size: int) -> Axis:
    """The plain axis that one dimension runs over from end to end."""
    return Axis(((dim, 1),), size)


@dataclass(frozen=True)
class Operand:
    """A tensor as one problem reads or writes it. ``bits`` are those of one element as stored."""

    name: str
    role: Role
    bits: int
    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.role} {self.bits} [{', '.join(str(item) for item in self.axes)}]"

    @classmethod
    def parse(cls, text: str) -> Operand:
        match = _OPERAND.match(text.strip())
        if not match or match["role"] not in ROLES:
            raise FormatError(f"'{text}' is not an operand; one is written like: Inputs input 32 [N:1, 2P+R:224~3,3]")
        # A comma stands between axes and inside a padding; only the former is followed by a space.
        axes = tuple(Axis.parse(item) for item in match["axes"].split(", ")) if match["axes"] else ()
        role = next(role for role in ROLES if role == match["role"])
        return cls(match["name"], role, int(match["bits"]), axes)

    @property
    def dims(self) -> frozenset[str]:
        return frozenset(dim for item in self.axes for dim, _ in item.terms)


@dataclass(frozen=True)
class Mask:
    """Which (row, column) pairs of an attention matrix are needed.

    Row ``i`` may see column ``j`` when ``j <= i + offset`` (causal), and for a window also ``j > i + offset - window``.
    """

    kind: str
    rows: int
    columns: int
    offset: int = 0
    window: int = 0

    @cached_property
    def allowed(self) -> int:
        """The number of (row, column) pairs under the mask."""
        before = self._columns_before(self.offset + 1)
        return before if self.kind == "causal" else before - self._columns_before(self.offset + 1 - max(0, self.window))

    def _columns_before(self, offset: int) -> int:
        """The sum over rows ``i`` of the columns ``j < i + offset``."""

        def up_to(rows: int) -> int:
            grown = min(max(rows, 0), self.columns)
            return grown * (grown - 1) // 2 + (max(rows, 0) - grown) * self.columns

        return up_to(self.rows + offset) - up_to(offset)

    def __str__(self) -> str:
        return f"{self.kind}({self.rows}, {self.columns}, {self.offset}, {self.window})"

    @classmethod
    def parse(cls, text: str) -> Mask:
        match = _MASK.match(text.strip())
        if not match:
            raise FormatError(f"'{text}' is not a mask; one is written like: causal(16, 16, 0, 0)")
        rows, columns, offset, window = (int(number) for number in match["numbers"].split(","))
        return cls(match["kind"], rows, columns, offset, window)


@dataclass(frozen=True)
class Problem:
    """A loop nest: named dimensions, operands with affine axes, and what is done at each point.

    ``operation`` is ``mac`` for multiply and accumulate, otherwise the vector operation (``mul``, ``add``, ``max``).

    Raises
    ------
    FormatError
        When extents are not positive integers, an axis names an undeclared dimension, there is not exactly one
        output, or the loops leave the padded tensor.
    """

    dims: tuple[tuple[str, int], ...]
    operands: tuple[Operand, ...]
    operation: str = "mac"
    mask: Mask | None = field(default=None)

    def __repr__(self) -> str:
        return f"<Problem {self}>"

    def __post_init__(self) -> None:
        extents = self.extents
        if len(extents) != len(self.dims):
            raise FormatError(f"a dimension is declared twice: {self.dims}")
        for dim, extent in self.dims:
            if not re.fullmatch("[A-Z]", dim):
                raise FormatError(f"'{dim}' is not a dimension; dimensions are single capital letters")
            if type(extent) is not int or extent < 1:
                raise FormatError(f"the extent of {dim} is {extent!r}; extents are integers of at least 1")
        if sum(operand.role == "output" for operand in self.operands) != 1:
            raise FormatError("a problem has exactly one output")
        if len({operand.name for operand in self.operands}) != len(self.operands):
            raise FormatError("two operands have one name")
        for name in (self.operation, *(operand.name for operand in self.operands)):
            if not re.fullmatch(r"\w+", name, re.ASCII):
                raise FormatError(f"'{name}' is not a name; names are letters, digits and underscores")
        for operand in self.operands:
            if operand.role not in ROLES or operand.bits < 1:
                raise FormatError(f"operand {operand.name}: role {operand.role!r}, {operand.bits} bits")
            for item in operand.axes:
                if any(dim not in extents or coefficient < 1 for dim, coefficient in item.terms):
                    raise FormatError(f"operand {operand.name}: axis {item} names an undeclared dimension")
                if len({dim for dim, _ in item.terms}) < len(item.terms):
                    raise FormatError(f"operand {operand.name}: axis {item} names a dimension twice")
                if item.extent(extents) > item.size + item.pad_low + item.pad_high:
                    raise FormatError(f"operand {operand.name}: axis {item} is left by the loops {self.dims}")
        if self.mask and (
            self.mask.kind not in MASK_KINDS
            or min(self.mask.rows, self.mask.columns) < 1
            or self.macs % (self.mask.rows * self.mask.columns)
        ):
            raise FormatError(f"the mask {self.mask} does not fit the dimensions {self.dims}")

    @cached_property
    def extents(self) -> dict[str, int]:
        return dict(self.dims)

    @property
    def points(self) -> int:
        """Points of the full iteration space: the operations of one run."""
        return math.prod(extent for _, extent in self.dims)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the full rectangle; for another ``operation``, points."""
        return self.points

    @property
    def useful_macs(self) -> int:
        """The part of :attr:`macs` under the mask."""
        if self.mask is None:
            return self.macs
        return self.macs // (self.mask.rows * self.mask.columns) * self.mask.allowed

    def operand(self, name: str) -> Operand:
        """The operand called ``name``; FormatError when there is none."""
        for item in self.operands:
            if item.name == name:
                return item
        raise FormatError(f"the problem has no operand '{name}'; it has {[item.name for item in self.operands]}")

    @property
    def output(self) -> Operand:
        return next(item for item in self.operands if item.role == "output")

    @property
    def scattered(self) -> bool:
        """Whether it is transposed: windows are written, so that strides are those of the output."""
        return any(by > 1 or len(item.terms) > 1 for item in self.output.axes for _, by in item.terms)

    @property
    def windowed(self) -> Operand | None:
        """The operand whose axes have strides, dilations and paddings."""
        if self.scattered:
            return self.output
        return next((operand for operand in self.operands if operand.name == "Inputs"), None)

    def coefficient(self, dim: str) -> int:
        """By how much an iteration of ``dim`` moves the window: the stride of O, P, Q, the dilation of T, R, S."""
        axes = self.windowed.axes if self.windowed else ()
        return next((by for item in axes for letter, by in item.terms if letter == dim), 1)

    def footprint(self, operand: Operand) -> int:
        """Elements in the index range that the loops touch, padding included (what Timeloop reports)."""
        return math.prod(item.extent(self.extents) for item in operand.axes)

    def tensor_size(self, operand: Operand) -> int:
        """Elements that the tensor really has."""
        return math.prod(item.size for item in operand.axes)

    def operand_bytes(self, operand: Operand) -> int:
        """Bytes of the tensor as stored, packed."""
        return -(-self.tensor_size(operand) * operand.bits // 8)

    @cached_property
    def _canonical(self) -> Problem:
        extents = self.extents
        # A unit dimension does not change any index; a dimension that no operand has still multiplies the work.
        kept = [dim for dim in _legend_order(extents) if extents[dim] > 1]
        operands = []
        for operand in self.operands:
            axes = []
            for item in operand.axes:
                terms = tuple(
                    sorted(((d, k) for d, k in item.terms if extents[d] > 1), key=lambda term: _rank(term[0]))
                )
                if terms or item.size > 1 or item.pad_low or item.pad_high:
                    axes.append(replace(item, terms=terms))
            axes.sort(
                key=lambda item: (
                    [(_rank(dim), coefficient) for dim, coefficient in item.terms],
                    (item.size, item.pad_low, item.pad_high),
                )
            )
            operands.append(replace(operand, axes=tuple(axes)))
        operands.sort(key=lambda operand: (operand.role == "output", operand.name))
        return Problem(tuple((dim, extents[dim]) for dim in kept), tuple(operands), self.operation, self.mask)

    def canonical(self) -> Problem:
        """The same problem in one form: unit dimensions dropped, dimensions, axes and operands in a fixed order."""
        return self._canonical

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits; equal for equal canonical forms."""
        return hashlib.sha256(str(self.canonical()).encode()).hexdigest()[:16]

    def with_bits(self, bits: dict[Role, int]) -> Problem:
        """The same loops with operands stored in other widths (a role that is missing keeps its own)."""
        return replace(
            self, operands=tuple(replace(item, bits=bits.get(item.role, item.bits)) for item in self.operands)
        )

    def __str__(self) -> str:
        head = " ".join([self.operation, *(f"{dim}={extent}" for dim, extent in self.dims)])
        parts = [head, *(str(operand) for operand in self.operands)]
        if self.mask:
            parts.append(str(self.mask))
        return " | ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Problem:
        """The inverse of ``str``; FormatError names what cannot be read."""
        head, *parts = text.split(" | ")
        if not head.split():
            raise FormatError(f"'{text}' is not a problem; one begins like: mac M=64 C=32")
        operation, *dims = head.split()
        extents = []
        for item in dims:
            dim, _, extent = item.partition("=")
            if not re.fullmatch(r"\d+", extent, re.ASCII):
                raise FormatError(f"'{item}' is not a dimension; one is written like M=64 (in '{text}')")
            extents.append((dim, int(extent)))
        mask = Mask.parse(parts.pop()) if parts and parts[-1].endswith(")") else None
        return cls(tuple(extents), tuple(Operand.parse(part) for part in parts), operation, mask)


def _rank(dim: str) -> tuple[int, str]:
    return (LEGEND.index(dim), "") if dim in LEGEND else (len(LEGEND), dim)


def _legend_order(dims: Iterable[str]) -> list[str]:
    return sorted(dims, key=_rank)


def gemm(
    rows: int,
    columns: int,
    reduction: int,
    *,
    groups: int = 1,
    bits: tuple[int, int, int] = (32, 32, 32),
    second_role: Role = "weight",
    operation: str = "mac",
    mask: Mask | None = None,
) -> Problem:
    """``Outputs[g, n, m] += Inputs[g, n, c] * Weights[g, m, c]``.

    ``bits`` are those of inputs, weights and outputs. ``second_role`` is ``input`` when the second operand is an
    activation (attention); it keeps the name ``Weights``, as accelerator tools name their second operand so.
    """
    dims = (("G", groups), ("N", rows), ("M", columns), ("C", reduction))
    sizes = dict(dims)

    def operand(name: str, role: Role, width: int, letters: str) -> Operand:
        return Operand(name, role, width, tuple(axis(letter, sizes[letter]) for letter in letters))

    return Problem(
        dims,
        (
            operand("Inputs", "input", bits[0], "GNC"),
            operand("Weights", second_role, bits[1], "GMC"),
            operand("Outputs", "output", bits[2], "GNM"),
        ),
        operation,
        mask,
    )
