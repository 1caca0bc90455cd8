"""What operators without products cost: the bytes that must move once, and operations of the vector unit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

X = torch.randn(2, 3, 4, 5)  # 120 elements, 480 bytes
ROW = torch.randn(5)
IDS = torch.tensor([[0, 1, 1], [5, 6, 0]])
TABLE = torch.randn(10, 8)

# name: (function or module, inputs, op, category, vector operations, bytes read, bytes written)
COSTS = {
    # elementwise
    "relu": (F.relu, (X,), "relu", "Relu", 120, 480, 480),
    "relu in place": (lambda x: F.relu_(x + 0), (X,), "relu", "Relu", 120, 480, 480),
    "gelu": (F.gelu, (X,), "gelu", "Elewise", 120, 480, 480),
    "add": (torch.add, (X, X + 1), "add", "Elewise", 120, 960, 480),
    "add a row": (torch.add, (X, ROW), "add", "Elewise", 120, 480 + 20, 480),
    "a square reads its operand once": (lambda x: x * x, (X,), "mul", "Elewise", 120, 480, 480),
    "two halves of one tensor": (lambda x: x[:1] + x[1:], (X,), "add", "Elewise", 60, 480, 240),
    "compare": (torch.gt, (X, 0.0), "gt", "Elewise", 120, 480, 120),
    "where": (lambda x: torch.where(x > 0, x, 0.0), (X,), "where", "Elewise", 120, 480 + 120, 480),
    "glu": (lambda x: F.glu(x, 2), (X,), "glu", "Elewise", 60, 480, 240),
    "random numbers in place read nothing": (lambda x: (x + 0).normal_(), (X,), "normal", "Elewise", 120, 0, 480),
    # reductions
    "sum": (torch.sum, (X,), "sum", "Reduce", 120, 480, 4),
    "mean over an axis": (lambda x: x.mean(-1), (X,), "mean", "Reduce", 120, 480, 96),
    "maximum of two": (torch.max, (X, ROW), "maximum", "Elewise", 120, 480 + 20, 480),
    "maximum over an axis, with indices": (lambda x: x.max(-1), (X,), "max", "Reduce", 120, 480, 96 + 192),
    "variance": (torch.var, (X,), "var", "Reduce", 480, 480, 4),
    "cumulative sum in place": (lambda x: (x + 0).cumsum_(0), (X,), "cumsum", "Reduce", 120, 480, 480),
    "cosine similarity": (F.cosine_similarity, (X, X + 1), "cosine_similarity", "Reduce", 720, 960, 160),
    "sort": (lambda x: x.sort(-1), (torch.randn(3, 16),), "sort", "Other", 48 * 4, 192, 192 + 384),
    "topk": (lambda x: x.topk(2), (torch.randn(3, 16),), "topk", "Other", 48 * 4, 192, 24 + 48),
    # normalisation
    "batch norm": (
        nn.BatchNorm2d(3).eval(),
        (X,),
        "batch_norm",
        "BNorm",
        240,
        480 + 4 * 12,
        480,
    ),
    "layer norm": (nn.LayerNorm(5), (X,), "layer_norm", "BNorm", 840, 480 + 40, 480),
    "layer norm without weights": (lambda x: F.layer_norm(x, (5,)), (X,), "layer_norm", "BNorm", 600, 480, 480),
    "group norm": (nn.GroupNorm(3, 3), (X,), "group_norm", "BNorm", 840, 480 + 24, 480),
    "rms norm": (nn.RMSNorm(5), (X,), "rms_norm", "BNorm", 600, 480 + 20, 480),
    "instance norm": (nn.InstanceNorm2d(3), (X,), "instance_norm", "BNorm", 600, 480, 480),
    "instance norm with running statistics": (
        nn.InstanceNorm2d(3, track_running_stats=True).eval(),
        (X,),
        "instance_norm",
        "BNorm",
        240,
        480 + 24,
        480,
    ),
    "softmax": (lambda x: x.softmax(-1), (X,), "softmax", "Other", 600, 480, 480),
    # pooling: windows times outputs
    "max pool": (lambda x: F.max_pool2d(x, 2), (X,), "max_pool2d", "Pooling", 2 * 3 * 4 * 4, 480, 96),
    "max pool, padded and overlapping": (
        lambda x: F.max_pool2d(x, 3, 1, 1),
        (X,),
        "max_pool2d",
        "Pooling",
        120 * 9,
        480,
        480,
    ),
    "average pool in one dimension": (lambda x: F.avg_pool1d(x[0], 5), (X,), "avg_pool1d", "Pooling", 60, 240, 48),
    "adaptive pool to one": (
        lambda x: F.adaptive_avg_pool2d(x, 1),
        (X,),
        "adaptive_avg_pool2d",
        "Pooling",
        120,
        480,
        24,
    ),
    # Windows of 5 into 3: [0,2), [1,4), [3,5), seven visits; of 4 into 3: [0,2), [1,3), [2,4), six.
    "adaptive pool with overlap": (
        lambda x: F.adaptive_avg_pool2d(x, 3),
        (X,),
        "adaptive_avg_pool2d",
        "Pooling",
        6 * 6 * 7,
        480,
        216,
    ),
    # movement
    "cat": (lambda x, y: torch.cat([x, y]), (X, X + 1), "cat", "Movement", 0, 960, 960),
    "a copy of a transposed tensor": (
        lambda x: x.transpose(2, 3).reshape(2, 3, 20),
        (X,),
        "reshape",
        "Movement",
        0,
        480,
        480,
    ),
    "a slice is read, not its tensor": (lambda x: x[:, 1].clone(), (X,), "clone", "Movement", 0, 160, 160),
    "an expanded tensor is read once": (
        lambda x: x.expand(7, 5).contiguous(),
        (ROW,),
        "contiguous",
        "Movement",
        0,
        20,
        140,
    ),
    "overlapping windows are read once": (
        lambda x: x.unfold(0, 3, 1).contiguous(),
        (ROW,),
        "contiguous",
        "Movement",
        0,
        20,
        36,
    ),
    "a change of type": (lambda x: x.to(torch.float16), (X,), "to", "Movement", 0, 480, 240),
    "repeat": (lambda x: x.repeat(3), (ROW,), "repeat", "Movement", 0, 20, 60),
    "pad": (lambda x: F.pad(x, (1, 1)), (X,), "pad", "Movement", 0, 480, 2 * 3 * 4 * 7 * 4),
    "zeros": (lambda x: torch.zeros_like(x), (X,), "fill", "Movement", 0, 0, 480),
    "uninitialised memory": (lambda x: torch.empty_like(x), (X,), "fill", "Movement", 0, 0, 0),
    "a fill with a computed value": (lambda x, v: x.clone().fill_(v), (X, ROW[0]), "fill", "Movement", 0, 4, 480),
    # gathers: what is selected, and the indices
    "embedding": (lambda i, w: F.embedding(i, w), (IDS, TABLE), "embedding", "Movement", 0, 6 * 32 + 48, 192),
    "embedding of more tokens than rows": (
        lambda i, w: F.embedding(i, w),
        (IDS % 2, TABLE[:2].clone()),
        "embedding",
        "Movement",
        0,
        2 * 32 + 48,
        192,
    ),
    "index_select": (lambda x, i: x.index_select(3, i), (X, IDS[0]), "index_select", "Movement", 0, 72 * 4 + 24, 288),
    "gather": (lambda x, i: x.gather(1, i), (TABLE[:2].clone(), IDS), "gather", "Movement", 0, 24 + 48, 24),
    # scatters: what is written; what is added is read as well
    "index_copy_": (
        lambda x, i, y: x.clone().index_copy_(0, i, y),
        (TABLE, IDS[0], TABLE[:3]),
        "index_copy",
        "Movement",
        0,
        24 + 96,
        96,
    ),
    "index_add_": (
        lambda x, i, y: x.clone().index_add_(0, i, y),
        (TABLE, IDS[0], TABLE[:3]),
        "index_add",
        "Movement",
        24,
        24 + 192,
        96,
    ),
    "index_fill_": (
        lambda x, i: x.clone().index_fill_(1, i, 0.0),
        (TABLE, IDS[0]),
        "index_fill",
        "Movement",
        0,
        24,
        120,
    ),
    "index_put_": (
        lambda x, i, y: x.clone().index_put_((i,), y),
        (TABLE, IDS[0], ROW[0]),
        "index_put",
        "Movement",
        0,
        24 + 4,
        96,
    ),
    "index_put_ that accumulates": (
        lambda x, i, y: x.clone().index_put_((i,), y, accumulate=True),
        (TABLE, IDS[0], TABLE[:3].clone()),
        "index_put",
        "Movement",
        24,
        24 + 96 + 96,
        96,
    ),
    "index_put_ under a mask may write everything": (
        lambda x, m, y: x.clone().index_put_((m,), y),
        (TABLE, TABLE > 0, ROW[0]),
        "index_put",
        "Movement",
        0,
        80 + 4,
        320,
    ),
    "scatter_ of a number": (
        lambda x, i: x.clone().scatter_(1, i, 1.0),
        (TABLE, IDS),
        "scatter",
        "Movement",
        0,
        48,
        24,
    ),
    "scatter_add_": (
        lambda x, i, y: x.clone().scatter_add_(1, i, y),
        (TABLE, IDS, torch.ones(2, 3)),
        "scatter_add",
        "Movement",
        6,
        48 + 24 + 24,
        24,
    ),
    "index_put copies its target when not in place": (
        lambda x, i, y: torch.index_put(x, (i,), y),
        (TABLE, IDS[0], ROW[0]),
        "index_put",
        "Movement",
        0,
        320 + 24 + 4,
        320,
    ),
    "copy_": (lambda x, y: torch.empty_like(x).copy_(y), (X, ROW), "copy", "Movement", 0, 20, 480),
    # resampling and transforms
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), (X,), "upsample_nearest", "Other", 480, 480, 1920),
    "bilinear": (
        lambda x: F.interpolate(x, size=(8, 10), mode="bilinear"),
        (X,),
        "upsample_bilinear",
        "Other",
        480 * 7,
        480,
        1920,
    ),
    "grid sample": (
        lambda x, g: F.grid_sample(x, g, align_corners=False),
        (X, torch.zeros(2, 4, 5, 2)),
        "grid_sample",
        "Other",
        960,
        480 + 320,
        480,
    ),
    "unfold": (lambda x: F.unfold(x, 2), (X,), "unfold", "Movement", 2 * 12 * 12, 480, 2 * 12 * 12 * 4),
    "pixel shuffle": (
        lambda x: F.pixel_shuffle(x, 2),
        (torch.randn(1, 4, 2, 2),),
        "pixel_shuffle",
        "Movement",
        0,
        64,
        64,
    ),
    "fft of eight": (torch.fft.fft, (torch.randn(3, 8),), "fft", "Other", 5 * 24 * 3, 96, 192),
    "real fft of eight": (torch.fft.rfft, (torch.randn(3, 8),), "fft", "Other", 5 * 24 * 3, 96, 3 * 5 * 8),
    "inverse real fft to eight": (
        torch.fft.irfft,
        (torch.randn(3, 5, dtype=torch.complex64),),
        "fft",
        "Other",
        5 * 24 * 3,
        120,
        96,
    ),
    "fft over two axes": (torch.fft.fft2, (torch.randn(4, 8),), "fft", "Other", 5 * 32 * 5, 128, 256),
}


@pytest.mark.parametrize("name", COSTS)
def test_bytes_and_vector_operations(name: str, trace: Any) -> None:
    source, inputs, op, category, vector_ops, read, written = COSTS[name]
    layer = trace(source, *inputs).graph.layers[-1]
    assert (layer.op, layer.category) == (op, category)
    assert layer.macs == layer.outer_macs == 0
    assert (layer.vector_ops, layer.read_bytes, layer.write_bytes) == (vector_ops, read, written)


def test_an_embedding_bag_depends_on_its_weights(trace: Any) -> None:
    def bag(indices: Any, table: Any, factors: Any) -> Any:
        return F.embedding_bag(indices, table, per_sample_weights=factors * 2, mode="sum")

    graph = trace(bag, IDS, TABLE, torch.rand(2, 3)).graph
    layer = next(layer for layer in graph if layer.op == "embedding_bag")
    read = dict(layer.reads)
    assert (read["args_1"], read["mul:out"]) == (6 * 32, 24)
    assert (layer.vector_ops, layer.write_bytes) == (48, 2 * 32)
    assert not any(item.dead for item in graph if item.op == "mul")


def test_sampling_depends_on_its_probabilities(trace: Any) -> None:
    graph = trace(lambda x: torch.multinomial(x.softmax(-1), 2), torch.randn(3, 4)).graph
    assert [(layer.op, layer.dead) for layer in graph] == [("softmax", False), ("multinomial", False)]


def test_a_short_time_transform_is_its_frames(trace: Any) -> None:
    def spectrogram(x: Any) -> Any:
        return torch.stft(x, 64, hop_length=16, window=torch.hann_window(64), center=False, return_complex=True).abs()

    graph = trace(spectrogram, torch.randn(2, 640)).graph
    layer = next(layer for layer in graph if layer.op == "stft")
    frames = (640 - 64) // 16 + 1
    assert layer.vector_ops == 2 * frames * (64 + 5 * 64 * 6)
    assert layer.write_bytes == 2 * 33 * frames * 8


def test_zero_elements_cost_zero_bytes(trace: Any) -> None:
    graph = trace(lambda x: torch.cat([x[:0], x]).relu(), X).graph
    assert [(layer.op, layer.read_bytes, layer.write_bytes) for layer in graph] == [
        ("cat", 480, 480),
        ("relu", 480, 480),
    ]
    empty = trace(lambda x: x[:0].relu().sum(), X).graph
    assert [(layer.read_bytes, layer.vector_ops) for layer in empty] == [(0, 0), (0, 0)]


def test_numbers_without_axes_are_one_element(trace: Any) -> None:
    graph = trace(lambda x: x.sum() * x.mean(), X).graph
    assert [(layer.op, layer.bytes) for layer in graph] == [("sum", 484), ("mean", 484), ("mul", 12)]


def test_regions_of_interest_read_four_points_each(trace: Any) -> None:
    ops = pytest.importorskip("torchvision.ops")
    features, boxes = torch.randn(1, 16, 32, 32), torch.rand(5, 5)
    graph = trace(lambda x, b: ops.roi_align(x, b, output_size=2, sampling_ratio=2), features, boxes).graph
    (layer,) = [layer for layer in graph if layer.op == "roi_align"]
    samples = 5 * 16 * 4 * 4
    assert layer.vector_ops == 8 * samples
    assert layer.read_bytes == 4 * 4 * samples + 100
    assert layer.write_bytes == 4 * 5 * 16 * 4
    assert layer.assumptions == ("5 boxes",)


@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("bfloat16", 2)])
def test_bytes_follow_the_type(trace: Any, dtype: str, size: int) -> None:
    (layer,) = trace(F.relu, X, dtype=dtype).graph.layers
    assert (layer.read_bytes, layer.write_bytes) == (120 * size, 120 * size)
