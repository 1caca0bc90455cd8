"""Which energies, leakage and areas a change of an architecture makes stale, and by what factor they change.

The factor is the ratio of an estimator's answers for the new component and for the old one. The ratio, and not the
answer, because the figures of a file may be put together: a buffer of 32 banks that is charged for the one that is
accessed, a multiplier with a wider adder. Where the file has the estimator's own answer, the product is its new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from mmworkload.arch import Architecture, Level
from mmworkload.energy_scaling import DRAM_PJ_PER_BIT, Component, EnergyEstimator, Figures, Law, Mac, Memory, logic_node
from mmworkload.errors import ArchitectureError, MmworkloadError, UnavailableError
from mmworkload.plugins import plugins

EstimatorName = Literal["auto", "accelergy", "law"]

_LAW = Law()
# In the order of Figures.
_LEVEL_FIGURES = ("energy.read_pj", "energy.write_pj", "energy.leak_pj_per_cycle", "area_um2")
# What changes along with parameters, and what it is called in a sentence.
_NAMES = {
    "read_pj": "read",
    "write_pj": "write",
    "leak_pj_per_cycle": "leakage",
    "area_um2": "area",
    "energy_pj": "energy",
    "read_bandwidth": "words read a cycle",
    "write_bandwidth": "words written a cycle",
}
# The figures of a file are rounded; what is further from the estimator's answer than this was put together.
_ROUNDED = 0.01


@dataclass(frozen=True)
class Rescaling:
    """The figures of one part of the architecture with their factors, by path, and who says so."""

    part: str
    source: str
    factors: Mapping[str, float]

    def __str__(self) -> str:
        shown = {_NAMES[path.rpartition(".")[2]]: f"x{factor:.3g}" for path, factor in self.factors.items()}
        return f"{self.part} by {self.source} ({', '.join(f'{name} {factor}' for name, factor in shown.items())})"


class _Change(NamedTuple):
    """A component with other parameters, and the paths of its figures in the order of Figures."""

    part: str
    before: Component
    after: Component
    figures: tuple[str | None, ...]


def rescalings(old: Architecture, new: Architecture, kept: set[str], estimator: EstimatorName) -> list[Rescaling]:
    """How the figures of ``old`` become those of ``new``, which has other parameters. A figure may be in several.

    ``kept`` are paths of values that are set and stay as they are; so do zeros, which are not charged. Raises
    ArchitectureError for a DRAM of a type whose energy is not known, and with ``accelergy`` UnavailableError and
    SimulationError.
    """
    changes = []
    for change in _changes(old, new):
        figures = tuple(path if path and path not in kept and value(old, path) else None for path in change.figures)
        if any(figures):
            changes.append(change._replace(figures=figures))
    found = _estimated(old, changes, estimator) if changes else []
    mac = next((item.factors.get("compute.energy_pj") for item in found if item.part == "compute"), None)
    found += _dram(old, new, kept)
    found += _vector(old, new, kept, mac)
    if old.clock_mhz != new.clock_mhz:
        found += _clock(old, new, kept)
    return found


def is_derived(arch: Architecture, path: str) -> bool:
    """Whether the value at ``path`` changes along with others unless it is set itself."""
    name = path.rpartition(".")[2]
    if name.endswith("_bandwidth"):
        return path.startswith(f"levels.{next(iter(arch.levels))}.")
    return name in _NAMES


def value(arch: Architecture, path: str) -> Any:
    """What the file has at ``path``, which is known to exist."""
    found: Any = arch
    for part in path.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


def _changes(old: Architecture, new: Architecture) -> Iterator[_Change]:
    """Every component on the chip that is another than before."""
    for name, level in new.levels.items():
        if level.kind != "dram":
            before, after = _memory(old.levels[name], old.technology_nm), _memory(level, new.technology_nm)
            if before != after:
                yield _Change(f"levels.{name}", before, after, tuple(f"levels.{name}.{key}" for key in _LEVEL_FIGURES))
    mac = Mac(old.compute.kind, old.compute.bits, old.technology_nm)
    other = Mac(new.compute.kind, new.compute.bits, new.technology_nm)
    if mac != other:
        yield _Change("compute", mac, other, ("compute.energy_pj", None, None, "compute.area_um2"))


def _memory(level: Level, node_nm: int) -> Memory:
    assert level.kind != "dram"
    assert level.size_kib is not None
    return Memory(level.kind, level.size_kib, level.width_bits, level.ports, node_nm)


def _estimated(old: Architecture, changes: Sequence[_Change], estimator: EstimatorName) -> list[Rescaling]:
    asked = [component for change in changes for component in (change.before, change.after)]
    answers, source, real = _answers(asked, estimator)
    found = []
    for number, change in enumerate(changes):
        before, after = answers[2 * number], answers[2 * number + 1]
        pairs = zip(change.figures, before, after, strict=True)
        factors = {path: now / was for path, was, now in pairs if path and was}
        put_together = real and not _is_own(old, change, before)
        found.append(Rescaling(change.part, f"the ratio of {source}" if put_together else source, factors))
    return found


def _answers(asked: Sequence[Component], estimator: EstimatorName) -> tuple[list[Figures], str, bool]:
    """Figures of all components, who gave them, and whether that is Accelergy."""
    law = _LAW.version()
    if estimator == "law":
        return _LAW.estimate(asked), law, False
    tool = _accelergy()
    missing = tool.unavailable() if tool else "no installed plug-in can run Accelergy"
    if tool and not missing:
        try:
            return tool.estimate(asked), tool.version(), True
        except MmworkloadError as error:
            if estimator == "accelergy":
                raise
            law = f"{law}, for Accelergy failed ({error})"
    elif estimator == "accelergy":
        raise UnavailableError(str(missing))
    return _LAW.estimate(asked), law, False


def _accelergy() -> EnergyEstimator | None:
    estimators = plugins("mmworkload.exporters", "ENERGY_ESTIMATOR").values()
    return next((estimator for estimator in estimators if estimator.name == "accelergy"), None)


def _is_own(old: Architecture, change: _Change, before: Figures) -> bool:
    """Whether the file's figures are the estimator's for the one component that the file describes."""
    # Microwatts times microseconds.
    own = before._replace(leak_uw=before.leak_uw / old.clock_mhz)
    pairs = zip(change.figures, own, strict=True)
    return all(abs(value(old, path) - figure) <= _ROUNDED * figure for path, figure in pairs if path)


def _dram(old: Architecture, new: Architecture, kept: set[str]) -> Iterator[Rescaling]:
    """An access grows with its width and changes with the type of memory; what leaks is the type's own affair."""
    part = f"levels.{next(iter(new.levels))}"
    was, now = old.dram, new.dram
    paths = [f"{part}.energy.{key}" for key in ("read_pj", "write_pj")]
    stale = [path for path in paths if path not in kept and value(old, path)]
    if not stale or (was.width_bits, was.technology) == (now.width_bits, now.technology):
        return
    width = now.width_bits / was.width_bits
    if was.technology == now.technology:
        yield Rescaling(part, "its width", dict.fromkeys(stale, width))
        return
    if now.technology not in DRAM_PJ_PER_BIT:
        raise ArchitectureError(
            f"{part}.technology: the energy of '{now.technology}' is not known (known: {', '.join(DRAM_PJ_PER_BIT)});"
            f" set {' and '.join(stale)} too"
        )
    per_bit = DRAM_PJ_PER_BIT[now.technology]
    if was.technology in DRAM_PJ_PER_BIT:
        factors = dict.fromkeys(stale, per_bit / DRAM_PJ_PER_BIT[was.technology] * width)
    else:
        factors = {path: per_bit * now.width_bits / value(old, path) for path in stale}
    yield Rescaling(part, f"{per_bit:g} pJ a bit of {now.technology}", factors)


