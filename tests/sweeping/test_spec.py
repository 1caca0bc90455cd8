"""The file of a sweep: what it may say, and every mistake as one line with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmworkload.errors import FormatError, MmworkloadError, UnknownNameError
from mmworkload.simulating import choice
from mmworkload.sweeping.conditions import Condition, Term, figure
from mmworkload.sweeping.setup import prepare
from mmworkload.sweeping.space import Space
from mmworkload.sweeping.spec import from_dict, parse, read
from mmworkload.sweeping.store import Store
from mmworkload.sweeping.workloads import expand

SweepFile = Callable[..., Path]
MINIMAL: dict[str, Any] = {"workloads": {"transfuser": 1}, "arch": {"base": "eyeriss_like"}}


def test_the_example_of_the_documentation_is_read_as_it_is_written() -> None:
    text = """
workloads: {av-mnist/*: 1, transfuser: 3, "mm-imdb/concat?tokens=128": 1}    # weights of the mix
arch: {base: eyeriss_like, set: {array.x: [8, 14, 16, 32],
       levels.glb.size_kib: {range: [64, 1024], log: true, steps: 5}, clock_mhz: [200, 500]}}
batch: [1, 8]
simulator: auto
constraints: [area_mm2 < 20, latency_s[transfuser] < 0.033]
objectives: [energy_j, latency_s]
search: {method: grid}
"""
    spec = parse(text)

    assert [str(item) for item in spec.conditions] == ["area_mm2 < 20", "latency_s[transfuser] < 0.033"]
    assert spec.batches == [1, 8]
    names = [entry.name for entry in expand(spec.workloads)]
    assert "av-mnist/concat" in names
    assert names[-2:] == ["transfuser", "mm-imdb/concat?tokens=128"]
    assert [entry.weight for entry in expand(spec.workloads)][-2:] == [3, 1]


def test_a_workload_that_is_named_keeps_its_own_weight_in_a_glob() -> None:
    weights = {entry.name: entry.weight for entry in expand({"av-mnist/*": 1, "av-mnist/concat": 5})}

    assert weights["av-mnist/concat"] == 5
    assert weights["av-mnist/tensor"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worklods": {}}, "sweep: worklods: Extra inputs are not permitted"),
        ({"workloads": {}}, "sweep: workloads: Dictionary should have at least 1 item"),
        ({"workloads": {"transfuser": 0}}, "sweep: workloads: transfuser: the weight 0 is not above zero"),
        ({"batch": [0]}, "sweep: batch: a batch has at least one sample"),
        ({"constraints": ["area_mm2 20"]}, "sweep: constraints: 'area_mm2 20' is not a constraint; write METRIC"),
        ({"constraints": ["__import__('os').system('x') < 1"]}, "is not a constraint"),
        ({"constraints": ["aera_mm2 < 1"]}, "unknown metric 'aera_mm2'. Did you mean area_mm2?"),
        ({"objectives": []}, "sweep: objectives: List should have at least 1 item"),
        ({"objectives": ["energy_j + 1"]}, "sweep: objectives: 'energy_j + 1' is not a metric"),
        (
            {"search": {"method": "annealing"}},
            "sweep: search.method: Input should be 'grid', 'random', 'tpe' or 'nsga2'",
        ),
        ({"search": {"method": "grid", "budget": 3}}, "sweep: search: budget: a grid evaluates all designs"),
        ({"limit_s": 0}, "sweep: limit_s: Input should be greater than 0"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        from_dict({**MINIMAL, **change})

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"range": [8, 8]}, "arch.set.array.x: range: 8 is not below 8"),
        ({"range": [0, 8], "log": True}, "with log, the lower end is above zero"),
        ({"range": [1, 8], "step": 2}, "arch.set.array.x.step: Extra inputs are not permitted"),
        ([], "array.x: give at least one value"),
    ],
)
def test_a_mistake_in_an_axis_is_one_line_with_its_place(given: Any, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        from_dict({**MINIMAL, "arch": {"base": "eyeriss_like", "set": {"array.x": given}}})

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": {"base": "eyeris_like"}}, "arch.base: unknown architecture 'eyeris_like'. Did you mean eyeriss_like"),
        (
            {"arch": {"base": "eyeriss_like", "set": {"levels.glb.size": [1]}}},
            "arch.set.levels.glb.size: eyeriss_like has no parameter 'levels.glb.size'. Did you mean",
        ),
        (
            {"workloads": {"transfusor": 1}},
            "workloads.transfusor: unknown workload 'transfusor'. Did you mean transfuser",
        ),
        ({"workloads": {"nothing/*": 1}}, "workloads.nothing/*: unknown workload"),
        ({"constraints": ["latency_s[audio] < 1"]}, "constraints: unknown workload 'audio'"),
        ({"objectives": ["area_mm2[transfuser]"]}, "objectives: area_mm2[transfuser]: the area is that of the design"),
        ({"simulator": "timelop"}, "simulator: unknown simulator 'timelop'. Did you mean timeloop"),
        ({"arch": {"base": "h100"}}, "energy_j cannot be asked for: h100 (gpu) has no energies; ask for latency_s"),
        (
            {"arch": {"base": "eyeriss_like", "set": {"array.x": {"range": [1, 9]}}}},
            "arch.set.array.x: a grid needs the number of steps",
        ),
        ({"dtype": "int7"}, "dtype: unknown dtype 'int7'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    spec = from_dict({**MINIMAL, "simulator": "roofline", **change})

    with pytest.raises(MmworkloadError) as caught:
        prepare(spec, Store(tmp_path / "out"))

    assert message in str(caught.value)


def test_recorded_answers_never_serve_a_sweep(tmp_path: Path, sweep_file: SweepFile) -> None:
    # They are of some designs only; the others would be another simulator's.
    setup = prepare(read(sweep_file(simulator="auto")), Store(tmp_path / "out"))

    assert setup.simulator in ("timeloop", "zigzag", "roofline")


def test_auto_passes_over_a_simulator_that_refuses_a_loop_nest(
    tmp_path: Path, sweep_file: SweepFile, slow_simulator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "AUTO", ("slow", "roofline"))
    plain = prepare(read(sweep_file(simulator="auto")), Store(tmp_path / "out"))
    refusing = prepare(read(sweep_file(simulator="auto", options={"untold": "anything"})), Store(tmp_path / "out"))

    assert (plain.simulator, plain.why) == ("slow", "")
    assert refusing.simulator == "roofline"
    assert refusing.why.startswith("slow: refused layer 'image.0' of ")


# --- designs --------------------------------------------------------------------------------------------------------


def space(tmp_path: Path, **changes: Any) -> Space:
    spec = from_dict({**MINIMAL, "simulator": "roofline", **changes})
    return prepare(spec, Store(tmp_path / "out")).space


def test_ranges_have_both_ends_and_integers_where_the_file_has_one(tmp_path: Path) -> None:
    sets = {
        "array.x": {"range": [4, 16], "steps": 4},
        "levels.glb.size_kib": {"range": [64, 1024], "log": True, "steps": 5},
        "clock_mhz": [200.0, 500],
    }
    found = space(tmp_path, arch={"base": "eyeriss_like", "set": sets})

    assert [axis.values for axis in found.varied] == [(4, 8, 12, 16), (64, 128, 256, 512, 1024), (200, 500)]
    assert found.size == found.count() == 40
    designs = list(found.grid())
    assert [design.index for design in designs] == list(range(40))
    assert len({design.id for design in designs}) == 40
    assert dict(designs[11].point) == {"array.x": 8, "levels.glb.size_kib": 64, "clock_mhz": 500}


def test_a_design_is_known_by_what_is_set_and_not_by_its_place(tmp_path: Path) -> None:
    one = space(tmp_path, arch={"base": "eyeriss_like", "set": {"array.x": [8, 16], "clock_mhz": [200, 500]}})
    two = space(tmp_path, arch={"base": "eyeriss_like", "set": {"clock_mhz": [500.0], "array.x": [4, 16]}})

    left = {design.id: dict(design.settings) for design in one.grid()}
    right = {design.id: dict(design.settings) for design in two.grid()}
    (shared,) = left.keys() & right.keys()
    assert left[shared] == right[shared] == {"array.x": 16, "clock_mhz": 500}


def test_a_random_search_takes_no_design_twice_and_all_of_a_small_space(tmp_path: Path) -> None:
    arch = {"base": "eyeriss_like", "set": {"array.x": [1, 2, 3, 4, 5]}}
    found = space(tmp_path, arch=arch, search={"method": "random", "budget": 50, "seed": 7})

    assert sorted(design.settings["array.x"] for design in found.random()) == [1, 2, 3, 4, 5]


# --- metrics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("latency_s < 0.5", 0.4, True),
        ("latency_s < 0.5", 0.5, False),
        ("latency_s<=5e-1", 0.5, True),
        ("utilization >= .25", 0.2, False),
        ("area_mm2 > 1", float("nan"), False),
    ],
)
def test_a_constraint_holds_or_is_violated(text: str, value: float, holds: bool) -> None:
    condition = Condition.parse(text)

    assert condition.holds(value) is holds
    assert (condition.violation(value) > 0) is not holds
    assert Condition.parse(str(condition)) == condition


_BLANKS = " " * 80_000


@pytest.mark.parametrize(
    "text",
    [
        f"latency_s{_BLANKS}x",
        f"latency_s[{_BLANKS}x",
        f"latency_s[{_BLANKS}] < {_BLANKS}x",
        f"area_mm2 < {'9' * 80_000}x",
        f"area_mm2 < {'9' * 80_000}",  # no finite number
        f"{'a' * 80_000} < 1",
        _BLANKS,
    ],
)
def test_a_long_text_that_is_no_constraint_is_one_short_line(text: str) -> None:
    with pytest.raises((FormatError, UnknownNameError)) as caught:
        Condition.parse(text)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_blanks_in_a_constraint_mean_nothing_however_many() -> None:
    long = f"{_BLANKS}latency_s{_BLANKS}[{_BLANKS}a b{_BLANKS}]{_BLANKS}<={_BLANKS}1{_BLANKS}"

    assert Condition.parse(long) == Condition(Term("latency_s", "a b"), "<=", 1.0)


def test_metrics_of_the_mix_and_of_a_workload() -> None:
    workloads = {
        "a": {"latency_s": 2.0, "energy_j": 3.0, "batch": 1, "weight": 1.0, "utilization": 0.5},
        "b": {"latency_s": 4.0, "energy_j": 8.0, "batch": 8, "weight": 2.0, "utilization": 0.25},
    }
    mix = {"latency_s": 10.0, "energy_j": 19.0, "area_mm2": 7.0, "utilization": 0.3}

    assert figure(Term.parse("edp"), mix, workloads) == 190
    assert figure(Term.parse("edp[b]"), mix, workloads) == 32
    assert figure(Term.parse("energy_per_sample_j"), mix, workloads) == 3 + 2 * 1
    assert figure(Term.parse("latency_per_sample_s[ b ]"), mix, workloads) == 0.5
    assert figure(Term.parse("area_mm2"), mix, workloads) == 7
    assert Term.parse("utilization").maximise
