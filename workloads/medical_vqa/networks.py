"""The networks of medical VQA: ViLMedic's DenseNet, RoBERTa and decoders, and the public code's glimpses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision import models
from transformers import (
    BertConfig,
    BertGenerationConfig,
    BertGenerationDecoder,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaModel,
)
from transformers.models.bert.modeling_bert import BertEncoder, BertPooler

from mmworkload.workloads.blocks.fusion import Fusion, table1
from mmworkload.workloads.blocks.images import IMAGENET_MEAN, IMAGENET_STD, PrepareImage
from mmworkload.workloads.blocks.multimodal import MultiModal
from mmworkload.workloads.blocks.tokens import HashTokens

# Width of RoBERTa-base and of everything that meets it in ViLMedic.
WIDTH = 768
# Both image networks shrink the image by this factor.
STRIDE = 32
# Last feature maps of ResNet-152, width of the question, of the attention, and how often the image is looked at.
MAPS, QUESTION, MIDDLE, GLIMPSES = 2048, 1024, 512, 2
WORD = 300
HIDDEN = 1024
# Positions as RoBERTa has them; the first two are not used.
POSITIONS = 514


class ImageTokens(nn.Module):
    """[N, 3, S, S] to tokens [N, (S/32)^2, 768]: the DenseNet's last feature maps, each place projected.

    With ``norm`` a layer norm follows (ViLMedic's ``adapter``).
    """

    def __init__(self, densenet: str, norm: bool) -> None:
        super().__init__()
        network = getattr(models, densenet)(weights=None)
        self.features = network.features
        projection = nn.Linear(network.classifier.in_features, WIDTH)
        self.projection = nn.Sequential(projection, nn.LayerNorm(WIDTH, eps=1e-12)) if norm else projection

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.projection(self.features(image).flatten(2).transpose(1, 2))


class ImageVector(nn.Module):
    """[N, 3, S, S] to [N, ``width``]: the DenseNet's features, averaged over the image."""

    def __init__(self, densenet: str) -> None:
        super().__init__()
        network = getattr(models, densenet)(weights=None)
        self.features = network.features
        self.width = network.classifier.in_features

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.features(image)).mean(dim=(2, 3))


class TextTokens(nn.Module):
    """Token ids [N, T] to [N, T, 768], RoBERTa-base; with ``pooled`` to [N, 768], its pooler on the first token."""

    def __init__(self, vocabulary: int, layers: int, pooled: bool = False) -> None:
        super().__init__()
        self.pooled = pooled
        self.network = RobertaModel(_roberta(vocabulary, layers), add_pooling_layer=pooled)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        result = self.network(ids)
        return result.pooler_output if self.pooled else result.last_hidden_state


class Transformer(nn.Module):
    """[N, T, 768] to [N, T, 768]: ViLMedic's encoder of joined tokens, 8 heads, 2048 wide inside."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        config = BertConfig(
            hidden_size=WIDTH,
            intermediate_size=2048,
            num_hidden_layers=layers,
            num_attention_heads=8,
            attn_implementation="sdpa",
        )
        self.network = BertEncoder(config)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.network(tokens).last_hidden_state


class JoinTokens(nn.Module):
    """Sequences [N, T_i, 768], one after the other, through ``network`` if there is one: [N, sum T_i, 768]."""

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = nn.Identity() if network is None else network

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return self.network(torch.cat(parts, dim=1))


class Decoder(nn.Module):
    """Answer ids [N, A] and what they attend to, [N, T, 768], to a score for each next word, [N, A, vocabulary]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, answer: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        return self.network(answer, encoder_hidden_states=memory).logits


def small_decoder(vocabulary: int, layers: int) -> Decoder:
    """ViLMedic's decoder without pre-training."""
    config = BertGenerationConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=12,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=1e-5,
        attn_implementation="sdpa",
        **_decoding(),
    )
    return Decoder(BertGenerationDecoder(config))


def roberta_decoder(vocabulary: int, layers: int) -> Decoder:
    """RoBERTa-base with cross-attention in each layer and its language-model head."""
    return Decoder(RobertaForCausalLM(_roberta(vocabulary, layers, **_decoding())))


