"""The tables of ``results``: packs, what they cover, what was added and what was run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmworkload.reporting.terminal import Cell, Name, bullets, section, table
from mmworkload.reporting.units import plural, share, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.packs.adding import Added, Verified
    from mmworkload.packs.coverage import Covered


def packs_tables(
    packs: Sequence[Mapping[str, Any]], covered: Sequence[Covered], devices: Sequence[Mapping[str, Any]] = ()
) -> list[RenderableType]:
    """The packs, a row a workload and a column an architecture, and what was measured on which device."""
    rows: list[list[Cell]] = [
        [
            Name(pack["tool"]),
            pack["recorded"],
            Name(", ".join(pack["archs"])),
            f"{pack['rows']:,}",
            si(pack["simulator_s"], "s"),
        ]
        for pack in packs
    ]
    parts = [section("Packs", table(["<tool", "<recorded", "<architecture", ">problems", ">took"], rows))]
    archs = list(dict.fromkeys(item.arch for item in covered))
    by_model: dict[str, dict[str, Covered]] = {}
    for item in covered:
        by_model.setdefault(item.model, {})[item.arch] = item
    models: list[list[Cell]] = [
        [Name(model), *(f"{found[arch].recorded}/{found[arch].problems}" for arch in archs)]
        for model, found in by_model.items()
    ]
    if models and archs:
        whole = sum(all(item.recorded == item.problems for item in found.values()) for found in by_model.values())
        parts.append(
            section(
                "Unique problems recorded",
                f"{whole} of {plural(len(by_model), 'workload')} whole on every architecture",
                "",
                table(["<workload", *(f">{arch}" for arch in archs)], models),
            )
        )
    measured: list[list[Cell]] = [
        [
            item["name"],
            Name(item["device"]),
            item["recorded"],
            f"{item['models']:,}",
            ", ".join(map(str, item["batches"])),
            Name(", ".join(item["dtypes"])),
            f"{item['measurements']:,}",
        ]
        for item in devices
    ]
    if measured:
        head = ["<name", "<device", "<recorded", ">workloads", "<batch", "<dtype", ">measurements"]
        parts.append(section("Measured: validate --measured NAME --arch NAME", table(head, measured, tight=True)))
    return parts


def added_tables(done: Sequence[Added]) -> list[RenderableType]:
    """What was merged, and why some answers were not."""
    rows: list[list[Cell]] = [
        [
            Name(item.arch),
            f"{item.recorded:,}",
            f"{item.new:,}",
            f"{item.missing:,}",
            f"{len(item.refused):,}",
            Name(str(item.path)),
        ]
        for item in done
    ]
    columns = ["<architecture", ">recorded", ">new", ">missing", ">refused", "<file"]
    parts = [section("Recorded", table(columns, rows))]
    reasons = dict.fromkeys(f"{item.arch}: {reason}" for item in done for reason in item.refused.values())
    if reasons:
        parts.append(section("Refused", bullets(reasons)))
    return parts


def verified_tables(checked: Sequence[Verified]) -> list[RenderableType]:
    """Each row that was run again."""
    rows: list[list[Cell]] = [
        [
            Name(item.arch),
            item.key[:16],
            f"{item.cycles:,}",
            "no answer" if item.difference is None else share(item.difference),
            share(item.allowed),
            "yes" if item.agrees else "NO",
        ]
        for item in checked
    ]
    columns = ["<architecture", "<key", ">cycles", ">difference", ">allowed", "<agrees"]
    parts = [section("Run again", table(columns, rows))]
    reasons = [f"{item.key[:16]}: {item.reason}" for item in checked if item.reason]
    if reasons:
        parts.append(section("No answer", bullets(reasons)))
    return parts
