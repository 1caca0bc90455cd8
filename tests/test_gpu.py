"""GPUs: published peaks and bandwidths, one precision as an architecture, refused mistakes, the page in the docs."""

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
from mmworkload.gpu import PRECISIONS, Gpu, implausible, json_schema
from mmworkload.problem import gemm
from mmworkload.simulating.roofline import closed_form

ROOT = Path(__file__).parents[1]
GPUS = ("rtx_2080_ti", "rtx_3080_ti", "jetson_nano", "jetson_orin", "v100", "a100", "h100", "h200")

# Tera operations (two a MAC) a second as NVIDIA prints them, dense and with FP32 sums; sparse figures are halved. GB/s.
PUBLISHED: dict[str, tuple[dict[str, float], float]] = {
    "rtx_2080_ti": ({"float32": 13.4, "float16": 53.8, "int8": 215.2}, 616),
    # 273 tensor TFLOPS are sparse and have FP16 sums: a factor of four.
    "rtx_3080_ti": ({"float32": 34.1, "float16": 273 / 4, "bfloat16": 273 / 4}, 912),
    # With FP16 sums.
    "jetson_nano": ({"float16": 0.472}, 25.6),
    "jetson_orin": ({"float32": 5.3, "int8": 170 / 2}, 204.8),
    "v100": ({"float64": 7.8, "float32": 15.7, "float16": 125}, 900),
    "a100": ({"float64": 19.5, "float32": 19.5, "tf32": 156, "float16": 312, "bfloat16": 312, "int8": 624}, 1555),
    "h100": (
        {"float64": 66.9, "float32": 66.9, "tf32": 494.7, "float16": 989.4, "bfloat16": 989.4, "int8": 1978.9},
        3350,
    ),
    "h200": (
        {"float64": 67, "float32": 67, "tf32": 989 / 2, "float16": 1979 / 2, "bfloat16": 1979 / 2, "int8": 3958 / 2},
        4800,
    ),
}


def spec(name: str) -> dict[str, Any]:
    """A fresh copy of the file's content."""
    return yaml.safe_load((ROOT / "arch_specs" / f"{name}.yaml").read_text())


def load(name: str) -> Gpu:
    return Gpu.from_dict(spec(name), name)


