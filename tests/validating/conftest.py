"""Two small networks on a device of round numbers: 100 GMAC/s, 10 GB/s, 10 us to start a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from mmworkload.arch import Architecture, from_dict
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.measuring.result import LayerTime, Measurement, Spread
from mmworkload.problem import gemm

FREE = {"read_pj": 0, "write_pj": 0}
NAME = "A round CPU"


@pytest.fixture(scope="session")
def device() -> Architecture:
    """1000 MACs and 100 elementwise operations a cycle of 10 ns, 100 bytes a cycle, 1 MiB of cache."""
    level = {"word_bits": 32, "width_bits": 512, "energy": FREE, "area_um2": 0}
    return from_dict(
        {
            "kind": "cpu",
            "name": "round",
            "description": f"{NAME}, 1 thread, float32",
            "source": "made up",
            "technology_nm": 7,
            "clock_mhz": 100,
            "levels": {
                "dram": {"kind": "dram", "size_kib": None, "read_bandwidth": 25, "write_bandwidth": 25, **level},
                "cache": {"kind": "sram", "size_kib": 1024, **level},
            },
            "array": {"inside": "cache", "x": 10, "y": 100, "x_dims": ["M"], "y_dims": ["C"]},
            "compute": {"kind": "fpmac", "bits": 32, "energy_pj": 0, "area_um2": 0},
            "vector": {"lanes": 100, "energy_pj": 0},
            "launch_us": 10,
        }
    )


# name, category, stage, side of a square matrix product (0: none), elements of an elementwise layer
Row = tuple[str, str, str, int, int]


def make_graph(model: str, rows: list[Row], batch: int = 1) -> LayerGraph:
    """A chain: each layer depends on the one before, and moves its operands once at four bytes an element."""
    tensors = {"in": Tensor("in", (1000,), "float32", 32, "input", "in")}
    layers, before = [], "in"
    for name, category, stage, side, elements in rows:
        result, weight, size = f"{name}:out", f"{name}.weight", side * side if side else elements
        tensors[result] = Tensor(result, (size,), "float32", 32, "activation", result)
        if side:
            tensors[weight] = Tensor(weight, (size,), "float32", 32, "weight", weight)
        layers.append(
            Layer(
                name,
                "linear" if side else "relu",
                category=category,
                stage=stage,
                modality=stage.partition("/")[2],
                reads=((before, 4 * size), *([(weight, 4 * size)] if side else [])),
                writes=((result, 4 * size),),
                work=(Work(gemm(side, side, side)),) if side else (),
                vector_ops=0 if side else elements,
            )
        )
        before = result
    return LayerGraph(model, model, batch, "float32", tuple(layers), tensors, outputs=(before,))


def make_measurement(graph: LayerGraph, seconds: Mapping[str, float], **changes: Any) -> Measurement:
    """``seconds`` by layer; one kernel each."""
    layers = tuple(
        LayerTime(item.name, item.op, item.stage, item.modality, item.category, Spread.of([seconds[item.name]]), 1)
        for item in graph
        if item.name in seconds
    )
    whole = sum(seconds.values())
    made = Measurement(
        model=graph.model,
        variant=graph.variant,
        batch=graph.batch,
        dtype="float32",
        device="cpu",
        eager=Spread.of([1.1 * whole]),
        graph=Spread.of([1.2 * whole]),
        layers=layers,
        unattributed_s=0.0,
        kernel_difference=0.0,
        peak_memory_bytes={"total": 1},
        provenance={"device_name": NAME},
    )
    return replace(made, **changes)


@pytest.fixture(scope="session")
def chain() -> Callable[..., LayerGraph]:
    return make_graph


@pytest.fixture(scope="session")
def measured() -> Callable[..., Measurement]:
    return make_measurement
