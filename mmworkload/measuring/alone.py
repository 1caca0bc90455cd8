"""A stage alone: its calls of one full run, repeated on what came from outside it.

While the traced program runs once, the calls of the stage are written to a graph of their own. What they read from
outside (activations at the boundary, weights, inputs) becomes a constant of that graph, so that shapes and values are
right and nothing else is run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.fx import Node

    from mmworkload.measuring.program import Eager, Run


def alone_runner(program: Eager, layer_of_call: Mapping[str, str], chosen: set[str]) -> Callable[[], Run]:
    """Runs ``program`` once and gives a function that prepares a run of the layers in ``chosen``, and of views of what
    they compute, without all other calls. What they write in place from outside is restored before each run."""
    import torch

    tape = Tape(layer_of_call, chosen)
    with torch.inference_mode():
        program.observed_run(tape.observe)()
    module = tape.module()

    def prepare() -> Run:
        program.restore()
        tape.restore()
        return module

    return prepare


class Tape:
    """Writes calls that are observed to a graph."""

    def __init__(self, layer_of_call: Mapping[str, str], chosen: set[str]) -> None:
        import torch

        self.layer_of_call = layer_of_call
        self.chosen = chosen
        # Name of a node that was written to its layer.
        self.layers: dict[str, str] = {}
        self.graph = torch.fx.Graph()
        self.root = torch.nn.Module()
        # By identity; the tensors are kept, so that no other one gets the identity of one that is freed.
        self.made: dict[int, Node] = {}
        self.alive: list[Any] = []
        self.constants: dict[int, Node] = {}
        self.pristine: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.entered: list[Node] = []
        self.autocasts: tuple[Any, ...] = ()

    def observe(
        self, key: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], autocasts: tuple[Any, ...]
    ) -> Any:
        """Makes the call, and writes it when it is of the stage."""
        return self.call(self.layer_of_call.get(key, ""), target, args, kwargs, autocasts)

    def call(
        self,
        layer: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        autocasts: tuple[Any, ...] = (),
    ) -> Any:
        """The same for a call of ``layer``; one of no layer is of the stage when it reads what the stage computes."""
        from torch.utils import _pytree

        kwargs = kwargs or {}
        tensors = [item for item in _pytree.tree_leaves((args, kwargs)) if _is_tensor(item)]
        ours = layer in self.chosen if layer else any(id(item) in self.made for item in tensors)
        if not ours:
            return target(*args, **kwargs)
        if getattr(getattr(target, "_schema", None), "is_mutable", False):
            self.pristine += [
                (item, item.detach().clone())
                for item in tensors
                if id(item) not in self.made and id(item) not in self.constants
            ]
        self._within(autocasts)
        node = self.graph.call_function(target, self._written(args), self._written(kwargs))
        if layer:
            self.layers[node.name] = layer
        result = target(*args, **kwargs)
        self._made(result, node)
        return result

    def restore(self) -> None:
        """Gives what the calls write from outside the content that it had when the first of them began."""
        for tensor, content in self.pristine:
            tensor.copy_(content)

    def module(self, result: Node | tuple[()] = ()) -> torch.fx.GraphModule:
        """What was written, as a module without inputs that gives the value of ``result``."""
        import torch

        self._within(())
        self.graph.output(result)
        return torch.fx.GraphModule(self.root, self.graph)

    def _written(self, arguments: Any) -> Any:
        from torch.fx.node import map_aggregate

        return map_aggregate(arguments, self._argument)

    def _argument(self, item: Any) -> Any:
        return self._value(item) if _is_tensor(item) else item

    def _value(self, tensor: torch.Tensor) -> Node:
        if id(tensor) in self.made:
            return self.made[id(tensor)]
        if id(tensor) not in self.constants:
            name = f"boundary_{len(self.constants)}"
            setattr(self.root, name, tensor)
            self.constants[id(tensor)] = self.graph.get_attr(name)
            self.alive.append(tensor)
        return self.constants[id(tensor)]

    def _made(self, result: Any, node: Node) -> None:
        if _is_tensor(result):
            self.made[id(result)] = node
            self.alive.append(result)
        elif isinstance(result, (list, tuple)):
            for index, item in enumerate(result):
                self._made(item, self.graph.call_function(operator.getitem, (node, index)))

    def _within(self, autocasts: tuple[Any, ...]) -> None:
        """Leaves and enters autocast regions."""
        from torch.amp.autocast_mode import _enter_autocast, _exit_autocast

        if autocasts == self.autocasts:
            return
        for entered in reversed(self.entered):
            self.graph.call_function(_exit_autocast, (entered,))
        self.entered = [self.graph.call_function(_enter_autocast, tuple(said)) for said in autocasts]
        self.autocasts = autocasts


def _is_tensor(item: Any) -> bool:
    import torch

    return isinstance(item, torch.Tensor)
