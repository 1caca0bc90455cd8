"""The tables of ``measure``: levels, stages, compiled kernels and what to know about the numbers, in 80 columns."""

from __future__ import annotations

import io
from typing import Any

from mmworkload.measuring import Execution, LayerTime, Measurement, Spread, StageTime
from mmworkload.measuring.result import FusedKernel
from mmworkload.reporting.tables import measure_tables, print_out
from mmworkload.reporting.units import TIMES


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


def test_on_the_cpu_nothing_is_launched() -> None:
    printed = lines(measurement(device="cpu"))

    words = row(printed, "encoder/image", section="Stages, as they run")
    assert words == ["encoder/image", "6.00", "ms", "1.00", "ms", "3.00", "ms", "4.00", "ms"]
    assert not any("launch" in line for line in printed)


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


def test_everything_fits_into_80_columns() -> None:
    names = {f"encoders.a_long_name_of_a_module.blocks.{index}.layers" for index in range(3)}
    taken = measurement(
        executions=(
            Execution("compile", "", Spread.of([5e-3]), (FusedKernel("triton_" + "x" * 90, tuple(names), 3e-3, 2),)),
        )
    )
    assert max(map(len, lines(taken))) <= 80
