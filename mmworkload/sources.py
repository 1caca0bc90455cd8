"""What a name stands for: the graph or workload of a model, and an architecture.

A source is a model name, the path of a saved graph, a :class:`LayerGraph` or a :class:`Workload`; an architecture is a
name, the path of a YAML file, or an :class:`Architecture`. ``how`` says more about a model: batch, dtype, settings of
its parameters, stages, end_to_end, inputs (:class:`mmworkload.models.Options`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mmworkload import arch as architectures
from mmworkload.arch import Architecture
from mmworkload.errors import MmworkloadError, UnknownNameError, UnknownOperatorError
from mmworkload.exits.settings import split_exits
from mmworkload.graph import LayerGraph, Workload
from mmworkload.models.names import SCHEMES, Options
from mmworkload.straggler import stage_matches
from mmworkload.system import System
from mmworkload.system import parse as parse_system

if TYPE_CHECKING:
    from mmworkload.exits.network import ExitNetwork
    from mmworkload.generation import Generation, Sampled
    from mmworkload.tracing import Traced

Source = str | Path | LayerGraph | Workload
GRAPH_SUFFIXES = (".json", ".yaml", ".yml")


def is_saved_graph(name: str | Path) -> bool:
    """Whether the name is the path of a saved graph (``hf:config.json`` is a model)."""
    scheme, colon, _ = str(name).partition(":")
    return Path(name).suffix in GRAPH_SUFFIXES and not (colon and scheme in SCHEMES)


def exit_network(source: Source, how: Options) -> ExitNetwork | None:
    """The network with exits that a name asks for (``av-mnist/concat+exits?p=0.3``); None for any other source."""
    base, settings = split_exits(source) if isinstance(source, str) else ("", None)
    if settings is None:
        return None
    from mmworkload.exits import with_exits

    return with_exits(load_graph(base, how), settings)


def load_graph(model: Source, how: Options, *, only: Iterable[str] = (), strict: bool = False) -> LayerGraph:
    """The layer graph of a model, see :func:`mmworkload.verbs.trace`. Raises MmworkloadError."""
    graph = _whole_graph(model, how)
    if strict:
        require_known(graph)
    return graph.only(only)


def _whole_graph(model: Source, how: Options) -> LayerGraph:
    network = exit_network(model, how)
    if network is not None:
        return network.graph
    graph: LayerGraph | None = None
    if isinstance(model, Workload):
        if len(model.parts) != 1:
            raise MmworkloadError(
                f"{model.name} has {len(model.parts)} parts; take one of them: workload.parts[0].graph"
            )
        graph = model.parts[0].graph
    elif isinstance(model, LayerGraph):
        graph = model
    elif is_saved_graph(model):
        graph = LayerGraph.load(model)
    if graph is not None:
        if how.get("batch") not in (None, graph.batch):
            raise MmworkloadError(
                f"the graph was traced with batch {graph.batch}; trace the model again for batch {how.get('batch')}"
            )
        for option in ("settings", "stages", "end_to_end", "inputs"):
            if how.get(option):
                raise MmworkloadError(f"{graph.model} is traced already: '{option}' cannot be changed; trace it again")
        return graph
    said = {option for option, value in how.items() if value} - {"batch"}
    if importlib.util.find_spec("torch") is None and said <= {"dtype"} and how.get("dtype") in (None, "float32"):
        recorded = snapshot(str(model))
        if recorded is not None and how.get("batch") in (None, recorded.batch):
            return recorded
    return traced_model(str(model), how).graph


def snapshot(name: str) -> LayerGraph | None:
    """The recorded graph of a workload at its defaults; None for what has none."""
    from mmworkload.models import families
    from mmworkload.tracing.snapshot import recorded

    family_name, _, variant = name.partition("/")
    family = families().get(family_name)
    return recorded(f"{family_name}/{family.variant(variant, family_name).name}") if family else None


def traced_model(name: str, how: Options) -> Traced:
    """The model of this name, traced. Raises MmworkloadError."""
    from mmworkload.models import resolve
    from mmworkload.tracing import trace_model

    return trace_model(resolve(name, **how))


def require_known(graph: LayerGraph) -> LayerGraph:
    """``strict``: the graph itself, or UnknownOperatorError that lists every operator without a lowering."""
    unknown = [item for item in graph.coverage if item.treatment == "unknown"]
    if unknown:
        places = "; ".join(
            f"{item.operator} in '{item.module or 'the root module'}' ({item.calls} calls)" for item in unknown
        )
        raise UnknownOperatorError(
            f"{graph.model}: operators without a lowering: {places}. Add one (CONTRIBUTING.md, 'A lowering'), or pass"
            " --no-strict to count their bytes only."
        )
    return graph


def load_workload(source: Source, only: Iterable[str], strict: bool, how: Options) -> Workload:
    """The parts behind a source: paths of a network with exits, phases of a generation, else the one graph.

    Raises MmworkloadError, UnknownNameError when no stage of any part matches ``only``.
    """
    wanted = list(only)
    network = exit_network(source, how)
    if network is not None:
        return load_workload(network.workload(), wanted, strict, {})
    sampled = sampled_generation(source, how)
    if sampled is not None:
        kept = tuple(part for part in sampled.workload.parts if part.count)
        return load_workload(replace(sampled.workload, parts=kept), wanted, strict, {})
    if isinstance(source, Workload):
        parts = [(part, require_known(part.graph) if strict else part.graph) for part in source.parts]
        stages = dict.fromkeys(layer.stage for _, graph in parts for layer in graph)
        if wanted and not any(stage_matches(stage, glob) for stage in stages for glob in wanted):
            raise UnknownNameError("stage", ", ".join(wanted), stages)
        # A part may have nothing of a stage that others have.
        having = [(part, graph) for part, graph in parts if has_stage(graph, wanted)]
        return Workload(
            source.name,
            tuple(replace(part, graph=graph.only(wanted)) for part, graph in having),
        )
    return Workload.of(load_graph(source, how, only=wanted, strict=strict))


def has_stage(graph: LayerGraph, globs: Sequence[str]) -> bool:
    """Whether a layer's stage matches one of the globs; without globs, all do."""
    return not globs or any(stage_matches(layer.stage, glob) for layer in graph for glob in globs)


