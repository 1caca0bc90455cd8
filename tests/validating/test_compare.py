"""A network of four layers, worked out by hand.

========  =============  =====  ==========  ===========
layer     stage          MACs   measured s  simulated s
========  =============  =====  ==========  ===========
image     encoder/image   1000           6            2
audio     encoder/audio   2000           2           12
join      fusion             0           1            2
head      head             500           1            4
========  =============  =====  ==========  ===========
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.graph import Coverage, LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.measuring.result import LayerTime, Measurement, Spread
from mmworkload.problem import gemm
from mmworkload.simulating.result import LayerResult, Simulation
from mmworkload.validating import compare
from mmworkload.validating.result import GroupRow, LayerRow

STAGES = {"image": "encoder/image", "audio": "encoder/audio", "join": "fusion", "head": "head"}
OPS = {"image": "conv2d", "audio": "conv2d", "join": "cat", "head": "linear"}
MACS = {"image": 1000, "audio": 2000, "join": 0, "head": 500}
MEASURED = {"image": 6.0, "audio": 2.0, "join": 1.0, "head": 1.0}
SIMULATED = {"image": 2.0, "audio": 12.0, "join": 2.0, "head": 4.0}


def modality(name: str) -> str:
    return name if name in ("image", "audio") else ""


def make_graph(**changes: Any) -> LayerGraph:
    layers = tuple(
        Layer(
            name,
            OPS[name],
            stage=STAGES[name],
            modality=modality(name),
            writes=((f"{name}:out", 4),),
            work=(Work(gemm(1, MACS[name], 1)),) if MACS[name] else (),
            assumptions=("two speakers",) if name == "audio" else (),
            dead=name == "join",
        )
        for name in STAGES
    )
    tensors = {f"{name}:out": Tensor(f"{name}:out", (1,), "float32", 32, "activation", name) for name in STAGES}
    coverage = (
        Coverage("lowered", "aten.conv2d", "image", 2, 3000, 8),
        Coverage("ignored", "aten.view", "image", 3, 0, 0, "a view"),
        Coverage("ignored", "aten.view", "audio", 2, 0, 0, "a view"),
        Coverage("unknown", "my.op", "audio", 1, 0, 64, "no lowering"),
    )
    return replace(LayerGraph("toy/four", "four", 2, "float32", layers, tensors, coverage=coverage), **changes)


def make_measurement(times: dict[str, float] = MEASURED, **changes: Any) -> Measurement:
    layers = tuple(
        LayerTime(
            name,
            OPS.get(name, "custom"),
            STAGES.get(name, "head"),
            modality(name),
            "Other",
            Spread.of([seconds]),
            index + 1,
        )
        for index, (name, seconds) in enumerate(times.items())
    )
    whole = Measurement(
        model="toy/four",
        variant="four",
        batch=2,
        dtype="float32",
        device="cpu",
        eager=Spread.of([20.0]),
        graph=Spread.of([25.0]),
        layers=layers,
        unattributed_s=2.0,
        kernel_difference=0.01,
        peak_memory_bytes={"total": 1},
    )
    return replace(whole, **changes)


def make_row(name: str, seconds: float) -> LayerResult:
    return LayerResult(
        layer=name,
        part="0",
        phase="0",
        weight=1.0,
        op=OPS.get(name, "custom"),
        stage=STAGES.get(name, "head"),
        modality=modality(name),
        macs=MACS.get(name, 0),
        outer_macs=0,
        count=1,
        cycles=round(seconds * 100),
        latency_s=seconds,
        energy_j=None,
        utilization=0.5,
        bound="compute" if MACS.get(name) else "vector",
        dram_bytes=8,
        simulator="mapper" if MACS.get(name) and name != "head" else "roofline",
        floored_from=10 if name == "audio" else None,
        note="slow" if name == "audio" else "",
        arch="toy",
        energy_basis="",
        energy_by_component_j={},
        traffic_bytes={},
        includes=(),
        problems=(),
    )


def make_simulation(times: dict[str, float] = SIMULATED, **changes: Any) -> Simulation:
    whole = Simulation(
        model="toy/four",
        chosen="mapper",
        version="1.2",
        fidelity="exact",
        why="",
        arch="chip",
        arch_key="0" * 16,
        bits=16,
        precision="16 bits, native to chip",
        traced_dtype="float32",
        layers=tuple(make_row(name, seconds) for name, seconds in times.items()),
        critical_path_s=18.0,
        on_chip=None,
        runs=3,
        unique_problems=3,
        cache_hits=0,
        failures=0,
        seconds=0.1,
    )
    return replace(whole, **changes)


def without(times: dict[str, float], *names: str) -> dict[str, float]:
    return {name: value for name, value in times.items() if name not in names}


def row(validation: Any, name: str) -> LayerRow:
    return next(item for item in validation.layers if item.layer == name)


def group(groups: tuple[GroupRow, ...], name: str) -> GroupRow:
    return next(item for item in groups if item.name == name)


def test_layers_have_times_shares_and_ratios() -> None:
    validation = compare(make_graph(), make_measurement(), make_simulation())

    assert [item.layer for item in validation.layers] == ["image", "audio", "join", "head"]
    found = {item.layer: item.sides for item in validation.layers}
    assert [found[name].measured_share for name in STAGES] == pytest.approx([0.6, 0.2, 0.1, 0.1])
    assert [found[name].simulated_share for name in STAGES] == pytest.approx([0.1, 0.6, 0.1, 0.2])
    assert [found[name].ratio for name in STAGES] == pytest.approx([1 / 3, 6, 2, 4])
    assert [item.macs for item in validation.layers] == [1000, 2000, 0, 500]
    assert [item.kernels for item in validation.layers] == [1, 2, 3, 4]


def test_what_is_special_about_a_layer_is_kept() -> None:
    validation = compare(make_graph(), make_measurement(), make_simulation())

    assert [item.layer for item in validation.layers if item.floored] == ["audio"]
    assert [item.layer for item in validation.layers if item.dead] == ["join"]
    # The join has no MACs: the roofline is its proper answer. The head has some.
    assert [item.layer for item in validation.layers if item.fallback] == ["head"]
    assert row(validation, "audio").note == "slow"
    assert row(validation, "join").bound == "vector"


def test_stages_modalities_and_operators_are_sums_in_program_order() -> None:
    validation = compare(make_graph(), make_measurement(), make_simulation())

    assert [item.name for item in validation.stages] == ["encoder/image", "encoder/audio", "fusion", "head"]
    assert [item.name for item in validation.modalities] == ["image", "audio", ""]
    assert [item.name for item in validation.operators] == ["conv2d", "cat", "linear"]
    mixed = group(validation.modalities, "")
    assert (mixed.layers, mixed.macs) == (2, 500)
    assert (mixed.sides.measured_s, mixed.sides.simulated_s) == (2.0, 6.0)
    assert mixed.sides.measured_share == pytest.approx(0.2)
    assert mixed.sides.simulated_share == pytest.approx(0.3)
    assert mixed.sides.ratio == pytest.approx(3.0)
    conv = group(validation.operators, "conv2d")
    assert (conv.sides.measured_s, conv.sides.simulated_s, conv.macs) == (8.0, 14.0, 3000)


def test_rank_correlations_over_all_layers_and_over_those_with_macs() -> None:
    validation = compare(make_graph(), make_measurement(), make_simulation())

    assert validation.all_layers.layers == 4
    assert validation.all_layers.spearman == pytest.approx(-0.25 / 4.5)
    assert validation.all_layers.kendall == pytest.approx(0.0)
    assert validation.mac_layers.layers == 3
    assert validation.mac_layers.spearman == pytest.approx(-0.5)
    assert validation.mac_layers.kendall == pytest.approx(-1 / 3)


def test_stragglers_of_both_sides_and_whether_they_agree() -> None:
    validation = compare(make_graph(), make_measurement(), make_simulation())

    measured, simulated = validation.measured_straggler, validation.simulated_straggler
    assert measured is not None
    assert simulated is not None
    assert (measured.modality, measured.ratio, measured.ratios) == ("image", 3.0, {"audio": 3.0})
    assert (simulated.modality, simulated.ratio, simulated.ratios) == ("audio", 6.0, {"image": 6.0})
    assert validation.stragglers_agree is False

    swapped = compare(make_graph(), make_measurement({**MEASURED, "audio": 9.0}), make_simulation())
    assert swapped.stragglers_agree is True


def test_one_encoder_has_no_straggler() -> None:
    graph = make_graph().only(["encoder/image", "head"])
    validation = compare(
        graph,
        make_measurement(without(MEASURED, "audio", "join")),
        make_simulation(without(SIMULATED, "audio", "join")),
    )

    assert validation.measured_straggler is None
    assert validation.stragglers_agree is None


def test_a_layer_that_a_side_lacks_is_a_row_with_a_gap() -> None:
    validation = compare(
        make_graph(), make_measurement(without(MEASURED, "join")), make_simulation(without(SIMULATED, "head"))
    )

    assert [item.layer for item in validation.layers] == ["image", "audio", "join", "head"]
    join, head = row(validation, "join").sides, row(validation, "head").sides
    assert (join.measured_s, join.measured_share, join.ratio) == (None, None, None)
    assert join.simulated_share == pytest.approx(2 / 16)
    assert (head.simulated_s, head.simulated_share, head.ratio) == (None, None, None)
    assert head.measured_share == pytest.approx(1 / 9)
    assert validation.gaps.unmeasured == ("join",)
    assert validation.gaps.unsimulated == ("head",)
    fusion = group(validation.stages, "fusion")
    assert (fusion.sides.measured_s, fusion.unmeasured, fusion.unsimulated) == (None, 1, 0)
    assert validation.all_layers.layers == 2


def test_a_layer_that_the_graph_does_not_know_is_kept_and_named() -> None:
    validation = compare(
        make_graph(), make_measurement({**MEASURED, "ghost": 10.0}), make_simulation({**SIMULATED, "wraith": 5.0})
    )

    assert [item.layer for item in validation.layers][4:] == ["ghost", "wraith"]
    assert row(validation, "ghost").sides.measured_share == pytest.approx(0.5)
    assert validation.gaps.untraced == ("ghost", "wraith")
    assert validation.gaps.unmeasured == ("wraith",)
    assert validation.gaps.unsimulated == ("ghost",)


def test_what_is_not_covered_is_counted() -> None:
    gaps = compare(make_graph(), make_measurement(), make_simulation()).gaps

    assert gaps.graph_over_eager == pytest.approx(25 / 20)
    assert gaps.layers_over_eager == pytest.approx(10 / 20)
    assert gaps.idle_share == pytest.approx(1 - 12 / 20)
    assert gaps.eager_quartiles_s == (20.0, 20.0)
    assert (gaps.dead.layers, gaps.dead.measured_share, gaps.dead.simulated_share) == pytest.approx((1, 0.1, 0.1))
    assert (gaps.fallback.layers, gaps.fallback.simulated_share) == pytest.approx((1, 0.2))
    assert (gaps.floored.layers, gaps.floored.simulated_share) == pytest.approx((1, 0.6))
    assert gaps.ignored == {"aten.view": 5}
    assert gaps.unknown == {"my.op": 1}
    assert gaps.assumptions == ("two speakers",)


def test_layers_of_some_stages_say_nothing_about_idle_time() -> None:
    measured = make_measurement(without(MEASURED, "join", "head"), only=("encoder/*",))
    gaps = compare(make_graph().only(["encoder/*"]), measured, make_simulation()).gaps

    assert gaps.only == ("encoder/*",)
    assert gaps.idle_share is None


@pytest.mark.parametrize(("difference", "own"), [(0.0, True), (0.05, True), (0.051, False)])
def test_rows_are_the_users_kernels_up_to_five_per_cent(difference: float, own: bool) -> None:
    gaps = compare(make_graph(), make_measurement(kernel_difference=difference), make_simulation()).gaps

    assert gaps.user_kernels is own


def test_precision_names_tf32_where_the_device_uses_it() -> None:
    def precision(**changes: Any) -> str:
        return compare(make_graph(), make_measurement(**changes), make_simulation()).measured_precision

    assert precision() == "float32"
    assert precision(provenance={"tf32_matmul": "ieee", "tf32_conv": "tf32"}) == "float32 (TF32 in convolutions)"
    assert precision(dtype="float16", provenance={"tf32_conv": "tf32"}) == "float16"


def test_a_layer_measured_as_zero_has_no_ratio() -> None:
    validation = compare(make_graph(), make_measurement({**MEASURED, "join": 0.0}), make_simulation())

    assert row(validation, "join").sides.ratio is None
    assert row(validation, "join").sides.measured_share == 0.0


def test_sides_of_different_models_or_batches_are_refused() -> None:
    with pytest.raises(MmworkloadError, match=r"the measurement is of other, the graph of toy/four"):
        compare(make_graph(), make_measurement(model="other"), make_simulation())
    with pytest.raises(MmworkloadError, match=r"the simulation is of other"):
        compare(make_graph(), make_measurement(), make_simulation(model="other"))
    with pytest.raises(MmworkloadError, match=r"batch 40, the graph of batch 2"):
        compare(make_graph(), make_measurement(batch=40), make_simulation())


def test_json_has_null_for_gaps_and_no_value_that_json_lacks() -> None:
    validation = compare(make_graph(), make_measurement(without(MEASURED, "join")), make_simulation())

    data = json.loads(json.dumps(validation.to_dict(), allow_nan=False))
    assert data["schema_version"] == 2
    assert data["layers"][2]["measured_s"] is None
    assert data["layers"][0]["ratio"] == pytest.approx(1 / 3)
    assert "sides" not in data["layers"][0]
    assert data["straggler"]["agree"] is False
    assert data["straggler"]["simulated"]["ratio"] == 6.0
    assert data["rank_correlation"]["mac_layers"]["layers"] == 3
    assert data["not_covered"]["idle_share"] == pytest.approx(1 - 11 / 20)
    assert data["not_covered"]["unmeasured"] == ["join"]


def test_frames_have_a_row_each_and_nan_for_gaps() -> None:
    validation = compare(make_graph(), make_measurement(without(MEASURED, "join")), make_simulation())

    layers = validation.to_pandas().set_index("layer")
    assert list(layers.index) == ["image", "audio", "join", "head"]
    assert math.isnan(layers.loc["join", "measured_s"])
    assert layers.loc["audio", "ratio"] == 6.0
    assert list(validation.to_pandas("stages")["name"]) == ["encoder/image", "encoder/audio", "fusion", "head"]
    with pytest.raises(UnknownNameError, match="kind of rows"):
        validation.to_pandas("stage")
