#!/usr/bin/env python3
"""Runs exported problems through AccelForge and checks the answers: ``python run.py --help``.

Needs Python 3.12 or later with ``accelforge`` 1.0.466 and nothing else: this file is copied into every export, and is
also what ``mmworkload simulate`` starts. Each problem runs in a process of its own, in a folder of its own, because the
mapper has no time limit that leaves a result, and other releases write files into the current folder.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "accelforge",
    "hwcomponents",
    "hwcomponents-adc",
    "hwcomponents-cacti",
    "hwcomponents-library",
    "hwcomponents-neurosim",
)
ARCHITECTURE, EXPECTED = "arch.yaml", "expected.json"
COLUMNS = ("problem", "status", "macs", "cycles", "energy_uj", "utilization_percent", "seconds")
# In a larger cascade, evaluating the expressions of one Einsum takes minutes.
_EVALUATED = 60
# The mapper rounds to single precision.
_ROUNDING = 1e-6
_RUNNING: set[subprocess.Popen[bytes]] = set()
_LOOP = re.compile(r"(?P<kind>T|S-\w+)-(?P<variables>[\w,]+) in \[0\.\.\d+\) shape=(?P<shape>\d+)")


def versions() -> dict[str, str]:
    """Installed packages that decide an answer, and the Python."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return {**found, "python": ".".join(str(number) for number in sys.version_info[:2])}


def answer(files: list[str]) -> dict[str, Any]:
    """What AccelForge says of the architecture and workload in ``files``, as plain data.

    Of each Einsum: ``computes``, ``latency_s`` by component, ``energy_j`` by component and action, ``actions`` by
    component, tensor and action. ``bits`` are the sizes of the tensors, where AccelForge knows them.
    """
    # Not by an import statement: who checks or tests this file does not have it.
    accelforge: Any = importlib.import_module("accelforge")
    accelforge.set_n_parallel_jobs(1)
    spec = accelforge.Spec.from_yaml(*files)
    spec.mapper.metrics = accelforge.Metrics.ENERGY_DELAY_PRODUCT
    found = spec.map_workload_to_arch(print_progress=False)
    # Of equally good mappings any one is the answer.
    found = found[0] if len(found) > 1 else found
    einsums: dict[str, Any] = {
        name: {"computes": int(found.n_computes(name)), "latency_s": {}, "energy_j": {}, "actions": {}}
        for name in found.einsum_names
    }
    for (name, component), seconds in found.latency(per_einsum=True, per_component=True).items():
        einsums[name]["latency_s"][component] = float(seconds)
    for (name, component, action), joules in found.energy(per_einsum=True, per_component=True, per_action=True).items():
        einsums[name]["energy_j"].setdefault(component, {})[action] = float(joules)
    for (name, component, tensor, action), count in found.actions(
        per_einsum=True, per_component=True, per_tensor=True
    ).items():
        einsums[name]["actions"].setdefault(component, {}).setdefault(tensor, {})[action] = float(count)
    return {
        "versions": versions(),
        "einsums": einsums,
        "bits": {name: int(size) for name, size in found.per_tensor_size().items()},
        "mapping": str(found.mapping().compact_str()),
    }


def read(files: list[str], expected: dict[str, Any]) -> str:
    """What AccelForge's own reader finds wrong with the files, without mapping anything; else an empty string."""
    accelforge: Any = importlib.import_module("accelforge")
    sets: Any = importlib.import_module("accelforge.frontend._workload_isl._isl")
    try:
        spec = accelforge.Spec.from_yaml(*files)
        found = {
            "einsums": {
                name: {"computes": int(sets.get_operation_space_size(spec.workload, name))}
                for name in spec.workload.einsum_names
            },
            "bits": {
                tensor: int(sets.get_tensor_size(spec.workload, tensor))
                * spec.workload.accesses_for_tensor(tensor)[0].bits_per_value
                for tensor in (expected.get("bits") or ())
            },
        }
        # The architecture as this Einsum sees it: which tensors each level keeps, which loops the array unrolls.
        if len(expected["computes"]) <= _EVALUATED:
            spec._spec_eval_expressions(einsum_name=next(iter(expected["computes"])))
    except Exception as error:  # AccelForge fails in many ways on files that were edited; the other files go on
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return check(found, expected)


