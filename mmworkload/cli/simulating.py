"""``mmworkload simulate``."""

from __future__ import annotations

from functools import partial

from mmworkload.cli.options import (
    All,
    Arch,
    Cache,
    Effort,
    Json,
    Limit,
    Model,
    Only,
    Retry,
    Simulator,
    Strict,
    Workers,
    command,
    model_options,
    print_json,
)
from mmworkload.models.names import Options


@command
@model_options
def simulate(
    model: Model,
    arch: Arch,
    how: Options,
    simulator: Simulator = "auto",
    only: Only = None,
    strict: Strict = True,
    effort: Effort = "normal",
    limit_s: Limit = 300.0,
    workers: Workers = None,
    cache: Cache = True,
    retry: Retry = False,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Cycles, latency and energy of every layer on an accelerator; of several simulators side by side."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar

    with bar(f"simulating {model}") as progress:
        run = partial(
            verbs.simulate,
            arch=arch,
            effort=effort,
            limit_s=limit_s,
            workers=workers,
            cache=cache,
            retry=retry,
            progress=progress,
        )
        if "," in simulator:
            from mmworkload.simulating.comparison import compare_simulators

            graph = verbs.trace(model, only=only or (), strict=strict, **how)
            forced = how.get("dtype")
            comparison = compare_simulators(
                simulator.split(","), lambda name: run(graph, simulator=name, strict=strict, dtype=forced)
            )
        else:
            result = run(model, simulator=simulator, only=only or (), strict=strict, **how)
    if json:
        print_json((comparison if "," in simulator else result).to_dict())
        return
    from mmworkload.reporting.tables import comparison_tables, print_out, simulate_tables

    if "," in simulator:
        print_out(*comparison_tables(comparison))
    else:
        print_out(*simulate_tables(result, all_layers=all_layers))
