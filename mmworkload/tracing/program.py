"""From a module to an exported program: fake tensors in, an FX graph of ATen operators out; no weight is allocated."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmworkload.models
from mmworkload.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

# transformers repeats the keys and values of grouped-query attention before SDPA unless told that torch can share
# them; repeated, their bytes would be counted once per query head.
os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")


def make_fake(module: torch.nn.Module, inputs: Any) -> tuple[torch.nn.Module, Any]:
    """Replaces every parameter, buffer and input tensor by a fake CPU tensor of the same shape, strides and dtype.

    The device is the CPU and not ``meta``: constants that a forward pass makes (``torch.tensor([...])``) are on the CPU
    and would not mix with meta tensors. Tied parameters stay tied. The module is changed in place and returned.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils import _pytree

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    memo: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in memo:
            with torch.no_grad(), mode:
                value = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            memo[id(tensor)] = torch.nn.Parameter(value, requires_grad=False) if is_parameter else value
        return memo[id(tensor)]

    for child in module.modules():
        tables: tuple[dict[str, Any], ...] = (child._parameters, child._buffers)
        for table in tables:
            for name, tensor in table.items():
                if tensor is not None:
                    table[name] = fake(tensor)
        if isinstance(child, torch.nn.RNNBase):
            # Recurrent layers keep a second list of their parameters.
            child._flat_weights = [getattr(child, name, None) for name in child._flat_weights_names]
        for name, value in list(vars(child).items()):
            # Plain tensor attributes that are neither parameter nor buffer.
            if isinstance(value, torch.Tensor) and value.device.type == "meta":
                setattr(child, name, fake(value))
    leaves, structure = _pytree.tree_flatten(inputs)
    leaves = [fake(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    return module, _pytree.tree_unflatten(leaves, structure)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Export prints whole partial graphs on failure and warns of what does not matter here."""
    names = ("torch.export", "torch._export", "torch._dynamo", "torch._subclasses")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def user_frame(error: BaseException) -> str:
    """``file:line in function`` of the innermost frame outside torch and the tracer, where the user can act."""
    import torch

    # By place and not by name: a user's file may well lie in a folder called mmworkload.
    own = (str(Path(torch.__file__).parent) + os.sep, str(Path(__file__).parent) + os.sep, mmworkload.models.__file__)
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(("<", *own)):
            place = f"{frame.filename}:{frame.lineno} in {frame.name}"
    return place


def export_program(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> ExportedProgram:
    """Exports ``module`` in inference mode, before any decomposition.

    Raises ModelError with the user's line when the forward pass fails or cannot be exported.
    """
    import torch

    module.eval()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # The fused encoder layer is one opaque operator; its parts are what the graph is for.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        module, (args, kwargs) = make_fake(module, (args, kwargs))
        with torch.no_grad(), _quiet():
            return torch.export.export(module, args, kwargs, strict=False)
    except Exception as error:
        place = user_frame(error)
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"{name}: the forward pass cannot be traced: {type(error).__name__}: {first[:300]}"
            + (f" ({place})" if place else "")
            + ". Tracing runs the model without values: take out branches on tensor values, .item() and .numpy()."
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
