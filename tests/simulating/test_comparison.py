"""Several simulators side by side: the same work, who did not answer, and how alike they order the layers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import mmworkload
from mmworkload.errors import MmworkloadError, SimulationError, UnavailableError, UnknownNameError
from mmworkload.simulating.comparison import compare_simulators
from mmworkload.simulating.result import Simulation
from mmworkload.tracing.snapshot import path_of


@pytest.fixture(scope="module")
def answer() -> Simulation:
    path = path_of("av-mnist/image")
    assert path is not None
    return mmworkload.simulate(str(path), "eyeriss_like", simulator="roofline", cache=False)


def slower(simulation: Simulation, factor: int) -> Simulation:
    layers = tuple(
        replace(row, latency_s=row.latency_s * factor, cycles=row.cycles * factor) for row in simulation.layers
    )
    return replace(simulation, chosen="slow", layers=layers)


def test_stages_are_side_by_side_in_the_order_asked_for(answer: Simulation) -> None:
    known = {"roofline": answer, "slow": slower(answer, 3)}
    comparison = compare_simulators(["slow", "roofline"], known.__getitem__)
    assert list(comparison.simulations) == ["slow", "roofline"]
    stages = comparison.stages()
    assert set(stages) == {"encoder/image", "head"}
    for by_name in stages.values():
        assert by_name["slow"].latency_s == pytest.approx(3 * by_name["roofline"].latency_s)
        assert by_name["slow"].macs == by_name["roofline"].macs
    # Three times slower everywhere is the same order.
    assert comparison.rank_correlation() == {("slow", "roofline"): pytest.approx(1.0)}
    plain = comparison.to_dict()
    assert plain["macs"] == answer.totals.macs == 149032
    assert plain["rank_correlation"] == [{"simulators": ["slow", "roofline"], "spearman": pytest.approx(1.0)}]
    assert set(plain["simulations"]) == {"slow", "roofline"}


def test_one_that_does_not_answer_is_named_with_its_reason(answer: Simulation) -> None:
    def simulate(name: str) -> Simulation:
        if name == "timeloop":
            raise UnavailableError("it is not installed")
        return answer

    comparison = compare_simulators(["timeloop", "roofline"], simulate)
    assert comparison.unanswered == {"timeloop": "it is not installed"}
    assert list(comparison.simulations) == ["roofline"]
    assert comparison.to_dict()["unanswered"] == {"timeloop": "it is not installed"}


def test_what_cannot_be_compared_is_refused(answer: Simulation) -> None:
    def fail(name: str) -> Simulation:
        raise UnavailableError(f"{name} is not installed")

    def unknown(name: str) -> Simulation:
        raise UnknownNameError("simulator", name, ["roofline"])

    with pytest.raises(MmworkloadError, match="give two simulators or more"):
        compare_simulators(["roofline", "roofline"], lambda name: answer)
    with pytest.raises(SimulationError, match="zigzag is not installed; timeloop is not installed"):
        compare_simulators(["zigzag", "timeloop"], fail)
    with pytest.raises(UnknownNameError, match="roofline"):
        compare_simulators(["rooflin", "zigzag"], unknown)
    other = replace(answer, layers=answer.layers[:-1])
    with pytest.raises(SimulationError, match="did not simulate the same work"):
        compare_simulators(["a", "b"], {"a": answer, "b": other}.__getitem__)


def test_the_plain_form_has_the_documented_fields(answer: Simulation) -> None:
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    section = text.partition("## Several simulators")[2].partition("\n## ")[0]
    fields = {
        name for cell in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    known = {"roofline": answer, "slow": slower(answer, 3)}
    assert set(compare_simulators(known, known.__getitem__).to_dict()) == fields
