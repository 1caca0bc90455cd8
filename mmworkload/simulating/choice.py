"""Which simulator answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.errors import UnavailableError, UnknownNameError
from mmworkload.plugins import plugins
from mmworkload.simulating.estimate import Fidelity, Options, Simulator

AUTO = ("timeloop", "zigzag", "roofline")
"""What ``auto`` tries, in this order."""


def simulators() -> dict[str, Simulator]:
    """The simulators that are installed, by name, whether they can run here or not."""
    return plugins("mmworkload.simulators", "SIMULATOR")


@dataclass(frozen=True)
class Choice:
    """A simulator that can run and can be told the architecture; ``why`` says why better ones were not taken."""

    simulator: Simulator
    version: str
    fidelity: Fidelity
    why: str

    def __str__(self) -> str:
        text = f"{self.simulator.name} {self.version}"
        return f"{text} ({self.why})" if self.why else text


def choose(name: str, arch: Architecture, options: Options | None = None) -> Choice:
    """The simulator called ``name``; for ``auto`` the first of :data:`AUTO` that can do it.

    Raises UnknownNameError, or UnavailableError when the one asked for cannot run here or refuses ``arch``.
    """
    known = simulators()
    if name != "auto" and name not in known:
        raise UnknownNameError("simulator", name, [*known, "auto"])
    reasons, short = [], []
    for candidate in AUTO if name == "auto" else (name,):
        simulator = known.get(candidate)
        if simulator is not None and options is not None and hasattr(simulator, "configured"):
            simulator = simulator.configured(options)
        if simulator is None:
            reasons.append(f"{candidate}: not installed")
            short.append(reasons[-1])
            continue
        reason = simulator.unavailable()
        if reason is None and arch.kind not in getattr(simulator, "kinds", ("accelerator",)):
            reason = f"takes no architecture of the kind {arch.kind}"
            short.append(f"{candidate}: {reason}")
        elif reason is None:
            fidelity = simulator.fidelity(arch)
            if fidelity.level != "refused":
                return Choice(simulator, simulator.version(), fidelity, "; ".join(short))
            reason = f"cannot be told {arch.name}: {', '.join(fidelity.lost)}"
            short.append(f"{candidate}: {reason}")
        else:
            # What is wrong, without what to do about it: who asked for auto has an answer.
            short.append(f"{candidate}: {re.split('[:;(]', reason)[0].strip()}")
        reasons.append(f"{candidate}: {reason}")
    raise UnavailableError(f"no simulator can run. {'; '.join(reasons)}")
