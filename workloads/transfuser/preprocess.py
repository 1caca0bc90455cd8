"""From three cameras, the points of a LiDAR and the target point to the inputs of TransFuser, by tensor operations."""

from __future__ import annotations

import math

import torch
from torch import nn

from mmworkload.workloads.transfuser import POINTS_OF_A_CELL, STRIDE
from mmworkload.workloads.transfuser.heads import LIDAR_FORWARD

PIXELS_PER_METRE = 8
# The LiDAR's height over the ground is 2.5 m; what lies lower than this below it is ground.
GROUND_Z = -2.3
MOST_POINTS = 5
# The ring that marks the target point: the pixels within half its thickness of the radius.
RING_RADIUS = 5.0
RING_HALF_WIDTH = 1.5
CAMERA_COLUMNS = 320
# The LiDAR is that far above the cameras; a camera is taken to see 60 degrees, the three stand 60 degrees apart.
LIDAR_ABOVE_CAMERA = 0.2
CAMERA_VIEW = math.radians(60)


class Cameras(nn.Module):
    """The middle of three frames [N, H, W, 4] (BGRA, bytes) side by side, and of that [N, 3, height, width] (RGB)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, left: torch.Tensor, front: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        rows, columns = front.shape[1:3]
        top, start = (rows - self.height) // 2, (columns - CAMERA_COLUMNS) // 2
        views = [
            frame[:, top : top + self.height, start : start + CAMERA_COLUMNS, :3].flip(3)
            for frame in (left, front, right)
        ]
        start = (3 * CAMERA_COLUMNS - self.width) // 2
        return torch.cat(views, dim=2)[:, :, start : start + self.width].permute(0, 3, 1, 2).float()


class Histogram(nn.Module):
    """Points [N, P, 3 or more] (metres: x to the left, y to the front, z up) counted from above, [N, 2, size, size].

    The grid reaches ``size`` pixels to the front, and half of that to each side. Its channels are what is above ground
    and the ground; five points or more are 1.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        size = self.size
        # Floors first: what is added to them is exact.
        across = (points[..., 0] * PIXELS_PER_METRE).floor() + size // 2
        # The first row is the farthest.
        row = size - (points[..., 1] * PIXELS_PER_METRE).ceil()
        inside = (across >= 0) & (across < size) & (row >= 0) & (row < size)
        ground = points[..., 2] <= GROUND_Z
        cell = (ground * size + row) * size + size - 1 - across
        counts = points.new_zeros(points.shape[0], 2 * size * size)
        counts.scatter_add_(1, torch.where(inside, cell, 0).long(), inside.to(points.dtype))
        return counts.clamp(max=MOST_POINTS).div(MOST_POINTS).view(-1, 2, size, size)


