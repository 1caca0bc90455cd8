"""Every operator that the graph may leave out moves no bytes, proved one by one.

An entry is proved by its schema (its outputs alias an argument, or it has no tensor output) or by running it: then
every output must lie in the memory of an input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmworkload.tracing.call import registry
from mmworkload.tracing.ignored import CHECK, CONSTANT, IGNORED, SAME, VIEW

X = torch.randn(2, 4, 6)
Z = torch.randn(2, 3, dtype=torch.complex64)

# A call that must not copy, for operators whose schema does not promise it.
CALLS: dict[str, Callable[[Any], Any]] = {
    "aten._unsafe_view": lambda op: op(X, [8, 6]),
    "aten.reshape": lambda op: op(X, [8, 6]),
    "aten.reshape_as": lambda op: op(X, torch.empty(8, 6)),
    "aten.flatten": lambda op: op(X, 0, 1),
    "aten.ravel": lambda op: op(X),
    "aten.atleast_1d": lambda op: op(X),
    "aten.atleast_2d": lambda op: op(X),
    "aten.atleast_3d": lambda op: op(X),
    "aten.broadcast_tensors": lambda op: op([X, torch.randn(6)]),
    "aten.meshgrid": lambda op: op([torch.randn(3), torch.randn(4)], indexing="ij"),
    "aten.unsafe_chunk": lambda op: op(X, 2),
    "aten.unsafe_split": lambda op: op(X, 1),
    "aten.unsafe_split_with_sizes": lambda op: op(X, [1, 1]),
    "aten.einsum": lambda op: op("abc->cab", [X]),
    "aten.cartesian_prod": lambda op: op([X[0, 0]]),
    "aten.type_as": lambda op: op(X, X),
    "aten.dropout": lambda op: op(X, 0.5, False),
    "aten.feature_dropout": lambda op: op(X, 0.5, False),
    "aten.alpha_dropout": lambda op: op(X, 0.5, False),
    "aten.feature_alpha_dropout": lambda op: op(X, 0.5, False),
    "aten.lift": lambda op: op(X),
    "aten.lift_fresh": lambda op: op(X),
    "aten.data": lambda op: op(X),
    "aten.conj_physical": lambda op: op(X),
}
# The same operators where they do copy or compute: then the graph must have them.
WORKS: dict[str, Callable[[Any], Any]] = {
    "aten.reshape": lambda op: op(X.transpose(0, 2), [8, 6]),
    "aten.reshape_as": lambda op: op(X.transpose(0, 2), torch.empty(8, 6)),
    "aten.flatten": lambda op: op(X.transpose(0, 2)),
    "aten.einsum": lambda op: op("abc->c", [X]),
    "aten.contiguous": lambda op: op(X.transpose(0, 2)),
    "aten.to": lambda op: op(X, torch.float64),
    "aten.type_as": lambda op: op(X, X.double()),
    "aten.dropout": lambda op: op(X, 0.5, True),
    "aten.feature_dropout": lambda op: op(X, 0.5, True),
    "aten.alpha_dropout": lambda op: op(X, 0.5, True),
    "aten.feature_alpha_dropout": lambda op: op(X, 0.5, True),
    "aten.cartesian_prod": lambda op: op([X[0, 0], X[0, 1]]),
    "aten.conj_physical": lambda op: op(Z),
    "aten.resolve_conj": lambda op: op(Z.conj()),
}


def packet(name: str) -> Any:
    """The operator in this version of torch, or None."""
    return getattr(torch.ops.aten, name.removeprefix("aten."), None)


def schemas(name: str) -> list[Any]:
    """The schemas of the operator and of its in-place form; not those of lists, nor those with an ``out`` tensor."""
    found = [packet(name), packet(f"{name}_")]
    overloads = [getattr(item, overload)._schema for item in found if item is not None for overload in item.overloads()]
    return [
        schema
        for schema in overloads
        if not any(argument.is_out for argument in schema.arguments)
        and (IGNORED[name] == CHECK or any(is_tensor(argument.type) for argument in schema.arguments))
    ]


def is_tensor(kind: Any) -> bool:
    return "Tensor" in str(kind)


def aliases(schema: Any) -> bool:
    """Every tensor that comes out is declared to be (a part of) an argument."""
    outputs = [item for item in schema.returns if is_tensor(item.type)]
    return bool(outputs) and all(item.alias_info is not None for item in outputs)


def storages(values: Any) -> set[int]:
    if isinstance(values, torch.Tensor):
        return {values.untyped_storage().data_ptr()}
    if isinstance(values, (list, tuple)):
        return set().union(*(storages(item) for item in values))
    return set()


def outputs_share_memory(name: str, call: Callable[[Any], Any]) -> bool:
    seen: set[int] = set()
    operator = packet(name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.update(storages(list(args)))
        return operator(*args, **kwargs)

    return storages(call(watched)) <= seen


EXISTING = [name for name in IGNORED if packet(name) is not None]


def test_nearly_all_entries_exist_in_this_version() -> None:
    assert len(EXISTING) >= 0.9 * len(IGNORED)
    assert set(IGNORED.values()) == {VIEW, SAME, CHECK, CONSTANT}
    assert len(IGNORED) > 60


@pytest.mark.parametrize("name", EXISTING)
def test_an_ignored_operator_moves_no_bytes(name: str) -> None:
    reason, found = IGNORED[name], schemas(name)
    assert found
    if reason == CHECK:
        assert not any(is_tensor(item.type) for schema in found for item in schema.returns)
        assert not any(
            argument.alias_info is not None and argument.alias_info.is_write
            for schema in found
            for argument in schema.arguments
        )
    elif name in CALLS:
        assert outputs_share_memory(name, CALLS[name])
    elif reason in (VIEW, SAME):
        # The in-place forms (squeeze_, detach_) change the metadata of their argument.
        assert all(aliases(schema) for schema in found), [str(schema) for schema in found]


@pytest.mark.parametrize("name", WORKS)
def test_an_entry_that_can_copy_or_compute_has_a_lowering_for_it(name: str) -> None:
    assert not outputs_share_memory(name, WORKS[name])
    assert name in registry()


def test_every_entry_without_a_promise_in_its_schema_is_run() -> None:
    unproved = {
        name
        for name in EXISTING
        if IGNORED[name] in (VIEW, SAME) and name not in CALLS and not all(map(aliases, schemas(name)))
    }
    assert unproved == set()


def test_an_operator_that_always_copies_is_not_in_the_table() -> None:
    for name in ("clone", "_to_copy", "repeat", "pad", "constant_pad_nd", "copy_", "set_", "_is_all_true", "cat"):
        assert f"aten.{name}" not in IGNORED


def test_the_constant_of_a_forward_pass_is_what_it_was(trace: Any) -> None:
    """In the trace ``lift_fresh_copy`` hands on the constant, or copies it if it is small; eager execution does not."""
    for numbers in ([1.0, 2.0], [1.0], 1.0):
        graph = trace(lambda x, numbers=numbers: x + torch.tensor(numbers), torch.randn(3, 2)).graph
        assert [layer.op for layer in graph] == ["add"]
        assert dict(graph["add"].reads)["lifted_tensor_0"] == 4 * torch.tensor(numbers).numel()
        (item,) = [item for item in graph.coverage if "lift_fresh_copy" in item.operator]
        assert (item.treatment, item.reason) == ("ignored", CONSTANT)
