"""The networks of TransFuser: two backbones that meet at four scales, and decoders for driving and perception."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import timm
import torch
from torch import nn
from torch.nn import functional

from mmworkload.errors import ModelError
from mmworkload.workloads.transfuser.heads import Heads

# Channels of an image, and of the bird's-eye view: points above and below a height, and the target point.
CHANNELS = 3
SCALES = 4
# Width in which both modalities leave the backbones, if they do not have it already.
FEATURES = 512
# Width of the embeddings of geometric fusion.
GEOMETRIC_WIDTH = 512
ATTENTION_HEADS = 4
EXPANSION = 4

Features = dict[str, torch.Tensor]


class Normalize(nn.Module):
    """Colours 0 to 255, [N, 3, H, W], to zero mean and unit variance over ImageNet."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image / 255 - self.mean) / self.deviation


class WithTarget(nn.Module):
    """The histogram of points, [N, 2, S, S], and the image of the target point, [N, 1, S, S], as one image."""

    def forward(self, lidar: torch.Tensor, target_point_image: torch.Tensor) -> torch.Tensor:
        return torch.cat([lidar, target_point_image], dim=1)


class PositionGrid(nn.Module):
    """The place of each pixel, -1 to 1 down and to the right, and the image of the target point: no LiDAR."""

    def forward(self, target_point_image: torch.Tensor) -> torch.Tensor:
        batch, _, rows, columns = target_point_image.shape
        down, right = (
            torch.linspace(-1, 1, count, dtype=target_point_image.dtype, device=target_point_image.device)
            for count in (rows, columns)
        )
        grid = torch.stack(torch.meshgrid(down, right, indexing="ij"))
        return torch.cat([grid.expand(batch, 2, rows, columns), target_point_image], dim=1)


class Encoder(nn.Module):
    """A backbone in parts, so that others can come between: ``prepare`` makes its input, then stem and four stages."""

    def __init__(self, backbone: str, prepare: nn.Module) -> None:
        super().__init__()
        # Without classifier, and without any weights from elsewhere.
        network = timm.create_model(backbone, pretrained=False, in_chans=CHANNELS, num_classes=0, global_pool="")
        parts = dict(network.named_children())
        self.prepare = prepare
        if "stem" in parts:
            self.stem = parts["stem"]
            names = [f"s{index + 1}" for index in range(SCALES)]
        else:
            self.stem = nn.Sequential(*(parts[name] for name in ("conv1", "bn1", "act1", "maxpool")))
            names = [f"layer{index + 1}" for index in range(SCALES)]
        self.stages = nn.ModuleList(parts[name] for name in names)
        self.widths = [item["num_chs"] for item in network.feature_info[1:]]


