"""``mmworkload exits``."""

from __future__ import annotations

from typing import Annotated

import typer

from mmworkload.cli.options import (
    Json,
    Model,
    Simulator,
    Strict,
    command,
    model_options,
    print_json,
    simulator_options,
)
from mmworkload.errors import MmworkloadError
from mmworkload.models.names import Options
from mmworkload.options import SimulateOptions


@command
@model_options
@simulator_options
def exits(
    model: Model,
    how: Options,
    running: SimulateOptions,
    arch: Annotated[
        list[str] | None,
        typer.Option("--arch", "-a", help="an architecture to simulate every segment on; may be repeated"),
    ] = None,
    simulator: Simulator = "auto",
    strict: Strict = True,
    json: Json = False,
) -> None:
    """Early exits: expected cost, utility, and the best order of modalities, by MACs and on architectures."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.exits import SUFFIX, analyse
    from mmworkload.exits.analysis import Cost, simulated_costs
    from mmworkload.graph import Workload
    from mmworkload.simulating.engine import Simulation
    from mmworkload.sources import exit_network

    name = model if SUFFIX in model else f"{model}{SUFFIX}"
    dtype = how.get("dtype")
    network = exit_network(name, how)
    if network is None:
        raise MmworkloadError(f"{name}: write settings of exits behind a question mark, {SUFFIX}?p=0.3")
    costs: list[Cost] = []
    for item in arch or ():
        with bar(f"simulating {name} on {item}") as progress:

            def run(workload: Workload, item: str = item) -> Simulation:
                return verbs.simulate(
                    workload, item, simulator=simulator, strict=strict, progress=progress, **running, dtype=dtype
                )

            costs += simulated_costs(network, run)
    result = analyse(network, costs)
    if json:
        print_json(result.to_dict())
        return
    from mmworkload.reporting.tables import exits_tables, print_out

    print_out(*exits_tables(result))
