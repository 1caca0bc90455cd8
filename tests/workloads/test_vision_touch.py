"""Vision & Touch: totals by stage against MMBench's public code and closed forms, fusions, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from mmworkload.errors import MmworkloadError, ModelError
from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.tracing import trace_model
from mmworkload.workloads.vision_touch import networks

pytestmark = pytest.mark.slow

Total = tuple[int, int]
FAMILY = families()["vision-touch"]


def linear(before: int, after: int) -> Total:
    """(MACs, parameters) of a linear layer."""
    return before * after, before * after + after


def add(*parts: Total) -> Total:
    return sum(macs for macs, _ in parts), sum(params for _, params in parts)


def dense(*widths: int) -> Total:
    return add(*(linear(before, after) for before, after in pairwise(widths)))


def convolved(layers: Sequence[tuple[int, int, int]]) -> Total:
    """Convolutions (channels before, after, side of the kernel) that halve a side of 128 each, and a linear layer."""
    side = 128
    parts: list[Total] = []
    for before, after, kernel in layers:
        side //= 2
        weights = before * after * kernel * kernel
        parts.append((side * side * weights, weights + after))
    return add(*parts, linear(side * side * layers[-1][1], 256))


def causal(*widths: int) -> Total:
    """Kernels and strides of 2 over 32 readings: one column more is computed than kept, 17, 9, 5, 3 and 2."""
    parts, kept = [], 32
    for before, after in pairwise(widths):
        kept //= 2
        parts.append(((kept + 1) * before * after * 2, before * after * 2 + after))
    return add(*parts)


ENCODERS: dict[str, Total] = {
    "image": convolved([(3, 16, 7), (16, 32, 5), (32, 64, 5), (64, 64, 3), (64, 128, 3), (128, 128, 3)]),
    "force": causal(6, 16, 32, 64, 128, 256),
    "proprio": dense(8, 32, 64, 128, 256),
    "depth": convolved([(1, 32, 3), (32, 64, 3), (64, 64, 4), (64, 64, 3), (64, 128, 3), (128, 128, 3)]),
    "action": dense(4, 32, 32),
}
SENSORS = ("image", "force", "proprio", "depth")
WIDTHS = {**dict.fromkeys(SENSORS, 256), "action": 32}


def encoded(*modalities: str) -> dict[str, Total]:
    return {f"encoder/{name}": ENCODERS[name] for name in modalities}


def low_rank(*modalities: str) -> Total:
    """Rank 40, to 200 features: a factor for each modality, the weights of the ranks and a bias."""
    rows = sum(WIDTHS[name] + 1 for name in modalities)
    return 40 * (rows * 200 + 200), 40 * (rows * 200 + 1) + 200


def projected(*modalities: str) -> Total:
    return add(*(linear(WIDTHS[name], 8) for name in modalities))


def head(width: int) -> Total:
    return dense(width, 128, 2)


ALL = (*SENSORS, "action")
# The prior's mean and variance, and two layers for state and action.
EXPERTS = add((0, 2 * 128), dense(128 + 32, 128, 128))
EXPECTED: dict[str, dict[str, Total]] = {
    "low-rank": {**encoded(*ALL), "fusion": low_rank(*ALL), "head": head(200)},
    "low-rank-sensors": {**encoded(*SENSORS), "fusion": low_rank(*SENSORS), "head": head(200)},
    "concat": {**encoded(*ALL), "fusion": (0, 0), "head": head(1056)},
    "concat-sensors": {**encoded(*SENSORS), "fusion": (0, 0), "head": head(1024)},
    "concat-mmbench": {**encoded(*ALL), "fusion": (0, 0)},
    "tensor": {**encoded(*ALL), "fusion": projected(*ALL), "head": head(9**5)},
    "tensor-sensors": {**encoded(*SENSORS), "fusion": projected(*SENSORS), "head": head(9**4)},
    "product-of-experts": {**encoded(*ALL), "fusion": EXPERTS, "head": linear(128, 1)},
    "image-action": {**encoded("image", "depth", "action"), "fusion": (0, 0), "head": head(544)},
    "force-action": {**encoded("force", "action"), "fusion": (0, 0), "head": head(288)},
    "proprio-action": {**encoded("proprio", "action"), "fusion": (0, 0), "head": head(288)},
    **{name: {**encoded(name), "head": head(WIDTHS[name])} for name in ALL},
}
OUTER = {"tensor": 9**2 + 9**3 + 9**4 + 9**5, "tensor-sensors": 9**2 + 9**3 + 9**4}
RESULT = {"concat-mmbench": 1056, "product-of-experts": 1}


@cache
def graph(name: str, batch: int = 1, end_to_end: bool = False) -> LayerGraph:
    return trace_model(resolve(f"vision-touch/{name}", batch=batch, end_to_end=end_to_end)).graph


def totals(found: LayerGraph) -> dict[str, Total]:
    return {stage: (total.macs, total.params) for stage, total in found.stages.items()}


def test_the_closed_forms_give_the_published_totals() -> None:
    # MMBench's default, as it runs.
    assert add(*EXPECTED["low-rank"].values()) == (89_978_560, 9_577_186)
    # MMBench's own classes, counted by torch's FlopCounterMode.
    assert ENCODERS == {
        "image": (40_108_032, 456_160),
        "force": (213_184, 87_728),
        "proprio": (43_264, 43_744),
        "depth": (41_091_072, 474_112),
        "action": (1_152, 1_216),
    }
    assert low_rank(*ALL) == (8_496_000, 8_488_240)
    assert EXPERTS == (36_864, 37_376)


def test_every_variant_is_in_the_table() -> None:
    assert [variant.name for variant in FAMILY.variants] == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_macs_and_parameters_of_each_stage(name: str) -> None:
    found = graph(name)
    assert totals(found) == EXPECTED[name]
    assert found.built_params == found.total_params == sum(params for _, params in EXPECTED[name].values())
    assert found.outer_macs == OUTER.get(name, 0)
    assert not [item for item in found.coverage if item.treatment == "unknown"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_batch_scales_macs_and_leaves_parameters(name: str) -> None:
    one, two = graph(name), graph(name, 2)
    assert {stage: (2 * macs, params) for stage, (macs, params) in totals(one).items()} == totals(two)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_traced_output_has_the_shape_of_a_real_forward(name: str) -> None:
    built = resolve(f"vision-touch/{name}", batch=2).build("cpu")
    with torch.no_grad():
        result = built.module(*built.args, **built.kwargs)
    (output,) = graph(name, 2).outputs
    assert tuple(result.shape) == graph(name, 2).tensors[output].shape == (2, RESULT.get(name, 2))
    assert torch.isfinite(result).all()


def test_the_force_encoder_computes_a_column_that_it_cuts() -> None:
    columns = [graph("force").tensors[layer.writes[0][0]].shape for layer in graph("force") if layer.op == "conv1d"]
    assert columns == [(1, 16, 17), (1, 32, 9), (1, 64, 5), (1, 128, 3), (1, 256, 2)]


def test_names_of_the_public_code_lead_to_its_variants() -> None:
    aliases = {"low-rank-mmbench": "low-rank", "lrtf": "low-rank", "lf": "concat", "unimodal-force": "force-action"}
    assert {alias: FAMILY.variant(alias, "vision-touch").name for alias in aliases} == aliases
    assert FAMILY.variant("", "vision-touch").name == "low-rank"


# --- parameters -------------------------------------------------------------------------------------------------------


def test_the_width_of_the_outer_product_can_be_set() -> None:
    found = totals(trace_model(resolve("vision-touch/tensor?width=4")).graph)
    assert found["head"] == head(5**5)
    assert found["fusion"] == add(*(linear(WIDTHS[name], 4) for name in ALL))


@pytest.mark.parametrize(
    "settings", ["concat?drop=sound", "concat?fusion=average", "tensor?width=0", "tensor?width=17"]
)
def test_impossible_parameters_are_refused(settings: str) -> None:
    with pytest.raises(MmworkloadError, match=settings.split("?")[1].split("=")[0]):
        resolve(f"vision-touch/{settings}")


def test_a_dropped_modality_has_no_encoder_and_no_input() -> None:
    found = trace_model(resolve("vision-touch/concat?drop=image,action")).graph
    stages = {key: total for key, total in EXPECTED["concat"].items() if key not in encoded("image", "action")}
    assert totals(found) == stages
    assert [item.tensor for item in found.inputs] == ["force", "proprio", "depth"]
    with pytest.raises(ModelError, match="keep at least one"):
        resolve(f"vision-touch/concat?drop={','.join(ALL)}").build("meta")


def test_an_operator_of_table_1_takes_the_place_of_the_concatenation() -> None:
    found = totals(trace_model(resolve("vision-touch/concat?fusion=concat")).graph)
    assert (found["fusion"], found["head"]) == (linear(1056, 256), head(256))


# --- values -----------------------------------------------------------------------------------------------------------


def test_unsound_depths_are_taken_out() -> None:
    encoder = networks.Depth()
    seen: list[torch.Tensor] = []
    encoder.convs.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    depth = torch.full((1, 1, 128, 128), 0.5)
    depth[0, 0, 0, :3] = torch.tensor([2.0, 0.0, -1.0])
    with torch.no_grad():
        encoder(depth)
    assert seen[0][0, 0, 0, :4].tolist() == [0.0, 0.0, 0.0, 0.5]


def test_experts_weigh_by_their_precision() -> None:
    fusion = networks.ProductOfExperts()
    joined: list[torch.Tensor] = []
    fusion.join.register_forward_pre_hook(lambda module, args: joined.append(args[0]))
    # softplus(20) is 20: three vague sensors of mean 0, one of mean 3 with variance 1, and the prior, 0 and 1.
    vague = torch.cat([torch.zeros(4000, 128), torch.full((4000, 128), 20.0)], dim=1)
    one = torch.log(torch.expm1(torch.tensor(1.0)))
    sure = torch.cat([torch.full((4000, 128), 3.0), torch.full((4000, 128), float(one))], dim=1)
    torch.manual_seed(0)
    with torch.no_grad():
        fusion([vague, vague, sure, vague, torch.zeros(4000, 32)])
    state = joined[0][:, :128]
    precision = 3 / 20 + 1 + 1
    assert float(state.mean()) == pytest.approx(3 / precision, abs=0.01)
    assert float(state.var()) == pytest.approx(1 / precision, abs=0.01)


# --- end to end -------------------------------------------------------------------------------------------------------


def test_raw_records_become_the_inputs_of_the_network() -> None:
    image = torch.full((1, 128, 128, 3), 200, dtype=torch.uint8)
    force = torch.arange(300.0).view(1, 50, 6) / 300
    depth = torch.rand(1, 128, 128, 1)
    pose, action = torch.rand(1, 8), torch.rand(1, 4)
    ready = networks.PrepareSensors()(image=image, force=force, proprio=pose, depth=depth, action=action)
    assert ready["image"].dtype == torch.float32
    assert ready["image"].unique().tolist() == [200.0]
    assert ready["force"].shape == (1, 6, 32)
    # The third torque at the last moment, and the first force 32 readings before the end.
    assert ready["force"][0, 5, -1] == torch.tanh(force[0, 49, 5])
    assert ready["force"][0, 0, 0] == torch.tanh(force[0, 18, 0])
    assert torch.equal(ready["depth"][0, 0], depth[0, :, :, 0])
    assert ready["proprio"] is pose
    assert ready["action"] is action


def test_pre_processing_comes_before_the_same_network() -> None:
    whole, network = graph("low-rank", end_to_end=True), graph("low-rank")
    assert {item.tensor: item.shape for item in whole.inputs}["force"] == (1, 50, 6)
    assert [(layer.op, layer.placement) for layer in whole if layer.stage == "preprocess"] == [
        ("to", "host"),
        ("tanh", "host"),
    ]
    assert [layer.name for layer in whole if layer.stage != "preprocess"] == [layer.name for layer in network]
    assert whole.total_macs == network.total_macs


@pytest.mark.parametrize("name", ["concat?drop=force", "force", "low-rank"])
def test_raw_records_run_through_to_the_contact(name: str) -> None:
    built = resolve(f"vision-touch/{name}", batch=2, end_to_end=True).build("cpu")
    with torch.no_grad():
        result: Any = built.module(*built.args, **built.kwargs)
    assert result.shape == (2, 2)


@pytest.mark.parametrize("name", ["proprio", "depth", "action"])
def test_what_is_recorded_as_the_network_takes_it_has_no_pre_processing(name: str) -> None:
    with pytest.raises(MmworkloadError, match="nothing to pre-process"):
        resolve(f"vision-touch/{name}", end_to_end=True)
