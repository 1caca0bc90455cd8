"""A small architecture with round numbers, graphs made by hand, and a simulator plug-in that misbehaves on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmworkload.arch import Architecture, from_dict
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Tensor
from mmworkload.plugins import packages, plugins

# A simulator whose jobs do what their option "do" says; found through an entry point, as anybody's plug-in is.
FAKE = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from mmworkload.errors import SimulationError
from mmworkload.simulating.estimate import Estimate, Fidelity, Job


class Fake:
    name = "fake"
    in_process = False

    def unavailable(self):
        return None

    def version(self):
        return "1"

    def fidelity(self, arch):
        return Fidelity("exact")

    def prepare(self, problem, arch, options):
        do = {**options.extra, "macs": str(problem.macs), "elements": str(arch.elements)}
        refused = options.extra.get("refuses_macs")
        if refused == str(problem.macs):
            raise SimulationError("too odd for this tool")
        files = {"problem.txt": str(problem)}
        return Job(self.name, self.version(), files, do, options.limit_s)

    def run(self, job, directory):
        do = job.options.get("do", "answer")
        if "runs" in job.options:
            with open(job.options["runs"], "a") as stream:
                stream.write(job.files.get("problem.txt", "") + "\\n")
        if "places" in job.options:
            with open(job.options["places"], "a") as stream:
                stream.write(f"{os.getpid()} {directory} {Path.cwd() == directory} {os.environ['OMP_NUM_THREADS']}\\n")
            Path("left_behind").write_text("x")
        if do == "sleep":
            time.sleep(1000)
        if do == "fork":
            child = subprocess.Popen(["sleep", "1000"])
            Path(job.options["pids"]).write_text(f"{os.getpid()} {child.pid}")
            time.sleep(1000)
        if do == "leave":
            # One in a session of its own, and one that is nobody's child any more.
            script = "echo $$ >> $1; exec sleep 1000"
            subprocess.Popen(["sh", "-c", script, "sh", job.options["pids"]], start_new_session=True)
            if os.fork() == 0:
                subprocess.Popen(["sh", "-c", script, "sh", job.options["pids"]], start_new_session=True)
                os._exit(0)
            os.wait()
            while len(Path(job.options["pids"]).read_text().split() if Path(job.options["pids"]).exists() else ()) < 2:
                time.sleep(0.01)
            if "then" not in job.options:
                time.sleep(1000)
        if do == "orphan":
            # It ends while the job goes on.
            subprocess.run(["sh", "-c", "sleep 0.05 & sleep 0.05 &"], check=True)
            time.sleep(0.3)
        if do == "garbage":
            for name in os.listdir("/proc/self/fd"):
                try:
                    if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                        os.write(int(name), job.options["text"].encode("latin-1"))
                except OSError:
                    pass
        if do == "exit":
            print("about to leave", file=sys.stderr)
            os._exit(3)
        if do == "segfault":
            ctypes.string_at(0)
        if do == "system_exit":
            sys.exit("goodbye")
        if do == "refuse":
            raise SimulationError("no mapping fits")
        if do == "bug":
            raise ZeroDivisionError("of the tool")
        if do == "noise":
            print('{"estimate": {}}')
            os.write(1, b"garbage\\n")
            subprocess.run(["sh", "-c", "echo more; cat"], check=True)
        macs = int(job.options.get("macs", 1))
        cycles = int(job.options.get("cycles", 100)) if do != "exact" else -(-macs // int(job.options["elements"]))
        if do == "wrong_macs":
            macs += 1
        energy = {} if do == "no_energy" else {"mac": 1.0}
        return Estimate(self.name, "1", cycles, cycles * 1e-6, energy, 0.5, {}, macs)


SIMULATOR = Fake()
"""


def forget_plugins() -> None:
    packages.cache_clear()
    plugins.cache_clear()
    for name in ("fake_simulators", "fake_simulators.fake"):
        sys.modules.pop(name, None)


@pytest.fixture
def fake_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installs the simulator ``fake``; the folder that has to be on the path of any process that wants it."""
    site = tmp_path / "site"
    (site / "fake_simulators").mkdir(parents=True)
    (site / "fake_simulators" / "__init__.py").write_text("")
    (site / "fake_simulators" / "fake.py").write_text(FAKE)
    info = site / "fake_simulators-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-simulators\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mmworkload.simulators]\nfake = fake_simulators\n")
    monkeypatch.syspath_prepend(str(site))
    forget_plugins()
    yield site
    forget_plugins()


def level(kind: str, **values: Any) -> dict[str, Any]:
    energy = {"read_pj": values.pop("read_pj"), "write_pj": values.pop("write_pj")}
    return {"kind": kind, "area_um2": 0, "energy": energy | {"leak_pj_per_cycle": values.pop("leak", 0)}, **values}


@pytest.fixture
def spec() -> dict[str, Any]:
    """4 x 2 elements at 1 MHz, 8-bit words. DRAM: 2 words in and 1 out a cycle, 4 words an access of 100 or 200 pJ. A
    buffer of 64 bytes for inputs and outputs, 2 words an access of 10 or 20 pJ. A register of 2 weights per element, 1
    and 2 pJ."""
    return {
        "name": "small",
        "description": "for tests",
        "source": "made up",
        "technology_nm": 45,
        "clock_mhz": 1,
        "levels": {
            "dram": level(
                "dram",
                size_kib=None,
                word_bits=8,
                width_bits=32,
                read_bandwidth=2,
                write_bandwidth=1,
                read_pj=100,
                write_pj=200,
            ),
            "buffer": level(
                "sram",
                holds=["input", "output"],
                size_kib=0.0625,
                word_bits=8,
                width_bits=16,
                read_pj=10,
                write_pj=20,
                leak=3,
            ),
            "register": level(
                "regfile",
                holds=["weight"],
                size_kib=0.001953125,
                word_bits=8,
                width_bits=8,
                read_pj=1,
                write_pj=2,
                leak=0.5,
            ),
        },
        "array": {"inside": "buffer", "x": 4, "y": 2, "x_dims": ["M", "N"], "y_dims": ["C"]},
        "compute": {"kind": "intmac", "bits": 8, "energy_pj": 0.5, "area_um2": 0},
        "vector": {"lanes": 4, "energy_pj": 0.25},
    }


@pytest.fixture
def small(spec: dict[str, Any]) -> Architecture:
    return from_dict(spec)


GraphMaker = Callable[..., LayerGraph]


@pytest.fixture
def make_graph() -> GraphMaker:
    """A graph from layers; tensors that nobody describes are activations of as many bytes as their writer writes (or
    else their first reader reads), one byte an element, the names given as ``weights`` apart."""

    def make(
        *layers: Layer,
        tensors: dict[str, Tensor] | None = None,
        weights: tuple[str, ...] = (),
        outputs: tuple[str, ...] = (),
        name: str = "hand/made",
    ) -> LayerGraph:
        known = dict(tensors or {})
        written = {tensor for layer in layers for tensor, _ in layer.writes}
        for layer in layers:
            for tensor, size in (*layer.writes, *layer.reads):
                kind = "weight" if tensor in weights else "activation" if tensor in written else "input"
                known.setdefault(tensor, Tensor(tensor, (size,), "uint8", 8, kind, tensor))
        return LayerGraph(name, "made", 1, "float32", layers, known, outputs=outputs)

    return make
