"""Expected cost on architectures, orders, and the verbs with a name that has exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import mmworkload
from mmworkload import arch, verbs
from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.exits import ExitNetwork, ExitSettings, analyse, with_exits
from mmworkload.exits.analysis import PUBLISHED, Cost, simulated_costs
from mmworkload.graph import LayerGraph, Workload
from mmworkload.reporting.tables.exits import exits_tables
from mmworkload.simulating import engine
from mmworkload.simulating.result import Simulation
from mmworkload.tracing.snapshot import path_of

Zoo = Callable[[str], LayerGraph]
NAME = f"{path_of('av-mnist/concat')}+exits"


def _costs(network: ExitNetwork, name: str) -> tuple[Cost, ...]:
    spec = arch.load(name)

    def run(workload: Workload) -> Simulation:
        return engine.simulate(workload, spec, "roofline", cache=False)

    return simulated_costs(network, run)


def _order(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def test_expected_cost_is_what_simulating_the_workload_gives(zoo: Zoo) -> None:
    network = with_exits(zoo("av-mnist/concat"), ExitSettings(order="audio,image"))
    found = analyse(network, _costs(network, "eyeriss_like"))
    simulation = engine.simulate(network.workload(), arch.load("eyeriss_like"), "roofline", cache=False)
    name = simulation.arch
    assert found.row("latency", name).expected == pytest.approx(simulation.serial_latency_s, rel=1e-12)
    assert found.row("energy", name).expected == pytest.approx(simulation.energy_j, rel=1e-12)
    assert found.row("dram", name).expected == pytest.approx(simulation.dram_bytes, rel=1e-12)
    assert found.row("macs").expected == pytest.approx(simulation.totals.macs, rel=1e-12)
    assert simulation.critical_path_s == pytest.approx(simulation.serial_latency_s, rel=1e-12)
    assert any("exit probabilities p=0.3" in note for note in simulation.assumptions)


def test_every_cost_lies_between_the_first_exit_and_the_whole(zoo: Zoo) -> None:
    network = with_exits(zoo("av-mnist/concat"))
    costs = _costs(network, "eyeriss_like")
    found = analyse(network, costs)
    for cost in costs:
        row = found.row(cost.kind, cost.machine)
        assert cost.segments["image/1"] < row.best <= row.expected < row.full
        assert row.plain < row.full


def test_with_no_exit_taken_it_is_the_whole_on_an_architecture_too(zoo: Zoo) -> None:
    network = with_exits(zoo("av-mnist/concat"), ExitSettings(p=0.0))
    found = analyse(network, _costs(network, "eyeriss_like"))
    heads = network.graph.only(["exit/*"])
    alone = engine.simulate(heads, arch.load("eyeriss_like"), "roofline", cache=False)
    row = found.row("latency", alone.arch)
    assert row.expected == row.full == pytest.approx(row.plain + alone.serial_latency_s, rel=1e-9)
    assert found.modalities[0].index is None


def test_the_best_order_by_latency_is_not_that_by_macs(zoo: Zoo) -> None:
    """DenseNet has three times BERT's MACs, but a large array waits for BERT's parameters, which few tokens share."""
    network = with_exits(zoo("medical-vqa/concat"))
    found = analyse(network, (*_costs(network, "tpu_like"), *_costs(network, "eyeriss_like")))
    tpu, eyeriss = (item.machine for item in found.rows if item.kind == "latency")
    assert found.row("macs").best_order == found.order == ("text", "image")
    assert found.row("latency", tpu).best_order == ("image", "text")
    assert found.row("latency", tpu).best < found.row("latency", tpu).expected
    assert found.row("latency", eyeriss).best_order == ("text", "image")
    # BERT has ten times the parameters of DenseNet: reading few of them is another order again.
    assert found.row("params").best_order == ("image", "text")

    shown = StringIO()
    Console(width=80, file=shown).print(*exits_tables(found))
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "Best order for parameters, latency on tpu_like: image, text." in " ".join(text.split())


def test_phi_index_and_brute_force_agree_at_equal_probabilities(zoo: Zoo) -> None:
    found = analyse(with_exits(zoo("cmu-mosei/concat-multibench"), ExitSettings(classes=5, accuracy=0.6)))
    assert found.phi_order == found.index_order == found.useful_order == ("vision", "audio", "text")
    assert found.phi_agrees
    assert len(found.orders) == 6
    assert max(item.utility for item in found.orders) == found.orders[0].utility


def test_phi_disagrees_with_brute_force_where_probabilities_differ(zoo: Zoo) -> None:
    p = {"vision": (0.0, 0.01), "audio": (0.9, 0.9), "text": (0.1, 0.1)}
    found = analyse(with_exits(zoo("cmu-mosei/concat-multibench"), ExitSettings(classes=5, p=p)))
    assert not found.phi_agrees
    assert found.phi_order == ("vision", "audio", "text")
    assert found.useful_order == found.index_order == ("audio", "vision", "text")


@pytest.mark.parametrize(
    ("name", "query", "macs", "params"),
    [
        ("av-mnist/concat", {}, (0.087, 0.214), (0.063, 0.148)),
        ("mustard/concat-multibench", {"classes": 2}, (0.067, 0.169), (0.071, 0.175)),
        ("cmu-mosei/concat-multibench", {"classes": 5}, (0.053, 0.134), (0.055, 0.130)),
    ],
)
def test_the_exit_rates_behind_the_papers_reductions(
    zoo: Zoo, name: str, query: dict[str, int], macs: tuple[float, ...], params: tuple[float, ...]
) -> None:
    network = with_exits(zoo(name), ExitSettings.read(query))
    found = analyse(network)
    rates = {(item.kind, item.reduction): item.p for item in found.rates}
    assert tuple(rates["macs", share] for share in PUBLISHED["macs"]) == macs
    assert tuple(rates["params", share] for share in PUBLISHED["params"]) == params
    at = analyse(with_exits(zoo(name), ExitSettings(**query, p=macs[1], order="macs"))).row("macs")
    assert 0.4872 <= at.reduction < 0.492


def test_the_papers_least_reduction_and_its_gain_over_one_modality_fit_mosi(zoo: Zoo) -> None:
    """Section 5.5: 22.64 % off late fusion, and 13.0 % below the uni-modal network of mosi: here its text encoder."""
    graph = zoo("cmu-mosei/concat-multibench")
    left = (1 - PUBLISHED["macs"][0]) * graph.total_macs
    assert 1 - left / graph.stages["encoder/text"].macs == pytest.approx(0.130, abs=5e-4)


def test_every_verb_takes_a_name_with_exits(tmp_path: Path) -> None:
    assert mmworkload.trace(NAME).total_macs == 11_993_992
    simulation = mmworkload.simulate(f"{NAME}?p=0", "eyeriss_like", simulator="roofline", cache=False)
    assert simulation.totals.macs == 11_993_992
    assert simulation.model == "av-mnist/concat+exits?p=0"
    export = mmworkload.export("timeloop", NAME, "eyeriss_like", tmp_path / "timeloop")
    # The twelve of the network, one for each exit but two: image 2 and audio 1 and 2 are M=10 with C=24, 12 and 48.
    assert export.problem_files == 15
    assert sum(row.macs * row.count for row in export.rows) == 11_993_992


@pytest.mark.parametrize("target", ["accelforge", "csv", "scalesim", "zigzag"])
def test_every_exporter_takes_segments_and_paths(target: str, tmp_path: Path) -> None:
    from mmworkload.exporting import exporters

    assert target in exporters()
    for parts in ("segments", "paths"):
        written = mmworkload.export(target, f"{NAME}?parts={parts}", "eyeriss_like", tmp_path / parts)
        layers = {row.layer.rpartition(": ")[2] for row in written.rows}
        assert layers >= {"encoders.image.convs.0", "exits.audio.2.linear", "head.2"}


def test_only_keeps_the_parts_that_have_the_stage() -> None:
    found = mmworkload.simulate(NAME, "eyeriss_like", simulator="roofline", cache=False, only=["exit/*"])
    assert {row.part for row in found.layers} == {"image/1", "image/2", "audio/1", "audio/2"}
    assert found.totals.macs == pytest.approx(120 + 0.7 * 240 + 0.49 * 120 + 0.343 * 480)
    with pytest.raises(UnknownNameError, match="nothing"):
        mmworkload.simulate(NAME, "eyeriss_like", simulator="roofline", cache=False, only=["nothing"])


def test_a_network_with_exits_is_no_one_model() -> None:
    with pytest.raises(MmworkloadError, match="Take av-mnist/concat, the network itself"):
        verbs.measure("av-mnist/concat+exits")


def test_the_command_prints_tables_and_json() -> None:
    from mmworkload.cli.app import app

    arguments = ["exits", NAME, "--arch", "eyeriss_like", "--simulator", "roofline", "--no-cache"]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0
    for said in ("image/1  block 2 of 4", "phi (eq. 7)", "22.64 %", "image, audio", "eyer"):
        assert said in printed.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["schema_version"] == 2
    assert [item["expected"] for item in found["rows"] if item["kind"] == "macs"] == [pytest.approx(4_543_898.26)]
    assert [item["name"] for item in found["exits"]] == ["image/1", "image/2", "audio/1", "audio/2"]
    refused = CliRunner().invoke(app, ["exits", "av-mnist/concat+exitsp=1"])
    assert refused.exit_code == 2


def test_simulators_are_compared_on_what_is_expected_of_all_segments() -> None:
    from mmworkload.cli.app import app

    arguments = ["simulate", NAME, "--arch", "eyeriss_like", "--simulator", "roofline,recorded", "--no-cache", "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert found["macs"] == pytest.approx(4_543_898.26)
    alone = mmworkload.simulate(NAME, "eyeriss_like", simulator="roofline", cache=False)
    assert found["simulations"]["roofline"]["energy_j"] == pytest.approx(alone.energy_j)
    assert {row["part"] for row in found["simulations"]["recorded"]["layers"]} == {row.part for row in alone.layers}


def test_trace_says_that_it_gives_the_whole_network() -> None:
    from mmworkload.cli.app import app

    printed = CliRunner().invoke(app, ["trace", NAME, "--json"])
    assert "every exit evaluated and none taken" in printed.stderr
    assert json.loads(printed.stdout)["model"] == "av-mnist/concat+exits"


def test_show_tells_stages_of_exits() -> None:
    from mmworkload.cli.app import app

    printed = CliRunner().invoke(app, ["show", NAME])
    assert printed.exit_code == 0
    assert "exit/image" in printed.output
    assert "11,993,992 MACs" in printed.output


def test_orders_are_named_like_the_modalities(zoo: Zoo) -> None:
    found = analyse(with_exits(zoo("av-mnist/concat")))
    assert [item.order for item in found.orders] == [_order("image,audio"), _order("audio,image")]
    assert [item.expected[0] for item in found.orders] == [pytest.approx(4_543_898.26), pytest.approx(8_678_441.4952)]