def generation(source: Source, **how: Unpack[Options]) -> Generation | None:
    """The generation behind a name, with exact totals over all its steps; None for any other source.

    Raises MmworkloadError.
    """
    if not isinstance(source, str) or is_saved_graph(source) or split_exits(source)[1] is not None:
        return None
    from mmworkload.generation import resolve_generation

    return resolve_generation(source, **how)


def has_parts(source: Source, how: Options) -> bool:
    """Whether a name stands for several graphs: a generation, or a network with exits. Nothing is traced."""
    if not isinstance(source, str) or is_saved_graph(source):
        return False
    if split_exits(source)[1] is not None:
        return True
    from mmworkload.generation.resolving import find

    return find(source, **how) is not None


def sampled_generation(source: Source, how: Options) -> Sampled | None:
    """The phases of a generation, the growing ones at a few lengths; None for any other source."""
    found = generation(source, **how)
    return found.sampled() if found is not None else None


def require_runnable(model: str) -> None:
    """MmworkloadError for a saved graph."""
    if is_saved_graph(model):
        raise MmworkloadError(f"{model} is a saved graph, which cannot be run; measure the model itself")


Arch = str | Path | Architecture | System


def architecture(
    arch: Arch, *, dtype: str | None = None, settings: Mapping[str, Any] | None = None
) -> Architecture | System:
    """An architecture by name, from a file or folder, or as it is; a system from ``STAGE=ARCH,STAGE=ARCH``.

    Parameters
    ----------
    arch: name, path of a YAML file or of a tool's native folder, ``host``, or an architecture.
    dtype: which of a GPU's peaks; default is its native precision.
    settings: parameters to override by path (``array.x``), in a system behind the architecture's name
        (``nvdla_like:array.x``).

    Raises
    ------
    MmworkloadError
        Unknown name (the nearest are suggested), or a value that is wrong, with its path.

    Examples
    --------
    >>> mmworkload.architecture("eyeriss_like", settings={"array.x": 16}).elements
    """
    if isinstance(arch, str) and "=" in arch:
        found: Architecture | System = parse_system(arch, lambda name: architectures.load(name, dtype))
    else:
        found = arch if isinstance(arch, Architecture | System) else architectures.load(arch, dtype)
    if not settings:
        return found
    from mmworkload.overriding import overridden

    return overridden(found, settings) if isinstance(found, Architecture) else found.each(settings, overridden)


def machine(arch: Arch, how: Options) -> tuple[Architecture | System, Options]:
    """The architecture with the settings in ``how`` that are its own, and what is left for the model."""
    own, of_arch = for_model(how)
    return architecture(arch, dtype=how.get("dtype"), settings=of_arch), own


def for_model(how: Options) -> tuple[Options, dict[str, Any]]:
    """``how`` as the model takes it, and the settings in it that are of architectures."""
    said = how.get("settings") or {}
    if not said and how.get("dtype") != "tf32":
        return how, {}
    from mmworkload.overriding import is_path

    of_arch = {path: value for path, value in said.items() if is_path(path.rpartition(":")[2])}
    own: Options = {**how, "settings": {name: value for name, value in said.items() if name not in of_arch}}
    if own.get("dtype") == "tf32":
        # A precision of units, not of tensors.
        own["dtype"] = "float32"
    return own, of_arch
