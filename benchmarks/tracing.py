"""Our trace over bare ``torch.export`` on the same models, side by side in one process.

``python benchmarks/tracing.py [--repeats N]``. Both sides build the model on the meta device; ours then also makes fake
tensors, lowers every operator and assigns stages. Prints the median and quartiles of each and of the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from mmworkload.models import resolve
from mmworkload.tracing import trace_model

MODELS = ("resnet50", "bert_base", "llama_34b_decode")
HERE = Path(__file__).resolve().parent


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bare(name: str) -> None:
    built = resolve(f"{HERE / 'models.py'}:{name}").build("meta")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.export(built.module.eval(), built.args, built.kwargs, strict=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{'model':20} {'bare export s':>22} {'trace s':>22} {'ratio':>22} {'layers':>7} {'unique':>7}")
    for name in MODELS:
        source = f"{HERE / 'models.py'}:{name}"
        graph = trace_model(resolve(source)).graph
        bare(name)
        pairs = []
        for _ in range(repeats):
            # Alternating, so that a busy moment of the machine meets both sides.
            pairs.append((seconds(lambda n=name: bare(n)), seconds(lambda s=source: trace_model(resolve(s)))))
        columns = [[a for a, _ in pairs], [b for _, b in pairs], [b / a for a, b in pairs]]
        worked = sum(bool(layer.work) for layer in graph)
        print(f"{name:20} {' '.join(spread(column) for column in columns)} {worked:7} {len(graph.problems):7}")


def spread(values: list[float]) -> str:
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median:8.2f} [{q1:.2f}, {q3:.2f}]".rjust(22)


if __name__ == "__main__":
    main()
