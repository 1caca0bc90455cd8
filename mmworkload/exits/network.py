"""A traced network with exits: segments between exits, whole paths, and the workload of either.

Modalities run one after another, and each encoder up to its next exit; the first layer of a segment depends, without
traffic, on the decision of the exit before it. A segment is the layers from one exit to the next with that exit's own
layers; ``rest`` is what an encoder runs after its last exit, ``fusion`` what runs behind all encoders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mmworkload.exits import heads
from mmworkload.exits.branch import Branch
from mmworkload.exits.encoders import Encoders, ExitError, find_encoders
from mmworkload.exits.places import Place, by_count, by_macs, places
from mmworkload.exits.probability import Reach, leaving, reached
from mmworkload.exits.settings import CHEAPEST, LISTED, ORDERS, SERIAL, SUFFIX, ExitSettings, PerExit, write
from mmworkload.exits.steps import cut, recurrence, steps_of
from mmworkload.exits.utility import cheapest_order, serialised
from mmworkload.graph import LayerGraph, Part, Workload
from mmworkload.layer import Layer, Tensor

FUSION = "fusion"
REST = "rest"
LARGEST_SHARE = 0.0002
"""Of all MACs, what the paper's linear exits stay below: 0.02 %."""


@dataclass(frozen=True)
class Exit:
    """One exit: ``number`` counts from 1 within its modality, ``place`` says where it is in words."""

    modality: str
    number: int
    place: str
    width: int
    macs: int
    params: int
    scores: str
    entropy: str


@dataclass(frozen=True)
class Segment:
    """Layers that run together, by name, those of the exit at their end included."""

    name: str
    modality: str
    layers: tuple[str, ...]
    exit: Exit | None = None


