"""From a name on the command line to a model and its inputs.

``workload/variant`` (or ``workload``, its default variant), ``torchvision:NAME``, ``path/file.py:function``, or the
path of a saved graph. Workload modules define ``FAMILY``, a :class:`Family` of :class:`Variant`.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import MmworkloadError, ModelError, UnavailableError, UnknownNameError
from mmworkload.graph import InputInfo
from mmworkload.plugins import plugins

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16", "float64")

# The modality behind the argument names that model libraries use, and arguments that are no modality.
MODALITY_OF_ARGUMENT = {
    "pixel_values": "image",
    "pixel_values_videos": "video",
    "input_ids": "text",
    "decoder_input_ids": "text",
    "inputs_embeds": "text",
    "input_features": "audio",
    "input_values": "audio",
}
ROLE_OF_ARGUMENT = {
    "mask": "mask",
    "position_ids": "position",
    "position_embeddings": "position",
    "cache_position": "position",
    "token_type": "position",
    "cache": "state",
    "past_key": "state",
    "hidden": "state",
    "state": "state",
}
# Not a state, in spite of its name: the output of an encoder.
ENCODED = ("encoder_hidden_states", "hidden_states")


@dataclass(frozen=True)
class InputSpec:
    """One input of a workload, per batch.

    ``shape`` with the batch; ``dtype`` a torch name, floating types follow ``--dtype``; integers are drawn below
    ``high``; ``role`` is ``modality``, ``mask``, ``position`` or ``state``; ``modality`` defaults to ``name``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    modality: str = ""
    role: str = "modality"
    high: int = 0


@dataclass(frozen=True)
class Variant:
    """One network of a family.

    ``build`` makes the module (called under a device context; it must not load anything), ``inputs`` gives the inputs
    for a batch size, in the order and under the names of ``forward``. ``stages`` maps globs over module paths to
    stages, first match first; what no rule names is decided by data flow. ``source`` says where the numbers are from.
    """

    name: str
    source: str
    build: Callable[[], torch.nn.Module]
    inputs: Callable[[int], tuple[InputSpec, ...]]
    stages: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True)
class Family:
    """A workload: its variants, the first one being the default, and the data set it is used with."""

    description: str
    dataset: str
    variants: tuple[Variant, ...]
    default_batch: int = 1

    def variant(self, name: str, family: str) -> Variant:
        """The variant of that name or alias, the default for an empty name; UnknownNameError otherwise."""
        if not name:
            return self.variants[0]
        for item in self.variants:
            if name == item.name or name in item.aliases:
                return item
        raise UnknownNameError("variant", f"{family}/{name}", [f"{family}/{item.name}" for item in self.variants])


@dataclass(frozen=True)
class Built:
    """A module with example inputs on one device."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A model that can be built on any device.

    ``make`` returns ``(module, inputs)`` with inputs a tuple or a dictionary of keyword arguments; it is called under
    the device context, so on ``meta`` nothing is allocated.
    """

    name: str
    variant: str
    batch: int
    dtype: str
    make: Callable[[str], tuple[torch.nn.Module, Any]]
    specs: tuple[InputSpec, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)

    def build(self, device: str) -> Built:
        """The module in inference mode and its inputs on ``device`` (``meta``, ``cpu``, ``cuda``).

        On ``meta`` the module keeps the dtype that it was made in, which tracing changes in a copy.
        Weights and inputs are random with a fixed seed. On ``meta`` nothing is allocated, unless the constructor reads
        values, which only real tensors have. Raises ModelError when the user's code fails.
        """
        import torch

        wanted = getattr(torch, self.dtype)
        torch.manual_seed(0)
        try:
            try:
                with torch.device(device):
                    module, inputs = _pair(self.make(device), self.name)
            except (RuntimeError, NotImplementedError) as error:
                if device != "meta" or "meta" not in str(error):
                    raise
                # A constructor that reads values (``x.item()``) needs real ones.
                with torch.device("cpu"):
                    module, inputs = _pair(self.make("cpu"), self.name)
            module = module.eval()
            if device != "meta":
                # What was made elsewhere stays as it is for tracing, which looks at shapes only.
                module = module.to(device=device)
        except MmworkloadError:
            raise
        except Exception as error:
            from mmworkload.tracing.program import user_frame

            message = next((line for line in str(error).splitlines() if line.strip()), "")
            place = user_frame(error)
            raise ModelError(
                f"{self.name}: building the model raised {type(error).__name__}: {message[:300]}"
                + (f" ({place})" if place else "")
            ) from error
        if self.dtype != "float32" and device != "meta":
            module = module.to(wanted)
        move = _mover(device, wanted if self.dtype != "float32" else None)
        if isinstance(inputs, dict):
            return Built(module, (), {name: move(value) for name, value in inputs.items()})
        return Built(module, tuple(move(value) for value in inputs), {})

    def input_info(self, name: str, shape: tuple[int, ...], dtype: str) -> InputInfo:
        """What the input called ``name`` is: declared, or guessed from its name."""
        for spec in self.specs:
            if spec.name == name:
                return InputInfo(name, shape, dtype, spec.modality or spec.name, spec.role)
        known = () if name in ENCODED else ROLE_OF_ARGUMENT.items()
        role = next((role for key, role in known if key in name), "modality")
        return InputInfo(name, shape, dtype, MODALITY_OF_ARGUMENT.get(name, name), role)


