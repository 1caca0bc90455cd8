"""What the instruments of each level cost: instrumented over uninstrumented end-to-end time.

``python benchmarks/measuring.py [--repeats N] [--device cuda]``. Stage: timers where a stage begins. Layer: the graph
node by node under the profiler. Kernel: the user's eager model under the profiler. Also prints how much of the kernel
time in the profiled runs belongs to a layer, and the sum of the layers over the eager time.
"""

from __future__ import annotations

import argparse

from mmworkload.measuring import measure
from mmworkload.models import resolve

MODELS = ("av-mnist/concat", "mujoco-push/late", "mujoco-push/transformer")
BATCHES = (1, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--limit-s", type=float, default=30.0)
    options = parser.parse_args()
    print(
        f"{'model':26} {'batch':>5} {'stage':>7} {'layer':>7} {'kernel':>7} {'attributed':>11} {'layers / eager':>15}"
    )
    for name in MODELS:
        for batch in BATCHES:
            taken = measure(
                resolve(name, batch=batch), device=options.device, repeats=options.repeats, limit_s=options.limit_s
            )
            levels = " ".join(f"{taken.overhead[level]:7.2f}" for level in ("stage", "layer", "kernel"))
            print(
                f"{name:26} {batch:5} {levels} {taken.attributed_share or 0:11.1%}"
                f" {taken.layer_sum_s / taken.eager.median_s:15.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
