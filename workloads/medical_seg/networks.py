"""The networks of medical segmentation: mmFormer and its parts, 3-D U-Nets and transformers over their deepest maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from mmworkload.errors import ModelError
from mmworkload.workloads.blocks.fusion import table1
from mmworkload.workloads.blocks.multimodal import MultiModal

# Channels of the five levels; each has half the side of the one before.
CHANNELS = (8, 16, 32, 64, 128)
DEEPEST = CHANNELS[-1]
STRIDE = 2 ** (len(CHANNELS) - 1)
# Width of a token, heads, and width inside the transformer's feed-forward layers.
TOKEN, HEADS, INNER = 512, 8, 4096
Edge = Literal["reflect", "zeros"]
# Background, necrosis, oedema, enhancing tumour.
CLASSES = 4


class PreNormConv(nn.Sequential):
    """Instance normalisation without weights, leaky ReLU, convolution. ``mode`` says what is read beyond the edge."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, mode: Edge = "reflect") -> None:
        super().__init__(
            nn.InstanceNorm3d(inputs),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv3d(inputs, outputs, kernel, stride, padding=kernel // 2, padding_mode=mode),
        )


class Level(nn.Module):
    """A convolution ``enter`` and two more beside a shortcut."""

    def __init__(self, enter: nn.Module, channels: int) -> None:
        super().__init__()
        self.enter = enter
        self.inner = nn.Sequential(PreNormConv(channels, channels), PreNormConv(channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        return x + self.inner(x)


class UNetEncoder(nn.Module):
    """[N, ``scans``, S, S, S] to the maps of five levels, [N, 8, S, S, S] to [N, 128, S/16, S/16, S/16]."""

    def __init__(self, scans: int = 1) -> None:
        super().__init__()
        first = nn.Conv3d(scans, CHANNELS[0], 3, padding=1, padding_mode="reflect")
        enters = [first, *(PreNormConv(channels // 2, channels, stride=2) for channels in CHANNELS[1:])]
        self.levels = nn.ModuleList(Level(enter, channels) for enter, channels in zip(enters, CHANNELS, strict=True))

    def forward(self, scan: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for level in self.levels:
            scan = level(scan)
            maps.append(scan)
        return maps


class SelfAttention(nn.Module):
    """[N, T, 512] to [N, T, 512], 8 heads, written out as in the public code."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(TOKEN, 3 * TOKEN, bias=False)
        self.output = nn.Linear(TOKEN, TOKEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        heads = self.query_key_value(x).reshape(batch, tokens, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        scores = torch.matmul(query, key.transpose(-2, -1)) * (width // HEADS) ** -0.5
        mixed = torch.matmul(scores.softmax(dim=-1), value)
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Transformer(nn.Module):
    """[N, T, 512] to [N, T, 512]; the positions [1, T, 512] are added in front of every block."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(nn.Sequential(nn.LayerNorm(TOKEN), SelfAttention()) for _ in range(layers))
        self.feed_forwards = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(TOKEN), nn.Linear(TOKEN, INNER), nn.GELU(), nn.Linear(INNER, TOKEN))
            for _ in range(layers)
        )

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        for attention, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            x = x + positions
            x = x + attention(x)
            x = x + feed_forward(x)
        return x


class TokenEncoder(nn.Module):
    """A U-Net encoder whose deepest map becomes tokens [N, T, 512].

    With ``layers`` (mmFormer's intra-modal transformer) they attend to each other, at the positions [1, T, 512].
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.unet = UNetEncoder()
        self.project = nn.Conv3d(DEEPEST, TOKEN, 1)
        self.transformer = Transformer(layers) if layers else None

    def forward(self, scan: torch.Tensor, positions: torch.Tensor) -> list[torch.Tensor]:
        *maps, deepest = self.unet(scan)
        tokens = self.project(deepest).flatten(2).transpose(1, 2)
        return [*maps, tokens if self.transformer is None else self.transformer(tokens, positions)]


class AttendedMaps(nn.Module):
    """:class:`TokenEncoder` with the tokens made a map again: five levels as of a U-Net encoder."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.encoder = TokenEncoder(layers)
        self.project = nn.Conv3d(TOKEN, DEEPEST, 1)

    def forward(self, scan: torch.Tensor, positions: torch.Tensor) -> list[torch.Tensor]:
        *maps, tokens = self.encoder(scan, positions)
        return [*maps, self.project(_as_map(tokens, scan.shape[-1] // STRIDE))]


class JoinLevels(nn.Module):
    """The maps of all scans side by side, level by level.

    ``fusion`` names the operator of Table 1 that joins the deepest ones, place by place; the others are concatenated.
    ``width`` is how many channels the deepest has then.
    """

    def __init__(self, scans: int, fusion: str) -> None:
        super().__init__()
        self.join = None if fusion == "plain" else table1(fusion, [DEEPEST] * scans)
        self.width = scans * DEEPEST if self.join is None else self.join.width

    def forward(
        self, parts: Sequence[Sequence[torch.Tensor]], positions: Sequence[torch.Tensor], mask: torch.Tensor | None
    ) -> list[torch.Tensor]:
        *maps, deepest = zip(*parts, strict=True)
        if self.join is None:
            last = side_by_side(deepest, mask)
        else:
            places = self.join([part.flatten(2).transpose(1, 2) for part in deepest])
            last = _as_map(places, deepest[0].shape[-1])
        return [*(side_by_side(level, mask) for level in maps), last]


class JoinTokens(nn.Module):
    """The tokens of all scans through one transformer (mmFormer's inter-modal one); maps side by side."""

    def __init__(self, scans: int, layers: int) -> None:
        super().__init__()
        self.transformer = Transformer(layers)
        self.width = scans * DEEPEST
        self.project = nn.Conv3d(scans * TOKEN, self.width, 1)

    def forward(
        self, parts: Sequence[Sequence[torch.Tensor]], positions: Sequence[torch.Tensor], mask: torch.Tensor | None
    ) -> list[torch.Tensor]:
        *maps, tokens = zip(*parts, strict=True)
        mixed = self.transformer(side_by_side(tokens, mask), torch.cat(list(positions), dim=1))
        # As published: the joined tokens are cut into places in the order in which they lie.
        side = maps[-1][0].shape[-1] // 2
        places = mixed.reshape(mixed.shape[0], side**3, -1)
        return [*(side_by_side(level, mask) for level in maps), self.project(_as_map(places, side))]


class Decoder(nn.Module):
    """From the deepest level up: doubled, joined to the level's maps, convolved; then a class for each voxel.

    ``width`` is how many channels the deepest level has when the maps of ``scans`` scans lie side by side, which three
    convolutions a level merge first; 0 when there is one scan. With ``auxiliary`` each level gives classes of its own,
    enlarged to the full size. The result is a list: probabilities [N, 4, S, S, S], then the auxiliary ones.
    """

    def __init__(self, scans: int = 1, width: int = 0, auxiliary: bool = False) -> None:
        super().__init__()
        wide = [scans * channels for channels in CHANNELS[:-1]] + [width]
        self.merges = nn.ModuleList(
            nn.Sequential(
                PreNormConv(inputs, channels, 1, mode="zeros"),
                PreNormConv(channels, channels, mode="zeros"),
                PreNormConv(channels, channels, 1, mode="zeros"),
            )
            if width
            else nn.Identity()
            for inputs, channels in zip(wide, CHANNELS, strict=True)
        )
        self.ups = nn.ModuleList(PreNormConv(2 * channels, channels) for channels in CHANNELS[:-1])
        self.joins = nn.ModuleList(
            nn.Sequential(PreNormConv(2 * channels, channels), PreNormConv(channels, channels, 1))
            for channels in CHANNELS[:-1]
        )
        self.classify = nn.Conv3d(CHANNELS[0], CLASSES, 1)
        self.auxiliary = nn.ModuleList(
            nn.Conv3d(channels, CLASSES, 1) for channels in (CHANNELS[1:] if auxiliary else ())
        )
        self.upsample = _larger(2)
        self.enlarge = nn.ModuleList(_larger(2**level) for level in range(1, len(CHANNELS)) if auxiliary)

    def forward(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        x = self.merges[-1](levels[-1])
        early = []
        for level in reversed(range(len(CHANNELS) - 1)):
            if len(self.auxiliary):
                early.append(self.auxiliary[level](x).softmax(dim=1))
            x = self.ups[level](self.upsample(x))
            x = self.joins[level](torch.cat([self.merges[level](levels[level]), x], dim=1))
        result = self.classify(x).softmax(dim=1)
        # The coarsest is the first that was made.
        return [result, *(enlarge(part) for enlarge, part in zip(self.enlarge, reversed(early), strict=True))]


class Segmentation(nn.Module):
    """An encoder for each scan that gives five levels, a fusion level by level, a decoder.

    ``tokens`` is how many tokens the deepest level of a scan has, each with a learned position; 0 if there are none.
    Zeros stand for what the encoders of ``drop`` would have given. ``mask``, [N, scans], zeroes the levels of scans
    that are missing from a sample.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], fusion: nn.Module, head: nn.Module, tokens: int, drop: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.order = list(encoders)
        kept = {name: encoder for name, encoder in encoders.items() if name not in drop}
        if not kept:
            raise ModelError("every scan is dropped; keep at least one")
        self.encoders = nn.ModuleDict(kept)
        self.positions = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(1, tokens, TOKEN)) for name in encoders if tokens}
        )
        self.fusion = fusion
        self.head = head

    def forward(self, **inputs: torch.Tensor) -> list[torch.Tensor]:
        # Not the dictionary's own order, which is the alphabet's.
        positions = {name: self.positions[name] for name in self.order if name in self.positions}
        encoded = {
            name: encoder(inputs[name], positions[name]) if positions else encoder(inputs[name])
            for name, encoder in self.encoders.items()
        }
        like = next(iter(encoded.values()))
        parts = [
            encoded[name] if name in encoded else [torch.zeros_like(level) for level in like] for name in self.order
        ]
        return self.head(self.fusion(parts, list(positions.values()), inputs.get("mask")))


def transformer(
    scans: Sequence[str], size: int, intra_layers: int, layers: int, auxiliary: bool, drop: tuple[str, ...]
) -> nn.Module:
    """mmFormer: transformers over each scan's tokens, unless ``intra_layers`` is 0, then one over all of them."""
    fusion = JoinTokens(len(scans), layers)
    return Segmentation(
        {name: TokenEncoder(intra_layers) for name in scans},
        fusion,
        Decoder(len(scans), fusion.width, auxiliary),
        (size // STRIDE) ** 3,
        drop,
    )


def concat_attended(scans: Sequence[str], size: int, layers: int, drop: tuple[str, ...]) -> nn.Module:
    """mmFormer without the transformer over all scans."""
    fusion = JoinLevels(len(scans), "plain")
    return Segmentation(
        {name: AttendedMaps(layers) for name in scans},
        fusion,
        Decoder(len(scans), fusion.width, auxiliary=True),
        (size // STRIDE) ** 3,
        drop,
    )


def concat(scans: Sequence[str], fusion: str, drop: tuple[str, ...]) -> nn.Module:
    """A U-Net encoder for each scan, one decoder."""
    join = JoinLevels(len(scans), fusion)
    return Segmentation({name: UNetEncoder() for name in scans}, join, Decoder(len(scans), join.width), 0, drop)


class Stack(nn.Module):
    """Scans [N, 1, S, S, S] as the channels of one volume."""

    def forward(self, scans: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(scans, dim=1)


def early(scans: Sequence[str], size: int, drop: tuple[str, ...]) -> nn.Module:
    """One U-Net on all scans."""
    return MultiModal(
        {name: nn.Identity() for name in scans},
        Stack(),
        nn.Sequential(UNetEncoder(len(scans)), Decoder()),
        dict.fromkeys(drop, (1, size, size, size)),
    )


def single(scan: str) -> nn.Module:
    """One U-Net on one scan."""
    return MultiModal({scan: UNetEncoder()}, None, Decoder())


class PrepareScans(nn.Module):
    """Scans as stored, int16 [N, 1, 155, 240, 240], to float32 [N, 1, size, size, size]; a mask passes as it is.

    As in MMBench's code (applications/Medical-Segmentation/inference.py): the brain is where the sum of the scans is
    positive; every scan gets mean 0 and deviation 1 over the brain. The cube is cut round the middle of the brain's
    box, where the code's place for it is random.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, **raw: torch.Tensor) -> dict[str, torch.Tensor]:
        scans = {name: value.float().squeeze(1) for name, value in raw.items() if name != "mask"}
        brain = torch.stack(list(scans.values())).sum(dim=0) > 0
        index = self._cube(brain)
        inside = brain.float()
        voxels = inside.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
        ready = dict(raw)
        for name, scan in scans.items():
            mean = (scan * inside).sum(dim=(1, 2, 3), keepdim=True) / voxels
            variance = ((scan - mean).square() * inside).sum(dim=(1, 2, 3), keepdim=True) / voxels
            ready[name] = ((scan[index] - mean) * variance.clamp(min=1e-12).rsqrt()).unsqueeze(1)
        return ready

    def _cube(self, brain: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Indices of sample, depth, row and column, [N, 1, 1, 1] to [N, 1, 1, size]."""
        batch = brain.shape[0]
        index = [torch.arange(batch, device=brain.device).view(-1, 1, 1, 1)]
        for axis in (1, 2, 3):
            length = brain.shape[axis]
            others = [other for other in (1, 2, 3) if other != axis]
            seen = brain.any(dim=others[1]).any(dim=others[0]).int()
            first, after = seen.argmax(dim=1), length - seen.flip(1).argmax(dim=1)
            start = ((first + after - self.size) // 2).clamp(0, length - self.size)
            places = start[:, None] + torch.arange(self.size, device=brain.device)
            index.append(places.view(batch, *(self.size if here == axis else 1 for here in (1, 2, 3))))
        return tuple(index)


def side_by_side(parts: Sequence[torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
    """Maps [N, C, ...] to [N, M * C, ...], tokens [N, T, W] to [N, M * T, W]; parts that ``mask`` lacks are zeros."""
    if mask is None:
        return torch.cat(list(parts), dim=1)
    stacked = torch.stack(list(parts), dim=1)
    present = mask.view(*mask.shape, *([1] * (stacked.dim() - 2)))
    return torch.where(present, stacked, 0).flatten(1, 2)


def _as_map(places: torch.Tensor, side: int) -> torch.Tensor:
    """[N, side^3, C] to [N, C, side, side, side]."""
    return places.transpose(1, 2).reshape(places.shape[0], -1, side, side, side)


def _larger(factor: int) -> nn.Module:
    return nn.Upsample(scale_factor=factor, mode="trilinear", align_corners=True)
