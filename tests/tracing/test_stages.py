"""Stages and modalities on hand-made graphs, one test a rule. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mmworkload.errors import UnknownNameError
from mmworkload.graph import InputInfo
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import gemm
from mmworkload.tracing.call import Value
from mmworkload.tracing.lowering.convolution import convolve
from mmworkload.tracing.stages import Outline, assign, auxiliary, cut_modules, modalities, require_rules

WEIGHTED = (Work(gemm(2, 3, 4)),)
ACTIVATIONS = (Work(gemm(2, 3, 4, second_role="input")),)


def convolution(kernel: int) -> tuple[Work, ...]:
    """The loop nest of a convolution on an image of 8 x 8, padded so that the size stays."""
    x, out = Value("x", (1, 4, 8, 8), "float32", 32, 256, False), Value("y", (1, 4, 8, 8), "float32", 32, 256, False)
    weight = Value("w", (4, 4, kernel, kernel), "float32", 32, 16 * kernel * kernel, True)
    return (Work(convolve(x, weight, out, stride=1, padding=kernel // 2, dilation=1, groups=1)),)


POINTWISE, SPATIAL = convolution(1), convolution(3)


def layer(name: str, reads: str, op: str = "linear", module: str | None = None, work: tuple[Work, ...] = ()) -> Layer:
    """A layer that writes ``name:out``; a read ``a`` is the tensor ``a:out`` of layer a, or the input ``a``."""
    path = name.rsplit(":", 1)[0] if module is None else module
    return Layer(
        name, op, module=path, reads=tuple((item, 4) for item in reads.split()), writes=((f"{name}:out", 4),), work=work
    )


def inputs(*modality: str, **roles: str) -> list[InputInfo]:
    listed = [InputInfo(name, (1,), "float32", name) for name in modality]
    return listed + [InputInfo(name, (1,), "float32", name, role) for name, role in roles.items()]


def tensors_of(layers: list[Layer]) -> dict[str, Tensor]:
    """What the layers write, and weights: what is called ``w``."""
    weight = Tensor("w", (1,), "float32", 32, "weight", "w")
    return {"w": weight} | {
        name: Tensor(name, (1,), "float32", 32, "activation", name) for item in layers for name, _ in item.writes
    }


def run(
    layers: list[Layer],
    given: list[InputInfo],
    rules: Mapping[str, str] | None = None,
    outline: Outline | None = None,
) -> dict[str, Layer]:
    return {item.name: item for item in assign(layers, tensors_of(layers), given, rules or {}, outline)}


def stages(result: Mapping[str, Layer]) -> dict[str, str]:
    return {name: item.stage for name, item in result.items()}


# --- one modality ---------------------------------------------------------------------------------------------------


def test_what_one_modality_alone_reaches_is_its_encoder() -> None:
    result = run(
        [
            layer("a.1", "image w"),
            layer("b.1", "audio"),
            layer("a.2", "a.1:out"),
            layer("join", "a.2:out b.1:out", "cat"),
        ],
        inputs("image", "audio"),
    )
    assert stages(result) == {"a.1": "encoder/image", "b.1": "encoder/audio", "a.2": "encoder/image", "join": "fusion"}
    assert [item.modality for item in result.values()] == ["image", "audio", "image", ""]
    assert result["a.2"].rule == "only image reaches it"


def test_a_model_of_one_modality_is_all_encoder() -> None:
    chain = [layer("stem", "x"), layer("attention", "stem:out", "attention"), layer("classifier", "attention:out")]
    assert set(stages(run(chain, inputs("x"))).values()) == {"encoder/x"}
    ruled = run(chain, inputs("x"), {"classifier": "head"})
    assert stages(ruled) == {"stem": "encoder/x", "attention": "encoder/x", "classifier": "head"}
    assert ruled["classifier"].modality == "x"


def test_two_inputs_of_one_modality_are_one_encoder() -> None:
    given = [InputInfo("left", (1,), "float32", "image"), InputInfo("right", (1,), "float32", "image")]
    result = run([layer("l", "left"), layer("r", "right"), layer("stereo", "l:out r:out", "cat")], given)
    assert set(stages(result).values()) == {"encoder/image"}


# --- fusion and head ------------------------------------------------------------------------------------------------


def test_a_concatenation_in_the_root_is_the_fusion_and_what_follows_the_head() -> None:
    result = run(
        [
            layer("image.conv", "image"),
            layer("audio.conv", "audio"),
            layer("cat", "image.conv:out audio.conv:out", "cat", module=""),
            layer("head.0", "cat:out", work=WEIGHTED),
            layer("head.2", "head.0:out", work=WEIGHTED),
        ],
        inputs("image", "audio"),
    )
    assert stages(result)["cat"] == "fusion"
    assert stages(result)["head.0"] == stages(result)["head.2"] == "head"
    assert result["cat"].rule == "joins modalities"
    assert result["head.0"].rule == "nothing that joins modalities or combines positions depends on it"


def test_fusion_ends_with_the_module_of_the_last_operator_that_mixes() -> None:
    result = run(
        [
            layer("cat", "image audio", "cat", module=""),
            layer("fuse.norm", "cat:out", "layer_norm"),
            layer("fuse.attention", "fuse.norm:out", "attention", work=ACTIVATIONS),
            layer("fuse.project", "fuse.attention:out", work=WEIGHTED),
            layer("classify", "fuse.project:out", work=WEIGHTED),
        ],
        inputs("image", "audio"),
    )
    assert [stages(result)[f"fuse.{name}"] for name in ("norm", "attention", "project")] == ["fusion"] * 3
    assert (stages(result)["cat"], stages(result)["classify"]) == ("fusion", "head")
    assert result["fuse.norm"].rule == "fuse.attention, which combines positions, depends on it"
    assert result["fuse.project"].rule == "in fuse with fuse.attention, which combines positions"


@pytest.mark.parametrize("op", ["attention", "lstm", "gru", "rnn_tanh"])
def test_attention_and_recurrence_over_merged_elements_are_fusion(op: str) -> None:
    result = run(
        [
            layer("cat", "image audio", "cat", module=""),
            layer("between", "cat:out"),
            layer("mix", "between:out", op),
            layer("out", "mix:out"),
        ],
        inputs("image", "audio"),
    )
    assert stages(result) == {"cat": "fusion", "between": "fusion", "mix": "fusion", "out": "head"}


def test_a_cell_on_one_joined_vector_is_a_dense_layer() -> None:
    layers = [layer("cat", "image audio", "cat", module=""), layer("cell", "cat:out state", "gru_cell")]
    assert stages(run(layers, inputs("image", "audio", state="state"))) == {"cat": "fusion", "cell": "head"}


def test_a_head_that_runs_before_another_branch_fuses_is_a_head() -> None:
    """What counts is which operator depends on which, not the order of the program."""
    result = run(
        [
            layer("cat", "image audio", "cat", module=""),
            layer("segment", "cat:out", "conv2d", work=WEIGHTED),
            layer("again", "cat:out text", "cat", module=""),
            layer("answer", "again:out", work=WEIGHTED),
        ],
        inputs("image", "audio", "text"),
    )
    assert stages(result) == {"cat": "fusion", "segment": "head", "again": "fusion", "answer": "head"}


def test_two_last_mixing_operators_each_end_the_fusion_in_their_module() -> None:
    layers = [layer("cat", "image audio", "cat", module="")]
    for name in ("left", "right"):
        layers.append(layer(f"{name}.attention", "cat:out", "attention", work=ACTIVATIONS))
        layers.append(layer(f"{name}.project", f"{name}.attention:out", work=WEIGHTED))
        layers.append(layer(f"answer_{name}", f"{name}.project:out", work=WEIGHTED))
    result = stages(run(layers, inputs("image", "audio")))
    assert [result[f"{name}.project"] for name in ("left", "right")] == ["fusion", "fusion"]
    assert [result[f"answer_{name}"] for name in ("left", "right")] == ["head", "head"]


# --- modules in which modalities are joined ---------------------------------------------------------------------------


def cross_attention(path: str, query: str, other: str) -> list[Layer]:
    """A block that attends from one stream to another; its result is ``<path>.mlp:out``."""
    return [
        layer(f"{path}.q", f"{query} w", work=WEIGHTED),
        layer(f"{path}.kv", f"{other} w", work=WEIGHTED),
        layer(f"{path}.attend", f"{path}.q:out {path}.kv:out", "attention", work=ACTIVATIONS),
        layer(f"{path}.mlp", f"{path}.attend:out w", work=WEIGHTED),
    ]


def test_a_module_in_which_modalities_are_joined_is_fusion_as_a_whole() -> None:
    layers = [
        layer("see", "image w", "conv2d", work=SPATIAL),
        layer("hear", "audio w", "gru", work=WEIGHTED),
        *cross_attention("v2a", "see:out", "hear:out"),
        layer("classify", "v2a.mlp:out w", work=WEIGHTED),
    ]
    result = run(layers, inputs("image", "audio"))
    assert {result[f"v2a.{name}"].stage for name in ("q", "kv", "attend", "mlp")} == {"fusion"}
    assert stages(result)["see"] == "encoder/image"
    assert stages(result)["hear"] == "encoder/audio"
    assert stages(result)["classify"] == "head"
    # The modality that alone reaches a layer of the fusion is still told.
    assert [result[f"v2a.{name}"].modality for name in ("q", "kv", "attend")] == ["image", "audio", ""]


@pytest.mark.parametrize(
    ("op", "work", "stage"),
    [
        ("conv2d", SPATIAL, "encoder/audio"),
        ("conv2d", POINTWISE, "fusion"),
        ("gru", WEIGHTED, "encoder/audio"),
        ("attention", ACTIVATIONS, "encoder/audio"),
        ("linear", WEIGHTED, "fusion"),
    ],
)
def test_a_submodule_of_the_fusion_stays_encoder_if_one_modality_reaches_it_and_it_combines_positions(
    op: str, work: tuple[Work, ...], stage: str
) -> None:
    layers = [
        layer("see", "image w", work=WEIGHTED),
        layer("hear", "audio w", work=WEIGHTED),
        layer("mix.sound.body", "hear:out w", op, work=work),
        layer("mix.sound.norm", "mix.sound.body:out w", "layer_norm"),
        layer("mix.cat", "see:out mix.sound.norm:out", "cat", module="mix"),
    ]
    result = stages(run(layers, inputs("image", "audio")))
    assert result["mix.sound.body"] == result["mix.sound.norm"] == stage
    assert result["mix.cat"] == "fusion"


def test_a_module_that_reads_a_raw_input_is_cut_at_its_children() -> None:
    """A language model looks its words up itself, and attends to images in some blocks: the rest of it is no fusion."""
    layers = [
        layer("vision", "image w", "conv2d", work=SPATIAL),
        layer("language.embed", "text w", "embedding"),
        layer("language.first", "language.embed:out w", "attention", work=ACTIVATIONS),
        *cross_attention("language.gated", "language.first:out", "vision:out"),
        layer("language.head", "language.gated.mlp:out w", work=WEIGHTED),
    ]
    result = stages(run(layers, inputs("image", "text")))
    assert result["language.embed"] == result["language.first"] == "encoder/text"
    assert result["language.gated.q"] == result["language.gated.mlp"] == "fusion"
    assert result["language.head"] == "head"


def test_what_was_made_of_an_input_without_weights_is_as_raw_as_the_input() -> None:
    layers = [
        layer("scaled", "image", "div", module=""),
        layer("net.see", "scaled:out w", work=WEIGHTED),
        layer("net.hear", "audio w", work=WEIGHTED),
        layer("net.cat", "net.see:out net.hear:out", "cat", module="net"),
    ]
    result = stages(run(layers, inputs("image", "audio")))
    assert result == {
        "scaled": "encoder/image",
        "net.see": "encoder/image",
        "net.hear": "encoder/audio",
        "net.cat": "fusion",
    }


def test_a_container_is_no_module_and_is_looked_into() -> None:
    layers = [
        layer("see", "image w", "conv2d", work=SPATIAL),
        layer("hear", "audio w", "conv1d", work=SPATIAL),
        layer("blocks.0", "see:out w", work=WEIGHTED),
        layer("blocks.1.cat", "blocks.0:out hear:out", "cat", module="blocks.1"),
    ]
    given = inputs("image", "audio")
    assert stages(run(layers, given))["blocks.0"] == "fusion"
    listed = run(layers, given, outline=Outline(containers=frozenset({"blocks"})))
    assert stages(listed)["blocks.0"] == "encoder/image"
    assert stages(listed)["blocks.1.cat"] == "fusion"


def film(where: str, kernel: tuple[Work, ...]) -> dict[str, str]:
    """A convolutional network that a sentence steers by a product with its features, which stands in ``where``."""
    layers = [
        layer("image.0", "image w", "conv2d", work=SPATIAL),
        layer("text.scale", "text w", work=WEIGHTED),
        layer("steer", "image.0:out text.scale:out", "mul", module=where),
        layer("image.1", "steer:out w", "conv2d", work=kernel),
        layer("classify", "image.1:out w", work=WEIGHTED),
    ]
    return stages(run(layers, inputs("image", "text")))


@pytest.mark.parametrize("where", ["", "image"])
def test_behind_a_join_a_convolution_is_fusion_and_a_pointwise_one_is_head(where: str) -> None:
    assert film(where, SPATIAL) == {
        "image.0": "encoder/image",
        "text.scale": "encoder/text",
        "steer": "fusion",
        "image.1": "fusion",
        "classify": "head",
    }
    assert film(where, POINTWISE)["image.1"] == "head"


def test_of_two_streams_that_one_feeds_at_each_depth_the_other_stays_an_encoder() -> None:
    """SlowFast: convolutions of the fast clip are concatenated to the slow one's features between blocks that hold
    both."""
    layers = [
        layer("stem.slow", "slow w", "conv3d", work=SPATIAL),
        layer("stem.fast", "fast w", "conv3d", work=SPATIAL),
    ]
    streams = {"slow": "stem.slow:out", "fast": "stem.fast:out"}
    for depth in (1, 2):
        layers.append(layer(f"join{depth}.lateral", f"{streams['fast']} w", "conv3d", work=SPATIAL))
        cat = layer(f"join{depth}.cat", f"{streams['slow']} join{depth}.lateral:out", "cat", module=f"join{depth}")
        layers.append(cat)
        streams["slow"] = f"join{depth}.cat:out"
        for name in streams:
            layers.append(layer(f"block{depth}.{name}", f"{streams[name]} w", "conv3d", work=SPATIAL))
            streams[name] = f"block{depth}.{name}:out"
    layers.append(layer("cat", " ".join(streams.values()), "cat", module=""))
    layers.append(layer("classify", "cat:out w", work=WEIGHTED))
    result = grouped(run(layers, inputs("slow", "fast")))
    assert result["encoder/slow"] == ["stem.slow"]
    assert result["encoder/fast"] == ["stem.fast", "join1.lateral", "block1.fast", "join2.lateral", "block2.fast"]
    assert result["fusion"] == ["join1.cat", "block1.slow", "join2.cat", "block2.slow", "cat"]
    assert result["head"] == ["classify"]


def test_a_module_that_attends_over_joined_elements_is_no_encoder() -> None:
    """The words' embedding is in the language model, and the language model is no encoder of text for that."""
    layers = [
        layer("vision", "image", work=WEIGHTED),
        layer("language.embed", "text", "embedding"),
        layer("join", "language.embed:out vision:out", "cat", module=""),
        layer("language.attention", "join:out", "attention", work=ACTIVATIONS),
        layer("language.mlp", "language.attention:out", work=WEIGHTED),
    ]
    result = stages(run(layers, inputs("image", "text")))
    assert result["language.embed"] == "encoder/text"
    assert result["language.attention"] == "fusion"
    assert result["language.mlp"] == "head"


