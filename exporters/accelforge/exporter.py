"""The exporter: a workload and an architecture as a folder that AccelForge runs.

::

    arch.yaml              the architecture with its own energies
    cascade.yaml           all multiply-accumulates of the network as one cascade of Einsums, so that fusion is explored
    edges.csv              which layers are linked in the cascade, and why the others are not
    problems/<name>.yaml   one Einsum for each unique problem
    expected.json          what a right answer must report
    run.py                 runs the problems, or the cascade, and checks the answers
    NOTES.md               which release, and the licences of what it needs

A workload of several graphs has a cascade for each. In a cascade every loop is a rank variable of its own; a problem on
its own has those merged that no tensor tells apart.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError
from mmworkload.exporters.accelforge import run
from mmworkload.exporters.accelforge.cascade import Cascade, cascade
from mmworkload.exporters.accelforge.einsum import Einsum, translate
from mmworkload.exporters.accelforge.inexpressible import MOVEMENT, VECTOR
from mmworkload.exporters.accelforge.inputs import VERSION, machine, task, workload_text
from mmworkload.exporters.accelforge.machine import arch_text, fidelity
from mmworkload.exporters.provenance import provenance
from mmworkload.exporters.telling import Told, tell
from mmworkload.exporters.timeloop.yaml_text import comment
from mmworkload.exporting import Export
from mmworkload.files import write_atomic
from mmworkload.graph import Part, Workload

# What `mmworkload simulate` does unless told otherwise.
_EFFORT = "normal"
_NOTES = f"""# AccelForge {VERSION}

Install it in a Python of 3.12 or later, in an environment of its own: `pip install accelforge=={VERSION}`, then
`python run.py` (or `python run.py --cascade`).

- **This release.** The next one (1.0.467) needs the program `dot` of graphviz to map anything. AccelForge promises no
  stable input format: these files are for {VERSION}. pip takes the newest of its five `hwcomponents` packages; the
  answers in `outputs/` name those that were there.
- **Energies** are written out in `arch.yaml`, so that no component model is asked. CACTI's program in
  `hwcomponents-cacti` needs glibc 2.38 and would fail on many systems.
- **Licences**, as far as we could find out (this is no legal advice): AccelForge is MIT. It requires `islpy-barvinok`,
  which is GPLv2, and `hwcomponents-neurosim`, whose wheel holds NeuroSim, which says CC BY-NC 4.0 (not for commercial
  use) while the metadata of the wheel says MIT. mmworkload therefore neither contains nor installs AccelForge.
- **Time.** A matrix product takes seconds; a convolution takes minutes where many levels lie above each other. The
  mapper gives nothing when it is stopped; `run.py` ends a problem with all its processes after `--limit` seconds. A
  cascade of some dozen Einsums can be mapped; of hundreds, only reading it takes AccelForge minutes.
