"""Result packs: what goes in comes out, what is damaged or cannot be right is refused, and ``auto`` finds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mmworkload import verbs
from mmworkload.arch import Architecture
from mmworkload.cli.app import app
from mmworkload.errors import FormatError, MmworkloadError, SimulationError, UnavailableError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Work
from mmworkload.packs import shelf
from mmworkload.packs.adding import Added, add, verify
from mmworkload.packs.coverage import Covered, coverage, problems_of
from mmworkload.packs.pack import Pack, Row
from mmworkload.problem import gemm
from mmworkload.reporting.tables import simulate_tables
from mmworkload.simulating import recorded
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.choice import simulators
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Options

pytestmark = pytest.mark.slow

# The fake simulator's answer for 240 and 280 MACs on the small architecture is above all floors.
OPTIONS = Options(limit_s=20.0, extra={"cycles": "90"})


def product(name: str, rows: int = 6) -> Layer:
    return Layer(name, "linear", stage="head", work=(Work(gemm(rows, 10, 4, bits=(32, 32, 32)), 1, False),))


@pytest.fixture
def two(make_graph: Any) -> LayerGraph:
    return make_graph(product("a"), product("b", 7), product("c"))


@pytest.fixture
def filled(fake_simulator: Path, two: LayerGraph, small: Architecture, tmp_path: Path) -> tuple[Added, Path]:
    """A pack with the fake simulator's answers to both problems."""
    cache = Cache(tmp_path / "cache")
    simulate(two, small, "fake", cache=cache, options=OPTIONS)
    folder = tmp_path / "packs"
    added = add([two], small, folder, tool="Fake 1", simulator="fake", options=OPTIONS, cache=cache, date="2026-01-02")
    return added, folder


@pytest.fixture
def on_shelf(filled: tuple[Added, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Pack]:
    """The same, as if it were installed."""
    pack = Pack.load(filled[0].path)
    for module in (shelf, recorded):
        monkeypatch.setattr(module, "packs", lambda: (pack,))
        monkeypatch.setattr(module, "files", lambda: {"fake-small": filled[0].path})
    return pack


def test_the_cache_goes_into_a_pack_and_comes_out_as_it_was(
    filled: tuple[Added, Path], two: LayerGraph, small: Architecture
) -> None:
    added, folder = filled
    assert (added.arch, added.recorded, added.new, added.missing, added.refused) == ("small", 2, 2, 0, {})
    pack = Pack.load(folder / "fake-small.parquet")
    assert (pack.simulator, pack.version, pack.tool, pack.recorded) == ("fake", "1", "Fake 1", "2026-01-02")
    problems = {str(problem): problem for problem in problems_of(two, small).values()}
    assert {row.problem for row in pack.rows} == set(problems)
    for row in pack.rows:
        estimate = row.estimate("fake", "1")
        assert (estimate.cycles, estimate.macs) == (90, problems[row.problem].macs)
        assert estimate.energy_j == {"mac": 1.0}
        assert row.arch_key == small.key
        assert row.command == f"mmworkload results verify --key {row.key[:16]}"


def test_saving_twice_gives_the_same_bytes(filled: tuple[Added, Path], tmp_path: Path) -> None:
    pack = Pack.load(filled[0].path)
    for name in ("one", "two"):
        replace(pack, rows=pack.rows[:: 1 if name == "one" else -1]).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == filled[0].path.read_bytes()


def test_adding_again_adds_nothing_and_keeps_the_file(
    filled: tuple[Added, Path], two: LayerGraph, small: Architecture, tmp_path: Path
) -> None:
    before = filled[0].path.read_bytes()
    again = add([two], small, filled[1], tool="Fake 1", simulator="fake", options=OPTIONS, cache=Cache(tmp_path / "x"))
    # Nothing is in that cache, and nothing is missing since the pack has it.
    assert (again.recorded, again.new, again.missing) == (2, 0, 0)
    assert filled[0].path.read_bytes() == before


@pytest.mark.usefixtures("fake_simulator")
def test_what_cannot_be_right_or_failed_is_not_recorded(two: LayerGraph, small: Architecture, tmp_path: Path) -> None:
    cache, options = Cache(tmp_path / "cache"), Options(extra={"do": "wrong_macs", "refuses_macs": "280"})
    simulate(two, small, "fake", cache=cache, options=options)
    added = add([two], small, tmp_path / "packs", tool="Fake 1", simulator="fake", options=options, cache=cache)
    assert (added.recorded, added.new) == (0, 0)
    assert sorted(added.refused.values()) == [
        next(reason for reason in added.refused.values() if reason.startswith("fake counted 241 MACs where")),
        "too odd for this tool",
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: [{**rows[0], "cycles": 1}, *rows[1:]], "not as it was recorded"),
        (lambda rows: [{**rows[0], "key": "0" * 64}, *rows[1:]], "not as it was recorded"),
        (lambda rows: rows[1:], "not as it was recorded"),
        (lambda rows: [*rows, rows[0]], "not as it was recorded"),
    ],
)
def test_a_changed_row_is_refused(filled: tuple[Added, Path], damage: Any, message: str) -> None:
    path = filled[0].path
    table = pyarrow.parquet.read_table(path)
    changed = pyarrow.Table.from_pylist(damage(table.to_pylist()), schema=table.schema)
    pyarrow.parquet.write_table(changed, path)
    with pytest.raises(FormatError, match=message) as caught:
        Pack.load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_cut_off_or_no_pack_is_refused(filled: tuple[Added, Path], tmp_path: Path) -> None:
    path = filled[0].path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"fake-small\.parquet cannot be read as a pack"):
        Pack.load(path)
    other = tmp_path / "other.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), other)
    with pytest.raises(FormatError, match=r"other\.parquet is not a pack of results"):
        Pack.load(other)


