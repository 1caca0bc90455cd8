"""A sweep of a simulator plug-in that is slow, hangs or crashes on demand, and helpers to run and kill it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmworkload.arch import from_dict
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.plugins import packages, plugins
from mmworkload.problem import gemm

# Cycles depend on the array and the buffer, energy on the energies that are told: so a job is what the tool is given.
# What it does is in the sweep's options: how long it takes, on which array it hangs, crashes or refuses.
SLOW = """
import hashlib, os, time
from mmworkload.errors import SimulationError
from mmworkload.simulating.estimate import Estimate, Fidelity, Job


class Slow:
    name = "slow"
    in_process = False

    def unavailable(self):
        return None

    def version(self):
        return os.environ.get("SLOW_VERSION", "1")

    def fidelity(self, arch):
        return Fidelity("exact")

    def prepare(self, problem, arch, options):
        if "untold" in options.extra:
            raise SimulationError("no words for it")
        told = f"{arch.array.x} {arch.array.y} {arch.levels['buffer'].size_kib}"
        files = {"problem.txt": str(problem), "arch.txt": told}
        extra = {"elements": str(arch.elements), "x": str(arch.array.x), **options.extra}
        return Job(self.name, self.version(), files, {**extra, "macs": str(problem.macs)}, options.limit_s)

    def run(self, job, directory):
        options = job.options
        if "runs" in options:
            with open(options["runs"], "a") as stream:
                stream.write(job.key + "\\n")
        if options.get("hangs_on") == options["x"]:
            time.sleep(1000)
        if options.get("crashes_on") == options["x"]:
            print("out of registers", file=__import__("sys").stderr)
            os._exit(3)
        if options.get("refuses_on") == options["x"]:
            raise SimulationError("no mapping fits")
        time.sleep(float(options.get("takes", "0")))
        macs, elements = int(options["macs"]), int(options["elements"])
        noise = int(hashlib.sha256("".join(job.files.values()).encode()).hexdigest()[:4], 16)
        cycles = -(-macs // elements) + noise
        # In no order of the alphabet.
        energy = {"mac": macs * 1e-12, "dram": noise * 1e-12, "buffer": noise * 7e-13, "array": macs * 3e-13}
        energy = {} if "no_energy" in options else energy
        return Estimate(self.name, self.version(), cycles, cycles * 1e-6, energy, 0.5, {}, macs)


SIMULATOR = Slow()
"""


def forget_plugins() -> None:
    packages.cache_clear()
    plugins.cache_clear()
    for name in ("slow_simulators", "slow_simulators.slow"):
        sys.modules.pop(name, None)


@pytest.fixture
def slow_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installs the simulator ``slow``; the folder that has to be on the path of any process that wants it."""
    site = tmp_path / "site"
    (site / "slow_simulators").mkdir(parents=True)
    (site / "slow_simulators" / "__init__.py").write_text("")
    (site / "slow_simulators" / "slow.py").write_text(SLOW)
    info = site / "slow_simulators-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-simulators\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mmworkload.simulators]\nslow = slow_simulators\n")
    monkeypatch.syspath_prepend(str(site))
    forget_plugins()
    yield site
    forget_plugins()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of simulator results of this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MMWORKLOAD_CACHE", str(folder))
    return folder


def level(kind: str, read_pj: float, write_pj: float, area_um2: float, **values: Any) -> dict[str, Any]:
    energy = {"read_pj": read_pj, "write_pj": write_pj, "leak_pj_per_cycle": 0.01}
    return {"kind": kind, "area_um2": area_um2, "energy": energy, **values}


