"""MMBench: Xu et al., IISWC 2023. What the CAL paper has too is in :mod:`mmworkload.reproducing.cal`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from mmworkload.analyzing.multimodal import BINS, BINS_US, ELSEWHERE, INFERENCES
from mmworkload.reproducing.cal import LATE, MULTI, PUSH, STRAGGLED, UNI, variant
from mmworkload.reproducing.item import Headline, Item, Ours, Side, Table, Value
from mmworkload.reproducing.sources import GRAPH, TORCH, Records, Sources, executed, measured

PAPER = "MMBench"
SERVER = "RTX 2080 Ti, two Xeon 6148"
SMALL, LARGE = 40, 400


def _concurrent(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu()
    rows: list[list[Value]] = []
    ours = []
    for name in STRAGGLED:
        simulated = sources.roofline(sources.graph(name), gpu)
        found, idle = simulated.concurrency, simulated.straggler.idle_share
        if found is None or idle is None:
            continue
        one, own = found.accelerators[0], found.accelerators[len(found.modalities) - 1]
        rows.append([name, own.count, one.latency_s, own.latency_s, own.speedup, idle, own.critical])
        if name in (LATE, PUSH):
            ours.append(Ours("idle", idle, f"roofline time, {variant(name)}"))
    heads = "workload, GPUs:count, serial:s, concurrent:s, faster:ratio, idle:share, critical"
    notes = ["Idle: of all GPUs' time, until the slowest encoder ends. mmworkload simulate has other numbers of GPUs."]
    yield Table("A GPU for each modality", "modelled", gpu.description, heads, rows, ours, notes)


CONCURRENCY = Item(
    "D4b", PAPER, "section 4.3.3", "encoders one after another and side by side", SERVER,
    (Headline("idle", "MuJoCo Push: 75 % of the resources idle for 77 % of the encoders' time", 0.75 * 0.77, "share",
              "MMBench, section 4.3.3; the product is ours"),),
    "The paper reckons from the encoders' times, and so does this, from the roofline's: D4 has what brings those of the"
    " late fusion together. Streams of one GPU share its peak and bandwidth too.",
    (Side("modelled", _concurrent), executed("streams", STRAGGLED)),
)  # fmt: skip


def _durations(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu()
    rows: list[list[Value]] = []
    totals: list[list[Value]] = []
    large, faster = [], []
    for name in (MULTI, UNI[0]):
        times = []
        for batch in (SMALL, LARGE):
            found = sources.roofline(sources.graph(name, batch), gpu)
            counts: Counter[str] = Counter()
            for row in found.layers:
                runs = max(1, row.count)
                bins = zip(BINS, pairwise(BINS_US), strict=True)
                counts[next(label for label, (low, high) in bins if low <= 1e6 * row.latency_s / runs < high)] += runs
            rows.append([name, batch, *(counts[label] for label in BINS)])
            large.append(Ours("large", sum(counts[label] for label in BINS[2:]), f"{name}, batch {batch}"))
            times.append(found.serial_latency_s * -(-INFERENCES // batch))
        totals.append([name, *times, times[0] / times[1]])
        faster.append(Ours("faster", times[0] / times[1], name))
    heads = ", ".join(["workload", "batch:count", *(f"{label}:count" for label in BINS)])
    yield Table("Kernels by duration", "modelled", gpu.description, heads, rows, large)
    heads = f"workload, batch {SMALL}:s, batch {LARGE}:s, faster:ratio"
    yield Table(f"Time for {INFERENCES:,} inferences", "modelled", gpu.description, heads, totals, faster)


def _durations_measured(rows: Records) -> Iterator[Ours]:
    found: Counter[tuple[str, int]] = Counter()
    for row in rows:
        found[row["model"], row["batch"]] += row["kernels"] if row["bin"] in BINS[2:] else 0
    yield from (Ours("large", count, f"{model}, batch {batch}") for (model, batch), count in found.items())


def _totals_measured(rows: Records) -> Iterator[Ours]:
    for row in rows:
        if row["batch_ratio"] > 1:
            yield Ours("faster", row["speedup"], f"{row['model']}, {row['batch_ratio']:g} times the batch")


BATCH = Item(
    "D9", PAPER, "figure 12", "batch 40 against 400 on AV-MNIST: kernel durations, time for 10,000 inferences", SERVER,
    (
        Headline("large", "kernels over 50 us: more at batch 400, more in the multi-modal network", None, "count",
                 "MMBench, section 5.1"),
        Headline("faster", "10 times the batch is not 10 times faster", None, "ratio", "MMBench, section 5.1"),
    ),
    "The text of the paper has no numbers. For the roofline ten times the batch is ten times the work, and all that is"
    " gained is reading the weights less often. What a GPU gains are launches, which a measurement shows.",
    (
        Side("modelled", _durations, TORCH),
        measured("D9a", (MULTI, UNI[0]), "model batch bin kernels share kernel_s", _durations_measured),
        measured("D9b", (MULTI, UNI[0]), "model batch duration_s passes total_s speedup", _totals_measured),
    ),
)  # fmt: skip


def _memory(sources: Sources) -> Iterator[Table]:
    from mmworkload.simulating.footprint import memory_need

    rows: list[list[Value]] = []
    ours: list[Ours] = []
    for name in (MULTI, *UNI):
        for batch in (SMALL, 320, LARGE):
            need = memory_need(sources.graph(name, batch))
            parts = need.fixed_bytes, need.input_bytes + need.state_bytes, need.peak_activation_bytes
            rows.append([name, batch, *parts, parts[2] / sum(parts)])
        ours.append(Ours("share", parts[2] / sum(parts), f"{name}, batch {LARGE}"))
        for key, before, after in (("constant", rows[-3][2], parts[0]), ("linear", rows[-3][4], parts[2])):
            if name == MULTI and isinstance(before, int):
                ours.append(Ours(key, after / before, f"{name}, batch {LARGE} over {SMALL}"))
    heads = "workload, batch:count, model:B, data:B, intermediates:B, share:share"
    yield Table("Peak memory by liveness", "exact", "the graph", heads, rows, ours)


def _memory_measured(rows: Records) -> Iterator[Ours]:
    for row in rows:
        if row["part"] == "intermediates":
            yield Ours("share", row["share"], f"{row['model']}, batch {row['batch']}")


MEMORY = Item(
    "D10", PAPER, "figure 13", "peak memory of AV-MNIST by batch: model, data, intermediates", SERVER,
    (
        Headline("constant", "the model's memory stays generally the same", 1.0, "ratio",
                 "MMBench, section 5.1; the factor is ours"),
        Headline("linear", "intermediates grow as the batch", 10.0, "ratio",
                 "MMBench, section 5.1; the factor is ours"),
        Headline("share", "the multi-modal network has the larger share of intermediates", None, "share",
                 "MMBench, section 5.1"),
    ),
    "Liveness is the least that any allocator needs: Python names keep tensors longer, libraries take work space. The"
    " statement on shares holds against the image network, not against the audio network, whose largest layers decide"
    " the peak of the multi-modal one too.",
    (
        Side("exact", _memory, TORCH),
        measured("D10", (MULTI, *UNI), "model batch part measured_bytes share liveness_bytes", _memory_measured),
    ),
)  # fmt: skip

FORMULAS = {
    "zero": "0",
    "sum": "x + y",
    "concat": "ReLU([x y] W + b)",
    "tensor": "x outer y",
    "attention": "softmax(x yT/√C) y",
    "linear-glu": "x W1 * sig(y W2)",
}


def _fusions(sources: Sources) -> Iterator[Table]:
    rows: list[list[Value]] = []
    for name, formula in FORMULAS.items():
        stages = sources.graph(MULTI, settings={"fusion": name}).stages
        own = stages["fusion"]
        moved = own.weight_bytes + own.activation_bytes
        rows.append([name, formula, own.layers, own.params, own.macs, own.outer_macs, moved, stages["head"].macs])
    heads = "operator, formula, layers:count, params:count, MACs:count, outer:count, bytes:B, head:count"
    notes = ["Outer: products that accumulate nothing. Head: MACs of the head behind it."]
    yield Table(f"Fusion operators in {MULTI}", "exact", GRAPH, heads, rows, (), notes)


FUSION = Item(
    "D15", PAPER, "table 1", "the six fusion operators, and what each costs in AV-MNIST", "no device: formulas",
    (Headline("formulas", "Zero, Sum, Concat, Tensor, Attention, LinearGLU", None, "", "MMBench, table 1"),),
    "The paper gives formulas and no costs, and in that of attention the last y inside of the softmax. Sum and"
    " attention bring the narrower modality to the width of the other by a linear layer first. For Tensor in AV-MNIST,"
    " MMBench's public code has other forms than the outer product.",
    (
        Side("exact", _fusions, TORCH),
        measured("D15", (MULTI, "av-mnist/tensor", PUSH), "op layers macs allocated_bytes layer_s"),
    ),
)  # fmt: skip

# Application and its size in table 3; networks here, those of the paper and (-mmbench) those of its code.
WORKLOADS = (
    ("AV-MNIST", "small", ("av-mnist/concat", "av-mnist/tensor")),
    ("MM-IMDb", "large", ("mm-imdb/concat", "mm-imdb/low-rank")),
    ("CMU-MOSEI", "large", ("cmu-mosei/concat", "cmu-mosei/transformer", "cmu-mosei/concat-mmbench")),
    ("MUStARD", "large", ("mustard/concat", "mustard/transformer", "mustard/concat-mmbench")),
    ("Medical VQA", "large", ("medical-vqa/transformer", "medical-vqa/concat-mmbench")),
    ("Medical Seg.", "medium", ("medical-seg/transformer", "medical-seg/transformer-mmbench")),
    ("MuJoCo Push", "medium", (LATE, "mujoco-push/tensor", PUSH)),
    ("Vision & Touch", "medium", ("vision-touch/concat", "vision-touch/low-rank")),
    ("TransFuser", "medium", ("transfuser/transformer", "transfuser/transformer-mmbench")),
)


def _workloads(sources: Sources) -> Iterator[Table]:
    rows: list[list[Value]] = []
    for title, size, names in WORKLOADS:
        for name in names:
            graph = sources.graph(name)
            modalities = {item.modality for item in graph.inputs if item.role == "modality"}
            rows.append([title, size, name, len(modalities), graph.total_params, graph.total_macs])
    heads = "application, there, network, modalities:count, params:number, MACs:number"
    yield Table("The nine workloads", "exact", GRAPH, heads, rows)


ZOO = Item(
    "T3", PAPER, "table 3", "the nine workloads: parameters and MACs", "no device: sizes",
    (Headline("nine", "one small, four large and four medium workloads", None, "", "MMBench, table 3"),),
    "The paper gives sizes in words. Its public code often builds other networks than table 3 lists: where both are"
    " here, the name of the code's ends in -mmbench. docs/workloads.md says how they differ.",
    (Side("exact", _workloads),),
)  # fmt: skip


def _elsewhere(id: str, *headlines: Headline) -> Item:
    found = next(item for item in ELSEWHERE if item.id == id)
    figure = found.source.partition(", ")[2]
    shows = found.title[0].lower() + found.title[1:]
    return Item(id, PAPER, figure, shows, "no device: accuracies", headlines, "Not made here.", (), found.needs)


QUALITY = _elsewhere(
    "D7",
    Headline("late", "MuJoCo Push: error (MSE) of late fusion, less than", 0.3, "number", "MMBench, section 4.2.2"),
    Headline("tensor", "the same of tensor fusion", 0.58, "number", "MMBench, section 4.2.2"),
)
IMPORTANCE = _elsewhere(
    "D8",
    Headline(
        "major", "of correct samples: by the major modality alone, more than", 0.75, "share", "MMBench, section 4.2.3"
    ),
    Headline("fused", "of correct samples: only with the fusion, less than", 0.05, "share", "MMBench, section 4.2.3"),
)

ITEMS = (CONCURRENCY, QUALITY, IMPORTANCE, BATCH, MEMORY, FUSION, ZOO)
