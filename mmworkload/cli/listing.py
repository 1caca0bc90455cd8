"""``mmworkload list``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmworkload.cli.options import Json, command, print_json
from mmworkload.errors import UnknownNameError

if TYPE_CHECKING:
    from mmworkload.models import Family, Parameter, Variant
    from mmworkload.models.family import Generating

KINDS = ("workloads", "archs", "exporters", "simulators")


def listing(kind: str) -> list[dict[str, Any]]:
    """What is installed of one kind, as plain data."""
    if kind == "workloads":
        from mmworkload.models import families

        return [_workload(name, family) for name, family in sorted(families().items())]
    if kind == "archs":
        from mmworkload import arch

        specs = [arch.load(name) for name in arch.names()]
        return [
            {
                "name": spec.name,
                "description": spec.description,
                "source": spec.source,
                "elements": spec.elements,
                "clock_mhz": spec.clock_mhz,
                "precision_bits": spec.dram.word_bits,
                "area_mm2": spec.area_mm2,
            }
            for spec in specs
        ]
    if kind == "exporters":
        from mmworkload.exporting import exporters

        return [{"name": name, "description": item.description} for name, item in sorted(exporters().items())]
    from mmworkload.simulating.choice import simulators

    return [
        {
            "name": name,
            "available": item.unavailable() is None,
            "version": item.version() if item.unavailable() is None else None,
            "reason": item.unavailable(),
        }
        for name, item in sorted(simulators().items())
    ]


def _workload(name: str, family: Family) -> dict[str, Any]:
    return {
        "name": name,
        "description": family.description,
        "dataset": family.dataset,
        "dataset_url": family.dataset_url,
        "batch": family.default_batch,
        "default": f"{name}/{family.variants[0].name}",
        "variants": [_variant(name, item) for item in family.variants],
        "generations": [_generation(name, item) for item in family.generations],
    }


def _generation(family: str, generation: Generating) -> dict[str, Any]:
    from mmworkload.generation.levers import LEVERS

    parameters = {**generation.parameters, **LEVERS}
    return {
        "name": f"{family}/{generation.name}",
        "source": generation.source,
        "aliases": [f"{family}/{alias}" for alias in generation.aliases],
        "notes": generation.notes,
        "phases": [f"{family}/{name}" for name in generation.phases],
        "parameters": {key: _parameter(item) for key, item in parameters.items()},
    }


def _variant(family: str, variant: Variant) -> dict[str, Any]:
    from mmworkload.reporting.sizes import totals_of

    name = f"{family}/{variant.name}"
    totals = totals_of(name)
    return {
        "name": name,
        "source": variant.source,
        "aliases": [f"{family}/{alias}" for alias in variant.aliases],
        "notes": variant.notes,
        "stand_ins": list(variant.stand_ins),
        "macs": totals.macs if totals else None,
        "params": totals.params if totals else None,
        "end_to_end": variant.preprocess is not None,
        "parameters": {key: _parameter(item) for key, item in variant.parameters.items()},
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    number = not parameter.choices
    default = parameter.default
    return {
        "default": list(default) if isinstance(default, tuple) else default,
        "help": parameter.help,
        "bounds": parameter.bounds,
        "low": parameter.low if number else None,
        "high": parameter.high if number else None,
        "step": parameter.step if number else None,
        "choices": list(parameter.choices),
        "several": parameter.several,
    }


@command
def list_(
    kind: Annotated[str | None, typer.Argument(help="workloads, archs, exporters or simulators (default: all)")] = None,
    json: Json = False,
) -> None:
    """What is installed: workloads, architectures, exporters, simulators."""
    if kind is not None and kind not in KINDS:
        raise UnknownNameError("kind", kind, KINDS)
    found = {name: listing(name) for name in (KINDS if kind is None else (kind,))}
    if json:
        print_json(found if kind is None else found[kind])
        return
    from mmworkload.reporting.tables import list_tables, print_out

    print_out(*list_tables(found))
