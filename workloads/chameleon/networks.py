"""Chameleon from its configuration, with random weights: transformers' model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import ChameleonConfig, ChameleonForConditionalGeneration

from mmworkload.workloads.blocks.decoder import ATTENTION, Decoder
from mmworkload.workloads.chameleon import vq
from mmworkload.workloads.chameleon.sizes import CODES, FIRST_IMAGE_WORD, VOCABULARY, Size

IMAGE_WORDS = range(FIRST_IMAGE_WORD, FIRST_IMAGE_WORD + CODES)


def chameleon(size: Size, layers: int) -> ChameleonForConditionalGeneration:
    """The model with ``layers`` blocks, image tokenizer included."""
    return ChameleonForConditionalGeneration(
        ChameleonConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            intermediate_size=size.inner,
            num_hidden_layers=layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            swin_norm=size.post_norm,
            max_position_embeddings=size.positions,
            vocabulary_map={"<image>": 8711},
            attn_implementation=ATTENTION,
        )
    )


@dataclass(frozen=True)
class Builder:
    """The phases of one size."""

    size: Size

    def phase(self, layers: int, start: int, output: str, guidance: str) -> nn.Module:
        """``start`` tokens are in the caches. Words of images are forbidden in a text, all others in an image."""
        words = range(self.size.vocabulary)
        forbidden = IMAGE_WORDS if output == "text" else [word for word in words if word not in IMAGE_WORDS]
        return Decoder(chameleon(self.size, layers), start, guided=guidance == "on", forbidden=forbidden)


def image_encoder(side: int) -> nn.Module:
    return vq.ImageEncoder(vq.configuration(side))


def image_decoder(side: int) -> nn.Module:
    return vq.ImageDecoder(vq.configuration(side), side, VOCABULARY)
