"""Throughput against batch: the closed form at each batch, the memory as the limit, the optimal batch."""

from __future__ import annotations

import pytest

from mmworkload import arch, simulate
from mmworkload.errors import MmworkloadError
from mmworkload.simulating.batches import AtBatch, by_batch, optimal

MODEL = "av-mnist/audio"


def test_each_batch_is_the_simulation_at_it() -> None:
    found = by_batch(MODEL, "v100", (1, 4), settings={"launch_us": 5})

    assert [item.batch for item in found] == [1, 4]
    for item in found:
        alone = simulate(MODEL, "v100", simulator="roofline", batch=item.batch, settings={"launch_us": 5})
        assert item.latency_s == alone.serial_latency_s
        assert item.throughput_per_s == item.batch / alone.serial_latency_s
        assert alone.fit is not None
        assert (item.need_bytes, item.capacity_bytes) == (alone.fit.need_bytes, 16 * 2**30)
    # Four samples in one pass start as many kernels as one sample does.
    assert found[1].throughput_per_s > 2 * found[0].throughput_per_s


def test_the_memory_is_the_limit() -> None:
    v100 = arch.load("v100")
    one, two = by_batch(MODEL, v100, (1, 2))
    between = (one.need_bytes + two.need_bytes) / 2 / 2**30
    dram = v100.dram.model_copy(update={"capacity_gib": between})
    small = v100.model_copy(update={"levels": {**v100.levels, next(iter(v100.levels)): dram}})

    found = by_batch(MODEL, small, (1, 2, 4))

    assert [item.batch for item in found] == [1]
    assert found[0].need_bytes == one.need_bytes
    with pytest.raises(MmworkloadError, match="no batch fits"):
        optimal(by_batch(MODEL, small, (2,)))


def test_the_optimal_batch_is_the_smallest_with_nearly_the_highest_throughput() -> None:
    found = [AtBatch(batch, batch / rate, 0, None) for batch, rate in ((1, 50.0), (2, 94.0), (4, 96.0), (8, 100.0))]
    assert optimal(found).batch == 4
    assert optimal(found, 1).batch == 8
    assert optimal(found, 0.94).batch == 2


def test_a_system_has_no_one_memory() -> None:
    with pytest.raises(MmworkloadError, match="one architecture"):
        by_batch("av-mnist/concat", "encoder/*=eyeriss_like,*=tpu_like", (1,))
