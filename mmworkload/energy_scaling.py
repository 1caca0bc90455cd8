"""Energy, leakage and area of a memory or a multiplier as they change with size, width, ports, bits and node.

The law is meant for ratios: an architecture's own figure times the law at the new parameters over the law at the old
ones. It is computed from a small table of Accelergy's answers (:mod:`mmworkload.energy_runs`):

- SRAM (CACTI): interpolated between the runs, in the logarithms of capacity, width and ports, and continued beyond them
  with the mean slope at the edge. The node is a factor of its own, linear between the nodes of CACTI. Below 22 nm
  energies go with the square root of the node, area with the node, leakage with the root times 0.79, above 90 nm all
  with the square: the rules of Accelergy's CACTI plug-in, which names the IRDS 2022 and Parvais et al., VLSI-TSA 2009.
- Register file (Aladdin's table; Shao et al., ISCA 2014): a register, and for each row a comparator of the address
  bits. The table does not look at the width; here all figures are proportional to it, as each bit has its own register
  and its own place in the multiplexer. Nor does it look at ports: they count as for the smallest SRAM of the width.
- Multiplier and adder (Aladdin): quadratic and linear in the bits.
- Logic and its node: Stillmaker and Baas, "Scaling equations for the accurate prediction of CMOS device performance
  from 180 nm to 7 nm", Integration 58, 2017, as Accelergy's Library plug-in applies them (0.8 V), linear between the
  nodes of that table. Beyond it energy goes with the root of the node and area with the node. Leakage goes as energy.
- DRAM: proportional to the width; picojoules a bit by type. The node of the chip does not change it.
"""

from __future__ import annotations

import functools
import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from mmworkload import energy_runs

LOGIC_NM = 45
"""The node at which register files, multipliers and the runs of the table are asked for."""

# Constants of Accelergy's CACTI plug-in 291018b, with what it names: LPDDR of Malladi et al., ISCA 2012, DDR3 and the
# rest of Chatterjee et al. and O'Connor et al., MICRO 2017; LPDDR4 is public data of vendors.
DRAM_PJ_PER_BIT = {"LPDDR4": 8.0, "LPDDR": 40.0, "DDR3": 70.0, "GDDR5": 14.0, "HBM2": 3.9, "HMC": 4.2}

_WIDTH = 16  # bits of the register files whose figures Aladdin's answers are taken for
_BELOW_LEAKAGE = 0.79


class Figures(NamedTuple):
    """Picojoules of a read and a write of the full width (of an operation, for a multiplier), microwatts, µm²."""

    read_pj: float
    write_pj: float
    leak_uw: float
    area_um2: float

    def times(self, factors: Figures) -> Figures:
        """Each figure times its factor."""
        return Figures(*(figure * factor for figure, factor in zip(self, factors, strict=True)))


@dataclass(frozen=True)
class Memory:
    """What decides the figures of a level on the chip."""

    kind: Literal["sram", "regfile"]
    size_kib: float
    width_bits: int
    ports: int
    node_nm: int

    @property
    def rows(self) -> int:
        return max(1, round(self.size_kib * 8192 / self.width_bits))


@dataclass(frozen=True)
class Mac:
    """What decides the figures of a multiplier with its adder."""

    kind: Literal["intmac", "fpmac"]
    bits: int
    node_nm: int


Component = Memory | Mac


class EnergyEstimator(Protocol):
    """Gives the figures of components; ``ENERGY_ESTIMATOR`` of a plug-in in ``mmworkload.exporters``."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot be used here, in one sentence; None when it can."""

    def version(self) -> str:
        """What answers, for the record."""

    def estimate(self, components: Sequence[Component]) -> list[Figures]:
        """Figures in the order of ``components``; MmworkloadError when it fails."""


class Law:
    """The scaling law as an estimator: always there, microseconds."""

    name = "law"

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return "the scaling law"

    def estimate(self, components: Sequence[Component]) -> list[Figures]:
        return [law(component) for component in components]


