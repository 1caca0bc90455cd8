"""``arch.yaml`` and ``constraints.yaml`` in form 0.3: what ``timeloop-mapper`` reads without the front end.

The program takes mapper, energy, area and problem files as they are, but knows neither containers nor constraints in
the architecture. Levels are a flat list with their instances in the name, a fan-out is a level without storage, and all
constraints are told apart, by level. The loops that the front end orders (those of one iteration, innermost) are
ordered here too: the search then is the same, so that one program gives the same answer to both forms.
"""

from __future__ import annotations

from mmworkload.arch import Architecture
from mmworkload.exporters.timeloop.architecture import (
    ALL_ON_X,
    ALL_ON_Y,
    array_axes,
    axis_factors,
    compute_attributes,
    data_spaces,
    level_attributes,
)
from mmworkload.exporters.timeloop.problem_file import dimensions
from mmworkload.exporters.timeloop.spatial import spatial_factors
from mmworkload.exporters.timeloop.terms import ARRAY_X, CLASSES, DATA_SPACES, MAC, SYSTEM, dummy_level
from mmworkload.exporters.timeloop.yaml_text import Word, mapping, words
from mmworkload.problem import Problem

# One word, never used: a fan-out holds nothing.
_DUMMY = {"width": 1, "depth": 1, "datawidth": 1, "technology": -1}


def arch_text(arch: Architecture) -> str:
    """The content of ``v0.3/arch.yaml`` without its header."""
    lines = ["architecture:", "  version: 0.3", "  subtree:", f"  - name: {SYSTEM}_top_level"]
    settings = {"technology": f"{arch.technology_nm}nm", "global_cycle_seconds": 1 / (arch.clock_mhz * 1e6)}
    lines += [f"    attributes: {mapping(settings)}", "    local:"]
    mesh = {"meshX": 1, "meshY": 1}

    def add(name: str, kind: str, attributes: dict[str, object]) -> None:
        instances = mesh["meshX"] * mesh["meshY"]
        item = {"name": f"{name}[1..{instances}]", "class": Word(kind), "attributes": {**attributes, **mesh}}
        lines.append(f"    - {mapping(item)}")

    for name in arch.outer_levels:
        add(name, CLASSES[arch.levels[name].kind], level_attributes(arch.levels[name]))
    for container, axis, instances, _ in array_axes(arch):
        add(dummy_level(container), "dummy_storage", dict(_DUMMY))
        mesh[axis] = instances
    for name in arch.inner_levels:
        add(name, CLASSES[arch.levels[name].kind], level_attributes(arch.levels[name]))
    add(MAC, arch.compute.kind, compute_attributes(arch.compute))
    return "\n".join(lines) + "\n"


def constraints_text(problem: Problem, arch: Architecture, *, fill: bool = True) -> str:
    """The content of ``v0.3/constraints/<name>.yaml``: what each level holds, and how the problem fills the array."""
    dims = dimensions(problem)
    idle = [dim for dim in dims if problem.extents.get(dim, 1) == 1]
    targets: list[dict[str, object]] = []

    def order(dims_of_one: list[str]) -> str:
        return "".join(reversed(dims_of_one))

    def storage(name: str) -> None:
        targets.append({"type": Word("bypass"), "target": name, **data_spaces(arch.levels[name])})
        if idle:
            targets.append({"type": Word("temporal"), "target": name, "permutation": order(idle)})

    chosen = spatial_factors(problem, arch, fill=fill)
    for name in arch.outer_levels:
        storage(name)
    for container, _, _, allowed in array_axes(arch):
        name = dummy_level(container)
        factors = {**axis_factors(allowed), **chosen.get(container, {})}
        ones = [dim for dim, factor in factors.items() if factor == 1]
        ones += [dim for dim in idle if dim not in ones]
        spatial: dict[str, object] = {"type": Word("spatial"), "target": name}
        if factors:
            spatial["factors"] = ",".join(f"{dim}={factor}" for dim, factor in factors.items())
        if ones:
            spatial["permutation"] = order(ones)
        targets.append({**spatial, "split": ALL_ON_X if container == ARRAY_X else ALL_ON_Y})
        none = ",".join(f"{dim}=1" for dim in dims)
        targets.append({"type": Word("temporal"), "target": name, "factors": none, "permutation": "".join(dims)})
        targets.append({"type": Word("bypass"), "target": name, "bypass": words(DATA_SPACES.values())})
    for name in arch.inner_levels:
        storage(name)
    return "architecture_constraints:\n  targets:\n" + "".join(f"  - {mapping(target)}\n" for target in targets)
