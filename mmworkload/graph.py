"""The layer graph: what tracing gives and what every other verb takes. Free of torch.

Edges are not stored: they follow from the tensors that layers read and write. A graph is a value (frozen), reads and
writes itself as JSON or YAML without loss, and converts to and from networkx and pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FormatError, UnknownNameError
from mmworkload.files import read_text, write_atomic
from mmworkload.layer import CATEGORIES, TENSOR_KINDS, Layer, Tensor
from mmworkload.loop_bounds import NUMBERS, loop_bounds, output_shape
from mmworkload.problem import Problem
from mmworkload.straggler import in_order, stage_matches

if TYPE_CHECKING:
    import networkx
    import pandas

TREATMENTS = ("lowered", "ignored", "unknown")


@dataclass(frozen=True)
class Coverage:
    """How the calls of one operator in one module were treated. ``reason`` says why, when ignored or unknown."""

    treatment: str
    operator: str
    module: str
    calls: int
    macs: int
    bytes: int
    reason: str = ""


@dataclass(frozen=True)
class InputInfo:
    """A user input of the traced model: ``role`` is ``modality``, ``mask``, ``position``, ``state`` or
    ``auxiliary`` (numbers that say how to treat a modality: lengths, edges of a graph)."""

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    modality: str
    role: str = "modality"


@dataclass(frozen=True)
class StageTotals:
    """Sums over the layers of one stage; ``params`` and ``weight_bytes`` count each storage once."""

    layers: int
    macs: int
    useful_macs: int
    outer_macs: int
    params: int
    weight_bytes: int
    activation_bytes: int
    vector_ops: int


@dataclass(frozen=True)
class LayerGraph:
    """Layers in program order over a table of tensors.

    Parameters
    ----------
    model, variant: the names it was traced under.
    batch: samples per forward pass.
    dtype: the floating-point type of weights and activations.
    layers, tensors: the graph; each tensor is written by at most one layer. Tensors that no layer uses come first,
        then those that layers read and write, in order.
    inputs: the user's inputs with their modality.
    outputs: tensors that the model returns.
    built_params: parameters of the whole model (elements, tied ones once), used or not.
    route: ``export`` or ``recorder``.
    versions: of the packages that decided the result.
    coverage: how each operator was treated; by treatment, then by the module's place among the layers.
    notes: what is to be known about the model, printed wherever totals are ("stand-in: ResNet-50 for OpenFace").

    Raises FormatError when a layer reads an unknown tensor or one that is written later, two layers write one
    tensor, or a name is used twice.
    """

    model: str
    variant: str
    batch: int
    dtype: str
    layers: tuple[Layer, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[InputInfo, ...] = ()
    outputs: tuple[str, ...] = ()
    built_params: int = 0
    route: str = "export"
    versions: dict[str, str] = field(default_factory=dict)
    coverage: tuple[Coverage, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<LayerGraph {self.model!r}: batch {self.batch}, {len(self.layers):,} layers, {self.total_macs:,} MACs>"

    def __post_init__(self) -> None:
        names: set[str] = set()
        written: set[str] = set()
        produced = {tensor for layer in self.layers for tensor, _ in layer.writes}
        for name, tensor in self.tensors.items():
            if name != tensor.name or tensor.kind not in TENSOR_KINDS:
                raise FormatError(f"tensor '{name}' has the name '{tensor.name}' and the kind '{tensor.kind}'")
        for layer in self.layers:
            if layer.name in names:
                raise FormatError(f"two layers are called '{layer.name}'")
            names.add(layer.name)
            if layer.category not in CATEGORIES:
                raise FormatError(f"layer '{layer.name}': category '{layer.category}' is not one of {CATEGORIES}")
            if len(dict(layer.reads)) < len(layer.reads):
                raise FormatError(f"layer '{layer.name}' lists one tensor twice among its reads")
            for tensor_name, size in (*layer.reads, *layer.writes):
                if tensor_name not in self.tensors:
                    raise FormatError(f"layer '{layer.name}' names the unknown tensor '{tensor_name}'")
                if size < 0:
                    raise FormatError(f"layer '{layer.name}' moves {size} bytes of '{tensor_name}'")
            for tensor_name, _ in layer.reads:
                if tensor_name in produced and tensor_name not in written:
                    raise FormatError(f"layer '{layer.name}' reads '{tensor_name}' before it is written")
            for tensor_name, _ in layer.writes:
                if tensor_name in written:
                    raise FormatError(f"layer '{layer.name}' writes '{tensor_name}', which another layer writes")
                written.add(tensor_name)
        for output in self.outputs:
            if output not in self.tensors:
                raise FormatError(f"the output '{output}' is not a tensor of the graph")
        for item in self.coverage:
            if item.treatment not in TREATMENTS:
                raise FormatError(
                    f"coverage of {item.operator}: treatment '{item.treatment}' is not one of {TREATMENTS}"
                )
        # What no text keeps is the order of tables; with one order here, a graph equals the one that is read back.
        used = dict.fromkeys(name for layer in self.layers for name, _ in (*layer.reads, *layer.writes))
        unused = [name for name in self.tensors if name not in used]
        object.__setattr__(self, "tensors", {name: self.tensors[name] for name in (*unused, *used)})
        places = {layer.module: place for place, layer in reversed(list(enumerate(self.layers)))}
        grouped = sorted(
            self.coverage,
            key=lambda item: (TREATMENTS.index(item.treatment), places.get(item.module, len(self.layers))),
        )
        object.__setattr__(self, "coverage", tuple(grouped))

    # --- looking at it ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def __getitem__(self, name: str) -> Layer:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownNameError("layer", name, self._by_name) from None

    @cached_property
    def producers(self) -> dict[str, str]:
        """Tensor name to the name of the layer that writes it."""
        return {tensor: layer.name for layer in self.layers for tensor, _ in layer.writes}

    def weights(self, layers: Iterable[Layer] | None = None) -> list[Tensor]:
        """The weights that ``layers`` (default: all) read, one per storage."""
        found: dict[str, Tensor] = {}
        for layer in self.layers if layers is None else layers:
            for name, _ in layer.reads:
                tensor = self.tensors[name]
                if tensor.kind == "weight":
                    found.setdefault(tensor.storage, tensor)
        return list(found.values())

    def params(self, layers: Iterable[Layer] | None = None) -> int:
        """Parameters (elements) that ``layers`` (default: all) read, tied ones once."""
        return sum(tensor.elements for tensor in self.weights(layers))

    def activation_bytes(self, layer: Layer) -> int:
        """Bytes of everything but weights that ``layer`` reads and writes."""
        read = sum(size for name, size in layer.reads if self.tensors[name].kind != "weight")
        return read + layer.write_bytes

    @property
    def total_macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def outer_macs(self) -> int:
        return sum(layer.outer_macs for layer in self.layers)

    @property
    def total_params(self) -> int:
        """Parameters that this forward pass uses, tied ones once."""
        return self.params()

    @cached_property
    def problems(self) -> dict[str, Problem]:
        """The unique problems by key, in order of first use."""
        return {work.problem.key: work.problem.canonical() for layer in self.layers for work in layer.work}

    @cached_property
    def stages(self) -> dict[str, StageTotals]:
        """Totals per stage: pre-processing, encoders in order of first use, fusion, heads."""
        groups: dict[str, list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault(layer.stage, []).append(layer)
        return {stage: self.totals(groups[stage]) for stage in in_order(groups)}

    def totals(self, layers: Iterable[Layer] | None = None) -> StageTotals:
        """Sums over ``layers`` (default: all)."""
        chosen = list(self.layers if layers is None else layers)
        weights = self.weights(chosen)
        return StageTotals(
            layers=len(chosen),
            macs=sum(layer.macs for layer in chosen),
            useful_macs=sum(layer.useful_macs for layer in chosen),
            outer_macs=sum(layer.outer_macs for layer in chosen),
            params=sum(tensor.elements for tensor in weights),
            weight_bytes=sum(tensor.bytes for tensor in weights),
            activation_bytes=sum(self.activation_bytes(layer) for layer in chosen),
            vector_ops=sum(layer.vector_ops for layer in chosen),
        )

    def only(self, patterns: Iterable[str]) -> LayerGraph:
        """The part of the graph whose stage matches one of the globs; what comes from outside becomes an input.

        Raises UnknownNameError when nothing matches.
        """
        wanted = list(patterns)
        if not wanted:
            return self
        part = self.where(lambda layer: any(stage_matches(layer.stage, glob) for glob in wanted))
        if not part.layers:
            raise UnknownNameError("stage", ", ".join(wanted), self.stages)
        return part

    def where(self, keep: Callable[[Layer], bool]) -> LayerGraph:
        """The layers that ``keep`` is true of; what comes from outside becomes an input."""
        layers = tuple(layer for layer in self.layers if keep(layer))
        chosen = {layer.name for layer in layers}
        inside = {tensor for layer in layers for tensor, _ in layer.writes}
        used = {tensor for layer in layers for tensor, _ in (*layer.reads, *layer.writes)}
        tensors = {
            name: replace(tensor, kind="input") if tensor.kind == "activation" and name not in inside else tensor
            for name, tensor in self.tensors.items()
            if name in used
        }
        leaving = {name for layer in self.layers if layer.name not in chosen for name, _ in layer.reads} & inside
        outputs = tuple(name for name in tensors if name in leaving or (name in self.outputs and name in inside))
        inputs = tuple(item for item in self.inputs if item.tensor in used)
        return replace(self, layers=layers, tensors=tensors, inputs=inputs, outputs=outputs)

    # --- conversions --------------------------------------------------------------------------------------------

    def to_networkx(self) -> networkx.MultiDiGraph:
        """A MultiDiGraph: nodes are layer names with the attribute ``layer``; edges are keyed by tensor name and
        carry ``bytes``. Tensors and metadata are in the graph's attributes."""
        import networkx

        result: networkx.MultiDiGraph = networkx.MultiDiGraph(
            tensors=dict(self.tensors),
            metadata={f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("layers", "tensors")},
        )
        for layer in self.layers:
            result.add_node(layer.name, layer=layer)
        for layer in self.layers:
            for tensor, size in layer.reads:
                if tensor in self.producers:
                    result.add_edge(self.producers[tensor], layer.name, key=tensor, bytes=size)
        return result

    @classmethod
    def from_networkx(cls, graph: networkx.MultiDiGraph) -> LayerGraph:
        """The inverse of :meth:`to_networkx`; edges are derived again."""
        try:
            layers = tuple(data["layer"] for _, data in graph.nodes(data=True))
            return cls(layers=layers, tensors=dict(graph.graph["tensors"]), **graph.graph["metadata"])
        except (KeyError, TypeError) as error:
            raise FormatError(f"not a graph made by LayerGraph.to_networkx: {error}") from error

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer: what it is, its output shape and loop bounds (:mod:`mmworkload.loop_bounds`; missing where
        it has no loops), MACs, parameters, bytes. ``attrs["graph"]`` keeps the whole graph."""
        import pandas

        rows = []
        for layer in self.layers:
            weights = self.weights([layer])
            rows.append(
                {
                    "layer": layer.name,
                    "op": layer.op,
                    "stage": layer.stage,
                    "modality": layer.modality,
                    "category": layer.category,
                    "module": layer.module,
                    "output_shape": output_shape(layer, self.tensors),
                    **loop_bounds(layer),
                    "macs": layer.macs,
                    "useful_macs": layer.useful_macs,
                    "outer_macs": layer.outer_macs,
                    "params": sum(tensor.elements for tensor in weights),
                    "weight_bytes": sum(tensor.bytes for tensor in weights),
                    "activation_bytes": self.activation_bytes(layer),
                    "read_bytes": layer.read_bytes,
                    "write_bytes": layer.write_bytes,
                    "vector_ops": layer.vector_ops,
                    "problems": " ; ".join(f"{work.count} x {work.problem}" for work in layer.work),
                    "dead": layer.dead,
                    "placement": layer.placement,
                    "assumptions": "; ".join(layer.assumptions),
                    "rule": layer.rule,
                }
            )
        # Integers with gaps, which pandas would make floats.
        frame = pandas.DataFrame(rows).astype(dict.fromkeys(NUMBERS if rows else (), "Int64"))
        frame.attrs["graph"] = self.to_dict()
        return frame

    @classmethod
    def from_pandas(cls, frame: pandas.DataFrame) -> LayerGraph:
        """The graph behind a frame of :meth:`to_pandas`, reduced to the rows that are still there."""
        if "graph" not in frame.attrs:
            raise FormatError("the frame was not made by LayerGraph.to_pandas (or lost its attrs)")
        graph = cls.from_dict(frame.attrs["graph"])
        kept = set(frame["layer"]) if len(frame) else set()
        return replace(graph, layers=tuple(layer for layer in graph.layers if layer.name in kept))

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract (docs/json.md). Sums are there for readers and are recomputed on loading."""
        from mmworkload import graph_text

        return graph_text.encode(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerGraph:
        """The inverse of :meth:`to_dict`. Raises FormatError that names the missing or wrong entry."""
        from mmworkload import graph_text

        return graph_text.decode(data)

    def to_text(self, suffix: str = ".json") -> str:
        """The graph as text: ``.json``, ``.yaml``, or the table ``.csv``."""
        from mmworkload import graph_text

        return graph_text.write(self, suffix)

    @classmethod
    def from_text(cls, text: str) -> LayerGraph:
        """Reads JSON or YAML text. Raises FormatError."""
        from mmworkload import graph_text

        return graph_text.read(text)

    def save(self, path: str | Path) -> None:
        """Writes .json, .yaml or .csv by the suffix of ``path``, whole or not at all."""
        target = Path(path)
        write_atomic(target, self.to_text(target.suffix.lower()))

    @classmethod
    def load(cls, path: str | Path) -> LayerGraph:
        """Reads what :meth:`save` wrote as .json or .yaml. FormatError names the file and what is wrong."""
        source = Path(path)
        if source.suffix == ".csv":
            raise FormatError(f"{source}: a CSV is a table for readers; load the .json or .yaml of the graph")
        text = read_text(source)
        try:
            return cls.from_text(text)
        except FormatError as error:
            raise FormatError(f"{source}: {error}") from error


@dataclass(frozen=True)
class Part:
    """One graph of a workload: run ``count`` times per sample (a probability may be below one).

    ``phase`` is what the part is a sample of, where several together stand for all runs of one (a decoder at three of
    its lengths); else the part is a phase of its own.
    """

    graph: LayerGraph
    name: str = ""
    count: float = 1.0
    sequential: bool = True
    phase: str = ""

    def __repr__(self) -> str:
        return f"<Part {self.name!r}: {self.count:g} times {self.graph!r}>"


_PART = ("name", "count", "sequential", "phase")


@dataclass(frozen=True)
class Workload:
    """A weighted list of graphs (phases, exit paths, pre-processing). A plain model is a list of one."""

    name: str
    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        return f"<Workload {self.name!r}: parts {len(self.parts)}, {self.total_macs:,.12g} MACs>"

    @classmethod
    def of(cls, source: LayerGraph | Workload) -> Workload:
        """The workload itself, or the workload of one graph."""
        if isinstance(source, Workload):
            return source
        return cls(source.model, (Part(source),))

    @property
    def batch(self) -> int:
        """Samples of a run, the same in all parts."""
        return self.parts[0].graph.batch

    @property
    def total_macs(self) -> float:
        return sum(part.graph.total_macs * part.count for part in self.parts)

    @property
    def problems(self) -> dict[str, Problem]:
        """The unique problems of all parts by key."""
        return {key: problem for part in self.parts for key, problem in part.graph.problems.items()}

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "parts": [
                {**{key: getattr(part, key) for key in _PART}, "graph": part.graph.to_dict()} for part in self.parts
            ],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Workload:
        try:
            return cls(
                data["name"],
                tuple(
                    Part(LayerGraph.from_dict(item["graph"]), **{key: item[key] for key in _PART})
                    for item in data["parts"]
                ),
            )
        except (KeyError, TypeError) as error:
            raise FormatError(f"not a complete workload: {type(error).__name__} {error}") from error