@functools.lru_cache(maxsize=8192)
def law(component: Component) -> Figures:
    """The figures of ``component`` by the scaling law."""
    if isinstance(component, Mac):
        return at_node(component, _mac(component.kind, component.bits))
    if component.kind == "regfile":
        return at_node(component, at_width(component, _regfile(component.rows)))
    surface = _surface(component.size_kib, component.width_bits, component.ports)
    return surface.times(_sram_node(component.node_nm))


def at_width(memory: Memory, figures: Figures) -> Figures:
    """Figures of Aladdin's register file at the width and ports of ``memory``."""
    width = memory.width_bits
    factor = Figures(*[width / _WIDTH] * 4)
    if memory.ports > 1:
        one, several = (_surface(_grid().smallest_kib, width, ports) for ports in (1, memory.ports))
        factor = factor.times(Figures(*(new / old for new, old in zip(several, one, strict=True))))
    return figures.times(factor)


def at_node(component: Component, figures: Figures) -> Figures:
    """Figures of logic at 45 nm at the node of ``component``."""
    energy, area = logic_node(component.node_nm)
    return figures.times(Figures(energy, energy, energy, area))


class _Grid(NamedTuple):
    """The runs of SRAM at 45 nm, in logarithms: axes of size, width and ports, and the figures at their crossings.

    ``slopes`` are those of each figure beyond the two ends of each axis.
    """

    smallest_kib: float
    axes: tuple[tuple[float, ...], ...]
    values: dict[tuple[int, int, int], tuple[float, ...]]
    slopes: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]


@functools.cache
def _grid() -> _Grid:
    runs = {row[:3]: row[3:] for row in energy_runs.SRAM}
    ticks = [sorted({key[axis] for key in runs}) for axis in range(3)]
    values: dict[tuple[int, int, int], tuple[float, ...]] = {}
    sizes, widths, ports = ticks
    for place in itertools.product(range(len(sizes)), range(len(widths)), range(len(ports))):
        found = [math.log(figure) for figure in runs[sizes[place[0]], widths[place[1]], ports[place[2]]]]
        # CACTI chooses an organisation anew for each memory; a larger one or more ports are never taken to cost less.
        for axis in (0, 2):
            if place[axis]:
                found = list(map(max, found, values[_next(place, axis, -1)]))
        values[place] = tuple(found)
    axes = tuple(tuple(map(math.log, axis)) for axis in ticks)
    slopes = tuple(
        (_slope(values, axes, axis, 0), _slope(values, axes, axis, len(axes[axis]) - 2)) for axis in range(3)
    )
    return _Grid(ticks[0][0], axes, values, slopes)


def _next(place: tuple[int, ...], axis: int, step: int) -> tuple[int, int, int]:
    moved = list(place)
    moved[axis] += step
    return moved[0], moved[1], moved[2]


def _slope(
    values: dict[tuple[int, int, int], tuple[float, ...]], axes: tuple[tuple[float, ...], ...], axis: int, low: int
) -> tuple[float, ...]:
    """The mean slope of each figure between tick ``low`` of ``axis`` and the next; no figure falls."""
    length = axes[axis][low + 1] - axes[axis][low]
    ends = [(values[place], values[_next(place, axis, 1)]) for place in values if place[axis] == low]
    rises = [[after - before for before, after in zip(*pair, strict=True)] for pair in ends]
    return tuple(max(0.0, math.fsum(column) / len(ends) / length) for column in zip(*rises, strict=True))


def _surface(size_kib: float, width_bits: float, ports: float) -> Figures:
    """Figures of an SRAM at 45 nm: linear between the runs, with one slope for each axis beyond them."""
    grid = _grid()
    totals = [0.0] * 4
    corners: list[list[tuple[int, float]]] = []
    for axis, slopes, value in zip(grid.axes, grid.slopes, (size_kib, width_bits, ports), strict=True):
        logarithm = math.log(value)
        inside = min(max(logarithm, axis[0]), axis[-1])
        if logarithm != inside:
            for figure, slope in enumerate(slopes[logarithm > inside]):
                totals[figure] += slope * (logarithm - inside)
        corners.append(_between(axis, inside))
    for size, size_weight in corners[0]:
        for width, width_weight in corners[1]:
            for port, port_weight in corners[2]:
                weight = size_weight * width_weight * port_weight
                for figure, value in enumerate(grid.values[size, width, port]):
                    totals[figure] += weight * value
    return Figures(*map(math.exp, totals))


