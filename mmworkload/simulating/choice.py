"""Which simulator answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmworkload.arch import Architecture
from mmworkload.errors import UnavailableError, UnknownNameError
from mmworkload.plugins import plugins
from mmworkload.simulating.estimate import Fidelity, Options, Simulator

AUTO = ("timeloop", "recorded", "zigzag", "roofline")
"""What ``auto`` tries, in this order. The first that answers every loop nest of a workload answers them all, since the
answers of two simulators cannot be added up; the last answers everything."""


def simulators() -> dict[str, Simulator]:
    """The simulators that are installed, by name, whether they can run here or not."""
    return plugins("mmworkload.simulators", "SIMULATOR")


@dataclass(frozen=True)
class Choice:
    """A simulator that can run and can be told the architectures; ``why`` says why better ones were not taken.

    ``fidelity`` is that of the first architecture.
    """

    simulator: Simulator
    version: str
    fidelity: Fidelity
    why: str

    def __str__(self) -> str:
        text = f"{self.simulator.name} {self.version}"
        return f"{text} ({self.why})" if self.why else text


def choose(name: str, arch: Architecture, options: Options | None = None) -> Choice:
    """The simulator called ``name``; for ``auto`` the first of :data:`AUTO` that can run and be told ``arch``.

    Raises UnknownNameError, or UnavailableError when the one asked for cannot run here or refuses ``arch``.
    """
    return choices(name, (arch,), options)[0]


def require_known(name: str) -> None:
    """Raises UnknownNameError when nothing is called so: better told before a model is traced."""
    known = simulators()
    if name != "auto" and name not in known:
        raise UnknownNameError("simulator", name, [*known, "auto"])


def choices(name: str | Simulator, archs: Sequence[Architecture], options: Options | None = None) -> tuple[Choice, ...]:
    """The simulator called ``name``, or given as it is; for ``auto`` all of :data:`AUTO` that can run and be told each
    of ``archs``.

    Raises UnknownNameError, or UnavailableError when the one asked for cannot run here or refuses an architecture.
    """
    if not isinstance(name, str):
        return (Choice(name, name.version(), name.fidelity(archs[0]), ""),)
    require_known(name)
    known = simulators()
    found: list[Choice] = []
    reasons: list[str] = []
    short: list[str] = []
    for candidate in AUTO if name == "auto" else (name,):
        simulator = known.get(candidate)
        if simulator is None:
            reason = brief = "not installed"
        else:
            if options is not None and hasattr(simulator, "configured"):
                simulator = simulator.configured(options)
            reason = brief = next(filter(None, (_refusal(simulator, arch) for arch in archs)), "")
            if not reason:
                found.append(Choice(simulator, simulator.version(), simulator.fidelity(archs[0]), "; ".join(short)))
                continue
            if simulator.unavailable():
                # What is wrong, without what to do about it: who asked for auto has an answer.
                brief = re.split("[:;(]", reason)[0].strip()
        reasons.append(f"{candidate}: {reason}")
        short.append(f"{candidate}: {brief}")
    if not found:
        raise UnavailableError(f"no simulator can run. {'; '.join(reasons)}")
    return tuple(found)


def _refusal(simulator: Simulator, arch: Architecture) -> str:
    """Why ``simulator`` cannot answer for ``arch`` here; empty when it can."""
    missing = simulator.unavailable()
    if missing:
        return missing
    if arch.kind not in getattr(simulator, "kinds", ("accelerator",)):
        return f"takes no architecture of the kind {arch.kind}"
    fidelity = simulator.fidelity(arch)
    return f"cannot be told {arch.name}: {', '.join(fidelity.lost)}" if fidelity.level == "refused" else ""
