"""One simulator answers every layer with MACs of a total, and who answered is told from the rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.layer import Layer, Work
from mmworkload.problem import gemm
from mmworkload.reporting.answered import simulated_by
from mmworkload.simulating import choice
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import Fidelity, Options
from mmworkload.simulating.result import Answered
from mmworkload.system import parse


def product(name: str, rows: int = 6, stage: str = "head") -> Layer:
    return Layer(name, "linear", stage=stage, work=(Work(gemm(rows, 10, 4, bits=(32, 32, 32)), 1, False),))


@pytest.fixture
def four(make_graph: Any) -> Any:
    """Three layers with MACs, of two different loop nests, and one without."""
    return make_graph(product("a"), product("b", 7), product("c"), Layer("relu", "relu", stage="head", vector_ops=40))


@pytest.fixture
def auto_is(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *names: monkeypatch.setattr(choice, "AUTO", names)


def fake(**extra: str) -> Options:
    return Options(limit_s=20.0, extra={"cycles": "90", **extra})


@pytest.mark.usefixtures("fake_simulator")
@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"refuses_macs": "280"}, "fake: refused: too odd for this tool (the first in layer 'b')"),
        ({"do": "refuse"}, "fake: gave no answer (error): no mapping fits (the first in layer 'a')"),
        ({"do": "wrong_macs"}, "fake: gave no answer (error): fake counted 241 MACs where the problem has 240"),
        ({"do": "exit"}, "fake: gave no answer (crash): the worker ended"),
    ],
)
def test_auto_passes_over_a_simulator_that_fails_on_one_layer(
    small: Architecture, four: Any, tmp_path: Path, auto_is: Any, extra: dict[str, str], why: str
) -> None:
    auto_is("fake", "roofline")

    found = simulate(four, small, "auto", workers=1, cache=Cache(tmp_path), options=fake(**extra))

    assert {row.simulator for row in found.layers} == {"roofline"}
    assert (found.simulator, found.chosen, found.fallbacks, found.failures) == ("roofline", "roofline", 0, 0)
    assert found.why.startswith(why)
    assert [row.note for row in found.layers] == [""] * 4


@pytest.mark.usefixtures("fake_simulator")
def test_a_simulator_that_refuses_one_layer_runs_none(
    small: Architecture, four: Any, tmp_path: Path, auto_is: Any
) -> None:
    auto_is("fake", "roofline")
    options = fake(refuses_macs="280", runs=str(tmp_path / "runs"))

    simulate(four, small, "auto", cache=Cache(tmp_path), options=options)

    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("fake_simulator")
def test_auto_takes_the_first_that_answers_every_layer_and_the_roofline_does_the_rest(
    small: Architecture, four: Any, tmp_path: Path, auto_is: Any
) -> None:
    auto_is("fake", "roofline")

    found = simulate(four, small, "auto", cache=Cache(tmp_path), options=fake())

    assert [row.simulator for row in found.layers] == ["fake", "fake", "fake", "roofline"]
    # 40 operations on 4 lanes beside three answers of 90 cycles.
    assert found.answered == (
        Answered("fake", "1", matrix=True, layers=3, share=pytest.approx(270 / 280)),
        Answered("roofline", "", matrix=False, layers=1, share=pytest.approx(10 / 280)),
    )
    assert (found.simulator, found.why) == ("fake", "")
    assert simulated_by(found.answered, found.why) == [
        "simulated by fake 1",
        "1 layer without MACs, 3.6 % of the latency: in closed form by the roofline",
    ]


@pytest.mark.usefixtures("fake_simulator")
def test_one_asked_for_by_name_is_helped_out_by_the_roofline_and_the_headline_says_so(
    small: Architecture, four: Any, tmp_path: Path
) -> None:
    found = simulate(four, small, "fake", cache=Cache(tmp_path), options=fake(refuses_macs="280"))

    assert [row.simulator for row in found.layers] == ["fake", "roofline", "fake", "roofline"]
    assert (found.simulator, found.chosen, found.fallbacks) == ("fake+roofline", "fake", 1)
    assert [(item.simulator, item.matrix, item.layers) for item in found.answered] == [
        ("fake", True, 2),
        ("roofline", True, 1),
        ("roofline", False, 1),
    ]
    # 180, 70 and 10 of 260 cycles.
    assert [item.share for item in found.answered] == pytest.approx([180 / 260, 70 / 260, 10 / 260])
    head, rest = simulated_by(found.answered)
    assert "fake 1 (2 layers, 69.2 % of the latency) and roofline" in head
    assert "(1 layer, 26.9 % of the latency)" in head
    assert "cannot be compared" in head
    assert rest.startswith("1 layer without MACs, 3.8 % of the latency")
    told = found.to_dict()
    assert [(item["simulator"], item["layers"]) for item in told["answered"]] == [
        ("fake", 2),
        ("roofline", 1),
        ("roofline", 1),
    ]
    assert (told["simulator"], told["chosen"]) == ("fake+roofline", "fake")


@pytest.mark.usefixtures("fake_simulator")
def test_a_network_without_loop_nests_is_the_rooflines(small: Architecture, make_graph: Any, auto_is: Any) -> None:
    auto_is("fake", "roofline")
    graph = make_graph(Layer("relu", "relu", stage="head", vector_ops=40))

    found = simulate(graph, small, "auto", cache=False, options=fake())

    assert (found.simulator, found.chosen) == ("roofline", "roofline")
    assert found.answered == (Answered("roofline", found.version, matrix=False, layers=1, share=1.0),)
    assert simulated_by(found.answered) == [f"simulated by roofline {found.version}"]


class _OnlyNvdla:
    """Can be told one architecture and not the other."""

    name = "only"
    in_process = True

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        return "1"

    def fidelity(self, arch: Architecture) -> Fidelity:
        return Fidelity("exact") if arch.name == "nvdla_like" else Fidelity("refused", ("not its kind",))


def test_one_simulator_answers_for_all_architectures_of_a_system(
    make_graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"only": _OnlyNvdla(), "roofline": choice.simulators()["roofline"]}
    monkeypatch.setattr(choice, "simulators", lambda: known)
    monkeypatch.setattr(choice, "AUTO", ("only", "roofline"))
    graph = make_graph(product("a", stage="encoder/image"), product("b", 7))

    found = simulate(graph, parse("encoder/image=nvdla_like,*=eyeriss_like", architectures.load), cache=False)

    assert [row.simulator for row in found.layers] == ["roofline", "roofline"]
    assert found.why == "only: cannot be told eyeriss_like: not its kind"


def test_layers_whose_loop_nests_two_answered_are_a_group_of_their_own(small: Architecture, four: Any) -> None:
    whole = simulate(four, small, "roofline", cache=False)
    first, *rest = whole.layers
    mixed = replace(whole, chosen="other", layers=(replace(first, simulator="other+roofline"), *rest))

    assert [(item.simulator, item.layers) for item in mixed.answered] == [
        ("other+roofline", 1),
        ("roofline", 2),
        ("roofline", 1),
    ]
    assert (mixed.simulator, mixed.fallbacks) == ("other+roofline", 3)
