"""A sweep of workloads of several parts: the closed form, one design by itself, and ``simulate`` say the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload.errors import FormatError
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.simulating.engine import simulate
from mmworkload.sources import load_workload
from mmworkload.sweeping import closed_form
from mmworkload.sweeping.evaluate import evaluate
from mmworkload.sweeping.planning import plan
from mmworkload.sweeping.results import Results
from mmworkload.sweeping.running import run
from mmworkload.sweeping.setup import prepare
from mmworkload.sweeping.space import architecture_of
from mmworkload.sweeping.spec import read
from mmworkload.sweeping.store import Store
from mmworkload.sweeping.workloads import expand
from mmworkload.tracing.snapshot import path_of

pytestmark = pytest.mark.slow

SweepFile = Callable[..., Path]
FIGURES = ("cycles", "latency_s", "critical_path_s", "energy_j", "dram_bytes", "utilization")


@pytest.fixture
def exits(tmp_path: Path) -> str:
    """A network with exits from its snapshot, so that nothing is traced."""
    path = path_of("av-mnist/concat")
    assert path is not None
    LayerGraph.load(path).save(tmp_path / "avmnist.yaml")
    return f"{tmp_path / 'avmnist.yaml'}+exits?p=0.3"


def test_a_network_with_exits_is_swept_as_what_is_expected_of_it(
    tmp_path: Path, sweep_file: SweepFile, exits: str
) -> None:
    first = str(tmp_path / "first.yaml")
    goals = ["energy_j", f"latency_s[{exits}]"]
    file = sweep_file(simulator="roofline", workloads={exits: 2, first: 1}, objectives=goals)
    workload = load_workload(exits, (), True, {})

    planned = plan(file)
    assert planned.seconds is not None
    assert planned.seconds > planned.loading_s > 0
    assert planned.layers == sum(len(part.graph) for part in workload.parts) + len(LayerGraph.load(first))
    run(file, tmp_path / "out")

    setup = prepare(read(file), Store(tmp_path / "out"))
    assert setup.workloads[None][exits] == workload, "kept with the sweep"
    design = list(setup.space.designs())[4]
    arch = architecture_of(design, setup.bases, "law")
    whole, alone = (simulate(item, arch, "roofline") for item in (workload, setup.workloads[None][first]))
    row = Results(tmp_path / "out").trials.iloc[4]
    assert row["latency_s"] == pytest.approx(2 * whole.serial_latency_s + alone.serial_latency_s, rel=1e-12)
    assert row["critical_path_s"] == pytest.approx(2 * whole.critical_path_s + alone.critical_path_s, rel=1e-12)
    assert row["energy_j"] == pytest.approx(2 * (whole.energy_j or 0) + (alone.energy_j or 0), rel=1e-12)


def test_parts_count_as_often_as_they_run_and_side_by_side_take_the_time_of_one(
    tmp_path: Path, sweep_file: SweepFile
) -> None:
    file = sweep_file(simulator="roofline")
    setup = prepare(read(file), Store(tmp_path / "out"))
    first, second = (found.parts[0].graph for found in setup.workloads[None].values())
    mixed = Workload("mixed", (Part(first, "a", 2.5), Part(second, "b", 3.0, sequential=False), Part(first, "c", 0.2)))
    setup = replace(
        setup, workloads={None: {entry.name: mixed for entry in setup.entries[:1]}}, entries=setup.entries[:1]
    )
    designs = list(setup.space.designs())[:3]

    rows: list[dict[str, Any]] = [
        row for _, found in closed_form.evaluate_all(setup, designs) for row in found.to_pylist()
    ]

    expected = [row for design in designs for row in evaluate(design, setup).rows]
    known = {(row["design"], row["workload"], row["stage"] or ""): row for row in rows}
    assert len(known) == len(expected)
    for row in expected:
        own = known[row["design"], row["workload"], row["stage"]]
        for name in FIGURES:
            if row.get(name) is not None:
                assert own[name] == pytest.approx(row[name], rel=1e-12), (row["stage"], name)
        assert own["bound"] == row.get("bound")


def test_names_of_several_graphs_are_known_and_mistakes_in_them_are_told() -> None:
    names = {"codellama/7b?steps=4": 1.0, "av-mnist/concat+exits?p=0.3": 2.0, "codellama/7b-decode": 1.0}
    assert [(entry.name, entry.weight) for entry in expand(names)] == list(names.items())
    for wrong in ("av-mnist/concat+exits?q=0.3", "codellama/8b", "av-mnist/concatt+exits"):
        with pytest.raises(FormatError, match="workloads"):
            expand({wrong: 1.0})
