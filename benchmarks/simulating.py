"""What deduplication, workers and the cache are worth, on the same graphs in one process.

``python benchmarks/simulating.py [MODEL ...]``; a model is a name or a saved graph. Prints how many loop nests the
layers run and how many are different, then the seconds of a simulation with one worker, with two, and with every answer
in the cache: median and quartiles, of the ratios too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import mmworkload
from mmworkload.arch import load
from mmworkload.simulating.cache import Cache
from mmworkload.simulating.choice import choose
from mmworkload.simulating.engine import simulate
from mmworkload.simulating.estimate import EFFORTS, Options
from mmworkload.simulating.result import Simulation

MODELS = ("mujoco-push/late", f"{Path(__file__).resolve().parent / 'models.py'}:bert_base")


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} [{low:.2f} {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--arch", default="eyeriss_like")
    parser.add_argument("--simulator", default="auto")
    parser.add_argument("--effort", default="normal", choices=EFFORTS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    arch = load(options.arch)
    print(f"simulator {choose(options.simulator, arch)}; effort {options.effort}; {options.repeats} repeats")
    counts, timings = (
        ("layers", "runs", "unique"),
        ("1 worker s", "2 workers s", "warm s", "1 over 2", "cold over warm"),
    )
    print(f"{'model':20}", *(f"{name:>7}" for name in counts), *(f"{name:>20}" for name in timings))
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

        seconds: dict[str, list[float]] = {"one": [], "two": [], "warm": []}
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as folder:
                # Alternating, so that a busy moment of the machine meets all of them.
                seconds["one"].append(run(Path(folder) / "one", 1).seconds)
                seconds["two"].append(run(Path(folder) / "two", 2).seconds)
                warm = run(Path(folder) / "two", 2)
                seconds["warm"].append(warm.seconds)
        columns = [
            *seconds.values(),
            [one / two for one, two in zip(seconds["one"], seconds["two"], strict=True)],
            [cold / warm for cold, warm in zip(seconds["two"], seconds["warm"], strict=True)],
        ]
        print(
            f"{str(name).rsplit('/', 1)[-1] if ':' in str(name) else name!s:20}",
            *(f"{count:7}" for count in (len(graph), warm.runs, warm.unique_problems)),
            *(f"{spread(column):>20}" for column in columns),
            flush=True,
        )


if __name__ == "__main__":
    main()
