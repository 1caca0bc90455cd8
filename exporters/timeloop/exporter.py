"""The exporter: a workload and an architecture as a folder that Timeloop runs.

::

    arch.yaml components.yaml variables.yaml mapper.yaml    shared by all problems
    ert.yaml art.yaml                                       the architecture's own energies and areas
    problems/<name>.yaml                                    one for each unique problem
    constraints/<name>.yaml                                 how that problem fills the array
    v0.3/arch.yaml v0.3/constraints/<name>.yaml             both for timeloop-mapper without its front end
    expected.json                                           what a right answer must report
    run.py                                                  runs them all and checks the answers

A native folder is exported as it is (``native/``), without what stands for an architecture of ours.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.errors import ArchitectureError
from mmworkload.exporters.naming import FileNames
from mmworkload.exporters.provenance import provenance
from mmworkload.exporters.timeloop import bare, run
from mmworkload.exporters.timeloop.architecture import arch_text, fidelity
from mmworkload.exporters.timeloop.energy_tables import area_text, energy_text
from mmworkload.exporters.timeloop.native import NativeArchitecture, read_native
from mmworkload.exporters.timeloop.padding import difference, pad
from mmworkload.exporters.timeloop.problem_file import describe, problem_text, refusal
from mmworkload.exporters.timeloop.results import SOURCE, source_text
from mmworkload.exporters.timeloop.runners import REPOSITORY
from mmworkload.exporters.timeloop.settings import components_text, mapper_text, variables_text
from mmworkload.exporters.timeloop.spatial import constraints_text
from mmworkload.exporters.timeloop.yaml_text import comment
from mmworkload.exporters.words import in_words
from mmworkload.exporters.work_items import WorkItem, work_items
from mmworkload.exporting import Export, ManifestRow
from mmworkload.files import write_atomic
from mmworkload.graph import Workload
from mmworkload.problem import Problem
from mmworkload.simulating.estimate import Fidelity

_RUN_COMMAND = "python run.py"
_CONTENTS_NATIVE = {
    "problems/": "one problem for each different loop nest, numbered in the order of the network",
    "native/": "the architecture's own files as they were given",
    "expected.json": "what a right answer reports: multiply-accumulates and footprints",
    SOURCE: "the layer graph and the architecture",
    "run.py": "runs the problems, checks the answers, adds them up, and writes outputs/",
}
_CONTENTS = {
    "arch.yaml, components.yaml, variables.yaml, mapper.yaml": "the architecture and the search, for all problems",
    "ert.yaml, art.yaml": "the architecture's own energies (pJ) and areas (um^2)",
    **{name: what for name, what in _CONTENTS_NATIVE.items() if name != "native/"},
    "constraints/": "how each problem fills the array; delete a file to leave that to the search",
    "v0.3/": "architecture and constraints once more in Timeloop's older form 0.3, which `timeloop-mapper` reads by"
    " itself, without the Python front end (`python run.py --binary`); the problems are the same",
}
_NOTES = (
    "It needs `timeloop-mapper` and `pytimeloop`, which are not on PyPI. The official container has both; in this"
    f' folder:\n\n```\ndocker run --rm -v "$PWD":/job -w /job {REPOSITORY}:latest-amd64 python3 run.py\n```',
    "`run.py` writes `outputs/layers.csv` and `outputs/stages.csv` and prints the sums over stages and the network."
    " These are of the multiply-accumulates alone. `mmworkload simulate --from .` reads the answers back and adds all"
    " other layers.",
)


class TimeloopExporter:
    """Timeloop v0.4 (``pytimeloop.timeloopfe.v4``) with Accelergy."""

    name = "timeloop"
    description = "Timeloop and Accelergy, input format 0.4: one problem file for each unique problem"
    kinds = ("accelerator", "native")

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes all files under ``directory``; a second call writes the same bytes.

        Raises ArchitectureError when Timeloop cannot be told ``arch`` or a native folder cannot be read.
        """
        native = read_native(Path(arch.native)) if arch.kind == "native" else None
        told = Fidelity("exact") if native else fidelity(arch)
        if told.level == "refused":
            raise ArchitectureError(f"{arch.name}: {'; '.join(told.lost)}")
        head = comment(provenance(workload, arch, versions, "Timeloop v0.4"))
        names = FileNames(workload)
        users = _users(workload)
        files = _native_files(native) if native else _shared_files(arch)
        expected = {}
        for problem, layers, operands in users.values():
            if refusal(problem):
                continue
            name = names.name(problem, layers[0])
            about = describe(problem, layers) + comment(operands)
            files[f"problems/{name}.yaml"] = about + problem_text(problem)
            if not native:
                files[f"constraints/{name}.yaml"] = (
                    _constraints_about(problem, arch) + about + constraints_text(problem, arch)
                )
                files[f"v0.3/constraints/{name}.yaml"] = about + bare.constraints_text(problem, arch)
            footprints = {operand.name: problem.footprint(operand) for operand in problem.operands}
            expected[name] = {"macs": problem.macs, "footprints": footprints}
        for name, text in files.items():
            write_atomic(directory / name, text if name.startswith("native/") else head + text)
        write_atomic(directory / SOURCE, source_text(workload, arch))
        write_atomic(directory / "expected.json", json.dumps(expected, indent=1, sort_keys=True) + "\n")
        script = Path(run.__file__).read_text(encoding="utf-8")
        shebang, _, body = script.partition("\n")
        write_atomic(directory / "run.py", f"{shebang}\n{head}{body}")
        rows = tuple(_row(item, names) for item in work_items(workload))
        return Export(
            target=self.name,
            model=workload.name,
            arch=arch.name,
            rows=rows,
            files=tuple(sorted([*files, "expected.json", SOURCE, "run.py"])),
            run_command=_RUN_COMMAND,
            versions=dict(versions),
            fidelity=str(in_words(told, workload, arch)),
            contents=_CONTENTS_NATIVE if native else _CONTENTS,
            notes=_NOTES if not native else _NOTES[:1],
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
        "v0.3/arch.yaml": comment(
            [
                "What timeloop-mapper reads by itself:",
                "timeloop-mapper v0.3/arch.yaml mapper.yaml ert.yaml art.yaml problems/NAME.yaml"
                " v0.3/constraints/NAME.yaml",
            ]
        )
        + bare.arch_text(arch),
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


def _native_files(native: NativeArchitecture) -> dict[str, str]:
    """The folder's files as they are, and our mapper where it has none."""
    files = {f"native/{name}": text for name, text in native.files.items()}
    return files if "mapper" in native.sections else {**files, "mapper.yaml": mapper_text("normal")}


def _users(workload: Workload) -> dict[str, tuple[Problem, list[str], list[str]]]:
    """Key to the problem, the layers that run it, and what its operands are in attention, in order of first use. Layers
    of the host are left out."""
    users: dict[str, tuple[Problem, list[str], list[str]]] = {}
    for item in work_items(workload):
        if item.work is not None and item.layer.placement == "device":
            _, layers, operands = users.setdefault(item.work.problem.key, (item.work.problem, [], []))
            if item.name not in layers:
                layers.append(item.name)
            said = f"in attention: {', '.join(f'{name} is {what}' for name, what in item.operands.items())}"
            if item.operands and said not in operands:
                operands.append(said)
    return users


def _row(item: WorkItem, names: FileNames) -> ManifestRow:
    if item.work is None:
        rest = "work of a vector unit" if item.layer.vector_ops else "only moves data"
        return item.manifest_row("", f"no multiply-accumulates: {rest}")
    reason = "runs on the host" if item.layer.placement == "host" else refusal(item.work.problem)
    return item.manifest_row("" if reason else f"problems/{names.name(item.work.problem, item.name)}.yaml", reason)