class SelfAttention(nn.Module):
    """[N, T, width] to the same; queries, keys and values are three products, as is the output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.projection = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        query, key, value = (
            linear(x).view(batch, tokens, ATTENTION_HEADS, -1).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-2, -1) * (width // ATTENTION_HEADS) ** -0.5
        mixed = scores.softmax(dim=-1) @ value
        return self.projection(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and two linear layers, each with its norm in front and its input added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width)
        self.mlp = nn.Sequential(nn.Linear(width, EXPANSION * width), nn.ReLU(), nn.Linear(EXPANSION * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class TransformerScale(nn.Module):
    """Features of one scale, pooled to a grid of tokens, go through a transformer together and are added back.

    Each token returns to the cell that it came from. (The public code reads the numbers of all tokens as if channels
    came first: the same sizes, another order.)
    """

    def __init__(self, widths: Mapping[str, int], grids: Mapping[str, tuple[int, int]], layers: int) -> None:
        super().__init__()
        if len(set(widths.values())) > 1:
            found = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise ModelError(
                f"a transformer over both modalities needs features of one width, not {found}: take both backbones"
                " from the ResNets, or both RegNets"
            )
        width = next(iter(widths.values()))
        self.grids = dict(grids)
        self.pools = nn.ModuleDict({name: nn.AdaptiveAvgPool2d(grid) for name, grid in grids.items()})
        tokens = sum(rows * columns for rows, columns in grids.values())
        self.position = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Features) -> Features:
        pooled = [self.pools[name](item).flatten(2).transpose(1, 2) for name, item in features.items()]
        tokens = self.norm(self.blocks(torch.cat(pooled, dim=1) + self.position))
        parts = tokens.split([item.shape[1] for item in pooled], dim=1)
        added = {}
        for (name, item), part in zip(features.items(), parts, strict=True):
            grid = part.transpose(1, 2).unflatten(2, self.grids[name])
            added[name] = item + functional.interpolate(grid, item.shape[2:], mode="bilinear")
        return added


class Projection(nn.Module):
    """From the cells of one modality to those of the other, and to the size and width of its features.

    ``embedding`` [N, W, h, w] is read at ``points`` [N, rows, columns, 5, 2], the column and row of five cells for each
    cell of the other grid; they are summed.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Linear(GEOMETRIC_WIDTH, GEOMETRIC_WIDTH), nn.ReLU()) for _ in range(3)]
        self.mlp = nn.Sequential(*layers)
        self.expand = nn.Conv2d(GEOMETRIC_WIDTH, width, 1)

    def forward(self, embedding: torch.Tensor, points: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        batch, rows, columns, count, _ = points.shape
        places = points.flatten(1, 3)
        sample = torch.arange(batch, device=points.device).unsqueeze(1)
        found = embedding.permute(0, 2, 3, 1)[sample, places[..., 1], places[..., 0]]
        summed = found.view(batch, rows, columns, count, -1).sum(3)
        grid = self.mlp(summed).permute(0, 3, 1, 2)
        if (rows, columns) != tuple(size):
            grid = functional.interpolate(grid, size, mode="bilinear")
        return self.expand(grid)


class GeometricScale(nn.Module):
    """Each modality reads, for each of its cells, the other's features at the points that both see there."""

    def __init__(self, widths: Mapping[str, int], grids: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.embed = nn.ModuleDict({name: nn.Conv2d(width, GEOMETRIC_WIDTH, 1) for name, width in widths.items()})
        self.pools = nn.ModuleDict({name: nn.AdaptiveAvgPool2d(grid) for name, grid in grids.items()})
        self.project = nn.ModuleDict({name: Projection(width) for name, width in widths.items()})

    def forward(self, features: Features, points: Features) -> Features:
        pooled = {name: self.pools[name](self.embed[name](item)) for name, item in features.items()}
        image, lidar = features["image"], features["lidar"]
        return {
            "image": image + self.project["image"](pooled["lidar"], points["image"], image.shape[2:]),
            "lidar": lidar + self.project["lidar"](pooled["image"], points["lidar"], lidar.shape[2:]),
        }


class Merge(nn.Module):
    """The last features of each modality, narrowed where need be, as grids; and their averages, summed, [N, 512]."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.narrow = nn.ModuleDict(
            {
                name: nn.Identity() if width == FEATURES else nn.Conv2d(width, FEATURES, 1)
                for name, width in widths.items()
            }
        )
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, features: Features) -> tuple[Features, torch.Tensor]:
        grids = {name: self.narrow[name](item) for name, item in features.items()}
        first, *others = (self.pool(item).flatten(1) for item in grids.values())
        return grids, sum(others, start=first)


class Fusion(nn.Module):
    """What holds the fusion's parts; the network calls them between the stages of its encoders."""

    def __init__(self, scales: Sequence[nn.Module], merge: Merge) -> None:
        super().__init__()
        self.scales = nn.ModuleList(scales)
        self.merge = merge


class TransFuser(nn.Module):
    """Encoders side by side; ``fusion.scales``, if any, after each of their stages; ``fusion.merge``; the heads."""

    def __init__(self, encoders: Mapping[str, Encoder], fusion: Fusion, heads: Heads) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.head = heads

    def forward(
        self,
        target_point: torch.Tensor,
        image: torch.Tensor | None = None,
        lidar: torch.Tensor | None = None,
        target_point_image: torch.Tensor | None = None,
        bev_points: torch.Tensor | None = None,
        cam_points: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """``bev_points`` are the cells of the image for each cell of the LiDAR, ``cam_points`` the reverse."""
        views = {"image": (image,), "lidar": (lidar, target_point_image)}
        points = [] if bev_points is None else [{"image": cam_points, "lidar": bev_points}]
        features: Features = {}
        encoders = {name: cast(Encoder, item) for name, item in self.encoders.items()}
        for name, encoder in encoders.items():
            given = [item for item in views[name] if item is not None]
            features[name] = encoder.stem(encoder.prepare(*given))
        for index in range(SCALES):
            features = {name: encoder.stages[index](features[name]) for name, encoder in encoders.items()}
            if self.fusion.scales:
                features = self.fusion.scales[index](features, *points)
        grids, fused = self.fusion.merge(features)
        return self.head(fused, target_point, grids)


def transfuser(
    fusion: str,
    backbones: Mapping[str, str],
    grids: Mapping[str, tuple[int, int]],
    heads: str,
    layers: int = 0,
) -> nn.Module:
    """The network over the modalities of ``backbones`` whose last features have the shapes ``grids`` (rows, columns).

    ``fusion`` is ``transformer`` (of ``layers`` blocks at each scale), ``latent`` (the same, with no LiDAR),
    ``geometric`` or ``late`` (at the end only).
    """
    prepare = {"image": Normalize, "lidar": PositionGrid if fusion == "latent" else WithTarget}
    encoders = {name: Encoder(backbone, prepare[name]()) for name, backbone in backbones.items()}
    scales: list[nn.Module] = []
    for index in range(0 if fusion == "late" else SCALES):
        widths = {name: encoder.widths[index] for name, encoder in encoders.items()}
        geometric = fusion == "geometric"
        scales.append(GeometricScale(widths, grids) if geometric else TransformerScale(widths, grids, layers))
    merge = Merge({name: encoder.widths[-1] for name, encoder in encoders.items()})
    return TransFuser(encoders, Fusion(scales, merge), Heads(FEATURES, list(backbones), heads == "all"))