def numbers(data: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from numbers(value, (*path, key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*path, key), value


def changed(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(data)
    place = copied
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copied


def test_every_gpu_is_installed_under_its_name() -> None:
    assert set(GPUS) <= set(architectures.names())
    assert {path.stem for path in (ROOT / "arch_specs").glob("*.yaml") if spec(path.stem).get("kind") == "gpu"} == set(
        GPUS
    )
    assert [load(name).name for name in GPUS] == list(GPUS)


@pytest.mark.parametrize("name", GPUS)
def test_peaks_and_bandwidth_are_the_published_ones(name: str) -> None:
    peaks, gb_per_s = PUBLISHED[name]
    gpu = load(name)
    for precision, tera in peaks.items():
        arch = gpu.at(precision)
        assert 2 * arch.macs_per_second / 1e12 == pytest.approx(tera, rel=0.01), precision
        # Exact, although words and clock differ between precisions.
        assert arch.dram_bytes_per_second == pytest.approx(gb_per_s * 1e9, rel=1e-12)
        assert 2 * gpu.macs_per_second(precision) == pytest.approx(2 * arch.macs_per_second, rel=1e-12)


@pytest.mark.parametrize("name", GPUS)
def test_what_a_device_has_no_units_for_is_refused_by_name(name: str) -> None:
    gpu = load(name)
    for precision in set(PRECISIONS) - set(gpu.precisions):
        with pytest.raises(ArchitectureError, match=f"{name} has no units for {precision}; it computes in float64"):
            gpu.at(precision)
    assert {"float64", "float32", "float16"} <= set(gpu.precisions)


def test_another_precision_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown precision 'float8'\. Did you mean"):
        load("h100").at("float8")


def test_the_default_is_float32_on_the_cuda_cores_and_not_tf32() -> None:
    a100 = load("a100")
    assert a100.at() == a100.at("float32")
    assert a100.at().macs_per_second == 108 * 64 * 1410e6
    tf32 = a100.at("tf32")
    assert tf32.macs_per_second == 8 * a100.at().macs_per_second
    # It is stored as float32, and still another result.
    assert (tf32.dram.word_bits, tf32.compute.bits) == (32, 19)
    assert tf32.key != a100.at().key


def test_one_precision_of_a_gpu_as_an_architecture() -> None:
    arch = load("h100").at("bfloat16")
    assert (arch.kind, arch.name, arch.unified_memory, arch.charged) == ("gpu", "h100", False, False)
    assert (arch.array.x, arch.array.y, arch.clock_mhz) == (132, 2048, 1830)
    assert (arch.compute.kind, arch.compute.bits, arch.dram.word_bits) == ("fpmac", 16, 16)
    assert (arch.dram.technology, arch.dram.capacity_gib) == ("HBM3", 80)
    assert arch.levels["l2"].size_kib == 50 * 1024
    # Elementwise work keeps its rate although this clock is that of the tensor cores: 132 x 128 lanes at 1980 MHz.
    assert arch.vector.lanes * 1830 == pytest.approx(132 * 128 * 1980, rel=1e-4)
    assert load("h100").at("float32").vector.lanes == 132 * 128
    assert load("h100").at("int8").compute.kind == "intmac"
    assert arch.bits == {"weight": 16, "input": 16, "output": 16}


def test_boards_share_their_memory_with_the_host() -> None:
    unified = [name for name in GPUS if load(name).at().unified_memory]
    assert unified == ["jetson_nano", "jetson_orin"]


def test_the_roofline_of_a_product_on_an_a100() -> None:
    # 2048^3 MACs: 2^33 / (108 x 1024) cycles in float16, memory 2 x 2^22 words of 2 bytes.
    arch = load("a100").at("float16")
    problem = gemm(2048, 2048, 2048).with_bits(arch.bits)
    estimate = closed_form(problem, arch)
    assert estimate.cycles == -(-(2**33) // (108 * 1024))
    assert estimate.bound == "compute"
    assert estimate.energy_j == {}
    assert estimate.latency_s == pytest.approx(2 * 2**33 / 312e12, rel=0.01)
    # A product with one row reads its weights once: bound by 1555 GB/s.
    thin = closed_form(gemm(1, 4096, 4096).with_bits(arch.bits), arch)
    assert thin.bound == "memory"
    assert thin.latency_s >= 2 * 4096 * 4096 / 1555e9
    assert thin.latency_s == pytest.approx(2 * 4096 * 4096 / 1555e9, rel=0.01)


@pytest.mark.parametrize("name", GPUS)
def test_architectures_are_loaded_by_name_and_precision(name: str) -> None:
    assert architectures.load(name) == load(name).at()
    assert architectures.load(name, "float16") == load(name).at("float16")


@pytest.mark.parametrize("name", GPUS)
def test_a_factor_of_1000_in_any_figure_is_one_error_with_its_path(name: str) -> None:
    data = spec(name)
    checked = 0
    for path, value in numbers(data):
        for factor in (1000, 1 / 1000):
            with pytest.raises(ArchitectureError) as error:
                Gpu.from_dict(changed(data, path, value * factor), "mine.yaml")
            text = str(error.value)
            assert text.startswith(f"mine.yaml: {'.'.join(path)}: "), text
            assert text.replace("; is it in the right unit?", "").count("; ") == 0, text
            checked += 1
    assert checked >= 26


@pytest.mark.parametrize("name", GPUS)
def test_no_figure_of_the_shelf_is_near_a_bound(name: str) -> None:
    data = spec(name)
    for path, value in numbers(data):
        if isinstance(value, float) or path[-1] in ("gb_per_s", "capacity_gib", "l2_kib", "l1_kib_per_sm", "tdp_w"):
            for factor in (0.5, 2):
                assert implausible(Gpu.model_validate(changed(data, path, value * factor))) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("sms",), 0, "sms: Input should be greater than or equal to 1"),
        (("sms",), "108", "sms: Input should be a valid integer"),
        (("dram", "gb_per_s"), 0, "dram.gb_per_s: Input should be greater than 0"),
        (("dram", "gb_per_s"), 1.555, "dram.gb_per_s: 1.555 is 0.00016 bytes a MAC, possible is 0.005 to 5"),
        (("dram", "gbps"), 1555, "dram.gbps: Extra inputs are not permitted"),
        (("clock_mhz", "boost"), 1.41, "clock_mhz.boost: 1.41 is 1.41 MHz, possible is 50 to 1e+04"),
        (("clock_mhz", "base"), 1500, "clock_mhz.base: 1500 MHz is more than the boost clock (1410)"),
        (("macs_per_cycle_per_sm", "float8"), 4096, "macs_per_cycle_per_sm.float8: Extra inputs are not permitted"),
        (("launch_us",), 0.003, "launch_us: 0.003 is 0.003 microseconds, possible is 0.2 to 200"),
        (("kind",), "tpu", "kind: Input should be 'gpu'"),
    ],
)
def test_a_bad_gpu_is_one_error_with_the_yaml_path(path: tuple[str, ...], value: Any, message: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        Gpu.from_dict(changed(spec("a100"), path, value), "mine.yaml")
    assert str(error.value).startswith(f"mine.yaml: {message}")


def test_a_file_without_a_figure_is_refused() -> None:
    data = spec("a100")
    del data["dram"]["capacity_gib"]
    with pytest.raises(ArchitectureError, match=re.escape("mine.yaml: dram.capacity_gib: Field required")):
        Gpu.from_dict(data, "mine.yaml")
    with pytest.raises(ArchitectureError, match="a GPU is a mapping"):
        Gpu.from_dict([1], "mine.yaml")


def test_the_published_schema_is_that_of_the_model() -> None:
    written = (ROOT / "arch_specs/gpu_schema.json").read_text()
    assert written == json_schema(), "run: python -m mmworkload.gpu > arch_specs/gpu_schema.json"
    known = set(re.findall(r'"(\w+)": \{', json.dumps(json.loads(written))))
    assert {key for name in GPUS for path, _ in numbers(spec(name)) for key in path} <= known


def table() -> list[str]:
    """The rows of docs/architectures.md, from the files."""

    def peak(gpu: Gpu, precision: str) -> str:
        if precision not in gpu.precisions:
            return "-"
        tera = 2 * gpu.macs_per_second(precision) / 1e12
        return f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}"

    rows = []
    for name in GPUS:
        gpu = load(name)
        cells = (
            f"[{name}](../arch_specs/{name}.yaml)",
            str(gpu.sms),
            f"{gpu.clock_mhz.boost:g}",
            *(peak(gpu, precision) for precision in ("float32", "tf32", "float16", "bfloat16", "int8")),
            f"{gpu.dram.gb_per_s:g}",
            f"{gpu.dram.capacity_gib:g} {gpu.dram.type}" + (", shared with the host" if gpu.unified_memory else ""),
            f"{gpu.l2_kib / 1024:.3g}",
            f"{gpu.tdp_w:g}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def test_the_table_in_the_docs_is_that_of_the_files() -> None:
    page = (ROOT / "docs/architectures.md").read_text()
    written = [line for line in page.splitlines() if re.match(r"\| \[\w+\]\(../arch_specs/", line)]
    assert written == table(), "the rows should be\n" + "\n".join(table())
