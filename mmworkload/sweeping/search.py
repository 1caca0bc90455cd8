"""Search by Optuna's samplers: which designs to evaluate next. The study is Optuna's own, in the sweep's folder.

Results are told to the study only after they are kept, so a killed search has at most trials that Optuna believes to be
running: those that are kept are told, the others are asked for first when it goes on. A design that comes again costs
nothing and does not count.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError, UnavailableError
from mmworkload.sweeping.space import Axis, Design, Space
from mmworkload.sweeping.spec import SweepSpec
from mmworkload.sweeping.store import Store

if TYPE_CHECKING:
    import optuna

Values = Mapping[str, tuple[list[float], list[float]] | None]
"""Design to (objectives, violations of constraints); None for a design that failed."""
_POPULATION = {"tpe": 8, "nsga2": 24}
# So often may a search of a small space ask for what it knows before it gives up.
_REPEATS = 50
_VIOLATIONS = "violations"


class Search:
    """One study. ``known`` are the designs that are kept, by identity, and ``points`` where they are."""

    def __init__(
        self, spec: SweepSpec, space: Space, store: Store, known: Values, points: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self._spec = spec
        self._space = space
        self._known = dict(known)
        with _quiet():
            self._study = _study(spec, store)
            if not self._study.get_trials(deepcopy=False):
                # A study that was lost is made again from what is kept: asked for once more, and told at once.
                for point in points:
                    self._study.enqueue_trial({axis.name: _parameter(axis, point) for axis in space.varied})
        self._take_up()

    def batches(self) -> Iterator[list[Design]]:
        """Designs to evaluate next, none twice; after each list, :meth:`tell` what came of it. Ends with the budget,
        or when the sampler has no new design."""
        budget = self._budget
        repeats = 0
        while len(self._known) < budget and repeats < _REPEATS:
            asked: list[tuple[Any, Design]] = []
            fresh: dict[str, Design] = {}
            with _quiet():
                for _ in range(self._spec.search.population or _POPULATION[self._spec.search.method]):
                    trial = self._study.ask()
                    design = self._design(trial)
                    if design.id not in self._known and design.id not in fresh:
                        if len(self._known) + len(fresh) >= budget:
                            self._study.tell(trial, state=_states().FAIL)
                            break
                        fresh[design.id] = design
                    asked.append((trial, design))
            repeats = 0 if fresh else repeats + 1
            if fresh:
                yield list(fresh.values())
            with _quiet():
                for trial, design in asked:
                    self._close(trial, design.id)

    def tell(self, values: Values) -> None:
        """What came of designs."""
        self._known.update(values)

    @property
    def _budget(self) -> int:
        designs = self._spec.search.designs
        return designs if self._space.size is None else min(designs, self._space.size)

    def _design(self, trial: optuna.Trial) -> Design:
        point = {axis.name: _suggested(trial, axis) for axis in self._space.varied}
        # Designs are numbered as they are first asked for; a trial that is taken up again keeps its number.
        return self._space.design(trial.number, self._whole(point))

    def _whole(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """With the axes that have one value, which Optuna does not see."""
        return {axis.name: axis.values[0] for axis in self._space.axes if len(axis.values) == 1} | dict(point)

    def _close(self, trial: optuna.Trial, design: str) -> None:
        if design not in self._known:
            return  # it did not run; it is taken up when the search goes on
        found = self._known[design]
        if found is None:
            self._study.tell(trial, state=_states().FAIL)
            return
        objectives, violations = found
        trial.set_user_attr(_VIOLATIONS, violations)
        self._study.tell(trial, objectives)

    def _take_up(self) -> None:
        """Settles the trials that were running when the last driver ended."""
        import optuna

        with _quiet():
            for old in self._study.get_trials(deepcopy=False, states=(_states().RUNNING,)):
                if set(old.params) != {axis.name for axis in self._space.varied}:
                    self._study.tell(old.number, state=_states().FAIL)
                    continue
                point = {axis.name: _value(axis, old.params[axis.name]) for axis in self._space.varied}
                design = self._space.design(old.number, self._whole(point))
                if design.id in self._known:
                    self._close(optuna.Trial(self._study, old._trial_id), design.id)
                else:
                    self._study.tell(old.number, state=_states().FAIL)
                    self._study.enqueue_trial(old.params)


def _states() -> Any:
    import optuna

    return optuna.trial.TrialState


def _study(spec: SweepSpec, store: Store) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise UnavailableError(
            f"search.method {spec.search.method} needs Optuna: pip install 'mmworkload[sweep]'; grid and random do not"
        ) from error
    import sqlalchemy.event
    import sqlalchemy.exc

    population = spec.search.population or _POPULATION[spec.search.method]
    constraints: Callable[[optuna.trial.FrozenTrial], Sequence[float]] | None = None
    if spec.conditions:
        constraints = _violations
    sampler: optuna.samplers.BaseSampler
    if spec.search.method == "nsga2":
        sampler = optuna.samplers.NSGAIISampler(
            population_size=population, seed=spec.search.seed, constraints_func=constraints
        )
    else:
        sampler = optuna.samplers.TPESampler(
            seed=spec.search.seed, constraints_func=constraints, constant_liar=True, multivariate=True
        )
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{store.study}")
        # Survives a kill; what a power failure takes is made again from what is kept. Else a trial takes 15 flushes.
        storage.engine.dispose()
        sqlalchemy.event.listen(
            storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
        )
        return optuna.create_study(
            storage=storage,
            study_name="sweep",
            sampler=sampler,
            directions=["maximize" if goal.maximise else "minimize" for goal in spec.goals],
            load_if_exists=True,
        )
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MmworkloadError(
            f"Optuna's study {store.study} cannot be used ({reason}). Results are not in it: remove it and resume, and"
            " it is made again from what is kept"
        ) from error


def _violations(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    found: Sequence[float] = trial.user_attrs.get(_VIOLATIONS, ())
    return found


def _suggested(trial: optuna.Trial, axis: Axis) -> Any:
    if axis.values:
        # By place: Optuna takes no lists for values.
        if _ordered(axis):
            return axis.values[trial.suggest_int(axis.name, 0, len(axis.values) - 1)]
        return axis.values[trial.suggest_categorical(axis.name, list(range(len(axis.values))))]
    assert axis.span is not None
    low, high = axis.span.range
    if axis.whole:
        return trial.suggest_int(axis.name, round(low), round(high), log=axis.span.log)
    return _value(axis, trial.suggest_float(axis.name, low, high, log=axis.span.log))


def _value(axis: Axis, parameter: Any) -> Any:
    """The value on an axis that a parameter of Optuna's stands for."""
    if axis.values:
        return axis.values[parameter]
    number = float(f"{parameter:.9g}")
    return round(number) if axis.whole or number.is_integer() else number


def _parameter(axis: Axis, point: Mapping[str, Any]) -> Any:
    """The inverse of :func:`_value`."""
    return axis.values.index(point[axis.name]) if axis.values else point[axis.name]


def _ordered(axis: Axis) -> bool:
    """Whether values are numbers that grow, so that neighbours are alike."""
    numbers = [item for item in axis.values if isinstance(item, int | float) and not isinstance(item, bool)]
    return len(numbers) == len(axis.values) and numbers == sorted(numbers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log, and without its warnings of what is experimental."""
    try:
        import optuna
    except ImportError:
        yield
        return
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