def _vector(old: Architecture, new: Architecture, kept: set[str], mac: float | None) -> Iterator[Rescaling]:
    """The vector unit follows the MAC where it is charged as one, else the node."""
    path = "vector.energy_pj"
    energy = old.vector.energy_pj
    if path in kept or not energy:
        return
    if mac is not None and energy == old.compute.energy_pj:
        yield Rescaling("vector", "the factor of compute, as which it is charged", {path: mac})
    elif old.technology_nm != new.technology_nm:
        factor = logic_node(new.technology_nm)[0] / logic_node(old.technology_nm)[0]
        yield Rescaling("vector", "the scaling law of logic", {path: factor})


def _clock(old: Architecture, new: Architecture, kept: set[str]) -> Iterator[Rescaling]:
    """What is a rate in a cycle: leakage, which is a power, and the words of the DRAM, whose clock is its own."""
    factor = old.clock_mhz / new.clock_mhz
    paths = [f"levels.{name}.energy.leak_pj_per_cycle" for name in new.levels]
    stale = [path for path in paths if path not in kept and value(old, path)]
    if stale:
        yield Rescaling("all levels", "the cycle time", dict.fromkeys(stale, factor))
    dram = f"levels.{next(iter(new.levels))}"
    stale = [path for path in (f"{dram}.read_bandwidth", f"{dram}.write_bandwidth") if path not in kept]
    if stale:
        yield Rescaling(dram, "its bytes a second, which stay", dict.fromkeys(stale, factor))