SMALL = {
    "name": "small",
    "description": "for tests",
    "source": "made up",
    "technology_nm": 45,
    "clock_mhz": 100,
    "levels": {
        "dram": level(
            "dram", 100, 200, 0, size_kib=None, word_bits=8, width_bits=32, read_bandwidth=2, write_bandwidth=1
        ),
        "buffer": level(
            "sram", 10, 20, 80000, holds=["input", "output"], size_kib=16, word_bits=8, width_bits=16, ports=1
        ),
        "register": level("regfile", 0.1, 0.2, 100, holds=["weight"], size_kib=0.0625, word_bits=8, width_bits=8),
    },
    "array": {"inside": "buffer", "x": 4, "y": 2, "x_dims": ["M", "N"], "y_dims": ["C"]},
    "compute": {"kind": "intmac", "bits": 8, "energy_pj": 0.5, "area_um2": 300},
    "vector": {"lanes": 4, "energy_pj": 0.25},
}


def two_modalities(name: str, sizes: tuple[int, ...]) -> LayerGraph:
    """An encoder for each of two modalities, fusion and head; ``sizes`` are the columns of the products in turn."""
    layers: list[Layer] = []
    tensors: dict[str, Tensor] = {}

    def tensor(label: str, size: int, kind: Any) -> str:
        tensors[label] = Tensor(label, (size,), "float32", 32, kind, label)
        return label

    ends = []
    for modality in ("image", "audio"):
        before = tensor(modality, 64, "input")
        for number, columns in enumerate(sizes if modality == "image" else sizes[:1]):
            after = tensor(f"{modality}.{number}", 8 * columns, "activation")
            weight = tensor(f"{modality}.{number}.w", 8 * columns, "weight")
            layers.append(
                Layer(
                    f"{modality}.{number}",
                    "linear",
                    stage=f"encoder/{modality}",
                    modality=modality,
                    reads=((before, 256), (weight, 32 * columns)),
                    writes=((after, 32 * columns),),
                    work=(Work(gemm(8, columns, 8), 1),),
                    vector_ops=8 * columns,
                )
            )
            before = after
        ends.append((before, tensors[before].bytes))
    fused = tensor("fused", 64, "activation")
    layers.append(Layer("fuse", "concat", stage="fusion", reads=tuple(ends), writes=((fused, 256),), vector_ops=64))
    out = tensor("out", 8, "activation")
    layers.append(
        Layer("out", "linear", stage="head", reads=((fused, 256),), writes=((out, 32),), work=(Work(gemm(8, 1, 8)),))
    )
    return LayerGraph(name, "made", 1, "float32", tuple(layers), tensors, outputs=("out",))


SweepFile = Callable[..., Path]


@pytest.fixture
def sweep_file(tmp_path: Path) -> SweepFile:
    """Writes a sweep of two small workloads; keywords replace or add what is at the top of the file."""
    import yaml

    for name, sizes in (("first", (8, 12)), ("second", (16, 24, 40))):
        two_modalities(name, sizes).save(tmp_path / f"{name}.yaml")
    from_dict(SMALL)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False))

    def write(name: str = "sweep.yaml", **changes: Any) -> Path:
        spec: dict[str, Any] = {
            "workloads": {str(tmp_path / "first.yaml"): 1, str(tmp_path / "second.yaml"): 2},
            "arch": {
                "base": str(tmp_path / "small.yaml"),
                "set": {"array.x": [2, 4, 8], "levels.buffer.size_kib": [8, 16, 32]},
                "estimator": "law",
            },
            "simulator": "slow",
            "limit_s": 20,
            "objectives": ["energy_j", "latency_s"],
        }
        spec.update(changes)
        path = tmp_path / name
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        return path

    return write


@pytest.fixture
def command(tmp_path: Path, slow_simulator: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts ``mmworkload sweep ...`` as a process of its own; its errors go to ``driver-PID.err``."""

    def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
        errors = tmp_path / "driver.err"
        with errors.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "mmworkload.cli", "sweep", *map(str, arguments)],
                env={**os.environ, "PYTHONPATH": str(slow_simulator)},
                stdout=subprocess.DEVNULL,
                stderr=stream,
            )
        errors.rename(tmp_path / f"driver-{process.pid}.err")
        return process

    return start
