"""Names of several graphs are measured part by part: each is what its graph says, and counts as often as it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

import torch

from mmworkload import verbs
from mmworkload.cli.app import app
from mmworkload.errors import FormatError, MmworkloadError
from mmworkload.exits import with_exits
from mmworkload.exits.settings import split_exits
from mmworkload.measuring.exits import Runnable
from mmworkload.measuring.parts import INDEX, MeasuredParts, check_place, measurable
from mmworkload.models import Family, families, resolve
from mmworkload.packs.measured import collect
from mmworkload.sources import exit_network, has_parts, traced_model
from mmworkload.workloads.codellama import generations, variants
from mmworkload.workloads.codellama.sizes import Size

pytestmark = pytest.mark.slow

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text()
QUICK: Any = {"warmup": 0, "repeats": 2, "limit_s": 0.5}


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    """A generation of Code Llama with one small block: a prefill and ten steps."""
    size = Size(64, 96, 1, 4, 2, 50, 64)
    family = Family("text", "none", variants("small", size), generations=generations("small", size))
    families()["tiny"] = family
    yield "tiny/small?prompt=4&steps=10"
    del families()["tiny"]


@pytest.fixture(scope="module")
def segments(two: str) -> MeasuredParts:
    return verbs.measure_parts(f"{two}+exits?p=0.5", **QUICK)


@pytest.fixture(scope="module")
def phases(tiny: str) -> MeasuredParts:
    return verbs.measure_parts(tiny, **QUICK)


def test_segments_are_measured_layer_by_layer_and_weighted_by_how_often_they_run(
    two: str, segments: MeasuredParts
) -> None:
    network = exit_network(f"{two}+exits?p=0.5", {})
    assert network is not None

    expected = network.workload().parts
    assert [(part.name, part.count) for part in segments.parts] == [(part.name, part.count) for part in expected]
    assert [part.count for part in segments.parts][:3] == [1.0, 0.75, 0.4375]
    for measured, part in zip(segments.parts, expected, strict=True):
        taken = measured.result.measurement
        assert taken.model == part.graph.model
        assert [row.layer for row in taken.layers] == [layer.name for layer in part.graph]
        assert all(row.kernels for row in taken.layers), "every layer ran"
    assert segments.total_s == pytest.approx(sum(part.eager_s * part.count for part in segments.parts))
    assert "audio@1" in {row.layer for part in segments.parts for row in part.result.measurement.layers}


def test_a_path_computes_what_the_network_does(two: str) -> None:
    """With its recurrence cut in time, its exits beside it, and activations written in place."""
    base, settings = split_exits(f"{two}+exits?parts=paths")
    traced = traced_model(base, {})
    runnable = Runnable(with_exits(traced.graph, settings), resolve(base), traced)
    place = torch.device("cpu")
    with torch.inference_mode():
        (expected,) = runnable._bound(place).graph_run()()
    model, ready = runnable.part(runnable.network.workload().parts[-1].graph, place)
    # The node of the last layer, given back.
    module = model.build("cpu").program.module  # type: ignore[attr-defined]
    (last,) = (name for name, layer in ready.layer_of_call.items() if layer == "head")
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    output.args = (next(node for node in module.graph.nodes if node.name == last),)
    module.recompile()
    for _ in range(2):
        model.build("cpu").program.restore()  # type: ignore[attr-defined]
        with torch.inference_mode():
            torch.testing.assert_close(module(), expected)
    assert set(ready.layer_of_call.values()) == {layer.name for layer in ready.graph}


def test_phases_are_models_of_their_own_at_the_lengths_that_are_simulated(phases: MeasuredParts) -> None:
    assert [part.name for part in phases.parts] == ["prefill", "decode at 4", "decode at 8", "decode at 13"]
    assert [part.count for part in phases.parts] == [1, 2.5, 4.5, 3]
    graphs = [part.result.graph for part in phases.parts]
    assert [graph and graph.tensors["keys"].shape[3] for graph in graphs] == [4, 5, 9, 14]
    for part, graph in zip(phases.parts, graphs, strict=True):
        assert graph is not None
        assert part.result.measurement.model == graph.model
        assert [row.layer for row in part.result.measurement.layers] == [layer.name for layer in graph]
    (note,) = phases.notes
    assert note.startswith("decode: measured at 3 lengths and interpolated; at length 8 ")


def test_a_folder_of_folders_is_read_back_and_its_parts_found(phases: MeasuredParts, tmp_path: Path) -> None:
    phases.save(tmp_path / "out")
    phases.save(tmp_path / "out")

    folders = sorted(item.name for item in (tmp_path / "out").iterdir() if item.is_dir())
    assert folders == ["01-prefill", "02-decode-at-4", "03-decode-at-8", "04-decode-at-13"]
    back = MeasuredParts.load(tmp_path / "out")
    assert back.to_dict() == phases.to_dict()
    found = [item.measurement.model for item in collect([tmp_path / "out"])]
    assert found == [part.result.measurement.model for part in phases.parts]
    (tmp_path / "out" / INDEX).write_text("{}")
    with pytest.raises(FormatError, match="not a complete index"):
        MeasuredParts.load(tmp_path / "out")


def test_only_measures_the_parts_that_have_the_stage(two: str) -> None:
    found = verbs.measure_parts(f"{two}+exits", only=["head"], **QUICK)

    assert [part.name for part in found.parts] == ["fusion"]
    assert {row.stage for row in found.parts[0].result.measurement.layers} == {"head"}


def test_names_with_parts_are_told_without_tracing(tiny: str) -> None:
    assert has_parts(tiny, {})
    assert has_parts("av-mnist/concat+exits?p=0.3", {})
    assert not has_parts("av-mnist/concat", {})
    assert not has_parts("av-mnist/concat+exits?p=0.3#image/1", {})
    assert not has_parts("tiny/small-decode?cached=5", {})


def test_what_no_part_can_be_measured_with_is_refused(tiny: str, two: str, tmp_path: Path) -> None:
    with pytest.raises(MmworkloadError, match="one graph"):
        measurable("tiny/small-decode", {})
    with pytest.raises(MmworkloadError, match="levers change the graph"):
        verbs.measure_parts("tiny/small-decode?cached=5&weights=int8", **QUICK)
    with pytest.raises(MmworkloadError, match="leave --mode out"):
        verbs.measure_parts(f"{two}+exits", mode="train")
    with pytest.raises(MmworkloadError, match="--counters"):
        verbs.measure_parts(f"{two}+exits", counters=True)
    (tmp_path / "thesis.tex").write_text("x")
    for place in (tmp_path, tmp_path / "parts.json"):
        with pytest.raises(MmworkloadError, match="folder"):
            check_place(place)


def test_the_command_prints_a_table_and_writes_json(two: str, tmp_path: Path) -> None:
    arguments = ["measure", f"{two}+exits", "--only", "head", "--limit-s", "0.5"]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["part", "runs", "eager", "weighted", "share"] in lines
    assert [line[0] for line in lines if line and line[0] in ("fusion", "all")] == ["fusion", "all"]
    assert (tmp_path / "out" / INDEX).is_file()

    printed = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    (part,) = printed["parts"]
    assert part["weighted_s"] == pytest.approx(part["eager_s"] * part["count"])
    assert printed["total_s"] == pytest.approx(part["weighted_s"])
    assert printed["measurements"]["fusion"]["model"] == part["model"]
    section = DOCUMENT.split("\n## Measured parts\n")[1].split("\n## ")[0]
    told = [set(re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)) for block in section.split("| field |")[1:]]
    assert told == [set(printed), set(part)]
