"""Recorded answers: what a simulator that is not on this machine said on another (:mod:`mmworkload.packs`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import FormatError, SimulationError
from mmworkload.packs.pack import Pack
from mmworkload.packs.shelf import files, packs
from mmworkload.problem import Problem
from mmworkload.simulating.choice import simulators
from mmworkload.simulating.estimate import Estimate, Fidelity, Job, NotRecordedError, Options


class Recorded:
    """Answers when the key of the job, which covers architecture, problem and options, is in a pack; the newest first.

    Its estimates carry the version of the pack that they are from.
    """

    name = "recorded"
    in_process = True

    def unavailable(self) -> str | None:
        if not files():
            return "no pack of recorded results is installed"
        try:
            packs()
        except FormatError as error:
            return str(error)
        return None

    def version(self) -> str:
        return "; ".join(dict.fromkeys(pack.label for pack in packs()))

    def fidelity(self, arch: Architecture) -> Fidelity:
        """That of the simulator that was recorded; refused when no pack knows the architecture as it is."""
        known = simulators()
        for pack in packs():
            if arch.key in pack.arch_keys and pack.simulator in known:
                found: Fidelity = known[pack.simulator].fidelity(arch)
                return found
        return Fidelity("refused", (f"no results are recorded for {arch.label}",))

    def prepare(self, problem: Problem, arch: Architecture, options: Options) -> Job:
        """The recorded simulator's job, in the version of the pack that has its key.

        Raises NotRecordedError when none has, SimulationError when the simulator cannot express the problem.
        """
        found = find(packs(), problem, arch, options)
        if found is None:
            raise NotRecordedError(f"no results are recorded for {problem} on {arch.label} at effort {options.effort}")
        return replace(found, options={"key": found.key})

    def run(self, job: Job, directory: Path) -> Estimate:
        """The recorded answer."""
        for pack in packs():
            row = pack.by_key.get(job.options["key"])
            if row is not None:
                return row.estimate(self.name, pack.label)
        raise NotRecordedError(f"no results are recorded under {job.options['key']}")


def find(shelf: Iterable[Pack], problem: Problem, arch: Architecture, options: Options) -> Job | None:
    """The job that a pack of ``shelf`` answers, in that pack's version; None when none does.

    Problems that the simulator is told in the same words share a row. Raises SimulationError when the simulator cannot
    express the problem, and when a row is filed under the key of another one.
    """
    known = simulators()
    for pack in shelf:
        if arch.key not in pack.arch_keys or pack.simulator not in known:
            continue

        def job_of(asked: Problem, pack: Pack = pack) -> Job:
            return replace(known[pack.simulator].prepare(asked, arch, options), version=pack.version)

        job = job_of(problem)
        row = pack.by_key.get(job.key)
        if row is None:
            continue
        if row.problem != str(problem) and job_of(Problem.parse(row.problem)).key != job.key:
            raise SimulationError(f"{pack.label}: the row {row.key[:16]} is of {row.problem}, not of {problem}")
        return job
    return None


SIMULATOR = Recorded()
