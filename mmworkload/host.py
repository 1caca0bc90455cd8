"""This machine as an architecture: a short benchmark on the spot.

:func:`measure` times what PyTorch reaches on the processor: matrix products in float32 (the peak), a triad on arrays
much larger than the last cache (McCalpin's STREAM: two arrays read, one written, counted as three; the bandwidth),
additions in the caches (elementwise throughput) and an operator on one element (what each operator costs before any
work). :func:`calibrate` makes an architecture of kind ``cpu`` of it. Every figure is the best of the sizes tried, and
of each size the best median of three runs in a row: what the machine reaches when nothing is in the way. One that is
busy throughout is still measured too slow, and said to be so.

``python -m mmworkload.host > mine.yaml`` keeps the calibration; ``--arch mine.yaml`` uses it.
"""

from __future__ import annotations

import datetime
import functools
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mmworkload.arch import HOST, AccessEnergy, Architecture, Array, Compute, Level, VectorUnit
from mmworkload.errors import UnavailableError
from mmworkload.measuring.memory import memory_bytes
from mmworkload.problem import LEGEND

FLOAT_BYTES = 4
# Sides of square products, and elements of the additions: from L1 to the size of a small last cache.
GEMM_SIDES = (256, 512, 1024, 2048)
CACHED_ELEMENTS = (2**14, 2**16, 2**18, 2**20)
# The triad's arrays: as many times the last cache, within these bytes each.
TRIAD_CACHES, TRIAD_BYTES = 4, (64 * 2**20, 512 * 2**20)
# Parts of the time for products, triad, additions and single operators.
_SHARES = (0.5, 0.25, 0.15, 0.1)
# Runs of which the median is taken.
_RUNS = 3
_LINE_BITS = 512
_CACHE_UNITS = {"K": 2**10, "M": 2**20}
# Cycles are a unit of account of about 10 ns: short beside any operator, long enough that whole numbers of MACs and
# lanes a cycle are within a percent of what was measured. Cores change their real clock all the time.
_CYCLES_PER_SECOND = 1e8


@dataclass(frozen=True)
class Figures:
    """What was measured, per second and all ``threads`` together, and what the system says of itself.

    The peak ``macs_per_s`` was reached at ``gemm_side`` by ``gemm_threads``. ``dram_bytes_per_s`` counts reads and
    writes; ``dispatch_s`` is the time of an operator without work; ``cache_bytes`` is the last level of cache (None:
    unknown), ``memory_bytes`` the DRAM that this process may use.
    """

    cpu: str
    threads: int
    torch: str
    date: str
    load: float
    macs_per_s: float
    gemm_side: int
    gemm_threads: int
    dram_bytes_per_s: float
    elementwise_per_s: float
    dispatch_s: float
    cache_bytes: int | None
    memory_bytes: int


@functools.cache
def calibrate(*, seconds: float = 2.0) -> Architecture:
    """This machine, measured for about ``seconds``; once a process. UnavailableError without torch."""
    return architecture(measure(seconds=seconds))


def measure(*, seconds: float = 2.0) -> Figures:
    """Runs the benchmark for about ``seconds``. Raises UnavailableError without torch."""
    torch = _torch()
    products, triad, additions, single = (share * seconds for share in _SHARES)
    cached, memory = cache_bytes(), memory_bytes()
    with torch.inference_mode():
        peak, side, at_peak = peak_product(torch, products)
        bandwidth = _triad_rate(torch, triad_elements(cached, memory), triad)
        elementwise = max(_addition_rate(torch, size, additions / len(CACHED_ELEMENTS)) for size in CACHED_ELEMENTS)
        one = torch.ones(1)
        dispatch = best_s(lambda: torch.relu(one), single)
    return Figures(
        cpu=_cpu_name(),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        load=round(os.getloadavg()[0], 1),
        macs_per_s=peak,
        gemm_side=side,
        gemm_threads=at_peak,
        dram_bytes_per_s=bandwidth,
        elementwise_per_s=elementwise,
        dispatch_s=dispatch,
        cache_bytes=cached,
        memory_bytes=memory,
    )


def architecture(figures: Figures) -> Architecture:
    """The architecture of kind ``cpu`` with these figures. A pure function.

    The peak is exact; elementwise throughput is rounded to whole lanes of a cycle and is at most the peak.
    """
    busy = ", busy: too slow" if figures.load > figures.threads else ""
    elements = max(1, round(figures.macs_per_s / _CYCLES_PER_SECOND / figures.threads)) * figures.threads
    cycles_per_s = figures.macs_per_s / elements
    words_per_cycle = figures.dram_bytes_per_s / FLOAT_BYTES / cycles_per_s
    free = AccessEnergy(read_pj=0, write_pj=0)
    word: dict[str, Any] = {"word_bits": 8 * FLOAT_BYTES, "width_bits": _LINE_BITS, "energy": free, "area_um2": 0}
    levels = {
        "dram": Level(
            kind="dram",
            size_kib=None,
            read_bandwidth=words_per_cycle,
            write_bandwidth=words_per_cycle,
            capacity_gib=figures.memory_bytes / 2**30,
            **word,
        )
    }
    if figures.cache_bytes:
        levels["cache"] = Level(kind="sram", size_kib=figures.cache_bytes / 1024, **word)
    return Architecture(
        kind="cpu",
        name=HOST,
        description=f"{figures.cpu}, {_threads(figures.threads)}, float32",
        source=(
            f"measured on {figures.date} with torch {figures.torch} on {_threads(figures.threads)},"
            f" load {figures.load:g}{busy}:"
            f" {figures.macs_per_s / 1e9:.1f} GMAC/s (product of side {figures.gemm_side} on"
            f" {_threads(figures.gemm_threads)}),"
            f" {figures.dram_bytes_per_s / 1e9:.1f} GB/s (triad), {figures.elementwise_per_s / 1e9:.2f} G additions/s,"
            f" {figures.dispatch_s * 1e6:.1f} us an operator"
        ),
        # No figure depends on the node: nothing is charged, and the system does not say which it is.
        technology_nm=7,
        clock_mhz=cycles_per_s / 1e6,
        levels=levels,
        array=Array(
            inside=list(levels)[-1],
            x=figures.threads,
            y=elements // figures.threads,
            x_dims=tuple(LEGEND),
            y_dims=tuple(LEGEND),
        ),
        compute=Compute(kind="fpmac", bits=8 * FLOAT_BYTES, energy_pj=0, area_um2=0),
        vector=VectorUnit(lanes=min(elements, max(1, round(figures.elementwise_per_s / cycles_per_s))), energy_pj=0),
        unified_memory=True,
        launch_us=figures.dispatch_s * 1e6,
    )


