"""The Einsums of a whole graph with its edges: what one writes and another reads is one tensor of both.

An edge is linked only where both sides index the same elements in axes that can be told apart, and where nothing else
needs the tensor: AccelForge may then keep it on the chip and never write it out. Elementwise layers of one tensor do
not break it (a vector unit does them in passing); everything else does, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mmworkload.arch import Architecture
from mmworkload.exporters.accelforge.einsum import TENSORS, Access, Einsum, Variable, paths, plain_axes, too_wide
from mmworkload.exporters.telling import InexpressibleError
from mmworkload.graph import LayerGraph
from mmworkload.layer import Layer, Work
from mmworkload.problem import Axis, Operand, Role
from mmworkload.simulating.estimate import as_asked

_ELEMENTWISE = ("Elewise", "Relu")
# Evaluated, it scales and shifts each element; other normalizations look at several.
_ALSO_ELEMENTWISE = ("batch_norm",)
# Output axis to the axis that the next problem reads it as, where sizes alone do not tell.
_NEXT = {"N": "N", "G": "G", "M": "C", "O": "O", "P": "P", "Q": "Q"}
_IMAGE = frozenset("OPQ")
_VALUES = 1
"""The second product of attention, whose first input are the scores of the first."""


@dataclass(frozen=True)
class Edge:
    """How one Einsum reads what another layer writes: ``linked``, or the reason why not."""

    tensor: str
    producer: str
    consumer: str
    path: Role
    reason: str = ""

    @property
    def linked(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Cascade:
    """The Einsums of one graph in program order, the layer of each, and all edges between layers with MACs."""

    einsums: tuple[Einsum, ...]
    layers: tuple[str, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class _Node:
    """One work of a layer, as it is simulated."""

    layer: Layer
    index: int
    work: Work
    operands: dict[Role, Operand]

    @property
    def attention(self) -> bool:
        return self.layer.op == "attention" and len(self.layer.work) == 2


def cascade(graph: LayerGraph, arch: Architecture) -> Cascade:
    """The Einsums of ``graph`` in the architecture's native precision; layers that cannot be told are left out."""
    nodes = list(_nodes(graph, arch))
    links, edges = _links(graph, nodes)
    written = {link: f"T{number}" for number, link in enumerate(dict.fromkeys(links.values()))}
    einsums = []
    for number, node in enumerate(nodes):
        accesses = []
        # The ranks of a tensor are numbered in the order of the axes of the Einsum that writes it.
        for path, operand in node.operands.items():
            axes = plain_axes(operand)
            if path == "output":
                tensor = written.get(number, f"O{number}")
                order = list(range(len(axes)))
            elif (number, path) in links:
                producer = links[number, path]
                tensor = written[producer]
                found = _matched(nodes[producer], node, path)
                assert not isinstance(found, str)  # it was linked because they match
                order = found
            else:
                tensor = f"{TENSORS[path]}{number}"
                order = list(range(len(axes)))
            ranks = [
                (f"{tensor}_{place}", tuple((f"{dim.lower()}_{number}", by) for dim, by in item.terms))
                for place, item in zip(order, axes, strict=True)
            ]
            if not ranks:
                ranks = [(f"{tensor}_0", ((f"u_{number}", 1),))]
            accesses.append(Access(path, tensor, operand.bits, tuple(sorted(ranks))))
        used = {name for access in accesses for _, terms in access.ranks for name, _ in terms}
        variables = [
            Variable(f"{dim.lower()}_{number}", extent, (dim,))
            for dim, extent in node.work.problem.dims
            if f"{dim.lower()}_{number}" in used
        ]
        if f"u_{number}" in used:
            variables.append(Variable(f"u_{number}", 1, ()))
        einsums.append(Einsum(f"e{number}", tuple(variables), tuple(accesses), node.work.count))
    return Cascade(tuple(einsums), tuple(node.layer.name for node in nodes), tuple(edges))


def _nodes(graph: LayerGraph, arch: Architecture) -> Iterator[_Node]:
    for layer in graph:
        for index, work in enumerate(layer.work):
            if layer.placement == "host":
                continue
            problem = as_asked(work.problem, arch.bits)
            try:
                operands = paths(problem)
                too_wide(operands, arch)
            except InexpressibleError:
                continue
            yield _Node(layer, index, replace(work, problem=problem), operands)


