"""``mmworkload results``: packs of recorded simulator results."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmworkload.cli.options import Effort, Json, Limit, command, print_json
from mmworkload.errors import MmworkloadError, SimulationError, UnknownNameError
from mmworkload.graph import LayerGraph
from mmworkload.packs.pack import Pack
from mmworkload.printing import put_line, tell
from mmworkload.versions import SCHEMA_VERSION

results = typer.Typer(help="Recorded simulator results: answers without the simulator.")

Models = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="workloads, as a glob: av-mnist/*; may be repeated")
]
Packs = Annotated[Path | None, typer.Option("--packs", help="folder of packs (default: those that are installed)")]


@results.command("list")
@command
def list_(models: Models = None, packs: Packs = None, json: Json = False) -> None:
    """The packs, and how many unique problems of each workload they answer on each architecture."""
    from mmworkload import arch as architectures
    from mmworkload.cli.progress import bar
    from mmworkload.packs.coverage import coverage
    from mmworkload.packs.measured import MeasuredPack, files

    measured = {name: MeasuredPack.load(path) for name, path in files().items()} if packs is None else {}
    found = _packs(packs)
    names = list(dict.fromkeys(row.arch for pack in found for row in pack.rows))
    with bar("reading workloads") as progress:
        covered = list(coverage(_graphs(models, progress), [architectures.load(name) for name in names], found))
    about = [
        {
            "simulator": pack.simulator,
            "tool": pack.tool,
            "version": pack.version,
            "recorded": pack.recorded,
            "archs": list(dict.fromkeys(row.arch for row in pack.rows)),
            "rows": len(pack.rows),
            "simulator_s": sum(row.seconds for row in pack.rows),
        }
        for pack in found
    ]
    devices = [
        {
            "name": name,
            "device": pack.device,
            "recorded": pack.recorded,
            "measurements": len(pack.measurements),
            "models": len({item.model for item in pack.measurements}),
            "batches": sorted({item.batch for item in pack.measurements}),
            "dtypes": sorted({item.dtype for item in pack.measurements}),
        }
        for name, pack in measured.items()
    ]
    if json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "packs": about,
                "coverage": [asdict(item) for item in covered],
                "measured": devices,
            }
        )
        return
    from mmworkload.reporting.tables import packs_tables, print_out

    print_out(*packs_tables(about, covered, devices))


@results.command("add")
@command
def add(
    arch: Annotated[list[str], typer.Option("--arch", "-a", help="architecture; may be repeated")],
    tool: Annotated[str, typer.Option("--tool", help="what people call the simulator's version: 'Timeloop 4cf6d4c'")],
    models: Models = None,
    simulator: Annotated[str, typer.Option("--simulator", "-s", help="whose answers")] = "timeloop",
    effort: Effort = "normal",
    limit_s: Limit = 600.0,
    packs: Annotated[Path, typer.Option("--packs", help="folder to write into")] = Path("results"),
    json: Json = False,
) -> None:
    """Merges the answers in the cache into packs; those that cannot be right are refused."""
    from mmworkload import arch as architectures
    from mmworkload.cli.progress import bar
    from mmworkload.outputs import require_output_folder
    from mmworkload.packs import adding
    from mmworkload.simulating.estimate import Options

    require_output_folder(packs)
    done = []
    with bar("reading workloads") as progress:
        graphs = list(_graphs(models, progress))
    for name in arch:
        with bar(f"recording {name}") as progress:
            done.append(
                adding.add(
                    graphs,
                    architectures.load(name),
                    packs,
                    tool=tool,
                    simulator=simulator,
                    options=Options(effort=effort, limit_s=limit_s),
                    progress=progress,
                )
            )
    if json:
        print_json([{**asdict(item), "path": str(item.path)} for item in done])
        return
    from mmworkload.reporting.tables import added_tables, print_out

    print_out(*added_tables(done))


@results.command("add-measured")
@command
def add_measured(
    measured: Annotated[list[Path], typer.Argument(help="results (measure -o, make gpu), or folders of them")],
    packs: Annotated[Path, typer.Option("--packs", help="folder to write into")] = Path("measurements"),
    json: Json = False,
) -> None:
    """Merges measurements into packs, one a device: what a simulator can be compared with where the device is not."""
    from mmworkload.outputs import require_output_folder
    from mmworkload.packs.measured import add_measured as merge
    from mmworkload.packs.measured import collect

    require_output_folder(packs)
    done = [
        {"path": str(path), "device": pack.device, "measurements": len(pack.measurements), "new": new}
        for path, pack, new in merge(collect(measured), packs)
    ]
    if json:
        print_json(done)
        return
    for item in done:
        said = f"{item['path']}: {item['measurements']} measurements of {item['device']}, {item['new']} of them new"
        put_line(said)


@results.command("verify")
@command
def verify(
    sample: Annotated[int, typer.Option("--sample", "-n", help="rows to run again")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="of the choice")] = 0,
    key: Annotated[str | None, typer.Option("--key", help="one row, by the start of its key")] = None,
    packs: Packs = None,
    limit_s: Limit = 600.0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="relative difference that another version of the tool may have")
    ] = 0.1,
    json: Json = False,
) -> None:
    """Runs recorded rows again where the simulator is, and compares: the same version has to agree exactly."""
    from mmworkload import arch as architectures
    from mmworkload.packs.adding import Verified
    from mmworkload.packs.adding import verify as again
    from mmworkload.problem import Problem
    from mmworkload.simulating.answering import Questions
    from mmworkload.simulating.choice import choose
    from mmworkload.simulating.estimate import Estimate, Options

    checked: list[Verified] = []
    for pack in _packs(packs):
        rows = [row for row in pack.rows if key is None or row.key.startswith(key)]
        picked = rows if key else random.Random(seed).sample(rows, min(sample, len(rows)))
        if not picked:
            continue
        here = choose(pack.simulator, architectures.load(picked[0].arch))
        allowed = 0.0 if here.version == pack.version else tolerance

        def run(problem: Problem, arch: str, effort: str, simulator: str = pack.simulator) -> Estimate:
            design = architectures.load(arch)
            options = Options(effort=effort, limit_s=limit_s)
            asked = Questions(design, choose(simulator, design), options, None, None, False, lambda done, total: None)
            (answer,) = asked.answer({problem.key: problem}).by_key.values()
            if answer.note:
                raise SimulationError(answer.note)
            return answer.estimate

        for item in again(pack, picked, run, allowed):
            checked.append(item)
            tell(f"{'ok     ' if item.agrees else 'DIFFERS'} {item.arch} {item.key[:16]} {item.problem}")
    if not checked:
        raise MmworkloadError(f"no recorded row begins with {key}" if key else "no pack has rows")
    wrong = [item for item in checked if not item.agrees]
    if json:
        print_json({"rows": [asdict(item) for item in checked], "wrong": len(wrong)})
    else:
        from mmworkload.reporting.tables import print_out, verified_tables

        print_out(*verified_tables(checked))
    if wrong:
        raise MmworkloadError(f"{len(wrong)} of {len(checked)} recorded rows are not what the simulator says here")


@results.command("export")
@command
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="file to write: .parquet or .csv")],
    packs: Packs = None,
    json: Json = False,
) -> None:
    """All recorded rows as one table."""
    import pandas

    from mmworkload.files import write_atomic
    from mmworkload.outputs import TABLE, require_output_file

    require_output_file(output, TABLE)
    rows = [
        {"simulator": pack.simulator, "tool": pack.tool, "recorded": pack.recorded, **asdict(row)}
        for pack in _packs(packs)
        for row in pack.rows
    ]
    frame = pandas.DataFrame(rows)
    write_atomic(
        output, frame.to_csv(index=False) if output.suffix.lower() == ".csv" else frame.to_parquet(index=False)
    )
    if json:
        print_json({"path": str(output), "rows": len(rows)})
    else:
        put_line(f"{len(rows)} rows in {output}")


def _packs(folder: Path | None) -> list[Pack]:
    from mmworkload.packs.shelf import SUFFIX, packs

    if folder is None:
        return list(packs())
    if not folder.is_dir():
        raise MmworkloadError(f"{folder} is not a folder of packs")
    return [Pack.load(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]


def _graphs(models: list[str] | None, progress: Callable[[int, int], None]) -> Iterator[LayerGraph]:
    """The snapshots whose names match."""
    from mmworkload.tracing.snapshot import snapshots

    known = snapshots()
    chosen = {
        name: path for name, path in known.items() if not models or any(fnmatch.fnmatch(name, glob) for glob in models)
    }
    if not chosen:
        raise UnknownNameError("workload", ", ".join(models or ()), known)
    for done, path in enumerate(chosen.values()):
        progress(done, len(chosen))
        yield LayerGraph.load(path)
    progress(len(chosen), len(chosen))
