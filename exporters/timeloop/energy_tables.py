"""``ert.yaml`` and ``art.yaml``: the architecture's own energy and area table in Accelergy's form.

With both files given, Timeloop does not start Accelergy: all designs are then charged by their specs, at any
technology, and a run is 3 to 4 s faster. One without the other is silently ignored by the front end, which also wants
every number as a float.
"""

from __future__ import annotations

from mmworkload.arch import Architecture
from mmworkload.exporters.timeloop.architecture import array_axes
from mmworkload.exporters.timeloop.terms import MAC, SYSTEM, dummy_level
from mmworkload.exporters.timeloop.yaml_text import mapping, scalar


def _tables(arch: Architecture) -> list[tuple[str, dict[str, float], float]]:
    """(full name, action to picojoules, area of one instance) of every component.

    A name without the prefix and the instances is passed over by Timeloop without a word, which then invents energies.
    """
    elements = arch.elements
    rows = []
    for name, level in arch.levels.items():
        instances = 1 if name in arch.outer_levels else elements
        energy = level.energy
        actions = {
            "read": energy.read_pj,
            "write": energy.write_pj,
            "update": energy.write_pj,
            "leak": energy.leak_pj_per_cycle,
        }
        rows.append((f"{SYSTEM}_top_level.{name}[1..{instances}]", actions, level.area_um2))
    rows.append(
        (f"{SYSTEM}_top_level.{MAC}[1..{elements}]", {"compute": arch.compute.energy_pj}, arch.compute.area_um2)
    )
    return rows


def energy_text(arch: Architecture) -> str:
    """The content of ``ert.yaml`` without its header: picojoules by action of the component's full width."""
    lines = ["ERT:", "  version: 0.4", "  tables:"]
    for name, actions, _ in _tables(arch):
        lines += [f"  - name: {scalar(name)}", "    actions:"]
        for action, energy in actions.items():
            lines.append(f"    - {mapping({'name': action, 'arguments': {}, 'energy': float(energy)})}")
    return "\n".join(lines) + "\n"


def area_text(arch: Architecture) -> str:
    """The content of ``art.yaml`` without its header: square micrometres of one instance."""
    areas = [(name, area) for name, _, area in _tables(arch)]
    outside = 1
    for container, _, instances, _ in array_axes(arch):
        areas.append((f"{SYSTEM}_top_level.{dummy_level(container)}[1..{outside}]", 0.0))
        outside *= instances
    lines = ["ART:", "  version: 0.4", "  tables:"]
    lines += [f"  - {mapping({'name': name, 'area': float(area)})}" for name, area in areas]
    return "\n".join(lines) + "\n"
