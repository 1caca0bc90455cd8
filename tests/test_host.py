"""This machine as an architecture: figures in, architecture out; the benchmark itself once and without its speed."""

from __future__ import annotations

import builtins
import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from mmworkload import arch as architectures
from mmworkload import host
from mmworkload.errors import UnavailableError
from mmworkload.plausibility import implausible
from mmworkload.problem import gemm
from mmworkload.simulating.roofline import closed_form

FIGURES = host.Figures(
    cpu="AMD EPYC",
    threads=4,
    torch="2.15.0",
    date="2026-11-21",
    load=0.5,
    macs_per_s=203e9,
    gemm_side=1024,
    gemm_threads=4,
    dram_bytes_per_s=40e9,
    elementwise_per_s=30.2e9,
    dispatch_s=1.25e-6,
    cache_bytes=32 * 2**20,
    memory_bytes=24 * 2**30,
)


def test_the_figures_are_the_architecture() -> None:
    arch = host.architecture(FIGURES)
    assert (arch.kind, arch.name, arch.charged, arch.unified_memory) == ("cpu", "host", False, True)
    assert arch.macs_per_second == pytest.approx(203e9, rel=1e-12)
    assert arch.dram_bytes_per_second == pytest.approx(40e9, rel=1e-12)
    # 2030 MACs of 10 ns are 507.5 for each of four threads, so a cycle is a little more.
    assert (arch.array.x, arch.array.y) == (4, 508)
    assert arch.clock_mhz == pytest.approx(203e9 / 2032 / 1e6)
    assert arch.vector.lanes * arch.clock_mhz * 1e6 == pytest.approx(30.2e9, rel=0.01)
    assert arch.levels["cache"].size_kib == 32 * 1024
    assert arch.dram.capacity_gib == 24
    assert implausible(arch) == []


def test_what_was_measured_and_where_is_told() -> None:
    arch = host.architecture(FIGURES)
    assert arch.description == "AMD EPYC, 4 threads, float32"
    assert arch.source == (
        "measured on 2026-11-21 with torch 2.15.0 on 4 threads, load 0.5: 203.0 GMAC/s (product of side 1024 on 4"
        " threads), 40.0 GB/s (triad), 30.20 G additions/s, 1.2 us an operator"
    )


def test_the_peak_and_the_bandwidth_bound_the_closed_form() -> None:
    arch = host.architecture(FIGURES)
    product = closed_form(gemm(1024, 1024, 1024).with_bits(arch.bits), arch)
    assert (product.bound, product.energy_j) == ("compute", {})
    assert product.latency_s == pytest.approx(2**30 / 203e9, rel=1e-3)
    thin = closed_form(gemm(1, 4096, 4096).with_bits(arch.bits), arch)
    assert thin.bound == "memory"
    assert thin.latency_s == pytest.approx(4 * 2**24 / 40e9, rel=2e-3)


def test_a_machine_that_does_not_tell_its_cache_and_has_one_thread() -> None:
    arch = host.architecture(replace(FIGURES, cache_bytes=None, threads=1))
    assert list(arch.levels) == ["dram"]
    assert (arch.array.inside, arch.array.x, arch.array.y) == ("dram", 1, 2030)
    assert arch.description == "AMD EPYC, 1 thread, float32"


def test_additions_are_at_most_as_fast_as_the_peak() -> None:
    arch = host.architecture(replace(FIGURES, macs_per_s=10e9, elementwise_per_s=30e9))
    assert arch.vector.lanes == arch.elements == 100
    assert implausible(arch) == []


def test_a_kept_calibration_is_loaded_as_it_was(tmp_path: Path) -> None:
    arch = host.architecture(FIGURES)
    file = tmp_path / "mine.yaml"
    file.write_text(host.to_yaml(arch))
    loaded = architectures.load(file)
    assert loaded == arch
    assert loaded.key == arch.key


