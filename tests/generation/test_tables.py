"""What ``show`` says of a generation."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmworkload.generation import Generation, Once, Steps, grow
from mmworkload.generation.tables import generation_tables
from mmworkload.graph import LayerGraph
from mmworkload.models.family import InputSpec
from mmworkload.models.model import Model, synthesize
from mmworkload.reporting.tables import print_out, show_tables
from mmworkload.tracing import trace_model


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(self.proj(x), state, state)


def traced(length: int) -> LayerGraph:
    specs = (InputSpec("x", (1, 1, 8)), InputSpec("state", (1, length, 8), role="state"))
    name = f"toy?length={length}"
    return trace_model(Model(name, "toy", 1, "float32", lambda device: (Step(), synthesize(specs)), specs)).graph


@pytest.fixture(scope="module")
def made() -> Generation:
    growing = grow(traced, "length", (4, 16, 9))
    return Generation("toy/whole", (Once("prefill", traced(4)), Steps("decode", growing, 4, 10, 2)), ("greedy",))


def test_phases_and_categories_are_printed_with_exact_totals(made: Generation) -> None:
    stream = io.StringIO()
    print_out(*generation_tables(made), stream=stream)
    text = stream.getvalue()
    # 64 of the projection and 16 a place: 4 places once, then 4, 6, ... 22.
    assert made.totals.macs == 11 * 64 + 16 * (4 + sum(range(4, 24, 2)))
    assert f"{made.totals.macs:,} MACs" in text
    assert "4\N{EN DASH}22 by 2" in text
    assert "greedy" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["phase", "category", "layers", "MACs", "share", "bytes", "share"] in rows
    first = [row for row in rows if row[:1] == ["decode:"]]
    # The projection and the attention of all ten steps, in whole numbers; no step is a layer of its own.
    assert sorted(row[2:6] for row in first) == [["1", "attention", "2.08", "k"], ["1", "linear", "640", "22.5"]]
    assert ["decode", "Attention", "10", "2.08", "k", "76.5", "%"] in [row[:7] for row in rows]


def test_a_phase_of_the_papers_workloads_is_shown_with_its_categories() -> None:
    def lines(model: str) -> list[list[str]]:
        stream = io.StringIO()
        print_out(*show_tables(replace(traced(4), model=model)), stream=stream)
        return [line.split() for line in stream.getvalue().splitlines()]

    found = lines("codellama/7b-decode?cached=3")
    start = found.index(["category", "layers", "MACs", "share", "bytes", "share"])
    # A query of 8 over 4 places, twice; 8 x 8 weights, two vectors and a bias.
    assert [row[:4] for row in found[start + 2 : start + 4]] == [
        ["Attention", "1", "64", "50.0"],
        ["Linear", "1", "64", "50.0"],
    ]
    assert ["category", "layers", "MACs", "share", "bytes", "share"] not in lines("av-mnist/concat")


def test_the_json_has_the_same_totals(made: Generation) -> None:
    found = json.loads(json.dumps(made.to_dict()))
    assert found["totals"]["macs"] == made.totals.macs
    assert [item["lengths"] for item in found["phases"]] == [None, [4, 22, 2]]
    assert [item["graph"] for item in found["phases"]] == ["toy?length=4", "toy?length=4"]
    for item in found["phases"]:
        for key, total in item["totals"].items():
            assert sum(group[key] for group in item["categories"].values()) == total
