"""Text: tokens with room for other modalities, masks, and what the decoder has written so far."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mmworkload.models.sources.transformers.configuration import special_tokens
from mmworkload.models.sources.transformers.sheet import ANY, Sheet

if TYPE_CHECKING:
    import torch

USUAL_LENGTH = 128
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "context_length")
DECODER_POSITIONS = ("max_target_positions", "max_text_positions", *POSITIONS)
TEXT = ("text_config", "text_encoder", "qformer_config")
DECODER = ("decoder", "decoder_config", "text_config")


def text(sheet: Sheet) -> None:
    """``input_ids`` with placeholders, and what stands beside each token; a bounding box where the class takes one."""
    part = sheet.part(*TEXT)
    if not sheet.takes("input_ids"):
        return
    reserved = sum(item.count for item in sheet.placeholders)
    tokens = length(sheet, "tokens", "tokens of text in a sample", part, POSITIONS, reserved)
    total = tokens + reserved
    ids(sheet, "input_ids", (sheet.batch, total), part)
    shape = (sheet.batch, total)
    kinds = [0] + [item.kind for item in sheet.placeholders for _ in range(item.count)] + [0] * (tokens - 1)
    sheet.ones("attention_mask", shape)
    for name in ("token_type_ids", "mm_token_type_ids"):
        # Models of tables tell several things of each token: segment, row, column, ...
        told = len(getattr(part, "type_vocab_sizes", ()))
        sheet.values(name, [[[kind] * told for kind in kinds] if told else kinds] * sheet.batch)
    if sheet.takes("bbox"):
        # A box has its left before its right and its top before its bottom.
        sheet.values("bbox", [[[10, 10, 20, 20]] * total] * sheet.batch, modality="layout", role="position")


def decoder(sheet: Sheet) -> None:
    """``decoder_input_ids``, what the decoder has written so far; models of several codebooks write a row for each."""
    if not sheet.takes("decoder_input_ids") or getattr(sheet.configuration, "use_decoder_only_language_model", False):
        return
    part = sheet.part(*DECODER)
    tokens = length(sheet, "decoder_tokens", "tokens that the decoder has written", part, DECODER_POSITIONS)
    rows = sheet.batch * int(getattr(part, "num_codebooks", 1)) * int(getattr(part, "audio_channels", 1))
    modality = "audio" if rows > sheet.batch else "text"
    ids(sheet, "decoder_input_ids", (rows, tokens), part, modality)


def length(sheet: Sheet, name: str, help: str, part: Any, keys: tuple[str, ...], reserved: int = 0) -> int:
    """The parameter ``name``: 128 tokens, or all positions where the model has fewer."""
    own = next((value for key in keys if isinstance(value := getattr(part, key, None), int)), None)
    limit = min(own, ANY) - reserved - _offset(sheet, part) if own and own > 0 else ANY
    if limit < 1:
        raise sheet.fail(f"{reserved} places for images or audio leave none of the {own} positions for text")
    return sheet.size(name, min(USUAL_LENGTH, limit), help, high=limit)


def _offset(sheet: Sheet, part: Any) -> int:
    """Positions that no token has: models that come from RoBERTa number them from behind the padding's."""
    module = sys.modules[sheet.kind.__module__]
    numbers = any(hasattr(item, "create_position_ids_from_input_ids") for item in (module, *vars(module).values()))
    return int(getattr(part, "pad_token_id", None) or 0) + 1 if numbers else 0


def ids(sheet: Sheet, name: str, shape: tuple[int, ...], part: Any, modality: str = "text") -> None:
    """Random tokens below the vocabulary size without meaning of their own, behind the first one the placeholders."""
    vocabulary = int(sheet.look("vocab_size", "text_vocab_size", within=part) or sheet.look("vocab_size", default=1000))
    special = sorted(special_tokens(sheet.configuration))
    runs = sheet.placeholders if name == "input_ids" else []

    def fill() -> torch.Tensor:
        import torch

        found = torch.randint(0, vocabulary, shape, device="cpu")
        avoid = torch.tensor(special, device="cpu", dtype=found.dtype)
        # A vocabulary of special tokens alone is the exception that must end.
        for _ in range(len(special)):
            found = torch.where(torch.isin(found, avoid), (found + 1) % vocabulary, found)
        start = 1
        for run in runs:
            found[:, start : start + run.count] = run.token
            start += run.count
        return found

    sheet.add(name, shape, "int64", high=vocabulary, fill=fill, modality=modality)
