"""No operator that a network may reach is unknown: torch's core set, its public names, all of torch.nn.functional."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mmworkload.graph import LayerGraph
from mmworkload.tracing.call import find
from mmworkload.tracing.ignored import IGNORED

# Torch warns of its own deprecated spellings.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def treated(name: str) -> bool:
    """Whether ``aten.<name>`` is lowered, or may be left out of the graph."""
    plain = f"aten.{name}"
    return find(plain) is not None or plain in IGNORED or plain.removesuffix("_") in IGNORED


def operators() -> dict[str, list[Any]]:
    """Every ATen operator with its overloads."""
    found: dict[str, list[Any]] = {}
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = full.partition("::")
        name, _, overload = rest.partition(".")
        packet = getattr(torch.ops.aten, name, None) if namespace == "aten" else None
        if packet is not None and (overload or "default") in packet.overloads():
            found.setdefault(name, []).append(getattr(packet, overload or "default"))
    return found


# --- the core set ---------------------------------------------------------------------------------------------------

# Core operators that are no layers and that the table of ignored operators need not have.
NOT_LAYERS = {
    "_local_scalar_dense": "reads a value: it gives a number and no tensor",
    "sym_is_contiguous": "asks for metadata: it gives no tensor",
}


def test_every_core_operator_is_treated() -> None:
    core = {name for name, found in operators().items() if any(torch.Tag.core in item.tags for item in found)}
    assert len(core) > 150
    missing = {name for name in core if not treated(name) and not name.endswith("_backward")}
    assert missing <= set(NOT_LAYERS)


def test_what_is_no_layer_gives_no_tensor() -> None:
    for name in NOT_LAYERS:
        for item in operators().get(name, []):
            assert not any("Tensor" in str(result.type) for result in item._schema.returns)


# --- public names ---------------------------------------------------------------------------------------------------

# Public functions of torch for what a layer graph does not have: globs over their names.
OTHER = {
    "sparse tensors": (
        "*sparse*", "c*_indices*", "row_indices*", "indices*", "values*", "coalesce", "to_dense", "smm", "sspaddmm",
        "hspmm", "native_norm",
    ),
    "quantised tensors": ("*quantize*", "q_per_*", "int_repr", "fbgemm*", "fused_moving_avg*", "choose_qparams*"),
    "a library's own operator": ("cudnn_*", "miopen_*", "mkldnn_*", "to_mkldnn"),
    "an inner part of another operator": (
        "*_forward", "slow_conv*", "thnn_*", "conv_depthwise3d", "convolution_overrideable", "linalg__powsum",
    ),
    "training": (
        "batch_norm_*", "get_gradients", "*_jvp", "rrelu_with_noise*", "unflatten_dense_tensors", "slice_inverse",
        "normal_functional",
    ),
    "nested tensors": ("nested_*", "to_padded_tensor"),
    "changes what a tensor is, or where": (
        "set", "set_", "resize", "resize_as", "shallow_copy_data_", "from_file", "pin_memory",
    ),
    "compares tensors inside, so that it is recorded in parts (test_lowering_further)": ("cov", "corrcoef"),
}  # fmt: skip


def test_every_public_operator_is_treated() -> None:
    public = {
        name: found
        for name, found in operators().items()
        if not name.startswith("_") and "backward" not in name and not name.endswith("_out")
    }
    missing = {
        name
        for name, found in public.items()
        if not treated(name)
        and any("Tensor" in str(result.type) for item in found for result in item._schema.returns)
        and not any(fnmatch.fnmatchcase(name, glob) for globs in OTHER.values() for glob in globs)
    }
    assert missing == set()
    assert sum(treated(name) for name in public) > 750


# --- torch.nn.functional --------------------------------------------------------------------------------------------

SEQUENCE, IMAGE, VOLUME = torch.randn(2, 4, 6), torch.randn(2, 4, 6, 6), torch.randn(2, 4, 4, 6, 6)
P, Q, CLASSES = torch.rand(2, 4), torch.rand(2, 4), torch.tensor([1, 3])
BY_RANK = {1: SEQUENCE, 2: IMAGE, 3: VOLUME}
Case = tuple[Callable[..., Any], tuple[Any, ...]]


def on(x: Any, name: str, *args: Any, **kwargs: Any) -> Case:
    """The function of that name on one tensor."""
    return lambda value: getattr(F, name)(value, *args, **kwargs), (x,)


def at_every_rank(name: str, *args: Any, **kwargs: Any) -> dict[str, Case]:
    """``max_pool{}d`` for one, two and three dimensions."""
    return {name.format(rank): on(x, name.format(rank), *args, **kwargs) for rank, x in BY_RANK.items()}


def unpool(rank: int) -> Case:
    def function(x: Any) -> Any:
        values, places = getattr(F, f"max_pool{rank}d_with_indices")(x, 2)
        return getattr(F, f"max_unpool{rank}d")(values, places, 2)

    return function, (BY_RANK[rank],)


def fresh(name: str, *args: Any) -> Case:
    """A function that writes its argument, on a tensor of the trace's own."""
    return lambda x: getattr(F, name)(x + 0, *args), (SEQUENCE,)


