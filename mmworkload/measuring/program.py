"""The traced program on a real device: bound to the tensors of a second, real instance of the model.

The program was exported on fake CPU tensors. To run it, every placeholder gets the real tensor of the same name, and
what the trace fixed to the CPU (the ``device`` of factory operators, of casts and of autocast regions) is moved.
"""

from __future__ import annotations

import contextlib
import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from mmworkload.errors import ModelError
from mmworkload.measuring.ranges import node_range
from mmworkload.models import Built
from mmworkload.models.end_to_end import PREPROCESS
from mmworkload.tracing.walk import region_of, region_operands

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Interpreter, Node
    from torch.utils._pytree import TreeSpec

    from mmworkload.tracing import Traced

# What a runner prepares: one forward pass, ready to be timed.
Run = Callable[[], Any]
# Takes note of the stage that begins.
Mark = Callable[[str], None]

# Runs a call: its key, what it calls, the arguments, and the autocast regions round it (arguments of torch.autocast).
Observer = Callable[[str, Any, tuple[Any, ...], dict[str, Any], tuple[Any, ...]], Any]


class Switch:
    """Calls ``mark`` where the stage changes; what is of no stage belongs to the one before."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.stage = ""

    def to(self, stage: str) -> None:
        if stage and stage != self.stage:
            self.stage = stage
            self.mark(stage)


_BOUNDARY = "stage_boundary"


@dataclass(frozen=True)
class Eager:
    """The eager model with its inputs on one device, flattened by ``structure``.

    ``pristine`` pairs each tensor that a forward pass writes in place with a copy of its first content. The ``*_run``
    methods restore that content and return the forward pass as a function of no arguments, so that repeats see the same
    data and the restoring is not timed.
    """

    module: torch.nn.Module
    inputs: tuple[Any, ...]
    structure: TreeSpec
    pristine: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def eager_run(self) -> Run:
        """The user's model on fresh containers (a list that the model appends to does not grow over repeats)."""
        from torch.utils import _pytree

        self.restore()
        args, kwargs = _pytree.tree_unflatten(list(self.inputs), self.structure)
        return lambda: self.module(*args, **kwargs)

    def graph_run(self) -> Run:
        """The operators of the trace, end to end."""
        raise NotImplementedError

    def node_run(self) -> Run:
        """The operators of the trace, each in a profiler range named after its key in ``Traced.layer_of_call``."""
        raise NotImplementedError

    def stage_runner(self, mark: Mark, stage_of_call: Mapping[str, str]) -> Callable[[], Run]:
        """A function that prepares ``graph_run`` with ``mark(stage)`` called where a stage begins, and nowhere else.

        ``stage_of_call`` maps the keys of calls to stages; other calls belong to the stage before them.
        """
        raise NotImplementedError

    def observed_run(self, observe: Observer) -> Run:
        """``graph_run`` with every call made by ``observe``, which gives its result."""
        raise NotImplementedError

    def restore(self) -> None:
        """Gives what a forward pass writes its first content again."""
        for tensor, content in self.pristine:
            tensor.copy_(content)


@dataclass(frozen=True)
class Program(Eager):
    """The eager model and its traced program over one set of weights and inputs on one device.

    ``values`` has one entry per placeholder of ``graph_module``.
    """

    graph_module: GraphModule
    values: tuple[Any, ...]

    def graph_run(self) -> Run:
        """The program through its own generated code; gives the tuple of flattened outputs."""
        self.restore()
        return lambda: self.graph_module(*self.values)

    def node_run(self) -> Run:
        """The program node by node, each call in a profiler range named after its key; outputs as ``graph_run``."""
        self.restore()
        interpreter = _interpreter()(self.graph_module)
        return lambda: interpreter.run(*self.values)

    def stage_runner(self, mark: Mark, stage_of_call: Mapping[str, str]) -> Callable[[], Run]:
        """``graph_run`` with calls of ``mark`` in its generated code."""
        marked = _marked(self.graph_module, mark, stage_of_call)

        def prepare() -> Run:
            self.restore()
            return lambda: marked(*self.values)

        return prepare

    def observed_run(self, observe: Observer) -> Run:
        """The program node by node."""
        self.restore()
        interpreter = _interpreter()(self.graph_module, observe=observe)
        return lambda: interpreter.run(*self.values)


