"""Which stage and modality a layer belongs to: the rules of the workload or user first, then data flow. Free of torch.

Data flow, by the module tree and by which modalities reach a layer:

1. The network itself, and every module that reads a raw input, is cut at its children.
2. Any other module in which modalities are joined is fusion as a whole, except submodules that one modality alone
   reaches and that combine positions themselves (attention, convolution, recurrence): these are its encoder.
3. Outside such modules a layer that one modality alone reaches is in that modality's encoder.
4. What several reach is fusion as long as something that joins modalities or combines positions depends on it, and to
   the end of the outermost module round the last such operator that holds no layer of one modality alone.
5. What is then left is the head, ``head/NAME`` where several outputs have layers with MACs of their own.

A network of one modality is all encoder except what rules name.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from mmworkload.errors import UnknownNameError
from mmworkload.graph import InputInfo
from mmworkload.layer import Layer, Tensor
from mmworkload.straggler import encoded

RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outline:
    """What data flow needs to know of a network beside its layers.

    ``outputs`` are (name, tensor) pairs of what the network returns; ``containers`` the paths of modules that only hold
    others (a ``ModuleList``), which are no modules of their own.
    """

    outputs: tuple[tuple[str, str], ...] = ()
    containers: frozenset[str] = _NOBODY


def assign(
    layers: Sequence[Layer],
    tensors: Mapping[str, Tensor],
    inputs: Sequence[InputInfo],
    rules: Mapping[str, str],
    outline: Outline | None = None,
) -> tuple[Layer, ...]:
    """The layers with ``stage``, ``modality`` and ``rule`` set.

    ``rules`` maps a glob over module path or layer name to a stage; the first that matches decides. Only inputs whose
    role is ``modality`` propagate; masks, positions and states follow what they meet.
    """
    outline = outline or Outline()
    flow = _Flow(tuple(layers), tensors, tuple(inputs), outline.containers)
    by_rule = [_rule(layer, rules) for layer in layers]
    found = [
        (rules[rule], f"rule {rule}") if rule is not None else flow.stage(index) for index, rule in enumerate(by_rule)
    ]
    _name_heads(layers, by_rule, found, outline)
    _adopt(layers, found)
    result = []
    for layer, (stage, reason), reach in zip(layers, found, flow.reach, strict=True):
        modality = encoded(stage) or (next(iter(reach)) if len(reach) == 1 else "")
        result.append(replace(layer, stage=stage, modality=modality, rule=reason))
    return tuple(result)


def modalities(layers: Sequence[Layer], inputs: Sequence[InputInfo]) -> dict[str, frozenset[str]]:
    """For each tensor that a modality reaches, the modalities that do."""
    carried = {item.tensor: frozenset({item.modality}) for item in inputs if item.role == "modality"}
    for layer in layers:
        here = _reaching(layer, carried)
        if here:
            carried.update((tensor, here) for tensor, _ in layer.writes)
    return carried


def require_rules(layers: Sequence[Layer], inputs: Sequence[InputInfo], rules: Mapping[str, str]) -> None:
    """Refuses stage rules of a user that do nothing.

    Raises UnknownNameError, with near module paths, for a glob that matches no module and no layer, and for the
    encoder of a modality that no input has.
    """
    known = list(dict.fromkeys(item.modality for item in inputs if item.role == "modality"))
    for glob, stage in rules.items():
        if encoded(stage) and encoded(stage) not in known:
            raise UnknownNameError(f"modality in the stage rule {stage}={glob}", encoded(stage), known)
        if all(_rule(layer, {glob: stage}) is None for layer in layers):
            paths = dict.fromkeys(path for layer in layers for path in prefixes(layer.module))
            bare = glob.rstrip(".*")
            near = [path for path in paths if bare and path.rpartition(".")[2] == bare.rpartition(".")[2]]
            raise UnknownNameError(f"module in the stage rule {stage}={glob}", bare, near or paths)


def auxiliary(
    layers: Sequence[Layer], tensors: Mapping[str, Tensor], inputs: Sequence[InputInfo]
) -> tuple[InputInfo, ...]:
    """The inputs, with the role ``auxiliary`` for those that say how to treat a modality and are none themselves.

    Such are whole numbers or booleans (lengths, masks, the edges of a graph) that meet a modality with no weights
    between. What an embedding looks up has weights; where lengths first meet the tokens of a sequence, the larger of
    the two is what is looked up.
    """
    asked = {item.modality for item in inputs if item.role == "modality" and _discrete(item.dtype)}
    asked -= {item.modality for item in inputs if item.role == "modality" and not _discrete(item.dtype)}
    size = {item.modality: tensors[item.tensor].elements for item in inputs if item.tensor in tensors}
    carried = modalities(layers, inputs)
    weighted: set[str] = set()
    merged: set[str] = set()
    for layer in layers:
        reach = _reaching(layer, carried)
        if len(reach) > 1:
            merged |= reach
        here = reach & asked
        weights = any(tensors[tensor].kind == "weight" for tensor, _ in layer.reads if tensor in tensors)
        if here and weights and (reach <= asked or layer.op.startswith("embedding")):
            weighted.add(max(here, key=lambda name: size.get(name, 0)))
    found = (asked - weighted) & merged
    if found >= {item.modality for item in inputs if item.role == "modality"}:
        found -= {max(found, key=lambda name: size.get(name, 0))} if found else found
    return tuple(
        replace(item, role="auxiliary") if item.role == "modality" and item.modality in found else item
        for item in inputs
    )


def cut_modules(layers: Iterable[Layer]) -> dict[str, list[str]]:
    """The modules whose layers belong to several stages, outermost first, with these stages in order of first use."""
    found: dict[str, dict[str, None]] = {}
    for layer in layers:
        for prefix in prefixes(layer.module):
            found.setdefault(prefix, {})[layer.stage] = None
    return {prefix: list(stages) for prefix, stages in found.items() if len(stages) > 1}


def prefixes(module: str) -> list[str]:
    """``a.b.c`` gives ``a``, ``a.b``, ``a.b.c``: outermost first; the root gives nothing."""
    parts = module.split(".") if module else []
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def combines_positions(layer: Layer) -> bool:
    """Whether an output element of the layer depends on several positions: attention (a product of two activations,
    too), recurrence, or a convolution whose kernel has more than one tap."""
    if layer.op == "attention" or layer.op in RECURRENT:
        return True
    for work in layer.work:
        extents = dict(work.problem.dims)
        if "conv" in layer.op and any(extents.get(tap, 1) > 1 for tap in "TRS"):
            return True
        if "conv" not in layer.op and all(operand.role != "weight" for operand in work.problem.operands):
            return True
    return False


@dataclass(frozen=True)
class _Flow:
    """What data flow says of every layer, by its index."""

    layers: tuple[Layer, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[InputInfo, ...]
    containers: frozenset[str]

    @cached_property
    def carried(self) -> dict[str, frozenset[str]]:
        return modalities(self.layers, self.inputs)

    @cached_property
    def reach(self) -> list[frozenset[str]]:
        """The modalities that reach each layer."""
        return [_reaching(layer, self.carried) for layer in self.layers]

    def stage(self, index: int) -> tuple[str, str]:
        """Stage and reason; both empty where no modality reaches the layer."""
        reach = self.reach[index]
        if index in self.fused:
            module = self.fused[index]
            alone = self.alone(index, module)
            if alone:
                return f"encoder/{next(iter(reach))}", f"{alone} in {module} is of {next(iter(reach))} alone"
            return "fusion", f"in {module}, in which modalities are joined"
        if not reach:
            return "", ""
        if len(reach) == 1:
            return f"encoder/{next(iter(reach))}", f"only {next(iter(reach))} reaches it"
        if index in self.merged:
            return "fusion", self.merged[index]
        return "head", "nothing that joins modalities or combines positions depends on it"

    @cached_property
    def modules(self) -> dict[str, _Module]:
        """What is known of every module, containers apart."""
        found: dict[str, _Module] = {}
        raw = self._raw()
        for index, (layer, reach) in enumerate(zip(self.layers, self.reach, strict=True)):
            reads_raw = any(tensor in raw for tensor, _ in layer.reads)
            for prefix in self.around(layer):
                module = found.setdefault(prefix, _Module())
                module.reach.add(reach)
                module.reads_raw |= reads_raw
                module.joins |= self.joins(index)
                module.combines |= combines_positions(layer)
        return found

    def around(self, layer: Layer) -> Iterator[str]:
        """The modules round a layer, outermost first, containers apart."""
        return (prefix for prefix in prefixes(layer.module) if prefix not in self.containers)

    def joins(self, index: int) -> bool:
        """Whether the layer reads what different modalities reach."""
        layer = self.layers[index]
        return len({self.carried[tensor] for tensor, _ in layer.reads if tensor in self.carried}) > 1

    def _raw(self) -> set[str]:
        """The raw inputs, and what was made of one modality's without weights (a mean subtracted, axes exchanged)."""
        raw = {item.tensor for item in self.inputs if item.role == "modality"}
        for layer, reach in zip(self.layers, self.reach, strict=True):
            kinds = {self.tensors[tensor].kind for tensor, _ in layer.reads if tensor in self.tensors}
            reached = [tensor for tensor, _ in layer.reads if tensor in self.carried]
            if len(reach) == 1 and raw.issuperset(reached) and "weight" not in kinds and not layer.work:
                raw.update(tensor for tensor, _ in layer.writes)
        return raw

    @cached_property
    def fused(self) -> dict[int, str]:
        """Index of every layer in a module that is fusion as a whole, with that module."""
        found = {}
        for index, layer in enumerate(self.layers):
            for prefix in self.around(layer):
                module = self.modules[prefix]
                if module.joins and not module.reads_raw:
                    found[index] = prefix
                    break
        return found

    def alone(self, index: int, fused: str) -> str:
        """The outermost submodule of ``fused`` round the layer that is one modality's alone and combines positions."""
        if len(self.reach[index]) != 1:
            return ""
        for prefix in self.around(self.layers[index]):
            module = self.modules[prefix]
            if prefix.startswith(f"{fused}.") and module.combines and module.reach <= {self.reach[index], _NOBODY}:
                return prefix
        return ""

    @cached_property
    def merged(self) -> dict[int, str]:
        """Index of every layer that several modalities reach and that is fusion, with the reason."""
        # The operator that makes fusion of what it depends on: the next one downstream, for each tensor.
        needed: dict[str, int] = {}
        found: dict[int, str] = {}
        ends: dict[str, int] = {}
        for index in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[index]
            several = len(self.reach[index]) > 1
            after = next((needed[tensor] for tensor, _ in layer.writes if tensor in needed), None)
            own = several and (index in self.fused or self.joins(index) or combines_positions(layer))
            if own and after is None and index not in self.fused:
                # Nothing behind it: the module round it ends the fusion.
                block = next((prefix for prefix in self.around(layer) if self._merged_alone(prefix)), "")
                if block:
                    ends.setdefault(block, index)
            reason = index if own else after
            if reason is None:
                continue
            if own:
                found[index] = self._why(index)
            elif several:
                found[index] = f"{self.layers[reason].name}, which {self._why(reason)}, depends on it"
            needed.update((tensor, reason) for tensor, _ in layer.reads)
        for index, layer in enumerate(self.layers):
            block = next((prefix for prefix in self.around(layer) if prefix in ends), "")
            if block and len(self.reach[index]) > 1:
                last = ends[block]
                found.setdefault(index, f"in {block} with {self.layers[last].name}, which {self._why(last)}")
        return found

    def _merged_alone(self, prefix: str) -> bool:
        """Whether no layer of the module is of one modality alone and none reads a raw input."""
        module = self.modules[prefix]
        return not module.reads_raw and all(len(reach) != 1 for reach in module.reach)

    def _why(self, index: int) -> str:
        if index in self.fused:
            return f"is in {self.fused[index]}"
        return "joins modalities" if self.joins(index) else "combines positions"


