"""Fixtures: trace a small module or function, and count what a real forward pass multiplies.

The count shares no code with the lowering: it sees the operators below autograd, on real CPU tensors, and computes
multiply-accumulates from the operands that arrive there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Counted:
    """What one eager forward did: multiply-accumulates, products without a sum, and what came out."""

    macs: int
    outer: int
    outputs: list[Any]


def as_module(source: Any) -> Any:
    """The module itself, or one that calls the function."""
    from torch import nn

    if isinstance(source, nn.Module):
        return source

    class Function(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return source(*args, **kwargs)

    return Function()


@pytest.fixture(scope="session")
def trace() -> Callable[..., Any]:
    """``trace(module_or_function, *inputs)`` gives a Traced; keywords: rules, specs, dtype, route, and the inputs by
    name. Floating-point inputs lose their values, as those of a model that is made on the meta device, unless
    ``known``."""
    import torch
    from torch.utils import _pytree

    from mmworkload.models import Model
    from mmworkload.tracing import trace_model

    def run(
        source: Any, *args: Any, rules: Mapping[str, str] | None = None, specs: tuple[Any, ...] = (),
        dtype: str = "float32", route: str = "auto", known: bool = False, **kwargs: Any,
    ) -> Any:  # fmt: skip
        def hidden(item: Any) -> Any:
            if known or not (item.is_floating_point() or item.is_complex()):
                return item
            return torch.empty_strided(item.shape, item.stride(), dtype=item.dtype, device="meta")

        def make(device: str) -> tuple[Any, Any]:
            # The model moves to the meta device in place.
            return copy.deepcopy(as_module(source)), _pytree.tree_map_only(torch.Tensor, hidden, kwargs or args)

        return trace_model(Model("test", "", 1, dtype, make, specs, rules or {}), route)

    return run


@pytest.fixture(scope="session")
def count() -> Callable[..., Counted]:
    """``count(module_or_function, *inputs)`` runs it on the CPU and counts."""
    import torch
    from torch.utils import _pytree
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        def __init__(self, weights: list[Any]) -> None:
            super().__init__()
            self.weights = {weight.untyped_storage().data_ptr() for weight in weights}
            self.macs = self.outer = 0

        def product(self, elements: int, depth: int, *operands: Any) -> None:
            weighted = any(item.untyped_storage().data_ptr() in self.weights for item in operands)
            if depth == 1 and not weighted:
                self.outer += elements
            else:
                self.macs += elements * depth

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            name = func._overloadpacket.__name__
            if name in ("mm", "bmm", "mv", "dot", "vdot"):
                self.product(out.numel(), args[0].shape[-1], *args[:2])
            elif name.rstrip("_") in ("addmm", "baddbmm", "addmv"):
                self.product(out.numel(), args[1].shape[-1], *args[1:3])
            elif name.rstrip("_") == "addbmm":
                self.product(out.numel(), args[1].shape[0] * args[1].shape[2], *args[1:3])
            elif name == "convolution":
                x, weight, transposed = args[0], args[1], args[6]
                places = x.numel() if transposed else out.numel()
                self.macs += places * math.prod(weight.shape[1:])
            elif name.startswith("_scaled_dot_product"):
                query, key, value = args[:3]
                heads = math.prod(out[0].shape[:-2])
                self.macs += heads * query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
            elif name == "_trilinear":
                raise AssertionError("bilinear is counted by its closed formula")
            return out

    def run(source: Any, *args: Any, **kwargs: Any) -> Counted:
        module = as_module(source).eval()
        fast_path, one_dnn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
        # Without oneDNN a recurrent layer is its matrix products, without the fast path an encoder layer is its parts.
        torch.backends.mha.set_fastpath_enabled(False)
        torch._C._set_mkldnn_enabled(False)
        try:
            with torch.no_grad(), Counter(list(module.parameters())) as counter:
                outputs = module(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            torch._C._set_mkldnn_enabled(one_dnn)
        leaves = [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        return Counted(counter.macs, counter.outer, leaves)

    return run


@pytest.fixture(scope="session")
def works() -> Callable[[Any], list[tuple[str, int, bool]]]:
    """(key, count, sequential) of all work of a Traced, in order: what two spellings of one computation share."""

    def collect(traced: Any) -> list[tuple[str, int, bool]]:
        return [(w.problem.key, w.count, w.sequential) for layer in traced.graph for w in layer.work]

    return collect


@pytest.fixture(scope="session")
def output_shapes() -> Callable[[Any], list[tuple[int, ...]]]:
    """The shapes that the traced program returns."""

    def collect(traced: Any) -> list[tuple[int, ...]]:
        node = next(item for item in traced.program.graph.nodes if item.op == "output")
        flat = [part for part in node.args[0] if hasattr(part, "meta")]
        return [tuple(part.meta["val"].shape) for part in flat]

    return collect