def _links(graph: LayerGraph, nodes: list[_Node]) -> tuple[dict[tuple[int, Role], int], list[Edge]]:
    """(Einsum, path) to the Einsum whose output it reads; and all edges."""
    written = {_output(graph, node): number for number, node in enumerate(nodes)}
    found: dict[tuple[int, Role], int] = {}
    edges: list[Edge] = []
    readers = _readers(graph)
    for number, node in enumerate(nodes):
        if node.attention and node.index == _VALUES and number and nodes[number - 1].layer is node.layer:
            reason = _mismatch(nodes[number - 1], node, "input")
            edges.append(Edge("scores", f"{node.layer.name} (scores)", node.layer.name, "input", reason))
            if not reason:
                found[number, "input"] = number - 1
        for path, tensor in _inputs(graph, node).items():
            root, between = _through(graph, tensor)
            source = graph.producers.get(root)
            if source is None:
                continue
            producer = written.get(root)
            if producer is None:
                reason = _no_einsum(graph, source)
            elif found.get((number, "input")) == producer:
                reason = "the other operand is the same tensor, which an Einsum reads once"
            else:
                reason = (
                    _part(graph, node, tensor)
                    or _elsewhere(graph, root, between, readers, nodes)
                    or _mismatch(nodes[producer], node, path)
                )
            edges.append(Edge(tensor, source, node.layer.name, path, reason))
            if not reason and producer is not None:
                found[number, path] = producer
    return _all_or_none(found, edges, nodes)


def _all_or_none(
    links: dict[tuple[int, Role], int], edges: list[Edge], nodes: list[_Node]
) -> tuple[dict[tuple[int, Role], int], list[Edge]]:
    """Without the links to what also has a reader that is not linked: it would look for the tensor outside the chip."""
    apart = {edge.producer: edge.consumer for edge in edges if not edge.linked}
    kept = {key: producer for key, producer in links.items() if nodes[producer].layer.name not in apart}
    checked = []
    for edge in edges:
        other = apart.get(edge.producer)
        if edge.linked and other is not None:
            edge = replace(edge, reason=f"'{other}' reads it too and is not linked")
        checked.append(edge)
    return kept, checked


def _output(graph: LayerGraph, node: _Node) -> str:
    """The graph's tensor that the work writes; a name that no tensor has when it stays inside the layer."""
    inside = f"{node.layer.name} {node.index}"
    if node.attention and node.index != _VALUES:
        return inside
    size = node.work.problem.tensor_size(node.operands["output"])
    same = [name for name, _ in node.layer.writes if graph.tensors[name].elements == size]
    return same[0] if len(same) == 1 else inside


def _inputs(graph: LayerGraph, node: _Node) -> dict[Role, str]:
    """The activations that the work reads, by path. Of several of one size they are taken in order."""
    free = [name for name, _ in node.layer.reads if graph.tensors[name].kind == "activation"]
    if node.attention:
        # Query, key and value; where they share a tensor, parts of it are read and no size matches below.
        names: dict[Role, str] = {}
        if len(free) >= 3:
            names = {"input": free[0], "weight": free[1]} if node.index != _VALUES else {"weight": free[2]}
        elif free and node.index != _VALUES:
            names = {"input": free[0]}
        return names
    found: dict[Role, str] = {}
    for path in ("input", "weight"):
        operand = node.operands[path]
        if operand.role == "weight":
            continue
        size = node.work.problem.tensor_size(operand)
        same = [name for name in free if graph.tensors[name].elements == size] or free
        if same:
            found[path] = same[0]
            if len(free) > 1:
                free.remove(same[0])
    return found


def _through(graph: LayerGraph, tensor: str) -> tuple[str, list[str]]:
    """The tensor from which elementwise layers make ``tensor``, and those layers."""
    between: list[str] = []
    while tensor in graph.producers:
        layer = graph[graph.producers[tensor]]
        source = _elementwise(graph, layer)
        if source is None:
            break
        between.append(layer.name)
        tensor = source
    return tensor, between


