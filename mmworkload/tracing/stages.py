"""Which stage and modality a layer belongs to: the workload's rules first, then data flow. Free of torch.

Data flow: a layer that one modality alone reaches is in that modality's encoder. So is a later layer of a module that
began with one modality and neither joins modalities nor mixes joined elements itself: a branch that others feed
between its blocks. Of the rest, what an operator that joins modalities or mixes joined elements (attention, a
recurrence over a sequence, a product of two activations) still depends on is fusion, to the end of the module round the
last such operator; what none depends on is the head. A uni-modal model is all encoder except what rules name.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmworkload.graph import InputInfo
from mmworkload.layer import Layer, Tensor
from mmworkload.straggler import encoded

RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
MIXING = RECURRENT | {"attention"}


def assign(
    layers: Sequence[Layer],
    tensors: Mapping[str, Tensor],
    inputs: Sequence[InputInfo],
    rules: Mapping[str, str],
) -> tuple[Layer, ...]:
    """The layers with ``stage``, ``modality`` and ``rule`` set.

    ``rules`` maps a glob over module path or layer name to a stage; the first that matches decides. Only inputs whose
    role is ``modality`` propagate; masks, positions and states follow what they meet.
    """
    carried = modalities(layers, inputs)
    nothing: frozenset[str] = frozenset()
    reach = [nothing.union(*(carried.get(tensor, nothing) for tensor, _ in layer.reads)) for layer in layers]
    ruled = [_rule(layer, rules) for layer in layers]
    branches = _branches(layers, reach, _mixers(layers, reach, carried))
    # What leaves a branch is that branch's: the last join of two branches is one, whatever they exchanged before.
    homes = modalities(layers, inputs, {index: modality for index, (modality, _) in branches.items()})
    mixers = {index: what for index, what in _mixers(layers, reach, homes).items() if index not in branches}
    fusion = _fusion(layers, reach, mixers)
    stages: list[str] = []
    reasons: list[str] = []
    for index, found in enumerate(reach):
        rule = ruled[index]
        if rule is not None:
            stage, reason = rules[rule], f"rule {rule}"
        elif len(found) == 1:
            (name,) = found
            stage, reason = f"encoder/{name}", f"only {name} reaches it"
        elif not found:
            stage, reason = "", ""
        elif index in branches:
            name, module = branches[index]
            stage, reason = f"encoder/{name}", f"{module} is {name}'s alone and mixes nothing"
        elif index in fusion:
            stage, reason = "fusion", fusion[index]
        else:
            stage, reason = "head", "no operator that mixes modalities depends on it"
        stages.append(stage)
        reasons.append(reason)
    _adopt(layers, stages, reasons)
    result = []
    for layer, stage, reason, found in zip(layers, stages, reasons, reach, strict=True):
        modality = encoded(stage) or (next(iter(found)) if len(found) == 1 else "")
        result.append(replace(layer, stage=stage, modality=modality, rule=reason))
    return tuple(result)


def modalities(
    layers: Sequence[Layer], inputs: Sequence[InputInfo], homes: Mapping[int, str] | None = None
) -> dict[str, frozenset[str]]:
    """For each tensor that a modality reaches, the modalities that do; what a layer of ``homes``, by index, writes is
    that modality's alone."""
    carried = {item.tensor: frozenset({item.modality}) for item in inputs if item.role == "modality"}
    for index, layer in enumerate(layers):
        here = frozenset().union(*(carried.get(tensor, frozenset()) for tensor, _ in layer.reads))
        if homes and index in homes:
            here = frozenset({homes[index]})
        if here:
            carried.update((tensor, here) for tensor, _ in layer.writes)
    return carried


def _rule(layer: Layer, rules: Mapping[str, str]) -> str | None:
    for glob in rules:
        # A rule for a module holds for all inside it.
        if any(fnmatch.fnmatchcase(name, glob) for name in (layer.name, *_prefixes(layer.module))):
            return glob
    return None


def _mixers(
    layers: Sequence[Layer], reach: Sequence[frozenset[str]], carried: Mapping[str, frozenset[str]]
) -> dict[int, str]:
    """Index of every layer that joins modalities or mixes joined elements, with which of the two."""
    found: dict[int, str] = {}
    for index, (layer, here) in enumerate(zip(layers, reach, strict=True)):
        if len(here) < 2:
            continue
        if len({carried[tensor] for tensor, _ in layer.reads if tensor in carried}) > 1:
            found[index] = "joins modalities"
        elif layer.op in MIXING or _contracts_activations(layer):
            found[index] = "mixes joined elements"
    return found


