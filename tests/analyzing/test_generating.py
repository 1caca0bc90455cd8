"""The view of the generation paper, on a result made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from mmworkload import verbs
from mmworkload.analyzing import analyze
from mmworkload.cli.app import app
from mmworkload.measuring.folder import Result

US = 1e-6


def test_kernel_time_is_split_by_the_papers_categories_and_the_rest_is_idle(result: Result) -> None:
    frame = analyze("G1", result).set_index("module_category")

    assert list(frame.index) == ["Linear", "Misc", "Idle"]
    # Means of the two runs: the three products; relu, copy, and a kernel of no layer.
    assert frame["kernel_s"].tolist() == pytest.approx([109 * US, 111 * US, 1e-3 - 220 * US])
    assert frame["share"].tolist() == pytest.approx([0.109, 0.111, 0.78])
    assert frame["kernels"].tolist() == [4, 3, 0]
    assert frame["layers"].tolist() == [3, 2, 0]
    assert frame["macs"].tolist() == [8 * 16 * 32 + 8 * 8 * 16 + 8 * 4 * 24, 0, 0]


def test_idle_is_never_below_zero_and_unknown_of_a_part(result: Result) -> None:
    fast = replace(result, measurement=replace(result.measurement, eager=result.measurement.eager.of([1e-5])))
    assert analyze("G1", fast).set_index("module_category").loc["Idle", "kernel_s"] == 0
    part = replace(result, measurement=replace(result.measurement, only=("head",)))
    assert "Idle" not in list(analyze("G1", part)["module_category"])


def test_an_attention_module_and_a_norm_are_told_by_their_module(result: Result) -> None:
    graph = result.graph
    assert graph is not None
    module = {"image": "block.self_attn", "relu": "block.norm1", "cat": "reorder"}
    layers = tuple(
        replace(layer, module=module.get(layer.name, layer.module), work=() if layer.name == "image" else layer.work)
        for layer in graph.layers
    )
    frame = analyze("G1", replace(result, graph=replace(graph, layers=layers))).set_index("module_category")
    assert frame["kernel_s"].round(9).to_dict() == pytest.approx(
        {
            "Attention": 50 * US,
            "Linear": 59 * US,
            "LayerNorm": 1 * US,
            "KV_Cache_Reorder": 100 * US,
            "Misc": 10 * US,
            "Idle": 780 * US,
        }
    )


def test_measuring_a_workload_of_the_paper_ends_with_the_view(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(model: str) -> str:
        taken = replace(result, measurement=replace(result.measurement, model=model))
        monkeypatch.setattr(verbs, "measure_result", lambda *_, **__: taken)
        answer = CliRunner().invoke(app, ["measure", model])
        assert answer.exit_code == 0, answer.output
        return answer.stdout

    assert "Idle" in printed("hstu/dlrm")
    assert "Idle" not in printed("av-mnist/concat")
