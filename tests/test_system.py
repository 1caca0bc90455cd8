"""Systems of several architectures: parsing, what runs where, and what goes between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmworkload import arch as architectures
from mmworkload import verbs
from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, UnknownNameError
from mmworkload.graph import LayerGraph
from mmworkload.simulating.engine import simulate
from mmworkload.system import System, parse

MIXED = "encoder/image=nvdla_like,*=eyeriss_like"


@pytest.fixture(scope="module")
def graph() -> LayerGraph:
    return verbs.trace("shapes/av-mnist/concat.yaml")


def test_each_stage_costs_what_it_costs_on_its_architecture_alone(graph: LayerGraph) -> None:
    mixed = simulate(graph, parse(MIXED, architectures.load), "roofline")
    nvdla = simulate(graph, architectures.load("nvdla_like"), "roofline")
    eyeriss = simulate(graph, architectures.load("eyeriss_like"), "roofline")

    expected = {stage: eyeriss.stages()[stage] for stage in graph.stages} | {
        "encoder/image": nvdla.stages()["encoder/image"]
    }
    for stage, totals in mixed.stages().items():
        assert totals.latency_s == pytest.approx(expected[stage].latency_s)
        assert totals.energy_j == pytest.approx(expected[stage].energy_j)
        assert totals.dram_bytes == expected[stage].dram_bytes
    assert [row.layer for row in mixed.layers] == [row.layer for row in eyeriss.layers]
    assert {row.arch for row in mixed.layers if row.stage == "encoder/image"} == {"nvdla_like"}
    assert mixed.energy_j == pytest.approx(sum(mixed.energy_by_component_j.values()))
    assert {name.split(": ")[0] for name in mixed.energy_by_component_j} == {"nvdla_like", "eyeriss_like"}
    assert mixed.bits is None
    assert "8 bits, native to nvdla_like; 16 bits, native to eyeriss_like" in mixed.precision


def test_what_crosses_is_the_encoders_output_at_the_slower_dram(graph: LayerGraph) -> None:
    mixed = simulate(graph, parse(MIXED, architectures.load), "roofline")

    (transfer,) = mixed.transfers
    # The image encoder gives 48 features of 8 bits; eyeriss_like's DRAM is the slower with 1.6 GB/s.
    assert (transfer.source, transfer.target, transfer.tensors, transfer.bytes) == ("nvdla_like", "eyeriss_like", 1, 48)
    assert transfer.seconds == pytest.approx(48 / 1.6e9)
    assert mixed.transfer_s == transfer.seconds


def test_the_architectures_work_at_once(graph: LayerGraph) -> None:
    mixed = simulate(graph, parse(MIXED, architectures.load), "roofline")
    on_nvdla = mixed.stages()["encoder/image"].latency_s

    # The image encoder on its own accelerator is done long before the audio encoder, and hides behind it.
    assert mixed.critical_path_s == pytest.approx(mixed.serial_latency_s - on_nvdla)


def test_one_architecture_for_all_stages_is_that_architecture(graph: LayerGraph) -> None:
    plain = simulate(graph, architectures.load("eyeriss_like"), "roofline").to_dict()
    system = simulate(graph, parse("*=eyeriss_like", architectures.load), "roofline").to_dict()

    assert {**plain, "seconds": 0} == {**system, "seconds": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder/image=nvdla_like", r"no architecture for the stage 'encoder/audio'; end it with \*=NAME"),
        ("encoder/imag=nvdla_like,*=eyeriss_like", "unknown stage 'encoder/imag'.*encoder/image"),
        ("encoder/image=nvdla,*=eyeriss_like", "unknown architecture 'nvdla'.*nvdla_like"),
        ("encoder/image=nvdla_like,eyeriss_like", r"'eyeriss_like' is not STAGE=ARCHITECTURE"),
        ("=nvdla_like", "is not STAGE=ARCHITECTURE"),
    ],
)
def test_a_wrong_system_is_one_clear_error(graph: LayerGraph, text: str, message: str) -> None:
    with pytest.raises((ArchitectureError, UnknownNameError), match=message):
        verbs.simulate(graph, text, simulator="roofline")


def test_a_parameter_is_set_behind_the_architectures_name() -> None:
    def doubled(arch: Architecture, settings: object) -> Architecture:
        assert settings == {"array.x": "28"}
        return arch.model_copy(update={"overrides": ("array.x=28",)})

    system = parse(MIXED, architectures.load)
    changed = system.each({"eyeriss_like:array.x": "28"}, doubled)
    assert changed.label == "encoder/image=nvdla_like, *=eyeriss_like array.x=28"
    with pytest.raises(ArchitectureError, match=r"--set array.x: say of which architecture, as in nvdla_like:array.x"):
        system.each({"array.x": "28"}, doubled)


def test_an_export_is_for_one_architecture(graph: LayerGraph, tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="an export is for one architecture"):
        verbs.export("csv", graph, MIXED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_first_glob_that_matches_counts() -> None:
    system = parse("encoder/*=nvdla_like,encoder/image=tpu_like,*=eyeriss_like", architectures.load)
    assert system.runs("encoder/image").name == "nvdla_like"
    assert system.runs("head").name == "eyeriss_like"
    assert isinstance(System.of(system), System)
