"""The zoo as a whole: the published totals, and what must hold of every workload and variant.

Numbers are read from the graphs in ``shapes/``; that a fresh trace gives those graphs is checked for one variant of
each family and for the reproductions of the public code in ``make test``, for all in ``make test-all``.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import pytest

from mmworkload.graph import LayerGraph
from mmworkload.models import families, resolve
from mmworkload.sources import require_known
from mmworkload.tracing import Traced, trace_model
from mmworkload.tracing.snapshot import path_of

FAMILIES = (
    "across-stack", "av-mnist", "chameleon", "cmu-mosei", "codellama", "hstu", "medical-seg", "medical-vqa", "mm-imdb",
    "mujoco-push", "mustard", "seamless-m4t", "transfuser", "vision-touch",
)  # fmt: skip
VARIANTS = {f"{family}/{item.name}": item for family, known in families().items() for item in known.variants}
NAMES = list(VARIANTS)

# Parameters used and MACs at batch 1 of what the public code of MMBench (3eeb472) runs by default, and the stages where
# they are known; counted from that code on random inputs.
PUBLISHED: dict[str, tuple[int, int]] = {
    "av-mnist/concat-mmbench": (260_922, 11_993_032),
    "mm-imdb/concat-mmbench": (164_932_671, 63_854_435_328),
    "cmu-mosei/concat-mmbench": (2_712_691, 98_199_270),
    "mustard/concat-mmbench": (167_657_070, 12_790_366_498),
    "medical-vqa/concat-mmbench": (70_407_535, 46_322_885_632),
    "medical-seg/transformer-mmbench": (35_798_404, 128_133_103_616),
    "mujoco-push/late-mmbench": (1_904_986, 439_403_520),
    "vision-touch/low-rank-mmbench": (9_577_186, 89_978_560),
}
# workload: stage: (parameters, MACs).
STAGES: dict[str, dict[str, tuple[int, int]]] = {
    "av-mnist/concat-mmbench": {
        "encoder/image": (13_938, 464_928),
        "encoder/audio": (221_874, 11_503_104),
        "fusion": (0, 0),
        "head": (25_110, 25_000),
    },
}

QUICK = ["av-mnist/concat", "av-mnist/image", "vision-touch/low-rank"]
REPRODUCED = {f"{family}/{known.variants[0].name}" for family, known in families().items()} | {
    name for name, item in VARIANTS.items() if any("mmbench" in spelled for spelled in (item.name, *item.aliases))
}
TRACED = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow if name in REPRODUCED else pytest.mark.full)
    for name in NAMES
]


@cache
def traced(name: str, batch: int | None = None, dtype: str = "float32") -> Traced:
    return trace_model(resolve(name, batch=batch, dtype=dtype))


@cache
def stored(name: str) -> LayerGraph:
    """The graph of a variant (or alias) in shapes/."""
    family, _, variant = name.partition("/")
    path = path_of(f"{family}/{families()[family].variant(variant, family).name}")
    assert path is not None, f"no snapshot of {name}: python -m mmworkload.tracing.snapshot shapes/"
    return LayerGraph.load(path)


def canonical(graph: LayerGraph) -> str:
    """A key of the computation: layers with problems and bytes, and who reads whose result; no names, no stages."""
    number = {layer.name: index for index, layer in enumerate(graph)}
    rows = [
        (
            layer.op,
            [(work.problem.key, work.count, work.sequential) for work in layer.work],
            layer.vector_ops,
            [
                (number.get(graph.producers.get(tensor, ""), graph.tensors[tensor].shape), size)
                for tensor, size in layer.reads
            ],
            [size for _, size in layer.writes],
        )
        for layer in graph
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


# --- the zoo --------------------------------------------------------------------------------------------------------


def test_every_workload_and_at_least_60_variants_are_there() -> None:
    assert tuple(sorted(families())) == FAMILIES
    assert len(NAMES) >= 60


@pytest.mark.slow
def test_no_two_variants_are_one_computation() -> None:
    seen: dict[str, str] = {}
    for name in NAMES:
        first = seen.setdefault(canonical(stored(name)), name)
        assert first == name, f"{first} and {name} are one graph"


def test_a_graph_that_is_renamed_or_restaged_is_the_same_computation() -> None:
    graph = stored("av-mnist/concat")
    layers = tuple(replace(layer, stage="head", module="") for layer in graph.layers)
    assert canonical(replace(graph, layers=layers)) == canonical(graph)
    assert canonical(replace(graph, layers=layers[:-1])) != canonical(graph)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_totals_of_the_public_code_are_reproduced(name: str) -> None:
    graph = stored(name)
    assert (graph.total_params, graph.total_macs) == PUBLISHED[name]
    found = {stage: (total.params, total.macs) for stage, total in graph.stages.items()}
    assert {stage: found.get(stage) for stage in STAGES.get(name, {})} == STAGES.get(name, {})


def test_transfusers_totals_are_reproduced_within_a_ten_thousandth() -> None:
    graph = stored("transfuser/transformer-mmbench")
    assert graph.total_params == 168_018_327
    assert abs(graph.total_macs / 38.388e9 - 1) < 1e-4
    # The code cuts after the first stage of each backbone.
    encoders = [total.params for stage, total in graph.stages.items() if stage.startswith("encoder/")]
    assert 113_000 < sum(encoders) < 115_000


def test_every_workload_of_table_3_has_the_fusions_that_the_table_gives_it() -> None:
    table = {
        "av-mnist": ("concat", "tensor"), "mm-imdb": ("concat", "tensor"),
        "cmu-mosei": ("concat", "tensor", "transformer"), "mustard": ("concat", "tensor", "transformer"),
        "medical-vqa": ("transformer",), "medical-seg": ("transformer",),
        "mujoco-push": ("concat", "tensor", "transformer"), "vision-touch": ("concat", "tensor"),
        "transfuser": ("transformer",),
    }  # fmt: skip
    assert [
        f"{family}/{item}" for family, items in table.items() for item in items if f"{family}/{item}" not in NAMES
    ] == []


# --- every variant --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_operator_is_unknown_and_every_modality_has_its_encoder(name: str) -> None:
    graph = stored(name)
    assert require_known(graph) is graph
    declared = {item.modality for item in graph.inputs if item.role == "modality"}
    stages = set(graph.stages)
    encoders = {stage.removeprefix("encoder/") for stage in stages if stage.startswith("encoder/")}
    assert encoders <= declared
    assert stages <= {*(f"encoder/{item}" for item in encoders), "fusion", "head"}
    if len(declared) > 1:
        assert "fusion" in stages


@pytest.mark.parametrize("name", TRACED)
def test_a_fresh_trace_is_the_graph_in_shapes(name: str) -> None:
    fresh, snapshot = traced(name).graph, stored(name)
    assert fresh.stages == snapshot.stages
    assert set(fresh.problems) == set(snapshot.problems)
    kept = ("torch", "transformers")
    if all(fresh.versions.get(key) == snapshot.versions.get(key) for key in kept):
        # On other versions operators may be split differently; totals and problems must not change.
        for one, other in zip(fresh.layers, snapshot.layers, strict=True):
            assert one == other
        bare = {"versions": {}, "coverage": ()}
        assert replace(fresh, **bare) == replace(snapshot, **bare)


# MACs that all samples share: 24 layers project 2 x 500 - 1 relative positions of 1024 features once.
SHARED = {"seamless-m4t/v1-speech-encoder": 24 * 999 * 1024 * 1024}


@pytest.mark.parametrize("name", TRACED)
def test_the_batch_scales_macs_exactly_and_leaves_parameters(name: str) -> None:
    one, three = traced(name).graph, traced(name, 3).graph
    shared = SHARED.get(name, 0)
    assert (one.batch, three.batch) == (1, 3)
    assert (three.total_macs, three.total_params) == (3 * one.total_macs - 2 * shared, one.total_params)
    for stage, total in one.stages.items():
        assert three.stages[stage].macs == 3 * total.macs - 2 * shared
        assert three.stages[stage].weight_bytes == total.weight_bytes


@pytest.mark.parametrize("name", QUICK)
def test_another_type_changes_bits_and_nothing_else(name: str) -> None:
    full, half = traced(name).graph, traced(name, None, "bfloat16").graph
    assert (half.dtype, half.total_macs, half.total_params) == ("bfloat16", full.total_macs, full.total_params)
    assert half.totals().weight_bytes * 2 == full.totals().weight_bytes
    assert {item.bits for problem in half.problems.values() for item in problem.operands} == {16}
    assert {item.bits for problem in full.problems.values() for item in problem.operands} == {32}


@pytest.mark.parametrize("name", ["av-mnist/concat", "mujoco-push/late", "vision-touch/low-rank"])
def test_both_routes_give_one_graph(name: str) -> None:
    recorded, exported = trace_model(resolve(name), "recorder").graph, traced(name).graph
    assert (recorded.route, exported.route) == ("recorder", "export")
    assert recorded.layers == exported.layers
    assert recorded.tensors == exported.tensors


def test_every_family_names_its_data_set_and_every_variant_its_source() -> None:
    for family in families().values():
        assert family.description
        assert family.dataset
        assert family.dataset_url.startswith(("https://", "http://"))
        assert all(variant.source for variant in family.variants)
        spelled = [name for variant in family.variants for name in (variant.name, *variant.aliases)]
        assert len(set(spelled)) == len(spelled)


def test_the_figures_of_the_cal_paper_are_put_beside_ours() -> None:
    stages = stored("mujoco-push/transformer").stages
    encoders = [total for stage, total in stages.items() if stage.startswith("encoder/")]
    # Facts: 13,998,082 parameters of the fusion, 584,024 of the encoders.
    assert (stages["fusion"].params, sum(item.params for item in encoders)) == (13_998_082, 584_024)
    params, time = VARIANTS["mujoco-push/transformer"].figures
    assert (params.published, time.published) == (15, 2.17)
    assert params.ours(stages) == pytest.approx(23.97, abs=0.005)
    assert time.ours(stages) == stages["fusion"].macs / sum(item.macs for item in encoders)
    assert "15 times in the CAL paper" in params.beside(stages)
    assert "23.97 here" in params.beside(stages)
    assert params.ours({}) is None
