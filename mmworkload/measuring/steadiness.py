"""How far a measurement can be trusted: what says that other work disturbed it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmworkload.reporting.units import plural, si

if TYPE_CHECKING:
    from mmworkload.measuring.result import Measurement

UNSTEADY = 0.1
"""Distance of the quartiles over the median, from which a measurement is called unsteady."""


def busy(measurement: Measurement) -> tuple[float, int] | None:
    """Load average and threads of a CPU that had more to do than this measurement; None when it had not, or when the
    load is not known."""
    load, threads = measurement.provenance.get("load_average"), measurement.provenance.get("threads", 1)
    if measurement.device != "cpu" or load is None or float(load) <= int(threads):
        return None
    return float(load), int(threads)


def disturbances(eager_s: float, quartiles_s: tuple[float, float], load: tuple[float, int] | None) -> Iterator[str]:
    """A sentence for each sign of other work: wide quartiles of the eager time, and what :func:`busy` found.

    >>> list(disturbances(0.1, (0.099, 0.101), None))
    []
    """
    first, third = quartiles_s
    if third - first > UNSTEADY * eager_s:
        yield f"The machine was unsteady: half of the eager runs took between {si(first, 's')} and {si(third, 's')}."
    if load is not None:
        average, threads = load
        yield (
            f"The machine was busy with other work: its load average was {average:g} for {plural(threads, 'thread')}."
            " These times vary; measure again when it is quiet."
        )


def disturbed(measurement: Measurement) -> tuple[str, ...]:
    """The :func:`disturbances` of one measurement."""
    eager = measurement.eager
    return tuple(disturbances(eager.median_s, (eager.q1_s, eager.q3_s), busy(measurement)))
