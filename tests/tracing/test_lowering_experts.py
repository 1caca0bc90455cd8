"""Mixture-of-experts products: MACs equal those of a run that takes the experts one by one, however rows are split."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

TINY = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50, "num_local_experts": 4, "num_experts_per_tok": 2, "use_cache": False,
}  # fmt: skip


def mixtral(experts: str) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(**TINY)
    config._experts_implementation = experts
    return transformers.MixtralForCausalLM(config).eval()


@pytest.fixture
def offsets() -> Any:
    return torch.tensor([3, 8], dtype=torch.int32)


def half(*shape: int) -> Any:
    return torch.randn(*shape).to(torch.bfloat16)


class Experts(nn.Module):
    """[S, C] rows, sorted by expert, against the weight [E, C, M] of each."""

    def __init__(self, experts: int, width: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(half(experts, width, columns))

    def forward(self, x: Any, offsets: Any) -> Any:
        return F.grouped_mm(x, self.weight, offs=offsets)


def test_a_mixture_of_experts_costs_what_its_experts_cost_one_by_one(trace: Any, count: Any) -> None:
    ids = torch.randint(0, 50, (2, 7))
    graph = trace(mixtral("grouped_mm"), input_ids=ids).graph
    # The reference runs a linear for each expert that was chosen.
    assert graph.total_macs == count(mixtral("eager"), input_ids=ids).macs
    products = [layer for layer in graph if layer.op == "grouped_matmul"]
    # 14 tokens, 2 experts each: gate and up in one product, then down; two layers.
    assert [layer.macs for layer in products] == [28 * 16 * 48, 28 * 24 * 16] * 2
    # All experts get rows: 28 rows over 4.
    assert [(work.problem.dims, work.count) for work in products[0].work] == [
        ((("N", 7), ("M", 48), ("C", 16)), 4),
    ]
    read = dict(products[0].reads)
    assert read["model.layers.0.mlp.experts.gate_up_proj"] == 4 * 48 * 16 * 4
    assert products[0].assumptions == ("28 rows spread evenly over 4 experts",)
    assert not [item for item in graph.coverage if item.treatment == "unknown"]


def test_experts_computed_in_a_batch_are_the_same_macs(trace: Any) -> None:
    ids = torch.randint(0, 50, (1, 5))
    assert (
        trace(mixtral("batched_mm"), input_ids=ids).graph.total_macs
        == trace(mixtral("grouped_mm"), input_ids=ids).graph.total_macs
    )


def test_an_even_split_is_one_product_for_each_expert(trace: Any, works: Any) -> None:
    class OneByOne(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.ParameterList([half(16, 32) for _ in range(2)])

        def forward(self, x: Any) -> Any:
            return torch.cat([part @ weight for part, weight in zip(x.split(4), self.weights, strict=True)])

    grouped = trace(Experts(2, 16, 32), half(8, 16), torch.tensor([4, 8], dtype=torch.int32))
    one_by_one = trace(OneByOne(), half(8, 16))
    ((key, number, sequential),) = works(grouped)
    assert [(key, 1, sequential)] * number == works(one_by_one)
    assert grouped.graph.total_macs == 8 * 16 * 32


def test_an_uneven_split_keeps_the_macs(trace: Any) -> None:
    offsets = torch.tensor([1, 4, 10], dtype=torch.int32)
    (layer,) = trace(Experts(3, 16, 32), half(10, 16), offsets).graph.layers
    assert layer.macs == 10 * 16 * 32
    # 10 rows over 3 experts: 4, 3 and 3.
    assert [(work.problem.dims[0], work.count) for work in layer.work] == [(("N", 4), 1), (("N", 3), 2)]
    assert layer.assumptions == ("10 rows spread evenly over 3 experts",)
    assert (layer.read_bytes, layer.write_bytes) == (2 * (10 * 16 + 3 * 16 * 32) + 3 * 4, 2 * 10 * 32)


def test_experts_without_rows_are_not_read(trace: Any) -> None:
    offsets = torch.tensor([1, 2] + [2] * 6, dtype=torch.int32)
    (layer,) = trace(Experts(8, 16, 32), half(2, 16), offsets).graph.layers
    assert layer.macs == 2 * 16 * 32
    assert dict(layer.reads)["weight"] == 2 * 2 * 16 * 32


def test_a_batch_of_products_is_that_of_bmm(trace: Any, works: Any) -> None:
    class Batch(nn.Module):
        def __init__(self, grouped: bool) -> None:
            super().__init__()
            self.grouped, self.weight = grouped, nn.Parameter(half(3, 16, 32))

        def forward(self, x: Any) -> Any:
            return F.grouped_mm(x, self.weight) if self.grouped else torch.bmm(x, self.weight)

    x = half(3, 8, 16)
    assert works(trace(Batch(True), x)) == works(trace(Batch(False), x))
    assert trace(Batch(True), x).graph.total_macs == 3 * 8 * 16 * 32


def test_the_output_axis_and_the_sum_can_be_split(trace: Any) -> None:
    offsets = torch.tensor([16, 40], dtype=torch.int32)
    columns = trace(lambda x, y, o: F.grouped_mm(x, y, offs=o), half(2, 8, 16), half(16, 40), offsets).graph
    assert columns.total_macs == 8 * 16 * 40
    assert columns.layers[0].assumptions == ("40 columns spread evenly over 2 experts",)
    assert columns.layers[0].read_bytes == 2 * (2 * 8 * 16 + 16 * 40) + 8
    summands = trace(lambda x, y, o: F.grouped_mm(x, y, offs=o), half(8, 40), half(40, 32), offsets).graph
    assert summands.total_macs == 8 * 40 * 32
    assert summands.layers[0].write_bytes == 2 * 2 * 8 * 32
    # Eight over three experts is not rounded.
    three = torch.tensor([3, 6, 8], dtype=torch.int32)
    (layer,) = trace(lambda x, y, o: F.grouped_mm(x, y, offs=o), half(8, 8), half(8, 32), three).graph.layers
    assert layer.macs == 8 * 8 * 32
    assert [(dict(work.problem.dims)["C"], work.count) for work in layer.work] == [(3, 2), (2, 1)]


def test_the_real_operator_gives_the_shape_of_the_graph(trace: Any, offsets: Any) -> None:
    module, x = Experts(2, 16, 32), half(8, 16)
    try:
        real = module(x, offsets)
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(f"this build of torch has no grouped product on the CPU: {error}")
    graph = trace(module, x, offsets).graph
    assert [graph.tensors[name].shape for name in graph.outputs] == [tuple(real.shape)]


def test_products_of_eight_bit_floats_read_their_scales_and_apply_them_once(trace: Any) -> None:
    narrow = torch.float8_e4m3fn
    a, b = torch.randn(16, 32).to(narrow), torch.randn(48, 32).to(narrow)

    def product(a: Any, b: Any, first: Any, second: Any) -> Any:
        return torch._scaled_mm(a, b.t(), first, second, out_dtype=torch.bfloat16)

    (layer,) = trace(product, a, b, torch.ones(()), torch.ones(())).graph.layers
    assert (layer.op, layer.macs, layer.vector_ops) == ("matmul", 16 * 32 * 48, 16 * 48)
    assert (layer.read_bytes, layer.write_bytes) == (16 * 32 + 48 * 32 + 8, 2 * 16 * 48)
    (work,) = layer.work
    assert [item.bits for item in work.problem.operands] == [8, 8, 16]

    def experts(a: Any, b: Any, first: Any, second: Any, offsets: Any) -> Any:
        return torch._scaled_grouped_mm(a, b.transpose(1, 2), first, second, offsets, out_dtype=torch.bfloat16)

    weights = torch.randn(2, 48, 32).to(narrow)
    offsets = torch.tensor([8, 16], dtype=torch.int32)
    (layer,) = trace(experts, a, weights, torch.ones(16), torch.ones(2, 48), offsets).graph.layers
    assert (layer.op, layer.macs, layer.vector_ops) == ("grouped_matmul", 16 * 32 * 48, 16 * 48)
    assert layer.read_bytes == 16 * 32 + 2 * 48 * 32 + 4 * (16 + 96) + 8


def test_products_of_eight_bit_integers(trace: Any) -> None:
    a, b = torch.ones(32, 16, dtype=torch.int8), torch.ones(16, 8, dtype=torch.int8)
    (layer,) = trace(torch._int_mm, a, b).graph.layers
    assert (layer.macs, layer.vector_ops) == (32 * 16 * 8, 0)
    assert (layer.read_bytes, layer.write_bytes) == (32 * 16 + 16 * 8, 4 * 32 * 8)
