"""Attention: MACs of the full rectangle with the causal share apart, grouped queries, and its hand-written form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmworkload.problem import Mask, gemm

B, H, L, S, E, V = 2, 6, 5, 7, 4, 3
Q, K, VALUES = torch.randn(B, H, L, E), torch.randn(B, H, S, E), torch.randn(B, H, S, V)
FULL = B * H * L * S * (E + V)


def attention_layer(traced: Any) -> Any:
    (layer,) = [layer for layer in traced.graph if layer.op == "attention"]
    return layer


def test_attention_is_two_products_and_reads_each_operand_once(trace: Any, count: Any) -> None:
    traced = trace(F.scaled_dot_product_attention, Q, K, VALUES)
    layer = attention_layer(traced)
    scores, values = layer.work
    assert scores.problem == gemm(L, S, E, groups=B * H, second_role="input").canonical()
    assert values.problem == gemm(L, V, S, groups=B * H, second_role="input").canonical()
    assert layer.macs == layer.useful_macs == FULL
    assert layer.macs == count(F.scaled_dot_product_attention, Q, K, VALUES).macs
    assert layer.read_bytes == 4 * B * H * (L * E + S * E + S * V)
    assert layer.write_bytes == 4 * B * H * L * V
    # A scale, and five passes of softmax, over every score.
    assert layer.vector_ops == 6 * B * H * L * S


def test_a_causal_mask_keeps_the_macs_and_tells_the_useful_ones(trace: Any) -> None:
    def causal(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    layer = attention_layer(trace(causal, Q, Q, Q))
    assert layer.macs == 2 * B * H * L * L * E
    assert layer.useful_macs == 2 * B * H * E * (L * (L + 1) // 2)
    assert [work.problem.mask for work in layer.work] == [Mask("causal", L, L)] * 2


def test_a_mask_is_read_and_added(trace: Any) -> None:
    def masked(q: Any, k: Any, v: Any, mask: Any) -> Any:
        # One mask for all heads: its bytes are those it has in memory.
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(B, H, L, S))

    plain = attention_layer(trace(F.scaled_dot_product_attention, Q, K, VALUES))
    layer = attention_layer(trace(masked, Q, K, VALUES, torch.zeros(B, 1, L, S, dtype=torch.bool)))
    assert layer.read_bytes == plain.read_bytes + B * L * S
    assert layer.vector_ops == plain.vector_ops + B * H * L * S


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_query_heads_that_share_a_key_head_read_it_once(trace: Any, count: Any, kv_heads: int) -> None:
    def grouped(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    inputs = Q, K[:, :kv_heads].contiguous(), VALUES[:, :kv_heads].contiguous()
    layer = attention_layer(trace(grouped, *inputs))
    assert layer.macs == FULL == count(grouped, *inputs).macs
    assert layer.read_bytes == 4 * B * (H * L * E + kv_heads * S * (E + V))
    scores, values = layer.work
    shared = H // kv_heads
    assert scores.problem == gemm(shared * L, S, E, groups=B * kv_heads, second_role="input").canonical()
    assert values.problem == gemm(shared * L, V, S, groups=B * kv_heads, second_role="input").canonical()


def test_grouped_queries_keep_the_causal_share(trace: Any) -> None:
    def grouped(q: Any, k: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)

    layer = attention_layer(trace(grouped, Q, Q[:, :2].contiguous()))
    assert (layer.macs, layer.useful_macs) == (2 * B * H * L * L * E, 2 * B * H * E * L * (L + 1) // 2)


@pytest.mark.parametrize(
    ("q_batch", "k_batch"), [((1, H), (B, H)), ((B, H), (1, H)), ((B, H), (B, 1)), ((H,), (H,)), ((), ())]
)
def test_leading_axes_broadcast(trace: Any, count: Any, q_batch: tuple[int, ...], k_batch: tuple[int, ...]) -> None:
    q, k, v = torch.randn(*q_batch, L, E), torch.randn(*k_batch, S, E), torch.randn(*k_batch, S, V)
    layer = attention_layer(trace(F.scaled_dot_product_attention, q, k, v))
    heads = math.prod(torch.broadcast_shapes(q_batch, k_batch))
    assert layer.macs == heads * L * S * (E + V)
    assert layer.read_bytes == 4 * (q.numel() + k.numel() + v.numel())


def test_attention_without_keys_has_no_work(trace: Any) -> None:
    layer = attention_layer(trace(F.scaled_dot_product_attention, Q, K[:, :, :0], VALUES[:, :, :0]))
    assert (layer.macs, layer.vector_ops) == (0, 0)


class HandWritten(nn.Module):
    """Multi-head self-attention with the packed projection of nn.MultiheadAttention, from matrix products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.packed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        q, k, v = self.packed(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2)) / math.sqrt(width // self.heads)
        mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Module(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x, need_weights=False)[0]


def test_multihead_attention_is_its_hand_written_form(trace: Any, count: Any, works: Any) -> None:
    x = torch.randn(2, 5, 12)
    module, written = trace(Module(12, 3), x), trace(HandWritten(12, 3), x)
    assert sorted(works(module)) == sorted(works(written))
    # Packed projection, two products of attention, output projection.
    expected = 10 * 12 * 36 + 2 * (2 * 3 * 5 * 5 * 4) + 10 * 12 * 12
    assert module.graph.total_macs == written.graph.total_macs == expected
    assert count(Module(12, 3), x).macs == count(HandWritten(12, 3), x).macs == expected
    assert module.graph.total_params == written.graph.total_params == 36 * 12 + 36 + 144 + 12


def test_returned_attention_weights_cost_an_average_and_no_macs(trace: Any, works: Any) -> None:
    class Weights(Module):
        def forward(self, x: Any) -> Any:
            return self.attention(x, x, x)

    x = torch.randn(2, 5, 12)
    with_weights = trace(Weights(12, 3), x)
    assert sorted(works(with_weights)) == sorted(works(trace(Module(12, 3), x)))
    assert "mean" in [layer.op for layer in with_weights.graph]


def test_an_encoder_layer_is_traced_in_its_parts(trace: Any, count: Any) -> None:
    layer = nn.TransformerEncoderLayer(12, 3, dim_feedforward=20, batch_first=True)
    x = torch.randn(2, 5, 12)
    graph = trace(layer, x).graph
    assert graph.total_macs == count(layer, x).macs == 10 * 12 * 36 + 1200 + 10 * 144 + 2 * 10 * 12 * 20
    assert [item.op for item in graph if item.category == "Gemm"] == [
        "linear",
        "attention",
        "linear",
        "linear",
        "linear",
    ]
    assert torch.backends.mha.get_fastpath_enabled()


def test_cross_attention_reads_the_memory_of_the_other_sequence(trace: Any, count: Any) -> None:
    layer = nn.TransformerDecoderLayer(12, 3, dim_feedforward=20, batch_first=True)
    target, memory = torch.randn(2, 4, 12), torch.randn(2, 9, 12)
    assert trace(layer, target, memory).graph.total_macs == count(layer, target, memory).macs
