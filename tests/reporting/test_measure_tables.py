"""The tables of ``measure``: levels, stages, compiled kernels and what to know about the numbers, in 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from mmworkload.measuring import Execution, LayerTime, Measurement, Spread, StageTime
from mmworkload.measuring.combinations import Combination
from mmworkload.measuring.folder import Result
from mmworkload.measuring.parts import MeasuredPart, MeasuredParts
from mmworkload.measuring.result import FusedKernel, Training, TrainingLayer, TrainingStage
from mmworkload.measuring.steadiness import busy, disturbances
from mmworkload.reporting.tables import combination_tables, measure_tables, print_out
from mmworkload.reporting.tables.parts import parts_tables
from mmworkload.reporting.units import TIMES

SAID = (
    "The machine was unsteady: half of the eager runs took between 80.0 ms and 120 ms.",
    "The machine was busy with other work: its load average was 3.5 for 2 threads. These times vary; measure again when"
    " it is quiet.",
)


def measurement(**changes: Any) -> Measurement:
    layers = (
        LayerTime("encoders.image.conv", "conv2d", "encoder/image", "image", "Conv", Spread.of([3e-3]), 2),
        LayerTime("encoders.audio.conv", "conv2d", "encoder/audio", "audio", "Conv", Spread.of([1e-3]), 2),
        LayerTime("head", "linear", "head", "", "Gemm", Spread.of([1e-3]), 1),
    )
    return Measurement(
        "av/concat", "concat", 1, "float32", changes.pop("device", "cuda"), Spread.of([10e-3]), Spread.of([11e-3]),
        changes.pop("layers", layers), 0.0, 0.0, {"total": 1000},
        **{
            "stage_times": (
                StageTime("encoder/image", "image", Spread.of([6e-3]), 1e-3, 2e-3, 3e-3, 4e-3, 12, 1, 3),
                StageTime("encoder/audio", "audio", Spread.of([2e-3]), 1e-3, 2e-3, 1e-3, 0.0, 7, 0, 0),
                StageTime("head", "", Spread.of([1e-3]), 1e-3, 0.0, 1e-3, 0.0, 5, 0, 1),
            ),
            "overhead": {"stage": 1.02, "layer": 2.5, "kernel": 1.5},
            "attributed_share": 0.975,
            **changes,
        },
    )  # fmt: skip


def lines(taken: Measurement) -> list[str]:
    stream = io.StringIO()
    print_out(*measure_tables(taken), stream=stream)
    return stream.getvalue().splitlines()


def row(printed: list[str], start: str, *, section: str) -> list[str]:
    """The words of a section's row."""
    after = printed[printed.index(section) :]
    return next(line for line in after if line.startswith(start)).split()


def test_a_stage_of_a_device_has_its_time_and_what_host_and_device_did() -> None:
    words = row(lines(measurement()), "encoder/image", section="Stages, as they run")

    assert words == [
        *("encoder/image", "6.00", "ms", "1.00", "ms", "2.00", "ms", "3.00", "ms", "4.00", "ms", "12", "1", "3"),
    ]


def test_what_disturbed_a_measurement_is_said_as_validate_says_it() -> None:
    taken = replace(measurement(device="cpu"), eager=Spread(0.1, 0.08, 0.12, 0.05, 0.3, 50))
    taken = replace(taken, provenance={"load_average": 3.5, "threads": 2})
    told = " ".join(" ".join(lines(taken)).split())

    assert list(disturbances(0.1, (0.08, 0.12), busy(taken))) == [text for text in SAID if text in told] == list(SAID)
    quiet = replace(taken, eager=Spread(0.1, 0.098, 0.102, 0.05, 0.3, 50), provenance={"load_average": 2, "threads": 2})
    assert not any(text in " ".join(" ".join(lines(quiet)).split()) for text in SAID)


