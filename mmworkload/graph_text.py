"""Layer graphs as plain data and as text: the JSON contract of docs/json.md in full, and which text is read how."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from mmworkload import graph_lines
from mmworkload.errors import FormatError
from mmworkload.graph import TREATMENTS, Coverage, InputInfo, LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem
from mmworkload.versions import SCHEMA_VERSION


def encode(graph: LayerGraph) -> dict[str, Any]:
    """The JSON contract (docs/json.md). Sums are there for readers and are recomputed on loading."""
    numbers = {key: f"p{index}" for index, key in enumerate(graph.problems)}
    totals = graph.totals()
    return {
        "schema_version": SCHEMA_VERSION,
        "model": graph.model,
        "variant": graph.variant,
        "batch": graph.batch,
        "dtype": graph.dtype,
        "route": graph.route,
        "total_macs": totals.macs,
        "useful_macs": totals.useful_macs,
        "outer_macs": totals.outer_macs,
        "total_params": totals.params,
        "built_params": graph.built_params,
        "notes": list(graph.notes),
        "versions": graph.versions,
        "inputs": [_plain(item) for item in graph.inputs],
        "outputs": list(graph.outputs),
        "stages": {stage: _plain(item) for stage, item in graph.stages.items()},
        "problems": {numbers[key]: str(problem) for key, problem in graph.problems.items()},
        "tensors": {
            name: {
                "shape": list(t.shape),
                "dtype": t.dtype,
                "bits": t.bits,
                "kind": t.kind,
                "storage": t.storage,
            }
            for name, t in graph.tensors.items()
        },
        "layers": [
            {
                "layer": layer.name,
                "op": layer.op,
                "category": layer.category,
                "module": layer.module,
                "stage": layer.stage,
                "modality": layer.modality,
                "macs": layer.macs,
                "params": graph.params([layer]),
                "vector_ops": layer.vector_ops,
                "work": [
                    {"problem": numbers[w.problem.key], "count": w.count, "sequential": w.sequential}
                    for w in layer.work
                ],
                "reads": dict(layer.reads),
                "writes": dict(layer.writes),
                "placement": layer.placement,
                "assumptions": list(layer.assumptions),
                "dead": layer.dead,
                "rule": layer.rule,
            }
            for layer in graph.layers
        ],
        "coverage": {
            treatment: [
                {key: value for key, value in _plain(item).items() if key != "treatment"}
                for item in graph.coverage
                if item.treatment == treatment
            ]
            for treatment in TREATMENTS
        },
    }


def decode(data: Any) -> LayerGraph:
    """The inverse of :func:`encode`. Raises FormatError that names the missing or wrong entry."""
    graph_lines.check_version(data, SCHEMA_VERSION)
    try:
        problems = {name: Problem.parse(text) for name, text in data["problems"].items()}
        tensors = {
            name: Tensor(name, tuple(t["shape"]), t["dtype"], t["bits"], t["kind"], t["storage"])
            for name, t in data["tensors"].items()
        }
        layers = tuple(
            Layer(
                name=item["layer"],
                op=item["op"],
                category=item["category"],
                module=item["module"],
                stage=item["stage"],
                modality=item["modality"],
                reads=tuple(item["reads"].items()),
                writes=tuple(item["writes"].items()),
                work=tuple(Work(problems[w["problem"]], w["count"], w["sequential"]) for w in item["work"]),
                vector_ops=item["vector_ops"],
                placement=item["placement"],
                assumptions=tuple(item["assumptions"]),
                dead=item["dead"],
                rule=item["rule"],
            )
            for item in data["layers"]
        )
        return LayerGraph(
            model=data["model"],
            variant=data["variant"],
            batch=data["batch"],
            dtype=data["dtype"],
            layers=layers,
            tensors=tensors,
            inputs=tuple(InputInfo(**{**item, "shape": tuple(item["shape"])}) for item in data["inputs"]),
            outputs=tuple(data["outputs"]),
            built_params=data["built_params"],
            route=data["route"],
            versions=data["versions"],
            coverage=tuple(
                Coverage(treatment, **item) for treatment in TREATMENTS for item in data["coverage"][treatment]
            ),
            # A field of later date than the version.
            notes=tuple(data.get("notes", ())),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"not a complete layer graph: {type(error).__name__} {error}") from error


def write(graph: LayerGraph, suffix: str) -> str:
    """JSON, YAML or CSV text; one line a layer, so that a change is one line of a diff."""
    if suffix == ".json":
        return _lines(encode(graph))
    if suffix in (".yaml", ".yml"):
        return graph_lines.write(graph)
    if suffix == ".csv":
        return graph.to_pandas().to_csv(index=False)
    raise FormatError(f"a graph is written as .json, .yaml or .csv, not '{suffix}'")


def read(text: str) -> LayerGraph:
    """The graph in JSON or YAML text. Raises FormatError."""
    if not text.lstrip().startswith("{"):
        return graph_lines.read(text)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error
    return decode(data)


def _plain(item: Any) -> dict[str, Any]:
    """A flat dataclass as a dictionary with lists for tuples."""
    values = {f.name: getattr(item, f.name) for f in fields(item)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _lines(data: dict[str, Any]) -> str:
    """JSON with one line an entry of the long tables."""
    parts = []
    for key, value in data.items():
        if isinstance(value, dict) and value:
            entries = [f"{json.dumps(name)}: {json.dumps(item)}" for name, item in value.items()]
            opening, closing = "{", "}"
        elif isinstance(value, list) and value:
            entries = [json.dumps(item) for item in value]
            opening, closing = "[", "]"
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
            continue
        body = ",\n  ".join(entries)
        parts.append(f"{json.dumps(key)}: {opening}\n  {body}\n {closing}")
    return "{" + ",\n ".join(parts) + "}\n"