FUNCTIONS: dict[str, Case] = {
    # convolution, linear, attention
    **{
        f"conv{rank}d": (getattr(F, f"conv{rank}d"), (x, torch.randn(3, 4, *[2] * rank))) for rank, x in BY_RANK.items()
    },
    **{
        f"conv_transpose{rank}d": (getattr(F, f"conv_transpose{rank}d"), (x, torch.randn(4, 3, *[2] * rank)))
        for rank, x in BY_RANK.items()
    },
    "conv_tbc": (F.conv_tbc, (torch.randn(5, 2, 4), torch.randn(3, 4, 6), torch.randn(6))),
    "linear": (F.linear, (SEQUENCE, torch.randn(3, 6))),
    "bilinear": (F.bilinear, (torch.randn(3, 4), torch.randn(3, 5), torch.randn(2, 4, 5))),
    "grouped_mm": (
        lambda x, weight, offsets: F.grouped_mm(x, weight, offs=offsets),
        (torch.randn(8, 16).bfloat16(), torch.randn(2, 16, 32).bfloat16(), torch.tensor([3, 8], dtype=torch.int32)),
    ),
    "scaled_dot_product_attention": (F.scaled_dot_product_attention, (SEQUENCE, SEQUENCE, SEQUENCE)),
    "multi_head_attention_forward": (
        lambda x, *w: F.multi_head_attention_forward(x, x, x, 6, 2, *w[:2], None, None, False, 0.0, *w[2:]),
        (SEQUENCE, torch.randn(18, 6), torch.randn(18), torch.randn(6, 6), torch.randn(6)),
    ),
    # pooling
    **{f"adaptive_{kind}_pool{rank}d{more}": on(BY_RANK[rank], f"adaptive_{kind}_pool{rank}d{more}", 2)
       for kind, more in (("avg", ""), ("max", ""), ("max", "_with_indices")) for rank in BY_RANK},
    **at_every_rank("avg_pool{}d", 2),
    **at_every_rank("max_pool{}d", 2),
    **at_every_rank("max_pool{}d_with_indices", 2),
    **at_every_rank("lp_pool{}d", 2.0, 2),
    **{f"max_unpool{rank}d": unpool(rank) for rank in BY_RANK},
    **{f"fractional_max_pool{rank}d{more}": on(BY_RANK[rank], f"fractional_max_pool{rank}d{more}", 2, output_size=2)
       for rank in (2, 3) for more in ("", "_with_indices")},
    # activations
    **{name: on(SEQUENCE, name) for name in (
        "celu", "elu", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
        "leaky_relu", "logsigmoid", "mish", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus",
        "softshrink", "softsign", "tanh", "tanhshrink",
    )},
    **{name: fresh(name) for name in ("celu_", "elu_", "hardtanh_", "leaky_relu_", "relu_", "rrelu_", "selu_")},
    **{name: on(SEQUENCE, name, dim=-1) for name in ("log_softmax", "normalize", "softmax", "softmin")},
    "prelu": (F.prelu, (IMAGE, torch.rand(4))),
    "threshold": on(SEQUENCE, "threshold", 0.1, 0.2),
    "threshold_": fresh("threshold_", 0.1, 0.2),
    # dropout
    **{name: on(x, name, training=True) for name, x in (
        ("alpha_dropout", SEQUENCE), ("dropout", SEQUENCE), ("dropout1d", SEQUENCE), ("dropout2d", IMAGE),
        ("dropout3d", VOLUME), ("feature_alpha_dropout", IMAGE),
    )},
    # normalisation
    "batch_norm": (F.batch_norm, (IMAGE, torch.zeros(4), torch.ones(4))),
    "group_norm": on(IMAGE, "group_norm", 2),
    "instance_norm": on(IMAGE, "instance_norm"),
    "layer_norm": on(SEQUENCE, "layer_norm", (6,)),
    "local_response_norm": on(IMAGE, "local_response_norm", 2),
    "rms_norm": on(SEQUENCE, "rms_norm", (6,)),
    # looking up, laying out, resampling
    "affine_grid": on(torch.randn(2, 2, 3), "affine_grid", [2, 4, 5, 6], align_corners=False),
    "channel_shuffle": on(IMAGE, "channel_shuffle", 2),
    "native_channel_shuffle": on(IMAGE, "native_channel_shuffle", 2),
    "embedding": (F.embedding, (torch.tensor([0, 2]), torch.randn(4, 3))),
    "embedding_bag": (F.embedding_bag, (torch.tensor([[0, 2]]), torch.randn(4, 3))),
    "fold": on(torch.randn(1, 16, 12), "fold", (4, 5), 2),
    "unfold": on(IMAGE, "unfold", 2),
    "grid_sample": (lambda x, grid: F.grid_sample(x, grid, align_corners=False), (IMAGE, torch.rand(2, 3, 3, 2))),
    "interpolate": on(IMAGE, "interpolate", scale_factor=2),
    "upsample": on(IMAGE, "upsample", scale_factor=2),
    "upsample_bilinear": on(IMAGE, "upsample_bilinear", scale_factor=2),
    "upsample_nearest": on(IMAGE, "upsample_nearest", scale_factor=2),
    "one_hot": on(CLASSES, "one_hot", 4),
    "pad": on(IMAGE, "pad", (1, 1)),
    "pixel_shuffle": on(IMAGE, "pixel_shuffle", 2),
    "pixel_unshuffle": on(IMAGE, "pixel_unshuffle", 2),
    # distances
    "cosine_similarity": (F.cosine_similarity, (P, Q)),
    "pairwise_distance": (F.pairwise_distance, (P, Q)),
    "pdist": on(P, "pdist"),
    # losses
    **{name: (getattr(F, name), (P, Q)) for name in (
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "huber_loss", "kl_div", "l1_loss", "mse_loss",
        "multilabel_soft_margin_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss",
    )},
    **{name: (getattr(F, name), (P, CLASSES)) for name in ("cross_entropy", "multi_margin_loss", "nll_loss")},
    "cosine_embedding_loss": (F.cosine_embedding_loss, (P, Q, torch.ones(2))),
    "hinge_embedding_loss": (F.hinge_embedding_loss, (P, torch.ones(2, 4))),
    "linear_cross_entropy": (F.linear_cross_entropy, (P, torch.randn(5, 4), CLASSES)),
    "margin_ranking_loss": (F.margin_ranking_loss, (P[0], Q[0], torch.ones(4))),
    "multilabel_margin_loss": (F.multilabel_margin_loss, (P, torch.tensor([[0, -1, 1, 1]] * 2))),
    "triplet_margin_loss": (F.triplet_margin_loss, (P, Q, P + 1)),
    "triplet_margin_with_distance_loss": (F.triplet_margin_with_distance_loss, (P, Q, P + 1)),
}  # fmt: skip

