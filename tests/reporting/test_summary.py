"""The sentences about a comparison: what they claim and when."""

from __future__ import annotations

from typing import Any

import pytest

from mmworkload.arch import load
from mmworkload.measuring.result import Spread
from mmworkload.reporting.summary import accuracies, caveats, measured_bound, sentences, simulated_bound, verdicts
from mmworkload.validating.report import report

TIMES = "\N{MULTIPLICATION SIGN}"


def test_the_sentences_state_both_sides(case: Any) -> None:
    text = list(sentences(case.validation))
    v = case.validation

    assert text[0].startswith("Measured on cpu in float32: ")
    assert f"Simulated on eyeriss_like by roofline: {1e6 * v.serial_s:.1f} µs" in text[0]
    assert any("most time in encoder/audio" in line for line in text)
    ratio = v.measured_straggler.ratio
    assert any(
        f"straggler modality is audio on both sides: its encoder takes {ratio:.2f}{TIMES}" in line for line in text
    )
    assert text[-1].startswith(f"Rank correlation over 12 layers: Spearman {v.all_layers.spearman:.2f}")
    assert "over the 5 with MACs" in text[-1]


def test_caveats_name_only_what_applies(case: Any) -> None:
    text = "\n".join(caveats(case.validation))

    assert f"the graph takes 1.25{TIMES} the time of the eager model" in text
    assert "add up to 0.625" in text
    assert "Precision: float32 measured; simulated 16 bits, native to eyeriss_like." in text
    assert "2 layers (" in text
    assert "aten.view (3 calls)" in text
    assert "Assumed: 1000 proposals." in text
    for absent in (
        "Not the user's kernels",
        "not measured",
        "layer not simulated",
        "layers not simulated",
        "could not answer",
        "undercut",
        "lowering",
    ):
        assert absent not in text


def test_other_kernels_and_missing_layers_are_said(make_case: Any, case: Any) -> None:
    kept = tuple(item for item in case.measurement.layers if item.op != "linear")
    text = "\n".join(caveats(make_case(layers=kept, kernel_difference=0.31).validation))

    assert "Not the user's operators: eager and graph run different operators for 31.0 %" in text
    assert "5 layers not measured: " in text


def test_part_of_a_model_has_no_idle_share(make_case: Any) -> None:
    text = "\n".join(caveats(make_case(only=("encoder/*",)).validation))

    assert "idle" not in text
    assert "the layers those of encoder/*" in text


def test_an_unsteady_machine_is_said(make_case: Any) -> None:
    unsteady = make_case(eager=Spread(0.1, 0.08, 0.12, 0.05, 0.3, 50)).validation
    steady = make_case(eager=Spread(0.1, 0.098, 0.102, 0.05, 0.3, 50)).validation

    assert "half of the eager runs took between 80.0 ms and 120 ms" in "\n".join(caveats(unsteady))
    assert "unsteady" not in "\n".join(caveats(steady))


def test_a_busy_machine_is_said(make_case: Any, case: Any) -> None:
    facts = case.measurement.provenance
    busy = make_case(provenance={**facts, "load_average": 3.5, "threads": 2}).validation
    alone = make_case(provenance={**facts, "load_average": 1.9, "threads": 2}).validation

    assert busy.gaps.busy == (3.5, 2)
    assert "load average was 3.5 for 2 threads" in "\n".join(caveats(busy))
    assert "busy with other work:" not in "\n".join(caveats(alone))


def test_a_gpu_runs_kernels(make_case: Any) -> None:
    assert "Not the user's kernels" in "\n".join(caveats(make_case(device="cuda", kernel_difference=0.31).validation))


def test_how_far_the_sides_are_apart(case: Any) -> None:
    text = "\n".join(accuracies(case.validation))

    assert f"Stages differ by {100 * case.validation.stage_distance:.1f} % of the time in all, most in" in text
    assert "Median error of shares of time per layer" in text
    assert "Sum over layers" not in text


def test_what_bounds_a_workload(case: Any) -> None:
    made = report(case.graph, [case.measurement], case.simulation, arch=load("eyeriss_like"))
    measured, simulated = measured_bound(made), simulated_bound(made)

    assert measured.seconds == case.measurement.eager.median_s
    assert sum(measured.shares.values()) == pytest.approx(1)
    assert measured.shares["in kernels"] == pytest.approx(1 / 1.6)
    assert list(measured.shares) == ["in kernels", "idle or dispatch", "other kernels"]
    assert sum(simulated.shares.values()) == pytest.approx(1)
    assert set(simulated.shares) == {row.bound for row in case.simulation.layers}
    first, second = verdicts((made,))
    assert first.startswith("On A <fast> CPU: 62.5 % in kernels, ")
    assert second.startswith("On eyeriss_like (roofline): ")


def test_a_sum_above_the_eager_time_is_explained(make_case: Any, case: Any) -> None:
    fast = make_case(eager=Spread.of([case.measurement.layer_sum_s / 2])).validation

    assert f"The layers add up to 2.00{TIMES} the eager time" in "\n".join(caveats(fast))
    assert "add up to 2.00" not in "\n".join(caveats(case.validation))
