"""The exporter: a workload and an architecture as a folder that ZigZag runs.

::

    accelerator.yaml       the architecture with its own energies
    problems/<name>.yaml   ZigZag's workload of one layer, for each unique problem
    mapping.yaml           how each problem fills the array, an entry each
    mapping-2.yaml ...     further choices for those that have them: a full array may wait longer for its memories
    expected.json          what a right answer must report, and what a transfer costs
    run.py runner/         runs them all, takes the best choice for each, and checks the answers

Workloads are YAML and not ONNX: ZigZag 3.9.1 reads ONNX kernels and strides with height and width exchanged, and has
one mapping for all layers of an operator; a loop that a layer lacks is dropped from its mapping in silence.
One file a problem, because ZigZag gives up on a whole workload when one layer fails. Each is also an entry of one list:
``cat problems/*.yaml`` is a workload of all.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmworkload.arch import Architecture
from mmworkload.exporters.provenance import provenance
from mmworkload.exporters.telling import Told, tell
from mmworkload.exporters.timeloop.yaml_text import comment
from mmworkload.exporters.zigzag.command import mapping_name
from mmworkload.exporters.zigzag.inexpressible import MOVEMENT, VECTOR
from mmworkload.exporters.zigzag.inputs import (
    Inputs,
    accelerator_text,
    inputs,
    machine,
    mapping_text,
    workload_text,
)
from mmworkload.exporters.zigzag.memories import fidelity
from mmworkload.exporters.zigzag.unrolling import Unrolling
from mmworkload.exporting import Export
from mmworkload.files import write_atomic
from mmworkload.graph import Workload

VERSION = "3.9.1"
# What `mmworkload simulate` does unless told otherwise.
_EFFORT = "normal"
# Modules that are copied, into a package that stands alone.
_RUNNER = ("command.py", "evaluation.py", "search.py")
_RUN = '''"""Runs the problems of this folder through ZigZag: ``python run.py --help``."""

import sys
from pathlib import Path

from runner.command import main

# A worker process imports this file again.
if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
'''


class ZigZagExporter:
    """ZigZag 3.9.1 (``zigzag-dse``)."""

    name = "zigzag"
    description = f"ZigZag {VERSION}: a workload file for each unique problem, mappings chosen from its own dimensions"

    def export(self, workload: Workload, arch: Architecture, directory: Path, versions: dict[str, str]) -> Export:
        """Writes all files under ``directory``; a second call writes the same bytes.

        Problems are written as they are simulated: in the architecture's native precision and without masks. Those
        that only differ in these share a file.
        """
        head = provenance(workload, arch, versions, f"ZigZag {VERSION}")
        rows, told = tell(
            workload, arch, lambda problem, name: inputs(problem, arch, _EFFORT), vector=VECTOR, movement=MOVEMENT
        )
        files = {"accelerator.yaml": comment([*head, *_about_accelerator(arch)]) + accelerator_text(arch)}
        for number, (name, item) in enumerate(told.items()):
            lines = [*head, *_about_problem(item)]
            files[f"problems/{name}.yaml"] = comment(lines) + workload_text(item.terms.layer, name, number)
        files |= _mappings({name: item.terms.choices for name, item in told.items()}, head)
        expected = {
            "version": VERSION,
            "machine": machine(arch, _EFFORT),
            "problems": {name: item.terms.task for name, item in told.items()},
        }
        files["expected.json"] = json.dumps(expected, indent=1) + "\n"
        files |= _runner(head)
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
            fidelity=str(fidelity(arch)),
            contents={
                "accelerator.yaml": "the architecture with its own energies",
                "problems/": "a workload of one layer for each unique problem, numbered in the order of the network",
                "mapping.yaml, mapping-2.yaml ...": "how each problem fills the array; further choices",
                "expected.json": "what a right answer reports",
                "run.py, runner/": "runs the problems and writes outputs/",
            },
            notes=(f"It needs ZigZag alone: `pip install zigzag-dse=={VERSION} six`.",),
        )


def _mappings(choices: dict[str, tuple[Unrolling, ...]], head: list[str]) -> dict[str, str]:
    """The mapping files. In each, a problem without a choice of that number has its first."""
    files = {}
    for number in range(max((len(found) for found in choices.values()), default=1)):
        which = f"Choice {number + 1}; the first again where there is none." if number else "The fullest array."
        about = [
            f"Loops on the array, chosen for each problem from its own dimensions. {which}",
            "D1 is the array's x, D2 its y. A layer of another name is left to ZigZag.",
        ]
        entries = [(name, found[number if number < len(found) else 0]) for name, found in choices.items()]
        text = mapping_text([("default", None), *entries])
        files[mapping_name(number)] = comment([*head, *about]) + text
    return files


def _runner(head: list[str]) -> dict[str, str]:
    """``run.py`` and the package that it starts."""
    files = {
        "run.py": f"#!/usr/bin/env python3\n{comment(head)}{_RUN}",
        "runner/__init__.py": '"""Runs ZigZag and charges what it finds; started by ``run.py``."""\n',
    }
    for module in _RUNNER:
        text = Path(__file__).with_name(module).read_text(encoding="utf-8")
        files[f"runner/{module}"] = text.replace(__package__, "runner")
    return files


def _about_accelerator(arch: Architecture) -> list[str]:
    return [
        f"architecture: {arch.name}. {arch.description}",
        f"source: {arch.source}",
        f"told to ZigZag: {fidelity(arch)}",
        f"Sizes and bandwidths are in bits of the native precision ({arch.dram.word_bits} bits in DRAM), costs in pJ.",
    ]


def _about_problem(told: Told[Inputs]) -> list[str]:
    names, problem = list(told.layers), told.problem
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    lines = [
        f"layers ({len(names)}): {', '.join(names[:4])}{rest}",
        f"shape: {problem}",
        f"multiply-accumulates: {problem.macs}",
    ]
    if told.terms.layer.scattered:
        lines.append("A transposed convolution: its matrix product, without the sums of overlapping outputs.")
    return lines
