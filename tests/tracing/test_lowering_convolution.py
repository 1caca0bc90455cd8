"""Convolutions of every kind: MACs as a real forward does them, exact axes, one problem for one computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mmworkload.problem import Problem

IMAGE, SIGNAL, VOLUME = torch.randn(2, 4, 9, 11), torch.randn(2, 4, 11), torch.randn(2, 4, 5, 6, 7)

# (module, input, MACs by hand: outputs times kernel, or for transposed ones inputs times kernel)
CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 6, 3), SIGNAL, 2 * 6 * 9 * 4 * 3),
    "2d": (nn.Conv2d(4, 6, 3), IMAGE, 2 * 6 * 7 * 9 * 4 * 9),
    "3d": (nn.Conv3d(4, 6, 3), VOLUME, 2 * 6 * 3 * 4 * 5 * 4 * 27),
    "stride, padding, dilation": (
        nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 2), dilation=(2, 1)),
        IMAGE,
        2 * 6 * 4 * 5 * 4 * 6,
    ),
    "1x7 with stride (1, 2)": (nn.Conv2d(4, 6, (1, 7), stride=(1, 2), padding=(0, 3)), IMAGE, 2 * 6 * 9 * 6 * 4 * 7),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), IMAGE, 2 * 6 * 7 * 9 * 2 * 9),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, padding=1), IMAGE, 2 * 4 * 9 * 11 * 9),
    "depthwise with multiplier": (nn.Conv2d(4, 8, 3, groups=4), IMAGE, 2 * 8 * 7 * 9 * 9),
    "pointwise": (nn.Conv2d(4, 6, 1), IMAGE, 2 * 6 * 99 * 4),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), IMAGE, 2 * 6 * 99 * 4 * 9),
    "same with an even kernel": (nn.Conv2d(4, 6, 4, padding="same"), IMAGE, 2 * 6 * 99 * 4 * 16),
    "same, dilated": (nn.Conv1d(4, 6, 3, padding="same", dilation=3), SIGNAL, 2 * 6 * 11 * 4 * 3),
    "valid": (nn.Conv3d(4, 6, 2, padding="valid"), VOLUME, 2 * 6 * 4 * 5 * 6 * 4 * 8),
    "without batch": (nn.Conv2d(4, 6, 3), IMAGE[0], 6 * 7 * 9 * 4 * 9),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), IMAGE, 2 * 6 * 99 * 4 * 9),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3), SIGNAL, 2 * 4 * 11 * 6 * 3),
    "transposed 2d": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        IMAGE,
        2 * 4 * 99 * 6 * 9,
    ),
    "transposed 3d": (nn.ConvTranspose3d(4, 6, 2, stride=2), VOLUME, 2 * 4 * 210 * 6 * 8),
    "transposed, grouped, dilated": (
        nn.ConvTranspose2d(4, 6, 3, stride=(2, 1), dilation=(1, 2), groups=2),
        IMAGE,
        2 * 4 * 99 * 3 * 9,
    ),
    "transposed without batch": (nn.ConvTranspose2d(4, 6, 3), IMAGE[0], 4 * 99 * 6 * 9),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_macs_and_output_of_a_convolution(name: str, trace: Any, count: Any, output_shapes: Any) -> None:
    module, x, macs = CONVOLUTIONS[name]
    traced, real = trace(module, x), count(module, x)
    assert traced.graph.total_macs == macs == real.macs
    assert output_shapes(traced) == [tuple(real.outputs[0].shape)]
    layer = next(layer for layer in traced.graph if layer.category == "Conv")
    (work,) = layer.work
    problem = work.problem
    weight, bias = module.weight, module.bias
    assert problem.tensor_size(problem.operand("Weights")) == weight.numel()
    assert problem.tensor_size(problem.output) == real.outputs[0].numel()
    assert layer.vector_ops == real.outputs[0].numel()
    assert layer.write_bytes == 4 * real.outputs[0].numel()
    assert traced.graph.total_params == weight.numel() + bias.numel()
    if name != "circular":
        assert problem.tensor_size(problem.operand("Inputs")) == x.numel()
        assert layer.read_bytes == 4 * (x.numel() + weight.numel() + bias.numel())


# (module, input, the canonical text)
AXES = {
    "stride, padding, dilation": (
        nn.Conv2d(3, 8, (3, 2), stride=(2, 3), padding=(1, 2), dilation=(2, 1), bias=False),
        torch.randn(1, 3, 9, 11),
        "mac M=8 C=3 P=4 Q=5 R=3 S=2 | Inputs input 32 [C:3, 2P+2R:9~1,1, 3Q+S:11~2,2]"
        " | Weights weight 32 [M:8, C:3, R:3, S:2] | Outputs output 32 [M:8, P:4, Q:5]",
    ),
    "same with an even kernel pads high": (
        nn.Conv1d(2, 3, 4, padding="same", bias=False),
        torch.randn(2, 2, 10),
        "mac N=2 M=3 C=2 Q=10 S=4 | Inputs input 32 [N:2, C:2, Q+S:10~1,2] | Weights weight 32 [M:3, C:2, S:4]"
        " | Outputs output 32 [N:2, M:3, Q:10]",
    ),
    "grouped": (
        nn.Conv2d(4, 6, 3, groups=2, bias=False),
        torch.randn(1, 4, 5, 5),
        "mac G=2 M=3 C=2 P=3 Q=3 R=3 S=3 | Inputs input 32 [G:2, C:2, P+R:5, Q+S:5]"
        " | Weights weight 32 [G:2, M:3, C:2, R:3, S:3] | Outputs output 32 [G:2, M:3, P:3, Q:3]",
    ),
    "depthwise": (
        nn.Conv1d(4, 4, 3, groups=4, bias=False),
        torch.randn(1, 4, 8),
        "mac G=4 Q=6 S=3 | Inputs input 32 [G:4, Q+S:8] | Weights weight 32 [G:4, S:3] | Outputs output 32 [G:4, Q:6]",
    ),
    "transposed is a scatter that is cropped": (
        nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1, bias=False),
        torch.randn(1, 2, 4, 5),
        "mac M=3 C=2 P=4 Q=5 R=3 S=3 | Inputs input 32 [C:2, P:4, Q:5] | Weights weight 32 [M:3, C:2, R:3, S:3]"
        " | Outputs output 32 [M:3, 2P+R:8~1,1, 2Q+S:10~1,1]",
    ),
    "transposed and dilated in three dimensions": (
        nn.ConvTranspose3d(2, 3, (1, 2, 3), stride=(1, 2, 3), dilation=(1, 3, 1), bias=False),
        torch.randn(1, 2, 2, 3, 4),
        "mac M=3 C=2 P=3 Q=4 R=2 S=3 O=2 | Inputs input 32 [C:2, P:3, Q:4, O:2]"
        " | Weights weight 32 [M:3, C:2, R:2, S:3] | Outputs output 32 [M:3, 2P+3R:8, 3Q+S:12, O:2]",
    ),
}


@pytest.mark.parametrize("name", AXES)
def test_the_axes_of_a_convolution_are_exact(name: str, trace: Any) -> None:
    module, x, text = AXES[name]
    (layer,) = trace(module, x).graph.layers
    assert layer.work[0].problem.key == Problem.parse(text).key, str(layer.work[0].problem)


def test_one_dimension_is_two_dimensions_of_height_one(trace: Any, works: Any) -> None:
    flat = trace(nn.Conv1d(4, 6, 3, stride=2, padding=1, bias=False), SIGNAL)
    high = trace(nn.Conv2d(4, 6, (1, 3), stride=(1, 2), padding=(0, 1), bias=False), SIGNAL[:, :, None])
    assert works(flat) == works(high)
    deep = trace(nn.Conv3d(4, 6, (1, 1, 3), stride=(1, 1, 2), padding=(0, 0, 1), bias=False), SIGNAL[:, :, None, None])
    assert works(flat) == works(deep)


class Functional(nn.Module):
    """A convolution through the functional interface, with a weight of its own."""

    def __init__(self, shape: tuple[int, ...], **options: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.transposed, self.options = options.pop("transposed", False), options

    def forward(self, x: Any) -> Any:
        function = F.conv_transpose2d if self.transposed else F.conv2d
        return function(x, self.weight, **self.options)


def test_a_module_is_its_functional_form(trace: Any, works: Any) -> None:
    module = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    expected = works(trace(module, IMAGE))
    assert works(trace(Functional((6, 2, 3, 3), stride=2, padding=1, groups=2), IMAGE)) == expected
    explicit = Functional((6, 2, 3, 3), stride=[2, 2], padding=[1], dilation=(1, 1), groups=2)
    assert works(trace(explicit, IMAGE)) == expected

    class General(Functional):
        def forward(self, x: Any) -> Any:
            return torch.convolution(x, self.weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 2)

    general = trace(General((6, 2, 3, 3)), IMAGE)
    assert works(general) == expected
    assert [layer.op for layer in general.graph] == ["conv2d"]


def test_a_transposed_module_is_its_functional_form(trace: Any, works: Any) -> None:
    module = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False)
    functional = Functional((4, 6, 3, 3), transposed=True, stride=2, padding=1, output_padding=1)
    assert works(trace(functional, IMAGE)) == works(trace(module, IMAGE))


def test_padding_before_and_padding_inside_do_the_same_macs_on_another_tensor(trace: Any) -> None:
    inside = trace(nn.Conv2d(4, 6, 3, padding=1, bias=False), IMAGE)
    before = trace(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3, bias=False)), IMAGE)
    assert [layer.op for layer in before.graph] == ["pad", "conv2d"]
    assert inside.graph.total_macs == before.graph.total_macs
    (first,), (second,) = inside.graph.problems.values(), before.graph.problems.values()
    assert first.footprint(first.operand("Inputs")) == second.footprint(second.operand("Inputs")) == 2 * 4 * 11 * 13
    assert first.tensor_size(first.operand("Inputs")) == 2 * 4 * 9 * 11
    assert second.tensor_size(second.operand("Inputs")) == 2 * 4 * 11 * 13


def test_a_kernel_that_is_computed_is_an_input(trace: Any) -> None:
    (layer,) = trace(F.conv2d, IMAGE, torch.randn(6, 4, 3, 3)).graph.layers
    assert [operand.role for operand in layer.work[0].problem.operands] == ["input", "input", "output"]


def test_a_convolution_of_nothing_has_no_work(trace: Any) -> None:
    graph = trace(nn.Conv2d(4, 6, 3), IMAGE[:0]).graph
    assert [(layer.op, layer.macs, layer.write_bytes) for layer in graph] == [("conv2d", 0, 0)]


@st.composite
def convolution(draw: st.DrawFn) -> tuple[nn.Module, Any]:
    rank = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))

    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, stride, dilation = per_axis(1, 3), per_axis(1, 3), per_axis(1, 2)
    size = tuple(draw(st.integers(d * (k - 1) + 1, 8)) for k, d in zip(kernel, dilation, strict=True))
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups, "bias": draw(st.booleans())}
    padding = tuple(draw(st.integers(0, (k - 1) // 2)) for k in kernel)
    if transposed:
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        options |= {"padding": padding, "output_padding": extra}
    elif all(s == 1 for s in stride) and draw(st.booleans()):
        options["padding"] = "same"
    else:
        options["padding"] = padding
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return kind(channels, out, kernel, **options), torch.randn(*batch, channels, *size)


@settings(max_examples=60, deadline=None)
@given(convolution())
def test_any_convolution_costs_what_a_real_forward_does(
    trace: Any, count: Any, output_shapes: Any, case: tuple[nn.Module, Any]
) -> None:
    module, x = case
    traced, real = trace(module, x), count(module, x)
    assert traced.graph.total_macs == real.macs
    assert output_shapes(traced) == [tuple(real.outputs[0].shape)]
    (problem,) = traced.graph.problems.values()
    assert problem.tensor_size(problem.operand("Inputs")) == x.numel()
    assert problem.tensor_size(problem.output) == real.outputs[0].numel()
    for operand in problem.operands:
        padded = 1
        for item in operand.axes:
            padded *= item.size + item.pad_low + item.pad_high
        assert problem.footprint(operand) <= padded
