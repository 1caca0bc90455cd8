"""Problems to answers: what is known from the cache, what is left in parallel workers, and all of it checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.problem import Problem
from mmworkload.simulating.cache import CRASH, ERROR, TIMEOUT, Cache, Failure
from mmworkload.simulating.choice import Choice
from mmworkload.simulating.estimate import Estimate, Job, NotRecordedError, Options, Simulator, check
from mmworkload.simulating.roofline import closed_form
from mmworkload.simulating.rows import Answer
from mmworkload.simulating.workers import WorkerPool

Progress = Callable[[int, int], None]
"""Called with the problems done and all problems."""


@dataclass(frozen=True)
class Questions:
    """All that decides the answers but the problems. Of the ``choices`` each is asked what those before it do not have
    on record; ``retry`` asks again what failed before."""

    arch: Architecture
    choices: Sequence[Choice]
    options: Options
    workers: int | None
    store: Cache | None
    retry: bool
    progress: Progress

    def answer(self, problems: Mapping[str, Problem]) -> tuple[dict[str, Answer], int]:
        """Problem key to answer, and how many were known. Two problems that give one job are one run."""
        answers: dict[str, Answer] = {}
        hits = 0
        left = dict(problems)
        self.progress(0, len(problems))
        for choice in self.choices:
            hits += self._ask(choice, left, answers, len(problems))
            left = {key: problem for key, problem in left.items() if key not in answers}
        for key, problem in left.items():
            note = f"{self.choices[-1].simulator.name} has no answer on record"
            answers[key] = Answer(closed_form(problem, self.arch), note)
            self.progress(len(answers), len(problems))
        return answers, hits

    def _ask(self, choice: Choice, problems: Mapping[str, Problem], answers: dict[str, Answer], total: int) -> int:
        """Adds to ``answers`` what ``choice`` answers or fails to; the number of answers that were known."""
        simulator = choice.simulator
        waiting: dict[str, tuple[Job, list[str]]] = {}
        hits = 0

        def settle(keys: list[str], result: Estimate | Failure) -> None:
            for key in keys:
                answers[key] = self._checked(simulator, problems[key], result)
            self.progress(len(answers), total)

        for key, problem in problems.items():
            try:
                job = simulator.prepare(problem, self.arch, self.options)
                if simulator.in_process:
                    settle([key], simulator.run(job, Path()))
                    continue
            except NotRecordedError:
                continue
            except SimulationError as error:
                settle([key], Failure(ERROR, str(error), self.options.limit_s))
                continue
            if job.key in waiting:
                waiting[job.key][1].append(key)
            else:
                known = self.store.get(job.key, job.limit_s) if self.store else None
                if known is None or (self.retry and isinstance(known, Failure)):
                    waiting[job.key] = (job, [key])
                else:
                    hits += 1
                    settle([key], known)
        if waiting:
            jobs = list(waiting.values())
            with WorkerPool(self.workers) as pool:
                for position, result in pool.run([job for job, _ in jobs]):
                    job, keys = jobs[position]
                    if self.store:
                        self.store.put(job.key, result)
                    settle(keys, result)
        return hits

    def _checked(self, simulator: Simulator, problem: Problem, result: Estimate | Failure) -> Answer:
        """The estimate, raised to the physical floors; the roofline's where the simulator has none or a wrong one."""
        if isinstance(result, Estimate):
            try:
                tolerance = getattr(simulator, "mac_tolerance", 0.0)
                return Answer(check(result, problem, self.arch, mac_tolerance=tolerance), asked=simulator.name)
            except SimulationError as error:
                result = Failure(ERROR, str(error), self.options.limit_s)
        reason = " ".join(result.message.split())[:200]
        note = f"{simulator.name} gave no answer ({result.kind}): {reason}"
        return Answer(closed_form(problem, self.arch), note, simulator.name, result.kind in (TIMEOUT, CRASH))