def test_a_module_that_two_modalities_pass_through_is_no_encoder() -> None:
    layers = [
        layer("shared.a", "image", work=WEIGHTED),
        layer("shared.b", "text", work=WEIGHTED),
        layer("join", "shared.a:out shared.b:out", "cat", module=""),
        layer("shared.c", "join:out", work=WEIGHTED),
    ]
    assert stages(run(layers, inputs("image", "text")))["shared.c"] == "head"


def test_attention_written_out_mixes_too_and_a_product_with_a_weight_does_not() -> None:
    def net(work: tuple[Work, ...]) -> dict[str, str]:
        return stages(
            run(
                [layer("cat", "a b", "cat", module=""), layer("product", "cat:out", "matmul", work=work)],
                inputs("a", "b"),
            )
        )

    assert net(ACTIVATIONS)["product"] == "fusion"
    assert net(WEIGHTED)["product"] == "head"


def test_a_later_merge_carries_the_fusion_on() -> None:
    result = run(
        [
            layer("cat", "image audio", "cat", module=""),
            layer("mlp", "cat:out"),
            layer("again", "mlp:out text", "cat", module=""),
            layer("head", "again:out"),
        ],
        inputs("image", "audio", "text"),
    )
    assert stages(result) == {"cat": "fusion", "mlp": "fusion", "again": "fusion", "head": "head"}


