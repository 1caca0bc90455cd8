"""A recorded model on a real device: the operators of one run, each in a profiler range named after its key.

Where ``torch.export`` refuses a model there is no program to run. The model itself runs, as it was recorded: in
inference mode, with attention in parts, under a dispatch mode that opens a range round each operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.profiler import record_function
from torch.utils._python_dispatch import TorchDispatchMode

from mmworkload.measuring.attribution import NODE
from mmworkload.measuring.program import Eager, Run
from mmworkload.tracing.ledger import operator_name
from mmworkload.tracing.program import plain_attention
from mmworkload.tracing.recorder import PART, SILENT, Calls, Modules


@dataclass(frozen=True)
class Recorded(Eager):
    """The eager model with the calls that were recorded of it (``layer_of_call`` of its trace)."""

    layer_of_call: Mapping[str, str]

    @property
    def composite(self) -> set[str]:
        """Keys of the calls that were recorded in parts, those inside another one too."""
        calls = [key.split(PART) for key in self.layer_of_call]
        return {PART.join(parts[:end]) for parts in calls for end in range(1, len(parts))}

    def graph_run(self) -> Run:
        """The model with the operators that were recorded, without ranges."""
        import torch

        run = self.eager_run()

        def recorded() -> Any:
            with torch.inference_mode(), plain_attention():
                return run()

        return recorded

    def node_run(self) -> Run:
        """The same, each operator in a profiler range."""
        run, composite = self.graph_run(), self.composite

        def ranged() -> Any:
            modules = Modules(self.module)
            with modules.tracked(), Ranges(Calls(modules), composite):
                return run()

        return ranged


class Ranges(TorchDispatchMode):
    """One profiler range for each operator; those that were recorded in parts run in parts."""

    def __init__(self, calls: Calls, composite: set[str]) -> None:
        super().__init__()
        self.calls = calls
        self.composite = composite

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if operator_name(func) in SILENT:
            return func(*args, **kwargs)
        key = self.calls.key(func)
        if key in self.composite:
            with self.calls.parts(key), self:
                return func.decompose(*args, **kwargs)
        with record_function(f"{NODE}{key}"):
            return func(*args, **kwargs)
