"""From a name to a generation: ``codellama/7b?prompt=1024&steps=128&beams=4``."""

from __future__ import annotations

from typing import Any, Unpack

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.generation.generation import Generation, Once, Phase, Steps
from mmworkload.generation.growing import Growing, grow
from mmworkload.generation.levers import AS_IT_IS, LEVERS, quantized_caches, quantized_weights
from mmworkload.graph import LayerGraph
from mmworkload.models.family import Generating, Run, accepted, full_name, settle
from mmworkload.models.names import Options, families, split

# No growing phase is traced at shorter lengths: an extent of one would drop out of the loop nests.
SHORTEST = 2


def find(name: str) -> tuple[str, Generating] | None:
    """The workload and the generation that ``name`` means; None where it means something else."""
    base, _, _ = split(name)
    if ":" in base or "/" not in base:
        return None
    family_name, _, rest = base.partition("/")
    family = families().get(family_name)
    found = family.generation(rest) if family else None
    return (family_name, found) if found else None


def resolve_generation(name: str, **options: Unpack[Options]) -> Generation | None:
    """The generation behind a name with all its graphs traced, or None when the name is not one.

    Raises UnknownNameError and MmworkloadError as :func:`mmworkload.models.resolve`, ModelError when a phase does not
    grow evenly.
    """
    found = find(name)
    return generation(name, **options) if found else None


def generation(name: str, **options: Unpack[Options]) -> Generation:
    """As :func:`resolve_generation`; UnknownNameError when the name is not a generation."""
    found = find(name)
    if found is None:
        known = [f"{key}/{item.name}" for key, family in families().items() for item in family.generations]
        raise UnknownNameError("generation", name, known)
    family_name, declared = found
    _, in_name, end_to_end = split(name)
    if end_to_end or options.get("end_to_end") or options.get("inputs"):
        raise MmworkloadError(f"{name}: a generation begins behind the pre-processing and takes no inputs from a file")
    parameters = {**declared.parameters, **LEVERS}
    own = f"{family_name}/{declared.name}"
    settings = settle(parameters, {**in_name, **options.get("settings", {})}, own)
    traces = _Traces(family_name, options)
    runs = declared.runs(**accepted(declared.runs, settings))
    traces.expect(runs)
    notes = (declared.notes,) if declared.notes else ()
    made = Generation(full_name(own, parameters, settings), tuple(traces.phase(run) for run in runs), notes)
    if settings["weights"] != AS_IT_IS:
        made = made.mapped(
            lambda graph: quantized_weights(graph, settings["weights"]), f"linear weights are {settings['weights']}"
        )
    if settings["cache"] != AS_IT_IS:
        made = made.mapped(
            lambda graph: quantized_caches(graph, settings["cache"]), f"keys and values are {settings['cache']}"
        )
    return made


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
