"""Lee et al., "Characterizing and Efficiently Accelerating Multimodal Generation Model Inference", arXiv 2410.00215."""

from __future__ import annotations

from collections.abc import Iterator

from mmworkload.generation import CATEGORIES, category, quantized_caches, quantized_weights
from mmworkload.generation.categories import IDLE
from mmworkload.generation.totals import of_graph
from mmworkload.graph import LayerGraph
from mmworkload.reproducing.item import Headline, Item, Ours, Side, Table, Unit, Value
from mmworkload.reproducing.sources import TORCH, Records, Sources, executed, measured

PAPER = "Generation paper"
PLATFORM = "one GPU, which the part of the paper that is at hand does not name; A100 in what is modelled"
GPU, DTYPE = "a100", "bfloat16"
# Phase and batch: the script's where a trace at that batch is quick, else the snapshot's.
PHASES = (
    ("hstu/dlrm", 32),
    ("hstu/research-ml-20m-large", 32),
    ("seamless-m4t/text-decode", 128),
    ("codellama/34b-prefill", None),
    ("codellama/34b-decode", None),
    ("chameleon/34b-prefill", None),
    ("chameleon/34b-decode", None),
)
NAMES = tuple(name for name, _ in PHASES)
HSTU, SEAMLESS, LLAMA = "hstu/dlrm", "seamless-m4t/text-decode", "codellama/34b-decode"
STEPS = (LLAMA, "codellama/7b-decode", "chameleon/34b-decode", SEAMLESS)
KINDS = tuple(name for name in CATEGORIES if name != IDLE)


