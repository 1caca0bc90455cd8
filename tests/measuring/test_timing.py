"""Repeating: how often, in which order, and when it stops."""

import pytest

torch = pytest.importorskip("torch")

from mmworkload.measuring import timing  # noqa: E402


@pytest.fixture
def clock(monkeypatch):
    """A clock that samples move on by hand."""
    now = {"s": 0.0}
    monkeypatch.setattr(timing.time, "monotonic", lambda: now["s"])
    return now


def sample(clock, seconds, log, name):
    def take():
        clock["s"] += seconds
        log.append(name)
        return seconds

    return take


def test_samples_take_turns_and_each_has_its_own_spread(clock):
    log = []
    samples = [sample(clock, 1.0, log, "eager"), sample(clock, 2.0, log, "graph")]
    eager, graph = timing.alternated(samples, repeats=6, limit_s=1000)
    assert log == ["eager", "graph"] * 6
    assert (eager.median_s, eager.repeats, graph.median_s, graph.repeats) == (1.0, 6, 2.0, 6)


def test_repeating_stops_at_the_limit_but_not_before_five(clock):
    log = []
    (spread,) = timing.alternated([sample(clock, 1.0, log, "a")], repeats=100, limit_s=20.5)
    assert spread.repeats == 21
    (spread,) = timing.alternated([sample(clock, 1.0, log, "a")], repeats=100, limit_s=0.1)
    assert spread.repeats == timing.MINIMUM_REPEATS == 5


def test_fewer_repeats_than_five_are_granted(clock):
    (spread,) = timing.alternated([sample(clock, 1.0, [], "a")], repeats=2, limit_s=100)
    assert spread.repeats == 2


def test_warming_up_stops_at_its_limit(clock):
    log = []
    timing.warmed(sample(clock, 1.0, log, "a"), warmup=10, limit_s=2.5)
    assert len(log) == 3


def test_only_the_forward_pass_is_timed(monkeypatch):
    """Preparing a run takes 100 s of the clock, the run 2."""
    now = {"s": 0.0}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now["s"])

    def run():
        assert torch.is_inference_mode_enabled()
        now["s"] += 2.0

    def prepare():
        now["s"] += 100.0
        return run

    assert timing.sampler(prepare, torch.device("cpu"))() == 2.0
