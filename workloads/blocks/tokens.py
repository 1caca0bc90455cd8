"""Text to token ids with tensor operations alone, so that it is traced, exported and measured like any other layer."""

from __future__ import annotations

import torch
from torch import nn

from mmworkload.errors import ModelError

PADDING = 0
BASE = 257
# Letters of a word with a power of their own; longer words start again.
LONGEST_WORD = 64
# Bytes up to the space (spaces, line ends, the zeros after a short text) separate words.
SPACE = 32


class HashTokens(nn.Module):
    """Bytes, uint8 [N, L], to token ids, int64 [N, tokens].

    Words are split at white space; the id of a word is the polynomial ``sum(byte_i * 257^i)`` modulo
    ``vocabulary - 1``, plus one; the id 0 pads. Texts are cut after ``tokens`` words. This is feature hashing
    (Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009), a stand-in for WordPiece and
    SentencePiece, whose vocabularies are files that would have to be downloaded. Raises ModelError for a vocabulary
    without words, or no tokens.
    """

    powers: torch.Tensor

    def __init__(self, vocabulary: int, tokens: int) -> None:
        super().__init__()
        if vocabulary < 2 or tokens < 1:
            raise ModelError(
                f"a vocabulary of {vocabulary} and {tokens} tokens: there must be the padding and at least one word"
            )
        self.words, self.tokens = vocabulary - 1, tokens
        powers = [pow(BASE, index, self.words) for index in range(LONGEST_WORD)]
        self.register_buffer("powers", torch.tensor(powers), persistent=False)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        letters = text > SPACE
        starts = torch.cat([letters[:, :1], letters[:, 1:] & ~letters[:, :-1]], dim=1)
        place = torch.arange(text.shape[1], device=text.device)
        in_word = place - torch.where(starts, place, 0).cummax(dim=1).values
        value = text.long() * self.powers[in_word % LONGEST_WORD]
        word = starts.cumsum(dim=1) - 1
        # One slot more than there are tokens takes the spaces and the words that are cut off.
        slot = torch.where(letters & (word < self.tokens), word, self.tokens)
        sums = value.new_zeros(text.shape[0], self.tokens + 1).scatter_add(1, slot, value)[:, : self.tokens]
        # The last place has the number of the last word.
        here = torch.arange(self.tokens, device=text.device) <= word[:, -1:]
        return torch.where(here, sums % self.words + 1, PADDING)
