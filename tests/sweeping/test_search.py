"""Search by Optuna: the budget is in designs, nothing runs twice, constraints count, a lost study comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from mmworkload.errors import MmworkloadError
from mmworkload.sweeping.results import Results, pareto_front
from mmworkload.sweeping.running import resume, run

pytest.importorskip("optuna")

pytestmark = pytest.mark.slow
SweepFile = Callable[..., Path]


def searched(tmp_path: Path, sweep_file: SweepFile, name: str = "out", **search: Any) -> Results:
    arch = {
        "base": str(tmp_path / "small.yaml"),
        "set": {"array.x": {"range": [1, 16], "steps": 16}, "vector.lanes": [1, 2, 4, 8, 16]},
        "estimator": "law",
    }
    file = sweep_file(arch=arch, simulator="roofline", search=search, objectives=["area_mm2", "latency_s"])
    run(file, tmp_path / name)
    return Results(tmp_path / name)


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_the_budget_is_in_different_designs(tmp_path: Path, sweep_file: SweepFile, method: str) -> None:
    found = searched(tmp_path, sweep_file, method=method, budget=20, seed=2, population=6).trials

    assert len(found) == found["design"].nunique() == 20


def hypervolume(points: numpy.ndarray[Any, Any], worst: numpy.ndarray[Any, Any]) -> float:
    """Area that points dominate below ``worst``, two objectives."""
    area, bound = 0.0, worst[1]
    for x, y in sorted(points.tolist()):
        if y < bound:
            area += (worst[0] - x) * (bound - y)
            bound = y
    return area


def test_nsga2_finds_most_of_the_front_with_half_the_evaluations(tmp_path: Path, sweep_file: SweepFile) -> None:
    goals = ["area_mm2", "latency_s"]
    grid = searched(tmp_path, sweep_file, "grid", method="grid").trials[goals].to_numpy()
    found = searched(tmp_path, sweep_file, method="nsga2", budget=40, seed=1, population=8).trials[goals].to_numpy()

    assert hypervolume(found, grid.max(axis=0)) >= 0.9 * hypervolume(grid, grid.max(axis=0))


def test_a_small_space_is_searched_to_its_end_and_no_further(tmp_path: Path, sweep_file: SweepFile) -> None:
    arch = {"base": str(tmp_path / "small.yaml"), "set": {"array.x": [1, 2, 3]}, "estimator": "law"}
    file = sweep_file(arch=arch, simulator="roofline", search={"method": "tpe", "budget": 100, "population": 2})

    run(file, tmp_path / "out")

    assert sorted(Results(tmp_path / "out").trials["array.x"]) == [1, 2, 3]


def test_constraints_steer_the_search(tmp_path: Path, sweep_file: SweepFile) -> None:
    arch = {
        "base": str(tmp_path / "small.yaml"),
        "set": {"array.x": {"range": [1, 4000], "steps": 4000}},
        "estimator": "law",
    }
    file = sweep_file(
        arch=arch,
        simulator="roofline",
        constraints=["area_mm2 < 0.5"],
        objectives=["latency_s"],
        search={"method": "tpe", "budget": 60, "population": 4, "seed": 1},
    )

    run(file, tmp_path / "out")

    found = Results(tmp_path / "out").trials.sort_values("index")
    assert found["feasible"].iloc[40:].mean() > 2 * found["feasible"].iloc[:10].mean()
    best = Results(tmp_path / "out").best("latency_s")
    assert best is not None
    assert best["area_mm2"] < 0.5


def test_a_study_that_is_lost_is_made_again_from_what_is_kept(tmp_path: Path, sweep_file: SweepFile) -> None:
    import optuna

    results = searched(tmp_path, sweep_file, method="nsga2", budget=12, seed=3, population=4)
    study = tmp_path / "out" / "optuna.db"
    study.write_bytes(b"not a database" * 100)
    with pytest.raises(MmworkloadError, match=r"optuna\.db cannot be used .* remove it and resume"):
        resume(tmp_path / "out")
    study.unlink()

    assert resume(tmp_path / "out").evaluated == 0
    assert len(results.trials) == 12
    assert optuna.load_study(study_name="sweep", storage=f"sqlite:///{study}").get_trials() is not None


def test_the_front_is_what_nothing_beats() -> None:
    costs = numpy.array([[1, 5], [2, 2], [3, 3], [5, 1], [2, 2], [5, 5], [1, 6]], dtype=float)

    assert pareto_front(costs).tolist() == [True, True, False, True, True, False, False]


def test_the_front_is_that_of_the_definition() -> None:
    costs = numpy.random.default_rng(0).integers(0, 6, size=(200, 3)).astype(float)

    expected = [not any((other <= row).all() and (other < row).any() for other in costs) for row in costs]
    assert pareto_front(costs).tolist() == expected
