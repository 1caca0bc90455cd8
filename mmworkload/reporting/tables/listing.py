"""The tables of ``list``: what is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.terminal import Cell, Prose, section, table

if TYPE_CHECKING:
    from rich.console import RenderableType


def list_tables(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[RenderableType]:
    """One table for each kind in ``found``, which is the plain data of ``list --json``."""
    makers = {"workloads": _workloads, "archs": _archs, "exporters": _exporters, "simulators": _simulators}
    return [makers[kind](items) for kind, items in found.items()]


def _workloads(items: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows: list[list[Cell]] = []
    for family in items:
        for variant in family["variants"]:
            default = ", default" if variant["name"] == family["default"] else ""
            rows.append([variant["name"], Prose(f"{family['description']}{default}"), Prose(variant["source"])])
    return section("Workloads", table(["<name", "<what", "<source"], rows))


def _archs(items: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows: list[list[Cell]] = [
        [
            item["name"],
            Prose(item["description"]),
            f"{item['elements']:,}",
            f"{item['clock_mhz']:,.0f} MHz",
            f"{item['area_mm2']:.1f} mm²",
        ]
        for item in items
    ]
    return section("Architectures", table(["<name", "<what", ">elements", ">clock", ">area"], rows))


def _exporters(items: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows: list[list[Cell]] = [[item["name"], Prose(item["description"])] for item in items]
    return section("Exporters", table(["<name", "<what"], rows))


def _simulators(items: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows: list[list[Cell]] = [
        [item["name"], Prose(f"available, version {item['version']}" if item["available"] else item["reason"])]
        for item in items
    ]
    return section("Simulators", table(["<name", "<on this machine"], rows))