@dataclass(frozen=True)
class ExitNetwork:
    """What :func:`with_exits` gives.

    Parameters
    ----------
    base: the network that was given exits.
    settings: how.
    layers, tensors: all of them, those of the exits and the parts of layers that were cut in time included.
    encoders: modality, in the model's order, to its segments: one for each exit, and the rest if there is any.
    behind: what runs when nobody left.
    classes: scores that an exit gives.
    """

    base: LayerGraph
    settings: ExitSettings
    layers: dict[str, Layer]
    tensors: dict[str, Tensor]
    encoders: dict[str, tuple[Segment, ...]]
    behind: Segment
    classes: int

    # --- what it consists of --------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<ExitNetwork of {self.base!r}>"

    @property
    def name(self) -> str:
        """With all settings that differ from the defaults: one name for one workload at one batch."""
        query = self.settings.query
        return f"{self.base.model}{SUFFIX}" + (f"?{query}" if query else "")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those with an encoder, in the model's order."""
        return tuple(self.encoders)

    @property
    def exits(self) -> tuple[Exit, ...]:
        return tuple(item.exit for segments in self.encoders.values() for item in segments if item.exit is not None)

    @property
    def segments(self) -> dict[str, Segment]:
        """By name: the encoders', in the model's order, and the fusion."""
        every = [item for segments in self.encoders.values() for item in segments] + [self.behind]
        return {item.name: item for item in every}

    @property
    def overhead(self) -> float:
        """MACs of all linear exits as a share of the network's own."""
        return sum(item.macs for item in self.exits) / self.base.total_macs

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The modalities in the order of the settings."""
        asked = self.settings.order
        if asked == LISTED:
            return self.modalities
        if asked == SERIAL:
            return serialised([replace(item, rest=0.0) for item in self.utility_branches()], self.settings.weight)
        if asked == CHEAPEST:
            branches = self.branches({name: float(self.macs(name)) for name in self.segments})
            return cheapest_order(branches, self.macs(FUSION), self.settings.rest, self.batch_for_leaving)
        order = tuple(asked.split(","))
        if sorted(order) != sorted(self.modalities):
            raise ExitError(
                f"{self.base.model}: order={asked}: give {', '.join(ORDERS)} or each of"
                f" {','.join(self.modalities)} once, with commas between"
            )
        return order

    @property
    def batch_for_leaving(self) -> int:
        """Samples that leave together."""
        return self.base.batch if self.settings.batch == "worst" else 1

    def macs(self, segment: str) -> int:
        return sum(self.layers[name].macs for name in self.segments[segment].layers)

    def branches(self, costs: Mapping[str, float]) -> list[Branch]:
        """The encoders, in the model's order, with a cost for each of their segments by name."""
        found = []
        for modality, segments in self.encoders.items():
            own = [item for item in segments if item.exit is not None]
            found.append(
                Branch(
                    modality,
                    p=_each(self.settings.p, "p", modality, len(own)),
                    costs=tuple(float(costs[item.name]) for item in own),
                    rest=float(sum(costs[item.name] for item in segments if item.exit is None)),
                    accuracy=_each(self.settings.accuracy, "accuracy", modality, len(own)),
                )
            )
        return found

    def utility_branches(self) -> list[Branch]:
        """With MACs as shares of the whole network's without exits, so that the weight is comparable over networks."""
        return self.branches({name: self.macs(name) / self.base.total_macs for name in self.segments})

    # --- graphs ---------------------------------------------------------------------------------------------------

    def in_order(self, order: Sequence[str] | None = None) -> tuple[Segment, ...]:
        """The segments as they run when nobody leaves."""
        chosen = self.order if order is None else tuple(order)
        every = [item for modality in chosen for item in self.encoders[modality]]
        if self.settings.rest == "last":
            every = [item for item in every if item.exit] + [item for item in every if not item.exit]
        return (*every, self.behind)

    @cached_property
    def graph(self) -> LayerGraph:
        """The whole network with every exit evaluated and none taken."""
        layers: list[Layer] = []
        decision = ""
        for segment in self.in_order():
            for position, name in enumerate(segment.layers):
                layer = self.layers[name]
                if position == 0 and decision and decision not in dict(layer.reads):
                    layer = replace(layer, reads=(*layer.reads, (decision, 0)))
                layers.append(layer)
            decision = segment.exit.entropy if segment.exit else decision
        scores = tuple(item.scores for item in self.exits)
        return replace(
            self.base,
            model=self.name,
            layers=tuple(layers),
            tensors=self.tensors,
            outputs=(*self.base.outputs, *scores),
            built_params=self.base.built_params + sum(item.params for item in self.exits),
            notes=(*self.base.notes, *self.notes),
        )

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was chosen, printed wherever totals are."""
        where = "; ".join(
            f"{modality} after {', '.join(item.exit.place for item in segments if item.exit) or 'none'}"
            for modality, segments in self.encoders.items()
        )
        settings = self.settings
        said = [
            f"exits: {where} (a choice: the paper does not say where)",
            f"modalities run in the order {', '.join(self.order)} (order={settings.order}); the rest of an encoder runs"
            + (" before the next one" if settings.rest == "next" else " just before the fusion"),
            f"exit probabilities p={write(settings.p)}: an input, which the paper does not give",
            f"the linear exits have {100 * self.overhead:.2g} % of the network's MACs"
            + ("" if self.overhead < LARGEST_SHARE else ", more than the paper's 0.02 %"),
        ]
        if self.base.batch > 1:
            said.append(
                f"a batch of {self.base.batch} runs on until its last sample may leave; samples leave independently"
                if settings.batch == "worst"
                else f"each of the {self.base.batch} samples leaves the batch alone, and cost shrinks with it"
            )
        return tuple(said)

    def reach(self, order: Sequence[str] | None = None) -> Reach:
        """The probability that each segment runs, in the order in which they do."""
        chosen = self.order if order is None else tuple(order)
        probability = {item.name: item.p for item in self.branches(dict.fromkeys(self.segments, 0.0))}
        leave = [
            (item.name, probability[item.modality][item.exit.number - 1] if item.exit else 0.0)
            for item in self.in_order(chosen)
        ]
        return reached(leave, self.batch_for_leaving)

    def segment_graph(self, name: str) -> LayerGraph:
        """One segment; what comes from outside becomes an input."""
        return self._part([self.segments[name]], f"{self.name}#{name}")

    def paths(self) -> list[tuple[str, tuple[Segment, ...]]]:
        """(where it ends, its segments) for each exit, in order, and for the fusion."""
        found = []
        run: tuple[Segment, ...] = ()
        for segment in self.in_order():
            run = (*run, segment)
            if segment.exit is not None or segment is self.behind:
                found.append((segment.name, run))
        return found

    def _part(self, segments: Iterable[Segment], name: str) -> LayerGraph:
        kept = {layer for segment in segments for layer in segment.layers}
        return replace(self.graph.where(lambda layer: layer.name in kept), model=name)

    def workload(self) -> Workload:
        """Segments with the probability that they run, or paths with the probability that they are taken.

        Both have the same expected MACs. A part that never runs is left out.
        """
        found = self.reach()
        if self.settings.parts == "paths":
            ends = leaving(found, {item.name for item in self.in_order() if item.exit or item is self.behind})
            parts = [
                Part(self._part(segments, f"{self.name}#{end}"), f"leaves at {end}", ends[end])
                for end, segments in self.paths()
                if ends[end]
            ]
        else:
            parts = [
                Part(self.segment_graph(item.name), item.name, found[item.name])
                for item in self.in_order()
                if found[item.name]
            ]
        return Workload(self.name, tuple(parts))


def with_exits(graph: LayerGraph, settings: ExitSettings | None = None) -> ExitNetwork:
    """``graph`` with exits in its encoders.

    Raises ExitError when the network or one of its encoders cannot have them; see
    :func:`mmworkload.exits.encoders.find_encoders`.
    """
    settings = settings or ExitSettings()
    encoders = find_encoders(graph)
    classes = settings.classes or encoders.classes
    if classes < 2:
        raise ExitError(
            f"{graph.model}: gives one number for each sample; say how many classes an exit tells apart"
            f" ({SUFFIX}?classes=2)"
        )
    known = [modality for modality, layers in encoders.layers.items() if layers]
    for name in ("at", "p", "accuracy"):
        given = getattr(settings, name)
        if isinstance(given, Mapping) and not set(given) <= set(known):
            raise ExitError(
                f"{graph.model}: {name}={write(given)}: the modalities with an encoder are {', '.join(known)}"
            )
    builder = _Builder(graph, settings, encoders, classes)
    segments = {modality: builder.encoder(modality) for modality in known}
    behind = Segment(FUSION, "", tuple(layer.name for layer in encoders.behind))
    builder.layers.update((layer.name, layer) for layer in encoders.behind)
    if not any(item.exit for own in segments.values() for item in own):
        raise ExitError(f"{graph.model}: no encoder has a place for an exit")
    network = ExitNetwork(graph, settings, builder.layers, builder.tensors, segments, behind, classes)
    network.branches(dict.fromkeys(network.segments, 0.0))
    return network


@dataclass
class _Builder:
    """Collects layers and tensors while encoders are cut into segments."""

    graph: LayerGraph
    settings: ExitSettings
    encoders: Encoders
    classes: int

    def __post_init__(self) -> None:
        self.layers: dict[str, Layer] = {}
        self.tensors: dict[str, Tensor] = dict(self.graph.tensors)

    def encoder(self, modality: str) -> tuple[Segment, ...]:
        found = places(self.graph, self.encoders, modality)
        recurrent = recurrence(self.encoders.layers[modality])
        place = self.settings.place
        by_steps = place == "steps" or (
            place == "auto" and len(found) < self.settings.per_modality and recurrent is not None
        )
        if by_steps:
            if recurrent is None:
                raise ExitError(f"{self.graph.model}: the {modality} encoder is no recurrence; place exits by blocks")
            return self._in_time(modality, recurrent)
        return self._in_depth(modality, found)

    def _in_depth(self, modality: str, found: tuple[Place, ...]) -> tuple[Segment, ...]:
        wanted = self.settings.at.get(modality)
        if wanted is None:
            count = self.settings.per_modality
            by_share = self.settings.place == "macs"
            wanted = by_macs([item.macs for item in found], count) if by_share else by_count(len(found), count)
        elif wanted[-1] > len(found):
            raise ExitError(
                f"{self.graph.model}: at={modality}:{wanted[-1]}: the encoder has {len(found)} places for exits"
            )
        layers = self.encoders.layers[modality]
        segments = []
        first = 0
        for number, at in enumerate(wanted, 1):
            place = found[at - 1]
            tensor = self.graph.tensors[place.tensor]
            where = f"block {at} of {len(found)}"
            segments.append(self._segment(modality, number, where, layers[first : place.index + 1], tensor))
            first = place.index + 1
        return (*segments, *self._rest(modality, layers[first:]))

    def _in_time(self, modality: str, recurrent: Layer) -> tuple[Segment, ...]:
        steps = steps_of(self.graph, recurrent)
        wanted = self.settings.at.get(modality) or by_count(steps, min(self.settings.per_modality, steps - 1))
        parts = cut(self.graph, recurrent, wanted)
        self.tensors.update(parts.tensors)
        layers = self.encoders.layers[modality]
        at = layers.index(recurrent)
        segments = []
        for number, (end, state) in enumerate(zip(wanted, parts.states, strict=False), 1):
            own = [parts.layers[number - 1]]
            own = [*layers[:at], *own] if number == 1 else own
            where = f"step {end} of {steps}"
            segments.append(self._segment(modality, number, where, own, parts.tensors[state], recurrent))
        return (*segments, *self._rest(modality, [parts.layers[-1], *layers[at + 1 :]]))

    def _segment(
        self,
        modality: str,
        number: int,
        where: str,
        layers: Sequence[Layer],
        tensor: Tensor,
        producer: Layer | None = None,
    ) -> Segment:
        made = heads.head(self.graph, tensor, modality, number, self.classes, producer)
        self.tensors.update(made.tensors)
        own = (*layers, *made.layers)
        self.layers.update((layer.name, layer) for layer in own)
        end = Exit(
            modality,
            number,
            where,
            made.width,
            sum(layer.macs for layer in made.layers),
            sum(item.elements for item in made.tensors.values() if item.kind == "weight"),
            made.scores,
            made.entropy,
        )
        return Segment(f"{modality}/{number}", modality, tuple(layer.name for layer in own), end)

    def _rest(self, modality: str, layers: Sequence[Layer]) -> tuple[Segment, ...]:
        self.layers.update((layer.name, layer) for layer in layers)
        name = f"{modality}/{REST}"
        return (Segment(name, modality, tuple(layer.name for layer in layers)),) if layers else ()


def _each(value: PerExit, name: str, modality: str, exits: int) -> tuple[float, ...]:
    """The values of one modality's exits."""
    if not isinstance(value, Mapping):
        return (value,) * exits
    given = value.get(modality, (0.0,) * exits)
    if len(given) != exits:
        raise ExitError(f"{name}={write(value)}: {modality} has {exits} exits and {len(given)} values")
    return tuple(given)
