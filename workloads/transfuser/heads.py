"""What TransFuser predicts from the merged features: waypoints, boxes, and maps that help it to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

WAYPOINTS = 4
HIDDEN = 64
# The LiDAR is that far in front of the car's centre, in metres; waypoints are in its coordinates.
LIDAR_FORWARD = 1.3
PYRAMID_WIDTH = 64
# Side of the map that is predicted from above.
BEV_SIDE = 160
BEV_CLASSES = 3
SEMANTIC_CLASSES = 7
YAW_BINS = 12
BOXES = 100
# Channels of each map of a detection.
DETECTION = {"centre": 1, "size": 2, "offset": 2, "yaw_class": YAW_BINS, "yaw": 1, "velocity": 1, "brake": 2}


class Waypoints(nn.Module):
    """[N, features] and the target point [N, 2] to the next four waypoints, [N, 4, 2], one after the other."""

    mirror: torch.Tensor
    origin: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        widths = (features, 256, 128, HIDDEN)
        self.join = nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)))
        self.cell = nn.GRUCell(4, HIDDEN)
        # Two coordinates are used, a third number is not.
        self.output = nn.Linear(HIDDEN, 3)
        self.register_buffer("mirror", torch.tensor([1.0, -1.0]), persistent=False)
        self.register_buffer("origin", torch.tensor([LIDAR_FORWARD, 0.0]), persistent=False)

    def forward(self, fused: torch.Tensor, target_point: torch.Tensor) -> torch.Tensor:
        state = self.join(fused)
        place = state.new_zeros(state.shape[0], 2)
        target = target_point * self.mirror
        places = []
        for _ in range(WAYPOINTS):
            state = self.cell(torch.cat([place, target], dim=1), state)
            place = place + self.output(state)[:, :2]
            places.append(place)
        return torch.stack(places, dim=1) - self.origin


class Pyramid(nn.Module):
    """[N, features, h, w] to [N, 64, 8h, 8w]: a 1x1 convolution, then three times twice the size and another."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(features, PYRAMID_WIDTH, 1)
        self.up = nn.ModuleList(nn.Conv2d(PYRAMID_WIDTH, PYRAMID_WIDTH, 1) for _ in range(3))
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear")
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.lateral(x))
        for convolution in self.up:
            x = self.relu(convolution(self.enlarge(x)))
        return x


def _map(classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(PYRAMID_WIDTH, PYRAMID_WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(PYRAMID_WIDTH, classes, 1)
    )


class Detection(nn.Module):
    """Seven maps over the grid of the pyramid, as in CenterNet: where a centre is, and what box it has."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleDict({name: _map(channels) for name, channels in DETECTION.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {name: layers(x) for name, layers in self.maps.items()}
        found["centre"] = found["centre"].sigmoid()
        return found


class Boxes(nn.Module):
    """The maps of a detection to the best boxes, [N, 100, 8]: x, y, size, yaw, velocity, brake, confidence.

    Centres are local maxima of 3x3. A small grid has fewer boxes. Nothing is suppressed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.neighbours = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, maps: dict[str, torch.Tensor]) -> torch.Tensor:
        centre = maps["centre"]
        columns = centre.shape[3]
        peaks = (centre * (self.neighbours(centre) == centre)).flatten(1)
        confidence, places = peaks.topk(min(BOXES, peaks.shape[1]))

        def at(name: str) -> torch.Tensor:
            values = maps[name].flatten(2)
            return values.gather(2, places.unsqueeze(1).expand(-1, values.shape[1], -1)).transpose(1, 2)

        yaw = at("yaw_class").argmax(2, keepdim=True) * (2 * math.pi / YAW_BINS) + at("yaw")
        yaw = torch.where(yaw > math.pi, yaw - 2 * math.pi, yaw)
        cells = torch.stack([places % columns, places.div(columns, rounding_mode="floor")], dim=2)
        # Four pixels of the bird's-eye view are one cell.
        box = torch.cat([cells + at("offset"), at("size")], dim=2) * 4
        brake = at("brake").argmax(2, keepdim=True)
        return torch.cat([box, yaw, at("velocity"), brake, confidence.unsqueeze(2)], dim=2)


class Decoder(nn.Module):
    """[N, features, h, w] to [N, classes, 32h, 32w]: three pairs of 3x3 convolutions, 8 and 4 times larger between."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        pairs = ((features, 128, 64), (64, 32, 32), (32, 32, classes))
        self.pairs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, c, 3, padding=1)) for a, b, c in pairs
        )
        self.scales = (8, 4)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for pair, scale in zip(self.pairs, self.scales, strict=False):
            x = functional.interpolate(self.relu(pair(x)), scale_factor=scale, mode="bilinear")
        return self.pairs[-1](x)


class Heads(nn.Module):
    """Waypoints from all; boxes and a map from above where there is a bird's-eye view; classes and depth of the image.

    ``auxiliary`` adds what is for learning only (map, classes, depth); without it boxes are picked from the maps.
    """

    def __init__(self, features: int, modalities: Sequence[str], auxiliary: bool) -> None:
        super().__init__()
        self.waypoints = Waypoints(features)
        above, front = "lidar" in modalities, "image" in modalities
        self.pyramid = Pyramid(features) if above else None
        self.detection = Detection() if above else None
        self.boxes = Boxes() if above and not auxiliary else None
        self.bev = _map(BEV_CLASSES) if above and auxiliary else None
        self.semantic = Decoder(features, SEMANTIC_CLASSES) if front and auxiliary else None
        self.depth = Decoder(features, 1) if front and auxiliary else None

    def forward(
        self, fused: torch.Tensor, target_point: torch.Tensor, grids: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        result = {"waypoints": self.waypoints(fused, target_point)}
        if self.pyramid is not None and self.detection is not None:
            seen = self.pyramid(grids["lidar"])
            maps = self.detection(seen)
            result.update(maps if self.boxes is None else {"boxes": self.boxes(maps)})
            if self.bev is not None:
                side = (BEV_SIDE, BEV_SIDE)
                result["bev"] = functional.interpolate(self.bev(seen), side, mode="bilinear", align_corners=True)
        if self.semantic is not None and self.depth is not None:
            result["semantic"] = self.semantic(grids["image"])
            result["depth"] = self.depth(grids["image"]).sigmoid().squeeze(1)
        return result