@dataclass
class _Module:
    """What a module's layers are reached by, and whether one of them reads a raw input, joins, combines positions."""

    reach: set[frozenset[str]] = field(default_factory=set)
    reads_raw: bool = False
    joins: bool = False
    combines: bool = False


def _reaching(layer: Layer, carried: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The modalities that reach the layer, by those that reach each tensor."""
    return _NOBODY.union(*(carried.get(tensor, _NOBODY) for tensor, _ in layer.reads))


def _discrete(dtype: str) -> bool:
    return dtype.removeprefix("torch.").startswith(("int", "uint", "bool"))


def _rule(layer: Layer, rules: Mapping[str, str]) -> str | None:
    for glob in rules:
        # A rule for a module holds for all inside it.
        if any(fnmatch.fnmatchcase(name, glob) for name in (layer.name, *prefixes(layer.module))):
            return glob
    return None


def _name_heads(
    layers: Sequence[Layer], by_rule: Sequence[str | None], found: list[tuple[str, str]], outline: Outline
) -> None:
    """Gives heads the names of their outputs, where several outputs have layers with MACs of their own: what only
    scales or splits a result is no head."""
    serves: dict[str, frozenset[str]] = {}
    for name, tensor in outline.outputs:
        serves[tensor] = serves.get(tensor, _NOBODY) | {name}
    own: dict[str, list[int]] = {}
    for index in range(len(layers) - 1, -1, -1):
        layer = layers[index]
        outputs = _NOBODY.union(*(serves.get(tensor, _NOBODY) for tensor, _ in layer.writes))
        for tensor, _ in layer.reads:
            serves[tensor] = serves.get(tensor, _NOBODY) | outputs
        if found[index][0] == "head" and by_rule[index] is None and len(outputs) == 1:
            own.setdefault(next(iter(outputs)), []).insert(0, index)
    own = {output: members for output, members in own.items() if any(layers[index].work for index in members)}
    if len(own) < 2:
        return
    taken: set[str] = set()
    for output, members in sorted(own.items(), key=lambda item: item[1]):
        name = _plain(output) or _head_name([layers[index].module for index in members]) or str(len(taken))
        while name in taken:
            name += "-2"
        taken.add(name)
        for index in members:
            found[index] = (f"head/{name}", f"{found[index][1]}, and only the output {name} does")


def _head_name(modules: Sequence[str]) -> str:
    """A name for a head from the modules of its layers: ``head_action``, ``heads.action.0`` and ``action_head`` give
    ``action``; empty where they say nothing."""
    paths = [prefixes(module) for module in modules]
    common = [prefix for prefix in paths[0] if all(prefix in path for path in paths)] if paths else []
    for part in reversed(common[-1].split(".") if common else []):
        name = re.sub(r"^heads?_?|_?heads?$", "", part)
        if name and not name.isdigit():
            return _plain(name)
    numbers = re.findall(r"\d+", common[-1]) if common else []
    return numbers[0] if numbers else ""


def _plain(name: str) -> str:
    """The name as a stage may have it; empty for one that is a number only."""
    return "" if name.isdigit() else re.sub(r"[^\w-]+", "-", name).strip("-")


def _adopt(layers: Sequence[Layer], found: list[tuple[str, str]]) -> None:
    """A layer that no modality reaches (a mask, positions, an initial state) joins the first layer that reads it."""
    readers: dict[str, list[int]] = {}
    for index, layer in enumerate(layers):
        for tensor, _ in layer.reads:
            readers.setdefault(tensor, []).append(index)
    for index in range(len(layers) - 1, -1, -1):
        if found[index][0]:
            continue
        users = [user for tensor, _ in layers[index].writes for user in readers.get(tensor, []) if found[user][0]]
        if users:
            found[index] = (found[min(users)][0], f"feeds {layers[min(users)].name}")
    # What is still without a stage feeds nothing: it stays with the layer before it.
    for index in range(len(layers)):
        if not found[index][0]:
            before = found[index - 1][0] if index else ""
            found[index] = (before or "head", "feeds nothing; it stays with the layer before it")
