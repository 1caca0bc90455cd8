#!/usr/bin/env python3
"""Runs SCALE-Sim on the rows of conv.csv and gemm.csv beside it, each alone, and compares with expected.csv.

    pip install scalesim==3.0.0 'numpy<2.4'
    python run.py [--work 5e6] [name ...]

Time and memory of SCALE-Sim grow with cycles times array edge (about 1 us and 36 bytes each); rows beyond ``--work``
are left out, and listed as such. With names, those rows are run whatever they take. Writes results.csv. The exit status
is 1 when an answer differs, 2 when nothing was run. This file is copied into every export: it needs nothing of ours.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import csv
import importlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIGURES = ("cycles", "macs", "ifmap_reads", "filter_reads")


def simulate(name: str, file: str) -> dict[str, int]:
    """What SCALE-Sim reports for one row of a topology, alone in a folder of its own."""
    scalesim = importlib.import_module("scalesim.scale_sim").scalesim
    header, *lines = (HERE / file).read_text().splitlines()
    row = next(line for line in lines if line.split(",")[0] == name)
    with tempfile.TemporaryDirectory() as folder:
        topology = Path(folder) / "topology.csv"
        topology.write_text(f"{header}\n{row}\n")
        with Path(os.devnull).open("w") as void, contextlib.redirect_stdout(void), contextlib.redirect_stderr(void):
            tool = scalesim(
                save_disk_space=True,
                verbose=False,
                config=str(HERE / "scale.cfg"),
                topology=str(topology),
                layout=str(HERE / "layout.csv"),
                input_type_gemm=file == "gemm.csv",
            )
            tool.run_scale(top_path=folder)
        answer = {}
        for report in ("COMPUTE_REPORT.csv", "DETAILED_ACCESS_REPORT.csv"):
            with (Path(folder) / "mmworkload" / report).open() as stream:
                (line,) = csv.DictReader(stream, skipinitialspace=True)
                answer.update(line)
    rows, columns = tool.config.get_array_dims()
    cycles = int(float(answer["Total Cycles"]))
    return {
        "cycles": cycles,
        # The report has no MACs, but their share of all elements' cycles.
        "macs": round(float(answer["Overall Util %"]) / 100 * cycles * rows * columns),
        "ifmap_reads": int(float(answer["SRAM IFMAP Reads"])),
        "filter_reads": int(float(answer["SRAM Filter Reads"])),
    }


def array_edge() -> int:
    """Rows plus columns of the array."""
    config = configparser.ConfigParser()
    config.read(HERE / "scale.cfg")
    array = config["architecture_presets"]
    return int(array["ArrayHeight"]) + int(array["ArrayWidth"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=float, default=5e6, help="most cycles times array edge of a row that is run")
    parser.add_argument("names", nargs="*", help="rows to run (default: all that are small enough)")
    options = parser.parse_args()
    if importlib.util.find_spec("scalesim") is None:
        print("SCALE-Sim is not installed: pip install scalesim==3.0.0 'numpy<2.4'", file=sys.stderr)
        return 2
    with (HERE / "expected.csv").open() as stream:
        expected = list(csv.DictReader(stream))
    unknown = set(options.names) - {row["name"] for row in expected}
    if unknown:
        print(f"no such row in expected.csv: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    edge = array_edge()
    wanted = options.names or [row["name"] for row in expected if int(row["cycles"]) * edge <= options.work]
    results = []
    for row in expected:
        known = {figure: int(row[figure]) for figure in FIGURES}
        answer: dict[str, int] = {}
        verdict = "left out"
        if row["name"] in wanted:
            answer = simulate(row["name"], row["file"])
            verdict = "same" if answer == known else "differs"
            print(f"{row['name']}: {answer['cycles']} cycles, {verdict}", flush=True)
        results.append([row["name"], verdict, *(answer.get(figure, "") for figure in FIGURES), *known.values()])
    with (HERE / "results.csv").open("w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["name", "verdict", *FIGURES, *(f"expected_{figure}" for figure in FIGURES)])
        writer.writerows(results)
    verdicts = [result[1] for result in results]
    print(", ".join(f"{verdicts.count(word)} {word}" for word in ("same", "differs", "left out")))
    if "differs" in verdicts:
        return 1
    return 0 if "same" in verdicts else 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
