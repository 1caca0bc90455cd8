"""What the AccelForge exporter writes: Einsums that count our MACs and elements, an architecture with its own energies,
and a cascade whose shared names are the graph's edges."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, SimulationError
from mmworkload.exporters.accelforge import EXPORTER
from mmworkload.exporters.accelforge.cascade import Cascade, cascade
from mmworkload.exporters.accelforge.einsum import Einsum, translate
from mmworkload.exporters.accelforge.inexpressible import (
    DIAGONAL,
    FAMILIES,
    HOST,
    IDLE,
    MOVEMENT,
    OPERANDS,
    OPERATION,
    TOO_WIDE,
    VECTOR,
)
from mmworkload.exporters.accelforge.machine import arch_text, fidelity
from mmworkload.exporters.telling import InexpressibleError
from mmworkload.exporting import Export, write_export
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Tensor, TensorKind, Work
from mmworkload.problem import Axis, Mask, Operand, Problem, axis, gemm

EYERISS = architectures.load("eyeriss_like")
SIMPLE = architectures.load("simple_weight_stationary")
ACCELERATORS = [name for name in architectures.names() if architectures.load(name).kind == "accelerator"]
VERSIONS = {"mmworkload": "0.1.0", "torch": "2.15.0"}
SHAPES = Path(__file__).parents[2] / "shapes"
BITS = (16, 16, 16)

# Problem, MACs, and the elements of I, W and O that AccelForge sees: padding counts, what a stride skips does not.
PROBLEMS: dict[str, tuple[str, int, tuple[int, int, int]]] = {
    "conv1d, stride 2": (
        "mac M=8 C=4 Q=50 S=5 | Inputs input 32 [C:4, 2Q+S:100~2,1] | Weights weight 32 [M:8, C:4, S:5] | "
        "Outputs output 32 [M:8, Q:50]",
        8000,
        (4 * 103, 160, 400),
    ),
    "conv2d, 7 x 7, stride 2": (
        "mac M=64 C=3 P=112 Q=112 R=7 S=7 | Inputs input 32 [C:3, 2P+R:224~3,3, 2Q+S:224~3,3] | "
        "Weights weight 32 [M:64, C:3, R:7, S:7] | Outputs output 32 [M:64, P:112, Q:112]",
        118013952,
        (3 * 229 * 229, 9408, 802816),
    ),
    "conv2d, kernel 1 x 7, stride (1, 2)": (
        "mac M=8 C=5 P=20 Q=10 S=7 | Inputs input 32 [C:5, P:20, 2Q+S:20~3,3] | Weights weight 32 [M:8, C:5, S:7] | "
        "Outputs output 32 [M:8, P:20, Q:10]",
        56000,
        (5 * 20 * 25, 280, 1600),
    ),
    "conv2d, dilation 2": (
        "mac M=64 C=32 P=28 Q=28 R=3 S=3 | Inputs input 32 [C:32, P+2R:28~2,2, Q+2S:28~2,2] | "
        "Weights weight 32 [M:64, C:32, R:3, S:3] | Outputs output 32 [M:64, P:28, Q:28]",
        14450688,
        (32 * 32 * 32, 18432, 50176),
    ),
    # One row in two is read.
    "conv2d, 1 x 1, stride 2": (
        "mac M=64 C=32 P=28 Q=28 | Inputs input 32 [C:32, 2P:56, 2Q:56] | Weights weight 32 [M:64, C:32] | "
        "Outputs output 32 [M:64, P:28, Q:28]",
        1605632,
        (25088, 2048, 50176),
    ),
    # Two rows in three are read.
    "conv2d, 2 x 2, stride 3": (
        "mac M=4 C=2 P=5 Q=5 R=2 S=2 | Inputs input 32 [C:2, 3P+R:15, 3Q+S:15] | Weights weight 32 [M:4, C:2, R:2, S:2]"
        " | Outputs output 32 [M:4, P:5, Q:5]",
        800,
        (200, 32, 100),
    ),
    "conv3d": (
        "mac M=8 C=4 O=6 P=14 Q=14 T=3 R=3 S=3 | Inputs input 32 [C:4, 2O+T:12~1,1, P+R:14~1,1, Q+S:14~1,1] | "
        "Weights weight 32 [M:8, C:4, T:3, R:3, S:3] | Outputs output 32 [M:8, O:6, P:14, Q:14]",
        1016064,
        (4 * 13 * 16 * 16, 864, 9408),
    ),
    "depthwise": (
        "mac G=96 P=56 Q=56 R=3 S=3 | Inputs input 8 [G:96, P+R:56~1,1, Q+S:56~1,1] | "
        "Weights weight 8 [G:96, R:3, S:3] | Outputs output 8 [G:96, P:56, Q:56]",
        2709504,
        (96 * 58 * 58, 864, 301056),
    ),
    "grouped": (
        "mac G=32 M=4 C=4 P=56 Q=56 R=3 S=3 | Inputs input 8 [G:32, C:4, P+R:56~1,1, Q+S:56~1,1] | "
        "Weights weight 8 [G:32, M:4, C:4, R:3, S:3] | Outputs output 8 [G:32, M:4, P:56, Q:56]",
        14450688,
        (32 * 4 * 58 * 58, 4608, 401408),
    ),
    # 30 x 30 sums, of which 28 x 28 are kept.
    "transposed conv2d": (
        "mac M=32 C=64 P=14 Q=14 R=4 S=4 | Inputs input 32 [C:64, P:14, Q:14] | "
        "Weights weight 32 [C:64, M:32, R:4, S:4] | Outputs output 32 [M:32, 2P+R:28~1,1, 2Q+S:28~1,1]",
        6422528,
        (12544, 32768, 32 * 30 * 30),
    ),
    "linear": (str(gemm(197, 3072, 768)), 464781312, (151296, 2359296, 605184)),
    "attention": (str(gemm(197, 197, 64, groups=12, second_role="input")), 29805312, (151296, 151296, 465708)),
    "recurrent step, one row": (str(gemm(1, 1024, 256)), 262144, (256, 262144, 1024)),
    "outer product": (str(gemm(24, 36, 1, operation="mul")), 864, (24, 36, 864)),
    "one MAC": (str(gemm(1, 1, 1)), 1, (1, 1, 1)),
    "einsum with letters of its own": (
        "mac B=4 H=6 M=12 N=20 C=16 | Inputs input 32 [B:4, H:6, N:20, C:16] | Weights weight 32 [H:6, C:16, M:12] | "
        "Outputs output 32 [B:4, H:6, N:20, M:12]",
        92160,
        (7680, 1152, 5760),
    ),
    # ii,ij->j reads the diagonal of the first tensor.
    "a diagonal": (
        "mac C=12 M=20 | Inputs input 32 [C:12, C:12] | Weights weight 32 [C:12, M:20] | Outputs output 32 [M:20]",
        240,
        (12, 240, 20),
    ),
}


def tensors(*items: tuple[str, tuple[int, ...], TensorKind]) -> dict[str, Tensor]:
    return {name: Tensor(name, shape, "float32", 32, kind, name) for name, shape, kind in items}


def layer(name: str, *problems: Problem, **values: Any) -> Layer:
    values = {"op": "linear", "stage": "head"} | values
    return Layer(name, work=tuple(Work(problem) for problem in problems), **values)


def graph(*layers: Layer, table: dict[str, Tensor] | None = None, **values: Any) -> LayerGraph:
    return LayerGraph("hand/made", "made", 1, "float32", layers, table or {}, **values)


def all_kinds() -> LayerGraph:
    return graph(*(layer(name, Problem.parse(text)) for name, (text, _, _) in PROBLEMS.items()))


def export(source: LayerGraph | Workload, folder: Path, arch: Architecture = EYERISS) -> Export:
    return EXPORTER.export(Workload.of(source), arch, folder, VERSIONS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Tagged(yaml.SafeLoader):
    """Reads AccelForge's tags as an entry of the mapping."""


