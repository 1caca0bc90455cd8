"""The roofline for many designs at once: the same closed forms as :mod:`mmworkload.simulating`, in numpy.

A workload is compiled once: its layers to *signatures* (which loop nests how often, which vector work, how many kernel
starts), of which a network has few, and its data dependences to *blocks* (runs of layers of one accelerator). A design
is a column: numbers of elements, lanes, bandwidths and energies. Cycles are integers, so that they are those of
:func:`mmworkload.simulating.engine.simulate` to the last one; seconds and joules differ by rounding only. Designs come
in chunks, which bound the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.graph import LayerGraph, Workload
from mmworkload.layer import Layer
from mmworkload.problem import ROLES, Problem, Role
from mmworkload.simulating.energy import PICO
from mmworkload.simulating.engine import DTYPE_BITS, as_run
from mmworkload.simulating.estimate import compulsory_elements
from mmworkload.simulating.rollup import moved_bits, unit_of
from mmworkload.simulating.rows import operand_bits
from mmworkload.sweeping.rows import BOUNDS, OK, Trial, failed, mix, schema, table
from mmworkload.sweeping.setup import Setup
from mmworkload.sweeping.space import Design, architecture_of

if TYPE_CHECKING:
    import pyarrow

CHUNK = 512
"""Designs at once."""
Integers = NDArray[numpy.int64]
Floats = NDArray[numpy.float64]
_COMPUTE, _MEMORY, _VECTOR, _LAUNCH = range(len(BOUNDS))
# Beyond these a 64-bit integer, or the product of bits and the width of a word, wraps around.
_MOST_OPERATIONS = 1 << 62
_MOST_BITS = 1 << 53


def takes(setup: Setup) -> bool:
    """Whether a sweep is evaluated here: the roofline, on architectures by themselves."""
    return setup.simulator == "roofline" and all(isinstance(arch, Architecture) for arch in setup.bases.values())


def evaluate_all(
    setup: Setup, designs: Iterable[Design], chunk: int = CHUNK
) -> Iterator[tuple[list[Design], pyarrow.Table]]:
    """The designs with their rows, a chunk at a time, in order."""
    compiled: dict[Any, list[_Compiled]] = {}
    source = iter(designs)
    while block := list(islice(source, chunk)):
        groups: dict[Any, list[tuple[Design, Architecture]]] = {}
        refused: list[Trial] = []
        for design in block:
            try:
                arch = architecture_of(design, setup.bases, setup.estimator)
            except MmworkloadError as error:
                refused.append(failed(design, str(error)))
                continue
            assert isinstance(arch, Architecture)
            groups.setdefault((design.batch, _structure(arch)), []).append((design, arch))
        tables = [table(refused)] if refused else []
        for key, found in groups.items():
            if key not in compiled:
                first = found[0][1]
                bits = first.bits if setup.spec.dtype is None else dict.fromkeys(ROLES, DTYPE_BITS[setup.spec.dtype])
                workloads = setup.workloads[key[0]]
                nests = _Nests()
                compiled[key] = [_compile(nests, workloads[entry.name], bits) for entry in setup.entries]
            tables.append(_rows(setup, compiled[key], found))
        yield block, _joined(tables)


def _joined(tables: list[pyarrow.Table]) -> pyarrow.Table:
    import pyarrow

    whole = pyarrow.concat_tables(tables).unify_dictionaries().combine_chunks()
    index = whole.column("index").to_numpy()
    if bool((index[1:] >= index[:-1]).all()):
        return whole
    return whole.take(pyarrow.array(numpy.argsort(index, kind="stable")))


def _structure(arch: Architecture) -> tuple[Any, ...]:
    """What decides the form of the formulas."""
    holds = tuple((name, level.holds) for name, level in arch.levels.items())
    return arch.kind, holds, arch.array.inside, arch.launch_us is None, arch.dram.word_bits


# --- workloads --------------------------------------------------------------------------------------------------------


@dataclass
class _Nests:
    """The different loop nests, vector works and layers of all workloads.

    ``nests``: products and the operands' (role, bits); ``works``: operations, bits read and written;
    ``signatures``: ((is nest, number, times), ...), kernel starts, products.
    """

    nests: dict[str, int] = field(default_factory=dict)
    operands: list[tuple[int, tuple[tuple[Role, int], ...]]] = field(default_factory=list)
    works: dict[tuple[int, int, int], int] = field(default_factory=dict)
    signatures: dict[tuple[tuple[tuple[bool, int, int], ...], int], int] = field(default_factory=dict)
    points: list[int] = field(default_factory=list)

    def nest(self, problem: Problem) -> int:
        if problem.key not in self.nests:
            self.nests[problem.key] = len(self.nests)
            operands = tuple((item.role, compulsory_elements(problem, item) * item.bits) for item in problem.operands)
            self.operands.append((problem.macs, operands))
        return self.nests[problem.key]

    def work(self, operations: int, read_bits: int, write_bits: int) -> int:
        return self.works.setdefault((operations, read_bits, write_bits), len(self.works))

    def signature(self, terms: tuple[tuple[bool, int, int], ...], starts: int, points: int) -> int:
        # Equal nests have equal products.
        key = (terms, starts)
        if key not in self.signatures:
            self.signatures[key] = len(self.signatures)
            self.points.append(points)
        return self.signatures[key]


@dataclass(frozen=True)
class _Group:
    """Layers that are added up: their signatures and weights."""

    signatures: Integers
    weights: Floats


@dataclass(frozen=True)
class _Block:
    """Layers of one accelerator that follow each other, and the earlier blocks that they wait for."""

    group: _Group
    needs: tuple[int, ...]


@dataclass(frozen=True)
class _Compiled:
    """One workload; ``paths`` are the blocks of each part, and how often it runs."""

    nests: _Nests
    batch: int
    whole: _Group
    stages: Mapping[str, _Group]
    paths: tuple[tuple[tuple[_Block, ...], float], ...]


def _compile(nests: _Nests, workload: Workload, bits: dict[Role, int]) -> _Compiled:
    run: dict[str, Problem] = {}
    sizes: dict[str, tuple[int, int]] = {}
    stages: dict[str, list[tuple[int, float]]] = {}
    paths = []
    for part in workload.parts:
        graph = part.graph.where(lambda layer: layer.placement == "device")
        run |= as_run(graph, bits)
        signatures = [_signature(nests, graph, layer, bits["input"], run, sizes) for layer in graph.layers]
        # In the order of the graph's stages; layers of none are the whole workload's alone.
        for stage in graph.stages:
            stages.setdefault(stage, [])
        for layer, signature in zip(graph.layers, signatures, strict=True):
            stages[layer.stage].append((signature, part.count))
        # Runs of a part that do not follow each other take the time of one; a probability still scales it.
        times = part.count if part.sequential else min(part.count, 1.0)
        if signatures:
            paths.append((_blocks(graph, signatures), times))
    if not paths:
        raise MmworkloadError(f"{workload.name}: every layer runs on the host, which is measured and not simulated")
    return _Compiled(
        nests,
        workload.batch,
        _group([item for found in stages.values() for item in found]),
        {stage: _group(found) for stage, found in stages.items() if stage},
        tuple(paths),
    )


def _group(signatures: Sequence[tuple[int, float]]) -> _Group:
    """From signatures and how often they run."""
    numbers = numpy.array([number for number, _ in signatures], dtype=numpy.int64)
    found, places = numpy.unique(numbers, return_inverse=True)
    weights = numpy.bincount(places, weights=[weight for _, weight in signatures])
    return _Group(found, weights.astype(numpy.float64))


def _signature(
    nests: _Nests,
    graph: LayerGraph,
    layer: Layer,
    bits: int,
    run: Mapping[str, Problem],
    sizes: dict[str, tuple[int, int]],
) -> int:
    """As :func:`mmworkload.simulating.rows.layer_row` adds up a layer."""
    terms: list[tuple[bool, int, int]] = []
    read, written, points = 0, 0, 0
    for work in layer.work:
        problem = work.problem
        if problem.key not in sizes:
            sizes[problem.key] = operand_bits(problem, bits)
        own_read, own_written = sizes[problem.key]
        read += own_read * work.count
        written += own_written * work.count
        if problem.key in run:
            terms.append((True, nests.nest(run[problem.key]), work.count))
            points += problem.points * work.count
        else:
            terms.append((False, nests.work(problem.points, own_read, own_written), work.count))
    all_read, all_written = moved_bits(graph, layer, bits)
    operations, moved = points + layer.vector_ops, max(read + written, all_read + all_written)
    if operations > _MOST_OPERATIONS or moved > _MOST_BITS:
        raise FormatError(
            f"{graph.model}: layer '{layer.name}' has more operations or bits than a sweep by the roofline counts,"
            " which are 2^62 and 2^53 in a layer; mmworkload simulate counts any number"
        )
    rest = nests.work(layer.vector_ops, max(0, all_read - read), max(0, all_written - written))
    terms.append((False, rest, 1))
    return nests.signature(tuple(terms), layer.launches, points)


def _blocks(graph: LayerGraph, signatures: Sequence[int]) -> tuple[_Block, ...]:
    """The layer graph with chains of layers of one accelerator drawn together, which leaves the longest path."""
    unit = {layer.name: unit_of(layer) for layer in graph.layers}
    sources = {
        layer.name: [graph.producers[tensor] for tensor, _ in layer.reads if tensor in graph.producers]
        for layer in graph.layers
    }
    leaving = {item for name, found in sources.items() for item in found if unit[item] != unit[name]}
    home: dict[str, int] = {}
    members: list[list[int]] = []
    needs: list[set[int]] = []
    last: dict[str, str] = {}
    for layer, signature in zip(graph.layers, signatures, strict=True):
        name, own = layer.name, unit[layer.name]
        foreign = {home[item] for item in sources[name] if unit[item] != own}
        if foreign or own not in last or last[own] in leaving:
            needs.append(foreign | ({home[last[own]]} if own in last else set()))
            home[name] = len(members)
            members.append([])
        else:
            home[name] = home[last[own]]
        members[home[name]].append(signature)
        last[own] = name
    groups = [_group([(signature, 1.0) for signature in found]) for found in members]
    return tuple(_Block(group, tuple(sorted(need))) for group, need in zip(groups, needs, strict=True))


# --- designs ----------------------------------------------------------------------------------------------------------


class _Designs:
    """The architectures of a chunk as columns; all have one structure."""

    def __init__(self, archs: Sequence[Architecture]) -> None:
        first = archs[0]
        self.archs = archs
        self.levels = list(first.levels)
        self.holds = {name: first.levels[name].holds for name in self.levels}
        self.charged = first.charged
        self.one_bus = first.kind in ("gpu", "cpu")
        self.elements = _integers(arch.elements for arch in archs)
        self.lanes = _integers(arch.vector.lanes for arch in archs)
        self.clock = _floats(arch.clock_mhz for arch in archs)
        self.mac_pj = _floats(arch.compute.energy_pj for arch in archs)
        self.vector_pj = _floats(arch.vector.energy_pj for arch in archs)
        leakage = []
        for arch in archs:
            inner = set(arch.inner_levels)
            leakage.append(
                sum(
                    level.energy.leak_pj_per_cycle * (arch.elements if name in inner else 1)
                    for name, level in arch.levels.items()
                )
            )
        self.leak_pj = _floats(leakage)
        # round() and not numpy's: both round halves to even, on the same product.
        self.start_cycles = (
            None
            if first.launch_us is None
            else _floats(round((arch.launch_us or 0.0) * arch.clock_mhz) for arch in archs)
        )
        self._accesses = {name: self._columns(name) for name in self.levels}
        self._reading = self._port("read_bandwidth")
        self._writing = self._port("write_bandwidth")

    def _port(self, name: str) -> tuple[Integers, Integers]:
        """(bits, cycles) that a port moves in: so many bits in so many cycles, exactly."""
        pairs = [(arch.dram.word_bits, _fraction(getattr(arch.dram, name))) for arch in self.archs]
        return (
            _integers(word * rate.numerator for word, rate in pairs),
            _integers(rate.denominator for _, rate in pairs),
        )

    def port_cycles(self, bits: int, writing: bool) -> Integers:
        """As :func:`mmworkload.simulating.estimate.transfer_cycles`; in two steps, so that no product overflows."""
        moved, cycles = self._writing if writing else self._reading
        whole, rest = numpy.divmod(numpy.int64(bits), moved)
        return whole * cycles - (-(rest * cycles) // moved)

    def dram_cycles(self, read_bits: int, write_bits: int) -> Integers:
        if self.one_bus:
            return self.port_cycles(read_bits + write_bits, writing=False)
        return numpy.maximum(self.port_cycles(read_bits, False), self.port_cycles(write_bits, True))

    def transfer_pj(self, name: str, read_bits: int, write_bits: int) -> Floats:
        """As :func:`mmworkload.simulating.energy.transfer_j`, in picojoules."""
        read_pj, write_pj, words, bits = self._accesses[name]
        found = numpy.zeros(len(self.archs))
        if read_bits:
            found += -(-(read_bits * words) // bits) * read_pj
        if write_bits:
            found += -(-(write_bits * words) // bits) * write_pj
        return found

    def _columns(self, name: str) -> tuple[Floats, Floats, Integers, Integers]:
        """Energy of a read and of a write of one level, and (words, bits) as which :func:`access_bits` has it."""
        levels = [arch.levels[name] for arch in self.archs]
        return (
            _floats(level.energy.read_pj for level in levels),
            _floats(level.energy.write_pj for level in levels),
            _integers(level.word_bits for level in levels),
            _integers(level.width_bits * arch.dram.word_bits for level, arch in zip(levels, self.archs, strict=True)),
        )


@cache
def _fraction(words_per_cycle: float) -> Fraction:
    return Fraction(words_per_cycle).limit_denominator(10**6)


def _integers(values: Iterable[int]) -> Integers:
    return numpy.array(list(values), dtype=numpy.int64)


def _floats(values: Iterable[float]) -> Floats:
    return numpy.array(list(values), dtype=numpy.float64)


@dataclass(frozen=True)
class _Costs:
    """Of every signature on every design, (signature, design): ``by_bound`` are cycles of the layers with that bound.
    ``dram_bytes`` and ``points`` are the same on every design."""

    cycles: Floats
    by_bound: tuple[Floats, ...]
    energy_pj: Floats
    dram_bytes: Floats
    points: Floats


def _costs(nests: _Nests, designs: _Designs) -> _Costs:
    count = len(designs.archs)
    nest_cost = [_nest(designs, macs, operands) for macs, operands in nests.operands]
    work_cost = [_work(designs, *work) for work in nests.works]
    cycles = numpy.zeros((len(nests.signatures), count))
    energy = numpy.zeros_like(cycles)
    dram = numpy.zeros(len(nests.signatures))
    by_bound = tuple(numpy.zeros_like(cycles) for _ in BOUNDS)
    place = numpy.arange(count)
    for (terms, starts), row in nests.signatures.items():
        shares = numpy.zeros((len(BOUNDS), count))
        order: list[Any] = []
        for is_nest, number, times in terms:
            cost = (nest_cost if is_nest else work_cost)[number]
            shares[cost.bound, place] += cost.cycles * times
            order.append(cost.bound)
            energy[row] += cost.energy_pj * times
            dram[row] += cost.dram_bytes * times
        if designs.start_cycles is not None:
            shares[_LAUNCH] += designs.start_cycles * starts
            order.append(numpy.full(count, _LAUNCH))
        cycles[row] = shares.sum(axis=0)
        # Of equal shares the one that came first counts.
        bound = order[0]
        most = shares[bound, place]
        for other in order[1:]:
            share = shares[other, place]
            bound = numpy.where(share > most, other, bound)
            most = numpy.maximum(share, most)
        for number, found in enumerate(by_bound):
            numpy.copyto(found[row], cycles[row], where=bound == number)
    return _Costs(cycles, by_bound, energy, dram, numpy.array(nests.points, dtype=numpy.float64))


@dataclass(frozen=True)
class _Cost:
    cycles: Integers
    bound: Integers
    energy_pj: Floats
    dram_bytes: int


def _nest(designs: _Designs, macs: int, operands: tuple[tuple[Role, int], ...]) -> _Cost:
    """As :func:`mmworkload.simulating.roofline.closed_form`."""
    read = sum(bits for role, bits in operands if role != "output")
    written = sum(bits for role, bits in operands if role == "output")
    compute = -(-numpy.int64(macs) // designs.elements)
    memory = designs.dram_cycles(read, written)
    cycles = numpy.maximum(1, numpy.maximum(compute, memory))
    energy = macs * designs.mac_pj + designs.leak_pj * cycles
    dram = designs.levels[0]
    for role, bits in operands:
        for name in designs.levels:
            if role in designs.holds[name]:
                reads = bits if name != dram or role != "output" else 0
                writes = bits if name != dram or role == "output" else 0
                energy = energy + designs.transfer_pj(name, reads, writes)
    return _Cost(
        cycles, numpy.where(compute >= memory, _COMPUTE, _MEMORY), energy, sum(-(-bits // 8) for _, bits in operands)
    )


def _work(designs: _Designs, operations: int, read_bits: int, write_bits: int) -> _Cost:
    """As :func:`mmworkload.simulating.vector.vector_cost`."""
    compute = -(-numpy.int64(operations) // designs.lanes)
    memory = designs.dram_cycles(read_bits, write_bits)
    cycles = numpy.maximum(compute, memory)
    energy = designs.transfer_pj(designs.levels[0], read_bits, write_bits)
    energy += operations * designs.vector_pj + designs.leak_pj * cycles
    dram_bytes = -(-read_bits // 8) + -(-write_bits // 8)
    return _Cost(cycles, numpy.where(compute > memory, _VECTOR, _MEMORY), energy, dram_bytes)


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(setup: Setup, workloads: Sequence[_Compiled], found: Sequence[tuple[Design, Architecture]]) -> pyarrow.Table:
    import json

    import pyarrow

    archs = [arch for _, arch in found]
    designs = _Designs(archs)
    costs = _costs(workloads[0].nests, designs)
    hertz = designs.clock * 1e6
    whole: list[dict[str, Any]] = []
    kinds: list[tuple[str, str, int, dict[str, Any]]] = []
    for entry, workload in zip(setup.entries, workloads, strict=True):
        row = _sums(workload.whole, costs, designs, hertz)
        row["critical_path_s"] = (
            sum(_critical_path(blocks, costs.cycles) * times for blocks, times in workload.paths) / hertz
        )
        whole.append(row)
        kinds.append((entry.name, "", workload.batch, row))
        for stage, group in workload.stages.items():
            kinds.append((entry.name, stage, workload.batch, _sums(group, costs, designs, hertz)))
    total = mix(whole, [entry.weight for entry in setup.entries])
    total["area_mm2"] = _floats(numpy.nan if arch.area_mm2 is None else arch.area_mm2 for arch in archs)
    rows, count = len(kinds) + 1, len(found)
    missing = numpy.full(count, numpy.nan)

    def column(name: str) -> pyarrow.Array:
        """Row after row of each design in turn."""
        values = [total.get(name), *(row.get(name) for *_, row in kinds)]
        stacked = numpy.stack([missing if value is None else value for value in values], axis=1).reshape(-1)
        return pyarrow.array(stacked, from_pandas=True)

    def named(codes: NDArray[Any], names: Sequence[str], mask: NDArray[Any] | None = None) -> pyarrow.Array:
        return pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(codes.astype(numpy.int32), mask=mask), pyarrow.array(list(names), pyarrow.string())
        )

    def text(of_mix: Sequence[str | None]) -> pyarrow.Array:
        return pyarrow.array([item for value in of_mix for item in (value, *[None] * (rows - 1))], pyarrow.string())

    def tiled(names: Sequence[str]) -> pyarrow.Array:
        known = list(dict.fromkeys(names))
        return named(numpy.tile(numpy.array([known.index(name) for name in names]), count), known)

    bounds = numpy.stack([row["bound"] for *_, row in kinds], axis=1)
    bounds = numpy.concatenate([numpy.zeros((count, 1), dtype=bounds.dtype), bounds], axis=1).reshape(-1)
    first = numpy.zeros(rows * count, dtype=bool)
    first[::rows] = True
    own = [design.batch for design, _ in found]
    batches = numpy.array([[batch or 0, *(size for _, _, size, _ in kinds)] for batch in own]).reshape(-1)
    columns: dict[str, pyarrow.Array] = {
        "index": pyarrow.array(numpy.repeat(_integers(design.index for design, _ in found), rows)),
        "design": named(numpy.repeat(numpy.arange(count), rows), [design.id for design, _ in found]),
        "workload": tiled(["", *(name for name, *_ in kinds)]),
        "stage": tiled(["", *(stage for _, stage, *_ in kinds)]),
        "status": named(numpy.zeros(rows * count), [OK]),
        "reason": pyarrow.nulls(rows * count, pyarrow.string()),
        "log": pyarrow.nulls(rows * count, pyarrow.string()),
        "settings": text([json.dumps(dict(design.point)) for design, _ in found]),
        "batch": pyarrow.array(batches, mask=batches == 0),
        "fallbacks": pyarrow.array(
            numpy.tile([0, *(0 if not stage else -1 for _, stage, *_ in kinds)], count),
            mask=numpy.tile([False, *(bool(stage) for _, stage, *_ in kinds)], count),
        ),
        "seconds": pyarrow.array(
            numpy.zeros(rows * count), mask=numpy.tile([False, *(bool(stage) for _, stage, *_ in kinds)], count)
        ),
        "bound": named(bounds, BOUNDS, first),
    }
    for name in ("area_mm2", "cycles", "latency_s", "critical_path_s", "energy_j", "dram_bytes", "utilization"):
        columns[name] = column(name)
    return pyarrow.table([columns[name] for name in schema().names], schema=schema())


def _sums(group: _Group, costs: _Costs, designs: _Designs, hertz: Floats) -> dict[str, Any]:
    weights, chosen = group.weights, group.signatures
    cycles = weights @ costs.cycles[chosen]
    bounds = numpy.stack([weights @ found[chosen] for found in costs.by_bound])
    points = float(weights @ costs.points[chosen])
    busy = cycles * designs.elements
    return {
        "cycles": cycles,
        "latency_s": cycles / hertz,
        "energy_j": (weights @ costs.energy_pj[chosen]) * PICO if designs.charged else None,
        "dram_bytes": numpy.full(len(cycles), float(weights @ costs.dram_bytes[chosen])),
        "utilization": numpy.divide(points, busy, out=numpy.zeros_like(cycles), where=busy > 0),
        "bound": bounds.argmax(axis=0),
    }


def _critical_path(blocks: Sequence[_Block], cycles: Floats) -> Floats:
    """As :func:`mmworkload.simulating.rollup.critical_path_s`, in cycles."""
    finished: list[Floats] = []
    for block in blocks:
        own = block.group.weights @ cycles[block.group.signatures]
        start = numpy.zeros_like(own)
        for index in block.needs:
            start = numpy.maximum(start, finished[index])
        finished.append(start + own)
    return numpy.maximum.reduce(finished)
