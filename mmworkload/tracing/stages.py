"""Which stage and modality a layer belongs to: the workload's rules first, then data flow. Free of torch.

Data flow: a layer that one modality alone reaches is in that modality's encoder. Fusion runs from the first merge to
the end of the module that holds the last operator mixing merged elements (attention, recurrence, merge). What
follows is the head. A uni-modal model is all encoder except what rules name.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmworkload.graph import InputInfo
from mmworkload.layer import Layer, Tensor

RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
MIXING = RECURRENT | {f"{kind}_cell" for kind in RECURRENT} | {"attention"}


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
    fusion = _fusion(layers, reach, carried)
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
        elif index in fusion:
            stage, reason = "fusion", fusion[index]
        else:
            stage, reason = "head", "follows the last operator that mixes modalities"
        stages.append(stage)
        reasons.append(reason)
    _adopt(layers, stages, reasons)
    result = []
    for layer, stage, reason, found in zip(layers, stages, reasons, reach, strict=True):
        own = stage.removeprefix("encoder/") if stage.startswith("encoder/") else ""
        modality = own or (next(iter(found)) if len(found) == 1 else "")
        result.append(replace(layer, stage=stage, modality=modality, rule=reason))
    return tuple(result)


def modalities(layers: Sequence[Layer], inputs: Sequence[InputInfo]) -> dict[str, frozenset[str]]:
    """For each tensor that a modality reaches, the modalities that do."""
    carried = {item.tensor: frozenset({item.modality}) for item in inputs if item.role == "modality"}
    for layer in layers:
        here = frozenset().union(*(carried.get(tensor, frozenset()) for tensor, _ in layer.reads))
        if here:
            carried.update((tensor, here) for tensor, _ in layer.writes)
    return carried


def _rule(layer: Layer, rules: Mapping[str, str]) -> str | None:
    for glob in rules:
        # A rule for a module holds for all inside it.
        if any(fnmatch.fnmatchcase(name, glob) for name in (layer.name, *_prefixes(layer.module))):
            return glob
    return None


def _fusion(
    layers: Sequence[Layer], reach: Sequence[frozenset[str]], carried: Mapping[str, frozenset[str]]
) -> dict[int, str]:
    """Index of every layer of the fusion stage, with the reason."""
    # Module prefixes inside which no layer sees one modality alone.
    mixed_only: dict[str, bool] = {}
    for layer, found in zip(layers, reach, strict=True):
        for prefix in _prefixes(layer.module):
            mixed_only[prefix] = mixed_only.get(prefix, True) and len(found) != 1
    end, block, why = -1, "", ""
    for index, (layer, found) in enumerate(zip(layers, reach, strict=True)):
        if len(found) < 2:
            continue
        joins = any(carried.get(tensor, found) != found for tensor, _ in layer.reads)
        if joins or layer.op in MIXING or _contracts_activations(layer):
            end = index
            block = next((prefix for prefix in _prefixes(layer.module) if mixed_only[prefix]), "")
            why = f"{layer.name}, the last that {'joins modalities' if joins else 'mixes joined elements'}"
    return {
        index: f"up to the end of {block or 'the operator'} around {why}"
        for index, (layer, found) in enumerate(zip(layers, reach, strict=True))
        if len(found) > 1 and (index <= end or (block and block in _prefixes(layer.module)))
    }


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
