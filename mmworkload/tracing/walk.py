"""From an exported program to layers: a walk in program order that enters every node in the ledger."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mmworkload.graph import InputInfo
from mmworkload.layer import Tensor, TensorKind
from mmworkload.tracing.ledger import Ledger, Walked, results_in, tensors_in

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

# Wrappers that export puts round a region: their sub-graph is walked as part of the whole.
REGIONS = ("wrap_with_autocast", "wrap_with_set_grad_enabled")


def regions(graph_module: GraphModule, prefix: str = "") -> Iterator[tuple[str, GraphModule, Node]]:
    """(key, owner, node) of every call in program order, those of wrapped regions in their place."""
    for node in graph_module.graph.nodes:
        if node.op != "call_function":
            continue
        inner = region_of(graph_module, node)
        if inner is not None:
            yield from regions(inner, f"{prefix}{node.name}/")
        yield f"{prefix}{node.name}", graph_module, node


def region_of(graph_module: GraphModule, node: Node) -> GraphModule | None:
    """The sub-graph that a region wrapper calls, None for any other node."""
    if getattr(node.target, "__name__", "") not in REGIONS:
        return None
    holder = next(_region_holders(node))[1]
    return getattr(graph_module, str(holder.target))


def _region_holders(node: Node) -> Iterator[tuple[int, Node]]:
    """Position and node of the sub-graph among the arguments of a region wrapper."""
    for position, argument in enumerate(node.args):
        for part in _nodes(argument):
            if part.op == "get_attr":
                yield position, part


def region_operands(node: Node) -> list[Node]:
    """The arguments of a region wrapper that become its sub-graph's placeholders."""
    position = next(_region_holders(node))[0]
    return [part for argument in node.args[position + 1 :] for part in _nodes(argument)]


def walk(program: ExportedProgram, name: str, info: Callable[[str, Tensor], InputInfo]) -> Walked:
    """Lowers every node of ``program``. ``info`` says what a user input is, by its name.

    Raises ModelError when a shape depends on data.
    """
    from torch.fx.node import map_arg
    from torch.utils._pytree import tree_unflatten

    def value(item: Any) -> Any:
        return map_arg(item, lambda node: node.meta.get("val"))

    ledger = Ledger(name)
    users = _declare(ledger, program)
    for key, owner, node in regions(program.graph_module):
        if node.target is operator.getitem or region_of(owner, node) is not None:
            continue
        module, call_index = _module(node)
        ledger.enter(key, node.target, value(node.args), value(node.kwargs), node.meta.get("val"), module, call_index)
    end = next(item for item in program.graph.nodes if item.op == "output")
    returned = value(end.args)[0]
    spec = program.call_spec.out_spec
    if spec is not None and spec.num_leaves == len(returned):
        returned = tree_unflatten(returned, spec)
    return ledger.close(users, results_in(returned), info)


def _declare(ledger: Ledger, program: ExportedProgram) -> list[str]:
    """Declares weights, buffers, constants and user inputs; returns the names of the user inputs."""
    from torch.export.graph_signature import InputKind

    kinds: dict[Any, TensorKind] = {
        InputKind.PARAMETER: "weight",
        InputKind.BUFFER: "constant",
        InputKind.CONSTANT_TENSOR: "constant",
        InputKind.USER_INPUT: "input",
    }
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    signature = program.graph_signature
    arguments = {getattr(spec.arg, "name", "") for spec in signature.input_specs if spec.kind is InputKind.USER_INPUT}
    users = []
    for spec in signature.input_specs:
        node = nodes.get(getattr(spec.arg, "name", ""))
        found = list(tensors_in(node.meta.get("val"))) if node is not None else []
        if node is None or not found:
            continue
        kind = kinds.get(spec.kind, "constant")
        token = node.name if kind == "input" else str(spec.target)
        if kind == "input":
            users.append(token)
        elif token in arguments:
            # A module may have a parameter and its forward an argument of one name.
            token = f"{token}:{kind}"
        ledger.declare(token, found[0], kind)
    return users


def _module(node: Node) -> tuple[str, str]:
    """Path of the innermost module and, for a repeated call of it, the suffix ``@k``."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", ""
    key, (path, _) = list(stack.items())[-1]
    _, at, count = str(key).rpartition("@")
    return path, f"@{count}" if at else ""


def _nodes(item: Any) -> Iterator[Node]:
    if hasattr(item, "meta"):
        yield item
    elif isinstance(item, (list, tuple)):
        for part in item:
            yield from _nodes(part)
    elif isinstance(item, dict):
        for part in item.values():
            yield from _nodes(part)
