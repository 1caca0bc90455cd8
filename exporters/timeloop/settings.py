"""``variables.yaml``, ``mapper.yaml`` and ``components.yaml``."""

from __future__ import annotations

from mmworkload.arch import Architecture
from mmworkload.errors import SimulationError
from mmworkload.exporters.timeloop.yaml_text import Word, mapping

# Consecutive valid mappings without improvement after which the search ends.
VICTORY = {"quick": 20, "normal": 100, "thorough": 500}


def variables_text(arch: Architecture) -> str:
    """Technology and cycle time; Accelergy needs both."""
    variables = {
        "version": 0.4,
        "technology": f"{arch.technology_nm}nm",
        "global_cycle_seconds": 1 / (arch.clock_mhz * 1e6),
    }
    return f"variables: {mapping(variables)}\n"


def mapper_text(effort: str) -> str:
    """The search. ``random`` on one thread: the same input gives the same answer, and linear orders find nothing.

    ``timeout`` counts consecutive invalid mappings, not seconds. Raises SimulationError for an unknown effort.
    """
    if effort not in VICTORY:
        raise SimulationError(f"the effort is '{effort}'; timeloop knows {', '.join(VICTORY)}")
    settings = {
        "version": 0.4,
        "algorithm": Word("random"),
        # The plural: the singular, which the front end documents, does not reach the mapper.
        "optimization_metrics": [Word("edp")],
        "num_threads": 1,
        "victory_condition": VICTORY[effort],
        "search_size": 0,
        "timeout": 20000,
        "max_permutations_per_if_visit": 16,
        # It would wait for a key.
        "live_status": False,
        "diagnostics": False,
    }
    return "mapper:\n" + "".join(f"  {mapping({key: value})[1:-1]}\n" for key, value in settings.items())


def components_text() -> str:
    """No compound components: every class of ``arch.yaml`` is a primitive that Accelergy's plug-ins estimate."""
    return "components: {version: 0.4, classes: []}\n"
