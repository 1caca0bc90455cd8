#!/usr/bin/env python3
"""Runs exported problems through Timeloop's own front end: ``python run.py``.

This file is copied into every export and is also what ``mmworkload simulate`` starts, so it needs only pytimeloop and
timeloop-mapper, and any Python from 3.8 (the tools' container has its own). Each problem runs in a directory of its own
under ``outputs`` and in a process group of its own, which is killed at the limit: the mapper has no limit in seconds
and outlives a front end that is killed alone. A return code of 0 is not success, so the results are checked.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SHARED = ("arch.yaml", "components.yaml", "variables.yaml", "mapper.yaml")
TABLES = ("ert.yaml", "art.yaml")
BINARY_SHARED = ("v0.3/arch.yaml", "mapper.yaml", *TABLES)
IMAGE = "timeloopaccelergy/timeloop-accelergy-pytorch:latest-amd64"
SUMS = ("layers", "without_result", "cycles", "energy_uj")
COLUMNS = ("problem", "status", "cycles", "energy_uj", "utilization_percent", "seconds")


def map_problem(output: Path, inputs: list[str]) -> int:
    """Runs the mapper on ``inputs`` in ``output``; the return code of timeloop-mapper, which may be 0 for a failure."""
    import pytimeloop.timeloopfe.v4 as timeloop

    output.mkdir(parents=True, exist_ok=True)
    specification = timeloop.Specification.from_yaml_files(*inputs)
    # Our own checks read the outputs: the front end's reader fails when Accelergy did not run.
    log = str(output / "timeloop-mapper.log")
    process = timeloop.call_mapper(specification, output_dir=str(output), log_to=log, return_proc=True)
    return int(process.wait())


def estimate(output: Path, inputs: list[str]) -> int:
    """Runs Accelergy alone on ``inputs``: ERT.yaml and ART.yaml in ``output``; its return code."""
    import pytimeloop.timeloopfe.v4 as timeloop

    output.mkdir(parents=True, exist_ok=True)
    specification = timeloop.Specification.from_yaml_files(*inputs)
    log = str(output / "timeloop-mapper.accelergy.log")
    process = timeloop.call_accelergy_verbose(specification, output_dir=str(output), log_to=log, return_proc=True)
    return int(process.wait())


def versions() -> dict[str, str]:
    """What decides a result besides timeloop-mapper: the front end's source and Accelergy."""
    from importlib import metadata

    import pytimeloop.timeloopfe as front_end

    digest = hashlib.sha256()
    for source in sorted(Path(front_end.__path__[0]).rglob("*.py")):
        digest.update(source.read_bytes())
    try:
        accelergy = metadata.version("accelergy")
    except metadata.PackageNotFoundError:
        accelergy = "none"
    return {"front_end": digest.hexdigest()[:12], "accelergy": accelergy}


def check(output: Path, expected: dict) -> dict[str, str]:
    """The figures of a finished run; ValueError says what is missing or wrong."""
    stats_file = output / "timeloop-mapper.stats.txt"
    stats = stats_file.read_text() if stats_file.is_file() else ""
    if "Summary Stats" not in stats:
        raise ValueError(reason(output))
    computes = int(re.findall(r"^Computes = (\d+)$", stats, re.MULTILINE)[-1])
    if computes != expected["macs"]:
        raise ValueError(f"counted {computes} multiply-accumulates instead of {expected['macs']}")
    first = (output / "timeloop-mapper.map.txt").read_text().split("\n", 1)[0]
    footprints = {name: int(size) for name, size in re.findall(r"\b(\w+):(\d+) \(", first)}
    if footprints != expected["footprints"]:
        raise ValueError(f"footprints are {footprints} instead of {expected['footprints']}")
    if set(re.findall(r"energy source\s*: (\S+)", stats)) - {"ERT"}:
        raise ValueError("some energies do not come from the table")
    summary = stats.rsplit("Summary Stats", 1)[1]
    figures = {"cycles": r"Cycles: (\S+)", "energy_uj": r"Energy: (\S+) uJ", "utilization_percent": r"zation: ([\d.]+)"}
    return {name: re.findall(pattern, summary)[0] for name, pattern in figures.items()}


def reason(output: Path) -> str:
    """Why a run left no result, from its logs."""
    logs = "".join(log.read_text(errors="replace") for log in sorted(output.glob("*.log")))
    missing = re.search(r"energy estimator for (\w+)\(", logs)
    if missing:
        return f"Accelergy has no energy estimator for {missing[1]} with these attributes"
    if "no valid mappings found" in logs:
        return "no valid mapping was found: a tile does not fit a buffer, or the search was too short"
    return f"no result; see the logs in {output}"