def _between(axis: tuple[float, ...], value: float) -> list[tuple[int, float]]:
    """The neighbours of a value within ``axis`` and their weights, which add up to 1."""
    low = min(max(bisect_right(axis, value) - 1, 0), len(axis) - 2)
    share = (value - axis[low]) / (axis[low + 1] - axis[low])
    return [(low, 1 - share), (low + 1, share)] if share else [(low, 1.0)]


def _linear(points: Sequence[tuple[float, float]], value: float) -> float:
    """Linear between points that are sorted by their first number, and within their range."""
    place = min(max(bisect_right(points, (value, math.inf)) - 1, 0), len(points) - 2)
    (x0, y0), (x1, y1) = points[place], points[place + 1]
    return y0 + (y1 - y0) * (value - x0) / (x1 - x0)


@functools.cache
def _node_points() -> tuple[list[tuple[float, float]], ...]:
    """For each figure of an SRAM (node, factor over 45 nm): the geometric mean over the memories asked for."""
    runs: dict[tuple[float, float], dict[int, tuple[float, ...]]] = {}
    for node, size, width, *figures in energy_runs.SRAM_NODES:
        runs.setdefault((size, width), {})[int(node)] = tuple(figures)
    nodes = sorted({int(row[0]) for row in energy_runs.SRAM_NODES})
    points = []
    for figure in range(4):
        line = []
        for node in nodes:
            logs = [math.log(found[node][figure] / found[LOGIC_NM][figure]) for found in runs.values()]
            line.append((float(node), math.exp(math.fsum(logs) / len(logs))))
        points.append(line)
    return tuple(points)


@functools.cache
def _sram_node(node_nm: int) -> Figures:
    points = _node_points()
    least, most = points[0][0][0], points[0][-1][0]
    inside = min(max(node_nm, least), most)
    factors = Figures(*(_linear(line, inside) for line in points))
    ratio = node_nm / inside
    if ratio < 1:
        root = math.sqrt(ratio)
        return factors.times(Figures(root, root, root * _BELOW_LEAKAGE, ratio))
    return factors.times(Figures(*[ratio**2] * 4))


@functools.cache
def logic_node(node_nm: int) -> tuple[float, float]:
    """Energy and area of logic at a node over those at 45 nm."""
    runs = sorted(energy_runs.LOGIC)
    inside = min(max(node_nm, runs[0][0]), runs[-1][0])
    ratio = node_nm / inside
    found = []
    for column, rest in ((1, math.sqrt(ratio)), (2, ratio)):
        line = [(row[0], row[column]) for row in runs]
        found.append(_linear(line, inside) / _linear(line, LOGIC_NM) * rest)
    return found[0], found[1]


@functools.cache
def _regfile(rows: int) -> Figures:
    """Aladdin's register file at 45 nm: one register, and for each row a comparator of the address bits."""
    (first, *register), (last, *deep) = sorted(energy_runs.REGFILE)
    assert first == 1
    share = rows * math.ceil(math.log2(rows)) / (last * math.ceil(math.log2(last)))
    return Figures(*(one + (many - one) * share for one, many in zip(register, deep, strict=True)))


@functools.cache
def _mac(kind: str, bits: int) -> Figures:
    """Multiplier and adder at 45 nm, through the two runs of ``kind`` whose range is nearest to ``bits``."""
    runs = sorted(row[1:] for row in energy_runs.MAC if row[0] == kind)
    # Floating point has one table up to 32 bits and another above.
    (few, *low), (many, *high) = runs[:2] if bits <= runs[1][0] or len(runs) == 2 else runs[2:]
    figures = []
    for one, other in zip(low, high, strict=True):
        quadratic = (other / many - one / few) / (many - few)
        figures.append(quadratic * bits**2 + (one / few - quadratic * few) * bits)
    energy, leak, area = figures
    return Figures(energy, energy, leak, area)
