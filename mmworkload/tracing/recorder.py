"""The second route: records operators as a forward pass runs them, where ``torch.export`` refuses a model.

Weights are fake tensors, as on the first route. What a forward pass computes from integer and boolean inputs and from
constants alone (masks, grid sizes, positions) is computed for real beside it, so that shapes and branches that depend
on such values come out as they run; what depends on weights has no value, and asking for it is an error that names the
line. Operators are seen at the level of ``torch.export``, so the same lowerings hold.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from mmworkload.errors import FOREIGN, ModelError, deed
from mmworkload.graph import InputInfo
from mmworkload.layer import Tensor, TensorKind
from mmworkload.tracing.ledger import Ledger, Walked, operator_name, results_in, storage_of, tensors_in

if TYPE_CHECKING:
    import torch

    from mmworkload.tracing.program import Faked

# Larger results of value computations are left to shapes alone: masks are small, images and weights are not.
LARGEST_VALUE = 1 << 24
# Operators that look at the shape and type of this argument only, so that its values need not be known.
SHAPE_ONLY = {
    **{f"aten::{name}": "other" for name in ("expand_as", "view_as", "reshape_as", "type_as")},
    **{f"aten::{name}_like": "self" for name in ("zeros", "ones", "full", "empty", "rand", "randn", "randint")},
    **{f"aten::new_{name}": "self" for name in ("zeros", "ones", "full", "empty", "empty_strided")},
}
# Operators whose shapes follow from the values of one argument, and which results follow from it whole.
DECIDED_BY: dict[str, tuple[str, tuple[int, ...]]] = {
    "aten::index": ("indices", ()),
    "aten::_unsafe_index": ("indices", ()),
    "aten::masked_select": ("mask", ()),
    "aten::bincount": ("self", ()),
    "aten::_ctc_loss": ("target_lengths", ()),
    "aten::_pack_padded_sequence": ("lengths", (1,)),
    "aten::_pad_packed_sequence": ("batch_sizes", (1,)),
}
# Calls without effect on data that only the dispatcher sees.
SILENT = ("prim.device", "prim.layout", "prim.dtype")
# Between the key of a composite call and that of its part.
PART = " > "


class NoValueError(Exception):
    """A forward pass asked for a value that depends on weights or floating-point inputs."""


class Modules:
    """Tracks which module runs: the path of the innermost one and how often that module was called before."""

    def __init__(self, root: torch.nn.Module) -> None:
        self.paths = {id(module): path for path, module in root.named_modules()}
        self.calls: Counter[str] = Counter()
        self.stack: list[tuple[str, str]] = []

    @property
    def innermost(self) -> tuple[str, str]:
        return self.stack[-1] if self.stack else ("", "")

    @contextlib.contextmanager
    def tracked(self) -> Iterator[None]:
        """Within it, calls of modules are followed, what their hooks do and calls that raise included.

        It is ``Module.__call__`` that is wrapped, as torch.export does: a global hook ends before the module's own.
        """
        from torch.nn import Module

        original = Module.__call__

        def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            self.stack.append(self._entered(module))
            try:
                return original(module, *args, **kwargs)
            finally:
                self.stack.pop()

        Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            Module.__call__ = original  # type: ignore[method-assign]

    def _entered(self, module: torch.nn.Module) -> tuple[str, str]:
        path = self.paths.get(id(module))
        if path is None:
            # Made inside a forward: a part of the module that made it.
            return self.innermost
        before = self.calls[path]
        self.calls[path] += 1
        return path, f"@{before}" if before and path else ""


class Calls:
    """Keys of operator calls: module, operator and how often that module ran it before.

    A key says which call it is even where another run has more or fewer calls around it (a list read from a tensor).
    ``inside`` names the composite operator whose parts are being run.
    """

    def __init__(self, modules: Modules) -> None:
        self.modules = modules
        self.seen: Counter[str] = Counter()
        self.inside = ""

    def key(self, func: Any) -> str:
        path, call_index = self.modules.innermost
        name = f"{self.inside}{path}{call_index}|{operator_name(func)}"
        self.seen[name] += 1
        return f"{name}|{self.seen[name]}"

    @contextlib.contextmanager
    def parts(self, key: str) -> Iterator[None]:
        """Within it, calls are parts of the composite call ``key``."""
        outer, self.inside = self.inside, f"{key}{PART}"
        try:
            yield
        finally:
            self.inside = outer


class Recorder(TorchDispatchMode):
    """Runs operators on fake tensors, and on real ones where all values are known; enters each in the ledger."""

    def __init__(self, ledger: Ledger, modules: Modules, faked: Faked) -> None:
        super().__init__()
        self.ledger = ledger
        self.modules = modules
        self.calls = Calls(modules)
        self.mode = faked.mode
        self.alive: list[Any] = []
        self.fakes: dict[int, torch.Tensor] = {}
        # In-place operators run on the values too: on copies, for the tensors behind are the user's.
        self.values: dict[int, torch.Tensor] = {
            key: real.clone()
            for key, real in faked.values.items()
            if real.numel() <= LARGEST_VALUE and not isinstance(real, FakeTensor)
        }
        # Storages that an operator without known values has written to.
        self.overwritten: set[int] = set()
        self.attributes = {id(value): path for path, value in attributes(faked.module).items()}
        self.lifted = 0
        # The first question that had no answer, should the model catch the error.
        self.unanswered: NoValueError | None = None

    # --- values -------------------------------------------------------------------------------------------------

    def fake(self, tensor: torch.Tensor) -> torch.Tensor:
        """The fake tensor for ``tensor``; a real one is a constant of the forward pass and keeps its values."""
        import torch

        if isinstance(tensor, FakeTensor):
            if storage_of(tensor) not in self.ledger.latest:
                self.alive.append(tensor)
                self.ledger.declare(self._constant_name(tensor), tensor, "constant")
            return tensor
        if id(tensor) not in self.fakes:
            # The input's values may be known although it has none here: a fake tensor stands for one of a real model.
            with self.mode, torch.no_grad():
                made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            self.alive += [tensor, made]
            self.fakes[id(tensor)] = made
            if tensor.device.type != "meta" and tensor.numel() <= LARGEST_VALUE:
                with _disable_current_modes():
                    self.values[id(made)] = tensor.detach().clone()
            self.ledger.declare(self._constant_name(tensor), made, "constant")
        return self.fakes[id(tensor)]

    def _constant_name(self, tensor: torch.Tensor) -> str:
        """The name that export gives it: of a module's attribute, or a number behind the module that runs."""
        name = self.attributes.get(id(tensor))
        if name is None:
            module, _ = self.modules.innermost
            name = f"{module}.lifted_tensor_{self.lifted}".lstrip(".")
            self.lifted += 1
        return f"{name}:constant" if name in self.ledger.tensors else name

    def value_of(self, fake: torch.Tensor) -> torch.Tensor | None:
        return None if storage_of(fake) in self.overwritten else self.values.get(id(fake))

    def real(self, tensor: torch.Tensor, asked: str) -> torch.Tensor:
        """A copy of the values behind ``tensor``; NoValueError that names what ``asked`` when there are none."""
        value = self.value_of(self.fake(tensor))
        if value is None:
            raise self.unanswerable(asked)
        with _disable_current_modes():
            return value.clone()

    def unanswerable(self, asked: str) -> NoValueError:
        """The first question of this run that had no answer."""
        self.unanswered = self.unanswered or NoValueError(asked)
        return self.unanswered

    def know(self, fakes: Any, reals: Any) -> None:
        for fake, real in zip(tensors_in(fakes), tensors_in(reals), strict=False):
            if real.numel() <= LARGEST_VALUE:
                self.values[id(fake)] = real

    # --- calls --------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import torch
        from torch.utils import _pytree

        if operator_name(func) in SILENT:
            return func(*args, **(kwargs or {}))
        key = self.calls.key(func)
        args, kwargs = _pytree.tree_map_only(torch.Tensor, self.fake, (tuple(args), dict(kwargs or {})))
        if "device" in kwargs and kwargs["device"] is not None:
            kwargs["device"] = torch.device("cpu")
        reals = self._real_arguments(func, args, kwargs)
        try:
            result = self._run(func, args, kwargs, reals)
        except _NeedsParts:
            with self.calls.parts(key), self:
                return func.decompose(*args, **kwargs)
        self.alive.append(result)
        self.ledger.enter(key, func, args, kwargs, result, *self.modules.innermost)
        return result

    def _real_arguments(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """The arguments with real tensors, None when a value is not known."""
        import torch
        from torch.utils import _pytree

        shaped = SHAPE_ONLY.get(func._schema.name)
        places = [index for index, spec in enumerate(func._schema.arguments) if spec.name == shaped]
        stand_in = [_pytree.tree_map_only(torch.Tensor, _blank, args[index]) for index in places if index < len(args)]
        if stand_in:
            args = (*args[: places[0]], stand_in[0], *args[places[0] + 1 :])
        tensors = list(_flat_tensors((args, kwargs)))
        if any(isinstance(item, FakeTensor) and self.value_of(item) is None for item in tensors):
            return None
        return _pytree.tree_map_only(FakeTensor, self.value_of, (args, kwargs))

    def _run(self, func: Any, args: Any, kwargs: Any, reals: tuple[Any, Any] | None) -> Any:
        import torch
        from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
        from torch.utils import _pytree

        writes = [
            item
            for spec, item in [*zip(func._schema.arguments, args, strict=False), *_named(func, kwargs)]
            if spec.alias_info is not None and spec.alias_info.is_write
        ]
        try:
            with self.mode:
                result = func(*args, **kwargs)
        except RuntimeError as error:
            deciding = reals or self._deciding_arguments(func, args, kwargs)
            depends = isinstance(error, (DataDependentOutputException, DynamicOutputShapeException))
            # Some operators read memory that a fake tensor does not have.
            if not depends and (deciding is None or func._schema.name not in DECIDED_BY):
                raise
            composite = func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
            if depends and composite and any(spec.alias_info is not None for spec in func._schema.returns):
                # Its parts say what is a view of what.
                raise _NeedsParts from error
            if deciding is not None:
                with _disable_current_modes():
                    real = func(*deciding[0], **deciding[1])
                result = _pytree.tree_map_only(torch.Tensor, self._like, real)
                if reals is not None:
                    self.know(result, real)
                else:
                    for place in DECIDED_BY[func._schema.name][1]:
                        self.know(result[place], real[place])
                return result
            if composite:
                raise _NeedsParts from error
            raise self.unanswerable(str(func)) from error
        if reals is None:
            self.overwritten.update(storage_of(item) for item in _flat_tensors(writes))
        elif all(item.numel() <= LARGEST_VALUE for item in tensors_in(result)):
            with _disable_current_modes():
                self.know(result, func(*reals[0], **reals[1]))
        else:
            self.overwritten.update(storage_of(item) for item in _flat_tensors(writes))
        return result

    def _like(self, real: torch.Tensor) -> torch.Tensor:
        import torch

        with self.mode:
            return torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device="cpu")

    def _deciding_arguments(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """The arguments with the values that decide the result's shape, and blanks for others that are not known; None
        when a deciding value is not known."""
        import torch
        from torch.utils import _pytree

        decider, _ = DECIDED_BY.get(func._schema.name, ("", ()))
        names = [spec.name for spec in func._schema.arguments]
        if decider not in names[: len(args)]:
            return None
        if any(self.value_of(item) is None for item in _flat_tensors(args[names.index(decider)])):
            return None

        def real(fake: torch.Tensor) -> torch.Tensor:
            value = self.value_of(fake)
            return _blank(fake) if value is None else value

        return _pytree.tree_map_only(torch.Tensor, real, (args, kwargs))


class Reads(TorchFunctionMode):
    """Calls that read a tensor's memory, past every dispatcher: here they read its known values."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import torch
        from torch.utils import _pytree

        if func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__):
            args = (self.recorder.real(args[0], func.__name__), *args[1:])
            with _disable_current_modes():
                return func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and args and isinstance(args[0], (list, tuple)):
            # A list of tensors.
            values = _pytree.tree_map_only(torch.Tensor, lambda item: self.recorder.real(item, "tensor"), args[0])
            with _disable_current_modes():
                args = (_pytree.tree_map_only(torch.Tensor, torch.Tensor.tolist, values), *args[1:])
        return func(*args, **(kwargs or {}))


class _NeedsParts(Exception):  # noqa: N818
    """A composite operator whose shape depends on values inside: its parts are recorded one by one."""


def _blank(like: torch.Tensor) -> torch.Tensor:
    """A real tensor of that shape and type, one zero in memory; its values are nobody's business."""
    import torch

    with _disable_current_modes():
        return torch.zeros((), dtype=like.dtype).expand(like.shape)


def attributes(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that are plain attributes of modules, each once, by the path that export calls them."""
    import torch

    found: dict[int, tuple[str, torch.Tensor]] = {}
    for path, child in module.named_modules():
        for key, value in vars(child).items():
            if isinstance(value, torch.Tensor):
                found.setdefault(id(value), (f"{path}.{key}" if path else key, value))
    return dict(found.values())


def _named(func: Any, kwargs: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(spec, kwargs[spec.name]) for spec in func._schema.arguments if spec.name in kwargs]


def _flat_tensors(items: Any) -> Iterator[torch.Tensor]:
    import torch
    from torch.utils import _pytree

    for leaf in _pytree.tree_leaves(items):
        if isinstance(leaf, torch.Tensor):
            yield leaf


def input_names(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors among the inputs by the names that export gives them: argument, then keys inside it, joined by _."""
    import torch
    from torch.utils import _pytree

    named = {**inspect.signature(module.forward).bind_partial(*args).arguments, **kwargs}
    found: dict[str, Any] = {}
    for name, value in named.items():
        for path, leaf in _pytree.tree_flatten_with_path(value)[0]:
            if not isinstance(leaf, torch.Tensor):
                continue
            parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", "")))) for key in path]
            plain = re.sub(r"[^a-z0-9]", "_", "_".join([name, *parts]).lower())
            unique, suffix = plain, 0
            while unique in found:
                suffix += 1
                unique = f"{plain}_{suffix}"
            found[unique] = leaf
    return found


def record(faked: Faked, name: str, info: Callable[[str, Tensor], InputInfo]) -> Walked:
    """Runs a module whose tensors are fake, and gives the closed ledger. ``info`` says what an input is, by its name.

    Raises ModelError with the user's line when the forward pass fails or asks for a value that is not known.
    """
    import torch

    from mmworkload.tracing.program import plain_attention, quiet, user_frame

    ledger = Ledger(name)
    modules = Modules(faked.module)
    try:
        inputs = input_names(faked.module, faked.args, faked.kwargs)
        _declare(ledger, faked.module, inputs)
        with plain_attention(), torch.inference_mode(), quiet(), modules.tracked():
            recorder = Recorder(ledger, modules, faked)
            with Reads(recorder), recorder:
                result = faked.module(*faked.args, **faked.kwargs)
        if recorder.unanswered is not None:
            # The model caught it and went on, on a path that it would not take with values.
            raise recorder.unanswered
    except FOREIGN as error:
        place = user_frame(error)
        at = f" ({place})" if place else ""
        cause = _cause(error)
        if isinstance(cause, NoValueError):
            raise ModelError(
                f"{name}: the forward pass depends on values that only real weights and data give{at}: {cause}."
                " Replace the branch, .item() or selection there by a fixed choice, or trace the parts before and after"
                " it. Inputs have values if they are made with device='cpu', or come from a sample."
            ) from error
        raise ModelError(f"{name}: the forward pass {deed(error)}{at}") from error
    return ledger.close(list(inputs), ((name, recorder.fake(item)) for name, item in results_in(result)), info)


def _declare(ledger: Ledger, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> None:
    """Declares weights, buffers and inputs. A weight that has the name of an input gets its kind behind it."""
    kinds: tuple[tuple[Iterator[tuple[str, torch.Tensor]], TensorKind], ...] = (
        (module.named_parameters(), "weight"),
        (module.named_buffers(), "constant"),
    )
    for tensors, kind in kinds:
        for path, tensor in tensors:
            ledger.declare(f"{path}:{kind}" if path in inputs else path, tensor, kind)
    for path, tensor in inputs.items():
        ledger.declare(path, tensor, "input")


def _cause(error: BaseException) -> BaseException:
    while not isinstance(error, NoValueError) and error.__cause__ is not None:
        error = error.__cause__
    return error
