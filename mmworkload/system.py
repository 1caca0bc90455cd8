"""Several architectures for one workload: each stage runs on the one that is named for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, UnknownNameError
from mmworkload.straggler import stage_matches


@dataclass(frozen=True)
class System:
    """Stage globs and the architecture of each, as ``encoder/image=nvdla_like,*=eyeriss_like``; the first that matches
    counts. Every architecture is there once, whichever stages run on it."""

    assignments: tuple[tuple[str, Architecture], ...]

    def __repr__(self) -> str:
        return f"<System {self.label!r}>"

    @classmethod
    def of(cls, arch: Architecture | System) -> System:
        """The system itself, or the one that runs everything on ``arch``."""
        return arch if isinstance(arch, System) else cls((("*", arch),))

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """Each once, in the order of the assignments."""
        return tuple({arch.label: arch for _, arch in self.assignments}.values())

    @property
    def label(self) -> str:
        if len(self.assignments) == 1:
            return self.assignments[0][1].label
        return ", ".join(f"{glob}={arch.label}" for glob, arch in self.assignments)

    @property
    def key(self) -> str:
        """16 hexadecimal digits over all that can change a result."""
        if len(self.assignments) == 1:
            return self.assignments[0][1].key
        content = ",".join(f"{glob}={arch.key}" for glob, arch in self.assignments)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def runs(self, stage: str) -> Architecture:
        """The architecture of a stage. ArchitectureError when no glob matches."""
        for glob, arch in self.assignments:
            if stage_matches(stage, glob):
                return arch
        raise ArchitectureError(
            f"the system {self.label} has no architecture for the stage '{stage}'; end it with *=NAME for all others"
        )

    def each(
        self, settings: Mapping[str, Any], overridden: Callable[[Architecture, Mapping[str, Any]], Architecture]
    ) -> System:
        """The system with parameters set, each as ``ARCHITECTURE:path``. ArchitectureError for one without a name of
        an architecture that is here."""
        own: dict[str, dict[str, Any]] = {arch.name: {} for _, arch in self.assignments}
        for setting, value in settings.items():
            name, _, path = setting.rpartition(":")
            if name not in own:
                raise ArchitectureError(f"--set {setting}: say of which architecture, as in {next(iter(own))}:{path}")
            own[name][path] = value
        changed = {arch.name: overridden(arch, own[arch.name]) for _, arch in self.assignments if own[arch.name]}
        return System(tuple((glob, changed.get(arch.name, arch)) for glob, arch in self.assignments))


def parse(text: str, load: Callable[[str], Architecture]) -> System:
    """A system from ``GLOB=ARCH,GLOB=ARCH``, architectures by ``load``.

    Raises ArchitectureError for text of another form, UnknownNameError for an unknown architecture.
    """
    assignments = []
    for item in text.split(","):
        glob, equals, name = (part.strip() for part in item.partition("="))
        if not (glob and equals and name):
            raise ArchitectureError(
                f"--arch {text}: '{item}' is not STAGE=ARCHITECTURE, as in encoder/image=nvdla_like"
            )
        assignments.append((glob, load(name)))
    return System(tuple(assignments))


def require_stages(system: System, stages: list[str]) -> None:
    """UnknownNameError for a glob of the system that no stage matches: a misspelt stage would run elsewhere."""
    for glob, _ in system.assignments:
        if not any(stage_matches(stage, glob) for stage in stages):
            raise UnknownNameError("stage", glob, stages)
