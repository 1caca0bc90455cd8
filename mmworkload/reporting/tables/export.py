"""The summary of ``export``: what was written, what was left out, how to run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmworkload.reporting.terminal import Cell, Name, Prose, bullets, section, table
from mmworkload.reporting.units import plural, share, si

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmworkload.exporting import Export, Exports, ManifestRow


def export_tables(export: Export, output: str | Path) -> list[RenderableType]:
    """Counts per stage, the rows that the target cannot express, and the command."""
    macs = sum(row.macs * row.count for row in export.rows)
    parts: list[RenderableType] = [
        section(
            f"{export.model} for {export.target} on {export.arch}",
            f"{plural(len(export.files), 'file')} in {output}: {plural(export.problem_files, 'unique problem')},"
            f" {macs - export.excluded_macs:,} of {macs:,} MACs",
        ),
        _stages(export),
    ]
    if any(row.excluded for row in export.rows):
        parts.append(_excluded(export))
    if export.run_command:
        parts.append(section("Run it", f"cd {output} && {export.run_command}"))
    return parts


def exports_tables(exports: Exports, output: str | Path) -> list[RenderableType]:
    """One row a target, and why the others are not there."""

    def row(name: str, item: Export) -> list[Cell]:
        macs = sum(row.macs * row.count for row in item.rows)
        return [
            Name(name),
            str(len(item.files)),
            str(item.problem_files),
            share((macs - item.excluded_macs) / macs if macs else None),
            si(item.excluded_bytes, "B"),
            Prose(item.fidelity or "not told the architecture"),
        ]

    columns = ["<target", ">files", ">problems", ">of MACs", ">left out", "<architecture"]
    rows = [row(name, item) for name, item in exports.exports.items()]
    parts: list[RenderableType] = [section(f"{exports.model} on {exports.arch} in {output}", table(columns, rows))]
    if exports.refused:
        parts.append(section("Not written", bullets(f"{name}: {why}" for name, why in exports.refused.items())))
    runs = [f"cd {output}/{name} && {item.run_command}" for name, item in exports.exports.items() if item.run_command]
    if runs:
        parts.append(section("Run them", *runs))
    return parts


def _stages(export: Export) -> RenderableType:
    groups: dict[str, list[ManifestRow]] = {}
    for row in export.rows:
        groups.setdefault(row.stage, []).append(row)

    def cells(stage: str, rows: list[ManifestRow]) -> list[Cell]:
        written = [row for row in rows if row.problem_file]
        return [
            Name(stage or "(none)"),
            str(len({row.layer for row in rows})),
            str(len({row.layer for row in written})),
            str(len({row.problem_file for row in written if row.macs})),
            si(sum(row.macs * row.count for row in written)),
        ]

    columns = ["<stage", ">layers", ">exported", ">problems", ">MACs"]
    return section("Stages", table(columns, [cells(stage, rows) for stage, rows in groups.items()]))


def _excluded(export: Export) -> RenderableType:
    """Layers that are left out, one row a reason."""
    reasons: dict[str, list[ManifestRow]] = {}
    for row in export.rows:
        if row.excluded:
            reasons.setdefault(row.excluded, []).append(row)
    rows: list[list[Cell]] = [
        [
            Prose(reason),
            str(len({row.layer for row in rows})),
            si(sum(row.macs * row.count for row in rows)),
            si(sum(row.bytes for row in rows), "B"),
        ]
        for reason, rows in reasons.items()
    ]
    return section("Left out", table(["<reason", ">layers", ">MACs", ">bytes"], rows))
