"""From a name to a generation: ``codellama/7b?prompt=1024&steps=128&beams=4``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.generation.generation import Generation, Once, Phase, Steps
from mmworkload.generation.growing import Growing, grow
from mmworkload.generation.levers import LEVERS, pulled
from mmworkload.graph import LayerGraph
from mmworkload.models.family import Generating, Run, Variant, accepted, full_name, settle
from mmworkload.models.names import Options, families, split

# No growing phase is traced at shorter lengths: an extent of one would drop out of the loop nests.
SHORTEST = 2


def find(name: str, **options: Unpack[Options]) -> tuple[str, Generating | Variant] | None:
    """The workload and the generation that ``name`` means; None where it means something else.

    One variant with a lever (``codellama/7b-decode?weights=int4``) is a generation of one run.
    """
    base, in_name, _ = split(name)
    if ":" in base or base.endswith(".py"):
        return None
    family_name, _, rest = base.partition("/")
    family = families().get(family_name)
    if family is None:
        return None
    whole = family.generation(rest) if rest else None
    if whole is not None:
        return family_name, whole
    said = LEVERS.keys() & {*in_name, *(options.get("settings") or {})}
    if not said or any(item.parameters.keys() & said for item in family.variants):
        return None
    return family_name, family.variant(rest, family_name)


def resolve_generation(name: str, **options: Unpack[Options]) -> Generation | None:
    """The generation behind a name with all its graphs traced, or None when the name is not one.

    Raises UnknownNameError and MmworkloadError as :func:`mmworkload.models.resolve`, ModelError when a phase does not
    grow evenly.
    """
    return generation(name, **options) if find(name, **options) else None


def generation(name: str, **options: Unpack[Options]) -> Generation:
    """As :func:`resolve_generation`; UnknownNameError when the name is not a generation."""
    found = find(name, **options)
    if found is None:
        known = [f"{key}/{item.name}" for key, family in families().items() for item in family.generations]
        raise UnknownNameError("generation", name, known)
    family_name, declared = found
    _, in_name, end_to_end = split(name)
    if end_to_end or options.get("end_to_end") or options.get("inputs"):
        raise MmworkloadError(f"{name}: a generation begins behind the pre-processing and takes no inputs from a file")
    parameters = {**declared.parameters, **LEVERS}
    own = f"{family_name}/{declared.name}"
    settings = settle(parameters, {**in_name, **(options.get("settings") or {})}, own)
    traces = _Traces(family_name, options)
    if isinstance(declared, Variant):
        runs: tuple[Run, ...] = (
            Run(declared.name, declared.name, {key: settings[key] for key in declared.parameters}),
        )
    else:
        runs = declared.runs(**accepted(declared.runs, settings))
    traces.expect(runs)
    notes = (declared.notes,) if declared.notes else ()
    made = Generation(full_name(own, parameters, settings), tuple(traces.phase(run) for run in runs), notes)
    return pulled(made, settings)


def phase_graph(name: str, **options: Unpack[Options]) -> LayerGraph | None:
    """The graph of one variant with levers (``codellama/7b-decode?weights=int4``); None for any other name.

    Raises as :func:`generation`.
    """
    found = find(name, **options)
    if found is None or isinstance(found[1], Generating):
        return None
    made = generation(name, **options)
    (part,) = made.sampled().workload.parts
    return replace(part.graph, model=made.name)


class _Traces:
    """Traces the runs of one generation, each variant at its settings once for all lengths."""

    def __init__(self, family: str, options: Options) -> None:
        self.family = family
        self.options: dict[str, Any] = {
            key: value for key, value in options.items() if key in ("batch", "dtype", "stages")
        }
        self.spans: dict[tuple[Any, ...], tuple[int, int]] = {}
        self.known: dict[tuple[Any, ...], Growing] = {}

    def expect(self, runs: tuple[Run, ...]) -> None:
        """The shortest and longest length of each growing variant, over all runs of it."""
        for run in runs:
            if run.along and run.steps > 0:
                last = run.start + (run.steps - 1) * run.stride
                low, high = self.spans.get(_key(run), (run.start, last))
                self.spans[_key(run)] = (min(low, run.start), max(high, last))

    def phase(self, run: Run) -> Phase:
        if not run.along:
            return Once(run.name, self.graph(run, {}), run.steps)
        key = _key(run)
        if key not in self.known:
            low, high = self.spans[key]
            low = max(low, SHORTEST)
            high = max(high, low + 2)
            middle = (low + high) // 2
            self.known[key] = grow(lambda length: self.graph(run, {run.along: length}), run.along, (low, high, middle))
        return Steps(run.name, self.known[key], run.start, run.steps, run.stride)

    def graph(self, run: Run, more: dict[str, int]) -> LayerGraph:
        from mmworkload.models import resolve
        from mmworkload.tracing import trace_model

        options: Options = {**self.options, "settings": {**run.settings, **more}}  # type: ignore[typeddict-item]
        return trace_model(resolve(f"{self.family}/{run.variant}", **options)).graph


def _key(run: Run) -> tuple[Any, ...]:
    return run.variant, run.along, tuple(sorted(run.settings.items()))
