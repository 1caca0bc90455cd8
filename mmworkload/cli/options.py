"""Options that every command shares, and the frame round every command."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mmworkload.errors import MmworkloadError, kind_and_text, one_line
from mmworkload.models.names import Options
from mmworkload.options import SimulateOptions
from mmworkload.printing import OutputError, discard, put, results, results_apart, tell
from mmworkload.signals import Ended, unwinding

Model = Annotated[
    str,
    typer.Argument(
        help="workload/variant (the variant defaults), torchvision:NAME, timm:NAME, hf:TYPE-OR-CONFIG,"
        " path/file.py:function, or a saved graph.json"
    ),
]
Arch = Annotated[
    str,
    typer.Option(
        "--arch",
        "-a",
        help="architecture: a name (mmworkload list archs), a YAML file, a Timeloop folder, host, or several as"
        " STAGE=ARCH,*=ARCH",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Batch = Annotated[int | None, typer.Option("--batch", "-b", help="samples per forward pass (default: the workload's)")]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, float16, bfloat16 or float64; simulators use the accelerator's own"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="a parameter of the model (tokens=128, see show) or architecture (array.x=16); may be repeated"
    ),
]
Stages = Annotated[
    list[str] | None,
    typer.Option("--stage", help="which modules are a stage: 'encoder/image=vision_model.*'; may be repeated"),
]
EndToEnd = Annotated[bool, typer.Option("--end-to-end", help="with pre-processing of raw inputs, on the host")]
Inputs = Annotated[str | None, typer.Option("--inputs", help="a real sample: .npz or .pt with a tensor for each input")]
Archs = Annotated[
    list[str],
    typer.Option(
        "--arch",
        "-a",
        help="architectures (mmworkload list archs, a YAML file, a Timeloop folder, host) with commas between;"
        " STAGE=ARCH,*=ARCH is one system; may be repeated",
    ),
]
Only = Annotated[list[str] | None, typer.Option("--only", help="stages to keep, as a glob: encoder/*; may be repeated")]
Strict = Annotated[bool, typer.Option("--strict/--no-strict", help="refuse operators that no lowering covers")]
Simulator = Annotated[
    str, typer.Option("--simulator", "-s", help="auto, timeloop, zigzag, roofline, ...; several with commas between")
]
Effort = Annotated[str, typer.Option("--effort", help="search effort of a mapper: quick, normal or thorough")]
Limit = Annotated[float, typer.Option("--limit-s", help="wall-clock limit of one simulator run, in seconds")]
Workers = Annotated[
    int | None, typer.Option("--workers", "-j", help="parallel simulator processes (default: the cores)")
]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="use and fill the cache of simulator results")]
Retry = Annotated[bool, typer.Option("--retry", help="run again what failed or hung before")]
Runner = Annotated[
    str | None,
    typer.Option("--runner", help="where Timeloop runs: auto, local, binary, docker or apptainer (default: auto)"),
]
Image = Annotated[str | None, typer.Option("--image", help="container image of Timeloop (default: the official one)")]
Extra = Annotated[
    list[str] | None,
    typer.Option("--simulator-option", help="what one simulator understands: timeloop_array=free; may be repeated"),
]
Device = Annotated[str, typer.Option("--device", "-d", help="cpu or cuda")]
All = Annotated[bool, typer.Option("--all", help="every layer, not the largest ones")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Keeps stdout for results, and turns errors into one line on stderr and exit code 2, an ending signal into 128
    and its number.

    Errors are ours, a file or folder that the system refuses wherever it is met, and a ``sys.exit`` in a user's code.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with unwinding(), results_apart():
                function(*args, **kwargs)
        except BrokenPipeError:
            # The reader of our output has gone (``| head``): there is nothing left to say.
            discard(results())
        except (MmworkloadError, OSError, SystemExit) as error:
            if isinstance(error, OutputError):
                discard(results())
            tell(f"error: {_in_a_sentence(error)}")
            raise typer.Exit(2) from None
        except Ended as end:
            tell("interrupted")
            raise typer.Exit(128 + end.number) from None

    return wrapped


def _in_a_sentence(error: MmworkloadError | OSError | SystemExit) -> str:
    if isinstance(error, MmworkloadError):
        return one_line(error)
    if isinstance(error, SystemExit):
        return f"the model's code called {kind_and_text(error)}; nothing was done"
    return f"{error.filename}: {error.strerror}" if error.filename is not None else kind_and_text(error)


def model_options(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say more about its model; they reach it together as ``how``."""
    return _with_options(function, "how", _how)


def simulator_options(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say how simulators are run; they reach it together as ``running``."""
    return _with_options(function, "running", _running)


def _with_options(function: Callable[..., None], name: str, collect: Callable[..., Any]) -> Callable[..., None]:
    """The command with the options of ``collect``, whose result it gets as ``name``, in the place of ``name``."""
    own = inspect.signature(function, eval_str=True)
    added = inspect.signature(collect, eval_str=True).parameters

    @functools.wraps(function)
    def wrapped(**given: Any) -> None:
        function(**{name: collect(**{option: given.pop(option) for option in added})}, **given)

    listed: list[inspect.Parameter] = []
    for item in own.parameters.values():
        listed += added.values() if item.name == name else [item]
    # What has no default comes first; it is an argument or a required option.
    listed.sort(key=lambda item: item.default is not inspect.Parameter.empty)
    wrapped.__signature__ = own.replace(parameters=listed)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {item.name: item.annotation for item in listed}
    return wrapped


def _how(
    batch: Batch = None,
    dtype: Dtype = None,
    settings: Settings = None,
    stages: Stages = None,
    end_to_end: EndToEnd = False,
    inputs: Inputs = None,
) -> Options:
    rules = [_pair(item, "--stage", "encoder/image=vision_model.*") for item in stages or ()]
    how: Options = {
        "batch": batch,
        "dtype": dtype,
        "settings": dict(_pair(item, "--set", "tokens=128") for item in settings or ()),
        "stages": {glob: stage for stage, glob in rules},
        "end_to_end": end_to_end,
        "inputs": inputs,
    }
    return how


def _running(
    effort: Effort = "normal",
    limit_s: Limit = 300.0,
    workers: Workers = None,
    cache: Cache = True,
    retry: Retry = False,
    runner: Runner = None,
    image: Image = None,
    extra: Extra = None,
) -> SimulateOptions:
    said = dict(_pair(item, "--simulator-option", "timeloop_array=free") for item in extra or ())
    said |= {name: value for name, value in (("timeloop_runner", runner), ("timeloop_image", image)) if value}
    return {
        "effort": effort,
        "limit_s": limit_s,
        "workers": workers,
        "cache": cache,
        "retry": retry,
        "extra": said,
    }


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise MmworkloadError(f"{option} {text}: write NAME=VALUE, as in {option} {example}")
    return name, value


def split_archs(text: str) -> list[str]:
    """``A,B`` is two architectures; neighbours with ``=`` in them are one system: ``A,encoder/image=B,*=C`` is two.

    Raises MmworkloadError for an empty name.
    """
    found: list[str] = []
    for item in text.split(","):
        if not item.strip():
            raise MmworkloadError(f"--arch '{text}' has an empty name; write NAME, or NAME,NAME for several")
        if "=" in item and found and "=" in found[-1]:
            found[-1] += f",{item}"
        else:
            found.append(item)
    return found


def print_json(data: Any) -> None:
    """JSON to stdout; not-a-number does not exist in JSON and is refused."""
    put(json.dumps(data, indent=1, allow_nan=False) + "\n")
