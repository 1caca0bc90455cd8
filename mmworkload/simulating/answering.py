"""Problems to answers: what is known from the cache, what is left in parallel workers, and all of it checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError, SimulationError
from mmworkload.problem import Problem
from mmworkload.simulating.cache import CRASH, ERROR, TIMEOUT, Cache, Failure
from mmworkload.simulating.choice import Choice
from mmworkload.simulating.estimate import Estimate, Job, NotRecordedError, Options, check
from mmworkload.simulating.roofline import closed_form
from mmworkload.simulating.rows import Answer
from mmworkload.simulating.workers import WorkerPool

Progress = Callable[[int, int], None]
"""Called with the problems done and all problems."""


@dataclass(frozen=True)
class Answers:
    """The answer to each problem by its key, and how many of them were known from before."""

    by_key: dict[str, Answer]
    known: int


class UnansweredError(MmworkloadError):
    """The simulator has no answer to the problems ``keys``, and ``why``."""

    def __init__(self, keys: Sequence[str], why: str) -> None:
        super().__init__(why)
        self.keys = tuple(keys)
        self.why = why


@dataclass(frozen=True)
class Questions:
    """All that decides the answers but the problems; ``retry`` asks again what failed before."""

    arch: Architecture
    choice: Choice
    options: Options
    workers: int | None
    store: Cache | None
    retry: bool
    progress: Progress

    def answer(self, problems: Mapping[str, Problem]) -> Answers:
        """Every problem; the roofline answers what the simulator cannot, and those answers say so."""
        return self._answer(problems, lambda keys, why: None)

    def answer_all(self, problems: Mapping[str, Problem]) -> Answers:
        """Every problem by the simulator alone. UnansweredError as soon as it has no answer to one, before anything
        runs where that can be known."""

        def stop(keys: Sequence[str], why: str) -> None:
            raise UnansweredError(keys, why)

        return self._answer(problems, stop)

    def _answer(self, problems: Mapping[str, Problem], unanswered: Callable[[Sequence[str], str], None]) -> Answers:
        """Two problems that give one job are one run. ``unanswered`` is told of problems that get no answer."""
        simulator = self.choice.simulator
        answers: dict[str, Answer] = {}
        jobs: dict[str, Job] = {}
        unrecorded: list[str] = []
        refused: dict[str, str] = {}
        self.progress(0, len(problems))
        for key, problem in problems.items():
            try:
                jobs[key] = simulator.prepare(problem, self.arch, self.options)
            except NotRecordedError:
                unrecorded.append(key)
            except SimulationError as error:
                refused[key] = str(error)
        if unrecorded:
            unanswered(unrecorded, f"not on record: {len(unrecorded)} of {len(problems)} loop nests")
        if refused:
            unanswered(list(refused), f"refused: {next(iter(refused.values()))}")

        def settle(keys: Sequence[str], result: Estimate | Failure) -> None:
            for key in keys:
                answers[key] = self._checked(problems[key], result)
            self.progress(len(answers), len(problems))
            failed = [key for key in keys if answers[key].note]
            if failed:
                unanswered(failed, answers[failed[0]].note.removeprefix(f"{simulator.name} "))

        for key in unrecorded:
            note = f"{simulator.name} has no answer on record"
            answers[key] = Answer(closed_form(problems[key], self.arch), note)
        for key, reason in refused.items():
            settle([key], Failure(ERROR, reason, self.options.limit_s))
        hits = 0
        waiting: dict[str, tuple[Job, list[str]]] = {}
        for key, job in jobs.items():
            if simulator.in_process:
                try:
                    result: Estimate | Failure = simulator.run(job, Path())
                except SimulationError as error:
                    result = Failure(ERROR, str(error), self.options.limit_s)
                settle([key], result)
            elif job.key in waiting:
                waiting[job.key][1].append(key)
            else:
                known = self.store.get(job.key, job.limit_s) if self.store else None
                if known is None or (self.retry and isinstance(known, Failure)):
                    waiting[job.key] = (job, [key])
                else:
                    hits += 1
                    settle([key], known)
        if waiting:
            left = list(waiting.values())
            with WorkerPool(self.workers) as pool:
                for position, result in pool.run([job for job, _ in left]):
                    job, keys = left[position]
                    if self.store:
                        self.store.put(job.key, result)
                    settle(keys, result)
        return Answers(answers, hits)

    def _checked(self, problem: Problem, result: Estimate | Failure) -> Answer:
        """The estimate, raised to the physical floors; the roofline's where the simulator has none or a wrong one."""
        simulator = self.choice.simulator
        if isinstance(result, Estimate):
            try:
                tolerance = getattr(simulator, "mac_tolerance", 0.0)
                return Answer(check(result, problem, self.arch, mac_tolerance=tolerance), asked=simulator.name)
            except SimulationError as error:
                result = Failure(ERROR, str(error), self.options.limit_s)
        reason = " ".join(result.message.split())[:200]
        note = f"{simulator.name} gave no answer ({result.kind}): {reason}"
        return Answer(closed_form(problem, self.arch), note, simulator.name, result.kind in (TIMEOUT, CRASH))
