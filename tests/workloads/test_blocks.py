"""Shared blocks compute what their sources write down, with the parameters that their formulas have."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmworkload.errors import MmworkloadError, ModelError, UnknownNameError
from mmworkload.workloads.blocks.fusion import (
    LARGEST_OUTER_PRODUCT,
    Concat,
    ConcatLinear,
    EarlyConcat,
    LowRankTensor,
    Multiplicative,
    TensorFusion,
    table1,
)
from mmworkload.workloads.blocks.layers import Frames, Residual, mlp
from mmworkload.workloads.blocks.mult import MulT, sinusoids
from mmworkload.workloads.blocks.stages import FUSIONS


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def parameters(module: nn.Module) -> int:
    return sum(item.numel() for item in module.parameters())


def vectors(*widths: int, lead: tuple[int, ...] = (2,)) -> list[torch.Tensor]:
    return [torch.randn(*lead, width) for width in widths]


# operator: width and parameters for parts of 3 and 5 features, after MMBench's Table 1. A narrower part is projected to
# the largest width without bias.
TABLE1 = {
    "plain": (3 + 5, 0),
    "zero": (3 + 5, 0),
    "sum": (5, 3 * 5),
    "concat": (5, (3 + 5) * 5 + 5),
    "tensor": (3 * 5, 0),
    "attention": (5, 3 * 5),
    "linear-glu": (5, 3 * 5 + 5 * 5),
}


def test_table_1_has_every_operator() -> None:
    assert tuple(TABLE1) == FUSIONS


@pytest.mark.parametrize("name", TABLE1)
@pytest.mark.parametrize("lead", [(2,), (2, 4)])
def test_width_and_parameters_of_table_1(name: str, lead: tuple[int, ...]) -> None:
    operator = table1(name, [3, 5])
    assert (operator.width, parameters(operator)) == TABLE1[name]
    with torch.no_grad():
        assert operator(vectors(3, 5, lead=lead)).shape == (*lead, operator.width)


@pytest.mark.parametrize("name", TABLE1)
def test_table_1_joins_four_parts_too(name: str) -> None:
    operator = table1(name, [2, 4, 4, 3])
    assert operator(vectors(2, 4, 4, 3)).shape == (2, operator.width)


def test_formulas_of_table_1() -> None:
    x, y = vectors(4, 4, lead=(2, 3))
    with torch.no_grad():
        assert torch.equal(table1("plain", [4, 4])([x, y]), torch.cat([x, y], -1))
        assert torch.equal(table1("zero", [4, 4])([x, y]), torch.zeros(2, 3, 8))
        assert torch.equal(table1("sum", [4, 4])([x, y]), x + y)
        concat = table1("concat", [4, 4])
        expected = torch.relu(torch.cat([x, y], -1) @ concat.linear.weight.T + concat.linear.bias)
        assert torch.allclose(concat([x, y]), expected, atol=1e-6)
        tensor = table1("tensor", [4, 4])([x, y])
        assert torch.allclose(tensor.view(2, 3, 4, 4), x[..., :, None] * y[..., None, :])
        weights = torch.softmax(x @ y.transpose(1, 2) / math.sqrt(4), dim=-1)
        assert torch.allclose(table1("attention", [4, 4])([x, y]), weights @ y, atol=1e-6)
        glu = table1("linear-glu", [4, 4])
        expected = (x @ glu.value.weight.T) * torch.sigmoid(y @ glu.gate.weight.T)
        assert torch.allclose(glu([x, y]), expected, atol=1e-6)


def test_attention_asks_with_the_first_part_and_reads_all_others() -> None:
    x, y, z = vectors(4, 4, 4)
    keys = torch.stack([y, z], dim=1)
    weights = torch.softmax((keys @ x[:, :, None]) / 2, dim=1)
    found = table1("attention", [4, 4, 4])([x, y, z])
    assert torch.allclose(found, (weights * keys).sum(1), atol=1e-6)
    # Over one key the softmax is one.
    assert torch.allclose(table1("attention", [4, 4])([x, y]), y)


@pytest.mark.parametrize(
    ("widths", "projected"),
    [
        ([256, 256], [256, 256]),
        ([300, 300], [256, 256]),
        # 65,536 shared by three is 40 and a bit, by four 16; what is narrower stays.
        ([64, 64, 64], [40, 40, 40]),
        ([256, 256, 256, 256], [16, 16, 16, 16]),
        ([48, 5000], [48, 256]),
    ],
)
def test_an_outer_product_stays_below_its_limit(widths: list[int], projected: list[int]) -> None:
    operator = table1("tensor", widths)
    assert operator.width == math.prod(projected) <= LARGEST_OUTER_PRODUCT
    weights = [before * after for before, after in zip(widths, projected, strict=True) if before != after]
    assert parameters(operator) == sum(weights)
    assert operator(vectors(*widths)).shape == (2, operator.width)


def test_table_1_refuses_what_it_does_not_have() -> None:
    with pytest.raises(UnknownNameError, match="linear-glu"):
        table1("linear-gul", [3, 5])
    with pytest.raises(ModelError, match="at least two parts, not 1"):
        table1("sum", [3])


def test_concatenations() -> None:
    x, y = torch.randn(2, 3, 4), torch.randn(2, 5)
    assert torch.equal(Concat()([x, y]), torch.cat([x.reshape(2, 12), y], dim=1))
    x, y = vectors(3, 4, lead=(2, 6))
    assert torch.equal(EarlyConcat()([x, y]), torch.cat([x, y], dim=2))
    join = ConcatLinear([3, 4], 2)
    assert torch.allclose(join([x, y]), torch.cat([x, y], dim=2) @ join.linear.weight.T + join.linear.bias, atol=1e-6)
    assert (join.width, parameters(join)) == (2, 7 * 2 + 2)
    assert parameters(ConcatLinear([3, 4], 2, "sum")) == 3 * 4 + 4 * 2 + 2


def test_tensor_fusion_is_the_product_of_parts_with_a_one() -> None:
    fusion = TensorFusion([2, 3, 4])
    x, y, z = vectors(2, 3, 4)
    one = torch.ones(2, 1)
    expected = torch.einsum("ni,nj,nk->nijk", *(torch.cat([one, part], 1) for part in (x, y, z)))
    assert fusion.width == 3 * 4 * 5
    assert torch.allclose(fusion([x, y, z]), expected.reshape(2, -1), atol=1e-6)


def test_low_rank_fusion_is_tensor_fusion_with_a_weight_of_low_rank() -> None:
    fusion = LowRankTensor([2, 3], out=5, rank=4)
    assert parameters(fusion) == 4 * 3 * 5 + 4 * 4 * 5 + 4 + 5
    with torch.no_grad():
        fusion.bias.normal_()
        first, second = fusion.factors
        weight = torch.einsum("r,rio,rjo->ijo", fusion.weights[0], first, second).reshape(-1, 5)
        parts = vectors(2, 3)
        expected = TensorFusion([2, 3])(parts) @ weight + fusion.bias
        assert torch.allclose(fusion(parts), expected, atol=1e-5)


def test_multiplicative_interactions() -> None:
    x, y = vectors(2, 3)
    with torch.no_grad():
        full = Multiplicative([2, 3], 4, "matrix")
        expected = torch.einsum("ni,ijo,nj->no", x, full.w, y) + x @ full.u + y @ full.v + full.b
        assert torch.allclose(full([x, y]), expected, atol=1e-5)
        assert parameters(full) == 2 * 3 * 4 + 2 * 4 + 3 * 4 + 4
        diagonal = Multiplicative([2, 3], 3, "vector")
        expected = (x @ diagonal.w) * y + x @ diagonal.u + diagonal.v * y + diagonal.b
        assert torch.allclose(diagonal([x, y]), expected, atol=1e-5)
        assert parameters(diagonal) == 2 * 3 + 2 * 3 + 3 + 3
        scale = Multiplicative([2, 3], 3, "scalar")
        expected = (x @ scale.w + scale.v) * y + x @ scale.u + scale.b
        assert torch.allclose(scale([x, y]), expected, atol=1e-5)
        assert parameters(scale) == 2 + 2 + 1 + 1


@pytest.mark.parametrize(
    ("widths", "out", "kind", "message"),
    [
        ([2, 3, 4], 4, "matrix", "two parts, not 3"),
        ([2, 3], 4, "vector", "as wide as its second part, 3, not 4"),
        ([2, 3], 3, "matrx", "matrix"),
    ],
)
def test_impossible_interactions(widths: list[int], out: int, kind: str, message: str) -> None:
    with pytest.raises(MmworkloadError, match=message):
        Multiplicative(widths, out, kind)


def mult_parameters(widths: list[int], embed: int, layers: int, memory: int, out: int) -> int:
    """Queries, keys, values and what follows them (4), the feed-forward network (4 + 4): 12 d^2 and 9 d biases a layer;
    two norms a layer, one behind the last; convolutions without bias in front, three linear layers behind.
    """
    count = len(widths)

    def encoder(width: int, depth: int) -> int:
        return depth * (12 * width**2 + 9 * width + 4 * width) + 2 * width

    joined = count * count * embed
    return (
        sum(widths) * embed
        + count * count * encoder(embed, layers)
        + count * encoder(count * embed, memory)
        + 2 * (joined**2 + joined)
        + joined * out
        + out
    )


@pytest.mark.parametrize(
    ("widths", "embed", "heads", "layers", "memory", "out"),
    [([5, 6, 7], 8, 2, 1, 3, 1), ([5, 6, 7], 8, 4, 4, 4, 2), ([4, 4, 4, 4], 4, 2, 2, 3, 3)],
)
def test_mult_for_three_and_four_modalities(
    widths: list[int], embed: int, heads: int, layers: int, memory: int, out: int
) -> None:
    every = MulT(widths, embed=embed, heads=heads, layers=layers, out=out, all_steps=True, steps=9)
    last = MulT(widths, embed=embed, heads=heads, layers=layers, out=out, all_steps=False, steps=9)
    assert parameters(every) == parameters(last) == mult_parameters(widths, embed, layers, memory, out)
    last.load_state_dict(every.state_dict())
    parts = vectors(*widths, lead=(2, 9))
    with torch.no_grad():
        steps = every(parts)
        assert steps.shape == (2, 9, out)
        # What follows attention goes step by step, so the last step is the same in both.
        assert torch.allclose(last(parts), steps[:, -1], atol=1e-5)


def test_mult_of_mujoco_push_has_the_published_parameters() -> None:
    with torch.device("meta"):
        found = MulT([64] * 4, embed=64, heads=4, layers=3, out=2, all_steps=True)
    assert parameters(found) == mult_parameters([64] * 4, 64, 3, 3, 2) == 13_998_082


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_step_sees_none_that_follow(causal: bool) -> None:
    network = MulT([3, 3], embed=4, heads=2, layers=1, out=2, all_steps=True, causal=causal)
    parts = vectors(3, 3, lead=(1, 5))
    changed = [part.clone() for part in parts]
    changed[1][:, -1] += 1
    with torch.no_grad():
        difference = (network(changed) - network(parts)).abs().amax(dim=(0, 2))
    assert difference[-1] > 1e-3
    assert bool((difference[:-1] < 1e-6).all()) is causal


def test_mult_hears_every_modality() -> None:
    network = MulT([3, 3, 3], embed=4, heads=2, layers=1, out=2, all_steps=False)
    parts = vectors(3, 3, 3, lead=(1, 5))
    with torch.no_grad():
        plain = network(parts)
        for index in range(3):
            changed = [part + (place == index) for place, part in enumerate(parts)]
            assert (network(changed) - plain).abs().max() > 1e-4


def test_impossible_mult() -> None:
    with pytest.raises(ModelError, match="10 features must be even, and a multiple of the 4 heads"):
        MulT([3, 3], embed=10, heads=4, layers=1, out=1, all_steps=True)
    network = MulT([3, 3], embed=4, heads=2, layers=1, out=1, all_steps=True, steps=4)
    with pytest.raises(ModelError, match="4 steps, the input has 5"):
        network(vectors(3, 3, lead=(1, 5)))


def test_positions_are_sines_and_cosines_of_falling_frequency() -> None:
    table = sinusoids(4, 6)
    assert table.shape == (4, 6)
    assert torch.allclose(table[:, 0], torch.arange(1.0, 5).sin())
    assert torch.allclose(table[:, 3], torch.arange(1.0, 5).cos())
    assert table[2, 2] == pytest.approx(math.sin(3 / 10000), abs=1e-7)


def test_small_layers() -> None:
    layers = mlp(3, 4, 5)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear]
    assert parameters(layers) == 3 * 4 + 4 + 4 * 5 + 5
    x = torch.randn(2, 3)
    block = Residual(nn.Linear(3, 3), nn.Linear(3, 3))
    assert torch.allclose(block(x), torch.relu(x + block.second(torch.relu(block.first(x)))))
    frames = torch.randn(2, 4, 3)
    assert torch.allclose(Frames(layers)(frames), layers(frames), atol=1e-6)