- **Padding** is read like data, because an index of AccelForge starts at zero.
"""


class AccelForgeExporter:
    """AccelForge 1.0.466."""

    name = "accelforge"
    description = f"AccelForge {VERSION}: the cascade of Einsums with its edges, and one for each unique problem"

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes all files under ``directory``; a second call writes the same bytes.

        Problems are written as they are simulated: in the architecture's native precision and without masks. Those
        that only differ in these share a file. Raises ArchitectureError when AccelForge cannot be told ``arch``.
        """
        faithful = fidelity(arch)
        if faithful.level == "refused":
            raise ArchitectureError(f"{arch.name}: {'; '.join(faithful.lost)}")
        head = provenance(workload, arch, versions, f"AccelForge {VERSION}")
        rows, told = tell(
            workload, arch, lambda problem, name: translate(problem, arch, name), vector=VECTOR, movement=MOVEMENT
        )
        files = {"arch.yaml": comment([*head, *_about_arch(arch)]) + arch_text(arch)}
        for name, item in told.items():
            lines = [*head, *_about_problem(item)]
            files[f"problems/{name}.yaml"] = comment(lines) + workload_text([item.terms], arch, _EFFORT)
        cascades = {name: (part, cascade(part.graph, arch)) for name, part in _names(workload.parts)}
        for name, (part, found) in cascades.items():
            if found.einsums:
                text = comment([*head, *_about_cascade(part, found)]) + _cascade_text(found, arch)
                files[f"{name}.yaml"] = text
        files["edges.csv"] = _edges_text({name: found for name, (_, found) in cascades.items()})
        expected: dict[str, Any] = {
            "version": VERSION,
            "machine": machine(arch),
            "problems": {name: task([item.terms], alone=True) for name, item in told.items()},
            "cascades": {name: task(found.einsums) for name, (_, found) in cascades.items() if found.einsums},
        }
        files["expected.json"] = json.dumps(expected, indent=1) + "\n"
        shebang, _, body = Path(run.__file__).read_text(encoding="utf-8").partition("\n")
        files["run.py"] = f"{shebang}\n{comment(head)}{body}"
        files["NOTES.md"] = _NOTES
        for name, text in files.items():
            write_atomic(directory / name, text)
        return Export(
            target=self.name,
            model=workload.name,
            arch=arch.name,
            rows=rows,
            files=tuple(sorted(files)),
            run_command="python run.py",
            versions=dict(versions),
            fidelity=str(faithful),
            contents={
                "arch.yaml": "the architecture with its own energies",
                "cascade.yaml": "all multiply-accumulates of the network as one cascade of Einsums",
                "edges.csv": "which layers are linked in the cascade, and why the others are not",
                "problems/": "one Einsum for each unique problem, numbered in the order of the network",
                "expected.json": "what a right answer reports",
                "run.py": "runs the problems, or the cascade, and checks the answers",
                "NOTES.md": "which release, and the licences of what it needs",
            },
        )


def _names(parts: Sequence[Part]) -> Iterable[tuple[str, Part]]:
    for number, part in enumerate(parts, 1):
        yield "cascade" if len(parts) == 1 else f"cascade-{number}", part


def _cascade_text(found: Cascade, arch: Architecture) -> str:
    """The cascade; which Einsum is which layer's stands above it."""
    index = comment(f"{item.name}: {layer}" for item, layer in zip(found.einsums, found.layers, strict=True))
    return index + workload_text(found.einsums, arch, _EFFORT)


def _edges_text(cascades: dict[str, Cascade]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["cascade", "tensor", "producer", "consumer", "path", "linked", "reason"])
    for name, found in cascades.items():
        for edge in found.edges:
            linked = "yes" if edge.linked else "no"
            writer.writerow([name, edge.tensor, edge.producer, edge.consumer, edge.path, linked, edge.reason])
    return stream.getvalue()


def _about_arch(arch: Architecture) -> list[str]:
    return [
        f"architecture: {arch.name}. {arch.description}",
        f"source: {arch.source}",
        f"told to AccelForge: {fidelity(arch)}",
        f"Sizes are in bits of the native precision ({arch.dram.word_bits} bits in DRAM); energies in J, power in W,",
        "areas in m^2, throughputs in actions a second. fixed_x and fixed_y are set by each Einsum: the loops that the",
        "array does not unroll on that axis. The vector unit has no place here.",
    ]


def _about_problem(told: Told[Einsum]) -> list[str]:
    names, problem = list(told.layers), told.problem
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    merged = [f"{item.name} ({' x '.join(item.dims)})" for item in told.terms.variables if len(item.dims) > 1]
    return [
        f"layers ({len(names)}): {', '.join(names[:4])}{rest}",
        f"shape: {problem}",
        f"multiply-accumulates: {problem.macs}",
        *([f"loops that no tensor tells apart are one: {', '.join(merged)}"] if merged else []),
    ]


def _about_cascade(part: Part, found: Cascade) -> list[str]:
    linked = sum(edge.linked for edge in found.edges)
    times = f"{part.name or part.graph.model}, run {part.count:g} times" if part.count != 1 else part.graph.model
    return [
        f"cascade of {times}: {len(found.einsums)} Einsums, {linked} of {len(found.edges)} edges between them linked",
        "(see edges.csv). Elementwise layers on an edge are a vector unit's and are not in it.",
        f"multiply-accumulates: {sum(item.computes * item.instances for item in found.einsums)}",
        "Einsum: layer",
    ]