def test_on_the_cpu_nothing_is_launched() -> None:
    printed = lines(measurement(device="cpu"))

    words = row(printed, "encoder/image", section="Stages, as they run")
    assert words == ["encoder/image", "6.00", "ms", "1.00", "ms", "3.00", "ms", "4.00", "ms"]
    assert not any("launch" in line for line in printed)


def test_what_takes_the_time_is_an_operator_on_the_cpu_and_a_kernel_on_a_gpu() -> None:
    def told(device: str) -> str:
        taken = measurement(device=device, training=training())
        return " ".join(lines(replace(taken, kernel_difference=0.5)))

    for text, noun, other in ((told("cpu"), "operator", "kernel"), (told("cuda"), "kernel", "operators")):
        assert other not in text
        for part in ("{}s of all layers", "other {}s", "{} 1.50", "Of the {} time of the profiled runs",
                     "Not the user's {}s", "Of the {} time of the profiled iterations"):  # fmt: skip
            assert part.format(noun) in text
        assert f"bwd {noun[:4]}." in text


def test_what_the_instruments_cost_and_saw_is_said() -> None:
    text = " ".join(lines(measurement()))

    assert f"stage 1.02{TIMES}, layer 2.50{TIMES}, kernel 1.50{TIMES}" in text
    assert "97.5 % is in layers" in text
    assert f"Straggler: image, 3.00{TIMES} the mean of the other encoders." in text


def test_layers_that_add_up_to_more_than_the_eager_time_are_explained() -> None:
    assert "add up" not in " ".join(lines(measurement()))
    slow = measurement(layers=(), stage_times=())
    assert "Stages, as they run" not in lines(slow)
    (layer,) = measurement().layers[:1]
    large = LayerTime(layer.layer, layer.op, layer.stage, "image", "Conv", Spread.of([13e-3]), 2)
    text = " ".join(lines(measurement(layers=(large,))))
    assert f"The layers add up to 1.30{TIMES} the eager time" in text


def test_other_ways_to_run_stand_beside_eager_with_their_kernels() -> None:
    kernels = (
        FusedKernel("triton_poi_fused_relu_0", ("encoders.image.conv", "head"), 3e-3, 2),
        FusedKernel("gemm", (), 1e-3, 1),
    )
    printed = lines(
        measurement(
            executions=(
                Execution("compile", "compiled", Spread.of([5e-3]), kernels),
                Execution("cuda-graph", "replayed", Spread.of([2e-3])),
            )
        )
    )

    assert row(printed, "compiled, end", section="av/concat")[4:6] == ["5.00", "ms"]
    assert row(printed, "CUDA graph", section="av/concat")[-1] == f"0.200{TIMES}"
    fused = row(printed, "triton", section="Compiled")
    assert fused[1:6] == ["3.00", "ms", "75.0", "%", "2"]
    assert "(not said" in " ".join(row(printed, "gemm", section="Compiled"))


def test_encoders_on_streams_are_put_beside_one_stream() -> None:
    printed = lines(measurement(executions=(Execution("streams", "on streams", Spread.of([5.5e-3])),)))

    assert row(printed, "graph, encoders on streams", section="av/concat")[4:6] == ["5.50", "ms"]
    assert f"the graph takes 0.500{TIMES} the time of one stream" in " ".join(printed)


def training(**changes: Any) -> Training:
    def time(seconds: float) -> Spread:
        return Spread.of([seconds])

    stages = (
        TrainingStage("encoder/image", time(3e-3), time(6e-3), time(1e-3), 2e-3, 5e-3, 5e-4),
        TrainingStage("", time(0.0), time(0.0), time(1e-4), 0.0, 0.0, 0.0),
    )
    layers = (
        TrainingLayer("encoders.image.conv", "conv2d", "encoder/image", "image", 1e-3, 3e-3),
        TrainingLayer("(views)", "", "encoder/image", "", 1e-3, 0.0),
    )
    given: dict[str, Any] = {"stages": stages, "layers": layers, "attributed_share": 0.987, **changes}
    return Training(
        loss="squares", optimizer="sgd", iteration=time(10e-3), forward=time(3e-3), backward=time(6e-3),
        update=time(1e-3), unattributed_s=4e-5, peak_memory_bytes={"model": 1000, "gradients": 1000, "total": 5000},
        **given,
    )  # fmt: skip


