"""Changing parameters of an architecture by path, so that no stale figure is charged.

A path names a value of the file as YAML nests it: ``levels.glb.size_kib``, ``array.x``, ``clock_mhz``. Energies,
leakage and areas that depend on a changed value are estimated anew: the architecture's own figure times the ratio of an
estimator's answers for the new and the old parameters, so that what does not change keeps its figure exactly.

=======================================  ==========================================================================
changed                                  stale
=======================================  ==========================================================================
size, width, ports or kind of a level    the level's energies, leakage and area
technology_nm                            all figures on the chip; not the DRAM's, whose interface is its own
clock_mhz                                leakage a cycle and the DRAM's words a cycle: power and GB/s stay
bits or kind of compute                  the MAC's energy and area; the vector unit's energy where it is the MAC's
width or technology of the DRAM          its energies
all else: array, bandwidths, holds, ...  nothing
=======================================  ==========================================================================

A figure or DRAM bandwidth that is set itself is the user's word: it is kept. Zero means "not charged" and stays zero.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmworkload.arch import Architecture, from_dict
from mmworkload.errors import ArchitectureError
from mmworkload.files import parse_yaml
from mmworkload.plausibility import implausible
from mmworkload.rescaling import EstimatorName, is_derived, rescalings, value

# Not parameters of the machine.
_PROSE = frozenset({"name", "description", "source", "kind", "native", "overrides", "rescaled"})
# Quantities with a unit: a factor of 1000 from the file's value is a mistake of units.
_QUANTITIES = frozenset({"size_kib", "capacity_gib", "clock_mhz", "technology_nm", "read_bandwidth", "write_bandwidth"})
_UNIT_FACTOR = 1000.0
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?")


def overridden(arch: Architecture, settings: Mapping[str, Any], *, estimator: EstimatorName = "auto") -> Architecture:
    """``arch`` with the value of each path set; text is read as YAML.

    ``estimator`` says who estimates stale figures: ``accelergy``, the scaling ``law`` of
    :mod:`mmworkload.energy_scaling` (microseconds), or ``auto``: Accelergy where it is installed and answers, else the
    law. The result lists what differs from the file in ``overrides``, and in ``rescaled`` how each stale figure was
    estimated. The order of settings does not matter; setting present values returns ``arch``.

    Raises ArchitectureError: unknown path (the nearest are suggested), a value that the schema refuses, a value that is
    set or estimated that :mod:`mmworkload.plausibility` refuses, a quantity 1000 times the file's, a native folder of a
    tool. With ``accelergy``, raises UnavailableError where it is missing and SimulationError where it fails.
    """
    if not settings:
        return arch
    if arch.kind == "native":
        raise ArchitectureError(f"{arch.name} is in a tool's own files: change {', '.join(settings)} there")
    data = arch.model_dump()
    before = {}
    for path, given in settings.items():
        group, key = _place(arch, data, path)
        before[path] = group[key]
        group[key] = _parsed(path, given, group[key])
    where = f"{arch.name} with {', '.join(f'{path}={given}' for path, given in settings.items())}"
    changed = from_dict(data, where)
    after = {path: value(changed, path) for path in settings}
    different = {path for path in settings if after[path] != before[path]}
    if not different:
        return arch
    for path in different:
        _refuse_other_unit(path, before[path], after[path], where)
    said = {path: text for path, _, text in (item.partition("=") for item in arch.overrides)}
    said |= {path: _text(after[path]) for path in settings if path in different or is_derived(arch, path)}
    kept = {path for path in said if is_derived(arch, path)}
    notes = list(arch.rescaled)
    found = rescalings(arch, changed, kept, estimator)
    for item in found:
        notes.append(str(item))
        for path, factor in item.factors.items():
            group, key = _place(arch, data, path)
            group[key] *= factor
    notes += [f"{path} as set" for path in sorted(settings) if is_derived(arch, path)]
    data["overrides"] = [f"{path}={said[path]}" for path in sorted(said)]
    data["rescaled"] = list(dict.fromkeys(notes))
    result = from_dict(data, where)
    touched = set(settings).union(*(item.factors for item in found))
    problems = {problem.partition(":")[0]: problem for problem in implausible(result)}
    if not touched.isdisjoint(problems):
        # What was implausible before is not this change's fault, unless it is set.
        before_too = {problem.partition(":")[0] for problem in implausible(arch)} - set(settings)
        wrong = [problem for path, problem in problems.items() if path in touched - before_too]
        if wrong:
            raise ArchitectureError(f"{where}: {'; '.join(wrong)}")
    return result


def paths(arch: Architecture) -> list[str]:
    """Every path that can be set, in the order of the file."""
    return list(_leaves({key: value for key, value in arch.model_dump().items() if key not in _PROSE}))


def is_path(text: str) -> bool:
    """Whether ``text`` is meant as a path of an architecture: it has a dot, or is a field of all architectures."""
    return "." in text or (text in Architecture.model_fields and text not in _PROSE)


def _leaves(data: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, held in data.items():
        if isinstance(held, dict):
            yield from _leaves(held, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _place(arch: Architecture, data: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds the value at ``path``, and its key there."""
    place: Any = data
    *above, key = path.split(".")
    for part in above:
        place = place.get(part) if isinstance(place, dict) else None
    if not isinstance(place, dict) or key not in place or isinstance(place[key], dict) or path in _PROSE:
        known = paths(arch)
        inside = [item for item in known if item.startswith(f"{path}.")]
        near = inside or difflib.get_close_matches(path, known, n=3, cutoff=0.5)
        advice = f"Did you mean {' or '.join(near[:3])}?" if near else f"It has {', '.join(known)}."
        raise ArchitectureError(f"{arch.name} has no parameter '{path}'. {advice}")
    return place, key


def _parsed(path: str, given: Any, present: Any) -> Any:
    """``given``, or what its text is in YAML. YAML's yes and no are not numbers."""
    if isinstance(given, str):
        given = float(given) if _NUMBER.fullmatch(given) else _yaml(path, given)
    if isinstance(given, bool) and not isinstance(present, bool):
        raise ArchitectureError(
            f"{path}: {str(given).lower()} is not a value for it; at present it is {_text(present)}"
        )
    return given


@functools.lru_cache(maxsize=1024)
def _yaml(path: str, text: str) -> Any:
    return parse_yaml(text, f"{path}: '{text}'", ArchitectureError)


def _text(given: Any) -> str:
    """A value as YAML writes it."""
    if given is None:
        return "null"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, float) and given.is_integer():
        return str(int(given))
    if isinstance(given, list | tuple):
        return f"[{', '.join(map(_text, given))}]"
    return str(given)


def _refuse_other_unit(path: str, old: Any, new: Any, where: str) -> None:
    if path.rpartition(".")[2] not in _QUANTITIES or old is None or new is None:
        return
    ratio = new / old
    if not 1 / _UNIT_FACTOR < ratio < _UNIT_FACTOR:
        unit = "" if path.endswith("bandwidth") else f" ({path.rpartition('_')[2]})"
        raise ArchitectureError(
            f"{where}: {path}: {_text(new)} is {ratio:.3g} times the present {_text(old)}; is it in the right"
            f" unit{unit}? If it is meant, write it into a file of its own with its energies"
        )
