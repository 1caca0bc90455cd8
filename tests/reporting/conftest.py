"""A small network with hostile names, measured by decree and simulated by the roofline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mmworkload import arch
from mmworkload.graph import Coverage, InputInfo, LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.measuring.result import LayerTime, Measurement, Spread
from mmworkload.problem import gemm
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.result import Simulation
from mmworkload.validating import Validation, compare

HOSTILE = '<b>"image"</b>&$x$'


@dataclass(frozen=True)
class Case:
    """What a report is made of."""

    graph: LayerGraph
    measurement: Measurement
    simulation: Simulation
    validation: Validation


def make_graph(blocks: int) -> LayerGraph:
    """Two encoders of ``blocks`` linear layers and activations, a fusion and a head."""
    layers: list[Layer] = []
    tensors: dict[str, Tensor] = {}

    def add(name: str, op: str, stage: str, source: str, macs: int = 0, **more: Any) -> str:
        result, weight = f"{name}:out", f"{name}.weight"
        tensors[result] = Tensor(result, (64,), "float32", 32, "activation", result)
        reads = [(source, 256)]
        if macs:
            tensors[weight] = Tensor(weight, (macs,), "float32", 32, "weight", weight)
            reads.append((weight, 4 * macs))
        layers.append(
            Layer(
                name,
                op,
                category="Gemm" if macs else "Elewise",
                module=name,
                stage=stage,
                modality=stage.partition("/")[2],
                reads=tuple(reads),
                writes=((result, 256),),
                work=(Work(gemm(1, macs // 64, 64)),) if macs else (),
                vector_ops=0 if macs else 64,
                rule="rule encoders.*",
                **more,
            )
        )
        return result

    ends = []
    for modality, width in (("image", 64 * 64), ("audio", 64 * 256)):
        tensors[modality] = Tensor(modality, (64,), "float32", 32, "input", modality)
        source = modality
        for index in range(blocks):
            stem = HOSTILE if modality == "image" and index == 0 else f"encoders.{modality}.a_rather_long_path.{index}"
            source = add(f"{stem}.linear", "linear", f"encoder/{modality}", source, width)
            source = add(f"{stem}.relu", "relu", f"encoder/{modality}", source)
        add(f"encoders.{modality}:mean", "mean", f"encoder/{modality}", source, dead=True)
        ends.append(source)
    joined = add("cat", "cat", "fusion", ends[0], assumptions=("1000 proposals",))
    output = add("head", "linear", "head", joined, 640)
    inputs = tuple(InputInfo(name, (1, 64), "float32", name) for name in ("image", "audio"))
    return LayerGraph(
        model=f"toy/{HOSTILE}",
        variant="four",
        batch=1,
        dtype="float32",
        layers=tuple(layers),
        tensors=tensors,
        inputs=inputs,
        outputs=(output,),
        built_params=sum(tensor.elements for tensor in tensors.values() if tensor.kind == "weight"),
        versions={"torch": "2.15.0"},
        coverage=(
            Coverage("lowered", "aten.linear", "head", 2 * blocks + 1, 0, 0),
            Coverage("ignored", "aten.view", "head", 3, 0, 0, "a view"),
        ),
    )


def make_measurement(graph: LayerGraph) -> Measurement:
    times = [
        LayerTime(
            layer.name,
            layer.op,
            layer.stage,
            layer.modality,
            layer.category,
            Spread.of([1e-6 * (3 + index % 7) + layer.macs / 1e10]),
            1,
        )
        for index, layer in enumerate(graph)
    ]
    whole = sum(item.time.median_s for item in times)
    return Measurement(
        model=graph.model,
        variant=graph.variant,
        batch=graph.batch,
        dtype=graph.dtype,
        device="cpu",
        eager=Spread.of([1.5 * whole, 1.6 * whole, 1.7 * whole]),
        graph=Spread.of([2 * whole]),
        layers=tuple(times),
        unattributed_s=1e-6,
        kernel_difference=0.0,
        peak_memory_bytes={"model": 1000, "data": 512, "total": 4096},
        provenance={
            "device_name": "A <fast> CPU",
            "date_utc": "2026-11-21T02:10:59+00:00",
            "versions": {"torch": "2.15.0"},
            "sdpa_enabled": ["flash", "math"],
        },
    )


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    """``make_case(blocks, **changes)``: ``changes`` are of the measurement."""

    def make(blocks: int = 2, **changes: Any) -> Case:
        graph = make_graph(blocks)
        measurement = replace(make_measurement(graph), **changes)
        simulation = simulate(graph, arch.load("eyeriss_like"), "roofline", cache=False)
        return Case(graph, measurement, simulation, compare(graph, measurement, simulation))

    return make


@pytest.fixture(scope="session")
def case(make_case: Callable[..., Case]) -> Case:
    return make_case()


# A layer of a drawing: its name, stage and modality, what it reads, its MACs.
Drawn = tuple[str, str, str, tuple[str, ...], int]


def draw_graph(inputs: dict[str, tuple[int, ...]], layers: list[Drawn], **changes: Any) -> LayerGraph:
    """A graph in which each layer reads inputs and other layers by name, 4 bytes an element, and writes 250 elements;
    each MAC is of a weight of its own. The last layer gives the output."""
    tensors = {name: Tensor(name, shape, "float32", 32, "input", name) for name, shape in inputs.items()}
    made = []
    for name, stage, modality, reads, macs in layers:
        weight, result = f"{name}.weight", f"{name}:out"
        tensors[result] = Tensor(result, (250,), "float32", 32, "activation", result)
        sources = [(item if item in inputs else f"{item}:out") for item in reads]
        moved = [(item, tensors[item].bytes) for item in sources]
        if macs:
            tensors[weight] = Tensor(weight, (macs,), "float32", 32, "weight", weight)
            moved.append((weight, 4 * macs))
        work = (Work(gemm(1, macs, 1)),) if macs else ()
        made.append(
            Layer(
                name,
                "linear",
                stage=stage,
                modality=modality,
                reads=tuple(moved),
                writes=((result, 1000),),
                work=work,
            )
        )
    graph = LayerGraph(
        model="toy/drawn",
        variant="drawn",
        batch=1,
        dtype="float32",
        layers=tuple(made),
        tensors=tensors,
        inputs=tuple(InputInfo(name, shape, "float32", name) for name, shape in inputs.items()),
        outputs=(f"{layers[-1][0]}:out",),
    )
    return replace(graph, **changes)


@pytest.fixture(scope="session")
def draw() -> Callable[..., LayerGraph]:
    return draw_graph
