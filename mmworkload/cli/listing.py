"""``mmworkload list``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mmworkload.cli.options import Json, command, print_json
from mmworkload.errors import UnknownNameError

KINDS = ("workloads", "archs", "exporters", "simulators")


def listing(kind: str) -> list[dict[str, Any]]:
    """What is installed of one kind, as plain data."""
    if kind == "workloads":
        from mmworkload.models import families

        return [
            {
                "name": name,
                "description": family.description,
                "dataset": family.dataset,
                "default": f"{name}/{family.variants[0].name}",
                "variants": [
                    {
                        "name": f"{name}/{item.name}",
                        "source": item.source,
                        "aliases": [f"{name}/{alias}" for alias in item.aliases],
                        "notes": item.notes,
                    }
                    for item in family.variants
                ],
            }
            for name, family in sorted(families().items())
        ]
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
    from mmworkload.simulating.engine import simulators

    return [
        {
            "name": name,
            "available": item.unavailable() is None,
            "version": item.version() if item.unavailable() is None else None,
            "reason": item.unavailable(),
        }
        for name, item in sorted(simulators().items())
    ]


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
