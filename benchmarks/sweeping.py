"""What a sweep costs beside the simulator, what Dask gives, and what a search finds with half the evaluations.

``python benchmarks/sweeping.py [closed-form] [overhead] [dask] [search]``, default all:

- ``closed-form``: 10,000 designs by the roofline on every workload of the zoo: seconds on the clock and of this
  process, and peak memory, also of a tenth of the designs.
- ``overhead``: a sweep with a simulator in two processes: the share of the workers' time that is not inside it.
- ``dask``: the same jobs on two Dask workers, with the settings of docs/dask.yaml, and in two bare simulator processes,
  in turn: the ratio of their speeds. No cluster is there while the bare processes run; ``--dask-defaults`` leaves Dask
  as it comes.
- ``search``: NSGA-II with half the evaluations of an enumerated grid: its hypervolume over the exact one, ten seeds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import yaml

from mmworkload.simulating.estimate import Job
from mmworkload.sweeping.evaluate import jobs_of
from mmworkload.sweeping.executors import DaskExecutor, Executor, LocalExecutor
from mmworkload.sweeping.results import Results, pareto_front
from mmworkload.sweeping.running import Summary, run
from mmworkload.sweeping.setup import prepare
from mmworkload.sweeping.space import architecture_of
from mmworkload.sweeping.spec import parse
from mmworkload.sweeping.store import Store

ZOO = """
workloads: {{"*": 1}}
arch:
  base: eyeriss_like
  set: {{array.x: {{range: [4, 64]}}, array.y: {{range: [4, 64]}}, clock_mhz: [200, 300, 500],
         levels.glb.size_kib: {{range: [64, 1024], log: true}}}}
  estimator: law
simulator: roofline
search: {{method: random, budget: {designs}}}
"""
SIMULATED = """
workloads: {{{workload}: 1}}
arch: {{base: eyeriss_like, set: {{array.x: [8, 14, 16, 32], vector.lanes: [14, 28]}}, estimator: law}}
simulator: {simulator}
"""
GRID = """
workloads: {{av-mnist/concat: 1, mujoco-push/late: 1}}
arch:
  base: eyeriss_like
  set: {{array.x: {{range: [4, 64], steps: 16}}, array.y: {{range: [4, 48], steps: 8}}, vector.lanes: [2, 4, 8]}}
  estimator: law
