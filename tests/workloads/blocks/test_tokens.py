"""Hashed tokens equal a plain Python tokeniser, have a fixed shape, and trace."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload.errors import ModelError
from mmworkload.workloads.blocks.tokens import HashTokens


def by_hand(text: bytes, vocabulary: int, tokens: int) -> list[int]:
    """Words of printable bytes; powers start again after 64 letters."""
    words = bytes(byte if byte > 32 else 32 for byte in text).split()
    ids = [
        sum(byte * 257 ** (place % 64) for place, byte in enumerate(word)) % (vocabulary - 1) + 1
        for word in words[:tokens]
    ]
    # A power taken modulo the vocabulary changes nothing in the sum modulo the vocabulary.
    return ids + [0] * (tokens - len(ids))


def run(texts: list[bytes], vocabulary: int, tokens: int) -> list[list[int]]:
    length = max(1, *(len(text) for text in texts))
    rows = [list(text) + [0] * (length - len(text)) for text in texts]
    ids = HashTokens(vocabulary, tokens)(torch.tensor(rows, dtype=torch.uint8))
    assert ids.dtype == torch.int64
    return ids.tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0, 10, 32, 32, 33, 97, 98, 255]), max_size=40).map(bytes), min_size=2, max_size=3
    ),
    st.sampled_from([2, 3, 258, 30000, 30522]),
    st.integers(1, 12),
)
def test_ids_are_those_of_a_plain_tokeniser(texts: list[bytes], vocabulary: int, tokens: int) -> None:
    found = run(texts, vocabulary, tokens)
    assert found == [by_hand(text, vocabulary, tokens) for text in texts]
    assert all(0 <= item < vocabulary for row in found for item in row)


def test_a_word_has_one_id_wherever_it_stands() -> None:
    (row, other) = run([b"the film of the year", b"\n  film\tnoir"], 30000, 6)
    assert row[0] == row[3]
    assert row[1] == other[0]
    assert len(set(row[:3])) == 3
    assert (row[5], other[2:]) == (0, [0, 0, 0, 0])


def test_a_word_longer_than_its_powers_is_still_one_word() -> None:
    long = b"x" * 200
    assert run([long, b"y"], 30000, 2)[0] == by_hand(long, 30000, 2)


@pytest.mark.parametrize(("vocabulary", "tokens"), [(1, 4), (30000, 0)])
def test_no_words_or_no_tokens_are_refused(vocabulary: int, tokens: int) -> None:
    with pytest.raises(ModelError, match="at least one word"):
        HashTokens(vocabulary, tokens)
