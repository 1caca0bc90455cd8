"""Layer graphs as plain data and as text: the JSON contract of docs/json.md, and the same content as YAML."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

from mmworkload.errors import FormatError
from mmworkload.graph import TREATMENTS, Coverage, InputInfo, LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import Problem

SCHEMA_VERSION = 1


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
                "name": layer.name,
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
    if not isinstance(data, dict) or "schema_version" not in data:
        raise FormatError("not a layer graph: there is no schema_version")
    if data["schema_version"] != SCHEMA_VERSION:
        raise FormatError(
            f"schema_version {data['schema_version']} cannot be read by this version, which reads {SCHEMA_VERSION};"
            " trace the model again"
        )
    try:
        problems = {name: Problem.parse(text) for name, text in data["problems"].items()}
        tensors = {
            name: Tensor(name, tuple(t["shape"]), t["dtype"], t["bits"], t["kind"], t["storage"])
            for name, t in data["tensors"].items()
        }
        layers = tuple(
            Layer(
                name=item["name"],
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
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"not a complete layer graph: {type(error).__name__} {error}") from error


def write(graph: LayerGraph, suffix: str) -> str:
    """JSON, YAML or CSV text; one line a layer, so that a change is one line of a diff."""
    if suffix == ".json":
        return _lines(encode(graph), yaml=False)
    if suffix in (".yaml", ".yml"):
        return _lines(encode(graph), yaml=True)
    if suffix == ".csv":
        return graph.to_pandas().to_csv(index=False)
    raise FormatError(f"a graph is written as .json, .yaml or .csv, not '{suffix}'")


def read(text: str) -> LayerGraph:
    """The graph in JSON or YAML text. Raises FormatError."""
    if text.lstrip().startswith("{"):
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise FormatError(f"not JSON: {error}") from error
    else:
        import yaml

        try:
            data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise FormatError(f"not YAML: {str(error).splitlines()[0]}") from error
    return decode(data)


def _plain(item: Any) -> dict[str, Any]:
    """A flat dataclass as a dictionary with lists for tuples."""
    values = {f.name: getattr(item, f.name) for f in fields(item)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _lines(data: dict[str, Any], *, yaml: bool) -> str:
    """JSON with one line an entry of the long tables; the same lines are valid YAML without the outer brackets."""

    def dump(item: Any) -> str:
        if not yaml:
            return json.dumps(item)
        # JSON escapes what is beyond 16 bits as a pair of surrogates, which YAML does not join.
        return re.sub(r"[^ -~]", lambda match: f"\\U{ord(match[0]):08x}", json.dumps(item, ensure_ascii=False))

    parts = []
    for key, value in data.items():
        if isinstance(value, dict) and value:
            entries = [f"{dump(name)}: {dump(item)}" for name, item in value.items()]
            opening, closing, bullet = "{", "}", "  "
        elif isinstance(value, list) and value:
            entries = [dump(item) for item in value]
            opening, closing, bullet = "[", "]", "- "
        else:
            parts.append(f"{key}: {dump(value)}" if yaml else f"{dump(key)}: {dump(value)}")
            continue
        if yaml:
            parts.append("\n".join([f"{key}:", *(f"{bullet}{entry}" for entry in entries)]))
        else:
            body = ",\n  ".join(entries)
            parts.append(f"{dump(key)}: {opening}\n  {body}\n {closing}")
    return "\n".join(parts) + "\n" if yaml else "{" + ",\n ".join(parts) + "}\n"