def test_the_largest_cache_is_taken_and_none_is_none(tmp_path: Path) -> None:
    for index, size in enumerate(("32K", "1024K", "32M", "odd")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert host.cache_bytes(tmp_path) == 32 * 2**20
    assert host.cache_bytes(tmp_path / "none") is None


def test_the_triads_arrays_outgrow_the_cache_but_not_the_memory() -> None:
    mib = 2**20
    assert 4 * host.triad_elements(32 * mib, 64 * 1024 * mib) == 4 * 32 * mib
    assert 4 * host.triad_elements(None, 64 * 1024 * mib) == 64 * mib
    assert 4 * host.triad_elements(768 * mib, 64 * 1024 * mib) == 512 * mib
    # All three together an eighth of a small memory.
    assert 3 * 4 * host.triad_elements(32 * mib, 480 * mib) == 60 * mib


def test_the_memory_is_that_of_the_machine_or_less() -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < host.memory_bytes() <= physical


def clock(monkeypatch: pytest.MonkeyPatch, run_s: Callable[[int], float]) -> Callable[[], int]:
    """A clock that the returned function turns: by ``run_s`` of how often it was called, which it returns."""
    now, runs = 0.0, 0

    def run() -> int:
        nonlocal now, runs
        runs += 1
        now += run_s(runs)
        return runs

    monkeypatch.setattr(host.time, "perf_counter", lambda: now)
    return run


def test_neither_a_disturbed_while_nor_one_lucky_run_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    # Runs of 9 s for a while, then 2 s, and every third 1 s. The first does not count.
    run = clock(monkeypatch, lambda runs: 9 if runs <= 7 else 1 if runs % 3 == 0 else 2)
    # Two rounds of 27 s and four of 5 s are the first to be more than 70 s.
    assert host.best_s(run, 70) == 2
    assert run() - 1 == 1 + 3 * 6


def test_a_round_is_run_even_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = clock(monkeypatch, lambda runs: runs)
    assert host.best_s(run, 0) == 3
    assert run() - 1 == 1 + 3


def test_a_busy_machine_is_said_to_be() -> None:
    assert "load 4.5, busy: too slow: 203.0 GMAC/s" in host.architecture(replace(FIGURES, load=4.5)).source


@pytest.mark.parametrize(
    ("seconds", "sides"),
    # At 1 GMAC/s three products of side 512 take 0.4 s, of side 1024 3.2 s. Each side has a fourth of the time.
    [(4 * 1.0, [256, 512]), (4 * 4.0, [256, 512, 1024]), (0.0, [256])],
)
def test_products_that_would_take_too_long_are_left_out(
    monkeypatch: pytest.MonkeyPatch, seconds: float, sides: list[int]
) -> None:
    torch = pytest.importorskip("torch")
    turn = clock(monkeypatch, lambda runs: 100)

    def median_s(run: functools.partial[Any]) -> float:
        if run.args[0].shape[0] == max(sides):
            turn()
        return run.args[0].shape[0] ** 3 / 1e9

    monkeypatch.setattr(host, "median_s", median_s)
    assert host.product_rates(torch, seconds) == dict.fromkeys(sides, pytest.approx(1e9))


def test_a_disturbed_product_is_tried_again_and_larger_ones_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(host, "GEMM_SIDES", (8, 16))
    times = iter([8**3 / 1.0, 8**3 / 1e6, 16**3 / 4e6])
    turn = clock(monkeypatch, lambda runs: 0.4)
    monkeypatch.setattr(host, "median_s", lambda run: next(times) + 0 * turn())
    # At 1 MAC/s there is no time for side 16; at the 10^6 of the second try there is.
    assert host.product_rates(torch, 1.0) == {8: pytest.approx(1e6), 16: pytest.approx(4e6)}


class ManyThreads:
    """torch with as many threads as it is told, without starting them."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.told: list[int] = []

    def get_num_threads(self) -> int:
        return self.threads

    def set_num_threads(self, threads: int) -> None:
        self.told.append(threads)
        self.threads = threads


@pytest.mark.parametrize(("alone", "peak"), [(2e9, (4e9, 512, 8)), (5e9, (5e9, 256, 1))])
def test_one_thread_has_the_peak_where_the_others_cannot_run(
    monkeypatch: pytest.MonkeyPatch, alone: float, peak: tuple[float, int, int]
) -> None:
    torch = ManyThreads(8)

    def product_rates(torch: Any, seconds: float) -> dict[int, float]:
        assert seconds == 0.5
        return {256: 3e9, 512: 4e9} if torch.threads == 8 else {256: alone}

    monkeypatch.setattr(host, "product_rates", product_rates)
    assert host.peak_product(cast(ModuleType, torch), 1.0) == peak
    assert torch.told == [8, 1, 8]


def test_the_threads_are_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = ManyThreads(8)

    def product_rates(torch: Any, seconds: float) -> dict[int, float]:
        if torch.threads == 1:
            raise RuntimeError("no memory")
        return {256: 1e9}

    monkeypatch.setattr(host, "product_rates", product_rates)
    with pytest.raises(RuntimeError, match="no memory"):
        host.peak_product(cast(ModuleType, torch), 1.0)
    assert torch.threads == 8


def test_a_calibration_runs_everything_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stopwatch that says 10 us whatever runs, so that the machine's load does not decide."""
    torch = pytest.importorskip("torch")
    results = []
    turn = clock(monkeypatch, lambda runs: 0.3)

    def stopwatch(run: Callable[[], Any]) -> float:
        results.append((run(), torch.get_num_threads()))
        turn()
        return 1e-5

    monkeypatch.setattr(host, "median_s", stopwatch)
    monkeypatch.setattr(host, "GEMM_SIDES", (32, 64))
    monkeypatch.setattr(host, "CACHED_ELEMENTS", (1000, 2000))
    monkeypatch.setattr(host, "triad_elements", lambda cached, memory: 3000)
    threads = torch.get_num_threads()
    host.calibrate.cache_clear()
    try:
        # Of 1 s, 0.5 s are for the products in turn and less than 0.3 s for each of the others.
        arch = host.calibrate(seconds=1.0)
        assert host.calibrate(seconds=1.0) is arch
    finally:
        host.calibrate.cache_clear()
    once = [(32, 32), (64, 64)]
    products = [(shape, count) for count in dict.fromkeys((threads, 1)) for shape in once]
    others = [((size,), threads) for size in (3000, 1000, 2000, 1)]
    assert [(tuple(result.shape), count) for result, count in results] == products + others
    # b + 3 c of ones, and sums of ones.
    assert [result.max().item() for result, _ in results[len(products) :]] == [4, 2, 2, 1]
    assert arch.macs_per_second == pytest.approx(64**3 / 1e-5)
    assert arch.dram_bytes_per_second == pytest.approx(3 * 4 * 3000 / 1e-5)
    assert arch.vector.lanes * arch.clock_mhz * 1e6 == pytest.approx(2000 / 1e-5, rel=0.05)
    assert arch.array.x == threads
    assert "(product of side 64 on " in arch.source
    assert "10.0 us an operator" in arch.source


def test_without_torch_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **values: Any) -> Any:
        if name == "torch":
            raise ImportError("no torch")
        return real(name, *rest, **values)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UnavailableError, match=r"measured with torch, which is not installed: pip install"):
        host.measure(seconds=0.01)
