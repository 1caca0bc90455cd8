"""A recorded model on a real device: the operators of one run, each in a profiler range named after its key.

Where ``torch.export`` refuses a model there is no program to run. The model itself runs, as it was recorded: in
inference mode, with attention in parts, under a dispatch mode that opens a range round each operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from mmworkload.measuring.program import Eager, Mark, Observer, Run, Switch
from mmworkload.measuring.ranges import node_range
from mmworkload.tracing.ledger import operator_name
from mmworkload.tracing.program import plain_attention
from mmworkload.tracing.recorder import PART, SILENT, Calls, Modules

# What an operator runs in, by its key.
Around = Callable[[str], contextlib.AbstractContextManager[Any]]


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
        return self._intercepted(node_range)

    def stage_runner(self, mark: Mark, stage_of_call: Mapping[str, str]) -> Callable[[], Run]:
        """Prepares the same with ``mark(stage)`` called before the first operator of each segment."""

        def prepare() -> Run:
            switch = Switch(mark)

            def before(key: str) -> contextlib.AbstractContextManager[Any]:
                switch.to(stage_of_call.get(key, ""))
                return contextlib.nullcontext()

            return self._intercepted(before)

        return prepare

    def observed_run(self, observe: Observer) -> Run:
        """The same, each operator through ``observe``."""
        return self._intercepted(lambda key: contextlib.nullcontext(), observe)

    def _intercepted(self, around: Around, observe: Observer | None = None) -> Run:
        run, composite = self.graph_run(), self.composite

        def intercepted() -> Any:
            modules = Modules(self.module)
            with modules.tracked(), Intercepted(Calls(modules), composite, around, observe):
                return run()

        return intercepted


class Intercepted(TorchDispatchMode):
    """Runs each operator within ``around(its key)``, through ``observe`` where it is given.

    Those that were recorded in parts run in parts.
    """

    def __init__(self, calls: Calls, composite: set[str], around: Around, observe: Observer | None) -> None:
        super().__init__()
        self.calls = calls
        self.composite = composite
        self.around = around
        self.observe = observe

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if operator_name(func) in SILENT:
            return func(*args, **kwargs)
        key = self.calls.key(func)
        if key in self.composite:
            with self.calls.parts(key), self:
                return func.decompose(*args, **kwargs)
        with self.around(key):
            if self.observe is not None:
                return self.observe(key, func, args, kwargs, ())
            return func(*args, **kwargs)
