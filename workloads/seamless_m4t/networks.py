"""SeamlessM4T from its configuration, with random weights: transformers' two versions, a phase at a time.

Every phase holds the whole model and runs a part of it. What depends on data is fixed: how many characters a text has,
how many units are spoken and how many frames they last. Lengths that the model predicts are computed and used, up to
the fixed length.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers import (
    Cache,
    DynamicLayer,
    EncoderDecoderCache,
    SeamlessM4TConfig,
    SeamlessM4TModel,
    SeamlessM4Tv2Config,
    SeamlessM4Tv2Model,
)

from mmworkload.models.sources.transformers.configuration import quiet
from mmworkload.workloads.blocks.decoder import ATTENTION, BeamScoring, Reorder, Scoring, open_cache

MODELS: dict[str, tuple[Any, Any]] = {
    "v1": (SeamlessM4TConfig, SeamlessM4TModel),
    "v2": (SeamlessM4Tv2Config, SeamlessM4Tv2Model),
}


def seamless(version: str, **sizes: Any) -> Any:
    """The large model of a version; ``sizes`` replace values of its configuration."""
    config, model = MODELS[version]
    with quiet():
        found: Any = model(config(attn_implementation=ATTENTION, **sizes))
    return found


def _filled(keys: torch.Tensor, values: torch.Tensor) -> DynamicLayer:
    layer = DynamicLayer()
    layer.keys, layer.values, layer.is_initialized = keys, values, True
    return layer


def both_caches(own: Cache, keys: torch.Tensor, values: torch.Tensor, complete: bool) -> EncoderDecoderCache:
    """A decoder's own cache and that of what the encoder gave, which is complete from the second pass on."""
    if not complete:
        return EncoderDecoderCache(own, open_cache(keys, values, 0))
    pairs = zip(keys.unbind(), values.unbind(), strict=True)
    return EncoderDecoderCache(own, Cache(layers=[_filled(*pair) for pair in pairs]))


class SpeechEncoder(nn.Module):
    """Filter banks [N, frames, 160], two frames of 10 ms side by side, to states [N, frames / 8, width]."""

    network: Any

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, speech: torch.Tensor) -> torch.Tensor:
        return self.network.speech_encoder(speech).last_hidden_state


class TextEncoder(nn.Module):
    """Tokens [N, n] to states [N, n, width]."""

    network: Any

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.network.text_encoder(input_ids=text).last_hidden_state


