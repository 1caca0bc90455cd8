"""Code Llama from its configuration, with random weights: transformers' Llama."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from mmworkload.workloads.blocks.decoder import ATTENTION, Decoder, Verify
from mmworkload.workloads.codellama.sizes import Size


def llama(size: Size, layers: int) -> LlamaForCausalLM:
    """The model with ``layers`` blocks."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            intermediate_size=size.inner,
            num_hidden_layers=layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            max_position_embeddings=size.positions,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            attn_implementation=ATTENTION,
        )
    )


@dataclass(frozen=True)
class Builder:
    """The phases of one size."""

    size: Size

    def prefill(self, layers: int, beams: int, logits: str) -> nn.Module:
        return Decoder(llama(self.size, layers), 0, every=logits == "all", beams=1)

    def decode(self, layers: int, cached: int, beams: int) -> nn.Module:
        return Decoder(llama(self.size, layers), cached, beams=beams)

    def draft(self, layers: int, cached: int, exit_block: int) -> nn.Module:
        return Decoder(llama(self.size, layers), cached, blocks=(0, exit_block))

    def verify(self, layers: int, cached: int, exit_block: int, drafted: int) -> nn.Module:
        return Verify(llama(self.size, layers), cached, drafted, exit_block)
