"""What a lower supply voltage makes of a clock and of energies: the alpha-power law.

The clock follows (V - Vt)^alpha / V (T. Sakurai, A. R. Newton, "Alpha-Power Law MOSFET Model and its Applications to
CMOS Inverter Delay and Other Formulas", IEEE JSSC 25(2), 1990), the energy of switching V^2, the power of leakage V.
That leakage currents fall with the voltage too is left out, which makes leakage dearer than it is. DRAM has a supply of
its own: its energy stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mmworkload.errors import SimulationError

_HALVINGS = 60


@dataclass(frozen=True)
class EnergySplit:
    """Joules at the nominal voltage: of switching on the chip, of leakage, and of DRAM."""

    switching_j: float = 0.0
    leakage_j: float = 0.0
    dram_j: float = 0.0

    @property
    def total_j(self) -> float:
        return self.switching_j + self.leakage_j + self.dram_j

    def __add__(self, other: EnergySplit) -> EnergySplit:
        return EnergySplit(
            self.switching_j + other.switching_j, self.leakage_j + other.leakage_j, self.dram_j + other.dram_j
        )


@dataclass(frozen=True)
class VoltageScaling:
    """The law and its limits. Results depend on ratios of voltages only.

    Parameters
    ----------
    nominal_v, threshold_v: 1 V and 0.3 V, the round figures of T. Mudge, "Technologies for Reducing Power", SAMOS X,
        2010.
    lowest_v: half the nominal voltage, the usual range of processors according to B. Zhai, D. Blaauw, D. Sylvester,
        K. Flautner, "Theoretical and Practical Limits of Dynamic Voltage Scaling", DAC 2004.
    alpha: 1.3, as in N. S. Kim et al., "Leakage Current: Moore's Law Meets Static Power", IEEE Computer 36(12), 2003; 2
        for long channels, towards 1 with velocity saturation.
    lowest_clock: the lowest share of the nominal clock; by default the voltage alone is the limit.

    Raises SimulationError when the voltages are not in order, or ``alpha`` or ``lowest_clock`` out of range.
    """

    nominal_v: float = 1.0
    lowest_v: float = 0.5
    threshold_v: float = 0.3
    alpha: float = 1.3
    lowest_clock: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold_v < self.lowest_v <= self.nominal_v:
            raise SimulationError(
                f"voltages have to rise from threshold ({self.threshold_v} V) over lowest ({self.lowest_v} V) to"
                f" nominal ({self.nominal_v} V)"
            )
        if not (1 <= self.alpha <= 2 and 0 <= self.lowest_clock <= 1):
            raise SimulationError(
                f"alpha lies between 1 and 2 (it is {self.alpha}), the lowest clock between 0 and 1 of the nominal one"
                f" (it is {self.lowest_clock})"
            )

    def clock(self, volts: float) -> float:
        """The highest clock at a voltage, as a share of the nominal one."""
        return self._speed(volts) / self._speed(self.nominal_v)

    def volts(self, clock: float) -> float:
        """The lowest permitted voltage that reaches a share of the nominal clock, and never less than the limits."""
        wanted = max(clock, self.lowest_clock)
        return _root(lambda volts: self.clock(volts) - wanted, self.lowest_v, self.nominal_v)

    def energy_j(self, nominal: EnergySplit, volts: float) -> float:
        """Joules of the same work at a voltage and the highest clock there."""
        ratio = volts / self.nominal_v
        return nominal.switching_j * ratio**2 + nominal.leakage_j * ratio / self.clock(volts) + nominal.dram_j

    def cheapest_v(self, nominal: EnergySplit, slowdown: float = math.inf) -> float:
        """The voltage of least energy for work that may take ``slowdown`` times as long (at least 1).

        Below some voltage the leakage of the longer time outweighs what switching saves. The energy has one minimum:
        its derivative is V (V - Vt)^-(alpha + 1) times the rising function whose zero is sought here.
        """
        leakage = nominal.leakage_j * (self.nominal_v - self.threshold_v) ** self.alpha

        def slope(volts: float) -> float:
            above = volts - self.threshold_v
            return 2 * nominal.switching_j * above ** (self.alpha + 1) - leakage * (
                2 * self.threshold_v - (2 - self.alpha) * volts
            )

        return _root(slope, self.volts(1 / slowdown), self.nominal_v)

    def _speed(self, volts: float) -> float:
        return (volts - self.threshold_v) ** self.alpha / volts


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function passes zero; the end of the interval that is nearer when it does not."""
    if rising(low) >= 0:
        return low
    if rising(high) <= 0:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) >= 0 else (middle, high)
    return high
