"""``mmworkload simulate``."""

from __future__ import annotations

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
    """Cycles, latency and energy of every layer on an accelerator."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar

    with bar(f"simulating {model}") as progress:
        result = verbs.simulate(
            model,
            arch,
            simulator=simulator,
            only=only or (),
            strict=strict,
            effort=effort,
            limit_s=limit_s,
            workers=workers,
            cache=cache,
            retry=retry,
            progress=progress,
            **how,
        )
    if json:
        print_json(result.to_dict())
        return
    from mmworkload.reporting.tables import print_out, simulate_tables

    print_out(*simulate_tables(result, all_layers=all_layers))
