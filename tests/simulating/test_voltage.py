"""The alpha-power law by hand, and the voltage of least energy against a search over all voltages."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mmworkload.errors import SimulationError
from mmworkload.simulating.voltage import EnergySplit, VoltageScaling

LAW = VoltageScaling()


def test_the_clock_follows_the_law() -> None:
    assert LAW.clock(1.0) == 1.0
    assert LAW.clock(0.5) == pytest.approx((0.2 / 0.7) ** 1.3 / 0.5)
    # Without threshold and with alpha 2 the clock is proportional to the voltage.
    assert VoltageScaling(threshold_v=0.0, alpha=2.0).clock(0.6) == pytest.approx(0.6)


@pytest.mark.parametrize("clock", [0.4, 0.5, 0.77, 1.0])
def test_the_voltage_is_the_lowest_that_reaches_the_clock(clock: float) -> None:
    volts = LAW.volts(clock)

    assert LAW.clock(volts) == pytest.approx(clock, rel=1e-12)
    assert LAW.clock(volts) >= clock


def test_voltage_and_clock_have_floors() -> None:
    assert LAW.volts(0.1) == 0.5
    limited = VoltageScaling(lowest_clock=0.8)
    assert limited.clock(limited.volts(0.1)) == pytest.approx(0.8)


def test_switching_falls_with_the_square_leakage_grows_with_time_and_dram_stays() -> None:
    law = VoltageScaling(threshold_v=0.0, alpha=2.0)

    assert law.energy_j(EnergySplit(switching_j=4.0), 0.5) == pytest.approx(1.0)
    # Half the power for twice the time.
    assert law.energy_j(EnergySplit(leakage_j=4.0), 0.5) == pytest.approx(4.0)
    assert law.energy_j(EnergySplit(dram_j=4.0), 0.5) == 4.0
    assert LAW.energy_j(EnergySplit(leakage_j=1.0), 0.5) == pytest.approx(0.5 * 0.5 / (0.2 / 0.7) ** 1.3)


@pytest.mark.parametrize("slowdown", [1.0, 1.3, 2.0, 100.0, math.inf])
@pytest.mark.parametrize("leakage", [0.0, 0.05, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("law", [LAW, VoltageScaling(1.1, 0.6, 0.45, 1.0), VoltageScaling(0.8, 0.4, 0.2, 2.0, 0.6)])
def test_the_cheapest_voltage_is_that_of_a_search(law: VoltageScaling, leakage: float, slowdown: float) -> None:
    split = EnergySplit(1.0, leakage, 3.0)
    steps = 4000
    grid = [law.lowest_v + (law.nominal_v - law.lowest_v) * step / steps for step in range(steps + 1)]
    allowed = [volts for volts in grid if law.clock(volts) >= max(1 / slowdown, law.lowest_clock)]

    found = law.cheapest_v(split, slowdown)

    assert law.energy_j(split, found) <= min(law.energy_j(split, volts) for volts in allowed) + 1e-12
    assert law.clock(found) >= max(1 / slowdown, law.lowest_clock) * (1 - 1e-12)
    assert law.lowest_v <= found <= law.nominal_v


def test_leakage_alone_is_cheapest_where_its_power_and_time_balance() -> None:
    # V^2 / (V - Vt)^alpha is least at V = 2 Vt / (2 - alpha).
    assert LAW.cheapest_v(EnergySplit(leakage_j=1.0)) == pytest.approx(0.6 / 0.7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold_v": 0.5},
        {"lowest_v": 1.2},
        {"threshold_v": -0.1},
        {"alpha": 0.9},
        {"alpha": 2.1},
        {"lowest_clock": 1.5},
        {"lowest_clock": -0.1},
    ],
)
def test_a_law_that_cannot_hold_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SimulationError, match=r"threshold|alpha"):
        VoltageScaling(**wrong)
