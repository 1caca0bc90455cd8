"""The shape that most workloads share: an encoder for each modality, a fusion, a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mmworkload.errors import ModelError


class MultiModal(nn.Module):
    """``head(fusion([encoder(input) for each modality]))``; inputs are passed by modality.

    ``fusion`` takes the list of encoded parts; without it there is one modality, which goes to the head directly. A
    modality in ``dropped`` has no encoder: zeros of that shape (without batch) stand for what it would have given.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module | None,
        head: nn.Module,
        dropped: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.dropped = {name: tuple(shape) for name, shape in (dropped or {}).items()}
        self.order = list(encoders)
        kept = {name: module for name, module in encoders.items() if name not in self.dropped}
        if not kept:
            raise ModelError("every modality is dropped; keep at least one")
        self.encoders = nn.ModuleDict(kept)
        self.fusion = fusion
        self.head = head

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        encoded = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        like = next(iter(encoded.values()))
        parts = [
            encoded[name] if name in encoded else like.new_zeros(like.shape[0], *self.dropped[name])
            for name in self.order
        ]
        return self.head(parts[0] if self.fusion is None else self.fusion(parts))
