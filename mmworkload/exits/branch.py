"""An encoder as the questions of order and cost see it: its exits, what leads to each, how often they are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Branch:
    """One modality's encoder with exits; costs are of one kind and in one unit.

    Parameters
    ----------
    p: probability that a sample which gets to an exit leaves by it.
    costs: from the exit before (or the input) to each exit, with the exit itself.
    rest: from the last exit to the end of the encoder.
    accuracy: of the samples that leave by each exit.
    """

    name: str
    p: tuple[float, ...]
    costs: tuple[float, ...]
    rest: float = 0.0
    accuracy: tuple[float, ...] = ()

    @property
    def staying(self) -> float:
        """Probability to leave by none of the exits."""
        return math.prod(1 - item for item in self.p)

    @property
    def leaves(self) -> tuple[float, ...]:
        """Probability to leave by each exit, of the samples that come in."""
        found = []
        stay = 1.0
        for item in self.p:
            found.append(stay * item)
            stay *= 1 - item
        return tuple(found)

    @property
    def total(self) -> float:
        """Cost of all of it."""
        return sum(self.costs) + self.rest
