"""Decoder-only transformers of transformers, one phase of a generation at a time, with their caches in the open.

Keys and values of all blocks are two inputs, [blocks, rows, key-value heads, length, head width], that a phase writes
in place: a pass over ``n`` tokens behind ``start`` others fills the places ``start`` to ``start + n``. Grouped heads
keep their number, and a causal pass says so instead of building a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, Cache, DynamicLayer

ATTENTION = "mmworkload_sdpa"


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [rows, heads, length, width] as transformers wants it, [rows, length, heads, width]. Without a mask,
    several queries of a causal module are as many as keys."""
    causal = attention_mask is None and query.shape[2] > 1 and bool(getattr(module, "is_causal", False))
    found = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        is_causal=causal,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return found.transpose(1, 2).contiguous(), None


# transformers builds no mask for a function that it does not know.
AttentionInterface.register(ATTENTION, attend)


class OpenLayer(DynamicLayer):
    """One block's share of keys and values that lie in the open, with ``start`` tokens in them already."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, block: int, start: int) -> None:
        super().__init__()
        self.every_key, self.every_value, self.block, self.start = keys, values, block, start

    def get_seq_length(self) -> int:
        return self.start

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes those of the new tokens behind the others; gives all of them. What nothing precedes is given back as
        it came."""
        end = self.start + key_states.shape[2]
        own_keys, own_values = self.every_key[self.block, :, :, :end], self.every_value[self.block, :, :, :end]
        own_keys[:, :, self.start :].copy_(key_states)
        own_values[:, :, self.start :].copy_(value_states)
        return (own_keys, own_values) if self.start else (key_states, value_states)


def open_cache(keys: torch.Tensor, values: torch.Tensor, start: int) -> Cache:
    """transformers' cache over keys and values of all blocks, of which ``start`` tokens are in."""
    return Cache(layers=[OpenLayer(keys, values, block, start) for block in range(len(keys))])


class Scoring(nn.Module):
    """The next token of each row. Logits [rows, words].

    With ``guided`` the first half of the rows saw the condition and the second half did not, and the scores go away
    from the latter ``scale`` times (classifier-free guidance).
    """

    def __init__(self, guided: bool, scale: float = 3.0) -> None:
        super().__init__()
        self.guided, self.scale = guided, scale

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        if self.guided:
            with_condition, without = logits.chunk(2)
            logits = without + self.scale * (with_condition - without)
        return logits.argmax(dim=-1)


class BeamScoring(nn.Module):
    """The best ``beams`` continuations of each sample: their tokens, scores, and the row that each comes from.

    Logits [samples * beams, words] and the scores of the beams so far, [samples * beams].
    """

    def __init__(self, beams: int) -> None:
        super().__init__()
        self.beams = beams

    def forward(self, logits: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows, words = logits.shape
        every = logits.log_softmax(dim=-1) + scores[:, None]
        best, place = every.view(rows // self.beams, self.beams * words).topk(self.beams)
        first = torch.arange(0, rows, self.beams, device=logits.device)[:, None]
        return (place % words).view(-1), best.view(-1), (place // words + first).view(-1)


class Reorder(nn.Module):
    """Each beam gets the cache of the beam that it continues."""

    def forward(
        self, keys: torch.Tensor, values: torch.Tensor, source: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return keys.index_select(1, source), values.index_select(1, source)


class Decoder(nn.Module):
    """One phase of a causal language model.

    Parameters
    ----------
    network: a model with ``model`` and ``lm_head`` whose attention is :data:`ATTENTION`.
    start: tokens that are in the caches.
    blocks: the first and last (exclusive) block that run; None for all. From a later block on, the phase takes hidden
        states [rows, tokens, width] instead of tokens.
    every: logits of every token, not of the last alone.
    beams, guided: how the next token is chosen.
    forbidden: words that are never chosen.
    """

    model: Any
    lm_head: Any
    forbidden: torch.Tensor | None

    def __init__(
        self,
        network: Any,
        start: int,
        *,
        blocks: tuple[int, int] | None = None,
        every: bool = False,
        beams: int = 1,
        guided: bool = False,
        forbidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.model, self.lm_head = network.model, network.lm_head
        self.start, self.blocks, self.every = start, blocks or (0, len(network.model.layers)), every
        self.scoring = BeamScoring(beams) if beams > 1 else Scoring(guided)
        self.reorder = Reorder() if beams > 1 else None
        if forbidden:
            mask = torch.zeros(network.lm_head.out_features, dtype=torch.bool, device="cpu")
            mask[list(forbidden)] = True
            self.register_buffer("forbidden", mask.to(network.lm_head.weight.device), persistent=False)
        else:
            self.forbidden = None

    def hidden(
        self, hidden: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, start: int, blocks: tuple[int, int]
    ) -> torch.Tensor:
        """[rows, tokens, width] through the blocks from the first to the last, exclusive."""
        tokens = hidden.shape[1]
        positions = torch.arange(start, start + tokens, device=hidden.device)[None]
        turned = self.model.rotary_emb(hidden, position_ids=positions)
        mask = None
        if start and tokens > 1:
            mask = torch.ones(tokens, start + tokens, dtype=torch.bool, device=hidden.device).tril(start)
        cache = open_cache(keys, values, start)
        for block in self.model.layers[slice(*blocks)]:
            # By position: the cache's argument has another name in newer releases. The model's own forward runs all
            # blocks, where a phase may need some.
            found = block(hidden, mask, None, cache, position_embeddings=turned)
            hidden = found[0] if isinstance(found, tuple) else found
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.every:
            hidden = hidden[:, -1:]
        found = self.lm_head(self.model.norm(hidden))
        return found if self.forbidden is None else found.masked_fill(self.forbidden, torch.finfo(found.dtype).min)

    def forward(
        self,
        tokens: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scores: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Tokens [rows, n] to logits [rows, n or 1, words] and the next tokens; with beams their scores and the caches
        in their new order as well."""
        hidden = self.hidden(self.model.embed_tokens(tokens), keys, values, self.start, self.blocks)
        logits = self.logits(hidden)
        if self.reorder is None or scores is None:
            return logits, self.scoring(logits if self.every else logits[:, 0])
        chosen, best, source = self.scoring(logits[:, -1], scores)
        return logits, chosen, best, *self.reorder(keys, values, source)


class Verify(Decoder):
    """The second half of a round of self-speculative decoding (LayerSkip, Elhoushi et al., 2024).

    The draft ran the blocks before ``exit_block`` on all but the last of its tokens, and their results are at hand:
    the last token catches up, then the other blocks run on all of them.
    """

    def __init__(self, network: Any, start: int, drafted: int, exit_block: int) -> None:
        super().__init__(network, start, every=True)
        self.drafted, self.exit_block = drafted, exit_block

    def forward(  # type: ignore[override]
        self, tokens: torch.Tensor, states: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The last drafted token [rows, 1] and the states [rows, drafted, width] of those before it, behind the first
        blocks, to logits [rows, drafted + 1, words] and the tokens that the whole model would have chosen."""
        last = self.hidden(
            self.model.embed_tokens(tokens), keys, values, self.start + self.drafted, (0, self.exit_block)
        )
        hidden = torch.cat([states, last], dim=1)
        hidden = self.hidden(hidden, keys, values, self.start, (self.exit_block, len(self.model.layers)))
        logits = self.logits(hidden)
        return logits, logits.argmax(dim=-1)