def test_a_module_that_also_encodes_one_modality_does_not_end_the_fusion() -> None:
    """The block is the outermost module that sees merged elements only: net.layers, not net."""
    result = run(
        [
            layer("net.embed", "text", "embedding"),
            layer("net.cat", "net.embed:out image", "cat", module="net"),
            layer("net.layers.0.attention", "net.cat:out", "attention"),
            layer("net.layers.0.mlp", "net.layers.0.attention:out"),
            layer("net.norm", "net.layers.0.mlp:out", "layer_norm"),
            layer("net.head", "net.norm:out"),
        ],
        inputs("image", "text"),
    )
    assert stages(result)["net.embed"] == "encoder/text"
    assert stages(result)["net.layers.0.mlp"] == "fusion"
    assert stages(result)["net.norm"] == stages(result)["net.head"] == "head"


# --- what belongs to no modality ------------------------------------------------------------------------------------


def test_masks_positions_and_states_do_not_propagate() -> None:
    given = inputs("image", attention_mask="mask", position_ids="position", past="state")
    layers = [
        layer("mask", "attention_mask", "sub"),
        layer("rotary", "position_ids", "cos"),
        layer("q", "image"),
        layer("attend", "q:out mask:out rotary:out past", "attention"),
    ]
    result = run(layers, given)
    assert stages(result)["attend"] == "encoder/image"
    assert set(modalities(layers, given)) == {"image", "q:out", "attend:out"}


