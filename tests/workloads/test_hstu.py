"""HSTU: totals by hand for every configuration, and the pointwise attention against loops."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from mmworkload.generation import category
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.sources import require_known
from mmworkload.tracing import trace_model
from mmworkload.workloads.hstu.networks import Bias, PointwiseAttention, Ranking, Retrieval
from mmworkload.workloads.hstu.sizes import DLRM, RESEARCH, Size

pytestmark = pytest.mark.slow

SMALL = Size(12, 2, 3, 4, 2, 6, 20)
RANKED = Size(12, 2, 3, 4, 2, 6, 20, True, False, 8, 5)


@cache
def traced(name: str) -> LayerGraph:
    return require_known(trace_model(resolve(name)).graph)


def block(size: Size, length: int, joined: bool) -> tuple[int, int]:
    """MACs of the input and output projections, and of the two products of attention (ICML 2024, section 3.1)."""
    keys, values = size.heads * size.key_width, size.heads * size.value_width
    linear = length * size.width * 2 * (keys + values) + length * (3 if joined else 1) * values * size.width
    return linear, length * length * (keys + values)


@pytest.mark.parametrize("name", RESEARCH)
def test_macs_and_parameters_of_the_research_configurations(name: str) -> None:
    size = RESEARCH[name]
    graph = traced(f"hstu/research-{name}")
    linear, attention = block(size, size.length, False)
    assert graph.total_macs == size.layers * (linear + attention) + 10 * size.width
    keys, values = size.heads * size.key_width, size.heads * size.value_width
    weights = size.width * 2 * (keys + values) + values * size.width + size.width
    biases = 2 * size.length - 1 + 129
    tables = (size.items + size.length) * size.width
    assert graph.total_params == graph.built_params == size.layers * (weights + biases) + tables
    assert set(graph.stages) == {"encoder/items"}
    groups = {kind: sum(layer.macs for layer in graph if category(layer) == kind) for kind in ("Attention", "Linear")}
    # Products of activations; the scores of candidates are one of them.
    assert groups == {"Attention": size.layers * attention + 10 * size.width, "Linear": size.layers * linear}


@pytest.mark.parametrize("name", DLRM)
@pytest.mark.parametrize("output", ["joined", "gated"])
def test_macs_of_the_ranking_configurations(name: str, output: str) -> None:
    size = DLRM[name]
    graph = traced(f"hstu/{name}?output={output}")
    linear, attention = block(size, size.length, output == "joined")
    head = 10 * size.width * (size.width + 1)
    assert graph.total_macs == size.layers * (linear + attention) + size.length * size.table_width * size.width + head
    assert graph.stages["head"].macs == head
    assert list(graph.stages) == ["encoder/items", "encoder/actions", "fusion", "head"]


def test_the_ranking_model_of_the_facts_spends_86_percent_in_attention() -> None:
    """Facts, A.6: at 8192 places bmm 206 GMAC, mm 25.8 and addmm 6.5."""
    size = DLRM["dlrm-v3"]
    linear, attention = block(size, 8192, False)
    assert size.layers * attention / 1e9 == pytest.approx(206, abs=0.5)
    assert size.layers * linear / 1e9 == pytest.approx(25.8 + 6.5, abs=0.1)
    graph = traced("hstu/dlrm-v3?output=gated")
    mixed = sum(layer.macs for layer in graph if category(layer) == "Attention")
    assert mixed / graph.total_macs == pytest.approx(0.86, abs=0.005)


def test_an_embedding_reads_its_rows_and_not_the_table() -> None:
    graph = traced("hstu/dlrm-v3?output=gated")
    table = graph["embed_items"]
    assert dict(table.reads)["embed_items.weight"] == 8192 * 256 * 4
    assert graph.tensors["embed_items.weight"].bytes == 10_000_000 * 256 * 4


def test_pointwise_attention_is_a_causal_sum_without_softmax() -> None:
    torch.manual_seed(0)
    length = 5
    q, k, v = torch.randn(2, length, 3, 4), torch.randn(2, length, 3, 4), torch.randn(2, length, 3, 2)
    bias = torch.randn(2, length, length)
    found = PointwiseAttention(length)(q, k, v, bias)
    expected = torch.zeros(2, length, 3, 2)
    for row in range(length):
        for column in range(row + 1):
            score = (q[:, row] * k[:, column]).sum(-1) + bias[:, row, column, None]
            expected[:, row] += torch.nn.functional.silu(score)[..., None] / length * v[:, column]
    torch.testing.assert_close(found, expected)


def test_the_bias_knows_distance_and_logarithm_of_time() -> None:
    bias = Bias(4)
    with torch.no_grad():
        bias.by_distance.copy_(torch.arange(7.0))
        bias.by_time.copy_(100 * torch.arange(129.0))
        found = bias(torch.tensor([[0, 1, 10, 1000]]))[0]
    # Distance 3 places ahead is the last of seven; log(10) / 0.301 is 7.6, log(1000) / 0.301 is 22.9.
    assert [found[0, column].item() for column in range(4)] == [3, 4, 705, 2206]
    assert found[2, 0].item() == 701


@pytest.mark.parametrize("kind", ["research", "ranking"])
def test_the_future_changes_nothing_and_shapes_are_the_traced_ones(kind: str) -> None:
    torch.manual_seed(0)
    items = torch.randint(0, 20, (2, 6))
    changed = items.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 20
    with torch.no_grad():
        if kind == "research":
            module = Retrieval(SMALL, 6, 2, 20).eval()
            scores = module(items, torch.arange(12).view(2, 6), torch.randint(0, 20, (2, 3)))
            assert scores.abs().max() <= 1
            assert scores.shape == (2, 3)
            return
        ranked = Ranking(RANKED, 6, 2, 20, 3, joined=True).eval()
        actions = torch.randint(0, 5, (2, 6))
        one, other = ranked(items, actions), ranked(changed, actions)
    torch.testing.assert_close(one[:, :-1], other[:, :-1])
    assert not torch.allclose(one[:, -1], other[:, -1])
    small = trace_model(resolve("hstu/dlrm?length=6&layers=2&items=20&candidates=3", batch=2)).graph
    assert [small.tensors[name].elements for name in small.outputs] == [one.numel()]


def test_every_variant_names_where_its_sizes_are_from() -> None:
    family = families()["hstu"]
    assert {item.name for item in family.variants} == {*(f"research-{name}" for name in RESEARCH), *DLRM}
    assert all("generative-recommenders" in item.source for item in family.variants)