def _branches(
    layers: Sequence[Layer], reach: Sequence[frozenset[str]], mixers: Mapping[int, str]
) -> dict[int, tuple[str, str]]:
    """Index of every layer that others' modalities reach inside a branch of one modality, with modality and module."""
    own: dict[str, set[str]] = {}
    mixed: set[str] = set()
    for index, (layer, here) in enumerate(zip(layers, reach, strict=True)):
        for prefix in _prefixes(layer.module):
            if len(here) == 1:
                own.setdefault(prefix, set()).update(here)
            if index in mixers:
                mixed.add(prefix)
    found: dict[int, tuple[str, str]] = {}
    for index, (layer, here) in enumerate(zip(layers, reach, strict=True)):
        homes = [prefix for prefix in _prefixes(layer.module) if len(own.get(prefix, ())) == 1 and prefix not in mixed]
        if len(here) > 1 and homes:
            (modality,) = own[homes[0]]
            found[index] = (modality, homes[0])
    return found


def _fusion(layers: Sequence[Layer], reach: Sequence[frozenset[str]], mixers: Mapping[int, str]) -> dict[int, str]:
    """Index of every layer of the fusion stage, with the reason."""
    # Module prefixes inside which no layer sees one modality alone.
    mixed_only: dict[str, bool] = {}
    for layer, here in zip(layers, reach, strict=True):
        for prefix in _prefixes(layer.module):
            mixed_only[prefix] = mixed_only.get(prefix, True) and len(here) != 1
    # Which mixing operator, if any, still depends on a tensor: the next one downstream.
    needed: dict[str, int] = {}
    found: dict[int, str] = {}
    blocks: dict[str, int] = {}
    for index in range(len(layers) - 1, -1, -1):
        layer = layers[index]
        after = next((needed[tensor] for tensor, _ in layer.writes if tensor in needed), None)
        if index in mixers and after is None:
            # Nothing mixes behind it: its module ends the fusion.
            block = next((prefix for prefix in _prefixes(layer.module) if mixed_only[prefix]), "")
            if block:
                blocks.setdefault(block, index)
        mixer = index if index in mixers else after
        if mixer is None:
            continue
        if index in mixers:
            found[index] = mixers[index]
        elif len(reach[index]) > 1:
            found[index] = f"{layers[mixer].name}, which {mixers[mixer]}, depends on it"
        needed.update((tensor, mixer) for tensor, _ in layer.reads)
    for index, layer in enumerate(layers):
        block = next((prefix for prefix in _prefixes(layer.module) if prefix in blocks), "")
        if block and len(reach[index]) > 1 and index not in found:
            last = blocks[block]
            found[index] = f"in {block} with {layers[last].name}, which {mixers[last]}"
    return found


def _contracts_activations(layer: Layer) -> bool:
    """Attention written out: a product of two activations."""
    return any(all(operand.role != "weight" for operand in work.problem.operands) for work in layer.work)


def _prefixes(module: str) -> list[str]:
    """``a.b.c`` gives ``a``, ``a.b``, ``a.b.c``: outermost first; the root gives nothing."""
    parts = module.split(".") if module else []
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _adopt(layers: Sequence[Layer], stages: list[str], reasons: list[str]) -> None:
    """A layer that no modality reaches (a mask, positions, an initial state) joins the first layer that reads it."""
    readers: dict[str, list[int]] = {}
    for index, layer in enumerate(layers):
        for tensor, _ in layer.reads:
            readers.setdefault(tensor, []).append(index)
    for index in range(len(layers) - 1, -1, -1):
        if stages[index]:
            continue
        users = [user for tensor, _ in layers[index].writes for user in readers.get(tensor, []) if stages[user]]
        if users:
            stages[index], reasons[index] = stages[min(users)], f"feeds {layers[min(users)].name}"
    # What is still without a stage feeds nothing: it stays with the layer before it.
    for index in range(len(layers)):
        if not stages[index]:
            stages[index] = stages[index - 1] if index and stages[index - 1] else "head"
            reasons[index] = "feeds nothing; it stays with the layer before it"