def test_a_layer_without_modality_joins_the_first_layer_that_reads_it() -> None:
    result = run(
        [
            layer("positions", "", "fill"),
            layer("double", "positions:out", "mul"),
            layer("audio.add", "audio double:out", "add"),
            layer("image.add", "image double:out", "add"),
            layer("join", "audio.add:out image.add:out", "cat", module=""),
        ],
        inputs("image", "audio"),
    )
    assert stages(result)["positions"] == stages(result)["double"] == "encoder/audio"
    assert result["double"].rule == "feeds audio.add"
    assert result["positions"].rule == "feeds double"


def test_a_layer_that_feeds_nothing_stays_with_the_one_before_it() -> None:
    result = run([layer("a", "image"), layer("lost", "", "fill"), layer("b", "a:out")], inputs("image"))
    assert stages(result)["lost"] == "encoder/image"
    assert result["lost"].rule == "feeds nothing; it stays with the layer before it"
    assert stages(run([layer("only", "", "fill")], []))["only"] == "head"


def test_a_dead_branch_stays_in_the_encoder_that_makes_it() -> None:
    result = run(
        [layer("a", "image"), layer("a:mean", "a:out", "mean"), layer("j", "a:out audio", "cat")],
        inputs("image", "audio"),
    )
    assert stages(result)["a:mean"] == "encoder/image"


