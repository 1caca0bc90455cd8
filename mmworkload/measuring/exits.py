"""A segment or path of a network with exits, as a program that runs.

Exits are layers added to a traced graph, and no module has them. The traced program of the network runs once; the calls
of the layers that are wanted are written to a program of their own (:mod:`mmworkload.measuring.alone`), a recurrence
that is cut in time as one call for each cut, and behind the tensor that an exit reads the calls of that exit, with
random weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError
from mmworkload.measuring.alone import Tape
from mmworkload.measuring.program import Bound, Eager, Program, bind
from mmworkload.models import Model
from mmworkload.tracing import Traced
from mmworkload.tracing.stages import RECURRENT

if TYPE_CHECKING:
    import torch

    from mmworkload.exits import Exit, ExitNetwork
    from mmworkload.graph import LayerGraph

THRESHOLD = 0.5
"""Entropy below which a sample leaves; comparing takes as long with any."""


@dataclass(frozen=True)
class Runnable:
    """A network with exits and what runs it: the trace of the network without them, and its model."""

    network: ExitNetwork
    model: Model
    traced: Traced

    def part(self, graph: LayerGraph, place: torch.device) -> tuple[Model, Traced]:
        """The layers of ``graph``, some of the network's, for :func:`mmworkload.measuring.take`: they run alone, on
        stored inputs. Raises MmworkloadError for a recurrence that cannot be cut."""
        import torch
        from torch.utils import _pytree

        eager = self._bound(place)
        tape = _ExitTape(self.network, self.traced.layer_of_call, {layer.name for layer in graph})
        with torch.inference_mode():
            eager.observed_run(tape.observe)()
        module = tape.module()
        structure = _pytree.tree_structure(((), {}))
        program = Program(module, (), structure, tuple(tape.pristine), module, ())
        model = _Bound(graph.model, graph.variant, graph.batch, graph.dtype, self.model.make, program=program)
        return model, Traced(graph, None, tape.layers)

    def _bound(self, place: torch.device) -> Eager:
        """The network without exits on a device; built once, its weights are shared by all parts."""
        found: Eager | None = self.__dict__.get("_eager")
        if found is None:
            found = self.__dict__["_eager"] = bind(self.traced, self.model.build(place.type), place)
        return found


@dataclass(frozen=True)
class _Bound(Model):
    """A model that is its program."""

    program: Program | None = None

    def build(self, device: str) -> Bound:
        assert self.program is not None
        return Bound(self.program.module, (), {}, self.program)


class _ExitTape(Tape):
    """Also writes the parts of recurrences and the calls of exits."""

    def __init__(self, network: ExitNetwork, layer_of_call: dict[str, str], chosen: set[str]) -> None:
        super().__init__(layer_of_call, chosen)
        self.network = network
        self.last = {layer: key for key, layer in layer_of_call.items()}

    @cached_property
    def cuts(self) -> dict[str, list[str]]:
        """Recurrent layer to the layers that it was cut into."""
        found: dict[str, list[str]] = {}
        for name in self.network.layers:
            whole, at, number = name.rpartition("@")
            if at and number.isdecimal() and whole in self.network.layers and name not in self._known:
                found.setdefault(whole, [whole]).append(name)
        return found

    @cached_property
    def exits(self) -> dict[str, list[tuple[int, Exit]]]:
        """Layer to the exits that read what it writes: (which of its tensors, exit)."""
        writers = {
            tensor: (layer.name, position)
            for layer in self.network.layers.values()
            for position, (tensor, _) in enumerate(layer.writes)
        }
        found: dict[str, list[tuple[int, Exit]]] = {}
        for item in self.network.exits:
            first = self.network.layers.get(f"{_name(item)}.pool") or self.network.layers[f"{_name(item)}.linear"]
            layer, position = writers[first.reads[0][0]]
            found.setdefault(layer, []).append((position, item))
        return found

    @cached_property
    def _known(self) -> set[str]:
        return {layer.name for layer in self.network.base}

    def observe(
        self, key: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], autocasts: tuple[Any, ...]
    ) -> Any:
        layer = self.layer_of_call.get(key, "")
        if layer in self.cuts:
            return self._in_time(layer, target, args, kwargs, autocasts)
        result = super().observe(key, target, args, kwargs, autocasts)
        if self.last.get(layer) == key:
            axis = 1 if layer in self.exits and self._recurrent(layer) and _batch_first(args) else 0
            self._leave(layer, result, axis)
        return result

    def _in_time(
        self, layer: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], autocasts: tuple[Any, ...]
    ) -> Any:
        """The recurrence on the first steps, then on the next ones, with the states of the ones before."""
        import torch

        if str(target) not in {f"aten.{op}.input" for op in RECURRENT}:
            raise MmworkloadError(
                f"{self.network.name}: '{layer}' runs as {target}, which cannot be cut in time to be measured; place"
                " the exits by blocks (place=blocks)"
            )
        data, states, *others = args
        axis = 1 if _batch_first(args) else 0
        sequences = []
        first = 0
        result: Sequence[Any] = ()
        for name in self.cuts[layer]:
            steps = next(work.count for work in self.network.layers[name].work if work.sequential)
            some = self.call("", torch.ops.aten.slice.Tensor, (data, axis, first, first + steps))
            result = self.call(name, target, (some, states, *others), kwargs, autocasts)
            states = list(result[1:]) if len(result) > 2 else result[1]
            sequences.append(result[0])
            first += steps
            self._leave(name, result, axis)
        return (torch.cat(sequences, axis), *result[1:])

    def _recurrent(self, layer: str) -> bool:
        return self.network.layers[layer].op in RECURRENT

    def _leave(self, layer: str, result: Any, time_axis: int) -> None:
        """The exits behind a layer that gave ``result``."""
        import torch

        for position, item in self.exits.get(layer, ()):
            if f"{_name(item)}.linear" not in self.chosen:
                continue
            value = result[position] if isinstance(result, (list, tuple)) else result
            if self._recurrent(layer):
                # The last step of a sequence, or the last layer's state.
                axis = time_axis if position == 0 else 0
                value = self.call("", torch.ops.aten.select.int, (value, axis, -1))
            self._head(item, value)

    def _head(self, item: Exit, value: torch.Tensor) -> None:
        """The layers of :mod:`mmworkload.exits.heads` in calls."""
        import torch

        aten, name, batch = torch.ops.aten, _name(item), self.network.base.batch
        if value.numel() % (batch * item.width):
            raise MmworkloadError(
                f"{self.network.name}: {name} reads {tuple(value.shape)}, which is not what was traced"
            )
        if f"{name}.pool" in self.chosen:
            value = self._pooled(f"{name}.pool", value, item)
        rows = self.call("", aten.reshape.default, (value, [batch, item.width]))

        def random(*shape: int) -> torch.nn.Parameter:
            drawn = torch.randn(*shape, dtype=value.dtype, device=value.device)
            return torch.nn.Parameter(drawn, requires_grad=False)

        weight, bias = random(self.network.classes, item.width), random(self.network.classes)
        logits = self.call(f"{name}.linear", aten.linear.default, (rows, weight, bias))
        scores = self.call(f"{name}.softmax", aten.softmax.int, (logits, -1))
        step = f"{name}.entropy"
        product = self.call(step, aten.mul.Tensor, (scores, self.call(step, aten.log.default, (scores,))))
        total = self.call(step, aten.sum.dim_IntList, (product, [-1]))
        scaled = self.call(step, aten.mul.Scalar, (total, -1 / math.log(self.network.classes)))
        self.call(step, aten.lt.Scalar, (scaled, THRESHOLD))

    def _pooled(self, layer: str, value: torch.Tensor, item: Exit) -> torch.Tensor:
        """The mean over everything but samples and features."""
        import torch

        from mmworkload.exits.heads import features_axis

        first = self.network.layers[layer].reads[0][0]
        features = features_axis(self.network.base, self.network.tensors[first])
        batch = self.network.base.batch
        samples = next((axis for axis, size in enumerate(value.shape) if axis != features and size == batch), None)
        if samples is None:
            # Samples share an axis with what is averaged, samples first.
            value = self.call("", torch.ops.aten.reshape.default, (value, [batch, -1, item.width]))
            samples, features = 0, 2
        axes = [axis for axis in range(value.dim()) if axis not in (samples, features)]
        pooled: torch.Tensor = self.call(layer, torch.ops.aten.mean.dim, (value, axes))
        return pooled


def _name(item: Exit) -> str:
    return f"exits.{item.modality}.{item.number}"


def _batch_first(args: Iterable[Any]) -> bool:
    """Of a call ``aten.gru.input(data, states, weights, ..., batch_first)``."""
    return bool(tuple(args)[-1])