def to_yaml(arch: Architecture) -> str:
    """The architecture as a file that :func:`mmworkload.arch.load` takes."""
    import yaml

    data = arch.model_dump(mode="json", exclude_defaults=True)
    return "# Written by python -m mmworkload.host\n" + yaml.safe_dump(
        data, sort_keys=False, width=120, default_flow_style=None
    )


def cache_bytes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    """The largest cache that the system reports; None when it reports none. A virtual machine may have a part of it."""
    sizes = []
    for file in folder.glob("index*/size"):
        text = file.read_text().strip()
        if text[:-1].isdigit() and text[-1] in _CACHE_UNITS:
            sizes.append(int(text[:-1]) * _CACHE_UNITS[text[-1]])
    return max(sizes, default=None)


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise UnavailableError(
            "the architecture host is measured with torch, which is not installed: pip install 'mmworkload[trace]', or"
            " give a file that `python -m mmworkload.host` wrote"
        ) from error
    return torch


def _cpu_name() -> str:
    from mmworkload.measuring.provenance import cpu_name

    return cpu_name()


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def median_s(run: Callable[[], object]) -> float:
    """Median time of a few runs in a row."""
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def best_s(run: Callable[[], object], seconds: float) -> float:
    """The best :func:`median_s` of ``run`` that there is in ``seconds``. A first run does not count."""
    run()
    end = time.perf_counter() + seconds
    best = median_s(run)
    while time.perf_counter() < end:
        best = min(best, median_s(run))
    return best


def peak_product(torch: ModuleType, seconds: float) -> tuple[float, int, int]:
    """The best multiply-accumulates a second of a square product, its side and its threads.

    By all threads and by one: where a quota or other work keeps some threads from running, the others wait for them at
    the end of every product, and one alone is faster.
    """
    threads = torch.get_num_threads()
    tried = (threads, 1) if threads > 1 else (1,)
    found: list[tuple[float, int, int]] = []
    try:
        for count in tried:
            torch.set_num_threads(count)
            rates = product_rates(torch, seconds / len(tried))
            found += [(rate, side, count) for side, rate in rates.items()]
    finally:
        torch.set_num_threads(threads)
    return max(found)


def product_rates(torch: ModuleType, seconds: float) -> dict[int, float]:
    """Side to the best multiply-accumulates a second of a square product, all in turn until the time is over. Those are
    left out whose runs would take more than their share of it at the best rate so far; the smallest is not."""
    rates: dict[int, float] = {}
    products: dict[int, Callable[[], object]] = {}
    end = time.perf_counter() + seconds
    while not rates or time.perf_counter() < end:
        for side in GEMM_SIDES:
            best = max(rates.values(), default=math.inf)
            if side > GEMM_SIDES[0] and _RUNS * side**3 / best > seconds / len(GEMM_SIDES):
                break
            if side not in products:
                left, right, out = torch.rand(side, side), torch.rand(side, side), torch.empty(side, side)
                products[side] = functools.partial(torch.mm, left, right, out=out)
                products[side]()
            rates[side] = max(rates.get(side, 0.0), side**3 / median_s(products[side]))
    return rates


def triad_elements(cached: int | None, memory: int) -> int:
    """Elements of one array: several times the last cache, and all three at most an eighth of the memory."""
    smallest, largest = TRIAD_BYTES
    wanted = min(largest, max(smallest, TRIAD_CACHES * (cached or 0)))
    return max(1, min(wanted, memory // 24) // FLOAT_BYTES)


def _triad_rate(torch: ModuleType, elements: int, seconds: float) -> float:
    """Bytes a second of a = b + 3 c: two arrays read and one written."""
    out, left, right = torch.zeros(elements), torch.ones(elements), torch.ones(elements)
    return 3 * FLOAT_BYTES * elements / best_s(lambda: torch.add(left, right, alpha=3, out=out), seconds)


def _addition_rate(torch: ModuleType, elements: int, seconds: float) -> float:
    """Additions a second on arrays of ``elements``."""
    left, right, out = torch.ones(elements), torch.ones(elements), torch.empty(elements)
    return elements / best_s(lambda: torch.add(left, right, out=out), seconds)


if __name__ == "__main__":
    print(to_yaml(calibrate()), end="")
