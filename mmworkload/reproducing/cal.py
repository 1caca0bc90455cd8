"""The CAL paper: Hou et al., "Characterizing and Understanding End-to-End Multi-modal Neural Networks on GPUs", 2022.

MMBench has most of its figures again; both papers' statements stand at the item then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from mmworkload.analyzing.multimodal import KINDS
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer
from mmworkload.reproducing.item import Headline, Item, Ours, Side, Table, Value
from mmworkload.reproducing.sources import GRAPH, TORCH, Records, Sources, launches, measured
from mmworkload.straggler import Straggler, encoders, straggler

PAPER = "CAL 2022, MMBench"
SERVER = "RTX 2080 Ti (MMBench); 2080 Ti or 3080 Ti, which is not said (CAL)"
PUSH, LATE, IMAGE = "mujoco-push/transformer", "mujoco-push/late", "mujoco-push/image"
STAGED = (
    "av-mnist/concat", "av-mnist/low-rank", "mm-imdb/concat", "mm-imdb/low-rank", "mujoco-push/concat",
    "mujoco-push/tensor", PUSH,
)  # fmt: skip
STRAGGLED = (
    "av-mnist/concat", "mm-imdb/concat", "cmu-mosei/concat-mmbench", "mustard/concat-mmbench",
    "medical-vqa/concat-mmbench", "medical-seg/transformer-mmbench", LATE, PUSH, "vision-touch/low-rank",
    "transfuser/transformer",
)  # fmt: skip
IMDB = "mm-imdb/concat"
MULTI, UNI = "av-mnist/concat", ("av-mnist/image", "av-mnist/audio")
USE = "stage kernel_s dram_utilization occupancy ipc gld_efficiency gst_efficiency"
DEVICES = ("rtx_2080_ti", "jetson_orin", "jetson_nano")


def variant(name: str) -> str:
    """``mujoco-push/late`` is ``late``."""
    return name.partition("/")[2]


def _three(by_stage: Mapping[str, float]) -> tuple[float, float, float]:
    """Encoders, fusion and head of values by stage."""
    return sum(encoders(by_stage).values()), by_stage.get("fusion", 0.0), by_stage.get("head", 0.0)


def _of_encoders(values: tuple[float, float, float]) -> float:
    return values[1] / values[0]


def _stages_counted(sources: Sources) -> Iterator[Table]:
    rows: list[list[Value]] = []
    ours: list[Ours] = []
    for name in STAGED:
        graph = sources.graph(name)
        macs = _three({stage: item.macs for stage, item in graph.stages.items()})
        params = _three({stage: item.params for stage, item in graph.stages.items()})
        kernels = _three({stage: launches(graph.only([stage])) for stage in graph.stages})
        ratios = [_of_encoders(item) for item in (macs, params, kernels)]
        rows.append([name, *macs, *ratios])
        if name == PUSH:
            what = "MACs", "parameters", "kernels, one a loop nest"
            pairs = (("cal", 0), ("cal", 2), ("mmbench", 0), ("mmbench", 2), ("params", 1))
            ours = [Ours(key, ratios[place], what[place]) for key, place in pairs]
    heads = "workload, encoders:number, fusion:number, head:number, MACs:ratio, params:ratio, kernels:ratio"
    notes = ["MACs by stage; then MACs, parameters and kernels (one for each loop nest) of fusion over encoders."]
    yield Table("Work by stage", "exact", GRAPH, heads, rows, ours, notes)


def _stages_modelled(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu()
    rows: list[list[Value]] = []
    ours: list[Ours] = []
    for name in STAGED:
        found = sources.roofline(sources.graph(name), gpu).stages()
        times = _three({stage: item.latency_s for stage, item in found.items()})
        rows.append([name, *times, _of_encoders(times)])
        if name == PUSH:
            ours = [Ours(key, _of_encoders(times), "roofline time") for key in ("cal", "mmbench")]
    heads = "workload, encoders:s, fusion:s, head:s, fusion/encoders:ratio"
    yield Table("Time by stage", "modelled", gpu.description, heads, rows, ours)


def _stages_measured(rows: Records) -> Iterator[Ours]:
    own = {(row["batch"], row["stage"]): row for row in rows if row["model"] == PUSH}
    for (batch, stage), row in own.items():
        if stage == "fusion":
            yield Ours("cal", row["of_encoders"], f"kernel time, batch {batch}")
            # MMBench takes the time of stages; without the stage level there is none.
            wall = row["wall_s"] / own[batch, "encoder"]["wall_s"]
            if not math.isnan(wall):
                yield Ours("mmbench", wall, f"wall time, batch {batch}")


STAGES = Item(
    "D1", PAPER, "CAL figure 2; MMBench figure 6", "time of encoders, fusion and head, by fusion method", SERVER,
    (
        Headline("cal", "MuJoCo Push: kernel time of the transformer fusion over the encoders'", 2.17, "ratio",
                 "CAL, section 4.1"),
        Headline("mmbench", "the same as execution time, nearly", 3.0, "ratio", "MMBench, section 4.3.1"),
        Headline("params", "its parameters over the encoders', about", 15.0, "ratio", "CAL, section 4.1"),
    ),
    "The fusion is many small kernels on 16 tokens. MACs and the roofline leave out that a kernel takes its time,"
    " however little it does; counting kernels leaves out all else. The papers' times lie between the two. CAL does not"
    " say what it counts among the encoders' parameters: ours are those of the public code, where this variant encodes"
    " without an LSTM.",
    (
        Side("exact", _stages_counted),
        Side("modelled", _stages_modelled),
        measured("D1", STAGED, "stage kernel_s share of_encoders wall_s", _stages_measured),
    ),
)  # fmt: skip

RESOURCES = Item(
    "D2", PAPER, "CAL figure 3; MMBench figure 7", "DRAM utilisation, occupancy, IPC and efficiencies by stage", SERVER,
    (Headline("most", "encoders use most; the widest gap is in DRAM utilisation", None, "", "CAL, section 4.1"),),
    "The papers take plain means over kernels; here a kernel weighs by its time.",
    (measured("D2", STAGED, USE, counters=True),),
)  # fmt: skip


def _kernels(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu()
    found = {}
    for name in (PUSH, LATE, IMAGE, "mujoco-push/position", "mujoco-push/sensors"):
        graph = sources.graph(name)
        found[name] = launches(graph), graph.total_macs, sources.roofline(graph, gpu).serial_latency_s
    late = found[LATE]
    rows: list[list[Value]] = [[name, *own, own[0] / late[0], own[2] / late[2]] for name, own in found.items()]
    ours = [
        Ours(key, found[PUSH][place] / found[other][place], f"{what}, transformer over {variant(other)}")
        for key, place, what in (("runtime", 0, "kernels"), ("gpu", 2, "roofline time"))
        for other in (LATE, IMAGE)
    ]
    heads = "workload, kernels:count, MACs:number, time:s, kernels/late:ratio, time/late:ratio"
    notes = ["Kernels: one for each loop nest, an LSTM one a step. Libraries may fuse or split them."]
    yield Table("Kernels, and time without starting them", "modelled", gpu.description, heads, rows, ours, notes)


def _host_measured(rows: Records) -> Iterator[Ours]:
    # A CPU has no runtime of a device.
    totals = {(row["model"], row["batch"]): row for row in rows if row["stage"] == "total" and row["runtime_s"]}
    for (name, batch), row in totals.items():
        if name in (LATE, IMAGE) and (PUSH, batch) in totals:
            for key, column in (("runtime", "runtime_s"), ("gpu", "busy_s")):
                what = f"transformer over {variant(name)}, batch {batch}"
                yield Ours(key, totals[PUSH, batch][column] / row[column], what)


HOST = Item(
    "D3", PAPER, "CAL figure 4; MMBench figure 11", "host and GPU time of MuJoCo Push, multi-modal over others", SERVER,
    (
        Headline("runtime", "increase of the runtime cost of Multi, read as the transformer fusion", 8.68, "ratio",
                 "CAL, section 4.2"),
        Headline("gpu", "increase of its GPU time", 2.38, "ratio", "CAL, section 4.2"),
        Headline("share", "increase of CPU and runtime, up to", 0.66, "share", "MMBench, section 4.3.3"),
    ),
    "The papers do not say over which network the increase is: the figure has LF (late fusion) and two uni-modal ones."
    " Without a GPU there is no runtime; in its place stands the number of kernels, which over the late fusion comes"
    " near their figure: more than half of the late fusion's are steps of LSTMs, which a library may fuse. The roofline"
    " leaves out what starting kernels costs, also on the GPU.",
    (
        Side("modelled", _kernels),
        measured("D3", (PUSH, LATE, IMAGE), "stage cpu_s runtime_s busy_s idle_s launches", _host_measured),
    ),
)  # fmt: skip


def alone(seconds: Mapping[str, float]) -> float:
    """The part of the encoders' time, all at once, in which the slowest alone still runs."""
    longest, second = sorted(seconds.values(), reverse=True)[:2]
    return 1 - second / longest