# --- rules ----------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides() -> None:
    layers = [layer("net.a.conv", "image"), layer("net.b.conv", "net.a.conv:out")]
    first = run(layers, inputs("image"), {"net.a": "preprocess", "net.*": "head"})
    assert stages(first) == {"net.a.conv": "preprocess", "net.b.conv": "head"}
    assert first["net.a.conv"].rule == "rule net.a"
    second = run(layers, inputs("image"), {"net.*": "head", "net.a": "preprocess"})
    assert set(stages(second).values()) == {"head"}


@pytest.mark.parametrize(
    ("glob", "matches"),
    [
        ("encoder", True),
        ("encoder.*", True),
        ("encoder.block?", True),
        ("encoder.block1.conv", True),
        ("*.conv:relu", True),
        ("*block*", True),
        ("enc", False),
        ("encoder.block", False),
        ("conv", False),
        ("Encoder", False),
    ],
)
def test_a_rule_is_a_glob_over_module_paths_and_layer_names(glob: str, matches: bool) -> None:
    relu = layer("encoder.block1.conv:relu", "image", "relu")
    result = run([relu], inputs("image"), {glob: "head"})
    assert stages(result)[relu.name] == ("head" if matches else "encoder/image")


def test_a_rule_beats_the_data_flow_and_an_encoder_rule_names_the_modality() -> None:
    layers = [
        layer("cat", "image audio", "cat", module=""),
        layer("video.conv", "cat:out"),
        layer("out", "video.conv:out"),
    ]
    result = run(layers, inputs("image", "audio"), {"video": "encoder/video"})
    assert stages(result) == {"cat": "fusion", "video.conv": "encoder/video", "out": "head"}
    assert result["video.conv"].modality == "video"


