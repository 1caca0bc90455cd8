"""A model that can be built on any device, with its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworkload.errors import FOREIGN, MmworkloadError, ModelError, deed
from mmworkload.graph import InputInfo
from mmworkload.models.family import InputSpec, Parameter
from mmworkload.models.hub import closed

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
    "flattened_patches": "image",
    "qformer_input_ids": "text",
    "visual_feats": "image",
    "visual_embeds": "image",
    "input_points": "prompt",
}
ROLE_OF_ARGUMENT = {
    "mask": "mask",
    "position_ids": "position",
    "position_embeddings": "position",
    "cache_position": "position",
    "token_type": "position",
    "grid_thw": "position",
    "spatial_shapes": "position",
    "image_sizes": "position",
    "aspect_ratio": "position",
    "cache": "state",
    "past_key": "state",
    "hidden": "state",
    "state": "state",
}
# Not a state, in spite of its name: the output of an encoder.
ENCODED = ("encoder_hidden_states", "hidden_states")


@dataclass(frozen=True)
class Request:
    """What the user asked for: a name and what was said beside it. ``batch`` is None where the model's own holds."""

    name: str
    batch: int | None = None
    dtype: str = "float32"
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    end_to_end: bool = False
    inputs: Path | None = None


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
    the device context, so on ``meta`` nothing is allocated. ``preprocess``, for an end-to-end model, makes the module
    that turns ``inputs`` into those of the network; it stays on the host, in single precision. ``sample`` is a file
    whose tensors replace the random inputs. ``rules`` map globs over module paths to stages, and ``own_rules``
    are the user's, which come first and have to match. ``notes`` are printed
    wherever totals are. ``parameters`` may be set, to ``settings`` here. ``is_code`` says that ``make`` is a user's own
    function, which may ask hubs; any other model is built and traced without.
    """

    name: str
    variant: str
    batch: int
    dtype: str
    make: Callable[[str], tuple[torch.nn.Module, Any]]
    specs: tuple[InputSpec, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    own_rules: Mapping[str, str] = field(default_factory=dict)
    preprocess: Callable[[], torch.nn.Module] | None = None
    sample: Path | None = None
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_code: bool = False

    @property
    def stage_rules(self) -> dict[str, str]:
        """All rules, first match first: pre-processing, the user's, and the model's for modules that the user left."""
        from mmworkload.models.end_to_end import PREPROCESS

        first = {PREPROCESS: PREPROCESS} if self.preprocess else {}
        rest = {glob: stage for glob, stage in self.rules.items() if glob not in self.own_rules}
        return {**first, **self.own_rules, **rest}

    def closed(self) -> AbstractContextManager[None]:
        """The scope in which this model is built and traced: without hubs (:mod:`mmworkload.models.hub`)."""
        return nullcontext() if self.is_code else closed(self.name)

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
            with self.closed():
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
            preprocess = self.preprocess() if self.preprocess else None
        except MmworkloadError:
            raise
        except FOREIGN as error:
            from mmworkload.tracing.program import user_frame

            place = user_frame(error)
            raise ModelError(
                f"{self.name}: building the model {deed(error)}" + (f" ({place})" if place else "")
            ) from error
        if self.dtype != "float32" and device != "meta":
            module = module.to(wanted)
        if self.sample is not None:
            from mmworkload.models.sample import read_sample

            inputs = read_sample(self.sample, inputs, self.name)
        if preprocess is not None:
            from mmworkload.models.end_to_end import join

            # Raw inputs are the host's, as they are.
            module, inputs = join(preprocess, module), _moved(inputs, "cpu")
        elif device != "meta":
            # On meta, what was made with values keeps them: sizes and indices that a forward pass may read.
            inputs = _moved(inputs, device, wanted if self.dtype != "float32" else None)
        return Built(module, (), inputs) if isinstance(inputs, dict) else Built(module, tuple(inputs), {})

    def input_info(self, name: str, shape: tuple[int, ...], dtype: str) -> InputInfo:
        """What the input called ``name`` is: declared, or guessed from its name."""
        for spec in self.specs:
            if spec.name == name:
                return InputInfo(name, shape, dtype, spec.modality or spec.name, spec.role)
        return InputInfo(name, shape, dtype, *guess(name))


def guess(name: str) -> tuple[str, str]:
    """Modality and role of an argument, from its name."""
    known = () if name in ENCODED else ROLE_OF_ARGUMENT.items()
    return MODALITY_OF_ARGUMENT.get(name, name), next((role for key, role in known if key in name), "modality")


def _moved(inputs: Any, device: str, dtype: torch.dtype | None = None) -> Any:
    """Every tensor of ``inputs`` on ``device``, floating-point ones as ``dtype``; tensors without values stay."""
    import torch
    from torch.utils import _pytree

    def move(tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor) or tensor.device.type == "meta":
            return tensor
        return tensor.to(device=device, dtype=dtype if dtype and tensor.is_floating_point() else None)

    return _pytree.tree_map(move, inputs)


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
    """Random inputs of the declared shapes, by name: normal floats on the current device; integers below ``high`` and
    true booleans on the CPU, with values, which some models read."""
    import torch

    made = {}
    for spec in specs:
        dtype = getattr(torch, spec.dtype)
        if dtype == torch.bool:
            made[spec.name] = torch.ones(spec.shape, dtype=dtype, device="cpu")
        elif dtype.is_floating_point:
            made[spec.name] = torch.randn(spec.shape, dtype=dtype)
        else:
            made[spec.name] = torch.randint(0, max(1, spec.high), spec.shape, dtype=dtype, device="cpu")
    return made