def test_recorded_answers_are_those_of_the_simulator_with_their_origin(
    on_shelf: Pack, two: LayerGraph, small: Architecture
) -> None:
    here = simulate(two, small, "fake", cache=False, options=OPTIONS)
    there = simulate(two, small, "recorded", options=OPTIONS)
    assert [row.cycles for row in there.layers] == [row.cycles for row in here.layers]
    assert there.energy_j == here.energy_j
    assert (there.simulator, there.version, there.fidelity) == ("recorded", "Fake 1 of 2026-01-02", "exact")
    assert {row.simulator for row in there.layers} == {"recorded"}
    assert there.fallbacks == there.failures == 0


def test_auto_takes_recorded_answers_only_where_all_are_on_record(
    on_shelf: Pack, make_graph: Any, small: Architecture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mmworkload.simulating.choice.AUTO", ("recorded", "fake", "roofline"))
    cache = Cache(tmp_path / "own")
    whole = simulate(make_graph(product("a"), product("b", 7)), small, "auto", options=OPTIONS, cache=cache)
    partly = simulate(make_graph(product("a"), product("new", 9)), small, "auto", options=OPTIONS, cache=cache)
    assert ([row.simulator for row in whole.layers], whole.why) == (["recorded", "recorded"], "")
    assert [row.simulator for row in partly.layers] == ["fake", "fake"]
    assert (partly.simulator, partly.fallbacks) == ("fake", 0)
    assert partly.why == "recorded: not on record: 1 of 2 loop nests (the first in layer 'new')"


def test_who_has_nothing_on_record_is_not_named_as_the_one_who_answered(
    on_shelf: Pack, make_graph: Any, small: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmworkload.simulating.choice.AUTO", ("recorded", "roofline"))
    unknown = make_graph(product("new", 9))
    with pytest.raises(UnavailableError, match="recorded: none of these loop nests is on record"):
        simulate(unknown, small, "recorded", options=OPTIONS)
    found = simulate(unknown, small, "auto", options=OPTIONS)
    assert (found.simulator, found.fallbacks) == ("roofline", 0)
    assert found.why == "recorded: not on record: 1 of 1 loop nests (the first in layer 'new')"
    assert "lower bounds" in found.fidelity


def test_the_first_line_says_how_much_is_on_record(on_shelf: Pack, make_graph: Any, small: Architecture) -> None:
    found = simulate(make_graph(product("a"), product("new", 9)), small, "recorded", options=OPTIONS)
    shown = StringIO()
    Console(width=80, file=shown).print(*simulate_tables(found))
    text = " ".join(shown.getvalue().split())
    assert "simulated by recorded Fake 1 of 2026-01-02 (1 layer, " in text
    assert ") and roofline 0.1.0 (1 layer, " in text
    assert "no answer of" not in text


def test_a_damaged_pack_is_left_out_by_auto_and_named(
    on_shelf: Pack, filled: tuple[Added, Path], two: LayerGraph, small: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> tuple[Pack, ...]:
        return (Pack.load(filled[0].path),)

    path = filled[0].path
    path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(recorded, "packs", damaged)
    monkeypatch.setattr("mmworkload.simulating.choice.AUTO", ("recorded", "roofline"))
    with pytest.raises(UnavailableError, match=r"fake-small\.parquet cannot be read as a pack .*get the file anew"):
        simulate(two, small, "recorded", options=OPTIONS)
    found = simulate(two, small, "auto", options=OPTIONS)
    assert found.simulator == "roofline"
    assert "recorded" in found.why


def test_an_architecture_that_differs_in_one_figure_is_not_recorded(
    on_shelf: Pack, two: LayerGraph, small: Architecture, spec: dict[str, Any]
) -> None:
    from mmworkload.arch import from_dict

    other = from_dict({**spec, "clock_mhz": 2})
    assert simulators()["recorded"].fidelity(other).level == "refused"
    with pytest.raises(MmworkloadError, match="no results are recorded for small"):
        simulate(two, other, "recorded")


def test_a_row_under_the_key_of_another_problem_is_refused(
    on_shelf: Pack, two: LayerGraph, small: Architecture
) -> None:
    swapped: tuple[Row, ...] = tuple(
        replace(row, problem=other.problem) for row, other in zip(on_shelf.rows, on_shelf.rows[::-1], strict=True)
    )
    on_shelf.__dict__["rows"] = swapped
    on_shelf.__dict__.pop("by_key", None)
    problem = next(iter(problems_of(two, small).values()))
    with pytest.raises(SimulationError, match=r"the row \w+ is of .*, not of"):
        simulators()["recorded"].prepare(problem, small, OPTIONS)


def test_verifying_finds_the_row_that_differs(on_shelf: Pack) -> None:
    right, wrong = on_shelf.rows

    def run(problem: Any, arch: str, effort: str) -> Any:
        assert (arch, effort) == ("small", "normal")
        found = right.estimate("fake", "1")
        return found if str(problem) == right.problem else replace(found, cycles=99)

    first, second = verify(on_shelf, [right, wrong], run, 0.0)
    assert (first.difference, first.agrees) == (0.0, True)
    assert (second.difference, second.agrees) == (pytest.approx(0.1), False)
    assert all(item.agrees for item in verify(on_shelf, [right, wrong], run, 0.15))


def test_coverage_counts_unique_problems(on_shelf: Pack, make_graph: Any, small: Architecture) -> None:
    graph = make_graph(product("a"), product("again"), product("new", 9))
    assert list(coverage([graph], [small], [on_shelf])) == [Covered(graph.model, "small", 2, 1)]


# --- the packs of the repository --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["eyeriss_like", "simple_weight_stationary", "tpu_like"])
def test_timeloops_answers_to_av_mnist_concat_are_on_record(arch: str) -> None:
    result = verbs.simulate("shapes/av-mnist/concat.yaml", arch, simulator="recorded")
    assert result.version.startswith("Timeloop 4cf6d4c of 2026-")
    assert (result.fallbacks, result.failures, result.unique_problems) == (0, 0, 12)
    assert result.energy_j is not None
    assert all(row.cycles > 0 for row in result.layers)


def test_the_packs_are_small() -> None:
    assert sum(path.stat().st_size for path in shelf.files().values()) < 10e6


def test_every_recorded_row_counts_its_problems_macs() -> None:
    from mmworkload.problem import Problem

    for pack in shelf.packs():
        for row in pack.rows:
            assert Problem.parse(row.problem).macs == row.macs
            assert set(json.loads(row.energy_j)) >= {"mac", "leakage"}


@pytest.mark.parametrize("arch", ["eyeriss_like", "simple_weight_stationary"])
def test_the_packs_answer_the_whole_zoo(arch: str) -> None:
    from mmworkload import arch as architectures
    from mmworkload.packs.shelf import packs
    from mmworkload.tracing.snapshot import snapshots

    graphs = [LayerGraph.load(path) for path in snapshots().values()]
    found = list(coverage(graphs, [architectures.load(arch)], packs()))
    assert len(found) == len(graphs) >= 144
    assert [item.model for item in found if item.recorded != item.problems] == []


def test_problems_that_the_simulator_is_told_in_the_same_words_share_a_row() -> None:
    from mmworkload import arch as architectures
    from mmworkload.problem import gemm

    weights = gemm(1, 1024, 512)
    second = replace(weights, operands=tuple(
        replace(item, role="input") if item.role == "weight" else item for item in weights.operands
    ))  # fmt: skip
    design = architectures.load("eyeriss_like")
    asked = [item.with_bits(design.bits).canonical() for item in (weights, second)]
    keys = [simulators()["recorded"].prepare(item, design, Options()).options["key"] for item in asked]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_are_exported_as_the_suffix_says(filled: tuple[Added, Path], tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"rows{suffix}"
    done = CliRunner().invoke(app, ["results", "export", "--packs", str(filled[1]), "-o", str(output)])
    assert done.exit_code == 0, done.output
    frame = pandas.read_csv(output) if suffix == ".csv" else pandas.read_parquet(output)
    assert list(frame["problem"]) == [row.problem for row in Pack.load(filled[0].path).rows]
    refused = CliRunner().invoke(app, ["results", "export", "--packs", str(filled[1]), "-o", str(tmp_path / "x.txt")])
    assert refused.exit_code == 2


def test_a_simulator_that_cannot_run_is_told_before_anything_is_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def traced(*_: Any) -> None:
        raise AssertionError("traced first")

    monkeypatch.setattr("mmworkload.sources.load_graph", traced)
    for name, arch in (("timelop", "eyeriss_like"), ("recorded", "nvdla_like")):
        with pytest.raises(MmworkloadError, match=f"{name}"):
            verbs.simulate("av-mnist/concat", arch, simulator=name)