@dataclass(frozen=True)
class Bound(Built):
    """A model that is bound to its program when it is built."""

    program: Eager


def bind(traced: Traced, built: Built, device: torch.device) -> Eager:
    """Joins a trace with a real instance of the same model on ``device``: what it runs as is timed.

    Raises ModelError when the instance does not have a tensor that the program reads.
    """
    from torch.utils import _pytree

    if isinstance(built, Bound):
        return built.program
    leaves, structure = _pytree.tree_flatten((built.args, built.kwargs))
    written = {tensor.storage for tensor in traced.graph.tensors.values() if tensor.kind == "state"}
    if traced.program is not None:
        values, by_name = _placeholders(traced, traced.program, built, device)
        graph_module = placed(traced.program.graph_module, device)
        return Program(built.module, tuple(leaves), structure, _pristine(by_name, written), graph_module, tuple(values))
    from mmworkload.measuring.recording import Recorded
    from mmworkload.tracing.recorder import attributes, input_names

    by_name = {
        **attributes(built.module),
        **dict(built.module.named_parameters()),
        **dict(built.module.named_buffers()),
        **input_names(built.module, built.args, built.kwargs),
    }
    return Recorded(built.module, tuple(leaves), structure, _pristine(by_name, written), traced.layer_of_call)


def _pristine(by_name: Mapping[str, Any], written: set[str]) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    return tuple((value, value.detach().clone()) for key, value in by_name.items() if key in written)


def _placeholders(
    traced: Traced, program: ExportedProgram, built: Built, device: torch.device
) -> tuple[list[Any], dict[str, Any]]:
    """A value for each placeholder, and those of tensors by the names that the layer graph knows (tracing.walk)."""
    from torch.export.graph_signature import ConstantArgument, InputKind
    from torch.utils import _pytree

    name = traced.graph.model
    leaves, structure = _pytree.tree_flatten((built.args, built.kwargs))
    expected = program.call_spec.in_spec
    if expected is not None and structure != expected:
        raise ModelError(f"{name}: two builds of the model gave inputs of different structure: {expected}, {structure}")
    remaining = iter(leaves)
    values: list[Any] = []
    by_name: dict[str, Any] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            value, key = next(remaining), str(spec.arg.name)
            if not isinstance(spec.arg, ConstantArgument):
                by_name[key] = value
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            key = str(spec.target)
            value = by_name[key] = _tensor(name, program, built.module, key, device)
        else:
            raise ModelError(f"{name}: the traced program takes {spec.arg} ({spec.kind.name}), which is not supported")
        values.append(value)
    return values, by_name


