"""The timeline of a run on a device, from rows made by hand."""

from __future__ import annotations

from typing import Any

from mmworkload.measuring.frames import HostRow, KernelRow, host_frame, kernels_frame
from mmworkload.measuring.timeline import events


def kernel(run: int, layer: str, stage: str, start_s: float, stream: int = 7) -> Any:
    nan = float("nan")
    return KernelRow(run, f"k{start_s}", "kernel", layer, "", stage, "", "", "", start_s, 1e-6, stream, nan, nan)


def spans(kernels: list[Any], host: list[Any], pid: int) -> list[tuple[str, int, float, float]]:
    made = events(kernels_frame(kernels), host_frame(host))
    return [
        (item["name"], item["tid"], item["ts"], item["dur"])
        for item in made
        if item["ph"] == "X" and item["pid"] == pid
    ]


def test_streams_are_tracks_and_layers_and_stages_are_stretches_of_the_last_run() -> None:
    kernels = [
        kernel(0, "a", "encoder/x", 0.0),
        kernel(1, "a", "encoder/x", 1e-6),
        kernel(1, "b", "encoder/x", 3e-6, stream=8),
        kernel(1, "", "", 4e-6),
        kernel(1, "b", "encoder/x", 5e-6),
        kernel(1, "c", "head", 8e-6),
    ]
    host = [HostRow(1, "operator", "aten::mm", "a", "encoder/x", "", 0.0, 2e-6, 2e-6, 3)]

    assert [(tid, ts) for _, tid, ts, _ in spans(kernels, host, 4)] == [
        (7, 1.0),
        (8, 3.0),
        (7, 4.0),
        (7, 5.0),
        (7, 8.0),
    ]
    assert spans(kernels, host, 2) == [("a", 0, 1.0, 1.0), ("b", 0, 3.0, 3.0), ("c", 0, 8.0, 1.0)]
    assert spans(kernels, host, 1) == [("encoder/x", 0, 1.0, 5.0), ("head", 0, 8.0, 1.0)]
    assert spans(kernels, host, 3) == [("aten::mm", 3, 0.0, 2.0)]


def test_tracks_have_names() -> None:
    made = events(kernels_frame([kernel(0, "a", "head", 0.0)]), host_frame([]))
    names = {(item["pid"], item["tid"]): item["args"]["name"] for item in made if item["ph"] == "M"}
    assert names == {(1, 0): "stages", (2, 0): "layers", (4, 0): "device", (4, 7): "stream 7"}


def test_work_that_overlaps_the_next_stretch_is_cut_there() -> None:
    first = KernelRow(0, "k", "kernel", "a", "", "x", "", "", "", 0.0, 5e-6, 7, 0.0, 0.0)
    assert spans([first, kernel(0, "b", "x", 2e-6, 8)], [], 2) == [("a", 0, 0.0, 2.0), ("b", 0, 2.0, 1.0)]