def _decoding() -> dict[str, Any]:
    return {"is_decoder": True, "add_cross_attention": True, "use_cache": False}


def _roberta(vocabulary: int, layers: int, **more: Any) -> RobertaConfig:
    return RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=12,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        # The padding of the tokens that HashTokens makes.
        pad_token_id=0,
        attn_implementation="sdpa",
        **more,
    )


class Generator(MultiModal):
    """Encoders, fusion, and a decoder that attends to the fused tokens."""

    def __init__(
        self,
        encoders: dict[str, nn.Module],
        fusion: nn.Module | None,
        decoder: nn.Module,
        dropped: dict[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__(encoders, fusion, nn.Identity(), dropped)
        self.decoder = decoder

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        memory = super().forward(**inputs)
        return self.decoder(inputs["answer"], memory)


def transformer(
    tokens: int,
    image_size: int,
    vocabulary: int,
    densenet: str,
    text_layers: int,
    layers: int,
    decoder_layers: int,
    drop: tuple[str, ...],
) -> nn.Module:
    """Tokens of both modalities through one transformer; a decoder answers."""
    return Generator(
        {"image": ImageTokens(densenet, norm=True), "text": TextTokens(vocabulary, text_layers)},
        JoinTokens(Transformer(layers)),
        small_decoder(vocabulary, decoder_layers),
        _only(drop, image=((image_size // STRIDE) ** 2, WIDTH), text=(tokens, WIDTH)),
    )


def cross_attention(
    tokens: int,
    image_size: int,
    vocabulary: int,
    densenet: str,
    text_layers: int,
    decoder_layers: int,
    drop: tuple[str, ...],
) -> nn.Module:
    """A RoBERTa decoder that attends to the tokens of both modalities, one after the other."""
    return Generator(
        {"text": TextTokens(vocabulary, text_layers), "image": ImageTokens(densenet, norm=False)},
        JoinTokens(),
        roberta_decoder(vocabulary, decoder_layers),
        _only(drop, image=((image_size // STRIDE) ** 2, WIDTH), text=(tokens, WIDTH)),
    )


def image_alone(vocabulary: int, densenet: str, decoder_layers: int) -> nn.Module:
    """A RoBERTa decoder that attends to the image."""
    return Generator({"image": ImageTokens(densenet, norm=False)}, None, roberta_decoder(vocabulary, decoder_layers))


def text_alone(vocabulary: int, text_layers: int, decoder_layers: int) -> nn.Module:
    """A RoBERTa decoder that attends to the question."""
    return Generator({"text": TextTokens(vocabulary, text_layers)}, None, roberta_decoder(vocabulary, decoder_layers))


class FirstToken(nn.Module):
    """[N, T, 768] to scores [N, classes]: dense layer and tanh on the first token, then a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.pooler = BertPooler(BertConfig(hidden_size=WIDTH))
        self.classifier = nn.Linear(WIDTH, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pooler(tokens))


def image_classifier(densenet: str, layers: int, answers: int) -> nn.Module:
    """The image's tokens through a transformer; one of ``answers`` classes."""
    encoder = nn.Sequential(ImageTokens(densenet, norm=True), Transformer(layers))
    return MultiModal({"image": encoder}, None, FirstToken(answers))


def concat(
    vocabulary: int, densenet: str, text_layers: int, answers: int, fusion: str, drop: tuple[str, ...]
) -> nn.Module:
    """One vector from each encoder, joined and classified."""
    image = ImageVector(densenet)
    join = table1(fusion, (image.width, WIDTH))
    return MultiModal(
        {"image": image, "text": TextTokens(vocabulary, text_layers, pooled=True)},
        join,
        _classifier(join.width, answers),
        _only(drop, image=(image.width,), text=(WIDTH,)),
    )


class QuestionLSTM(nn.Module):
    """Token ids [N, T] to the last cell state of an LSTM, [N, 1024]."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WORD, padding_idx=0)
        self.lstm = nn.LSTM(WORD, QUESTION)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        # The LSTM takes the time axis first.
        _, (_, cell) = self.lstm(self.embedding(ids).transpose(0, 1))
        return cell.squeeze(0)


class ImageMaps(nn.Module):
    """[N, 3, S, S] to the last feature maps of ResNet-152, [N, 2048, S/32, S/32]."""

    def __init__(self) -> None:
        super().__init__()
        network = models.resnet152(weights=None)
        # Without the pool and the classifier behind them.
        self.features = nn.Sequential(*list(network.children())[:-2])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.features(image)


class Glimpses(nn.Module):
    """The question chooses, twice, where to look: maps [N, 2048, h, w] and vector [N, 1024] to [N, 4096]."""

    width = GLIMPSES * MAPS

    def __init__(self) -> None:
        super().__init__()
        self.of_image = nn.Conv2d(MAPS, MIDDLE, 1, bias=False)
        self.of_text = nn.Linear(QUESTION, MIDDLE)
        self.relu = nn.ReLU()
        self.scores = nn.Conv2d(MIDDLE, GLIMPSES, 1)

    def forward(self, maps: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        asked = self.of_text(question)[:, :, None, None]
        scores = self.scores(self.relu(self.of_image(maps) * asked))
        weights = scores.flatten(2).softmax(dim=-1).unsqueeze(2)
        return (weights * maps.flatten(2).unsqueeze(1)).sum(dim=-1).flatten(1)


class Mean(nn.Module):
    """The mean over the image in place of glimpses: [N, 2048, h, w] to [N, 2048]."""

    width = MAPS

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, maps: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        return self.pool(maps).flatten(1)


class LookThenJoin(Fusion):
    """``look`` makes a vector of the image's maps; then an operator of Table 1 joins it to the question."""

    def __init__(self, look: Glimpses | Mean, fusion: str) -> None:
        super().__init__()
        self.look = look
        self.join = table1(fusion, (look.width, QUESTION))
        self.width = self.join.width

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        maps, question = parts
        return self.join([self.look(maps, question), question])


class Masked(MultiModal):
    """The image is multiplied by a mask of the region that is asked about."""

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        if "mask" in inputs:
            inputs = {**inputs, "image": inputs["image"] * inputs["mask"]}
        return super().forward(**inputs)


def region(
    image_size: int, vocabulary: int, answers: int, fusion: str, drop: tuple[str, ...], glimpses: bool
) -> nn.Module:
    """The public code's network: ResNet-152 and LSTM, glimpses or a mean, joined and classified."""
    join = LookThenJoin(Glimpses() if glimpses else Mean(), fusion)
    # A ResNet keeps the odd row that a DenseNet drops.
    side = -(-image_size // STRIDE)
    return Masked(
        {"image": ImageMaps(), "text": QuestionLSTM(vocabulary)},
        join,
        _classifier(join.width, answers),
        _only(drop, image=(MAPS, side, side), text=(QUESTION,)),
    )


def _classifier(width: int, answers: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, answers))


def _only(drop: tuple[str, ...], **shapes: tuple[int, ...]) -> dict[str, Sequence[int]]:
    return {name: shapes[name] for name in drop}


class Prepare(nn.Module):
    """Raw photograph, region and question to what the networks take; ids of an answer pass as they are.

    ``image`` uint8 [N, H, W, 3] and ``mask`` uint8 [N, H, W] are resized, whole or their middle square (``crop``), and
    normalised; ``text`` uint8 [N, L] is cut into words. A size of 0 is of a modality that does not come.
    """

    def __init__(self, image_size: int, vocabulary: int, tokens: int, crop: bool) -> None:
        super().__init__()
        if image_size:
            self.image = PrepareImage(image_size, IMAGENET_MEAN, IMAGENET_STD, crop=crop)
            self.mask = PrepareImage(image_size, (0.0,), (1.0,), crop=crop)
        if tokens:
            self.text = HashTokens(vocabulary, tokens)

    def forward(self, **raw: torch.Tensor) -> dict[str, torch.Tensor]:
        ready = dict(raw)
        if "image" in raw:
            ready["image"] = self.image(raw["image"])
        if "mask" in raw:
            ready["mask"] = self.mask(raw["mask"].unsqueeze(-1))
        if "text" in raw:
            ready["text"] = self.text(raw["text"])
        return ready