def run_limited(output: Path, command: list[str], limit_s: float) -> None:
    """One problem in a process group of its own. TimeoutError when it ran past the limit and was killed."""
    # Results of an earlier run would pass for those of one that fails.
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with open(output / "front-end.log", "w") as log:  # noqa: PTH123
        process = subprocess.Popen(command, cwd=output, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"killed after {limit_s:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def command_for(folder: Path, name: str, output: Path, energies: str) -> list[str]:
    """What runs a problem: the front end, or with ``binary`` the mapper alone on the files of form 0.3."""
    binary = energies == "binary"
    shared = BINARY_SHARED if binary else SHARED if energies == "accelergy" else (*SHARED, *TABLES)
    # An architecture of Timeloop's own files, whose energies are Accelergy's.
    shared = (*shared, *sorted(f"native/{path.name}" for path in (folder / "native").glob("*")))
    own = [f"problems/{name}.yaml", f"{'v0.3/' if binary else ''}constraints/{name}.yaml"]
    # Whoever deletes a constraints file leaves the search free on the array.
    inputs = [str(folder / file) for file in (*shared, *own) if (folder / file).is_file()]
    return ["timeloop-mapper", *inputs] if binary else [sys.executable, __file__, "--child", str(output), *inputs]


def missing(energies: str) -> str:
    """What is needed and not there; empty when all is."""
    if not shutil.which("timeloop-mapper"):
        return "timeloop-mapper"
    return "" if energies == "binary" or importlib.util.find_spec("pytimeloop") else "pytimeloop"


def add_up(folder: Path, answers: dict[str, dict[str, str]]) -> None:
    """Sums over layers, stages and the network, of all runs: two files in ``outputs``, and a table."""
    layers: dict[tuple[str, str], dict[str, float]] = {}
    for row in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["layers"]:
        if row["problem_file"]:
            total = layers.setdefault((row["layer"], row["stage"]), dict.fromkeys(SUMS, 0))
            total["layers"] = 1
            answer = answers.get(Path(row["problem_file"]).stem)
            if answer is None:
                total["without_result"] = 1
                continue
            times = row["count"] * row["part_count"]
            total["cycles"] += int(answer["cycles"]) * times
            total["energy_uj"] += float(answer["energy_uj"]) * times
    stages: dict[str, dict[str, float]] = {}
    for (_, stage), total in layers.items():
        for whole in (stages.setdefault(stage, dict.fromkeys(SUMS, 0)), stages.setdefault("", dict.fromkeys(SUMS, 0))):
            for column in SUMS:
                whole[column] += total[column]
    # The network last.
    stages["network"] = stages.pop("", dict.fromkeys(SUMS, 0))
    tables = {
        "layers.csv": [("layer", "stage", *SUMS[1:])]
        + [(*place, *(f"{total[column]:.10g}" for column in SUMS[1:])) for place, total in layers.items()],
        "stages.csv": [("stage", *SUMS)]
        + [(stage, *(f"{total[column]:.10g}" for column in SUMS)) for stage, total in stages.items()],
    }
    for name, lines in tables.items():
        with open(folder / "outputs" / name, "w", newline="", encoding="utf-8") as stream:  # noqa: PTH123
            csv.writer(stream).writerows(lines)
    widths = [max(len(line[column]) for line in tables["stages.csv"]) for column in range(1 + len(SUMS))]
    print()
    for line in tables["stages.csv"]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())  # noqa: B905 (Python 3.8)
    if stages["network"]["without_result"]:
        print("Layers without a result are not in the sums.")


def run_all(folder: Path, names: list[str], limit_s: float, energies: str) -> int:
    """Runs the problems called ``names`` (all when empty), writes ``outputs/results.csv``; 0 when all succeeded."""
    expected = json.loads((folder / "expected.json").read_text())
    unknown = sorted(set(names) - set(expected))
    if unknown:
        print(f"no such problem: {', '.join(unknown)}", file=sys.stderr)
        return 2
    native = (folder / "native").is_dir()
    if energies == "binary" and native:
        print("timeloop-mapper alone cannot read this architecture", file=sys.stderr)
        return 2
    if (energies == "accelergy" or native) and " " in str(folder):
        print("Accelergy cannot run in a path with spaces; move this folder", file=sys.stderr)
        return 2
    lacking = missing(energies)
    if lacking:
        print(
            f"{lacking} is not installed, and not on PyPI; the official container has it: docker run --rm"
            f' -v "{folder}":/job -w /job {IMAGE} python3 run.py',
            file=sys.stderr,
        )
        return 2
    rows = []
    for name in names or sorted(expected):
        output, start = folder / "outputs" / name, time.time()
        row = {"problem": name, "status": "ok"}
        try:
            run_limited(output, command_for(folder, name, output, energies), limit_s)
            row.update(check(output, expected[name]))
        except (ValueError, TimeoutError) as error:
            row["status"] = str(error)
        row["seconds"] = f"{time.time() - start:.1f}"
        rows.append(row)
        print("  ".join(row.get(column, "-") for column in COLUMNS), flush=True)
    with open(folder / "outputs" / "results.csv", "w", newline="") as stream:  # noqa: PTH123
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    add_up(folder, {row["problem"]: row for row in rows if row["status"] == "ok"})
    return int(any(row["status"] != "ok" for row in rows))


def main() -> int:
    # Python puts a script's own folder first; no file beside this one may pass for a module of the tools.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]
    if sys.argv[1:2] == ["--child"]:
        return map_problem(Path(sys.argv[2]), sys.argv[3:])
    if sys.argv[1:2] == ["--estimate"]:
        return estimate(Path(sys.argv[2]), sys.argv[3:])
    if sys.argv[1:] == ["--versions"]:
        print(json.dumps(versions()))
        return 0
    parser = argparse.ArgumentParser(description="Runs the exported problems through Timeloop.")
    parser.add_argument("problem", nargs="*", help="names of problems (files in problems/ without .yaml); default: all")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one problem (default 600)")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--accelergy",
        dest="energies",
        action="store_const",
        const="accelergy",
        help="let Accelergy estimate energies instead of the architecture's own",
    )
    ways.add_argument(
        "--binary",
        dest="energies",
        action="store_const",
        const="binary",
        help="run timeloop-mapper alone, without its front end, on the files of form 0.3",
    )
    options = parser.parse_args()
    return run_all(Path(__file__).resolve().parent, options.problem, options.limit, options.energies or "own")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
