"""Medical segmentation: totals of mmFormer's public code, closed forms of its parts, and what the networks compute."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import pytest
import torch

from mmworkload.errors import MmworkloadError, ModelError, UnknownNameError
from mmworkload.models import families, resolve
from mmworkload.tracing import Traced, trace_model
from mmworkload.workloads.medical_seg import networks

# Seconds each; that every variant has its stages, totals and operators is read from shapes/ in test_zoo.py.
pytestmark = pytest.mark.slow

Cost = tuple[int, int]  # MACs, parameters
SCANS = ("flair", "t1c", "t1", "t2")
VARIANTS = ("transformer", "transformer-mmbench", "concat-intraformer", "concat", "early", "flair")
CHANNELS = (8, 16, 32, 64, 128)


def slow_unless(quick: bool, *values: str) -> Any:
    return pytest.param(*values, marks=() if quick else pytest.mark.slow)


def plus(*parts: Cost) -> Cost:
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def times(count: int, cost: Cost) -> Cost:
    return count * cost[0], count * cost[1]


def conv(inputs: int, outputs: int, kernel: int, side: int) -> Cost:
    weights = kernel**3 * inputs * outputs
    return side**3 * weights, weights + outputs


def linear(inputs: int, outputs: int, rows: int, bias: bool = True) -> Cost:
    return rows * inputs * outputs, inputs * outputs + (outputs if bias else 0)


def encoder(size: int, scans: int = 1) -> Cost:
    """mmformer.py:15-55: three 3 x 3 x 3 convolutions at each of five levels, the side halved from level to level."""
    total = conv(scans, 8, 3, size)
    for level, channels in enumerate(CHANNELS):
        side = size >> level
        total = plus(total, times(2, conv(channels, channels, 3, side)))
        if level:
            total = plus(total, conv(channels // 2, channels, 3, side))
    return total


def block(tokens: int) -> Cost:
    """mmformer.py:179-300: 512 wide, no bias on query, key and value, 4096 inside, two norms."""
    attention = plus(linear(512, 3 * 512, tokens, bias=False), linear(512, 512, tokens), (2 * tokens**2 * 512, 0))
    return plus(attention, linear(512, 4096, tokens), linear(4096, 512, tokens), (0, 4 * 512))


def positions(tokens: int) -> Cost:
    return 0, tokens * 512


def decoder(size: int, scans: int, deepest: int, auxiliary: bool) -> Cost:
    """mmformer.py:57-176: merge convolutions if ``scans`` > 1, then up, join, out at four levels, and the classes."""
    total = conv(8, 4, 1, size)
    for level, channels in enumerate(CHANNELS):
        side = size >> level
        if scans > 1:
            wide = deepest if level == 4 else scans * channels
            merge = (
                conv(wide, channels, 1, side),
                conv(channels, channels, 3, side),
                conv(channels, channels, 1, side),
            )
            total = plus(total, *merge)
        if level < 4:
            total = plus(total, times(2, conv(2 * channels, channels, 3, side)), conv(channels, channels, 1, side))
        if level and auxiliary:
            total = plus(total, conv(channels, 4, 1, side))
    return total


def totals(name: str, size: int = 128) -> dict[str, Cost]:
    """Stage to MACs and parameters at batch 1."""
    side = size // 16
    tokens = side**3
    unet = encoder(size)
    project, back = conv(128, 512, 1, side), conv(512, 128, 1, side)
    intra = plus(unet, project, block(tokens), positions(tokens))
    # The fusion reads the positions of all scans.
    inter = plus(block(4 * tokens), times(4, positions(tokens)), conv(2048, 512, 1, side))
    joined = decoder(size, 4, 512, False)
    table: dict[str, tuple[Cost, Cost, Cost]] = {
        "transformer": (plus(unet, project), inter, joined),
        "transformer-mmbench": (intra, inter, decoder(size, 4, 512, True)),
        "concat-intraformer": (plus(intra, back), (0, 0), decoder(size, 4, 512, True)),
        "concat": (unet, (0, 0), joined),
    }
    if name == "early":
        head = plus(encoder(size, 4), decoder(size, 1, 0, False))
        return {"fusion": (0, 0), "head": head, "": head}
    if name == "flair":
        head = decoder(size, 1, 0, False)
        return {"encoder/flair": unet, "head": head, "": plus(unet, head)}
    each, fusion, head = table[name]
    macs, params = plus(times(4, each), fusion, head)
    # Read in two stages, counted once.
    shared = 4 * positions(tokens)[1] if name == "transformer-mmbench" else 0
    return {
        **{f"encoder/{scan}": each for scan in SCANS},
        "fusion": fusion,
        "head": head,
        "": (macs, params - shared),
    }


@cache
def traced(name: str, batch: int = 1) -> Traced:
    return trace_model(resolve(f"medical-seg/{name}", batch=batch))


def costs(name: str) -> dict[str, Cost]:
    graph = traced(name).graph
    found = {stage: (total.macs, total.params) for stage, total in graph.stages.items()}
    return {**found, "": (graph.total_macs, graph.total_params)}


def test_the_public_code_has_its_published_totals() -> None:
    found = totals("transformer-mmbench")
    assert found[""] == (128_133_103_616, 35_798_404)
    assert found["encoder/flair"][1] == 7_051_456
    assert encoder(128)[1] == 1_473_216
    assert block(512)[1] == 5_250_048
    # Encoder and Decoder_sep of the public code, counted on its own classes.
    assert totals("flair")[""] == (43_692_064_768, 2_066_572)


@pytest.mark.parametrize("name", VARIANTS)
def test_macs_and_parameters_of_every_stage(name: str) -> None:
    assert costs(name) == totals(name)
    graph = traced(name).graph
    assert graph.built_params == graph.total_params
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []


@pytest.mark.parametrize("name", ["transformer-mmbench", slow_unless(False, "concat-intraformer")])
def test_a_larger_cube_has_more_tokens(name: str) -> None:
    assert costs(f"{name}?size=144") == totals(name, 144)


@pytest.mark.parametrize("name", [slow_unless(name in ("transformer", "flair"), name) for name in VARIANTS])
def test_a_batch_of_two_runs_as_it_was_traced_and_is_twice_the_work(name: str) -> None:
    small = f"{name}?size=32"
    one, two = traced(small), traced(small, 2)
    assert two.graph.total_macs == 2 * one.graph.total_macs == 2 * totals(name, 32)[""][0]
    assert two.graph.total_params == one.graph.total_params
    built = resolve(f"medical-seg/{small}", batch=2).build("cpu")
    with torch.no_grad():
        results = built.module(**built.kwargs)
    output = next(node for node in two.program.graph.nodes if node.op == "output")
    shapes = [part.meta["val"].shape for part in output.args[0]]
    # mmFormer's decoder gives the result and four auxiliary ones.
    count = 5 if name in ("transformer-mmbench", "concat-intraformer") else 1
    assert [item.shape for item in results] == shapes == [(2, 4, 32, 32, 32)] * count
    for item in results:
        torch.testing.assert_close(item.sum(dim=1), torch.ones(2, 32, 32, 32))


def masked_network(drop: tuple[str, ...] = ()) -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.transformer(SCANS, 32, 1, 1, True, drop).eval()


def test_a_masked_scan_and_a_dropped_one_give_the_same() -> None:
    network, part = masked_network(), masked_network(drop=("t1c",))
    with torch.no_grad():
        for position in network.positions.values():
            position.normal_()
    part.load_state_dict({key: network.state_dict()[key] for key in part.state_dict()})
    inputs = {scan: torch.randn(1, 1, 32, 32, 32) for scan in SCANS}
    without = torch.tensor([[scan != "t1c" for scan in SCANS]])
    everything = torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        masked, whole = network(**inputs, mask=without), network(**inputs, mask=everything)
        del inputs["t1c"]
        dropped = part(**inputs, mask=everything)
    torch.testing.assert_close(dropped, masked)
    assert not torch.allclose(masked[0], whole[0], atol=1e-3)


def test_the_fusion_reads_the_positions_in_the_order_of_the_scans() -> None:
    network = masked_network()
    seen: list[torch.Tensor] = []
    network.fusion.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    with torch.no_grad():
        for position in network.positions.values():
            position.normal_()
        network(**{scan: torch.randn(1, 1, 32, 32, 32) for scan in SCANS})
    torch.testing.assert_close(seen[0], torch.cat([network.positions[scan] for scan in SCANS], dim=1))


@pytest.mark.parametrize("name", ["transformer", slow_unless(False, "concat")])
def test_a_dropped_scan_saves_its_encoder(name: str) -> None:
    part = traced(f"{name}?drop=t1,t2").graph
    each = totals(name)["encoder/t1"]
    assert {"encoder/flair", "encoder/t1c", "fusion", "head"} == set(part.stages)
    assert part.total_macs == totals(name)[""][0] - 2 * each[0]
    assert part.total_params == totals(name)[""][1] - 2 * each[1]
    assert [item.tensor for item in part.inputs] == ["flair", "t1c"]


@pytest.mark.parametrize(
    ("fusion", "joined", "width"),
    [
        ("sum", (0, 0), 128),
        ("concat", linear(512, 128, 512), 128),
        ("linear-glu", plus(linear(128, 128, 512, bias=False), linear(384, 128, 512, bias=False)), 128),
        # The first scan's 512 places ask, those of the other three are asked.
        ("attention", (2 * 512 * 3 * 512 * 128, 0), 128),
    ],
)
def test_an_operator_of_table_1_joins_the_deepest_maps(fusion: str, joined: Cost, width: int) -> None:
    found = costs(f"concat?fusion={fusion}")
    assert found["fusion"] == joined
    assert found["head"] == decoder(128, 4, width, False)
    assert found["encoder/t2"] == encoder(128)


def test_end_to_end_adds_a_preprocessing_stage_and_nothing_else() -> None:
    plain, whole = costs("transformer-mmbench"), costs("transformer-mmbench?end-to-end")
    assert whole.pop("preprocess") == (0, 0)
    assert whole == plain
    graph = traced("transformer-mmbench?end-to-end").graph
    assert {item.shape for item in graph.inputs if item.role == "modality"} == {(1, 1, 155, 240, 240)}
    assert [item for item in graph.coverage if item.treatment == "unknown"] == []


def scan_with_brain(low: tuple[int, int, int], side: int, bright: int) -> torch.Tensor:
    torch.manual_seed(bright)
    scan = torch.zeros(1, 1, 40, 60, 60, dtype=torch.int16)
    d, h, w = low
    scan[:, :, d : d + side, h : h + side, w : w + side] = torch.randint(1, bright, (side,) * 3, dtype=torch.int16)
    return scan


@pytest.mark.parametrize(
    ("low", "start"),
    # The middle of the brain's box in the middle of the cube, unless that would leave the scan.
    [((10, 20, 30), (2, 12, 22)), ((0, 0, 44), (0, 0, 28))],
)
def test_scans_are_cropped_round_the_brain_and_normalised_over_it(
    low: tuple[int, int, int], start: tuple[int, int, int]
) -> None:
    raw = {"flair": scan_with_brain(low, 16, 900), "t1": scan_with_brain(low, 16, 90)}
    mask = torch.ones(1, 2, dtype=torch.bool)
    ready = networks.PrepareScans(32)(**raw, mask=mask)
    assert ready["mask"] is mask
    brain = raw["flair"][0, 0] > 0
    for name in raw:
        scan = raw[name][0, 0].double()
        expected = (scan - scan[brain].mean()) / scan[brain].std(correction=0)
        d, h, w = start
        cut = expected[d : d + 32, h : h + 32, w : w + 32]
        torch.testing.assert_close(ready[name][0, 0].double(), cut, rtol=1e-4, atol=1e-4)
        assert ready[name].shape == (1, 1, 32, 32, 32)


def test_each_sample_of_a_batch_has_its_own_cube() -> None:
    raw = torch.cat([scan_with_brain((4, 4, 4), 16, 50), scan_with_brain((20, 40, 30), 16, 70)])
    together = networks.PrepareScans(32)(flair=raw)["flair"]
    for index in range(2):
        alone = networks.PrepareScans(32)(flair=raw[index : index + 1])["flair"]
        torch.testing.assert_close(together[index : index + 1], alone)


def test_raw_scans_go_through_the_whole_network() -> None:
    built = resolve("medical-seg/flair?size=32&end-to-end").build("cpu")
    assert built.kwargs["flair"].shape == (1, 1, 155, 240, 240)
    with torch.no_grad():
        (result,) = built.module(**built.kwargs)
    assert result.shape == (1, 4, 32, 32, 32)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("transformer?size=16", MmworkloadError),
        ("transformer?size=136", MmworkloadError),
        ("transformer?size=160", MmworkloadError),
        ("transformer?layers=0", MmworkloadError),
        ("transformer?intra_layers=1", UnknownNameError),
        ("transformer?drop=t1ce", UnknownNameError),
        ("flair?drop=flair", UnknownNameError),
    ],
)
def test_an_impossible_parameter_is_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve(f"medical-seg/{name}")


@pytest.mark.parametrize("name", ["transformer", "early"])
def test_dropping_everything_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="keep at least one"):
        resolve(f"medical-seg/{name}?drop={','.join(SCANS)}").build("meta")


def test_every_parameter_of_a_variant_reaches_it() -> None:
    family = families()["medical-seg"]
    for variant in family.variants:
        functions: list[Any] = [variant.build, variant.inputs, variant.raw, variant.preprocess]
        taken = {name for function in functions for name in inspect.signature(function).parameters}
        assert set(variant.parameters) <= taken
    assert [variant.name for variant in family.variants] == list(VARIANTS)
    assert family.variant("mmformer", "medical-seg").name == "transformer-mmbench"
    assert {family.variant(scan, "medical-seg").name for scan in SCANS} == {"flair"}
