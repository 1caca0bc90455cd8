"""Stages and modalities on hand-made graphs, one test a rule. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mmworkload.graph import InputInfo
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import gemm
from mmworkload.tracing.stages import assign, modalities

WEIGHTED = (Work(gemm(2, 3, 4)),)
ACTIVATIONS = (Work(gemm(2, 3, 4, second_role="input")),)


def layer(name: str, reads: str, op: str = "linear", module: str | None = None, work: tuple[Work, ...] = ()) -> Layer:
    """A layer that writes ``name:out``; a read ``a`` is the tensor ``a:out`` of layer a, or the input ``a``."""
    path = name.rsplit(":", 1)[0] if module is None else module
    return Layer(
        name, op, module=path, reads=tuple((item, 4) for item in reads.split()), writes=((f"{name}:out", 4),), work=work
    )


def inputs(*modality: str, **roles: str) -> list[InputInfo]:
    listed = [InputInfo(name, (1,), "float32", name) for name in modality]
    return listed + [InputInfo(name, (1,), "float32", name, role) for name, role in roles.items()]


def run(layers: list[Layer], given: list[InputInfo], rules: Mapping[str, str] | None = None) -> dict[str, Layer]:
    tensors = {
        name: Tensor(name, (1,), "float32", 32, "activation", name) for item in layers for name, _ in item.writes
    }
    return {item.name: item for item in assign(layers, tensors, given, rules or {})}


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
    assert result["head.0"].rule == "no operator that mixes modalities depends on it"


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
    assert result["fuse.norm"].rule == "fuse.attention, which mixes joined elements, depends on it"
    assert result["fuse.project"].rule == "in fuse with fuse.attention, which mixes joined elements"


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


# --- branches -------------------------------------------------------------------------------------------------------


def film(where: str) -> dict[str, str]:
    """A convolutional network that a sentence steers by a product with its features, which stands in ``where``."""
    layers = [
        layer("image.0", "image", "conv2d", work=WEIGHTED),
        layer("text.scale", "text", work=WEIGHTED),
        layer("steer", "image.0:out text.scale:out", "mul", module=where),
        layer("image.1", "steer:out", "conv2d", work=WEIGHTED),
        layer("classify", "image.1:out", work=WEIGHTED),
    ]
    return stages(run(layers, inputs("image", "text")))


def test_a_branch_goes_on_behind_what_others_feed_it_from_outside() -> None:
    assert film("") == {
        "image.0": "encoder/image",
        "text.scale": "encoder/text",
        "steer": "fusion",
        "image.1": "encoder/image",
        "classify": "head",
    }


def test_a_module_that_joins_modalities_itself_is_no_branch() -> None:
    inside = film("image")
    assert (inside["steer"], inside["image.1"]) == ("fusion", "head")


def test_a_module_that_attends_over_joined_elements_is_no_branch() -> None:
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


def test_a_module_that_two_modalities_pass_through_is_no_branch() -> None:
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


def test_encoders_that_exchange_features_at_every_depth_stay_encoders_and_the_exchange_is_fusion() -> None:
    """TransFuser: two convolutional branches; a transformer at each of two scales, whose output is added to both."""
    layers: list[Any] = [
        layer("image.stem", "image", "conv2d", work=WEIGHTED),
        layer("lidar.stem", "lidar", "conv2d", work=WEIGHTED),
    ]
    features = {"image": "image.stem:out", "lidar": "lidar.stem:out"}
    for depth in (1, 2):
        for name in features:
            path = f"{name}.{depth}"
            layers.append(layer(path, features[name], "conv2d", work=WEIGHTED))
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
    assert result["encoder/image"] == ["image.stem", "image.1", "image.2"]
    assert result["encoder/lidar"] == ["lidar.stem", "lidar.1", "lidar.2"]
    assert result["head"] == ["segment", "sum", "waypoints"]
    # Each of two exchanges: the join, the transformer's three layers, and what is added to either branch.
    assert len(result["fusion"]) == 2 * 6