def _mover(device: str, dtype: torch.dtype | None) -> Callable[[Any], Any]:
    import torch
    from torch.utils import _pytree

    def move(tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        return tensor.to(device=device, dtype=dtype if dtype and tensor.is_floating_point() else None)

    return lambda value: _pytree.tree_map(move, value)


def _pair(result: Any, name: str) -> tuple[torch.nn.Module, Any]:
    import torch

    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], torch.nn.Module)):
        raise ModelError(f"{name}: the function must return (model, example_inputs), not {type(result).__name__}")
    module, inputs = result
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, (tuple, list, dict)):
        raise ModelError(
            f"{name}: example_inputs must be a tensor, a tuple or a dictionary of keyword arguments, not"
            f" {type(inputs).__name__}"
        )
    return module, inputs if isinstance(inputs, dict) else tuple(inputs)


def synthesize(specs: tuple[InputSpec, ...]) -> dict[str, torch.Tensor]:
    """Random inputs of the declared shapes on the current device, by name: normal floats, integers below ``high``."""
    import torch

    made = {}
    for spec in specs:
        dtype = getattr(torch, spec.dtype)
        if dtype == torch.bool:
            made[spec.name] = torch.ones(spec.shape, dtype=dtype)
        elif dtype.is_floating_point:
            made[spec.name] = torch.randn(spec.shape, dtype=dtype)
        else:
            made[spec.name] = torch.randint(0, max(1, spec.high), spec.shape, dtype=dtype)
    return made


def families() -> dict[str, Family]:
    """The workloads that are installed, by name."""
    return plugins("mmworkload.workloads", "FAMILY")


def resolve(name: str, *, batch: int | None = None, dtype: str = "float32") -> Model:
    """The model behind a name.

    Raises UnknownNameError (nearest names suggested), ModelError for a file or function that cannot be used, and
    MmworkloadError for an impossible batch or dtype.
    """
    if batch is not None and batch < 1:
        raise MmworkloadError(f"--batch {batch}: a batch has at least one sample")
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    scheme, colon, rest = name.partition(":")
    if colon and scheme == "torchvision":
        return _torchvision(name, rest, batch or 1, dtype)
    if colon and scheme.endswith(".py"):
        return _function(name, Path(scheme), rest, batch, dtype)
    if scheme.endswith(".py"):
        raise ModelError(f"{name}: name the function too, as in {name}:build")
    if colon:
        raise UnknownNameError("kind of model", scheme, ["torchvision", "path/file.py"])
    family_name, _, variant_name = name.partition("/")
    known = families()
    if family_name not in known:
        everything = [f"{key}/{item.name}" for key, family in known.items() for item in family.variants]
        raise UnknownNameError("workload", name, [*known, *everything])
    family = known[family_name]
    variant = family.variant(variant_name, family_name)
    size = batch or family.default_batch
    specs = variant.inputs(size)
    _require_torch()

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        return variant.build(), synthesize(specs)

    return Model(f"{family_name}/{variant.name}", variant.name, size, dtype, make, specs, variant.stages)


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise UnavailableError("tracing needs torch, which is not installed: pip install 'mmworkload[trace]'")


def _torchvision(name: str, builder: str, batch: int, dtype: str) -> Model:
    _require_torch()
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        raise UnavailableError(
            f"torchvision cannot be imported ({error}). Install torch and torchvision together from one index."
        ) from error
    known = models.list_models()
    if builder not in known:
        raise UnknownNameError("torchvision model", builder, known)
    size = _image_size(models, builder)
    options: dict[str, Any] = {}
    if builder in ("googlenet", "inception_v3"):
        # Auxiliary heads run in training only; without them the weights are those of inference.
        options = {"init_weights": False, "aux_logits": False}
    elif builder.startswith("vit_"):
        options["image_size"] = size[-1]
    elif "weights_backbone" in inspect.signature(models.get_model_builder(builder)).parameters:
        # The default is a pretrained backbone, which would be downloaded.
        options["weights_backbone"] = None
    specs = (InputSpec("x", (batch, *size), modality="video" if len(size) == 4 else "image"),)

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        return models.get_model(builder, weights=None, **options), tuple(synthesize(specs).values())

    return Model(name, builder, batch, dtype, make, specs)


def _image_size(models: Any, builder: str) -> tuple[int, ...]:
    """Input shape without batch, from the preset that belongs to the model's default weights."""
    preset = getattr(models.get_model_weights(builder).DEFAULT.transforms, "keywords", {})
    crop = preset.get("crop_size", preset.get("resize_size", 224))
    size = (crop, crop) if isinstance(crop, int) else tuple(crop)
    size = size * 2 if len(size) == 1 else size
    module = models.get_model_builder(builder).__module__
    # Clips of 16 frames, as the presets of torchvision's video models were trained on.
    return (3, 16, *size) if ".video." in module else (3, *size)


def _function(name: str, path: Path, function: str, batch: int | None, dtype: str) -> Model:
    _require_torch()
    if not path.is_file():
        raise ModelError(f"{name}: there is no file {path}")
    module_name = f"_mmworkload_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    if spec is None or spec.loader is None:
        raise ModelError(f"{name}: {path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    folder = str(path.resolve().parent)
    try:
        with _on_path(folder):
            spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{name}: loading {path} raised {type(error).__name__}: {error}") from error
    build = getattr(module, function, None)
    if not callable(build):
        functions = inspect.getmembers(module, inspect.isfunction)
        own = [key for key, value in functions if value.__module__ == module_name]
        raise UnknownNameError(f"function in {path}", function, own)
    parameter = inspect.signature(build).parameters.get("batch")
    if batch is not None and parameter is None:
        raise ModelError(
            f"{name}: --batch {batch} cannot be given: {function}() takes no parameter 'batch'. Add one, and make the"
            " example inputs with it."
        )

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        with _on_path(folder):
            return build() if batch is None else build(batch=batch)

    own_batch = parameter.default if parameter is not None and isinstance(parameter.default, int) else 1
    return Model(name, function, batch or own_batch, dtype, make)


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    """A file of the user's may import the files next to it, also late, inside a function."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
