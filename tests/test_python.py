"""mmworkload in Python: what a newcomer at a prompt sees."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import pytest

import mmworkload
from mmworkload import verbs
from mmworkload.errors import MmworkloadError
from mmworkload.models.names import Options
from mmworkload.options import MeasureOptions, SimulateOptions

VERBS = [name for name in mmworkload.__all__ if inspect.isfunction(getattr(mmworkload, name))]


def test_dir_lists_the_verbs_and_all_of_them_exist() -> None:
    listed = dir(mmworkload)

    assert {"trace", "export", "simulate", "measure", "validate", "analyze", "load", "__version__"} <= {*listed}
    assert set(verbs.__all__) - {"generation"} <= {*listed}
    assert [name for name in listed if not hasattr(mmworkload, name)] == []


def arguments(verb: Callable[..., Any]) -> set[str]:
    """Every name that may be given to ``verb``, those of its typed keywords included."""
    names = set()
    for name, item in inspect.signature(verb).parameters.items():
        if item.kind is not inspect.Parameter.VAR_KEYWORD:
            names.add(name)
            continue
        options = {"Unpack[Options]": Options, "Unpack[MeasureOptions]": MeasureOptions}[str(item.annotation)]
        names |= set(options.__annotations__)
    return names


@pytest.mark.parametrize("name", VERBS)
def test_every_argument_of_a_verb_is_explained_with_errors_and_an_example(name: str) -> None:
    verb = getattr(mmworkload, name)
    text = inspect.getdoc(verb) or ""
    parameters = text.partition("Parameters")[2].partition("Raises")[0]
    explained = {item for line in re.findall(r"^([\w, ]+): ", parameters, re.M) for item in line.split(", ")}

    assert explained == arguments(verb)
    assert "Raises" in text
    assert ">>> mmworkload." in text or f" = mmworkload.{name}(" in text


def test_typed_options_are_those_that_the_verbs_take() -> None:
    taken = inspect.signature(verbs.simulate).parameters
    assert set(SimulateOptions.__annotations__) <= set(taken)
    own = set(inspect.signature(verbs.measure_result).parameters) - {"model", "how"}
    assert set(MeasureOptions.__annotations__) - set(Options.__annotations__) == own
    assert "Any" not in {str(item.annotation) for name in VERBS for item in _keywords(getattr(mmworkload, name))}


def _keywords(verb: Callable[..., Any]) -> list[inspect.Parameter]:
    found = inspect.signature(verb).parameters.values()
    return [item for item in found if item.kind is inspect.Parameter.VAR_KEYWORD]


def test_a_repr_is_one_short_line_with_the_figures_that_matter() -> None:
    graph = mmworkload.trace("av-mnist/concat")
    simulation = mmworkload.simulate(graph, "eyeriss_like", simulator="roofline")
    arch = mmworkload.architecture("eyeriss_like")
    workload = mmworkload.Workload.of(graph)
    shown = [repr(item) for item in (graph, graph.layers[0], workload, workload.parts[0], simulation, arch)]
    shown += [repr(simulation.layers[0]), *map(repr, graph.problems.values())]

    assert shown[0] == "<LayerGraph 'av-mnist/concat': batch 1, 54 layers, 11,993,032 MACs>"
    assert shown[1] == "<Layer 'encoders.image.convs.0': conv2d, encoder/image, 117,600 MACs>"
    assert shown[2] == "<Workload 'av-mnist/concat': parts 1, 11,993,032 MACs>"
    assert shown[4].startswith("<Simulation of 'av-mnist/concat' on 'eyeriss_like': 54 layers, ")
    assert all("\n" not in text and len(text) < 400 for text in shown)


@pytest.mark.slow
def test_reprs_of_measurements_exports_and_reports_are_one_short_line(tmp_path: Any) -> None:
    report = mmworkload.validate("av-mnist/concat", "eyeriss_like", simulator="roofline", limit_s=1)
    exported = mmworkload.export("csv", report.graph, "eyeriss_like", tmp_path / "out")
    study = verbs.validate_all((), ["eyeriss_like"], simulators=["roofline"], measurements=report.measurements)
    for item in (report, report.measurements[0], report.validation, exported, study):
        assert re.fullmatch(r"<[A-Z][^\n]{10,300}>", repr(item)), repr(item)


def test_the_options_of_the_typed_dictionaries_have_types_that_can_be_read() -> None:
    assert typing.get_type_hints(SimulateOptions)["limit_s"] is float


TYPED = [name for name in VERBS if _keywords(getattr(mmworkload, name))]


@pytest.mark.parametrize("name", TYPED)
def test_a_misspelt_keyword_is_an_error_and_nothing_runs(name: str) -> None:
    verb = getattr(mmworkload, name)
    needed = [item for item in inspect.signature(verb).parameters.values() if item.kind is item.POSITIONAL_OR_KEYWORD]
    given: dict[str, Any] = {item.name: "nothing of that name" for item in needed}

    with pytest.raises(TypeError, match=rf"^{name}\(\) got .* 'bach'\. Did you mean batch"):
        verb(**given, bach=2)
    with pytest.raises(MmworkloadError):
        verb(**given, batch=2)