class _DecoderPhase(nn.Module):
    """One pass of a decoder with its head. ``unit``: that of the text-to-unit model."""

    network: Any

    def __init__(self, network: Any, start: int, *, unit: bool) -> None:
        super().__init__()
        self.network, self.start, self.unit = network, start, unit

    @property
    def parts(self) -> tuple[Any, Any]:
        if self.unit:
            return self.network.t2u_model.model.decoder, self.network.t2u_model.lm_head
        return self.network.text_decoder, self.network.lm_head

    def run(
        self,
        tokens: torch.Tensor,
        encoded: torch.Tensor,
        own: tuple[torch.Tensor, torch.Tensor],
        cross: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """[rows, tokens, width]. ``encoded`` is read by the first pass alone."""
        decoder, _ = self.parts
        cache = both_caches(open_cache(*own, self.start), *cross, complete=self.start > 0)
        # By position: the argument of the cache has had several names.
        return decoder(tokens, None, encoded, None, cache).last_hidden_state


class DecoderPrefill(_DecoderPhase):
    """The first tokens [rows, n] and what the encoder gave, [rows, source, width]: fills all four caches."""

    def __init__(self, network: Any, *, unit: bool, head: bool) -> None:
        super().__init__(network, 0, unit=unit)
        self.scoring = Scoring(guided=False) if head else None

    def forward(
        self,
        tokens: torch.Tensor,
        encoded: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        cross_keys: torch.Tensor,
        cross_values: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        hidden = self.run(tokens, encoded, (keys, values), (cross_keys, cross_values))
        if self.scoring is None:
            return (hidden,)
        logits = self.parts[1](hidden[:, -1])
        return logits, self.scoring(logits)


class DecoderStep(_DecoderPhase):
    """One token more, [rows, 1], with ``start`` in the cache; with beams the caches come back in their new order."""

    def __init__(self, network: Any, start: int, *, unit: bool, beams: int) -> None:
        super().__init__(network, start, unit=unit)
        self.scoring = BeamScoring(beams) if beams > 1 else Scoring(guided=False)
        self.reorder = Reorder() if beams > 1 else None

    def forward(
        self,
        tokens: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        cross_keys: torch.Tensor,
        cross_values: torch.Tensor,
        scores: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        hidden = self.run(tokens, cross_keys, (keys, values), (cross_keys, cross_values))
        logits = self.parts[1](hidden[:, -1])
        if self.reorder is None or scores is None:
            return logits, self.scoring(logits)
        chosen, best, source = self.scoring(logits, scores)
        return logits, chosen, best, *self.reorder(keys, values, source)


class UnitEncoder(nn.Module):
    """The text-to-unit model's encoder: states of the text decoder [N, n, width] to states."""

    network: Any

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.network.t2u_model.model.encoder(inputs_embeds=states).last_hidden_state


class Upsample(nn.Module):
    """Each row as often as its count says, up to ``length`` rows: [N, n, width] and counts [N, n] to
    [N, length, width].

    Rows behind the sum of the counts repeat the last one.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, rows: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        ends = counts.cumsum(dim=1)
        places = torch.arange(self.length, device=rows.device).expand(rows.shape[0], -1).contiguous()
        source = torch.searchsorted(ends, places, right=True).clamp(max=rows.shape[1] - 1)
        return rows.gather(1, source[..., None].expand(-1, -1, rows.shape[2]))


def durations(logarithms: torch.Tensor) -> torch.Tensor:
    """Whole frames of one at least, from what a predictor gives."""
    return torch.clamp(torch.round(torch.expm1(logarithms)).long(), min=1)


class Positions(nn.Module):
    """Sinusoidal positions [1, length, width] of a sequence without padding, read from a table of ``table`` rows.

    The formula is that of Attention Is All You Need (arXiv 1706.03762) with all sines before all cosines, and the first
    place is ``first``.
    """

    table: torch.Tensor

    def __init__(self, length: int, width: int, table: int, first: int) -> None:
        super().__init__()
        self.length, self.first = length, first
        half = width // 2
        rates = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
        angles = torch.arange(table)[:, None] * rates
        self.register_buffer("table", torch.cat([angles.sin(), angles.cos()], dim=1), persistent=False)

    def forward(self) -> torch.Tensor:
        places = torch.arange(self.length, device=self.table.device) + self.first
        return self.table.index_select(0, places)[None]


class Units(nn.Module):
    """The text-to-unit model of v2, which gives all units at once.

    States of the text decoder [N, n, width], characters [N, c] and how many of them each token has [N, n], to the
    units [N, u].
    """

    network: Any

    def __init__(self, network: Any, characters: int, units: int) -> None:
        super().__init__()
        self.network = network
        self.to_characters, self.to_units = Upsample(characters), Upsample(units)
        config = network.config
        # The first place is behind that of the padding.
        sizes = config.hidden_size, config.max_position_embeddings + 2, config.t2u_pad_token_id + 1
        self.character_places, self.unit_places = Positions(characters, *sizes), Positions(units, *sizes)

    def forward(self, states: torch.Tensor, characters: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        unit = self.network.t2u_model
        decoder = unit.model.decoder
        encoded = unit.model.encoder(inputs_embeds=states).last_hidden_state
        spelled = self.to_characters(encoded, counts)
        places = decoder.pos_emb_alpha_char * self.character_places()
        spelled = decoder.embed_char(characters) * decoder.embed_scale + places + spelled
        spoken = self.to_units(spelled, durations(decoder.duration_predictor(spelled)))
        hidden = spoken + decoder.pos_emb_alpha * self.unit_places()
        for layer in decoder.layers:
            hidden = layer(hidden)
        return unit.lm_head(decoder.layer_norm(hidden)).argmax(dim=-1)


class Vocoder(nn.Module):
    """Units [N, u], a speaker and a language [N, 1] each, to a waveform [N, 320 frames] at 16 kHz."""

    network: Any

    def __init__(self, network: Any, frames: int) -> None:
        super().__init__()
        self.network = network
        self.upsample = Upsample(frames)

    def forward(self, units: torch.Tensor, speaker: torch.Tensor, language: torch.Tensor) -> torch.Tensor:
        vocoder = self.network.vocoder
        hidden = vocoder.unit_embedding(units)
        hidden = self.upsample(hidden, durations(vocoder.dur_predictor(hidden)))
        frames = hidden.shape[1]
        voice = vocoder.speaker_embedding(speaker).transpose(1, 2).repeat(1, 1, frames)
        tongue = vocoder.language_embedding(language).transpose(1, 2).repeat(1, 1, frames)
        return vocoder.hifi_gan(torch.cat([tongue, hidden.transpose(1, 2), voice], dim=1))
