"""What deduplication, workers and the cache are worth, on the same graphs in one process.

``python benchmarks/simulating.py [MODEL ...]``; a model is a name or a saved graph. Prints, for the whole zoo, layers
with loop nests over unique problems; then, for each model, how many loop nests its layers run and how many are
different, who answered, the seconds of a simulation with one worker, with two, and with every answer in the cache, and
what share of the two workers' time was spent inside the simulator, where it ran (the seconds of a recorded answer are
those of another machine): median and quartiles, of the ratios too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import mmworkload
from mmworkload.arch import load
from mmworkload.graph import LayerGraph
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.choice import simulators
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import EFFORTS, Options
from mmworkload.simulating.result import Simulation
from mmworkload.tracing.snapshot import snapshots

MODELS = ("mujoco-push/late", f"{Path(__file__).resolve().parent / 'models.py'}:bert_base")


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} [{low:.2f} {high:.2f}]"


def busy_share(found: Simulation, workers: int) -> float:
    """What part of the workers' time was spent inside the simulator; 0 where its answers are closed forms or recorded,
    as nothing ran in a worker."""
    ran = {name for name, simulator in simulators().items() if not simulator.in_process}
    # Layers whose loop nests are one job share its estimate.
    inside = {id(item): item.seconds for item in found.estimates.values() if item.simulator in ran}
    return sum(inside.values()) / (workers * found.seconds)


def zoo() -> None:
    """Layers with loop nests over unique problems, of every workload's snapshot."""
    layers, nests, unique = 0, 0, set()
    for path in snapshots().values():
        graph = LayerGraph.load(path)
        layers += sum(bool(layer.work) for layer in graph)
        nests += sum(work.count for layer in graph for work in layer.work)
        unique |= set(graph.problems)
    print(
        f"zoo: {len(snapshots())} workloads, {layers:,} layers with {nests:,} loop nests, {len(unique):,} problems:"
        f" {layers / len(unique):.1f} layers and {nests / len(unique):.1f} loop nests a problem"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--arch", default="eyeriss_like")
    parser.add_argument("--simulator", default="auto")
    parser.add_argument("--effort", default="normal", choices=EFFORTS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    zoo()
    arch = load(options.arch)
    print(f"simulator {options.simulator}; effort {options.effort}; {options.repeats} repeats")
    counts, timings = (
        ("layers", "runs", "unique"),
        ("1 worker s", "2 workers s", "warm s", "busy share", "1 over 2", "cold over warm"),
    )
    print(f"{'model':20}", *(f"{name:>7}" for name in counts), f"{'by':20}", *(f"{name:>20}" for name in timings))
    for name in options.models:
        graph = mmworkload.trace(name)

        def run(cache: Path, workers: int) -> Simulation:
            return simulate(
                graph,  # noqa: B023  # called within the same turn of the loop
                arch,
                options.simulator,
                workers=workers,
                cache=Cache(cache),
                options=Options(effort=options.effort),
            )

        seconds: dict[str, list[float]] = {"one": [], "two": [], "warm": [], "busy": []}
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                # Alternating, so that a busy moment of the machine meets all of them.
                seconds["one"].append(run(Path(folder) / "one", 1).seconds)
                cold = run(Path(folder) / "two", 2)
                seconds["two"].append(cold.seconds)
                seconds["busy"].append(busy_share(cold, 2))
                warm = run(Path(folder) / "two", 2)
                seconds["warm"].append(warm.seconds)
        columns = [
            *seconds.values(),
            [one / two for one, two in zip(seconds["one"], seconds["two"], strict=True)],
            [whole / rest for whole, rest in zip(seconds["two"], seconds["warm"], strict=True)],
        ]
        print(
            f"{str(name).rsplit('/', 1)[-1] if ':' in str(name) else name!s:20}",
            *(f"{count:7}" for count in (len(graph), warm.runs, warm.unique_problems)),
            f"{f'{warm.simulator} {warm.version}':20}",
            *(f"{spread(column):>20}" for column in columns),
            flush=True,
        )


if __name__ == "__main__":
    main()
