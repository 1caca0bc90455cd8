"""Writing a workload in the form of another tool: the interface of exporters and the verb ``export``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError, MmworkloadError, UnknownNameError
from mmworkload.files import folder_atomic, write_atomic
from mmworkload.graph import LayerGraph, Workload
from mmworkload.plugins import plugins

MANIFEST = "manifest.json"
README = "README.md"
ALL = "all"
"""The target that stands for every other."""


@dataclass(frozen=True)
class ManifestRow:
    """One work item of one layer in an export.

    ``count`` is how often the layer runs the problem; ``macs`` are those of one run. ``footprints`` are the elements
    that the loops touch (padding included), ``tensor_sizes`` the elements that the tensors have, both by data space.
    A row that the target cannot express has no ``problem_file`` and says why in ``excluded``. ``operands`` says which
    data space is Q, K^T, V and so on in attention; ``part_count`` is how often the layer's part of the workload runs.
    """

    layer: str
    op: str
    stage: str
    modality: str
    problem_file: str
    count: int
    sequential: bool
    macs: int
    bytes: int
    footprints: dict[str, int] = field(default_factory=dict)
    tensor_sizes: dict[str, int] = field(default_factory=dict)
    excluded: str = ""
    operands: dict[str, str] = field(default_factory=dict)
    part_count: float = 1.0


@dataclass(frozen=True)
class Export:
    """What an exporter wrote: rows for every layer, the files, and the command that runs them.

    ``fidelity`` says how faithfully the target could be told the architecture; empty where it is told none.
    ``contents`` (what each file is, by name or pattern) and ``notes`` (paragraphs) are for the folder's README.
    """

    target: str
    model: str
    arch: str
    rows: tuple[ManifestRow, ...]
    files: tuple[str, ...]
    run_command: str
    versions: dict[str, str]
    fidelity: str = ""
    contents: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Export of {self.model!r} on {self.arch!r} for {self.target}: {len(self.rows):,} rows>"

    @property
    def problem_files(self) -> int:
        return len({row.problem_file for row in self.rows if row.problem_file and row.macs})

    @property
    def excluded_macs(self) -> int:
        return sum(row.macs * row.count for row in self.rows if row.excluded)

    @property
    def excluded_bytes(self) -> int:
        return sum(row.bytes for row in self.rows if row.excluded)

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "model": self.model,
            "arch": self.arch,
            "run_command": self.run_command,
            "versions": self.versions,
            "fidelity": self.fidelity,
            "problem_files": self.problem_files,
            "macs": sum(row.macs * row.count for row in self.rows),
            "excluded_macs": self.excluded_macs,
            "excluded_bytes": self.excluded_bytes,
            "files": list(self.files),
            "layers": [asdict(row) for row in self.rows],
        }


@dataclass(frozen=True)
class Exports:
    """One workload for every target that takes its architecture: what was written, and why the others were not."""

    model: str
    arch: str
    exports: Mapping[str, Export]
    refused: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Exports of {self.model!r} on {self.arch!r}: {', '.join(self.exports)}>"

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": ALL,
            "model": self.model,
            "arch": self.arch,
            "refused": dict(self.refused),
            "exports": {name: item.to_dict() for name, item in self.exports.items()},
        }


class Exporter(Protocol):
    """What a module of an exporter package names ``EXPORTER`` implements.

    One that takes other architectures than accelerators, or none, defines the ``kinds`` that it takes.
    """

    name: str
    description: str

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes all files but the manifest under ``directory``. A second call writes the same bytes."""


def exporters() -> dict[str, Exporter]:
    """The exporters that are installed, by name."""
    return plugins("mmworkload.exporters", "EXPORTER")


def exporter_for(target: str, arch: Architecture) -> Exporter:
    """The exporter of this name. Raises UnknownNameError, or ArchitectureError for a kind of architecture that it does
    not take."""
    known = exporters()
    if target not in known:
        raise UnknownNameError("exporter", target, [*known, ALL])
    if arch.kind not in getattr(known[target], "kinds", ("accelerator",)):
        raise ArchitectureError(f"{target} is told accelerators, and {arch.name} is of the kind {arch.kind}")
    return known[target]


def write_export(
    target: str, source: LayerGraph | Workload, arch: Architecture, output: str | Path, versions: dict[str, str]
) -> Export:
    """Writes ``source`` for ``target`` into the folder ``output``, which appears whole or not at all.

    ``manifest.json`` and ``manifest.csv`` list every layer: its problem file, MACs, footprints, tensor sizes, or why
    it is left out. Raises MmworkloadError as :func:`exporter_for`, and when ``output`` holds other files.
    """
    exporter = exporter_for(target, arch)
    destination = Path(output)
    with folder_atomic(destination, MANIFEST) as directory:
        result = exporter.export(Workload.of(source), arch, directory, versions)
        write_atomic(directory / MANIFEST, json.dumps(result.to_dict(), indent=1) + "\n")
        write_atomic(directory / "manifest.csv", _csv(result.rows))
        write_atomic(directory / README, _readme(result, exporter.description))
    return replace(result, files=(*result.files, MANIFEST, "manifest.csv", README))


def write_all(
    source: LayerGraph | Workload, arch: Architecture, output: str | Path, versions: dict[str, str]
) -> Exports:
    """Writes ``source`` for every target, each into a folder of its name under ``output``, which appears whole or not
    at all.

    A target that cannot be told the architecture or the workload is left out with its reason. Raises MmworkloadError
    when none can, or when ``output`` holds other files.
    """
    written: dict[str, Export] = {}
    refused: dict[str, str] = {}
    workload = Workload.of(source)
    with folder_atomic(Path(output), MANIFEST) as directory:
        for target in sorted(exporters()):
            try:
                written[target] = write_export(target, workload, arch, directory / target, versions)
            except MmworkloadError as error:
                refused[target] = str(error)
        if not written:
            raise MmworkloadError("; ".join(refused.values()))
        result = Exports(workload.name, arch.label, written, refused)
        write_atomic(directory / MANIFEST, json.dumps(result.to_dict(), indent=1) + "\n")
    return result


_EVERYWHERE = {
    "manifest.json, manifest.csv": "every layer: its problem, MACs, bytes, sizes, or why it is left out",
}


def _readme(export: Export, description: str) -> str:
    """What is what in an exported folder, and how to run it."""
    told = f" It is told the architecture {export.fidelity}." if export.fidelity else ""
    lines = [
        f"# {' '.join(export.model.split())} on {export.arch} for {export.target}",
        f"{description[0].upper()}{description[1:]}.{told}",
        "## Files",
        "\n".join(f"- `{name}`: {what}" for name, what in {**export.contents, **_EVERYWHERE}.items()),
        "## Running it",
        f"```\n{export.run_command}\n```",
        *export.notes,
    ]
    return "\n\n".join(lines) + "\n"


def _csv(rows: Sequence[ManifestRow]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = ("Weights", "Inputs", "Outputs")
    plain = ("layer", "op", "stage", "modality", "problem_file", "count", "sequential", "macs", "bytes")
    writer.writerow(
        [*plain, *(f"{name}_footprint" for name in names), *(f"{name}_tensor_size" for name in names), "excluded"]
    )
    for row in rows:
        sizes = [row.footprints.get(name, "") for name in names] + [row.tensor_sizes.get(name, "") for name in names]
        writer.writerow([*(getattr(row, name) for name in plain), *sizes, row.excluded])
    return stream.getvalue()