def array_steps(mapping: str, extents: dict[str, int]) -> int:
    """Steps that the array takes for the mapping of one Einsum, an incomplete last pass counted as a whole one.

    AccelForge divides instead: 41 rows on 16 elements are 2.56 passes, where a machine needs 3.
    """
    loops = [
        (match["kind"] == "T", variable, int(match["shape"]))
        for match in _LOOP.finditer(mapping)
        for variable in match["variables"].split(",")
    ]

    def steps(extent: int, inside: list[tuple[bool, int]]) -> int:
        if not inside:
            return extent
        (in_time, shape), *rest = inside
        if not in_time:
            return steps(min(shape, extent), rest)
        full, partial = divmod(extent, shape)
        return full * steps(shape, rest) + (steps(partial, rest) if partial else 0)

    return math.prod(
        steps(extent, [(in_time, shape) for in_time, name, shape in loops if name == variable])
        for variable, extent in extents.items()
    )


def cycles(latency_s: float, clock_mhz: float) -> int:
    """Whole cycles, rounded up but for the mapper's own rounding."""
    exact = latency_s * clock_mhz * 1e6
    nearest = round(exact)
    return nearest if abs(exact - nearest) <= _ROUNDING * max(exact, 1.0) else math.ceil(exact)


def check(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """What is wrong with an answer, or an empty string.

    ``expected`` has for each Einsum its ``computes`` and, for a problem on its own, ``bits`` by tensor.
    """
    if set(found["einsums"]) != set(expected["computes"]):
        return f"AccelForge answered for {sorted(found['einsums'])}"
    for name, computes in expected["computes"].items():
        counted = found["einsums"][name]["computes"]
        if counted != computes:
            return f"AccelForge counted {counted} multiply-accumulates where {name} has {computes}"
    for tensor, bits in expected.get("bits", {}).items():
        if found["bits"].get(tensor) != bits:
            return f"AccelForge's {tensor} has {found['bits'].get(tensor)} bits where ours has {bits}"
    return ""


def run_child(files: list[Path], limit_s: float | None) -> tuple[str, dict[str, Any] | None]:
    """("ok", answer), or what went wrong and None. The process and all that it started are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "answer.json"
        log = Path(folder) / "log.txt"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).resolve()), "--child", str(output), *map(str, files)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            _RUNNING.add(process)
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                return f"killed after {limit_s:g} s", None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                _RUNNING.discard(process)
        if not output.is_file():
            return failure(log.read_text(errors="replace"), process.returncode), None
        return "ok", json.loads(output.read_text())


def failure(log: str, code: int) -> str:
    """One line from what a child left behind."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if code < 0:
        return f"AccelForge was killed by signal {-code}"
    return lines[-1][:300] if lines else f"AccelForge ended with code {code} and no message"


def _child(output: Path, files: list[str]) -> None:
    found = answer(files)
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(output)


def totals(found: dict[str, Any], task: dict[str, Any], machine: dict[str, Any]) -> tuple[int, int, float]:
    """Multiply-accumulates, cycles and joules of an answer; ``machine`` is that of ``expected.json``."""
    macs = sum(count * task["instances"].get(name, 1) for name, count in task["computes"].items())
    whole = sum(cycles(max(item["latency_s"].values()), machine["clock_mhz"]) for item in found["einsums"].values())
    if "extents" in task:
        whole = max(whole, array_steps(found["mapping"], task["extents"]))
    joules = sum(
        value
        for item in found["einsums"].values()
        for actions in item["energy_j"].values()
        for value in actions.values()
    )
    return macs, whole, joules


def _run_one(folder: Path, file: Path, task: dict[str, Any], machine: dict[str, Any], limit_s: float) -> dict[str, str]:
    start = time.monotonic()
    result = folder / "outputs" / f"{file.stem}.json"
    # A result of an earlier run would pass for that of one that fails.
    result.unlink(missing_ok=True)
    row = {"problem": file.stem}
    status, found = run_child([folder / ARCHITECTURE, file], limit_s)
    if found is not None:
        status = check(found, task) or "ok"
    if found is not None and status == "ok":
        result.write_text(json.dumps(found, indent=1) + "\n")
        macs, whole, joules = totals(found, task, machine)
        row |= {
            "macs": str(macs),
            "cycles": str(whole),
            "energy_uj": f"{joules * 1e6:.6g}",
            "utilization_percent": f"{macs / (whole * machine['elements']) * 100:.2f}",
        }
    return {**row, "status": status, "seconds": f"{time.monotonic() - start:.1f}"}


def run_all(folder: Path, names: list[str], limit_s: float, jobs: int, cascade: bool = False) -> int:
    """Runs the problems called ``names`` (all when empty), or the cascades; 0 when all succeeded.

    Writes ``outputs/results.csv`` and AccelForge's answers ``outputs/<name>.json``.
    """
    expected = json.loads((folder / EXPECTED).read_text())
    tasks = expected["cascades" if cascade else "problems"]
    unknown = sorted(set(names) - set(tasks))
    if unknown:
        print(f"no such {'cascade' if cascade else 'problem'}: {', '.join(unknown)}", file=sys.stderr)
        return 2
    (folder / "outputs").mkdir(exist_ok=True)

    def one(name: str) -> dict[str, str]:
        file = folder / ("." if cascade else "problems") / f"{name}.yaml"
        return _run_one(folder, file, tasks[name], expected["machine"], limit_s)

    rows = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for row in pool.map(one, names or sorted(tasks)):
                rows.append(row)
                print("  ".join(row.get(column, "-") for column in COLUMNS), flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            # The threads wait for these.
            for process in list(_RUNNING):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            raise
    with (folder / "outputs" / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return int(any(row["status"] != "ok" for row in rows))


def installed(folder: Path) -> bool:
    """Whether AccelForge is there; says what is missing, or that it is another release."""
    wanted = json.loads((folder / EXPECTED).read_text())["version"]
    found = versions().get("accelforge")
    if found is None:
        print(f"accelforge is not installed: pip install accelforge=={wanted}", file=sys.stderr)
    elif found != wanted:
        print(f"this is AccelForge {found}; the files are for {wanted}", file=sys.stderr)
    return found is not None


def read_all(folder: Path) -> int:
    """Has AccelForge read every file; 0 when it finds in all of them what we wrote."""
    expected = json.loads((folder / EXPECTED).read_text())
    failures = 0
    for tasks, place in ((expected["problems"], folder / "problems"), (expected["cascades"], folder)):
        for name, task in tasks.items():
            wrong = read([str(folder / ARCHITECTURE), str(place / f"{name}.yaml")], task)
            failures += bool(wrong)
            print(f"{name}  {wrong or 'ok'}", flush=True)
    return int(failures > 0)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        _child(Path(sys.argv[2]), sys.argv[3:])
        return 0
    if sys.argv[1:] == ["--versions"]:
        print(json.dumps(versions()))
        return 0
    parser = argparse.ArgumentParser(description="Runs the exported problems through AccelForge.")
    parser.add_argument(
        "problem", nargs="*", help="names of problems, or of cascades (files without .yaml); default: all"
    )
    parser.add_argument(
        "--cascade", action="store_true", help="the whole network at once, with fusion, instead of problems"
    )
    parser.add_argument(
        "--read", action="store_true", help="only have AccelForge read the files, and compare the counts"
    )
    parser.add_argument("--limit", type=float, default=600, help="seconds for one problem (default 600)")
    parser.add_argument("--jobs", type=int, default=1, help="problems at once (default 1)")
    options = parser.parse_args()
    if options.limit <= 0 or options.jobs < 1:
        parser.error("--limit has to be above 0, and --jobs at least 1")
    folder = Path(__file__).resolve().parent
    if not installed(folder):
        return 2
    if options.read:
        return read_all(folder)
    return run_all(folder, options.problem, options.limit, options.jobs, options.cascade)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
