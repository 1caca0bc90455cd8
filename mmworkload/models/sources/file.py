"""``path/file.py:function``: a user's own function that returns a model and example inputs."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FOREIGN, ModelError, UnknownNameError, deed
from mmworkload.models.family import Parameter, full_name, settle
from mmworkload.models.model import Model, Request
from mmworkload.straggler import require_stage

if TYPE_CHECKING:
    import torch

# Bound of a whole number that a user's function takes.
LARGEST = 1 << 31


def find(path: Path, function: str, request: Request) -> Model:
    """The model that ``function`` of the file at ``path`` returns; ModelError or UnknownNameError when it cannot."""
    name, batch = request.name, request.batch
    if not function:
        raise ModelError(f"{name}: name the function too, as in {name}:build")
    if not path.is_file():
        raise ModelError(f"{name}: there is no file {path}")
    module_name = f"_mmworkload_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    if spec is None or spec.loader is None:
        raise ModelError(f"{name}: {path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    folder = str(path.resolve().parent)
    try:
        with _on_path(folder):
            spec.loader.exec_module(module)
    except FOREIGN as error:
        raise ModelError(f"{name}: loading {path} {deed(error)}") from error
    build = getattr(module, function, None)
    if not callable(build):
        functions = inspect.getmembers(module, inspect.isfunction)
        own = [key for key, value in functions if value.__module__ == module_name]
        raise UnknownNameError(f"function in {path}", function, own)
    stages = _stages(getattr(module, "STAGES", {}), path)
    signature = inspect.signature(build).parameters
    if batch is not None and "batch" not in signature:
        raise ModelError(
            f"{name}: --batch {batch} cannot be given: {function}() takes no parameter 'batch'. Add one, and make the"
            " example inputs with it."
        )
    parameters = {
        key: Parameter(item.default, f"argument of {function}()", low=-LARGEST, high=LARGEST)
        for key, item in signature.items()
        if key != "batch" and type(item.default) in (int, str)
    }
    settings = settle(parameters, request.settings, name)
    given = {key: settings[key] for key in request.settings} | ({} if batch is None else {"batch": batch})

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        with _on_path(folder):
            return build(**given)

    own_batch = signature["batch"].default if "batch" in signature else 1
    return Model(
        full_name(name, parameters, settings),
        function,
        batch or (own_batch if isinstance(own_batch, int) else 1),
        request.dtype,
        make,
        own_rules={**request.stages, **{glob: stage for glob, stage in stages.items() if glob not in request.stages}},
        sample=request.inputs,
        parameters=parameters,
        settings=settings,
        is_code=True,
    )


def _stages(stages: Any, path: Path) -> dict[str, str]:
    """The stage rules of the file: ``STAGES = {"vision.*": "encoder/image"}``. ModelError where they are none."""
    if not isinstance(stages, Mapping) or not all(isinstance(item, str) for pair in stages.items() for item in pair):
        raise ModelError(f'{path}: STAGES maps modules to stages, as in STAGES = {{"vision.*": "encoder/image"}}')
    for glob, stage in stages.items():
        require_stage(stage, f"STAGES[{glob!r}] of {path}")
    return dict(stages)


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    """A file of the user's may import the files next to it, also late, inside a function."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
