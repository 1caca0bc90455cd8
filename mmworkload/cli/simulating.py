"""``mmworkload simulate``."""

from __future__ import annotations

from mmworkload.cli.options import (
    All,
    Arch,
    Batch,
    Cache,
    Dtype,
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
    print_json,
)


@command
def simulate(
    model: Model,
    arch: Arch,
    simulator: Simulator = "auto",
    batch: Batch = None,
    dtype: Dtype = None,
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
            batch=batch,
            dtype=dtype,
            only=only or (),
            strict=strict,
            effort=effort,
            limit_s=limit_s,
            workers=workers,
            cache=cache,
            retry=retry,
            progress=progress,
        )
    if json:
        print_json(result.to_dict())
        return
    from mmworkload.reporting.tables import print_out, simulate_tables

    print_out(*simulate_tables(result, all_layers=all_layers))
