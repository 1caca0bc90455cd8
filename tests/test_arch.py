"""The shelf of architectures: published figures, refused mistakes, the schema and the page in the docs."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmworkload import arch as architectures
from mmworkload.errors import ArchitectureError, UnknownNameError
from mmworkload.plausibility import implausible

ROOT = Path(__file__).parents[1]
SHELF = (
    "ethos_u55_like",
    "eyeriss_like",
    "gemmini_like",
    "nvdla_like",
    "simba_like",
    "simple_weight_stationary",
    "tpu_like",
)
KIB = 1024
COUNTS = ("word_bits", "width_bits", "ports", "x", "y", "bits", "lanes")

# Operations (two a MAC) and bytes a second, and bytes of the memories, as the sources print them or as their figures
# multiply out; relative tolerance of what is printed. DRAM of eyeriss_like, simba_like and simple_weight_stationary is
# a choice, as are all sizes of the last.
PUBLISHED: dict[str, tuple[float, float, dict[str, float], float]] = {
    # JSSC 2017: 168 elements at 200 MHz (33.6 GMAC/s); 108 KiB; 12, 224 and 24 words of 16 bits.
    "eyeriss_like": (67.2e9, 1.6e9, {"glb": 108 * KIB, "ispad": 24, "wspad": 448, "ospad": 48}, 1e-9),
    # ISCA 2017, table 2: 92 TOPS, 34 GB/s; section 2: 24 MiB, 4 MiB, four tiles of 64 KiB, two weights an element.
    "tpu_like": (
        92e12,
        34e9,
        {"ub": 24 * KIB**2, "acc": 4 * KIB**2, "wfifo": 4 * 64 * KIB, "wreg": 2},
        3e-3,
    ),
    # DAC 2021: 16 x 16 at 1 GHz, 256 KiB and 64 KiB; generator: 128-bit bus.
    "gemmini_like": (2 * 256 * 1e9, 16e9, {"spad": 256 * KIB, "acc": 64 * KIB, "wreg": 2}, 1e-9),
    # VLSI 2019: 4.01 TOPS; MICRO 2019: 16 PEs with 32 KiB, 8 KiB and 3 KiB, 64 KiB; inputs and sums of 4 PEs are alike.
    "simba_like": (
        4.01e12,
        15.664e9,
        {"gpe": 64 * KIB, "wbuf": 16 * 32 * KIB, "ibuf": 4 * 8 * KIB, "abuf": 4 * 3 * KIB, "wreg": 1},
        1e-3,
    ),
    # nvdla.org: 2048 MACs at 1 GHz, 20 GB/s, 512 KiB, 136 bytes x 128 of sums.
    "nvdla_like": (2 * 2048 * 1e9, 20e9, {"cbuf": 512 * KIB, "cacc": 136 * 128, "wreg": 2}, 1e-9),
    # ethos-u-vela: 256 MACs at 500 MHz, 4 GB/s; 24 and 16 of the 48 banks of 1 KiB.
    "ethos_u55_like": (2 * 256 * 500e6, 4e9, {"ifm": 24 * KIB, "acc": 16 * KIB, "wreg": 2}, 1e-9),
    "simple_weight_stationary": (2 * 256 * 200e6, 1.6e9, {"glb": 128 * KIB, "wreg": 32}, 1e-9),
}


def spec(name: str) -> dict[str, Any]:
    """A fresh copy of the file's content."""
    return yaml.safe_load((ROOT / "arch_specs" / f"{name}.yaml").read_text())


