"""The benchmark's share of time inside the simulator counts what ran in a worker, and nothing that is on record."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload.arch import Architecture
from mmworkload.layer import Layer, Work
from mmworkload.problem import gemm
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Options


@pytest.fixture(scope="module")
def benchmark() -> Any:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "simulating.py"
    spec = importlib.util.spec_from_file_location("simulating_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("fake_simulator")
def test_recorded_seconds_are_no_part_of_the_busy_share(
    benchmark: Any, small: Architecture, make_graph: Any, tmp_path: Path
) -> None:
    work = (Work(gemm(6, 10, 4, bits=(32, 32, 32)), 1, False),)
    graph = make_graph(Layer("a", "linear", stage="head", work=work))
    options = Options(limit_s=20.0, extra={"cycles": "90"})
    found = simulate(graph, small, "fake", cache=Cache(tmp_path), options=options)

    def took(simulator: str) -> float:
        estimates = {key: replace(item, simulator=simulator, seconds=3.0) for key, item in found.estimates.items()}
        return benchmark.busy_share(replace(found, estimates=estimates, seconds=2.0), 2)

    assert took("fake") == pytest.approx(0.75)
    assert took("recorded") == 0
    assert took("roofline") == 0