simulator: roofline
objectives: [area_mm2, latency_s]
search: {search}
"""


def swept(text: str, folder: Path, **arguments: Any) -> Summary:
    folder.mkdir(parents=True)
    file = folder / "file.yaml"
    file.write_text(text)
    return run(file, folder / "out", **arguments)


def closed_form(options: argparse.Namespace) -> None:
    """Each number of designs in a process of its own, for its peak memory."""
    for designs in (options.designs // 10, options.designs):
        subprocess.run([sys.executable, __file__, "one-closed-form", "--designs", str(designs)], check=True)


def one_closed_form(options: argparse.Namespace) -> None:
    start, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        done = swept(ZOO.format(designs=options.designs), Path(folder) / "zoo")
        wall, own = time.monotonic() - start, time.process_time() - cpu
        workloads = len(Results(Path(folder) / "zoo" / "out").weights)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{done.evaluated:6,} designs x {workloads} workloads: {wall:6.1f} s, {own:6.1f} s of the processor, of which"
        f" {done.seconds:.1f} s on the clock after loading; peak memory {memory:,.0f} MiB; load"
        f" {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def overhead(options: argparse.Namespace) -> None:
    shares = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            text = SIMULATED.format(workload=options.workload, simulator=options.simulator)
            done = swept(text, Path(folder) / "sweep", workers=2, cache=Path(folder) / "cache")
        shares.append(1 - done.simulator_s / (done.workers * done.seconds))
        print(
            f"{done.designs} designs, {done.jobs} jobs, {done.simulator_s:.1f} s inside {options.simulator} in"
            f" {done.seconds:.1f} s with 2 workers: {shares[-1]:.1%} of their time is not the simulator's",
            flush=True,
        )
    print(f"overhead, median of {len(shares)}: {statistics.median(shares):.1%}")


def _jobs(options: argparse.Namespace, folder: Path) -> list[Job]:
    setup = prepare(
        parse(SIMULATED.format(workload=options.workload, simulator=options.simulator)), Store(folder / "jobs")
    )
    found: dict[str, Job] = {}
    for design in setup.space.designs():
        found.update(jobs_of(architecture_of(design, setup.bases, setup.estimator), setup, design.batch))
    return list(found.values())


def _seconds(make: Callable[[], Executor], jobs: list[Job]) -> float:
    """Of all jobs, after each worker has had one to start with."""
    with make() as executor:
        for batch in (jobs[: executor.workers], jobs):
            start = time.monotonic()
            for number, job in enumerate(batch):
                executor.submit(number, job)
            for _ in batch:
                executor.next()
        return time.monotonic() - start


def dask(options: argparse.Namespace) -> None:
    import dask.config
    from distributed import LocalCluster

    settings = yaml.safe_load((Path(__file__).parents[1] / "docs" / "dask.yaml").read_text())

    def bare() -> float:
        return _seconds(lambda: LocalExecutor(2), jobs)

    def spread() -> float:
        with (
            dask.config.set(dask.config.merge(dask.config.config, {} if options.dask_defaults else settings)),
            LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        ):
            return _seconds(lambda: DaskExecutor(cluster.scheduler_address, {}), jobs)

    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        jobs = _jobs(options, Path(folder))
        for number in range(options.repeats):
            order = (bare, spread) if number % 2 == 0 else (spread, bare)
            seconds = {each: each() for each in order}
            ratios.append(seconds[bare] / seconds[spread])
            print(
                f"{len(jobs)} jobs: {seconds[bare]:.1f} s in two bare processes, {seconds[spread]:.1f} s on two Dask"
                f" workers: {ratios[-1]:.3f} of the speed",
                flush=True,
            )
    low, middle, high = numpy.percentile(ratios, [25, 50, 75])
    print(f"Dask over bare, median of {len(ratios)}: {middle:.3f} [{low:.3f}, {high:.3f}]")


def hypervolume(points: numpy.ndarray[Any, Any], worst: numpy.ndarray[Any, Any]) -> float:
    """The area that points dominate below ``worst``: two objectives, smaller is better; exact."""
    area, bound = 0.0, float(worst[1])
    for x, y in sorted(points.tolist()):
        if y < bound:
            area += (float(worst[0]) - x) * (bound - y)
            bound = y
    return area


def search(options: argparse.Namespace) -> None:
    goals = ["area_mm2", "latency_s"]
    with tempfile.TemporaryDirectory() as folder:
        swept(GRID.format(search="{method: grid}"), Path(folder) / "grid")
        grid = Results(Path(folder) / "grid" / "out").trials[goals].to_numpy()
        worst = grid.max(axis=0)
        exact = hypervolume(grid, worst)
        budget = len(grid) // 2
        print(f"grid of {len(grid)} designs, {int(pareto_front(grid).sum())} on the front; budget {budget}")
        shares: dict[str, list[float]] = {}
        for method, seed in itertools.product(("nsga2", "random"), range(10)):
            text = f"{{method: {method}, budget: {budget}, seed: {seed}}}"
            swept(GRID.format(search=text), Path(folder) / f"{method}-{seed}")
            found = Results(Path(folder) / f"{method}-{seed}" / "out").trials[goals].to_numpy()
            shares.setdefault(method, []).append(hypervolume(found, worst) / exact)
            print(
                f"{method} seed {seed}: {len(found)} evaluations, {shares[method][-1]:.4f} of the hypervolume",
                flush=True,
            )
    for method, values in shares.items():
        print(f"{method}, median of {len(values)} seeds: {statistics.median(values):.4f}")


PARTS = {"closed-form": closed_form, "overhead": overhead, "dask": dask, "search": search}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "one-closed-form", []], default=[])
    parser.add_argument("--designs", type=int, default=10_000)
    parser.add_argument("--simulator", default="zigzag")
    parser.add_argument("--workload", default="mujoco-push/late")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--dask-defaults", action="store_true")
    chosen = parser.parse_args()
    if chosen.parts == ["one-closed-form"]:
        one_closed_form(chosen)
    for part in chosen.parts or PARTS:
        if part in PARTS:
            print(f"-- {part}", flush=True)
            PARTS[part](chosen)
