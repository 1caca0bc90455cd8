"""The exporter: a workload and an architecture as a folder that Timeloop runs.

::

    arch.yaml components.yaml variables.yaml mapper.yaml    shared by all problems
    ert.yaml art.yaml                                       the architecture's own energies and areas
    problems/<name>.yaml                                    one for each unique problem
    constraints/<name>.yaml                                 how that problem fills the array
    expected.json                                           what a right answer must report
    run.py                                                  runs them all and checks the answers
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError
from mmworkload.exporters.timeloop import run
from mmworkload.exporters.timeloop.architecture import arch_text, fidelity
from mmworkload.exporters.timeloop.energy_tables import area_text, energy_text
from mmworkload.exporters.timeloop.padding import difference, pad
from mmworkload.exporters.timeloop.problem_file import describe, problem_name, problem_text, refusal
from mmworkload.exporters.timeloop.settings import components_text, mapper_text, variables_text
from mmworkload.exporters.timeloop.spatial import constraints_text
from mmworkload.exporters.timeloop.yaml_text import comment
from mmworkload.exporting import Export, ManifestRow
from mmworkload.files import write_atomic
from mmworkload.graph import Part, Workload
from mmworkload.layer import Layer, Work
from mmworkload.problem import Problem

_RUN_COMMAND = "python run.py"


class TimeloopExporter:
    """Timeloop v0.4 (``pytimeloop.timeloopfe.v4``) with Accelergy."""

    name = "timeloop"
    description = "Timeloop and Accelergy, input format 0.4: one problem file for each unique problem"

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes all files under ``directory``; a second call writes the same bytes.

        Raises ArchitectureError when Timeloop cannot be told ``arch``.
        """
        told = fidelity(arch)
        if told.level == "refused":
            raise ArchitectureError(f"{arch.name}: {'; '.join(told.lost)}")
        provenance = _provenance(workload, arch, versions)
        users = _users(workload)
        files = _shared_files(arch)
        expected = {}
        for problem, layers in users.values():
            if refusal(problem):
                continue
            name = problem_name(problem)
            about = describe(problem, layers)
            files[f"problems/{name}.yaml"] = about + problem_text(problem)
            files[f"constraints/{name}.yaml"] = (
                _constraints_about(problem, arch) + about + constraints_text(problem, arch)
            )
            footprints = {operand.name: problem.footprint(operand) for operand in problem.operands}
            expected[name] = {"macs": problem.macs, "footprints": footprints}
        for name, text in files.items():
            write_atomic(directory / name, provenance + text)
        write_atomic(directory / "expected.json", json.dumps(expected, indent=1, sort_keys=True) + "\n")
        script = Path(run.__file__).read_text(encoding="utf-8")
        shebang, _, body = script.partition("\n")
        write_atomic(directory / "run.py", f"{shebang}\n{provenance}{body}")
        rows = tuple(row for part in workload.parts for layer in part.graph for row in _rows(part, layer))
        return Export(
            target=self.name,
            model=workload.name,
            arch=arch.name,
            rows=rows,
            files=tuple(sorted([*files, "expected.json", "run.py"])),
            run_command=_RUN_COMMAND,
            versions=dict(versions),
        )


def _constraints_about(problem: Problem, arch: Architecture) -> str:
    lines = ["How this problem fills the array. Delete this file to leave that to the search."]
    enlarged = difference(problem, pad(problem, arch))
    if enlarged:
        lines.append(
            f"Timeloop divides loops evenly and finds poor mappings here. `mmworkload simulate` pads {enlarged}; an"
            " export keeps the true problem, so expect more cycles than the machine needs."
        )
    return comment(lines)


def _shared_files(arch: Architecture) -> dict[str, str]:
    """File name to content, for the files that all problems share."""
    return {
        "arch.yaml": comment(
            [
                f"architecture: {arch.name}. {arch.description}",
                f"source: {arch.source}",
                f"Words are of the architecture's native precision ({arch.dram.word_bits} bits in DRAM), whatever the",
                "traced tensors had; bandwidths are in words a cycle. The vector unit has no place here.",
            ]
        )
        + arch_text(arch),
        "components.yaml": comment(
            ["No compound components are needed: DRAM, SRAM, regfile and mac are primitives of Accelergy's plug-ins."]
        )
        + components_text(),
        "variables.yaml": variables_text(arch),
        "mapper.yaml": comment(
            [
                "random, because linear orders run into their timeout; one thread, so that a repeated run gives the",
                "same answer. Neither victory_condition nor timeout is in seconds.",
            ]
        )
        + mapper_text("normal"),
        "ert.yaml": comment(["pJ by action of the component's full width; from the architecture's spec."])
        + energy_text(arch),
        "art.yaml": comment(["um^2 of one instance; from the architecture's spec."]) + area_text(arch),
    }


def _provenance(workload: Workload, arch: Architecture, versions: dict[str, str]) -> str:
    """The first lines of every file: where it comes from. No time of day, so that a second export is the same."""
    lines = [f"Written by {', '.join(f'{name} {version}' for name, version in versions.items())} for Timeloop v0.4"]
    for part in workload.parts:
        graph = part.graph
        where = f" ({part.name}, {part.count:g} times)" if part.name else ""
        variant = f", variant {graph.variant}" if graph.variant else ""
        lines.append(f"model: {graph.model}{where}{variant}, batch {graph.batch}, {graph.dtype}, on {arch.name}")
    return comment(lines)


def _users(workload: Workload) -> dict[str, tuple[Problem, list[str]]]:
    """Key to the problem and the layers that run it, in order of first use. Layers of the host are left out."""
    users: dict[str, tuple[Problem, list[str]]] = {}
    for part in workload.parts:
        for layer in part.graph:
            for work in layer.work if layer.placement == "device" else ():
                layers = users.setdefault(work.problem.key, (work.problem, []))[1]
                name = _qualified(part, layer)
                if name not in layers:
                    layers.append(name)
    return users


def _qualified(part: Part, layer: Layer) -> str:
    """Layers of different parts may have one name."""
    return f"{part.name}: {layer.name}" if part.name else layer.name


def _rows(part: Part, layer: Layer) -> Iterator[ManifestRow]:
    """One row a work item, at least one a layer. The layer's bytes stand on its first row, so that rows add up."""
    if not layer.work:
        rest = "work of a vector unit" if layer.vector_ops else "only moves data"
        yield _row(part, layer, None, layer.bytes, f"no multiply-accumulates: {rest}")
    for index, work in enumerate(layer.work):
        reason = "runs on the host" if layer.placement == "host" else refusal(work.problem)
        yield _row(part, layer, work, 0 if index else layer.bytes, reason)


def _row(part: Part, layer: Layer, work: Work | None, size: int, reason: str) -> ManifestRow:
    problem = work.problem if work else None
    return ManifestRow(
        layer=_qualified(part, layer),
        op=layer.op,
        stage=layer.stage,
        modality=layer.modality,
        problem_file="" if problem is None or reason else f"problems/{problem_name(problem)}.yaml",
        count=work.count if work else 1,
        sequential=work.sequential if work else False,
        macs=problem.macs if problem else 0,
        bytes=size,
        footprints={item.name: problem.footprint(item) for item in problem.operands} if problem else {},
        tensor_sizes={item.name: problem.tensor_size(item) for item in problem.operands} if problem else {},
        excluded=reason,
    )