def _breakdown(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu(GPU, DTYPE)
    rows: list[list[Value]] = []
    found = {}
    for name, batch in PHASES:
        graph = sources.graph(name, batch)
        simulated = sources.roofline(graph, gpu)
        found[name] = shares = dict.fromkeys(KINDS, 0.0)
        for layer, row in zip(graph, simulated.layers, strict=True):
            shares[category(layer)] += row.latency_s / simulated.serial_latency_s
        rows.append([name, graph.batch, *shares.values()])
    ours = [
        Ours("hstu", found[HSTU]["Attention"], f"roofline time, {HSTU}, batch 32"),
        Ours("seamless", found[SEAMLESS]["KV_Cache_Reorder"], "roofline time, a step after 32 tokens"),
        Ours("linear", found[LLAMA]["Linear"], "roofline time, a step after 1024 tokens, batch 1"),
    ]
    for key in ("prefill", "decode"):
        of = found[f"chameleon/34b-{key}"]
        ours.append(Ours(key, of["Attention"] / of["Linear"], "roofline time, batch 1"))
    short = {"Attention": "Attn", "LayerNorm": "Norm", "Embedding": "Embed", "KV_Cache_Reorder": "Reorder"}
    heads = ", ".join(["phase", "batch:count", *(f"{short.get(kind, kind)}:share" for kind in KINDS)])
    yield Table("Time by category", "modelled", gpu.description, heads, rows, ours)


def _steps(sources: Sources) -> Iterator[Table]:
    gpu = sources.gpu(GPU, DTYPE)
    rows: list[list[Value]] = []
    for model in ("codellama/7b", "codellama/34b", "chameleon/7b", "chameleon/34b"):
        graphs = (sources.graph(f"{model}-{phase}") for phase in ("prefill", "decode"))
        prefill, step = (sources.roofline(graph, gpu).serial_latency_s for graph in graphs)
        rows.append([model, prefill, step, -(-prefill // step)])
    notes = ["Steps: after so many, decoding has taken as long as the prefill. An image of Chameleon takes 1024."]
    heads = "model, prefill:s, a step:s, steps:count"
    yield Table("Prefill and decoding, batch 1", "modelled", gpu.description, heads, rows, (), notes)


def _idle(rows: Records) -> Iterator[Ours]:
    for row in rows:
        for key, name in (("linear", "Linear"), ("idle", IDLE)):
            if (row["model"], row["module_category"]) == (LLAMA, name):
                yield Ours(key, row["share"], f"{LLAMA}, batch {row['batch']}")


def _script(key: str, text: str, value: float, unit: Unit = "share") -> Headline:
    return Headline(key, text, value, unit, "script", "script")


BREAKDOWN = Item(
    "G1", PAPER, "operator breakdown",
    "time by operator category in prefill and decoding",
    PLATFORM,
    (
        Headline("tokens", "token by token generation is a critical bottleneck of latency, typically idle GPU time",
                 None, "", "abstract"),
        Headline("ffn", "beside attention, linear operations take significant time", None, "", "abstract"),
        _script("hstu", "HSTU in PyTorch, batch 32: Attention", 0.866),
        _script("seamless", "Seamless, speech to text, batch 128: KV-cache reorder", 0.527),
        _script("linear", "Code Llama 34B, text to text: Linear", 0.35),
        _script("idle", "Code Llama 34B, text to text: Idle", 0.583),
        _script("decode", "Chameleon 34B, decoding (image and text in): Attention over Linear", 697 / 446, "ratio"),
        _script("prefill", "Chameleon 34B, prefill: Attention over Linear", 397 / 4143, "ratio"),
    ),
    "No layer is idle: idle time is what starting kernels leaves, and only a measurement has it. The script's shares"
    " are of all time, also idle (HSTU 2.1, Seamless 24.1, Code Llama 58.3 %), ours of the layers' time: of that,"
    " Seamless' reorder is 69 % there and Code Llama's Linear 84 %. Seamless' is of a whole run, ours of a step of the"
    " text decoder; the reorder grows with the length, which is not known, nor is the size of the authors' HSTU."
    " Chameleon's figures are of a whole run at batch 16; at batch 1, as here, the weights of linear layers are read"
    " for one row. That is at most 16 of the about 450 times between the two in decoding. The roofline moves the scores"
    " of attention through DRAM, between its two products.",
    (
        Side("modelled", _breakdown, TORCH),
        Side("modelled", _steps),
        measured("G1", NAMES, "module_category kernel_s share kernels", _idle),
    ),
)  # fmt: skip


def levers_of(sources: Sources, model: str = "codellama/34b", **how: int) -> Iterator[Table]:
    """What a token of ``model`` costs with each lever; ``how`` are settings of its phases, as ``layers=2``."""
    from mmworkload.models import families

    family, _, size = model.partition("/")
    skipping = families()[family].generation(f"{size}-layerskip")
    assert skipping is not None
    drafted, accepted = (int(str(skipping.parameters[name].default)) for name in ("drafted", "accepted"))
    kept = min(accepted, drafted) + 1
    gpu = sources.gpu(GPU, DTYPE)
    step, draft, verify = (
        sources.graph(f"{model}-{phase}", dtype=DTYPE, settings=how) for phase in ("decode", "draft", "verify")
    )
    plain, skip = ((1.0, step),), ((drafted / kept, draft), (1 / kept, verify))
    base: tuple[float, float] | None = None
    rows: list[list[Value]] = []
    ours: list[Ours] = []
    for name, runs, weights, caches in (
        ("none", plain, "", ""),
        ("weights as int8", plain, "int8", ""),
        ("weights as int4", plain, "int4", ""),
        ("caches as int8", plain, "", "int8"),
        ("LayerSkip", skip, "", ""),
        ("all: int4, int8, LayerSkip", skip, "int4", "int8"),
    ):
        macs = moved = seconds = 0.0
        for count, graph in runs:
            changed = _stored(graph, weights, caches)
            macs += count * changed.total_macs
            moved += count * of_graph(changed).bytes
            seconds += count * sources.roofline(changed, gpu).serial_latency_s
        base = base or (moved, seconds)
        rows.append([name, macs, moved, seconds, base[0] / moved, base[1] / seconds])
        if name.startswith("all"):
            ours = [
                Ours("together", base[1] / seconds, f"roofline time a token, {model}"),
                Ours("together", base[0] / moved, f"bytes a token, {model}"),
            ]
    heads = "lever, MACs:number, bytes:B, time:s, fewer bytes:ratio, faster:ratio"
    notes = (
        f"One token after 1024. LayerSkip drafts {drafted} and keeps {kept} tokens a round.",
        "docs/generation.md has whole generations, also with CUDA graphs, at an assumed time to start a kernel.",
    )
    yield Table(f"A token of {model}", "modelled", gpu.description, heads, rows, ours, notes)


def _stored(graph: LayerGraph, weights: str, caches: str) -> LayerGraph:
    if weights:
        graph = quantized_weights(graph, weights)
    return quantized_caches(graph, caches) if caches else graph


LEVERS = Item(
    "G2", PAPER, "levers",
    "what optimisation levers take off a token",
    PLATFORM,
    (Headline("together", "levers of applications, software and hardware: a better baseline", 3.88, "ratio",
              "abstract"),),
    "The paper's factor is of time on a GPU, typically idle while it generates tokens: the closed form has no idle time"
    " to take off, only what is moved and computed. Of which models it is, and what each lever gives, is not in the"
    " part of the paper that is at hand. Quantised weights are brought back before use: time falls less than bytes.",
    (
        Side("modelled", levers_of, TORCH),
        executed("compile", STEPS, "together"),
        executed("cuda-graph", STEPS, "together"),
    ),
)  # fmt: skip

ITEMS = (BREAKDOWN, LEVERS)
