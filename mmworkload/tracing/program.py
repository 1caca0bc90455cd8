"""From a module to an exported program: fake tensors in, an FX graph of ATen operators out; no weight is allocated."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmworkload.models
from mmworkload.models.end_to_end import PREPROCESS

if TYPE_CHECKING:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.export import ExportedProgram

# transformers repeats the keys and values of grouped-query attention before SDPA unless told that torch can share
# them; repeated, their bytes would be counted once per query head.
os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")


@dataclass(frozen=True)
class Faked:
    """A module and its inputs with fake tensors of one ``mode``; ``values`` are the real ones behind, by ``id``."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mode: FakeTensorMode
    values: dict[int, torch.Tensor]


def make_fake(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dtype: torch.dtype | None = None
) -> Faked:
    """A copy of module and inputs with a fake CPU tensor of the same shape, strides and dtype for every tensor.

    The device is the CPU and not ``meta``: constants that a forward pass makes (``torch.tensor([...])``) are on the CPU
    and would not mix with meta tensors. Tied parameters stay tied. The user's module is left as it is, unless it cannot
    be copied; no weight is copied. ``dtype`` replaces the dtype of floating-point tensors, pre-processing apart.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils import _pytree

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    memo: dict[int, torch.Tensor] = {}
    values: dict[int, torch.Tensor] = {}
    preprocess = getattr(module, PREPROCESS, None)
    kept = {id(item) for item in (*preprocess.parameters(), *preprocess.buffers())} if preprocess is not None else set()

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in memo:
            with torch.no_grad(), mode:
                narrowed = dtype is not None and tensor.is_floating_point() and id(tensor) not in kept
                kind = dtype if narrowed else tensor.dtype
                value = torch.empty_strided(tensor.shape, tensor.stride(), dtype=kind, device="cpu")
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            memo[id(tensor)] = torch.nn.Parameter(value, requires_grad=False) if is_parameter else value
            if tensor.device.type != "meta" and not tensor.is_floating_point():
                values[id(memo[id(tensor)])] = tensor
        return memo[id(tensor)]

    for child in module.modules():
        for tensor in (*child._parameters.values(), *child._buffers.values()):
            if tensor is not None:
                fake(tensor)
        for value in vars(child).values():
            # Plain attributes, neither parameter nor buffer: those with values are constants and stay.
            if isinstance(value, torch.Tensor) and id(value) not in memo:
                memo[id(value)] = fake(value) if value.device.type == "meta" else value.detach().clone()
    leaves, structure = _pytree.tree_flatten((args, kwargs))
    if preprocess is not None:
        kept.update(id(leaf) for leaf in leaves)
    given = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    leaves = [fake(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    # Of weights only whole numbers have values (tables of indices); of inputs all that were made with them.
    values.update((id(memo[id(leaf)]), leaf.to(memo[id(leaf)].dtype)) for leaf in given if leaf.device.type != "meta")
    try:
        copied = copy.deepcopy(module, dict(memo))
    except Exception:
        # Some modules hold what cannot be copied (a lock, a file): their tensors are replaced where they are.
        copied = module
        for child in module.modules():
            _replace(child, memo)
    args, kwargs = _pytree.tree_unflatten(leaves, structure)
    return Faked(copied, args, kwargs, mode, values)


def _replace(module: torch.nn.Module, memo: dict[int, torch.Tensor]) -> None:
    """Puts the fake tensors of ``memo`` (by identity of the original) into one module."""
    import torch

    tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
    for table in tables:
        for name, value in list(table.items()):
            if isinstance(value, torch.Tensor) and id(value) in memo:
                table[name] = memo[id(value)]
    if isinstance(module, torch.nn.RNNBase):
        # Recurrent layers keep a second list of their parameters.
        module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
    own = (
        str(Path(torch.__file__).parent) + os.sep,
        str(Path(__file__).parent) + os.sep,
        str(Path(mmworkload.models.__file__).parent) + os.sep,
    )
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(("<", *own)):
            place = f"{frame.filename}:{frame.lineno} in {frame.name}"
    return place


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Without the fused encoder layer, one opaque operator whose parts are what the graph is for."""
    import torch

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def export_program(faked: Faked) -> ExportedProgram:
    """Exports a module in inference mode, before any decomposition. Raises whatever torch.export raises."""
    import torch

    with plain_attention(), torch.no_grad(), quiet():
        return torch.export.export(faked.module, faked.args, faked.kwargs, strict=False)
