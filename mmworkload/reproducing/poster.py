"""Across-stack profiling: Li et al., poster at SC 2019 (MLModelScope; XSP)."""

from __future__ import annotations

from collections.abc import Iterator

from mmworkload.analyzing.taken import flops_of, ideal_intensity
from mmworkload.layer import Layer
from mmworkload.reproducing.cal import variant
from mmworkload.reproducing.item import Headline, Item, Ours, Side, Table, Value
from mmworkload.reproducing.sources import TORCH, Records, Sources, measured

PAPER = "Across-stack profiling"
PLATFORM = "V100 (Amazon P3), TensorFlow"
GPU = "v100"
# Peak throughput in inputs a second, and its batch (table 1).
PEAKS = {
    "across-stack/mobilenet-v1": (2585.5, 128),
    "across-stack/resnet50-v1.5": (996.3, 256),
    "across-stack/ssd-mobilenet-v1-300": (35.5, 64),
    "across-stack/ssd-resnet34-1200": (11.34, 1),
    "across-stack/densenet-121": (944.8, 128),
    "across-stack/resnet152-v1": (468.5, 256),
    "across-stack/faster-rcnn-resnet50": (16.8, 4),
    "across-stack/mask-rcnn-resnet50": (4.4, 1),
}
RESNET, RESNET_BATCH = "across-stack/resnet50-v1.5", 256


def _bounds_of_throughput(sources: Sources) -> Iterator[Table]:
    from mmworkload.simulating.footprint import fits, memory_need

    gpu = sources.gpu(GPU)
    rows: list[list[Value]] = []
    for name, (published, batch) in PEAKS.items():
        graph = sources.graph(name)
        found = graph.batch / sources.roofline(graph, gpu).serial_latency_s
        largest = fits(memory_need(graph), gpu).largest_batch
        rows.append([variant(name), batch, published, found, published / found, largest])
    heads = "network, batch:count, published:1/s, roofline:1/s, published of it:share, fits:count"
    notes = ["Batch and throughput as published; the roofline's at batch 1. Fits: the largest batch in memory."]
    yield Table("Throughput, at most", "modelled", gpu.description, heads, rows, (), notes)


def _throughput_by_batch(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu(GPU)
    rows: list[list[Value]] = []
    ours = []
    for name, (_, batch) in PEAKS.items():
        one, many = (size / sources.roofline(sources.graph(name, size), gpu).serial_latency_s for size in (1, batch))
        rows.append([variant(name), batch, one, many, many / one])
        ours.append(Ours(name, many, f"roofline, batch {batch}"))
    heads = "network, batch:count, at batch 1:1/s, at this batch:1/s, gained:ratio"
    yield Table("Throughput by batch, at most", "modelled", gpu.description, heads, rows, ours)


def _throughput_measured(rows: Records) -> Iterator[Ours]:
    for row in rows:
        if row["optimal"]:
            yield Ours(row["model"], row["throughput_per_s"], f"best batch of those measured: {row['batch']}")


THROUGHPUT = Item(
    "P1", PAPER, "table 1", "peak throughput of eight networks, and its batch", PLATFORM,
    tuple(
        Headline(name, f"{variant(name)}, inputs a second at batch {batch}", rate, "1/s", "poster, table 1")
        for name, (rate, batch) in PEAKS.items()
    ),
    "The roofline charges no launch and has every unit busy from the first sample on: all that a batch gains is reading"
    " the weights once for all of it. Most detectors fall far shorter: choosing boxes, in many small steps, is charged"
    " here as bytes and vector operations. Faster and Mask R-CNN (the poster's -v2) are torchvision's with a feature"
    " pyramid, at other input sizes.",
    (
        Side("modelled", _bounds_of_throughput),
        Side("modelled", _throughput_by_batch, TORCH),
        measured("A1", tuple(PEAKS), "model batch duration_s throughput_per_s optimal", _throughput_measured),
    ),
)  # fmt: skip


def _bounds(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu(GPU)
    graph = sources.graph(RESNET, RESNET_BATCH)
    seconds = {row.layer: row.latency_s for row in sources.roofline(graph, gpu).layers}
    ridge = ideal_intensity(gpu)

    def row(name: str, layers: list[Layer]) -> list[Value]:
        intensity = sum(map(flops_of, layers)) / sum(layer.bytes for layer in layers)
        share = sum(seconds[layer.name] for layer in layers) / sum(seconds.values())
        return [name, share, intensity, intensity < ridge]

    longest = sorted(graph, key=lambda layer: -seconds[layer.name])[:3]
    ops = {layer.op: [other for other in graph if other.op == layer.op] for layer in graph}
    rows = [row("the network", list(graph)), *(row(layer.name, [layer]) for layer in longest)]
    by_time = sorted((row(f"all {op}", layers) for op, layers in ops.items()), key=lambda found: -float(found[1] or 0))
    ours = [
        Ours("model", float(rows[0][3] is True), f"{float(rows[0][2] or 0):.3g} flop/B, the ridge is at {ridge:.3g}"),
        Ours("layers", sum(found[3] is True for found in rows[1:]), "the three longest layers, roofline time"),
        Ours("kernels", sum(found[3] is True for found in by_time[:3]), "the three longest operators, roofline time"),
    ]
    heads = "what, time:share, flop/B:number, memory-bound:yes/no"
    yield Table(f"Bounds at batch {graph.batch}", "modelled", gpu.description, heads, [*rows, *by_time[:3]], ours)


BOUND = Item(
    "P2", PAPER, "bound table", "what of ResNet50-v1.5 at batch 256 is memory-bound", PLATFORM,
    (
        Headline("model", "the network is memory-bound (0: no, 1: yes)", 0, "count", "poster, bound table"),
        Headline("layers", "of the three longest layers, memory-bound", 0, "count", "poster, bound table"),
        Headline("kernels", "of the three longest kernels, memory-bound", 2, "count", "poster, bound table"),
    ),
    "Bytes are each tensor once here, and counted by the hardware there. The poster's longest layers are conv2d_48,"
    " _51 and _45; many convolutions of this network have the same MACs, and what makes one of them longer the roofline"
    " does not see. Its kernels are a convolution and Eigen's product and sum, where here stand operators.",
    (
        Side("modelled", _bounds, TORCH),
        measured("A15", (RESNET,), "duration_s kernel_s intensity memory_bound source"),
        measured("A11", (RESNET,), "layer device_s intensity memory_bound"),
        measured("A10", (RESNET,), "name kernels kernel_s intensity memory_bound"),
    ),
)  # fmt: skip

ITEMS = (THROUGHPUT, BOUND)