def _tagged(loader: Tagged, suffix: str, node: yaml.MappingNode) -> dict[Any, Any]:
    return {"kind": suffix, **loader.construct_mapping(node, deep=True)}


Tagged.add_multi_constructor("!", _tagged)


def components(arch: Architecture) -> dict[str, dict[str, Any]]:
    nodes = yaml.load(arch_text(arch), Tagged)["arch"]["nodes"]
    return {node["name"]: node for node in nodes}


def action(component: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [item for item in component["actions"] if item["name"] == name]
    assert isinstance(found, dict)
    return found


# --- Einsums ----------------------------------------------------------------------------------------------------------


def sizes(einsum: Einsum) -> dict[str, int]:
    return {access.tensor: einsum.size(access) for access in einsum.accesses}


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_einsum_counts_the_macs_and_the_elements(name: str) -> None:
    text, macs, (inputs, weights, outputs) = PROBLEMS[name]

    einsum = translate(Problem.parse(text).with_bits(EYERISS.bits).canonical(), EYERISS, "e")

    assert einsum.computes == macs
    assert sizes(einsum) == {"I": inputs, "W": weights, "O": outputs}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_sizes_are_those_of_counting_every_index(name: str) -> None:
    einsum = translate(Problem.parse(PROBLEMS[name][0]).with_bits(EYERISS.bits).canonical(), EYERISS, "e")
    for access in einsum.accesses:
        # Each rank by brute force; ranks are independent, since no variable is in two of one tensor.
        counted = 1
        for _, terms in access.ranks:
            ranges = [range(einsum.extents[variable]) for variable, _ in terms]
            counted *= len(
                {sum(by * at for (_, by), at in zip(terms, point, strict=True)) for point in itertools.product(*ranges)}
            )
        variables = [variable for _, terms in access.ranks for variable, _ in terms]

        assert len(variables) == len(set(variables))
        assert einsum.size(access) == counted


def test_a_strided_convolution_is_written_as_accelforge_reads_it() -> None:
    problem = Problem.parse(
        "mac N=2 M=8 C=4 P=10 Q=10 R=3 S=3 | Inputs input 32 [N:2, C:4, 2P+R:20~1,0, 2Q+S:20~1,0] | "
        "Weights weight 32 [M:8, C:4, R:3, S:3] | Outputs output 32 [N:2, M:8, P:10, Q:10]"
    )

    found = translate(problem.with_bits(EYERISS.bits).canonical(), EYERISS, "e").to_dict(EYERISS.array)

    assert found["tensor_accesses"] == [
        {"name": "I", "projection": {"N": "n", "C": "c", "P_R": "2*p + r", "Q_S": "2*q + s"}, "bits_per_value": 16},
        {"name": "W", "projection": {"M": "m", "C": "c", "R": "r", "S": "s"}, "bits_per_value": 16},
        {"name": "O", "projection": {"N": "n", "M": "m", "P": "p", "Q": "q"}, "output": True, "bits_per_value": 16},
    ]
    assert found["iteration_space_shape"] == [
        f"0 <= {name} < {extent}"
        for name, extent in (("n", 2), ("m", 8), ("c", 4), ("p", 10), ("q", 10), ("r", 3), ("s", 3))
    ]
    # Eyeriss unrolls Q P M N G across and S R C M G down.
    assert found["renames"] == {
        "input": "I",
        "weight": "W",
        "output": "O",
        "fixed_x": "c | r | s",
        "fixed_y": "n | p | q",
    }


def test_loops_that_no_tensor_tells_apart_are_one_where_the_array_treats_them_alike() -> None:
    pointwise = Problem.parse(PROBLEMS["conv2d, 1 x 1, stride 2"][0]).with_bits(EYERISS.bits).canonical()

    on_eyeriss = translate(pointwise, EYERISS, "e")
    apart = EYERISS.model_copy(update={"array": EYERISS.array.model_copy(update={"x_dims": ("P", "M")})})
    on_other = translate(pointwise, apart, "e")

    assert on_eyeriss.extents == {"m": 64, "c": 32, "p_q": 784}
    assert on_other.extents == {"m": 64, "c": 32, "p": 28, "q": 28}


def test_no_loop_is_unrolled_where_the_array_does_not_allow_it_and_every_other_may_be() -> None:
    linear = translate(gemm(24, 36, 48, bits=BITS).canonical(), SIMPLE, "e").to_dict(SIMPLE.array)
    outer = translate(gemm(24, 36, 1, bits=BITS).canonical(), EYERISS, "e").to_dict(EYERISS.array)

    assert (linear["renames"]["fixed_x"], linear["renames"]["fixed_y"]) == ("n | c", "n | m")
    # Both loops may run across; nothing is fixed.
    assert outer["renames"]["fixed_x"] == "Nothing.rank_variables"


def test_the_second_of_two_activations_takes_the_way_of_the_weights() -> None:
    einsum = translate(gemm(8, 9, 10, bits=BITS, second_role="input").canonical(), SIMPLE, "e")

    assert {access.path: access.tensor for access in einsum.accesses} == {"input": "I", "weight": "W", "output": "O"}
    assert sizes(einsum) == {"I": 80, "W": 90, "O": 72}


# --- what cannot be told ----------------------------------------------------------------------------------------------

WINDOW_OF_A_DIAGONAL = Problem(
    (("C", 4), ("R", 3), ("M", 5)),
    (
        Operand("Inputs", "input", 16, (axis("C", 4), Axis((("C", 1), ("R", 1)), 6))),
        Operand("Weights", "weight", 16, (axis("R", 3), axis("M", 5))),
        Operand("Outputs", "output", 16, (axis("M", 5),)),
    ),
)


@pytest.mark.parametrize(
    ("problem", "family"),
    [
        (gemm(4, 5, 6, bits=BITS, operation="max"), OPERATION),
        (Problem.parse("mac M=4 | Inputs input 16 [M:4] | Outputs output 16 [M:4]"), OPERANDS),
        (WINDOW_OF_A_DIAGONAL, DIAGONAL),
        (
            Problem.parse(
                "mac M=4 C=5 N=3 | Inputs input 16 [C:5] | Weights weight 16 [M:4, C:5] | Outputs output 16 [M:4]"
            ),
            IDLE,
        ),
        (gemm(4, 5, 6, bits=(16, 999999, 16)), TOO_WIDE),
    ],
    ids=lambda item: item.reason if hasattr(item, "reason") else "",
)
def test_a_problem_that_cannot_be_told_names_its_family(problem: Problem, family: object) -> None:
    with pytest.raises(InexpressibleError) as caught:
        translate(problem.canonical(), EYERISS, "e")

    assert caught.value.family is family
    assert isinstance(caught.value, SimulationError)


def test_every_family_has_a_reason_and_a_source() -> None:
    assert all(family.operators and family.reason and family.source for family in FAMILIES)
    assert len({family.reason for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("name", ["mac", "input", "All", "lambda", "m", "n_p", "m_3", "T0", "glb-1"])
def test_a_level_with_a_name_that_means_something_else_is_refused(name: str, tmp_path: Path) -> None:
    levels = {("glb2" if key == "glb" else key): value for key, value in EYERISS.levels.items()}
    arch = EYERISS.model_copy(
        update={
            "levels": {(name if key == "glb2" else key): value for key, value in levels.items()},
            "array": EYERISS.array.model_copy(update={"inside": name}),
        }
    )

    assert fidelity(arch).level == "refused"
    assert name in str(fidelity(arch))
    with pytest.raises(ArchitectureError, match="level names"):
        export(graph(layer("a", gemm(2, 3, 4))), tmp_path, arch)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_the_built_in_architectures_are_told_exactly(name: str) -> None:
    assert str(fidelity(architectures.load(name))) == "exact"


# --- the architecture -------------------------------------------------------------------------------------------------


def test_the_architecture_has_its_own_energies_and_the_bandwidths_of_its_words() -> None:
    found = components(EYERISS)

    assert list(found) == ["dram", "glb", "PE", "ispad", "wspad", "ospad", "mac"]
    assert [found[name]["kind"] for name in ("dram", "PE", "mac")] == ["Memory", "Container", "Compute"]
    # 512 pJ for 64 bits; 4 words of 16 bits a cycle are one access.
    assert action(found["dram"], "read") == {
        "name": "read",
        "bits_per_action": 64,
        "energy": 5.12e-10,
        "throughput": 200_000_000,
    }
    # 16 words of 16 bits a cycle are 4 accesses of 64 bits.
    assert action(found["glb"], "write") == {
        "name": "write",
        "bits_per_action": 64,
        "energy": pytest.approx(36.848e-12),
        "throughput": 800_000_000,
    }
    assert found["dram"]["size"] == "inf"
    assert found["glb"]["size"] == 108 * 1024 * 8
    assert found["wspad"]["size"] == 224 * 16
    assert found["glb"]["leak_power"] == pytest.approx(0.01559e-12 * 200e6)
    assert action(found["wspad"], "read")["throughput"] == "inf"
    assert action(found["mac"], "compute")["energy"] == pytest.approx(2.20035e-12)
    assert action(found["mac"], "compute")["throughput"] == 200_000_000


def test_a_wider_word_holds_one_native_number() -> None:
    # 17 KiB of 34-bit sums hold 4096; each is a number of 8 bits for the mapper, and 32 of them pass in a cycle.
    found = components(architectures.load("nvdla_like"))["cacc"]

    assert found["size"] == 4096 * 8
    assert action(found, "read")["bits_per_action"] == 32 * 8
    assert action(found, "read")["throughput"] == 1_000_000_000


def test_levels_keep_the_roles_they_hold_and_only_intermediates_may_stay_on_the_chip() -> None:
    found = components(EYERISS)

    assert found["dram"]["tensors"] == {"keep": "~Intermediates", "may_keep": "All"}
    assert found["glb"]["tensors"] == {"keep": "input | output"}
    assert found["wspad"]["tensors"] == {"keep": "weight"}


def test_the_array_unrolls_what_an_einsum_does_not_fix() -> None:
    assert components(EYERISS)["PE"]["spatial"] == [
        {"name": "X", "fanout": 14, "loop_bounds": [{"expression": "fixed_x", "operator": "==", "value": 1}]},
        {"name": "Y", "fanout": 12, "loop_bounds": [{"expression": "fixed_y", "operator": "==", "value": 1}]},
    ]


@pytest.mark.parametrize("name", ACCELERATORS)
def test_no_number_of_an_architecture_is_read_as_text(name: str) -> None:
    for component in components(architectures.load(name)).values():
        for item in component.get("actions", []):
            assert isinstance(item["energy"], int | float)
            assert item["throughput"] == "inf" or isinstance(item["throughput"], int | float)
        if component["kind"] == "Memory":
            assert isinstance(component["leak_power"], int | float)
            assert isinstance(component["area"], int | float)


# --- the files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    folder = tmp_path_factory.mktemp("kinds")
    return folder, export(all_kinds(), folder)


def test_every_kind_of_problem_has_a_file(kinds: tuple[Path, Export]) -> None:
    folder, result = kinds

    assert result.excluded_macs == 0
    assert [row.macs for row in result.rows] == [macs for _, macs, _ in PROBLEMS.values()]
    assert all((folder / row.problem_file).is_file() for row in result.rows)
    assert result.problem_files == len(PROBLEMS)
    assert result.fidelity == "exact"
    assert result.run_command == "python run.py"
    assert sorted(contents(folder)) == list(result.files)


def test_expected_says_what_a_right_answer_reports(kinds: tuple[Path, Export]) -> None:
    folder, result = kinds
    expected = json.loads((folder / "expected.json").read_text())
    for row, (_, macs, (inputs, weights, outputs)) in zip(result.rows, PROBLEMS.values(), strict=True):
        name = Path(row.problem_file).stem
        (einsum,) = yaml.safe_load((folder / row.problem_file).read_text())["workload"]["einsums"]
        assert expected["problems"][name]["computes"] == {einsum["name"]: macs}
        assert expected["problems"][name]["bits"] == {"I": inputs * 16, "W": weights * 16, "O": outputs * 16}
    assert expected["machine"] == {"clock_mhz": 200, "elements": 168}
    assert sum(expected["cascades"]["cascade"]["computes"].values()) == sum(macs for _, macs, _ in PROBLEMS.values())


def test_a_problem_file_is_a_workload_of_one_einsum_with_its_mapper_settings(kinds: tuple[Path, Export]) -> None:
    folder, result = kinds
    by_layer = {row.layer: row for row in result.rows}
    found = {
        name: yaml.safe_load((folder / by_layer[name].problem_file).read_text()) for name in ("depthwise", "linear")
    }

    (einsum,) = found["depthwise"]["workload"]["einsums"]
    # AccelForge takes identifiers; the file's name has a number first, and the first digits of the same key last.
    assert re.fullmatch(r"conv2d_[0-9a-f]{16}", einsum["name"])
    assert Path(by_layer["depthwise"].problem_file).stem.rpartition("_")[2] == einsum["name"][7:15]
    assert einsum["tensor_accesses"][0]["projection"] == {"G": "g", "P_R": "p + r", "Q_S": "q + s"}
    assert einsum["tensor_accesses"][2]["output"] is True
    # Tiles are left out where windows make them many.
    assert found["depthwise"]["mapper"]["tiling_coarseness"] == 2
    assert found["linear"]["mapper"] == {
        "explore_loop_orders": False,
        "explore_imperfect_spatial_loops": True,
        "tiling_coarseness": 1,
    }


def test_a_second_export_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_export("accelforge", all_kinds(), EYERISS, tmp_path / name, VERSIONS)

    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_masks_and_widths_do_not_make_another_problem(tmp_path: Path) -> None:
    plain = gemm(16, 16, 8, groups=2, second_role="input")
    result = export(
        graph(
            layer("a", plain),
            layer("b", replace(plain, mask=Mask("causal", 16, 16))),
            layer("c", gemm(16, 16, 8, groups=2, second_role="input", bits=(8, 8, 8))),
        ),
        tmp_path,
    )

    assert result.problem_files == 1


def test_what_is_left_out_is_in_the_manifest_with_its_reason(tmp_path: Path) -> None:
    table = tensors(("x", (25,), "input"))
    reads = (("x", 100),)
    result = export(
        graph(
            layer("relu", op="relu", category="Relu", vector_ops=25, reads=reads),
            layer("cat", op="cat", category="Movement", reads=reads),
            layer("max", gemm(4, 5, 6, operation="max"), op="einsum", reads=reads),
            layer("resize", gemm(4, 5, 6), op="linear", placement="host", reads=reads),
            layer("linear", gemm(4, 5, 6), reads=reads),
            table=table,
        ),
        tmp_path,
    )

    reasons = {row.layer: row.excluded for row in result.rows}
    assert reasons["relu"] == VECTOR.reason
    assert reasons["cat"] == MOVEMENT.reason
    assert reasons["max"].startswith(OPERATION.reason)
    assert reasons["resize"] == HOST.reason
    assert reasons["linear"] == ""
    assert (result.excluded_macs, result.excluded_bytes) == (240, 400)
    einsums = yaml.safe_load((tmp_path / "cascade.yaml").read_text())["workload"]["einsums"]
    assert len(einsums) == 1


def test_the_notes_name_the_release_and_the_licences(kinds: tuple[Path, Export]) -> None:
    text = (kinds[0] / "NOTES.md").read_text()

    assert all(words in text for words in ("1.0.466", "GPLv2", "CC BY-NC 4.0", "MIT", "graphviz"))


@pytest.mark.parametrize(
    "name",
    [
        "av-mnist/concat",
        "cmu-mosei/concat",
        "medical-seg/transformer",
        "medical-vqa/transformer",
        "mm-imdb/concat",
        "mujoco-push/late",
        "mustard/concat",
        "transfuser/transformer",
        "vision-touch/low-rank",
    ],
)
def test_every_mac_of_a_workload_is_expressed(name: str, tmp_path: Path) -> None:
    source = LayerGraph.load(SHAPES / f"{name}.yaml")

    result = export(source, tmp_path)

    assert result.excluded_macs == 0
    assert sum(row.macs * row.count for row in result.rows) == source.total_macs + source.outer_macs
    expected = json.loads((tmp_path / "expected.json").read_text())["cascades"]["cascade"]
    assert (
        sum(computes * expected["instances"].get(einsum, 1) for einsum, computes in expected["computes"].items())
        == source.total_macs + source.outer_macs
    )


def test_each_graph_of_a_workload_has_its_cascade(tmp_path: Path) -> None:
    workload = Workload(
        "two", (Part(graph(layer("a", gemm(2, 3, 4))), "prefill"), Part(graph(layer("a", gemm(1, 3, 4))), "decode", 8))
    )

    result = export(workload, tmp_path)

    assert {"cascade-1.yaml", "cascade-2.yaml"} <= set(result.files)
    assert "decode, run 8 times" in (tmp_path / "cascade-2.yaml").read_text()
    assert [row["cascade"] for row in csv.DictReader((tmp_path / "edges.csv").read_text().splitlines())] == []


# --- the cascade ------------------------------------------------------------------------------------------------------


def linear(name: str, x: str, out: str, rows: int, columns: int, reduction: int, **values: Any) -> Layer:
    """Reads ``x`` and the weight ``name.w``, writes ``out``."""
    return layer(
        name,
        gemm(rows, columns, reduction),
        reads=((x, rows * reduction * 4), (f"{name}.w", columns * reduction * 4)),
        writes=((out, rows * columns * 4),),
        **values,
    )


def passing(name: str, x: str, out: str, size: int, **values: Any) -> Layer:
    """An elementwise layer."""
    values = {"op": "relu", "category": "Relu", "vector_ops": size} | values
    return layer(name, reads=((x, size * 4),), writes=((out, size * 4),), **values)


def table_of(
    *shapes: tuple[str, tuple[int, ...]], weights: tuple[tuple[str, tuple[int, ...]], ...]
) -> dict[str, Tensor]:
    first, *rest = shapes
    return tensors(
        (*first, "input"),
        *((name, shape, "activation") for name, shape in rest),
        *((name, shape, "weight") for name, shape in weights),
    )


CHAIN_WEIGHTS = (("a.w", (32, 16)), ("b.w", (24, 32)), ("c.w", (24, 32)))
CHAIN = table_of(("x", (8, 16)), ("h", (8, 32)), ("r", (8, 32)), ("y", (8, 24)), ("z", (8, 24)), weights=CHAIN_WEIGHTS)


def edges(found: Cascade) -> list[tuple[str, str, str]]:
    return [(edge.producer, edge.consumer, edge.reason) for edge in found.edges]


def names(found: Cascade) -> list[dict[str, str]]:
    return [{access.path: access.tensor for access in einsum.accesses} for einsum in found.einsums]


def test_an_elementwise_layer_lies_on_an_edge_without_breaking_it() -> None:
    found = cascade(
        graph(
            linear("a", "x", "h", 8, 32, 16),
            passing("relu", "h", "r", 256),
            linear("b", "r", "y", 8, 24, 32),
            table=CHAIN,
        ),
        SIMPLE,
    )

    assert edges(found) == [("a", "b", "")]
    assert names(found) == [
        {"input": "I0", "weight": "W0", "output": "T0"},
        {"input": "T0", "weight": "W1", "output": "O1"},
    ]
    written = next(access for access in found.einsums[0].accesses if access.path == "output")
    read = next(access for access in found.einsums[1].accesses if access.path == "input")
    # The columns of the first are what the second sums over.
    assert written.expressions() == {"T0_0": "n_0", "T0_1": "m_0"}
    assert read.expressions() == {"T0_0": "n_1", "T0_1": "c_1"}


def test_variables_and_ranks_are_unique_but_for_those_of_an_edge() -> None:
    found = cascade(LayerGraph.load(SHAPES / "mm-imdb" / "concat.yaml"), EYERISS)
    variables = [name for einsum in found.einsums for name in einsum.extents]
    tensor_of: dict[str, set[str]] = {}
    for einsum in found.einsums:
        for access in einsum.accesses:
            for rank, _ in access.ranks:
                tensor_of.setdefault(rank, set()).add(access.tensor)

    assert len(variables) == len(set(variables))
    assert all(len(users) == 1 for users in tensor_of.values())
    # Only what one writes and another reads is in two Einsums.
    used = Counter(access.tensor for einsum in found.einsums for access in einsum.accesses)
    assert {name[0] for name, count in used.items() if count > 1} == {"T"}


def test_all_readers_of_a_tensor_share_it() -> None:
    found = cascade(
        graph(
            linear("a", "x", "h", 8, 32, 16),
            linear("b", "h", "y", 8, 24, 32),
            linear("c", "h", "z", 8, 24, 32),
            table=CHAIN,
        ),
        SIMPLE,
    )

    assert edges(found) == [("a", "b", ""), ("a", "c", "")]
    assert [item["input"] for item in names(found)] == ["I0", "T0", "T0"]


def test_a_reader_that_cannot_be_linked_unlinks_the_others() -> None:
    table = {**CHAIN, **tensors(("z", (4, 24), "activation"))}
    found = cascade(
        # The last one reads 8 x 32 as 4 x 64.
        graph(
            linear("a", "x", "h", 8, 32, 16),
            linear("b", "h", "y", 8, 24, 32),
            layer("c", gemm(4, 24, 64), reads=(("h", 1024),), writes=(("z", 384),)),
            table=table,
        ),
        SIMPLE,
    )

    assert edges(found) == [
        ("a", "b", "'c' reads it too and is not linked"),
        ("a", "c", "it is written as 8 x 32 and read as 4 x 64: a view lies between"),
    ]
    assert not any(access.tensor.startswith("T") for einsum in found.einsums for access in einsum.accesses)


@pytest.mark.parametrize(
    ("middle", "outputs", "reason"),
    [
        (
            (passing("pool", "h", "r", 256, op="max_pool2d", category="Pooling"),),
            (),
            "'pool' (max_pool2d) lies between",
        ),
        ((passing("norm", "h", "r", 256, op="layer_norm", category="BNorm"),), (), "'norm' (layer_norm) lies between"),
        ((passing("relu", "h", "r", 256),), ("h",), "the model returns it"),
        (
            (passing("relu", "h", "r", 256), passing("sum", "h", "z", 256, op="sum", category="Reduce")),
            (),
            "'sum' needs it",
        ),
        # Two versions of one tensor are two tensors.
        ((passing("relu", "h", "r", 256), linear("c", "h", "z", 8, 24, 32)), (), "'c' needs it too"),
        ((layer("half", op="slice", reads=(("h", 512),), writes=(("r", 1024),)),), (), "'half' (slice) lies between"),
    ],
)
def test_what_breaks_an_edge_is_said(middle: tuple[Layer, ...], outputs: tuple[str, ...], reason: str) -> None:
    found = cascade(
        graph(
            linear("a", "x", "h", 8, 32, 16), *middle, linear("b", "r", "y", 8, 24, 32), table=CHAIN, outputs=outputs
        ),
        SIMPLE,
    )
    (edge,) = [edge for edge in found.edges if edge.consumer == "b"]

    assert edge.reason.startswith(reason)
    assert names(found)[-1]["input"].startswith("I")


def test_an_edge_of_a_batch_normalization_and_one_of_a_part() -> None:
    normalized = graph(
        linear("a", "x", "h", 8, 32, 16),
        passing("norm", "h", "r", 256, op="batch_norm", category="BNorm"),
        linear("b", "r", "y", 8, 24, 32),
        table=CHAIN,
    )
    part = graph(
        linear("a", "x", "h", 8, 32, 16),
        layer("b", gemm(8, 24, 32), reads=(("h", 512), ("b.w", 3072)), writes=(("y", 768),)),
        table=CHAIN,
    )

    assert edges(cascade(normalized, SIMPLE)) == [("a", "b", "")]
    assert edges(cascade(part, SIMPLE)) == [("a", "b", "only 512 of its 1024 bytes are read")]


def test_a_transpose_is_followed_where_sizes_tell_and_refused_where_they_do_not() -> None:
    def mixer(columns: int) -> LayerGraph:
        # Rows of the first are what the second sums over.
        table = table_of(("x", (8, 16)), ("h", (8, columns)), ("y", (columns, 24)), weights=(("a.w", (columns, 16)),))
        second = layer("b", gemm(columns, 24, 8), reads=(("h", 8 * columns * 4),), writes=(("y", columns * 24 * 4),))
        return graph(linear("a", "x", "h", 8, columns, 16), second, table=table)

    told, square = cascade(mixer(32), SIMPLE), cascade(mixer(8), SIMPLE)

    assert edges(told) == [("a", "b", "")]
    read = next(access for access in told.einsums[1].accesses if access.path == "input")
    assert read.expressions() == {"T0_0": "c_1", "T0_1": "n_1"}
    assert edges(square) == [("a", "b", "axes of one size (8) cannot be told apart")]


def conv(name: str, x: str, out: str, channels: int, columns: int, batch: int = 1, stride: int = 1) -> Layer:
    """3 x 3 with padding 1 over 8 x 8."""
    side = 8 // stride
    by = "" if stride == 1 else str(stride)
    high = 1 if stride == 1 else 0
    problem = Problem.parse(
        f"mac N={batch} M={columns} C={channels} P={side} Q={side} R=3 S=3 | "
        f"Inputs input 32 [N:{batch}, C:{channels}, {by}P+R:8~1,{high}, {by}Q+S:8~1,{high}] | "
        f"Weights weight 32 [M:{columns}, C:{channels}, R:3, S:3] | "
        f"Outputs output 32 [N:{batch}, M:{columns}, P:{side}, Q:{side}]"
    )
    return layer(
        name,
        problem,
        op="conv2d",
        reads=((x, batch * channels * 64 * 4),),
        writes=((out, batch * columns * side * side * 4),),
    )


@pytest.mark.parametrize("batch", [1, 4])
def test_convolutions_are_linked_height_to_height(batch: int) -> None:
    # With a batch of 4 there are four axes of two sizes.
    table = table_of(("x", (batch, 2, 8, 8)), ("h", (batch, 4, 8, 8)), ("y", (batch, 6, 4, 4)), weights=())
    found = cascade(graph(conv("a", "x", "h", 2, 4, batch), conv("b", "h", "y", 4, 6, batch, 2), table=table), EYERISS)

    assert edges(found) == [("a", "b", "")]
    written = next(access for access in found.einsums[0].accesses if access.path == "output").expressions()
    read = next(access for access in found.einsums[1].accesses if access.path == "input").expressions()
    pairs = {written[rank]: read[rank] for rank in written}
    assert pairs == {"m_0": "c_1", "p_0": "2*p_1 + r_1", "q_0": "2*q_1 + s_1"} | ({"n_0": "n_1"} if batch > 1 else {})


def test_the_scores_of_attention_stay_inside_the_layer() -> None:
    table = tensors(
        ("x", (16, 32), "input"),
        *((name, (16, 32), "activation") for name in "qkv"),
        ("y", (2, 16, 16), "activation"),
        ("w", (32, 32), "weight"),
    )
    projections = [
        layer(f"to_{name}", gemm(16, 32, 32), reads=(("x", 2048), ("w", 4096)), writes=((name, 2048),))
        for name in "qkv"
    ]
    attention = layer(
        "attend",
        gemm(16, 16, 16, groups=2, second_role="input"),
        gemm(16, 16, 16, groups=2, second_role="input"),
        op="attention",
        reads=tuple((name, 2048) for name in "qkv"),
        writes=(("y", 2048),),
    )

    found = cascade(graph(*projections, attention, table=table), EYERISS)

    assert [(edge.producer, edge.consumer, edge.path, edge.linked) for edge in found.edges] == [
        ("to_q", "attend", "input", False),
        ("to_k", "attend", "weight", False),
        ("attend (scores)", "attend", "input", True),
        ("to_v", "attend", "weight", False),
    ]
    assert found.edges[0].reason == "it is written as 16 x 32 and read as 16 x 2 x 16: a view lies between"
    scores, values = found.einsums[3:]
    assert next(item for item in scores.accesses if item.path == "output").expressions() == {
        "T0_0": "n_3",
        "T0_1": "g_3",
        "T0_2": "m_3",
    }
    assert next(item for item in values.accesses if item.path == "input").expressions() == {
        "T0_0": "n_4",
        "T0_1": "g_4",
        "T0_2": "c_4",
    }


def test_a_step_that_is_repeated_is_one_einsum_of_many_instances(tmp_path: Path) -> None:
    table = tensors(("x", (8, 16), "input"), ("h", (8, 32), "activation"), ("y", (8, 24), "activation"))
    recurrent = Layer(
        "b", "lstm", stage="head", work=(Work(gemm(8, 24, 32), 5, True),), reads=(("h", 1024),), writes=(("y", 768),)
    )
    first = layer("a", gemm(8, 32, 16), reads=(("x", 512),), writes=(("h", 1024),))
    export(graph(first, recurrent, table=table), tmp_path, SIMPLE)

    einsums = yaml.safe_load((tmp_path / "cascade.yaml").read_text())["workload"]["einsums"]
    assert [item.get("n_instances", 1) for item in einsums] == [1, 5]
    (row,) = csv.DictReader((tmp_path / "edges.csv").read_text().splitlines())
    assert (row["linked"], row["reason"]) == ("no", "'b' runs it 5 times")


def test_the_sum_of_a_transposed_convolution_is_not_linked() -> None:
    table = table_of(("x", (64, 14, 14)), ("h", (32, 28, 28)), ("y", (4, 28, 28)), weights=())
    up = layer(
        "up",
        Problem.parse(PROBLEMS["transposed conv2d"][0]),
        op="conv2d",
        reads=(("x", 64 * 196 * 4),),
        writes=(("h", 32 * 784 * 4),),
    )
    point = Problem.parse(
        "mac M=4 C=32 P=28 Q=28 | Inputs input 32 [C:32, P:28, Q:28] | Weights weight 32 [M:4, C:32] | "
        "Outputs output 32 [M:4, P:28, Q:28]"
    )
    found = cascade(
        graph(up, layer("b", point, reads=(("h", 32 * 784 * 4),), writes=(("y", 4 * 784 * 4),)), table=table), EYERISS
    )

    assert edges(found) == [("up", "b", "it is the overlapping sum of a transposed convolution")]
