"""Who answered, in words: from the rows of a simulation, never from who was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmworkload.reporting.units import plural, share

if TYPE_CHECKING:
    from mmworkload.simulating.result import Answered


def simulated_by(answered: Sequence[Answered], why: str = "") -> list[str]:
    """Who answered the layers with MACs, several with their shares, and then who answered the others.

    ``why`` says why better simulators were not taken.
    """
    matrix = [item for item in answered if item.matrix]
    main = matrix or list(answered)
    if len(main) == 1:
        head = f"simulated by {_named(main[0])}"
    else:
        parts = [
            f"{_named(item)} ({plural(item.layers, 'layer')}, {share(item.share)} of the latency)" for item in main
        ]
        head = (
            f"simulated by {' and '.join(parts)}: the answers of several simulators cannot be compared, and their sum"
            " is of neither"
        )
    lines = [f"{head} ({why})" if why else head] if main else []
    for item in answered:
        if item not in main and [item.simulator] != [one.simulator for one in matrix]:
            lines.append(
                f"{plural(item.layers, 'layer')} without MACs, {share(item.share)} of the latency: in closed form by"
                f" the {item.simulator}"
            )
    return lines


def _named(item: Answered) -> str:
    return f"{item.simulator} {item.version}".strip()
