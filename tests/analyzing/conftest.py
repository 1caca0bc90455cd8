"""A small result made by hand: two encoders, a fusion and a head, two profiled runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas
import pytest

from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.measuring.folder import Result
from mmworkload.measuring.result import LayerTime, Measurement, Spread, StageTime
from mmworkload.problem import gemm


def tensor(name: str, shape: tuple[int, ...], kind: str = "activation") -> Tensor:
    return Tensor(name, shape, "float32", 32, kind, name)  # type: ignore[arg-type]


def linear(name: str, stage: str, modality: str, given: str, weight: str, rows: int, columns: int, inner: int) -> Layer:
    return Layer(
        name,
        "linear",
        "Gemm",
        stage=stage,
        modality=modality,
        reads=((given, 4 * rows * inner), (weight, 4 * columns * inner)),
        writes=((f"{name}.out", 4 * rows * columns),),
        work=(Work(gemm(rows, columns, inner)),),
    )


def small_graph() -> LayerGraph:
    """image: 8 x 32 by 16; audio: 8 x 8 by 16, then its relu; fusion: concatenation; head: 8 x 4 by 24."""
    layers = (
        linear("image", "encoder/image", "image", "x", "w1", 8, 16, 32),
        linear("audio", "encoder/audio", "audio", "y", "w2", 8, 8, 16),
        Layer(
            "relu",
            "relu",
            "Relu",
            stage="encoder/audio",
            modality="audio",
            reads=(("audio.out", 256),),
            writes=(("relu.out", 256),),
            vector_ops=64,
        ),
        Layer(
            "cat",
            "concat",
            "Movement",
            stage="fusion",
            reads=(("image.out", 512), ("relu.out", 256)),
            writes=(("cat.out", 768),),
        ),
        linear("head", "head", "", "cat.out", "w3", 8, 4, 24),
    )
    tensors = (
        tensor("x", (8, 32), "input"),
        tensor("y", (8, 16), "input"),
        tensor("w1", (16, 32), "weight"),
        tensor("w2", (8, 16), "weight"),
        tensor("w3", (4, 24), "weight"),
        tensor("image.out", (8, 16)),
        tensor("audio.out", (8, 8)),
        tensor("relu.out", (8, 8)),
        tensor("cat.out", (8, 24)),
        tensor("head.out", (8, 4)),
    )
    return LayerGraph(
        "toy/late", "late", 8, "float32", layers, {t.name: t for t in tensors}, outputs=("head.out",), built_params=736
    )


# (name, kind, layer, category by name, microseconds in run 0 and run 1)
KERNELS = (
    ("sgemm", "kernel", "image", "Gemm", (30.0, 50.0)),
    ("reduce", "kernel", "image", "Reduce", (10.0, 10.0)),
    ("sgemm", "kernel", "audio", "Gemm", (9.0, 9.0)),
    ("relu", "kernel", "relu", "Relu", (1.0, 1.0)),
    ("Memcpy DtoD", "copy", "cat", "Other", (120.0, 80.0)),
    ("sgemm", "kernel", "head", "Gemm", (60.0, 40.0)),
    ("fill", "kernel", "", "Other", (10.0, 10.0)),
)


def kernels_of(graph: LayerGraph) -> pandas.DataFrame:
    rows = []
    for run in (0, 1):
        start = 0.0
        for name, kind, layer, by_name, times in KERNELS:
            where = graph[layer] if layer else None
            rows.append(
                {
                    "run": run,
                    "name": name,
                    "kind": kind,
                    "layer": layer,
                    "op": where.op if where else "",
                    "stage": where.stage if where else "",
                    "modality": where.modality if where else "",
                    "category": where.category if where else "",
                    "name_category": by_name,
                    "start_s": start * 1e-6,
                    "duration_s": times[run] * 1e-6,
                    "stream": 7,
                    "caused_s": start * 1e-6,
                    "launch_s": 1e-6,
                }
            )
            start += times[run]
    return pandas.DataFrame(rows)


def host_of(graph: LayerGraph) -> pandas.DataFrame:
    rows = [
        {
            "run": run,
            "kind": kind,
            "name": kind,
            "layer": layer.name,
            "stage": layer.stage,
            "modality": layer.modality,
            "start_s": 0.0,
            "duration_s": seconds,
            "self_s": seconds,
            "thread": 1,
        }
        for run in (0, 1)
        for layer in graph
        for kind, seconds in (("operator", 4e-6), ("runtime", 2e-6), ("sync", 1.0))
    ]
    return pandas.DataFrame(rows)


def spread(seconds: float) -> Spread:
    return Spread.of([seconds])


def stage(name: str, wall_s: float, cpu_us: float, runtime_us: float, busy_us: float, idle_us: float) -> StageTime:
    _, _, modality = name.partition("/")
    times = (cpu_us * 1e-6, runtime_us * 1e-6, busy_us * 1e-6, idle_us * 1e-6)
    return StageTime(name, modality, spread(wall_s), *times, launches=3, syncs=1, copies=2)


def measurement(batch: int = 8, seconds: float = 1e-3, **more: Any) -> Measurement:
    given: dict[str, Any] = {
        "model": "toy/late",
        "variant": "late",
        "batch": batch,
        "dtype": "float32",
        "device": "cuda",
        "eager": spread(seconds),
        "graph": spread(seconds),
        "layers": (LayerTime("image", "linear", "encoder/image", "image", "Gemm", spread(5e-5), 2),),
        "unattributed_s": 1e-5,
        "kernel_difference": 0.0,
        "peak_memory_bytes": {"model": 3000, "data": 1000, "intermediates": 4000, "total": 8000},
        "provenance": {"device_name": "Some GPU"},
        **more,
    }
    return Measurement(**given)


STAGES = (
    stage("encoder/image", 8e-5, 30, 10, 40, 5),
    stage("encoder/audio", 2e-5, 10, 5, 10, 5),
    stage("fusion", 1e-4, 5, 5, 100, 0),
    stage("head", 6e-5, 10, 5, 50, 5),
)


@pytest.fixture(scope="session")
def graph() -> LayerGraph:
    return small_graph()


@pytest.fixture
def result(graph: LayerGraph) -> Result:
    return Result(measurement(), graph, kernels_of(graph), host_of(graph))


@pytest.fixture
def staged(result: Result) -> Result:
    return replace(result, measurement=measurement(stage_times=STAGES))


@pytest.fixture
def counted(result: Result) -> Result:
    """Counters of the image encoder's kernels and of all of the head; copies have none."""
    frame = result.kernels.copy()
    values = {
        ("image", "sgemm"): (9000.0, 2000.0, 1000.0, 0.5, 0.25),
        ("image", "reduce"): (1000.0, 500.0, 500.0, 0.1, 0.75),
        ("head", "sgemm"): (1600.0, 100.0, 60.0, 0.2, 0.4),
    }
    names = ("flops", "dram_read_bytes", "dram_write_bytes", "dram_utilization", "occupancy")
    rest = ("ipc", "gld_efficiency", "gst_efficiency")
    stalls = ("cache", "memory", "execution", "pipe", "sync", "instruction", "other")
    keys = list(zip(frame["layer"], frame["name"], strict=True))
    for place, name in enumerate(names):
        frame[name] = [values[key][place] if key in values else math.nan for key in keys]
    for name in rest:
        frame[name] = [1.0 if key in values else math.nan for key in keys]
    for place, name in enumerate(stalls):
        frame[f"stall_{name}"] = [0.02 * (place + 1) if key in values else math.nan for key in keys]
    return replace(result, kernels=frame)
