"""Timing a forward pass: warm-up, repeats, and the clock of the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmworkload.measuring.result import Spread

if TYPE_CHECKING:
    import torch

    from mmworkload.measuring.program import Run

# Fewer repeats give no quartiles worth the name; they are taken even when the time limit is over.
MINIMUM_REPEATS = 5


def warmed(sample: Callable[[], float], *, warmup: int, limit_s: float) -> None:
    """Calls ``sample`` up to ``warmup`` times, until ``limit_s`` is over."""
    begin = time.monotonic()
    for _ in range(warmup):
        sample()
        if time.monotonic() - begin > limit_s:
            break


def alternated(samples: Sequence[Callable[[], float]], *, repeats: int, limit_s: float) -> list[Spread]:
    """The spread of each of ``samples``, functions that give seconds, called in turn.

    Taking turns, all of them see the same changes of clocks and of other load, so that their ratios are sound. Each is
    called up to ``repeats`` times, as long as ``limit_s`` lasts, but at least 5 of them.
    """
    begin = time.monotonic()
    times: list[list[float]] = [[] for _ in samples]
    for done in range(repeats):
        if done >= MINIMUM_REPEATS and time.monotonic() - begin > limit_s:
            break
        for taken, sample in zip(times, samples, strict=True):
            taken.append(sample())
    return [Spread.of(taken) for taken in times]


def sampler(prepare: Callable[[], Run], device: torch.device) -> Callable[[], float]:
    """A function that prepares and times one forward pass, in seconds.

    On CUDA between two events of the stream, recorded on an idle device, so that the time holds the launches as well as
    the kernels; on the CPU by the clock. The outputs are freed after the clock stops. The GPU's L2 cache is not flushed
    between samples, as in a loop over batches.
    """
    import torch

    def on_cpu() -> float:
        with torch.inference_mode():
            run = prepare()
            begin = time.perf_counter()
            outputs = run()
            seconds = time.perf_counter() - begin
            del outputs
            return seconds

    def on_cuda() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.inference_mode():
            run = prepare()
            torch.cuda.synchronize(device)
            start.record(torch.cuda.current_stream(device))
            outputs = run()
            end.record(torch.cuda.current_stream(device))
            end.synchronize()
            del outputs
        return start.elapsed_time(end) * 1e-3

    return on_cuda if device.type == "cuda" else on_cpu
