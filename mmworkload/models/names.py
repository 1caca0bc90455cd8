"""From a name on the command line to a model.

``workload/variant`` (or ``workload``, its default variant), ``torchvision:NAME``, ``timm:NAME``, ``hf:CONFIG``,
``path/file.py:function``; parameters may follow: ``mm-imdb/concat?tokens=128&end-to-end``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

from mmworkload.errors import MmworkloadError, UnavailableError, UnknownNameError
from mmworkload.exits.settings import split_exits
from mmworkload.models.family import Family
from mmworkload.models.model import DTYPES, Model, Request
from mmworkload.plugins import plugins
from mmworkload.straggler import require_stage

END_TO_END = "end-to-end"
# Prefix of a name to the module of mmworkload.models.sources behind it.
SCHEMES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers"}


class Options(TypedDict, total=False):
    """What may be said about a model beside its name.

    ``batch`` samples per pass; ``dtype`` of weights and activations; ``settings`` its parameters; ``stages`` globs over
    module paths to stages, which come before the model's own rules and have to match; ``end_to_end`` with
    pre-processing of raw inputs; ``inputs`` a file with a real sample.
    """

    batch: int | None
    dtype: str | None
    settings: Mapping[str, Any]
    stages: Mapping[str, str]
    end_to_end: bool
    inputs: str | Path | None


def families() -> dict[str, Family]:
    """The workloads that are installed, by name."""
    return plugins("mmworkload.workloads", "FAMILY")


def split(name: str) -> tuple[str, dict[str, str], bool]:
    """``base?a=1&end-to-end`` as (base, {a: 1}, True). MmworkloadError for a part without a value."""
    base, _, query = name.partition("?")
    settings: dict[str, str] = {}
    end_to_end = False
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if part == END_TO_END:
            end_to_end = True
        elif equals:
            settings[key] = value
        else:
            raise MmworkloadError(f"{name}: '{part}' has no value; write {part}=VALUE")
    return base, settings, end_to_end


def resolve(name: str, **options: Unpack[Options]) -> Model:
    """The model behind a name.

    Raises UnknownNameError (nearest names suggested), ModelError for a file or function that cannot be used, and
    MmworkloadError for an impossible batch, dtype or parameter.
    """
    if split_exits(name)[1] is not None:
        raise MmworkloadError(
            f"{name}: exits are added to the traced layers, and no one module has them; here one is needed. Take"
            f" {split_exits(name)[0]}, the network itself, or measure the parts (measure_parts)"
        )
    base, in_name, end_to_end = split(name)
    batch, dtype = options.get("batch"), options.get("dtype") or "float32"
    if batch is not None and batch < 1:
        raise MmworkloadError(f"--batch {batch}: a batch has at least one sample")
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    for stage in options.get("stages", {}).values():
        require_stage(stage, "--stage")
    inputs = options.get("inputs")
    request = Request(
        base,
        batch,
        dtype,
        {**in_name, **options.get("settings", {})},
        dict(options.get("stages", {})),
        end_to_end or bool(options.get("end_to_end")),
        Path(inputs) if inputs is not None else None,
    )
    return _source(request)


def _source(request: Request) -> Model:
    scheme, colon, rest = request.name.partition(":")
    if scheme.endswith(".py"):
        from mmworkload.models.sources.file import find as find_in_file

        _require_torch()
        _refuse_end_to_end(request)
        return find_in_file(Path(scheme), rest, request)
    if colon:
        if scheme not in SCHEMES:
            raise UnknownNameError("kind of model", scheme, [*SCHEMES, "path/file.py"])
        _require_torch()
        _refuse_end_to_end(request)
        # A source imports its library: only the one that is asked for.
        return importlib.import_module(f"mmworkload.models.sources.{SCHEMES[scheme]}").find(rest, request)
    from mmworkload.models.sources.workload import find as find_workload

    model = find_workload(request, families())
    _require_torch()
    return model


def _refuse_end_to_end(request: Request) -> None:
    if request.end_to_end:
        raise MmworkloadError(f"{request.name}: only workloads know how to pre-process; leave --end-to-end out")


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise UnavailableError("tracing needs torch, which is not installed: pip install 'mmworkload[trace]'")