def test_training_is_told_by_phase_stage_and_layer() -> None:
    printed = lines(measurement(training=training()))

    def told(start: str, section: str) -> str:
        return " ".join(row(printed, start, section=section))

    assert told("backward", "Training") == "backward 6.00 ms 6.00 ms to 6.00 ms 1 60.0 %"
    assert told("encoder/image", "Training, stages") == "encoder/image 3.00 ms 6.00 ms 1.00 ms 2.00 ms 5.00 ms 500 µs"
    assert told("(none)", "Training, stages") == "(none) 0 s 0 s 100 µs 0 s 0 s 0 s"
    assert told("(no stage)", "Training, stages") == "(no stage) 40.0 µs"
    assert "No gradient passes where there is no backward time" in " ".join(printed)
    conv = told("encoders.image.conv", "Training, layers")
    assert conv == "encoders.image.conv conv2d encoder/image 1.00 ms 3.00 ms 80.0 %"
    text = " ".join(printed)
    assert "Loss: squares. Optimizer: sgd." in text
    assert "98.7 % is in stages" in text
    assert "gradients 1.00 kB" in printed[printed.index("Peak memory of training") + 1]
    assert max(map(len, printed)) <= 80


def test_of_several_measurements_each_that_was_disturbed_is_named() -> None:
    rows = [Combination(1, "float32", "r", "measured", "", 2e-3, 500.0, None, 1000, warnings=SAID[:1])]
    busy_one = measurement(device="cpu", provenance={"load_average": 3.5, "threads": 2})
    parts = MeasuredParts("av", tuple(MeasuredPart(name, 1, Result(taken)) for name, taken in
                                      (("prefill", measurement(device="cpu")), ("decode", busy_one))))  # fmt: skip
    told = []
    for tables in (combination_tables("av/concat", rows), parts_tables(parts)):
        stream = io.StringIO()
        print_out(*tables, stream=stream)
        told.append(" ".join(stream.getvalue().split()))

    assert f"Batch 1 in float32: {SAID[0]}" in told[0]
    assert f"decode: {SAID[1]}" in told[1]
    assert "prefill:" not in told[1]


def test_training_without_stages_says_why() -> None:
    printed = lines(measurement(training=training(stages=(), layers=(), attributed_share=None, note="no stages: why")))

    assert "no stages: why" in printed
    assert "Training, stages" not in printed


def test_combinations_stand_in_a_table_with_what_failed_below() -> None:
    rows = [
        Combination(1, "float32", "r/b1", "kept", "", 2e-3, 500.0, None, 1000),
        Combination(8, "float32", "r/b8", "measured", "", 4e-3, 2000.0, 12e-3, 8000, True),
        Combination(32, "float32", "r/b32", "failed", "out of memory"),
    ]
    stream = io.StringIO()
    print_out(*combination_tables("av/concat", rows), stream=stream)
    printed = stream.getvalue().splitlines()

    assert " ".join(row(printed, "    8", section="av/concat")) == "8 float32 4.00 ms 2.00 k/s 12.0 ms 8.00 kB optimal"
    assert row(printed, "   32", section="av/concat")[-1] == "failed"
    assert "Batch 32 in float32: out of memory" in printed
    assert "1 of 3 were there already." in printed


def test_everything_fits_into_80_columns() -> None:
    names = {f"encoders.a_long_name_of_a_module.blocks.{index}.layers" for index in range(3)}
    taken = measurement(
        executions=(
            Execution("compile", "", Spread.of([5e-3]), (FusedKernel("triton_" + "x" * 90, tuple(names), 3e-3, 2),)),
        )
    )
    assert max(map(len, lines(taken))) <= 80