def numbers(data: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from numbers(value, (*path, key))
        elif isinstance(value, (int, float)):
            yield (*path, key), value


def changed(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with ``value`` at the dotted path; ``del`` removes the key."""
    copied = copy.deepcopy(data)
    *above, last = path.split(".")
    place = copied
    for key in above:
        place = place[key]
    if value == "del":
        del place[last]
    else:
        place[last] = value
    return copied


def test_the_shelf_is_complete_and_every_spec_loads() -> None:
    kinds = {name: architectures.load(name).kind for name in architectures.names()}
    assert tuple(name for name, kind in kinds.items() if kind == "accelerator") == SHELF
    assert [architectures.load(name).name for name in SHELF] == list(SHELF)
    assert architectures.load("tpu-like") == architectures.load("tpu_like")


@pytest.mark.parametrize("name", SHELF)
def test_speed_bandwidth_and_capacities_are_those_of_the_source(name: str) -> None:
    operations, bandwidth, capacities, tolerance = PUBLISHED[name]
    arch = architectures.load(name)
    assert 2 * arch.macs_per_second == pytest.approx(operations, rel=tolerance)
    assert arch.dram_bytes_per_second == pytest.approx(bandwidth, rel=1e-5)
    on_chip = {key: level for key, level in arch.levels.items() if level.kind != "dram"}
    assert {key: level.size_kib * KIB for key, level in on_chip.items() if level.size_kib} == capacities
    # Rows and words divide what the source gives: nothing is lost to rounding.
    assert {key: (level.words or 0) * level.word_bits / 8 for key, level in on_chip.items()} == capacities


def test_words_of_accumulators_are_wider_than_those_of_operands() -> None:
    widths = {
        name: architectures.load(name).levels for name in ("tpu_like", "gemmini_like", "nvdla_like", "simba_like")
    }
    assert widths["tpu_like"]["acc"].word_bits == 32
    # 4096 rows of 256 sums; 128 rows of 32 sums; 4 x 128 rows of 8 sums.
    assert widths["tpu_like"]["acc"].words == 4096 * 256
    assert widths["nvdla_like"]["cacc"].words == 128 * 32
    assert widths["simba_like"]["abuf"].words == 4 * 128 * 8
    assert widths["gemmini_like"]["acc"].words == 1024 * 16


@pytest.mark.parametrize("name", SHELF)
def test_a_factor_of_1000_in_any_figure_is_caught_with_its_path(name: str) -> None:
    data = spec(name)
    checked = 0
    for path, value in numbers(data):
        # Leakage has no bound; zero is "not charged".
        if path[-1] in COUNTS or path[-1] == "leak_pj_per_cycle" or not value:
            continue
        for factor in (1000, 1 / 1000):
            wrong = changed(data, ".".join(path), value * factor)
            try:
                problems = implausible(architectures.from_dict(wrong))
            except ArchitectureError as error:
                problems = [str(error)]
            assert problems, f"{'.'.join(path)} times {factor} passes"
            text = "; ".join(problems)
            # A wrong size shows in the area of a bit and is named there.
            shown = ".".join(path[:-1]) if path[-1] == "size_kib" else ".".join(path)
            assert shown in text, f"{'.'.join(path)} times {factor}: {text}"
            assert path[-1] in text
            checked += 1
    assert checked >= 30


@pytest.mark.parametrize("name", SHELF)
def test_nothing_on_the_shelf_is_near_a_bound(name: str) -> None:
    arch = architectures.load(name)
    for factor in (0.6, 1.6):
        scaled = changed(spec(name), "compute.energy_pj", arch.compute.energy_pj * factor)
        for level in list(arch.levels)[1:]:
            area = arch.levels[level].area_um2
            scaled = changed(scaled, f"levels.{level}.area_um2", area * factor)
        assert implausible(architectures.from_dict(scaled)) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("levels", {}, "levels: Dictionary should have at least 1 item"),
        ("levels.dram", "del", "levels.glb: the outermost level is an unbounded dram that holds every role"),
        ("levels.glb", "del", "array.inside: 'glb' is not one of the levels ['dram', 'wreg']"),
        ("array.inside", "gbl", "array.inside: 'gbl' is not one of the levels ['dram', 'glb', 'wreg']"),
        ("levels.glb.width_bits", 60, "levels.glb: width_bits 60 is not a multiple of word_bits 16"),
        ("levels.dram.read_bandwidth", 0, "levels.dram.read_bandwidth: Input should be greater than 0"),
        ("levels.glb.write_bandwidth", 0, "levels.glb.write_bandwidth: Input should be greater than 0"),
        ("levels.dram.read_bandwidth", "del", "levels.dram: the outermost level needs read_bandwidth"),
        ("levels.glb.banks", 2, "levels.glb.banks: Extra inputs are not permitted"),
        ("levels.glb.energy.read_nj", 1, "levels.glb.energy.read_nj: Extra inputs are not permitted"),
        ("levels.glb.holds", ["inputs"], "levels.glb.holds.0: Input should be 'weight', 'input' or 'output'"),
        ("levels.glb.size_kib", None, "levels.glb: only the outermost level is a dram or unbounded"),
        ("levels.glb.size_kib", "128 KiB", "levels.glb.size_kib: Input should be a valid number"),
        ("array.x", 0, "array.x: Input should be greater than or equal to 1"),
        ("array.x_dims", ["K"], "array.x_dims: 'K' is not a dimension of the legend"),
        ("clock_mhz", "del", "clock_mhz: Field required"),
        ("clock_mhz", 200e6, "clock_mhz: Input should be less than or equal to 10000"),
        ("clock_mhz", 0.2, "clock_mhz: Input should be greater than or equal to 1"),
        ("levels.dram.energy.read_pj", 0.512, "levels.dram.energy.read_pj: 0.512 is 0.008 pJ a bit of width_bits"),
        ("levels.dram.read_bandwidth", 4000, "levels.dram.read_bandwidth: 4000 is 0.064 MACs for each word"),
        ("levels.dram.read_bandwidth", 0.004, "levels.dram.read_bandwidth: 0.004 is 1.6e+06 bytes a second"),
        ("levels.glb.size_kib", 131072, "levels.glb.area_um2: 795265 for size_kib 131072 is 0.366 node^2 a bit"),
        ("levels.glb.energy.write_pj", 41054.3, "levels.glb.energy.write_pj: 41054.3 is 626 of the energy"),
        ("levels.glb.read_bandwidth", 32000, "levels.glb.read_bandwidth: 32000 is 3.2e+04 words a cycle"),
        ("compute.energy_pj", 2200, "compute.energy_pj: 2200 is 1e+03 of the energy that bits and node suggest"),
        ("compute.area_um2", 1.2395, "compute.area_um2: 1.2395 is 2.39 node^2 for each bit^2"),
        ("vector.lanes", 16000, "vector.lanes: 16000 lanes are more than the array has elements (256)"),
    ],
)
def test_a_bad_spec_is_one_error_with_the_yaml_path(tmp_path: Path, path: str, value: Any, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(changed(spec("simple_weight_stationary"), path, value), sort_keys=False))
    with pytest.raises(ArchitectureError) as error:
        architectures.load(file)
    text = str(error.value)
    assert text.startswith(f"{file}: {message}")
    assert "\n" not in text
    assert ";" not in text.replace("; is it in the right unit?", ""), "one mistake is one error"


def test_a_file_that_is_no_architecture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- 1\n")
    with pytest.raises(ArchitectureError, match="an architecture is a mapping with name, levels"):
        architectures.load(file)
    file.write_text("levels: [\n")
    with pytest.raises(ArchitectureError, match="is not YAML"):
        architectures.load(file)
    with pytest.raises(ArchitectureError, match="cannot read"):
        architectures.load(tmp_path / "none.yaml")
    with pytest.raises(UnknownNameError, match="Did you mean nvdla_like"):
        architectures.load("nvdla")


def test_zero_means_not_charged() -> None:
    data = spec("simple_weight_stationary")
    for path in ("levels.glb.energy.read_pj", "levels.glb.area_um2", "compute.energy_pj", "vector.energy_pj"):
        data = changed(data, path, 0)
    assert implausible(architectures.from_dict(data)) == []


def test_the_published_schema_is_that_of_the_model() -> None:
    written = json.loads((ROOT / "arch_specs/schema.json").read_text())
    assert written == json.loads(architectures.json_schema()), "run: python -m mmworkload.arch > arch_specs/schema.json"
    # It names every key of every file, so that an editor knows them.
    keys = {key for name in SHELF for path, _ in numbers(spec(name)) for key in path} - {
        level for name in SHELF for level in spec(name)["levels"]
    }
    known = set(re.findall(r'"(\w+)": \{', json.dumps(written)))
    assert keys <= known


def table() -> list[str]:
    """The rows of docs/architectures.md, from the specs."""
    rows = []
    for name in SHELF:
        arch = architectures.load(name)
        on_chip = sum((level.size_kib or 0) for key, level in arch.levels.items() if key in arch.outer_levels)
        cells = (
            f"`{name}`",
            f"{arch.array.x} x {arch.array.y}",
            str(arch.dram.word_bits),
            f"{arch.clock_mhz:g}",
            f"{arch.macs_per_second / 1e9:,.1f}",
            f"{arch.dram_bytes_per_second / 1e9:.1f}",
            f"{on_chip:,.0f}",
            str(arch.technology_nm),
            f"{arch.area_mm2:.2f}",
            arch.source,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def test_the_table_in_the_docs_is_that_of_the_specs() -> None:
    page = (ROOT / "docs/architectures.md").read_text()
    written = [line for line in page.splitlines() if line.startswith("| `")]
    assert written == table(), "the rows should be\n" + "\n".join(table())


def test_an_area_that_is_not_known_is_none_and_not_zero() -> None:
    from mmworkload.cli.listing import listing

    areas = {item["name"]: item["area_mm2"] for item in listing("archs")}
    assert areas["h100"] is None
    assert areas["eyeriss_like"] == architectures.load("eyeriss_like").area_mm2
    assert 0 not in areas.values()


@pytest.mark.parametrize("name", ["model.onnx", "top.yaml.jinja", "design"])
def test_a_file_that_is_no_architecture_is_not_an_unknown_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("architecture: {{include_text('arch.yaml')}}")
    with pytest.raises(ArchitectureError, match=r"folder of"):
        architectures.load(tmp_path / name)
