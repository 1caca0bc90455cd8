"""The sheet that a forward call is written on: what the class takes, its configuration, its sizes, its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmworkload.errors import ModelError
from mmworkload.graph import InputInfo
from mmworkload.models.family import InputSpec, Parameter, Setting
from mmworkload.models.model import guess, synthesize
from mmworkload.models.sources.transformers.configuration import parts

if TYPE_CHECKING:
    import torch

ANY = 1 << 20


@dataclass(frozen=True)
class Argument:
    """One tensor of the call. ``fill`` makes it on the CPU where its values mean something; otherwise it is random."""

    spec: InputSpec
    fill: Callable[[], torch.Tensor] | None = None

    def make(self) -> torch.Tensor:
        return self.fill() if self.fill else synthesize((self.spec,))[self.spec.name]


@dataclass(frozen=True)
class Placeholders:
    """A run of one token, in each sample, whose embeddings are replaced by those of another modality."""

    token: int
    count: int
    kind: int = 1


@dataclass
class Sheet:
    """``kind`` is the class, ``name`` what the user calls the model, ``given`` what he says of sizes. A size is a
    parameter of the model from when it is asked for; ``settings`` has its value.
    """

    kind: Any
    configuration: Any
    batch: int
    name: str
    given: Mapping[str, Any] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)
    arguments: dict[str, Argument] = field(default_factory=dict)
    placeholders: list[Placeholders] = field(default_factory=list)

    # --- reading ------------------------------------------------------------------------------------------------

    @cached_property
    def signature(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of ``forward`` by name."""
        listed = inspect.signature(self.kind.forward).parameters.values()
        return {
            item.name: item
            for item in listed
            if item.name != "self" and item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
        }

    def takes(self, *names: str) -> bool:
        return all(name in self.signature for name in names)

    def requires(self, name: str) -> bool:
        return name in self.signature and self.signature[name].default is inspect.Parameter.empty

    @property
    def type(self) -> str:
        return str(self.configuration.model_type)

    def part(self, *names: str) -> Any:
        """The first of these inner configurations that there is, else the whole."""
        for name in names:
            found = getattr(self.configuration, name, None)
            if hasattr(found, "to_dict"):
                return found
        return self.configuration

    def look(self, *keys: str, default: Any = None, within: Any = None) -> Any:
        """The first of these entries that the configuration, or one inside it, has a value for."""
        for part in parts(within if within is not None else self.configuration):
            for key in keys:
                value = getattr(part, key, None)
                if value is not None:
                    return value
        return default

    # --- writing ------------------------------------------------------------------------------------------------

    def size(self, name: str, default: int, help: str, *, low: int = 1, high: int = ANY, step: int = 1) -> int:
        """The value of the size parameter ``name``, which this declares. MmworkloadError when it is impossible."""
        parameter = Parameter(default, help, low, high, step)
        value = int(str(parameter.read(name, self.given.get(name, default))))
        self.parameters[name], self.settings[name] = parameter, value
        return value

    def add(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "float32",
        *,
        high: int = 0,
        fill: Callable[[], torch.Tensor] | None = None,
        modality: str = "",
        role: str = "",
    ) -> None:
        """One tensor of the call, if the class takes it; what it is follows from its name unless told."""
        if name in self.signature:
            guessed = guess(name)
            spec = InputSpec(name, shape, dtype, modality or guessed[0], role or guessed[1], high)
            self.arguments[name] = Argument(spec, fill)

    def ones(self, name: str, shape: tuple[int, ...], dtype: str = "int64", modality: str = "", role: str = "") -> None:
        """A mask that keeps everything, or another tensor of ones."""

        def fill() -> torch.Tensor:
            import torch

            return torch.ones(shape, dtype=getattr(torch, dtype), device="cpu")

        self.add(name, shape, dtype, fill=fill, modality=modality, role=role)

    def values(self, name: str, rows: list[Any], dtype: str = "int64", modality: str = "", role: str = "") -> None:
        """A tensor with the values of nested lists; one row per sample where ``rows`` has one, repeated."""
        import torch

        def fill() -> torch.Tensor:
            return torch.tensor(rows, dtype=getattr(torch, dtype), device="cpu")

        self.add(name, tuple(fill().shape), dtype, fill=fill, modality=modality, role=role)

    # --- asking the model itself --------------------------------------------------------------------------------

    @cached_property
    def module(self) -> torch.nn.Module:
        """The model on the meta device, to ask it for sizes."""
        import torch

        try:
            with torch.device("meta"):
                module: torch.nn.Module = self.kind(self.configuration)
        except Exception as error:
            raise self.fail(
                f"{self.kind.__name__} cannot be built from this configuration: {type(error).__name__}:"
                f" {str(error).splitlines()[0][:300] if str(error) else ''}"
            ) from error
        return module.eval()

    def features(self, method: str) -> int:
        """How many vectors per sample the model's own ``method`` (``get_image_features``) makes of the arguments so
        far; 0 where it has no such method, or takes what is not in the call. Raises ModelError where it fails."""
        import torch

        from mmworkload.tracing.program import make_fake
        from mmworkload.tracing.recorder import record

        owner = next(
            (item for item in (self.module, getattr(self.module, "model", None)) if hasattr(item, method)), None
        )
        if owner is None:
            return 0
        known = inspect.signature(getattr(owner, method)).parameters
        if next(iter(known)) not in self.arguments:
            return 0
        with torch.device("meta"):
            given = {name: argument.make() for name, argument in self.arguments.items() if name in known}
        asked = make_fake(_asking(owner, method), (), given)
        record(asked, self.name, lambda name, tensor: InputInfo(name, tensor.shape, tensor.dtype, name))
        return int(str(asked.module.vectors)) // self.batch

    def fail(self, problem: str) -> ModelError:
        return ModelError(f"{self.name}: {problem}")


def _asking(owner: torch.nn.Module, method: str) -> torch.nn.Module:
    """A module that runs only ``method`` of ``owner``, and then knows how many vectors came out."""
    import torch

    class Asking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.owner = owner
            self.vectors = 0

        def forward(self, **given: torch.Tensor) -> None:
            found = getattr(self.owner, method)(**given)
            # Older versions return the vectors, newer ones an output with everything on the way.
            if hasattr(found, "to_tuple"):
                pooled = getattr(found, "pooler_output", None)
                found = pooled if pooled is not None else found.last_hidden_state
            listed = list(found) if isinstance(found, (list, tuple)) else [found]
            self.vectors = sum(item.numel() // item.shape[-1] for item in listed)

    return Asking()
