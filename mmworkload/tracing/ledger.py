"""The ledger of a trace: every operator call is entered once, as a layer, as ignored, or as unknown.

Both routes write it: the walk over an exported program and the recorder. Fake tensors keep aliasing, so a view is
recognised by its storage, and with a last-writer table per storage a write through a view is a new version of the
tensor behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mmworkload.errors import ModelError
from mmworkload.graph import Coverage, InputInfo
from mmworkload.layer import Layer, Tensor, TensorKind
from mmworkload.tracing.call import Call, Lowered, Value, find, plain
from mmworkload.tracing.ignored import CONSTANT, IGNORED, SAME

if TYPE_CHECKING:
    import torch


@dataclass
class _Step:
    """One call that became a layer; the name comes when all calls are known."""

    key: str
    module: str
    call_index: str
    operator: str
    lowered: Lowered
    reads: dict[str, int]
    tokens: list[str]
    write_bytes: list[int]
    unknown: bool
    dead: bool = True


@dataclass(frozen=True)
class Walked:
    """A closed ledger: layers without stages, tensors, and which call became which layer.

    ``outputs`` are the tensors that the model returned, with the name under which it did (``logits``; a number in a
    tuple), each tensor once a name.
    """

    layers: tuple[Layer, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[InputInfo, ...]
    outputs: tuple[tuple[str, str], ...]
    coverage: tuple[Coverage, ...]
    layer_of_call: dict[str, str]


@dataclass
class Ledger:
    """Tensors and calls of one trace of the model called ``name``.

    First declare weights, constants and inputs (:meth:`declare`), then :meth:`enter` every call in program order, then
    :meth:`close`. The fake tensors must stay alive meanwhile: their storages are told apart by address.
    """

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    latest: dict[int, str] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)
    ignored: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    step_of_call: dict[str, int] = field(default_factory=dict)
    versions: int = 0

    def value(self, fake: torch.Tensor) -> Value:
        """The tensor argument behind a fake tensor: a view of the latest version of its storage."""
        tensor = self.latest.get(storage_of(fake), "")
        shape, unique = _shape(fake, self.name)
        is_weight = tensor in self.tensors and self.tensors[tensor].kind == "weight"
        return Value(tensor, shape, _dtype(fake), _bits(fake), unique, is_weight)

    def new_tensor(self, token: str, fake: torch.Tensor, kind: TensorKind, storage: str) -> None:
        shape, _ = _shape(fake, self.name)
        self.tensors[token] = Tensor(token, shape, _dtype(fake), _bits(fake), kind, storage)
        self.latest[storage_of(fake)] = token

    def declare(self, token: str, fake: torch.Tensor, kind: TensorKind) -> None:
        """A weight, constant or input; of tensors that share memory the first stands for all."""
        if storage_of(fake) not in self.latest:
            self.new_tensor(token, fake, kind, token)

    # --- calls --------------------------------------------------------------------------------------------------

    def enter(
        self,
        key: str,
        target: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        result: Any,
        module: str,
        call_index: str,
    ) -> None:
        """One call of the operator ``target`` on fake tensors and plain values, which gave ``result``.

        ``module`` is the path of the innermost module, ``call_index`` its suffix when the module was called before.
        """
        name = operator_name(target)
        outputs = list(tensors_in(result))
        call, mutated = self.call(target, name, args, kwargs, outputs)
        fresh = [fake for fake in outputs if storage_of(fake) not in self.latest]
        reason = IGNORED.get(name) or IGNORED.get(name.rstrip("_"))
        if call.tensors and (reason == CONSTANT or (reason == SAME and call.get("train") is False)):
            # Dropout in inference is its input; older torch gives the fake result a storage of its own. A constant of
            # one element is copied by tracing alone.
            self.latest.update((storage_of(fake), call.tensors[0].tensor) for fake in fresh)
            fresh = []
        # A mutating schema in this table (detach_, squeeze_) changes metadata only, except dropout_ in training.
        if reason and not fresh and not (mutated and call.get("train")):
            self.ignored[(name, module, reason)] += 1
            return
        if not outputs and not mutated:
            self.ignored[(name, module, "has no tensor output")] += 1
            return
        lowering = find(name)
        lowered = lowering(call) if lowering else Lowered(f"unknown:{name}", "Other")
        self.step_of_call[key] = len(self.steps)
        self.record(key, name, module, call_index, call, lowered, outputs, mutated, unknown=lowering is None)

    def call(
        self, target: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: list[torch.Tensor]
    ) -> tuple[Call, list[torch.Tensor]]:
        """The call with named arguments, and the tensors that its schema writes."""
        schema = getattr(target, "_schema", None)
        named: dict[str, Any] = {}
        mutated: list[torch.Tensor] = []
        in_place = False
        if schema is None:
            raw = {f"arg{i}": item for i, item in enumerate(args)} | dict(kwargs)
            named = {key: self.argument(item) for key, item in raw.items()}
        else:
            for index, spec in enumerate(schema.arguments):
                if index < len(args):
                    item = args[index]
                elif spec.name in kwargs:
                    item = kwargs[spec.name]
                else:
                    item = spec.default_value
                # What stands in an out= tensor is not an argument.
                if not spec.is_out:
                    named[spec.name] = self.argument(item)
                if spec.alias_info is not None and spec.alias_info.is_write:
                    in_place = in_place or not spec.is_out
                    mutated += tensors_in(item)
        values = tuple(replace(self.value(fake), tensor="") for fake in outputs)
        return Call(plain(name), named, values, in_place), mutated

    def argument(self, item: Any) -> Any:
        if hasattr(item, "untyped_storage"):
            return self.value(item)
        if isinstance(item, (list, tuple)):
            return [self.argument(part) for part in item]
        return item

    def record(
        self,
        key: str,
        name: str,
        module: str,
        call_index: str,
        call: Call,
        lowered: Lowered,
        outputs: list[torch.Tensor],
        mutated: list[torch.Tensor],
        *,
        unknown: bool,
    ) -> None:
        reads: dict[str, int] = {}
        pairs = lowered.reads if lowered.reads is not None else tuple((value, value.bytes) for value in call.tensors)
        for value, size in pairs:
            if value.tensor:
                # A tensor that is read twice (x * x, a repeated row, overlapping windows) must move once.
                size += reads.get(value.tensor, 0)
                reads[value.tensor] = min(size, self.tensors[value.tensor].bytes)
        by_storage: dict[int, tuple[torch.Tensor, int, str]] = {}
        for fake in mutated:
            storage = storage_of(fake)
            before = self.latest.get(storage, "")
            part = self.value(fake).bytes
            size = part + by_storage[storage][1] if storage in by_storage else part
            if before:
                whole = self.tensors[before].bytes
                size = min(size, whole)
                if part < whole:
                    # A write of a part keeps the rest of the old version: a dependence without traffic.
                    reads.setdefault(before, 0)
            by_storage[storage] = (fake, size, before)
        for fake in outputs:
            storage, size = storage_of(fake), self.value(fake).bytes
            # Of several views of one new tensor the largest stands for it.
            if storage not in self.latest and (storage not in by_storage or by_storage[storage][1] < size):
                by_storage[storage] = (fake, size, "")
        written = list(by_storage.values())
        if lowered.write_bytes is not None:
            # Some outputs are workspace (statistics, indices): the first is what the lowering speaks of.
            sizes_first = [lowered.write_bytes] + [0] * len(written)
            written = [(fake, size, before) for (fake, _, before), size in zip(written, sizes_first, strict=False)]
        tokens = []
        for fake, _, before in written:
            self.versions += 1
            token = f"#{self.versions}"
            if before:
                old = self.tensors[before]
                kind: TensorKind = "activation" if old.kind == "activation" else "state"
                self.tensors[token] = replace(old, name=token, kind=kind)
                self.latest[storage_of(fake)] = token
            else:
                self.new_tensor(token, fake, "activation", token)
            tokens.append(token)
        sizes = [size for _, size, _ in written]
        self.steps.append(_Step(key, module, call_index, name, lowered, reads, tokens, sizes, unknown))

    # --- the end ------------------------------------------------------------------------------------------------

    def close(
        self,
        users: Sequence[str],
        results: Iterable[tuple[str, torch.Tensor]],
        info: Callable[[str, Tensor], InputInfo],
    ) -> Walked:
        """Names, dead layers and coverage. ``users`` are the declared inputs, ``results`` what the model returned, by
        name; ``info`` says what an input is."""
        named = [(name, self.latest[storage_of(fake)]) for name, fake in results if storage_of(fake) in self.latest]
        outputs = [tensor for _, tensor in named]
        original = {name for name in self.tensors if not name.startswith("#")}
        # What is left in a mutated input or buffer is a result too.
        mutated = [name for name in self.latest.values() if self.tensors[name].kind == "state" and name not in original]
        needed = {*outputs, *mutated}
        for step in reversed(self.steps):
            if needed.intersection(step.tokens):
                step.dead = False
                needed.update(step.reads)
        names = _layer_names(self.steps)
        final: dict[str, str] = {}
        for step, name in zip(self.steps, names, strict=True):
            for index, token in enumerate(step.tokens):
                final[token] = f"{name}:out" if len(step.tokens) == 1 else f"{name}:out.{index}"
        layers = tuple(
            Layer(
                name=name,
                op=step.lowered.op,
                category=step.lowered.category,
                module=step.module,
                reads=tuple((final.get(tensor, tensor), size) for tensor, size in step.reads.items()),
                writes=tuple((final[token], size) for token, size in zip(step.tokens, step.write_bytes, strict=True)),
                work=step.lowered.work,
                vector_ops=step.lowered.vector_ops,
                placement=step.lowered.placement,
                assumptions=step.lowered.assumptions,
                dead=step.dead,
            )
            for step, name in zip(self.steps, names, strict=True)
        )
        used = {tensor for layer in layers for tensor, _ in (*layer.reads, *layer.writes)}
        used.update(final.get(name, name) for name in outputs)
        used.update(users)
        tensors = {}
        for token, tensor in self.tensors.items():
            name = final.get(token, token)
            if name in used:
                tensors[name] = replace(tensor, name=name, storage=final.get(tensor.storage, tensor.storage))
        infos = tuple(info(name, tensors[name]) for name in users if name in tensors)
        return Walked(
            layers,
            tensors,
            infos,
            tuple(dict.fromkeys((name, final.get(tensor, tensor)) for name, tensor in named)),
            self.coverage(layers),
            {key: names[index] for key, index in self.step_of_call.items()},
        )

    def coverage(self, layers: tuple[Layer, ...]) -> tuple[Coverage, ...]:
        totals: dict[tuple[str, str, str, str], list[int]] = {}
        for step, layer in zip(self.steps, layers, strict=True):
            treatment = "unknown" if step.unknown else "lowered"
            reason = "no lowering is registered" if step.unknown else ""
            entry = totals.setdefault((treatment, step.operator, step.module, reason), [0, 0, 0])
            entry[0] += 1
            entry[1] += layer.macs
            entry[2] += layer.bytes
        for (name, module, reason), calls in self.ignored.items():
            totals[("ignored", name, module, reason)] = [calls, 0, 0]
        return tuple(Coverage(t, o, m, calls, macs, size, r) for (t, o, m, r), (calls, macs, size) in totals.items())


def _layer_names(steps: list[_Step]) -> list[str]:
    """Names from module paths and operator families: the bare path for the layer that is the module's point (its only
    one, or its only one with work), ``path:op`` for the others."""
    groups: dict[str, list[int]] = {}
    paths = [step.module + step.call_index for step in steps]
    for index, path in enumerate(paths):
        groups.setdefault(path, []).append(index)
    bare = set()
    for path, members in groups.items():
        working = [index for index in members if steps[index].lowered.work]
        chosen = working if len(working) == 1 else members
        if path and len(chosen) == 1:
            bare.add(chosen[0])
    names: list[str] = []
    taken: set[str] = set()
    for index, (step, path) in enumerate(zip(steps, paths, strict=True)):
        name = path if index in bare else f"{path}:{step.lowered.op}" if path else step.lowered.op
        unique, suffix = name, 0
        while unique in taken:
            suffix += 1
            unique = f"{name}.{suffix}"
        taken.add(unique)
        names.append(unique)
    return names


def operator_name(target: Any) -> str:
    """``aten.conv2d`` for ``aten.conv2d.default``; other callables by module and name."""
    packet = getattr(target, "_overloadpacket", None)
    if packet is not None:
        namespace, _, name = packet._qualified_op_name.partition("::")
        return f"{namespace}.{name}"
    name = getattr(target, "__name__", str(target))
    return f"{getattr(target, '__module__', '').removeprefix('_')}.{name}"


def tensors_in(item: Any) -> Iterator[torch.Tensor]:
    if hasattr(item, "untyped_storage"):
        yield item
    elif isinstance(item, (list, tuple)):
        for part in item:
            yield from tensors_in(part)


def results_in(item: Any, name: str = "", depth: int = 4) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in what a model returned, each with its name at the outermost level: a key, a field, or a place in a
    tuple. Objects of any class (caches, outputs) are looked into, modules are not."""
    if hasattr(item, "untyped_storage"):
        yield name, item
        return
    if isinstance(item, Mapping):
        parts = [(str(key), value) for key, value in item.items()]
    elif isinstance(item, (list, tuple)):
        parts = list(zip(getattr(item, "_fields", map(str, range(len(item)))), item, strict=True))
    elif depth and hasattr(item, "__dict__") and not isinstance(item, type) and not hasattr(item, "named_parameters"):
        parts, depth = list(vars(item).items()), depth - 1
    else:
        return
    for key, value in parts:
        yield from results_in(value, name or key, depth)


def storage_of(fake: torch.Tensor) -> int:
    return fake.untyped_storage()._cdata


def _shape(fake: torch.Tensor, name: str) -> tuple[tuple[int, ...], int]:
    """The shape, and the number of elements that are distinct in memory (expanded axes have stride 0)."""
    unique = 1
    for size, stride in zip(fake.shape, fake.stride(), strict=True):
        if not isinstance(size, int):
            raise ModelError(
                f"{name}: the shape {tuple(fake.shape)} depends on values (a nonzero, a mask selection or a filter)."
                " Replace it by a fixed number, or trace the parts before and after it."
            )
        unique *= size if stride != 0 or size == 0 else 1
    return tuple(int(size) for size in fake.shape), unique


def _dtype(fake: torch.Tensor) -> str:
    return str(fake.dtype).removeprefix("torch.")


def _bits(fake: torch.Tensor) -> int:
    return fake.element_size() * 8