# What else the functions do, by mode.
MODES: dict[str, Case] = {
    **{f"interpolate {mode}": on(x, "interpolate", scale_factor=2, mode=mode) for mode, x in (
        ("linear", SEQUENCE), ("bilinear", IMAGE), ("bicubic", IMAGE), ("trilinear", VOLUME), ("area", IMAGE),
    )},
    **{f"interpolate {mode} of rank {rank}": on(x, "interpolate", scale_factor=2, mode=mode)
       for mode in ("nearest", "nearest-exact") for rank, x in BY_RANK.items()},
    **{f"interpolate {mode} without aliasing": on(IMAGE, "interpolate", scale_factor=0.5, mode=mode, antialias=True)
       for mode in ("bilinear", "bicubic")},
    **{f"pad {mode} of rank {rank}": on(x, "pad", (1, 1) * rank, mode=mode)
       for mode in ("constant", "reflect", "replicate", "circular") for rank, x in BY_RANK.items()},
    **{f"grid_sample {mode}": (
        lambda x, grid, mode=mode: F.grid_sample(x, grid, mode=mode, align_corners=False),
        (IMAGE, torch.rand(2, 3, 3, 2)),
    ) for mode in ("nearest", "bicubic")},
    "grid_sample in a volume": (
        lambda x, grid: F.grid_sample(x, grid, align_corners=False), (VOLUME, torch.rand(2, 3, 3, 3, 3))
    ),
    **{f"embedding_bag {mode}": (
        lambda i, table, mode=mode: F.embedding_bag(i, table, mode=mode), (torch.tensor([[0, 2]]), torch.randn(4, 3))
    ) for mode in ("sum", "max")},
    "embedding with a norm": (
        lambda i, table: F.embedding(i, table + 0, max_norm=1.0), (torch.tensor([0, 2]), torch.randn(4, 3))
    ),
    "gumbel_softmax in one place": on(SEQUENCE, "gumbel_softmax", hard=True),
    "cross_entropy with smoothing": (
        lambda x, y: F.cross_entropy(x, y, torch.ones(4), label_smoothing=0.1), (P, CLASSES)
    ),
    "cross_entropy of probabilities": (F.cross_entropy, (P, Q)),
    "attention with a mask": (
        lambda x, mask: F.scaled_dot_product_attention(x, x, x, mask), (SEQUENCE, torch.ones(4, 4, dtype=torch.bool))
    ),
    "instance_norm with running statistics": (
        lambda x, mean, var: F.instance_norm(x, mean, var, use_input_stats=False),
        (IMAGE, torch.zeros(4), torch.ones(4)),
    ),
}  # fmt: skip

