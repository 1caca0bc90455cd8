"""``mmworkload simulate``."""

from __future__ import annotations

from typing import Any

from mmworkload.cli.options import (
    All,
    Arch,
    Json,
    Model,
    Only,
    Simulator,
    Strict,
    command,
    model_options,
    print_json,
    simulator_options,
)
from mmworkload.models.names import Options


@command
@model_options
@simulator_options
def simulate(
    model: Model,
    arch: Arch,
    how: Options,
    running: dict[str, Any],
    simulator: Simulator = "auto",
    only: Only = None,
    strict: Strict = True,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Cycles, latency and energy of every layer on an accelerator; of several simulators side by side."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.simulating.choice import require_known
    from mmworkload.sources import load_workload, machine

    with bar(f"simulating {model}") as progress:
        spec, how = machine(arch, how)
        if "," not in simulator:
            result = verbs.simulate(
                model, spec, simulator=simulator, only=only or (), strict=strict, progress=progress, **running, **how
            )
        else:
            from mmworkload.simulating.comparison import compare_simulators

            for name in simulator.split(","):
                require_known(name)
            workload = load_workload(model, only or (), strict, how)
            comparison = compare_simulators(
                simulator.split(","),
                lambda name: verbs.simulate(
                    workload,
                    spec,
                    simulator=name,
                    strict=strict,
                    progress=progress,
                    **running,
                    dtype=how.get("dtype"),
                ),
            )
    if json:
        print_json((comparison if "," in simulator else result).to_dict())
        return
    from mmworkload.reporting.tables import comparison_tables, print_out, simulate_tables

    if "," in simulator:
        print_out(*comparison_tables(comparison))
    else:
        print_out(*simulate_tables(result, all_layers=all_layers))
