"""``mmworkload measure``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mmworkload.cli.options import All, Device, Json, Model, Only, command, model_options, print_json
from mmworkload.errors import MmworkloadError
from mmworkload.models.names import Options

BREAKDOWN = "G1"
"""The view that measurements of the generation paper's workloads come with."""


@command
@model_options
def measure(
    model: Model,
    how: Options,
    device: Device = "cpu",
    mode: Annotated[str, typer.Option("--mode", help="infer, or train: also forward, backward and update")] = "infer",
    batches: Annotated[str | None, typer.Option("--batches", help="several batch sizes: 1,8,32 (needs -o)")] = None,
    dtypes: Annotated[str | None, typer.Option("--dtypes", help="several number types: float32,bfloat16")] = None,
    only: Only = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="folder for the result: times, graph, kernels and timeline (or a .json)"),
    ] = None,
    limit_s: Annotated[float, typer.Option("--limit-s", help="seconds after which no further repeat begins")] = 60.0,
    compiled: Annotated[bool, typer.Option("--compile", help="also time the model under torch.compile")] = False,
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="also time it replayed as a CUDA graph")] = False,
    streams: Annotated[
        bool, typer.Option("--streams", help="also time it with each encoder on a CUDA stream of its own")
    ] = False,
    energy: Annotated[bool, typer.Option("--energy", help="also measure the joules of an inference")] = False,
    counters: Annotated[
        bool, typer.Option("--counters", help="also read the GPU's hardware counters (ncu) of the stages of --only")
    ] = False,
    all_layers: All = False,
    json: Json = False,
) -> None:
    """Times a model: eager end to end, its graph stage by stage, and the kernels of every layer."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.measuring.folder import check_place, save_or_keep
    from mmworkload.sources import has_parts

    options: dict[str, Any] = {
        "device": device,
        "mode": mode,
        "only": only or (),
        "limit_s": limit_s,
        "compiled": compiled,
        "cuda_graph": cuda_graph,
        "streams": streams,
        "energy": energy,
        "counters": counters,
        **how,
    }
    if batches is not None or dtypes is not None:
        _combinations(model, output, batches, dtypes, options, json)
        return
    if has_parts(model, how):
        _parts(model, output, options, json)
        return
    if output is not None:
        check_place(output)
    with bar(f"measuring {model}") as progress:
        result = verbs.measure_result(model, progress=progress, **options)
    if output is not None:
        save_or_keep(result, output)
    if json:
        print_json(result.measurement.to_dict())
        return
    from mmworkload.analyzing import VIEWS, analyze
    from mmworkload.generation.categories import in_the_paper
    from mmworkload.reporting.tables import measure_tables, print_out
    from mmworkload.reporting.tables.analysis import analysis_tables

    print_out(*measure_tables(result.measurement, all_layers=all_layers))
    if in_the_paper(result.measurement.model):
        print_out(*analysis_tables(VIEWS[BREAKDOWN], analyze(BREAKDOWN, result)))


def _combinations(
    model: str, output: Path | None, batches: str | None, dtypes: str | None, options: dict[str, Any], json: bool
) -> None:
    """``--batches`` and ``--dtypes``: a result folder for each combination, and a table of all."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.reporting.tables import combination_tables, print_out

    if output is None:
        raise MmworkloadError("--batches and --dtypes write a result for each combination: say where with -o FOLDER")
    for name, several in (("batch", batches), ("dtype", dtypes)):
        if several is not None and options[name] is not None:
            raise MmworkloadError(f"give --{name} or --{name}{'es' if name == 'batch' else 's'}, not both")
    sizes = [text.strip() for text in (batches or "").split(",") if text.strip()]
    if not all(text.isdecimal() and int(text) for text in sizes):
        raise MmworkloadError(f"--batches {batches}: write whole numbers with commas between, as in --batches 1,8,32")
    types = [text.strip() for text in (dtypes or "").split(",") if text.strip()]
    with bar(f"measuring {model}") as progress:
        rows = verbs.measure_combinations(
            model, output, batches=map(int, sizes), dtypes=types, progress=progress, **options
        )
    if json:
        print_json({"model": model, "combinations": [asdict(row) for row in rows]})
        return
    print_out(*combination_tables(model, rows))


def _parts(name: str, output: Path | None, options: dict[str, Any], json: bool) -> None:
    """A name of several graphs: a result folder for each part, and a table of all."""
    from mmworkload import verbs
    from mmworkload.cli.progress import bar
    from mmworkload.measuring.parts import check_place
    from mmworkload.outputs import keep
    from mmworkload.reporting.tables.parts import parts_tables
    from mmworkload.reporting.terminal import print_out

    if output is not None:
        check_place(output)
    with bar(f"measuring {name}") as progress:
        measured = verbs.measure_parts(name, progress=progress, **options)
    if output is not None:
        keep(output, measured.save)
    if json:
        print_json(measured.to_dict())
        return
    print_out(*parts_tables(measured))