class TargetImage(nn.Module):
    """A ring round the target point [N, 2] (metres, to the right and to the back) from above, [N, 1, size, size]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, target_point: torch.Tensor) -> torch.Tensor:
        right, back = target_point.unbind(1)
        column = (right * PIXELS_PER_METRE + self.size // 2).trunc().clamp(0, self.size)
        row = (self.size + (back + LIDAR_FORWARD) * PIXELS_PER_METRE).trunc().clamp(0, self.size)
        places = torch.arange(self.size, dtype=target_point.dtype, device=target_point.device)
        distance = torch.hypot(places - column[:, None, None], places[:, None] - row[:, None, None])
        return ((distance - RING_RADIUS).abs() <= RING_HALF_WIDTH).to(target_point.dtype).unsqueeze(1)


class Correspondences(nn.Module):
    """Which cells of the image and of the bird's-eye view hold the same points.

    Points [N, P, 3 or more] give, for each cell from above, the column and row of five cells of the image,
    [N, rows, columns, 5, 2], and the reverse: those of its first five points (the public code draws five); where there
    are fewer, 0, 0.
    """

    angles: torch.Tensor
    starts: torch.Tensor

    def __init__(self, height: int, width: int, size: int) -> None:
        super().__init__()
        self.height, self.width, self.size = height, width, size
        # Half of the left camera, the front one, and half of the right one make the image.
        self.camera = width // 2
        self.register_buffer("angles", torch.tensor([-CAMERA_VIEW, 0.0, CAMERA_VIEW]).view(3, 1), persistent=False)
        starts = torch.tensor([-0.5, 0.5, 1.5]).view(3, 1) * self.camera
        self.register_buffer("starts", starts, persistent=False)

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        right, front, up = -points[..., 0], points[..., 1], points[..., 2] + LIDAR_ABOVE_CAMERA
        reach = self.size / PIXELS_PER_METRE
        near = (right.abs() < reach / 2) & (front < reach) & (front > 0)
        column, row, seen = self.project(right.unsqueeze(1), front.unsqueeze(1), up.unsqueeze(1))
        valid = near & seen
        image_columns, bev_columns = self.width // STRIDE, self.size // STRIDE
        across = ((right + reach / 2) * PIXELS_PER_METRE).floor()
        ahead = self.size - 1 - (front * PIXELS_PER_METRE).floor()
        image_cell = self.cell(row, column, image_columns, valid)
        bev_cell = self.cell(ahead, across, bev_columns, valid)
        image_cells, bev_cells = self.height // STRIDE * image_columns, bev_columns**2
        of_bev = self.table(torch.where(valid, bev_cell, bev_cells), image_cell, bev_cells, image_columns)
        of_image = self.table(torch.where(valid, image_cell, image_cells), bev_cell, image_cells, bev_columns)
        return (
            of_bev.unflatten(1, (bev_columns, bev_columns)),
            of_image.unflatten(1, (self.height // STRIDE, image_columns)),
        )

    def project(
        self, right: torch.Tensor, front: torch.Tensor, up: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Column and row in the image, [N, P], by pinhole cameras, and whether one of them sees the point."""
        focal = self.camera / (2 * math.tan(CAMERA_VIEW / 2))
        depth = right * self.angles.sin() + front * self.angles.cos()
        side = right * self.angles.cos() - front * self.angles.sin()
        across = focal * side / depth + self.camera / 2
        above = focal * up / depth + self.height / 2
        column = across + self.starts
        seen = (depth > 0) & (across > 0) & (across < self.camera) & (above > 0) & (above < self.height)
        seen = seen & (column >= 0) & (column < self.width)
        # The views do not overlap: at most one camera sees a point.
        row = self.height - 1 - above.floor()
        return (
            torch.where(seen, column, 0).sum(1).floor(),
            torch.where(seen, row, 0).sum(1),
            seen.any(dim=1),
        )

    @staticmethod
    def cell(row: torch.Tensor, column: torch.Tensor, columns: int, valid: torch.Tensor) -> torch.Tensor:
        """The number of the cell, rows first, in which a pixel lies; 0 where it is not valid."""
        number = (row / STRIDE).floor() * columns + (column / STRIDE).floor()
        return torch.where(valid, number, 0).long()

    @staticmethod
    def table(keys: torch.Tensor, values: torch.Tensor, cells: int, columns: int) -> torch.Tensor:
        """For each of ``cells`` keys its first five values, as column and row, [N, cells, 5, 2].

        The key ``cells`` stands for none.
        """
        order = keys.argsort(dim=1, stable=True)
        keys, values = keys.gather(1, order), values.gather(1, order)
        wanted = torch.arange(cells, device=keys.device).expand(keys.shape[0], cells).contiguous()
        first = torch.searchsorted(keys, wanted)
        places = first.unsqueeze(2) + torch.arange(POINTS_OF_A_CELL, device=keys.device)
        places = places.clamp(max=keys.shape[1] - 1).flatten(1)
        found = keys.gather(1, places) == wanted.repeat_interleave(POINTS_OF_A_CELL, dim=1)
        value = torch.where(found, values.gather(1, places), 0).unflatten(1, (cells, POINTS_OF_A_CELL))
        return torch.stack([value % columns, value.div(columns, rounding_mode="floor")], dim=3)


class Preprocess(nn.Module):
    """Raw inputs, by name, to those of a network: the parts that are there make the inputs of their names."""

    def __init__(
        self,
        cameras: Cameras | None,
        histogram: Histogram | None,
        target_image: TargetImage | None,
        correspondences: Correspondences | None,
    ) -> None:
        super().__init__()
        self.cameras = cameras
        self.histogram = histogram
        self.target_image = target_image
        self.correspondences = correspondences

    def forward(
        self,
        target_point: torch.Tensor,
        camera_left: torch.Tensor | None = None,
        camera_front: torch.Tensor | None = None,
        camera_right: torch.Tensor | None = None,
        points: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        ready = {"target_point": target_point}
        if self.cameras is not None:
            ready["image"] = self.cameras(camera_left, camera_front, camera_right)
        if self.histogram is not None:
            ready["lidar"] = self.histogram(points)
        if self.target_image is not None:
            ready["target_point_image"] = self.target_image(target_point)
        if self.correspondences is not None:
            ready["bev_points"], ready["cam_points"] = self.correspondences(points)
        return ready
