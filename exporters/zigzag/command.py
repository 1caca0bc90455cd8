"""``python run.py``: runs exported problems through ZigZag and checks the answers.

This file is copied into every export, as a module of the package ``runner``: it needs zigzag-dse and nothing of
mmworkload but what is copied with it.
Each worker is a process of its own: importing ZigZag takes seconds, so one serves many problems, and only one that runs
past the limit is killed and replaced.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from mmworkload.exporters.zigzag.evaluation import NoAnswerError, answer

ACCELERATOR, EXPECTED = "accelerator.yaml", "expected.json"
COLUMNS = ("problem", "status", "macs", "cycles", "energy_uj", "utilization_percent", "seconds")


def mapping_name(number: int) -> str:
    """The file with the choice ``number`` of loops on the array, 0 being the fullest."""
    return f"mapping-{number + 1}.yaml" if number else "mapping.yaml"


def run_problem(folder: Path, name: str) -> dict[str, Any]:
    """The answer of :func:`.evaluation.answer` for one problem of an export. Raises NoAnswerError."""
    expected = json.loads((folder / EXPECTED).read_text())
    task = expected["problems"][name]
    mappings = [mapping_name(number) for number in range(len(task["passes"]))]
    return answer(folder, f"problems/{name}.yaml", ACCELERATOR, mappings, task, expected["machine"])


def _serve(pipe: Connection, folder: Path) -> None:
    while True:
        name = pipe.recv()
        try:
            pipe.send(("ok", run_problem(folder, name)))
        except NoAnswerError as error:
            pipe.send((str(error), None))
        except Exception as error:  # ZigZag fails in many ways on files that were edited; the other problems go on
            pipe.send((f"{type(error).__name__}: {error}", None))


class _Worker:
    """A process that answers one problem at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: multiprocessing.process.BaseProcess | None = None
        self.ended = False

    def ask(self, name: str, limit_s: float) -> tuple[str, dict[str, Any] | None]:
        """("ok", answer), or what went wrong and None."""
        if self.process is None:
            # Not forked: other threads of this process may hold locks.
            context = multiprocessing.get_context("spawn")
            self.pipe, other = context.Pipe()
            process = context.Process(target=_serve, args=(other, self.folder), daemon=True)
            # The mask is inherited: Ctrl-C in a terminal reaches all processes, and this one ends the others.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            process.start()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.process = process
            other.close()
        if self.ended:
            self.stop()
            return "interrupted", None
        try:
            self.pipe.send(name)
            if self.pipe.poll(limit_s):
                status, found = self.pipe.recv()
                return status, found
            problem = f"killed after {limit_s:g} s"
        except (EOFError, ConnectionError):
            problem = "ZigZag crashed"
        self.stop()
        return problem, None

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.join()
            self.pipe.close()

    def end(self) -> None:
        """Stops it from another thread, also while it is being started."""
        self.ended = True
        self.stop()


def run_all(folder: Path, names: list[str], limit_s: float, jobs: int) -> int:
    """Runs the problems called ``names`` (all when empty); 0 when all succeeded.

    Writes ``outputs/results.csv`` and, with energy and traffic by level and the mapping, ``outputs/<name>.json``.
    """
    expected = json.loads((folder / EXPECTED).read_text())
    unknown = sorted(set(names) - set(expected["problems"]))
    if unknown:
        print(f"no such problem: {', '.join(unknown)}", file=sys.stderr)
        return 2
    try:
        installed = metadata.version("zigzag-dse")
        metadata.version("six")
    except metadata.PackageNotFoundError as error:
        print(f"{error.name} is not installed: pip install zigzag-dse=={expected['version']} six", file=sys.stderr)
        return 2
    if installed != expected["version"]:
        print(f"this is ZigZag {installed}; the files are for {expected['version']}", file=sys.stderr)
    outputs = folder / "outputs"
    outputs.mkdir(exist_ok=True)
    workers = [_Worker(folder) for _ in range(jobs)]
    free: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(name: str) -> dict[str, str]:
        file, start, worker = outputs / f"{name}.json", time.monotonic(), free.get()
        # Results of an earlier run would pass for those of one that fails.
        file.unlink(missing_ok=True)
        status, found = worker.ask(name, limit_s)
        free.put(worker)
        row = {"problem": name, "status": status, "seconds": f"{time.monotonic() - start:.1f}"}
        if found is not None:
            file.write_text(json.dumps(found, indent=1) + "\n")
            row["macs"], row["cycles"] = str(found["macs"]), str(found["cycles"])
            row["energy_uj"] = f"{sum(found['energy_j'].values()) * 1e6:.6g}"
            row["utilization_percent"] = f"{found['utilization'] * 100:.2f}"
        return row

    rows = []
    try:
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for row in pool.map(one, names or sorted(expected["problems"])):
                    rows.append(row)
                    print("  ".join(row.get(column, "-") for column in COLUMNS), flush=True)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                # The threads wait for these.
                for worker in workers:
                    worker.end()
                raise
    finally:
        for worker in workers:
            worker.stop()
    with (outputs / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return int(any(row["status"] != "ok" for row in rows))


def main(folder: Path) -> int:
    """Runs the export in ``folder`` as the command line says; gives the exit code, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Runs the exported problems through ZigZag.")
    parser.add_argument("problem", nargs="*", help="names of problems (files in problems/ without .yaml); default: all")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one problem (default 600)")
    parser.add_argument("--jobs", type=int, default=1, help="problems at once (default 1)")
    options = parser.parse_args()
    if options.limit <= 0 or options.jobs < 1:
        parser.error("--limit has to be above 0, and --jobs at least 1")
    try:
        return run_all(folder, options.problem, options.limit, options.jobs)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