def _elementwise(graph: LayerGraph, layer: Layer) -> str | None:
    """The one activation that the layer changes element by element; None for any other layer."""
    if layer.work or not (layer.category in _ELEMENTWISE or layer.op in _ALSO_ELEMENTWISE):
        return None
    inputs = [(name, size) for name, size in layer.reads if graph.tensors[name].kind in ("activation", "input")]
    if len(inputs) != 1 or len(layer.writes) != 1:
        return None
    name, size = inputs[0]
    before, after = graph.tensors[name], graph.tensors[layer.writes[0][0]]
    return name if before.shape == after.shape and size == before.bytes else None


def _readers(graph: LayerGraph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for layer in graph:
        for name, _ in layer.reads:
            found.setdefault(name, []).append(layer.name)
    return found


def _no_einsum(graph: LayerGraph, source: str) -> str:
    layer = graph[source]
    if layer.work:
        return f"'{source}' ({layer.op}) writes it, but none of its products on its own"
    return f"'{source}' ({layer.op}) lies between, which is no product"


def _part(graph: LayerGraph, node: _Node, tensor: str) -> str:
    moved = dict(node.layer.reads)[tensor]
    whole = graph.tensors[tensor].bytes
    return f"only {moved} of its {whole} bytes are read" if moved != whole else ""


def _elsewhere(
    graph: LayerGraph, root: str, between: list[str], readers: dict[str, list[str]], nodes: list[_Node]
) -> str:
    """Who else needs the tensor, on its way through the elementwise layers ``between``."""
    products = {node.layer.name for node in nodes}
    name = root
    for step in [*reversed(between), None]:
        if name in graph.outputs:
            return "the model returns it"
        others = [
            reader
            for reader in readers[name]
            if reader != step and not graph[reader].dead and (step is not None or reader not in products)
        ]
        if others:
            return f"'{others[0]}' needs it too, outside of this edge"
        if step is not None:
            name = graph[step].writes[0][0]
    return ""


def _mismatch(producer: _Node, consumer: _Node, path: Role) -> str:
    """Why the axes written are not those read, or an empty string."""
    for node in (producer, consumer):
        if node.work.count > 1:
            return f"'{node.layer.name}' runs it {node.work.count} times"
    found = _matched(producer, consumer, path)
    return found if isinstance(found, str) else ""


def _matched(producer: _Node, consumer: _Node, path: Role) -> list[int] | str:
    """For each axis that is read the place of the axis that was written, or why they do not match."""
    before, after = plain_axes(producer.operands["output"]), plain_axes(consumer.operands[path])
    if any(len(item.terms) > 1 for item in before):
        return "it is the overlapping sum of a transposed convolution"
    if any(len(item.terms) == 1 and item.terms[0][1] > 1 for item in after):
        return "a stride reads a part of it"
    if sorted(item.size for item in before) != sorted(item.size for item in after):
        sizes = [" x ".join(str(item.size) for item in axes) or "1" for axes in (before, after)]
        return f"it is written as {sizes[0]} and read as {sizes[1]}: a view lies between"
    # Nobody exchanges the axes of an image's batch and channels between two layers, or those of a layer's own scores.
    sure = producer.layer is consumer.layer or all(
        any(_letter(item) in _IMAGE for item in axes) for axes in (before, after)
    )
    order = []
    for item in after:
        same = [place for place, other in enumerate(before) if other.size == item.size]
        if len(same) > 1:
            # Height stays height; which of two other axes of one size is which, a transpose may have changed.
            letters = {_letter(before[place]) for place in same}
            if not sure and len(letters - _IMAGE) > 1:
                return f"axes of one size ({item.size}) cannot be told apart"
            same = [place for place in same if _NEXT.get(_letter(before[place])) == _letter(item)]
        if len(same) != 1 or same[0] in order:
            return f"axes of one size ({item.size}) cannot be told apart"
        order.append(same[0])
    return order


def _letter(item: Axis) -> str:
    """The dimension that an axis is of: the output's in a window."""
    letters = [dim for dim, _ in item.terms]
    return next((dim for dim in letters if dim in _IMAGE), letters[0])