# Names in the module that are no function of tensors, and functions that cannot run here, with the reason.
NOT_CALLED = {
    "Optional": "a type", "assert_int_or_pair": "a helper", "boolean_dispatch": "a helper",
    "handle_torch_function": "a helper", "has_torch_function": "a helper", "has_torch_function_unary": "a helper",
    "has_torch_function_variadic": "a helper",
    "gaussian_nll_loss": "raises for a negative variance: a branch on values",
    "ctc_loss": "its mean writes into memory that a traced tensor does not have; test_lowering_loss sums it",
    # Eight-bit floats on a GPU; test_lowering_experts has the operators behind.
    "scaled_mm": "no CPU", "scaled_addmm": "no CPU", "scaled_addmm_": "no CPU", "scaled_grouped_mm": "no CPU",
}  # fmt: skip


def test_the_table_has_every_function() -> None:
    public = {
        name
        for name in dir(F)
        if not name.startswith("_") and callable(getattr(F, name)) and not inspect.isclass(getattr(F, name))
    }
    assert public - set(FUNCTIONS) <= set(NOT_CALLED)
    # Older torch has fewer.
    assert len(set(FUNCTIONS) - public) <= 12


CASES = FUNCTIONS | MODES


# Older torch has not all of them.
NAMES = [name for name in CASES if name in MODES or hasattr(F, name)]


@pytest.mark.parametrize("name", NAMES)
def test_no_operator_behind_a_function_is_unknown(name: str, trace: Any) -> None:
    function, inputs = CASES[name]
    graph: LayerGraph = trace(function, *inputs, route="recorder").graph
    assert graph.layers
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_routes_give_a_function_one_graph(name: str, trace: Any) -> None:
    function, inputs = CASES[name]
    exported: LayerGraph = trace(function, *inputs, route="export").graph
    recorded: LayerGraph = trace(function, *inputs, route="recorder").graph
    assert recorded.layers == exported.layers
    assert recorded.tensors == exported.tensors
    assert recorded.outputs == exported.outputs