# --- a user's rules ---------------------------------------------------------------------------------------------------


def test_a_rule_of_the_user_that_matches_nothing_is_refused_with_the_nearest_modules() -> None:
    layers = [layer("vision.conv", "image"), layer("language.embed", "text")]
    given = inputs("image", "text")
    require_rules(layers, given, {"vision.*": "encoder/image", "language": "head"})
    with pytest.raises(UnknownNameError, match=r"vison.*vision"):
        require_rules(layers, given, {"vison.*": "encoder/image"})


def test_a_rule_of_the_user_for_a_modality_that_no_input_has_is_refused() -> None:
    layers = [layer("vision.conv", "image"), layer("language.embed", "text")]
    with pytest.raises(UnknownNameError, match=r"'vision'.*image, text"):
        require_rules(layers, inputs("image", "text", lengths="auxiliary"), {"vision": "encoder/vision"})


# --- heads ------------------------------------------------------------------------------------------------------------


def two_heads(first: str, second: str, outputs: tuple[str, str] = ("0", "1")) -> dict[str, str]:
    layers = [
        layer("cat", "image audio", "cat", module=""),
        layer("pool", "cat:out", "mean", module=""),
        layer(first, "pool:out w", work=WEIGHTED),
        layer(second, "pool:out w", work=WEIGHTED),
    ]
    returned = tuple(zip(outputs, (f"{first}:out", f"{second}:out"), strict=True))
    return stages(run(layers, inputs("image", "audio"), outline=Outline(outputs=returned)))


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("action_head", "emotion_head", ("action", "emotion")),
        ("head_action", "head_emotion", ("action", "emotion")),
        ("heads.action", "heads.emotion", ("action", "emotion")),
        ("action", "emotion", ("action", "emotion")),
        ("heads.0", "heads.1", ("0", "1")),
    ],
)
def test_heads_of_several_outputs_are_called_after_their_modules(
    first: str, second: str, names: tuple[str, str]
) -> None:
    result = two_heads(first, second)
    assert (result[first], result[second]) == tuple(f"head/{name}" for name in names)
    # What serves both is of neither.
    assert result["pool"] == "head"


def test_a_head_is_called_after_its_output_where_outputs_have_names() -> None:
    result = two_heads("left", "right", ("steering", "brake"))
    assert (result["left"], result["right"]) == ("head/steering", "head/brake")


def test_a_result_that_is_only_split_has_one_head() -> None:
    layers = [
        layer("cat", "image audio", "cat", module=""),
        layer("answer", "cat:out w", work=WEIGHTED),
        layer("start", "answer:out", "copy", module=""),
        layer("end", "answer:out", "copy", module=""),
    ]
    returned = Outline(outputs=(("start", "start:out"), ("end", "end:out")))
    result = stages(run(layers, inputs("image", "audio"), outline=returned))
    assert {result[name] for name in ("answer", "start", "end")} == {"head"}


def test_one_output_has_the_head_without_a_name() -> None:
    result = two_heads("left", "right", ("answer", "answer"))
    assert result["left"] == result["right"] == "head"


# --- inputs that are no modalities ------------------------------------------------------------------------------------


def roles(layers: list[Layer], given: list[InputInfo]) -> dict[str, str]:
    sizes = {item.tensor: Tensor(item.tensor, item.shape, item.dtype, 32, "input", item.tensor) for item in given}
    return {item.tensor: item.role for item in auxiliary(layers, tensors_of(layers) | sizes, given)}


