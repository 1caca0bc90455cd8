"""Comparing workloads with measurements of them: what is given is taken, what is missing is measured and simulated."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mmworkload import verbs
from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.graph import LayerGraph, Workload
from mmworkload.models.names import Options
from mmworkload.printing import tell
from mmworkload.reporting.units import plural
from mmworkload.sources import (
    Arch,
    architecture,
    for_model,
    has_parts,
    has_stage,
    is_saved_graph,
    load_graph,
    load_workload,
    require_known,
    require_runnable,
    traced_model,
)
from mmworkload.system import System
from mmworkload.tracing.snapshot import recorded
from mmworkload.validating import calibration
from mmworkload.validating.device import describes
from mmworkload.validating.report import Report, Study, report

if TYPE_CHECKING:
    from mmworkload.measuring.folder import Result
    from mmworkload.measuring.parts import Measurable
    from mmworkload.measuring.result import Measurement
    from mmworkload.simulating.result import Simulation
    from mmworkload.tracing import Traced

Graphs = Mapping[tuple[str, int, str], LayerGraph]
"""Graphs that are at hand, by model, batch and number type."""
Pair = tuple[LayerGraph, "Measurement"]
Match = tuple[str | Workload, Sequence["Measurement"]]


def graphs_of(results: Iterable[Result]) -> Graphs:
    """The graphs that were saved with their measurements."""
    return {
        (item.graph.model, item.graph.batch, item.graph.dtype): item.graph for item in results if item.graph is not None
    }


@dataclass(frozen=True)
class Asked:
    """What holds for all comparisons of one call; ``running`` are options of :func:`mmworkload.simulate`."""

    device: str
    simulators: tuple[str, ...]
    only: tuple[str, ...]
    strict: bool
    running: Mapping[str, Any]
    how: Options


@dataclass(frozen=True)
class Case:
    """A workload on its way to a comparison: measured already, or with what is needed to do it: a model with its trace,
    or ``parts`` that can be measured."""

    workload: Workload
    measurements: tuple[Measurement, ...]
    model: str = ""
    traced: Traced | None = None
    how: Options = field(default_factory=lambda: Options())
    parts: Measurable | None = None

    @property
    def dtype(self) -> str | None:
        """What the measured side computes in."""
        return self.measurements[0].dtype if self.measurements else self.how.get("dtype")

    @property
    def pairs(self) -> list[Pair]:
        return [(part.graph, taken) for part, taken in zip(self.workload.parts, self.measurements, strict=True)]

    def simulate(self, spec: Architecture | System, simulator: str, asked: Asked) -> Simulation:
        forced = asked.how.get("dtype")
        return verbs.simulate(self.workload, spec, simulator=simulator, strict=False, dtype=forced, **asked.running)

    def measured(self, asked: Asked) -> Case:
        if self.measurements:
            return self
        if self.parts is not None:
            found = {item.name: item for item in self.parts.measure(device=asked.device, only=asked.only).parts}
            own = tuple(found[part.name].result.measurement for part in self.workload.parts)
            return replace(self, measurements=own)
        taken = verbs.measure(self.model, device=asked.device, only=asked.only, traced=self.traced, **self.how)
        return replace(self, measurements=(taken,))

    def report(self, spec: Architecture | System, simulation: Simulation, device: Architecture | None) -> Report:
        alone = spec if isinstance(spec, Architecture) else None
        return report(self.workload, self.measurements, simulation, arch=alone, device=device)


def one(model: str | Workload, arch: Arch, taken: Sequence[Measurement], asked: Asked) -> Report:
    """See :func:`mmworkload.validate`."""
    if isinstance(model, str) and has_parts(model, for_model(asked.how)[0]):
        (model, taken), *_ = _matches(model, taken, asked)
    case = _case(model, taken, asked, {})
    (spec,) = _machines([arch], case, asked)
    simulation = case.simulate(spec, asked.simulators[0], asked)
    case = case.measured(asked)
    return case.report(spec, simulation, _device([spec], case))


def every(
    models: Sequence[str | Workload],
    archs: Sequence[Arch],
    measurements: Sequence[Measurement],
    graphs: Graphs,
    asked: Asked,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """See :func:`mmworkload.verbs.validate_all`."""
    if not models and not measurements:
        raise MmworkloadError("name a workload, or give measurements with --measured")
    for arch in archs:
        # A wrong name is told before anything is traced or measured.
        architecture(arch, dtype=asked.how.get("dtype"))
    unanswered: dict[str, None] = {}
    if importlib.util.find_spec("torch") is None:
        known = [item for item in measurements if _at_hand(item, graphs, asked.how) is not None]
        if known and len(known) < len(measurements):
            unanswered[
                f"{plural(len(measurements) - len(known), 'measurement')} whose graphs have to be traced (another batch"
                " than the recorded one): pip install 'mmworkload[trace]'"
            ] = None
            measurements = known
    names: Sequence[str | Workload] = models or list(dict.fromkeys(item.model for item in measurements))
    matches = [match for name in names for match in _matches(name, measurements, asked)]
    for model, taken in matches:
        if measurements and not taken:
            told = "none of the results given is of it, so that it is measured here"
            tell(f"{model if isinstance(model, str) else model.name}: {told}")
    simulators = [name for name in asked.simulators if name != calibration.NAME]
    calibrating = "auto" in asked.simulators or calibration.NAME in asked.simulators
    # Of each case: its graph, each simulator on each architecture, its measurement, and the calibrated model.
    steps = len(matches) * (2 + len(archs) * max(1, len(simulators)) + calibrating)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    cases = []
    for model, taken in matches:
        cases.append(_case(model, taken, asked, graphs))
        step()
    others = _others(matches, measurements, graphs)
    machines = [_machines(archs, case, asked) for case in cases]
    reports: list[list[Report]] = []
    # The closed form on each case's own device, which the calibration corrects.
    bases: dict[int, tuple[Architecture, Simulation]] = {}
    for index, case in enumerate(cases):
        answers: list[tuple[Architecture | System, Simulation]] = []
        for spec in machines[index]:
            for name in simulators:
                try:
                    answers.append((spec, case.simulate(spec, name, asked)))
                except UnknownNameError:
                    raise
                except MmworkloadError as error:
                    if len(machines[index]) * len(simulators) == 1:
                        raise
                    unanswered[f"{name} on {spec.label} for {case.workload.name}: {error}"] = None
                step()
        cases[index] = case = case.measured(asked)
        step()
        own = _device(machines[index], case)
        if own is not None:
            bases[index] = own, case.simulate(own, "roofline", asked)
        reports.append([case.report(spec, simulation, own) for spec, simulation in answers])
    splits: list[calibration.Split] = []
    if calibrating:
        for index, own_report, split in _calibrated(cases, others, bases):
            step()
            reports[index].append(own_report)
            if split not in splits:
                splits.append(split)
        if calibration.NAME in asked.simulators and not splits:
            raise MmworkloadError(
                "the calibrated model is fitted on other workloads than the one under test: give an architecture of the"
                " measured device (--arch host, or the GPU by name) and measurements of two workloads or more"
            )
    found = tuple(item for items in reports for item in items)
    if not found:
        raise MmworkloadError("; ".join(unanswered) or "nothing to compare")
    return Study(found, tuple(splits), tuple(unanswered))


def _calibrated(
    cases: Sequence[Case], others: Sequence[Pair], bases: Mapping[int, tuple[Architecture, Simulation]]
) -> Iterator[tuple[int, Report, calibration.Split]]:
    """The comparisons with the model that was fitted on the other workloads, device by device."""
    for key, own in {own.key: own for own, _ in bases.values()}.items():
        here = {index: base for index, (found, base) in bases.items() if found.key == key}
        known = [pair for index in here for pair in cases[index].pairs]
        # A device's peaks are those of one number type.
        dtypes = {cases[index].dtype for index in here}
        known += [pair for pair in others if describes(own, pair[1]) and pair[1].dtype in dtypes]
        tested = {
            cases[index].workload.name: {part.graph.model for part in cases[index].workload.parts} for index in here
        }
        splits = {split.tested: split for split in calibration.leave_one_out(known, own, tested)}
        for index, base in here.items():
            case = cases[index]
            split = splits.get(case.workload.name)
            if split is not None:
                made = calibration.calibrated(base, case.workload, own, split.calibration)
                yield index, case.report(own, made, own), split


def _case(model: str | Workload, taken: Sequence[Measurement], asked: Asked, graphs: Graphs) -> Case:
    """With ``taken``, or what is needed to measure it. MmworkloadError when the two do not fit."""
    how = for_model(asked.how)[0]
    if isinstance(model, Workload):
        if not taken:
            raise MmworkloadError(f"{model.name}: a workload of parts is compared with a measurement of each part")
        if len(taken) != len(model.parts):
            raise MmworkloadError(
                f"{model.name} has {len(model.parts)} parts and {len(taken)} measurements; give one for each part"
            )
        pairs = zip(model.parts, taken, strict=True)
        kept = [(part, item) for part, item in pairs if has_stage(part.graph, asked.only)]
        taken = [item for _, item in kept]
        # Where no part has the stage, the error names those that there are.
        some = replace(model, parts=tuple(part for part, _ in kept)) if kept else model
        return Case(load_workload(some, asked.only, asked.strict, how), _narrowed(some, taken, asked.only))
    if not taken and has_parts(model, how):
        from mmworkload.measuring.parts import measurable

        parts = measurable(model, how)
        return Case(load_workload(parts.workload, asked.only, asked.strict, {}), (), model, parts=parts)
    if not taken:
        require_runnable(model)
        traced = traced_model(model, how)
        graph = load_graph(traced.graph, {}, only=asked.only, strict=asked.strict)
        return Case(Workload.of(graph), (), model, traced, how)
    measurement, *more = taken
    if more:
        raise MmworkloadError(f"{model} is one graph, and there are {len(taken)} measurements; give one")
    known = _at_hand(measurement, graphs, how)
    if known is None:
        how = {**how, "dtype": measurement.dtype}
        if how.get("batch") is None:
            how["batch"] = measurement.batch
        known = load_graph(model, how)
    if asked.strict:
        require_known(known)
    if (measurement.model, measurement.batch) != (known.model, known.batch):
        raise MmworkloadError(
            f"the measurement is of {measurement.model} at batch {measurement.batch}, the graph of {known.model} at"
            f" batch {known.batch}"
        )
    part = Workload.of(known.only(asked.only))
    return Case(part, _narrowed(part, taken, asked.only))


def _matches(model: str | Workload, measurements: Sequence[Measurement], asked: Asked) -> list[Match]:
    """A model or workload with each of its measurements, of a workload one a part; with none where it was not measured.

    Parts belong together by batch and number type. MmworkloadError when some of them are missing.
    """
    how = for_model(asked.how)[0]
    batch = how.get("batch")
    if isinstance(model, Workload):
        return [(model, _by_part(model, measurements))]
    if not has_parts(model, how):
        called = model if any(item.model == model for item in measurements) else _full_name(model)
        own = [item for item in measurements if item.model == called]
        # Where none is of the batch that is asked for, the case says so.
        own = [item for item in own if batch in (None, item.batch)] or own
        return [(model, (item,)) for item in own] or [(model, ())]
    if not measurements:
        return [(model, ())]
    workload = load_workload(model, (), asked.strict, how)
    first, models = workload.parts[0].graph, {part.graph.model for part in workload.parts}
    own = [item for item in measurements if item.model in models and batch in (None, item.batch)]
    found: list[Match] = []
    for size, dtype in dict.fromkeys((item.batch, item.dtype) for item in own):
        same = (size, dtype) == (first.batch, first.dtype)
        whole = workload if same else load_workload(model, (), asked.strict, {**how, "batch": size, "dtype": dtype})
        found.append((whole, _by_part(whole, own)))
    return found or [(model, ())]


def _by_part(workload: Workload, taken: Iterable[Measurement]) -> list[Measurement]:
    """The measurement of each part, in its batch and number type. MmworkloadError for parts without one."""
    known = {(item.model, item.batch, item.dtype): item for item in taken}
    wanted = [(part.graph.model, part.graph.batch, part.graph.dtype) for part in workload.parts]
    missing = dict.fromkeys(model for model, batch, dtype in wanted if (model, batch, dtype) not in known)
    if missing:
        raise MmworkloadError(f"{workload.name}: no measurement of its parts {', '.join(missing)}")
    return [known[key] for key in wanted]


def _at_hand(taken: Measurement, graphs: Graphs, how: Options) -> LayerGraph | None:
    """The graph of a measurement that needs no tracing: given, or recorded with the workload; else None."""
    found = graphs.get((taken.model, taken.batch, taken.dtype))
    changed = any(how.get(option) for option in ("settings", "stages", "end_to_end"))
    if found is not None or changed or taken.dtype != "float32":
        return found
    kept = recorded(taken.model)
    return kept if kept is not None and kept.batch == taken.batch else None


def _narrowed(workload: Workload, taken: Sequence[Measurement], only: tuple[str, ...]) -> tuple[Measurement, ...]:
    """The measurements with the layers of these stages alone."""
    if not only:
        return tuple(taken)
    found = []
    for part, measurement in zip(workload.parts, taken, strict=True):
        inside = {layer.name for layer in part.graph.only(only)}
        kept = tuple(item for item in measurement.layers if item.layer in inside)
        found.append(replace(measurement, layers=kept, only=only))
    return tuple(found)


def _others(matches: Iterable[Match], measurements: Iterable[Measurement], graphs: Graphs) -> list[Pair]:
    """Measurements of models that are not compared, which serve the calibration only."""
    used = {item.model for _, taken in matches for item in taken}
    return [
        (_at_hand(item, graphs, {}) or load_graph(item.model, {"batch": item.batch, "dtype": item.dtype}), item)
        for item in measurements
        if item.model not in used
    ]


def _full_name(model: str) -> str:
    """As the measurement of a model is called: with its variant, a saved graph by the model that it is of."""
    if is_saved_graph(model):
        return LayerGraph.load(model).model
    from mmworkload.models import families

    family_name, _, variant = model.partition("/")
    family = families().get(family_name)
    return f"{family_name}/{family.variant(variant, family_name).name}" if family else model


def _machines(archs: Sequence[Arch], case: Case, asked: Asked) -> list[Architecture | System]:
    """The architectures, a GPU in the precision of the measured side. A setting without an architecture's name is for
    each of them."""
    settings = for_model(asked.how)[1]
    found: list[Architecture | System] = []
    for arch in archs:
        spec = architecture(arch, dtype=asked.how.get("dtype") or case.dtype)
        if settings and isinstance(spec, System):
            spec = architecture(spec, settings=settings)
        elif settings and isinstance(spec, Architecture):
            named = {path.rpartition(":")[2]: value for path, value in settings.items() if _is_for(path, spec.name)}
            spec = architecture(spec, settings=named)
        found.append(spec)
    return found


def _is_for(path: str, name: str) -> bool:
    owner, colon, _ = path.rpartition(":")
    return not colon or owner == name


def _device(specs: Iterable[Architecture | System], case: Case) -> Architecture | None:
    """The architecture of the device that ``case`` was measured on."""
    for spec in specs:
        if isinstance(spec, Architecture) and all(describes(spec, item) for item in case.measurements):
            return spec
    return None
