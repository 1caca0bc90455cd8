"""A weight that is stored in fewer bits than the architecture computes in, as each tool is told it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmworkload import arch
from mmworkload.arch import Architecture
from mmworkload.exporters.accelforge.einsum import translate
from mmworkload.exporters.words import in_words
from mmworkload.exporters.zigzag.inputs import inputs
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Work
from mmworkload.problem import gemm
from mmworkload.simulating.estimate import Fidelity, as_asked
from mmworkload.verbs import export

STORED = gemm(8, 32, 16, bits=(32, 4, 32))


@pytest.fixture
def eyeriss() -> Architecture:
    found: Architecture = arch.load("eyeriss_like")
    return found


def graph(bits: int) -> LayerGraph:
    problem = gemm(8, 32, 16, bits=(32, bits, 32))
    return LayerGraph(
        "toy", "made", 1, "float32", (Layer("linear", "linear", stage="head", work=(Work(problem),)),), {}
    )


def test_zigzag_and_accelforge_are_told_the_width_of_each_operand(eyeriss: Architecture) -> None:
    asked = as_asked(STORED, eyeriss.bits)

    layer = inputs(asked, eyeriss, "quick").layer
    einsum = translate(asked, eyeriss, "e")

    assert eyeriss.dram.word_bits == 16
    assert layer.to_dict("toy", 0)["operand_precision"] == {"I": 16, "W": 4, "O": 16, "O_final": 16}
    assert {access.path: access.bits for access in einsum.accesses} == {"input": 16, "weight": 4, "output": 16}


def test_a_tool_of_one_word_says_what_it_charges_in_whole_words(eyeriss: Architecture) -> None:
    workload = Workload("toy", (Part(graph(4)), Part(graph(8))))

    told = in_words(Fidelity("exact"), workload, eyeriss)

    assert str(told) == "approximate (Weights of 4 bits and Weights of 8 bits are charged as words of 16)"
    assert in_words(Fidelity("exact"), Workload("toy", (Part(graph(32)),)), eyeriss) == Fidelity("exact")


@pytest.mark.parametrize("target", ["timeloop", "scalesim"])
def test_the_manifest_says_it(target: str, tmp_path: Path) -> None:
    spec = "tpu_like"
    narrow = export(target, graph(4), spec, tmp_path / "narrow").fidelity
    plain = export(target, graph(32), spec, tmp_path / "plain").fidelity

    assert "Weights of 4 bits are charged as words of 8" in narrow
    assert "Weights" not in plain