def whole(name: str, *shape: int, dtype: str = "int64") -> InputInfo:
    return InputInfo(name, shape or (1,), dtype, name)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_whole_numbers_that_meet_a_modality_without_weights_between_are_auxiliary(dtype: str) -> None:
    layers = [layer("embed", "x w"), layer("mask", "lengths", "lt"), layer("fill", "embed:out mask:out", "where")]
    given = [*inputs("x"), whole("lengths", dtype=dtype)]
    assert roles(layers, given) == {"x": "modality", "lengths": "auxiliary"}
    floats = [*inputs("x"), whole("lengths", dtype="float32")]
    assert roles(layers, floats) == {"x": "modality", "lengths": "modality"}


def test_whole_numbers_that_an_embedding_looks_up_are_a_modality() -> None:
    layers = [
        layer("embed", "tokens w", "embedding"),
        layer("see", "image w"),
        layer("add", "embed:out see:out", "add"),
    ]
    given = [*inputs("image"), whole("tokens", 1, 12)]
    assert roles(layers, given) == {"image": "modality", "tokens": "modality"}


def test_lengths_that_mask_tokens_before_they_are_looked_up_are_auxiliary_and_the_tokens_are_not() -> None:
    layers = [
        layer("mask", "lengths", "lt"),
        layer("masked", "tokens mask:out", "mul"),
        layer("embed", "masked:out w", "embedding"),
    ]
    for others in ((), ("image",)):
        more = [layer("see", "image w"), layer("add", "embed:out see:out", "add")] if others else []
        given = [*inputs(*others), whole("tokens", 2, 12), whole("lengths", 2)]
        found = roles([*layers, *more], given)
        assert (found["tokens"], found["lengths"]) == ("modality", "auxiliary")


def test_whole_numbers_alone_stay_a_modality() -> None:
    assert roles([layer("double", "x", "mul")], [whole("x")]) == {"x": "modality"}


# --- modules that are cut ---------------------------------------------------------------------------------------------


def test_the_modules_whose_layers_are_of_several_stages_are_told() -> None:
    layers = [
        layer("vision", "image w", "conv2d", work=SPATIAL),
        layer("net.embed", "text w", "embedding"),
        layer("net.join", "net.embed:out vision:out", "cat", module="net"),
    ]
    assert cut_modules(run(layers, inputs("image", "text")).values()) == {"net": ["encoder/text", "fusion"]}


# --- whole networks -------------------------------------------------------------------------------------------------


def transformer(path: str, reads: str) -> list[Layer]:
    """Projection, attention and MLP; the last tensor is ``<path>.mlp:out``."""
    return [
        layer(f"{path}.qkv", reads, work=WEIGHTED),
        layer(f"{path}.attention", f"{path}.qkv:out", "attention", work=ACTIVATIONS),
        layer(f"{path}.mlp", f"{path}.attention:out", work=WEIGHTED),
    ]