def _tensor(
    name: str, program: ExportedProgram, module: torch.nn.Module, path: str, device: torch.device
) -> torch.Tensor:
    """The parameter, buffer or tensor attribute at the dotted ``path``, or the constant that the trace lifted."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    value: Any = module
    for part in path.split("."):
        value = getattr(value, part, None)
    if not isinstance(value, torch.Tensor):
        # A tensor written out in ``forward`` keeps its values in the program.
        value = program.constants.get(path)
    if not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
        raise ModelError(
            f"{name}: the model on {device} has no tensor '{path}', which its trace reads. Keep tensors"
            " as parameters, buffers or attributes of modules, not in lists or closures."
        )
    return value if path.startswith(f"{PREPROCESS}.") else value.to(device)


def placed(graph_module: GraphModule, device: torch.device) -> GraphModule:
    """A copy of ``graph_module`` and its regions that runs on ``device``, without the assertions that tracing added.

    Every device that the trace baked in is the CPU, since it ran there; on an accelerator it is ``device``, with its
    index. A model that computes a part on the CPU on purpose therefore has that part moved, pre-processing apart.
    """
    from torch.fx import GraphModule
    from torch.fx.node import map_aggregate

    result = copy.deepcopy(graph_module)
    for owner in [item for item in result.modules() if isinstance(item, GraphModule)]:
        for node in list(owner.graph.nodes):
            if node.op != "call_function":
                continue
            if str(node.target).startswith("aten._assert_tensor_metadata"):
                owner.graph.erase_node(node)
                continue
            if _on_host(node):
                continue
            node.args = map_aggregate(node.args, lambda item: _moved(item, device))
            node.kwargs = map_aggregate(node.kwargs, lambda item: _moved(item, device))
            if node.target is _autocast() and node.args[0] == "cpu":
                node.args = (device.type, *node.args[1:])
        owner.recompile()
    return result


def _marked(graph_module: GraphModule, mark: Mark, stage_of_call: Mapping[str, str]) -> GraphModule:
    """A copy of ``graph_module`` that calls ``mark(stage)`` before the first call of each segment of a stage."""
    import torch

    class Boundary(torch.nn.Module):
        """A module, because generated code can call one by its name."""

        def forward(self, stage: str) -> None:
            mark(stage)

    def instrument(owner: GraphModule, prefix: str, current: str) -> str:
        owner.add_module(_BOUNDARY, Boundary())
        for node in list(owner.graph.nodes):
            if node.op != "call_function":
                continue
            inner = region_of(owner, node)
            if inner is not None:
                current = instrument(inner, f"{prefix}{node.name}/", current)
                continue
            stage = stage_of_call.get(f"{prefix}{node.name}", "")
            if stage and stage != current:
                current = stage
                with owner.graph.inserting_before(node):
                    owner.graph.call_module(_BOUNDARY, (stage,))
        owner.recompile()
        return current

    result = copy.deepcopy(graph_module)
    instrument(result, "", "")
    return result


def _on_host(node: Node) -> bool:
    """Whether the call is pre-processing, which stays on the CPU."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return path == PREPROCESS or path.startswith(f"{PREPROCESS}.")


def _moved(item: Any, device: torch.device) -> Any:
    import torch

    return device if isinstance(item, torch.device) and item.type == "cpu" else item


def _autocast() -> Any:
    import torch

    return torch.ops.higher_order.wrap_with_autocast


def _region_context(node: Node) -> contextlib.AbstractContextManager[Any]:
    """The context that a region wrapper runs its sub-graph in."""
    import torch

    if node.target is _autocast():
        device_type, dtype, enabled, cache_enabled = node.args[:4]
        return torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)  # type: ignore[arg-type]
    return torch.set_grad_enabled(node.args[0])  # type: ignore[arg-type]


@cache
def _interpreter() -> Callable[..., Interpreter]:
    """The class that runs a graph node by node; made on first use, because its base needs torch."""
    import torch

    class NodeByNode(torch.fx.Interpreter):
        """One profiler range per call, named ``node::`` and its key in ``Traced.layer_of_call``."""

        def __init__(
            self,
            module: GraphModule,
            prefix: str = "",
            observe: Observer | None = None,
            autocasts: tuple[Any, ...] = (),
        ) -> None:
            super().__init__(module)
            self.prefix = prefix
            self.observe = observe
            self.autocasts = autocasts

        def run_node(self, n: Node) -> Any:
            if n.op != "call_function" or n.target is operator.getitem:
                return super().run_node(n)
            inner = region_of(self.module, n)  # type: ignore[arg-type]
            if inner is not None:
                operands: Any = self.map_nodes_to_values(tuple(region_operands(n)), n)
                within = (*self.autocasts, n.args[:4]) if n.target is _autocast() else self.autocasts
                with _region_context(n):
                    return type(self)(inner, f"{self.prefix}{n.name}/", self.observe, within).run(*operands)
            if self.observe is not None:
                args, kwargs = self.fetch_args_kwargs_from_env(n)
                return self.observe(f"{self.prefix}{n.name}", n.target, args, kwargs, self.autocasts)
            with node_range(f"{self.prefix}{n.name}"):
                return super().run_node(n)

    return NodeByNode
