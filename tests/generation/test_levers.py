"""Levers: of one phase, of attention that is written out, and what they make of the time, alone and together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mmworkload import arch, simulate
from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, UnknownNameError
from mmworkload.generation import Generation, Once, Steps, category, eager_attention, generation, grow
from mmworkload.generation.levers import pulled
from mmworkload.generation.page import ARCHS, BEGIN, END, block, written
from mmworkload.generation.resolving import phase_graph
from mmworkload.generation.speedups import WAYS, Way, fused_s, speedups
from mmworkload.graph import LayerGraph
from mmworkload.models.family import InputSpec
from mmworkload.models.model import Model, synthesize
from mmworkload.reporting.units import si
from mmworkload.tracing import trace_model

US = 1e-6
WIDTH, HEADS = 64, 4


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(self.proj(x), keys, values)


def traced(length: int) -> LayerGraph:
    specs = (
        InputSpec("x", (1, HEADS, 8, WIDTH)),
        InputSpec("keys", (1, HEADS, length, WIDTH), role="state"),
        InputSpec("values", (1, HEADS, length, WIDTH), role="state"),
    )
    name = f"toy?length={length}"
    return trace_model(Model(name, "toy", 1, "float32", lambda device: (Step(), synthesize(specs)), specs)).graph


@pytest.fixture(scope="module")
def made() -> Generation:
    growing = grow(traced, "length", (16, 32, 24))
    return Generation("toy/whole", (Once("prefill", traced(16)), Steps("decode", growing, 16, 10)))


@pytest.fixture(scope="module")
def h100() -> Architecture:
    found: Architecture = arch.load("h100", "bfloat16")
    return found


def test_attention_written_out_moves_its_scores_and_does_the_same_work() -> None:
    fused = traced(16)
    (attention,) = [layer for layer in fused if layer.op == "attention"]

    eager = eager_attention(fused)

    names = [f"{attention.name}:scores", f"{attention.name}:softmax", attention.name]
    assert [(layer.name, layer.op) for layer in eager] == [
        ("proj", "linear"),
        *zip(names, ("matmul", "softmax", "matmul"), strict=True),
    ]
    assert eager.total_macs == fused.total_macs
    assert sum(layer.vector_ops for layer in eager) == sum(layer.vector_ops for layer in fused)
    # 4 heads of 8 x 16 scores of four bytes: written and read, and again behind the softmax.
    size = 4 * 8 * 16 * 4
    moved = sum(layer.bytes for layer in eager) - sum(layer.bytes for layer in fused)
    assert moved == 4 * size
    assert [dict(eager[name].reads).get("values", 0) for name in names] == [0, 0, 4 * 16 * WIDTH * 4]
    assert eager[names[2]].writes == attention.writes
    assert [category(eager[name]) for name in names] == ["Attention", "Misc", "Attention"]
    assert eager.tensors[names[0]].elements == 4 * 8 * 16


def test_kernels_are_started_one_by_one_or_once_a_run(made: Generation, h100: Architecture) -> None:
    ways = (Way("eager"), Way("SDPA", {"attention": "sdpa"}), Way("CUDA graph", cuda_graph=True))

    found = {item.way.name: item for item in speedups(made, None, h100, 5.0, [*ways, Way("skip", layerskip=True)])}

    # Eleven runs: a projection, and attention as three kernels or as one.
    assert {name: item.launches for name, item in found.items()} == {
        "eager": pytest.approx(44),
        "SDPA": pytest.approx(22),
        "CUDA graph": pytest.approx(11),
    }
    eager, graph = found["eager"], found["CUDA graph"]
    assert eager.launch_s == pytest.approx(44 * 5 * US)
    assert eager.total_s - graph.total_s == pytest.approx(33 * 5 * US)
    assert eager.prefill_s - graph.prefill_s == pytest.approx(3 * 5 * US)
    bare = simulate(
        pulled(made, {"attention": "eager"}).sampled(held_out=False).workload, h100, simulator="roofline", cache=False
    )
    assert graph.total_s == pytest.approx(bare.serial_latency_s + 11 * 5 * US)


def test_fused_attention_takes_what_it_reads_and_writes_itself(h100: Architecture) -> None:
    graph = traced(4096)
    (attention,) = [layer for layer in graph if layer.op == "attention"]
    # In 16 bits: queries and answers of 8 rows, keys and values of 4096, each of 4 heads of 64.
    bits = 16 * HEADS * WIDTH * (2 * 8 + 2 * 4096)
    cycles = -(-bits // 16 // (h100.dram.read_bandwidth or 0)) + -(-attention.vector_ops // h100.vector.lanes)
    assert fused_s(graph, attention, h100, 16) == pytest.approx(cycles / (h100.clock_mhz * 1e6), rel=1e-4)


def test_a_way_is_faster_where_what_it_saves_decides(made: Generation, h100: Architecture) -> None:
    small = {"weights": "int4", "cache": "int8"}
    assert [way.name for way in WAYS if not way.settings and not way.cuda_graph and not way.layerskip] == ["eager"]
    found = speedups(made, made, h100, 0.0, (Way("eager"), Way("int4", small), Way("skip", layerskip=True)))
    eager, int4, skipping = found
    assert int4.decode_s < eager.decode_s
    assert skipping.total_s == eager.total_s


def test_the_page_has_the_tables_of_a_generation_between_its_marks(made: Generation, h100: Architecture) -> None:
    text = block(made, made, [h100], 5.0)
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in text.splitlines()}
    assert rows["| eager"][0] == "44"
    assert rows["| eager"][-1] == "1.00 |"
    assert rows["| SDPA, CUDA graph"][0] == "11"
    eager, graph = speedups(made, None, h100, 5.0, (Way("eager"), Way("", {"attention": "sdpa"}, cuda_graph=True)))
    assert rows["| SDPA, CUDA graph"][-1] == f"{eager.total_s / graph.total_s:.2f} |"
    assert rows["| `attention=eager`"][0] == si(made.by_phase()["decode"].macs)
    assert "starting a kernel takes 5 us" in text
    assert written(f"head\n{BEGIN}\nold\n{END}\ntail", "new") == f"head\n{BEGIN}\nnew\n{END}\ntail"
    with pytest.raises(FormatError, match="levers: begin"):
        written("head", "new")


def test_the_page_was_written_with_these_ways() -> None:
    page = Path(__file__).parents[2] / "docs" / "generation.md"
    text = page.read_text().partition(BEGIN)[2].partition(END)[0]
    for name in ARCHS:
        rows = text.partition(f"| on `{name}` |")[2].split("\n\n")[0].splitlines()[2:]
        assert [row.split(" | ")[0].removeprefix("| ") for row in rows if row.startswith("| ")] == [
            way.name for way in WAYS
        ]


def test_a_lever_on_one_phase_narrows_what_is_stored_and_nothing_else() -> None:
    name = "codellama/7b-decode?layers=1&cached=16"
    stored = {}
    for query in ("", "&weights=int4", "&cache=int8"):
        rows = simulate(name + query, "h100", simulator="roofline", dtype="bfloat16", cache=False).layers
        moved = [row.traffic_bytes["dram"] for row in rows if row.op in ("linear", "attention")]
        stored[query] = [
            (sum(item.get(role, 0) for item in moved if ("weight" in item) == linear))
            for linear, role in ((True, "weight"), (True, "input"), (False, "input"))
        ]
        macs = sum(row.macs for row in rows)
        assert macs == 202_375_168 + 131_137_536 + 2 * 17 * 4096
    plain, weights, cache = stored.values()
    assert plain[0] == 2 * (202_375_168 + 131_137_536)
    assert weights == [plain[0] // 4, *plain[1:]]
    # Queries and weighted scores stay in 16 bits; keys and values, 17 rows of 4096 each, are bytes.
    assert cache == [plain[0], plain[1], plain[2] - 2 * 17 * 4096]


def test_a_generation_of_one_phase_is_shown_with_its_lever() -> None:
    found = generation("codellama/7b-decode?layers=1&cached=16", settings={"weights": "int8"})
    assert found.name == "codellama/7b-decode?cached=16&layers=1&weights=int8"
    assert [(phase.name, phase.runs, phase.lengths) for phase in found.phases] == [("7b-decode", 1, None)]
    assert "linear weights are int8" in found.notes
    graph = phase_graph("codellama/7b-decode?layers=1&cached=16&weights=int8")
    assert graph is not None
    assert graph.model == found.name
    assert graph.tensors["lm_head.weight"].bits == 8
    assert phase_graph("codellama/7b-decode?layers=1&cached=16") is None
    assert phase_graph("codellama/7b?layers=1&weights=int8") is None
    with pytest.raises(UnknownNameError, match="weights"):
        generation("codellama/7b-decode?weights=int3")
