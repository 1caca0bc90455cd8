"""docs/json.md says what the layer graph's JSON is: every field, an example that loads, a grammar that holds."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mmworkload.cli.listing import listing
from mmworkload.graph import LayerGraph
from mmworkload.measuring import Execution, LayerTime, Measurement, Spread, StageTime
from mmworkload.measuring.frames import HostRow, KernelRow, columns
from mmworkload.problem import Problem


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text()


@pytest.fixture(scope="module")
def example(text: str) -> dict[str, Any]:
    block = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return json.loads(block.group(1))


def tables(text: str, heading: str) -> list[list[str]]:
    """The field names of each table under a heading."""
    match = re.search(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert match is not None
    found: list[list[str]] = []
    for line in match.group(1).splitlines():
        if line.startswith("| field |"):
            found.append([])
        elif line.startswith("| `"):
            found[-1].append(line.split("`")[1])
    return found


def test_the_example_is_a_graph_and_its_sums_are_right(example: dict[str, Any]) -> None:
    graph = LayerGraph.from_dict(example)

    assert graph.to_dict() == example
    # Convolution: 2 samples x 4 channels x 4 x 4 outputs x 3 x 3 kernel x 1 channel; linear: 2 x 10 x 64.
    assert example["total_macs"] == 2 * 4 * 4 * 4 * 3 * 3 + 2 * 10 * 64
    assert example["total_params"] == (4 * 9 + 4) + (64 * 10 + 10)
    assert len(example["coverage"]["lowered"]) == len(example["layers"])


def test_every_field_is_described_and_none_that_is_not_there(text: str, example: dict[str, Any]) -> None:
    layer_table, work_table = tables(text, "Layers")
    described = {
        "graph": tables(text, "The layer graph")[0],
        "inputs": tables(text, "Inputs")[0],
        "stages": tables(text, "Stages")[0],
        "tensors": tables(text, "Tensors")[0],
        "layers": layer_table,
        "work": work_table,
        "coverage": tables(text, "Coverage")[0],
    }

    assert {name: sorted(fields) for name, fields in described.items()} == {
        "graph": sorted(example),
        "inputs": sorted(example["inputs"][0]),
        "stages": sorted(next(iter(example["stages"].values()))),
        "tensors": sorted(next(iter(example["tensors"].values()))),
        "layers": sorted(example["layers"][0]),
        "work": sorted(example["layers"][0]["work"][0]),
        "coverage": sorted(example["coverage"]["lowered"][0]),
    }


def test_the_problem_that_is_explained_is_the_one_of_the_example(text: str, example: dict[str, Any]) -> None:
    line = next(line for line in text.splitlines() if line.startswith("mac "))
    problem = Problem.parse(line)
    height = problem.operand("Inputs").axes[1]

    assert line == example["problems"]["p0"]
    assert str(problem.canonical()) == line
    assert (height.extent(problem.extents), height.size) == (9, 8)


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        ("workloads", "Workloads"),
        ("archs", "Architectures"),
        ("exporters", "Exporters"),
        ("simulators", "Simulators"),
    ],
)
def test_every_field_of_a_list_is_described(text: str, kind: str, heading: str) -> None:
    entries = listing(kind)

    assert entries
    described = tables(text, heading)
    assert sorted(described[0]) == sorted(entries[0])
    if kind == "workloads":
        assert sorted(described[1]) == sorted(entries[0]["variants"][0])


def test_every_field_of_a_measurement_is_described(text: str) -> None:
    second = Spread.of([1.0])
    measurement = Measurement(
        "m", "", 1, "float32", "cpu", second, second, (), 0.0, 0.0, {},
        stage_times=(StageTime("head", "", second, 0.0, 0.0, 0.0, 0.0, 0, 0, 0),),
        executions=(Execution("alone", "head alone", second),),
    )  # fmt: skip
    data = measurement.to_dict()
    whole, layer, stage, execution, *_ = tables(text, "Measurements")

    assert sorted(whole) == sorted(data)
    assert sorted(layer) == sorted(item.name for item in fields(LayerTime))
    assert sorted(stage) == sorted(data["stage_times"][0])
    assert sorted(execution) == sorted(data["executions"][0])


def test_every_column_of_a_result_is_described(text: str) -> None:
    match = re.search(r"^## Measurements\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE)
    assert match is not None
    kernels = match.group(1).split("| column | type | meaning |")[1]
    host = match.group(1).split("`host.parquet` has a row")[1]
    rows = [line.split("|")[1] for line in kernels.splitlines() if line.startswith("| `")]

    assert re.findall(r"`(\w+)`", "".join(rows)) == columns(KernelRow)
    named = re.findall(r"`(\w+)`", host)
    assert [name for name in named if name in columns(HostRow)] == columns(HostRow)


def test_every_column_of_the_table_of_layers_is_described(text: str, example: dict[str, Any]) -> None:
    match = re.search(r"^### The table of layers\n(.*?)(?=^### )", text, re.DOTALL | re.MULTILINE)
    assert match is not None
    rows = [line.split("|")[1] for line in match.group(1).splitlines() if line.startswith("| `")]

    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(LayerGraph.from_dict(example).to_pandas().columns)