def _up_to(found: Straggler) -> float:
    """The slowest over the fastest, as both papers say it; 0 for one modality."""
    return max(found.ratios.values(), default=0.0)


def _stragglers_counted(sources: Sources) -> Iterator[Table]:
    rows: list[list[Value]] = []
    ours = []
    for name in STRAGGLED:
        stages = sources.graph(name).stages
        found = straggler(encoders({stage: item.macs for stage, item in stages.items()}))
        rows.append([name, found.modality, found.ratio, _up_to(found)])
        if name in (LATE, PUSH):
            ours.append(Ours("push", _up_to(found), f"MACs, {variant(name)}"))
    heads = "workload, slowest, over mean of others:ratio, over least:ratio"
    yield Table("Straggler by MACs", "exact", GRAPH, heads, rows, ours)


def _stragglers_modelled(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu()
    rows: list[list[Value]] = []
    ours: list[Ours] = []
    for name in STRAGGLED:
        found = sources.roofline(sources.graph(name), gpu)
        slow, lone = found.straggler, alone(found.encoder_s)
        rows.append([name, slow.modality, slow.ratio, _up_to(slow), lone])
        if name in (LATE, PUSH):
            what = f"roofline time, {variant(name)}"
            ours += [Ours("push", _up_to(slow), what), Ours("alone", lone, what)]
    heads = "workload, slowest, over mean of others:ratio, over least:ratio, alone:share"
    notes = ["Alone: the part of the slowest's time in which the others have ended, each on a GPU of its own."]
    yield Table("Straggler by time", "modelled", gpu.description, heads, rows, ours, notes)


def _stragglers_measured(rows: Records) -> Iterator[Ours]:
    for name, batch in dict.fromkeys((row["model"], row["batch"]) for row in rows if row["model"] in (LATE, PUSH)):
        own = [row for row in rows if (row["model"], row["batch"]) == (name, batch)]
        seconds = {row["modality"]: row["encoder_s"] for row in own}
        what = f"encoder time, {variant(name)}, batch {batch}"
        yield Ours("push", _up_to(straggler(seconds)), what)
        yield Ours("alone", alone(seconds), what)


STRAGGLER = Item(
    "D4", PAPER, "CAL figure 5; MMBench figure 10", "time of each modality's encoder, and the straggler", SERVER,
    (
        Headline("push", "MuJoCo Push: time of the image encoder over the others', up to", 4.09, "ratio",
                 "CAL, section 4.2; MMBench, section 4.3.3"),
        Headline("alone", "part of the encoders' time in which the others have ended", 0.77, "share",
                 "MMBench, section 4.3.3"),
    ),
    "The papers do not say which fusion's encoders they time. Each of the late fusion's has an LSTM of 16 steps, whose"
    " weights the roofline reads at every step; that brings their times together, near the papers' figures. Without it"
    " the image encoder has thousands of times the MACs, and on a GPU the others take what starting their kernels"
    " takes.",
    (
        Side("exact", _stragglers_counted),
        Side("modelled", _stragglers_modelled),
        measured("D4", STRAGGLED, "modality encoder_s slowest_over_this idle_share", _stragglers_measured),
    ),
)  # fmt: skip


def _by_kind(graph: LayerGraph) -> dict[str, dict[str, list[Layer]]]:
    """Stage to category to its layers; movement is Other, as there."""
    found = {stage: {name: list[Layer]() for name in KINDS} for stage in graph.stages}
    for layer in graph:
        found[layer.stage]["Other" if layer.category == "Movement" else layer.category].append(layer)
    return found


def _kinds_counted(sources: Sources) -> Iterator[Table]:
    found = _by_kind(sources.graph(IMDB))
    rows: list[list[Value]] = [[stage, *map(len, kinds.values())] for stage, kinds in found.items()]
    ours = [Ours("albert", len(found["encoder/text"]["Relu"]), "Relu layers of Albert")]
    heads = ", ".join(["stage", *(f"{name}:count" for name in KINDS)])
    yield Table(f"Layers of {IMDB} by category", "exact", GRAPH, heads, rows, ours)


def _kinds_modelled(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu()
    graph = sources.graph(IMDB)
    seconds = {row.layer: row.latency_s for row in sources.roofline(graph, gpu).layers}
    shares = {}
    for stage, kinds in _by_kind(graph).items():
        times = {name: sum(seconds[layer.name] for layer in layers) for name, layers in kinds.items()}
        shares[stage] = {name: time / (sum(times.values()) or 1.0) for name, time in times.items()}
    text, image = shares["encoder/text"], shares["encoder/image"]
    ours = [
        Ours("gemm", text["Gemm"], "Gemm of Albert, roofline time"),
        Ours("gemm", image["Gemm"], "Gemm of VGG, roofline time"),
        Ours("relu", text["Relu"], "Relu of Albert, roofline time"),
        Ours("relu", image["Conv"], "Conv of VGG, whose kernels are named relu, roofline time"),
    ]
    heads = ", ".join(["stage", *(f"{name}:share" for name in KINDS)])
    rows: list[list[Value]] = [[stage, *found.values()] for stage, found in shares.items()]
    yield Table(f"Time of {IMDB} by category", "modelled", gpu.description, heads, rows, ours)


def _kinds_measured(rows: Records) -> Iterator[Ours]:
    for row in rows:
        if row["stage"] in ("encoder/text", "encoder/image") and row["kind"] in ("Gemm", "Relu"):
            what = f"{row['kind']} of {row['stage'].partition('/')[2]}, {row['model']}, batch {row['batch']}"
            for column, rule in (("by_name_share", "by name"), ("by_operator_share", "by operator")):
                yield Ours(row["kind"].lower(), row[column], f"{rule}, {what}")


CATEGORIES = Item(
    "D5", PAPER, "CAL figure 6; MMBench figure 8", "kernel time in eight categories, and the Relu anomaly", SERVER,
    (
        Headline("gemm", "MM-IMDb: Gemm in VGG (70 % of uni0 in CAL)", 0.72, "share", "MMBench, section 4.3.2"),
        Headline("relu", "MM-IMDb: Relu in Albert (67 % of uni1 in CAL)", 0.66, "share", "MMBench, section 4.3.2"),
        Headline("albert", "so Albert would have ReLU layers", None, "count",
                 "MMBench, section 4.3.2; the conclusion is ours"),
    ),
    "The papers' script judges a kernel by its name and looks for relu first, which is in the names of cuDNN's forward"
    " convolutions. Albert has no ReLU and no convolution; VGG-16 is 13 convolutions with ReLUs. So Relu in one encoder"
    " most likely is VGG's convolutions, and Gemm in the other Albert's products: read so, the roofline comes near both"
    " figures, and MMBench's sentence has the names the wrong way round. The authors have not confirmed it.",
    (
        Side("exact", _kinds_counted),
        Side("modelled", _kinds_modelled),
        measured("D5", (IMDB, "mm-imdb/image", "mm-imdb/text"), "stage kind by_operator_share by_name_share",
                 _kinds_measured),
    ),
)  # fmt: skip

HOTSPOTS = Item(
    "D6", PAPER, "CAL figure 7; MMBench figure 9", "the same kernel in different stages of AV-MNIST", SERVER,
    (
        Headline("flops", "Reduce: floating-point operations in one stage over another", 15.0, "ratio",
                 "MMBench, section 4.3.2; CAL, section 4.3, does not say of what"),
        Headline("reads", "the same of read transactions a second", 80.0, "ratio",
                 "MMBench, section 4.3.2; CAL, section 4.3, does not say of what"),
    ),
    "In the graph only encoders have layers that reduce, their means. In fusion and head Reduce is a kernel that"
    " libraries put inside of a product. Without counters, flops and bytes are those that the kernel's layer must"
    " compute and move.",
    (measured("D6", ("av-mnist/concat", "av-mnist/low-rank"), "name stage kernels mean_s of_longest dram_read_bytes"),),
)  # fmt: skip


def _edge_sizes(sources: Sources) -> Iterator[Table]:
    graphs = {name: sources.graph(name) for name in (MULTI, *UNI)}
    image = graphs[UNI[0]].total_params
    rows: list[list[Value]] = [
        [name, graph.total_params, graph.total_macs, graph.total_params / image] for name, graph in graphs.items()
    ]
    ours = [
        Ours("params", graphs[MULTI].total_params / image, "whole network over image network"),
        Ours("params", graphs[MULTI].stages["encoder/audio"].params / image, "audio encoder over image network"),
    ]
    yield Table("Sizes", "exact", GRAPH, "workload, parameters:count, MACs:count, over image:ratio", rows, ours)


def _edge(sources: Sources) -> Iterator[Table]:
    from mmworkload.simulating.footprint import fits, memory_need

    gpus = [sources.gpu(name) for name in DEVICES] if sources.arch is None else [sources.gpu()]
    rows: list[list[Value]] = []
    times: dict[tuple[str, int], list[float]] = {}
    for name in (MULTI, *UNI):
        for batch in (40, 320):
            graph = sources.graph(name, batch)
            times[name, batch] = found = [sources.roofline(graph, gpu).serial_latency_s for gpu in gpus]
            largest = fits(memory_need(graph), gpus[-1]).largest_batch
            rows.append([name, batch, *found, found[-1] / found[0], largest])
    ours = [
        *(Ours("nano", times[MULTI, b][-1] / times[MULTI, b][0], f"roofline time, batch {b}") for b in (40, 320)),
        *(
            Ours("uni", times[MULTI, 320][place] / times[UNI[0], 320][place], f"roofline time, batch 320, {gpu.name}")
            for place, gpu in enumerate(gpus)
        ),
    ]
    heads = ", ".join(["workload", "batch:count", *(f"{gpu.name}:s" for gpu in gpus), "last/first:ratio", "fits:count"])
    notes = [f"Fits: the largest batch in the memory of {gpus[-1].name} by liveness; the host needs a share of it."]
    kept = ours if sources.arch is None else ours[2:]
    yield Table("Time by batch and device", "modelled", "each device in float32", heads, rows, kept, notes)


def _edge_measured(rows: Records) -> Iterator[Ours]:
    for row in rows:
        if "Nano" in row["device"] and row["model"] == MULTI:
            yield Ours("nano", row["over_fastest"], f"eager time over the fastest device, batch {row['batch']}")


EDGE = Item(
    "D11", PAPER, "CAL figure 8; MMBench figure 14", "AV-MNIST by batch on a server and two edge devices",
    "RTX 2080 Ti, Jetson Nano, Jetson Orin",
    (
        Headline("nano", "time on the Jetson Nano over the server GPU", 6.48, "ratio",
                 "CAL, section 5; MMBench, section 5.2"),
        Headline("params", "parameters of the multi-modal network over the uni-modal one", 31.0, "ratio",
                 "MMBench, figure 14"),
        Headline("uni", "time of multi-modal over uni-modal is higher on the edge", None, "ratio",
                 "CAL, section 5; MMBench, section 5.2"),
        Headline("more", "the Nano's latency rises again at batch 320", None, "",
                 "CAL, section 5; MMBench, section 5.2"),
    ),
    "Peak and bandwidth of the two are 57 and 24 times apart. At these sizes the server GPU is far from its roofline,"
    " waiting for launches, so that the Nano loses less. No power limit, no swapping and no share of the host in the"
    " Nano's memory is modelled: at batch 320, far below what fits, nothing gets slower. Multi-modal over uni-modal is"
    " higher on the Nano only, not on the Orin, whose peak and bandwidth are to each other nearly as the server's. 31"
    " comes near the audio encoder's parameters over the image network's; the paper does not say what it counts.",
    (
        Side("exact", _edge_sizes),
        Side("modelled", _edge, TORCH),
        measured("D11", (MULTI, *UNI), "model batch device duration_s latency_s over_fastest", _edge_measured),
    ),
)  # fmt: skip

STALLS = Item(
    "D12", PAPER, "CAL figure 9a, b; MMBench figure 15a, b", "stalls in seven classes by stage",
    "RTX 2080 Ti, Jetson Nano",
    (Headline("edge", "edge: execution dependency and instruction fetch; server: memory and cache", None, "",
              "CAL, section 5; MMBench, section 5.2"),),
    "The classes are the papers', read from the counters that there are now.",
    (measured("D12", (MULTI, *UNI), "stage stall_cache=Cache stall_memory=Mem stall_execution=Exec stall_pipe=Pipe"
              " stall_sync=Sync stall_instruction=Inst stall_other=Else", counters=True),),
)  # fmt: skip

EDGE_RESOURCES = Item(
    "D13", PAPER, "CAL figure 9c; MMBench figure 15c", "resource use by stage on the edge", "Jetson Nano",
    (Headline("dram", "DRAM utilisation is nearly always at its highest", None, "",
              "CAL, section 5; MMBench, section 5.2"),),
    RESOURCES.differs,
    (measured("D13", (MULTI,), USE, counters=True),),
)  # fmt: skip

ITEMS = (STAGES, RESOURCES, HOST, STRAGGLER, CATEGORIES, HOTSPOTS, EDGE, STALLS, EDGE_RESOURCES)
