"""The tables of ``list``: what is installed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.terminal import Cell, Items, Prose, facts, section, table
from mmworkload.reporting.units import GAP, plural, si

if TYPE_CHECKING:
    from rich.console import RenderableType

STAND_IN = "stand-in"
SOURCE_WIDTH = 36


def list_tables(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[RenderableType]:
    """The tables of each kind in ``found``, which is the plain data of ``list --json``."""
    makers = {"archs": _archs, "exporters": _exporters, "simulators": _simulators}
    tables: list[RenderableType] = []
    for kind, items in found.items():
        tables += _workloads(items) if kind == "workloads" else [makers[kind](items)]
    return tables


def _workloads(items: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    variants = [variant for family in items for variant in family["variants"]]
    stand_ins = any(variant["stand_ins"] for variant in variants)
    lines = [f"{plural(len(items), 'workload')}, {plural(len(variants), 'variant')}; the first of each is its default."]
    if any(family["generations"] for family in items):
        lines.append("A generation runs several variants, over all its steps: show, simulate and export take it.")
    if stand_ins:
        lines.append(f"{STAND_IN}: a part is not the source's own; mmworkload show NAME says which.")
    return [section("Workloads", *lines), *(_family(family) for family in items)]


def _family(family: Mapping[str, Any]) -> RenderableType:
    name = family["name"]
    known: list[tuple[str, str | Items]] = [("data set", family["dataset"])]
    if family["dataset_url"]:
        known.append(("from", family["dataset_url"]))
    if family["batch"] != 1:
        known.append(("batch", str(family["batch"])))
    rows: list[list[Cell]] = []
    for variant in family["variants"]:
        also = ", ".join(alias.removeprefix(f"{name}/") for alias in variant["aliases"])
        marks = [STAND_IN] if variant["stand_ins"] else []
        marks += [f"also {also}"] if also else []
        rows.append(
            [
                variant["name"].removeprefix(f"{name}/"),
                si(variant["macs"]),
                si(variant["params"]),
                Prose(short_source(variant["source"]), below="; ".join(marks)),
            ]
        )
    # The heading of the first column goes before each name in it.
    columns = [f"<{name}/", ">MACs", ">params", "<source"]
    tables = [table(columns, rows)]
    if family["generations"]:
        tables += ["", table([f"<{name}/, whole generations", "<runs"], _generations(name, family["generations"]))]
    return section(f"{name}: {family['description']}", facts(known), *tables)


def _generations(name: str, generations: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for item in generations:
        also = ", ".join(alias.removeprefix(f"{name}/") for alias in item["aliases"])
        phases = ", ".join(phase.removeprefix(f"{name}/") for phase in item["phases"])
        marks = f"also {also}" if also else ""
        rows.append([item["name"].removeprefix(f"{name}/"), Prose(phases, below=marks)])
    return rows


def short_source(source: str) -> str:
    """The first clauses of the first source, as far as they fit into a column: who says so, and in which table."""
    first = source.partition(";")[0]
    depth, best = 0, 0
    for index, letter in enumerate(f"{first},"):
        # A clause ends at a mark outside brackets, or in front of an opening bracket.
        ends = depth == 0 and (letter in ",:" or (letter == "(" and index))
        if ends and len(first[:index].rstrip()) <= SOURCE_WIDTH:
            best = index
        depth += (letter == "(") - (letter == ")")
    return first[:best].rstrip() or textwrap.shorten(first, SOURCE_WIDTH, placeholder=" …")


def _archs(items: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows: list[list[Cell]] = [
        [
            item["name"],
            f"{item['elements']:,}",
            str(item["precision_bits"]),
            f"{item['clock_mhz']:,.0f} MHz",
            GAP if item["area_mm2"] is None else f"{item['area_mm2']:.1f} mm²",
        ]
        for item in items
    ]
    figures = table(["<name", ">elements", ">bits", ">clock", ">area"], rows)
    return section("Architectures", figures, "", facts([(item["name"], item["description"]) for item in items]))


def _exporters(items: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows: list[list[Cell]] = [[item["name"], Prose(item["description"])] for item in items]
    return section("Exporters", table(["<name", "<what"], rows))


def _simulators(items: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows: list[list[Cell]] = [
        [item["name"], Prose(f"available, version {item['version']}" if item["available"] else item["reason"])]
        for item in items
    ]
    return section("Simulators", table(["<name", "<on this machine"], rows))
