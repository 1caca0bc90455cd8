"""Models of the benchmarks, as functions that ``mmworkload`` takes (``benchmarks/models.py:bert_base``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def resnet50() -> tuple[nn.Module, Any]:
    from torchvision.models import resnet50 as build

    return build(weights=None), (torch.zeros(1, 3, 224, 224),)


def bert_base() -> tuple[nn.Module, Any]:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig()), {"input_ids": torch.zeros(1, 128, dtype=torch.long)}


class DecodeStep(nn.Module):
    """One token against a cache of keys and values, [layers, 2, batch, key heads, length, width]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
        from transformers import DynamicCache

        past = DynamicCache()
        for index, (keys, values) in enumerate(cache):
            past.update(keys, values, index)
        return self.model(input_ids=input_ids, past_key_values=past, use_cache=True).logits


def llama_34b_decode() -> tuple[nn.Module, Any]:
    """The shape of CodeLlama 34B: 48 layers of width 8192, 64 query heads over 8 key heads; 1023 tokens cached."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=8192,
        intermediate_size=22016,
        num_hidden_layers=48,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    cache = torch.zeros(48, 2, 1, 8, 1023, 128)
    return DecodeStep(LlamaForCausalLM(config)), {"input_ids": torch.zeros(1, 1, dtype=torch.long), "cache": cache}
