"""MuJoCo Push: a robot pushes an object; its position is regressed from pose, force, image and control over 16 steps.

Sizes: MMBench's public code, applications/MuJoCo-Push, after MultiBench's gentle push.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmworkload.models import Family, InputSpec, Variant

if TYPE_CHECKING:
    import torch

STEPS = 16
# Features per step of the three vector modalities.
VECTORS = {"position": 3, "sensors": 7, "control": 7}


def _inputs(batch: int) -> tuple[InputSpec, ...]:
    return (
        InputSpec("position", (batch, STEPS, VECTORS["position"])),
        InputSpec("sensors", (batch, STEPS, VECTORS["sensors"])),
        InputSpec("image", (batch, STEPS, 32, 32)),
        InputSpec("control", (batch, STEPS, VECTORS["control"])),
    )


def _residual(first: torch.nn.Module, second: torch.nn.Module) -> torch.nn.Module:
    """Two layers with a ReLU between, added to the input, and a ReLU."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.relu = first, second, nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(x + self.second(self.relu(self.first(x))))

    return Residual()


def _vector_encoder(features: int, width: int) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Linear(features, width), nn.ReLU(), _residual(nn.Linear(width, width), nn.Linear(width, width))
    )


def _image_encoder(width: int) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        _residual(nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)),
        nn.Conv2d(32, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 32 * 32, width),
        nn.ReLU(),
        _residual(nn.Linear(width, width), nn.Linear(width, width)),
    )


def _late() -> torch.nn.Module:
    """Each modality has its own LSTM; the four sequences are concatenated and mapped to two coordinates a step."""
    import torch
    from torch import nn

    class Recurrent(nn.Module):
        def __init__(self, steps: nn.Module) -> None:
            super().__init__()
            self.steps = steps
            self.lstm = nn.LSTM(64, 256, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(self.steps(x))[0]

    class Frames(nn.Module):
        """[N, T, H, W] through an image network, frame by frame."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            batch, steps, height, width = x.shape
            return self.network(x.reshape(batch * steps, 1, height, width)).reshape(batch, steps, -1)

    class ConcatLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4 * 256, 2)

        def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
            return self.linear(torch.cat(parts, dim=-1))

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            encoders = {name: Recurrent(_vector_encoder(size, 64)) for name, size in VECTORS.items()}
            encoders["image"] = Recurrent(Frames(_image_encoder(64)))
            self.encoders = nn.ModuleDict(encoders)
            self.fusion = ConcatLinear()

        def forward(
            self, position: torch.Tensor, sensors: torch.Tensor, image: torch.Tensor, control: torch.Tensor
        ) -> torch.Tensor:
            inputs = {"position": position, "sensors": sensors, "image": image, "control": control}
            return self.fusion([self.encoders[name](value) for name, value in inputs.items()])

    return Late()


FAMILY = Family(
    description="object position from robot pose, force, image and control",
    dataset="MuJoCo Push (Lee et al., Multimodal sensor fusion with differentiable filters, 2020)",
    variants=(
        Variant(
            name="late",
            source="MMBench (IISWC 2023), applications/MuJoCo-Push, late fusion",
            build=_late,
            inputs=_inputs,
            stages={
                **{f"encoders.{name}": f"encoder/{name}" for name in ("position", "sensors", "image", "control")},
                "fusion": "fusion",
            },
            aliases=("lf", "late-mmbench"),
            notes="The public code has no head: the fusion layer already gives the two coordinates.",
        ),
    ),
)