def grouped(result: Mapping[str, Layer]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, item in result.items():
        found.setdefault(item.stage, []).append(name)
    return found


def test_a_language_model_with_a_vision_tower() -> None:
    layers = [
        *transformer("vision.0", "pixel_values"),
        layer("projector", "vision.0.mlp:out", work=WEIGHTED),
        layer("model.embed", "input_ids", "embedding"),
        layer("scatter", "model.embed:out projector:out", "masked_scatter", module="model"),
        *transformer("model.layers.0", "scatter:out"),
        *transformer("model.layers.1", "model.layers.0.mlp:out"),
        layer("model.norm", "model.layers.1.mlp:out", "rms_norm"),
        layer("lm_head", "model.norm:out", work=WEIGHTED),
    ]
    given = [InputInfo("pixel_values", (1,), "float32", "image"), InputInfo("input_ids", (1,), "int64", "text")]
    assert {stage: len(names) for stage, names in grouped(run(layers, given)).items()} == {
        "encoder/image": 4,
        "encoder/text": 1,
        "fusion": 7,
        "head": 2,
    }


def test_a_dual_encoder_fuses_in_one_product() -> None:
    layers = [
        *transformer("vision.0", "image"),
        *transformer("text.0", "text"),
        layer("similarity", "vision.0.mlp:out text.0.mlp:out", "matmul", module="", work=ACTIVATIONS),
        layer("scale", "similarity:out logit_scale", "mul", module=""),
    ]
    assert grouped(run(layers, inputs("image", "text"))) == {
        "encoder/image": ["vision.0.qkv", "vision.0.attention", "vision.0.mlp"],
        "encoder/text": ["text.0.qkv", "text.0.attention", "text.0.mlp"],
        "fusion": ["similarity"],
        "head": ["scale"],
    }


def test_a_single_stream_transformer_is_fusion_from_its_first_block_to_its_last() -> None:
    layers = [
        layer("embeddings.patches", "image", "conv2d"),
        layer("embeddings.words", "text", "embedding"),
        layer("embeddings.cat", "embeddings.patches:out embeddings.words:out", "cat", module="embeddings"),
        *transformer("encoder.0", "embeddings.cat:out"),
        *transformer("encoder.1", "encoder.0.mlp:out"),
        layer("encoder.norm", "encoder.1.mlp:out", "layer_norm"),
        layer("pooler", "encoder.norm:out", work=WEIGHTED),
    ]
    result = grouped(run(layers, inputs("image", "text")))
    assert result["encoder/image"] == ["embeddings.patches"]
    assert result["encoder/text"] == ["embeddings.words"]
    assert result["head"] == ["pooler"]
    assert len(result["fusion"]) == 8


def test_cross_attention_between_streams_is_fusion_in_each() -> None:
    """MulT: every stream attends to every other one, then to itself; the joined streams are classified."""
    streams = ("audio", "text", "video")
    layers = [layer(f"{name}.proj", name, work=WEIGHTED) for name in streams]
    for name in streams:
        others = [other for other in streams if other != name]
        layers += [
            layer(f"cross.{name}.{other}", f"{name}.proj:out {other}.proj:out", "attention", work=ACTIVATIONS)
            for other in others
        ]
        layers.append(layer(f"cat.{name}", " ".join(f"cross.{name}.{other}:out" for other in others), "cat", module=""))
        layers.append(layer(f"memory.{name}", f"cat.{name}:out", "attention", work=ACTIVATIONS))
    layers.append(layer("classify", " ".join(f"memory.{name}:out" for name in streams), work=WEIGHTED))
    result = grouped(run(layers, inputs(*streams)))
    assert [result[f"encoder/{name}"] for name in streams] == [[f"{name}.proj"] for name in streams]
    assert len(result["fusion"]) == 6 + 3 + 3
    assert result["head"] == ["classify"]


def test_encoders_that_exchange_features_at_every_depth_end_at_the_first_exchange() -> None:
    """TransFuser: two convolutional branches; a transformer at each of two scales, whose output is added to both."""
    layers: list[Any] = [
        layer("image.stem", "image", "conv2d", work=WEIGHTED),
        layer("lidar.stem", "lidar", "conv2d", work=WEIGHTED),
    ]
    features = {"image": "image.stem:out", "lidar": "lidar.stem:out"}
    for depth in (1, 2):
        for name in features:
            path = f"{name}.{depth}"
            layers.append(layer(path, features[name], "conv2d", work=SPATIAL))
            features[name] = f"{path}:out"
        layers.append(layer(f"join.{depth}", " ".join(features.values()), "cat", module=""))
        layers += transformer(f"exchange.{depth}", f"join.{depth}:out")
        for name in features:
            add = f"add.{depth}.{name}"
            layers.append(layer(add, f"{features[name]} exchange.{depth}.mlp:out", "add", module=""))
            features[name] = f"{add}:out"
    layers += [
        layer("segment", features["image"], "conv2d", work=WEIGHTED),
        layer("sum", " ".join(features.values()), "add", module=""),
        layer("waypoints", "sum:out", "gru_cell"),
    ]
    result = grouped(run(layers, inputs("image", "lidar")))
    assert result["encoder/image"] == ["image.stem", "image.1"]
    assert result["encoder/lidar"] == ["lidar.stem", "lidar.1"]
    # Each of two exchanges: the join and the transformer's three layers; between them what is added to either branch,
    # and the branches' second convolutions, which both inputs reach.
    assert len(result["fusion"]) == 2 * 4 + 2 + 2
    assert result["head"] == ["add.2.image", "add.2.lidar", "segment", "sum", "waypoints"]
